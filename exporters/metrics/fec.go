package metrics

import (
	"strings"

	"github.com/nictune/nictune/inventory"
)

// fec says how bit errors are corrected.
func fec() collector {
	return collector{
		name: "fec", doc: "forward error correction (ethtool --show-fec)", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			info := c.add(Metric{
				Name: "fec_info", Type: gauge, Labels: []string{deviceLabel, "active", "configured", "auto"},
				Help:   "Forward error correction: the mode in force, and those that were asked for, with commas between. Off, RS, BaseR or LLRS. Always 1.",
				Source: "`ethtool --show-fec`: ETHTOOL_MSG_FEC_GET", Series: perDevice + " with FEC",
			})
			return eachNIC(func(n *inventory.NIC) {
				if f := n.Link.FEC; f != nil {
					info.set(1, n.Name, f.Active, strings.Join(f.Configured, ","), switched(f.Auto))
				}
			})
		},
	}
}
