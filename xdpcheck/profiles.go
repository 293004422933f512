package xdpcheck

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// Profile is a purpose that a NIC may be readied for.
type Profile struct {
	Name string
	// Doc says what for, in one line; Hidden what has to be so and nictune can't see.
	Doc    string
	Hidden []string
	items  func(NIC) []Item
}

// Item is one thing that a purpose asks for.
type Item struct {
	Name   string          `json:"name"`
	Status findings.Status `json:"status"`
	Seen   string          `json:"seen"`
	// Do is what to change where it fails, a whole sentence; Setting and Value are
	// what a policy says to do so, where one can.
	Do      string         `json:"do,omitempty"`
	Setting string         `json:"setting,omitempty"`
	Value   map[string]any `json:"value,omitempty"`
	// Source is where the demand comes from.
	Source string `json:"source"`
}

// Readiness is a NIC judged for a purpose.
type Readiness struct {
	Subject findings.Subject `json:"subject"`
	Profile string           `json:"profile"`
	// Ready is "yes", "no" where an item fails, and "unknown" where none does and
	// one could not be judged.
	Ready string `json:"ready"`
	Items []Item `json:"items"`
	// Hidden is what has to be so and nictune can't see.
	Hidden []string `json:"unseen,omitempty"`
}

// Profiles are all purposes.
func Profiles() []Profile {
	const katran = "Katran, README: Environment requirements for katran to run"
	return []Profile{
		{
			Name: "ddos-filter", Doc: "drop floods in the driver, before they cost anything",
			items: func(n NIC) []Item {
				return []Item{
					n.kernelItem(Release{4, 8}, "XDP_DROP is of Linux 4.8, for mlx4 first; mlx5 followed in 4.9 (6a773a15a1e8, 86994156c736)"),
					n.nativeItem(), n.mergingItem("rx-lro"), n.mergingItem("rx-gro-hw"), n.splitItem(), n.jitItem(),
					n.queuesItem(2, "One queue is one CPU: a flood on it is dropped no faster than one CPU can. Documentation/networking/scaling.rst"),
					n.ringItem(1024),
				}
			},
		},
		{
			Name: "l4lb", Doc: "a load balancer that sends packets back out of the interface they came in by (Katran)",
			Hidden: []string{
				"The real servers answer clients directly (DSR), and take IP-in-IP.",
				"All above the top-of-rack switch is routed: Katran sends every packet to one gateway's MAC address.",
				"Nobody sends fragments or IP options to the virtual addresses: Katran does not forward those.",
			},
			items: func(n NIC) []Item {
				c := n.Capabilities()
				native := c.Native.item("native", "docs/xdp-drivers.md")
				native.Source = katran + "; XDP_TX is part of NETDEV_XDP_ACT_BASIC"
				return []Item{
					n.kernelItem(Release{5, 6}, "Katran, README: Requirements"), native,
					n.mtuItem(c, 3500, katran+": no packet larger than 3.5k"),
					n.mergingItem("rx-lro"), n.mergingItem("rx-gro-hw"), n.splitItem(), n.jitItem(),
					n.queuesItem(2, "Katran, README: performance scales with the NIC's receive queues"),
				}
			},
		},
		{
			Name: "af-xdp", Doc: "AF_XDP sockets without copying",
			Hidden: []string{"Each socket insists on zero copy (XDP_ZEROCOPY): otherwise the kernel copies where it must, and says nothing."},
			items: func(n NIC) []Item {
				c := n.Capabilities()
				return []Item{
					n.kernelItem(Release{4, 18}, "AF_XDP is of Linux 4.18 (fbfc504a24f5)"),
					n.nativeItem(), c.ZeroCopy.item("zero-copy", "Documentation/networking/af_xdp.rst"),
					n.frameItem(c), n.mergingItem("rx-lro"), n.mergingItem("rx-gro-hw"), n.splitItem(), n.steeringItem(),
				}
			},
		},
		{
			Name: "queue-share", Doc: "one queue for an application, the others for the kernel",
			items: func(n NIC) []Item {
				return []Item{
					n.queuesItem(2, "one queue for the application, one at least for the kernel"),
					n.steeringItem(), n.spareQueueItem(), n.ruleItem(),
				}
			},
		},
		{
			Name: "tc-offload", Doc: "flower rules in hardware, between VFs and the wire (Open vSwitch, OVN)",
			items: func(n NIC) []Item { return []Item{n.tcItem(), n.switchdevItem(), n.representorsItem()} },
		},
		{
			Name: "sriov-host", Doc: "VFs for guests, and guests that can be migrated",
			Hidden: []string{"The guest's driver and the hypervisor's version on the other host decide over live migration, too."},
			items: func(n NIC) []Item {
				return []Item{n.pfItem(), n.iommuItem(), n.ownGroupItem(), n.vfsItem(), n.migrationItem()}
			},
		},
		{
			Name: "memory", Doc: "receive memory that is used again instead of allocated",
			items: func(n NIC) []Item {
				return []Item{n.pageItem(), n.ringMemoryItem(), n.recyclingItem(), n.headerSplitItem(), n.bigTCPItem()}
			},
		},
	}
}

