package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

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

// fileRings files an ETHTOOL_MSG_RINGS_GET_REPLY.
func fileRings(n *NIC, _ *words, body []byte) error {
	r := &Rings{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_RINGS_RX_MAX:
			present(&r.RX).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_RX:
			present(&r.RX).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_RX_MINI_MAX:
			present(&r.RXMini).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_RX_MINI:
			present(&r.RXMini).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_RX_JUMBO_MAX:
			present(&r.RXJumbo).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_RX_JUMBO:
			present(&r.RXJumbo).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_TX_MAX:
			present(&r.TX).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_TX:
			present(&r.TX).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_RX_BUF_LEN:
			r.RXBufLen = new(attributes.Uint32())
		case uapi.ETHTOOL_A_RINGS_CQE_SIZE:
			r.CQESize = new(attributes.Uint32())
		case uapi.ETHTOOL_A_RINGS_TX_PUSH:
			r.TXPush = new(attributes.Uint8() != 0)
		case uapi.ETHTOOL_A_RINGS_RX_PUSH:
			r.RXPush = new(attributes.Uint8() != 0)
		case uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN_MAX:
			present(&r.TXPushBufLen).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN:
			present(&r.TXPushBufLen).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_TCP_DATA_SPLIT:
			r.TCPDataSplit = at(attributes.Uint8(), "unknown", "off", "on")
		case uapi.ETHTOOL_A_RINGS_HDS_THRESH_MAX:
			present(&r.HDSThreshold).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_RINGS_HDS_THRESH:
			present(&r.HDSThreshold).Current = attributes.Uint32()
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Queues.Rings = r
	return nil
}
