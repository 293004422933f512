package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// PolicyGroup is the group of rules about what became of policies: of what
// [Evidence.Drift] and [Evidence.Waivers] tell. It says nothing where no policies were
// given.
func PolicyGroup() Group {
	return Group{"policy", "what policies want beside what the host has, and waivers", aboutBoth(driftRules, waiverRules), judgePolicies}
}

// judgePolicies judges each setting that is wanted, and each waiver.
func judgePolicies(e *Evidence, with func([]findings.Finding)) {
	rules := driftRules()
	for i := range e.Drift {
		with(findings.Judge(rules, wanted{&e.Drift[i], e}))
	}
	ofWaivers := waiverRules()
	for i := range e.Waivers {
		with(findings.Judge(ofWaivers, waived{&e.Waivers[i], e}))
	}
}

// wanted is what a policy wants of a NIC, as the rules see it.
type wanted struct {
	*DriftSummary
	evidence *Evidence
}

// Subject is the NIC, and of it the policy and the setting.
func (w wanted) Subject() findings.Subject {
	s := findings.HostSubject(&w.evidence.Host)
	all := w.evidence.All()
	if i := slices.IndexFunc(all, func(n inventory.NIC) bool { return n.ID() == w.NIC && n.Name == w.Name }); i >= 0 {
		s = findings.NICSubject(&w.evidence.Host, &all[i])
	} else if w.NIC != s.ID {
		s.ID, s.Name = w.NIC, w.Name
	}
	s.Part = strings.TrimSpace(w.Setting + " of policy " + w.Policy)
	return s
}

func driftRules() []findings.Rule[wanted] {
	sources := []string{"docs/policies.md", "docs/reconcile.md"}
	return []findings.Rule[wanted]{
		{About: findings.About{
			ID: "policy/drifted", Severity: findings.Warning,
			Title:   "a setting is not as its policy wants it",
			Why:     "Somebody or something changed it after the policy was applied, or the policy never was. What was measured and agreed on isn't what runs.",
			Remedy:  "nictune plan shows each field and its line, nictune apply puts it right. If it comes back, look for who else sets it up (NetworkManager, udev, a boot script): docs/reconcile.md.",
			Sources: sources,
		}, Judge: drifted},
		{About: findings.About{
			ID: "policy/impossible", Severity: findings.Warning,
			Title:   "a policy wants what the device can't have",
			Why:     "No change of the policy is made on this device by an apply that can't make all of it. Either the policy matches a device that it wasn't written for, or a driver, a firmware or a kernel can less than was expected.",
			Remedy:  "Narrow the policy's match, mark the setting optional, or use a driver that has it. nictune plan names the line.",
			Sources: sources,
		}, Judge: impossible},
		{About: findings.About{
			ID: "policy/skipped", Severity: findings.Info,
			Title:   "a device lacks what a policy calls optional",
			Why:     "The policy is applied without it, so this device is not tuned as the others that the policy is for.",
			Remedy:  "Nothing, where that is expected. Otherwise use a driver or a kernel that has it, or narrow the policy's match.",
			Sources: []string{"docs/policies.md"},
		}, Judge: skipped},
	}
}

func drifted(w wanted) findings.Verdict {
	switch w.Status {
	case AsWanted:
		return findings.Passes("as wanted")
	case Drifted:
		return findings.Fails(cmp.Or(strings.Join(w.Fields, "; "), "something else"), "as "+w.Policy+" wants it")
	case Skipped:
		return findings.Inapplicable("the device lacks it, and it is optional (policy/skipped)")
	case Impossible:
		if w.cannot() {
			return findings.Inapplicable("it can't be had (policy/impossible)")
		}
		return findings.Unclear("it could not be compared (policy/impossible)")
	}
	return findings.Unclear("whether %s is for this device can't be told%s", w.Policy, more(w.Detail))
}

func impossible(w wanted) findings.Verdict {
	switch {
	case (w.Status == AsWanted || w.Status == Drifted) && len(w.Skipped) > 0:
		return findings.Passes("all of it but what is optional can be had (policy/skipped)")
	case w.Status == AsWanted || w.Status == Drifted:
		return findings.Passes("it can be had")
	case w.Status == Skipped:
		return findings.Inapplicable("the device lacks it, and it is optional (policy/skipped)")
	case w.Status == Undecided:
		return findings.Unclear("whether %s is for this device can't be told%s", w.Policy, more(w.Detail))
	case w.cannot():
		return findings.Fails(cmp.Or(w.Detail, "not supported"), "what "+w.Policy+" wants")
	case w.Reason == inventory.Failed:
		return findings.Verdict{Status: findings.Error, Seen: string(w.Reason) + more(w.Detail)}
	}
	return findings.Unclear("%s%s", w.Reason, more(w.Detail))
}

