package tuning

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

func TestApplyWritesWhatIsWantedAndNothingTwice(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	plan := mustPlan(t, h, everything(t, nics))
	if h.writes != 0 {
		t.Fatalf("planning wrote %d times", h.writes)
	}
	got, err := e.Apply(t.Context(), plan, nics, allowAll)
	if err != nil {
		t.Fatal(err)
	}
	if got.Outcome != Applied || h.writes != 6 {
		t.Errorf("%s with %d writes, want applied with 6", got.Outcome, h.writes)
	}
	for path, value := range map[string]string{
		"0000:01:00.0/52:54:00:00:00:02/first":  `{"a":5,"b":10,"c":true}`,
		"0000:01:00.0/52:54:00:00:00:02/second": `{"a":7,"b":70,"c":false}`,
		"0000:01:00.0/52:54:00:00:00:02/third":  `{"a":100,"b":1000,"c":true}`,
		"0000:02:00.0/52:54:00:00:00:03/first":  `{"a":1,"b":50,"c":false}`,
		"0000:02:00.0/52:54:00:00:00:03/second": `{"a":3,"b":30,"c":false}`,
		"0000:02:00.0/52:54:00:00:00:03/third":  `{"a":1,"b":10,"c":true}`,
	} {
		if h.files["/toy/"+path] != value {
			t.Errorf("%s is %s, want %s", path, h.files["/toy/"+path], value)
		}
	}

	again := mustPlan(t, h, everything(t, nics))
	if len(again.Changes) != 0 || again.Kept != 11 {
		t.Errorf("a second plan has %d changes and keeps %d values, want 0 and 11", len(again.Changes), again.Kept)
	}
	if t2, err := e.Apply(t.Context(), again, nics, Request{}); t2 != nil || err != nil || h.writes != 6 {
		t.Errorf("a second apply: %v, %v, %d writes in all", t2, err, h.writes)
	}
	history, err := History(dir)
	if err != nil || len(history) != 1 || history[0].Outcome != Applied || !reflect.DeepEqual(history[0].Request, allowAll) {
		t.Errorf("history %+v, %v", history, err)
	}
}

func TestOrder(t *testing.T) {
	h, nics := newHost()
	var got []string
	for _, c := range mustPlan(t, h, everything(t, nics)).Changes {
		got = append(got, c.NIC.Name+" "+c.Setting)
	}
	want := []string{"eth0 first", "eth0 second", "eth0 third", "eth1 first", "eth1 second", "eth1 third"}
	if !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestPlanNamesEveryProblem(t *testing.T) {
	h, nics := newHost()
	delete(h.files, "/toy/"+nics[1].ID()+"/second")
	h.files["/toy/"+nics[0].ID()+"/third"] = `{"a":1}`
	_, err := MakePlan(t.Context(), h, toySettings(), want(t, nics,
		"eth0 first a=101 b=max", "eth1 second a=1", "eth0 third a=2 c=on", "eth0 second a=13", "eth1 first a=huge", "eth1 fourth a=1"), nil)
	var problems *PlanError
	if !errors.As(err, &problems) {
		t.Fatalf("error %v", err)
	}
	for _, part := range []string{
		"6 things can't be had; nothing was changed:",
		"edge.yaml:1: eth0: first.a: 101: the device takes 100 at most",
		"edge.yaml:2: eth1: second: gone: read /toy/",
		"edge.yaml:3: eth0: third.c: on: unsupported: the device has no c",
		"edge.yaml:4: eth0: second: thirteen is refused",
		"edge.yaml:5: eth1: first.a: huge: it takes a number of 32 bits",
		"edge.yaml:6: eth1: fourth: there is no setting of this name",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, err)
		}
	}
}

