package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// EEE is Energy-Efficient Ethernet.
type EEE struct {
	Enabled bool `json:"enabled"`
	Active  bool `json:"active"`
	TXLPI   bool `json:"txLpi"`
	// TXLPITimerUsecs is the idle time in microseconds before low power.
	TXLPITimerUsecs *uint32  `json:"txLpiTimerUsecs,omitempty"`
	Supported       []string `json:"supportedModes,omitempty"`
	Advertised      []string `json:"advertisedModes,omitempty"`
	Peer            []string `json:"peerModes,omitempty"`
}

// fileEEE files an ETHTOOL_MSG_EEE_GET_REPLY.
func fileEEE(n *NIC, w *words, body []byte) error {
	e := &EEE{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_EEE_MODES_OURS:
			set, err := decodeBitset(attributes.Data)
			if err != nil {
				return err
			}
			e.Supported, e.Advertised = w.list(uapi.ETH_SS_LINK_MODES, set.mask), w.list(uapi.ETH_SS_LINK_MODES, set.value)
		case uapi.ETHTOOL_A_EEE_MODES_PEER:
			set, err := decodeBitset(attributes.Data)
			if err != nil {
				return err
			}
			e.Peer = w.list(uapi.ETH_SS_LINK_MODES, set.value)
		case uapi.ETHTOOL_A_EEE_ACTIVE:
			e.Active = attributes.Uint8() != 0
		case uapi.ETHTOOL_A_EEE_ENABLED:
			e.Enabled = attributes.Uint8() != 0
		case uapi.ETHTOOL_A_EEE_TX_LPI_ENABLED:
			e.TXLPI = attributes.Uint8() != 0
		case uapi.ETHTOOL_A_EEE_TX_LPI_TIMER:
			e.TXLPITimerUsecs = new(attributes.Uint32())
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Link.EEE = e
	return nil
}