// FindProfile finds a purpose by its name.
func FindProfile(name string) (Profile, error) {
	var names []string
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("there is no profile %q: use one of %s", name, strings.Join(names, ", "))
}

// Judge says whether a NIC is ready.
func (p Profile) Judge(n NIC) Readiness {
	r := Readiness{Subject: n.Subject(), Profile: p.Name, Ready: "yes", Items: p.items(n), Hidden: p.Hidden}
	for _, item := range r.Items {
		switch item.Status {
		case findings.Fail:
			r.Ready = "no"
		case findings.Unknown:
			if r.Ready == "yes" {
				r.Ready = "unknown"
			}
		}
	}
	return r
}

// Settings are what a policy has to say so that the items pass which one can mend:
// by setting, then by field.
func (r Readiness) Settings() map[string]map[string]any {
	all := map[string]map[string]any{}
	for _, item := range r.Items {
		if item.Status != findings.Fail || item.Setting == "" || item.Value == nil {
			continue
		}
		if all[item.Setting] == nil {
			all[item.Setting] = map[string]any{}
		}
		for field, value := range item.Value {
			// Of two limits of one field the tighter one suits both.
			was, isLimit := all[item.Setting][field].(int)
			if is, ok := value.(int); ok && isLimit {
				value = min(was, is)
			}
			all[item.Setting][field] = value
		}
	}
	return all
}

func passes(name, source, seen string, args ...any) Item {
	return Item{Name: name, Status: findings.Pass, Seen: fmt.Sprintf(seen, args...), Source: source}
}

func unclear(name, source, why string, args ...any) Item {
	return Item{Name: name, Status: findings.Unknown, Seen: fmt.Sprintf(why, args...), Source: source}
}

func fails(name, source, seen, do string) Item {
	return Item{Name: name, Status: findings.Fail, Seen: seen, Do: do, Source: source}
}

func (i Item) by(setting string, value map[string]any) Item {
	i.Setting, i.Value = setting, value
	return i
}

// item makes an item of a capability.
func (c Capability) item(name, source string) Item {
	switch c.Answer {
	case Yes:
		return passes(name, source, "%s", c.Why)
	case Unknown:
		return unclear(name, source, "%s", c.Why)
	case Unsupported:
		return fails(name, source, c.Why, "Use another NIC, or the newer kernel where one is named.")
	}
	i := fails(name, source, c.Why, "Look at docs/xdp-drivers.md for what this driver needs, or try nictune check xdp --probe.")
	var dos []string
	for _, b := range c.Blockers {
		dos = append(dos, b.Do)
		if b.Value != nil && (i.Setting == "" || i.Setting == b.Setting) {
			if i.Value == nil {
				i.Value = map[string]any{}
			}
			i.Setting = b.Setting
			maps.Copy(i.Value, b.Value)
		}
	}
	if len(dos) > 0 {
		i.Do = strings.Join(dos, " ")
	}
	return i
}

