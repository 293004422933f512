package audit

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// A real receiver that does not read what a group brings loses it, and one that reads
// doesn't.
func TestSocketDrops(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "md0", "type veth peer name md1")
	for device, address := range map[string]string{"md0": "192.0.2.1/24", "md1": "192.0.2.2/24"} {
		nstest.IP(t, "addr add "+address+" dev "+device)
		nstest.IP(t, "link set "+device+" up")
		// The sender is of this host, too.
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+device+"/accept_local", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	send := sender(t, [4]byte{192, 0, 2, 2})
	judge := func(want findings.Status, watch time.Duration) string {
		t.Helper()
		for patience := time.Now().Add(10 * time.Second); ; { // packets may still be on their way
			e, groups := gather(t, watch, "multicast")
			all := Judge(e, groups)
			i := slices.IndexFunc(all, func(f findings.Finding) bool { return f.Rule == "multicast/socket-drops" })
			if i >= 0 && all[i].Status == want || time.Now().After(patience) {
				return expect(t, all, "multicast/socket-drops", "host", want).Seen
			}
		}
	}
	judge(findings.NotApplicable, 0)

	deaf := receiver(t, netip.MustParseAddrPort("239.9.1.1:5001"), true)
	send(deaf, 500)
	seen := judge(findings.Fail, 0)
	if us := fmt.Sprintf("(process %d)", os.Getpid()); !strings.Contains(seen, "239.9.1.1:5001") || !strings.Contains(seen, us) || strings.Contains(seen, "perhaps") {
		t.Error(seen)
	}
	judge(findings.Pass, 100*time.Millisecond) // nothing is lost meanwhile
	deaf.close(t)

	// More than its buffer holds, a few at a time.
	reads := receiver(t, netip.MustParseAddrPort("239.9.1.2:5002"), true)
	for range 25 {
		send(reads, 20)
		reads.read(t, 20)
	}
	judge(findings.Pass, 0)
	reads.close(t)

	// mDNS and the like are on every host.
	anywhere := receiver(t, netip.MustParseAddrPort("224.0.0.251:5003"), false)
	send(anywhere, 500)
	judge(findings.NotApplicable, 0)
	// What else it is in, the kernel doesn't tell.
	defer receiver(t, netip.MustParseAddrPort("239.9.1.4:5004"), false).close(t)
	if seen := judge(findings.Fail, 0); !strings.Contains(seen, "0.0.0.0:5003") || !strings.Contains(seen, "perhaps") {
		t.Error(seen)
	}
	anywhere.close(t)
	judge(findings.Pass, 0)
}

// received is a socket in a group.
type received struct {
	fd    int
	group netip.AddrPort
}

// receiver is in a group on md0, and bound to it or to all addresses.
func receiver(t *testing.T, group netip.AddrPort, toGroup bool) received {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := &unix.SockaddrInet4{Port: int(group.Port())}
	if toGroup {
		at.Addr = group.Addr().As4()
	}
	timeout := unix.Timeval{Sec: 20}
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, at),
		unix.SetsockoptIPMreq(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreq{Multiaddr: group.Addr().As4(), Interface: [4]byte{192, 0, 2, 1}}),
	); err != nil {
		t.Fatal(err)
	}
	return received{fd, group}
}

func (r received) read(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if _, err := unix.Read(r.fd, make([]byte, 2000)); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
}

func (r received) close(t *testing.T) {
	t.Helper()
	if err := unix.Close(r.fd); err != nil {
		t.Error(err)
	}
}

// sender sends datagrams to groups from an address, by its device.
func sender(t *testing.T, from [4]byte) func(received, int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(
		unix.SetsockoptInet4Addr(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, from),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from}),
	); err != nil {
		t.Fatal(err)
	}
	return func(to received, n int) {
		t.Helper()
		for range n {
			if err := unix.Sendto(fd, make([]byte, 1400), 0, &unix.SockaddrInet4{Addr: to.group.Addr().As4(), Port: int(to.group.Port())}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
