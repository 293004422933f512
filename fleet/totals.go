package fleet

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// totals are the sums and the worst of all hosts that count.
type totals struct {
	a *Aggregate
	r Report

	superseded                        int
	stale, ahead, unexpected, missing *top[NamedHost]
	details                           []Host

	rules      map[ruleKey]*ruleSum
	severities map[findings.Severity]*SeverityTotal
	hosts      *top[worstHost]
	groups     map[kind]*Group
	tallies    map[kind]*tally

	links    *top[LinkRow]
	pcie     *top[PCIeRow]
	optics   *top[OpticRow]
	flaps    *top[FlapRow]
	drivers  map[string]*DriverCount
	shared   *top[SharedRow]
	profiles map[string]*Profile
	policies map[string]*policySum
	waivers  map[Waiver]*WaiverRow
}

// worstHost is how a host stands, with the host where it may be shown.
type worstHost struct {
	HostTotal
	host *Host
}

type ruleKey struct {
	rule     string
	severity findings.Severity
}

type ruleSum struct {
	RuleTotal
	worst *top[HostCount]
}

type policySum struct {
	PolicyDrift
	settings map[string]*SettingCount
	worst    *top[HostCount]
}

// Dimensions of what NICs have in common.
const (
	modelDimension    = "model"
	driverDimension   = "driver-version"
	firmwareDimension = "firmware"
)

// Where the bands of ages and of margins end.
var (
	ageBands    = [...]time.Duration{15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}
	marginBands = [...]float64{0, 1, 2, 3, 5}
)

func newTotals(a *Aggregate) *totals {
	n := a.o.Top
	t := &totals{
		a: a,
		r: Report{
			APIVersion: inventory.APIVersion, Kind: Kind, GeneratedAt: a.o.Now, Version: a.o.Version,
			Scope: Scope{
				Source: a.o.Source, Inputs: a.o.Inputs, Host: a.o.Host, MaxAgeSeconds: a.o.MaxAge.Seconds(),
				Ages: make([]AgeBand, len(ageBands)+1),
			},
			Counts: map[findings.Status]int{},
			Optics: Optics{Margins: make([]MarginBand, len(marginBands)+1)},
			Flaps:  Flaps{WindowSeconds: a.o.FlapWindow.Seconds()},
		},
		stale: newTop(n*namesFor, compareNamed), ahead: newTop(n*namesFor, compareNamed),
		unexpected: newTop(n*namesFor, compareNamed), missing: a.missed,
		rules: map[ruleKey]*ruleSum{}, severities: map[findings.Severity]*SeverityTotal{},
		hosts: newTop(n, compareHosts), groups: map[kind]*Group{}, tallies: map[kind]*tally{},
		links: newTop(n, compareLinks), pcie: newTop(n, comparePCIe), optics: newTop(n, compareOptics),
		flaps: newTop(n, compareFlaps), drivers: map[string]*DriverCount{}, shared: newTop(n, compareShared),
		profiles: map[string]*Profile{}, policies: map[string]*policySum{}, waivers: map[Waiver]*WaiverRow{},
	}
	for i, band := range ageBands {
		t.r.Scope.Ages[i].UnderSeconds = band.Seconds()
	}
	for i, band := range marginBands {
		t.r.Optics.Margins[i].UnderDB = &band
	}
	for _, s := range findings.Severities() {
		t.severities[s] = &SeverityTotal{Severity: s}
	}
	return t
}

// add counts a host.
func (t *totals) add(h *Host) {
	s := &t.r.Scope
	s.Hosts++
	age := t.a.o.Now.Sub(h.CollectedAt)
	band := 0
	for band < len(ageBands) && age >= ageBands[band] {
		band++
	}
	s.Ages[band].Hosts++
	if s.Oldest == nil || h.CollectedAt.Before(*s.Oldest) {
		s.Oldest = &h.CollectedAt
	}
	if s.Newest == nil || h.CollectedAt.After(*s.Newest) {
		s.Newest = &h.CollectedAt
	}
	if t.a.o.Host != "" && len(t.details) < t.a.o.Top*namesFor {
		t.details = append(t.details, *h)
	}
	total := HostTotal{Name: h.Name, MachineID: h.MachineID, CollectedAt: h.CollectedAt}
	t.addVerdicts(h, &total)
	t.addDrift(h, &total)
	t.addNICs(h, &total)
	t.addWaivers(h)
	for _, p := range h.Problems {
		t.a.Problem(Problem{Kind: HostProblem, Source: h.Source, Host: h.Name, Detail: p})
	}
	if total.Critical+total.Warning+total.Info > 0 {
		t.r.Hosts.Failing++
	}
	if total.Critical+total.Warning+total.Info+total.Error+total.Drifted > 0 {
		one := worstHost{HostTotal: total}
		if t.a.o.Details > 0 && t.a.o.Host == "" {
			one.host = h
		}
		t.hosts.add(one)
	}
}

