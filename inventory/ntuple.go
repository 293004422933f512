package inventory

// Ntuple are the receive flow rules of ethtool -n.
type Ntuple struct {
	// Capacity is how many rules the device takes; absent where it doesn't say.
	Capacity *int       `json:"capacity,omitempty"`
	Rules    []FlowRule `json:"rules,omitempty"`
}

// FlowRule is one receive flow rule.
type FlowRule struct {
	Location uint32 `json:"location"`
	// FlowType is ethtool's: "tcp4", "udp6", "ether".
	FlowType string `json:"flowType"`
	// Match are the fields compared, by ethtool's names ("src-ip", "dst-port",
	// "vlan"), as value, or value/mask where the mask isn't full.
	Match map[string]string `json:"match,omitempty"`
	// Action is "drop", or "queue" with Queue, on the VF number VF if not 0.
	Action  string  `json:"action"`
	Queue   *uint32 `json:"queue,omitempty"`
	VF      *uint32 `json:"vf,omitempty"`
	Context *uint32 `json:"context,omitempty"`
}
