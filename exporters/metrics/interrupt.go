package metrics

// interrupt is how often devices' interrupts fired.
func interrupt() collector {
	return collector{
		name: "interrupt", doc: "how often each NIC's interrupts fired (/proc/interrupts)",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			f := c.add(Metric{
				Name: "irq_total", Type: counter, Unit: "interrupts", Labels: []string{deviceLabel, "irq", "queue"},
				Help:   "Interrupts of a device, on all CPUs together, those included that are offline by now. The queue is empty where it is unknown, or the interrupt serves none.",
				Source: "`/proc/interrupts`, whose columns of 32 bits, one per online CPU, are added up from reading to reading", Series: "1 per interrupt vector of the device",
			})
			numbers := newNumbers()
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for _, i := range s.Counted.Interrupts {
					f.set(float64(i.Count), i.Name, numbers.text(i.IRQ), i.Queue)
				}
			}
		},
	}
}

// interruptCPU is how often they fired on each CPU.
func interruptCPU() collector {
	return collector{
		name: "interrupt_cpu", doc: "how often each NIC's interrupts fired on each CPU: a series per interrupt and CPU", off: true,
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			f := c.add(Metric{
				Name: "irq_cpu_total", Type: counter, Unit: "interrupts", Labels: []string{deviceLabel, "irq", "queue", "cpu"},
				Help:   "Interrupts of a device that a CPU served. CPUs that are offline are absent.",
				Source: "`/proc/interrupts`; the kernel counts with 32 bits, which is made up for from reading to reading",
				Series: "1 per interrupt vector and online CPU: 8,192 for 64 vectors on 128 CPUs; off unless asked for",
			})
			numbers := newNumbers()
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for _, i := range s.Counted.Interrupts {
					for j, count := range i.CPUs {
						f.set(float64(count), i.Name, numbers.text(i.IRQ), i.Queue, numbers.text(s.Counted.InterruptCPUs[j]))
					}
				}
			}
		},
	}
}
