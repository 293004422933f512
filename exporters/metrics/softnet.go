package metrics

import "github.com/nictune/nictune/inventory"

// softnet is what each CPU's receive path has counted. The names are node_exporter's.
func softnet() collector {
	return collector{
		name: "softnet", doc: "what each CPU's receive path counted (/proc/net/softnet_stat)",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			type column struct {
				*family
				value func(*inventory.Softnet) *uint64
			}
			var families []column
			add := func(name, kind, unit, help, at string, value func(*inventory.Softnet) *uint64) {
				families = append(families, column{c.add(Metric{
					Name: "softnet_" + name, Type: kind, Unit: unit, Labels: []string{"cpu"}, Help: help,
					Source: "`/proc/net/softnet_stat`, " + at + "; the kernel counts with 32 bits", Series: "1 per online CPU",
				}), value})
			}
			add("processed_total", counter, "packets", "Packets that the CPU processed.", "first column", func(s *inventory.Softnet) *uint64 { return &s.Processed })
			add("dropped_total", counter, "packets", "Packets lost because the CPU's backlog was full.", "second column", func(s *inventory.Softnet) *uint64 { return &s.Dropped })
			add("times_squeezed_total", counter, "events", "Times that the budget (net.core.netdev_budget) ended before the work did.", "third column", func(s *inventory.Softnet) *uint64 { return &s.TimeSqueeze })
			add("cpu_collision_total", counter, "events", "Times that a driver's transmit lock was held by another CPU; 0 since Linux 4.7.", "ninth column", func(s *inventory.Softnet) *uint64 { return &s.Collisions })
			add("received_rps_total", counter, "events", "Times that another CPU woke this one for packets (RPS).", "tenth column", func(s *inventory.Softnet) *uint64 { return &s.ReceivedRPS })
			add("flow_limit_count_total", counter, "packets", "Packets that the flow limit dropped.", "eleventh column", func(s *inventory.Softnet) *uint64 { return &s.FlowLimit })
			add("backlog_len", gauge, "packets", "Packets that wait in the CPU's backlog.", "twelfth column (Linux 5.10)", func(s *inventory.Softnet) *uint64 { return s.Backlog })
			numbers := newNumbers()
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for i := range s.Counted.Softnet {
					one := &s.Counted.Softnet[i]
					for _, f := range families {
						if v := f.value(one); v != nil {
							f.set(float64(*v), numbers.text(one.CPU))
						}
					}
				}
			}
		},
	}
}
