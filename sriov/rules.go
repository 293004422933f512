package sriov

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// onPF is a PF as its rules see it.
type onPF struct {
	*PF
	host *evidence
}

// evidence is a whole host, with what several of its VFs are compared by.
type evidence struct {
	*Inventory
	addresses addresses
	asked     map[string]bool
	earlier   *Earlier
}

// Earlier is what a look at the same host saw, so long before.
type Earlier struct {
	PFs []PF
	Ago time.Duration
}

// Subject is the identity of the PF's NIC, or its address where it has none here.
func (p onPF) Subject() findings.Subject {
	if nic := p.host.nic(p.Name); nic != nil {
		return findings.NICSubject(&p.host.Host, nic)
	}
	return findings.Subject{ID: p.Address, Host: p.host.Host.Hostname, PCIAddress: p.Address}
}

// nic is the network device of a name, nil if it isn't here.
func (e *evidence) nic(name string) *inventory.NIC {
	at := slices.IndexFunc(e.NICs, func(n inventory.NIC) bool { return name != "" && n.Name == name })
	if at < 0 {
		return nil
	}
	return &e.NICs[at]
}

// onVF is a VF as its rules see it.
type onVF struct {
	*VF
	pf onPF
}

// Subject is the PF's, with the VF as a part of it and the VF's own address.
func (v onVF) Subject() findings.Subject {
	s := v.pf.Subject()
	s.Name = cmp.Or(s.Name, v.pf.Address)
	s.Part, s.PCIAddress, s.PermanentMAC = fmt.Sprintf("vf %d", v.Index), v.Address, ""
	return s
}

// Rules are what is told of the room's rules.
func Rules() []findings.About {
	return slices.Concat(findings.Abouts(pfRules()), findings.Abouts(vfRules()))
}

// Judge judges PFs and their VFs. whole is the host that they are of: VFs are
// compared with others that need not be judged. migratable are the VFs, as "eth0 vf
// 3", that policies want to be migratable. earlier is nil where there was one look only.
func Judge(pfs []PF, whole *Inventory, earlier *Earlier, migratable map[string]bool) []findings.Finding {
	host := &evidence{whole, addressesIn(whole), migratable, earlier}
	var all []findings.Finding
	for i := range pfs {
		pf := onPF{&pfs[i], host}
		if at := slices.IndexFunc(whole.PFs, func(p PF) bool { return p.Bus == pf.Bus && p.Address == pf.Address }); at >= 0 {
			pf.PF = &whole.PFs[at] // with all its VFs
		}
		all = append(all, findings.Judge(pfRules(), pf)...)
		for j := range pfs[i].VFs {
			all = append(all, findings.Judge(vfRules(), onVF{&pfs[i].VFs[j], pf})...)
		}
	}
	return all
}

func pfRules() []findings.Rule[onPF] {
	return []findings.Rule[onPF]{
		{About: findings.About{
			ID: "sriov/no-acs", Severity: findings.Warning,
			Title:   "a port above the VFs lets devices reach each other past the IOMMU",
			Why:     "The IOMMU checks what comes up to the root. A port without access control services (ACS) may send a request of one device straight to its neighbour, so the kernel puts both into one IOMMU group and they can only be given away together.",
			Remedy:  "Turn ACS on in the firmware's setup, or put the card into a slot at a root port that has it. Overriding the groups in the kernel (pcie_acs_override) hides the shortcut and does not close it.",
			Sources: []string{"PCI Express Base Specification 6.0, 6.12", "Linux: drivers/iommu/iommu.c, pci_device_group"},
		}, Judge: noACS},
		{About: findings.About{
			ID: "sriov/east-west", Severity: findings.Info,
			Title:   "the PCIe link is narrower for traffic between VFs than the port",
			Why:     "A frame from one VF to another is read from memory and written to memory over the PCIe links above the card. The narrowest of them bounds such traffic, here below what the port carries, and the port's own traffic shares it.",
			Remedy:  "Put the card into a slot with more lanes or a higher speed, or bring guests that talk much to each other together by a software switch.",
			Sources: []string{"PCI Express Base Specification 6.0, 2.2 and 4.2", "docs/vfs.md, East-west"},
		}, Judge: eastWest},
	}
}

