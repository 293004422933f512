package html

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

// fleetPage is what the page of a fleet shows.
type fleetPage struct {
	*fleet.Report
	Name    string
	Facts   []fact
	Verdict string
	Tiles   []tile
	Absent  []absent
	// Failing are the rules that fail somewhere, Others the rest.
	Failing, Others []fleet.RuleTotal
	Ages            []bar
	Kinds           []groupTable
	Margins         []bar
	Drivers         []bar
	Ready           []bar
	// Named are the hosts that were asked for, Shown those of the worst that the report
	// has more of.
	Named, Shown []hostDetail
	Kept         []problemCount
	// places are the ids of both on the page.
	places map[hostKey]string
}

// hostKey tells hosts apart.
type hostKey struct{ name, machineID string }

// absent is a list of hosts that are not counted, or not expected.
type absent struct {
	ID, Title, Tag string
	fleet.NameList
	// Counted is whether they are part of what the report says.
	Counted bool
}

// few is how many hosts a list may have that stands open: a longer one would be all that
// is seen of the page.
const few = 10

// Open reports whether the list stands open.
func (a absent) Open() bool { return !a.Counted && len(a.Hosts) <= few }

// groupTable is a table of kinds of NIC.
type groupTable struct {
	ID, Title, Of, Name string
	fleet.GroupList
}

type problemCount struct {
	Kind  fleet.ProblemKind
	Count int
}

// hostDetail is a host with what is wrong on it.
type hostDetail struct {
	*fleet.Host
	ID string
	// Said is what fails there, in words.
	Said      string
	Failing   int
	Findings  []fleet.Finding
	Differing []fleet.Drift
}

// Fleet writes the page of a fleet's report. Its lists are as long as the report's: what
// the report left out, the page says.
func Fleet(w io.Writer, r *fleet.Report) error {
	p := fleetPage{Report: r, Facts: fleetFacts(r), Verdict: fleetVerdict(r)}
	p.Name = cmp.Or(r.Scope.Host, count(r.Scope.Hosts, "host", "hosts"))
	p.Absent = absences(&r.Scope)
	p.Tiles = fleetTiles(r)
	for _, rule := range r.Rules {
		if rule.Subjects[findings.Fail] > 0 || rule.FailingHosts > 0 {
			p.Failing = append(p.Failing, rule)
		} else {
			p.Others = append(p.Others, rule)
		}
	}
	p.Ages = ageBars(r.Scope.Ages)
	for _, t := range []groupTable{
		{ID: "models", Title: "Models", Name: "Model", GroupList: r.Models},
		{ID: "drivers", Title: "Drivers", Of: "Driver", Name: "Version", GroupList: r.Drivers},
		{ID: "firmware", Title: "Firmware", Of: "Model", Name: "Firmware", GroupList: r.Firmware},
	} {
		if len(t.Worst) > 0 {
			p.Kinds = append(p.Kinds, t)
		}
	}
	var names []string
	var numbers []int
	for _, m := range r.Optics.Margins {
		name := "more"
		if m.UnderDB != nil {
			name = "under " + decimal(*m.UnderDB) + " dB"
			if *m.UnderDB <= 0 {
				name = "below its warning"
			}
		}
		names, numbers = append(names, name), append(numbers, m.Ports)
	}
	p.Margins = bars(names, numbers)
	names, numbers = nil, nil
	for _, d := range r.VFs.Drivers {
		names, numbers = append(names, cmp.Or(d.Driver, "no driver")), append(numbers, d.VFs)
	}
	p.Drivers = bars(names, numbers)
	for _, profile := range r.Readiness {
		whole := profile.Ready + profile.NotReady + profile.Unknown
		p.Ready = append(p.Ready, bar{
			profile.Profile, fmt.Sprintf("%d ready, %d not ready, %d unknown; on %s a NIC is ready", profile.Ready, profile.NotReady, profile.Unknown, hostsOf(profile.ReadyHosts, profile.Hosts)),
			segments(whole, part{profile.Ready, "pass"}, part{profile.Unknown, "unknown"}, part{profile.NotReady, ""}),
		})
	}
	for _, kind := range fleet.ProblemKinds() {
		if n := r.Problems.Counts[kind]; n > 0 {
			p.Kept = append(p.Kept, problemCount{kind, n})
		}
	}
	standing := map[hostKey]*fleet.HostTotal{}
	for i := range r.Hosts.Worst {
		h := &r.Hosts.Worst[i]
		standing[hostKey{h.Name, h.MachineID}] = h
	}
	p.places = map[hostKey]string{}
	for i := range r.Details {
		d := detail(&r.Details[i])
		key := hostKey{d.Name, d.MachineID}
		d.ID = "detail-" + strconv.Itoa(i)
		if p.places[key] == "" {
			p.places[key] = d.ID
		}
		if r.Scope.Host != "" {
			p.Named = append(p.Named, d)
			continue
		}
		if h := standing[key]; h != nil {
			d.Said = totalWords(h)
		}
		p.Shown = append(p.Shown, d)
	}
	return write(w, "fleet", "NIC audit of "+p.Name, &p)
}