// understood is what a status or severity of a newer nictune counts as: nothing is well
// because we don't know the word.
func understood(severity findings.Severity, status findings.Status) (findings.Severity, findings.Status) {
	if !slices.Contains(findings.Severities(), severity) {
		severity = findings.Warning
	}
	if !slices.Contains(findings.Statuses(), status) {
		status = findings.Unknown
	}
	return severity, status
}

func (t *totals) addVerdicts(h *Host, total *HostTotal) {
	hostHas := map[findings.Severity]bool{}
	type tallied struct{ failing, judged int }
	byRule := map[ruleKey]tallied{}
	for _, v := range h.Verdicts {
		severity, status := understood(v.Severity, v.Status)
		if severity != v.Severity {
			t.a.Problem(Problem{Kind: NotUnderstood, Source: h.Source, Host: h.Name, Detail: v.Rule + ": severity " + string(v.Severity) + " is taken for warning"})
		}
		if status != v.Status {
			t.a.Problem(Problem{Kind: NotUnderstood, Source: h.Source, Host: h.Name, Detail: v.Rule + ": status " + string(v.Status) + " is taken for unknown"})
		}
		n := max(0, v.Subjects)
		key := ruleKey{v.Rule, severity}
		sum := t.rule(key)
		if sum == nil || n == 0 {
			continue
		}
		t.r.Counts[status] += n
		sum.Subjects[status] += n
		of := byRule[key]
		switch status {
		case findings.Fail:
			of.failing += n
			of.judged += n
			t.severities[severity].Failing += n
			hostHas[severity] = true
			switch severity {
			case findings.Critical:
				total.Critical += n
			case findings.Warning:
				total.Warning += n
			case findings.Info:
				total.Info += n
			}
		case findings.Waived:
			of.judged += n
			total.Waived += n
			t.severities[severity].Waived += n
		case findings.Pass:
			of.judged += n
			total.Pass += n
		case findings.Error:
			total.Error += n
		case findings.Unknown:
			total.Unknown += n
		case findings.NotApplicable:
		}
		byRule[key] = of
	}
	for key, of := range byRule {
		sum := t.rules[key]
		if of.judged > 0 {
			sum.JudgedHosts++
		}
		if of.failing > 0 {
			sum.FailingHosts++
			sum.worst.add(HostCount{h.Name, of.failing})
		}
	}
	for severity := range hostHas {
		t.severities[severity].Hosts++
	}
	for _, f := range h.Findings {
		if f.Title == "" || f.Status != findings.Fail {
			continue
		}
		severity, _ := understood(f.Severity, f.Status)
		// Of two titles the first by the alphabet, so that the order of hosts is no matter.
		if sum := t.rules[ruleKey{f.Rule, severity}]; sum != nil && (sum.Title == "" || f.Title < sum.Title) {
			sum.Title = f.Title
		}
	}
}

// addSum counts what a source has summed up.
func (t *totals) addSum(s Sum) {
	for _, v := range s.Verdicts {
		severity, status := understood(v.Severity, v.Status)
		sum := t.rule(ruleKey{clip(v.Rule), severity})
		if sum == nil || v.Subjects <= 0 {
			continue
		}
		t.r.Counts[status] += v.Subjects
		sum.Subjects[status] += v.Subjects
		if status == findings.Pass {
			sum.JudgedHosts += v.Hosts
		}
	}
	for _, p := range s.Readiness {
		sum := entry(t.a, "profiles", t.profiles, clip(p.Profile))
		if sum == nil {
			continue
		}
		sum.Profile = clip(p.Profile)
		sum.Ready += p.Ready
		sum.NotReady += p.NotReady
		sum.Unknown += p.Unknown
		sum.ReadyHosts += p.ReadyHosts
		sum.Hosts += p.Hosts
	}
	for _, d := range s.Drivers {
		t.addVFDriver(clip(d.Driver), d.VFs)
	}
}

