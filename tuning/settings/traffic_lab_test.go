//go:build lab

package settings

import (
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

const (
	sendTo = "NICTUNE_TEST_SEND_TO"
	flows  = 256
	// packets is of all flows together.
	packets = 2 * flows
)

// TestPacketsToSend is the process in the peer's namespace: many flows of UDP.
func TestPacketsToSend(t *testing.T) {
	labtest.Require(t)
	to := os.Getenv(sendTo)
	if to == "" {
		return // not started by TestTraffic
	}
	for flow := range flows {
		// The hash is linear in the port's bits, and its key is another at every
		// boot: ports that differ in a few bits only can fall on a few buckets.
		dialer := net.Dialer{LocalAddr: &net.UDPAddr{Port: 1024 + 251*flow}}
		c, err := dialer.DialContext(t.Context(), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		for range packets / flows {
			// An answer that nobody listens there is an error of the next write, which
			// then was not sent.
			if _, err := c.Write(make([]byte, 64)); err != nil {
				_, _ = c.Write(make([]byte, 64))
			}
		}
		c.Close()
	}
}

// TestTraffic sends packets through one igb into another and looks where they
// arrive: in which queue, and on which CPU its interrupt fires.
//
//lab:seconds 15
func TestTraffic(t *testing.T) {
	labtest.Require(t, "hub")
	names := igb(t)
	near, far := names[0], names[1]
	labtest.Ethtool(t, "-N", near, "rx-flow-hash", "udp4", "sdfn")
	labtest.Run(t, "ip", "netns", "add", "peer")
	t.Cleanup(func() { labtest.Run(t, "ip", "netns", "del", "peer") })
	labtest.Run(t, "ip", "link", "set", far, "netns", "peer")
	labtest.Run(t, "ip", "-n", "peer", "addr", "add", "192.0.2.2/24", "dev", far)
	labtest.Run(t, "ip", "-n", "peer", "link", "set", far, "up")
	labtest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", near)
	t.Cleanup(func() { labtest.Run(t, "ip", "addr", "flush", "dev", near) })
	answers := func() {
		t.Helper()
		labtest.Eventually(t, "an answer from the peer", func() bool {
			_, err := labtest.Try(t, "ping", "-c", "1", "-W", "1", "192.0.2.2")
			return err == nil
		})
	}
	answers()
	send := func() {
		t.Helper()
		child := exec.CommandContext(t.Context(), "ip", "netns", "exec", "peer", "/proc/self/exe", "-test.run=^TestPacketsToSend$")
		if self, err := os.Executable(); err == nil {
			child.Args[4] = self
		}
		child.Env = append(os.Environ(), sendTo+"=192.0.2.1:9")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}

	w := live(t)
	all := nics(t, w)
	for _, test := range []struct {
		settings string
		share    [4]float64 // of the packets that each queue shall receive
	}{
		{"rss: {equal: 2}", [4]float64{.5, .5, 0, 0}},
		{"rss: {weight: [0, 0, 0, 1]}", [4]float64{0, 0, 0, 1}},
		{"rss: {weight: [3, 1]}", [4]float64{.75, .25, 0, 0}},
		{"rss: {weight: [1, 0, 4]}", [4]float64{.2, 0, .8, 0}},
		{"rss: {exclude-queues: [0]}", [4]float64{0, 1. / 3, 1. / 3, 1. / 3}},
		{"rss: {equal: 1, exclude-queues: 0}", [4]float64{0, 1, 0, 0}},
		{"channels: {combined: 2}\n  rss: {default: on}", [4]float64{.5, .5, 0, 0}},
		{"channels: {combined: 4}\n  rss: {equal: 4}", [4]float64{.25, .25, .25, .25}},
	} {
		settings := test.settings
		if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, policyFor(near, settings)), all, allow); err != nil {
			t.Fatal(err)
		}
		answers()
		before := queuePackets(t, near, "rx")
		send()
		var got [4]int
		labtest.Eventually(t, "the packets", func() bool {
			sum := 0
			for q, n := range queuePackets(t, near, "rx") {
				got[q] = n - before[q]
				sum += got[q]
			}
			return sum >= packets*9/10
		})
		t.Logf("%s: packets by queue %v", settings, got)
		for q, share := range test.share {
			// What is not of these flows, ARP and IPv6, counts a little, and the hash
			// doesn't deal out evenly: a sixth of all more or less.
			if n := float64(got[q]); share == 0 && n > packets/40 || share > 0 && math.Abs(n-share*packets) > packets/6. {
				t.Errorf("%s: queue %d received %d of %d", settings, q, got[q], packets)
			}
		}
	}

	labtest.Ethtool(t, "-X", near, "default")
	if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, policyFor(near, "irq: {cpus: 2-3, spread: one-to-one}")), all, allow); err != nil {
		t.Fatal(err)
	}
	send() // an interrupt under way still comes where it was
	var nic inventory.NIC
	for _, n := range all {
		if n.Name == near {
			nic = n
		}
	}
	before := interrupts(t, nic)
	send()
	fired := [4]int{}
	for name, counts := range interrupts(t, nic) {
		if !queueVector().MatchString(name) {
			continue
		}
		for cpu := range fired {
			fired[cpu] += counts[cpu] - before[name][cpu]
		}
	}
	t.Logf("interrupts by CPU %v", fired)
	if fired[0] != 0 || fired[1] != 0 || fired[2] == 0 || fired[3] == 0 {
		t.Errorf("interrupts fired on the CPUs %v, not on 2 and 3 alone", fired)
	}

	// The interrupts fire on CPUs 2 and 3, and hand the packets on to CPU 1.
	for _, cpus := range []string{"1", "none"} {
		if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, policyFor(near, "rps: {cpus: "+cpus+"}")), all, allow); err != nil {
			t.Fatal(err)
		}
		before := handedOn(t)
		send()
		moved := handedOn(t)[1] - before[1]
		t.Logf("rps to %s: CPU 1 was called for packets %d times", cpus, moved)
		if (cpus == "1") != (moved > 0) {
			t.Errorf("rps to %s: CPU 1 was called for packets %d times", cpus, moved)
		}
	}

	// In turn: queues 0 and 2 for CPU 2, queues 1 and 3 for CPU 3.
	if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, policyFor(near, "xps: {cpus: 2-3, spread: one-to-one}")), all, allow); err != nil {
		t.Fatal(err)
	}
	for _, cpu := range []int{2, 3} {
		before := queuePackets(t, near, "tx")
		sendOn(t, cpu, "192.0.2.2:9")
		var got [4]int
		labtest.Eventually(t, "the packets to be sent", func() bool {
			sum := 0
			for q, n := range queuePackets(t, near, "tx") {
				got[q] = n - before[q]
				sum += got[q]
			}
			return sum >= sentOn
		})
		t.Logf("CPU %d: packets by transmit queue %v", cpu, got)
		if own := got[cpu-2] + got[cpu]; own < sentOn || got[3-cpu]+got[5-cpu] > sentOn/10 {
			t.Errorf("what CPU %d sent went through the queues %v", cpu, got)
		}
	}
}

// queuePackets are igb's own counters of its queues.
func queuePackets(t *testing.T, name, direction string) (counts [4]int) {
	t.Helper()
	out := string(labtest.Ethtool(t, "-S", name))
	for q := range counts {
		_, rest, found := strings.Cut(out, fmt.Sprintf("%s_queue_%d_packets: ", direction, q))
		if !found { // the card has fewer now
			continue
		}
		number, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("queue %d: %q, %v", q, number, err)
		}
		counts[q] = n
	}
	return counts
}

// interrupts are a NIC's in /proc/interrupts: the count of each of four CPUs.
func interrupts(t *testing.T, nic inventory.NIC) map[string][4]int {
	t.Helper()
	b, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][4]int{}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		for _, irq := range nic.IRQs {
			if len(words) < 6 || words[0] != strconv.Itoa(irq.Number)+":" {
				continue
			}
			var counts [4]int
			for cpu := range counts {
				counts[cpu], _ = strconv.Atoi(words[1+cpu])
			}
			all[irq.Name] = counts
		}
	}
	if len(all) == 0 {
		t.Fatalf("/proc/interrupts has none of %s:\n%s", nic.Name, b)
	}
	return all
}