func (n NIC) nativeItem() Item {
	return n.Capabilities().Native.item("native", "docs/xdp-drivers.md")
}

// backported is why an old release says nothing for sure: RHEL's 4.18 has the XDP of
// much younger kernels.
const backported = "a distribution may have brought it back"

// kernelItem is whether the kernel's release is known to be new enough.
func (n NIC) kernelItem(least Release, source string) Item {
	r := n.facts.release
	switch {
	case r.IsZero():
		return unclear("kernel", source, "the kernel's release is not known")
	case r.Before(least):
		return unclear("kernel", source, "Linux %s is older than %s; %s", r, least, backported)
	}
	return passes("kernel", source, "Linux %s; %s is enough", r, least)
}

// mergingItem is a feature that merges packets before a program sees them.
func (n NIC) mergingItem(feature string) Item {
	const source = "Documentation/networking/segmentation-offloads.rst; cf6e34c8c22f net/mlx5e: Properly block LRO when XDP is enabled"
	f, ok := n.Offloads.Features[feature]
	switch {
	case !ok:
		return unclear(feature, source, "whether the NIC merges packets is not known")
	case !f.Active:
		return passes(feature, source, "off")
	case f.Fixed:
		return fails(feature, source, "on, and this driver does not let go of it", "Have the hypervisor turn it off.")
	}
	return fails(feature, source, "on", fmt.Sprintf("Turn it off: ethtool -K %s %s off.", n.Name, feature)).by("features", map[string]any{feature: false})
}

// splitItem is header split, which programs of one buffer don't bear.
func (n NIC) splitItem() Item {
	const source = "Documentation/networking/ethtool-netlink.rst, tcp-data-split; bnxt_en and gve refuse programs while it is on"
	r := n.Queues.Rings
	switch {
	case r == nil && n.unread("queues.rings"):
		return unclear("header-split", source, "the rings' settings could not be read")
	case r == nil || r.TCPDataSplit == "" || r.TCPDataSplit == "unknown":
		if n.driver() != nil && !slices.ContainsFunc(n.driver().Blockers, func(b Blocker) bool { return b.Kind == "tcp-data-split" || b.Kind == "hds-thresh" }) {
			return passes("header-split", source, "the driver tells of none")
		}
		return unclear("header-split", source, "the driver doesn't tell")
	case r.TCPDataSplit == "on":
		return fails("header-split", source, "tcp-data-split is on", fmt.Sprintf("Turn it off: ethtool -G %s tcp-data-split off.", n.Name)).by("rings", map[string]any{"tcp-data-split": false})
	}
	return passes("header-split", source, "off")
}

// jitUnread is why it isn't known whether programs are compiled.
const jitUnread = "net.core.bpf_jit_enable could not be read: other network namespaces than the host's own have none"

func (n NIC) jitItem() Item {
	const source = "Documentation/admin-guide/sysctl/net.rst, bpf_jit_enable; Katran, EXAMPLE: make sure that BPF's jit is enabled"
	switch n.facts.extra.JIT {
	case "":
		return unclear("jit", source, jitUnread)
	case "0":
		return fails("jit", source, "net.core.bpf_jit_enable=0: programs are interpreted", "Set it: sysctl -w net.core.bpf_jit_enable=1.")
	}
	return passes("jit", source, "net.core.bpf_jit_enable=%s", n.facts.extra.JIT)
}

// receiveQueues are the NIC's at present; most how many it can have. 0 where that is
// not known.
func (n NIC) receiveQueues() (now, most uint32, kind string) {
	c := n.Queues.Channels
	switch {
	case c != nil && c.Combined != nil && c.Combined.Maximum > 0 && (c.RX == nil || c.RX.Current == 0):
		return c.Combined.Current, c.Combined.Maximum, "combined"
	case c != nil && c.RX != nil && c.RX.Maximum > 0:
		return c.RX.Current, c.RX.Maximum, "rx"
	case n.Queues.RX != nil && *n.Queues.RX == 1:
		return 1, 1, ""
	}
	return 0, 0, ""
}

