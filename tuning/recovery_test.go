package tuning

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/inventory"
)

// moment is what a crash leaves: the state of the host, and how much of the
// journal there was when that state began.
type moment struct {
	files   map[string]string
	journal int
}

// film runs apply with a camera on the host: a moment for each question, each
// write and the middle of each write. It returns the whole journal, too.
func film(t *testing.T, h *host, nics []inventory.NIC) (moments []moment, journal []byte) {
	t.Helper()
	dir := t.TempDir()
	e := engine(t, h, dir)
	plan := mustPlan(t, h, everything(t, nics))
	h.seen = func(files map[string]string) {
		if b := pendingJournal(t, dir); b != nil {
			moments = append(moments, moment{files, len(b)})
		}
	}
	_, _ = e.Apply(t.Context(), plan, nics, allowAll)
	h.seen = nil
	journal, err := os.ReadFile(filepath.Join(dir, historyDir, fileName(1)))
	if err != nil {
		t.Fatal(err)
	}
	return moments, journal
}

// cuts are the lengths at which a journal between two moments may end: each
// record whole, torn at its start, its middle and its last byte.
func cuts(journal []byte, from, to int) []int {
	out := []int{from}
	for at := from; at < to; {
		end := at + strings.IndexByte(string(journal[at:]), '\n') + 1
		out = append(out, at+1, (at+end)/2, end-1, end)
		at = end
	}
	return out
}

// TestRecovery crashes apply at each moment, with each journal that can have
// reached the disk, and recovers.
func TestRecovery(t *testing.T) {
	planned, nics := newHost()
	before := maps.Clone(planned.files)
	if _, err := engine(t, planned, t.TempDir()).Apply(t.Context(), mustPlan(t, planned, everything(t, nics)), nics, allowAll); err != nil {
		t.Fatal(err)
	}
	after := planned.files

	for _, failing := range []int{0, 3, 6} { // no write fails; the third; the last
		t.Run(fmt.Sprint("write ", failing, " fails"), func(t *testing.T) {
			t.Parallel()
			recoverEachMoment(t, failing, before, after)
		})
	}
}

