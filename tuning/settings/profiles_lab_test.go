//go:build lab

package settings

import (
	"encoding/json"
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

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/policies"
)

// profile is a shipped policy as a user copies it, for all NICs or the one of a
// name.
func profile(t *testing.T, profile, name string) string {
	t.Helper()
	text, err := policies.ShippedDocument(profile)
	if err != nil {
		t.Fatal(err)
	}
	if name == "" {
		return string(text)
	}
	document := strings.Replace(string(text), "match: {}\n", "match: {name: "+name+"}\n", 1)
	if document == string(text) {
		t.Fatalf("%s is not for all NICs", profile)
	}
	return document
}

// everything is the state of every setting of the host and of some NICs.
func everything(t *testing.T, w kernel.Reader, all []inventory.NIC, names []string) string {
	t.Helper()
	b := strings.Builder{}
	for _, nic := range append([]inventory.NIC{{}}, all...) {
		seen := map[string]any{}
		if nic.Name == "" {
			see(t, seen, Sysctl(), w, nic)
		} else if slices.Contains(names, nic.Name) {
			seen["state"] = state(t, w, all, nic.Name)
			see(t, seen, Memberships(), w, nic)
			see(t, seen, CoalesceQueues(), w, nic)
			see(t, seen, RSS(), w, nic)
			see(t, seen, HashFields(), w, nic)
			see(t, seen, RSSContexts(), w, nic)
			see(t, seen, Flows(), w, nic)
			see(t, seen, IRQ(), w, nic)
			see(t, seen, RPS(), w, nic)
			see(t, seen, XPS(), w, nic)
			see(t, seen, NAPI(), w, nic)
		} else {
			continue
		}
		line, err := json.Marshal(seen)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", nic.Name, line)
	}
	return b.String()
}

// promise is what a profile makes of a driver's NIC: what ethtool with an option
// prints, or what is in a file below the NIC's directory in sysfs, or, with a slash
// in front, anywhere. "irq" are the CPUs of its queues' interrupts.
type promise struct{ driver, of, want string }