func (n NIC) queuesItem(least uint32, source string) Item {
	now, most, kind := n.receiveQueues()
	switch {
	case now == 0:
		return unclear("queues", source, "how many queues receive is not known")
	case now >= least:
		return passes("queues", source, "%d of %d receive", now, most)
	case most < least:
		return fails("queues", source, fmt.Sprintf("%d, and the NIC can't have more", now), "Use a NIC with more queues, or give the virtual one more.")
	}
	return fails("queues", source, fmt.Sprintf("%d of %d receives", now, most), fmt.Sprintf("Have more: ethtool -L %s %s %d.", n.Name, kind, least)).by("channels", map[string]any{kind: least})
}

func (n NIC) ringItem(least uint32) Item {
	const source = "the shipped policy ddos-filter: a flood fills a ring before the CPU has come to it"
	r := n.Queues.Rings
	if r == nil || r.RX == nil {
		return unclear("rx-ring", source, "the size of the receive rings is not known")
	}
	want := least
	if r.RX.Maximum > 0 {
		want = min(least, r.RX.Maximum)
	}
	if r.RX.Current >= want {
		return passes("rx-ring", source, "%d of %d descriptors", r.RX.Current, r.RX.Maximum)
	}
	return fails("rx-ring", source, fmt.Sprintf("%d of %d descriptors", r.RX.Current, r.RX.Maximum), fmt.Sprintf("Make it larger: ethtool -G %s rx %d.", n.Name, want)).by("rings", map[string]any{"rx": want})
}

func (n NIC) mtuItem(c Capabilities, most int, source string) Item {
	switch {
	case n.Link.MTU == nil:
		return unclear("mtu", source, "the MTU is not known")
	case *n.Link.MTU > most:
		if c.MaxMTU != nil { // one advice, which suits the native item, too
			most = min(most, *c.MaxMTU)
		}
		return fails("mtu", source, fmt.Sprintf("%d bytes", *n.Link.MTU), fmt.Sprintf("Make it %d at most: ip link set %s mtu %d.", most, n.Name, most)).by("netdev", map[string]any{"mtu": most})
	}
	return passes("mtu", source, "%d bytes", *n.Link.MTU)
}

// frameItem is whether a packet of the MTU fits into frames of a page, less what XDP
// keeps before it.
func (n NIC) frameItem(c Capabilities) Item {
	const source = "net/xdp/xsk_buff_pool.c, xp_assign_dev; XDP_PACKET_HEADROOM is 256"
	const header, headroom = 18, 256
	switch {
	case n.Link.MTU == nil:
		return unclear("frames", source, "the MTU is not known")
	case *n.Link.MTU+header <= 4096-headroom:
		return passes("frames", source, "a packet of MTU %d fits into a frame of 4096 bytes", *n.Link.MTU)
	case n.Offloads.XDPZeroCopyMaxSegments != nil && *n.Offloads.XDPZeroCopyMaxSegments > 1:
		return passes("frames", source, "a packet may have %d frames, where the socket asks for it (XDP_USE_SG)", *n.Offloads.XDPZeroCopyMaxSegments)
	}
	want := 4096 - headroom - header
	if c.MaxMTU != nil {
		want = min(want, *c.MaxMTU)
	}
	return fails("frames", source, fmt.Sprintf("a packet of MTU %d needs more than a frame of 4096 bytes, and the driver takes one for each", *n.Link.MTU),
		fmt.Sprintf("Make the MTU %d at most: ip link set %s mtu %d.", want, n.Name, want)).by("netdev", map[string]any{"mtu": want})
}

