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
	// Negotiated is what both sides' advertisements amount to; absent where
	// nothing is negotiated or the peer's are unknown.
	Negotiated *PauseDirections `json:"negotiated,omitempty"`
}

// PauseDirections say which side may stop the other.
type PauseDirections struct {
	RX bool `json:"rx"`
	TX bool `json:"tx"`
}

// filePause files an ETHTOOL_MSG_PAUSE_GET_REPLY. It goes by the link modes for
// what was negotiated.
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
	if a := n.Link.Abilities; p.Autoneg && a != nil && a.Peer != nil {
		p.Negotiated = negotiatePause(a.Advertised.Pause, a.Peer.Pause)
	}
	n.Link.Pause = p
	return nil
}

// The words of LinkAbility.Pause.
const (
	pauseNone       = "No"
	pauseSymmetric  = "Symmetric"
	pauseTransmit   = "Transmit-only"
	pauseSymReceive = "Symmetric Receive-only"
)

// negotiatePause resolves two advertisements as IEEE 802.3 annex 28B does.
func negotiatePause(ours, peer string) *PauseDirections {
	symmetric := func(word string) bool { return word == pauseSymmetric || word == pauseSymReceive }
	asymmetric := func(word string) bool { return word == pauseTransmit || word == pauseSymReceive }
	switch {
	case symmetric(ours) && symmetric(peer):
		return &PauseDirections{RX: true, TX: true}
	case asymmetric(ours) && asymmetric(peer):
		return &PauseDirections{RX: symmetric(ours), TX: symmetric(peer)}
	}
	return &PauseDirections{}
}
