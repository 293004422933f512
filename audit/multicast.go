package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// multicastRules judge who hears which groups.
func multicastRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "multicast/filter-overflow", Severity: findings.Critical,
			Title:   "the device's filter has no room for all groups",
			Why:     "A driver whose device takes a limited number of multicast addresses lets in everything when there are more, or leaves the rest out and says so at most in the kernel's log. igbvf and ixgbevf send 30 to their PF and leave the rest out; a VF of ice or i40e that its PF does not trust is refused more than 18 addresses, its own included. The host is a member then, and never hears the group.",
			Remedy:  "Let all groups in (multicast: {all-multicast: on}; a VF needs its PF's trust: vfs: {trust: on}), or be in fewer.",
			Sources: []string{"drivers/net/ethernet/intel/igbvf/vf.c, ixgbevf/vf.c", "drivers/net/ethernet/intel/ice/virt/virtchnl.h: ICE_MAX_MACADDR_PER_VF", "drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c: I40E_VC_MAX_MAC_ADDR_PER_VF"},
		}, Judge: filterOverflow},
		{About: findings.About{
			ID: "multicast/vf-untrusted", Severity: findings.Critical,
			Title:   "a VF asks for all multicast and its PF does not let it",
			Why:     "ice, i40e, ixgbe, mlx5 and their like ignore promiscuous and all-multicast requests of a VF that they do not trust; the VF's own flags say that they are on nevertheless. igb grants all-multicast to any VF.",
			Remedy:  "Trust the VF, if its user is trusted: ip link set PF vf N trust on (vfs: {trust: on}), then switch allmulti off and on again in the VF.",
			Sources: []string{"drivers/net/ethernet/intel/ice/virt/virtchnl.c", "drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c", "drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c", "drivers/net/ethernet/mellanox/mlx5/core/eswitch.c: esw_update_vport_rx_mode"},
		}, Judge: vfUntrusted},
		{About: findings.About{
			ID: "multicast/no-querier", Severity: findings.Info,
			Title:   "the bridge snoops, and nobody asks who listens",
			Why:     "Snooping learns who is in a group from answers to a querier's questions. Without a querier a Linux bridge sends each group to all ports, so that snooping does nothing; and where a querier has just gone, or switches beyond the bridge snoop too, members that are not asked are forgotten after some minutes and hear nothing any more. A bridge between containers or virtual machines alone, without a NIC among its ports, is left out.",
			Remedy:  "Let one device of the network ask: a multicast router, a switch, or this bridge (bridge: {multicast-querier: on}). Or switch snooping off.",
			Sources: []string{"RFC 4541, section 2.1.1", "net/bridge/br_multicast.c: br_multicast_querier_exists", "ip-link(8): mcast_querier"},
		}, Judge: noQuerier},
		{About: findings.About{
			ID: "multicast/bridge-limit", Severity: findings.Warning,
			Title:   "the bridge's group database is nearly full",
			Why:     "At multicast_hash_max groups a bridge switches snooping off and sends all groups to all ports; at a port's limit further members there are refused.",
			Remedy:  "Raise the limit (bridge: {multicast-hash-max: ...}; bridge-port: {multicast-max-groups: ...}), or find out who joins so many groups.",
			Sources: []string{"net/bridge/br_multicast.c: br_multicast_new_group", "ip-link(8): mcast_hash_max, mcast_max_groups"},
		}, Judge: bridgeLimit},
		{About: findings.About{
			ID: "multicast/igmp-version", Severity: findings.Warning,
			Title:   "IGMP or MLD is forced to an old version",
			Why:     "Sources can only be chosen with IGMPv3 and MLDv2: source-specific multicast (232.0.0.0/8, ff3x::/32) does not work with less. IGMPv1 has no way to leave a group either.",
			Remedy:  "Let the querier decide: multicast: {force-igmp-version: 0, force-mld-version: 0}, and conf.all likewise.",
			Sources: []string{"RFC 3376, section 7; RFC 3810, section 8; RFC 4607", "Documentation/networking/ip-sysctl.rst: force_igmp_version, force_mld_version"},
		}, Judge: igmpVersion},
		{About: findings.About{
			ID: "multicast/inactive-leg", Severity: findings.Info,
			Title:   "traffic arrives on a bond's inactive leg",
			Why:     "A bond in mode active-backup drops what its standby receives, and rx_nohandler counts it. Some is normal: switches send broadcasts to all ports. More than 1000 packets a second are groups that a switch does not snoop, or unicast that it floods, and each costs the CPU an interrupt. It needs --watch.",
			Remedy:  "See what comes (tcpdump -i DEV), and have the switch snoop, with a querier.",
			Sources: []string{"linux/if_link.h: rx_nohandler", "net/core/dev.c: __netif_receive_skb_core", "drivers/net/bonding/bond_main.c: bond_should_deliver_exact_match"},
		}, Judge: inactiveLeg},
	}
}

