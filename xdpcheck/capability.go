package xdpcheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// Answer says whether a NIC can do something as it is set up now.
type Answer string

// The answers.
const (
	Yes Answer = "yes"
	// Blocked: it could, were a setting another.
	Blocked Answer = "blocked"
	// Unsupported: this driver, or this kernel's, can't.
	Unsupported Answer = "unsupported"
	// Unknown: neither the kernel nor the table of drivers tells.
	Unknown Answer = "unknown"
)

// Capability is one thing that a NIC can do or not.
type Capability struct {
	Answer Answer `json:"answer"`
	// Why is one clause without a full stop: who says so, or what is in the way.
	Why string `json:"why"`
	// Blockers are what is in the way, where that is known.
	Blockers []Obstacle `json:"blockers,omitempty"`
}

// Obstacle is a setting that is in the way, and the one that removes it.
type Obstacle struct {
	// What is in the way, one clause.
	What string `json:"what"`
	// Do is what removes it, a whole sentence.
	Do string `json:"do"`
	// Setting and Value are what a policy says to do so, where one can:
	// settings: {features: {rx-lro: off}} has the Setting "features" and the Value
	// {"rx-lro": false}.
	Setting string         `json:"setting,omitempty"`
	Value   map[string]any `json:"value,omitempty"`
	// Source is the kernel's file, or the commit.
	Source string `json:"source,omitempty"`
}

// Capabilities are what a NIC can do with XDP as it is set up now.
type Capabilities struct {
	// Native is whether the driver takes a program for packets of one buffer.
	Native Capability `json:"native"`
	// Redirect is XDP_REDIRECT of what the NIC receives, Xmit whether others can
	// redirect to it.
	Redirect Capability `json:"redirect"`
	Xmit     Capability `json:"ndoXmit"`
	// ZeroCopy is AF_XDP without copying, MultiBuffer programs for packets of
	// several buffers, Offload programs in hardware.
	ZeroCopy    Capability `json:"zeroCopy"`
	MultiBuffer Capability `json:"multiBuffer"`
	Offload     Capability `json:"offload"`
	// MaxMTU is the largest MTU for programs that take packets of one buffer.
	MaxMTU *int `json:"maxMtu,omitempty"`
	// Attach is what attaching a first program does to traffic: an impact of nictune
	// apply and a clause. It is empty where nobody looked.
	Attach     string `json:"attach,omitempty"`
	AttachDoes string `json:"attachDoes,omitempty"`
	// Notes are whole sentences on what can't be seen from outside.
	Notes []string `json:"notes,omitempty"`
}

// Capabilities judges the NIC.
func (n NIC) Capabilities() Capabilities {
	d := n.driver()
	c := Capabilities{Native: n.native(d)}
	if d == nil {
		d = &Driver{} // nothing is known
	}
	c.Redirect = after(c.Native, n.capability("redirect", d.Redirect))
	c.Xmit = after(c.Native, n.capability("ndo-xmit", d.Xmit))
	c.ZeroCopy = after(c.Native, n.capability("xsk-zerocopy", d.ZeroCopy))
	if c.ZeroCopy.Answer == Yes {
		c.ZeroCopy = n.hindered(c.ZeroCopy, d.ZeroCopyBlockers, nil)
	}
	c.MultiBuffer = multiBuffer(c.Native, n.capability("rx-sg", d.MultiBuffer))
	c.Offload = n.capability("hw-offload", d.Offload)
	if limit, ok := n.maxMTU(d); ok {
		c.MaxMTU = &limit
	}
	if d.Attach != nil {
		c.Attach, c.AttachDoes = d.Attach.Impact, d.Attach.Does
	}
	c.Notes = d.Notes
	return c
}

// native judges whether the driver takes a program for packets of one buffer.
func (n NIC) native(d *Driver) Capability {
	if d == nil {
		return n.capability("basic", Support{})
	}
	c := n.capability("basic", d.Native)
	if c.Answer == Unsupported || c.Answer == Unknown {
		return c
	}
	return n.hindered(c, d.Blockers, d.MTU)
}

