package metrics

import "github.com/nictune/nictune/inventory"

// multicast says which groups come in.
func multicast() collector {
	return collector{
		name: "multicast", doc: "multicast memberships, and how full bridges' databases are", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			device := []string{deviceLabel}
			memberships := c.add(Metric{
				Name: "multicast_memberships", Type: gauge, Unit: "groups", Labels: []string{deviceLabel, "family"},
				Help: "Groups that the host is in on this device: ipv4, ipv6 or link (addresses of the link layer).", Source: "`ip maddr`",
				Series: "at most 3 per hardware device, bridge, bond and VLAN; not of veths and the like, of which each is in the same three groups",
			})
			allMulti := c.add(Metric{
				Name: "network_allmulti", Type: gauge, Labels: device, Help: "Whether the device lets all groups in, whoever asked for it. Absent for a software device that doesn't.",
				Source: "IFF_ALLMULTI, IFLA_ALLMULTI", Series: perHardware + ", and per other device that does",
			})
			promiscuous := c.add(Metric{
				Name: "network_promiscuous", Type: gauge, Labels: device, Help: "Whether the device lets everything in, whoever asked for it. Absent for a software device that doesn't.",
				Source: "IFF_PROMISC, IFLA_PROMISCUITY", Series: perHardware + ", and per other device that does",
			})
			entries := c.add(Metric{
				Name: "bridge_mdb_entries", Type: gauge, Unit: "entries", Labels: device,
				Help: "Entries in a bridge's multicast database.", Source: "`bridge mdb`", Series: "1 per bridge",
			})
			most := c.add(Metric{
				Name: "bridge_mdb_max_entries", Type: gauge, Unit: "entries", Labels: device,
				Help: "The most groups that a bridge takes. Beyond, it stops snooping and floods.", Source: "`ip -d link`: mcast_hash_max", Series: "1 per bridge",
			})
			snooping := c.add(Metric{
				Name: "bridge_multicast_snooping", Type: gauge, Labels: device,
				Help: "Whether a bridge sends groups only where somebody is in them.", Source: "`ip -d link`: mcast_snooping", Series: "1 per bridge",
			})
			querier := c.add(Metric{
				Name: "bridge_multicast_querier", Type: gauge, Labels: device,
				Help: "Whether a bridge itself asks who is in which group.", Source: "`ip -d link`: mcast_querier", Series: "1 per bridge",
			})
			groups := c.add(Metric{
				Name: "bridge_port_multicast_groups", Type: gauge, Unit: "groups", Labels: device,
				Help: "Groups of a bridge's port.", Source: "`bridge -d link`: mcast_n_groups", Series: "1 per port of a bridge",
			})
			maxGroups := c.add(Metric{
				Name: "bridge_port_multicast_max_groups", Type: gauge, Unit: "groups", Labels: device,
				Help: "The most groups that a bridge's port may have. Absent where there is no limit.", Source: "`bridge -d link`: mcast_max_groups", Series: "1 per port of a bridge that has a limit",
			})
			return eachNIC(func(n *inventory.NIC) {
				m := &n.Multicast
				hardware := n.Function != inventory.Virtual
				count := map[string]int{}
				for i := range m.Memberships {
					count[m.Memberships[i].Family]++
				}
				for _, family := range []string{"ipv4", "ipv6", "link"} {
					if count[family] > 0 && (hardware || n.Stack.Bridge != nil || n.Stack.Bond != nil || n.Stack.VLAN != nil) {
						memberships.set(float64(count[family]), n.Name, family)
					}
				}
				if m.AllMulti != nil && (*m.AllMulti || hardware) {
					allMulti.set(truth(*m.AllMulti), n.Name)
				}
				if m.Promiscuous != nil && (*m.Promiscuous || hardware) {
					promiscuous.set(truth(*m.Promiscuous), n.Name)
				}
				if b := n.Stack.Bridge; b != nil {
					entries.set(float64(len(b.MDB)), n.Name)
					number(most, b.HashMax, n.Name)
					maybe(snooping, b.Snooping, n.Name)
					maybe(querier, b.Querier, n.Name)
				}
				if p := n.Stack.BridgePort; p != nil {
					number(groups, p.Groups, n.Name)
					if p.MaxGroups != nil && *p.MaxGroups > 0 {
						maxGroups.set(float64(*p.MaxGroups), n.Name)
					}
				}
			})
		},
	}
}
