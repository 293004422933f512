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
		done, err := e.Apply(t.Context(), plan, nics, allowAll)
		if err != nil {
			t.Fatal(err)
		}
		if h.files[second] != left || !strings.Contains(h.files[first], `"a":5`) {
			t.Errorf("%s, want %s; %s", h.files[second], left, h.files[first])
		}
		var text strings.Builder
		if err := done.WriteText(&text, Now{}); err != nil {
			t.Error(err)
		}
		const lost = `second (passed)
    a  9  ->  1  by itself
    it is the driver's own: write /toy/0000:01:00.0/52:54:00:00:00:02/second: operation not supported (kernel: the toy is stuck)`
		if strings.Contains(text.String(), lost) != (left == own) {
			t.Errorf("history says:\n%s", text.String())
		}
	}
}

// TestUndoOfWhatCannotBeWritten: what was passed over on the way is in nobody's way
// back, be it undone at once or rolled back later.
func TestUndoOfWhatCannotBeWritten(t *testing.T) {
	for name, fault := range map[string]int{"undone": 4, "rolled back": 0} {
		h, nics := newHost()
		first, second := "/toy/"+nics[0].ID()+"/first", "/toy/"+nics[0].ID()+"/second"
		h.files[second] = `{"a":9,"b":10,"c":false}`
		h.took = func(path, value string) string {
			if path == first {
				h.files[second] = `{"a":1,"b":10,"c":false}`
			}
			return value
		}
		h.fail = func(n int, path string) error {
			switch {
			case path == second:
				return syscall.EOPNOTSUPP
			case n == fault:
				return syscall.EIO
			}
			return nil
		}
		e := engine(t, h, t.TempDir())
		kept := toyKnob("second", Seamless)
		kept.After = []string{"first"}
		e.Settings = []Setting{toyKnob("first", NICReset), kept, toyKnob("third", Seamless)}
		plan, err := MakePlan(t.Context(), h, e.Settings, want(t, nics, "eth0 first a=5", "eth0 third a=5"), nil)
		if err != nil {
			t.Fatal(err)
		}
		done, err := e.Apply(t.Context(), plan, nics, allowAll)
		if (err != nil) != (fault != 0) || done == nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err == nil {
			if _, err := e.Rollback(t.Context(), done.ID, nics, allowAll, false); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if done.Outcome != Undone {
			t.Errorf("%s: %s: %v", name, done.Outcome, err)
		}
		if h.files[first] != `{"a":1,"b":10,"c":false}` {
			t.Errorf("%s: %s", name, h.files[first])
		}
	}
}
