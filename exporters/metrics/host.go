package metrics

import (
	"maps"
	"slices"
	"strconv"

	"github.com/nictune/nictune/inventory"
)

// host says what machine the devices are in.
func host() collector {
	return collector{
		name: "host", doc: "what of the machine matters to its NICs", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			info := c.add(Metric{
				Name: "host_info", Type: gauge, Help: "The host. Always 1; a label that is not known is empty.",
				Labels: []string{
					"hostname", "kernel", "architecture", "distribution", "virtual_machine", "machine_vendor", "machine_product",
					"bios_vendor", "bios_version", "bios_date", "cpu_model",
				},
				Source: "`nictune inventory`: uname, os-release, SMBIOS or device tree, /proc/cpuinfo", Series: "1",
			})
			cpus := c.add(Metric{
				Name: "host_cpus", Type: gauge, Unit: "CPUs", Labels: []string{"state"},
				Help:   "CPUs by state: online, isolated (isolcpus) or nohz_full.",
				Source: "/sys/devices/system/cpu: online, isolated, nohz_full", Series: "3",
			})
			nodes := c.add(Metric{
				Name: "host_numa_nodes", Type: gauge, Unit: "nodes", Help: "Memory nodes.",
				Source: "/sys/devices/system/node", Series: "1",
			})
			groups := c.add(Metric{
				Name: "host_iommu_groups", Type: gauge, Unit: "groups", Labels: []string{"type"},
				Help:   "IOMMU groups by the type of their default domain: DMA, DMA-FQ, identity or blocked.",
				Source: "/sys/kernel/iommu_groups/*/type", Series: "at most 5",
			})
			manager := c.add(Metric{
				Name: "host_manager_info", Type: gauge, Labels: []string{"manager"},
				Help:   "A program that runs here and also sets NICs up. Always 1.",
				Source: "`nictune inventory`: /proc/*/comm", Series: "1 per such program: NetworkManager, systemd-networkd, irqbalance, tuned, nictune and the like",
			})
			unread := c.add(Metric{
				Name: "host_unread_facts", Type: gauge, Unit: "facts", Labels: []string{"reason"},
				Help:   "Facts about the host that could not be read, by reason.",
				Source: "`nictune inventory -o json`: unread", Series: "at most 4 (unsupported, gone, denied, failed)",
			})
			return func(s *Snapshot) {
				if s.Inventory == nil {
					return
				}
				h := &s.Inventory.Host
				var machine inventory.Machine
				if h.Machine != nil {
					machine = *h.Machine
				}
				virtual := ""
				if h.VirtualMachine != nil {
					virtual = strconv.FormatBool(*h.VirtualMachine)
				}
				info.set(1, h.Hostname, h.Kernel, h.Architecture, h.Distribution, virtual, machine.Vendor, machine.Product,
					machine.BIOS.Vendor, machine.BIOS.Version, machine.BIOS.Date, h.CPUs.Model)
				for _, list := range []struct{ state, cpus string }{{"online", h.CPUs.Online}, {"isolated", h.CPUs.Isolated}, {"nohz_full", h.CPUs.NoHZFull}} {
					if set, err := inventory.ParseCPUSet(list.cpus); err == nil && set.Len() > 0 {
						cpus.set(float64(set.Len()), list.state)
					}
				}
				if len(h.Nodes) > 0 {
					nodes.set(float64(len(h.Nodes)))
				}
				for _, domain := range slices.Sorted(maps.Keys(h.IOMMU.Types)) {
					groups.set(float64(h.IOMMU.Types[domain]), domain)
				}
				for i := range h.Managers {
					manager.set(1, h.Managers[i].Name)
				}
				countReasons(unread, s.Inventory.Unread)
			}
		},
	}
}

// countReasons counts facts that could not be read, by reason.
func countReasons(f *family, unread []inventory.Unread, labels ...string) {
	for _, reason := range []inventory.Reason{inventory.Unsupported, inventory.Gone, inventory.Denied, inventory.Failed} {
		count := 0
		for _, u := range unread {
			if u.Reason == reason {
				count++
			}
		}
		if count > 0 {
			f.set(float64(count), append(labels[:len(labels):len(labels)], string(reason))...)
		}
	}
}