// membershipRules judge the host's limits, and its sockets.
func membershipRules() []findings.Rule[host] {
	return []findings.Rule[host]{
		{About: findings.About{
			ID: "multicast/memberships", Severity: findings.Info,
			Title:   "a socket may be near the limit of groups",
			Why:     "A socket can be in net.ipv4.igmp_max_memberships IPv4 groups; one more join fails with ENOBUFS, which many programs do not look at. The kernel does not tell how many a socket has: this compares the limit with all groups of the host, which one socket may or may not have joined. It fails at 80 %.",
			Remedy:  "Raise it before it is reached: sysctl: {igmp-max-memberships: ...}.",
			Sources: []string{"ip(7): IP_ADD_MEMBERSHIP", "Documentation/networking/ip-sysctl.rst: igmp_max_memberships", "net/ipv4/igmp.c: ip_mc_join_group"},
		}, Judge: memberships},
		{About: findings.About{
			ID: "multicast/socket-drops", Severity: findings.Warning,
			Title:   "a socket that can hear groups loses datagrams",
			Why:     "Who sends to a group sends nothing again: what a receiver's socket has no room for is lost, though the NIC and the queues are clean. The kernel counts it for each socket, and for the host as UDP's RcvbufErrors. Judged are the sockets of this network namespace that are bound to a group, and, where the host is in groups beyond the link's own (224.0.0.0/24, ff02::/16), those bound to all addresses: the kernel doesn't tell which of these are in a group. Without --watch it fails where a socket lost anything since it was opened; with it, where more was lost meanwhile.",
			Remedy:  "Let the program read faster (a thread that does nothing else, recvmmsg, a CPU of its own), or split the groups among sockets. For bursts give the socket a larger buffer: SO_RCVBUF takes effect up to the sysctl net.core.rmem_max, and who asks for none has net.core.rmem_default.",
			Sources: []string{"proc_net(5), last column of /proc/net/udp and udp6", "net/ipv4/udp.c: __udp_enqueue_schedule_skb, __udp4_lib_mcast_deliver", "socket(7): SO_RCVBUF, rmem_max; ss(8) -m: d"},
		}, Judge: socketDrops},
	}
}

// noMemberships reports whether groups that the host is in could not be read. A kernel
// without IPv6 has no IPv6 groups to tell of.
func (e *Evidence) noMemberships() bool {
	return slices.ContainsFunc(e.Unread, func(u inventory.Unread) bool {
		return u.Fact == "nics.multicast.memberships" && (u.Reason != inventory.Unsupported || u.NotRecorded())
	})
}

// linkGroups is how many multicast addresses the device's filter has to hold.
func (n nic) linkGroups() int {
	count := 0
	for _, m := range n.Multicast.Memberships {
		if m.Family == "link" {
			count++
		}
	}
	return count
}

func filterOverflow(n nic) findings.Verdict {
	m := &n.Multicast
	switch {
	case !n.hardware():
		return findings.Inapplicable("a software device filters in software")
	case m.Capable != nil && !*m.Capable:
		return findings.Inapplicable("a device without multicast")
	case n.Driver == nil:
		return findings.Unread(n.Unread, "driver")
	case m.Promiscuous != nil && *m.Promiscuous, m.AllMulti != nil && *m.AllMulti:
		return findings.Inapplicable("it lets in all groups anyway")
	case m.Promiscuous == nil || m.AllMulti == nil:
		return findings.Unread(n.Unread, "multicast.allMulti")
	}
	if n.evidence.noMemberships() {
		return findings.Unread(n.evidence.Unread, "nics.multicast.memberships")
	}
	groups := n.linkGroups()
	var limit int
	var whole string
	switch n.Driver.Name {
	case "igbvf", "ixgbevf":
		limit, whole = 30, "30 groups"
	case "iavf":
		const untrusted = 18
		_, settings := n.ofPF()
		switch {
		case groups < untrusted:
			return findings.Passes("%d groups, and an untrusted VF has room for %d addresses", groups, untrusted)
		case settings == nil || settings.Trust == nil:
			return findings.Unclear("%d groups: too many for a VF that its PF does not trust, and whether it does is not to be seen here", groups)
		case *settings.Trust:
			return findings.Passes("%d groups; the PF trusts the VF", groups)
		}
		limit, whole = untrusted-1, "17 groups beside its own address, as its PF does not trust it"
	case "igb", "igc", "e1000e", "e1000", "bnxt_en", "vmxnet3":
		return findings.Passes("%d groups; %s hashes them, or lets in all when there are too many", groups, n.Driver.Name)
	default:
		return findings.Unclear("%d groups; what %s does when its filter is full is not known", groups, n.Driver.Name)
	}
	if groups > limit {
		return findings.Fails(fmt.Sprintf("%d groups, of which %s lets in %s", groups, n.Driver.Name, whole), whole+", or all-multicast")
	}
	return findings.Passes("%d groups; %s has room for %s", groups, n.Driver.Name, whole)
}

