package metrics

import "github.com/nictune/nictune/inventory"

// eee says whether links sleep between packets.
func eee() collector {
	return collector{
		name: "eee", doc: "Energy-Efficient Ethernet (ethtool --show-eee)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			define := func(name, unit, help string) *family {
				return c.add(Metric{
					Name: "eee_" + name, Type: gauge, Unit: unit, Labels: []string{deviceLabel}, Help: help,
					Source: "`ethtool --show-eee`: ETHTOOL_MSG_EEE_GET", Series: perDevice + " with EEE",
				})
			}
			enabled := define("enabled", "", "Whether Energy-Efficient Ethernet is switched on.")
			active := define("active", "", "Whether it was negotiated and is in force.")
			idle := define("tx_lpi", "", "Whether the device itself enters low power idle.")
			timer := define("tx_lpi_timer_seconds", "seconds", "How long there is nothing to send before it does.")
			return eachNIC(func(n *inventory.NIC) {
				e := n.Link.EEE
				if e == nil {
					return
				}
				enabled.set(truth(e.Enabled), n.Name)
				active.set(truth(e.Active), n.Name)
				idle.set(truth(e.TXLPI), n.Name)
				if e.TXLPITimerUsecs != nil {
					timer.set(float64(*e.TXLPITimerUsecs)/1e6, n.Name)
				}
			})
		},
	}
}