func (t *totals) rule(key ruleKey) *ruleSum {
	sum := entry(t.a, "rules", t.rules, key)
	if sum != nil && sum.worst == nil {
		sum.Rule, sum.Severity = key.rule, key.severity
		sum.Subjects = map[findings.Status]int{}
		sum.worst = newTop(worstHosts, compareHostCounts)
	}
	return sum
}

func compareHostCounts(a, b HostCount) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Host, b.Host))
}

func compareHosts(a, b worstHost) int {
	return cmp.Or(
		cmp.Compare(b.Critical, a.Critical), cmp.Compare(b.Warning, a.Warning), cmp.Compare(b.Error, a.Error),
		cmp.Compare(b.Drifted, a.Drifted), cmp.Compare(b.Info, a.Info),
		strings.Compare(a.Name, b.Name), strings.Compare(a.MachineID, b.MachineID),
	)
}

func (t *totals) addDrift(h *Host, total *HostTotal) {
	d := &t.r.Drift
	if h.Drift == nil {
		return
	}
	d.Hosts++
	differing := map[string]int{} // by policy: those with none, too
	for _, s := range h.Drift {
		sum := entry(t.a, "policies", t.policies, s.Policy)
		if sum == nil {
			continue
		}
		if sum.worst == nil {
			sum.Policy, sum.settings, sum.worst = s.Policy, map[string]*SettingCount{}, newTop(worstHosts, compareHostCounts)
		}
		n := differing[s.Policy]
		switch s.Status {
		case audit.AsWanted:
			sum.AsWanted++
		case audit.Drifted:
			sum.Drifted++
			total.Drifted++
			n++
			if setting := entry(t.a, "settings", sum.settings, s.Setting); setting != nil {
				setting.Setting = s.Setting
				setting.Drifted++
			}
		case audit.Impossible:
			sum.Impossible++
		case audit.Skipped:
			sum.Skipped++
		default:
			sum.Undecided++
		}
		differing[s.Policy] = n
	}
	some := false
	for policy, n := range differing {
		sum := t.policies[policy]
		sum.Hosts++
		if n > 0 {
			some = true
			sum.DriftedHosts++
			sum.worst.add(HostCount{h.Name, n})
		}
	}
	if some {
		d.Drifted++
	}
}

func (t *totals) addNICs(h *Host, total *HostTotal) {
	// Which rules that matter fail on which NIC.
	failing := map[string][]string{}
	for _, f := range h.Findings {
		severity, status := understood(f.Severity, f.Status)
		if status == findings.Fail && severity.AtLeast(findings.Warning) {
			failing[f.NIC] = append(failing[f.NIC], f.Rule)
		}
	}
	// What this host adds to each kind of NIC: a host counts once.
	mine := map[kind]map[string]bool{}
	asked := map[string]bool{}
	for i := range h.NICs {
		n := &h.NICs[i]
		port := Port{Host: h.Name, Device: n.Device, Address: n.Address, Model: n.Model}
		for profile, answer := range n.Readiness {
			t.addReadiness(profile, answer, asked)
		}
		if !h.counts(n) {
			continue // what of it matters is said of its PF, below
		}
		t.r.Scope.NICs++
		total.NICs++
		rules := failing[n.ID]
		for _, k := range kindsOf(n) {
			group := entry(t.a, k.dimension+"s of NICs", t.groups, k)
			if group == nil {
				continue
			}
			group.NICs++
			if mine[k] == nil {
				mine[k] = map[string]bool{}
			}
			if len(rules) > 0 {
				group.FailingNICs++
			}
			for _, rule := range rules {
				mine[k][rule] = true
			}
		}
		t.addLink(n, port)
		t.addPCIe(h, n, port)
		t.addOptics(n, port)
		t.addVFs(n, port)
	}
	for k, rules := range mine {
		group := t.groups[k]
		group.Of, group.Name = k.of, k.name
		group.Hosts++
		if len(rules) > 0 {
			group.FailingHosts++
		}
		tallied := entry(t.a, k.dimension+"s of NICs", t.tallies, k)
		if tallied.failing == nil {
			tallied.failing = map[string]int{}
		}
		tallied.hosts++
		for rule := range rules {
			if len(tallied.failing) < mostDistinct || tallied.failing[rule] > 0 {
				tallied.failing[rule]++
			}
		}
	}
	for profile, is := range asked {
		t.profiles[profile].Hosts++
		if is {
			t.profiles[profile].ReadyHosts++
		}
	}
}

