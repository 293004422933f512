package settings

import (
	"context"
	"encoding/json"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
)

// Moderation is when the NIC interrupts, as ethtool -c shows it. The names are
// those of inventory.Coalesce.
type Moderation struct {
	AdaptiveRX       *bool   `json:"adaptive-rx,omitempty" doc:"let the driver choose the receive values by the traffic"`
	AdaptiveTX       *bool   `json:"adaptive-tx,omitempty" doc:"as adaptive-rx, for transmitting"`
	RXUsecs          *uint32 `json:"rx-usecs,omitempty" example:"50" doc:"microseconds from a received packet to its interrupt"`
	RXFrames         *uint32 `json:"rx-frames,omitempty" doc:"received packets that end the wait early"`
	RXUsecsIRQ       *uint32 `json:"rx-usecs-irq,omitempty" doc:"as rx-usecs, while an interrupt is being handled"`
	RXFramesIRQ      *uint32 `json:"rx-frames-irq,omitempty" doc:"as rx-frames, while an interrupt is being handled"`
	TXUsecs          *uint32 `json:"tx-usecs,omitempty" example:"50" doc:"microseconds from a sent packet to its interrupt"`
	TXFrames         *uint32 `json:"tx-frames,omitempty" doc:"sent packets that end the wait early"`
	TXUsecsIRQ       *uint32 `json:"tx-usecs-irq,omitempty" doc:"as tx-usecs, while an interrupt is being handled"`
	TXFramesIRQ      *uint32 `json:"tx-frames-irq,omitempty" doc:"as tx-frames, while an interrupt is being handled"`
	StatsBlockUsecs  *uint32 `json:"stats-block-usecs,omitempty" doc:"microseconds between two updates of the counters in memory"`
	SampleInterval   *uint32 `json:"sample-interval,omitempty" doc:"seconds between two looks at the packet rate"`
	PktRateLow       *uint32 `json:"pkt-rate-low,omitempty" doc:"packets a second below which the -low values hold"`
	RXUsecsLow       *uint32 `json:"rx-usecs-low,omitempty" doc:"rx-usecs at a low packet rate"`
	RXFramesLow      *uint32 `json:"rx-frames-low,omitempty" doc:"rx-frames at a low packet rate"`
	TXUsecsLow       *uint32 `json:"tx-usecs-low,omitempty" doc:"tx-usecs at a low packet rate"`
	TXFramesLow      *uint32 `json:"tx-frames-low,omitempty" doc:"tx-frames at a low packet rate"`
	PktRateHigh      *uint32 `json:"pkt-rate-high,omitempty" doc:"packets a second above which the -high values hold"`
	RXUsecsHigh      *uint32 `json:"rx-usecs-high,omitempty" doc:"rx-usecs at a high packet rate; with ice the least time between interrupts"`
	RXFramesHigh     *uint32 `json:"rx-frames-high,omitempty" doc:"rx-frames at a high packet rate"`
	TXUsecsHigh      *uint32 `json:"tx-usecs-high,omitempty" doc:"tx-usecs at a high packet rate"`
	TXFramesHigh     *uint32 `json:"tx-frames-high,omitempty" doc:"tx-frames at a high packet rate"`
	CQEModeRX        *bool   `json:"cqe-mode-rx,omitempty" doc:"restart the wait with each completion (on) or only with each interrupt (off)"`
	CQEModeTX        *bool   `json:"cqe-mode-tx,omitempty" doc:"as cqe-mode-rx, for transmitting"`
	TXAggrMaxBytes   *uint32 `json:"tx-aggr-max-bytes,omitempty" doc:"bytes of packets that are sent to the device as one block"`
	TXAggrMaxFrames  *uint32 `json:"tx-aggr-max-frames,omitempty" doc:"packets that are sent to the device as one block"`
	TXAggrTimeUsecs  *uint32 `json:"tx-aggr-time-usecs,omitempty" doc:"microseconds that a block waits for more packets"`
	RXCQEFrames      *uint32 `json:"rx-cqe-frames,omitempty" doc:"received packets that one completion tells of"`
	RXCQENanoseconds *uint32 `json:"rx-cqe-nsecs,omitempty" doc:"nanoseconds that a completion waits for more packets"`
}

