package metrics

import (
	"strconv"

	"github.com/nictune/nictune/inventory"
)

// irq says where interrupts are served, in few numbers.
func irq() collector {
	return collector{
		name: "irq", doc: "where interrupts are served, in four numbers per device", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const source = "`nictune inventory`: /proc/irq/*/effective_affinity_list, or smp_affinity_list"
			device := []string{deviceLabel}
			define := func(name, unit, help string) *family {
				return c.add(Metric{Name: name, Type: gauge, Unit: unit, Labels: device, Help: help, Source: source, Series: perDevice + " that has interrupts"})
			}
			vectors := define("irq_vectors", "interrupts", "Interrupt vectors of the device.")
			cpus := define("irq_cpus", "CPUs", "CPUs that serve its interrupts.")
			busiest := define("irq_max_vectors_per_cpu", "interrupts", "The most of its interrupts that one CPU serves.")
			far := define("irq_remote_vectors", "interrupts", "Interrupts that no CPU local to the device serves. Absent where it isn't known which CPUs are.")
			return eachNIC(func(n *inventory.NIC) {
				if len(n.IRQs) == 0 {
					return
				}
				vectors.set(float64(len(n.IRQs)), n.Name)
				p := placementOf(n)
				if p.known == 0 {
					return
				}
				cpus.set(float64(p.cpus), n.Name)
				busiest.set(float64(p.busiest), n.Name)
				if p.local {
					far.set(float64(p.far), n.Name)
				}
			})
		},
	}
}

// placement is where a NIC's interrupts are served.
type placement struct {
	// known is of how many that is known.
	known, cpus, busiest, far int
	// local is whether it is known which CPUs are near.
	local bool
}

func placementOf(n *inventory.NIC) placement {
	var p placement
	var near inventory.CPUSet
	if n.NUMA != nil && n.NUMA.LocalCPUs != "" {
		var err error
		near, err = inventory.ParseCPUSet(n.NUMA.LocalCPUs)
		p.local = err == nil
	}
	load := map[int]int{}
	for i := range n.IRQs {
		set, err := inventory.ParseCPUSet(affinity(&n.IRQs[i]))
		if err != nil || set.Len() == 0 {
			continue
		}
		p.known++
		for cpu := range set.All() {
			load[cpu]++
			p.busiest = max(p.busiest, load[cpu])
		}
		if set.Intersect(near).Len() == 0 {
			p.far++
		}
	}
	p.cpus = len(load)
	return p
}

// affinity is where an interrupt is served: in force where the kernel tells, else as
// asked for.
func affinity(i *inventory.IRQ) string {
	if i.EffectiveAffinity != "" {
		return i.EffectiveAffinity
	}
	return i.Affinity
}

// irqAffinity says of each interrupt where it is served.
func irqAffinity() collector {
	return collector{
		name: "irq_affinity", doc: "where each interrupt is served: a series per interrupt", off: true, of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			info := c.add(Metric{
				Name: "irq_affinity_info", Type: gauge, Labels: []string{deviceLabel, "irq", "name", "affinity", "effective_affinity"},
				Help:   "An interrupt with the CPUs that were asked for and those that serve it. Always 1.",
				Source: "/proc/irq/*/smp_affinity_list, effective_affinity_list", Series: "1 per interrupt: some hundred per NIC on a large machine; off unless asked for",
			})
			return eachNIC(func(n *inventory.NIC) {
				for i := range n.IRQs {
					q := &n.IRQs[i]
					info.set(1, n.Name, strconv.Itoa(q.Number), q.Name, q.Affinity, q.EffectiveAffinity)
				}
			})
		},
	}
}