// counts reports whether a device is counted as a NIC of the host: not what a PF of the
// host is seen through a second time. A VF is, and may be in another namespace as well;
// in a guest, where its PF is not, it is the NIC.
func (h *Host) counts(n *NIC) bool {
	switch inventory.Function(n.Kind) {
	case inventory.SF, inventory.Representor:
		return false
	case inventory.VF:
		return !slices.ContainsFunc(h.NICs, func(pf NIC) bool {
			return pf.Kind == string(inventory.PF) && (n.PhysicalFunction == "" || n.PhysicalFunction == pf.Address)
		})
	}
	return true
}

// kindsOf are the kinds that a NIC is one of, as far as it tells.
func kindsOf(n *NIC) []kind {
	var kinds []kind
	if n.Model != "" {
		kinds = append(kinds, kind{modelDimension, "", n.Model}, kind{firmwareDimension, n.Model, n.Firmware})
	}
	if n.Driver != "" {
		kinds = append(kinds, kind{driverDimension, n.Driver, n.DriverVersion})
	}
	return kinds
}

func (t *totals) addReadiness(profile, answer string, asked map[string]bool) {
	p := entry(t.a, "profiles", t.profiles, profile)
	if p == nil {
		return
	}
	p.Profile = profile
	asked[profile] = asked[profile] || answer == audit.Ready
	switch answer {
	case audit.Ready:
		p.Ready++
	case audit.NotReady:
		p.NotReady++
	default:
		p.Unknown++
	}
}

func (t *totals) addLink(n *NIC, port Port) {
	l := &t.r.Links
	switch {
	case n.Carrier != nil && !*n.Carrier:
		l.Down++
	case n.SpeedMbps == nil || n.MaxSpeedMbps == nil || *n.MaxSpeedMbps <= 0:
		l.Unknown++
	default:
		l.Compared++
		if *n.SpeedMbps < *n.MaxSpeedMbps {
			l.Below++
			t.links.add(LinkRow{port, *n.SpeedMbps, *n.MaxSpeedMbps})
		}
	}
	if n.Downs != nil {
		f := &t.r.Flaps
		f.Counted++
		if *n.Downs > 0 {
			f.Flapped++
			f.Downs += *n.Downs
			t.flaps.add(FlapRow{port, *n.Downs})
		}
	}
}

func comparePorts(a, b Port) int {
	return cmp.Or(
		strings.Compare(a.Host, b.Host), strings.Compare(a.Device, b.Device), strings.Compare(a.Address, b.Address),
		strings.Compare(a.Model, b.Model),
	)
}

// compareLinks has those first that have the least of their speed left, and of equals the
// fastest.
func compareLinks(a, b LinkRow) int {
	share := func(r LinkRow) float64 { return float64(r.SpeedMbps) / float64(r.MaxSpeedMbps) }
	return cmp.Or(cmp.Compare(share(a), share(b)), cmp.Compare(b.MaxSpeedMbps, a.MaxSpeedMbps), comparePorts(a.Port, b.Port))
}

func compareFlaps(a, b FlapRow) int {
	return cmp.Or(cmp.Compare(b.Downs, a.Downs), comparePorts(a.Port, b.Port))
}

func (t *totals) addPCIe(h *Host, n *NIC, port Port) {
	l, p := &t.r.PCIe, n.PCIe
	switch {
	case n.Address == "", n.Kind == string(inventory.VF):
		// no PCI device, or no link of its own: there is nothing to compare
	case p == nil, h.VirtualMachine != nil && *h.VirtualMachine,
		p.CurrentGTs <= 0 || p.MaxGTs <= 0 || p.CurrentWidth <= 0 || p.MaxWidth <= 0:
		l.Unknown++
	default:
		l.Compared++
		if p.CurrentGTs < p.MaxGTs || p.CurrentWidth < p.MaxWidth {
			l.Degraded++
			share := p.CurrentGTs * float64(p.CurrentWidth) / (p.MaxGTs * float64(p.MaxWidth))
			t.pcie.add(PCIeRow{port, *p, rounded(share, 4)})
		}
	}
}

