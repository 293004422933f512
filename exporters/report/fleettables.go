package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

// table is a part of a fleet's report as rows and columns, for all forms that have
// those.
type table struct {
	name, title string
	note        string // what is to be said above it
	columns     []string
	rows        [][]string
	leftOut     int
	// brief is how many of the rows people want to see; what follows is for programs.
	// -1 is all.
	brief int
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = text(c)
	}
	t.rows = append(t.rows, row)
}

// text is a cell's value; what is not known is empty.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', 6, 64)
	case *float64:
		if v == nil {
			return ""
		}
		return text(*v)
	case *int:
		if v == nil {
			return ""
		}
		return strconv.Itoa(*v)
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	case *time.Time:
		if v == nil {
			return ""
		}
		return text(*v)
	case share:
		return strconv.FormatFloat(100*float64(v), 'f', 1, 64) + "%"
	case []fleet.HostCount:
		parts := make([]string, len(v))
		for i, h := range v {
			parts[i] = fmt.Sprintf("%s (%d)", h.Host, h.Count)
		}
		return strings.Join(parts, ", ")
	case []fleet.RuleCount:
		parts := make([]string, len(v))
		for i, r := range v {
			parts[i] = fmt.Sprintf("%s (%d)", r.Rule, r.Hosts)
		}
		return strings.Join(parts, ", ")
	case []fleet.SettingCount:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = fmt.Sprintf("%s (%d)", cmp.Or(s.Setting, "?"), s.Drifted)
		}
		return strings.Join(parts, ", ")
	case []int:
		return strings.Trim(fmt.Sprint(v), "[]")
	}
	return fmt.Sprint(value)
}

// share is a part of one.
type share float64

// FleetTables are the names of a fleet report's tables, in order.
func FleetTables() []string {
	var names []string
	for _, t := range fleetTables(&fleet.Report{}) {
		names = append(names, t.name)
	}
	return names
}

// fleetTables are all tables of a report, the empty ones, too.
func fleetTables(r *fleet.Report) []table {
	all := []table{
		problemTable(r), namesTable("missing", "Missing", "Expected, and not in this report.", r.Scope.Missing),
		namesTable("stale", "Stale", "Judged too long ago to count.", r.Scope.Stale),
		namesTable("ahead", "Ahead of time", "Their clocks say a time that is yet to come, so that nobody knows how old what they say is. They do not count.", r.Scope.Ahead),
		namesTable("unexpected", "Unexpected", "Not in the list of hosts. They count.", r.Scope.Unexpected),
	}
	all = append(all, changesTable(r.Baseline), severityTable(r), ruleTable(r), hostTable(r), detailTable(r), nicTable(r), outlierTable(r))
	all = append(all, groupTables(r)...)
	all = append(all, linkTables(r)...)
	return append(all, vfTable(r), sharedTable(r), readinessTable(r), driftTable(r), waiverTable(r))
}

