package settings

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Words that name CPUs in a policy.
const (
	allCPUs          = "all"
	localCPUs        = "local-cpus"
	housekeepingCPUs = "housekeeping-cpus"
	noCPUs           = "none"
)

// How work is spread over CPUs.
const (
	spreadAll      = "all"
	spreadOneToOne = "one-to-one"
)

// onlineCPUs resolves what a policy says of CPUs: a list, a word, or several of
// them between "&", which is the CPUs that are in each.
func onlineCPUs(ctx context.Context, r kernel.Reader, nic inventory.NIC, text string) (inventory.CPUSet, error) {
	facts, err := inventory.ReadCPUs(ctx, r)
	if err != nil {
		return inventory.CPUSet{}, err
	}
	return resolveCPUs(facts, nic.NUMA, text)
}

func resolveCPUs(facts inventory.CPUs, numa *inventory.NUMA, text string) (inventory.CPUSet, error) {
	var none inventory.CPUSet
	online, err := inventory.ParseCPUSet(facts.Online)
	if err != nil {
		return none, err
	}
	cpus := online
	for part := range strings.SplitSeq(text, "&") {
		var set inventory.CPUSet
		switch part = strings.TrimSpace(part); part {
		case "":
			return none, fmt.Errorf("cpus %q: a name or a list is missing", text)
		case allCPUs:
			set = online
		case localCPUs:
			if set, err = facts.Local(numa); err != nil {
				err = fmt.Errorf("cpus %s: %w", localCPUs, err)
			}
		case housekeepingCPUs:
			set, err = facts.Housekeeping()
		default:
			if strings.Trim(part, "0123456789,-:/ ") != "" {
				return none, fmt.Errorf("cpus %q is neither a list of CPUs as in 0-3,8 nor one of %s, %s, %s", part, allCPUs, localCPUs, housekeepingCPUs)
			}
			set, err = inventory.ParseCPUSet(part)
			if offline := set.Minus(online); err == nil && offline.Len() > 0 {
				err = fmt.Errorf("cpus %s: %s are not online, only %s are", part, offline, online)
			}
		}
		if err != nil {
			return none, err
		}
		cpus = cpus.Intersect(set)
	}
	if cpus.Len() == 0 {
		return none, fmt.Errorf("cpus %s: there is no such CPU", text)
	}
	return cpus, nil
}

// spread gives each of n queues or interrupts its CPUs: all of them, or one each
// in turn.
func spread(cpus inventory.CPUSet, n int, how *string) []inventory.CPUSet {
	sets := make([]inventory.CPUSet, n)
	list := slices.Collect(cpus.All())
	for i := range sets {
		sets[i] = cpus
		if how != nil && *how == spreadOneToOne {
			sets[i] = inventory.NewCPUSet(list[i%len(list)])
		}
	}
	return sets
}

// formatMask writes a CPU mask as the kernel reads it.
func formatMask(cpus inventory.CPUSet) string {
	groups := []uint32{0}
	for cpu := range cpus.All() {
		for len(groups) <= cpu/32 {
			groups = append(groups, 0)
		}
		groups[cpu/32] |= 1 << (cpu % 32)
	}
	var b strings.Builder
	for i, bits := range slices.Backward(groups) {
		if i == len(groups)-1 {
			fmt.Fprintf(&b, "%x", bits)
		} else {
			fmt.Fprintf(&b, ",%08x", bits)
		}
	}
	return b.String()
}