func comparePCIe(a, b PCIeRow) int {
	return cmp.Or(
		cmp.Compare(a.Share, b.Share), cmp.Compare(b.MaxGTs, a.MaxGTs), cmp.Compare(b.MaxWidth, a.MaxWidth),
		comparePorts(a.Port, b.Port), cmp.Compare(a.CurrentGTs, b.CurrentGTs), cmp.Compare(a.CurrentWidth, b.CurrentWidth),
	)
}

func (t *totals) addOptics(n *NIC, port Port) {
	o := &t.r.Optics
	if len(n.Optics) == 0 {
		return
	}
	o.Ports++
	alarm, warning := false, false
	for _, m := range n.Optics {
		if m.Quantity == rxPower && (n.Carrier == nil || !*n.Carrier) {
			continue // nobody sends to a port that is not in use
		}
		alarm = alarm || strings.HasSuffix(m.Verdict, "alarm")
		warning = warning || strings.HasSuffix(m.Verdict, "warning")
		if m.Margin != nil && m.Quantity == rxPower {
			band := 0
			for band < len(marginBands) && *m.Margin >= marginBands[band] {
				band++
			}
			o.Margins[band].Ports++
		}
		if m.Room != nil || m.Margin != nil || strings.HasSuffix(m.Verdict, "alarm") {
			t.optics.add(OpticRow{port, m})
		}
	}
	switch {
	case alarm:
		o.Alarms++
	case warning:
		o.Warnings++
	}
}

// rxPower is the quantity of a module that its peer and the fibre decide about.
const rxPower = "rx-power"

// compareOptics has no light first, then the least room, then what has only a margin.
func compareOptics(a, b OpticRow) int {
	room := func(r OpticRow) float64 {
		switch {
		case r.Room != nil:
			return *r.Room
		case r.Margin == nil:
			return math.Inf(-1)
		}
		return math.Inf(1)
	}
	margin := func(r OpticRow) float64 {
		if r.Margin == nil {
			return math.Inf(-1)
		}
		return *r.Margin
	}
	return cmp.Or(
		cmp.Compare(room(a), room(b)), cmp.Compare(margin(a), margin(b)), comparePorts(a.Port, b.Port),
		strings.Compare(a.Quantity, b.Quantity), cmp.Compare(a.Lane, b.Lane), strings.Compare(a.SerialNumber, b.SerialNumber),
	)
}

func (t *totals) addVFs(n *NIC, port Port) {
	u := &t.r.VFs
	if n.VFs == nil {
		return
	}
	u.NICs++
	if n.VFs.Enabled != nil {
		u.Enabled += *n.VFs.Enabled
		t.r.Scope.VFs += *n.VFs.Enabled
		if n.VFs.Used != nil {
			u.Used += *n.VFs.Used
			u.Known += *n.VFs.Enabled
		}
	}
	if n.VFs.Total != nil {
		u.Total += *n.VFs.Total
	}
	for driver, count := range n.VFs.Drivers {
		t.addVFDriver(driver, count)
	}
	for _, group := range n.VFs.Shared {
		u.SharedGroups++
		t.shared.add(SharedRow{port, group})
	}
}

func (t *totals) addVFDriver(driver string, vfs int) {
	if d := entry(t.a, "drivers of VFs", t.drivers, driver); d != nil {
		d.Driver = driver
		d.VFs += vfs
	}
}

// compareShared has the groups first that hold the most.
func compareShared(a, b SharedRow) int {
	return cmp.Or(cmp.Compare(len(b.VFs), len(a.VFs)), comparePorts(a.Port, b.Port), cmp.Compare(a.Group, b.Group))
}

func (t *totals) addWaivers(h *Host) {
	seen := map[Waiver]bool{}
	for _, w := range h.Waivers {
		key := w
		key.Subjects = 0
		row := entry(t.a, "waivers", t.waivers, key)
		if row == nil {
			continue
		}
		row.Rule, row.Owner, row.Reason, row.Expires = w.Rule, w.Owner, w.Reason, w.Expires
		row.Subjects += w.Subjects
		if !seen[key] {
			seen[key] = true
			row.Hosts++
		}
	}
}