// steeringItem is whether rules can send packets to a queue.
func (n NIC) steeringItem() Item {
	const name, source = "ntuple", "Documentation/networking/af_xdp.rst, FAQ: a socket gets the packets of its queue only"
	if now, most, _ := n.receiveQueues(); now == 1 && most == 1 {
		return passes(name, source, "there is one queue, which gets everything")
	}
	f, ok := n.Offloads.Features["rx-ntuple-filter"]
	switch {
	case !ok:
		return unclear(name, source, "whether the NIC takes rules is not known")
	case f.Active:
		return passes(name, source, "on")
	case f.Fixed:
		return fails(name, source, "this NIC takes no rules", "Use one queue only, or take all queues; or another NIC.")
	}
	return fails(name, source, "off", fmt.Sprintf("Turn it on: ethtool -K %s ntuple on.", n.Name)).by("features", map[string]any{"ntuple": true})
}

// spare are the queues that the default RSS context does not use.
func (n NIC) spare() (queues []uint32, ok bool) {
	now, _, _ := n.receiveQueues()
	if now == 0 || n.Queues.RSS == nil || len(n.Queues.RSS.Table) == 0 {
		return nil, false
	}
	for q := range now {
		if !slices.Contains(n.Queues.RSS.Table, q) {
			queues = append(queues, q)
		}
	}
	return queues, true
}

func (n NIC) spareQueueItem() Item {
	const name, source = "queue-outside-rss", "Documentation/networking/scaling.rst; ethtool -x"
	spare, ok := n.spare()
	now, _, _ := n.receiveQueues()
	switch {
	case !ok:
		return unclear(name, source, "the NIC doesn't show its RSS table")
	case len(spare) > 0:
		return passes(name, source, "RSS leaves out %s", list(spare))
	case now < 2:
		return fails(name, source, "there is one queue", "Have two at least.")
	}
	return fails(name, source, fmt.Sprintf("RSS spreads over all %d queues", now), fmt.Sprintf("Leave one out: ethtool -X %s equal %d.", n.Name, now-1)).by("rss", map[string]any{"exclude-queues": []uint32{now - 1}})
}

func (n NIC) ruleItem() Item {
	const name, source = "rule", "Documentation/networking/scaling.rst, accelerated RFS and ntuple; ethtool -n"
	t := n.Queues.Ntuple
	if t == nil {
		return unclear(name, source, "the NIC's rules are not known")
	}
	spare, ok := n.spare()
	if !ok {
		return unclear(name, source, "the NIC doesn't show its RSS table, and so not which queues it leaves out")
	}
	for _, r := range t.Rules {
		if r.Queue != nil && slices.Contains(spare, *r.Queue) {
			return passes(name, source, "rule %d sends %s to queue %d", r.Location, cmp.Or(r.FlowType, "packets"), *r.Queue)
		}
	}
	return fails(name, source, "no rule sends packets to a queue that RSS leaves out", fmt.Sprintf("Say which packets are the application's: ethtool -N %s flow-type udp4 dst-port PORT action QUEUE, or settings: {flows: [...]}.", n.Name))
}

func list(queues []uint32) string {
	words := make([]string, 0, len(queues))
	for _, q := range queues {
		words = append(words, fmt.Sprint(q))
	}
	if len(words) == 1 {
		return "queue " + words[0]
	}
	return "queues " + strings.Join(words, ", ")
}

func (n NIC) tcItem() Item {
	const name, source = "hw-tc-offload", "Documentation/networking/switchdev.rst"
	f, ok := n.Offloads.Features[name]
	switch {
	case !ok:
		return unclear(name, source, "the feature is not known")
	case f.Active:
		return passes(name, source, "on")
	case f.Fixed:
		return fails(name, source, "this driver has none", "Use a NIC whose driver has it, such as mlx5_core, ice, nfp or bnxt_en.")
	}
	return fails(name, source, "off", fmt.Sprintf("Turn it on: ethtool -K %s hw-tc-offload on.", n.Name)).by("features", map[string]any{name: true})
}

