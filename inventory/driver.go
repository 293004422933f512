package inventory

// Driver is the driver bound to a NIC, as ethtool -i shows it.
type Driver struct {
	Name string `json:"name"`
	// Version is the driver's own, or the kernel's release where it has none.
	Version      string `json:"version,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	ExpansionROM string `json:"expansionRom,omitempty"`
	// BusInfo is the address that the driver itself reports.
	BusInfo string `json:"busInfo,omitempty"`
}
