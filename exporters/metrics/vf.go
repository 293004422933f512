package metrics

import "github.com/nictune/nictune/inventory"

// vf are the counters of virtual functions, from their side.
func vf() collector {
	return collector{
		name: "vf", doc: "the counters of virtual functions, as their PF's driver keeps them",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			type counted struct {
				*family
				value func(*inventory.VFCounters) uint64
			}
			var families []counted
			add := func(name, unit, help, source string, value func(*inventory.VFCounters) uint64) {
				families = append(families, counted{c.add(Metric{
					Name: "vf_" + name + "_total", Type: counter, Unit: unit, Labels: []string{deviceLabel, "vf"}, Help: help + " by a virtual function, from its side.",
					Source: "`ip -s link show DEVICE`: IFLA_VF_STATS_" + source + "; absent until one of the PF's VFs has counted something, since the kernel says 0 for a driver that doesn't count",
					Series: "1 per enabled VF",
				}), value})
			}
			add("receive_packets", "packets", "Packets received", "RX_PACKETS", func(v *inventory.VFCounters) uint64 { return v.RxPackets })
			add("transmit_packets", "packets", "Packets sent", "TX_PACKETS", func(v *inventory.VFCounters) uint64 { return v.TxPackets })
			add("receive_bytes", "bytes", "Bytes received", "RX_BYTES", func(v *inventory.VFCounters) uint64 { return v.RxBytes })
			add("transmit_bytes", "bytes", "Bytes sent", "TX_BYTES", func(v *inventory.VFCounters) uint64 { return v.TxBytes })
			add("receive_broadcast_packets", "packets", "Broadcast packets received", "BROADCAST", func(v *inventory.VFCounters) uint64 { return v.Broadcast })
			add("receive_multicast_packets", "packets", "Multicast packets received", "MULTICAST", func(v *inventory.VFCounters) uint64 { return v.Multicast })
			add("receive_dropped", "packets", "Received packets dropped", "RX_DROPPED", func(v *inventory.VFCounters) uint64 { return v.RxDropped })
			add("transmit_dropped", "packets", "Packets to be sent dropped", "TX_DROPPED", func(v *inventory.VFCounters) uint64 { return v.TxDropped })
			numbers := newNumbers()
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for i := range s.Counted.Devices {
					d := &s.Counted.Devices[i]
					for j := range d.VFs {
						for _, f := range families {
							f.set(float64(f.value(&d.VFs[j])), d.Name, numbers.text(d.VFs[j].VF))
						}
					}
				}
			}
		},
	}
}
