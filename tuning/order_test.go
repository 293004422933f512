package tuning

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKeptAndUnsupported: what a change wiped is put back also where the driver
// says for a moment that it can't be set. Where it says so for good, it is the
// driver's own.
func TestKeptAndUnsupported(t *testing.T) {
	const chosen, own = `{"a":9,"b":10,"c":false}`, `{"a":1,"b":10,"c":false}`
	for failures, left := range map[int]string{0: chosen, 1: chosen, 2: own} {
		h, nics := newHost()
		first, second := "/toy/"+nics[0].ID()+"/first", "/toy/"+nics[0].ID()+"/second"
		h.files[second] = chosen
		h.took = func(path, value string) string {
			if path == first {
				h.files[second] = own
			}
			return value
		}
		h.fail = func(_ int, path string) error {
			if path == second && failures > 0 {
				failures--
				return syscall.EOPNOTSUPP
			}
			return nil
		}
		e := engine(t, h, t.TempDir())
		e.Settle = time.Second
		kept := toyKnob("second", Seamless)
		kept.After = []string{"first"}
		e.Settings = []Setting{toyKnob("first", NICReset), kept}
		plan, err := MakePlan(t.Context(), h, e.Settings, want(t, nics, "eth0 first a=5"), nil)
		if err != nil || len(plan.Changes) != 2 || plan.Changes[1].Turn != Kept {
			t.Fatalf("%v: %+v", err, plan)
		}
		if _, err := e.Apply(t.Context(), plan, nics, allowAll); err != nil {
			t.Error(err)
		}
		if h.files[second] != left || !strings.Contains(h.files[first], `"a":5`) {
			t.Errorf("%s, want %s; %s", h.files[second], left, h.files[first])
		}
	}
}