// hindered turns a yes into what a driver's blockers, and its largest MTU, make of it,
// and names what is behind a "blocked". A kernel that announces nothing at all does
// not tell of what could not be read, either.
func (n NIC) hindered(c Capability, list []Blocker, mtu *MTU) Capability {
	obstacles := append(n.obstacles(list), n.mtuObstacle(mtu)...)
	if len(obstacles) == 0 {
		if unseen := n.unseen(list, mtu); n.Offloads.XDPFeatures == nil && len(unseen) > 0 {
			return Capability{Answer: Unknown, Why: c.Why + "; whether a setting is in the way is not known: " + strings.Join(unseen, ", ") + " could not be read"}
		}
		return c
	}
	var whats []string
	for _, o := range obstacles {
		whats = append(whats, o.What)
	}
	return Capability{Answer: Blocked, Why: strings.Join(whats, "; "), Blockers: obstacles}
}

// after is what a capability is worth where programs have to run in the driver for
// it.
func after(native, c Capability) Capability {
	if native.Answer == Yes || c.Answer == Unsupported {
		return c
	}
	if native.Answer == Blocked && c.Answer == Unknown {
		return Capability{Answer: Unknown, Why: c.Why}
	}
	return native
}

// multiBuffer leaves out an MTU that only programs for one buffer mind.
func multiBuffer(native, c Capability) Capability {
	if native.Answer == Blocked {
		others := slices.DeleteFunc(slices.Clone(native.Blockers), func(o Obstacle) bool { return o.Setting == "netdev" })
		if len(others) == 0 && len(native.Blockers) > 0 {
			return c
		}
	}
	return after(native, c)
}

// capability brings together what the kernel announces under a feature's name and
// what the table says of the driver.
func (n NIC) capability(feature string, s Support) Capability {
	f := n.facts
	said := s.has(f.release, f.table.Read)
	announced := n.Offloads.XDPFeatures
	switch {
	case slices.Contains(announced, feature):
		return Capability{Answer: Yes, Why: "the kernel announces it"}
	case announced != nil && said > 0 && f.release.Before(s.Announced):
		return Capability{Answer: Yes, Why: fmt.Sprintf("the driver has it, and announces it from Linux %s on", s.Announced)}
	case announced != nil && said > 0 && s.Quiet:
		return Capability{Answer: Yes, Why: "the driver has it, and does not announce it (" + s.Source + ")"}
	case announced != nil && said > 0 && s.When == "attached":
		return Capability{Answer: Yes, Why: "the driver has it while a program is attached"}
	case len(announced) > 0 && said > 0 && feature == "rx-sg":
		return Capability{Answer: Unsupported, Why: "the driver has it, and does not announce it for this device"}
	case announced != nil && said > 0 && n.emptyBond():
		if feature == "basic" {
			return Capability{Answer: Yes, Why: "a bond takes a program, and announces nothing until it has members (" + s.Source + ")"}
		}
		return Capability{Answer: Blocked, Why: "a bond can what its members can, and it has none"}
	case announced != nil && said > 0:
		return Capability{Answer: Blocked, Why: "the driver has it (" + s.Source + ") and announces nothing: something is in the way that can't be seen from here"}
	case announced != nil && said < 0:
		return Capability{Answer: Unsupported, Why: n.tooOld(s)}
	case announced != nil && n.Driver == nil:
		return Capability{Answer: Unknown, Why: "the kernel announces nothing, and which driver this is isn't known"}
	case announced != nil:
		return Capability{Answer: Unknown, Why: fmt.Sprintf("the kernel announces nothing, and what driver %s can do isn't in the table", n.Driver.Name)}
	case said > 0:
		return Capability{Answer: Yes, Why: "this kernel doesn't announce it; by the table the driver has it (" + s.Source + ")"}
	case said < 0 && s.None:
		return Capability{Answer: Unsupported, Why: n.tooOld(s)}
	case said < 0:
		return Capability{Answer: Unknown, Why: n.tooOld(s) + "; a distribution may have brought it back, and this kernel doesn't announce it"}
	default:
		return Capability{Answer: Unknown, Why: "this kernel doesn't announce it, and the table doesn't know either"}
	}
}

