package html

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

// exampleHosts are the kinds of host that the example fleet has. Nothing changes them.
var exampleHosts = sync.OnceValue(func() []*fleet.Host {
	var kinds []*fleet.Host
	for i := range 8 {
		r := exampleReport(2+i%3, 8)
		for j := range r.NICs {
			n := &r.NICs[j]
			if n.PCI == nil {
				continue
			}
			n.Firmware = []string{"4.60 0x8001e8dc", "4.20 0x80017784", "4.40 0x8001c7d4"}[i%3]
			if i%3 == 1 {
				n.Link.SpeedMbps = at(10000)
			}
		}
		// A rule fails on one firmware far more often than on the others.
		var kept []findings.Finding
		for _, f := range r.Findings {
			if f.Status != findings.Pass && i%3 != 1 && i != 3 {
				f.Status = findings.Pass
			}
			kept = append(kept, f)
		}
		r.Findings = kept
		kinds = append(kinds, fleet.FromReport(r))
	}
	return kinds
})

// exampleFleet is the report of so many hosts, some of them missing, stale or ahead.
func exampleFleet(t *testing.T, hosts int) *fleet.Report {
	t.Helper()
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	expected := []string{"lost-1.ams2", "lost-2.ams2"}
	for i := range hosts {
		expected = append(expected, fmt.Sprintf("edge-%d.fra1", i))
	}
	a := fleet.NewAggregate(fleet.Options{Source: "reports", Inputs: []string{"/srv/audits"}, Now: now, Version: "v0.6.0", MaxAge: 24 * time.Hour, Expected: expected, SpoolDir: t.TempDir(), Details: 3})
	defer a.Close()
	kinds := exampleHosts()
	for i := range hosts {
		h := *kinds[i%len(kinds)]
		h.Name, h.MachineID, h.Source = fmt.Sprintf("edge-%d.fra1", i), fmt.Sprintf("%032x", i), fmt.Sprintf("edge-%d.json", i)
		h.CollectedAt = now.Add(-time.Duration(i%90+1) * 10 * time.Minute)
		switch i % 100 {
		case 41:
			h.CollectedAt = now.Add(-3 * 24 * time.Hour)
		case 42:
			h.CollectedAt = now.Add(time.Hour)
		}
		if err := a.Add(&h); err != nil {
			t.Fatal(err)
		}
	}
	a.Problem(fleet.Problem{Kind: fleet.Truncated, Source: "edge-900.json", Detail: "unexpected EOF at byte 4096"})
	r, err := a.Report()
	if err != nil {
		t.Fatal(err)
	}
	r.Baseline = &fleet.Difference{
		Before: now.Add(-24 * time.Hour), Now: now, HostsBefore: hosts - 1, HostsNow: hosts, Worse: 1, Better: 1, Unclear: 1,
		Changes: []fleet.Change{
			{Section: "rules", Name: "link/slow", Severity: "warning", Worse: true, Before: 3, BeforeOf: hosts - 1, Now: 30, NowOf: hosts, Unit: "hosts", Hosts: []string{"edge-1.fra1"}},
			{Section: "rules", Name: "link/errors", Severity: "warning", Unclear: true, Before: 3, BeforeOf: hosts - 1, Now: 1, NowOf: hosts, Unit: "hosts"},
			{Section: "pcie", Name: "degraded", Before: 12, BeforeOf: 400, Now: 4, NowOf: 400, Unit: "NICs"},
		},
	}
	return r
}

func fleetBytes(t *testing.T, r *fleet.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Fleet(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFleetPageLooks(t *testing.T) {
	b := newBrowser(t)
	address := b.open(fleetBytes(t, exampleFleet(t, 300)))
	b.run(`document.getElementById("detail-0").parentElement.open = true`, nil)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1280, 400} {
			b.media("screen", scheme)
			b.size(width, 1000)
			what := fmt.Sprintf("fleet-%s-%d", scheme, width)
			b.fits(what)
			b.readable(what)
			b.picture(what, true)
		}
	}
	b.size(1280, 1000)
	b.media("", "light")
	b.named("fleet")
	if pdf := b.paper("fleet"); !bytes.HasPrefix(pdf, []byte("%PDF-")) {
		t.Error("not printed")
	}
	b.quiet(address)
}