func vfRules() []findings.Rule[onVF] {
	return []findings.Rule[onVF]{
		{About: findings.About{
			ID: "sriov/shared-group", Severity: findings.Warning,
			Title:   "the VF shares its IOMMU group",
			Why:     "Devices of one group can reach each other's memory, so the kernel gives a group to one user only: this VF can't go to a VM while the host or another VM uses one of the others.",
			Remedy:  "See sriov/no-acs for its PF, which is the usual reason; a VF that shares a group for good can only be given away together with the others.",
			Sources: []string{"Linux: Documentation/driver-api/vfio.rst, Groups, Devices, and IOMMUs"},
		}, Judge: sharedGroup},
		{About: findings.About{
			ID: "sriov/trusted-unchecked", Severity: findings.Warning,
			Title:   "the VF is trusted and its addresses are not checked",
			Why:     "With trust on the VF may take other addresses and turn on promiscuous mode, with the spoof check off it may send with any. Together whoever has the VF can take the traffic of all others on the port.",
			Remedy:  "Turn the spoof check on (vfs: {spoofchk: on}), or trust off; leave both as they are only for a router or monitor that needs it.",
			Sources: []string{"ip-link(8): vf NUM trust, spoofchk"},
		}, Judge: trustedUnchecked},
		{About: findings.About{
			ID: "sriov/unbound", Severity: findings.Warning,
			Title:   "no driver is bound to the VF",
			Why:     "While the kernel binds drivers by itself (sriov_drivers_autoprobe), a VF without one was forgotten or found none. It is of no use to anybody, and takes its part of the card's queues and interrupts.",
			Remedy:  "Give it a driver (vfs: {driver: netdev} or vfio-pci), say that it shall have none (driver: none), or make fewer VFs.",
			Sources: []string{"Linux: Documentation/ABI/testing/sysfs-bus-pci, sriov_drivers_autoprobe and driver_override"},
		}, Judge: unboundVF},
		{About: findings.About{
			ID: "sriov/drops", Severity: findings.Warning,
			Title:   "the card drops packets of the VF",
			Why:     "What the card drops nobody but it counts: the VF's user sees packets missing and no reason. Received ones are dropped mostly because the VF's rings are full, sent ones because of its VLAN, spoof check or rate.",
			Remedy:  "Received: give the VF's user larger rings or more CPU. Sent: compare the VF's VLAN, spoof check and max-tx-rate with what its user sends. nictune check sriov --watch 10s tells whether it goes on.",
			Sources: []string{"Linux: include/uapi/linux/if_link.h, IFLA_VF_STATS_RX_DROPPED and TX_DROPPED"},
		}, Judge: drops},
		{About: findings.About{
			ID: "sriov/pf-mtu", Severity: findings.Warning,
			Title:   "the VF's MTU is larger than its PF's",
			Why:     "Many cards size their buffers and limit frames by the PF's MTU: larger frames to the VF are dropped, and small ones pass, so that connections open and then hang.",
			Remedy:  "Raise the PF's MTU to the VF's (netdev: {mtu: ...} of the PF), or lower the VF's.",
			Sources: []string{"Linux: drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c, ixgbe_set_vf_lpe"},
		}, Judge: pfMTU},
		{About: findings.About{
			ID: "sriov/vlan-clash", Severity: findings.Warning,
			Title:   "the VF's VLAN clashes with another setting",
			Why:     "The card tags all frames of such a VF. A VLAN device on it then sends frames with two tags, which cards drop or switches read as another VLAN. One VLAN number with 802.1Q on one VF and 802.1ad on another are two networks that look like one.",
			Remedy:  "Take the VLAN off in one place: vfs: {vlan: 0} for a VF that tags by itself, or no VLAN device where the PF tags. Use one protocol for one VLAN.",
			Sources: []string{"IEEE 802.1Q-2022, 6.9 (VLAN tag) and 15 (provider bridges)", "ip-link(8): vf NUM vlan"},
		}, Judge: vlanClash},
		{About: findings.About{
			ID: "sriov/duplicate-mac", Severity: findings.Critical,
			Title:   "another device of this host has the VF's MAC address",
			Why:     "The card's switch and the network deliver frames for an address to one place only, so that one of the two gets nothing, or both in turn.",
			Remedy:  "Give each VF an address of its own (vfs: {mac: derived}).",
			Sources: []string{"IEEE 802.1Q-2022, 8.8 (the filtering database)"},
		}, Judge: duplicateMAC},
		{About: findings.About{
			ID: "sriov/not-migratable", Severity: findings.Warning,
			Title:   "the VF can't be migrated, and shall be",
			Why:     "A policy asks for it (nictune check -f), or a variant of vfio-pci is bound, which saves and restores the device's state when a VM moves. The card keeps that state only for functions that are set migratable: the VM starts, and the day that it has to move it can't.",
			Remedy:  "Set the function migratable (port-functions: {migratable: on}), or bind vfio-pci where the VM never moves.",
			Sources: []string{"Linux: Documentation/networking/devlink/devlink-port.rst, migratable capability", "Linux: drivers/vfio/pci/mlx5"},
		}, Judge: notMigratable},
	}
}