func (n NIC) tooOld(s Support) string {
	read := n.facts.table.Read
	switch {
	case s.None:
		return fmt.Sprintf("driver %s has it in no Linux up to %s (%s)", n.Driver.Name, read, s.Source)
	case !s.Since.IsZero():
		return fmt.Sprintf("driver %s has it since Linux %s; this is %s", n.Driver.Name, s.Since, n.facts.release)
	default:
		return fmt.Sprintf("driver %s has it in Linux %s and not in %s; this is %s", n.Driver.Name, s.Seen, s.Absent, n.facts.release)
	}
}

// maxMTU is the largest MTU for programs that take packets of one buffer.
func (n NIC) maxMTU(d *Driver) (int, bool) {
	if d == nil {
		return 0, false
	}
	return n.limit(d.MTU)
}

func (n NIC) limit(m *MTU) (int, bool) {
	if m == nil {
		return 0, false
	}
	return m.limit(n.facts.memory, n.Offloads.PrivateFlags)
}

// mtuObstacle is the NIC's MTU, where it is too large.
func (n NIC) mtuObstacle(m *MTU) []Obstacle {
	limit, ok := n.limit(m)
	if !ok {
		return nil
	}
	of, whose := n.NIC, ""
	if m.Of == "peer" {
		if of = n.facts.named(n.Stack.Peer); of == nil {
			return nil
		}
		whose = "the peer " + of.Name + "'s "
	}
	if of.Link.MTU == nil || *of.Link.MTU <= limit {
		return nil
	}
	o := Obstacle{
		What:   fmt.Sprintf("%sMTU %d, and one buffer holds %d at most", whose, *of.Link.MTU, limit),
		Do:     fmt.Sprintf("Set the MTU of %s to %d at most, or attach a program that takes packets of several buffers (SEC(\"xdp.frags\")).", of.Name, limit),
		Source: m.Source, Setting: "netdev",
	}
	if of == n.NIC {
		o.Value = map[string]any{"mtu": limit}
	}
	return []Obstacle{o}
}

// obstacles are what of a driver's blockers holds now. One that can't be seen is none
// here: unseen tells of those.
func (n NIC) obstacles(list []Blocker) []Obstacle {
	var all []Obstacle
	kinds := blockers()
	for _, b := range n.relevant(list) {
		if judge := kinds[b.Kind]; judge != nil {
			if o, holds := judge(n, b); holds {
				o.Source = b.Source
				all = append(all, o)
			}
		}
	}
	return all
}

// relevant are those blockers that this kernel's driver has, and does not remove by
// itself.
func (n NIC) relevant(list []Blocker) []Blocker {
	return slices.DeleteFunc(slices.Clone(list), func(b Blocker) bool {
		return b.Effect == "turned-off" || b.applies(n.facts.release, n.facts.table.Read) <= 0
	})
}

// unseen are the facts that blockers and the largest MTU are judged on, where they
// could not be read.
func (n NIC) unseen(list []Blocker, mtu *MTU) []string {
	facts := map[string]string{
		"feature": "offloads.features", "tcp-data-split": "queues.rings", "rx-buf-len": "queues.rings", "hds-thresh": "queues.rings",
		"channels-half": "queues.channels", "channels-equal": "queues.channels", "channels-shared": "queues.channels", "peer-queues": "queues.channels",
		"vfs": "pci.sriov", "guest-offloads": virtioFeatures, "access-platform": virtioFeatures, "bond-mode": "stack.bond", "bond-hash": "stack.bond",
	}
	var all []string
	for _, b := range n.relevant(list) {
		if fact := facts[b.Kind]; fact != "" && n.unread(fact) && !slices.Contains(all, fact) {
			all = append(all, fact)
		}
	}
	if mtu != nil && mtu.Of == "" && n.Link.MTU == nil {
		all = append(all, "link.mtu")
	}
	return all
}

