package metrics

import "github.com/nictune/nictune/inventory"

// rings says how much room there is for packets that wait for the device or the CPU.
func rings() collector {
	return collector{
		name: "rings", doc: "descriptor rings and receive buffers (ethtool -g)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const source = "`ethtool -g`: ETHTOOL_MSG_RINGS_GET"
			labels := []string{deviceLabel, "ring"}
			size := c.add(Metric{
				Name: "ring_descriptors", Type: gauge, Unit: "descriptors", Labels: labels,
				Help: "The size of each ring of this kind: rx, rx-mini, rx-jumbo or tx.", Source: source, Series: "1 per kind of ring that the device has, at most 4",
			})
			most := c.add(Metric{
				Name: "ring_max_descriptors", Type: gauge, Unit: "descriptors", Labels: labels,
				Help: "The largest size that a ring of this kind can have.", Source: source, Series: "1 per kind of ring that the device has, at most 4",
			})
			buffer := c.add(Metric{
				Name: "ring_receive_buffer_bytes", Type: gauge, Unit: "bytes", Labels: []string{deviceLabel},
				Help: "The size of a receive buffer.", Source: source + ", RX_BUF_LEN", Series: perDevice + " that tells",
			})
			threshold := c.add(Metric{
				Name: "ring_header_split_threshold_bytes", Type: gauge, Unit: "bytes", Labels: []string{deviceLabel},
				Help: "Packets longer than this have their header split from their data.", Source: source + ", HDS_THRESH", Series: perDevice + " that tells",
			})
			info := c.add(Metric{
				Name: "ring_info", Type: gauge, Labels: []string{deviceLabel, "tcp_data_split", "tx_push", "rx_push"},
				Help:   "How rings are used: on, off, or empty where the device has no such thing. Always 1.",
				Source: source, Series: perDevice + " that has any of them",
			})
			return eachNIC(func(n *inventory.NIC) {
				r := n.Queues.Rings
				if r == nil {
					return
				}
				for _, ring := range []struct {
					name string
					size *inventory.RingSize
				}{{"rx", r.RX}, {"rx-mini", r.RXMini}, {"rx-jumbo", r.RXJumbo}, {"tx", r.TX}} {
					if ring.size != nil {
						size.set(float64(ring.size.Current), n.Name, ring.name)
						most.set(float64(ring.size.Maximum), n.Name, ring.name)
					}
				}
				number(buffer, r.RXBufLen, n.Name)
				if r.HDSThreshold != nil {
					threshold.set(float64(r.HDSThreshold.Current), n.Name)
				}
				if r.TCPDataSplit != "" || r.TXPush != nil || r.RXPush != nil {
					info.set(1, n.Name, r.TCPDataSplit, switched(r.TXPush), switched(r.RXPush))
				}
			})
		},
	}
}

// switched is a switch in ethtool's words, empty where there is none.
func switched(on *bool) string {
	switch {
	case on == nil:
		return ""
	case *on:
		return "on"
	}
	return "off"
}
