package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
)

// Difference is what changed between an earlier report of a host, the baseline, and a
// later one. Rules are matched by id and subjects by what stays over renames
// ([Keys]).
type Difference struct {
	// Since is when the baseline was collected.
	Since time.Time `json:"since"`
	// New fail now, and did not, or were accepted, or there was no such subject.
	New []Change `json:"new"`
	// Fixed failed, and pass now.
	Fixed []Change `json:"fixed"`
	// Unchanged failed and still do, accepted or not.
	Unchanged []Change `json:"unchanged"`
	// NotApplicable failed, and the rule doesn't apply any more: a link without a cable has
	// no errors, and nobody mended what caused them.
	NotApplicable []Change `json:"notApplicable"`
	// Unclear failed, and can't be judged now: nobody knows whether they still do.
	Unclear []Change `json:"unclear"`
	// Gone failed on a subject, or by a rule, of which the later report says nothing.
	Gone []Change `json:"gone"`
}

// Change is what became of one rule's verdict on one subject.
type Change struct {
	Rule     string            `json:"rule"`
	Severity findings.Severity `json:"severity"`
	Title    string            `json:"title"`
	Subject  findings.Subject  `json:"subject"`
	// Was and Is are the statuses; absent where there was no verdict.
	Was findings.Status `json:"was,omitempty"`
	Is  findings.Status `json:"is,omitempty"`
	// Seen is what is, or was, seen.
	Seen string `json:"seen,omitempty"`
}

// Keys are what findings are known by from one report of a host to the next, one for
// each, all different: the rule, and the subject's ID and part. Where several subjects
// share these, as ports of a switch do that have no address of their own, their names
// are added, and where that does not tell them apart, a number.
func Keys(all []findings.Finding) []string {
	keys := make([]string, len(all))
	seen := make(map[string]int, len(all))
	for i := range all {
		keys[i] = all[i].Rule + "\n" + all[i].Subject.ID + "\n" + all[i].Subject.Part
		seen[keys[i]]++
	}
	used := make(map[string]bool, len(all))
	for i := range all {
		if seen[keys[i]] > 1 {
			keys[i] += "\n" + all[i].Subject.Name
		}
		for used[keys[i]] {
			keys[i] += "'"
		}
		used[keys[i]] = true
	}
	return keys
}

// Compare says what changed from an earlier report to a later one.
func Compare(earlier, later *HostReport) *Difference {
	d := &Difference{
		Since: earlier.CollectedAt, New: []Change{}, Fixed: []Change{}, Unchanged: []Change{}, NotApplicable: []Change{}, Unclear: []Change{}, Gone: []Change{},
	}
	before := map[string]*findings.Finding{}
	for i, key := range Keys(earlier.Findings) {
		before[key] = &earlier.Findings[i]
	}
	for i, key := range Keys(later.Findings) {
		now := &later.Findings[i]
		c := Change{Rule: now.Rule, Severity: now.Severity, Title: now.Title, Subject: now.Subject, Is: now.Status, Seen: now.Seen}
		was := before[key]
		delete(before, key)
		if was != nil {
			c.Was = was.Status
		}
		failed := c.Was == findings.Fail || c.Was == findings.Waived
		switch c.Is {
		case findings.Fail:
			if c.Was == findings.Fail {
				d.Unchanged = append(d.Unchanged, c)
			} else {
				d.New = append(d.New, c)
			}
		case findings.Waived:
			if failed {
				d.Unchanged = append(d.Unchanged, c)
			}
		case findings.Pass:
			if failed {
				d.Fixed = append(d.Fixed, c)
			}
		case findings.NotApplicable:
			if failed {
				d.NotApplicable = append(d.NotApplicable, c)
			}
		default: // unknown, error
			if failed {
				d.Unclear = append(d.Unclear, c)
			}
		}
	}
	for _, was := range before {
		if was.Status == findings.Fail || was.Status == findings.Waived {
			d.Gone = append(d.Gone, Change{
				Rule: was.Rule, Severity: was.Severity, Title: was.Title, Subject: was.Subject, Was: was.Status, Seen: was.Seen,
			})
		}
	}
	slices.SortFunc(d.Gone, func(a, b Change) int {
		return cmp.Or(
			slices.Index(findings.Severities(), b.Severity)-slices.Index(findings.Severities(), a.Severity), strings.Compare(a.Rule, b.Rule),
			strings.Compare(a.Subject.ID, b.Subject.ID), comparePart(a.Subject.Part, b.Subject.Part), strings.Compare(a.Subject.Name, b.Subject.Name),
		)
	})
	return d
}
