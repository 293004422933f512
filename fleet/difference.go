package fleet

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// DifferenceKind heads a [Difference].
const DifferenceKind = "FleetDifference"

// Difference is what changed between two reports of a fleet, the top changes first: what
// got worse, then what is unclear, then what got better; the gravest first, then by how
// large a share of the fleet it is.
type Difference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Before and Now are when the two were made, the hosts how many they count.
	Before      time.Time `json:"before"`
	Now         time.Time `json:"now"`
	HostsBefore int       `json:"hostsBefore"`
	HostsNow    int       `json:"hostsNow"`
	// Worse, Better and Unclear are how many changes there are of each kind.
	Worse   int      `json:"worse"`
	Better  int      `json:"better"`
	Unclear int      `json:"unclear"`
	Changes []Change `json:"changes"`
	LeftOut int      `json:"leftOut,omitempty"`
}

// Change is one figure that is another than before.
type Change struct {
	// Section is the part of the report: "hosts", "rules", "outliers", "links", "pcie",
	// "optics", "flaps", "vfs", "readiness", "drift", "waivers".
	Section string `json:"section"`
	// Name is what of it: a rule, a policy, "missing", "stale", "below maximum".
	Name string `json:"name"`
	// Severity is the rule's; other changes have none.
	Severity findings.Severity `json:"severity,omitempty"`
	// Worse is whether that is bad news: a larger share is affected, or, of nothing,
	// more.
	Worse bool `json:"worse"`
	// Unclear is whether no larger share has it, and nothing shows that it was mended: what
	// had it may be missing, not read, or such that the rule doesn't apply to it any more.
	Unclear bool `json:"unclear,omitempty"`
	// Before and Now count what Unit says ("hosts", "ports"), BeforeOf and NowOf of how
	// many; 0 where it is of nothing.
	Before   int    `json:"before"`
	BeforeOf int    `json:"beforeOf,omitempty"`
	Now      int    `json:"now"`
	NowOf    int    `json:"nowOf,omitempty"`
	Unit     string `json:"unit"`
	// Hosts are some that are new in it.
	Hosts []string `json:"hosts,omitempty"`

	weight int // how grave: findings.Severities and one more
}

// newHosts is how many hosts a change names.
const newHosts = 10

// Compare is what changed from one report to a later one; n bounds the list of changes,
// 20 where it is 0.
func Compare(before, now *Report, n int) *Difference {
	if n <= 0 {
		n = defaultTop
	}
	c := comparison{top: newTop(n, compareChanges)}
	c.d = Difference{
		APIVersion: inventory.APIVersion, Kind: DifferenceKind, Before: before.GeneratedAt, Now: now.GeneratedAt,
		HostsBefore: before.Scope.Hosts, HostsNow: now.Scope.Hosts,
	}
	c.lost = lostHosts(&before.Scope, &now.Scope)
	c.hosts(&before.Scope, &now.Scope)
	c.rules(before, now)
	c.outliers(&before.Outliers, &now.Outliers)
	c.sections(before, now)
	c.policies(&before.Drift, &now.Drift)
	c.readiness(before.Readiness, now.Readiness)
	c.d.Changes, c.d.LeftOut = c.top.list()
	return &c.d
}

// How grave a change is: the severities', and above them what hides hosts.
const (
	infoWeight = iota
	warningWeight
	criticalWeight
	hiddenWeight
)

func compareChanges(a, b Change) int {
	rank := func(c Change) int {
		switch {
		case c.Worse:
			return 0
		case c.Unclear:
			return 1
		}
		return 2
	}
	return cmp.Or(
		rank(a)-rank(b), b.weight-a.weight, cmp.Compare(math.Abs(b.growth()), math.Abs(a.growth())),
		cmp.Compare(max(b.Now-b.Before, b.Before-b.Now), max(a.Now-a.Before, a.Before-a.Now)),
		strings.Compare(a.Section, b.Section), strings.Compare(a.Name, b.Name), strings.Compare(string(a.Severity), string(b.Severity)),
	)
}

// growth is by how much the share grew; where it is of nothing, by how much the number.
func (c *Change) growth() float64 {
	if c.BeforeOf <= 0 || c.NowOf <= 0 {
		return float64(c.Now - c.Before)
	}
	return float64(c.Now)/float64(c.NowOf) - float64(c.Before)/float64(c.BeforeOf)
}

