//go:build lab

package inventory

import (
	"net"
	"slices"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
)

// The names in the table are those that real drivers use, and their queues are found.
func TestKnownCountersOfDrivers(t *testing.T) {
	labtest.Require(t, "nics")
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	// Of virtio netdev genl tells, while the device is up.
	for driver, queues := range map[string]bool{"igb": true, "e1000e": false, "virtio_net": false, "vmxnet3": true} {
		name := labtest.NIC(t, driver)
		labtest.Run(t, "ip", "link", "set", name, "up")
		counters, err := live.Counters(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", driver, err)
			continue
		}
		i := slices.IndexFunc(KnownCounters(), func(d DriverCounters) bool { return d.Driver == driver })
		for _, n := range KnownCounters()[i].Names {
			if driver == "virtio_net" {
				break // its names changed, and depend on the device
			}
			if !slices.ContainsFunc(counters, func(c DriverCounter) bool { _, ok := n.match(c.Name); return ok }) {
				t.Errorf("%s has nothing like %q", driver, n.Pattern)
			}
		}
		found := map[int]bool{}
		for _, m := range MeaningsOf(driver, counters) {
			if m.Meaning == QueuePackets && m.Direction == "rx" {
				found[m.Queue] = true
			}
		}
		if queues != found[0] || found[-1] {
			t.Errorf("%s: packets of the queues %v", driver, found)
		}
		t.Logf("%s: %d of %d counters have a meaning, receive queues %v", driver, len(MeaningsOf(driver, counters)), len(counters), found)
	}
	stats, err := readQueueStats(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	virtio, err := net.InterfaceByName(labtest.NIC(t, "virtio_net"))
	if err != nil {
		t.Fatal(err)
	}
	queues := map[string]int{}
	for _, q := range stats[virtio.Index] {
		if q.Packets != nil && q.Bytes != nil {
			queues[q.Direction]++
		}
	}
	if queues["rx"] == 0 || queues["tx"] == 0 || len(queues) != 2 {
		t.Errorf("netdev genl counts the queues %v of virtio: %+v", queues, stats)
	}
}
