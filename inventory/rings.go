package inventory

// Rings are descriptor rings, as ethtool -g shows them. A field that the device
// lacks is absent.
type Rings struct {
	RX      *RingSize `json:"rx,omitempty"`
	RXMini  *RingSize `json:"rxMini,omitempty"`
	RXJumbo *RingSize `json:"rxJumbo,omitempty"`
	TX      *RingSize `json:"tx,omitempty"`
	// RXBufLen is the size of a receive buffer in bytes, CQESize of a completion.
	RXBufLen *uint32 `json:"rxBufLen,omitempty"`
	CQESize  *uint32 `json:"cqeSize,omitempty"`
	TXPush   *bool   `json:"txPush,omitempty"`
	RXPush   *bool   `json:"rxPush,omitempty"`
	// TXPushBufLen is in bytes, with its maximum.
	TXPushBufLen *RingSize `json:"txPushBufLen,omitempty"`
	// TCPDataSplit is "on", "off" or "unknown"; HDSThreshold in bytes.
	TCPDataSplit string    `json:"tcpDataSplit,omitempty"`
	HDSThreshold *RingSize `json:"hdsThreshold,omitempty"`
}

// RingSize is a size in use and the largest possible.
type RingSize struct {
	Current uint32 `json:"current"`
	Maximum uint32 `json:"maximum"`
}
