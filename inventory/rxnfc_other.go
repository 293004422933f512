//go:build !386

package inventory

// Everywhere else a number of 64 bits stands at a multiple of 8 bytes, and so
// does the end of a struct that has one.
const (
	specCookie = 152
	specSize   = 168 // struct ethtool_rx_flow_spec
	rxnfcSize  = 192 // struct ethtool_rxnfc
)
