package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

const evilText = "</td><script>alert(1)</script>\"'|`*_[x](y)\n\x1b[31m"

// fleetOf is the report of hosts, of which one is hostile and one missing.
func fleetOf(t *testing.T) *fleet.Report {
	t.Helper()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	a := fleet.NewAggregate(fleet.Options{Now: now, MaxAge: time.Hour, Expected: []string{"gone"}, Top: 2, Source: "reports", Inputs: []string{"audits"}})
	defer a.Close()
	low, room := -0.5, -0.02
	speed, most, downs, yes := 10000, 25000, uint64(7), true
	for i := range 4 {
		h := fleet.Host{Name: fmt.Sprintf("web-%d", i), MachineID: fmt.Sprint(i), CollectedAt: now.Add(-5 * time.Minute)}
		if i == 3 {
			h.Name = "=cmd|' /C calc'!A0" + evilText
		}
		h.Verdicts = []fleet.Verdict{
			{Rule: "link/slow", Severity: findings.Warning, Status: findings.Fail, Subjects: 1 + i},
			{Rule: "link/down", Severity: findings.Warning, Status: findings.Pass, Subjects: 1},
		}
		h.NICs = []fleet.NIC{{
			ID: "a", Device: "eth0", Address: "0000:3b:00.0", Kind: "pf", Model: "E810", Driver: "ice", Firmware: "4.20", Carrier: &yes,
			SpeedMbps: &speed, MaxSpeedMbps: &most, Downs: &downs,
			Optics: []fleet.Optic{{Quantity: "rx-power", Lane: 1, Unit: "dBm", Margin: &low, Room: &room, Verdict: "low-warning"}},
		}}
		h.Waivers = []fleet.Waiver{{Rule: "link/eee", Owner: "@everybody", Expires: "2026-06-30", Reason: evilText, Subjects: 1}}
		if err := a.Add(&h); err != nil {
			t.Fatal(err)
		}
	}
	r, err := a.Report()
	if err != nil {
		t.Fatal(err)
	}
	earlier := *r
	earlier.Links.Below = 1
	r.Baseline = fleet.Compare(&earlier, r, 0)
	return r
}

// Each form says what matters, bounds what is long, and obeys no host.
func TestFleetForms(t *testing.T) {
	r := fleetOf(t)
	for name, form := range map[string]func(*bytes.Buffer) error{
		"text":     func(b *bytes.Buffer) error { return FleetText(b, r) },
		"markdown": func(b *bytes.Buffer) error { return FleetMarkdown(b, r) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := form(&b); err != nil {
				t.Fatal(err)
			}
			got := b.String()
			for _, want := range []string{"4 hosts", "gone", "1 host expected: 1 missing", "link/slow", "E810", "10000", "expired", "nd 2 more", "worse", "-2.0%"} {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing from\n%s", want, got)
				}
			}
			if strings.Contains(got, "\x1b") || name == "markdown" && strings.Contains(got, "<script") {
				t.Errorf("a host's text is obeyed:\n%s", got)
			}
			if name == "markdown" {
				for l := range strings.Lines(got) {
					if strings.HasPrefix(l, "|") && !strings.HasSuffix(l, "|\n") {
						t.Errorf("a row that is torn: %q", l)
					}
				}
			}
			if strings.Contains(got, "link/down") {
				t.Error("a rule that passes everywhere is among what people are to look at")
			}
		})
	}
}

// What could not be judged is said beside what doesn't fail.
func TestFleetSaysWhatCouldNotBeJudged(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	a := fleet.NewAggregate(fleet.Options{Now: now})
	defer a.Close()
	h := fleet.Host{
		Name: "web", CollectedAt: now, Problems: []string{"two policies contradict each other"},
		Verdicts: []fleet.Verdict{{Rule: "link/down", Severity: findings.Warning, Status: findings.Error, Subjects: 3}},
	}
	if err := a.Add(&h); err != nil {
		t.Fatal(err)
	}
	a.Problem(fleet.Problem{Kind: fleet.Incomplete, Host: "web"})
	r, err := a.Report()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := FleetText(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 verdicts could not be given.", "Hosts tell of 1 problem of their own.", "Not all is in this report"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing from\n%s", want, &b)
		}
	}
}

// A host with a long name makes its own row hard to read, not all others.
func TestLongNamesAreCut(t *testing.T) {
	long := "first" + strings.Repeat("x", 251) + "last"
	b := &strings.Builder{}
	writeText(b, table{title: "hosts", columns: []string{"host", "source"}, brief: -1, rows: [][]string{{"web", "a.json"}, {long, long}}})
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 6 || utf8.RuneCountInString(lines[3]) != widest+2+len("a.json") {
		t.Fatalf("%d lines:\n%s", len(lines), b)
	}
	if got := lines[4]; !strings.HasPrefix(got, "firstx") || !strings.Contains(got, "xlast  firstx") || !strings.HasSuffix(got, long) {
		t.Error(got)
	}
}

// A table as CSV is whole, has as many cells in each row, numbers as numbers, and no
// formula.
func TestFleetCSV(t *testing.T) {
	r := fleetOf(t)
	for _, name := range FleetTables() {
		var b bytes.Buffer
		if err := FleetCSV(&b, r, name); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(&b).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, row := range rows {
			for _, cell := range row {
				if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "@") || strings.Contains(cell, "\x1b") {
					t.Errorf("%s: cell %q", name, cell)
				}
			}
		}
		switch name {
		case "rules":
			if len(rows) != 3 || !slices.Contains(rows[0], "rule") {
				t.Errorf("rules: %q", rows)
			}
		case "optics":
			if i := slices.Index(rows[0], "margin"); rows[1][i] != "-0.5" {
				t.Errorf("a margin is %q", rows[1][i])
			}
		}
	}
	if err := FleetCSV(&bytes.Buffer{}, r, "nothing"); err == nil || !strings.Contains(err.Error(), "rules") {
		t.Errorf("a table that isn't there: %v", err)
	}
}

// What changed, in each form, also where nothing did.
func TestDifferenceForms(t *testing.T) {
	r := fleetOf(t)
	same := fleet.Compare(r, r, 0)
	r.Baseline.Unclear++
	r.Baseline.Changes = append(r.Baseline.Changes, fleet.Change{Section: "rules", Name: "link/errors", Unclear: true, Before: 2, Now: 1, Unit: "hosts"})
	for name, form := range map[string]func(*bytes.Buffer, *fleet.Difference) error{
		"text":     func(b *bytes.Buffer, d *fleet.Difference) error { return DifferenceText(b, d) },
		"markdown": func(b *bytes.Buffer, d *fleet.Difference) error { return DifferenceMarkdown(b, d) },
		"csv":      func(b *bytes.Buffer, d *fleet.Difference) error { return DifferenceCSV(b, d) },
	} {
		var b, none bytes.Buffer
		if err := form(&b, r.Baseline); err != nil {
			t.Fatal(err)
		}
		if err := form(&none, same); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); !strings.Contains(got, "below maximum") || !strings.Contains(got, "1 of 4") || !strings.Contains(got, "4 of 4") || !strings.Contains(got, "unclear") {
			t.Errorf("%s:\n%s", name, got)
		}
		if strings.Contains(none.String(), "worse,") && name == "csv" || name != "csv" && !strings.Contains(none.String(), "Nothing changed.") {
			t.Errorf("%s:\n%s", name, none.String())
		}
	}
}
