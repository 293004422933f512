package inventory

// Devlink is the devlink instance of a NIC's device, and the port that the NIC
// is on it.
type Devlink struct {
	// Handle is bus/device, "pci/0000:3b:00.0".
	Handle       string `json:"handle"`
	Driver       string `json:"driver,omitempty"`
	SerialNumber string `json:"serialNumber,omitempty"`
	BoardSerial  string `json:"boardSerialNumber,omitempty"`
	// The versions are by the names that devlink dev info prints: "fw.mgmt".
	Fixed   map[string]string `json:"fixed,omitempty"`
	Running map[string]string `json:"running,omitempty"`
	Stored  map[string]string `json:"stored,omitempty"`

	Port *DevlinkPort `json:"port,omitempty"`
}

// DevlinkPort is a NIC as a port of its devlink instance.
type DevlinkPort struct {
	Index int `json:"index"`
	// Flavour is "physical", "pcivf", "pcisf", "pcipf", "virtual", ...
	Flavour string `json:"flavour,omitempty"`
	Number  *int   `json:"number,omitempty"`
	PF      *int   `json:"pf,omitempty"`
	VF      *int   `json:"vf,omitempty"`
	SF      *int   `json:"sf,omitempty"`
	// Lanes is the number of lanes the port has; Splittable whether it can be
	// split.
	Lanes      *int  `json:"lanes,omitempty"`
	Splittable *bool `json:"splittable,omitempty"`
}