// ofPF is the PF of a VF, with what it was told about the VF; nil where it isn't
// here, or wasn't asked.
func (n nic) ofPF() (*sriov.PF, *sriov.Settings) {
	if n.PCI == nil || n.Function != inventory.VF {
		return nil, nil
	}
	pfs := n.evidence.PFs
	if whole := n.evidence.whole; whole != nil { // also where only VFs are judged
		pfs = whole.PFs
	}
	for i := range pfs {
		pf := &pfs[i]
		for _, vf := range pf.VFs {
			if vf.Address == n.PCI.Address {
				return pf, vf.Settings
			}
		}
	}
	return nil, nil
}

func vfUntrusted(n nic) findings.Verdict {
	m := &n.Multicast
	switch {
	case n.Function != inventory.VF:
		return findings.Inapplicable("no VF")
	case m.AllMulti != nil && *m.AllMulti, m.Promiscuous != nil && *m.Promiscuous:
	case m.AllMulti == nil || m.Promiscuous == nil:
		return findings.Unread(n.Unread, "multicast.allMulti")
	default:
		return findings.Passes("it does not ask for all multicast")
	}
	pf, settings := n.ofPF()
	switch {
	case pf == nil:
		return findings.Unclear("it asks for all multicast; whether its PF trusts it is only to be seen where the PF is")
	case pf.Driver == "igb":
		return findings.Passes("igb grants all multicast to any VF")
	case settings == nil || settings.Trust == nil:
		return findings.Unclear("whether %s trusts it is not known", pf.Name)
	case *settings.Trust:
		return findings.Passes("%s trusts it", pf.Name)
	}
	switch pf.Driver {
	case "ice", "i40e", "ixgbe", "mlx5_core":
		return findings.Fails("all multicast on, and "+pf.Name+" does not trust the VF", "trust, or a list of groups")
	}
	return findings.Unclear("%s does not trust it; what %s makes of that is not known", pf.Name, pf.Driver)
}

func noQuerier(n nic) findings.Verdict {
	b := n.Stack.Bridge
	switch {
	case b == nil:
		return findings.Inapplicable("no bridge")
	case b.Snooping == nil:
		return findings.Unread(n.Unread, "stack.bridge")
	case !*b.Snooping:
		return findings.Inapplicable("snooping is off")
	case len(n.Stack.Lower) == 0:
		return findings.Inapplicable("a bridge without ports")
	case n.Link.Admin == "down":
		return findings.Inapplicable("a bridge that is down")
	case b.Querier != nil && *b.Querier:
		return findings.Passes("the bridge asks")
	case len(b.QuerierState) > 0:
		q := b.QuerierState[0]
		return findings.Passes("%s asks", q.Address)
	case b.VLANSnooping != nil && *b.VLANSnooping:
		return findings.Unclear("it snoops in each VLAN by itself, and queriers of VLANs are not read")
	case b.Querier == nil:
		return findings.Unread(n.Unread, "stack.bridge")
	}
	if !n.aboveHardware() {
		return findings.Inapplicable("no NIC is below it: nothing but this bridge snoops, and without a querier it sends groups to all ports")
	}
	// A kernel before 5.15 doesn't tell who asks. What it learned from somebody's
	// questions is still there.
	if len(b.RouterPorts) > 0 {
		return findings.Passes("a multicast router is behind %s", b.RouterPorts[0])
	}
	return findings.Fails("snooping on, querier off, and none is heard", "a querier, or no snooping")
}