func TestFleetPageByKeyboard(t *testing.T) {
	b := newBrowser(t)
	r := exampleFleet(t, 300)
	address := b.open(fleetBytes(t, r))
	b.until("the script ran", `!document.querySelector(".controls").hidden`)
	b.tabTo("#rules-table-search")
	b.tapType("link/module signals")
	const left = `Array.from(document.querySelectorAll("#rules-table tbody tr:not([hidden]) th"), (e) => e.firstChild.textContent)`
	failing := 0
	for _, rule := range r.Rules {
		if rule.FailingHosts > 0 {
			failing++
		}
	}
	b.until("one rule", left+`.join() === "link/module-signals"`)
	b.until("the count is said", fmt.Sprintf(`document.getElementById("rules-table-count").textContent === "1 of %d"`, failing))
	b.press("Tab")
	b.tabTo("#rules-table thead th:nth-child(3) button")
	b.press("Enter")
	b.until("sorted", `document.activeElement.closest("th").getAttribute("aria-sort") === "ascending"`)
	var sorted bool
	b.run(`(() => { const n = Array.from(document.getElementById("rules-table").tBodies[0].rows, (r) => Number(r.cells[2].dataset.sort)); return n.length > 5 && n.every((x, i) => i === 0 || n[i - 1] <= x); })()`, &sorted)
	if !sorted {
		t.Error("the rules are not sorted by how many hosts fail")
	}
	// From a host to what is wrong on it, which is folded until then.
	for i := range r.Details {
		b.until("folded", fmt.Sprintf(`!document.getElementById("detail-%d").parentElement.open`, i))
	}
	b.tabTo(`#hosts-table tbody a[href="#detail-1"]`)
	b.press("Enter")
	b.until("unfolded", `document.getElementById("detail-1").parentElement.open && !document.getElementById("detail-0").parentElement.open`)
	var said string
	b.run(`document.getElementById("detail-1").parentElement.textContent`, &said)
	if f := r.Details[1].Findings[0]; !strings.Contains(said, r.Details[1].Name) || !strings.Contains(said, f.Rule) || !strings.Contains(said, f.Seen) || !strings.Contains(said, r.Details[1].NICs[0].Firmware) {
		t.Errorf("of a host it says %q", said)
	}
	b.press("Tab")
	b.until("the next stop is in it", `document.getElementById("detail-1").parentElement.contains(document.activeElement)`)
	b.quiet(address)
}

