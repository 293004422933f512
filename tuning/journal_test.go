package tuning

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// sampleJournal is the journal of a transaction that was applied.
func sampleJournal(t testing.TB) []byte {
	t.Helper()
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 first a=5 c=on", "eth1 third b=max")), nics, allowAll); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, historyDir, fileName(1)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every prefix of a journal is a journal whose torn record was not written.
func TestTornJournal(t *testing.T) {
	whole := sampleJournal(t)
	for n := range whole {
		got, valid, err := decodeJournal(whole[:n])
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if want := bytes.LastIndexByte(whole[:n], '\n') + 1; valid != want {
			t.Fatalf("%d bytes: %d are whole records, want %d", n, valid, want)
		}
		if (got == nil) != (valid == 0) || got != nil && got.Outcome != Pending {
			t.Fatalf("%d bytes: %+v", n, got)
		}
	}
	// A disk may have made room for a record and not have filled it.
	for _, tail := range []string{"\x00\x00\x00\x00", "\x00\n", "00000000 {}\n", "garbage\nmore garbage\n"} {
		cut := len(whole) - 30
		if _, valid, err := decodeJournal(append(bytes.Clone(whole[:cut]), tail...)); err != nil || valid > cut {
			t.Errorf("tail %q: %d, %v", tail, valid, err)
		}
	}
}

func TestDamagedJournal(t *testing.T) {
	whole := sampleJournal(t)
	lines := bytes.SplitAfter(whole, []byte{'\n'})
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	flipped := bytes.Clone(whole)
	flipped[len(lines[0])+20] ^= 1
	for name, test := range map[string]struct {
		journal []byte
		want    string
	}{
		"a flipped bit":    {flipped, "line 2 of the journal is damaged (the checksum does not fit) and whole records follow it"},
		"a missing line":   {join(lines[0], lines[2]), "line 2 of the journal has the number 2"},
		"a line twice":     {join(lines[0], lines[1], lines[1]), "line 3 of the journal has the number 1"},
		"no beginning":     {join(line(t, record{Kind: kindEnd, Outcome: Applied})), `"end" is out of place`},
		"an empty one":     {join(line(t, record{Kind: kindBegin})), "the beginning is empty"},
		"an unknown kind":  {join(lines[0], line(t, record{Sequence: 1, Kind: "dance"})), "unknown kind"},
		"no such change":   {join(lines[0], line(t, record{Sequence: 1, Kind: kindWriting, Change: 2})), "no change 2"},
		"a negative index": {join(lines[0], line(t, record{Sequence: 1, Kind: kindWriting, Change: -1})), "no change -1"},
		"verified unwritten": {join(lines[0], line(t, record{Sequence: 1, Kind: kindVerified})),
			"change 0 can't go from planned to verified"},
		"an unknown outcome": {join(lines[0], line(t, record{Sequence: 1, Kind: kindEnd, Outcome: "great"})), "unknown outcome"},
		"after the end":      {join(whole, line(t, record{Sequence: 6, Kind: kindUndoing})), "a record after the end"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := decodeJournal(test.journal); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// A damaged journal of an unfinished transaction stops everything, unread.
func TestDamagedJournalStopsApply(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	e := engine(t, h, dir)
	b := sampleJournal(t)
	b[20] ^= 1
	path := filepath.Join(dir, pendingDir, fileName(7))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Recover(t.Context(), nics); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if _, err := e.Apply(t.Context(), mustPlan(t, h, everything(t, nics)), nics, allowAll); err == nil || h.writes != 0 {
		t.Errorf("error %v, %d writes", err, h.writes)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, b) {
		t.Errorf("the journal was touched: %v", err)
	}
}

// A damaged journal of the past stops a plan that needs the past, and says what to
// do about it.
func TestDamagedPast(t *testing.T) {
	h, nics := newHost()
	dir := t.TempDir()
	engine(t, h, dir)
	b := sampleJournal(t)
	b[20] ^= 1
	path := filepath.Join(dir, historyDir, fileName(7))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	past := func() ([]Transaction, error) { return History(dir) }
	_, err := MakePlan(t.Context(), h, toySettings(), want(t, nics, "eth0 first a=default"), past)
	if err == nil || !strings.Contains(err.Error(), path+": line 1") || !strings.Contains(err.Error(), "Look at the host, then move the file away") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := MakePlan(t.Context(), h, toySettings(), want(t, nics, "eth0 first a=default"), past); err != nil {
		t.Error(err)
	}
}

func line(t testing.TB, r record) []byte {
	t.Helper()
	b, err := encodeRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzJournal(f *testing.F) {
	whole := sampleJournal(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(line(f, record{Kind: kindEnd, Outcome: Applied}))
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, valid, err := decodeJournal(b)
		if err != nil {
			return
		}
		if valid > len(b) || valid > 0 && b[valid-1] != '\n' || (got == nil) != (valid == 0) {
			t.Fatalf("%d of %d bytes, %+v", valid, len(b), got)
		}
		again, n, err := decodeJournal(b[:valid])
		if err != nil || n != valid || !reflect.DeepEqual(again, got) {
			t.Fatalf("what was whole is not: %d of %d bytes, %v", n, valid, err)
		}
	})
}

// FuzzRecord reaches what a checksum keeps from FuzzJournal.
func FuzzRecord(f *testing.F) {
	for l := range bytes.Lines(sampleJournal(f)) {
		f.Add(bytes.TrimSpace(l[crcLength+1:]))
	}
	begin, _, _ := bytes.Cut(sampleJournal(f), []byte{'\n'})
	f.Fuzz(func(t *testing.T, body []byte) {
		if bytes.ContainsRune(body, '\n') {
			return
		}
		journal := append(bytes.Clone(begin), '\n')
		journal = append(journal, line(t, record{Sequence: 1, Kind: kindWriting})...)
		sum := crcBytes(body)
		const digits = "0123456789abcdef"
		for _, b := range sum {
			journal = append(journal, digits[b>>4], digits[b&15])
		}
		journal = append(append(append(journal, ' '), body...), '\n')
		_, _, _ = decodeJournal(journal)
		_, _, _ = decodeJournal(journal[len(journal)-len(body)-crcLength-2:])
	})
}

func samplePlan(t testing.TB) *Plan {
	h, nics := newHost()
	return mustPlan(t, h, everything(t, nics))
}

func TestPlanFile(t *testing.T) {
	plan := samplePlan(t)
	b, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParsePlan(b)
	if err != nil || !reflect.DeepEqual(got, plan) {
		t.Errorf("%+v, %v, want %+v", got, err, plan)
	}
	for name, change := range map[string]struct{ from, to, want string }{
		"another version":     {`"nictune/v1"`, `"nictune/v9"`, `"nictune/v9" "Plan"`},
		"another document":    {`"Plan"`, `"Inventory"`, "not a plan"},
		"an unknown part":     {`"kept"`, `"kpt"`, "kpt"},
		"a field that lies":   {`"after": 5`, `"after": 6`, "contradicts"},
		"an unknown impact":   {`"nic-reset"`, `"party"`, "unknown impact"},
		"a hidden change":     {`"b": 50`, `"b": 51`, "contradicts"},
		"no value":            {`"after": 5`, `"after": null`, "contradicts"},
		"a setting renamed":   {`"second"`, `"first"`, "twice"},
		"without an identity": {`"id": "0000:01`, `"xid": "0000:01`, "xid"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(string(b), change.from, change.to, 1)
			if bad == string(b) {
				t.Fatalf("%s is not in %s", change.from, b)
			}
			if _, err := ParsePlan([]byte(bad)); err == nil || !strings.Contains(err.Error(), change.want) {
				t.Errorf("error %v, want %q", err, change.want)
			}
		})
	}
	if _, err := ParsePlan(append(b, "{}"...)); err == nil {
		t.Error("two documents were taken for one")
	}
}

func FuzzPlan(f *testing.F) {
	b, err := json.Marshal(samplePlan(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"apiVersion":"nictune/v1","kind":"Plan","changes":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlan(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePlan(out)
		if err != nil {
			t.Fatalf("a plan that was read can't be read again: %v\n%s", err, out)
		}
		if err := again.WriteText(&strings.Builder{}); err != nil {
			t.Fatal(err)
		}
	})
}
