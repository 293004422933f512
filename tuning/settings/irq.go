package settings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// IRQAffinity has the CPUs that each interrupt vector of a NIC may fire on, as a
// list, by the vector's name in /proc/interrupts. Where irqbalance listens it also
// has, by that name and [byIrqbalance], whether that moves the interrupt: balanced
// or banned.
type IRQAffinity map[string]string

const (
	byIrqbalance = " irqbalance"
	balanced     = "balanced"
	banned       = "banned"
)

// IRQWish is what policies say.
type IRQWish struct {
	CPUs   *string `json:"cpus,omitempty" form:"CPUs" words:"all,local-cpus,housekeeping-cpus" doc:"the CPUs that the interrupts of the queues may fire on (smp_affinity_list)"`
	Spread *string `json:"spread,omitempty" words:"all,one-to-one" doc:"whether each interrupt gets all of the CPUs, as without this, or each queue one of them in turn"`
}

// IRQ is /proc/irq/*/smp_affinity_list of a NIC's queues.
func IRQ() tuning.Knob[IRQAffinity] {
	return tuning.Knob[IRQAffinity]{
		Name:   "irq",
		Doc:    "Which CPUs the interrupts of the queues fire on (/proc/irq/*/smp_affinity_list), and so which handle their packets. Interrupts that serve no queue stay as they are. A running irqbalance is asked to leave these interrupts alone, and gets them back with the undo; one that can't be asked is an error, because it would move them again.",
		Impact: func(inventory.NIC, IRQAffinity, IRQAffinity) tuning.Impact { return tuning.Seamless },
		Wish:   tuning.WishOf(resolveIRQ),
		After:  rebuildQueues,
		Keep:   keepIRQ,
		// What irqbalance moves is nobody's choice.
		Volatile: func(current IRQAffinity) []string {
			return slices.DeleteFunc(current.vectorNames(), func(name string) bool { return current[name+byIrqbalance] != balanced })
		},
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit IRQAffinity, err error) {
			vectors, err := readVectors(ctx, r, nic)
			if err != nil {
				return nil, nil, err
			}
			current = IRQAffinity{}
			for name, irq := range vectors {
				current[name] = irq.Affinity
			}
			left, err := leftAlone(ctx, r)
			if err != nil || left == nil {
				return current, IRQAffinity{}, err
			}
			for name, irq := range vectors {
				current[name+byIrqbalance] = balanced
				if slices.Contains(left, irq.Number) {
					current[name+byIrqbalance] = banned
				}
			}
			return current, IRQAffinity{}, nil
		},
		Write: writeIRQ,
	}
}

// leftAlone are the interrupts that irqbalance was told to leave alone. It is nil
// where none listens, where it does not tell us, or a recording does not.
func leftAlone(ctx context.Context, r kernel.Reader) ([]int, error) {
	left, err := inventory.ReadIrqbalance(ctx, r)
	switch reason := kernel.ReasonOf(err); {
	case reason == kernel.Unsupported, reason == kernel.Denied, errors.Is(err, kernel.ErrNotRecorded):
		return nil, nil
	}
	return left, err
}

// vectorNames are the names of the vectors, sorted.
func (a IRQAffinity) vectorNames() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(a)), func(name string) bool { return strings.HasSuffix(name, byIrqbalance) })
}

// readVectors are the vectors in use, by name.
func readVectors(ctx context.Context, r kernel.Reader, nic inventory.NIC) (map[string]inventory.IRQ, error) {
	irqs, err := inventory.ReadIRQs(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	vectors := map[string]inventory.IRQ{}
	for _, irq := range irqs {
		if irq.Affinity == "" {
			continue // nobody has asked for it
		}
		name := irq.Name
		if _, taken := vectors[name]; taken || name == "" {
			name = strings.TrimSpace(name + " #" + strconv.Itoa(irq.Number))
		}
		vectors[name] = irq
	}
	if len(vectors) == 0 {
		return nil, unsupported("the NIC has no interrupts of its own now; one that is down has none with most drivers")
	}
	return vectors, nil
}

// queueVector finds the number of the queue in a vector's name: "eth0-TxRx-3",
// "virtio2-input.1", "mlx5_comp4@pci:0000:03:00.0", "mlx4-1@pci:0000:03:00.0", be2net's
// "eth0-q0", xen-netfront's "eth0-q0-rx", "eth0-fp-0" of bnx2x and qede.
var queueVector = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)(?:tx|rx|input|output|comp|queue|[-_]q|-fp|^mlx4|ntfy-blk|ntfy-block\.)[-._]?([0-9]+)(?:-[rt]x)?(?:@.*)?$`)
})

// plainVector is one of a driver that says nothing but the number: "eth0-0" of bnx2 and
// sfc.
var plainVector = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[^-]+-([0-9]+)$`) })

