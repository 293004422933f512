package settings

import (
	"maps"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/tuning"
)

// polled is a device with two queues, as Linux 6.17 tells of it.
func polled() NAPIState {
	return NAPIState{
		"defer-hard-irqs": "0", "gro-flush-timeout": "0", "threaded": "off",
		"rx-0/defer-hard-irqs": "0", "rx-0/gro-flush-timeout": "0", "rx-0/irq-suspend-timeout": "0", "rx-0/threaded": "off",
		"rx-1/defer-hard-irqs": "0", "rx-1/gro-flush-timeout": "0", "rx-1/irq-suspend-timeout": "0", "rx-1/threaded": "off",
	}
}

func TestNAPIResolves(t *testing.T) {
	busy := NAPIThreads(busyPoll)
	older := polled() // Linux 6.12: nothing of single queues
	maps.DeleteFunc(older, func(key, _ string) bool { return strings.Contains(key, "/") })
	for name, test := range map[string]struct {
		wish    NAPIWish
		current NAPIState
		want    map[string]string // what changes
		fault   string
	}{
		"the device and each queue": {NAPIWish{DeferHardIRQs: new(uint32(2))}, polled(),
			map[string]string{"defer-hard-irqs": "2", "rx-0/defer-hard-irqs": "2", "rx-1/defer-hard-irqs": "2"}, ""},
		"an older kernel": {NAPIWish{DeferHardIRQs: new(uint32(2))}, older, map[string]string{"defer-hard-irqs": "2"}, ""},
		"one queue": {NAPIWish{Queues: new("1"), GROFlushTimeout: new(uint64(20000)), IRQSuspendTimeout: new(uint64(1 << 33))}, polled(),
			map[string]string{"rx-1/gro-flush-timeout": "20000", "rx-1/irq-suspend-timeout": "8589934592"}, ""},
		"what only queues have":          {NAPIWish{IRQSuspendTimeout: new(uint64(7))}, polled(), map[string]string{"rx-0/irq-suspend-timeout": "7", "rx-1/irq-suspend-timeout": "7"}, ""},
		"threads that only queues have":  {NAPIWish{Threaded: &busy}, polled(), map[string]string{"rx-0/threaded": busyPoll, "rx-1/threaded": busyPoll}, ""},
		"a queue that is not there":      {NAPIWish{Queues: new("1-2"), DeferHardIRQs: new(uint32(2))}, polled(), nil, "of rx-1, rx-2: only rx-0, rx-1 can have it"},
		"a queue of an older kernel":     {NAPIWish{Queues: new("1"), DeferHardIRQs: new(uint32(2))}, older, nil, "since Linux 6.13"},
		"a timeout of an older kernel":   {NAPIWish{IRQSuspendTimeout: new(uint64(7))}, older, nil, "since Linux 6.13"},
		"a device that is not polled":    {NAPIWish{DeferHardIRQs: new(uint32(2))}, NAPIState{}, nil, "the device has none"},
		"queues without a wish for them": {NAPIWish{Queues: new("1")}, polled(), nil, "say what they shall have"},
		"queues that are no numbers":     {NAPIWish{Queues: new("first"), DeferHardIRQs: new(uint32(2))}, polled(), nil, "queues takes a list"},
	} {
		next, err := resolveNAPI(t.Context(), tuning.Ask{}, test.wish, test.current)
		if test.fault != "" {
			if err == nil || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%s: %v, %v, want %q", name, next, err, test.fault)
			}
			if strings.Contains(test.fault, "6.13") && kernel.ReasonOf(err) != kernel.Unsupported {
				t.Errorf("%s: %v is not unsupported", name, err)
			}
			continue
		}
		maps.DeleteFunc(next, func(key, value string) bool { return test.current[key] == value })
		if err != nil || !maps.Equal(next, test.want) {
			t.Errorf("%s: %v changes, want %v, %v", name, next, test.want, err)
		}
	}
}

// A queue that the plan makes can be wanted; one that it takes away can't.
func TestNAPIPlanned(t *testing.T) {
	for channels, wants := range map[uint32]bool{4: true, 1: false} {
		planned, err := tuning.PlannedOf("channels", ChannelCounts{Combined: new(uint32(2))}, ChannelCounts{Combined: &channels})
		if err != nil {
			t.Fatal(err)
		}
		queue := "1"
		if wants {
			queue = "3"
		}
		next, err := resolveNAPI(t.Context(), tuning.Ask{Planned: planned}, NAPIWish{Queues: &queue, DeferHardIRQs: new(uint32(5))}, polled())
		if wants && (err != nil || next["rx-3/defer-hard-irqs"] != "5" || next["rx-2/defer-hard-irqs"] != "0") || !wants && err == nil {
			t.Errorf("%d channels: %v, %v", channels, next, err)
		}
	}
}