func noACS(p onPF) findings.Verdict {
	switch {
	case len(p.VFs) == 0:
		return findings.Inapplicable("no VFs")
	case p.PeerToPeer == nil || p.PeerToPeer.UpToRoot == nil:
		if p.Bus != "pci" {
			return findings.Inapplicable("not on PCI")
		}
		return findings.Unread(p.Unread, "peerToPeer")
	case *p.PeerToPeer.UpToRoot:
		return findings.Passes("all requests go up to the root")
	}
	seen := "no ACS that sends requests up"
	for _, port := range p.PeerToPeer.Ports {
		if port.Address == p.PeerToPeer.Shortcut && port.ACS == nil {
			seen = "no ACS"
		}
	}
	return findings.Fails(fmt.Sprintf("%s at %s", seen, p.PeerToPeer.Shortcut), "source validation, request and completion redirect and upstream forwarding on")
}

func eastWest(p onPF) findings.Verdict {
	b := p.Budget
	switch {
	case len(p.VFs) < 2:
		return findings.Inapplicable("fewer than two VFs")
	case p.Bus != "pci":
		return findings.Inapplicable("not on PCI")
	case b == nil:
		return findings.Unclear("the speed of the links above the card is not known")
	case b.LineRateGbps == nil:
		return findings.Unclear("the port's speed is not known: it has no link")
	case b.EastWestGbps >= *b.LineRateGbps:
		return findings.Passes("%g Gbit/s between VFs at most, the port has %g Gbit/s", b.EastWestGbps, *b.LineRateGbps)
	}
	return findings.Fails(fmt.Sprintf("%g Gbit/s between VFs at most, at %s", b.EastWestGbps, b.NarrowHop), fmt.Sprintf("the port's %g Gbit/s or more", *b.LineRateGbps))
}

func sharedGroup(v onVF) findings.Verdict {
	switch g := v.IOMMU; {
	case v.Address == "":
		return findings.Inapplicable("no PCI device")
	case g == nil && slices.ContainsFunc(v.Unread, func(u inventory.Unread) bool { return u.Fact == "iommu" || u.Fact == "address" }):
		return findings.Unread(v.Unread, "iommu", "address")
	case g == nil:
		return findings.Inapplicable("no IOMMU in use")
	case g.Own:
		return findings.Passes("alone in group %d", g.Number)
	default:
		return findings.Fails(fmt.Sprintf("group %d is shared with %s", g.Number, list(g.Members)), "a group of its own")
	}
}

