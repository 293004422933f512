package metrics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
)

// Findings are what came of judging a host.
type Findings struct {
	// At is when the host was looked at.
	At time.Time
	// Watched is the time since the look before, against which rates were judged; zero
	// where there was none.
	Watched time.Duration
	// Counts are how many subjects each rule has of each status.
	Counts map[RuleStatus]int
	// Open are the findings that fail, could not be judged because of an error, or are
	// waived.
	Open []findings.Finding
	// Waivers are those of the check policies that concern the host, needed or not.
	Waivers []Waiver
}

// Waiver is one that a check policy has.
type Waiver struct {
	// Expires is the last day on which it holds, in UTC: "2027-01-31". Policy is the
	// document's name, Source where in it the waiver is written: "edge.yaml:9".
	Rule, Owner, Expires, Policy, Source string
	// Failures are how many it is for: those that it waives, or did before it expired.
	Failures int
}

// RuleStatus is what came of a rule.
type RuleStatus struct {
	Rule     string
	Severity findings.Severity
	Status   findings.Status
}

// Add counts findings, also those that each of the waivers is for, and keeps those that
// ask for somebody's attention.
func (f *Findings) Add(all []findings.Finding) {
	if f.Counts == nil {
		f.Counts = map[RuleStatus]int{}
	}
	for i := range all {
		one := &all[i]
		f.Counts[RuleStatus{one.Rule, one.Severity, one.Status}]++
		if one.Status == findings.Fail || one.Status == findings.Error || one.Status == findings.Waived {
			f.Open = append(f.Open, *one)
		}
		for j := range f.Waivers {
			if w := &f.Waivers[j]; w.isOf(one) {
				w.Failures++
			}
		}
	}
}

// isOf reports whether a waiver is the one that a finding names.
func (w *Waiver) isOf(f *findings.Finding) bool {
	return f.Waiver != nil && f.Waiver.Policy == w.Source && f.Rule == w.Rule
}

// findingsOf says what rules found.
func findingsOf() collector {
	return collector{
		name: "findings", doc: "what nictune check finds, and waivers",
		of: func(s *Snapshot) any { return s.Findings },
		define: func(c *catalogue) func(*Snapshot) {
			rules := c.fingerprint(c.add(Metric{
				Name: "rule_findings", Type: gauge, Unit: "subjects", Labels: []string{"rule", "severity", "status"},
				Help:   "Devices, parts of devices and hosts that a rule was judged on, by what came of it: pass, fail, error, unknown, not-applicable or waived. Unknown and error are no passes.",
				Source: "`nictune check --all`", Series: "1 to 3 per rule (docs/rules.md)",
			}))
			finding := c.add(Metric{
				Name: "finding", Type: gauge, Labels: []string{"rule", "severity", "status", deviceLabel, "part", "pci_address", "permanent_mac"},
				Help:   "A rule that fails on a subject, could not be judged because of an error, or is waived. Always 1.",
				Source: "`nictune check`", Series: "1 per such finding: none on a host in order",
			})
			expiry := c.add(Metric{
				Name: "waiver_expiry_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: []string{"rule", deviceLabel, "part", "owner"},
				Help:   "When a waiver ends or has ended, in Unix time: the end of its last day in UTC. Only of waivers that a failure needs.",
				Source: "the check policies of `nictune agent --policy`", Series: "1 per waived failure, and per failure whose waiver has expired",
			})
			waiver := []string{"rule", "owner", "policy", "source"}
			ends := c.add(Metric{
				Name: "check_waiver_expiry_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: waiver,
				Help:   "When a waiver ends or has ended, in Unix time: the end of its last day in UTC. Of each waiver in a check policy that concerns the host, needed or not.",
				Source: "the check policies of `nictune agent --policy`", Series: "1 per waiver",
			})
			needed := c.add(Metric{
				Name: "check_waiver_failures", Type: gauge, Unit: "subjects", Labels: waiver,
				Help:   "Failures that a waiver is for: those that it waives or, where it has expired, those that fail again. 0: nothing needs it.",
				Source: "the check policies of `nictune agent --policy`, `nictune check`", Series: "1 per waiver",
			})
			at := c.add(Metric{
				Name: "audit_timestamp_seconds", Type: gauge, Unit: "seconds", Help: "When the host was judged last, in Unix time.",
				Source: "the agent", Series: "1",
			})
			watched := c.add(Metric{
				Name: "audit_watched_seconds", Type: gauge, Unit: "seconds", Help: "How long before that the host was looked at against which rates were judged. Absent where it was looked at once.",
				Source: "the agent", Series: "1",
			})
			return func(s *Snapshot) {
				f := s.Findings
				if f == nil {
					return
				}
				if !f.At.IsZero() {
					at.set(float64(f.At.UnixMilli()) / 1000)
				}
				if f.Watched > 0 {
					watched.set(f.Watched.Seconds())
				}
				all := make([]RuleStatus, 0, len(f.Counts))
				for r := range f.Counts {
					all = append(all, r)
				}
				slices.SortFunc(all, func(a, b RuleStatus) int {
					return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(string(a.Severity), string(b.Severity)), strings.Compare(string(a.Status), string(b.Status)))
				})
				for _, r := range all {
					if f.Counts[r] > 0 {
						rules.set(float64(f.Counts[r]), r.Rule, string(r.Severity), string(r.Status))
					}
				}
				for i := range f.Open {
					o := &f.Open[i]
					finding.set(1, o.Rule, string(o.Severity), string(o.Status), o.Subject.Name, o.Subject.Part, o.Subject.PCIAddress, o.Subject.PermanentMAC)
					if o.Waiver == nil {
						continue
					}
					if end, ok := endOf(o.Waiver.Expires); ok {
						expiry.set(end, o.Rule, o.Subject.Name, o.Subject.Part, o.Waiver.Owner)
					}
				}
				for i := range f.Waivers {
					w := &f.Waivers[i]
					if end, ok := endOf(w.Expires); ok {
						ends.set(end, w.Rule, w.Owner, w.Policy, w.Source)
					}
					needed.set(float64(w.Failures), w.Rule, w.Owner, w.Policy, w.Source)
				}
			}
		},
	}
}

// endOf is when a waiver ends: with its last day.
func endOf(expires string) (float64, bool) {
	day, err := time.Parse(time.DateOnly, expires)
	if err != nil {
		return 0, false
	}
	return float64(day.AddDate(0, 0, 1).Unix()), true
}
