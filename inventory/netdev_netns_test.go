package inventory

import (
	"os"
	"strings"
	"testing"
)

// TestNetdevAgreesWithSysfs compares the queues of the netdev family with the
// directories of sysfs. iproute2 and ethtool show nothing of this family.
func TestNetdevAgreesWithSysfs(t *testing.T) {
	zoo(t)
	s := surveyed(t, open(t), readNetdev)
	for _, u := range s.unread {
		if u.Reason != Unsupported { // what a kernel lacks
			t.Errorf("unread: %+v", u)
		}
	}
	compared := 0
	for _, n := range s.nics {
		if n.Offloads.XDPFeatures == nil {
			t.Errorf("%s: XDP features are unknown", n.Name)
		}
		want := map[string]int{}
		if n.Link.Admin == "up" {
			entries, err := os.ReadDir("/sys/class/net/" + n.Name + "/queues")
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				direction, _, _ := strings.Cut(e.Name(), "-")
				want[direction]++
				compared++
			}
		}
		got := map[string]int{}
		for _, q := range n.Queues.Netdev {
			got[q.Direction]++
		}
		for _, direction := range []string{"rx", "tx"} {
			if got[direction] != want[direction] {
				t.Errorf("%s (%s): %d %s queues, sysfs has %d", n.Name, n.Link.Admin, got[direction], direction, want[direction])
			}
		}
	}
	if compared < 10 {
		t.Errorf("only %d queues to compare", compared)
	}
	// veth's driver offers all of these, tun's without a queue none.
	if got := strings.Join(s.byName["v0"].Offloads.XDPFeatures, " "); !strings.HasPrefix(got, "basic redirect") {
		t.Errorf("v0 offers %q", got)
	}
}
