package metrics

import (
	"maps"
	"slices"

	"github.com/nictune/nictune/inventory"
)

// features says which offloads are on.
func features() collector {
	return collector{
		name: "features", doc: "offloads and the driver's own flags (ethtool -k): a series for each", off: true, of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			labels := []string{deviceLabel, "feature"}
			active := c.add(Metric{
				Name: "feature_active", Type: gauge, Labels: labels,
				Help:   "Whether an offload is on, by the kernel's name. Those that are off and can't be switched on are left out.",
				Source: "`ethtool -k`: ETHTOOL_MSG_FEATURES_GET", Series: "1 per offload that is on or can be: 15 to 40 per device; off unless asked for",
			})
			fixed := c.add(Metric{
				Name: "feature_fixed", Type: gauge, Labels: labels, Help: "An offload that is on and can't be switched off. Always 1.",
				Source: "`ethtool -k`: [fixed]", Series: "some 5 per device; off unless asked for",
			})
			flag := c.add(Metric{
				Name: "private_flag", Type: gauge, Labels: []string{deviceLabel, "flag"}, Help: "Whether a flag that only this driver has is on.",
				Source: "`ethtool --show-priv-flags`", Series: "1 per flag of the driver; off unless asked for",
			})
			tunable := c.add(Metric{
				Name: "tunable", Type: gauge, Labels: []string{deviceLabel, "tunable"}, Help: "A number that ethtool --set-tunable sets, in the unit that ethtool takes.",
				Source: "`ethtool --get-tunable`", Series: "at most 4 per device; off unless asked for",
			})
			return eachNIC(func(n *inventory.NIC) {
				o := &n.Offloads
				for _, name := range slices.Sorted(maps.Keys(o.Features)) {
					f := o.Features[name]
					if f.Active || !f.Fixed {
						active.set(truth(f.Active), n.Name, name)
					}
					if f.Active && f.Fixed {
						fixed.set(1, n.Name, name)
					}
				}
				for _, name := range slices.Sorted(maps.Keys(o.PrivateFlags)) {
					flag.set(truth(o.PrivateFlags[name]), n.Name, name)
				}
				for _, name := range slices.Sorted(maps.Keys(o.Tunables)) {
					tunable.set(float64(o.Tunables[name]), n.Name, name)
				}
			})
		},
	}
}
