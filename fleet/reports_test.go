package fleet

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// recorded are reports of hosts of the lab.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("../audit/testdata/reports/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no reports: %v", err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		if all[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// small is the report of a host on which one rule passes and one fails.
func small(name string, changes ...func(*audit.HostReport)) *audit.HostReport {
	r := &audit.HostReport{
		APIVersion: inventory.APIVersion, Kind: audit.HostKind, CollectedAt: testNow.Add(-time.Minute),
		Host: audit.HostSummary{Name: name, MachineID: "id-" + name},
		Findings: []findings.Finding{
			{Rule: "link/slow", Severity: findings.Warning, Status: findings.Fail, Subject: findings.Subject{ID: "a", Name: "eth0"}, Title: "slow"},
			{Rule: "link/down", Severity: findings.Warning, Status: findings.Pass, Subject: findings.Subject{ID: "a", Name: "eth0"}},
		},
		NICs: []audit.NICSummary{{ID: "a", Name: "eth0", Kind: inventory.Plain}},
	}
	for _, change := range changes {
		change(r)
	}
	recount(r)
	return r
}

// recount makes a report count what it lists.
func recount(r *audit.HostReport) {
	r.Counts = map[findings.Status]int{}
	for _, f := range r.Findings {
		r.Counts[f.Status]++
	}
}

