//go:build lab

package inventory

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
)

// Each real NIC, read by itself, is what a whole reading says of it, VFs and
// netdevsim's ports among them.
func TestKeeperInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	pf := labtest.NIC(t, "igb")
	numVFs := "/sys/class/net/" + pf + "/device/sriov_numvfs"
	if err := os.WriteFile(numVFs, []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(numVFs, []byte("0"), 0) })
	labtest.NICs(t, "igbvf", 2)
	labtest.Netdevsim(t, 13, 2)
	for _, driver := range []string{"igb", "igbvf", "e1000e", "virtio_net", "vmxnet3"} {
		labtest.Run(t, "ip", "link", "set", labtest.NIC(t, driver), "up")
	}
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	k := NewKeeper(live)
	first, err := k.Whole(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[Function]int{}
	for _, n := range first.NICs {
		kinds[n.Function]++
		only := func(inv *Inventory) *Inventory {
			i := slices.IndexFunc(inv.NICs, func(one NIC) bool { return one.Index == n.Index })
			if i < 0 {
				t.Fatalf("%s is gone", n.Name)
			}
			return &Inventory{NICs: inv.NICs[i : i+1]}
		}
		var found []string
		for range 300 { // links come up, and counts of pages change, as they like
			some, err := k.Some(t.Context(), []int{n.Index})
			if err != nil {
				t.Fatal(err)
			}
			whole, err := Read(t.Context(), live)
			if err != nil {
				t.Fatal(err)
			}
			if found = differences(t, only(some), only(whole)); len(found) == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, d := range found {
			t.Error(d)
		}
	}
	if kinds[PF] == 0 || kinds[VF] == 0 || kinds[Plain] == 0 {
		t.Errorf("kinds of NICs: %v", kinds)
	}
	t.Logf("%v", kinds)
}
