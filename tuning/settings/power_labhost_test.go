//go:build labhost

package settings

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// ended is what TestTenKnobsUntilPowerCut says of an apply that was not cut.
var ended = regexp.MustCompile(`the plan took (\d+) writes`)

// TestTenKnobsPowerCut cuts the power of a machine at each write of a plan of ten
// knobs. Each boot ends what the cut before it left, and is cut at a later write:
// two machines share the writes.
func TestTenKnobsPowerCut(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "settings.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "lab", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the lab's other tests, so that nothing is compiled anew
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const most = 100
	var cuts, writes atomic.Int64
	t.Run("machines", func(t *testing.T) {
		for machine := range 2 {
			t.Run(strconv.Itoa(machine), func(t *testing.T) {
				t.Parallel()
				vm := labtest.VM{Disk: filepath.Join(dir, fmt.Sprintf("disk%d", machine)), Files: []string{program}}
				for at := machine + 1; at < most; at += 2 {
					out, code := vm.Run(t, fmt.Sprintf("%s=%d exec /lab/settings.test -test.v -test.run '^TestTenKnobsUntilPowerCut$'", cutAt, at))
					const cut = 99
					if m := ended.FindStringSubmatch(out); code == 0 && m != nil {
						n, _ := strconv.Atoi(m[1])
						writes.Store(int64(n))
						return
					}
					if code != cut {
						t.Fatalf("cut at write %d: exit code %d:\n%s", at, code, out)
					}
					t.Logf("cut at write %d", at)
					cuts.Add(1)
				}
				t.Error("no end of writes")
			})
		}
	})
	if t.Failed() {
		return
	}
	if cuts.Load() != writes.Load() || writes.Load() < 10 {
		t.Errorf("%d cuts at %d writes", cuts.Load(), writes.Load())
	}
	t.Logf("%d of %d power cuts recovered", cuts.Load(), writes.Load())
}
