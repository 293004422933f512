package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/terminal"
	"github.com/nictune/nictune/findings"
)

//go:generate go test -run TestGolden -update .

var update = flag.Bool("update", false, "rewrite the golden files")

// forms are all forms that other programs read, and the one for people.
func forms() map[string]func(io.Writer, *audit.HostReport) error {
	return map[string]func(io.Writer, *audit.HostReport) error{
		"md": Markdown, "csv": CSV, "sarif": SARIF,
		"xml": func(w io.Writer, r *audit.HostReport) error { return JUnit(w, r, findings.Warning) },
		"txt": func(w io.Writer, r *audit.HostReport) error { return terminal.Audit(w, r, terminal.Screen{}) },
	}
}

// recorded is the report of a host that was recorded in the lab, with two findings of
// each status left, and with what that host had none of.
func recorded(t testing.TB) *audit.HostReport {
	t.Helper()
	data, err := os.ReadFile("../../audit/testdata/reports/lab-vfs.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.ParseHostReport(data)
	if err != nil {
		t.Fatal(err)
	}
	r.Host.Name = "web1.example.org"
	n := map[findings.Status]int{}
	var some []findings.Finding
	for _, f := range r.Findings {
		if n[f.Status]++; n[f.Status] <= 2 || f.Rule == "xdp/native-blocked" {
			some = append(some, f)
		}
	}
	nic := some[1].Subject
	some = append(some,
		findings.Finding{Rule: "link/fec-uncorrectable", Severity: findings.Critical, Status: findings.Error, Subject: nic, Title: "frames are lost that FEC could not mend", Seen: "link.fec: failed: input/output error"},
		findings.Finding{Rule: "pcie/link-degraded", Severity: findings.Warning, Status: findings.Waived, Subject: nic, Title: "a PCIe link runs below what both of its ends can do", Seen: "x4", Expected: "x8",
			Waiver: &findings.Waiver{Reason: "the riser is ordered, NET-4711", Owner: "jane@example.org", Expires: "2027-01-31", Policy: "checks.yaml:9"}},
		findings.Finding{Rule: "user/mtu", Severity: findings.Warning, Status: findings.Fail, Subject: nic, Title: "the MTU is not 9000", Seen: "nic.link.mtu is 1500", Expected: "nic.link.mtu == 9000", Why: "Storage needs it.", Remedy: "ip link set DEV mtu 9000", Policy: "checks.yaml:5",
			Waiver: &findings.Waiver{Reason: "old switch", Owner: "jane", Expires: "2020-01-31", Expired: true, Policy: "checks.yaml:14"}},
	)
	findings.Sort(some)
	r.Findings, r.Counts = some, map[findings.Status]int{}
	said := map[string]bool{}
	for _, f := range some {
		r.Counts[f.Status]++
		said[f.Rule] = true
	}
	r.Rules = slices.DeleteFunc(r.Rules, func(about findings.About) bool { return !said[about.ID] })
	r.Rules = append(r.Rules, findings.About{ID: "user/mtu", Severity: findings.Warning, Title: "the MTU is not 9000", Why: "Storage needs it.", Remedy: "ip link set DEV mtu 9000", Sources: []string{"house.yaml:6"}})
	notApplied := r.Findings[slices.IndexFunc(r.Findings, func(f findings.Finding) bool { return f.Status == findings.NotApplicable })].Rule
	earlier := *r
	earlier.CollectedAt = r.CollectedAt.Add(-24 * time.Hour)
	earlier.Findings = nil
	for _, f := range r.Findings {
		switch f.Rule {
		case "user/mtu":
			f.Status = findings.Pass
		case "sriov/drops", "link/fec-uncorrectable", notApplied:
			f.Status = findings.Fail
		}
		earlier.Findings = append(earlier.Findings, f)
	}
	earlier.Findings = append(earlier.Findings, findings.Finding{
		Rule: "link/down", Severity: findings.Warning, Status: findings.Fail, Subject: findings.Subject{ID: "0000:09:00.0/52:54:00:00:09:00", Name: "eth9"}, Title: "the device is up and has no link",
	})
	r.Baseline = audit.Compare(&earlier, r)
	r.Drift = []audit.DriftSummary{{Policy: "edge", NIC: nic.ID, Name: nic.Name, Setting: "rings", Status: audit.Drifted}, {Policy: "edge", NIC: nic.ID, Name: nic.Name, Setting: "channels", Status: audit.AsWanted}}
	r.Problems = []string{"checks.yaml:3: match of checks: nic.link.speedMbps is not known"}
	return r
}

func rendered(t testing.TB, write func(io.Writer, *audit.HostReport) error, r *audit.HostReport) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for name, write := range forms() {
		file := "testdata/report." + name
		got := rendered(t, write, recorded(t))
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is stale: run go generate ./exporters/report", file)
		}
	}
}

