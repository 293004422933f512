package metrics

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/nictune/nictune/sriov"
)

// VFs are the host's physical functions with their virtual ones.
type VFs struct {
	PFs []sriov.PF
}

// virtualFunctions says how VFs are set up, and what they are given to.
func virtualFunctions() collector {
	return collector{
		name: "sriov", doc: "virtual functions: how many, how each is set up, and the embedded switch",
		of: func(s *Snapshot) any { return s.VFs },
		define: func(c *catalogue) func(*Snapshot) {
			pf := definePF(c)
			vf := defineVF(c)
			return func(s *Snapshot) {
				if s.VFs == nil {
					return
				}
				for i := range s.VFs.PFs {
					one := &s.VFs.PFs[i]
					// A PF without a network device here goes by its address.
					device := cmp.Or(one.Name, one.Address)
					pf.fill(device, one)
					for j := range one.VFs {
						vf.fill(device, &one.VFs[j])
					}
				}
			}
		},
	}
}

const (
	perPF = "1 per physical function"
	perVF = "1 per virtual function"
	ofPF  = "The device is the PF's, or the PF's address where it has none here."
)

type pfFamilies struct {
	vfs, most, autoprobe, eswitch, vectors *family
	used, drivers, sharing                 *family
}

func definePF(c *catalogue) pfFamilies {
	device := []string{deviceLabel}
	return pfFamilies{
		vfs: c.add(Metric{
			Name: "sriov_vfs", Type: gauge, Unit: "functions", Labels: device, Help: "Virtual functions that are enabled. " + ofPF,
			Source: "/sys/bus/pci/devices/*/sriov_numvfs", Series: perPF,
		}),
		most: c.add(Metric{
			Name: "sriov_max_vfs", Type: gauge, Unit: "functions", Labels: device, Help: "Virtual functions that the driver lets you enable.",
			Source: "/sys/bus/pci/devices/*/sriov_totalvfs", Series: perPF,
		}),
		// What a fleet asks of all VFs it gets from one series of each PF.
		used: c.add(Metric{
			Name: "sriov_vfs_used", Type: gauge, Unit: "functions", Labels: device,
			Help:   "Virtual functions that are enabled and that somebody uses: a VM, container, process, namespace, or a bond, bridge or VLAN. Absent where that could not be read of one of them. " + ofPF,
			Source: "`nictune inventory --vfs`: /proc/*/fd, /run/libvirt, cgroups", Series: perPF,
		}),
		drivers: c.fingerprint(c.add(Metric{
			Name: "sriov_vfs_by_driver", Type: gauge, Unit: "functions", Labels: []string{deviceLabel, "driver"},
			Help:   "Virtual functions that are enabled, by the driver that is bound to them; it is empty where none is, or where that is not known. " + ofPF,
			Source: "`lspci -k`: /sys/bus/pci/devices/*/driver", Series: "1 per physical function and driver",
		})),
		sharing: c.add(Metric{
			Name: "sriov_vfs_sharing_iommu_group", Type: gauge, Unit: "functions", Labels: device,
			Help:   "Virtual functions that share their IOMMU group with other devices. Absent where no group is known. " + ofPF,
			Source: "/sys/kernel/iommu_groups/*/devices", Series: perPF + " with virtual functions behind an IOMMU",
		}),
		autoprobe: c.add(Metric{
			Name: "sriov_drivers_autoprobe", Type: gauge, Labels: device, Help: "Whether the kernel binds a driver to new virtual functions.",
			Source: "/sys/bus/pci/devices/*/sriov_drivers_autoprobe", Series: perPF,
		}),
		vectors: c.add(Metric{
			Name: "sriov_vf_total_msix", Type: gauge, Unit: "interrupts", Labels: device, Help: "MSI-X vectors that can be distributed among the virtual functions.",
			Source: "/sys/bus/pci/devices/*/sriov_vf_total_msix", Series: perPF + " whose driver can distribute them",
		}),
		eswitch: c.add(Metric{
			Name: "eswitch_info", Type: gauge, Labels: []string{deviceLabel, "mode", "inline_mode", "encap_mode"},
			Help:   "How the embedded switch is set up: legacy or switchdev. Always 1.",
			Source: "`devlink dev eswitch show`", Series: perPF + " that has one",
		}),
	}
}

func (f pfFamilies) fill(device string, pf *sriov.PF) {
	number(f.vfs, pf.NumVFs, device)
	number(f.most, pf.TotalVFs, device)
	if used, known := pf.Used(); known {
		f.used.set(float64(used), device)
	}
	maybe(f.autoprobe, pf.Autoprobe, device)
	number(f.vectors, pf.MSIXPool, device)
	drivers, sharing, grouped := map[string]int{}, 0, false
	for i := range pf.VFs {
		vf := &pf.VFs[i]
		drivers[vf.Driver]++
		if vf.IOMMU != nil {
			grouped = true
			if !vf.IOMMU.Own {
				sharing++
			}
		}
	}
	for _, driver := range slices.Sorted(maps.Keys(drivers)) {
		f.drivers.set(float64(drivers[driver]), device, driver)
	}
	if grouped {
		f.sharing.set(float64(sharing), device)
	}
	if e := pf.ESwitch; e != nil {
		f.eswitch.set(1, device, e.Mode, e.InlineMode, e.Encap)
	}
}

type vfFamilies struct {
	info, user, vlan                     *family
	maxRate, minRate                     *family
	trust, spoof, query, linkState, msix *family
	shared                               *family
}

