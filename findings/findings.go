// Package findings is what a verdict is: a rule with an id that never changes its
// meaning, what it was said of, and what came of it.
//
// It judges nothing itself and knows no rule. Rules live beside what they judge,
// in xdpcheck, sriov and audit.
package findings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// Severity says how much a failed rule matters.
type Severity string

// The severities.
const (
	// Info is worth knowing: nothing is wrong, or little.
	Info Severity = "info"
	// Warning costs performance or safety, or will.
	Warning Severity = "warning"
	// Critical loses traffic, or lets in what should stay out.
	Critical Severity = "critical"
)

// Severities are all of them, the least first.
func Severities() []Severity { return []Severity{Info, Warning, Critical} }

// AtLeast reports whether s matters as much as t, or more.
func (s Severity) AtLeast(t Severity) bool {
	return slices.Index(Severities(), s) >= slices.Index(Severities(), t)
}

// Status is what came of judging.
type Status string

// The statuses. What could not be read is never a pass.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	// Unknown: this driver or kernel doesn't tell, or not to us.
	Unknown Status = "unknown"
	// Error: what had to be read could not be, with the kernel's own words.
	Error Status = "error"
	// NotApplicable: the rule says nothing of such a subject.
	NotApplicable Status = "not-applicable"
	// Waived: it fails, and a policy says who answers for that, why, and for how long.
	Waived Status = "waived"
)

// Statuses are all of them, in the order in which reports show them.
func Statuses() []Status { return []Status{Fail, Error, Unknown, Waived, Pass, NotApplicable} }

// Subject is what a rule was judged on: a NIC, a part of one, or the host.
type Subject struct {
	// ID stays when names change: that of [inventory.NIC.ID], "host" for the host.
	ID string `json:"id"`
	// Host is the host's name; Name that of the network device, where there is one.
	Host string `json:"host,omitempty"`
	Name string `json:"name,omitempty"`
	// PCIAddress and PermanentMAC are the parts of a NIC's identity.
	PCIAddress   string `json:"pciAddress,omitempty"`
	PermanentMAC string `json:"permanentMac,omitempty"`
	// Part is a part of the device that is judged by itself: "vf 3".
	Part string `json:"part,omitempty"`
}

// HostSubject is a host as a subject.
func HostSubject(host *inventory.Host) Subject {
	return Subject{ID: "host", Host: host.Hostname}
}

// NICSubject is a NIC of a host as a subject.
func NICSubject(host *inventory.Host, nic *inventory.NIC) Subject {
	s := Subject{ID: nic.ID(), Host: host.Hostname, Name: nic.Name, PermanentMAC: nic.PermanentMAC}
	if nic.PCI != nil {
		s.PCIAddress = nic.PCI.Address
	}
	return s
}

// String is what people call the subject.
func (s Subject) String() string {
	name := cmp.Or(s.Name, s.PCIAddress, s.ID)
	if s.Part != "" {
		name += " " + s.Part
	}
	return name
}

// About is what is told of a rule, also without a host.
type About struct {
	// ID is "GROUP/NAME". It stays, and never means something else.
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	// Title is what is wrong when it fails, in a few words without a full stop.
	Title string `json:"title"`
	// Why is why that matters, Remedy what to do: whole sentences.
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
	// Sources are the standard, the kernel's file or the vendor's page behind it.
	Sources []string `json:"sources"`
}

// Group is the part of the id before the slash: what nictune check takes.
func (a About) Group() string {
	group, _, _ := strings.Cut(a.ID, "/")
	return group
}

// Judged is what a rule can be judged on: a NIC, a VF, a host, with whatever facts
// the room's rules need.
type Judged interface {
	Subject() Subject
}

// Rule judges one kind of subject.
type Rule[S Judged] struct {
	About
	Judge func(S) Verdict
}

// Verdict is what a rule says of one subject. Make one with [Passes], [Fails],
// [Unclear], [Inapplicable] or [Unread].
type Verdict struct {
	Status Status
	// Seen is what was seen, or why nothing could be; Expected what should have been.
	// Both carry their units.
	Seen, Expected string
	// Remedy takes the place of the rule's, where this subject needs something
	// more exact.
	Remedy string
}

// Passes is the verdict that all is well.
func Passes(seen string, args ...any) Verdict {
	return Verdict{Status: Pass, Seen: said(seen, args)}
}

// Fails is the verdict that something is wrong.
func Fails(seen, expected string) Verdict {
	return Verdict{Status: Fail, Seen: seen, Expected: expected}
}

