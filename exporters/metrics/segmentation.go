package metrics

import "github.com/nictune/nictune/inventory"

// segmentation says how large packets get that are cut late, or merged early.
func segmentation() collector {
	return collector{
		name: "segmentation", doc: "the largest packets that are cut late and merged early (ip -d link)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			define := func(name, unit, attribute, help string) *family {
				return c.add(Metric{
					Name: "network_" + name, Type: gauge, Unit: unit, Labels: []string{deviceLabel}, Help: help,
					Source: "`ip -d link`: " + attribute, Series: perHardware,
				})
			}
			gso := define("gso_max_size_bytes", "bytes", "IFLA_GSO_MAX_SIZE", "The largest packet that the stack hands over to be cut.")
			segments := define("gso_max_segments", "segments", "IFLA_GSO_MAX_SEGS", "Into how many at most.")
			tso := define("tso_max_size_bytes", "bytes", "IFLA_TSO_MAX_SIZE", "The largest packet that the device can cut.")
			gro := define("gro_max_size_bytes", "bytes", "IFLA_GRO_MAX_SIZE", "The largest packet that received ones are merged to.")
			return eachNIC(func(n *inventory.NIC) {
				if n.Function == inventory.Virtual {
					return // the defaults, a thousand times
				}
				number(gso, n.Offloads.Limits.GSOMaxSize, n.Name)
				number(segments, n.Offloads.Limits.GSOMaxSegs, n.Name)
				number(tso, n.Offloads.Limits.TSOMaxSize, n.Name)
				number(gro, n.Offloads.Limits.GROMaxSize, n.Name)
			})
		},
	}
}