func hostsOf(n, of int) string {
	return fmt.Sprintf("%d of %s", n, count(of, "host", "hosts"))
}

func fleetFacts(r *fleet.Report) []fact {
	s := &r.Scope
	span := ""
	if s.Oldest != nil && s.Newest != nil {
		span = s.Oldest.UTC().Format("2006-01-02 15:04") + " to " + s.Newest.UTC().Format("2006-01-02 15:04 UTC")
	}
	from := s.Source
	if len(s.Inputs) > 0 {
		from += ": " + listed(s.Inputs, 4)
	}
	read := ""
	if s.Read > 0 {
		read = fmt.Sprintf("%d reports, %d superseded, %d rejected", s.Read, s.Superseded, s.Rejected)
	}
	stale := ""
	if s.MaxAgeSeconds > 0 {
		stale = duration(s.MaxAgeSeconds)
	}
	expected := ""
	if s.Expected != nil {
		expected = count(*s.Expected, "host", "hosts")
	}
	return slices.DeleteFunc([]fact{
		{"Judged", span}, {"NICs", strconv.Itoa(s.NICs)}, {"VFs", strconv.Itoa(s.VFs)}, {"Expected", expected}, {"Stale after", stale}, {"From", from}, {"Read", read}, {"nictune", r.Version},
	}, func(f fact) bool { return f.Value == "" })
}

// fleetVerdict is the report in sentences: what fails, and what nobody knows.
func fleetVerdict(r *fleet.Report) string {
	if r.Scope.Hosts == 0 {
		return "No host is counted: nothing is known of this fleet."
	}
	var parts []string
	for _, s := range r.Severities {
		if s.Failing > 0 {
			parts = append(parts, fmt.Sprintf("%s on %d", s.Severity, s.Hosts))
		}
	}
	text := fmt.Sprintf("Nothing fails on %s.", count(r.Scope.Hosts, "host", "hosts"))
	if len(parts) > 0 {
		verb := "fail"
		if r.Hosts.Failing == 1 {
			verb = "fails"
		}
		text = fmt.Sprintf("%s %s something: %s.", hostsOf(r.Hosts.Failing, r.Scope.Hosts), verb, listed(parts, len(parts)))
	}
	if n := r.Counts[findings.Error]; n > 0 {
		text += " " + count(n, "verdict", "verdicts") + " could not be given."
	}
	if n := r.Problems.Counts[fleet.HostProblem]; n > 0 {
		text += " Hosts tell of " + count(n, "problem", "problems") + " of their own."
	}
	if r.Problems.Counts[fleet.Incomplete] > 0 {
		text += " Not all is in this report: see the problems."
	}
	if n := r.Scope.Rejected; n > 0 {
		text += " " + count(n, "report", "reports") + " could not be used."
	}
	out := r.Scope.Missing.Count + r.Scope.Stale.Count + r.Scope.Ahead.Count
	if out > 0 {
		text += " " + count(out, "host is", "hosts are") + " not counted: nobody knows how they are."
	}
	return text
}

func fleetTiles(r *fleet.Report) []tile {
	var ts []tile
	for _, s := range r.Severities {
		if s.Severity == findings.Info && s.Hosts == 0 {
			continue
		}
		ts = append(ts, tile{Count: s.Hosts, Word: "hosts with " + string(s.Severity) + " failures", Class: string(s.Severity), To: "rules"})
	}
	for _, a := range []struct {
		list            fleet.NameList
		word, class, to string
	}{{r.Scope.Missing, "hosts missing", "missing", "absent-missing"}, {r.Scope.Stale, "hosts stale", "stale", "absent-stale"}, {r.Scope.Ahead, "clocks ahead", "stale", "absent-ahead"}} {
		to := a.to
		if a.list.Count == 0 {
			to = "scope"
		}
		ts = append(ts, tile{Count: a.list.Count, Word: a.word, Class: a.class, To: to})
	}
	return append(ts,
		tile{Count: r.Drift.Drifted, Word: "hosts drifted", Class: "warning", To: "drift"},
		tile{Count: r.Waivers.Expired, Word: "waivers expired", Class: "expired", To: "waivers"})
}

func absences(s *fleet.Scope) []absent {
	return slices.DeleteFunc([]absent{
		{"absent-missing", "Missing: expected, and nowhere to be found", "missing", s.Missing, false},
		{"absent-stale", "Stale: judged too long ago", "stale", s.Stale, false},
		{"absent-ahead", "Ahead: their time is yet to come", "stale", s.Ahead, false},
		{"absent-unexpected", "Unexpected, and counted", "unknown", s.Unexpected, true},
	}, func(a absent) bool { return a.Count == 0 })
}

