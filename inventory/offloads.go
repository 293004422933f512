package inventory

// Offloads is what a NIC does in hardware, and what is attached to it.
type Offloads struct {
	// Features are those of ethtool -k, by the kernel's names.
	Features map[string]Feature `json:"features,omitempty"`
	// PrivateFlags are the driver's own (ethtool --show-priv-flags).
	PrivateFlags map[string]bool `json:"privateFlags,omitempty"`
	// Tunables are by ethtool's names: "rx-copybreak".
	Tunables map[string]uint32 `json:"tunables,omitempty"`

	XDP []XDPProgram `json:"xdp,omitempty"`
	// XDPFeatures is what the driver offers at present, by the names of the
	// netdev family: "basic", "redirect", "xsk-zerocopy". It is the current
	// state, not ability. An empty list says that it offers none.
	XDPFeatures []string `json:"xdpFeatures,omitzero"`
	// XDPZeroCopyMaxSegments is the largest number of fragments of an AF_XDP
	// packet in zero copy mode.
	XDPZeroCopyMaxSegments *uint32 `json:"xdpZeroCopyMaxSegments,omitempty"`
	// XDPMetadata is what the driver can tell a program of a packet: "timestamp",
	// "hash", "vlan-tag". XSKFeatures is what it does for packets that an AF_XDP
	// socket sends: "tx-timestamp", "tx-checksum", "tx-launch-time-fifo".
	XDPMetadata []string `json:"xdpMetadata,omitzero"`
	XSKFeatures []string `json:"xskFeatures,omitzero"`

	Limits       Limits        `json:"limits,omitzero"`
	Timestamping *Timestamping `json:"timestamping,omitempty"`
}

// XDPProgram is one attached XDP program.
type XDPProgram struct {
	// Mode is "driver", "generic" or "hardware".
	Mode string `json:"mode"`
	ID   uint32 `json:"id"`
}

// Limits bound the packets that segmentation and coalescing build, in bytes and
// segments, as ip -d shows them.
type Limits struct {
	GSOMaxSize     *uint32 `json:"gsoMaxSize,omitempty"`
	GSOMaxSegs     *uint32 `json:"gsoMaxSegs,omitempty"`
	GSOIPv4MaxSize *uint32 `json:"gsoIpv4MaxSize,omitempty"`
	TSOMaxSize     *uint32 `json:"tsoMaxSize,omitempty"`
	TSOMaxSegs     *uint32 `json:"tsoMaxSegs,omitempty"`
	GROMaxSize     *uint32 `json:"groMaxSize,omitempty"`
	GROIPv4MaxSize *uint32 `json:"groIpv4MaxSize,omitempty"`
}
