package settings

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// NAPIState is how a NIC's queues are polled, for all of them at once.
type NAPIState struct {
	DeferHardIRQs   *uint32 `json:"defer-hard-irqs,omitempty" example:"2" doc:"how often a queue may be found empty before its interrupt is enabled again (napi_defer_hard_irqs)"`
	GROFlushTimeout *uint64 `json:"gro-flush-timeout,omitempty" example:"20000" doc:"nanoseconds until packets that GRO holds are passed on, and until a queue whose interrupt waits is looked at (gro_flush_timeout)"`
	Threaded        *bool   `json:"threaded,omitempty" doc:"poll in kernel threads, which the scheduler can move, instead of softirqs"`
}

// The files of NAPIState below a NIC's directory in /sys/class/net.
const (
	deferFile    = "napi_defer_hard_irqs"
	groFile      = "gro_flush_timeout"
	threadedFile = "threaded"
)

// NAPI is what /sys/class/net has of NAPI.
func NAPI() tuning.Knob[NAPIState] {
	return tuning.Knob[NAPIState]{
		Name:   "napi",
		Doc:    "How the queues are polled (/sys/class/net/*/napi_defer_hard_irqs, gro_flush_timeout and threaded), for all queues at once. On Linux 6.13 and newer it overwrites what single queues were set to.",
		Impact: func(inventory.NIC, NAPIState, NAPIState) tuning.Impact { return tuning.Seamless },
		After:  []string{"channels", "rings"},
		Read:   readNAPI,
		Write:  writeNAPI,
	}
}

func readNAPI(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit NAPIState, err error) {
	number := func(file string, bits int) (uint64, bool, error) {
		path := netFile(nic, file)
		b, err := r.ReadFile(ctx, path)
		switch {
		case kernel.ReasonOf(err) == kernel.Unsupported:
			// An older kernel; or a device without NAPI, which has EOPNOTSUPP or
			// EINVAL here.
			return 0, false, nil
		case err != nil:
			return 0, false, err
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, bits)
		if err != nil {
			return 0, false, fmt.Errorf("%s: %w: %.40q", path, kernel.ErrMalformed, b)
		}
		return n, true, nil
	}
	polls, hasPolls, err1 := number(deferFile, 32)
	timeout, hasTimeout, err2 := number(groFile, 64)
	threaded, hasThreaded, err3 := number(threadedFile, 8)
	if err := errors.Join(err1, err2, err3); err != nil {
		return current, limit, err
	}
	if hasPolls {
		current.DeferHardIRQs = new(uint32(polls))
	}
	if hasTimeout {
		current.GROFlushTimeout = &timeout
	}
	// 2 is threads that poll all the time, which only netlink can ask for.
	if hasThreaded && threaded <= 1 {
		current.Threaded = new(threaded == 1)
	}
	return current, limit, nil
}

func writeNAPI(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next NAPIState) error {
	write := func(file string, value uint64) error {
		return w.WriteFile(ctx, netFile(nic, file), strconv.AppendUint(nil, value, 10))
	}
	if a, b := current.DeferHardIRQs, next.DeferHardIRQs; a != nil && b != nil && *a != *b {
		if err := write(deferFile, uint64(*b)); err != nil {
			return err
		}
	}
	if a, b := current.GROFlushTimeout, next.GROFlushTimeout; a != nil && b != nil && *a != *b {
		if err := write(groFile, *b); err != nil {
			return err
		}
	}
	if a, b := current.Threaded, next.Threaded; a != nil && b != nil && *a != *b {
		value := uint64(0)
		if *b {
			value = 1
		}
		return write(threadedFile, value)
	}
	return nil
}

// netFile is a file of a NIC in /sys/class/net.
func netFile(nic inventory.NIC, file string) string { return "/sys/class/net/" + nic.Name + "/" + file }