func ageBars(bands []fleet.AgeBand) []bar {
	var names []string
	var numbers []int
	last := ""
	for _, b := range bands {
		name := last + " or older"
		if b.UnderSeconds > 0 {
			last = duration(b.UnderSeconds)
			name = "under " + last
		}
		names, numbers = append(names, name), append(numbers, b.Hosts)
	}
	return bars(names, numbers)
}

// duration is a time as people say it: the two largest units of it.
func duration(seconds float64) string {
	if seconds >= 1e9 || seconds != seconds {
		return "ages"
	}
	left := int(seconds)
	var parts []string
	for _, unit := range []struct {
		name    string
		seconds int
	}{{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}} {
		if n := left / unit.seconds; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, unit.name))
			left %= unit.seconds
		}
	}
	if len(parts) == 0 {
		return "0 s"
	}
	return strings.Join(parts[:min(len(parts), 2)], " ")
}

// detail is a host with what is wrong on it first.
func detail(h *fleet.Host) hostDetail {
	d := hostDetail{Host: h, Findings: slices.Clone(h.Findings)}
	slices.SortStableFunc(d.Findings, func(a, b fleet.Finding) int {
		return cmp.Or(
			cmp.Compare(rank(a.Status), rank(b.Status)),
			-cmp.Compare(slices.Index(findings.Severities(), a.Severity), slices.Index(findings.Severities(), b.Severity)),
			strings.Compare(a.Rule, b.Rule), natural(cmp.Or(a.Device, a.NIC)+" "+a.Part, cmp.Or(b.Device, b.NIC)+" "+b.Part),
		)
	})
	for _, v := range h.Verdicts {
		if v.Status == findings.Fail {
			d.Failing += v.Subjects
		}
	}
	for _, x := range h.Drift {
		if x.Status != "as-wanted" {
			d.Differing = append(d.Differing, x)
		}
	}
	return d
}

// DetailOf is the id of the part of the page about a host; "" where there is none.
func (p *fleetPage) DetailOf(h fleet.HostTotal) string { return p.places[hostKey{h.Name, h.MachineID}] }

// totalWords are how a host stands.
func totalWords(h *fleet.HostTotal) string {
	var parts []string
	for _, of := range []struct {
		n    int
		word string
	}{{h.Critical, "critical"}, {h.Warning, "warning"}, {h.Info, "info"}, {h.Error, "error"}, {h.Drifted, "drifted"}} {
		if of.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", of.n, of.word))
		}
	}
	return strings.Join(parts, ", ")
}

// failingBar draws on how many of the hosts that were judged a rule fails.
func failingBar(r fleet.RuleTotal) []segment {
	return segments(r.JudgedHosts, part{r.FailingHosts, string(r.Severity)})
}

// shareBar draws the share of hosts of a group on which something fails.
func shareBar(failing, hosts int) []segment {
	return segments(hosts, part{failing, "warning"})
}

// pcieWords are a fleet's NIC's link as it is and could be.
func pcieWords(p fleet.PCIe) string {
	return fmt.Sprintf("%s GT/s x%d of %s GT/s x%d", decimal(p.CurrentGTs), p.CurrentWidth, decimal(p.MaxGTs), p.MaxWidth)
}

// opticWords are a measured value with its margin.
func opticWords(o fleet.Optic) string {
	text := strings.ReplaceAll(o.Quantity, "-", " ")
	if o.Lane > 0 {
		text += ", lane " + strconv.Itoa(o.Lane)
	}
	if o.Value == nil {
		return text + ": no light"
	}
	return text + ": " + strconv.FormatFloat(*o.Value, 'f', 2, 64) + " " + o.Unit
}

// marginWords are how far a value is from its threshold.
func marginWords(o fleet.Optic) string {
	if o.Margin == nil {
		return "–"
	}
	unit := o.Unit
	if unit == "dBm" {
		unit = "dB"
	}
	return strconv.FormatFloat(*o.Margin, 'f', 2, 64) + " " + unit
}

// worstWords are the hosts where the most is, and how many more there are.
func worstWords(hosts []fleet.HostCount, leftOut int) string {
	var names []string
	for _, h := range hosts[:min(len(hosts), 3)] {
		if h.Count > 1 {
			names = append(names, fmt.Sprintf("%s (%d)", h.Host, h.Count))
		} else {
			names = append(names, h.Host)
		}
	}
	if more := len(hosts) - len(names) + leftOut; more > 0 {
		return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return listed(names, 3)
}

// ruleWords are the rules that fail most.
func ruleWords(rules []fleet.RuleCount) string {
	var names []string
	for _, r := range rules {
		names = append(names, fmt.Sprintf("%s (%d)", r.Rule, r.Hosts))
	}
	return strings.Join(names, ", ")
}