// TestFleetPageSaysWhatIsUnknown looks for what must never be taken for well.
func TestFleetPageSaysWhatIsUnknown(t *testing.T) {
	page := string(fleetBytes(t, exampleFleet(t, 300)))
	for _, want := range []string{
		"1 report could not be used. 8 hosts are not counted: nobody knows how they are.", "<bdi>lost-1.ams2</bdi>", "<bdi>edge-41.fra1</bdi>", "<bdi>edge-142.fra1</bdi>",
		"1 truncated", "unexpected EOF at byte 4096", "more hosts fail something and are not listed here", "Worse than their peers",
		"1 worse, 1 better, 1 unclear, where nothing shows that something was mended", `<span class="tag unclear">unclear</span>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page doesn't say %q", want)
		}
	}
	blind := &fleet.Report{Scope: fleet.Scope{Hosts: 2}, Counts: map[findings.Status]int{findings.Error: 7}, Problems: fleet.Problems{Counts: map[fleet.ProblemKind]int{fleet.HostProblem: 1, fleet.Incomplete: 2}}}
	if said := fleetVerdict(blind); said != "Nothing fails on 2 hosts. 7 verdicts could not be given. Hosts tell of 1 problem of their own. Not all is in this report: see the problems." {
		t.Errorf("of hosts that could not be read it says %q", said)
	}
	empty := string(fleetBytes(t, &fleet.Report{}))
	if !strings.Contains(empty, "No host is counted: nothing is known of this fleet.") || strings.Contains(empty, "Nothing fails") {
		t.Error("a report without hosts reads as if all were well")
	}
}

// A host that was asked for by name has a part of the page to itself.
func TestFleetPageOfOneHost(t *testing.T) {
	r := exampleFleet(t, 100)
	r.Scope.Host, r.Details = "edge-1.fra1", r.Details[:1]
	r.Details[0].LeftOut = 17
	page := string(fleetBytes(t, r))
	for _, want := range []string{`<h2 id="detail-0"><bdi>` + r.Details[0].Name, `<li><a href="#detail-0">`, "17 more findings, NICs and settings"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(page, `<details class="host">`) {
		t.Error("it is folded")
	}
}

// TestFleetPageSize shows that the page doesn't grow with the fleet: the lists are
// bounded, and what they leave out is said.
func TestFleetPageSize(t *testing.T) {
	some, more := len(fleetBytes(t, exampleFleet(t, 1200))), len(fleetBytes(t, exampleFleet(t, 2400)))
	if more > 1<<20 || more > some*11/10 {
		t.Errorf("1200 hosts make %d bytes, 2400 make %d", some, more)
	}
}

// TestLongListsOfAbsentHostsAreFolded has names of hosts not be all that is seen of a page.
func TestLongListsOfAbsentHostsAreFolded(t *testing.T) {
	list := func(n int) fleet.NameList { return fleet.NameList{Count: n, Hosts: make([]fleet.NamedHost, n)} }
	var open []string
	for _, a := range absences(&fleet.Scope{Missing: list(few), Stale: list(few + 1), Ahead: list(1), Unexpected: list(2)}) {
		open = append(open, fmt.Sprint(a.ID, " ", a.Open()))
	}
	if got := strings.Join(open, ", "); got != "absent-missing true, absent-stale false, absent-ahead true, absent-unexpected false" {
		t.Error(got)
	}
}

func TestHostileFleet(t *testing.T) {
	b := newBrowser(t)
	r := exampleFleet(t, 300)
	b.open(fleetBytes(t, r))
	b.until("the script ran", `!document.querySelector(".controls").hidden`)
	var usual []string
	b.run(kinds, &usual)
	for _, all := range []bool{false, true} {
		for i, text := range hostile {
			r := exampleFleet(t, 100)
			fill(reflect.ValueOf(r), text, all)
			b.harmless(fmt.Sprintf("text %d, all %t", i, all), fleetBytes(t, r), text, usual)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, test := range []struct {
		n, of int
		want  string
	}{{0, 0, ""}, {0, 10, "0%"}, {1, 10000, "under 0.1%"}, {1, 200, "0.5%"}, {1, 3, "33%"}, {996, 1000, "99%"}, {9999, 10000, "over 99.9%"}, {10, 10, "100%"}} {
		if got := percent(test.n, test.of); got != test.want {
			t.Errorf("%d of %d: %q, want %q", test.n, test.of, got, test.want)
		}
	}
}

func TestSegments(t *testing.T) {
	for _, test := range []struct {
		whole int
		parts []part
		want  string
	}{
		{0, []part{{1, "a"}}, "[]"}, {10, []part{{0, "a"}}, "[]"}, {100, []part{{50, "a"}}, "[{0 100 a}]"}, {10000, []part{{1, "a"}}, "[{0 2 a}]"},
		{4, []part{{1, "a"}, {0, "b"}, {3, "c"}}, "[{0 50 a} {50 150 c}]"}, {2, []part{{200, "a"}, {1, "b"}}, "[{0 200 a}]"},
	} {
		if got := fmt.Sprint(segments(test.whole, test.parts...)); got != test.want {
			t.Errorf("%+v: %s, want %s", test.parts, got, test.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0 s", 0.4: "0 s", 59: "59 s", 3600: "1 h", 3660: "1 h 1 min", 93784: "1 d 2 h", 1e300: "ages"} {
		if got := duration(seconds); got != want {
			t.Errorf("%g s: %q, want %q", seconds, got, want)
		}
	}
}
