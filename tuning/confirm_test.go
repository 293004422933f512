package tuning

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/inventory"
)

// tentative is a request whose changes are to be confirmed within a minute.
func tentative() Request {
	r := allowAll
	r.ConfirmSeconds = 60
	return r
}

// unconfirmed has applied everything, and awaits confirmation.
func unconfirmed(t *testing.T) (h *host, before map[string]string, e *Engine, dir string) {
	t.Helper()
	h, nics := newHost()
	h.uptime = 1000
	before = maps.Clone(h.files)
	dir = t.TempDir()
	e = engine(t, h, dir)
	done, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, tentative())
	if err != nil || done.Outcome != Unconfirmed || maps.Equal(h.files, before) {
		t.Fatalf("%+v, %v", done, err)
	}
	return h, before, e, dir
}

func TestConfirm(t *testing.T) {
	h, before, e, dir := unconfirmed(t)
	_, nics := newHost()
	h.uptime += 59
	if ended, err := e.Recover(t.Context(), nics); err != nil || len(ended) != 0 || maps.Equal(h.files, before) {
		t.Errorf("recovery in time ended %+v, %v", ended, err)
	}
	writes := h.writes
	for _, id := range []int{2, 0} {
		done, err := e.Confirm(t.Context(), id, Request{User: "root", Login: "alice"})
		switch {
		case id == 2 && (err == nil || !strings.Contains(err.Error(), "no transaction 2")):
			t.Errorf("there is no 2: %v", err)
		case id == 0 && (err != nil || done.Outcome != Applied || done.ConfirmedBy != "root (alice)"):
			t.Errorf("%+v, %v", done, err)
		}
	}
	h.uptime += 1000
	if ended, err := e.Recover(t.Context(), nics); err != nil || len(ended) != 0 || h.writes != writes {
		t.Errorf("what was confirmed is taken back: %+v, %v", ended, err)
	}
	if _, err := e.Confirm(t.Context(), 0, Request{}); !errors.Is(err, ErrNothingToConfirm) {
		t.Error(err)
	}
	if all, err := History(dir); err != nil || len(all) != 1 || all[0].ConfirmedBy != "root (alice)" || LastApplied(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestUnconfirmedIsTakenBack(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*host)
		why    string
	}{
		"late":      {func(h *host) { h.uptime += 60.01 }, "nobody confirmed it within 1m0s"},
		"restarted": {func(h *host) { h.boot, h.uptime = "boot-2", 5 }, "the host was restarted before it was confirmed"},
		"no clock":  {func(h *host) { h.uptime = -1 }, "nobody confirmed it within 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			h, before, e, _ := unconfirmed(t)
			_, nics := newHost()
			test.change(h)
			if _, err := e.Confirm(t.Context(), 1, Request{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.why) {
				t.Errorf("confirmed too late: %v", err)
			}
			ended, err := e.Recover(t.Context(), nics)
			if err != nil || len(ended) != 1 || ended[0].Outcome != Undone || ended[0].UndoReason != test.why || !maps.Equal(h.files, before) {
				t.Errorf("%+v, %v", ended, err)
			}
			if _, err := e.Confirm(t.Context(), 1, Request{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "it was undone, because "+test.why) {
				t.Errorf("confirmed when it was undone: %v", err)
			}
		})
	}
}

func TestUnconfirmedNICTakesNoOtherPlan(t *testing.T) {
	h, before, e, dir := unconfirmed(t)
	_, nics := newHost()
	h.uptime += 19
	plan := mustPlan(t, h, want(t, nics, "eth0 first a=9"))
	_, err := e.Apply(t.Context(), plan, nics, allowAll)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "has the unconfirmed transaction 1 (41s left): nictune confirm 1 keeps it, nictune rollback 1 takes it back") {
		t.Error(err)
	}
	var text strings.Builder
	all, err := History(dir)
	if err != nil {
		t.Fatal(err)
	}
	now, err := ReadNow(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteHistory(&text, all, now, 0); err != nil || !strings.Contains(text.String(), "unconfirmed, 41s left") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if due, in, err := Unfinished(t.Context(), h, dir); err != nil || !due || in.Round(time.Second) != 41*time.Second {
		t.Errorf("due %v in %s, %v", due, in, err)
	}
	done, err := e.Rollback(t.Context(), 1, nics, Request{User: "root"}, false)
	if err != nil || done.Outcome != Undone || done.UndoReason != "root took it back" || !maps.Equal(h.files, before) {
		t.Errorf("%+v, %v", done, err)
	}
	if due, _, err := Unfinished(t.Context(), h, dir); due || err != nil {
		t.Errorf("due %v, %v", due, err)
	}
}

// What lies on a NIC that awaits confirmation, or under it, waits with it.
func TestUnconfirmedNICTakesNoPlanForItsBond(t *testing.T) {
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	software := func(index int, name string, lower ...string) inventory.NIC {
		nic := inventory.NIC{Name: name, Index: index, Stack: inventory.Stack{Lower: lower}}
		for _, setting := range []string{"first", "second", "third"} {
			h.files["/toy/"+nic.ID()+"/"+setting] = `{"a":1,"b":10,"c":false}`
		}
		return nic
	}
	nics = append(nics, software(8, "bond0", "eth0"), software(9, "bond0.7", "bond0"))
	apply := func(request Request, line string) error {
		_, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, line)), nics, request)
		return err
	}
	for _, pair := range [][2]string{{"eth0", "bond0.7"}, {"bond0.7", "eth0"}, {"bond0", "eth0"}} {
		if err := apply(tentative(), pair[0]+" third a=5"); err != nil {
			t.Fatal(err)
		}
		if err := apply(allowAll, pair[1]+" third a=5"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), ", which "+pair[1]+" belongs with, has the unconfirmed transaction") {
			t.Errorf("%v: %v", pair, err)
		}
		if err := apply(allowAll, "eth1 third a=5"); err != nil && pair == [2]string{"eth0", "bond0.7"} {
			t.Errorf("beside %v: %v", pair, err)
		}
		waiting, err := Awaiting(e.Store.dir)
		if err != nil || len(waiting) != 1 {
			t.Fatal(waiting, err)
		}
		if _, err := e.Rollback(t.Context(), waiting[0].ID, nics, allowAll, false); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecoveryUnconfirmed crashes an apply that is to be confirmed at each moment,
