package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
		"ip link set v0 type bridge_slave fastleave on mcast_flood off mcast_router 2",
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
	run(t, "ip link set br0 group 42 mode dormant")
	run(t, "ip link set br0 address 02:00:00:00:00:42")
	live := open(t)
	eventually(t, func() string { // links come, and count it
		s := &survey{Reader: live, sysfs: true, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
		if err := readLinks(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if c := s.byName["br0"].NetClass; c.Group != 42 || c.LinkMode != 1 || value(c.AddressAssignType) != 3 || value(c.NameAssignType) == 0 || c.DeviceID == nil {
			t.Errorf("br0: %s", asJSON(t, c))
		}
		var different strings.Builder
		for _, n := range s.nics {
			c := n.NetClass
			for file, got := range map[string]any{
				"carrier_up_count": value(n.Link.CarrierUp), "carrier_down_count": value(n.Link.CarrierDown),
				"type": c.Hardware, "link_mode": c.LinkMode, "netdev_group": c.Group, "iflink": c.Link,
				"addr_assign_type": value(c.AddressAssignType), "name_assign_type": value(c.NameAssignType),
			} {
				b, err := os.ReadFile("/sys/class/net/" + n.Name + "/" + file)
				if errors.Is(err, syscall.EINVAL) && c.NameAssignType == nil {
					continue // the kernel doesn't know who named a tap
				}
				if err != nil {
					t.Fatal(err)
				}
				if want := strings.TrimSpace(string(b)); want != fmt.Sprint(got) {
					fmt.Fprintf(&different, "%s: %s is %v, sysfs says %s\n", n.Name, file, got, want)
				}
			}
		}
		return different.String()
	})
}
