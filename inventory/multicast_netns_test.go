package inventory

import (
	"fmt"
	"net"
	"slices"
	"strings"
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
	type ipMaddr struct {
		Index int `json:"ifindex"`
		Addrs []struct {
			Family   string `json:"family"`
			Address  string `json:"address"`
			Link     string `json:"link"`
			Users    *int   `json:"users"`
			Features string `json:"features"`
		} `json:"maddr"`
	}
	live := open(t)
	var s *survey
	var families map[string]int
	eventually(t, func() string {
		families = map[string]int{}
		s = surveyed(t, live, readMulticast)
		if len(s.unread) > 0 {
			t.Errorf("unread: %+v", s.unread)
		}
		var different strings.Builder
		for _, device := range runJSON[[]ipMaddr](t, "ip -j maddr") {
			n := s.byIndex[device.Index]
			if n == nil {
				continue // lo
			}
			var want []Membership
			for _, a := range device.Addrs {
				m := Membership{Family: "link", Address: a.Link, Users: 1}
				switch a.Family {
				case "inet":
					m.Family, m.Address = "ipv4", a.Address
				case "inet6":
					m.Family, m.Address = "ipv6", a.Address
				}
				if a.Users != nil { // ip leaves out a single user
					m.Users = uint32(*a.Users)
				}
				m.Static = strings.Contains(a.Features, "static")
				want = append(want, m)
				families[m.Family]++
			}
			if !slices.Equal(n.Multicast.Memberships, want) {
				fmt.Fprintf(&different, "%s:\n got %v\nwant %v\n", n.Name, n.Multicast.Memberships, want)
			}
		}
		return different.String()
	})
	shared := 0
	for _, m := range s.byName["v1"].Multicast.Memberships {
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
	type bridgeMDB struct {
		Entries []struct {
			Bridge string `json:"dev"`
			Port   string `json:"port"`
			Group  string `json:"grp"`
			Source string `json:"src"`
			VLAN   int    `json:"vid"`
			State  string `json:"state"`
		} `json:"mdb"`
		Routers map[string][]struct {
			Port string `json:"port"`
		} `json:"router"`
	}
	live := open(t)
	var s *survey
	var got, want []string
	eventually(t, func() string {
		s, got, want = surveyed(t, live, readMulticast), nil, nil
		for _, part := range runJSON[[]bridgeMDB](t, "bridge -j -d mdb") {
			for _, e := range part.Entries {
				state := e.State
				if state == "temp" {
					state = "temporary"
				}
				want = append(want, fmt.Sprint(e.Bridge, MDBEntry{Port: e.Port, Group: e.Group, Source: e.Source, VLAN: e.VLAN, State: state}))
			}
			for bridge, ports := range part.Routers {
				for _, p := range ports {
					want = append(want, fmt.Sprint(bridge, " router ", p.Port))
				}
			}
		}
		for _, n := range s.nics {
			if n.Stack.Bridge == nil {
				continue
			}
			for _, e := range n.Stack.Bridge.MDB {
				got = append(got, fmt.Sprint(n.Name, e))
			}
			for _, p := range n.Stack.Bridge.RouterPorts {
				got = append(got, fmt.Sprint(n.Name, " router ", p))
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if slices.Equal(got, want) {
			return ""
		}
		return fmt.Sprintf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	})
	if len(want) < 6 {
		t.Errorf("only %d things to compare: %v", len(want), want)
	}
	if q := s.byName["br0"].Stack.Bridge.QuerierState; len(q) == 0 || q[0].Family != "ipv4" && q[0].Family != "ipv6" {
		t.Errorf("br0 is a querier and its state is %v", q)
	}
}
