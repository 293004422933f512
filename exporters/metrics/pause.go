package metrics

import "github.com/nictune/nictune/inventory"

// pause says who may stop whom.
func pause() collector {
	return collector{
		name: "pause", doc: "flow control (ethtool -a)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const source = "`ethtool -a`: ETHTOOL_MSG_PAUSE_GET"
			labels := []string{deviceLabel, "direction"}
			enabled := c.add(Metric{
				Name: "pause_enabled", Type: gauge, Labels: labels,
				Help:   "Whether pause frames are set to be obeyed (rx) or sent (tx). With autonegotiation, nictune_pause_negotiated is in force.",
				Source: source, Series: "2 per device with flow control",
			})
			negotiated := c.add(Metric{
				Name: "pause_negotiated", Type: gauge, Labels: labels,
				Help:   "Whether both sides agreed that pause frames are obeyed (rx) or sent (tx).",
				Source: source + " and both sides' link modes", Series: "2 per device that negotiates it and knows its peer's offer",
			})
			autoneg := c.add(Metric{
				Name: "pause_autonegotiate", Type: gauge, Labels: []string{deviceLabel}, Help: "Whether flow control is negotiated.",
				Source: source, Series: perDevice + " with flow control",
			})
			return eachNIC(func(n *inventory.NIC) {
				p := n.Link.Pause
				if p == nil {
					return
				}
				autoneg.set(truth(p.Autoneg), n.Name)
				enabled.set(truth(p.RX), n.Name, "rx")
				enabled.set(truth(p.TX), n.Name, "tx")
				if p.Negotiated != nil {
					negotiated.set(truth(p.Negotiated.RX), n.Name, "rx")
					negotiated.set(truth(p.Negotiated.TX), n.Name, "tx")
				}
			})
		},
	}
}
