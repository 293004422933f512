package inventory

import (
	"net"
	"testing"
)

// groups puts the devices of zoo into multicast groups of every kind.
func groups(t *testing.T) {
	t.Helper()
	for _, line := range []string{
		"ip addr add 192.0.2.1/24 dev br0",
		"ip maddr add 01:00:5e:01:02:03 dev v3",
		"ip addr add 239.1.1.7/32 dev br0 autojoin",
		"ip addr add 239.1.1.7/32 dev v1 autojoin",
		"bridge mdb add dev br0 port v0 grp 239.2.2.2 permanent",
		"bridge mdb add dev br0 port v0 grp 239.2.2.2 src 192.0.2.9 permanent",
		"bridge mdb add dev br0 port v0 grp ff15::5 temp",
		"bridge mdb add dev br0 port br0 grp 239.2.2.4 temp",
		"bridge mdb add dev br0 port v0 grp 01:00:00:00:00:55 permanent",
		"bridge link set dev v0 mcast_router 2",
	} {
		run(t, line)
	}
	// Two users of one group.
	v1, err := net.InterfaceByName("v1")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for network, group := range map[string]string{"udp4": "239.1.1.8", "udp6": "ff15::8"} {
			c, err := net.ListenMulticastUDP(network, v1, &net.UDPAddr{IP: net.ParseIP(group), Port: 5000})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}
	}
	// A tagged group needs VLAN filtering.
	if try(t, "ip link set br0 type bridge vlan_filtering 1") {
		run(t, "bridge mdb add dev br0 port v0 grp 239.2.2.5 permanent vid 1")
	}
}

// TestMulticastAgreesWithIP compares the memberships with ip -j maddr.
func TestMulticastAgreesWithIP(t *testing.T) {
	zoo(t)
	groups(t)
	live := open(t)
	var s *survey
	eventually(t, func() string {
		s = surveyed(t, live, readMulticast)
		if len(s.unread) > 0 {
			t.Errorf("unread: %+v", s.unread)
		}
		return compareMemberships(s, runJSON[[]ipMaddr](t, "ip -j maddr"))
	})
	shared, families := 0, map[string]int{}
	for _, m := range s.byName["v1"].Multicast.Memberships {
		families[m.Family]++
		if m.Family != "link" && m.Users == 2 {
			shared++
		}
	}
	if shared != 2 {
		t.Errorf("%d groups of v1 have two users: %v", shared, s.byName["v1"].Multicast.Memberships)
	}
	if families["link"] == 0 || families["ipv4"] == 0 || families["ipv6"] == 0 {
		t.Errorf("not every family was compared: %v", families)
	}
}

// TestMDBAgreesWithBridge compares the bridges' groups and router ports with
// bridge -j -d mdb.
func TestMDBAgreesWithBridge(t *testing.T) {
	zoo(t)
	groups(t)
	live := open(t)
	var s *survey
	eventually(t, func() string {
		s = surveyed(t, live, readMulticast)
		return compareMDB(s, runJSON[[]bridgeMDB](t, "bridge -j -d mdb"))
	})
	if b := s.byName["br0"].Stack.Bridge; len(b.MDB) < 5 || len(b.RouterPorts) != 1 {
		t.Errorf("too little to compare: %s", asJSON(t, b))
	}
	if q := s.byName["br0"].Stack.Bridge.QuerierState; len(q) == 0 || q[0].Family != "ipv4" && q[0].Family != "ipv6" {
		t.Errorf("br0 is a querier and its state is %v", q)
	}
}
