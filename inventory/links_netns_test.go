package inventory

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// zoo makes devices of every kind that the kernel has, with something set on
// each. veth, bridge, macvlan, tun and ifb are everywhere; the rest is tried.
// It returns the id of a process in the namespace where v8's peer is.
func zoo(t *testing.T) (beyond string) {
	t.Helper()
	beyond = neighbour(t)
	t.Cleanup(func() {
		interfaces, err := net.Interfaces()
		if err != nil {
			t.Error(err)
		}
		for _, i := range interfaces {
			_ = exec.Command("ip", "link", "del", i.Name).Run() // it may be gone with its peer
		}
	})
	for _, line := range []string{
		"ip link add v0 type veth peer name v1",
		"ip link add br0 type bridge mcast_querier 1 mcast_igmp_version 3 mcast_hash_max 1024",
		"ip link add br1 type bridge mcast_snooping 0 mcast_mld_version 2 mcast_router 2 stp_state 1",
		"ip link set v0 master br0",
		"ip link add v2 numtxqueues 4 numrxqueues 3 type veth peer name v3",
		"ip link add mv0 link v2 type macvlan mode bridge",
		"ip link add mv1 link v2 type macvlan mode private",
		"ip link add mt0 link v3 type macvtap mode vepa",
		"ip tuntap add dev tap0 mode tap multi_queue",
		"ip tuntap add dev tun0 mode tun",
		"ip link add ifb7 type ifb",
		"ip link set v3 alias to-the-lab",
		"ip link property add dev v3 altname uplink-of-rack-7",
		"ip link property add dev v3 altname second-name",
		"ip link set ifb7 txqueuelen 77 mtu 1400",
		"ip link set v2 gso_max_size 32768 gso_max_segs 99 gro_max_size 20000",
		// A peer in another namespace, whose index there means another device here.
		"ip link add v8 type veth peer name v9 index 3 netns " + beyond,
	} {
		run(t, line)
	}
	try(t, "ip link set br1 type bridge vlan_filtering 1")
	if try(t, "ip link add bond0 type bond mode active-backup miimon 100") {
		run(t, "ip link add v4 type veth peer name v5")
		run(t, "ip link set v4 master bond0")
		run(t, "ip link set bond0 up")
		run(t, "ip link set v5 up")
	}
	try(t, "ip link add bond1 type bond mode 802.3ad")
	try(t, "ip link add link v3 name v3.100 type vlan id 100")
	try(t, "ip link add link v3 name v3.200 type vlan protocol 802.1ad id 200")
	try(t, "ip link add vrf0 type vrf table 1234")
	try(t, "ip link add vx0 type vxlan id 3 dev v3 dstport 4789")
	try(t, "ip link add dm0 type dummy")
	try(t, "ip link add team0 type team")
	for _, name := range []string{"br0", "v0", "v1", "v2", "v3", "mv0", "lo", "tun0"} {
		run(t, "ip link set "+name+" up")
	}
	run(t, "ip link set v2 promisc on")
	run(t, "ip link set v1 allmulticast on")
	settle(t)
	return beyond
}

