package inventory

// FEC is forward error correction. Modes are "Off", "RS", "BaseR", "LLRS", as
// ethtool --show-fec prints them.
type FEC struct {
	Auto       *bool    `json:"auto,omitempty"`
	Configured []string `json:"configured,omitempty"`
	Active     string   `json:"active,omitempty"`
}
