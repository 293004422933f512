package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// queueRules judge what a NIC's queues count and how they are set up.
func queueRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "queues/receive-drops", Severity: findings.Critical,
			Title:   "received packets are lost before the kernel has them",
			Why:     "A ring without a free buffer means that its CPU does not empty it in time; packet memory that is full means that the rings, PCIe or the device are too slow. TCP answers with retransmissions and a smaller window, UDP with holes. Without --watch a device fails that has lost more than 1 of 10000 packets, and 100 at least, since its driver was loaded.",
			Remedy:  "Find the CPU that serves the queue (nictune check queues --watch 10s shows both), spread the work over more queues and CPUs (channels, rss, irq), enlarge the ring, and moderate interrupts less (coalesce).",
			Sources: []string{"docs/counters.md: the drivers' own names", "Documentation/networking/statistics.rst: rx_missed_errors"},
		}, Judge: receiveDrops},
		{About: findings.About{
			ID: "queues/transmit-drops", Severity: findings.Critical,
			Title:   "packets that were handed to the NIC are not sent",
			Why:     "The driver or the device threw away what the stack had queued: a ring that is full although the stack was told to stop, a frame that the device refuses, a link that was down. Without --watch a device fails that has lost more than 1 of 10000 packets, and 100 at least. Where the driver has no counter of its own this goes by tx_dropped, in which the kernel's stack counts what it dropped itself, too.",
			Remedy:  "Look at the counter's name and its driver's documentation; enlarge the transmit ring where it is full (rings: {tx: ...}).",
			Sources: []string{"docs/counters.md: the drivers' own names"},
		}, Judge: transmitDrops},
		{About: findings.About{
			ID: "queues/no-memory", Severity: findings.Warning,
			Title:   "the kernel has no memory for receive buffers",
			Why:     "A ring that cannot be refilled runs empty, and then packets are lost, although neither the CPU nor the device is too slow. Interrupts may not wait for memory, so that they fail first when it is short. It needs --watch where it ever happened: drivers count attempts, not packets.",
			Remedy:  "Give the kernel a larger reserve (sysctl vm.min_free_kbytes), smaller rings or a smaller MTU.",
			Sources: []string{"docs/counters.md: the drivers' own names", "Documentation/admin-guide/sysctl/vm.rst: min_free_kbytes"},
		}, Judge: noMemory},
		{About: findings.About{
			ID: "queues/allowance", Severity: findings.Warning,
			Title:   "the cloud's limits hold packets back",
			Why:     "The instance has more to send or receive, in bandwidth, packets or tracked connections, than its size was sold with. The provider queues such packets or drops them; nothing on the host changes that.",
			Remedy:  "Use a larger instance, or send less: larger packets, fewer connections.",
			Sources: []string{"docs/counters.md: ena", "Documentation/networking/device_drivers/ethernet/amazon/ena.rst"},
		}, Judge: allowance},
		{About: findings.About{
			ID: "queues/pci-stall", Severity: findings.Warning,
			Title:   "PCIe does not take what the device has",
			Why:     "The device waits for the host: for credits on a link that is too narrow, for memory on another NUMA node, or for an IOMMU. Its own packet memory fills meanwhile and overflows at the next burst. It needs --watch where it ever happened: mlx5 counts the seconds that were stalled for 30 % or more, not packets.",
			Remedy:  "See nictune check pcie. Keep memory and CPUs on the device's node; consider iommu=pt and relaxed ordering.",
			Sources: []string{"docs/counters.md: mlx5_core", "Documentation/networking/device_drivers/ethernet/mellanox/mlx5/counters.rst"},
		}, Judge: pciStall},
		{About: findings.About{
			ID: "queues/imbalance", Severity: findings.Warning,
			Title:   "one receive queue gets most of the packets",
			Why:     "A queue is served by one CPU, so that the busiest queue is the NIC's limit. It fails where one of n queues has 4/n of all packets or more, and with few queues, where it is halfway between its share and everything: 75 % with two, 63 % with four. It needs --watch, and 10000 packets a second on the busiest queue: a CPU has no trouble with fewer.",
			Remedy:  "Hash what tells the flows apart (hash-fields: ports for UDP, rss: all queues in the table). A single flow, or a tunnel whose ports never change, can't be spread by RSS: use RPS there.",
			Sources: []string{"Documentation/networking/scaling.rst: RSS"},
		}, Judge: imbalance},
		{About: findings.About{
			ID: "queues/irq-storm", Severity: findings.Warning,
			Title:   "an interrupt fires too often",
			Why:     "Above 100000 interrupts a second a CPU does little but enter and leave the kernel. Above 10000 with hardly a packet to show for them, the device or its driver is at fault. It needs --watch.",
			Remedy:  "Moderate interrupts (coalesce: rx-usecs, adaptive-rx), or look for a device that is stuck: dmesg, and firmware.",
			Sources: []string{"Documentation/networking/napi.rst: interrupt mitigation", "/proc/interrupts"},
		}, Judge: irqStorm},
		{About: findings.About{
			ID: "queues/irqs-one-cpu", Severity: findings.Warning,
			Title:   "all queues of the NIC interrupt the same CPU",
			Why:     "Several queues are there to use several CPUs. With all interrupts on one, it is one queue again, with more overhead; the CPU saturates while the others idle.",
			Remedy:  "Spread them: irq: {spread: one-to-one, over: local-cpus}, or start irqbalance.",
			Sources: []string{"Documentation/networking/scaling.rst: RSS IRQ configuration", "/proc/irq/*/effective_affinity_list"},
		}, Judge: irqsOneCPU},
		{About: findings.About{
			ID: "queues/rps", Severity: findings.Warning,
			Title:   "RPS or RFS works against the host's setup",
			Why:     "RPS towards CPUs that are isolated disturbs what they were isolated for, and towards CPUs that are offline does nothing. Where the NIC has a queue for each CPU, RPS only costs an interrupt between CPUs for each packet. RFS follows no flow while net.core.rps_sock_flow_entries is 0.",
			Remedy:  "Use rps: {cpus: none} where there are queues for all CPUs, else rps: {cpus: housekeeping-cpus}; set sysctl: rps-sock-flow-entries together with rps: flow-cnt.",
			Sources: []string{"Documentation/networking/scaling.rst: RPS, RFS"},
		}, Judge: rps},
		{About: findings.About{
			ID: "queues/xps", Severity: findings.Info,
			Title:   "some CPUs have no transmit queue of their own",
			Why:     "XPS names the CPUs of some queues, and not all CPUs are among them. Those that are not choose a queue by a hash over all, which takes the queues' owners the locks and cache lines that XPS was to keep to them.",
			Remedy:  "Name each CPU at some queue: xps: {cpus: all, spread: one-to-one}.",
			Sources: []string{"Documentation/networking/scaling.rst: XPS", "net/core/dev.c: netdev_pick_tx"},
		}, Judge: xps},
		{About: findings.About{
			ID: "queues/small-ring", Severity: findings.Info,
			Title:   "the receive ring holds less than 50 µs at line rate",
			Why:     "Ring entries divided by packets per second at line rate is how long nobody may look. The shorter counts of: one queue that gets all packets of full size (MTU and 38 bytes around each), and all queues that share packets of 64 bytes (84 on the wire). 50 µs pass easily in another device's interrupt or while a CPU wakes up.",
			Remedy:  "Enlarge it (rings: {rx: max}), at the price of memory and cache; or use more queues.",
			Sources: []string{"IEEE 802.3, clause 4: preamble, inter-frame gap", "ethtool(8): -G"},
		}, Judge: smallRing},
		{About: findings.About{
			ID: "queues/late-interrupt", Severity: findings.Warning,
			Title:   "the receive ring can be full before the interrupt comes",
			Why:     "rx-usecs is how long the device waits before it interrupts. At line rate that must be less than half of the time in which the ring fills (entries divided by packets per second, see queues/small-ring): the CPU needs the other half.",
			Remedy:  "Use a smaller rx-usecs (coalesce: {rx-usecs: ...}), or larger rings (rings: {rx: max}).",
			Sources: []string{"ethtool(8): -C", "Documentation/networking/napi.rst: interrupt mitigation"},
		}, Judge: lateInterrupt},
		{About: findings.About{
			ID: "queues/backlog", Severity: findings.Info,
			Title:   "a full ring does not fit into the backlog that RPS hands it to",
			Why:     "RPS empties a ring into a queue of net.core.netdev_max_backlog packets for another CPU. Where that is smaller than the ring, a burst that the ring has held is lost there, and the NIC's counters show nothing.",
			Remedy:  "Make it as large as the largest ring: sysctl: {netdev-max-backlog: ...}.",
			Sources: []string{"Documentation/admin-guide/sysctl/net.rst: netdev_max_backlog", "net/core/dev.c: enqueue_to_backlog"},
		}, Judge: backlog},
	}
}

