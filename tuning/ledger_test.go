package tuning

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// anyPast rolls transactions of two boots that add, change, move and remove rules of a few
// devices, and change a number of theirs.
func anyPast(d dice) []Transaction {
	targets := []Target{
		{"0000:01:00.0/52:54:00:00:00:02", "eth0", 2}, {"0000:01:00.0/52:54:00:00:00:02", "new0", 2},
		{"0000:02:00.0/52:54:00:00:00:03", "eth1", 3}, {"veth0", "veth0", 7}, {"veth0", "veth0", 8}, TargetOf(nil),
	}
	rest := 3 + d.IntN(20)
	var all []Transaction
	for id := 1; id <= rest; id++ {
		t := Transaction{ID: id, Outcome: Applied, Plan: Plan{Host: HostID{BootID: "boot-2"}}}
		if id < rest/4 {
			t.Plan.Host.BootID = "boot-1"
		}
		if d.IntN(8) == 0 {
			t.Outcome = Undone
		}
		for range 1 + d.IntN(3) {
			target := targets[d.IntN(len(targets))]
			value := func() json.RawMessage { return json.RawMessage(fmt.Sprint(1 + d.IntN(2))) }
			c := Change{NIC: target, Setting: "rules", Before: Values{}}
			step := Step{State: []State{Verified, Verified, Passed, Writing, Unwritten}[d.IntN(5)], After: Values{}, Found: Values{}}
			if d.IntN(3) == 0 {
				c.Setting, c.Before, step.After = "first", Values{"a": value(), "b": value(), "word": json.RawMessage(`"x"`)}, Values{"a": value()}
				step.Found = maps.Clone(c.Before)
				maps.Copy(step.Found, step.After)
			} else {
				for _, rule := range d.some("5", "6", "7") {
					if d.IntN(2) == 0 {
						c.Before[rule] = value()
					}
					if step.After[rule] = value(); d.IntN(3) == 0 {
						step.After[rule] = nil
					}
				}
				if d.IntN(4) == 0 {
					c.Turn = MakingWay
				}
			}
			if d.IntN(6) == 0 {
				step.Found = nil
			}
			t.Plan.Changes, t.Steps = append(t.Plan.Changes, c), append(t.Steps, step)
		}
		all = append(all, t)
	}
	return all
}

