package inventory

// On 386 a number of 64 bits may stand at any multiple of 4 bytes.
const (
	specCookie = 148
	specSize   = 160 // struct ethtool_rx_flow_spec
	rxnfcSize  = 180 // struct ethtool_rxnfc
)