// An empty report has all of its form, and says that nothing was judged.
func TestEmpty(t *testing.T) {
	r := &audit.HostReport{}
	for name, write := range forms() {
		text := rendered(t, write, r)
		if name == "txt" && !strings.Contains(text, "NOTHING WAS JUDGED") {
			t.Errorf("text: %s", text)
		}
	}
	wellFormed(t, r)
}

// hostile is text that somebody put into a name, a serial number or a policy.
var hostile = []string{
	"=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", " =1", "\r=1", "\n=1",
	`"; DROP TABLE`, `a"b'c`, "a\nb\r\nc", "a\tb", "\x00\x01\x1b[31mred\x1b[0m\x7f", "\xff\xfe invalid", "\u202egnp.exe", "\u2028next", "\ufeff\uffff",
	"<script>alert(1)</script>", "</failure></testcase>", "]]>", "<!-- x -->", "&lt;&amp;", "<img src=x onerror=alert(1)>",
	"| a | b |", `\| a`, `\\|`, "`|`", "``", "![x](http://evil.example/a.png)", "[x](javascript:alert(1))", "http://evil.example/", "www.evil.example", "@everyone", "#1", "GH-1", ":cd:", "~~x~~", "# title", "- item", "1. item", "---", "***",
	"%n%s%d", "${jndi:ldap://evil}", "{{7*7}}", strings.Repeat("long", 100),
}

// with is a report in which all text is the given one.
func with(s string) *audit.HostReport {
	subject := findings.Subject{ID: s, Host: s, Name: s, PCIAddress: s, PermanentMAC: s, Part: s}
	waiver := func(expired bool) *findings.Waiver {
		return &findings.Waiver{Reason: s, Owner: s, Expires: s, Policy: s, Expired: expired}
	}
	r := &audit.HostReport{
		CollectedAt: time.Unix(0, 0), Version: s,
		Host:   audit.HostSummary{Name: s, MachineID: s, Kernel: s, Distribution: s, Architecture: s},
		Counts: map[findings.Status]int{findings.Fail: 2, findings.Error: 1, findings.Waived: 1, findings.Pass: 1, findings.Unknown: 1},
		Rules:  []findings.About{{ID: s, Severity: findings.Warning, Title: s, Why: s, Remedy: s, Sources: []string{s, s}}},
		Findings: []findings.Finding{
			{Rule: s, Severity: findings.Critical, Status: findings.Fail, Subject: subject, Title: s, Seen: s, Expected: s, Why: s, Remedy: s, Policy: s, Waiver: waiver(true)},
			{Rule: s, Severity: findings.Info, Status: findings.Fail, Subject: subject, Title: s, Seen: s, Expected: s, Why: s, Remedy: s, Exact: true},
			{Rule: s, Severity: findings.Warning, Status: findings.Error, Subject: subject, Title: s, Seen: s},
			{Rule: s, Severity: findings.Warning, Status: findings.Waived, Subject: subject, Title: s, Seen: s, Waiver: waiver(false)},
			{Rule: s, Severity: findings.Warning, Status: findings.Pass, Subject: subject, Title: s, Seen: s},
			{Rule: s, Severity: findings.Warning, Status: findings.Unknown, Subject: subject, Title: s, Seen: s},
		},
		NICs:     []audit.NICSummary{{ID: s, Name: s, Driver: s, PCI: &audit.PCISummary{Address: s, Device: s}}},
		Drift:    []audit.DriftSummary{{Policy: s, NIC: s, Status: audit.Drifted}},
		Problems: []string{s, s},
	}
	change := audit.Change{Rule: s, Severity: findings.Warning, Title: s, Subject: subject, Seen: s}
	r.Baseline = &audit.Difference{New: []audit.Change{change}, Fixed: []audit.Change{change}, Gone: []audit.Change{change}, NotApplicable: []audit.Change{change}, Unclear: []audit.Change{change}}
	return r
}