// What the device moves by itself can't be set: that is said, and nothing is left
// out in silence, unless the policy says that it may be.
func TestPlanOfWhatTheDeviceMoves(t *testing.T) {
	h, nics := newHost()
	moves := toyKnob("third", Seamless)
	moves.Volatile = func(current toy) []string {
		if current.C != nil && *current.C {
			return []string{"a"}
		}
		return nil
	}
	settings := []Setting{moves}
	for line, problem := range map[string]string{
		"eth0 third a=2":       "",
		"eth0 third b=2 c=on":  "",
		"eth0 third a=2 c=off": "",
		"eth0 third a=2 c=on":  "edge.yaml:1: eth0: third.a: 2: unsupported: the device chooses it by itself then",
		"eth1 third a=2":       "third.a: 2: unsupported: the device chooses it by itself then", // it does already
		"eth1 third a=2 c=off": "",
		"eth1 third a=1":       "third.a: 1: unsupported: the device chooses it by itself then", // by chance it has it
	} {
		h.files["/toy/"+nics[1].ID()+"/third"] = `{"a":1,"b":10,"c":true}`
		wants := want(t, nics, line)
		_, err := MakePlan(t.Context(), h, settings, wants, nil)
		if (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v, want %q", line, err, problem)
		}
		for i := range wants[0].Fields {
			wants[0].Fields[i].Optional = true
		}
		p, err := MakePlan(t.Context(), h, settings, wants, nil)
		if err != nil || (len(p.Skipped) == 1) != (problem != "") {
			t.Errorf("%s, optional: %+v, %v", line, p, err)
		}
	}
}

// A maximum is what the plan leaves of it, also for a NIC that has as much as the device
// itself takes.
func TestPlanOfABoundMaximum(t *testing.T) {
	h, nics := newHost()
	h.files["/toy/"+nics[0].ID()+"/first"] = `{"a":100}`
	bounded := toyKnob("first", Seamless)
	for _, most := range []uint32{100, 40} {
		bounded.Bound = func(_ Ask, limit toy) (toy, string) {
			limit.A = &most
			return limit, "it is shared"
		}
		for _, s := range []Setting{bounded, toyKnob("first", Seamless)} {
			p, err := MakePlan(t.Context(), h, []Setting{s}, want(t, nics, "eth0 first a=max"), nil)
			changes := 0
			if most < 100 && s.bounds() {
				changes = 1
			}
			if err != nil || len(p.Changes) != changes || p.Kept != 1-changes {
				t.Errorf("at most %d, bound %v: %+v, %v", most, s.bounds(), p, err)
			}
		}
	}
}

// An alias that stands for several fields, as tcp-segmentation-offload does,
// means those that the device has.
func TestOneNameForSeveralFields(t *testing.T) {
	h, nics := newHost()
	h.files["/toy/"+nics[0].ID()+"/first"] = `{"a":1}`
	wants := want(t, nics, "eth0 first a=2 b=2")
	wants[0].Fields[1].Source = wants[0].Fields[0].Source
	plan := mustPlan(t, h, wants)
	if len(plan.Changes) != 1 || !slices.Equal(plan.Changes[0].names(), []string{"a"}) || plan.Kept != 0 {
		t.Errorf("plan %+v", plan)
	}
	h.files["/toy/"+nics[0].ID()+"/first"] = `{"c":false}`
	if _, err := MakePlan(t.Context(), h, toySettings(), wants, nil); kernel.ReasonOf(err) != kernel.Unsupported || !strings.Contains(err.Error(), "no b") {
		t.Errorf("a device that has none of the fields: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*host, *Plan)
		allow Impact
		want  string
	}{
		"impact":          {func(*host, *Plan) {}, LinkFlap, "--allow nic-reset"},
		"nothing allowed": {func(*host, *Plan) {}, "", "--allow nic-reset"},
		"changed since": {func(h *host, p *Plan) {
			h.files["/toy/"+p.Changes[1].NIC.ID+"/second"] = `{"a":2,"b":10,"c":false}`
		}, NICReset, "eth0: second.a is 2, not 1"},
		"another field changed since": {func(h *host, p *Plan) {
			h.files["/toy/"+p.Changes[1].NIC.ID+"/second"] = `{"a":1,"b":10,"c":true}`
		}, NICReset, "eth0: second.c is on, not off"},
		"an impact that lies": {func(_ *host, p *Plan) { p.Changes[3].Impact = Seamless }, NICReset,
			"eth1: first has the impact nic-reset, not seamless"},
		"restarted":    {func(h *host, _ *Plan) { h.boot = "boot-2" }, NICReset, "restarted"},
		"another host": {func(_ *host, p *Plan) { p.Host.MachineID = "other" }, NICReset, "another host"},
		"another card": {func(_ *host, p *Plan) {
			for i := range p.Changes[:3] {
				p.Changes[i].NIC.ID = "0000:01:00.0/52:54:00:00:00:99"
			}
		}, NICReset, "is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			h, nics := newHost()
			dir := t.TempDir()
			e := engine(t, h, dir)
			plan := mustPlan(t, h, everything(t, nics))
			test.spoil(h, plan)
			_, err := e.Apply(t.Context(), plan, nics, Request{Allow: test.allow})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want a refusal with %q", err, test.want)
			}
			if h.writes != 0 || pendingJournal(t, dir) != nil {
				t.Errorf("%d writes, journal %s", h.writes, pendingJournal(t, dir))
			}
		})
	}
}