func recoverEachMoment(t *testing.T, failing int, before, after map[string]string) {
	h, nics := newHost()
	h.fail = func(n int, _ string) error {
		if n == failing {
			return syscall.EIO
		}
		return nil
	}
	moments, journal := film(t, h, nics)
	cases, completed := 0, 0
	for i, m := range moments {
		until := len(journal)
		if i+1 < len(moments) {
			until = moments[i+1].journal
		}
		for _, cut := range cuts(journal, m.journal, until) {
			h, nics := newHost()
			h.files = maps.Clone(m.files)
			dir := t.TempDir()
			e := engine(t, h, dir)
			e.Settle = time.Millisecond
			if err := os.WriteFile(filepath.Join(dir, pendingDir, fileName(1)), journal[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			done, err := e.Recover(t.Context(), nics)
			if err != nil {
				t.Fatalf("moment %d, %d bytes of journal: %v", i, cut, err)
			}
			planned := maps.Equal(h.files, after)
			if !planned && !maps.Equal(h.files, before) || planned && failing != 0 {
				t.Fatalf("moment %d, %d bytes of journal: in between: %v\n%s", i, cut, h.files, journal[:cut])
			}
			if len(done) != 1 || done[0].Outcome == Pending || pendingJournal(t, dir) != nil {
				t.Fatalf("moment %d, %d bytes of journal: %+v", i, cut, done)
			}
			if all, err := History(dir); err != nil || len(all) != 1 || all[0].Outcome != done[0].Outcome {
				t.Fatalf("moment %d, %d bytes of journal: history %+v, %v", i, cut, all, err)
			}
			if planned != (done[0].Outcome == Applied) {
				t.Fatalf("moment %d: outcome %s", i, done[0].Outcome)
			}
			h.writes = 0
			if again, err := e.Recover(t.Context(), nics); err != nil || len(again) != 0 || h.writes != 0 {
				t.Fatalf("a second recovery: %v, %v, %d writes", again, err, h.writes)
			}
			e.Store.Close()
			cases++
			if planned {
				completed++
			}
		}
	}
	t.Logf("%d of %d crashes recovered to the state before or the state planned (%d completed)", cases, cases, completed)
	if failing == 0 && (completed == 0 || completed == cases) {
		t.Errorf("%d of %d were completed", completed, cases)
	}
}

// crashed is a host on which apply was cut off after the fourth of six writes,
// before its result was seen.
func crashed(t *testing.T) (h *host, nics []inventory.NIC, dir string, before map[string]string) {
	t.Helper()
	h, nics = newHost()
	before = maps.Clone(h.files)
	moments, journal := film(t, h, nics)
	dir = t.TempDir()
	store, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
	lines := slices.Collect(strings.Lines(string(journal)))
	cut := len(strings.Join(lines[:1+2*3+1], "")) // begin, three changes, the fourth's beginning
	i, _ := slices.BinarySearchFunc(moments, cut+1, func(m moment, n int) int { return m.journal - n })
	h, _ = newHost()
	h.files = moments[i-1].files
	if err := os.WriteFile(filepath.Join(dir, pendingDir, fileName(1)), journal[:cut], 0o600); err != nil {
		t.Fatal(err)
	}
	return h, nics, dir, before
}

// A transaction that lacks only its end is completed where all of it still holds,
// and undone, but for what somebody else set, where it does not.
func TestRecoveryOfAnEndThatIsMissing(t *testing.T) {
	for _, holds := range []bool{true, false} {
		h, nics := newHost()
		want := maps.Clone(h.files)
		_, journal := film(t, h, nics)
		if holds {
			want = maps.Clone(h.files)
		} else {
			foreign := "/toy/" + nics[0].ID() + "/first"
			h.files[foreign] = `{"a":42,"b":10,"c":true}`
			want[foreign] = `{"a":42,"b":10,"c":false}`
		}
		dir := t.TempDir()
		e := engine(t, h, dir)
		end := strings.LastIndexByte(strings.TrimSpace(string(journal)), '\n') + 1
		if err := os.WriteFile(filepath.Join(dir, pendingDir, fileName(1)), journal[:end], 0o600); err != nil {
			t.Fatal(err)
		}
		done, err := e.Recover(t.Context(), nics)
		if err != nil || (done[0].Outcome == Applied) != holds || !maps.Equal(h.files, want) {
			t.Errorf("holds %t: %v, %+v, host %v", holds, err, done, h.files)
		}
	}
}

func TestRecoveryFollowsARename(t *testing.T) {
	h, nics, dir, before := crashed(t)
	nics[0].Name, nics[1].Name = "a", "b"
	if _, err := engine(t, h, dir).Recover(t.Context(), nics); err != nil || !maps.Equal(h.files, before) {
		t.Errorf("error %v, host %v", err, h.files)
	}
}

func TestRecoveryWaitsForANICThatIsGone(t *testing.T) {
	h, nics, dir, before := crashed(t)
	e := engine(t, h, dir)
	done, err := e.Recover(t.Context(), nics[:1])
	if err == nil || !strings.Contains(err.Error(), "eth1 (0000:02:00.0/52:54:00:00:00:03) is gone") ||
		!strings.Contains(err.Error(), "remove "+filepath.Join(dir, pendingDir, fileName(1))) {
		t.Errorf("error %v", err)
	}
	if len(done) != 1 || done[0].Outcome != Pending || pendingJournal(t, dir) == nil {
		t.Errorf("%+v", done)
	}
	for path, value := range h.files {
		if strings.Contains(path, nics[0].ID()) && value != before[path] {
			t.Errorf("%s is %s: the other NIC was to be put back", path, value)
		}
	}
	// The NIC that was put back can be used meanwhile.
	used := "/toy/" + nics[0].ID() + "/third"
	if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 third c=on")), nics[:1], allowAll); err != nil {
		t.Error(err)
	}
	applied := h.files[used]
	if applied == before[used] {
		t.Errorf("%s is %s", used, applied)
	}
	if _, err := e.Recover(t.Context(), nics); err != nil || h.files["/toy/"+nics[1].ID()+"/first"] != before["/toy/"+nics[1].ID()+"/first"] {
		t.Errorf("error %v, host %v", err, h.files)
	}
	if h.files[used] != applied {
		t.Errorf("%s is %s: what was applied since was undone", used, h.files[used])
	}
}

// Putting a setting back can disturb one that was put back before it: fewer
// channels, and the rings are what the driver makes of them.
func TestRecoveryPutsBackWhatItDisturbed(t *testing.T) {
	h, nics, dir, before := crashed(t)
	h.took = func(path, value string) string {
		if path == "/toy/"+nics[0].ID()+"/first" {
			h.files["/toy/"+nics[0].ID()+"/second"] = `{"a":3,"b":10,"c":false}`
		}
		return value
	}
	if _, err := engine(t, h, dir).Recover(t.Context(), nics); err != nil || !maps.Equal(h.files, before) {
		t.Errorf("error %v, host %v", err, h.files)
	}
}

// Of the value that somebody set since, nictune keeps its hands off; what else
// there is of that setting goes back.
func TestRecoveryLeavesForeignValuesAlone(t *testing.T) {
	for name, boot := range map[string]string{"same boot": "boot-1", "after a restart": "boot-2"} {
		t.Run(name, func(t *testing.T) {
			h, nics, dir, before := crashed(t)
			h.boot = boot
			foreign := "/toy/" + nics[0].ID() + "/first"
			h.files[foreign] = `{"a":42,"b":10,"c":true}`
			done, err := engine(t, h, dir).Recover(t.Context(), nics)
			if err != nil {
				t.Fatal(err)
			}
			before[foreign] = `{"a":42,"b":10,"c":false}`
			if !maps.Equal(h.files, before) {
				t.Errorf("host %v", h.files)
			}
			if s := done[0].Steps[0]; s.State != Left || !strings.Contains(s.Detail, "first.a is 42") || done[0].Outcome != Undone {
				t.Errorf("step %+v of %s", s, done[0].Outcome)
			}
		})
	}
}

// A write that nobody saw the end of can have left anything, such as a rounded
// value: in the same boot that is ours, after a restart it can't be.
func TestRecoveryOfAnUnseenWrite(t *testing.T) {
	for boot, restored := range map[string]bool{"boot-1": true, "boot-2": false} {
		h, nics, dir, before := crashed(t)
		h.boot = boot
		unseen := "/toy/" + nics[1].ID() + "/first"
		h.files[unseen] = `{"a":1,"b":51,"c":false}`
		if _, err := engine(t, h, dir).Recover(t.Context(), nics); err != nil {
			t.Fatal(err)
		}
		if got := h.files[unseen] == before[unseen]; got != restored {
			t.Errorf("%s: restored %t, want %t: %s", boot, got, restored, h.files[unseen])
		}
	}
}

// A card that was pulled and is back is as its driver makes it: that is left. What
// the driver refuses there for good ends the transaction, which says so; what may be
// taken later, or by the card that was never gone, keeps it waiting.
func TestRecoveryOfANICThatIsNew(t *testing.T) {
	for name, test := range map[string]struct {
		index  int
		first  string // the setting whose write was cut off: b 10 -> 50
		errno  syscall.Errno
		detail string // "" where the transaction waits
		writes bool
	}{
		"what the driver made":   {9, `{"a":8,"b":77,"c":false}`, syscall.EINVAL, "first.b is 77, which is neither what it was (10) nor what was written: left alone", false},
		"what it refuses":        {9, `{"a":8,"b":50,"c":false}`, syscall.EINVAL, "first.b is 50 and can't be 10 again: write /toy/0000:02:00.0/52:54:00:00:00:03/first: invalid argument (kernel: the toy is stuck): left alone", true},
		"out of range":           {9, `{"a":8,"b":50,"c":false}`, syscall.ERANGE, "first.b is 50 and can't be 10 again: ", true},
		"what it may take later": {9, `{"a":8,"b":50,"c":false}`, syscall.EIO, "", true},
		"the card itself":        {3, `{"a":1,"b":50,"c":false}`, syscall.EINVAL, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			h, nics, dir, _ := crashed(t)
			nics[1].Index = test.index
			path := "/toy/" + nics[1].ID() + "/first"
			h.files[path] = test.first
			tried := false
			h.fail = func(_ int, p string) error {
				if p == path {
					tried = true
					return test.errno
				}
				return nil
			}
			done, err := engine(t, h, dir).Recover(t.Context(), nics)
			if len(done) != 1 || h.files[path] != test.first || tried != test.writes {
				t.Fatalf("%+v, host %v", done, h.files)
			}
			if test.detail == "" {
				if err == nil || !strings.Contains(err.Error(), test.errno.Error()) || done[0].Outcome != Pending || pendingJournal(t, dir) == nil {
					t.Errorf("%v, %s", err, done[0].Outcome)
				}
				return
			}
			if s := done[0].Steps[3]; err != nil || done[0].Outcome != Undone || s.State != Left || !strings.HasPrefix(s.Detail, test.detail) || pendingJournal(t, dir) != nil {
				t.Errorf("%v, %s, %+v", err, done[0].Outcome, s)
			}
		})
	}
}