// traffic is what the NIC's queues counted.
func (n nic) traffic() inventory.NICTraffic {
	if t := n.evidence.Counted.Traffic; t != nil {
		return t.NICs[n.ID()]
	}
	return inventory.NICTraffic{}
}

// earlierTraffic is that of the earlier look, with the seconds since then.
func (n nic) earlierTraffic() (t inventory.NICTraffic, seconds float64) {
	e := n.evidence
	if e.Earlier == nil || e.Earlier.Counted.Traffic == nil {
		return t, 0
	}
	return e.Earlier.Counted.Traffic.NICs[n.ID()], e.Counted.At.Sub(e.Earlier.Counted.At).Seconds()
}

// loss is a counter of lost packets by the name under which people find it.
type loss struct {
	name string
	// Queue is the queue's number, -1 for one of the whole device.
	Queue int
	count
}

// losses are the driver's counters of these meanings, in its order, and with them
// netdev genl's of overruns or memory where they mean the same.
func (n nic) losses(direction string, meanings ...inventory.Meaning) []loss {
	now := n.traffic()
	before, seconds := n.earlierTraffic()
	var all []loss
	add := func(name string, queue int, v uint64, earlier *uint64) {
		l := loss{name, queue, count{Known: true, Total: v}}
		if earlier != nil && *earlier <= v && seconds > 0 {
			l.Watched, l.More = true, v-*earlier
			l.Interval = n.evidence.Counted.At.Sub(n.evidence.Earlier.Counted.At)
		}
		all = append(all, l)
	}
	for i, m := range now.Driver {
		if m.Direction != direction || !slices.Contains(meanings, m.Meaning) {
			continue
		}
		var earlier *uint64
		// The driver's order stays as long as its queues do.
		if i < len(before.Driver) && before.Driver[i].Name == m.Name && before.Driver[i].Queue == m.Queue {
			earlier = &before.Driver[i].Value
		}
		name := strings.TrimSpace(m.Name)
		if m.Queue >= 0 && !strings.ContainsAny(name, "0123456789") {
			name = fmt.Sprintf("%s of queue %d", name, m.Queue)
		}
		add(name, m.Queue, m.Value, earlier)
	}
	for _, q := range now.Queues {
		value := func(q *inventory.QueueStats) *uint64 {
			switch {
			case slices.Contains(meanings, inventory.NoBuffer):
				return q.Overruns
			case slices.Contains(meanings, inventory.NoMemory):
				return q.AllocFail
			}
			return nil
		}
		if q.Direction != direction || value(&q) == nil {
			continue
		}
		var earlier *uint64
		if i := slices.IndexFunc(before.Queues, func(b inventory.QueueStats) bool { return b.Direction == q.Direction && b.ID == q.ID }); i >= 0 {
			earlier = value(&before.Queues[i])
		}
		what := map[bool]string{true: "overruns", false: "alloc-fail"}[slices.Contains(meanings, inventory.NoBuffer)]
		add(fmt.Sprintf("%s-%d %s", direction, q.ID, what), int(q.ID), *value(&q), earlier)
	}
	return all
}

