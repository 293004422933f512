package metrics

import (
	"maps"
	"slices"
	"strconv"

	"github.com/nictune/nictune/inventory"
)

// nic says what devices there are.
func nic() collector {
	return collector{
		name: "nic", doc: "what each device is and where it is attached",
		of: func(s *Snapshot) any { return s.Inventory },
		define: func(c *catalogue) func(*Snapshot) {
			info := c.add(Metric{
				Name: "nic_info", Type: gauge,
				Help: "A network device: what it is and where it is attached. Always 1; a label that is not known is empty.",
				Labels: []string{
					deviceLabel, "kind", "type", "driver", "driver_version", "firmware", "pci_address", "vendor_id", "device_id", "model",
					"permanent_mac", "mac", "numa_node", "iommu_group", "port_name", "master", "broadcast", "ifalias", "bus_info", "expansion_rom_version",
				},
				Source: "`nictune inventory`: rtnetlink, the ethtool ioctl GDRVINFO, sysfs", Series: perDevice,
			})
			unread := c.add(Metric{
				Name: "nic_unread_facts", Type: gauge, Unit: "facts", Labels: []string{deviceLabel, "reason"}, Help: "Facts that could not be read, by reason.",
				Source: "`nictune inventory -o json`: unread", Series: "4 per device (unsupported, gone, denied, failed)",
			})
			version := c.add(Metric{
				Name: "devlink_version_info", Type: gauge, Labels: []string{deviceLabel, "handle", "name", "state", "version"},
				Help: "A version of the device's hardware (state fixed), of the firmware that runs (running) or of the one that is in its flash and runs after a reset (stored). " +
					"Several ports of a card say the same. Always 1.",
				Source: "`devlink dev info`: DEVLINK_CMD_INFO_GET", Series: "1 per version, some 10 per device whose driver tells",
			})
			return func(s *Snapshot) {
				if s.Inventory == nil {
					return
				}
				for i := range s.Inventory.NICs {
					nicInfo(info, &s.Inventory.NICs[i])
					devlinkVersions(version, &s.Inventory.NICs[i])
					countReasons(unread, s.Inventory.NICs[i].Unread, s.Inventory.NICs[i].Name)
				}
			}
		},
	}
}

func nicInfo(f *family, n *inventory.NIC) {
	var driver inventory.Driver
	if n.Driver != nil {
		driver = *n.Driver
	}
	var pci inventory.PCI
	if n.PCI != nil {
		pci = *n.PCI
	}
	var node string
	if n.NUMA != nil && n.NUMA.Node != nil {
		node = strconv.Itoa(*n.NUMA.Node)
	}
	f.set(1, n.Name, string(n.Function), n.Type, driver.Name, driver.Version, driver.Firmware, pci.Address,
		pci.VendorID, pci.DeviceID, pci.Model(), n.PermanentMAC, n.MAC, node, iommuGroup(n), n.Port.Name, n.Stack.Master,
		n.Broadcast, n.Alias, driver.BusInfo, driver.ExpansionROM)
}

func devlinkVersions(f *family, n *inventory.NIC) {
	if n.Devlink == nil {
		return
	}
	for _, of := range []struct {
		state    string
		versions map[string]string
	}{{"fixed", n.Devlink.Fixed}, {"running", n.Devlink.Running}, {"stored", n.Devlink.Stored}} {
		for _, name := range slices.Sorted(maps.Keys(of.versions)) {
			f.set(1, n.Name, n.Devlink.Handle, name, of.state, of.versions[name])
		}
	}
}

// iommuGroup is the number of a device's IOMMU group, empty where it has none.
func iommuGroup(n *inventory.NIC) string {
	if n.IOMMU == nil {
		return ""
	}
	return strconv.Itoa(n.IOMMU.Group)
}