// promises are those that the lab's NICs can keep. What else a profile asks of them
// they do not have, and the plan says so.
var promises = map[string][]promise{
	"af-xdp": {
		{"igb", "-g", "RX: 2048 RX Mini: n/a RX Jumbo: n/a TX: 2048"},
		{"igb", "irq", "0 1 2 3"},
		{"igb", "napi_defer_hard_irqs", "2"},
		{"igb", "gro_flush_timeout", "200000"},
		{"igbvf", "-g", "RX: 2048 RX Mini: n/a RX Jumbo: n/a TX: 2048"},
		{"e1000e", "-g", "RX: 2048 RX Mini: n/a RX Jumbo: n/a TX: 2048"},
		{"virtio_net", "napi_defer_hard_irqs", "2"},
		{"vmxnet3", "-g", "RX: 2048"},
		{"vmxnet3", "-k", "large-receive-offload: off"},
		{"netdevsim", "-k", "ntuple-filters: on"},
	},
	"ddos-filter": {
		{"igb", "-g", "RX: 1024 RX Mini: n/a RX Jumbo: n/a TX: 256"},
		{"igb", "-l", "Combined: 4"},
		{"igb", "irq", "0 1 2 3"},
		{"igbvf", "-g", "RX: 1024"},
		{"e1000e", "-g", "RX: 1024"},
		{"vmxnet3", "-k", "large-receive-offload: off"},
		{"virtio_net", "irq", "0 1 2 3"},
		{"netdevsim", "-l", "Combined: 4"},
	},
	"forwarder": {
		{"igb", "-k", "rx-udp-gro-forwarding: on"},
		{"igbvf", "-k", "rx-udp-gro-forwarding: on"},
		{"e1000e", "-k", "rx-gro-list: off"},
		{"virtio_net", "-k", "rx-udp-gro-forwarding: on"},
		{"vmxnet3", "-k", "large-receive-offload: off"},
	},
	"isolated-cpus": {
		{"igb", "irq", "0 1 2 3"},
		{"igb", "queues/rx-0/rps_cpus", "0"}, // it was on before
		{"igb", "queues/rx-0/rps_flow_cnt", "0"},
		{"igb", "queues/tx-3/xps_cpus", "8"},
		{"netdevsim", "-l", "Combined: 4"},
	},
	"low-latency": {
		{"", "/proc/sys/net/core/busy_read", "50"},
		{"", "/proc/sys/net/core/busy_poll", "50"},
		{"igb", "-c", "rx-usecs: 0"},
		{"igb", "irq", "0 1 2 3"},
		{"e1000e", "-c", "rx-usecs: 0"},
		{"vmxnet3", "-k", "large-receive-offload: off"},
		{"netdevsim", "-c", "Adaptive RX: off"},
	},
	"multicast-market-data": {
		{"", "/proc/sys/net/ipv4/igmp_max_memberships", "1024"},
		{"", "/proc/sys/net/ipv4/igmp_max_msf", "64"},
		{"", "/proc/sys/net/ipv6/mld_max_msf", "64"},
		{"igb", "-g", "RX: 4096 RX Mini: n/a RX Jumbo: n/a TX: 256"},
		{"igb", "-c", "rx-usecs: 0"},
		{"igb", "-k", "generic-receive-offload: off"},
		{"igb", "flags", "0x1003"}, // UP, BROADCAST, MULTICAST; it was ALLMULTI before
		{"e1000e", "-g", "RX: 4096"},
		{"vmxnet3", "-g", "RX: 4096"},
		{"virtio_net", "-k", "generic-receive-offload: off"},
	},
	"queue-share": {
		{"igb", "-x", "0: 0 2 3 0 2 3 0 2"},
		{"igb", "irq", "0 1 2 3"},
		{"igb", "queues/tx-1/xps_cpus", "2"},
		{"igb", "queues/rx-0/rps_cpus", "0"},
		{"vmxnet3", "-x", "0: 0 2 3 0 2 3 0 2"},
		{"netdevsim", "-x", "0: 0 2 3 0 2 3 0 2"},
		{"netdevsim", "-k", "ntuple-filters: on"},
		{"netdevsim", "-n", "Dest port: 53 mask: 0x0 Action: Direct to queue 1"},
	},
	"sriov-host": {
		{"igb", "-l", "Combined: 4"},
		{"igb", "irq", "0 1 2 3"},
		{"igb", "queues/rx-0/rps_cpus", "0"},
	},
	"throughput": {
		{"igb", "-g", "RX: 4096 RX Mini: n/a RX Jumbo: n/a TX: 4096"},
		{"igb", "irq", "0 1 2 3"},
		{"igb", "queues/tx-2/xps_cpus", "4"},
		{"igbvf", "-g", "RX: 4096"},
		{"e1000e", "-g", "TX: 4096"},
		{"vmxnet3", "-g", "TX: 4096"},
	},
	"xdp-l4lb": {
		{"igb", "-l", "Combined: 4"},
		{"igb", "irq", "0 1 2 3"},
		{"vmxnet3", "-k", "large-receive-offload: off"},
	},
}

