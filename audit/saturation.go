package audit

import (
	"fmt"
	"slices"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// host is a host as the rules see it.
type host struct{ *Evidence }

// Subject is the host.
func (h host) Subject() findings.Subject { return findings.HostSubject(&h.Host) }

// both judges the host and then each NIC.
func both(ofHost func() []findings.Rule[host], ofNIC func() []findings.Rule[nic]) judge {
	return func(e *Evidence, with func([]findings.Finding)) {
		with(findings.Judge(ofHost(), host{e}))
		perNIC(ofNIC)(e, with)
	}
}

// saturationRules judge the CPUs that receive.
func saturationRules() []findings.Rule[host] {
	return []findings.Rule[host]{
		{About: findings.About{
			ID: "queues/softnet-drops", Severity: findings.Critical,
			Title:   "packets are lost between CPUs",
			Why:     "RPS, veth, tunnels and loopback hand packets to a CPU by way of a queue of net.core.netdev_max_backlog. Where that CPU is too slow it is full, and packets are lost without a trace in any NIC's counters. Without --watch it fails where more than 1 of 10000 packets was lost since the host started.",
			Remedy:  "Hand the packets to more CPUs (rps: {cpus: ...}, or RSS without RPS), and enlarge the queue for bursts: sysctl: {netdev-max-backlog: ...}.",
			Sources: []string{"net/core/dev.c: enqueue_to_backlog", "net/core/net-procfs.c: softnet_seq_show, second column of /proc/net/softnet_stat"},
		}, Judge: softnetDrops},
		{About: findings.About{
			ID: "queues/time-squeeze", Severity: findings.Warning,
			Title:   "receiving is interrupted with packets left over",
			Why:     "A CPU receives until net.core.netdev_budget packets or netdev_budget_usecs have gone, and is then made to leave what is left for later. Now and then that is as it should be; more than 10 times a second on one CPU, the work is more than the budget, and rings fill meanwhile.",
			Remedy:  "Spread the queues over more CPUs first; then raise sysctl: {netdev-budget: ..., netdev-budget-usecs: ...}.",
			Sources: []string{"net/core/dev.c: net_rx_action", "Documentation/admin-guide/sysctl/net.rst: netdev_budget", "third column of /proc/net/softnet_stat"},
		}, Judge: timeSqueeze},
		{About: findings.About{
			ID: "queues/softirq-saturated", Severity: findings.Warning,
			Title:   "a CPU does nothing but receive",
			Why:     "A CPU that spends more than 90 % of its time in interrupts has no reserve: the next burst is lost, while all counters of drops are still clean. This is the edge of the cliff. It needs --watch. Where NAPI is threaded or busy-polls, the time is a thread's and is not seen here.",
			Remedy:  "Move queues to other CPUs (irq: {spread: one-to-one}), add queues (channels), look for a single flow (nictune check queues --watch 10s shows each queue), and let the NIC do more (features: GRO, checksums).",
			Sources: []string{"proc_stat(5): irq, softirq", "Documentation/networking/scaling.rst: suggested configuration"},
		}, Judge: softirqSaturated},
	}
}

// unreadTraffic is the verdict where a fact of the host's traffic is missing.
func (e *Evidence) unreadTraffic(fact string) findings.Verdict {
	if e.Counted.Traffic == nil {
		return findings.Unclear("%s: not asked for", fact)
	}
	return findings.Unread(e.Counted.Traffic.Unread, fact)
}

// earlierTraffic is the earlier traffic and the seconds since then, nil where there
// was one look.
func (e *Evidence) earlierTraffic() (*inventory.Traffic, float64) {
	if e.Earlier == nil || e.Earlier.Counted.Traffic == nil || e.Counted.Traffic == nil {
		return nil, 0
	}
	return e.Earlier.Counted.Traffic, e.Counted.At.Sub(e.Earlier.Counted.At).Seconds()
}

// softnet is one CPU's softnet counts: since the earlier look, or since the host
// started.
func (e *Evidence) softnet() (stats []inventory.Softnet, watched bool) {
	if e.Counted.Traffic == nil {
		return nil, false
	}
	now := e.Counted.Traffic.Softnet
	earlier, seconds := e.earlierTraffic()
	if seconds <= 0 {
		return now, false
	}
	for _, s := range now {
		i := slices.IndexFunc(earlier.Softnet, func(b inventory.Softnet) bool { return b.CPU == s.CPU })
		if i < 0 {
			continue // it came online meanwhile
		}
		// The counters have 32 bits and wrap.
		more := func(now, before uint64) uint64 { return uint64(uint32(now) - uint32(before)) }
		b := earlier.Softnet[i]
		stats = append(stats, inventory.Softnet{
			CPU: s.CPU, Processed: more(s.Processed, b.Processed), Dropped: more(s.Dropped, b.Dropped),
			TimeSqueeze: more(s.TimeSqueeze, b.TimeSqueeze), ReceivedRPS: more(s.ReceivedRPS, b.ReceivedRPS),
			FlowLimit: more(s.FlowLimit, b.FlowLimit),
		})
	}
	return stats, true
}

// noSoftnet is the verdict without softnet's counts, which the facts have, too.
func (h host) noSoftnet() findings.Verdict {
	if v := findings.Unread(h.Unread, "softnet"); v.Status == findings.Error {
		return v
	}
	return h.unreadTraffic("softnet")
}

func softnetDrops(h host) findings.Verdict {
	stats, watched := h.softnet()
	if len(stats) == 0 {
		return h.noSoftnet()
	}
	var on []string
	var dropped, processed uint64
	for _, s := range stats {
		processed += s.Processed
		dropped += s.Dropped
		if s.Dropped > 0 {
			on = append(on, fmt.Sprintf("CPU %d: %d", s.CPU, s.Dropped))
		}
	}
	when := "since the host started"
	if watched {
		when = "in " + h.Watched().String()
	}
	switch {
	case dropped == 0:
		return findings.Passes("none of %d packets %s", processed, when)
	case !watched && float64(dropped) <= tolerated*float64(processed):
		return findings.Passes("%d lost beside %d packets %s (%s); --watch tells whether it goes on", dropped, processed, when, few(on))
	}
	v := findings.Fails(fmt.Sprintf("%d lost beside %d packets %s (%s)", dropped, processed, when, few(on)), "none")
	if most, known := h.Counted.Traffic.Sysctls["core.netdev_max_backlog"]; known {
		v = v.To("Hand the packets to more CPUs (rps: {cpus: ...}, or RSS without RPS); for bursts, raise netdev_max_backlog, which is %d: sysctl: {netdev-max-backlog: ...}.", most)
	}
	return v
}

func timeSqueeze(h host) findings.Verdict {
	const tooOften = 10
	stats, watched := h.softnet()
	if len(stats) == 0 {
		return h.noSoftnet()
	}
	since := h.Counted.Uptime
	if watched {
		since = h.Counted.At.Sub(h.Earlier.Counted.At)
	}
	if since <= 0 {
		return findings.Unclear("how long the host has been up is not known; --watch 10s tells")
	}
	worst := slices.MaxFunc(stats, func(a, b inventory.Softnet) int { return int(a.TimeSqueeze) - int(b.TimeSqueeze) })
	rate := float64(worst.TimeSqueeze) / since.Seconds()
	seen := fmt.Sprintf("CPU %d: %.1f times a second", worst.CPU, rate)
	if rate <= tooOften {
		return findings.Passes("%s", seen)
	}
	v := findings.Fails(seen, fmt.Sprintf("%d times a second at most", tooOften))
	budget, known := h.Counted.Traffic.Sysctls["core.netdev_budget"]
	micros, timed := h.Counted.Traffic.Sysctls["core.netdev_budget_usecs"]
	if known && timed {
		v = v.To("Spread the queues over more CPUs first; then raise netdev_budget, which is %d, and netdev_budget_usecs, which is %d.", budget, micros)
	}
	return v
}

// cpuLoad is how one CPU spent the time while it was watched, as shares of 1.
type cpuLoad struct {
	CPU        int
	Soft, Hard float64
	Idle       float64
	ticks      uint64
}

// cpuLoads are those of the CPUs that were online at both looks.
func (e *Evidence) cpuLoads() []cpuLoad {
	earlier, seconds := e.earlierTraffic()
	if seconds <= 0 {
		return nil
	}
	var loads []cpuLoad
	for _, c := range e.Counted.Traffic.CPUs {
		i := slices.IndexFunc(earlier.CPUs, func(b inventory.CPUTime) bool { return b.CPU == c.CPU })
		if i < 0 || earlier.CPUs[i].Total >= c.Total {
			continue
		}
		b := earlier.CPUs[i]
		total := c.Total - b.Total
		share := func(now, before uint64) float64 {
			if now <= before { // the kernel's sums may go back a little
				return 0
			}
			return min(float64(now-before)/float64(total), 1)
		}
		loads = append(loads, cpuLoad{CPU: c.CPU, Soft: share(c.SoftIRQ, b.SoftIRQ), Hard: share(c.IRQ, b.IRQ), Idle: share(c.Idle, b.Idle), ticks: total})
	}
	return loads
}

func softirqSaturated(h host) findings.Verdict {
	const saturated, enoughTicks = 0.9, 50
	if h.Counted.Traffic == nil || h.Counted.Traffic.CPUs == nil {
		return h.unreadTraffic("cpuTimes")
	}
	loads := h.cpuLoads()
	if len(loads) == 0 {
		return findings.Unclear("a load needs two looks: --watch 10s")
	}
	worst := slices.MaxFunc(loads, func(a, b cpuLoad) int {
		if a.Soft+a.Hard < b.Soft+b.Hard {
			return -1
		}
		return 1
	})
	if worst.ticks < enoughTicks {
		return findings.Unclear("%d ticks of a CPU's time are too few: watch for a second or longer", worst.ticks)
	}
	var full []string
	for _, l := range loads {
		if l.Soft+l.Hard >= saturated {
			full = append(full, fmt.Sprintf("CPU %d: %.0f %%%s", l.CPU, 100*(l.Soft+l.Hard), h.served(l.CPU)))
		}
	}
	if len(full) == 0 {
		return findings.Passes("CPU %d, the busiest, spent %.0f %% in interrupts", worst.CPU, 100*(worst.Soft+worst.Hard))
	}
	return findings.Fails(few(full), fmt.Sprintf("less than %.0f %% in interrupts", 100*saturated))
}

// served says which NICs interrupt a CPU, and whether they have lost anything yet.
func (e *Evidence) served(cpu int) string {
	var devices []string
	all := e.All()
	for i := range all {
		n := nic{NIC: &all[i], evidence: e}
		here := slices.ContainsFunc(n.IRQs, func(irq inventory.IRQ) bool {
			set, err := inventory.ParseCPUSet(irq.EffectiveAffinity)
			return err == nil && set.Intersect(inventory.NewCPUSet(cpu)).Len() > 0
		})
		if !here {
			continue
		}
		state := "its rings have lost nothing yet"
		if receiveDrops(n).Status == findings.Fail {
			state = "its rings lose packets"
		}
		devices = append(devices, n.Name+", "+state)
	}
	if len(devices) == 0 {
		return ""
	}
	return " (" + few(devices) + ")"
}
