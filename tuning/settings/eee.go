package settings

import (
	"context"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// EnergySaving is what ethtool --show-eee shows of the NIC's own side. Which
// modes are advertised is left as it is.
type EnergySaving struct {
	EEE     *bool   `json:"eee,omitempty" doc:"let the link sleep between packets; waking takes microseconds"`
	TXLPI   *bool   `json:"tx-lpi,omitempty" doc:"ask for sleep when there is nothing to send"`
	TXTimer *uint32 `json:"tx-timer,omitempty" doc:"microseconds without a packet before that"`
}

// EEE is ethtool --set-eee.
func EEE() tuning.Knob[EnergySaving] {
	return tuning.Knob[EnergySaving]{
		Name: "eee",
		Doc:  "Energy-Efficient Ethernet (ethtool --set-eee). It is negotiated: the link comes up anew, and many drivers reset the NIC.",
		Impact: func(_ inventory.NIC, _, _ EnergySaving) tuning.Impact {
			return tuning.NICReset
		},
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit EnergySaving, err error) {
			e, err := inventory.ReadEEE(ctx, r, nic)
			if err != nil || e == nil {
				return current, limit, err
			}
			return EnergySaving{EEE: &e.Enabled, TXLPI: &e.TXLPI, TXTimer: e.TXLPITimerUsecs}, limit, nil
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next EnergySaving) error {
			b := about(nic)
			b = switched(b, uapi.ETHTOOL_A_EEE_ENABLED, current.EEE, next.EEE, 0, 1)
			b = switched(b, uapi.ETHTOOL_A_EEE_TX_LPI_ENABLED, current.TXLPI, next.TXLPI, 0, 1)
			b = changed(b, uapi.ETHTOOL_A_EEE_TX_LPI_TIMER, current.TXTimer, next.TXTimer)
			return set(ctx, w, uapi.ETHTOOL_MSG_EEE_SET, b)
		},
	}
}
