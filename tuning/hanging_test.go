package tuning

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// applies carries out one transaction for each list of wants, and fails the test where
// that does not work.
func applies(t *testing.T, e *Engine, h *host, nics []inventory.NIC, transactions ...[]string) {
	t.Helper()
	for _, lines := range transactions {
		p, err := MakePlan(t.Context(), h, e.Settings, want(t, nics, lines...), nil)
		if err == nil {
			_, err = e.Apply(t.Context(), p, nics, allowAll)
		}
		if err != nil {
			t.Fatalf("%q: %v", lines, err)
		}
	}
}

func toyOf(t testing.TB, text string) (state toy) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		t.Error(err)
	}
	return state
}

func toyText(a, b uint32, c bool) string { return fmt.Sprintf(`{"a":%d,"b":%d,"c":%t}`, a, b, c) }

// What a device gives an entry besides what was asked for goes with the entry, also
// where what stays of the setting is kept because an earlier change is taken back, too.
func TestRollbackTakesEntriesWhole(t *testing.T) {
	for _, how := range []string{"rollback", "rollback to", "undo"} {
		h, nics := newHost()
		file := "/toy/" + nics[0].ID() + "/rules"
		h.files[file] = `{"8/queue":3,"8/hash":5}` // somebody else's
		before := maps.Clone(h.files)
		h.took = func(path, value string) string {
			if path != file {
				return value
			}
			var entries map[string]uint32
			if err := json.Unmarshal([]byte(value), &entries); err != nil {
				t.Error(err)
			}
			for _, n := range []string{"one", "8"} { // each has a hash function while it is there
				_, there := entries[n+"/queue"]
				if _, has := entries[n+"/hash"]; there && !has {
					entries[n+"/hash"] = 7
				} else if !there {
					delete(entries, n+"/hash")
				}
			}
			b, _ := json.Marshal(entries)
			return string(b)
		}
		contexts := ruleKnob()
		contexts.After = []string{"first"}
		contexts.Entry = func(field string) string {
			number, _, _ := strings.Cut(field, "/")
			return number
		}
		e := engine(t, h, t.TempDir())
		e.Settings = []Setting{toyKnob("first", NICReset), contexts, toyKnob("third", Seamless)}
		lines := []string{"eth0 first a=5", "eth0 rules add=one/queue"}
		var err error
		switch how {
		case "undo":
			h.fail = func(_ int, path string) error {
				if strings.HasSuffix(path, "third") {
					return syscall.EIO
				}
				return nil
			}
			var p *Plan
			if p, err = MakePlan(t.Context(), h, e.Settings, want(t, nics, append(lines, "eth0 third a=5")...), nil); err == nil {
				var done *Transaction
				if done, err = e.Apply(t.Context(), p, nics, allowAll); done != nil && done.Outcome == Undone {
					err = nil
				}
			}
		default:
			applies(t, e, h, nics, lines)
			if !strings.Contains(h.files[file], `"one/hash":7`) {
				t.Fatal(h.files[file])
			}
			if how == "rollback" {
				_, err = e.Rollback(t.Context(), 1, nics, allowAll, false)
			} else {
				_, err = e.RollbackTo(t.Context(), 0, nics, allowAll, false)
			}
		}
		before[file] = `{"8/hash":5,"8/queue":3}` // as it is marshalled
		if err != nil || !maps.Equal(h.files, before) {
			t.Errorf("%s: %v: %s, %s", how, err, h.files[file], h.files["/toy/"+nics[0].ID()+"/first"])
		}
	}
}

// What is wanted as it is has to hold, too, when another field of its setting changes:
// a device that takes the one away when it is given the other can't do what is wanted.
func TestWantedFieldsThatAreThereStay(t *testing.T) {
	for line, undone := range map[string]bool{"eth0 first a=5 c=on": true, "eth0 first a=5": false} {
		h, nics := newHost()
		first := "/toy/" + nics[0].ID() + "/first"
		h.files[first] = toyText(1, 10, true)
		h.took = func(path, value string) string {
			if state := toyOf(t, value); path == first {
				return toyText(*state.A, *state.B, *state.C && *state.A < 5)
			}
			return value
		}
		e := engine(t, h, t.TempDir())
		p, err := MakePlan(t.Context(), h, e.Settings, want(t, nics, line), nil)
		if err != nil || len(p.Changes) != 1 || len(p.Changes[0].Fields) != 1 {
			t.Fatalf("%v: %+v", err, p)
		}
		done, err := e.Apply(t.Context(), p, nics, allowAll)
		switch {
		case undone && (err == nil || !strings.Contains(err.Error(), "c") || done.Outcome != Undone || h.files[first] != toyText(1, 10, true)):
			t.Errorf("%s: %v: %s", line, err, h.files[first])
		case !undone && (err != nil || h.files[first] != toyText(5, 10, false)):
			t.Errorf("%s: %v: %s", line, err, h.files[first])
		}
	}
}

// A plan from a file says of nothing that it stays which changes, or is not there.
func TestPlanFileSaysWhatStays(t *testing.T) {
	h, nics := newHost()
	for stays, valid := range map[string]bool{"c": true, "a": false, "d": false} {
		p := mustPlan(t, h, want(t, nics, "eth0 first a=5"))
		p.Changes[0].Stay = []string{stays}
		if err := p.validate(); (err == nil) != valid {
			t.Errorf("%s: %v", stays, err)
		}
	}
}

