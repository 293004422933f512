package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Channels are numbers of queues by kind, as ethtool -l shows them. A kind that
// the device lacks is absent.
type Channels struct {
	RX       *ChannelCount `json:"rx,omitempty"`
	TX       *ChannelCount `json:"tx,omitempty"`
	Other    *ChannelCount `json:"other,omitempty"`
	Combined *ChannelCount `json:"combined,omitempty"`
}

// ChannelCount is how many there are and how many there can be.
type ChannelCount struct {
	Current uint32 `json:"current"`
	Maximum uint32 `json:"maximum"`
}

// fileChannels files an ETHTOOL_MSG_CHANNELS_GET_REPLY.
func fileChannels(n *NIC, _ *words, body []byte) error {
	c := &Channels{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_CHANNELS_RX_MAX:
			present(&c.RX).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_CHANNELS_RX_COUNT:
			present(&c.RX).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_CHANNELS_TX_MAX:
			present(&c.TX).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_CHANNELS_TX_COUNT:
			present(&c.TX).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_CHANNELS_OTHER_MAX:
			present(&c.Other).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_CHANNELS_OTHER_COUNT:
			present(&c.Other).Current = attributes.Uint32()
		case uapi.ETHTOOL_A_CHANNELS_COMBINED_MAX:
			present(&c.Combined).Maximum = attributes.Uint32()
		case uapi.ETHTOOL_A_CHANNELS_COMBINED_COUNT:
			present(&c.Combined).Current = attributes.Uint32()
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Queues.Channels = c
	return nil
}

// present is what p points to, made where it is not there yet.
func present[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}