// settle waits until the bridge's port is up.
func settle(t *testing.T) {
	t.Helper()
	for range 100 {
		if bytes.Contains(run(t, "ip -o link show br0"), []byte("state UP")) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("br0 does not come up")
}

// ipLink is what ip -j -d link says.
type ipLink struct {
	Name         string   `json:"ifname"`
	Index        int      `json:"ifindex"`
	AltNames     []string `json:"altnames"`
	Alias        string   `json:"ifalias"`
	Flags        []string `json:"flags"`
	Type         string   `json:"link_type"`
	Address      string   `json:"address"`
	PermAddress  string   `json:"permaddr"`
	MTU          int      `json:"mtu"`
	MinMTU       int      `json:"min_mtu"`
	MaxMTU       int      `json:"max_mtu"`
	TxQLen       *int     `json:"txqlen"`
	Oper         string   `json:"operstate"`
	Promiscuity  uint32   `json:"promiscuity"`
	AllMulti     *uint32  `json:"allmulti"`
	TX           int      `json:"num_tx_queues"`
	RX           int      `json:"num_rx_queues"`
	GSOMaxSize   uint32   `json:"gso_max_size"`
	GSOMaxSegs   uint32   `json:"gso_max_segs"`
	TSOMaxSize   uint32   `json:"tso_max_size"`
	TSOMaxSegs   uint32   `json:"tso_max_segs"`
	GROMaxSize   uint32   `json:"gro_max_size"`
	Link         string   `json:"link"`
	LinkIndex    int      `json:"link_index"`
	LinkNetNSID  *int     `json:"link_netnsid"`
	Master       string   `json:"master"`
	PhysPortName string   `json:"phys_port_name"`
	PhysSwitchID string   `json:"phys_switch_id"`
	ParentBus    string   `json:"parentbus"`
	ParentDev    string   `json:"parentdev"`
	Info         struct {
		Kind string `json:"info_kind"`
		Data struct {
			Mode          any    `json:"mode"`
			ActiveSlave   string `json:"active_slave"`
			ID            int    `json:"id"`
			Protocol      string `json:"protocol"`
			Table         int    `json:"table"`
			VLANFiltering int    `json:"vlan_filtering"`
			STP           int    `json:"stp_state"`
			Snooping      int    `json:"mcast_snooping"`
			Querier       int    `json:"mcast_querier"`
			Router        int    `json:"mcast_router"`
			HashMax       int    `json:"mcast_hash_max"`
			IGMP          int    `json:"mcast_igmp_version"`
			MLD           int    `json:"mcast_mld_version"`
		} `json:"info_data"`
	} `json:"linkinfo"`
}

// TestLinksAgreeWithIP compares every device with what ip -j -d link says of it,
// field by field.
func TestLinksAgreeWithIP(t *testing.T) {
	zoo(t)
	live := open(t)
	eventually(t, func() string {
		s := surveyed(t, live)
		if len(s.unread) > 0 {
			t.Errorf("unread: %+v", s.unread)
		}
		return compareLinks(s, runJSON[[]ipLink](t, "ip -j -d link"))
	})
}

// compareLinks says what differs, empty for nothing.
func compareLinks(s *survey, want []ipLink) string {
	var different strings.Builder
	differs := func(format string, arguments ...any) { fmt.Fprintf(&different, format+"\n", arguments...) }
	seen := 0
	for _, w := range want {
		n := s.byIndex[w.Index]
		if slices.Contains(w.Flags, "LOOPBACK") {
			if n != nil {
				differs("%s is listed", w.Name)
			}
			continue
		}
		seen++
		if n == nil {
			differs("%s is missing", w.Name)
			continue
		}
		equal := func(fact string, got, want any) {
			if got != want {
				differs("%s: %s is %v, ip says %v", w.Name, fact, got, want)
			}
		}
		has := func(flag string) bool { return slices.Contains(w.Flags, flag) }
		equal("name", n.Name, w.Name)
		equal("altNames", strings.Join(n.AltNames, " "), strings.Join(w.AltNames, " "))
		equal("alias", n.Alias, w.Alias)
		typ := w.Type
		if w.Info.Kind != "" {
			typ = w.Info.Kind
		}
		equal("type", n.Type, typ)
		equal("mac", n.MAC, w.Address)
		if w.PermAddress != "" { // ip leaves it out where it is the current one
			equal("permanentMac", n.PermanentMAC, w.PermAddress)
		}
		equal("admin", n.Link.Admin == "up", has("UP"))
		equal("oper", n.Link.Oper, strings.ToLower(w.Oper))
		if has("UP") {
			equal("carrier", value(n.Link.Carrier), !has("NO-CARRIER") && has("LOWER_UP"))
		} else if n.Link.Carrier != nil {
			differs("%s: carrier is known of a device that is down", w.Name)
		}
		equal("mtu", value(n.Link.MTU), w.MTU)
		equal("minMtu", value(n.Link.MinMTU), w.MinMTU)
		equal("maxMtu", value(n.Link.MaxMTU), w.MaxMTU)
		if w.TxQLen != nil {
			equal("txQueueLen", value(n.Link.TxQueueLen), *w.TxQLen)
		}
		equal("queues.tx", value(n.Queues.TX), w.TX)
		equal("queues.rx", value(n.Queues.RX), w.RX)
		limits := n.Offloads.Limits
		equal("gsoMaxSize", value(limits.GSOMaxSize), w.GSOMaxSize)
		equal("gsoMaxSegs", value(limits.GSOMaxSegs), w.GSOMaxSegs)
		equal("tsoMaxSize", value(limits.TSOMaxSize), w.TSOMaxSize)
		equal("tsoMaxSegs", value(limits.TSOMaxSegs), w.TSOMaxSegs)
		equal("groMaxSize", value(limits.GROMaxSize), w.GROMaxSize)
		equal("multicast.capable", value(n.Multicast.Capable), has("MULTICAST"))
		equal("promiscuousUsers", value(n.Multicast.PromiscuousUsers), w.Promiscuity)
		equal("promiscuous", value(n.Multicast.Promiscuous), w.Promiscuity > 0)
		if w.AllMulti != nil {
			equal("allMultiUsers", value(n.Multicast.AllMultiUsers), *w.AllMulti)
			equal("allMulti", value(n.Multicast.AllMulti), *w.AllMulti > 0)
		}
		equal("port.name", n.Port.Name, w.PhysPortName)
		equal("port.switchId", n.Port.SwitchID, w.PhysSwitchID)
		var parent Parent
		if n.Parent != nil {
			parent = *n.Parent
		}
		equal("parent", parent, Parent{Bus: w.ParentBus, Address: w.ParentDev})

		equal("master", n.Stack.Master, w.Master)
		if w.LinkNetNSID != nil {
			equal("peerNamespace", value(n.Stack.PeerNamespace), *w.LinkNetNSID)
			equal("peer", n.Stack.Peer, "")
			equal("lower", len(n.Stack.Lower), 0)
		} else if w.Link != "" {
			if w.Info.Kind == "veth" {
				equal("peer", n.Stack.Peer, w.Link)
			} else {
				equal("lower", slices.Contains(n.Stack.Lower, w.Link), true)
				equal("upper of "+w.Link, slices.Contains(s.byName[w.Link].Stack.Upper, w.Name), true)
			}
		}
		data := w.Info.Data
		switch w.Info.Kind {
		case "bond":
			equal("bond.mode", n.Stack.Bond.Mode, data.Mode)
			equal("bond.activeSlave", n.Stack.Bond.ActiveSlave, data.ActiveSlave)
		case "vlan":
			equal("vlan", *n.Stack.VLAN, VLAN{ID: data.ID, Protocol: data.Protocol})
		case "vrf":
			equal("vrfTable", value(n.Stack.VRFTable), data.Table)
		case "macvlan", "macvtap":
			equal("macvlanMode", n.Stack.MACVLANMode, data.Mode)
		case "bridge":
			b := n.Stack.Bridge
			equal("bridge.vlanFiltering", value(b.VLANFiltering), data.VLANFiltering != 0)
			equal("bridge.stp", value(b.STP), data.STP != 0)
			equal("bridge.multicastSnooping", value(b.Snooping), data.Snooping != 0)
			equal("bridge.multicastQuerier", value(b.Querier), data.Querier != 0)
			equal("bridge.multicastRouter", value(b.Router), data.Router)
			equal("bridge.multicastHashMax", value(b.HashMax), data.HashMax)
			equal("bridge.igmpVersion", value(b.IGMPVersion), data.IGMP)
			equal("bridge.mldVersion", value(b.MLDVersion), data.MLD)
		}
	}
	if seen != len(s.nics) {
		differs("%d devices listed, ip lists %d", len(s.nics), seen)
	}
	return different.String()
}

// TestStackAgreesWithSysfs compares who lies on whom with the links that the
// kernel keeps of it in sysfs.
func TestStackAgreesWithSysfs(t *testing.T) {
	zoo(t)
	s := surveyed(t, open(t))
	links := 0
	for _, n := range s.nics {
		for prefix, got := range map[string][]string{"lower_": n.Stack.Lower, "upper_": n.Stack.Upper} {
			paths, err := filepath.Glob("/sys/class/net/" + n.Name + "/" + prefix + "*")
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, p := range paths {
				want = append(want, strings.TrimPrefix(filepath.Base(p), prefix))
			}
			slices.Sort(want)
			links += len(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s is %v, sysfs has %v", n.Name, prefix, got, want)
			}
		}
	}
	if links < 4 {
		t.Errorf("only %d links to compare", links)
	}
}

// TestLinksCountersAndSysfs compares what ip does not print with sysfs.
func TestLinksCountersAndSysfs(t *testing.T) {
	zoo(t)
	s := surveyed(t, open(t))
	for _, n := range s.nics {
		for file, got := range map[string]any{
			"carrier_up_count": value(n.Link.CarrierUp), "carrier_down_count": value(n.Link.CarrierDown),
		} {
			b, err := os.ReadFile("/sys/class/net/" + n.Name + "/" + file)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.TrimSpace(string(b)); want != fmt.Sprint(got) {
				t.Errorf("%s: %s is %v, sysfs says %s", n.Name, file, got, want)
			}
		}
	}
}