type comparison struct {
	d    Difference
	top  *top[Change]
	lost int             // how many hosts may have counted before, and don't now
	well map[string]bool // rules that fail less, since something was mended
}

// lostHosts is how many of the hosts that counted may be those that don't any more, by the
// lists of names and by how many there are.
func lostHosts(before, now *Scope) int {
	lost := 0
	for _, list := range [...][2]NameList{{before.Missing, now.Missing}, {before.Stale, now.Stale}, {before.Ahead, now.Ahead}} {
		if list[0].LeftOut+list[1].LeftOut > 0 {
			lost += max(0, list[1].Count-list[0].Count)
			continue
		}
		lost += len(added(list[0].Hosts, list[1].Hosts))
	}
	return max(lost, before.Hosts-now.Hosts)
}

// proof is what speaks for something having been mended where less of it is left: as many
// more are well as the others don't account for, which are those of whom nobody knows.
type proof struct {
	well, wellBefore     int // pass, or have what they should
	others, othersBefore int // can't be judged, are waived or not concerned
}

// mended reports whether that holds of things that are fewer by so many.
func (p proof) mended(fewer int) bool {
	return p.well > p.wellBefore && fewer > max(0, p.others-p.othersBefore)
}

// more notes a figure of which more is worse, where it changed. Less of it is better only
// where that is proven.
func (c *comparison) more(change Change, mended bool) {
	if change.Now == change.Before {
		return
	}
	change.Worse = change.growth() > 0
	change.Unclear = !change.Worse && !mended
	c.note(change)
}

// fewer is the same for a figure of which less is worse.
func (c *comparison) fewer(change Change) {
	if change.Now == change.Before {
		return
	}
	change.Worse = change.growth() < 0
	change.Unclear = !change.Worse && change.Now < change.Before
	c.note(change)
}

func (c *comparison) note(change Change) {
	switch {
	case change.Worse:
		c.d.Worse++
	case change.Unclear:
		c.d.Unclear++
	default:
		c.d.Better++
	}
	c.top.add(change)
}

func (c *comparison) hosts(before, now *Scope) {
	c.fewer(Change{Section: "hosts", Name: "counted", Before: before.Hosts, Now: now.Hosts, Unit: "hosts", weight: warningWeight})
	// A host that is in such a list no more counts again, or nobody asks for it any more.
	back := now.Hosts > before.Hosts
	for _, list := range [...]struct {
		name        string
		before, now NameList
		weight      int
	}{
		{"missing", before.Missing, now.Missing, hiddenWeight}, {"stale", before.Stale, now.Stale, hiddenWeight},
		{"ahead of time", before.Ahead, now.Ahead, hiddenWeight}, {"unexpected", before.Unexpected, now.Unexpected, infoWeight},
	} {
		change := Change{Section: "hosts", Name: list.name, Before: list.before.Count, Now: list.now.Count, Unit: "hosts", weight: list.weight}
		if list.before.LeftOut == 0 {
			names := added(list.before.Hosts, list.now.Hosts)
			change.Hosts = names[:min(len(names), newHosts)]
		}
		if len(change.Hosts) > 0 && change.Now == change.Before {
			// As many as before, but others.
			change.Worse = true
			c.note(change)
			continue
		}
		c.more(change, back || list.name == "unexpected" && now.Expected != nil && c.lost == 0)
	}
	c.more(Change{Section: "hosts", Name: "reports that could not be used", Before: before.Rejected, Now: now.Rejected, Unit: "reports", weight: hiddenWeight}, back)
}

// added are the names of hosts that are new in a list.
func added(before, now []NamedHost) []string {
	known := map[[2]string]bool{}
	for _, h := range before {
		known[[2]string{h.Name, h.MachineID}] = true
	}
	var names []string
	for _, h := range now {
		if !known[[2]string{h.Name, h.MachineID}] {
			names = append(names, h.Name)
		}
	}
	return names
}

// joined calls f with what two lists have by a key, and with an empty one for what one
// of them doesn't have.
func joined[T any, K comparable](before, now []T, key func(*T) K, f func(before, now *T)) {
	old := map[K]*T{}
	for i := range before {
		old[key(&before[i])] = &before[i]
	}
	for i := range now {
		k := key(&now[i])
		was := old[k]
		if was == nil {
			was = new(T)
		}
		delete(old, k)
		f(was, &now[i])
	}
	for i := range before {
		if old[key(&before[i])] != nil {
			f(&before[i], new(T))
		}
	}
}