// virtioFeatures is what is said of a fact that no inventory has.
const virtioFeatures = "the virtio device's feature bits"

// unread reports whether a fact is missing for another reason than that the driver or
// kernel has no such thing.
func (n NIC) unread(fact string) bool {
	switch {
	case fact == "offloads.features" && n.Offloads.Features == nil:
		return true // every device has some
	case fact == virtioFeatures:
		return n.facts.extra.Virtio[n.Name] == ""
	}
	return unread(n.Unread, fact) || unread(n.facts.unread, "nics."+fact)
}

// unread reports whether notes say that a fact, or one above or below it, could not be
// read.
func unread(notes []inventory.Unread, fact string) bool {
	return slices.ContainsFunc(notes, func(u inventory.Unread) bool {
		of := u.Fact == fact || strings.HasPrefix(fact, u.Fact+".") || strings.HasPrefix(u.Fact, fact+".")
		return of && (u.Reason != inventory.Unsupported || u.NotRecorded())
	})
}

// blockers are the kinds of drivers.yaml. Each tells whether it is in the way.
func blockers() map[string]func(NIC, Blocker) (Obstacle, bool) {
	return map[string]func(NIC, Blocker) (Obstacle, bool){
		"feature": func(n NIC, b Blocker) (Obstacle, bool) {
			return Obstacle{
				What: b.Feature + " is on", Do: fmt.Sprintf("Turn it off: ethtool -K %s %s off.", n.Name, b.Feature),
				Setting: "features", Value: map[string]any{b.Feature: false},
			}, n.Offloads.Features[b.Feature].Active
		},
		"tcp-data-split": func(n NIC, _ Blocker) (Obstacle, bool) {
			r := n.Queues.Rings
			return Obstacle{
				What: "header split (tcp-data-split) is on", Do: fmt.Sprintf("Turn it off: ethtool -G %s tcp-data-split off.", n.Name),
				Setting: "rings", Value: map[string]any{"tcp-data-split": false},
			}, r != nil && r.TCPDataSplit == "on"
		},
		"rx-buf-len": func(n NIC, b Blocker) (Obstacle, bool) {
			r := n.Queues.Rings
			if r == nil || r.RXBufLen == nil {
				return Obstacle{}, false
			}
			return Obstacle{
				What: fmt.Sprintf("receive buffers of %d bytes", *r.RXBufLen), Do: fmt.Sprintf("Make them %d: ethtool -G %s rx-buf-len %d.", b.Value, n.Name, b.Value),
				Setting: "rings", Value: map[string]any{"rx-buf-len": b.Value},
			}, *r.RXBufLen != b.Value
		},
		"hds-thresh": func(n NIC, _ Blocker) (Obstacle, bool) {
			r, mtu := n.Queues.Rings, n.Link.MTU
			if r == nil || r.HDSThreshold == nil || mtu == nil {
				return Obstacle{}, false
			}
			const header = 14
			return Obstacle{
				What: fmt.Sprintf("packets are split from %d bytes on, which the MTU %d passes", r.HDSThreshold.Current, *mtu),
				Do:   fmt.Sprintf("Raise it: ethtool -G %s hds-thresh %d.", n.Name, *mtu+header), Setting: "rings", Value: map[string]any{"hds-thresh": *mtu + header},
			}, *mtu+header > int(r.HDSThreshold.Current)
		},
		"channels-half":   channelsHalf,
		"channels-equal":  channelsEqual,
		"channels-shared": channelsShared,
		"vfs": func(n NIC, _ Blocker) (Obstacle, bool) {
			if n.PCI == nil || n.PCI.SRIOV == nil {
				return Obstacle{}, false
			}
			return Obstacle{
				What: fmt.Sprintf("%d virtual functions exist", n.PCI.SRIOV.NumVFs),
				Do:   "Take the virtual functions away (settings: {sriov: {num-vfs: 0}}), or use one of them for XDP.",
			}, n.PCI.SRIOV.NumVFs > 0
		},
		"guest-offloads":  guestOffloads,
		"access-platform": accessPlatform,
		"bond-mode": func(n NIC, _ Blocker) (Obstacle, bool) {
			b := n.Stack.Bond
			modes := []string{"balance-rr", "active-backup", "balance-xor", "802.3ad"}
			return Obstacle{What: "the bond's mode", Do: "Use one of " + strings.Join(modes, ", ") + " (ip link set " + n.Name + " type bond mode ...)."},
				b != nil && b.Mode != "" && !slices.Contains(modes, b.Mode)
		},
		"bond-hash": func(n NIC, _ Blocker) (Obstacle, bool) {
			b := n.Stack.Bond
			return Obstacle{What: "the bond chooses members by vlan+srcmac", Do: "Use another policy (ip link set " + n.Name + " type bond xmit_hash_policy layer3+4)."},
				b != nil && b.HashPolicy == "vlan+srcmac" && (b.Mode == "802.3ad" || b.Mode == "balance-xor")
		},
		"bond-members": bondMembers,
		"peer-queues": func(n NIC, _ Blocker) (Obstacle, bool) {
			peer := n.facts.named(n.Stack.Peer)
			receive := inUse(n.NIC, func(c *inventory.Channels) *inventory.ChannelCount { return c.RX })
			if peer == nil || receive == 0 {
				return Obstacle{}, false
			}
			send := inUse(peer, func(c *inventory.Channels) *inventory.ChannelCount { return c.TX })
			return Obstacle{
				What: fmt.Sprintf("the peer %s sends with %d queues, and %d receive here", peer.Name, send, receive),
				Do:   fmt.Sprintf("Have as many: ethtool -L %s rx %d, or ethtool -L %s tx %d.", n.Name, send, peer.Name, receive),
			}, send > receive
		},
		"ethernet": func(n NIC, _ Blocker) (Obstacle, bool) {
			return Obstacle{What: "a tun device has no Ethernet header", Do: "Make it a tap device (ip tuntap add mode tap)."},
				n.MAC == "" && n.Offloads.XDPFeatures != nil && len(n.Offloads.XDPFeatures) == 0
		},
	}
}

