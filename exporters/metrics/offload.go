package metrics

import (
	"strconv"
	"strings"
)

// offload says what devices do instead of the CPU.
func offload() collector {
	return collector{
		name: "offload", doc: "what hardware does instead of the CPU, and what was asked of it in vain",
		of: func(s *Snapshot) any { return s.XDP },
		define: func(c *catalogue) func(*Snapshot) {
			info := c.add(Metric{
				Name: "offload_info", Type: gauge,
				Labels: []string{
					deviceLabel, "tls_transmit", "tls_receive", "macsec", "ipsec", "hardware_gro", "lro", "tunnel_segmentation", "tc_offload", "timestamps", "phc",
				},
				Help:   "What hardware does instead of the CPU: on, off (it can be switched on), no (the device hasn't got it), unknown. Timestamps are made by hardware or software; phc is the number of the device's clock. Always 1.",
				Source: "`nictune check offload -o json`: ethtool -k, -T", Series: perHardware,
			})
			missed := c.add(Metric{
				Name: "feature_missed_info", Type: gauge, Labels: []string{deviceLabel, "feature", "because"},
				Help:   "An offload that somebody asked for and that is not in force, with the one that it depends on or that excludes it. Always 1.",
				Source: "`ethtool -k`: [requested on]", Series: "few; 1 per such offload of hardware",
			})
			tunnels := c.add(Metric{
				Name: "offload_tunnel_ports", Type: gauge, Unit: "ports", Labels: []string{deviceLabel, "table"},
				Help:   "UDP ports whose tunnels the device looks into, by its tables. Every table is named by its types, with + between.",
				Source: "`ethtool --show-tunnels`", Series: "1 per table: at most 4 per hardware device that has any",
			})
			room := c.add(Metric{
				Name: "offload_tunnel_max_ports", Type: gauge, Unit: "ports", Labels: []string{deviceLabel, "table"},
				Help: "UDP ports that such a table takes.", Source: "`ethtool --show-tunnels`", Series: "1 per table: at most 4 per hardware device that has any",
			})
			return func(s *Snapshot) {
				if s.XDP == nil {
					return
				}
				for i := range s.XDP.NICs {
					one := &s.XDP.NICs[i]
					o := one.Offloads
					if o == nil {
						continue
					}
					clock := ""
					if o.PHC != nil {
						clock = strconv.Itoa(*o.PHC)
					}
					info.set(1, one.Device, o.TLSTransmit, o.TLSReceive, o.MACsec, o.IPsec, o.HardwareGRO, o.LRO, o.TunnelGSO, o.TrafficClass, o.Timestamps, clock)
					for _, m := range o.Missed {
						missed.set(1, one.Device, m.Feature, m.Because)
					}
					for _, t := range o.TunnelPorts {
						table := strings.Join(t.Types, "+")
						tunnels.set(float64(len(t.Ports)), one.Device, table)
						room.set(float64(t.Size), one.Device, table)
					}
				}
			}
		},
	}
}