// with each journal that can have reached the disk. Only a journal that says that
// it waits is waited for; of all others recovery leaves nothing, even where every
// change had been verified.
func TestRecoveryUnconfirmed(t *testing.T) {
	h, nics := newHost()
	h.uptime = 1000
	before := maps.Clone(h.files)
	var moments []moment
	dir := t.TempDir()
	e := engine(t, h, dir)
	plan := mustPlan(t, h, everything(t, nics))
	h.seen = func(files map[string]string) {
		if b := pendingJournal(t, dir); b != nil {
			moments = append(moments, moment{files, len(b)})
		}
	}
	if _, err := e.Apply(t.Context(), plan, nics, tentative()); err != nil {
		t.Fatal(err)
	}
	h.seen = nil
	journal := pendingJournal(t, dir)
	moments = append(moments, moment{maps.Clone(h.files), len(journal)})
	cases, waiting := 0, 0
	for i, m := range moments {
		to := len(journal)
		if i+1 < len(moments) {
			to = moments[i+1].journal
		}
		for _, cut := range cuts(journal, m.journal, to) {
			for _, uptime := range []float64{1030, 1061} {
				cases++
				state := t.TempDir()
				again := &host{files: maps.Clone(m.files), boot: "boot-1", uptime: uptime}
				e := engine(t, again, state)
				path := filepath.Join(state, pendingDir, fileName(1))
				if err := os.WriteFile(path, journal[:cut], 0o600); err != nil {
					t.Fatal(err)
				}
				_, err := e.Recover(t.Context(), nics)
				waits := uptime < 1060 && cut == len(journal)
				switch {
				case err != nil:
					t.Errorf("moment %d, %d of %d bytes: %v", i, cut, len(journal), err)
				case waits && !maps.Equal(again.files, m.files):
					t.Errorf("moment %d, %d of %d bytes: taken back before its time", i, cut, len(journal))
				case !waits && !maps.Equal(again.files, before):
					t.Errorf("moment %d, %d of %d bytes: not as before", i, cut, len(journal))
				}
				if waits {
					waiting++
				}
				if err := e.Store.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if waiting == 0 {
		t.Error("no case waits for a confirmation")
	}
	t.Logf("%d crashes; %d of them wait for a confirmation, all others are as before", cases, waiting)
}
