package settings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
)

// QueueFiles is the state of a setting that lives in the files of single queues:
// a value for each file, "rx-0/rps_cpus". CPUs are lists as in "0-3,8", or
// "none".
type QueueFiles map[string]string

// Files of a queue.
const (
	rpsCPUs    = "rps_cpus"
	rpsFlowCnt = "rps_flow_cnt"
	xpsCPUs    = "xps_cpus"
)

// rebuildQueues are the settings whose change has drivers make their queues anew: what
// was set for single ones is lost then. igb does it for VFs, too.
var rebuildQueues = []string{"channels", "rings", sriov.CountSetting}

// direction is a way through a NIC: its queues have names that begin with it.
type direction string

const (
	receiving direction = "rx-"
	sending   direction = "tx-"
)

// plannedQueues is how many queues of a direction a plan gives a NIC, if it does.
func plannedQueues(p tuning.Planned, way direction) (queues uint64, ok bool) {
	c, ok := tuning.Get[ChannelCounts](p, "channels")
	return c.queues(way), ok
}

// plannedBefore is how many there are before the plan changes that, 0 if it does
// not.
func plannedBefore(p tuning.Planned, way direction) uint64 {
	c, _ := tuning.Was[ChannelCounts](p, "channels")
	return c.queues(way)
}

// queues are those of a direction.
func (c ChannelCounts) queues(way direction) (n uint64) {
	alone := c.RX
	if way == sending {
		alone = c.TX
	}
	for _, count := range []*uint32{alone, c.Combined} {
		if count != nil {
			n += uint64(*count)
		}
	}
	return n
}

// upcoming are the queues of a direction that there will be when the plan was
// carried out up to here, with the state of those among them that are there now.
func upcoming(ctx context.Context, ask tuning.Ask, way direction, current QueueFiles) (state QueueFiles, names []string, err error) {
	state = maps.Clone(current)
	n, planned := plannedQueues(ask.Planned, way)
	if !planned {
		names, err = queues(ctx, ask.Reader, ask.NIC, way)
		return state, names, err
	}
	for i := range n {
		names = append(names, string(way)+strconv.FormatUint(i, 10))
	}
	maps.DeleteFunc(state, func(file, _ string) bool {
		queue, _, _ := strings.Cut(file, "/")
		return !slices.Contains(names, queue)
	})
	return state, names, nil
}

// queues are a NIC's queues of a direction in their order.
func queues(ctx context.Context, r kernel.Reader, nic inventory.NIC, way direction) ([]string, error) {
	names, err := r.ReadDir(ctx, netFile(nic, "queues"))
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, string(way)) })
	return queueOrder(names, func(name string) string { return strings.TrimPrefix(name, string(way)) }), nil
}

// queueOrder sorts by number: tx-2 comes before tx-10.
func queueOrder(names []string, number func(string) string) []string {
	slices.SortStableFunc(names, func(a, b string) int {
		m, _ := strconv.Atoi(number(a))
		n, _ := strconv.Atoi(number(b))
		return m - n
	})
	return names
}

// readQueueFiles reads some files of each queue of a direction.
func readQueueFiles(ctx context.Context, r kernel.Reader, nic inventory.NIC, way direction, files ...string) (QueueFiles, error) {
	names, err := queues(ctx, r, nic, way)
	if err != nil {
		return nil, err
	}
	state := QueueFiles{}
	for _, queue := range names {
		for _, file := range files {
			path := netFile(nic, "queues/"+queue+"/"+file)
			b, err := r.ReadFile(ctx, path)
			if err != nil {
				return nil, err
			}
			value := strings.TrimSpace(string(b))
			if file != rpsFlowCnt {
				cpus, err := inventory.ParseCPUMask(value)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", path, err)
				}
				value = listOrNone(cpus)
			}
			state[queue+"/"+file] = value
		}
	}
	return state, nil
}

func listOrNone(cpus inventory.CPUSet) string {
	if cpus.Len() == 0 {
		return noCPUs
	}
	return cpus.String()
}

// writeQueueFiles writes the files that are to change.
func writeQueueFiles(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next QueueFiles) error {
	for _, file := range slices.Sorted(maps.Keys(next)) {
		value := next[file]
		if was, ok := current[file]; !ok || was == value {
			continue
		}
		if !strings.HasSuffix(file, "/"+rpsFlowCnt) {
			if value == noCPUs {
				value = ""
			}
			cpus, err := inventory.ParseCPUSet(value)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			value = formatMask(cpus)
		}
		if err := w.WriteFile(ctx, netFile(nic, "queues/"+file), []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

// steer gives each of the queues its CPUs.
func steer(ctx context.Context, ask tuning.Ask, state QueueFiles, names []string, file string, cpus, how *string) error {
	if cpus == nil {
		if how != nil {
			return errors.New("spread: say over which cpus")
		}
		return nil
	}
	sets := make([]inventory.CPUSet, len(names))
	if *cpus != noCPUs {
		over, err := onlineCPUs(ctx, ask.Reader, ask.NIC, *cpus)
		if err != nil {
			return err
		}
		sets = spread(over, len(names), how)
	}
	for i, name := range names {
		state[name+"/"+file] = listOrNone(sets[i])
	}
	return nil
}
