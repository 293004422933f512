package metrics

import "github.com/nictune/nictune/inventory"

// channels says how many queues there are.
func channels() collector {
	return collector{
		name: "channels", doc: "numbers of queues (ethtool -l)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const source = "`ethtool -l`: ETHTOOL_MSG_CHANNELS_GET"
			const series = "1 per kind of channel that the device has, at most 4; of a software device where it has several"
			labels := []string{deviceLabel, "channel"}
			current := c.add(Metric{
				Name: "channels", Type: gauge, Unit: "channels", Labels: labels,
				Help: "Channels of this kind: rx, tx, other or combined.", Source: source, Series: series,
			})
			most := c.add(Metric{
				Name: "max_channels", Type: gauge, Unit: "channels", Labels: labels,
				Help: "The most channels of this kind that the device can have as it is now.", Source: source, Series: series,
			})
			queues := c.add(Metric{
				Name: "network_queues", Type: gauge, Unit: "queues", Labels: []string{deviceLabel, "direction"},
				Help:   "Queues that the stack uses at most, rx or tx.",
				Source: "`ip -d link`: IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES", Series: "2 per hardware device",
			})
			return eachNIC(func(n *inventory.NIC) {
				q := &n.Queues
				hardware := n.Function != inventory.Virtual
				if hardware && q.RX != nil && q.TX != nil {
					queues.set(float64(*q.RX), n.Name, "rx")
					queues.set(float64(*q.TX), n.Name, "tx")
				}
				if q.Channels == nil {
					return
				}
				for _, kind := range []struct {
					name  string
					count *inventory.ChannelCount
				}{{"rx", q.Channels.RX}, {"tx", q.Channels.TX}, {"other", q.Channels.Other}, {"combined", q.Channels.Combined}} {
					// A veth has one, and could have as many as there are CPUs.
					if kind.count != nil && (hardware || kind.count.Current > 1) {
						current.set(float64(kind.count.Current), n.Name, kind.name)
						most.set(float64(kind.count.Maximum), n.Name, kind.name)
					}
				}
			})
		},
	}
}
