//go:build labhost

package settings

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// ended is what a test that is to be cut off says of an apply that was not.
var ended = regexp.MustCompile(`the plan took (\d+) writes`)

// TestTenKnobsPowerCut cuts the power of a machine at every second write of a plan
// of ten knobs; with -args -every at each.
func TestTenKnobsPowerCut(t *testing.T) {
	cuts, writes := powerCuts(t, "TestTenKnobsUntilPowerCut", func(at int) bool { return *every || at%2 == 0 })
	want := writes / 2
	if *every {
		want = writes
	}
	if cuts != want || writes < 10 {
		t.Errorf("%d cuts at %d writes", cuts, writes)
	}
	t.Logf("%d of %d power cuts recovered, at %d writes", cuts, cuts, writes)
}

// TestVFsPowerCut cuts it at writes of a plan that makes seven VFs and sets them
// up: at those of the PF, and the first of each kind for a VF; with -args -every at
// each.
func TestVFsPowerCut(t *testing.T) {
	// Of 40: autoprobe, the VFs, three for each VF, two that bind each, and what is put
	// back.
	some := []int{3, 4, 14, 26, 39}
	cuts, writes := powerCuts(t, "TestVFsUntilPowerCut", func(at int) bool { return *every || slices.Contains(some, at) })
	if writes < 38 || cuts < int64(len(some)) {
		t.Errorf("%d cuts at %d writes", cuts, writes)
	}
	t.Logf("%d of %d power cuts recovered, at %d writes", cuts, cuts, writes)
}

// powerCuts cuts the power of a machine at those writes of a test's plan that are
// wanted, until the plan has no more. Each boot ends what the cut before it left,
// and is cut at a later write: two machines share the writes.
func powerCuts(t *testing.T, test string, wanted func(write int) bool) (cuts, writes int64) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "settings.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-s -w", "-tags", "lab", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the lab's other tests, so that nothing is compiled anew
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const most = 100
	var made, counted atomic.Int64
	var at []int
	for write := 1; write < most; write++ {
		if wanted(write) {
			at = append(at, write)
		}
	}
	at = append(at, most, most) // one that ends, for each machine
	t.Run("machines", func(t *testing.T) {
		const machines = 2
		for machine := range machines {
			t.Run(strconv.Itoa(machine), func(t *testing.T) {
				t.Parallel()
				vm := labtest.VM{Disk: filepath.Join(dir, fmt.Sprintf("disk%d", machine)), Files: []string{program}}
				for i := machine; i < len(at); i += machines {
					out, code := vm.Run(t, fmt.Sprintf("GOGC=800 %s=%d exec /lab/settings.test -test.v -test.run '^%s$'", cutAt, at[i], test))
					const cut = 99
					if m := ended.FindStringSubmatch(out); code == 0 && m != nil {
						n, _ := strconv.Atoi(m[1])
						counted.Store(int64(n))
						return
					}
					if code != cut {
						t.Fatalf("cut at write %d: exit code %d:\n%s", at[i], code, out)
					}
					t.Logf("cut at write %d", at[i])
					made.Add(1)
				}
				t.Error("no end of writes")
			})
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return made.Load(), counted.Load()
}
