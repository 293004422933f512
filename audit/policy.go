package audit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// Obey makes of findings what policies say: rules that are off say nothing, others
// get another severity, and failures that are waived are no longer failures while the
// waiver holds. One that has expired is kept with the failure.
//
// Policies that contradict each other are an error, and so are conditions that can't
// be decided for a NIC; the findings are then what the rest makes of them.
func Obey(all []findings.Finding, e *Evidence, checks []policies.CheckPolicy, labels map[string]string, now time.Time) ([]findings.Finding, error) {
	host := &policies.Host{Host: e.Host, Labels: labels}
	obeyed, nics := slices.Clone(all), e.index()
	var errs []error
	said := map[string]bool{}
	for i := range obeyed {
		f := &obeyed[i]
		ruling, err := policies.Rule(checks, f.Rule, nics.nicOf(f.Subject), host)
		if err != nil {
			// The same condition can't be decided for each rule of a NIC.
			err = fmt.Errorf("%s: %w", f.Subject, err)
			if !said[err.Error()] {
				said[err.Error()] = true
				errs = append(errs, err)
			}
		}
		switch ruling.Severity {
		case "":
		case policies.RuleOff:
			f.Status, f.Policy = findings.NotApplicable, ruling.By.String()
			f.Seen, f.Expected, f.Why, f.Remedy = "switched off by "+f.Policy, "", "", ""
			continue
		default:
			f.Severity, f.Policy = findings.Severity(ruling.Severity), ruling.By.String()
		}
		if w := ruling.Waiver; w != nil && f.Status == findings.Fail {
			f.Waiver = &findings.Waiver{
				Reason: w.Reason, Owner: w.Owner, Expires: w.Expires.Format(time.DateOnly),
				Expired: w.Expired(now), Policy: w.Source.String(),
			}
			if !f.Waiver.Expired {
				f.Status = findings.Waived
			}
		}
	}
	findings.Sort(obeyed)
	return obeyed, errors.Join(errs...)
}

// index finds NICs by their IDs and names.
type index struct{ byID, byName map[string]*inventory.NIC }

// index is that of the host's NICs, and of those that an earlier look saw.
func (e *Evidence) index() index {
	x := index{map[string]*inventory.NIC{}, map[string]*inventory.NIC{}}
	lists := [][]inventory.NIC{e.NICs}
	if e.Earlier != nil {
		lists = append(lists, e.Earlier.NICs)
	}
	for _, list := range lists {
		for i := range list {
			n := &list[i]
			if id := n.ID(); x.byID[id] == nil {
				x.byID[id] = n
			}
			if x.byName[n.Name] == nil {
				x.byName[n.Name] = n
			}
		}
	}
	return x
}

// nicOf is the NIC that a subject is, or is a part of; nil for the host, and for what
// has no network device here.
func (x index) nicOf(s findings.Subject) *inventory.NIC {
	if n := x.byID[s.ID]; n != nil || s.Name == "" {
		return n
	}
	return x.byName[s.Name]
}