func skipped(w wanted) findings.Verdict {
	const expected = "a device that has it"
	switch {
	case w.Status == Skipped:
		return findings.Fails(cmp.Or(w.Detail, "not supported"), expected)
	case len(w.Skipped) > 0:
		return findings.Fails(strings.Join(w.Skipped, "; "), expected)
	case w.Status == Undecided:
		return findings.Unclear("whether %s is for this device can't be told%s", w.Policy, more(w.Detail))
	case w.Status == Impossible:
		return findings.Inapplicable("it can't be had, or not be compared (policy/impossible)")
	}
	return findings.Passes("nothing of it was skipped")
}

// cannot reports whether the device can't have what is wanted, and was not just out of
// reach: it lacks the setting, or refuses a field's value.
func (w wanted) cannot() bool { return w.Reason == inventory.Unsupported || len(w.Fields) > 0 }

func more(detail string) string {
	if detail == "" {
		return ""
	}
	return ": " + detail
}

// WaiverSummary is a waiver that a policy for this host has.
type WaiverSummary struct {
	Rule string `json:"rule"`
	// Reason is why the rule may fail, Owner who answers for it.
	Reason string `json:"reason"`
	Owner  string `json:"owner"`
	// Expires is the last day on which it holds, in UTC: "2027-01-31". Expired says
	// that it is over, Soon that it has no more than two weeks left.
	Expires string `json:"expires"`
	Expired bool   `json:"expired,omitempty"`
	Soon    bool   `json:"soon,omitempty"`
	// Policy is the document's name, Source where it is written: "edge.yaml:9".
	Policy string `json:"policy"`
	Source string `json:"source"`
}

// soon is how long before its end a waiver is worth mentioning.
const soon = 14 * 24 * time.Hour

// NoteWaivers notes the waivers of the documents that concern the host.
func (e *Evidence) NoteWaivers(checks []policies.CheckPolicy, labels map[string]string, now time.Time) {
	host := policies.HostOf(&e.Inventory.Inventory, labels)
	e.Waivers = []WaiverSummary{}
	for i := range checks {
		c := &checks[i]
		if !c.Concerns(e.All(), &host) {
			continue
		}
		for j := range c.Waivers {
			w := &c.Waivers[j]
			e.Waivers = append(e.Waivers, WaiverSummary{
				Rule: w.Rule, Reason: w.Reason, Owner: w.Owner, Expires: w.Expires.Format(time.DateOnly),
				Expired: w.Expired(now), Soon: !w.Expired(now) && w.Expired(now.Add(soon)), Policy: c.Name, Source: w.Source.String(),
			})
		}
	}
	slices.SortStableFunc(e.Waivers, func(a, b WaiverSummary) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Policy, b.Policy), strings.Compare(a.Expires, b.Expires))
	})
}

// waived is a waiver as the rules see it.
type waived struct {
	*WaiverSummary
	evidence *Evidence
}

// Subject is the host, and of it the waiver.
func (w waived) Subject() findings.Subject {
	s := findings.HostSubject(&w.evidence.Host)
	s.Part = fmt.Sprintf("waiver of %s in %s", w.Rule, w.Policy)
	return s
}

func waiverRules() []findings.Rule[waived] {
	sources := []string{"docs/policies.md"}
	return []findings.Rule[waived]{
		{About: findings.About{
			ID: "policy/waiver-expired", Severity: findings.Warning,
			Title:   "a waiver has expired",
			Why:     "Somebody accepted a failure until a day that is over. Since then it is nobody's, and the rule fails again where it fails.",
			Remedy:  "Mend what was waived and remove the waiver, or have its owner accept it for longer.",
			Sources: sources,
		}, Judge: func(w waived) findings.Verdict {
			if w.Expired {
				return findings.Fails(fmt.Sprintf("expired after %s (%s, %s): %s", w.Expires, w.Owner, w.Source, w.Reason), "a day to come, or no waiver")
			}
			return findings.Passes("holds until %s (%s)", w.Expires, w.Owner)
		}},
		{About: findings.About{
			ID: "policy/waiver-expiring", Severity: findings.Info,
			Title:   "a waiver expires within two weeks",
			Why:     "The day after, the rule fails again.",
			Remedy:  "Mend what was waived, or have its owner accept it for longer.",
			Sources: sources,
		}, Judge: func(w waived) findings.Verdict {
			switch {
			case w.Expired:
				return findings.Inapplicable("it has expired (policy/waiver-expired)")
			case w.Soon:
				return findings.Fails(fmt.Sprintf("expires after %s (%s, %s): %s", w.Expires, w.Owner, w.Source, w.Reason), "a later day, or no waiver")
			}
			return findings.Passes("holds until %s (%s)", w.Expires, w.Owner)
		}},
	}
}
