//go:build lab

package audit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

const (
	sendTo  = "NICTUNE_TEST_SEND_TO"
	flows   = 256
	train   = 20 // packets that one call hands to the kernel
	packets = 8 * train * flows
)

// TestPacketsToSend is the process in the peer's namespace: many flows of UDP.
func TestPacketsToSend(t *testing.T) {
	labtest.Require(t)
	to := os.Getenv(sendTo)
	if to == "" {
		return // not started by TestImbalance
	}
	const size = 64
	for flow := range flows {
		// Ports far apart: the hash is linear in their bits.
		dialer := net.Dialer{LocalAddr: &net.UDPAddr{Port: 1024 + 251*flow}, Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
			return errors.Join(control, err)
		}}
		c, err := dialer.DialContext(t.Context(), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		for range packets / flows / train {
			if _, err := c.Write(make([]byte, size*train)); err != nil {
				_, _ = c.Write(make([]byte, size*train)) // the first told that nobody listens
			}
		}
		c.Close()
	}
}

// looked are two looks at this host, with something between.
func looked(t *testing.T, between func(look func() *Look)) (*Evidence, []Group) {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	groups, err := Named("queues")
	if err != nil {
		t.Fatal(err)
	}
	facts, err := inventory.Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	// Facts take seconds here, of which counters would show the mean.
	once := func() *Look {
		l := &Look{Inventory: *facts}
		l.Counted = sample(t.Context(), live, &l.Inventory)
		l.Counted.Traffic = inventory.ReadTraffic(t.Context(), live, &l.Inventory)
		return l
	}
	before := once()
	between(once)
	now := once()
	e := &Evidence{Counted: now.Counted, Earlier: before}
	e.Inventory.Inventory = now.Inventory
	e.whole = &e.Inventory
	return e, groups
}

// TestImbalance sends flows through one igb into another: all into one queue, by the
// table and by the hash, and then spread.
func TestImbalance(t *testing.T) {
	labtest.Require(t, "hub")
	names := labtest.NICs(t, "igb", 2)
	near, far := names[0], names[1]
	labtest.Run(t, "ip", "netns", "add", "peer")
	t.Cleanup(func() { labtest.Run(t, "ip", "netns", "del", "peer") })
	labtest.Ethtool(t, "-K", far, "tx-udp-segmentation", "off") // QEMU makes IP fragments of such, which have no ports
	labtest.Run(t, "ip", "link", "set", far, "netns", "peer")
	labtest.Run(t, "ip", "-n", "peer", "addr", "add", "192.0.2.2/24", "dev", far)
	labtest.Run(t, "ip", "-n", "peer", "link", "set", far, "up")
	labtest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", near)
	labtest.Run(t, "ip", "link", "set", near, "up")
	labtest.Ethtool(t, "-G", near, "rx", "4096")
	labtest.Eventually(t, "an answer from the peer", func() bool {
		_, err := labtest.Try(t, "ping", "-c", "1", "-W", "1", "192.0.2.2")
		return err == nil
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, fields string
		table        []string
		want         findings.Status
		remedy       string
	}{
		{"all in one queue by the table", "sdfn", []string{"weight", "0", "0", "0", "1"}, findings.Fail, "1 of 4 queues"},
		{"all in one queue by the hash", "sd", []string{"default"}, findings.Fail, "hash-fields"},
		{"spread", "sdfn", []string{"default"}, findings.Pass, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			labtest.Ethtool(t, append([]string{"-X", near}, c.table...)...)
			labtest.Ethtool(t, "-N", near, "rx-flow-hash", "udp4", c.fields)
			e, groups := looked(t, func(look func() *Look) {
				received := func() (sum uint64) {
					l := look()
					e := &Evidence{Counted: l.Counted}
					e.Inventory.Inventory = l.Inventory
					for i := range e.NICs {
						if n := (nic{NIC: &e.NICs[i], evidence: e}); n.Name == near {
							if load := n.queueLoad("rx"); load != nil {
								sum = load.sum()
							}
						}
					}
					return sum
				}
				start := received()
				child := exec.CommandContext(t.Context(), "ip", "netns", "exec", "peer", self, "-test.run=^TestPacketsToSend$")
				child.Env = append(os.Environ(), sendTo+"=192.0.2.1:9")
				if out, err := child.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				labtest.Eventually(t, "the packets", func() bool { return received() >= start+packets/2 })
			})
			// How long an emulated CPU takes for the packets depends on what else the machine
			// does; a real one takes less than a second.
			e.Earlier.Counted.At = e.Counted.At.Add(-time.Second)
			f := expect(t, Judge(e, groups), "queues/imbalance", near, c.want)
			t.Logf("%s", f.Seen)
			if !strings.Contains(f.Remedy, c.remedy) {
				t.Errorf("do %q", f.Remedy)
			}
			for _, q := range e.Rates().Queues {
				if q.Device == near && q.Direction == "rx" && (q.Queue == nil || q.LostPerSecond == nil) {
					t.Errorf("igb counts packets and losses of each queue: %+v", q)
				}
			}
		})
	}
}

// TestSoftnetDrops hands the packets of a veth to another CPU, with hardly any room
// in between.
func TestSoftnetDrops(t *testing.T) {
	labtest.Require(t, "hub")
	const backlog = "/proc/sys/net/core/netdev_max_backlog"
	was, err := os.ReadFile(backlog)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, value string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Run(t, "ip", "link", "add", "sd0", "type", "veth", "peer", "name", "sd1")
	t.Cleanup(func() {
		write(backlog, string(was))
		labtest.Run(t, "ip", "link", "del", "sd0")
	})
	for _, command := range []string{"addr add 198.51.100.1/24 dev sd0", "link set sd0 up", "link set sd1 up", "neigh add 198.51.100.2 lladdr 02:00:00:00:00:02 dev sd0"} {
		labtest.Run(t, "ip", strings.Fields(command)...)
	}
	write("/sys/class/net/sd1/queues/rx-0/rps_cpus", "8") // CPU 3
	dropped := func(l *Look) (sum uint64) {
		for _, s := range l.Counted.Traffic.Softnet {
			sum += s.Dropped
		}
		return sum
	}
	send := func(n int) {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "udp", "198.51.100.2:9")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range n {
			_, _ = c.Write(make([]byte, 64))
		}
	}
	e, groups := looked(t, func(func() *Look) { send(500) })
	expect(t, Judge(e, groups), "queues/softnet-drops", "host", findings.Pass)
	e, groups = looked(t, func(look func() *Look) {
		write(backlog, "1")
		start := dropped(look())
		labtest.Eventually(t, "a packet to be dropped", func() bool {
			send(500)
			return dropped(look()) > start
		})
	})
	f := expect(t, Judge(e, groups), "queues/softnet-drops", "host", findings.Fail)
	t.Logf("%s; %s", f.Seen, f.Remedy)
	if !strings.Contains(f.Seen, "CPU 3") || !strings.Contains(f.Remedy, fmt.Sprintf("is %d", 1)) {
		t.Errorf("seen %q, do %q", f.Seen, f.Remedy)
	}
}