// switchdevItem goes by the mode of the device's switch. That a port belongs to a
// switch proves nothing: ice and i40e say so in legacy mode, too.
func (n NIC) switchdevItem() Item {
	const name, source = "switchdev", "Documentation/networking/devlink/devlink-eswitch-attr.rst"
	mode := ""
	if n.Devlink != nil {
		mode = n.facts.extra.ESwitch[n.Devlink.Handle]
	}
	switch {
	case n.Devlink == nil && n.unread("devlink"):
		return unclear(name, source, "the device's devlink instance could not be read")
	case n.Devlink == nil:
		return fails(name, source, "the device has no devlink instance, and so no switch to set up", "Use a NIC with an embedded switch.")
	case mode == "switchdev" && n.Port.SwitchID != "":
		return passes(name, source, "the mode is switchdev; the port belongs to switch %s", n.Port.SwitchID)
	case mode == "switchdev":
		return passes(name, source, "the mode is switchdev")
	case mode == "legacy" || mode == "switchdev_inactive":
		return fails(name, source, "the mode is "+mode, fmt.Sprintf("Change the mode, which takes VFs away for a moment: devlink dev eswitch set %s mode switchdev.", n.Devlink.Handle))
	case mode == "none":
		return fails(name, source, "the driver has no modes of a switch", "Use a NIC with an embedded switch.")
	}
	return unclear(name, source, "the mode of the device's switch could not be read, which takes CAP_NET_ADMIN")
}

func (n NIC) representorsItem() Item {
	const name, source = "representors", "Documentation/networking/representors.rst"
	if n.switchdevItem().Status != findings.Pass {
		return unclear(name, source, "there are none before switchdev mode")
	}
	if n.Port.SwitchID == "" {
		return unclear(name, source, "which switch the port belongs to is not known")
	}
	var names []string
	for _, other := range n.facts.nics {
		if other.Function == inventory.Representor && other.Port.SwitchID == n.Port.SwitchID && other.Name != n.Name {
			names = append(names, other.Name)
		}
	}
	if len(names) == 0 {
		return fails(name, source, "none", "Create VFs or subfunctions: each has a representor here.")
	}
	return passes(name, source, "%s", strings.Join(names, ", "))
}

func (n NIC) pfItem() Item {
	const name, source = "pf", "Documentation/PCI/pci-iov-howto.rst"
	if n.PCI == nil || n.PCI.SRIOV == nil || n.PCI.SRIOV.TotalVFs == 0 {
		return fails(name, source, "no physical function with VFs", "Turn SR-IOV on in the firmware, or use a NIC that has it.")
	}
	return passes(name, source, "%d VFs at most", n.PCI.SRIOV.TotalVFs)
}

func (n NIC) iommuItem() Item {
	const name, source = "iommu", "Documentation/driver-api/vfio.rst"
	switch {
	case len(n.facts.host.IOMMU.Units) > 0:
	case unread(n.facts.unread, "iommu.units"):
		return unclear(name, source, "which IOMMUs are in use could not be read")
	default:
		return fails(name, source, "no IOMMU is in use",
			"Turn it on in the firmware: VT-d on Intel, AMD-Vi (IOMMU) on AMD, SMMU on ARM. On Intel the kernel may need intel_iommu=on on its command line, too.")
	}
	return passes(name, source, "%s", strings.Join(n.facts.host.IOMMU.Units, ", "))
}

func (n NIC) ownGroupItem() Item {
	const name, source = "iommu-group", "Documentation/driver-api/vfio.rst: a group is given to a guest as a whole"
	switch {
	case n.IOMMU == nil:
		return unclear(name, source, "the NIC's group is not known")
	case len(n.IOMMU.Members) > 0:
		return fails(name, source, fmt.Sprintf("group %d has also %s", n.IOMMU.Group, strings.Join(n.IOMMU.Members, ", ")), "Use a slot whose root port has ACS: VFs in one group can't go to different guests.")
	}
	return passes(name, source, "group %d is the PF's own", n.IOMMU.Group)
}