// servingVectors groups vectors by the queue that they serve, in the order of queues: as
// the kernel tells it (netdev's NAPI_GET with irq and QUEUE_GET with napi-id, Linux 6.13,
// of drivers that link the two), or else by their names.
func servingVectors(ctx context.Context, ask tuning.Ask, names []string) ([][]string, error) {
	if len(names) == 1 {
		return byQueue(names)
	}
	napis, queues, err := inventory.ReadNAPI(ctx, ask.Reader, ask.NIC)
	if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
		return nil, err
	}
	if err == nil && len(queues) > 0 {
		vectors, err := readVectors(ctx, ask.Reader, ask.NIC)
		if err != nil {
			return nil, err
		}
		if told := byNAPI(vectors, napis, queues); told != nil {
			return told, nil
		}
	}
	return byQueue(names)
}

// byNAPI groups vectors by the queues that are polled at their word. It is nil where the
// kernel doesn't tell that of each queue.
func byNAPI(vectors map[string]inventory.IRQ, napis []inventory.NAPI, queues []inventory.Queue) [][]string {
	names, irqs := map[int]string{}, map[uint32]int{}
	for name, irq := range vectors {
		names[irq.Number] = name
	}
	for _, n := range napis {
		if n.IRQ != nil {
			irqs[n.ID] = *n.IRQ
		}
	}
	groups, taken := map[uint32][]string{}, map[string]bool{}
	queues = slices.SortedStableFunc(slices.Values(queues), func(a, b inventory.Queue) int { // rx before tx
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Direction, b.Direction))
	})
	for _, q := range queues {
		if q.NAPI == nil {
			return nil
		}
		irq, linked := irqs[*q.NAPI]
		name := names[irq]
		if !linked || name == "" {
			return nil
		}
		if !taken[name] { // one can serve several queues
			taken[name] = true
			groups[q.ID] = append(groups[q.ID], name)
		}
	}
	var ordered [][]string
	for _, id := range slices.Sorted(maps.Keys(groups)) {
		ordered = append(ordered, groups[id])
	}
	return ordered
}

// byQueue groups vectors by the queue that they serve, in the order of queues.
// A single vector serves them all.
func byQueue(names []string) ([][]string, error) {
	if len(names) == 1 {
		return [][]string{names}, nil
	}
	groups := map[int][]string{}
	for _, pattern := range []*regexp.Regexp{queueVector(), plainVector()} {
		for _, name := range names {
			if m := pattern.FindStringSubmatch(name); m != nil {
				queue, err := strconv.Atoi(m[1])
				if err != nil {
					return nil, fmt.Errorf("interrupt %s: %w", name, err)
				}
				groups[queue] = append(groups[queue], name)
			}
		}
		if len(groups) > 0 {
			break
		}
	}
	if len(groups) == 0 {
		return nil, unsupported("which of the interrupts serve queues can't be told from their names: " + strings.Join(names, ", "))
	}
	var ordered [][]string
	for _, queue := range slices.Sorted(maps.Keys(groups)) {
		ordered = append(ordered, groups[queue])
	}
	return ordered, nil
}

// keepIRQ keeps the CPUs of each vector, and of each queue also if its vector has
// another name then: where igb has no more vectors than queues it makes
// "eth1-TxRx-0" of "eth1-rx-0" and "eth1-tx-0", and the other way.
func keepIRQ(_ tuning.Ask, before IRQAffinity) (IRQAffinity, error) {
	kept := maps.Clone(before)
	for name, cpus := range before {
		m := igbVector().FindStringSubmatch(name)
		if m == nil || m[2] == "tx" {
			continue // its rx decides
		}
		for _, word := range []string{"TxRx", "rx", "tx"} {
			if other := m[1] + word + m[3]; before[other] == "" {
				kept[other] = cpus
			}
		}
	}
	return kept, nil
}