// Coalesce is ethtool -C.
func Coalesce() tuning.Knob[Moderation] {
	return tuning.Knob[Moderation]{
		Name: "coalesce",
		Doc: "When the NIC interrupts: how long it waits, and for how many packets (ethtool -C). " +
			"Most drivers change it while packets flow.",
		After:    rebuildQueues,
		Keep:     keepCoalesce,
		Round:    roundCoalesce,
		Volatile: movedByDevice,
		Impact:   coalesceImpact,
		Read:     readCoalesce,
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next Moderation) error {
			next = spelled(nic, next)
			b := about(nic)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_USECS, current.RXUsecs, next.RXUsecs)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES, current.RXFrames, next.RXFrames)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_USECS_IRQ, current.RXUsecsIRQ, next.RXUsecsIRQ)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_IRQ, current.RXFramesIRQ, next.RXFramesIRQ)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_USECS, current.TXUsecs, next.TXUsecs)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES, current.TXFrames, next.TXFrames)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_USECS_IRQ, current.TXUsecsIRQ, next.TXUsecsIRQ)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_IRQ, current.TXFramesIRQ, next.TXFramesIRQ)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_STATS_BLOCK_USECS, current.StatsBlockUsecs, next.StatsBlockUsecs)
			b = switched(b, uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX, current.AdaptiveRX, next.AdaptiveRX, 0, 1)
			b = switched(b, uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX, current.AdaptiveTX, next.AdaptiveTX, 0, 1)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_PKT_RATE_LOW, current.PktRateLow, next.PktRateLow)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_USECS_LOW, current.RXUsecsLow, next.RXUsecsLow)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_LOW, current.RXFramesLow, next.RXFramesLow)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_USECS_LOW, current.TXUsecsLow, next.TXUsecsLow)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_LOW, current.TXFramesLow, next.TXFramesLow)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_PKT_RATE_HIGH, current.PktRateHigh, next.PktRateHigh)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_USECS_HIGH, current.RXUsecsHigh, next.RXUsecsHigh)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_HIGH, current.RXFramesHigh, next.RXFramesHigh)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_USECS_HIGH, current.TXUsecsHigh, next.TXUsecsHigh)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_HIGH, current.TXFramesHigh, next.TXFramesHigh)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RATE_SAMPLE_INTERVAL, current.SampleInterval, next.SampleInterval)
			b = switched(b, uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_TX, current.CQEModeTX, next.CQEModeTX, 0, 1)
			b = switched(b, uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_RX, current.CQEModeRX, next.CQEModeRX, 0, 1)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_BYTES, current.TXAggrMaxBytes, next.TXAggrMaxBytes)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_FRAMES, current.TXAggrMaxFrames, next.TXAggrMaxFrames)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_TX_AGGR_TIME_USECS, current.TXAggrTimeUsecs, next.TXAggrTimeUsecs)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_CQE_FRAMES, current.RXCQEFrames, next.RXCQEFrames)
			b = changed(b, uapi.ETHTOOL_A_COALESCE_RX_CQE_NSECS, current.RXCQENanoseconds, next.RXCQENanoseconds)
			return set(ctx, w, uapi.ETHTOOL_MSG_COALESCE_SET, b)
		},
	}
}

// keepCoalesce leaves tx-usecs to igb where it changes its channels or VFs: it has the
// value only where the queues do not share their vectors, and refuses it otherwise
// (IGB_FLAG_QUEUE_PAIRS in igb_set_coalesce).
func keepCoalesce(ask tuning.Ask, before Moderation) (Moderation, error) {
	_, changes := plannedQueues(ask.Planned, sending)
	_, vfs := tuning.Get[sriov.Count](ask.Planned, sriov.CountSetting)
	if (changes || vfs) && driverOf(ask.NIC) == "igb" {
		before.TXUsecs = nil
	}
	return before, nil
}

// igbvf takes 0 for as little moderation as it can do, and shows that as 1, which it
// does not take (igbvf_set_coalesce, igbvf_get_coalesce).
const leastOfIgbvf = 1

func roundCoalesce(nic inventory.NIC, next Moderation) Moderation {
	if driverOf(nic) == "igbvf" && next.RXUsecs != nil && *next.RXUsecs == 0 {
		next.RXUsecs = new(uint32(leastOfIgbvf))
	}
	return next
}

// spelled is what the driver takes for what it shows.
func spelled(nic inventory.NIC, next Moderation) Moderation {
	if driverOf(nic) == "igbvf" && next.RXUsecs != nil && *next.RXUsecs == leastOfIgbvf {
		next.RXUsecs = new(uint32(0))
	}
	return next
}

// movedByDevice are the values that the driver chooses by the traffic. Not all
// drivers show what they have chosen; then nobody moves them.
func movedByDevice(m Moderation) []string {
	var fields []string
	if m.AdaptiveRX != nil && *m.AdaptiveRX {
		fields = append(fields, "rx-usecs", "rx-frames")
	}
	if m.AdaptiveTX != nil && *m.AdaptiveTX {
		fields = append(fields, "tx-usecs", "tx-frames")
	}
	return fields
}

// coalesceImpact: moderation is registers, written while packets flow. The
// exceptions are what queues are made with, and what these drivers open their
// queues anew for: bnx2 for any of it, mlx5 to let adaptive moderation begin or end, ixgbe where an
// interval decides on LRO or on the write-back of descriptors, bnxt_en to write
// its counters at another pace.
func coalesceImpact(nic inventory.NIC, current, next Moderation) tuning.Impact {
	reset := differ(current.CQEModeRX, next.CQEModeRX) || differ(current.CQEModeTX, next.CQEModeTX) ||
		differ(current.RXCQEFrames, next.RXCQEFrames)
	switch driverOf(nic) {
	case "bnx2":
		reset = true
	case "mlx5_core":
		reset = reset || differ(current.AdaptiveRX, next.AdaptiveRX) || differ(current.AdaptiveTX, next.AdaptiveTX)
	case "ixgbe":
		reset = reset || differ(current.RXUsecs, next.RXUsecs) || differ(current.TXUsecs, next.TXUsecs)
	case "bnxt_en":
		reset = reset || differ(current.StatsBlockUsecs, next.StatsBlockUsecs)
	}
	if reset {
		return tuning.NICReset
	}
	return tuning.Seamless
}

// readCoalesce names no limits: drivers have some, and tell them only by
// refusing.
func readCoalesce(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit Moderation, err error) {
	c, err := inventory.ReadCoalesce(ctx, r, nic)
	if err != nil || c == nil {
		return current, limit, err
	}
	for _, named := range []any{c.Values, c.Flags} {
		b, err := json.Marshal(named)
		if err != nil {
			return Moderation{}, limit, err
		}
		if err := json.Unmarshal(b, &current); err != nil {
			return Moderation{}, limit, err
		}
	}
	return current, limit, nil
}
