//go:build lab

package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// TestMTUAndRoutesOfVFs: the MTU of new and of present VFs, which a VF that is
// bound anew keeps; and a route through a VF counts as a use of it.
func TestMTUAndRoutesOfVFs(t *testing.T) {
	labtest.Require(t, "nics")
	pf := igb(t)[0]
	labtest.Run(t, "modprobe", "-a", "igbvf", "vfio-pci")
	withoutVFs(t, pf)
	h := tune(t)
	mtu := func(vf string) string {
		t.Helper()
		files, _ := filepath.Glob("/sys/class/net/" + pf + "/device/virtfn" + vf + "/net/*/mtu")
		if len(files) != 1 {
			return ""
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	expect := func(what string, want ...string) {
		t.Helper()
		for i, vf := range []string{"0", "1", "2"} {
			if got := mtu(vf); got != want[i] {
				t.Errorf("%s: VF %s has MTU %q, want %q", what, vf, got, want[i])
			}
		}
		if probing := sriovFile(t, pf, "sriov_drivers_autoprobe"); probing != "1" {
			t.Errorf("%s: autoprobe is %s", what, probing)
		}
	}
	made := h.apply(t, policyFor(pf, `sriov: {vfs: 3}
  vfs: [{vf: "0-1", mtu: 1400}, {vf: 2, driver: vfio-pci}]`))
	expect("made", "1400", "1400", "")
	changed := h.apply(t, policyFor(pf, `vfs: [{vf: 0, mac: derived}, {vf: 1, mtu: 1300}, {vf: 2, driver: netdev, mtu: 1200}]`))
	expect("changed", "1400", "1300", "1200")
	h.rollback(t, changed, false)
	expect("back", "1400", "1400", "")
	if _, err := h.plan(t, policyFor(pf, "vfs: [{vf: 2, mtu: 1300}]")); err == nil || !strings.Contains(err.Error(), "its driver is vfio-pci") {
		t.Error(err)
	}
	for what, item := range map[string]string{"none distributes": "{vf: 0, msix: 4}"} {
		if _, err := h.plan(t, policyFor(pf, "vfs: ["+item+"]")); err == nil || !strings.Contains(err.Error(), "does not distribute vectors") {
			t.Errorf("%s: %v", what, err)
		}
	}

	files, _ := filepath.Glob("/sys/class/net/" + pf + "/device/virtfn1/net/*")
	vf := filepath.Base(files[0])
	labtest.Run(t, "ip", "link", "set", vf, "up")
	labtest.Run(t, "ip", "route", "add", "198.51.100.0/24", "dev", vf)
	h.w.writes = 0
	_, err := h.Apply(t.Context(), h.planned(t, policyFor(pf, "sriov: {vfs: 0}")), h.all, allow)
	if !errors.Is(err, tuning.ErrRefused) || !strings.Contains(err.Error(), "from the route 198.51.100.0/24 of "+vf) || h.w.writes > 0 {
		t.Error(err)
	}
	labtest.Run(t, "ip", "link", "set", vf, "down")
	h.rollback(t, made, false)
	expect("gone", "", "", "")
}