// Whatever hosts and policies say, each form stays what it is, and nothing in it is
// obeyed by who reads it.
func TestHostileText(t *testing.T) {
	for _, s := range hostile {
		wellFormed(t, with(s))
	}
}

func FuzzText(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		const enough = 64 // what matters is how text begins, and what stands beside what
		r := with(s[:min(len(s), enough)])
		r.Findings, r.Counts = r.Findings[:1], map[findings.Status]int{findings.Fail: 1}
		r.Rules, r.Problems, r.Baseline, r.Drift = r.Rules[:1], r.Problems[:1], nil, nil
		wellFormed(t, r)
	})
}

func wellFormed(t *testing.T, r *audit.HostReport) {
	t.Helper()
	about := r.Host.Name
	for name, write := range forms() {
		text := rendered(t, write, r)
		if !utf8.ValidString(text) {
			t.Errorf("%q: %s is no UTF-8", about, name)
		}
		for _, c := range text {
			if unicode.IsControl(c) && c != '\n' && c != '\t' && !(name == "csv" && c == '\r') || unicode.Is(unicode.Bidi_Control, c) {
				t.Errorf("%q: %s has the control character %U", about, name, c)
				break
			}
		}
		switch name {
		case "csv":
			checkCSV(t, r, text)
		case "xml":
			checkJUnit(t, r, text)
		case "sarif":
			checkSARIF(t, r, text)
		case "md":
			checkMarkdown(t, r, text)
		}
	}
}

func checkCSV(t *testing.T, r *audit.HostReport, text string) {
	t.Helper()
	if strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
		t.Errorf("%q: a line of CSV ends in no CRLF", r.Host.Name)
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != len(r.Findings)+1 {
		t.Fatalf("%q: CSV has %d rows: %v", r.Host.Name, len(rows), err)
	}
	for _, row := range rows {
		for _, cell := range row {
			if strings.IndexAny(strings.TrimSpace(cell), "=+-@") == 0 || strings.IndexAny(cell, "\t\r") == 0 {
				t.Errorf("%q: a spreadsheet would compute %q", r.Host.Name, cell)
			}
		}
	}
}

func checkJUnit(t *testing.T, r *audit.HostReport, text string) {
	t.Helper()
	var read junitSuites
	if err := xml.Unmarshal([]byte(text), &read); err != nil {
		t.Fatalf("%q: JUnit: %v\n%s", r.Host.Name, err, text)
	}
	total, names := 0, map[string]bool{}
	for _, s := range read.Suites {
		failures, errs, skipped := 0, 0, 0
		for _, c := range s.Cases {
			if c.Failure != nil {
				failures++
			}
			if c.Error != nil {
				errs++
			}
			if c.Skipped != nil {
				skipped++
			}
			if key := c.Class + "\n" + c.Name; names[key] {
				t.Errorf("%q: JUnit has two test cases of one name", r.Host.Name)
			} else {
				names[key] = true
			}
		}
		if s.Tests != len(s.Cases) || s.Failures != failures || s.Errors != errs || s.Skipped != skipped {
			t.Errorf("%q: the suite %q counts %d, %d, %d, %d and has %d, %d, %d, %d", r.Host.Name, s.Name, s.Tests, s.Failures, s.Errors, s.Skipped, len(s.Cases), failures, errs, skipped)
		}
		total += s.Tests
	}
	if total != len(r.Findings)+len(r.Problems) || read.Tests != total {
		t.Errorf("%q: %d test cases of %d findings", r.Host.Name, total, len(r.Findings))
	}
}

