package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Coalesce are the interrupt moderation settings of ethtool -c, by ethtool's own
// names ("rx-usecs", "adaptive-rx", "cqe-mode-rx", "tx-aggr-max-bytes"). Numbers
// and flags are two maps; one that the driver lacks is absent.
type Coalesce struct {
	Values map[string]uint32 `json:"values,omitempty"`
	Flags  map[string]bool   `json:"flags,omitempty"`
}

// coalesceValue is the name of a number, as ethtool -C takes it, or "".
func coalesceValue(attribute uint16) string {
	switch attribute {
	case uapi.ETHTOOL_A_COALESCE_RX_USECS:
		return "rx-usecs"
	case uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES:
		return "rx-frames"
	case uapi.ETHTOOL_A_COALESCE_RX_USECS_IRQ:
		return "rx-usecs-irq"
	case uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_IRQ:
		return "rx-frames-irq"
	case uapi.ETHTOOL_A_COALESCE_TX_USECS:
		return "tx-usecs"
	case uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES:
		return "tx-frames"
	case uapi.ETHTOOL_A_COALESCE_TX_USECS_IRQ:
		return "tx-usecs-irq"
	case uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_IRQ:
		return "tx-frames-irq"
	case uapi.ETHTOOL_A_COALESCE_STATS_BLOCK_USECS:
		return "stats-block-usecs"
	case uapi.ETHTOOL_A_COALESCE_PKT_RATE_LOW:
		return "pkt-rate-low"
	case uapi.ETHTOOL_A_COALESCE_RX_USECS_LOW:
		return "rx-usecs-low"
	case uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_LOW:
		return "rx-frames-low"
	case uapi.ETHTOOL_A_COALESCE_TX_USECS_LOW:
		return "tx-usecs-low"
	case uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_LOW:
		return "tx-frames-low"
	case uapi.ETHTOOL_A_COALESCE_PKT_RATE_HIGH:
		return "pkt-rate-high"
	case uapi.ETHTOOL_A_COALESCE_RX_USECS_HIGH:
		return "rx-usecs-high"
	case uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_HIGH:
		return "rx-frames-high"
	case uapi.ETHTOOL_A_COALESCE_TX_USECS_HIGH:
		return "tx-usecs-high"
	case uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_HIGH:
		return "tx-frames-high"
	case uapi.ETHTOOL_A_COALESCE_RATE_SAMPLE_INTERVAL:
		return "sample-interval"
	case uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_BYTES:
		return "tx-aggr-max-bytes"
	case uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_FRAMES:
		return "tx-aggr-max-frames"
	case uapi.ETHTOOL_A_COALESCE_TX_AGGR_TIME_USECS:
		return "tx-aggr-time-usecs"
	case uapi.ETHTOOL_A_COALESCE_RX_CQE_FRAMES:
		return "rx-cqe-frames"
	case uapi.ETHTOOL_A_COALESCE_RX_CQE_NSECS:
		return "rx-cqe-nsecs"
	}
	return ""
}

// coalesceFlag is the name of a flag, as ethtool -C takes it, or "".
func coalesceFlag(attribute uint16) string {
	switch attribute {
	case uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX:
		return "adaptive-rx"
	case uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX:
		return "adaptive-tx"
	case uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_RX:
		return "cqe-mode-rx"
	case uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_TX:
		return "cqe-mode-tx"
	}
	return ""
}

// fileCoalesce files an ETHTOOL_MSG_COALESCE_GET_REPLY. The kernel leaves out
// what the driver does not support. The profiles of adaptive moderation are
// not facts here.
func fileCoalesce(n *NIC, _ *words, body []byte) error {
	c := &Coalesce{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		if name := coalesceValue(attributes.Type); name != "" {
			if c.Values == nil {
				c.Values = map[string]uint32{}
			}
			c.Values[name] = attributes.Uint32()
		} else if name := coalesceFlag(attributes.Type); name != "" {
			if c.Flags == nil {
				c.Flags = map[string]bool{}
			}
			c.Flags[name] = attributes.Uint8() != 0
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Queues.Coalesce = c
	return nil
}
