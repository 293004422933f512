package settings

import (
	"context"
	"errors"
	"maps"
	"math/bits"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// RPSWish is what policies say of receive packet steering.
type RPSWish struct {
	CPUs    *string `json:"cpus,omitempty" form:"CPUs" words:"all,local-cpus,housekeeping-cpus,none" doc:"the CPUs that packets of a receive queue are handed to (rps_cpus); none switches it off"`
	Spread  *string `json:"spread,omitempty" words:"all,one-to-one" doc:"whether each queue gets all of the CPUs, as without this, or one each in turn"`
	FlowCnt *uint32 `json:"flow-cnt,omitempty" example:"4096" doc:"flows that each queue remembers for RFS (rps_flow_cnt), a power of two or 0; of no use while net.core.rps_sock_flow_entries is 0"`
}

// RPS is rps_cpus and rps_flow_cnt of each receive queue.
func RPS() tuning.Knob[QueueFiles] {
	return tuning.Knob[QueueFiles]{
		Name:   "rps",
		Doc:    "Which CPUs handle the packets of each receive queue in software: RPS and RFS (/sys/class/net/*/queues/rx-*). Where the NIC has a queue for each CPU, rss and irq do the same for less.",
		Impact: func(inventory.NIC, QueueFiles, QueueFiles) tuning.Impact { return tuning.Seamless },
		Wish:   tuning.WishOf(resolveRPS),
		After:  rebuildQueues,
		Round:  roundFlows,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit QueueFiles, err error) {
			current, err = readQueueFiles(ctx, r, nic, receiving, rpsCPUs, rpsFlowCnt)
			return current, QueueFiles{}, err
		},
		Write: writeQueueFiles,
	}
}

// roundFlows makes of a number of flows the power of two that the kernel makes of
// it (store_rps_dev_flow_table_cnt in net/core/net-sysfs.c).
func roundFlows(_ inventory.NIC, next QueueFiles) QueueFiles {
	next = maps.Clone(next)
	for file, value := range next {
		if n, err := strconv.ParseUint(value, 10, 32); err == nil && n > 1 && strings.HasSuffix(file, "/"+rpsFlowCnt) {
			next[file] = strconv.FormatUint(1<<bits.Len64(n-1), 10)
		}
	}
	return next
}

func resolveRPS(ctx context.Context, ask tuning.Ask, wish RPSWish, current QueueFiles) (QueueFiles, error) {
	next, names, err := upcoming(ctx, ask, receiving, current)
	if err != nil {
		return nil, err
	}
	if err := steer(ctx, ask, next, names, rpsCPUs, wish.CPUs, wish.Spread); err != nil {
		return nil, err
	}
	if wish.FlowCnt != nil {
		if err := checkFlows(ctx, ask, *wish.FlowCnt); err != nil {
			return nil, err
		}
		for _, name := range names {
			next[name+"/"+rpsFlowCnt] = strconv.FormatUint(uint64(*wish.FlowCnt), 10)
		}
	}
	return next, nil
}

// checkFlows says what is wrong with a number of flows while the host as a whole
// follows none: it would do nothing. A namespace does not tell.
func checkFlows(ctx context.Context, ask tuning.Ask, flows uint32) error {
	host, planned := tuning.Get[Sysctls](ask.Host, "sysctl")
	if !planned {
		var err error
		if host, _, err = readSysctls(ctx, ask.Reader, inventory.NIC{}); err != nil {
			return err
		}
	}
	if n := host.RPSSockFlowEntries; flows > 0 && n != nil && *n == 0 {
		return errors.New("flow-cnt: RFS is off while net.core.rps_sock_flow_entries is 0: want sysctl.rps-sock-flow-entries, too")
	}
	return nil
}