func defineVF(c *catalogue) vfFamilies {
	labels := []string{deviceLabel, "vf"}
	with := func(more ...string) []string { return append(labels[:2:2], more...) }
	const settings = "`ip link show PF`: IFLA_VF_INFO"
	truths := func(name, help, source string) *family {
		return c.add(Metric{Name: "vf_" + name, Type: gauge, Labels: labels, Help: help, Source: source, Series: perVF + " whose PF's driver tells"})
	}
	return vfFamilies{
		info: c.add(Metric{
			Name: "vf_info", Type: gauge,
			Labels: with("pci_address", "driver", "driver_kind", "iommu_group", "mac", "netdev", "namespace", "representor"),
			Help:   "A virtual function: its driver (kernel, vfio-pci, vfio-variant or none), the administrative MAC, and its network device wherever that is. Always 1; a label that is not known is empty.",
			Source: "`nictune inventory --vfs`: /sys/bus/pci/devices, `ip link show PF`", Series: perVF,
		}),
		user: c.add(Metric{
			Name: "vf_user_info", Type: gauge, Labels: with("kind", "name"),
			Help:   "Who uses a virtual function: a vm, container, process or namespace, or the bond, bridge or VLAN that its network device is under. Always 1.",
			Source: "`nictune inventory --vfs`: /proc/*/fd, /run/libvirt, cgroups", Series: "few; 1 per user of a virtual function",
		}),
		vlan: c.add(Metric{
			Name: "vf_vlan_info", Type: gauge, Labels: with("vlan", "qos", "protocol"),
			Help: "A VLAN that the PF puts the virtual function in. Always 1.", Source: settings, Series: "mostly 1 per virtual function that is in one",
		}),
		maxRate: c.add(Metric{
			Name: "vf_max_transmit_bytes_per_second", Type: gauge, Unit: "bytes per second", Labels: labels,
			Help: "The most that the virtual function may send. Absent where there is no limit.", Source: settings + ", max_tx_rate", Series: perVF + " with a limit",
		}),
		minRate: c.add(Metric{
			Name: "vf_min_transmit_bytes_per_second", Type: gauge, Unit: "bytes per second", Labels: labels,
			Help: "What the virtual function is guaranteed to send. Absent where nothing is.", Source: settings + ", min_tx_rate", Series: perVF + " with a guarantee",
		}),
		trust:     truths("trust", "Whether the virtual function may set its own MAC and be promiscuous.", settings+", trust"),
		spoof:     truths("spoof_check", "Whether frames from other addresses than the virtual function's are dropped.", settings+", spoof checking"),
		query:     truths("query_rss", "Whether the virtual function may ask for the RSS table and key.", settings+", query_rss"),
		linkState: c.add(Metric{Name: "vf_link_state_info", Type: gauge, Labels: with("state"), Help: "The link that the virtual function is shown: auto (the PF's), enable or disable. Always 1.", Source: settings + ", link-state", Series: perVF}),
		msix: c.add(Metric{
			Name: "vf_msix_vectors", Type: gauge, Unit: "interrupts", Labels: labels, Help: "The size of the virtual function's MSI-X table.",
			Source: "`lspci -vv`: MSI-X capability", Series: perVF + ", for root",
		}),
		shared: c.add(Metric{
			Name: "vf_iommu_group_shared", Type: gauge, Labels: labels,
			Help:   "Whether other devices are in the virtual function's IOMMU group: then it can't be given away alone.",
			Source: "/sys/kernel/iommu_groups/*/devices", Series: perVF + " behind an IOMMU",
		}),
	}
}

func (f vfFamilies) fill(device string, vf *sriov.VF) {
	index := strconv.Itoa(vf.Index)
	var group, mac, netdev, namespace string
	if vf.IOMMU != nil {
		group = strconv.Itoa(vf.IOMMU.Number)
		f.shared.set(truth(!vf.IOMMU.Own), device, index)
	}
	if n := vf.Netdev; n != nil {
		netdev = n.Name
		if n.Namespace != nil {
			namespace = cmp.Or(n.Namespace.Name, "another")
		}
	}
	if vf.Settings != nil {
		mac = vf.Settings.MAC
	}
	f.info.set(1, device, index, vf.Address, vf.Driver, string(vf.DriverKind), group, mac, netdev, namespace, vf.Representor)
	for i := range vf.Users {
		f.user.set(1, device, index, vf.Users[i].Kind, vf.Users[i].Name)
	}
	number(f.msix, vf.MSIX, device, index)
	s := vf.Settings
	if s == nil {
		return
	}
	for _, v := range s.VLANs {
		f.vlan.set(1, device, index, strconv.Itoa(v.ID), strconv.Itoa(v.QoS), v.Protocol)
	}
	if s.MaxTxRate != nil && *s.MaxTxRate > 0 {
		f.maxRate.set(float64(*s.MaxTxRate)*bytesPerMegabit, device, index)
	}
	if s.MinTxRate != nil && *s.MinTxRate > 0 {
		f.minRate.set(float64(*s.MinTxRate)*bytesPerMegabit, device, index)
	}
	maybe(f.trust, s.Trust, device, index)
	maybe(f.spoof, s.SpoofCheck, device, index)
	maybe(f.query, s.QueryRSS, device, index)
	if s.LinkState != "" {
		f.linkState.set(1, device, index, s.LinkState)
	}
}