func problemTable(r *fleet.Report) table {
	t := table{name: "problems", title: "Problems with the input", columns: []string{"problem", "host", "source", "detail"}, leftOut: r.Problems.LeftOut, brief: -1}
	var counts []string
	for _, kind := range fleet.ProblemKinds() {
		if n := r.Problems.Counts[kind]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	t.note = strings.Join(counts, ", ")
	for _, p := range r.Problems.List {
		t.add(string(p.Kind), p.Host, p.Source, p.Detail)
	}
	return t
}

func namesTable(name, title, note string, l fleet.NameList) table {
	t := table{name: name, title: title, note: note, columns: []string{"host", "machine", "judged", "failing then", "source"}, leftOut: l.LeftOut, brief: -1}
	for _, h := range l.Hosts {
		t.add(h.Name, h.MachineID, h.CollectedAt, h.Failing, h.Source)
	}
	return t
}

func severityTable(r *fleet.Report) table {
	t := table{name: "severities", title: "By severity", columns: []string{"severity", "failing", "hosts", "of", "rules", "waived"}, brief: -1}
	for _, s := range r.Severities {
		t.add(string(s.Severity), s.Failing, s.Hosts, r.Scope.Hosts, s.Rules, s.Waived)
	}
	return t
}

func ruleTable(r *fleet.Report) table {
	t := table{
		name: "rules", title: "Rules", brief: -1,
		columns: []string{"severity", "rule", "hosts", "of judged", "fail", "error", "unknown", "waived", "pass", "title", "worst hosts"},
	}
	for _, rule := range r.Rules {
		of := func(s findings.Status) int { return rule.Subjects[s] }
		if t.brief < 0 && of(findings.Fail)+of(findings.Error)+of(findings.Waived) == 0 {
			t.brief = len(t.rows)
		}
		t.add(string(rule.Severity), rule.Rule, rule.FailingHosts, rule.JudgedHosts, of(findings.Fail), of(findings.Error), of(findings.Unknown),
			of(findings.Waived), of(findings.Pass), rule.Title, rule.Worst)
	}
	return t
}

func hostTable(r *fleet.Report) table {
	t := table{
		name: "hosts", title: "Worst hosts", leftOut: r.Hosts.LeftOut, brief: -1,
		columns: []string{"host", "machine", "critical", "warning", "info", "error", "unknown", "waived", "drifted", "NICs", "judged"},
	}
	for _, h := range r.Hosts.Worst {
		t.add(h.Name, h.MachineID, h.Critical, h.Warning, h.Info, h.Error, h.Unknown, h.Waived, h.Drifted, h.NICs, h.CollectedAt)
	}
	return t
}

// detailTable are the findings of the hosts that were asked for.
func detailTable(r *fleet.Report) table {
	t := table{
		name: "findings", title: "Findings of this host", brief: -1,
		columns: []string{"host", "machine", "status", "severity", "rule", "device", "part", "title", "seen"},
	}
	for _, h := range r.Details {
		for _, f := range h.Findings {
			t.add(h.Name, h.MachineID, string(f.Status), string(f.Severity), f.Rule, f.Device, f.Part, f.Title, f.Seen)
		}
		for _, d := range h.Drift {
			if d.Status != "as-wanted" {
				t.add(h.Name, h.MachineID, d.Status, "", "policy "+d.Policy, d.Device, d.Setting, "", "")
			}
		}
	}
	return t
}

// nicTable are the NICs of the hosts that were asked for.
func nicTable(r *fleet.Report) table {
	t := table{
		name: "nics", title: "NICs of this host", brief: -1,
		columns: []string{"host", "machine", "device", "address", "kind", "model", "driver", "version", "firmware", "link", "Mb/s", "maximum", "PCIe", "times lost", "VFs"},
	}
	for _, h := range r.Details {
		for _, n := range h.NICs {
			link, pcie, downs, vfs := "", "", "", ""
			switch {
			case n.Carrier == nil:
			case *n.Carrier:
				link = "up"
			default:
				link = "down"
			}
			if p := n.PCIe; p != nil {
				pcie = fmt.Sprintf("%g GT/s x%d of %g x%d", p.CurrentGTs, p.CurrentWidth, p.MaxGTs, p.MaxWidth)
			}
			if n.Downs != nil {
				downs = text(*n.Downs)
			}
			if n.VFs != nil && n.VFs.Enabled != nil {
				vfs = text(*n.VFs.Enabled)
				if n.VFs.Total != nil {
					vfs += " of " + text(*n.VFs.Total)
				}
			}
			t.add(h.Name, h.MachineID, n.Device, n.Address, n.Kind, n.Model, n.Driver, n.DriverVersion, n.Firmware, link, n.SpeedMbps, n.MaxSpeedMbps, pcie, downs, vfs)
		}
	}
	return t
}

func outlierTable(r *fleet.Report) table {
	t := table{
		name: "outliers", title: "Outliers", leftOut: r.Outliers.LeftOut, brief: -1,
		note:    "A rule fails there on a share of hosts well above that of the peers, and by more than chance (Fisher's exact test, corrected by Holm).",
		columns: []string{"what", "of", "name", "rule", "failing", "hosts", "share", "peers failing", "peers", "peers' share", "p"},
	}
	for _, o := range r.Outliers.List {
		t.add(o.Dimension, o.Of, o.Name, o.Rule, o.Failing, o.Hosts, share(o.Share), o.PeerFailing, o.PeerHosts, share(o.PeerShare), o.P)
	}
	return t
}

func groupTables(r *fleet.Report) []table {
	var all []table
	for _, g := range []struct {
		name, title, of string
		list            fleet.GroupList
	}{
		{"models", "Models", "", r.Models}, {"drivers", "Drivers", "driver", r.Drivers}, {"firmware", "Firmware", "model", r.Firmware},
	} {
		t := table{
			name: g.name, title: g.title, leftOut: g.list.LeftOut, brief: -1,
			columns: []string{"model", "failing hosts", "hosts", "share", "at least", "failing NICs", "NICs", "rules (hosts)"},
		}
		if g.of != "" {
			t.columns = append([]string{g.of, "version"}, t.columns[1:]...)
		}
		for _, row := range g.list.Worst {
			cells := []any{row.Name, row.FailingHosts, row.Hosts, share(row.Share), share(row.Least), row.FailingNICs, row.NICs, row.Rules}
			if g.of != "" {
				cells = append([]any{row.Of}, cells...)
			}
			t.add(cells...)
			if t.brief < 0 && row.FailingHosts == 0 {
				t.brief = len(t.rows) - 1
			}
		}
		all = append(all, t)
	}
	return all
}

// linkTables are about links, PCIe, optics and flaps.
func linkTables(r *fleet.Report) []table {
	l, p, o, f := r.Links, r.PCIe, r.Optics, r.Flaps
	port := []string{"host", "device", "address", "model"}
	links := table{
		name: "links", title: "Links below their maximum", leftOut: l.LeftOut, brief: -1,
		note:    fmt.Sprintf("%d of %d; %d can not be compared, %d have no link.", l.Below, l.Compared, l.Unknown, l.Down),
		columns: append(slices.Clone(port), "Mb/s", "maximum"),
	}
	for _, row := range l.Worst {
		links.add(row.Host, row.Device, row.Address, row.Model, row.SpeedMbps, row.MaxSpeedMbps)
	}
	pcie := table{
		name: "pcie", title: "Degraded PCIe", leftOut: p.LeftOut, brief: -1,
		note:    fmt.Sprintf("%d of %d; %d can not be compared, those of virtual machines among them.", p.Degraded, p.Compared, p.Unknown),
		columns: append(slices.Clone(port), "GT/s", "maximum", "lanes", "maximum lanes", "left"),
	}
	for _, row := range p.Worst {
		pcie.add(row.Host, row.Device, row.Address, row.Model, row.CurrentGTs, row.MaxGTs, row.CurrentWidth, row.MaxWidth, share(row.Share))
	}
	optics := table{
		name: "optics", title: "Optics by margin", leftOut: o.LeftOut, brief: -1,
		note:    fmt.Sprintf("%d ports measure something: %d beyond an alarm, %d beyond a warning.", o.Ports, o.Alarms, o.Warnings),
		columns: []string{"host", "device", "quantity", "lane", "value", "unit", "margin", "room", "verdict", "vendor", "part", "serial"},
	}
	for _, row := range o.Lowest {
		lane := ""
		if row.Lane > 0 {
			lane = strconv.Itoa(row.Lane)
		}
		room := ""
		if row.Room != nil {
			room = text(share(*row.Room))
		}
		optics.add(row.Host, row.Device, row.Quantity, lane, row.Value, row.Unit, row.Margin, room, row.Verdict, row.Vendor, row.PartNumber, row.SerialNumber)
	}
	since := "since each device was made"
	if f.WindowSeconds > 0 {
		since = "within " + duration(f.WindowSeconds)
	}
	flaps := table{
		name: "flaps", title: "Lost links", leftOut: f.LeftOut, brief: -1,
		note:    fmt.Sprintf("%d of %d NICs lost their link %d times %s.", f.Flapped, f.Counted, f.Downs, since),
		columns: append(slices.Clone(port), "times"),
	}
	for _, row := range f.Worst {
		flaps.add(row.Host, row.Device, row.Address, row.Model, row.Downs)
	}
	return []table{links, pcie, optics, flaps}
}

// duration is a time in words: "3h0m0s" is "3h".
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return d.Round(time.Second).String()
}

