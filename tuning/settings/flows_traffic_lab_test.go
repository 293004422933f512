//go:build lab

package settings

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// TestTrafficHash sends the same flows of UDP with other fields hashed, and with
// tables that begin at another queue: LAB.md's counts, by policy.
func TestTrafficHash(t *testing.T) {
	labtest.Require(t, "hub")
	names := igb(t)
	near, far := names[0], names[1]
	labtest.Run(t, "ip", "netns", "add", "peer")
	t.Cleanup(func() { labtest.Run(t, "ip", "netns", "del", "peer") })
	labtest.Run(t, "ip", "link", "set", far, "netns", "peer")
	labtest.Run(t, "ip", "-n", "peer", "addr", "add", "192.0.2.2/24", "dev", far)
	labtest.Run(t, "ip", "-n", "peer", "link", "set", far, "up")
	labtest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", near)
	t.Cleanup(func() { labtest.Run(t, "ip", "addr", "flush", "dev", near) })
	labtest.Eventually(t, "an answer from the peer", func() bool {
		_, err := labtest.Try(t, "ping", "-c", "1", "-W", "1", "192.0.2.2")
		return err == nil
	})
	h := tune(t)
	t.Cleanup(func() { // as the next test expects it
		labtest.Ethtool(t, "-X", near, "default")
		labtest.Ethtool(t, "-N", near, "rx-flow-hash", "udp4", "sd")
	})
	for _, c := range []struct {
		settings string
		queues   int   // that receive
		only     []int // if said, which
	}{
		{"rx-flow-hash: {udp4: sdfn}\n  rss: {default: on}", 4, nil},
		{"rx-flow-hash: {udp4: sd}", 1, nil}, // all flows have the same addresses
		{"rx-flow-hash: {udp4: sdfn}\n  rss: {start: 2, equal: 2}", 2, []int{2, 3}},
		{"rss: {start: 1, weight: [0, 1]}", 1, []int{2}},
	} {
		h.apply(t, policyFor(near, c.settings))
		before := queuePackets(t, near, "rx")
		child := exec.CommandContext(t.Context(), "ip", "netns", "exec", "peer", "/proc/self/exe", "-test.run=^TestPacketsToSend$")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child.Args[4] = self
		child.Env = append(os.Environ(), sendTo+"=192.0.2.1:9")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var got [4]int
		labtest.Eventually(t, "the packets", func() bool {
			sum := 0
			for q, n := range queuePackets(t, near, "rx") {
				got[q] = n - before[q]
				sum += got[q]
			}
			return sum >= packets*9/10
		})
		t.Logf("%s: packets by queue %v", strings.ReplaceAll(c.settings, "\n ", ","), got)
		receiving := 0
		for q, n := range got {
			if n > packets/10 {
				receiving++
				for i, only := range c.only {
					if only == q {
						break
					}
					if i == len(c.only)-1 {
						t.Errorf("queue %d received %d of %d", q, n, packets)
					}
				}
			} else if n > packets/40 {
				t.Errorf("queue %d received %d of %d", q, n, packets)
			}
		}
		if receiving != c.queues {
			t.Errorf("%d queues received: %v, want %d", receiving, got, c.queues)
		}
	}
}
