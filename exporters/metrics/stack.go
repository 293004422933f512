package metrics

import (
	"strconv"

	"github.com/nictune/nictune/inventory"
)

// stack says how devices lie on each other.
func stack() collector {
	return collector{
		name: "stack", doc: "bonds, bridges and VLANs", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			bond := c.add(Metric{
				Name: "bond_info", Type: gauge, Labels: []string{deviceLabel, "mode", "active_slave"},
				Help: "A bond: its mode, and the member in use where only one is. Always 1.", Source: "`ip -d link`: IFLA_BOND_*", Series: "1 per bond",
			})
			slaves := c.add(Metric{
				Name: "bond_slaves", Type: gauge, Unit: "devices", Labels: []string{deviceLabel},
				Help: "The members of a bond.", Source: "`ip link show master BOND`", Series: "1 per bond",
			})
			vlan := c.add(Metric{
				Name: "vlan_info", Type: gauge, Labels: []string{deviceLabel, "vlan", "protocol", "parent"},
				Help: "A VLAN device: its tag, and the device that it is on where that is here. Always 1.", Source: "`ip -d link`: IFLA_VLAN_*", Series: "1 per VLAN device",
			})
			return eachNIC(func(n *inventory.NIC) {
				st := &n.Stack
				if st.Bond != nil {
					bond.set(1, n.Name, st.Bond.Mode, st.Bond.ActiveSlave)
					slaves.set(float64(len(st.Lower)), n.Name)
				}
				if st.VLAN != nil {
					parent := ""
					if len(st.Lower) > 0 {
						parent = st.Lower[0]
					}
					vlan.set(1, n.Name, strconv.Itoa(st.VLAN.ID), st.VLAN.Protocol, parent)
				}
			})
		},
	}
}
