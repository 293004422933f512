package audit

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/nstest"
)

// A real bridge: who asks, and how much its database holds.
func TestBridges(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "mb0", "type bridge mcast_snooping 1 mcast_querier 0 mcast_hash_max 16")
	nstest.Link(t, "mp0", "type veth peer name mp1")
	nstest.IP(t, "link set mp0 master mb0")
	for _, device := range []string{"mb0", "mp0", "mp1"} {
		nstest.IP(t, "link set "+device+" up")
	}
	judge := func() []findings.Finding {
		e, groups := gather(t, 0, "multicast")
		return Judge(e, groups)
	}
	all := judge()
	expect(t, all, "multicast/no-querier", "mb0", findings.NotApplicable) // as container runtimes make them
	expect(t, all, "multicast/bridge-limit", "mb0", findings.Pass)
	expect(t, all, "multicast/no-querier", "mp0", findings.NotApplicable)

	nstest.IP(t, "link set mb0 type bridge mcast_querier 1")
	expect(t, judge(), "multicast/no-querier", "mb0", findings.Pass)
	nstest.IP(t, "link set mb0 type bridge mcast_querier 0 mcast_snooping 0")
	expect(t, judge(), "multicast/no-querier", "mb0", findings.NotApplicable)
	nstest.IP(t, "link set mb0 type bridge mcast_snooping 1")
	for i := range 13 {
		nstest.Run(t, "bridge", "mdb", "add", "dev", "mb0", "port", "mp0", "grp", fmt.Sprintf("239.1.1.%d", i), "permanent")
	}
	if f := expect(t, judge(), "multicast/bridge-limit", "mb0", findings.Fail); f.Subject.Name == "" {
		t.Error("no subject")
	}
}

// Real sockets in real groups, and versions that somebody forced.
func TestMemberships(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "mg0", "type veth peer name mg1")
	nstest.IP(t, "addr add 192.0.2.1/24 dev mg0")
	nstest.IP(t, "link set mg0 up")
	nstest.IP(t, "link set mg1 up")
	device, err := net.InterfaceByName("mg0")
	if err != nil {
		t.Fatal(err)
	}
	join := func(n int) {
		t.Helper()
		for i := range n {
			c, err := net.ListenMulticastUDP("udp4", device, &net.UDPAddr{IP: net.IPv4(239, 7, byte(n), byte(i)), Port: 5000})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}
	}
	judge := func() []findings.Finding {
		e, groups := gather(t, 0, "multicast")
		return Judge(e, groups)
	}
	join(3)
	all := judge()
	expect(t, all, "multicast/memberships", "host", findings.Pass)
	expect(t, all, "multicast/igmp-version", "mg0", findings.Pass)
	join(14)
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/mg0/force_igmp_version", []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	all = judge()
	expect(t, all, "multicast/memberships", "host", findings.Fail)
	expect(t, all, "multicast/igmp-version", "mg0", findings.Fail)
	expect(t, all, "multicast/igmp-version", "mg1", findings.Pass)
	if err := os.WriteFile("/proc/sys/net/ipv4/igmp_max_memberships", []byte("100"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, judge(), "multicast/memberships", "host", findings.Pass)
}