// What can't be put back stays on the list, and is put back when that is
// possible again.
func TestUndoThatFailsIsTriedAgain(t *testing.T) {
	h, nics := newHost()
	before := maps.Clone(h.files)
	dir := t.TempDir()
	e := engine(t, h, dir)
	stuck := "/toy/" + nics[0].ID() + "/second"
	h.fail = func(n int, path string) error {
		if n == 5 || n > 5 && path == stuck {
			return syscall.EIO
		}
		return nil
	}
	plan := mustPlan(t, h, everything(t, nics))
	got, err := e.Apply(t.Context(), plan, nics, allowAll)
	if err == nil || !strings.Contains(err.Error(), "could not be undone completely") || !strings.Contains(err.Error(), "eth0: second: ") {
		t.Errorf("error %v", err)
	}
	if got.Outcome != Pending || pendingJournal(t, dir) == nil {
		t.Errorf("outcome %s", got.Outcome)
	}
	if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 third c=on")), nics, allowAll); err == nil || !strings.Contains(err.Error(), "unfinished transaction 1") {
		t.Errorf("error %v, want a refusal", err)
	}
	h.fail = nil
	if done, err := e.Recover(t.Context(), nics); err != nil || done[0].Outcome != Undone || !maps.Equal(h.files, before) {
		t.Errorf("%+v, %v, host %v", done, err, h.files)
	}
}
