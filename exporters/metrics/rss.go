package metrics

import (
	"maps"
	"slices"

	"github.com/nictune/nictune/inventory"
)

// rss says how received packets are spread over queues.
func rss() collector {
	return collector{
		name: "rss", doc: "receive side scaling and flow rules (ethtool -x, -n)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const source = "`ethtool -x`: ETHTOOL_MSG_RSS_GET"
			device := []string{deviceLabel}
			info := c.add(Metric{
				Name: "rss_info", Type: gauge, Labels: []string{deviceLabel, "hash", "input_transform"},
				Help: "The hash function by which packets are spread. Always 1.", Source: source, Series: perDevice + " with RSS",
			})
			queues := c.add(Metric{
				Name: "rss_queues", Type: gauge, Unit: "queues", Labels: device,
				Help: "Queues that the indirection table spreads packets over.", Source: source, Series: perDevice + " with RSS",
			})
			entries := c.add(Metric{
				Name: "rss_table_entries", Type: gauge, Unit: "entries", Labels: device,
				Help: "The size of the indirection table.", Source: source, Series: perDevice + " with RSS",
			})
			share := c.add(Metric{
				Name: "rss_largest_queue_ratio", Type: gauge, Unit: "ratio", Labels: device,
				Help:   "The part of the indirection table, 0 to 1, that the queue with the most of it has. 1 / nictune_rss_queues is an even spread.",
				Source: source, Series: perDevice + " with RSS",
			})
			fields := c.add(Metric{
				Name: "rss_fields_info", Type: gauge, Labels: []string{deviceLabel, "flow_type", "fields"},
				Help:   "What of packets of a flow type is hashed, in ethtool's letters: sdfn is addresses and ports. Always 1.",
				Source: "`ethtool -n DEVICE rx-flow-hash FLOW`", Series: "1 per flow type that the device tells apart, some 14",
			})
			contexts := c.add(Metric{
				Name: "rss_contexts", Type: gauge, Unit: "contexts", Labels: device,
				Help: "Further RSS tables beside the default one.", Source: source, Series: perDevice + " with RSS",
			})
			rules := c.add(Metric{
				Name: "ntuple_rules", Type: gauge, Unit: "rules", Labels: device,
				Help: "Receive flow rules that are set.", Source: "`ethtool -n`: ETHTOOL_GRXCLSRLALL", Series: perDevice + " that takes such rules",
			})
			room := c.add(Metric{
				Name: "ntuple_max_rules", Type: gauge, Unit: "rules", Labels: device,
				Help: "Receive flow rules that the device takes at most.", Source: "`ethtool -n`: ETHTOOL_GRXCLSRLCNT", Series: perDevice + " that tells",
			})
			return eachNIC(func(n *inventory.NIC) {
				if r := n.Queues.Ntuple; r != nil {
					rules.set(float64(len(r.Rules)), n.Name)
					number(room, r.Capacity, n.Name)
				}
				r := n.Queues.RSS
				if r == nil {
					return
				}
				info.set(1, n.Name, r.Hash, r.InputTransform)
				contexts.set(float64(len(r.Contexts)), n.Name)
				if len(r.Table) > 0 {
					used, largest := spread(r.Table)
					queues.set(float64(used), n.Name)
					entries.set(float64(len(r.Table)), n.Name)
					share.set(float64(largest)/float64(len(r.Table)), n.Name)
				}
				for _, flow := range slices.Sorted(maps.Keys(r.Fields)) {
					fields.set(1, n.Name, flow, r.Fields[flow])
				}
			})
		},
	}
}

// spread is how many queues a table names, and how often the one it names most.
func spread(table []uint32) (queues, largest int) {
	times := map[uint32]int{}
	for _, queue := range table {
		times[queue]++
		largest = max(largest, times[queue])
	}
	return len(times), largest
}
