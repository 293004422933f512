package metrics

// driver are drivers' own counters.
func driver() collector {
	return collector{
		name: "driver", doc: "drivers' own counters (ethtool -S), of hardware unless asked for others",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			f := c.add(Metric{
				Name: "driver_statistic_total", Type: counter, Unit: "whatever the driver counts", Labels: []string{deviceLabel, "counter"},
				Help:   "A driver's own counter, under the name that the driver gives it. Not to be added up, and some are no counters: docs/counters.md says what is known.",
				Source: "`ethtool -S`: the ioctls GSTRINGS and GSTATS", Series: "as many as `ethtool -S` shows: 20 to some thousands per device of hardware",
			})
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for i := range s.Counted.Devices {
					d := &s.Counted.Devices[i]
					if d.Set == nil {
						continue
					}
					for j, name := range d.Set.Names {
						if name != "" {
							f.set(float64(d.Driver[j]), d.Name, name)
						}
					}
				}
			}
		},
	}
}