// check looks whether a NIC keeps a promise.
func (p promise) check(t *testing.T, nic inventory.NIC) {
	t.Helper()
	var got string
	switch {
	case p.of == "irq":
		var cpus []string
		for _, vector := range affinities(t, nic) {
			if name, on, _ := strings.Cut(vector, " "); queueVector().MatchString(name) {
				cpus = append(cpus, on)
			}
		}
		slices.Sort(cpus)
		cpus = slices.Compact(cpus)
		if got = strings.Join(cpus, " "); got != p.want {
			t.Errorf("interrupts of %s (%s) are on the CPUs %s, want %s", nic.Name, p.driver, got, p.want)
		}
		return
	case strings.HasPrefix(p.of, "-"):
		got = string(labtest.Ethtool(t, p.of, nic.Name))
	default:
		file := p.of
		if !filepath.IsAbs(file) {
			file = filepath.Join("/sys/class/net", nic.Name, file)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		if got = strings.TrimSpace(string(b)); got != p.want {
			t.Errorf("%s of %s (%s) is %s, want %s", p.of, nic.Name, p.driver, got, p.want)
		}
		return
	}
	if _, current, ok := strings.Cut(got, "Current hardware settings:"); ok {
		got = current
	}
	if got = strings.Join(strings.Fields(got), " "); !strings.Contains(got, p.want) {
		t.Errorf("ethtool %s shows no %q of %s (%s): %s", p.of, p.want, nic.Name, p.driver, got)
	}
}

// TestProfiles applies each shipped profile as it is to all of the lab's NICs,
// looks with other eyes at what it promises, finds nothing left to do, and goes
// back.
//
//lab:seconds 100
func TestProfiles(t *testing.T) {
	labtest.Require(t, "nics")
	cards := igb(t)
	labtest.Run(t, "sh", "-c", "echo 1 >/sys/class/net/"+cards[1]+"/device/sriov_numvfs")
	t.Cleanup(func() { labtest.Run(t, "sh", "-c", "echo 0 >/sys/class/net/"+cards[1]+"/device/sriov_numvfs") })
	labtest.Run(t, "modprobe", "igbvf")
	names := map[string]string{"igb": cards[0], "netdevsim": labtest.Netdevsim(t, 40, 1, 4)[0]}
	for _, driver := range []string{"igbvf", "e1000e", "virtio_net", "vmxnet3"} {
		names[driver] = labtest.NIC(t, driver)
	}
	labtest.Run(t, "ip", "link", "set", cards[1], "up") // without its PF a VF has no link
	for _, name := range names {
		labtest.Run(t, "ip", "link", "set", name, "up")
	}
	labtest.Run(t, "ip", "link", "set", cards[0], "allmulticast", "on")
	queueFile(t, cards[0], "queues/rx-0/rps_cpus", "f")
	queueFile(t, cards[0], "queues/rx-0/rps_flow_cnt", "512")
	t.Cleanup(func() {
		labtest.Run(t, "ip", "link", "set", cards[0], "allmulticast", "off")
		queueFile(t, cards[0], "queues/rx-0/rps_cpus", "0")
		queueFile(t, cards[0], "queues/rx-0/rps_flow_cnt", "0")
	})
	labtest.Eventually(t, "carrier", func() bool {
		for driver, name := range names { // netdevsim has one only with a peer
			if b, err := os.ReadFile("/sys/class/net/" + name + "/carrier"); driver != "netdevsim" && (err != nil || string(b) != "1\n") {
				return false
			}
		}
		return true
	})
	every := append(slices.Clone(cards), names["netdevsim"], names["igbvf"], names["e1000e"], names["virtio_net"], names["vmxnet3"])
	shipped, err := policies.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range shipped {
		t.Run(p.Name, func(t *testing.T) {
			h := tune(t)
			before := everything(t, h.w, h.all, every)
			document := profile(t, p.Name, "")
			planned := h.planned(t, document)
			var text strings.Builder
			if err := planned.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			done, err := h.Apply(t.Context(), planned, h.all, allow)
			if err != nil || done == nil {
				t.Fatalf("%v\n%s", err, text.String())
			}
			if len(promises[p.Name]) == 0 {
				t.Error("the test expects nothing of it")
			}
			for _, promise := range promises[p.Name] {
				i := slices.IndexFunc(h.all, func(n inventory.NIC) bool { return promise.driver != "" && n.Name == names[promise.driver] })
				promise.check(t, h.all[max(i, 0)])
			}
			h.w.writes = 0
			if again := h.planned(t, document); len(again.Changes) != 0 || h.w.writes != 0 {
				t.Errorf("to change again: %+v", again.Changes)
			}
			h.rollback(t, done, false)
			if after := everything(t, h.w, h.all, every); after != before {
				t.Errorf("after the rollback:\n%s\nbefore:\n%s\nplan:\n%s", after, before, text.String())
			}
			t.Logf("%d promises, %d changes, %d skipped", len(promises[p.Name]), len(planned.Changes), len(planned.Skipped))
		})
	}
}

// connected puts the second igb in a namespace of its own, from which the first
// can be sent to.
func connected(t *testing.T) (near string, send func(to string)) {
	t.Helper()
	names := igb(t)
	near, far := names[0], names[1]
	labtest.Run(t, "ip", "netns", "add", "peer")
	t.Cleanup(func() { labtest.Run(t, "ip", "netns", "del", "peer") })
	labtest.Run(t, "ip", "link", "set", far, "netns", "peer")
	labtest.Run(t, "ip", "-n", "peer", "addr", "add", "192.0.2.2/24", "dev", far)
	labtest.Run(t, "ip", "-n", "peer", "link", "set", far, "up")
	labtest.Run(t, "ip", "-n", "peer", "route", "add", "224.0.0.0/4", "dev", far)
	labtest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", near)
	t.Cleanup(func() { labtest.Run(t, "ip", "addr", "flush", "dev", near) })
	answered(t)
	return near, func(to string) {
		t.Helper()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(t.Context(), "ip", "netns", "exec", "peer", self, "-test.run=^TestPacketsToSend$")
		child.Env = append(os.Environ(), sendTo+"="+to)
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func answered(t *testing.T) {
	t.Helper()
	labtest.Eventually(t, "an answer from the peer", func() bool {
		_, err := labtest.Try(t, "ping", "-c", "1", "-W", "1", "192.0.2.2")
		return err == nil
	})
}

// TestTrafficQueueShare has no packet arrive in the application's queue, and all of
// them in the kernel's. (What rules send there no emulated card can.)
func TestTrafficQueueShare(t *testing.T) {
	labtest.Require(t, "hub")
	near, send := connected(t)
	labtest.Ethtool(t, "-N", near, "rx-flow-hash", "udp4", "sdfn")
	t.Cleanup(func() { labtest.Ethtool(t, "-N", near, "rx-flow-hash", "udp4", "sd") })
	h := tune(t)
	arrived := func() (got [4]int) {
		t.Helper()
		before := queuePackets(t, near, "rx")
		send("192.0.2.1:9")
		labtest.Eventually(t, "the packets", func() bool {
			sum := 0
			for q, n := range queuePackets(t, near, "rx") {
				got[q] = n - before[q]
				sum += got[q]
			}
			return sum >= packets*9/10
		})
		return got
	}
	before := arrived()
	done := h.apply(t, profile(t, "queue-share", near))
	got := arrived()
	h.rollback(t, done, false)
	after := arrived()
	t.Logf("packets by queue: before %v, with the profile %v, rolled back %v", before, got, after)
	if got[1] != 0 || got[0] < packets/10 || got[2] < packets/10 || got[3] < packets/10 {
		t.Errorf("packets by queue %v, of which none should be in queue 1", got)
	}
	if before[1] < packets/10 || after[1] < packets/10 {
		t.Errorf("packets by queue: before %v, rolled back %v", before, after)
	}
}

// TestTrafficMarketData joins more groups than a socket may at first, and receives
// the last of them; of a group that nobody is in, nothing gets through the card.
func TestTrafficMarketData(t *testing.T) {
	labtest.Require(t, "hub")
	near, send := connected(t)
	h := tune(t)
	done := h.apply(t, profile(t, "multicast-market-data", near))
	answered(t) // the rings were changed through a reset
	self, err := net.InterfaceByName(near)
	if err != nil {
		t.Fatal(err)
	}
	const groups = 50 // of 20 that a socket may be in at first
	group := func(i int) string { return fmt.Sprintf("239.77.%d.99", i) }
	socket, err := net.ListenMulticastUDP("udp4", self, &net.UDPAddr{IP: net.ParseIP(group(0)), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	raw, err := socket.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < groups; i++ {
		if err := joinOn(raw, self.Index, net.ParseIP(group(i))); err != nil {
			t.Fatalf("group %d: %v", i, err)
		}
	}
	before := received(t, near)
	send(group(groups-1) + ":9")
	got := 0
	labtest.Eventually(t, "the feed", func() bool { got = received(t, near) - before; return got >= packets*9/10 })
	before = received(t, near)
	// The card tells groups apart by twelve bits of their addresses. These are nobody's.
	send("239.99.1.200:9")
	time.Sleep(500 * time.Millisecond) // of a packet that does not come nothing tells
	stray := received(t, near) - before
	t.Logf("of %d packets each, %d of a joined group came in, %d of another", packets, got, stray)
	if stray > packets/10 {
		t.Errorf("%d packets of a group that nobody joined came in", stray)
	}
	h.rollback(t, done, false)
}

// joinOn adds a socket to a group on a NIC.
func joinOn(socket syscall.RawConn, nic int, group net.IP) error {
	request := syscall.IPMreqn{Multiaddr: [4]byte(group.To4()), Ifindex: int32(nic)}
	var err error
	outer := socket.Control(func(fd uintptr) {
		err = syscall.SetsockoptIPMreqn(int(fd), syscall.IPPROTO_IP, syscall.IP_ADD_MEMBERSHIP, &request)
	})
	return errors.Join(outer, err)
}