// tolerated is the share of packets that may have been lost since a driver was
// loaded, and fewLosses how many may have been whatever the share: less tells nothing
// of today.
const (
	tolerated = 1e-4
	fewLosses = 100
)

// standstill is the verdict on counters of which each ought to stand still, where
// they were watched or stand at zero. Where neither is so, stood says where they stand.
func (n nic) standstill(lost []loss) (v findings.Verdict, stood string) {
	var more, some []string
	watched := true
	for _, l := range lost {
		watched = watched && l.Watched
		if l.Watched && l.More > 0 {
			more = append(more, fmt.Sprintf("%s %d more in %s", l.name, l.More, n.evidence.Watched()))
		}
		if l.Total > 0 {
			some = append(some, fmt.Sprintf("%s %d", l.name, l.Total))
		}
	}
	switch {
	case len(more) > 0:
		return findings.Fails(few(more), "none"), ""
	case watched:
		return findings.Passes("none in %s", n.evidence.Watched()), ""
	case len(some) == 0:
		return findings.Passes("none since the driver was loaded (%s)", names(lost)), ""
	}
	return v, few(some) + " since the driver was loaded"
}

// judgeLosses is the verdict on counters of lost packets. packets are the standard
// counter to compare with.
func (n nic) judgeLosses(lost []loss, packets string) findings.Verdict {
	v, stood := n.standstill(lost)
	if stood == "" {
		return v
	}
	base := n.count(packets)
	if !base.Known || base.Total == 0 {
		return findings.Unclear("%s, and no packets to compare with; --watch tells whether it goes on", stood)
	}
	seen := fmt.Sprintf("%s, beside %d packets", stood, base.Total)
	if slices.ContainsFunc(lost, func(l loss) bool { return l.Total >= fewLosses && float64(l.Total) > tolerated*float64(base.Total) }) {
		return findings.Fails(seen, "1 of 10000 at most").To("Find out whether it goes on: nictune check queues --watch 10s.")
	}
	return findings.Passes("%s; --watch tells whether it goes on", seen)
}