func vfTable(r *fleet.Report) table {
	v := r.VFs
	t := table{name: "vfs", title: "Virtual functions", columns: []string{"driver", "VFs"}, brief: -1}
	t.note = fmt.Sprintf("%d NICs have %d of %d possible VFs.", v.NICs, v.Enabled, v.Total)
	if v.Known > 0 {
		t.note += fmt.Sprintf(" Of %d it is known who uses them: %d are in use.", v.Known, v.Used)
	}
	for _, d := range v.Drivers {
		t.add(cmp.Or(d.Driver, "(none)"), d.VFs)
	}
	return t
}

func sharedTable(r *fleet.Report) table {
	t := table{
		name: "shared", title: "VFs that share an IOMMU group", leftOut: r.VFs.LeftOut, brief: -1,
		note:    fmt.Sprintf("%d groups: what is in one can not be given to different virtual machines.", r.VFs.SharedGroups),
		columns: []string{"host", "device", "address", "group", "vfs"},
	}
	for _, s := range r.VFs.Shared {
		t.add(s.Host, s.Device, s.Address, s.Group, s.VFs)
	}
	return t
}

func readinessTable(r *fleet.Report) table {
	t := table{name: "readiness", title: "XDP readiness", columns: []string{"profile", "ready", "not ready", "unknown", "hosts ready", "of"}, brief: -1}
	for _, p := range r.Readiness {
		t.add(p.Profile, p.Ready, p.NotReady, p.Unknown, p.ReadyHosts, p.Hosts)
	}
	return t
}

