//go:build lab

package agent

import (
	"os"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

// Virtual functions that come and go are a change of their PF, of which no link tells:
// the bus does.
func TestVirtualFunctionsAreSeenWithoutTheInterval(t *testing.T) {
	labtest.Require(t, "nics")
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	changes, err := Watch(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, live, Options{Changes: changes, Timeout: time.Minute})
	eventually(t, "ready", a.Ready)
	pf := labtest.NIC(t, "igb")
	file := "/sys/class/net/" + pf + "/device/sriov_numvfs"
	t.Cleanup(func() { _ = os.WriteFile(file, []byte("0"), 0) })
	for _, step := range []struct {
		number string
		want   int
	}{{"2", 2}, {"0", 0}} {
		if err := os.WriteFile(file, []byte(step.number), 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, step.number+" VFs", func() bool {
			n := a.nic(pf)
			vfs := 0
			for _, one := range a.current().NICs {
				if one.Function == inventory.VF {
					vfs++
				}
			}
			return n != nil && n.PCI.SRIOV != nil && n.PCI.SRIOV.NumVFs == step.want && vfs == step.want
		})
	}
}
