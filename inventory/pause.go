package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Pause is flow control.
type Pause struct {
	Autoneg bool `json:"autoneg"`
	RX      bool `json:"rx"`
	TX      bool `json:"tx"`
}

// filePause files an ETHTOOL_MSG_PAUSE_GET_REPLY.
func filePause(n *NIC, _ *words, body []byte) error {
	p := &Pause{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_PAUSE_AUTONEG:
			p.Autoneg = attributes.Uint8() != 0
		case uapi.ETHTOOL_A_PAUSE_RX:
			p.RX = attributes.Uint8() != 0
		case uapi.ETHTOOL_A_PAUSE_TX:
			p.TX = attributes.Uint8() != 0
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Link.Pause = p
	return nil
}