// TestEachWriteFails fails each write of a plan with each errno, and then the
// first write of the undo as well.
func TestEachWriteFails(t *testing.T) {
	cases := 0
	for _, errno := range []syscall.Errno{syscall.EBUSY, syscall.EOPNOTSUPP, syscall.EIO, syscall.ENODEV, syscall.EINVAL} {
		for n := 1; n <= 6; n++ {
			for _, twice := range []bool{false, true} {
				h, nics := newHost()
				before := maps.Clone(h.files)
				e := engine(t, h, t.TempDir())
				plan := mustPlan(t, h, everything(t, nics))
				h.fail = func(write int, _ string) error {
					if write == n || twice && write == n+1 {
						return errno
					}
					return nil
				}
				got, err := e.Apply(t.Context(), plan, nics, allowAll)
				var failure *ApplyError
				if !errors.As(err, &failure) || !errors.Is(err, errno) || len(failure.Left) != 0 {
					t.Fatalf("%v at write %d: error %v", errno, n, err)
				}
				change := plan.Changes[n-1]
				for _, part := range []string{change.NIC.Name + ": " + change.Setting + ": " + change.Fields[0].Name,
					"edge.yaml:", "the toy is stuck", "was undone"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error lacks %q: %v", part, err)
					}
				}
				if got.Outcome != Undone || !maps.Equal(h.files, before) {
					t.Errorf("%v at write %d: %s, %v", errno, n, got.Outcome, h.files)
				}
				cases++
			}
		}
	}
	t.Logf("%d of %d failures undone", cases, cases)
}

func TestValueThatDoesNotHoldIsUndone(t *testing.T) {
	h, nics := newHost()
	before := maps.Clone(h.files)
	e := engine(t, h, t.TempDir())
	h.took = func(path, value string) string { return strings.Replace(value, `"b":30`, `"b":32`, 1) }
	_, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if err == nil || !strings.Contains(err.Error(), "b reads back as 32 after 30 was written") {
		t.Errorf("error %v", err)
	}
	if !maps.Equal(h.files, before) {
		t.Errorf("host %v", h.files)
	}
}

// A driver that takes its time is waited for until the end of it.
func TestLateValueIsWaitedFor(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	e.Settle = time.Second
	h.took = func(path, value string) string {
		old := h.files[path]
		written := time.Now()
		h.late = func() {
			if time.Since(written) > 700*time.Millisecond {
				h.files[path] = value
			}
		}
		return old
	}
	if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 first a=5")), nics, allowAll); err != nil {
		t.Error(err)
	}
}

// A change that a later one of the same plan disturbs is repaired before the end,
// and everything undone if that disturbs the later one.
func TestDisturbedChange(t *testing.T) {
	for _, fight := range []bool{false, true} {
		testDisturbedChange(t, fight)
	}
}

