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

// queues are a NIC's queues of a direction ("rx-", "tx-") in their order.
func queues(ctx context.Context, r kernel.Reader, nic inventory.NIC, direction string) ([]string, error) {
	names, err := r.ReadDir(ctx, netFile(nic, "queues"))
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, direction) })
	return queueOrder(names, func(name string) string { return strings.TrimPrefix(name, direction) }), nil
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
func readQueueFiles(ctx context.Context, r kernel.Reader, nic inventory.NIC, direction string, files ...string) (QueueFiles, error) {
	names, err := queues(ctx, r, nic, direction)
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
				cpus, err := parseMask(value)
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

// steer gives each queue that has such a file its CPUs.
func steer(
	ctx context.Context, r kernel.Reader, nic inventory.NIC, state QueueFiles, direction, file string, cpus, how *string,
) error {
	if cpus == nil {
		if how != nil {
			return errors.New("spread: say over which cpus")
		}
		return nil
	}
	names, err := queues(ctx, r, nic, direction)
	if err != nil {
		return err
	}
	sets := make([]inventory.CPUSet, len(names))
	if *cpus != noCPUs {
		over, err := onlineCPUs(ctx, r, nic, *cpus)
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