func (c *comparison) rules(before, now *Report) {
	c.well = map[string]bool{}
	joined(before.Rules, now.Rules, func(r *RuleTotal) ruleKey { return ruleKey{r.Rule, r.Severity} }, func(was, is *RuleTotal) {
		change := Change{
			Section: "rules", Name: cmp.Or(is.Rule, was.Rule), Severity: cmp.Or(is.Severity, was.Severity),
			Before: was.FailingHosts, BeforeOf: before.Scope.Hosts, Now: is.FailingHosts, NowOf: now.Scope.Hosts, Unit: "hosts",
			weight: slices.Index(findings.Severities(), cmp.Or(is.Severity, was.Severity)),
		}
		of := func(r *RuleTotal) (failing, well, others int) {
			failing, well = r.Subjects[findings.Fail], r.Subjects[findings.Pass]
			return failing, well, sum(r.Subjects) - failing - well
		}
		failed, wellBefore, othersBefore := of(was)
		failing, well, others := of(is)
		mended := change.Before-change.Now > c.lost && proof{well, wellBefore, others, othersBefore}.mended(failed-failing)
		c.well[change.Name] = c.well[change.Name] || mended
		c.more(change, mended)
	})
	for status, weight := range map[findings.Status]int{findings.Error: warningWeight, findings.Unknown: infoWeight, findings.Waived: infoWeight} {
		judged := func(r *Report) int {
			if status == findings.Waived {
				return r.Counts[findings.Pass]
			}
			return r.Counts[findings.Pass] + r.Counts[findings.Fail]
		}
		c.more(Change{
			Section: "rules", Name: "findings: " + string(status), Before: before.Counts[status], BeforeOf: sum(before.Counts),
			Now: now.Counts[status], NowOf: sum(now.Counts), Unit: "findings", weight: weight,
		}, c.lost == 0 && judged(now) > judged(before))
	}
}