func testDisturbedChange(t *testing.T, fight bool) {
	t.Helper()
	h, nics := newHost()
	before := maps.Clone(h.files)
	e := engine(t, h, t.TempDir())
	first, third := "/toy/"+nics[0].ID()+"/first", "/toy/"+nics[0].ID()+"/third"
	h.took = func(path, value string) string {
		switch {
		case path == third && strings.Contains(value, "100"):
			h.files[first] = `{"a":2,"b":10,"c":false}`
		case fight && path == first && strings.Contains(h.files[third], "100"):
			h.files[third] = `{"a":3,"b":10,"c":false}`
		}
		return value
	}
	_, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if !fight {
		if again := mustPlan(t, h, everything(t, nics)); err != nil || len(again.Changes) > 0 {
			t.Errorf("error %v, and then a plan of %+v", err, again.Changes)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "a reads back as ") {
		t.Errorf("error %v", err)
	}
	if !maps.Equal(h.files, before) {
		t.Errorf("host %v", h.files)
	}
}

func TestSideEffectsGoBack(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	before := maps.Clone(h.files)
	h.took = func(path, value string) string { // turning a to 7 turns c on
		return strings.Replace(value, `"a":7,"b":70,"c":false`, `"a":7,"b":70,"c":true`, 1)
	}
	wants := want(t, nics, "eth0 second a=7 b=70")
	got, err := e.Apply(t.Context(), mustPlan(t, h, wants), nics, allowAll)
	if err != nil || string(got.Steps[0].Found["c"]) != "true" {
		t.Fatalf("%+v, %v", got, err)
	}
	back, err := e.Rollback(t.Context(), got.ID, nics, allowAll, false)
	if err != nil || back.RollbackOf != got.ID || !maps.Equal(h.files, before) {
		t.Errorf("rollback %+v, %v, host %v", back, err, h.files)
	}
	history, err := History(dir)
	if err != nil || len(history) != 2 || history[0].RolledBackBy != back.ID {
		t.Errorf("history %+v, %v", history, err)
	}
}

func TestRollback(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	before := maps.Clone(h.files)
	done, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if err != nil {
		t.Fatal(err)
	}
	after := maps.Clone(h.files)

	// The NIC was renamed meanwhile.
	nics[0].Name = "renamed0"
	changed := "/toy/" + nics[0].ID() + "/second"
	h.files[changed] = `{"a":99,"b":70,"c":true}`
	_, err = e.Rollback(t.Context(), done.ID, nics, allowAll, false)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "renamed0: second.a is 99, not 7") {
		t.Errorf("error %v", err)
	}
	h.files[changed] = after[changed]
	h.writes = 0
	if _, err = e.Rollback(t.Context(), done.ID, nics, allowAll, false); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(h.files, before) || h.writes != 6 {
		t.Errorf("%d writes, host %v", h.writes, h.files)
	}
	if _, err := e.Rollback(t.Context(), 99, nics, allowAll, false); err == nil || !strings.Contains(err.Error(), "no finished transaction 99") {
		t.Errorf("error %v", err)
	}
}

// The last NIC goes back first, in an undo and in a rollback, and each NIC's
// settings in the order of their dependencies.
func TestUndoingGoesBackwards(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	var written []string
	failing := 0
	h.fail = func(n int, path string) error {
		if n == failing {
			return syscall.EIO
		}
		written = append(written, path)
		return nil
	}
	done, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if err != nil {
		t.Fatal(err)
	}
	forward := slices.Clone(written)
	backward := slices.Concat(forward[3:], forward[:3])
	written = nil
	if _, err := e.Rollback(t.Context(), done.ID, nics, allowAll, false); err != nil || !slices.Equal(written, backward) {
		t.Errorf("%v: rollback wrote %v after %v", err, written, forward)
	}
	written, failing = nil, h.writes+6
	_, err = e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if want := slices.Concat(forward[:5], forward[3:5], forward[:3]); err == nil || !slices.Equal(written, want) {
		t.Errorf("%v: wrote %v, want %v", err, written, want)
	}
}

func TestUndoneTransactionIsNotRolledBack(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	h.fail = func(n int, _ string) error {
		if n == 2 {
			return syscall.EIO
		}
		return nil
	}
	done, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if err == nil {
		t.Fatal("a write that failed went unnoticed")
	}
	h.writes = 0
	_, err = e.Rollback(t.Context(), done.ID, nics, allowAll, true)
	if err == nil || !strings.Contains(err.Error(), "it was undone") || h.writes != 0 {
		t.Errorf("error %v, %d writes", err, h.writes)
	}
}