func inUse(n *inventory.NIC, count func(*inventory.Channels) *inventory.ChannelCount) uint32 {
	if n.Queues.Channels == nil || count(n.Queues.Channels) == nil {
		return 0
	}
	return count(n.Queues.Channels).Current
}

func channelsHalf(n NIC, _ Blocker) (Obstacle, bool) {
	c := n.Queues.Channels
	if c == nil {
		return Obstacle{}, false
	}
	for _, kind := range []struct {
		name  string
		count *inventory.ChannelCount
	}{{"combined", c.Combined}, {"tx", c.TX}} {
		if kind.count == nil || kind.count.Maximum == 0 || 2*kind.count.Current <= kind.count.Maximum {
			continue
		}
		half := kind.count.Maximum / 2
		o := Obstacle{What: fmt.Sprintf("%d of %d %s channels are in use, and XDP takes as many again", kind.count.Current, kind.count.Maximum, kind.name)}
		if half == 0 {
			o.Do = "This NIC has too few channels for XDP: a larger instance type or model has more."
			return o, true
		}
		o.Do = fmt.Sprintf("Use half at most: ethtool -L %s %s %d.", n.Name, kind.name, half)
		o.Setting, o.Value = "channels", map[string]any{kind.name: half}
		if kind.name == "tx" {
			o.Value["rx"] = half
		}
		return o, true
	}
	return Obstacle{}, false
}

func channelsEqual(n NIC, _ Blocker) (Obstacle, bool) {
	c := n.Queues.Channels
	if c == nil || c.RX == nil || c.TX == nil || c.RX.Current == c.TX.Current {
		return Obstacle{}, false
	}
	least := min(c.RX.Current, c.TX.Current)
	return Obstacle{
		What: fmt.Sprintf("%d queues receive and %d send", c.RX.Current, c.TX.Current), Do: fmt.Sprintf("Have as many of both: ethtool -L %s rx %d tx %d.", n.Name, least, least),
		Setting: "channels", Value: map[string]any{"rx": least, "tx": least},
	}, true
}

