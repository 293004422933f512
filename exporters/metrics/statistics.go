package metrics

import (
	"strings"

	"github.com/nictune/nictune/inventory"
)

// statistics are the kernel's standard counters, at this moment.
func statistics() collector {
	return collector{
		name: "statistics", doc: "the kernel's standard counters of each device",
		define: func(c *catalogue) func(*Snapshot) {
			var families []*family // by inventory.StatisticNames
			for _, name := range inventory.StatisticNames() {
				families = append(families, c.add(statistic(name)))
			}
			return func(s *Snapshot) {
				for i := range s.Statistics {
					one := &s.Statistics[i]
					for j, v := range one.Values {
						families[j].set(float64(v), one.Name)
					}
				}
			}
		},
	}
}

// statistic is the metric for one of the kernel's standard counters: "rx_bytes"
// is network_receive_bytes_total.
func statistic(name string) Metric {
	m := Metric{
		Type: counter, Unit: "packets or events", Labels: []string{deviceLabel},
		Help:   "Standard counter " + name + " of struct rtnl_link_stats64, see linux/if_link.h.",
		Source: "`ip -s -s link`: IFLA_STATS64, `" + name + "`", Series: perDevice,
	}
	if strings.HasSuffix(name, "_bytes") {
		m.Unit = "bytes"
	}
	metric := name
	if rest, ok := strings.CutPrefix(name, "rx_"); ok {
		metric = "receive_" + rest
	} else if rest, ok := strings.CutPrefix(name, "tx_"); ok {
		metric = "transmit_" + rest
	} else if name == "multicast" {
		metric = "receive_multicast"
	}
	m.Name = "network_" + metric + "_total"
	return m
}