// A driver can reset a field of one setting when another is written, which nobody
// knows of it: what a transaction has changed so goes back with it, whether it is
// undone, found after a crash, or rolled back.
func TestWhatADriverResetsGoesBack(t *testing.T) {
	for _, end := range []string{"undone", "crashed", "rolled back"} {
		h, nics := newHost()
		second, third := "/toy/"+nics[0].ID()+"/second", "/toy/"+nics[0].ID()+"/third"
		h.took = func(path, value string) string {
			if path == third {
				h.files[second] = strings.Replace(h.files[second], `"b":10`, `"b":77`, 1)
			}
			return value
		}
		before := maps.Clone(h.files)
		dir := t.TempDir()
		e := engine(t, h, dir)
		plan := mustPlan(t, h, want(t, nics, "eth0 second a=7", "eth0 third a=5", "eth1 first a=5"))
		h.fail = func(n int, _ string) error {
			switch {
			case n == 3 && end == "undone":
				return syscall.EIO
			case n == 3 && end == "crashed":
				panic(crash{})
			}
			return nil
		}
		done, died, err := apply(t, e, plan, nics)
		switch {
		case died:
			e.Store.Close()
			e = engine(t, h, dir)
			_, err = e.Recover(t.Context(), nics)
		case end == "undone":
			err = nil // as it was to be
		case err == nil:
			_, err = e.Rollback(t.Context(), done.ID, nics, allowAll, false)
		}
		if err != nil || !maps.Equal(h.files, before) {
			t.Errorf("%s: %v: %v", end, err, h.files)
		}
		e.Store.Close()
	}
}

// A value that somebody sets while we are at work stays theirs: also in a setting
// of which we have changed, and now put back, something else.
func TestValuesSetMeanwhileStay(t *testing.T) {
	h, nics := newHost()
	before := maps.Clone(h.files)
	e := engine(t, h, t.TempDir())
	ours, theirs := "/toy/"+nics[0].ID()+"/second", "/toy/"+nics[1].ID()+"/second"
	h.fail = func(n int, _ string) error {
		if n == 4 { // the second change is done, the fifth is not
			h.files[ours] = `{"a":7,"b":70,"c":true}`
			h.files[theirs] = `{"a":1,"b":42,"c":false}`
		}
		return nil
	}
	_, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if err == nil || !strings.Contains(err.Error(), "b 10 -> 30 (edge.yaml:6): second was changed by somebody else meanwhile") {
		t.Errorf("error %v", err)
	}
	before[ours], before[theirs] = `{"a":1,"b":10,"c":true}`, `{"a":1,"b":42,"c":false}`
	if !maps.Equal(h.files, before) {
		t.Errorf("host %v", h.files)
	}
}

// A value that an earlier change brought along is not written again.
func TestValueThatCameAlongIsNotWritten(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	h.took = func(_, value string) string {
		h.files["/toy/"+nics[0].ID()+"/second"] = `{"a":7,"b":10,"c":false}`
		return value
	}
	done, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 first a=5", "eth0 second a=7")), nics, allowAll)
	if err != nil || done.Outcome != Applied || h.writes != 1 {
		t.Errorf("%v, %+v, %d writes", err, done, h.writes)
	}
}

func TestForcedRollbackTakesBackWhatIsLeft(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	before := maps.Clone(h.files)
	done, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if err != nil {
		t.Fatal(err)
	}
	changed := "/toy/" + nics[0].ID() + "/second"
	h.files[changed] = `{"a":99,"b":70,"c":true}` // c was never ours
	if _, err = e.Rollback(t.Context(), done.ID, nics, allowAll, true); err != nil {
		t.Fatal(err)
	}
	before[changed] = `{"a":1,"b":10,"c":true}`
	if !maps.Equal(h.files, before) {
		t.Errorf("host %v", h.files)
	}
}

