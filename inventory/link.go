package inventory

// Link is a NIC's link: what was asked for, what runs, what the peer offers.
type Link struct {
	// Admin is "up" or "down", what was asked for; Oper is the operational state
	// as ip prints it ("up", "down", "lowerlayerdown", "dormant", "unknown", ...).
	Admin string `json:"admin,omitempty"`
	Oper  string `json:"oper,omitempty"`
	// Carrier is absent while the device is down.
	Carrier *bool `json:"carrier,omitempty"`
	// ProtoDown is set where a protocol (MLAG, VRRP) holds the link down.
	ProtoDown bool `json:"protoDown,omitempty"`
	// ExtendedState and ExtendedSubstate are the driver's reason for a link that
	// is down, in ethtool's words.
	ExtendedState    string `json:"extendedState,omitempty"`
	ExtendedSubstate string `json:"extendedSubstate,omitempty"`
	// SpeedMbps, Duplex ("full", "half") and Lanes are absent while unknown.
	SpeedMbps *int   `json:"speedMbps,omitempty"`
	Duplex    string `json:"duplex,omitempty"`
	Lanes     *int   `json:"lanes,omitempty"`
	// Port is the connector, as ethtool prints it: "Twisted Pair", "FIBRE",
	// "Direct Attach Copper".
	Port    string `json:"port,omitempty"`
	Autoneg *bool  `json:"autoneg,omitempty"`
	// Modes are named as ethtool names them: "25000baseCR/Full".
	Supported  []string `json:"supportedModes,omitempty"`
	Advertised []string `json:"advertisedModes,omitempty"`
	Peer       []string `json:"peerModes,omitempty"`

	FEC   *FEC   `json:"fec,omitempty"`
	Pause *Pause `json:"pause,omitempty"`
	EEE   *EEE   `json:"eee,omitempty"`

	// MTU and its bounds in bytes. MaxMTU is absent where the driver names none.
	MTU    *int `json:"mtu,omitempty"`
	MinMTU *int `json:"minMtu,omitempty"`
	MaxMTU *int `json:"maxMtu,omitempty"`
	// TxQueueLen is the length of the queueing discipline's default queue, in
	// packets.
	TxQueueLen *int `json:"txQueueLen,omitempty"`
	// CarrierUp and CarrierDown count the kernel's carrier changes; DownEvents is
	// the device's own count of a lost link, where it has one.
	CarrierUp   *uint64 `json:"carrierUp,omitempty"`
	CarrierDown *uint64 `json:"carrierDown,omitempty"`
	DownEvents  *uint64 `json:"downEvents,omitempty"`
}