// state is how a waiver stands: it holds to the end of its last day.
func (w Waiver) state(now time.Time) string {
	day, err := time.Parse(time.DateOnly, w.Expires)
	end := day.AddDate(0, 0, 1)
	switch {
	case err != nil:
		return WaiverUndated
	case !now.Before(end):
		return WaiverExpired
	case end.Sub(now) <= expiring:
		return WaiverExpiring
	}
	return WaiverActive
}

// report puts the totals in order.
func (t *totals) report() *Report {
	r, n, a := &t.r, t.a.o.Top, t.a
	s := &r.Scope
	if a.o.Expected != nil {
		count := len(a.o.Expected)
		s.Expected = &count
		for i, name := range a.o.Expected {
			if !a.expected[i] {
				t.missing.add(NamedHost{Name: name})
			}
		}
	}
	s.Missing, s.Stale, s.Ahead, s.Unexpected = nameList(t.missing), nameList(t.stale), nameList(t.ahead), nameList(t.unexpected)
	s.Read, s.Superseded = a.read, t.superseded

	t.ruleTotals()
	r.Models, r.Drivers, r.Firmware = t.groupList(modelDimension), t.groupList(driverDimension), t.groupList(firmwareDimension)
	list, tests := outliers(t.tallies)
	r.Outliers.Tests = tests
	r.Outliers.List, r.Outliers.LeftOut = firsts(list, n, compareOutliers)

	r.Links.Worst, r.Links.LeftOut = t.links.list()
	r.PCIe.Worst, r.PCIe.LeftOut = t.pcie.list()
	r.Optics.Lowest, r.Optics.LeftOut = t.optics.list()
	r.Flaps.Worst, r.Flaps.LeftOut = t.flaps.list()
	r.VFs.Shared, r.VFs.LeftOut = t.shared.list()
	r.VFs.Drivers = values(t.drivers, func(a, b DriverCount) int {
		return cmp.Or(cmp.Compare(b.VFs, a.VFs), strings.Compare(a.Driver, b.Driver))
	})
	r.Readiness = values(t.profiles, func(a, b Profile) int { return strings.Compare(a.Profile, b.Profile) })
	t.drift()
	t.waiverList()
	slices.SortFunc(t.details, func(a, b Host) int { return strings.Compare(a.MachineID, b.MachineID) })
	r.Details = t.details
	t.worstHosts()

	r.Problems.Counts = a.counts
	r.Problems.List, r.Problems.LeftOut = a.problems.list()
	for _, kind := range rejects {
		s.Rejected += a.counts[kind]
	}
	return r
}

// worstHosts lists them, and shows some.
func (t *totals) worstHosts() {
	worst, leftOut := t.hosts.list()
	t.r.Hosts.Worst, t.r.Hosts.LeftOut = make([]HostTotal, len(worst)), leftOut
	for i, one := range worst {
		t.r.Hosts.Worst[i] = one.HostTotal
		if one.host != nil && i < t.a.o.Details {
			t.r.Details = append(t.r.Details, one.host.brief())
		}
	}
}

func nameList(t *top[NamedHost]) NameList {
	hosts, leftOut := t.list()
	return NameList{Count: t.seen, Hosts: hosts, LeftOut: leftOut}
}

// values are a map's values in order.
func values[K comparable, V any](m map[K]*V, compare func(a, b V) int) []V {
	all := make([]V, 0, len(m))
	for _, v := range m {
		all = append(all, *v)
	}
	slices.SortFunc(all, compare)
	return all
}

func (t *totals) ruleTotals() {
	titles := map[string]string{}
	for _, about := range audit.Rules() {
		titles[about.ID] = about.Title
	}
	t.r.Rules = make([]RuleTotal, 0, len(t.rules))
	for _, sum := range t.rules {
		if len(sum.Subjects) == 0 {
			continue
		}
		sum.Title = cmp.Or(titles[sum.Rule], sum.Title)
		sum.Worst, sum.LeftOut = sum.worst.list()
		t.r.Rules = append(t.r.Rules, sum.RuleTotal)
		if sum.FailingHosts > 0 {
			t.severities[sum.Severity].Rules++
		}
	}
	rank := func(r RuleTotal) int { // what fails, then what could not be judged, ...
		return slices.IndexFunc(findings.Statuses(), func(s findings.Status) bool { return r.Subjects[s] > 0 })
	}
	grave := func(r RuleTotal) int { return slices.Index(findings.Severities(), r.Severity) }
	slices.SortFunc(t.r.Rules, func(a, b RuleTotal) int {
		return cmp.Or(
			rank(a)-rank(b), grave(b)-grave(a), cmp.Compare(b.FailingHosts, a.FailingHosts),
			cmp.Compare(b.Subjects[findings.Fail], a.Subjects[findings.Fail]), strings.Compare(a.Rule, b.Rule),
		)
	})
	for _, s := range slices.Backward(findings.Severities()) {
		t.r.Severities = append(t.r.Severities, *t.severities[s])
	}
}