func driftTable(r *fleet.Report) table {
	t := table{
		name: "drift", title: "Drift by policy", leftOut: r.Drift.LeftOut, brief: -1,
		note:    fmt.Sprintf("%d of %d hosts that were compared with policies differ.", r.Drift.Drifted, r.Drift.Hosts),
		columns: []string{"policy", "hosts drifted", "of", "drifted", "impossible", "skipped", "undecided", "as wanted", "settings", "worst hosts"},
	}
	for _, p := range r.Drift.Policies {
		t.add(p.Policy, p.DriftedHosts, p.Hosts, p.Drifted, p.Impossible, p.Skipped, p.Undecided, p.AsWanted, p.Settings, p.Worst)
	}
	return t
}

func waiverTable(r *fleet.Report) table {
	w := r.Waivers
	t := table{
		name: "waivers", title: "Waivers", leftOut: w.LeftOut, brief: -1,
		note:    fmt.Sprintf("%d active, %d of them end within two weeks; %d expired, %d without a date that can be.", w.Active, w.Expiring, w.Expired, w.Undated),
		columns: []string{"state", "expires", "rule", "hosts", "findings", "owner", "reason"},
	}
	for _, row := range w.List {
		t.add(row.State, row.Expires, row.Rule, row.Hosts, row.Subjects, row.Owner, row.Reason)
	}
	return t
}

func changesTable(d *fleet.Difference) table {
	t := table{name: "changes", title: "Changes", columns: []string{"", "section", "what", "severity", "before", "now", "unit", "new hosts"}, brief: -1}
	if d == nil {
		return t
	}
	t.note = fmt.Sprintf("Since %s: %s.", text(d.Before), changesInWords(d))
	t.leftOut = d.LeftOut
	of := func(n, of int) string {
		if of > 0 {
			return fmt.Sprintf("%d of %d", n, of)
		}
		return strconv.Itoa(n)
	}
	for _, c := range d.Changes {
		word := "better"
		switch {
		case c.Worse:
			word = "worse"
		case c.Unclear:
			word = "unclear"
		}
		t.add(word, c.Section, c.Name, string(c.Severity), of(c.Before, c.BeforeOf), of(c.Now, c.NowOf), c.Unit, strings.Join(c.Hosts, ", "))
	}
	return t
}

func changesInWords(d *fleet.Difference) string {
	words := fmt.Sprintf("%d worse, %d better", d.Worse, d.Better)
	if d.Unclear > 0 {
		words += fmt.Sprintf(", %d unclear, where nothing shows that something was mended", d.Unclear)
	}
	return words
}