func sum[K comparable](m map[K]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func (c *comparison) outliers(before, now *OutlierList) {
	type key struct{ dimension, of, name, rule string }
	joined(before.List, now.List, func(o *Outlier) key { return key{o.Dimension, o.Of, o.Name, o.Rule} }, func(was, is *Outlier) {
		if was.Rule == "" && before.LeftOut > 0 || is.Rule == "" && now.LeftOut > 0 {
			return // it may be among those left out
		}
		o := is
		if is.Rule == "" {
			o = was
		}
		c.more(Change{
			Section: "outliers", Name: strings.TrimSpace(o.Of+" "+o.Dimension) + " " + o.Name + ": " + o.Rule,
			Before: was.Failing, BeforeOf: was.Hosts, Now: is.Failing, NowOf: is.Hosts, Unit: "hosts", weight: warningWeight,
		}, c.well[o.Rule])
	})
}

// sections compares what is one figure each.
func (c *comparison) sections(before, now *Report) {
	b, n := before, now
	// ports is a figure of which the others are well, but for those that can't be judged.
	lost := (c.lost*b.Scope.NICs + max(1, b.Scope.Hosts) - 1) / max(1, b.Scope.Hosts)
	ports := func(change Change, others, othersBefore int) {
		c.more(change, change.Before-change.Now > lost && proof{
			change.NowOf - change.Now, change.BeforeOf - change.Before, others, othersBefore,
		}.mended(change.Before-change.Now))
	}
	ports(Change{Section: "links", Name: "below maximum", Before: b.Links.Below, BeforeOf: b.Links.Compared, Now: n.Links.Below, NowOf: n.Links.Compared, Unit: "ports", weight: warningWeight},
		n.Links.Unknown+n.Links.Down, b.Links.Unknown+b.Links.Down)
	ports(Change{Section: "links", Name: "down", Before: b.Links.Down, BeforeOf: b.Scope.NICs, Now: n.Links.Down, NowOf: n.Scope.NICs, Unit: "ports", weight: infoWeight},
		n.Links.Unknown, b.Links.Unknown)
	ports(Change{Section: "pcie", Name: "degraded", Before: b.PCIe.Degraded, BeforeOf: b.PCIe.Compared, Now: n.PCIe.Degraded, NowOf: n.PCIe.Compared, Unit: "NICs", weight: warningWeight},
		n.PCIe.Unknown, b.PCIe.Unknown)
	ports(Change{Section: "optics", Name: "alarms", Before: b.Optics.Alarms, BeforeOf: b.Optics.Ports, Now: n.Optics.Alarms, NowOf: n.Optics.Ports, Unit: "ports", weight: criticalWeight},
		n.Links.Down, b.Links.Down)
	ports(Change{Section: "optics", Name: "warnings", Before: b.Optics.Warnings, BeforeOf: b.Optics.Ports, Now: n.Optics.Warnings, NowOf: n.Optics.Ports, Unit: "ports", weight: warningWeight},
		n.Links.Down+n.Optics.Alarms, b.Links.Down+b.Optics.Alarms)
	ports(Change{Section: "flaps", Name: "links lost", Before: b.Flaps.Flapped, BeforeOf: b.Flaps.Counted, Now: n.Flaps.Flapped, NowOf: n.Flaps.Counted, Unit: "NICs", weight: warningWeight}, 0, 0)
	// Of these nobody knows how many are well: they are better where all is still there.
	whole := c.lost == 0
	c.more(Change{Section: "vfs", Name: "shared IOMMU groups", Before: b.VFs.SharedGroups, Now: n.VFs.SharedGroups, Unit: "groups", weight: warningWeight}, whole && n.VFs.Enabled >= b.VFs.Enabled)
	c.more(Change{Section: "waivers", Name: "expired", Before: b.Waivers.Expired, Now: n.Waivers.Expired, Unit: "waivers", weight: warningWeight}, whole)
	c.more(Change{Section: "waivers", Name: "without a date", Before: b.Waivers.Undated, Now: n.Waivers.Undated, Unit: "waivers", weight: warningWeight}, whole)
	c.more(Change{Section: "waivers", Name: "expiring", Before: b.Waivers.Expiring, Now: n.Waivers.Expiring, Unit: "waivers", weight: infoWeight}, whole && n.Waivers.Expired <= b.Waivers.Expired)
}

func (c *comparison) policies(before, now *DriftList) {
	joined(before.Policies, now.Policies, func(p *PolicyDrift) string { return p.Policy }, func(was, is *PolicyDrift) {
		if was.Hosts == 0 && before.LeftOut > 0 || is.Hosts == 0 && now.LeftOut > 0 {
			return
		}
		others := func(p *PolicyDrift) int { return p.Impossible + p.Skipped + p.Undecided }
		c.more(Change{
			Section: "drift", Name: cmp.Or(is.Policy, was.Policy), Before: was.DriftedHosts, BeforeOf: was.Hosts,
			Now: is.DriftedHosts, NowOf: is.Hosts, Unit: "hosts", weight: warningWeight,
		}, was.DriftedHosts-is.DriftedHosts > c.lost && proof{is.AsWanted, was.AsWanted, others(is), others(was)}.mended(was.Drifted-is.Drifted))
	})
}

func (c *comparison) readiness(before, now []Profile) {
	joined(before, now, func(p *Profile) string { return p.Profile }, func(was, is *Profile) {
		c.fewer(Change{
			Section: "readiness", Name: cmp.Or(is.Profile, was.Profile) + ": ready",
			Before: was.Ready, BeforeOf: was.Ready + was.NotReady + was.Unknown, Now: is.Ready, NowOf: is.Ready + is.NotReady + is.Unknown,
			Unit: "NICs", weight: infoWeight,
		})
	})
}

// ErrNoFleetReport is the error of [Decode] for another document.
var ErrNoFleetReport = errors.New("no report of nictune fleet report")

// maxFleetReport is how long a report may be: its lists are bounded, so that one of any
// fleet has a few megabytes.
const maxFleetReport = 256 << 20

// Decode reads a report as nictune fleet report -o json writes it.
func Decode(source io.Reader) (*Report, error) {
	text, err := io.ReadAll(io.LimitReader(source, maxFleetReport))
	if err != nil {
		return nil, err
	}
	var r Report
	failed := json.Unmarshal(text, &r, options())
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	switch err := json.Unmarshal(text, &head, options()); {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("it is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("it ends before it is whole, after %d bytes", len(text))
	case err != nil:
		return nil, err
	}
	switch {
	case head.Kind != Kind:
		return nil, fmt.Errorf("%w: kind %q, wanted %q", ErrNoFleetReport, clip(head.Kind), Kind)
	case head.APIVersion != inventory.APIVersion:
		return nil, fmt.Errorf("apiVersion %q: this nictune reads %q", clip(head.APIVersion), inventory.APIVersion)
	case failed != nil:
		return nil, failed
	}
	return &r, nil
}