func (n NIC) vfsItem() Item {
	const name, source = "vfs", "Documentation/PCI/pci-iov-howto.rst"
	if n.PCI == nil || n.PCI.SRIOV == nil {
		return unclear(name, source, "this is no physical function")
	}
	if n.PCI.SRIOV.NumVFs == 0 {
		return fails(name, source, "none", fmt.Sprintf("Create them: settings: {sriov: {num-vfs: N}} with N up to %d.", n.PCI.SRIOV.TotalVFs))
	}
	return passes(name, source, "%d of %d", n.PCI.SRIOV.NumVFs, n.PCI.SRIOV.TotalVFs)
}

// migrationModule is a variant of vfio-pci that migrates VFs.
type migrationModule struct {
	name, source string
	since        Release
}

// migrationModules are they, by the PF's driver. pds_vfio_pci is none of a NIC's: it
// asks for a PF of pds_core, which makes no network device.
func migrationModules() map[string]migrationModule {
	return map[string]migrationModule{
		"mlx5_core": {"mlx5_vfio_pci", "drivers/vfio/pci/mlx5, Linux 5.18", Release{5, 18}},
	}
}

// migrationItem is whether the kernel has a vfio driver that migrates such VFs. That
// it is new enough doesn't say that it was built with it.
func (n NIC) migrationItem() Item {
	const name = "live-migration"
	if n.Driver == nil {
		return unclear(name, "drivers/vfio/pci", "the driver is not known")
	}
	k, ok := migrationModules()[n.Driver.Name]
	switch {
	case !ok:
		return unclear(name, "drivers/vfio/pci", "whether a vfio driver migrates VFs of %s is not known", n.Driver.Name)
	case slices.Contains(n.facts.extra.Modules, k.name):
		return passes(name, k.source, "%s is loaded; bind VFs to it", k.name)
	case n.facts.release.IsZero():
		return unclear(name, k.source, "%s is not loaded, and the kernel's release is not known", k.name)
	case n.facts.release.Before(k.since):
		return unclear(name, k.source, "%s is of Linux %s, and this is %s; %s: modprobe %s tells. A virtio device to fail over to (net_failover) needs none", k.name, k.since, n.facts.release, backported, k.name)
	}
	return unclear(name, k.source, "Linux %s can have %s, and it is not loaded: modprobe %s tells", n.facts.release, k.name, k.name)
}

func (n NIC) pageItem() Item {
	const name, source = "page", "/proc/vmstat against /proc/meminfo"
	if n.facts.memory.page == 0 {
		return unclear(name, source, "the size of a page is not known")
	}
	if n.facts.memory.page > 16384 {
		return fails(name, source, fmt.Sprintf("%d bytes", n.facts.memory.page), "Many drivers give each packet a page of its own under XDP: make the rings smaller, or run a kernel with pages of 4096 bytes.")
	}
	return passes(name, source, "%d bytes", n.facts.memory.page)
}

// ringMemoryItem is what the receive rings hold when each descriptor has a page.
func (n NIC) ringMemoryItem() Item {
	const name, source = "ring-memory", "ethtool -g and -l; one page for each descriptor, as page pools give them"
	now, _, _ := n.receiveQueues()
	r := n.Queues.Rings
	if now == 0 || r == nil || r.RX == nil || n.facts.memory.page == 0 {
		return unclear(name, source, "queues, rings or pages are not known")
	}
	size := uint64(now) * uint64(r.RX.Current) * uint64(n.facts.memory.page)
	node := n.nodeMemory()
	seen := fmt.Sprintf("%d MiB for %d queues of %d descriptors", size>>20, now, r.RX.Current)
	if node == 0 {
		return unclear(name, source, "%s; the memory of the NIC's node is not known", seen)
	}
	const tooMuch = 16
	if size > node/tooMuch {
		return fails(name, source, fmt.Sprintf("%s, of the node's %d MiB", seen, node>>20), fmt.Sprintf("Use smaller rings or fewer queues: ethtool -G %s rx N.", n.Name))
	}
	return passes(name, source, "%s, of the node's %d MiB", seen, node>>20)
}