func compact(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func indented(t testing.TB, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// read makes the report of what standard input says.
func read(t testing.TB, o Options, stdin string, paths ...string) *Report {
	t.Helper()
	return readFrom(t, o, strings.NewReader(stdin), paths...)
}

func readFrom(t testing.TB, o Options, reader io.Reader, paths ...string) *Report {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = testNow
	}
	a := NewAggregate(o)
	defer a.Close()
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	err := ReadReports(t.Context(), a, paths, reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Report()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The ways to put reports together, and what can be wrong with them. The hosts that
// count are a, b, ...; what is wrong is named, with the host where it can be told.
func TestOddInput(t *testing.T) {
	a, b := small("a"), small("b")
	long := indented(t, a)
	for _, test := range []struct {
		name, stdin string
		hosts       int
		problems    string // kinds and hosts
	}{
		{"one", compact(t, a), 1, ""},
		{"lines", compact(t, a) + "\n" + compact(t, b) + "\r\n\n", 2, ""},
		{"on one line", compact(t, a) + compact(t, b), 2, ""},
		{"indented", long + indented(t, b), 2, ""},
		{"a list", "[" + compact(t, a) + ",\n" + compact(t, b) + "]\n", 2, ""},
		{"a mark of UTF-8", "\xef\xbb\xbf" + long, 1, ""},
		{"marks of RFC 7464", "\x1e" + compact(t, a) + "\n\x1e" + compact(t, b), 2, ""},
		{"nothing", "", 0, "truncated "},
		{"white space", " \n ", 0, "truncated "},
		{"cut at the end", long + indented(t, b)[:len(long)/2], 1, "truncated b"},
		{"cut before the name", compact(t, a) + "\n" + compact(t, b)[:30], 1, "truncated "},
		{"a line cut in half", compact(t, a)[:300] + "\n" + compact(t, b) + "\n", 1, "truncated a"},
		{"cut in half, and the next on the same line", compact(t, a)[:300] + compact(t, b) + "\n" + compact(t, small("c")), 2, "truncated a"},
		{"cut in half, indented", long[:len(long)/2] + indented(t, b), 1, "truncated a"},
		{"cut in a string, after a backslash", compact(t, small("a", func(r *audit.HostReport) { r.Problems = []string{`\`} }))[:330] + `\` + compact(t, b), 1, "truncated a"},
		{"a word before", "reports:\n" + compact(t, a), 1, "malformed "},
		{"a word between", long + "end of a\n" + indented(t, b) + "42", 2, "malformed , malformed "},
		{"unbalanced", `{"apiVersion":"nictune/v1","host":{"name":"x"}]}` + "\n" + compact(t, a), 1, "malformed , malformed x"},
		{"another kind", compact(t, map[string]any{"apiVersion": "nictune/v1", "kind": "Inventory", "host": map[string]any{"name": "x"}, "nics": 3}) + long, 1, "wrong-kind x"},
		{"check's", strings.Replace(compact(t, a), audit.HostKind, audit.Kind, 1), 0, "wrong-kind a"},
		{"of no kind", "{}" + long, 1, "wrong-kind "},
		{"a newer version", strings.Replace(compact(t, a), "nictune/v1", "nictune/v2", 1) + long, 1, "newer-version a"},
		{"no name", compact(t, small("")) + long, 1, "nameless "},
		{"no time", compact(t, small("x", func(r *audit.HostReport) { r.CollectedAt = time.Time{} })) + long, 1, "nameless x"},
		{"no findings", `{"apiVersion":"nictune/v1","kind":"AuditReport","collectedAt":"2026-07-01T11:00:00Z","host":{"name":"x"},"nics":[]}` + long, 1, "malformed x"},
		{"findings that are none", strings.Replace(compact(t, small("x")), `"findings":[`, `"findings":{},"x":[`, 1) + long, 1, "malformed x"},
		{"findings cut out", strings.Replace(compact(t, small("x")), `"counts":{"fail":1,"pass":1}`, `"counts":{"fail":100,"pass":1}`, 1) + long, 1, "malformed x"},
		{"findings that nobody counted", strings.Replace(compact(t, small("x")), `"counts":{"fail":1,"pass":1}`, `"counts":{"pass":1}`, 1) + long, 1, "malformed x"},
		{"empty objects", strings.Replace(compact(t, small("x")), `"nics":[`, `"drift":[`+strings.Repeat("{},", 2000)+`{}],"nics":[`, 1) + long, 1, "malformed x"},
		{"nothings", strings.Replace(compact(t, small("x")), `"nics":[`, `"nics":[`+strings.Repeat("null,", 2000), 1) + long, 1, "malformed x"},
		{"a word for a number", strings.Replace(compact(t, small("x")), `"collectedAt":"`, `"collectedAt":"about `, 1) + long, 1, "malformed x"},
		{"twice", long + long, 1, "repeated a"},
		{"no UTF-8", strings.Replace(compact(t, a), `"slow"`, "\"slo\xff\"", 1), 1, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A byte at a time, so that every boundary lies between two reads.
			r := readFrom(t, Options{}, iotest.OneByteReader(strings.NewReader(test.stdin)))
			var problems []string
			for _, p := range r.Problems.List {
				problems = append(problems, string(p.Kind)+" "+p.Host)
			}
			if got := strings.Join(problems, ", "); r.Scope.Hosts != test.hosts || got != test.problems {
				t.Errorf("%d hosts, want %d; problems %q, want %q\n%+v", r.Scope.Hosts, test.hosts, got, test.problems, r.Problems.List)
			}
			if r.Counts[findings.Fail] != test.hosts || r.Counts[findings.Pass] != test.hosts {
				t.Errorf("counts %v of %d hosts", r.Counts, test.hosts)
			}
			if test.problems != "" && !strings.HasPrefix(test.problems, "repeated") && !r.Failed(findings.Critical) {
				t.Error("a report that could not be used goes by as clean")
			}
		})
	}
}

// A report cut anywhere is named, and never takes the next one with it.
func TestCutAnywhere(t *testing.T) {
	for _, form := range []func(testing.TB, any) string{compact, indented} {
		whole, next := form(t, small("a", func(r *audit.HostReport) { r.Problems = []string{`a "quote" \ and {"brace`} })), form(t, small("b"))
		for n := 1; n < len(strings.TrimSpace(whole)); n++ {
			s := newSplitter(strings.NewReader(whole[:n] + next))
			piece, err := s.next()
			if _, problem := decode(piece, "", err); problem == nil || problem.Kind != Truncated {
				t.Fatalf("cut at %d (%q): %+v", n, whole[max(0, n-20):n], problem)
			}
			piece, err = s.next()
			if h, problem := decode(piece, "", err); problem != nil || h.Name != "b" {
				t.Fatalf("the next after a cut at %d (%q): %+v", n, whole[max(0, n-20):n], problem)
			}
			if _, err := s.next(); !errors.Is(err, io.EOF) {
				t.Fatalf("cut at %d: more than was put in: %v", n, err)
			}
		}
	}
}

// A report that has no end is let go of when it is too long, and the next one is read.
func TestTooLarge(t *testing.T) {
	s := newSplitter(strings.NewReader(`{"apiVersion": "` + strings.Repeat("x", 1<<20) + compact(t, small("b"))))
	s.limit, s.buf = 10000, make([]byte, 0, 512)
	if piece, err := s.next(); err == nil || !strings.Contains(err.Error(), "too large") || len(piece) > 16<<10 || cap(s.buf) > 40000 {
		t.Errorf("%d bytes, error %v, a buffer of %d", len(piece), err, cap(s.buf))
	}
	if piece, err := s.next(); err != nil || string(piece) != compact(t, small("b")) {
		t.Errorf("the next: %q, %v", piece, err)
	}
}

// Folders are read with the folders in them; packed files as others. What is not read is
// named.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, compact(t, small("packed"))+"\n"+compact(t, small("packed too")))
	z.Close()
	zst, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zpacked := string(zst.EncodeAll([]byte(compact(t, small("f"))), nil))
	for name, text := range map[string]string{
		"f.json.zst": zpacked, "cut.json.zst": zpacked[:len(zpacked)-9],
		"a.json": indented(t, small("a")), "rack/b.JSON": compact(t, small("b")), "c.jsonl": compact(t, small("c")) + "\n",
		"d.json.gz": packed.String(), "cut.json.gz": packed.String()[:packed.Len()-30], ".e.json.x7": "half", "README": "hello",
		"z.json": "\x28\xb5\x2f\xfd packed", "empty.json": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link.json": "a.json", "dangling.json": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := read(t, Options{}, "", dir)
	want := map[ProblemKind]int{PassedOver: 1, Unreadable: 4, Truncated: 2, Repeated: 1}
	if r.Scope.Hosts != 6 || !maps.Equal(r.Problems.Counts, want) {
		t.Errorf("%d hosts, problems %+v", r.Scope.Hosts, r.Problems)
	}
	for _, p := range r.Problems.List {
		if !strings.HasPrefix(p.Source, dir) {
			t.Errorf("a problem of nowhere: %+v", p)
		}
	}
	a := NewAggregate(Options{Now: testNow})
	defer a.Close()
	if err := ReadReports(t.Context(), a, []string{dir + "/nothing"}, nil); !os.IsNotExist(err) {
		t.Errorf("a path of nothing: %v", err)
	}
}

// What the reader takes of a report is what is in it: the short way of reading gives the
// same as the long one, and its sums are those of the host's own.
func TestAgreesWithTheHostsOwnReport(t *testing.T) {
	for name, text := range recorded(t) {
		t.Run(name, func(t *testing.T) {
			var own audit.HostReport
			if err := json.Unmarshal(text, &own); err != nil {
				t.Fatal(err)
			}
			got, problem := decode(text, "", nil)
			if problem != nil {
				t.Fatal(problem)
			}
			if want := FromReport(&own); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %s\nwant %s", compact(t, got), compact(t, want))
			}
			r := read(t, Options{Now: own.CollectedAt.Add(time.Minute)}, string(text))
			agrees(t, r, &own)
		})
	}
}

// agrees holds a fleet's report against the reports of its hosts.
func agrees(t *testing.T, r *Report, hosts ...*audit.HostReport) {
	t.Helper()
	counts := map[findings.Status]int{}
	rules := map[string]map[findings.Status]int{}
	nics, vfs, drift := 0, 0, 0
	for _, h := range hosts {
		for _, f := range h.Findings {
			counts[f.Status]++
			key := f.Rule + " " + string(f.Severity)
			if rules[key] == nil {
				rules[key] = map[findings.Status]int{}
			}
			rules[key][f.Status]++
		}
		for _, n := range h.NICs {
			if n.Kind != inventory.Virtual && n.Kind != inventory.VF {
				nics++
			}
			if n.SRIOV != nil && n.SRIOV.NumVFs != nil {
				vfs += *n.SRIOV.NumVFs
			}
		}
		for _, d := range h.Drift {
			if d.Status == audit.Drifted {
				drift++
			}
		}
	}
	if !maps.Equal(r.Counts, counts) {
		t.Errorf("counts %v, the hosts' are %v", r.Counts, counts)
	}
	if len(r.Rules) != len(rules) {
		t.Errorf("%d rules, the hosts have %d", len(r.Rules), len(rules))
	}
	for _, rule := range r.Rules {
		if want := rules[rule.Rule+" "+string(rule.Severity)]; !maps.Equal(rule.Subjects, want) {
			t.Errorf("%s: %v, the hosts have %v", rule.Rule, rule.Subjects, want)
		}
	}
	got := 0
	for _, p := range r.Drift.Policies {
		got += p.Drifted
	}
	if r.Scope.Hosts != len(hosts) || r.Scope.NICs != nics || r.Scope.VFs != vfs || got != drift {
		t.Errorf("hosts %d, NICs %d, VFs %d, drift %d; want %d, %d, %d, %d", r.Scope.Hosts, r.Scope.NICs, r.Scope.VFs, got, len(hosts), nics, vfs, drift)
	}
}

// Text of a host goes through as it is: whoever renders it escapes it.
func TestHostileText(t *testing.T) {
	const evil = "</script><script>alert(1)</script>\"'\n\x1b[31m,=cmd|"
	r := read(t, Options{Expected: []string{"b\"\n"}}, compact(t, small(evil, func(r *audit.HostReport) {
		r.NICs[0].Driver, r.NICs[0].Readiness = evil, map[string]string{evil: evil}
		r.Findings[0].Title = evil
	})))
	if r.Scope.Hosts != 1 || r.Hosts.Worst[0].Name != evil || r.Drivers.Worst[0].Of != evil || r.Readiness[0].Unknown != 1 {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(names(r.Scope.Missing), []string{"b\"\n"}) {
		t.Errorf("missing %+v", r.Scope.Missing)
	}
}

// Whatever the bytes are, each ends as a host, a problem, or nothing, and no host comes
// out that is not in them.
func FuzzReports(f *testing.F) {
	for _, text := range []string{
		compact(f, small("a")), indented(f, small("a"))[:200] + compact(f, small("b")), "[{}]", `{"apiVersion":"nictune/v1","kind":"AuditReport"}`,
		`{"a":"\"{\\"}{"apiVersion":1}`, "\x1f\x8b", "garbage\n{\"", `{"host":{"name":"x"},"findings":[{"rule":3`, compact(f, host("x")),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a := NewAggregate(Options{Now: testNow})
		defer a.Close()
		if err := ReadReports(t.Context(), a, []string{"-"}, iotest.HalfReader(bytes.NewReader(text))); err != nil {
			t.Fatal(err)
		}
		r, err := a.Report()
		if err != nil {
			t.Fatal(err)
		}
		if r.Scope.Hosts == 0 && len(r.Problems.List) == 0 {
			t.Errorf("%q went by without a word", text)
		}
		if r.Scope.Hosts > bytes.Count(text, []byte("AuditReport")) && !bytes.Contains(text, []byte(`\`)) && !bytes.HasPrefix(text, []byte("\x1f\x8b")) {
			t.Errorf("%d hosts in %q", r.Scope.Hosts, text)
		}
	})
}

// BenchmarkDecode is the reading of one report.
func BenchmarkDecode(b *testing.B) {
	text := recorded(b)["lab-nics.json"]
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, p := decode(text, "", nil); p != nil {
			b.Fatal(p)
		}
	}
}