func checkSARIF(t *testing.T, r *audit.HostReport, text string) {
	t.Helper()
	var log sarifLog
	if err := json.Unmarshal([]byte(text), &log); err != nil || len(log.Runs) != 1 {
		t.Fatalf("%q: SARIF: %v", r.Host.Name, err)
	}
	run := &log.Runs[0]
	fingerprints, absent := map[string]bool{}, 0
	for _, one := range run.Results {
		if one.RuleIndex != nil && run.Tool.Driver.Rules[*one.RuleIndex].ID != one.RuleID {
			t.Errorf("%q: SARIF: rule %d is not %s", r.Host.Name, *one.RuleIndex, one.RuleID)
		}
		if one.Baseline == "absent" {
			absent++
			continue
		}
		if own := one.Fingerprints[fingerprint]; own == "" || fingerprints[own] {
			t.Errorf("%q: SARIF: the fingerprint %q is another's", r.Host.Name, own)
		} else {
			fingerprints[own] = true
		}
	}
	want := r.Counts[findings.Fail] + r.Counts[findings.Error] + r.Counts[findings.Unknown] + r.Counts[findings.Waived]
	for i, is := range changes(r) {
		if is == notApplicable && r.Findings[i].Status == findings.NotApplicable {
			want++
		}
	}
	if len(fingerprints) != want || r.Baseline != nil && absent != len(r.Baseline.Fixed)+len(r.Baseline.Gone) {
		t.Errorf("%q: SARIF has %d results and %d absent ones, want %d", r.Host.Name, len(fingerprints), absent, want)
	}
}

// What in Markdown is neither a code span, a comment of ours nor escaped.
var (
	codeSpan  = regexp.MustCompile("`[^`|\\\\]+`")
	obeyed    = regexp.MustCompile(`@[A-Za-z]|://|www\.\S`)
	ours      = regexp.MustCompile(`<!-- -->|<br>`)
	backslash = regexp.MustCompile(`\\[!-/:-@\[-` + "`" + `{-~]`)
)

func checkMarkdown(t *testing.T, r *audit.HostReport, text string) {
	t.Helper()
	cells := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		bare := ours.ReplaceAllString(backslash.ReplaceAllString(codeSpan.ReplaceAllString(line, "c"), "e"), "\x00")
		switch pipes := strings.Count(bare, "|"); {
		case pipes == 0:
			cells = 0
		case cells == 0:
			cells = pipes
		case pipes != cells:
			t.Errorf("%q: Markdown: %d cells in a table of %d: %s", r.Host.Name, pipes-1, cells-1, line)
		}
		if strings.ContainsAny(bare, "<>[]`") || obeyed.MatchString(bare) {
			t.Errorf("%q: Markdown would obey %s", r.Host.Name, line)
		}
	}
}

// What is below the threshold, waived or unknown is no failure of a CI run, and no
// pass either.
func TestJUnitThreshold(t *testing.T) {
	r := recorded(t)
	for least, want := range map[findings.Severity]int{findings.Info: 4, findings.Warning: 2, findings.Critical: 0} {
		var read junitSuites
		var b bytes.Buffer
		if err := JUnit(&b, r, least); err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(b.Bytes(), &read); err != nil {
			t.Fatal(err)
		}
		if passed := read.Tests - read.Failures - read.Errors - skipped(&read); read.Failures != want || passed != r.Counts[findings.Pass] || read.Errors != 2 {
			t.Errorf("from %s on %d fail and %d pass, want %d and %d", least, read.Failures, passed, want, r.Counts[findings.Pass])
		}
	}
}

func skipped(all *junitSuites) (n int) {
	for _, s := range all.Suites {
		n += s.Skipped
	}
	return n
}

// A case has the same name when its device has another, so that CI knows it again.
func TestJUnitNamesStay(t *testing.T) {
	cases := func(r *audit.HostReport) (names []string) {
		var read junitSuites
		if err := xml.Unmarshal([]byte(rendered(t, forms()["xml"], r)), &read); err != nil {
			t.Fatal(err)
		}
		for _, s := range read.Suites {
			for _, c := range s.Cases {
				names = append(names, c.Class+" "+c.Name)
			}
		}
		slices.Sort(names)
		return names
	}
	r := recorded(t)
	// Hosts have one finding of a rule for each subject.
	r.Findings = slices.DeleteFunc(r.Findings, func(f findings.Finding) bool { return f.Status == findings.Error })
	before := cases(r)
	for i := range r.Findings {
		if s := &r.Findings[i].Subject; s.PCIAddress != "" {
			s.Name = "renamed" + s.Name
		}
	}
	if after := cases(r); !slices.Equal(before, after) {
		t.Errorf("before\n%s\nand after\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if want := "sriov.unbound 0000:01:00.0/52:54:00:00:01:00 vf 3"; !slices.Contains(before, want) {
		t.Errorf("%q is not among %q", want, before)
	}
}

// Lines of text for people fit a console of 80 columns.
func TestTextFits(t *testing.T) {
	text := rendered(t, forms()["txt"], recorded(t))
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
