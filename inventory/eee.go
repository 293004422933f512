package inventory

// EEE is Energy-Efficient Ethernet.
type EEE struct {
	Enabled bool `json:"enabled"`
	Active  bool `json:"active"`
	TXLPI   bool `json:"txLpi"`
	// TXLPITimerUsecs is the idle time in microseconds before low power.
	TXLPITimerUsecs *uint32  `json:"txLpiTimerUsecs,omitempty"`
	Supported       []string `json:"supportedModes,omitempty"`
	Advertised      []string `json:"advertisedModes,omitempty"`
	Peer            []string `json:"peerModes,omitempty"`
}
