//go:build labhost

package settings

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// ended is what a test that is to be cut off says of an apply that was not.
var ended = regexp.MustCompile(`the plan took (\d+) writes`)

// powerCut is a write of a test's plan at which the power is cut.
type powerCut struct {
	test string
	at   int
}

// mostWrites is more than any plan here takes.
const mostWrites = 150

// TestTenKnobsPowerCut cuts the power of a machine at every fourth write of a plan
// of ten knobs; with -args -every at each.
//
//lab:seconds 110
func TestTenKnobsPowerCut(t *testing.T) {
	const test = "TestTenKnobsUntilPowerCut"
	step := 4
	if *every {
		step = 1
	}
	var cuts []powerCut
	for at := step; at < mostWrites; at += step {
		cuts = append(cuts, powerCut{test, at})
	}
	made, writes := powerCuts(t, cuts)
	if n := writes[test]; made[test] != n/step || n < 10 {
		t.Errorf("%d cuts at %d writes", made[test], n)
	}
	t.Logf("%d of %d power cuts recovered, at %d writes", made[test], made[test], writes[test])
}

// TestVFsPowerCut cuts it at writes of plans that make seven VFs and set them up, and
// that change the number of VFs which are set up: at those of the PF, and one or the
// other for a VF; with -args -every at each.
//
//lab:seconds 120
func TestVFsPowerCut(t *testing.T) {
	made, more, fewer := "TestVFsUntilPowerCut/made", "TestVFsUntilPowerCut/more", "TestVFsUntilPowerCut/fewer"
	// Of 40 and more: the VFs, three for each VF, two that bind each, and what is put
	// back. With VFs that are there, their end, and in the midst of what they get again.
	// A plan that comes to its end ends what the last cut left.
	cuts := []powerCut{{made, 4}, {made, 26}, {more, 4}, {more, 19}, {fewer, 8}, {made, mostWrites}}
	if *every {
		cuts = nil
		for _, test := range []string{made, more, fewer} {
			for at := 1; at < mostWrites; at++ {
				cuts = append(cuts, powerCut{test, at})
			}
		}
	}
	recovered, writes := powerCuts(t, cuts)
	if n := recovered[made] + recovered[more] + recovered[fewer]; writes[made] < 38 || n < 5 ||
		*every && (recovered[made] < writes[made] || recovered[more] < writes[more] || recovered[fewer] < writes[fewer]) {
		t.Errorf("cuts %v at writes %v", recovered, writes)
	}
	t.Logf("whole plans take %v writes", writes)
	for test, n := range recovered {
		t.Logf("%s: %d of %d power cuts recovered", test, n, n)
	}
}

// powerCuts cuts the power of a machine at writes of tests' plans; those behind the
// end of a plan are not tried, once one was. Each boot ends what the cut before it
// left, and is cut at a later write; a second machine costs a boot more, and pays where
// there are many writes to share. It returns how many cuts there were, and how many
// writes each plan took that came to its end.
func powerCuts(t *testing.T, cuts []powerCut) (made, writes map[string]int) {
	t.Helper()
	dir := t.TempDir()
	program := os.Getenv("NICTUNE_LAB_TESTS") // compiled already, in make lab-test
	if program == "" {
		program = filepath.Join(dir, "settings.test")
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-tags", "lab", "-o", program, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the lab's other tests, so that nothing is compiled anew
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var lock sync.Mutex
	made, writes = map[string]int{}, map[string]int{}
	t.Run("machines", func(t *testing.T) {
		machines := 1
		if *every {
			machines = 2
		}
		for machine := range machines {
			t.Run(strconv.Itoa(machine), func(t *testing.T) {
				t.Parallel()
				vm := labtest.VM{Disk: filepath.Join(dir, fmt.Sprintf("disk%d", machine)), Files: []string{program}}
				over := map[string]bool{}
				for i := machine; i < len(cuts); i += machines {
					cut := cuts[i]
					if over[cut.test] {
						continue
					}
					pattern := "^" + strings.ReplaceAll(cut.test, "/", "$/^") + "$"
					out, code := vm.Run(t, fmt.Sprintf("GOGC=800 %s=%d exec /lab/%s -test.v -test.run '%s'", cutAt, cut.at, filepath.Base(program), pattern))
					const wasCut = 99
					m := ended.FindStringSubmatch(out)
					lock.Lock()
					switch {
					case code == 0 && m != nil:
						writes[cut.test], _ = strconv.Atoi(m[1])
						over[cut.test] = true
					case code == wasCut:
						t.Logf("%s: cut at write %d", cut.test, cut.at)
						made[cut.test]++
					default:
						t.Errorf("%s: cut at write %d: exit code %d:\n%s", cut.test, cut.at, code, out)
					}
					lock.Unlock()
					if t.Failed() {
						return
					}
				}
			})
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return made, writes
}