func (t *totals) groupList(dimension string) GroupList {
	var all []Group
	for k, g := range t.groups {
		if k.dimension != dimension {
			continue
		}
		g.Share, g.Least = rounded(float64(g.FailingHosts)/float64(g.Hosts), 4), rounded(wilson(g.FailingHosts, g.Hosts), 4)
		all = append(all, *g)
	}
	list := GroupList{Count: len(all)}
	list.Worst, list.LeftOut = firsts(all, t.a.o.Top, func(a, b Group) int {
		return cmp.Or(
			cmp.Compare(b.Least, a.Least), cmp.Compare(b.Share, a.Share), cmp.Compare(b.Hosts, a.Hosts),
			strings.Compare(a.Of, b.Of), strings.Compare(a.Name, b.Name),
		)
	})
	for i := range list.Worst {
		g := &list.Worst[i]
		var rules []RuleCount
		for rule, hosts := range t.tallies[kind{dimension, g.Of, g.Name}].failing {
			rules = append(rules, RuleCount{rule, hosts})
		}
		g.Rules, _ = firsts(rules, worstHosts, func(a, b RuleCount) int {
			return cmp.Or(cmp.Compare(b.Hosts, a.Hosts), strings.Compare(a.Rule, b.Rule))
		})
	}
	return list
}

func (t *totals) drift() {
	all := make([]PolicyDrift, 0, len(t.policies))
	for _, sum := range t.policies {
		sum.Settings = values(sum.settings, func(a, b SettingCount) int {
			return cmp.Or(cmp.Compare(b.Drifted, a.Drifted), strings.Compare(a.Setting, b.Setting))
		})
		sum.Worst, sum.LeftOut = sum.worst.list()
		all = append(all, sum.PolicyDrift)
	}
	d := &t.r.Drift
	d.Policies, d.LeftOut = firsts(all, t.a.o.Top, func(a, b PolicyDrift) int {
		return cmp.Or(cmp.Compare(b.DriftedHosts, a.DriftedHosts), cmp.Compare(b.Drifted, a.Drifted), strings.Compare(a.Policy, b.Policy))
	})
}

func (t *totals) waiverList() {
	w := &t.r.Waivers
	now := t.a.o.Now
	states := []string{WaiverUndated, WaiverExpired, WaiverExpiring, WaiverActive}
	all := make([]WaiverRow, 0, len(t.waivers))
	for _, row := range t.waivers {
		row.State = row.state(now)
		switch row.State {
		case WaiverUndated:
			w.Undated++
		case WaiverExpired:
			w.Expired++
		case WaiverExpiring:
			w.Expiring++
			w.Active++
		default:
			w.Active++
		}
		all = append(all, *row)
	}
	w.List, w.LeftOut = firsts(all, t.a.o.Top, func(a, b WaiverRow) int {
		return cmp.Or(
			slices.Index(states, a.State)-slices.Index(states, b.State), strings.Compare(a.Expires, b.Expires),
			cmp.Compare(b.Hosts, a.Hosts), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Owner, b.Owner),
			strings.Compare(a.Reason, b.Reason),
		)
	})
}

// Failed reports whether a rule of at least this severity fails, or what there is to say
// is not all here: hosts are missing, stale, of no time that can be, or with a report that
// could not be used; a verdict could not be given, or a host tells of a problem of its own.
func (r *Report) Failed(least findings.Severity) bool {
	s, problems := &r.Scope, r.Problems.Counts
	if s.Missing.Count+s.Stale.Count+s.Ahead.Count+s.Rejected+problems[Unreadable]+problems[Incomplete]+problems[HostProblem]+r.Counts[findings.Error] > 0 {
		return true
	}
	return slices.ContainsFunc(r.Severities, func(t SeverityTotal) bool { return t.Failing > 0 && t.Severity.AtLeast(least) })
}