// nodeMemory is that of the NIC's memory node; of all where it has none.
func (n NIC) nodeMemory() uint64 {
	var sum uint64
	for _, node := range n.facts.host.Nodes {
		if node.MemoryBytes == nil {
			return 0
		}
		if n.NUMA != nil && n.NUMA.Node != nil && *n.NUMA.Node == node.ID {
			return *node.MemoryBytes
		}
		sum += *node.MemoryBytes
	}
	return sum
}

func (n NIC) recyclingItem() Item {
	const name, source = "recycling", "Documentation/networking/page_pool.rst; netdev genl, page-pool-stats-get"
	c, ok := n.facts.extra.Recycled[n.Name]
	const few = 10000
	switch {
	case len(n.Queues.PagePools) == 0:
		return unclear(name, source, "no page pool is listed: the device is down, or this driver or kernel has none")
	case !ok:
		return unclear(name, source, "this kernel does not count (CONFIG_PAGE_POOL_STATS)")
	case c.Allocated+c.Reused < few:
		return unclear(name, source, "%d pages were needed so far, too few to judge", c.Allocated+c.Reused)
	}
	percent := 100 * float64(c.Reused) / float64(c.Allocated+c.Reused)
	const enough = 90
	if percent < enough {
		return fails(name, source, fmt.Sprintf("%.1f%% of pages were used again", percent), "Pages come back late or to another CPU: read them on the CPU that receives, and look at ring and socket buffer sizes.")
	}
	return passes(name, source, "%.1f%% of pages were used again", percent)
}

func (n NIC) headerSplitItem() Item {
	const name, source = "header-split", "Documentation/networking/ethtool-netlink.rst, tcp-data-split; Documentation/networking/devmem.rst"
	r := n.Queues.Rings
	switch {
	case r == nil || r.TCPDataSplit == "" || r.TCPDataSplit == "unknown":
		return unclear(name, source, "the driver doesn't tell of header split")
	case r.TCPDataSplit == "on":
		return passes(name, source, "on: payload can be mapped into applications or devices")
	}
	return fails(name, source, "off", fmt.Sprintf("For zero copy into applications turn it on: ethtool -G %s tcp-data-split on. XDP wants it off.", n.Name)).by("rings", map[string]any{"tcp-data-split": true})
}

func (n NIC) bigTCPItem() Item {
	const name, source = "big-tcp", "Documentation/networking/segmentation-offloads.rst; ip-link(8), gso_max_size and gro_max_size"
	l := n.Offloads.Limits
	const legacy = 65536
	switch {
	case l.TSOMaxSize == nil || l.GSOMaxSize == nil || l.GROMaxSize == nil:
		return unclear(name, source, "this kernel doesn't tell the limits (Linux 5.19 does)")
	case *l.GSOMaxSize > legacy && *l.GROMaxSize > legacy:
		return passes(name, source, "segments of %d and %d bytes", *l.GSOMaxSize, *l.GROMaxSize)
	case *l.TSOMaxSize <= legacy:
		return fails(name, source, fmt.Sprintf("the driver cuts %d bytes at most", *l.TSOMaxSize), "Use a NIC whose driver takes more, such as mlx5_core, ice or bnxt_en.")
	}
	want := min(*l.TSOMaxSize, 185000)
	return fails(name, source, fmt.Sprintf("segments of %d and %d bytes, and the driver cuts %d", *l.GSOMaxSize, *l.GROMaxSize, *l.TSOMaxSize),
		fmt.Sprintf("Allow larger ones: ip link set %s gso_max_size %d gro_max_size %d.", n.Name, want, want)).by("netdev", map[string]any{"gso-max-size": want, "gro-max-size": want})
}