// list is "a, b, c", or some of many.
func list(names []string) string {
	const most = 4
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// settingsOf is the verdict where a VF's settings were not read.
func settingsOf(v onVF) findings.Verdict {
	return findings.Unread(v.pf.Unread, "vfs.settings")
}

func trustedUnchecked(v onVF) findings.Verdict {
	s := v.Settings
	switch {
	case s == nil:
		return settingsOf(v)
	case s.Trust != nil && !*s.Trust:
		return findings.Passes("trust off")
	case s.SpoofCheck != nil && *s.SpoofCheck:
		return findings.Passes("spoof check on")
	case s.Trust == nil || s.SpoofCheck == nil:
		return findings.Unclear("the driver doesn't tell of trust or of the spoof check")
	}
	return findings.Fails("trust on, spoof check off", "trust off, or spoof check on")
}

func unboundVF(v onVF) findings.Verdict {
	switch {
	case v.Address == "":
		return findings.Inapplicable("no PCI device")
	case v.DriverKind == "":
		return findings.Unread(v.Unread, "driver", "address")
	case v.DriverKind != DriverNone:
		return findings.Passes(v.Driver)
	case v.DriverOverride == noDriver:
		return findings.Passes("kept free of any driver (driver_override)")
	case v.DriverOverride == "" && v.pf.Autoprobe != nil && !*v.pf.Autoprobe:
		return findings.Inapplicable("free until somebody takes it: the kernel is told to bind none (sriov_drivers_autoprobe)")
	}
	seen := "no driver"
	if v.DriverOverride != "" {
		seen += ", and driver_override allows only " + v.DriverOverride
	}
	return findings.Fails(seen, "a driver")
}

func drops(v onVF) findings.Verdict {
	s := v.Statistics
	switch {
	case s == nil:
		return findings.Unread(v.pf.Unread, "vfs.statistics", "vfs.settings")
	case *s == Statistics{}:
		return findings.Unclear("all counters are 0: no traffic, or a driver that doesn't count")
	}
	seen := func(s Statistics) string {
		return fmt.Sprintf("%d packets to the VF and %d from it dropped, %d and %d passed", s.RxDropped, s.TxDropped, s.RxPackets, s.TxPackets)
	}
	const tolerable = "1 of 10000 at most"
	if more, ok := v.since(*s); ok {
		ago := v.pf.host.earlier.Ago
		if more.lossy(0) {
			return findings.Fails(fmt.Sprintf("%s in %s", seen(more), ago), tolerable)
		}
		return findings.Passes("%s in %s", seen(more), ago)
	}
	const few = 100 // since nobody knows when
	switch {
	case s.lossy(few):
		return findings.Fails(seen(*s), tolerable)
	case s.RxDropped+s.TxDropped > 0:
		return findings.Passes("%s; --watch tells whether it goes on", seen(*s))
	}
	return findings.Passes("%s", seen(*s))
}

// lossy reports whether of one direction more than few were dropped, and more than one
// of ten thousand.
func (s Statistics) lossy(few uint64) bool {
	const tolerated = 1e-4
	lost := func(dropped, passed uint64) bool {
		return dropped > few && float64(dropped) > tolerated*float64(passed)
	}
	return lost(s.RxDropped, s.RxPackets) || lost(s.TxDropped, s.TxPackets)
}

// since is what was counted since the earlier look; not ok where there was none, or the
// card has begun to count anew since.
func (v onVF) since(now Statistics) (more Statistics, ok bool) {
	if v.pf.host.earlier == nil {
		return more, false
	}
	for _, pf := range v.pf.host.earlier.PFs {
		if pf.Bus != v.pf.Bus || pf.Address != v.pf.Address {
			continue
		}
		at := slices.IndexFunc(pf.VFs, func(vf VF) bool { return vf.Index == v.Index })
		if at < 0 || pf.VFs[at].Statistics == nil {
			return more, false
		}
		was := *pf.VFs[at].Statistics
		if was.RxPackets > now.RxPackets || was.TxPackets > now.TxPackets || was.RxDropped > now.RxDropped || was.TxDropped > now.TxDropped {
			return more, false
		}
		return Statistics{
			RxPackets: now.RxPackets - was.RxPackets, TxPackets: now.TxPackets - was.TxPackets,
			RxDropped: now.RxDropped - was.RxDropped, TxDropped: now.TxDropped - was.TxDropped,
		}, true
	}
	return more, false
}

func pfMTU(v onVF) findings.Verdict {
	switch pf := v.pf.host.nic(v.pf.Name); {
	case v.Netdev == nil:
		return findings.Inapplicable("no network device on this host")
	case v.Netdev.MTU == nil:
		return findings.Unread(v.Unread, "netdev")
	case pf == nil:
		return findings.Unclear("the PF has no network device in this namespace")
	case pf.Link.MTU == nil:
		return findings.Unread(pf.Unread, "link.mtu")
	case *v.Netdev.MTU > *pf.Link.MTU:
		return findings.Fails(fmt.Sprintf("%d bytes, and the PF %d bytes", *v.Netdev.MTU, *pf.Link.MTU), fmt.Sprintf("at most the PF's %d bytes", *pf.Link.MTU)).
			To("Raise the PF's MTU (policy for %s: netdev: {mtu: %d}), or lower the VF's.", pf.Name, *v.Netdev.MTU)
	default:
		return findings.Passes("%d bytes, the PF has %d bytes", *v.Netdev.MTU, *pf.Link.MTU)
	}
}

func vlanClash(v onVF) findings.Verdict {
	if v.Settings == nil {
		return settingsOf(v)
	}
	tags := v.Settings.VLANs
	if len(tags) == 0 {
		return findings.Inapplicable("not in a VLAN of the PF's")
	}
	var clashes []string
	for _, u := range v.Users {
		if u.Kind == "vlan" {
			what := u.Name
			if n := v.pf.host.nic(u.Name); n != nil && n.Stack.VLAN != nil {
				what = fmt.Sprintf("%s (VLAN %d)", u.Name, n.Stack.VLAN.ID)
			}
			clashes = append(clashes, "the device "+what+" on it tags, too")
		}
	}
	for i := range v.pf.VFs {
		other := &v.pf.VFs[i]
		if other.Index == v.Index || other.Settings == nil {
			continue
		}
		for _, tag := range tags {
			if slices.ContainsFunc(other.Settings.VLANs, func(o VLANTag) bool { return o.ID == tag.ID && o.Protocol != tag.Protocol }) {
				clashes = append(clashes, fmt.Sprintf("VF %d has the number with another protocol", other.Index))
			}
		}
	}
	seen := "VLAN " + vlanWords(tags)
	if len(clashes) == 0 {
		return findings.Passes(seen)
	}
	return findings.Fails(seen+": "+list(clashes), "one place that tags, and one protocol")
}

func notMigratable(v onVF) findings.Verdict {
	f := v.PortFunction
	switch {
	case v.DriverKind == "" && v.Address != "":
		return findings.Unread(v.Unread, "driver", "address")
	case v.DriverKind != DriverVFIOVariant && !v.pf.host.asked[v.pf.nameOf(v.VF)]:
		return findings.Inapplicable("nobody asks for it: no policy, and the driver is %s", v.drivenByWhat())
	case f == nil && slices.ContainsFunc(v.pf.Unread, func(u inventory.Unread) bool { return u.Fact == "vfs.portFunction" }):
		return findings.Unread(v.pf.Unread, "vfs.portFunction")
	case f == nil || f.Migratable == nil:
		return findings.Unclear("the card has no port for the VF that tells (devlink, in switchdev mode)")
	case *f.Migratable:
		return findings.Passes("migratable, driver %s", v.drivenByWhat())
	}
	return findings.Fails("migratable is off, driver "+v.drivenByWhat(), "migratable on")
}

// drivenByWhat is the VF's driver, also where there is none.
func (vf *VF) drivenByWhat() string { return cmp.Or(vf.Driver, string(DriverNone)) }

// addresses are the devices of a host that use a MAC address, by address.
type addresses map[string]map[string]bool

const noAddress = "00:00:00:00:00:00"

// addressesIn collects who uses which address: PFs, other cards, and VFs, each
// with the address in use and the one that its PF assigned. Members of a bond or
// team share one on purpose and count with those that are their own.
func addressesIn(inv *Inventory) addresses {
	all := addresses{}
	add := func(mac, who string) {
		if mac == "" || mac == noAddress {
			return
		}
		if all[mac] == nil {
			all[mac] = map[string]bool{}
		}
		all[mac][who] = true
	}
	virtual := map[string]bool{}
	for i := range inv.PFs {
		for j := range inv.PFs[i].VFs {
			vf := &inv.PFs[i].VFs[j]
			virtual[vf.Address] = vf.Address != ""
			for _, mac := range vf.ownAddresses() {
				add(mac, inv.PFs[i].nameOf(vf))
			}
		}
	}
	for i := range inv.NICs {
		n := &inv.NICs[i]
		switch {
		case n.Function == inventory.Virtual || n.Function == inventory.Representor || n.Parent == nil:
		case n.PCI != nil && virtual[n.PCI.Address]:
		case n.Stack.Master != "":
			add(n.PermanentMAC, n.Name)
		default:
			add(n.MAC, n.Name)
		}
	}
	return all
}

// nameOf is a VF for people: "eth0 vf 3".
func (pf *PF) nameOf(vf *VF) string {
	name := pf.Name
	if name == "" {
		name = pf.Address
	}
	return fmt.Sprintf("%s vf %d", name, vf.Index)
}

// ownAddresses are those that the VF has and shares with nobody on purpose.
func (vf *VF) ownAddresses() []string {
	var all []string
	if vf.Settings != nil {
		all = append(all, vf.Settings.MAC)
	}
	shares := slices.ContainsFunc(vf.Users, func(u User) bool { return u.Kind == "bond" || u.Kind == "team" })
	if vf.Netdev != nil && !shares {
		all = append(all, vf.Netdev.MAC)
	}
	return slices.DeleteFunc(all, func(mac string) bool { return mac == "" || mac == noAddress })
}

func duplicateMAC(v onVF) findings.Verdict {
	own := v.ownAddresses()
	if len(own) == 0 {
		if v.Settings == nil {
			return settingsOf(v)
		}
		return findings.Inapplicable("the VF's user chooses the address, and it is not known here")
	}
	name := v.pf.nameOf(v.VF)
	for _, mac := range own {
		var others []string
		for _, who := range slices.Sorted(maps.Keys(v.pf.host.addresses[mac])) {
			if who != name {
				others = append(others, who)
			}
		}
		if len(others) > 0 {
			return findings.Fails(fmt.Sprintf("%s is %s's, too", mac, list(others)), "an address of its own")
		}
	}
	return findings.Passes(own[0])
}
