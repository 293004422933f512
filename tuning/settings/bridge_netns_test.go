package settings

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// received is how many packets a device has received.
func received(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile("/sys/class/net/" + name + "/statistics/rx_packets")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// join makes the host a member of a group on a device until it is told to leave.
func join(t *testing.T, device, group string) (leave func()) {
	t.Helper()
	i, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenMulticastUDP("udp4", i, &net.UDPAddr{IP: net.ParseIP(group), Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	left := false
	leave = func() {
		if !left {
			left = true
			c.Close()
		}
	}
	t.Cleanup(leave)
	return leave
}

// TestBridgeSteersMulticast sends a group's packets into a bridge and counts
// what comes out of its ports: everywhere without snooping; with it, where there
// is a member; and with fast leave not a moment longer.
func TestBridgeSteersMulticast(t *testing.T) {
	nstest.Require(t)
	const group = "239.1.2.3"
	// A querier counts only once the answers to its first question are in.
	nstest.Link(t, "steerbr", "up type bridge mcast_snooping 0 mcast_query_response_interval 30 mcast_last_member_interval 200")
	for _, i := range []string{"0", "1", "2"} {
		nstest.Link(t, "port"+i, "up master steerbr type veth peer name host"+i)
		nstest.IP(t, "link set host"+i+" up")
	}
	nstest.IP(t, "addr add 192.0.2.1/24 dev host0")
	nstest.IP(t, "route add "+group+" dev host0")
	eventually(t, "the ports forward", func() bool {
		return !strings.Contains(string(nstest.Run(t, "bridge", "link")), "state learning") &&
			strings.Count(string(nstest.Run(t, "bridge", "link")), "state forwarding") == 3
	})
	const packets = 50
	to, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP("192.0.2.1")}, &net.UDPAddr{IP: net.ParseIP(group), Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	// arrived says which of two hosts got the packets; a few of others come, too.
	arrived := func() (one, two bool) {
		t.Helper()
		before1, before2 := received(t, "host1"), received(t, "host2")
		for range packets {
			if _, err := to.Write(make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Millisecond) // of a packet that does not come nothing tells
		one, two = received(t, "host1")-before1 >= packets, received(t, "host2")-before2 >= packets
		return one, two
	}

	w := live(t)
	all := nics(t, w)
	apply := func(device, settings string) *tuning.Transaction {
		t.Helper()
		done, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, policyFor(device, settings)), all, allow)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	eventually(t, "everybody gets everything", func() bool { one, two := arrived(); return one && two })
	apply("steerbr", "bridge: {mcast-snooping: on, mcast-querier: on}")
	eventually(t, "nobody gets what nobody wants", func() bool { one, two := arrived(); return !one && !two })
	leave := join(t, "host1", group)
	eventually(t, "the member gets its group, and nobody else", func() bool { one, two := arrived(); return one && !two })
	apply("port2", "bridge-port: {mcast-router: 2}")
	eventually(t, "a router behind the second port gets it, too", func() bool { one, two := arrived(); return one && two })
	apply("port2", "bridge-port: {mcast-router: 0}")

	// Without fast leave the port is asked first whether somebody is left, for four seconds.
	leave()
	time.Sleep(100 * time.Millisecond)
	eventually(t, "without fast leave the group goes on", func() bool { one, _ := arrived(); return one })
	eventually(t, "the group stops", func() bool { one, _ := arrived(); return !one })
	apply("port1", "bridge-port: {mcast-fast-leave: on}")
	leave = join(t, "host1", group)
	eventually(t, "the member gets its group again", func() bool { one, _ := arrived(); return one })
	nstest.IP(t, "link set steerbr type bridge mcast_last_member_interval 6000") // asking takes two minutes
	leave()
	eventually(t, "with fast leave the group stops", func() bool { one, _ := arrived(); return !one })
}

// eventually waits for what the kernel does by itself.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// What is no bridge or no port says so, and numbers out of range are found
// before anything is written.
func TestBridgeRefuses(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "tunebr", "type bridge")
	nstest.Link(t, "tune0", "type veth peer name tune1")
	w := live(t)
	all := nics(t, w)
	for _, test := range []struct {
		device, settings, want string
		reason                 kernel.Reason
	}{
		{"tune0", "bridge: {mcast-snooping: on}", "tune0: bridge: unsupported: the device is not a bridge", kernel.Unsupported},
		{"tunebr", "bridge-port: {mcast-flood: off}", "tunebr: bridge-port: unsupported: the device is not a port of a bridge", kernel.Unsupported},
		{"tunebr", "bridge: {mcast-igmp-version: 1}", "mcast-igmp-version 1: it goes from 2 to 3", kernel.Failed},
		{"tune0", "multicast: {force-mld-version: 3}", "force-mld-version 3: it goes from 0 to 2", kernel.Failed},
	} {
		_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, policyFor(test.device, test.settings)), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || kernel.ReasonOf(err) != test.reason {
			t.Errorf("%s: %v, want %q", test.settings, err, test.want)
		}
	}
}