// A table that was chosen and only looks like the driver's own is put back as chosen,
// where the rollback makes the driver build it anew.
func TestRollbackPutsBackWhatLooksLikeTheDriversOwn(t *testing.T) {
	h, nics := newHost()
	queues, table := "/toy/"+nics[0].ID()+"/first", "/toy/"+nics[0].ID()+"/second"
	h.files[queues], h.files[table] = toyText(4, 10, false), toyText(2, 10, false)
	before := maps.Clone(h.files)
	h.took = func(path, value string) string {
		// The driver spreads over all queues anew when it may believe that it chose that.
		if was := toyOf(t, h.files[queues]); path == queues && *toyOf(t, h.files[table]).A == *was.A {
			h.files[table] = toyText(*toyOf(t, value).A, 10, false)
		}
		return value
	}
	second := toyKnob("second", Seamless)
	second.After = []string{"first"}
	second.Keep = func(ask Ask, before toy) (toy, error) {
		if was, ok := Was[toy](ask.Planned, "first"); ok && *was.A == *before.A {
			before.A = nil // the driver's own
		}
		return before, nil
	}
	e := engine(t, h, t.TempDir())
	e.Settings = []Setting{toyKnob("first", NICReset), second}
	applies(t, e, h, nics, []string{"eth0 first a=2"})
	if h.files[table] != before[table] {
		t.Fatal(h.files[table])
	}
	if _, err := e.Rollback(t.Context(), 1, nics, allowAll, false); err != nil || !maps.Equal(h.files, before) {
		t.Errorf("%v: %s, want %s", err, h.files[table], before[table])
	}
}

// moving is a setting that moves a by itself while c is on.
func moving() Knob[toy] {
	k := toyKnob("second", Seamless)
	k.Volatile = func(current toy) []string {
		if current.C != nil && *current.C {
			return []string{"a"}
		}
		return nil
	}
	return k
}

// Values that moved by themselves between two transactions are nobody's, and keep no
// rollback from what stood still before.
func TestRollbackToPastMovingValues(t *testing.T) {
	for name, test := range map[string]struct {
		start string
		steps [][]string
		moved map[int]string // after a step
		to    int
		want  string
	}{
		// 60 is what the device had chosen when it was told to stand still.
		"what the device chose is not what somebody set": {
			start: toyText(1, 10, false),
			steps: [][]string{{"eth0 second a=5"}, {"eth0 second c=on"}, {"eth0 second c=off"}},
			moved: map[int]string{2: toyText(60, 10, true)},
			want:  toyText(1, 10, false),
		},
		"what stood still before it was let go": {
			start: toyText(4, 10, false),
			steps: [][]string{{"eth0 second c=on"}, {"eth0 second b=20"}},
			moved: map[int]string{1: toyText(50, 10, true)},
			want:  toyText(4, 10, false),
		},
		// It moves again, by itself: there is nothing to go back to.
		"what moved before": {
			start: toyText(50, 10, true),
			steps: [][]string{{"eth0 second a=3 c=off"}, {"eth0 second b=20"}},
			want:  toyText(3, 10, true),
		},
	} {
		h, nics := newHost()
		file := "/toy/" + nics[0].ID() + "/second"
		h.files[file] = test.start
		e := engine(t, h, t.TempDir())
		e.Settings = []Setting{moving()}
		for i, step := range test.steps {
			applies(t, e, h, nics, step)
			if moved := test.moved[i+1]; moved != "" {
				h.files[file] = moved
			}
		}
		if _, err := e.RollbackTo(t.Context(), test.to, nics, allowAll, false); err != nil || h.files[file] != test.want {
			t.Errorf("%s: %v: %s, want %s", name, err, h.files[file], test.want)
		}
	}
}

// An undo does not go on with what something has to make way for that does not: here
// fewer queues, while a rule names one that would go.
func TestUndoWaitsForWhatMakesWay(t *testing.T) {
	for _, stubborn := range []int{1, 1000} { // how often the rule can't be moved
		h, nics := newHost()
		queues, rule := "/toy/"+nics[0].ID()+"/first", "/toy/"+nics[0].ID()+"/second"
		before := maps.Clone(h.files)
		undoing := false
		h.fail = func(_ int, path string) error {
			switch {
			case strings.HasSuffix(path, "third"):
				undoing = true
				return syscall.EIO
			case undoing && path == rule && stubborn > 0:
				stubborn--
				return syscall.EBUSY
			}
			return nil
		}
		h.took = func(path, value string) string {
			if path == queues && *toyOf(t, value).A < *toyOf(t, h.files[rule]).A {
				t.Errorf("%s were to be, and the rule was %s", value, h.files[rule])
			}
			return value
		}
		second := toyKnob("second", Seamless)
		second.After = []string{"first"}
		second.MakeWay = func(_ context.Context, ask Ask, current toy) (toy, error) {
			if next, ok := Get[toy](ask.Planned, "first"); ok && *current.A > *next.A {
				current.A = next.A
			}
			return current, nil
		}
		e := engine(t, h, t.TempDir())
		e.Settings = []Setting{toyKnob("first", NICReset), second, toyKnob("third", Seamless)}
		p, err := MakePlan(t.Context(), h, e.Settings, want(t, nics, "eth0 first a=5", "eth0 second a=4", "eth0 third a=5"), nil)
		if err != nil {
			t.Fatal(err)
		}
		done, err := e.Apply(t.Context(), p, nics, allowAll)
		switch {
		case kernel.ReasonOf(err) != kernel.Failed || done == nil:
			t.Errorf("%v", err)
		case stubborn == 0 && (done.Outcome != Undone || !maps.Equal(h.files, before)):
			t.Errorf("%s: %v, %v", done.Outcome, err, h.files)
		case stubborn > 0 && (done.Outcome == Undone || *toyOf(t, h.files[queues]).A != 5):
			t.Errorf("%s: %v, %v", done.Outcome, err, h.files)
		}
	}
}
