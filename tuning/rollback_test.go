package tuning

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Transactions that change the same fields are taken back together, to any of the points
// between them, and that is one transaction which writes each setting once.
func TestRollbackTo(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	points := []map[string]string{maps.Clone(h.files)}
	for _, lines := range [][]string{
		{"eth0 first a=2 b=20"}, {"eth0 first a=3", "eth1 first a=3"}, {"eth0 first b=40", "eth0 second a=4"},
	} {
		if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, lines...)), nics, allowAll); err != nil {
			t.Fatal(err)
		}
		points = append(points, maps.Clone(h.files))
	}
	if _, err := e.Rollback(t.Context(), 1, nics, allowAll, false); !errors.Is(err, ErrRefused) {
		t.Errorf("the first alone: %v", err)
	}
	if back, err := e.RollbackTo(t.Context(), 3, nics, allowAll, false); back != nil || err != nil {
		t.Errorf("back to the last: %+v, %v", back, err)
	}
	for _, test := range []struct{ to, writes int }{{1, 3}, {0, 1}, {3, 3}, {2, 2}} {
		h.writes = 0
		back, err := e.RollbackTo(t.Context(), test.to, nics, allowAll, false)
		if err != nil || back.RollbackTo == nil || *back.RollbackTo != test.to || !maps.Equal(h.files, points[test.to]) || h.writes != test.writes {
			t.Fatalf("back to %d: %+v, %v, %d writes, host %v", test.to, back, err, h.writes, h.files)
		}
	}
	all, err := History(dir)
	if err != nil || len(all) != 7 || all[2].RolledBackBy != 7 || all[4].RolledBackBy != 6 || all[0].RolledBackBy != 0 || LastApplied(all) != 2 {
		t.Errorf("of %d transactions %d is the last that holds, %v", len(all), LastApplied(all), err)
	}
	var text bytes.Buffer
	if err := WriteHistory(&text, all, Now{}, 0); err != nil || !strings.Contains(text.String(), "back to 2") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// What the history can't answer for is refused.
func TestRollbackToIsRefused(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	before := maps.Clone(h.files)
	for _, line := range []string{"eth0 first a=2", "eth0 first a=3", "eth0 first b=40"} {
		if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, line)), nics, allowAll); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, to int) {
		t.Helper()
		h.writes = 0
		if _, err := e.RollbackTo(t.Context(), to, nics, allowAll, false); err == nil || !strings.Contains(err.Error(), what) || h.writes > 0 {
			t.Errorf("back to %d: %v, %d writes", to, err, h.writes)
		}
	}
	refused("there is no transaction 9", 9)
	file := "/toy/" + nics[0].ID() + "/first"
	after := h.files[file]
	h.files[file] = strings.Replace(after, `"a":3`, `"a":99`, 1)
	refused("eth0: first.a is 99, not 3 as transaction 2 left it", 0)
	h.files[file] = after
	journal := filepath.Join(dir, historyDir, fileName(2))
	if err := os.Rename(journal, journal+".away"); err != nil {
		t.Fatal(err)
	}
	refused("nothing of what came between transactions 1 and 3", 0)
	if err := os.Rename(journal+".away", journal); err != nil {
		t.Fatal(err)
	}
	if _, err := e.RollbackTo(t.Context(), 0, nics, allowAll, false); err != nil || !maps.Equal(h.files, before) {
		t.Errorf("%v, host %v", err, h.files)
	}
}
