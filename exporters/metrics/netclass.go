package metrics

import (
	"github.com/nictune/nictune/inventory"
)

// netclass is what node_exporter's netclass has beyond what link shows: numbers of the
// kernel's own. The names are node_exporter's.
func netclass() collector {
	return collector{
		name: "netclass", doc: "the kernel's own numbers of each device: flags, indexes, types (/sys/class/net)", off: true, of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const series = perDevice + "; off unless asked for"
			const sysfs = "; of software devices only while the collector is on"
			add := func(name, help, source string) *family {
				return c.add(Metric{Name: "network_" + name, Type: gauge, Labels: []string{deviceLabel}, Help: help, Source: source, Series: series})
			}
			index := add("iface_id", "The device's index.", "`ip link`: ifi_index")
			lower := add("iface_link", "The index of the device below, or of the peer, which may be in another network namespace; the device's own where there is none.", "IFLA_LINK")
			mode := add("iface_link_mode", "How the operational state follows the link: 0 default, 1 dormant.", "IFLA_LINKMODE")
			dormant := add("dormant", "Whether the link is there and waits for something else, as 802.1X.", "IFF_DORMANT; absent while the device is switched off")
			flags := add("flags", "The device's flags, IFF_* of linux/if.h, as ip link has them: with those of the moment (IFF_RUNNING, IFF_LOWER_UP, IFF_DORMANT), which /sys/class/net leaves out.", "`ip link`: ifi_flags")
			group := add("net_dev_group", "The device's group.", "`ip link`: IFLA_GROUP")
			hardware := add("protocol_type", "The link type by its number, ARPHRD_* of linux/if_arp.h: 1 is Ethernet.", "ifi_type")
			addressBy := add("address_assign_type", "Where the address is from: 0 the device, 1 random, 2 another device, 3 set.", "/sys/class/net/*/addr_assign_type"+sysfs)
			nameBy := add("name_assign_type", "Where the name is from: 1 the kernel by counting, 2 the kernel by the device, 3 who made it, 4 renamed. Absent where the kernel doesn't know.", "/sys/class/net/*/name_assign_type"+sysfs)
			id := add("device_id", "Which of several devices that share an address.", "/sys/class/net/*/dev_id"+sysfs)
			changes := c.add(Metric{
				Name: "network_carrier_changes_total", Type: counter, Unit: "events", Labels: []string{deviceLabel},
				Help: "How often the link came and went, both counted.", Source: "IFLA_CARRIER_UP_COUNT and IFLA_CARRIER_DOWN_COUNT, whose sum IFLA_CARRIER_CHANGES is", Series: series,
			})
			alternative := c.add(Metric{
				Name: "network_altnames_info", Type: gauge, Labels: []string{deviceLabel, "altname"}, Help: "Another name of the device. Always 1.",
				Source: "`ip link`: IFLA_ALT_IFNAME", Series: "1 per alternative name, mostly 2 per port where udev gives them; off unless asked for",
			})
			return eachNIC(func(n *inventory.NIC) {
				index.set(float64(n.Index), n.Name)
				if up, down := n.Link.CarrierUp, n.Link.CarrierDown; up != nil && down != nil {
					changes.set(float64(*up+*down), n.Name)
				}
				for _, name := range n.AltNames {
					alternative.set(1, n.Name, name)
				}
				k := n.NetClass
				if k == nil {
					return
				}
				lower.set(float64(k.Link), n.Name)
				mode.set(float64(k.LinkMode), n.Name)
				maybe(dormant, k.Dormant, n.Name)
				flags.set(float64(k.Flags), n.Name)
				group.set(float64(k.Group), n.Name)
				hardware.set(float64(k.Hardware), n.Name)
				number(addressBy, k.AddressAssignType, n.Name)
				number(nameBy, k.NameAssignType, n.Name)
				number(id, k.DeviceID, n.Name)
			})
		},
	}
}