func channelsShared(n NIC, _ Blocker) (Obstacle, bool) {
	c := n.Queues.Channels
	if c == nil || c.Combined == nil || c.RX == nil || c.RX.Current == 0 {
		return Obstacle{}, false
	}
	count := c.RX.Current
	if c.Combined.Maximum > 0 {
		count = min(count, c.Combined.Maximum)
	}
	return Obstacle{
		What: "receive and transmit queues are separate channels", Do: fmt.Sprintf("Combine them: ethtool -L %s rx 0 tx 0 combined %d.", n.Name, count),
		Setting: "channels", Value: map[string]any{"rx": 0, "tx": 0, "combined": count},
	}, true
}

// guestOffloads looks at the device's own feature bits: VIRTIO_NET_F_CTRL_GUEST_OFFLOADS
// is what the driver needs to have any of the others stopped (linux/virtio_net.h).
func guestOffloads(n NIC, _ Blocker) (Obstacle, bool) {
	const control = 2
	set := n.facts.extra.Virtio[n.Name]
	on := func(bit int) bool { return bit < len(set) && set[bit] == '1' }
	if set == "" || on(control) {
		return Obstacle{}, false
	}
	var names []string
	for _, f := range []struct {
		bit  int
		name string
	}{{1, "guest_csum"}, {7, "guest_tso4"}, {8, "guest_tso6"}, {9, "guest_ecn"}, {10, "guest_ufo"}, {54, "guest_uso4"}, {55, "guest_uso6"}} {
		if on(f.bit) {
			names = append(names, f.name)
		}
	}
	if len(names) == 0 {
		return Obstacle{}, false
	}
	return Obstacle{
		What: "the device merges or leaves checksums (" + strings.Join(names, ", ") + ") and can't be told to stop",
		Do:   "Have the hypervisor offer ctrl_guest_offloads, or not offer these: " + strings.Join(names, "=off,") + "=off on QEMU's virtio-net device.",
	}, true
}

// accessPlatform looks for VIRTIO_F_ACCESS_PLATFORM (linux/virtio_config.h): without
// it the rings hold physical addresses, and there is no device to map memory for.
func accessPlatform(n NIC, _ Blocker) (Obstacle, bool) {
	const bit = 33
	set := n.facts.extra.Virtio[n.Name]
	return Obstacle{
		What: "the device's memory is not mapped (no access_platform)",
		Do:   "Have the hypervisor offer it: iommu_platform=on,disable-legacy=on on QEMU's virtio-net device.",
	}, set != "" && (len(set) <= bit || set[bit] != '1')
}

// emptyBond reports whether the NIC is a bond without members.
func (n NIC) emptyBond() bool {
	return n.Stack.Bond != nil && !slices.ContainsFunc(n.facts.nics, func(of inventory.NIC) bool { return of.Stack.Master == n.Name })
}

func bondMembers(n NIC, _ Blocker) (Obstacle, bool) {
	for i := range n.facts.nics {
		member := n.facts.NIC(i)
		if member.Stack.Master != n.Name {
			continue
		}
		if len(member.Offloads.XDP) > 0 {
			return Obstacle{What: "its member " + member.Name + " has a program of its own", Do: fmt.Sprintf("Detach that: ip link set %s xdp off.", member.Name)}, true
		}
		if c := member.Capabilities(); c.Native.Answer == Unsupported || c.Xmit.Answer == Unsupported {
			return Obstacle{What: "its member " + member.Name + " can't take a program or be redirected to", Do: "Use members whose drivers have both, or attach in generic mode."}, true
		} else if c.Native.Answer == Blocked {
			return Obstacle{What: "its member " + member.Name + ": " + c.Native.Why, Do: "Mend that first."}, true
		}
	}
	return Obstacle{}, false
}