// judgeEvents is the verdict on counters of something else than packets: how much of
// it is too much can only be told of a time.
func (n nic) judgeEvents(lost []loss) findings.Verdict {
	v, stood := n.standstill(lost)
	if stood != "" {
		return findings.Unclear("%s; --watch tells whether it goes on", stood)
	}
	return v
}

// names are those of the counters that were looked at.
func names(lost []loss) string {
	var all []string
	for _, l := range lost {
		all = append(all, l.name)
	}
	return few(all)
}

// few is a list that people can read: no more than four of it.
func few(list []string) string {
	const most = 4
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

// unaccounted is the verdict on a NIC whose driver has no such counter.
func (n nic) unaccounted(what string) findings.Verdict {
	switch {
	case n.Driver == nil:
		return findings.Unread(n.Unread, "driver")
	case len(n.traffic().Driver) == 0:
		if v := findings.Unread(n.Unread, "counters/driver"); v.Status == findings.Error || n.known() {
			return v
		}
		return findings.Unclear("what %s calls its own counters is not known", n.Driver.Name)
	default:
		return findings.Unclear("%s does not count %s", n.Driver.Name, what)
	}
}

// known reports whether the driver's own counters are in the table.
func (n nic) known() bool {
	return slices.ContainsFunc(inventory.KnownCounters(), func(d inventory.DriverCounters) bool { return d.Driver == n.Driver.Name })
}

func (n nic) hardware() bool { return n.Function != inventory.Virtual }

func receiveDrops(n nic) findings.Verdict {
	if !n.hardware() {
		return findings.Inapplicable("a software device has no ring")
	}
	if n.Link.Admin == "down" {
		return findings.Inapplicable("the device is set down")
	}
	lost := n.losses("rx", inventory.NoBuffer, inventory.Missed)
	if len(lost) == 0 { // the standard counter that most drivers sum them up in
		const standard = "ip/rx_missed_errors"
		c := n.count(standard)
		if !c.Known {
			return n.uncounted(standard)
		}
		lost = []loss{{"rx_missed_errors", -1, c}}
	}
	v := n.judgeLosses(lost, "ip/rx_packets")
	if ring := n.rxRing(); v.Status == findings.Fail && ring != nil && ring.Current < ring.Maximum {
		v.Remedy = strings.TrimSpace(fmt.Sprintf("%s The ring has %d of %d entries: rings: {rx: max}. Spread the load over more queues and CPUs (channels, rss, irq).", v.Remedy, ring.Current, ring.Maximum))
	}
	return v
}

func transmitDrops(n nic) findings.Verdict {
	if !n.hardware() {
		return findings.Inapplicable("a software device has no ring")
	}
	if n.Link.Admin == "down" {
		return findings.Inapplicable("the device is set down")
	}
	lost := n.losses("tx", inventory.TransmitDropped)
	if len(lost) == 0 {
		const standard = "ip/tx_dropped"
		c := n.count(standard)
		if !c.Known {
			return n.uncounted(standard)
		}
		lost = []loss{{"tx_dropped (the stack's own among them)", -1, c}}
	}
	return n.judgeLosses(lost, "ip/tx_packets")
}

func noMemory(n nic) findings.Verdict {
	return n.judgeSome(n.losses("rx", inventory.NoMemory), "buffers that it got no memory for", n.judgeEvents)
}

func pciStall(n nic) findings.Verdict {
	var lost []loss
	for _, m := range []inventory.Meaning{inventory.PCIStall, inventory.PCIStallSeconds} {
		lost = slices.Concat(lost, n.losses("rx", m), n.losses("tx", m))
	}
	return n.judgeSome(lost, "PCIe stalls", n.judgeEvents)
}

func allowance(n nic) findings.Verdict {
	if n.hardware() && n.Driver != nil && n.Driver.Name != "ena" {
		return findings.Inapplicable("no cloud limits %s in a way that it counts", n.Driver.Name)
	}
	lost := append(n.losses("rx", inventory.Allowance), n.losses("tx", inventory.Allowance)...)
	return n.judgeSome(lost, "what its limits hold back", func(lost []loss) findings.Verdict { return n.judgeLosses(lost, "ip/rx_packets") })
}

// judgeSome judges counters that not every driver has.
func (n nic) judgeSome(lost []loss, what string, judge func([]loss) findings.Verdict) findings.Verdict {
	switch {
	case !n.hardware():
		return findings.Inapplicable("a software device")
	case len(lost) == 0:
		return n.unaccounted(what)
	}
	return judge(lost)
}

// load is how many packets each queue of a direction had: while it was watched, or
// in all.
type load struct {
	packets map[int]uint64
	watched bool
}

func (l load) sum() (total uint64) {
	for _, v := range l.packets {
		total += v
	}
	return total
}

// queueLoad is nil where nothing counts a queue's packets. Netdev genl's counts go
// before the driver's own.
func (n nic) queueLoad(direction string) *load {
	count := func(t inventory.NICTraffic) map[int]uint64 {
		packets := map[int]uint64{}
		for _, q := range t.Queues {
			if q.Direction == direction && q.Packets != nil {
				packets[int(q.ID)] = *q.Packets
			}
		}
		if len(packets) == 0 {
			for _, m := range t.Driver {
				if m.Direction == direction && m.Meaning == inventory.QueuePackets {
					packets[m.Queue] += m.Value
				}
			}
		}
		// mlx5 goes on to show queues that it once had.
		if used := n.rxQueues(); direction == "rx" && used > 0 {
			maps.DeleteFunc(packets, func(queue int, _ uint64) bool { return queue >= used })
		}
		return packets
	}
	now := count(n.traffic())
	if len(now) == 0 {
		return nil
	}
	earlier, seconds := n.earlierTraffic()
	before := count(earlier)
	if seconds <= 0 || len(before) != len(now) {
		return &load{packets: now}
	}
	more := make(map[int]uint64, len(now))
	for queue, v := range now {
		was, ok := before[queue]
		if !ok || was > v {
			return &load{packets: now} // the queues are others, or began anew
		}
		more[queue] = v - was
	}
	return &load{packets: more, watched: true}
}

// enoughPackets is how many packets tell something of how they are spread, busyQueue
// how many a second it takes for that to matter: a CPU receives some 100 times as many.
const (
	enoughPackets = 1000
	busyQueue     = 10000
)

func imbalance(n nic) findings.Verdict {
	if !n.hardware() {
		return findings.Inapplicable("a software device spreads nothing by itself")
	}
	if queues := n.rxQueues(); queues == 1 {
		return findings.Inapplicable("one receive queue")
	}
	l := n.queueLoad("rx")
	if l == nil {
		return n.unaccounted("packets per queue")
	}
	queues, sum := len(l.packets), l.sum()
	if queues < 2 {
		return findings.Inapplicable("one receive queue")
	}
	if !l.watched {
		return findings.Unclear("how packets are spread is told by --watch under load: since the driver was loaded there was much that RSS does not spread")
	}
	watched := n.evidence.Watched()
	if sum < enoughPackets {
		return findings.Unclear("%d packets in %s are too few to tell: use --watch under load", sum, watched)
	}
	busiest, most := 0, uint64(0)
	for _, queue := range slices.Sorted(maps.Keys(l.packets)) {
		if v := l.packets[queue]; v > most {
			busiest, most = queue, v
		}
	}
	share := float64(most) / float64(sum)
	seen := fmt.Sprintf("rx-%d got %.0f %% of %d packets on %d queues in %s", busiest, 100*share, sum, queues, watched)
	limit := unfairShare(queues)
	_, seconds := n.earlierTraffic()
	rate := float64(most) / seconds
	switch {
	case share < limit:
		return findings.Passes("%s", seen)
	case rate < busyQueue:
		return findings.Unclear("%s, but only %.0f a second: use --watch under load", seen, rate)
	}
	v := findings.Fails(seen, fmt.Sprintf("less than %.0f %%", 100*limit))
	if rss := n.Queues.RSS; rss != nil && len(rss.Table) > 0 {
		used := map[uint32]bool{}
		for _, queue := range rss.Table {
			used[queue] = true
		}
		if len(used) < queues {
			return v.To("The RSS table sends packets to %d of %d queues: rss: {equal: %d}, unless somebody wants it so.", len(used), queues, queues)
		}
	}
	return v
}

// unfairShare is the share of all packets at which one of so many queues has too
// much: four times its due, or where that is more than is halfway to everything,
// just that.
func unfairShare(queues int) float64 {
	fair := 1 / float64(queues)
	return min(4*fair, (1+fair)/2)
}

// rxQueues is how many receive queues are in use, 0 where that is not known.
func (n nic) rxQueues() int {
	total := 0
	if c := n.Queues.Channels; c != nil {
		for _, count := range []*inventory.ChannelCount{c.Combined, c.RX} {
			if count != nil {
				total += int(count.Current)
			}
		}
		return total
	}
	if n.Queues.RX != nil {
		total = *n.Queues.RX
	}
	return total
}

func irqStorm(n nic) findings.Verdict {
	const tooMany, suspicious = 100000, 10000
	if len(n.IRQs) == 0 {
		return findings.Inapplicable("no interrupts of its own are known")
	}
	now := n.evidence.Counted.Traffic
	_, seconds := n.earlierTraffic()
	switch {
	case now == nil || now.Interrupts.Counts == nil:
		return n.evidence.unreadTraffic("interrupts")
	case seconds <= 0:
		return findings.Unclear("a rate needs two looks: --watch 10s")
	}
	received, sent := n.count("ip/rx_packets"), n.count("ip/tx_packets")
	packets, counted := received.More+sent.More, received.Watched && sent.Watched
	busiest, most, all, uncounted := "", 0.0, 0.0, 0
	before := n.evidence.Earlier.Counted.Traffic.Interrupts.Counts
	for _, irq := range n.IRQs {
		fired, ok := interruptsSince(n.evidence, irq.Number)
		switch {
		case !ok && now.Interrupts.Counts[irq.Number] == nil && before[irq.Number] == nil:
			continue // a spare one without a handler, which the kernel doesn't list
		case !ok:
			uncounted++
			continue
		}
		rate := float64(fired) / seconds
		all += rate
		if rate > most || busiest == "" {
			busiest, most = irqName(irq), rate
		}
	}
	seen := fmt.Sprintf("%s fired %.0f times a second", busiest, most)
	switch {
	case most > tooMany:
		return findings.Fails(seen, fmt.Sprintf("%d at most", tooMany))
	case counted && most > suspicious && all*seconds > 10*float64(packets):
		return findings.Fails(fmt.Sprintf("%s for %.0f packets a second", seen, float64(packets)/seconds), "at least one packet for ten interrupts")
	case uncounted > 0:
		return findings.Unclear("%d of %d interrupts can't be compared: CPUs or interrupts came or went meanwhile", uncounted, len(n.IRQs))
	case busiest == "":
		return findings.Unclear("/proc/interrupts lists none of %d interrupts", len(n.IRQs))
	}
	return findings.Passes("%s", seen)
}

func irqName(irq inventory.IRQ) string {
	if irq.Name != "" {
		return fmt.Sprintf("%s (IRQ %d)", irq.Name, irq.Number)
	}
	return fmt.Sprintf("IRQ %d", irq.Number)
}

// interruptsSince is how often an interrupt fired on all CPUs since the earlier look;
// ok is false where the two can't be compared. The counts have 32 bits and wrap.
func interruptsSince(e *Evidence, number int) (sum uint64, ok bool) {
	now, before := e.Counted.Traffic.Interrupts, e.Earlier.Counted.Traffic.Interrupts
	counts, was := now.Counts[number], before.Counts[number]
	if !slices.Equal(now.CPUs, before.CPUs) || len(counts) == 0 || len(counts) != len(was) {
		return 0, false
	}
	for i, v := range counts {
		sum += uint64(uint32(v) - uint32(was[i]))
	}
	return sum, true
}

func irqsOneCPU(n nic) findings.Verdict {
	queues := n.rxQueues()
	if !n.hardware() || queues == 1 {
		return findings.Inapplicable("one receive queue, or none")
	}
	// irqbalance and good manners keep interrupts off the others.
	cpus, err := n.evidence.Host.CPUs.Housekeeping()
	if err == nil && cpus.Len() == 1 {
		return findings.Inapplicable("CPU %s is the only one that is not isolated", cpus)
	}
	var used []inventory.CPUSet
	for _, irq := range n.IRQs {
		if irq.EffectiveAffinity == "" {
			continue
		}
		if set, err := inventory.ParseCPUSet(irq.EffectiveAffinity); err == nil {
			used = append(used, set)
		}
	}
	switch {
	case len(n.IRQs) == 0:
		return findings.Unread(n.Unread, "irqs")
	case len(used) == 0:
		return findings.Unread(n.Unread, "irqs.effectiveAffinity")
	case queues == 0:
		return findings.Unread(n.Unread, "queues.channels")
	case err != nil || cpus.Len() == 0:
		return findings.Unread(n.evidence.Unread, "cpus.online")
	case len(used) < 2:
		return findings.Inapplicable("one interrupt")
	}
	first := used[0]
	if first.Len() != 1 || slices.ContainsFunc(used, func(s inventory.CPUSet) bool { return s.String() != first.String() }) {
		return findings.Passes("%d interrupts on several CPUs", len(used))
	}
	return findings.Fails(fmt.Sprintf("%d interrupts of %d queues all go to CPU %s", len(used), queues, first), fmt.Sprintf("spread over some of the CPUs %s", cpus))
}

// steering is how the queues' packets are given to CPUs, and which CPUs there are; nil
// where one of them is not known, with the verdict that says so.
func (n nic) steering() (*inventory.Steering, inventory.CPUSet, findings.Verdict) {
	online, err := inventory.ParseCPUSet(n.evidence.Host.CPUs.Online)
	switch steering := n.traffic().Steering; {
	case steering == nil:
		return nil, online, findings.Unread(n.Unread, "steering")
	case err != nil || online.Len() == 0:
		return nil, online, findings.Unread(n.evidence.Unread, "cpus.online")
	default:
		return steering, online, findings.Verdict{}
	}
}

func rps(n nic) findings.Verdict {
	steering, online, missing := n.steering()
	if steering == nil {
		return missing
	}
	isolated, _ := inventory.ParseCPUSet(n.evidence.Host.CPUs.Isolated)
	on, flows := 0, uint64(0)
	for _, q := range steering.Receive {
		flows += q.Flows
		cpus, err := inventory.ParseCPUSet(q.CPUs)
		if err != nil || cpus.Len() == 0 {
			continue
		}
		on++
		if bad := cpus.Intersect(isolated); bad.Len() > 0 {
			return findings.Fails(fmt.Sprintf("rx-%d hands packets to the isolated CPUs %s", q.Queue, bad), "housekeeping CPUs only")
		}
		if cpus.Intersect(online).Len() == 0 {
			return findings.Fails(fmt.Sprintf("rx-%d hands packets to CPUs %s, all offline", q.Queue, q.CPUs), "online CPUs")
		}
	}
	entries, known := n.evidence.Counted.Traffic.Sysctls["core.rps_sock_flow_entries"]
	switch {
	case flows > 0 && known && entries == 0:
		return findings.Fails(fmt.Sprintf("the queues remember %d flows, net.core.rps_sock_flow_entries is 0", flows), "both, or neither")
	case on > 0 && n.hardware() && n.rxQueues() >= online.Len() && online.Len() > 1:
		return findings.Fails(fmt.Sprintf("RPS on %d queues of a NIC with %d for %d CPUs", on, n.rxQueues(), online.Len()), "RPS off")
	case on == 0:
		return findings.Passes("RPS is off")
	}
	return findings.Passes("RPS on %d of %d queues", on, len(steering.Receive))
}

func xps(n nic) findings.Verdict {
	steering, online, missing := n.steering()
	if steering == nil {
		return missing
	}
	rest, mapped := online, 0
	for _, q := range steering.Transmit {
		if cpus, err := inventory.ParseCPUSet(q.CPUs); err == nil && cpus.Len() > 0 {
			mapped++
			rest = rest.Minus(cpus)
		}
	}
	isolated, _ := inventory.ParseCPUSet(n.evidence.Host.CPUs.Isolated)
	rest = rest.Minus(isolated) // those that poll have queues of their own
	switch {
	case len(steering.Transmit) < 2:
		return findings.Inapplicable("one transmit queue")
	case mapped == 0:
		return findings.Passes("XPS is off")
	case rest.Len() > 0:
		return findings.Fails(fmt.Sprintf("CPUs %s are named at none of %d transmit queues", rest, len(steering.Transmit)), "each CPU at some queue, or none at any")
	}
	return findings.Passes("each CPU has its transmit queue")
}

func (n nic) rxRing() *inventory.RingSize {
	if n.Queues.Rings == nil {
		return nil
	}
	return n.Queues.Rings.RX
}

// ringTime is in how many microseconds the receive rings are full at line rate, the
// least of two extremes; ok is false where something is not known.
func (n nic) ringTime() (micros float64, how string, ok bool) {
	ring := n.rxRing()
	l := &n.Link
	if ring == nil || ring.Current == 0 || l.SpeedMbps == nil || *l.SpeedMbps <= 0 || l.MTU == nil || *l.MTU <= 0 {
		return 0, "", false
	}
	// Preamble 8, header 14, FCS 4, gap 12; the smallest frame has 64 with header
	// and FCS.
	const around, smallest = 38, 84
	bitsPerMicro := float64(*l.SpeedMbps)
	queues := max(n.rxQueues(), 1)
	one := float64(ring.Current) * float64(*l.MTU+around) * 8 / bitsPerMicro
	all := float64(ring.Current) * float64(queues) * smallest * 8 / bitsPerMicro
	if all < one {
		return all, fmt.Sprintf("%d queues of %d entries fill in %.0f µs with 64-byte packets at %d Mb/s", queues, ring.Current, all, *l.SpeedMbps), true
	}
	return one, fmt.Sprintf("a queue of %d entries fills in %.0f µs with full packets at %d Mb/s", ring.Current, one, *l.SpeedMbps), true
}

func (n nic) noRingTime() findings.Verdict {
	switch {
	case !n.hardware():
		return findings.Inapplicable("a software device has no ring")
	case n.rxRing() == nil:
		return findings.Unread(n.Unread, "queues.rings")
	case n.Link.Carrier == nil || !*n.Link.Carrier:
		return findings.Inapplicable("no carrier")
	}
	return findings.Unread(n.Unread, "link.speedMbps", "link.mtu")
}

func smallRing(n nic) findings.Verdict {
	const least = 50
	micros, how, ok := n.ringTime()
	ring := n.rxRing()
	switch {
	case !ok || !n.hardware():
		return n.noRingTime()
	case micros >= least:
		return findings.Passes("%s", how)
	case ring.Current >= ring.Maximum:
		return findings.Passes("%s, and the ring is as large as it can be", how)
	}
	return findings.Fails(how, fmt.Sprintf("%d µs; the ring can have %d entries", least, ring.Maximum))
}

func lateInterrupt(n nic) findings.Verdict {
	micros, how, ok := n.ringTime()
	c := n.Queues.Coalesce
	switch {
	case !ok || !n.hardware():
		return n.noRingTime()
	case c == nil:
		return findings.Unread(n.Unread, "queues.coalesce")
	}
	usecs, known := c.Values["rx-usecs"]
	what := "rx-usecs"
	if c.Flags["adaptive-rx"] {
		if usecs, known = c.Values["rx-usecs-high"]; !known || usecs == 0 {
			return findings.Inapplicable("adaptive-rx chooses the moment")
		}
		what = "rx-usecs-high"
	}
	switch {
	case !known:
		return findings.Unclear("this driver has no rx-usecs")
	case float64(usecs) > micros/2:
		return findings.Fails(fmt.Sprintf("%s is %d µs; %s", what, usecs, how), fmt.Sprintf("%.0f µs at most", micros/2))
	}
	return findings.Passes("%s is %d µs; %s", what, usecs, how)
}

func backlog(n nic) findings.Verdict {
	steering := n.traffic().Steering
	if steering == nil {
		return findings.Unread(n.Unread, "steering")
	}
	if !slices.ContainsFunc(steering.Receive, func(q inventory.ReceiveSteering) bool { return q.CPUs != "" }) {
		return findings.Inapplicable("RPS is off")
	}
	ring := n.rxRing()
	switch {
	case ring == nil && n.hardware():
		return findings.Unread(n.Unread, "queues.rings")
	case ring == nil:
		return findings.Inapplicable("a software device without a ring")
	}
	most, known := n.evidence.Counted.Traffic.Sysctls["core.netdev_max_backlog"]
	switch {
	case !known:
		return n.evidence.unreadTraffic("sysctls.core.netdev_max_backlog")
	case most < uint64(ring.Current):
		return findings.Fails(fmt.Sprintf("netdev_max_backlog %d, rings of %d entries", most, ring.Current), fmt.Sprintf("%d or more", ring.Current))
	}
	return findings.Passes("netdev_max_backlog %d, rings of %d entries", most, ring.Current)
}