var igbVector = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(.*-)(TxRx|rx|tx)(-[0-9]+)$`)
})

func resolveIRQ(ctx context.Context, ask tuning.Ask, wish IRQWish, current IRQAffinity) (IRQAffinity, error) {
	if wish.CPUs == nil {
		return nil, errors.New("spread: say over which cpus")
	}
	cpus, err := onlineCPUs(ctx, ask.Reader, ask.NIC, *wish.CPUs)
	if err != nil {
		return nil, err
	}
	groups, err := servingVectors(ctx, ask, current.vectorNames())
	if err != nil {
		return nil, err
	}
	if rx, ok := plannedQueues(ask.Planned, receiving); ok {
		tx, _ := plannedQueues(ask.Planned, sending)
		groups = groups[:min(uint64(len(groups)), max(rx, tx))] // the others will be gone
	}
	next, asked := maps.Clone(current), false
	for i, set := range spread(cpus, len(groups), wish.Spread) {
		for _, name := range groups[i] {
			next[name] = set.String()
			if _, listens := current[name+byIrqbalance]; listens {
				next[name+byIrqbalance], asked = banned, true
			}
		}
	}
	if asked {
		return next, nil
	}
	_, unasked := inventory.ReadIrqbalance(ctx, ask.Reader) // why it could not be asked
	if kernel.ReasonOf(unasked) == kernel.Denied {
		ask.Doubt("irqbalance runs, and whether it leaves these interrupts alone only root can see")
		return next, nil
	}
	if maps.Equal(next, current) {
		return next, nil
	}
	managers, err := inventory.ReadManagers(ctx, ask.Reader)
	if err != nil {
		return nil, err
	}
	for _, m := range managers {
		if m.Name == "irqbalance" {
			return nil, fmt.Errorf("irqbalance (process %d) runs and would move the interrupts again, and it can't be asked to leave them alone: %w; "+
				"stop it, or leave them to it", m.PID, unasked)
		}
	}
	return next, nil
}

func writeIRQ(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next IRQAffinity) error {
	vectors, err := readVectors(ctx, w, nic)
	if err != nil {
		return err
	}
	// irqbalance lets go before an interrupt is moved, and gets it back after.
	var take, give []int
	for name, irq := range vectors {
		key := name + byIrqbalance
		was, listens := current[key]
		switch {
		case !listens || next[key] == was: // one that has ended forgot it all
		case next[key] == banned:
			take = append(take, irq.Number)
		case next[key] == balanced:
			give = append(give, irq.Number)
		}
	}
	if err := ban(ctx, w, take, nil); err != nil {
		return err
	}
	for _, name := range next.vectorNames() {
		if next[name] == current[name] {
			continue
		}
		irq, ok := vectors[name]
		if !ok {
			return fmt.Errorf("the interrupt %s is gone", name)
		}
		err := w.WriteFile(ctx, "/proc/irq/"+strconv.Itoa(irq.Number)+"/smp_affinity_list", []byte(next[name]))
		switch {
		case kernel.ReasonOf(err) == kernel.Failed: // EIO, then
			return fmt.Errorf("%s: %w: interrupts that the kernel manages itself can't be moved", name, err)
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return ban(ctx, w, nil, give)
}

// ban has irqbalance leave more interrupts alone, or some of them no longer; the
// others that it was told of stay as they are, but for those that are gone: the next
// interrupt of such a number is another's. It takes the whole list each time.
func ban(ctx context.Context, w kernel.Writer, take, give []int) error {
	if len(take)+len(give) == 0 {
		return nil
	}
	list, err := inventory.ReadIrqbalance(ctx, w)
	if err != nil {
		return err
	}
	there, err := w.ReadDir(ctx, "/proc/irq")
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(append(list, take...), func(irq int) bool {
		return slices.Contains(give, irq) || !slices.Contains(there, strconv.Itoa(irq))
	})
	slices.Sort(list)
	request := strings.Trim(fmt.Sprint(slices.Compact(list)), "[]")
	if len(list) == 0 {
		request = "NONE"
	}
	err = w.IrqbalanceSet(ctx, "settings ban irqs "+request)
	if errors.Is(err, kernel.ErrTooLong) {
		return fmt.Errorf("%d interrupts are more than it can be told of: start it with --banirq or --banmod, or stop it: %w", len(list), err)
	}
	return err
}
