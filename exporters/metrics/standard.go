package metrics

// standard are the counters that ethtool netlink has one name for.
func standard() collector {
	return collector{
		name: "standard", doc: "counters with standard names: FEC, pause frames, IEEE 802.3 MAC and PHY, RMON (ethtool -S --groups)",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			f := c.add(Metric{
				Name: "network_standard_statistic_total", Type: counter, Unit: "frames, octets, blocks or events", Labels: []string{deviceLabel, "group", "counter"},
				Help:   "A counter by its standard name, whatever the driver calls it: IEEE 802.3 clause 30 for eth-mac, eth-phy and eth-ctrl, RFC 2819 for rmon. Not to be added up.",
				Source: "`ethtool -S --groups`, `ethtool -I --show-fec`, `ethtool -I -a`: ETHTOOL_MSG_STATS_GET, FEC_GET and PAUSE_GET with ETHTOOL_FLAG_STATS", Series: "at most 55 per device whose driver has them",
			})
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for i := range s.Counted.Devices {
					d := &s.Counted.Devices[i]
					for _, one := range d.Standard {
						f.set(float64(one.Value), d.Name, one.Group, one.Name)
					}
				}
			}
		},
	}
}
