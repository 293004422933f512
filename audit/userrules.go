package audit

import (
	"errors"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// UserRules are what is told of the rules in documents.
func UserRules(documents []policies.RulePolicy) []findings.About {
	var all []findings.About
	for i := range documents {
		for j := range documents[i].Rules {
			all = append(all, about(&documents[i].Rules[j]))
		}
	}
	return all
}

func about(r *policies.UserRule) findings.About {
	sources := r.Sources
	if len(sources) == 0 {
		sources = []string{r.Source.String()}
	}
	return findings.About{ID: r.ID, Severity: findings.Severity(r.Severity), Title: strings.TrimSuffix(r.Title, "."), Why: r.Why, Remedy: r.Remedy, Sources: sources}
}

// asked is a NIC, or the host, that a user's rule is judged on.
type asked struct {
	subject findings.Subject
	nic     *inventory.NIC // nil: the host
}

// Subject is the NIC's or the host's identity.
func (a asked) Subject() findings.Subject { return a.subject }

// JudgeUserRules judges the evidence by the rules in documents: those about the host
// once, the others on each NIC.
func JudgeUserRules(e *Evidence, documents []policies.RulePolicy, labels map[string]string) []findings.Finding {
	host := policies.HostOf(&e.Inventory.Inventory, labels)
	var all []findings.Finding
	for i := range documents {
		p := &documents[i]
		var ofHost, ofNICs []findings.Rule[asked]
		for j := range p.Rules {
			r := &p.Rules[j]
			rule := findings.Rule[asked]{About: about(r), Judge: func(a asked) findings.Verdict { return byUserRule(p, r, a.nic, &host) }}
			if r.OnHost {
				ofHost = append(ofHost, rule)
			} else {
				ofNICs = append(ofNICs, rule)
			}
		}
		all = append(all, findings.Judge(ofHost, asked{findings.HostSubject(&e.Host), nil})...)
		for j := range e.NICs {
			n := &e.NICs[j]
			all = append(all, findings.Judge(ofNICs, asked{findings.NICSubject(&e.Host, n), n})...)
		}
	}
	findings.Sort(all)
	return all
}

// byUserRule judges one NIC, or the host. What could not be read is never a pass, and
// neither is what could not be decided.
func byUserRule(p *policies.RulePolicy, r *policies.UserRule, nic *inventory.NIC, host *policies.Host) findings.Verdict {
	switch is, err := p.For(nic, host); {
	case err != nil:
		return undecided("whether it is for this device can't be told: ", err)
	case !is:
		return findings.Inapplicable("the match of %s (%s) leaves it out", p.Name, p.Source)
	}
	holds, err := r.Judge(nic, host)
	switch {
	case err != nil:
		return undecided("", err)
	case holds:
		return findings.Passes("%s", r.Seen(nic, host))
	}
	return findings.Fails(r.Seen(nic, host), strings.Join(strings.Fields(r.Expect.String()), " "))
}

// undecided is the verdict where a condition could not be evaluated.
func undecided(before string, err error) findings.Verdict {
	v := findings.Unclear("%s%v", before, err)
	var unknown *policies.UnknownError
	if !errors.As(err, &unknown) || unknown.Reason == inventory.Failed {
		v.Status = findings.Error
	}
	return v
}