// known is all that plans ask of the past.
func known(past []Transaction, boot string) string {
	past = thisBoot(past, HostID{BootID: boot})
	var b strings.Builder
	for _, target := range []Target{
		{"0000:01:00.0/52:54:00:00:00:02", "eth0", 2}, {"0000:01:00.0/52:54:00:00:00:02", "new0", 2},
		{"0000:02:00.0/52:54:00:00:00:03", "eth1", 3}, {"veth0", "veth0", 7}, {"veth0", "veth0", 8}, TargetOf(nil),
	} {
		a := added(past, target, "rules")
		moved := map[string]bool{}
		for field, was := range a.moved {
			if _, back := a.ours[field]; was && !back { // else it is ours already
				moved[field] = true
			}
		}
		fmt.Fprintf(&b, "%v: rules %s, moved %v", target, a.ours, moved)
		for _, field := range []string{"a", "b"} {
			value, changed := original(past, target, "first", field)
			fmt.Fprintf(&b, ", %s %s %v", field, value, changed)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// However the past is cut into what is in the ledger and what is not, plans are told the
// same.
func TestLedgerKeepsWhatPlansAsk(t *testing.T) {
	said := map[string]bool{}
	for seed := range uint64(4000) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		all := anyPast(d)
		var l ledger
		for rest := all; len(rest) > 0; {
			n := 1 + d.IntN(len(rest))
			l.enter(rest[:n])
			rest = rest[n:]
			b, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			l = ledger{}
			if err := json.Unmarshal(b, &l); err != nil {
				t.Fatal(err)
			}
			for _, boot := range []string{"boot-1", "boot-2", "boot-3"} {
				if boot < l.BootID {
					continue // which is over
				}
				want := known(all, boot)
				said[want] = true
				if got := known(append([]Transaction{l.transaction()}, rest...), boot); got != want {
					t.Fatalf("seed %d, in %s, up to %d:\n%swant\n%sledger %s", seed, boot, l.Through, got, want, b)
				}
			}
		}
	}
	if len(said) < 1000 {
		t.Errorf("only %d different pasts", len(said))
	}
}

// trimmed is a host on which many transactions were made, of which few are kept: the
// first added a rule and changed a number that all others changed, too.
func trimmed(t *testing.T, dir string, transactions, keep, batch int) (e *Engine, plan func(lines ...string) *Plan, h *host) {
	t.Helper()
	h, nics := newHost()
	h.files["/toy/"+nics[0].ID()+"/rules"] = `{"8":3}`
	e = engine(t, h, dir)
	e.Settings = append([]Setting{ruleKnob()}, toySettings()...)
	e.Store.keep, e.Store.batch = keep, batch
	plan = func(lines ...string) *Plan {
		t.Helper()
		p, err := MakePlan(t.Context(), h, e.Settings, want(t, nics, lines...), func() ([]Transaction, error) { return Remembered(dir) })
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for i := range transactions {
		lines := []string{fmt.Sprintf("eth0 first a=%d", 2+i%3)}
		if i == 0 {
			lines = append(lines, "eth0 rules add=7")
		}
		if _, err := e.Apply(t.Context(), plan(lines...), nics, allowAll); err != nil {
			t.Fatal(err)
		}
	}
	return e, plan, h
}

// numbers are those of the transactions in the history.
func numbers(t *testing.T, dir string) (ids []int) {
	t.Helper()
	all, err := History(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		ids = append(ids, one.ID)
	}
	return ids
}

func files(t *testing.T, dir string) []int {
	t.Helper()
	ids, err := journals(filepath.Join(dir, historyDir))
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// ours says which rules of the toy's card nictune made, and what first.a was.
func ours(t *testing.T, dir string, nic Target) string {
	t.Helper()
	past, err := Remembered(dir)
	if err != nil {
		t.Fatal(err)
	}
	past = thisBoot(past, HostID{BootID: "boot-1"})
	value, _ := original(past, nic, "first", "a")
	return fmt.Sprintf("%s, %s", owned(past, nic, ruleKnob(), Values{"7": json.RawMessage("1"), "8": json.RawMessage("3")}), value)
}

func TestHistoryIsTrimmed(t *testing.T) {
	dir := t.TempDir()
	e, plan, h := trimmed(t, dir, 20, 5, 3)
	_, nics := newHost()
	if got := numbers(t, dir); !slices.Equal(got, []int{14, 15, 16, 17, 18, 19, 20}) || !slices.Equal(got, files(t, dir)) {
		t.Errorf("kept are %v, files %v", got, files(t, dir))
	}
	last, err := Trimmed(dir)
	if err != nil || last != 13 {
		t.Errorf("trimmed up to %d, %v", last, err)
	}
	if got := ours(t, dir, TargetOf(&nics[0])); got != "map[7:1], 1" {
		t.Errorf("ours are %s", got)
	}
	var text bytes.Buffer
	if err := WriteHistory(&text, nil, Now{}, last); err != nil || !strings.Contains(text.String(), "Transactions up to 13 were trimmed: the last 1000 are kept.") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if b, err := json.Marshal(HistoryOf(nil, last)); err != nil || !strings.Contains(string(b), `"trimmed":13`) {
		t.Errorf("%s, %v", b, err)
	}
	if s, err := PastIn(dir).Summary(); err != nil || s.Ended[Applied] != 20 || s.Last[Applied].IsZero() || s.Rollbacks != 0 {
		t.Errorf("summed up: %+v, %v", s, err)
	}

	// What is not kept can't be gone back to, and says so.
	h.writes = 0
	for to, want := range map[int]string{
		0: "the beginning is not in the history any more: the oldest transaction that is kept is 14",
		5: "transaction 5 is not in the history any more: the oldest that is kept is 14",
	} {
		for _, force := range []bool{false, true} {
			if _, err := e.RollbackTo(t.Context(), to, nics, allowAll, force); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("back to %d: %v", to, err)
			}
		}
	}
	if _, err := e.Rollback(t.Context(), 5, nics, allowAll, false); err == nil || !strings.Contains(err.Error(), "the oldest that is kept is 14") {
		t.Errorf("5 alone: %v", err)
	}
	if _, err := e.Confirm(t.Context(), 5, allowAll); err == nil || !strings.Contains(err.Error(), "the oldest that is kept is 14") {
		t.Errorf("confirming 5: %v", err)
	}
	if _, err := e.RollbackTo(t.Context(), 21, nics, allowAll, false); err == nil || !strings.Contains(err.Error(), "there is no transaction 21") {
		t.Errorf("back to 21: %v", err)
	}
	if h.writes > 0 {
		t.Errorf("%d writes", h.writes)
	}
	done, err := e.RollbackTo(t.Context(), 15, nics, allowAll, false)
	if err != nil || done.ID != 21 || !strings.Contains(h.files["/toy/"+nics[0].ID()+"/first"], `"a":4`) {
		t.Errorf("back to 15: %+v, %v, %s", done, err, h.files["/toy/"+nics[0].ID()+"/first"])
	}

	// No number is given twice, whoever takes journals away.
	for _, id := range files(t, dir) {
		if err := os.Remove(filepath.Join(dir, historyDir, fileName(id))); err != nil {
			t.Fatal(err)
		}
	}
	done, err = e.Apply(t.Context(), plan("eth0 first a=9"), nics, allowAll)
	if err != nil || done.ID < 20 {
		t.Errorf("the next one is %+v, %v", done, err)
	}
	// A ledger that can't be read stops who would need it.
	if err := os.WriteFile(filepath.Join(dir, ledgerFile), []byte("00000000 {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Remembered(dir); err == nil || !strings.Contains(err.Error(), "ledger: the checksum does not fit; what nictune had changed can't be told") {
		t.Errorf("damaged: %v", err)
	}
	if _, err := e.Apply(t.Context(), plan("eth0 first a=4"), nics, allowAll); err == nil || !strings.Contains(err.Error(), "ledger") {
		t.Errorf("damaged: %v", err)
	}
}

// What has not ended is not passed by: its number is in the ledger only after it.
func TestOpenTransactionsHoldTheLedgerUp(t *testing.T) {
	dir := t.TempDir()
	e, plan, _ := trimmed(t, dir, 6, 2, 2)
	_, nics := newHost()
	request := allowAll
	request.ConfirmSeconds = 60
	open, err := e.Apply(t.Context(), plan("eth1 first a=5"), nics, request)
	if err != nil || open.Outcome != Unconfirmed {
		t.Fatalf("%+v, %v", open, err)
	}
	for i := range 6 {
		if _, err := e.Apply(t.Context(), plan(fmt.Sprintf("eth0 first a=%d", 5+i)), nics, allowAll); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := readLedger(dir); err != nil || l.Through != 6 || l.Trimmed != 4 {
		t.Errorf("while it waits: %+v, %v", l, err)
	}
	if _, err := e.Confirm(t.Context(), 0, allowAll); err != nil {
		t.Fatal(err)
	}
	if l, err := readLedger(dir); err != nil || l.Through != 13 || l.Trimmed != 11 {
		t.Errorf("confirmed: %+v, %v", l, err)
	}
}

// A crash while the history is trimmed leaves the old ledger or the new one, and of the
// journals that go any: plans and the history are told the same, and the next one that
// ends clears up.
func TestCrashWhileTrimming(t *testing.T) {
	old, done := t.TempDir(), t.TempDir()
	e, _, _ := trimmed(t, old, 12, 0, 0)
	_, nics := newHost()
	nic := TargetOf(&nics[0])
	e.Store.keep, e.Store.batch = 6, 4
	copied := func(from string) string {
		to := t.TempDir()
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	moved := func(dir string) *Store { return &Store{dir: dir, keep: 6, batch: 4} }
	if err := os.CopyFS(done, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	if err := moved(done).balance(); err != nil {
		t.Fatal(err)
	}
	before, after := numbers(t, old), numbers(t, done)
	whole, err := os.ReadFile(filepath.Join(done, ledgerFile))
	if err != nil || len(before) != 12 || !slices.Equal(after, []int{7, 8, 9, 10, 11, 12}) || ours(t, old, nic) != ours(t, done, nic) {
		t.Fatalf("before %v, after %v, %v", before, after, err)
	}
	check := func(name, dir string, want []int) {
		t.Helper()
		if got := numbers(t, dir); !slices.Equal(got, want) || ours(t, dir, nic) != "map[7:1], 1" {
			t.Errorf("%s: %v, ours %s", name, got, ours(t, dir, nic))
		}
		if s, err := PastIn(dir).Summary(); err != nil || s.Ended[Applied] != 12 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		// The next ones that end.
		s := moved(dir)
		for range 4 {
			j, err := s.begin(beginning{Plan: *samplePlan(t)})
			if err != nil || j.ID <= 12 {
				t.Fatalf("%s: %v", name, err)
			}
			if err := j.end(Undone); err != nil {
				t.Fatal(err)
			}
		}
		if left := files(t, dir); len(left) > 9 || left[0] < 8 || ours(t, dir, nic) != "map[7:1], 1" {
			t.Errorf("%s: afterwards files %v, ours %s", name, left, ours(t, dir, nic))
		}
		if s, err := PastIn(dir).Summary(); err != nil || s.Ended[Applied] != 12 || s.Ended[Undone] != 4 {
			t.Errorf("%s: afterwards %+v, %v", name, s, err)
		}
		if _, err := os.Stat(filepath.Join(dir, ledgerFile+".new")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, cut := range []int{0, 1, len(whole) / 2, len(whole) - 1, len(whole)} {
		dir := copied(old)
		if err := os.WriteFile(filepath.Join(dir, ledgerFile+".new"), whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprint("killed before it is in place, at byte ", cut), dir, before)
	}
	for gone := range 7 {
		dir := copied(old)
		if err := os.WriteFile(filepath.Join(dir, ledgerFile), whole, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, id := range before[:gone] {
			if err := os.Remove(filepath.Join(dir, historyDir, fileName(id))); err != nil {
				t.Fatal(err)
			}
		}
		check(fmt.Sprint("killed with ", gone, " journals removed"), dir, after)
	}
}

// A plan over 5,000 transactions reads no more than one over 100: the ledger, which does
// not grow with them, and the journals of the last ones.
func TestLongHistory(t *testing.T) {
	reads := map[int]int64{} // bytes, by the number of transactions
	for _, many := range []int{100, 5000} {
		dir := inMemory(t)
		e, plan, _ := trimmed(t, dir, 1, 0, 0)
		_, nics := newHost()
		setup := *plan("eth0 first a=5 c=on")
		for id := 2; id < many; id++ { // as an older nictune leaves them
			var journal []byte
			for i, r := range []record{
				{Kind: kindBegin, Begin: &beginning{ID: id, Plan: setup}}, {Kind: kindWriting, After: setup.Changes[0].After},
				{Kind: kindVerified, Found: setup.Changes[0].After}, {Kind: kindEnd, Outcome: Applied},
			} {
				r.Sequence = i
				line, err := encodeRecord(&r)
				if err != nil {
					t.Fatal(err)
				}
				journal = append(journal, line...)
			}
			if err := os.WriteFile(filepath.Join(dir, historyDir, fileName(id)), journal, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if done, err := e.Apply(t.Context(), plan("eth0 first a=6"), nics, allowAll); err != nil || done.ID != many {
			t.Fatalf("%+v, %v", done, err)
		}
		l, err := readLedger(dir)
		if err != nil || many-l.Through >= ledgerBatch || l.Trimmed != max(0, many-keptJournals) || len(files(t, dir)) != min(many, keptJournals) {
			t.Fatalf("of %d the ledger has %d, trimmed %d, %v", many, l.Through, l.Trimmed, err)
		}
		info, err := os.Stat(filepath.Join(dir, ledgerFile))
		if err != nil {
			t.Fatal(err)
		}
		reads[many] = info.Size()
		// Journals that are in it are not even opened.
		for _, id := range files(t, dir) {
			path := filepath.Join(dir, historyDir, fileName(id))
			if info, err = os.Stat(path); err == nil && id > l.Through {
				reads[many] += info.Size()
			} else if err == nil {
				err = os.WriteFile(path, []byte("damaged\n\ndamaged"), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := ours(t, dir, TargetOf(&nics[0])); got != "map[7:1], 1" {
			t.Errorf("of %d, ours are %s", many, got)
		}
	}
	if reads[5000] > reads[100]+256 { // it counts what is gone
		t.Errorf("to read are %d bytes after 100 transactions, %d after 5000", reads[100], reads[5000])
	}
	t.Logf("to read are %d bytes after 100 transactions, %d after 5000", reads[100], reads[5000])
}