// Unclear is the verdict where the facts don't allow one.
func Unclear(why string, args ...any) Verdict {
	return Verdict{Status: Unknown, Seen: said(why, args)}
}

// Inapplicable is the verdict on a subject that the rule says nothing of.
func Inapplicable(why string, args ...any) Verdict {
	return Verdict{Status: NotApplicable, Seen: said(why, args)}
}

func said(text string, args []any) string {
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// Unread is the verdict where a fact is missing: [Error] where reading one of the
// named facts (or one below it) failed, else [Unknown], with the reason where there
// is one. unread are the notes of the NIC, VF or host that lacks it.
func Unread(unread []inventory.Unread, facts ...string) Verdict {
	for _, fact := range facts {
		for _, u := range unread {
			if u.Fact != fact && !strings.HasPrefix(u.Fact, fact+".") && !strings.HasPrefix(fact, u.Fact+".") {
				continue
			}
			if u.NotRecorded() {
				return Unclear("%s: not in this recording", u.Fact)
			}
			v := Unclear("%s: %s", u.Fact, u.Reason)
			if u.Detail != "" {
				v.Seen += ": " + u.Detail
			}
			if u.Reason == inventory.Failed {
				v.Status = Error
			}
			return v
		}
	}
	return Unclear("%s is not known", strings.Join(facts, " or "))
}

// To gives the verdict a remedy of its own.
func (v Verdict) To(remedy string, args ...any) Verdict {
	v.Remedy = said(remedy, args)
	return v
}

// Finding is one rule's verdict on one subject, with all that a reader needs.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Status   Status   `json:"status"`
	Subject  Subject  `json:"subject"`
	Title    string   `json:"title"`
	Seen     string   `json:"seen,omitempty"`
	Expected string   `json:"expected,omitempty"`
	// Why and Remedy are there where something is to be done.
	Why    string `json:"why,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	// Exact says that the remedy is for this subject, and not the rule's.
	Exact bool `json:"-"`
	// Policy is where a policy switched the rule off, or changed its severity.
	Policy string `json:"policy,omitempty"`
	// Waiver is the one that accepts, or did, that it fails.
	Waiver *Waiver `json:"waiver,omitempty"`
}

// Waiver is somebody's word that a failure is accepted for a time.
type Waiver struct {
	Reason string `json:"reason"`
	// Owner is who answers for it.
	Owner string `json:"owner"`
	// Expires is the last day on which it holds, in UTC: "2027-01-31". Expired is set
	// where that day is over: the rule fails then.
	Expires string `json:"expires"`
	Expired bool   `json:"expired,omitempty"`
	// Policy is where it is written: "edge.yaml:9".
	Policy string `json:"policy"`
}

// Judge judges one subject by rules.
func Judge[S Judged](rules []Rule[S], s S) []Finding {
	return AppendJudged(make([]Finding, 0, len(rules)), rules, s)
}

// AppendJudged judges one subject by rules, and appends what it finds: for who judges
// thousands, and looks at one after the other.
func AppendJudged[S Judged](all []Finding, rules []Rule[S], s S) []Finding {
	subject := s.Subject()
	for _, r := range rules {
		v := r.Judge(s)
		f := Finding{
			Rule: r.ID, Severity: r.Severity, Status: v.Status, Subject: subject, Title: r.Title,
			Seen: v.Seen, Expected: v.Expected,
		}
		if v.Status == Fail {
			f.Why, f.Remedy, f.Exact = r.Why, cmp.Or(v.Remedy, r.Remedy), v.Remedy != "" && v.Remedy != r.Remedy
		}
		all = append(all, f)
	}
	return all
}

// Abouts are what is told of rules.
func Abouts[S Judged](rules []Rule[S]) []About {
	all := make([]About, len(rules))
	for i, r := range rules {
		all[i] = r.About
	}
	return all
}

// Sort puts findings in the order in which people want them: what fails first, the
// gravest first, then by rule; subjects keep their order.
func Sort(all []Finding) {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(
			slices.Index(Statuses(), a.Status)-slices.Index(Statuses(), b.Status),
			slices.Index(Severities(), b.Severity)-slices.Index(Severities(), a.Severity),
			strings.Compare(a.Rule, b.Rule),
		)
	})
}

// Failed reports whether a rule of at least this severity fails.
func Failed(all []Finding, least Severity) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Status == Fail && f.Severity.AtLeast(least) })
}