// aboveHardware reports whether a NIC is below a software device, by way of bonds and
// VLANs, too.
func (n nic) aboveHardware() bool {
	all := n.evidence.All()
	todo, seen := slices.Clone(n.Stack.Lower), map[string]bool{}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		i := slices.IndexFunc(all, func(other inventory.NIC) bool { return other.Name == name })
		if i < 0 || seen[name] {
			continue
		}
		seen[name] = true
		if all[i].Function != inventory.Virtual {
			return true
		}
		todo = append(todo, all[i].Stack.Lower...)
	}
	return false
}

// near is the share of a limit from which on it is worth a word.
const near = 0.8

func bridgeLimit(n nic) findings.Verdict {
	b, p := n.Stack.Bridge, n.Stack.BridgePort
	switch {
	case b != nil:
		if b.HashMax == nil {
			return findings.Unread(n.Unread, "stack.bridge")
		}
		if v, missing := n.noMDB(); missing {
			return v
		}
		groups := map[string]bool{}
		for _, e := range b.MDB {
			groups[fmt.Sprint(e.Group, e.Source, e.VLAN)] = true
		}
		return nearLimit(len(groups), *b.HashMax, "groups of multicast_hash_max")
	case p == nil:
		return findings.Inapplicable("no bridge, nor a port of one")
	case p.MaxGroups == nil || p.Groups == nil:
		return findings.Unclear("this kernel does not count a port's groups") // before 6.3
	case *p.MaxGroups == 0:
		return findings.Passes("%d groups, and no limit", *p.Groups)
	}
	return nearLimit(int(*p.Groups), int(*p.MaxGroups), "groups of the port's limit")
}

// noMDB is the verdict where the bridge's groups could not be read, or not all.
func (n nic) noMDB() (findings.Verdict, bool) {
	for _, notes := range []struct {
		unread []inventory.Unread
		fact   string
	}{{n.evidence.Unread, "nics.stack.bridge.mdb"}, {n.Unread, "stack.bridge.mdb"}} {
		if slices.ContainsFunc(notes.unread, func(u inventory.Unread) bool { return u.Fact == notes.fact }) {
			return findings.Unread(notes.unread, notes.fact), true
		}
	}
	return findings.Verdict{}, false
}

func nearLimit(have, most int, what string) findings.Verdict {
	seen := fmt.Sprintf("%d of %d %s", have, most, what)
	if float64(have) >= near*float64(most) {
		return findings.Fails(seen, fmt.Sprintf("less than %.0f %%", 100*near))
	}
	return findings.Passes("%s", seen)
}

func igmpVersion(n nic) findings.Verdict {
	t := n.traffic()
	if n.Multicast.Capable != nil && !*n.Multicast.Capable {
		return findings.Inapplicable("a device without multicast")
	}
	const igmp, mld = "sysctls.ipv4.force_igmp_version", "sysctls.ipv6.force_mld_version"
	if t.ForcedIGMP == nil && t.ForcedMLD == nil {
		return findings.Unread(n.Unread, igmp, mld)
	}
	all := n.evidence.Counted.Traffic.Sysctls
	for _, forced := range []struct {
		name      string
		own       *uint64
		all, best uint64
	}{
		{"IGMP", t.ForcedIGMP, all["ipv4.conf.all.force_igmp_version"], 3},
		{"MLD", t.ForcedMLD, all["ipv6.conf.all.force_mld_version"], 2},
	} {
		where, version := "conf.all", forced.all // which wins
		if version == 0 && forced.own != nil {
			where, version = "conf."+n.Name, *forced.own
		}
		if version != 0 && version < forced.best {
			return findings.Fails(fmt.Sprintf("%s forced to version %d by %s", forced.name, version, where), fmt.Sprintf("%d, or what the querier speaks", forced.best))
		}
	}
	// Without IPv6 there is no such file; what could not be read is no answer.
	for _, notes := range [][]inventory.Unread{n.Unread, n.evidence.Counted.Traffic.Unread} {
		for _, fact := range []string{igmp, mld, "sysctls.ipv4.conf.all.force_igmp_version", "sysctls.ipv6.conf.all.force_mld_version"} {
			unread := slices.ContainsFunc(notes, func(u inventory.Unread) bool { return u.Fact == fact && u.Reason != inventory.Unsupported })
			if unread {
				return findings.Unread(notes, fact)
			}
		}
	}
	return findings.Passes("the querier decides")
}

