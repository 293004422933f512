package metrics

import (
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// coalesce says how long a device waits before it interrupts.
func coalesce() collector {
	return collector{
		name: "coalesce", doc: "interrupt moderation (ethtool -c)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const source = "`ethtool -c`: ETHTOOL_MSG_COALESCE_GET"
			labels := []string{deviceLabel, "parameter"}
			define := func(name, unit, help string) *family {
				return c.add(Metric{
					Name: "coalesce_" + name, Type: gauge, Unit: unit, Labels: labels, Help: help + " The parameter is named as ethtool -C takes it.",
					Source: source, Series: "1 per parameter of this unit that the driver has",
				})
			}
			seconds := define("seconds", "seconds", "A time that interrupts wait (rx-usecs, tx-usecs-irq), or between two adaptations.")
			frames := define("frames", "frames", "A number of packets after which to interrupt, whatever the time.")
			rate := define("packets_per_second", "packets per second", "A packet rate at which other parameters begin to count (pkt-rate-low, pkt-rate-high).")
			size := define("bytes", "bytes", "A number of bytes that are gathered at most (tx-aggr-max-bytes).")
			enabled := c.add(Metric{
				Name: "coalesce_enabled", Type: gauge, Labels: labels, Help: "Whether a mode is on: adaptive-rx, adaptive-tx, cqe-mode-rx, cqe-mode-tx.",
				Source: source, Series: "1 per mode that the driver has, at most 4",
			})
			return eachNIC(func(n *inventory.NIC) {
				s := n.Queues.Coalesce
				if s == nil {
					return
				}
				for _, name := range slices.Sorted(maps.Keys(s.Values)) {
					v := float64(s.Values[name])
					switch {
					case strings.Contains(name, "usecs"):
						seconds.set(v/1e6, n.Name, name)
					case strings.Contains(name, "nsecs"):
						seconds.set(v/1e9, n.Name, name)
					case name == "sample-interval":
						seconds.set(v, n.Name, name)
					case strings.Contains(name, "frames"):
						frames.set(v, n.Name, name)
					case strings.HasPrefix(name, "pkt-rate"):
						rate.set(v, n.Name, name)
					case strings.HasSuffix(name, "bytes"):
						size.set(v, n.Name, name)
					}
				}
				for _, name := range slices.Sorted(maps.Keys(s.Flags)) {
					enabled.set(truth(s.Flags[name]), n.Name, name)
				}
			})
		},
	}
}
