package inventory

// Multicast is which groups a NIC lets in, and why.
type Multicast struct {
	// Capable is the MULTICAST flag, AllMulti and Promiscuous those in force;
	// the counts say how many users asked for each.
	Capable          *bool        `json:"capable,omitempty"`
	AllMulti         *bool        `json:"allMulti,omitempty"`
	Promiscuous      *bool        `json:"promiscuous,omitempty"`
	AllMultiUsers    *uint32      `json:"allMultiUsers,omitempty"`
	PromiscuousUsers *uint32      `json:"promiscuousUsers,omitempty"`
	Memberships      []Membership `json:"memberships,omitempty"`
}

// Membership is one group that the host is in on a NIC.
type Membership struct {
	// Family is "ipv4", "ipv6" or "link".
	Family  string `json:"family"`
	Address string `json:"address"`
	Users   uint32 `json:"users"`
	// Static is a link-layer address that an administrator added.
	Static bool `json:"static,omitempty"`
}
