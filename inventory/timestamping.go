package inventory

// Timestamping is what ethtool -T shows. The words are ethtool's.
type Timestamping struct {
	Capabilities []string `json:"capabilities,omitempty"`
	TXTypes      []string `json:"txTypes,omitempty"`
	RXFilters    []string `json:"rxFilters,omitempty"`
	// PHC is the number of the PTP hardware clock, /dev/ptpN.
	PHC *int `json:"phc,omitempty"`
}
