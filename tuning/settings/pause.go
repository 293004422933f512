package settings

import (
	"context"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// FlowControl is what ethtool -a shows.
type FlowControl struct {
	Autoneg *bool `json:"autoneg,omitempty" doc:"agree with the peer on rx and tx; many drivers then refuse or ignore these"`
	RX      *bool `json:"rx,omitempty" doc:"stop sending when the peer asks for it"`
	TX      *bool `json:"tx,omitempty" doc:"ask the peer to stop when the NIC's buffer is full"`
}

// Pause is ethtool -A.
func Pause() tuning.Knob[FlowControl] {
	return tuning.Knob[FlowControl]{
		Name: "pause",
		Doc: "Ethernet flow control (ethtool -A). Changing it takes the link down with most drivers, " +
			"and with igb, e1000e, ixgbe and tg3 the queues with it.",
		After: []string{"link"},
		Keep: func(ask tuning.Ask, before FlowControl) (FlowControl, error) {
			// What was agreed on with the peer ends with the negotiation of the link.
			if l, ok := tuning.Get[LinkModes](ask.Planned, "link"); ok && l.Autoneg != nil && !*l.Autoneg && before.Autoneg != nil && *before.Autoneg {
				return FlowControl{}, nil
			}
			return before, nil
		},
		Impact: func(_ inventory.NIC, _, _ FlowControl) tuning.Impact {
			return tuning.NICReset
		},
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit FlowControl, err error) {
			p, err := inventory.ReadPause(ctx, r, nic)
			if err != nil || p == nil {
				return current, limit, err
			}
			return FlowControl{Autoneg: &p.Autoneg, RX: &p.RX, TX: &p.TX}, limit, nil
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next FlowControl) error {
			b := about(nic)
			b = switched(b, uapi.ETHTOOL_A_PAUSE_AUTONEG, current.Autoneg, next.Autoneg, 0, 1)
			b = switched(b, uapi.ETHTOOL_A_PAUSE_RX, current.RX, next.RX, 0, 1)
			b = switched(b, uapi.ETHTOOL_A_PAUSE_TX, current.TX, next.TX, 0, 1)
			return set(ctx, w, uapi.ETHTOOL_MSG_PAUSE_SET, b)
		},
	}
}