// An interrupted apply is undone to the end.
func TestInterruptIsUndone(t *testing.T) {
	h, nics := newHost()
	before := maps.Clone(h.files)
	e := engine(t, h, t.TempDir())
	plan := mustPlan(t, h, everything(t, nics))
	ctx, cancel := context.WithCancel(t.Context())
	h.fail = func(n int, _ string) error {
		if n == 4 {
			cancel()
		}
		return nil
	}
	h.obey = true
	got, err := e.Apply(ctx, plan, nics, allowAll)
	if !errors.Is(err, context.Canceled) || got.Outcome != Undone || !maps.Equal(h.files, before) {
		t.Errorf("%v, %+v, host %v", err, got, h.files)
	}
}

// A write that hangs and then takes effect is undone, too.
func TestHangIsUndone(t *testing.T) {
	h, nics := newHost()
	before := maps.Clone(h.files)
	e := engine(t, h, t.TempDir())
	e.Timeout = 20 * time.Millisecond
	h.hang = 4
	got, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll)
	if !errors.Is(err, context.DeadlineExceeded) || got.Outcome != Undone || !maps.Equal(h.files, before) {
		t.Errorf("%v, %+v, host %v", err, got, h.files)
	}
}

func TestOneApplyAtATime(t *testing.T) {
	dir := t.TempDir()
	first, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
	first.Close()
	second, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// Nobody else may keep us from applying, or leave us a journal to undo.
func TestStateDirectoryIsOurs(t *testing.T) {
	dir := t.TempDir()
	store, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
	if info, err := os.Stat(filepath.Join(dir, lockFile)); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the lock can be opened, and so held, by others: %v, %v", info.Mode(), err)
	}
	for _, d := range []string{"", pendingDir, historyDir} {
		open := filepath.Join(dir, d)
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStore(dir); err == nil || !strings.Contains(err.Error(), open+", and journals there be forged") {
			t.Errorf("%q: error %v", d, err)
		}
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 65534, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStore(dir); err == nil || !strings.Contains(err.Error(), "belongs to the user 65534") {
			t.Errorf("error %v", err)
		}
		if err := errors.Join(os.Chown(dir, 0, 65534), os.Chmod(dir, 0o775)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStore(dir); err == nil || !strings.Contains(err.Error(), "the group 65534 can write to "+dir) {
			t.Errorf("error %v", err)
		}
		if err := os.Chown(dir, 0, 0); err != nil {
			t.Fatal(err)
		}
		if store, err := OpenStore(dir); err != nil {
			t.Error(err)
		} else {
			store.Close()
		}
	}
}

// What is no journal of ours by its name is no journal.
func TestForeignFilesAmongJournals(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	for _, name := range []string{"1.journal", "000001.journal.bak", "000002", "README"} {
		if err := os.WriteFile(filepath.Join(dir, pendingDir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := e.Recover(t.Context(), nics); err != nil || len(done) != 0 {
		t.Errorf("%v, %v", done, err)
	}
}

func TestJournalThatCannotBeWrittenStopsEverything(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	plan := mustPlan(t, h, everything(t, nics))
	if err := os.RemoveAll(filepath.Join(dir, pendingDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Apply(t.Context(), plan, nics, allowAll); err == nil || h.writes != 0 {
		t.Errorf("error %v with %d writes", err, h.writes)
	}
}

// A disk that fills up under the journal stops the apply; what was written is
// undone all the same, and recovery finds nothing left to do.
func TestFullDisk(t *testing.T) {
	for writes := 0; writes <= 6; writes++ {
		h, nics := newHost()
		before := maps.Clone(h.files)
		dir := t.TempDir()
		e := engine(t, h, dir)
		b := beginning{Request: allowAll, Plan: *mustPlan(t, h, everything(t, nics))}
		tx, err := e.open(t.Context(), &b.Plan, nics)
		if err != nil {
			t.Fatal(err)
		}
		if tx.journal, err = e.Store.begin(b); err != nil {
			t.Fatal(err)
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		path := tx.journal.file.Name()
		h.fail = func(n int, _ string) error {
			if n == writes {
				tx.journal.file = full
			}
			return nil
		}
		if writes == 0 {
			tx.journal.file = full
		}
		_, err = tx.forward(t.Context())
		if !errors.Is(err, syscall.ENOSPC) || h.writes != writes {
			t.Errorf("%v after %d writes, want ENOSPC after %d", err, h.writes, writes)
		}
		left := tx.undo(t.Context(), err.Error())
		if !maps.Equal(h.files, before) || len(left) != 1 || !strings.Contains(left[0], "all is as before, but journal") {
			t.Errorf("after %d writes: left %q, host %v", writes, left, h.files)
		}
		h.writes = 0
		done, err := e.Recover(t.Context(), nics)
		if err != nil || len(done) != 1 || done[0].Outcome != Undone || h.writes != 0 {
			t.Errorf("recovery: %+v, %v, %d writes (%s)", done, err, h.writes, path)
		}
	}
}

func TestFindingANIC(t *testing.T) {
	port := func(name, mac string) inventory.NIC {
		return inventory.NIC{Name: name, PermanentMAC: mac, Parent: &inventory.Parent{Bus: "netdevsim", Address: "netdevsim1"}}
	}
	shared, own := Target{ID: "netdevsim1", Name: "eth0"}, Target{ID: "netdevsim1/aa:aa:aa:aa:aa:aa", Name: "eth0"}
	numbered := func(nic inventory.NIC, index int) inventory.NIC {
		nic.Index = index
		return nic
	}
	software := func(name string, index int) inventory.NIC { return inventory.NIC{Name: name, Index: index} }
	veth, second := Target{ID: "veth0", Name: "veth0", Index: 7}, Target{ID: "netdevsim1", Name: "eth0", Index: 7}
	for name, test := range map[string]struct {
		target    Target
		nics      []inventory.NIC
		want      string
		restarted bool
	}{
		"as it was":                 {target: own, nics: []inventory.NIC{port("eth1", ""), port("eth0", "aa:aa:aa:aa:aa:aa")}, want: "eth0"},
		"renamed":                   {target: own, nics: []inventory.NIC{port("eth0", ""), port("new0", "aa:aa:aa:aa:aa:aa")}, want: "new0"},
		"gone":                      {target: own, nics: []inventory.NIC{port("eth0", "bb:bb:bb:bb:bb:bb")}, want: ""},
		"one of several ports":      {target: shared, nics: []inventory.NIC{port("eth1", ""), port("eth0", ""), port("eth2", "")}, want: "eth0"},
		"perhaps another port":      {target: shared, nics: []inventory.NIC{port("new0", "")}, want: ""},
		"renamed, one of two ports": {target: shared, nics: []inventory.NIC{port("new0", ""), port("eth1", "")}, want: ""},
		"two of one MAC":            {target: own, nics: []inventory.NIC{port("new0", "aa:aa:aa:aa:aa:aa"), port("eth1", "aa:aa:aa:aa:aa:aa")}, want: ""},
		"a software device":         {target: veth, nics: []inventory.NIC{software("veth0", 7)}, want: "veth0"},
		"the next of its name":      {target: veth, nics: []inventory.NIC{software("veth0", 8)}, want: ""},
		"its name after a restart":  {target: veth, nics: []inventory.NIC{software("veth0", 3)}, want: "veth0", restarted: true},
		"ports that exchanged names": {target: second,
			nics: []inventory.NIC{numbered(port("eth1", ""), 7), numbered(port("eth0", ""), 8)}, want: ""},
		"a driver loaded again": {target: second, nics: []inventory.NIC{numbered(port("eth0", ""), 9)}, want: "eth0"},
	} {
		got := ""
		if nic := test.target.find(test.nics, !test.restarted); nic != nil {
			got = nic.Name
		}
		if got != test.want {
			t.Errorf("%s: found %q, want %q", name, got, test.want)
		}
	}
}

// Ports that share an identity are two NICs to a plan.
func TestPortsOfOneDevice(t *testing.T) {
	h, nics := newHost()
	nics[1].PermanentMAC, nics[1].PCI, nics[1].Parent = nics[0].PermanentMAC, nics[0].PCI, nics[0].Parent
	plan := mustPlan(t, h, want(t, nics, "eth0 first a=5", "eth1 first a=5"))
	if err := plan.validate(); err != nil || len(plan.Changes) != 2 {
		t.Errorf("%v, %d changes", err, len(plan.Changes))
	}
}