func inactiveLeg(n nic) findings.Verdict {
	const name, many = "ip/rx_nohandler", 1000
	master := n.master()
	switch {
	case master == nil || master.Stack.Bond == nil || master.Stack.Bond.Mode != "active-backup":
		return findings.Inapplicable("no leg of a bond with a standby")
	case master.Stack.Bond.ActiveSlave == "":
		return findings.Unclear("which leg of %s is active is not known", master.Name)
	case master.Stack.Bond.ActiveSlave == n.Name:
		return findings.Inapplicable("the active leg of %s", master.Name)
	}
	c := n.count(name)
	switch {
	case !c.Known:
		return n.uncounted(name)
	case !c.Watched:
		return findings.Unclear("%d packets since the driver was loaded; a rate needs two looks: --watch 10s", c.Total)
	}
	seen := fmt.Sprintf("%.0f packets a second in %s, while %s is the active leg", c.PerSecond(), n.evidence.Watched(), master.Stack.Bond.ActiveSlave)
	if c.PerSecond() > many {
		return findings.Fails(seen, fmt.Sprintf("%d at most", many))
	}
	return findings.Passes("%s", seen)
}

// master is the bond or bridge that the NIC is in.
func (n nic) master() *inventory.NIC {
	all := n.evidence.All()
	for i := range all {
		if other := &all[i]; n.Stack.Master != "" && other.Name == n.Stack.Master {
			return other
		}
	}
	return nil
}

func memberships(h host) findings.Verdict {
	if h.Counted.Traffic == nil {
		return h.unreadTraffic("sysctls.ipv4.igmp_max_memberships")
	}
	most, known := h.Counted.Traffic.Sysctls["ipv4.igmp_max_memberships"]
	if !known {
		return h.unreadTraffic("sysctls.ipv4.igmp_max_memberships")
	}
	if h.noMemberships() {
		return findings.Unread(h.Unread, "nics.multicast.memberships")
	}
	groups := 0
	for _, n := range h.All() {
		for _, m := range n.Multicast.Memberships {
			if m.Family == "ipv4" && m.Address != "224.0.0.1" { // which no socket joins
				groups++
			}
		}
	}
	return nearLimit(groups, int(min(most, 1<<30)), "IPv4 groups of igmp_max_memberships")
}

// linksOwn reports whether a group stays on the link: those that hosts are in by
// themselves (all hosts, solicited nodes, mDNS) are among them.
func linksOwn(group string) bool {
	a, err := netip.ParseAddr(group)
	return err != nil || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast()
}

func socketDrops(h host) findings.Verdict {
	if h.Counted.Traffic == nil || h.Counted.Traffic.UDPSockets == nil {
		return h.unreadTraffic("udpSockets")
	}
	inGroups := false
	for _, n := range h.All() {
		for _, m := range n.Multicast.Memberships {
			inGroups = inGroups || m.Family != "link" && !linksOwn(m.Address)
		}
	}
	before, _ := h.earlierTraffic()
	watched := before != nil && before.UDPSockets != nil
	since := "since it was opened"
	if watched {
		since = "in " + h.Watched().String()
	}
	judged, doubtful := 0, 0
	var lossy []string
	for _, s := range h.Counted.Traffic.UDPSockets {
		lost := s.Drops
		if watched {
			for _, b := range before.UDPSockets {
				if b.Inode == s.Inode && b.Local == s.Local {
					lost -= b.Drops
				}
			}
		}
		if !s.Group() && !inGroups {
			if lost > 0 && h.noMemberships() {
				doubtful++
			}
			continue
		}
		if judged++; lost == 0 {
			continue
		}
		whose := fmt.Sprintf("a process of user %d", s.UID)
		if len(s.Processes) > 0 {
			whose = strings.Join(s.Processes, ", ")
		}
		text := fmt.Sprintf("UDP %s of %s lost %d datagrams %s", s.Local, whose, lost, since)
		if !s.Group() {
			text += " (bound to all addresses: perhaps it is in no group)"
		}
		lossy = append(lossy, text)
	}
	switch {
	case len(lossy) > 0:
		const shown = 3
		seen := strings.Join(lossy[:min(len(lossy), shown)], "; ")
		if more := len(lossy) - shown; more > 0 {
			seen += fmt.Sprintf("; and %d sockets more", more)
		}
		return findings.Fails(seen, "no loss in sockets")
	case doubtful > 0:
		return findings.Unread(h.Unread, "nics.multicast.memberships")
	case judged == 0:
		return findings.Inapplicable("no UDP socket is bound to a group, or could be in one beyond the link's own")
	}
	return findings.Passes("none of %d UDP sockets that can hear groups lost anything %s", judged, since)
}
