package metrics

import (
	"slices"

	"github.com/nictune/nictune/inventory"
)

// pci says where devices are plugged in, and what the way to the CPUs carries.
func pci() collector {
	return collector{
		name: "pci", doc: "PCI functions: ids, PCIe links and their bottleneck, IOMMU groups", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			device := []string{deviceLabel}
			info := c.add(Metric{
				Name: "pci_info", Type: gauge,
				Labels: []string{
					deviceLabel, "pci_address", "class_id", "vendor_id", "device_id", "subsystem_vendor_id", "subsystem_device_id", "revision",
					"subsystem", "part_number", "serial_number", "parent_address",
				},
				Help:   "The PCI function behind a device, and the port or bridge that it is plugged into. Always 1; a label that is not known is empty.",
				Source: "`lspci -vmmnn`, `lspci -vv`: /sys/bus/pci/devices, the VPD", Series: "1 per device on PCI",
			})
			const link = "`lspci -vv`: LnkSta, LnkCap; /sys/bus/pci/devices/*/"
			const functions = "1 per device on PCIe; not for VFs, whose link is the PF's"
			currentSpeed := c.add(Metric{
				Name: "pci_current_link_transfers_per_second", Type: gauge, Unit: "transfers per second", Labels: device,
				Help: "The speed at which the function's own PCIe link runs, of each lane.", Source: link + "current_link_speed", Series: functions,
			})
			maxSpeed := c.add(Metric{
				Name: "pci_max_link_transfers_per_second", Type: gauge, Unit: "transfers per second", Labels: device,
				Help: "The speed at which the function could run it.", Source: link + "max_link_speed", Series: functions,
			})
			currentWidth := c.add(Metric{
				Name: "pci_current_link_width", Type: gauge, Unit: "lanes", Labels: device,
				Help: "The lanes of the function's own PCIe link that are in use.", Source: link + "current_link_width", Series: functions,
			})
			maxWidth := c.add(Metric{
				Name: "pci_max_link_width", Type: gauge, Unit: "lanes", Labels: device,
				Help: "The lanes that the function has.", Source: link + "max_link_width", Series: functions,
			})
			bandwidth := c.add(Metric{
				Name: "pcie_bandwidth_bytes", Type: gauge, Unit: "bytes per second", Labels: device,
				Help:   "What the narrowest link between the device and the root carries each way, after line coding and before packet headers.",
				Source: "`nictune inventory -o tree`: the links of the path", Series: functions,
			})
			bottleneck := c.add(Metric{
				Name: "pcie_bottleneck_info", Type: gauge, Labels: []string{deviceLabel, "hop"},
				Help:   "The PCI address of the hop whose link is the narrowest, or of the function itself. Always 1.",
				Source: "`nictune inventory -o tree`", Series: functions,
			})
			hops := c.add(Metric{
				Name: "pcie_hops", Type: gauge, Unit: "ports", Labels: device,
				Help: "Bridges and switch ports between the device and the root.", Source: "/sys/bus/pci/devices", Series: functions,
			})
			node := c.add(Metric{
				Name: "pci_numa_node", Type: gauge, Labels: device, Help: "The memory node that the function is on. Absent where the firmware names none.",
				Source: "/sys/bus/pci/devices/*/numa_node", Series: "1 per device on PCI that has one",
			})
			cold := c.add(Metric{
				Name: "pci_d3cold_allowed", Type: gauge, Labels: device, Help: "Whether the function's power may be cut while it sleeps.",
				Source: "/sys/bus/pci/devices/*/d3cold_allowed", Series: "1 per device on PCI",
			})
			power := c.add(Metric{
				Name: "pci_power_state_info", Type: gauge, Labels: []string{deviceLabel, "state"},
				Help:   "The function's power state when the facts were read: D0, D3hot, D3cold and the like. The kernel doesn't tell of changes. Always 1.",
				Source: "/sys/bus/pci/devices/*/power_state (Linux 5.7)", Series: "1 per device on PCI",
			})
			group := c.add(Metric{
				Name: "iommu_group_info", Type: gauge, Labels: []string{deviceLabel, "iommu_group", "type"},
				Help:   "The IOMMU group of a device, with the type of its default domain: DMA, DMA-FQ or identity. Always 1.",
				Source: "/sys/kernel/iommu_groups", Series: "1 per device behind an IOMMU",
			})
			shared := c.add(Metric{
				Name: "iommu_group_devices", Type: gauge, Unit: "devices", Labels: device,
				Help:   "Devices in the IOMMU group, this one included: 1 can be given away by itself.",
				Source: "/sys/kernel/iommu_groups/*/devices", Series: "1 per device behind an IOMMU",
			})
			return eachNIC(func(n *inventory.NIC) {
				if g := n.IOMMU; g != nil {
					number := iommuGroup(n)
					group.set(1, n.Name, number, g.Type)
					shared.set(float64(1+len(g.Members)), n.Name)
				}
				p := n.PCI
				if p == nil {
					return
				}
				var part, serial string
				if p.VPD != nil {
					part, serial = p.VPD.PartNumber, p.VPD.SerialNumber
				}
				info.set(1, n.Name, p.Address, p.Class, p.VendorID, p.DeviceID, p.SubsystemVendorID, p.SubsystemDeviceID, p.Revision, p.Subsystem, part, serial, parentOf(p))
				if n.NUMA != nil {
					number(node, n.NUMA.Node, n.Name)
				}
				maybe(cold, p.D3ColdAllowed, n.Name)
				if p.PowerState != "" {
					power.set(1, n.Name, p.PowerState)
				}
				if n.Function == inventory.VF || n.Function == inventory.SF || n.Function == inventory.Representor {
					return
				}
				if p.Link != nil && p.Link.Current != nil {
					currentSpeed.set(p.Link.Current.GTs*1e9, n.Name)
					currentWidth.set(float64(p.Link.Current.Width), n.Name)
				}
				if p.Link != nil && p.Link.Maximum != nil {
					maxSpeed.set(p.Link.Maximum.GTs*1e9, n.Name)
					maxWidth.set(float64(p.Link.Maximum.Width), n.Name)
				}
				if p.Link != nil || len(p.Path) > 0 {
					hops.set(float64(len(p.Path)), n.Name)
				}
				if rate := bottleneckRate(p); rate != nil {
					bandwidth.set(rate.GBs*1e9, n.Name)
					bottleneck.set(1, n.Name, p.Bottleneck)
				}
			})
		},
	}
}

// parentOf is the address of the port or bridge just above a function, empty for one
// on a root bus.
func parentOf(p *inventory.PCI) string {
	if len(p.Path) == 0 {
		return ""
	}
	return p.Path[len(p.Path)-1].Address
}

// bottleneckRate is what the narrowest link runs at, nil where none is known.
func bottleneckRate(p *inventory.PCI) *inventory.PCIeRate {
	link := p.Link
	if p.Bottleneck != p.Address {
		i := slices.IndexFunc(p.Path, func(h inventory.PCIHop) bool { return h.Address == p.Bottleneck })
		if i < 0 {
			return nil
		}
		link = p.Path[i].Link
	}
	if link == nil {
		return nil
	}
	return link.Current
}
