//go:build lab

package audit

import (
	"fmt"
	"os"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/labtest"
)

// TestFilterOverflow puts a VF of igb into more groups than it can tell its PF of.
func TestFilterOverflow(t *testing.T) {
	labtest.Require(t, "nics")
	pf := labtest.NIC(t, "igb")
	vfs := "/sys/class/net/" + pf + "/device/sriov_numvfs"
	write := func(value string) {
		t.Helper()
		if err := os.WriteFile(vfs, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Run(t, "ip", "link", "set", pf, "up")
	write("1")
	t.Cleanup(func() { write("0") })
	vf := labtest.NIC(t, "igbvf")
	labtest.Run(t, "ip", "link", "set", vf, "up")
	judge := func() []findings.Finding {
		e, groups := gather(t, 0, "multicast")
		return Judge(e, groups)
	}
	all := judge()
	expect(t, all, "multicast/filter-overflow", vf, findings.Pass)
	expect(t, all, "multicast/filter-overflow", pf, findings.Pass)
	expect(t, all, "multicast/vf-untrusted", vf, findings.Pass)
	for i := range 31 {
		labtest.Run(t, "ip", "maddr", "add", fmt.Sprintf("01:00:5e:7f:00:%02x", i), "dev", vf)
	}
	t.Logf("%+v", expect(t, judge(), "multicast/filter-overflow", vf, findings.Fail))
	labtest.Run(t, "ip", "link", "set", vf, "allmulticast", "on")
	all = judge()
	expect(t, all, "multicast/filter-overflow", vf, findings.NotApplicable)
	expect(t, all, "multicast/vf-untrusted", vf, findings.Pass) // igb grants it to any
	expect(t, all, "multicast/vf-untrusted", pf, findings.NotApplicable)
}

// TestNoQuerier puts a NIC into a bridge as the kernel makes it: it snoops, and nobody
// asks.
func TestNoQuerier(t *testing.T) {
	labtest.Require(t, "nics")
	port := labtest.NIC(t, "e1000e")
	labtest.Run(t, "ip", "link", "add", "nq0", "type", "bridge")
	t.Cleanup(func() { labtest.Run(t, "ip", "link", "del", "nq0") })
	labtest.Run(t, "ip", "link", "set", "nq0", "up")
	judge := func() []findings.Finding {
		e, groups := gather(t, 0, "multicast")
		return Judge(e, groups)
	}
	expect(t, judge(), "multicast/no-querier", "nq0", findings.NotApplicable)
	labtest.Run(t, "ip", "link", "set", port, "master", "nq0")
	expect(t, judge(), "multicast/no-querier", "nq0", findings.Fail)
	labtest.Run(t, "ip", "link", "set", "nq0", "type", "bridge", "mcast_querier", "1")
	expect(t, judge(), "multicast/no-querier", "nq0", findings.Pass)
}
