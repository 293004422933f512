package metrics

// interrupt is how often devices' interrupts fired.
func interrupt() collector {
	return collector{
		name: "interrupt", doc: "how often each NIC's interrupts fired (/proc/interrupts)",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			f := c.add(Metric{
				Name: "irq_total", Type: counter, Unit: "interrupts", Labels: []string{deviceLabel, "irq", "queue"},
				Help:   "Interrupts of a device, on all CPUs together. The queue is empty where it is unknown, or the interrupt serves none.",
				Source: "`/proc/interrupts`; the kernel counts with 32 bits for each CPU", Series: "1 per interrupt vector of the device",
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
