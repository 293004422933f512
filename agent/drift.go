package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// Comparison is what policies want of a host, beside what it has.
type Comparison struct {
	// Drift is for the metrics, NICs for the reconciler. NICs lack those of which
	// nothing is wanted.
	Drift *metrics.Drift
	NICs  []Compared
	// Summaries are the same for audits, with what differs in words.
	Summaries []audit.DriftSummary
}

// Compared is one NIC beside what is wanted of it.
type Compared struct {
	NIC tuning.Target
	// Up is whether it is switched on (IFF_UP).
	Up bool
	// Unconfirmed is whether a transaction on it waits to be confirmed: until that
	// is settled nobody else may touch it.
	Unconfirmed bool
	Settings    []ComparedSetting
}

// ComparedSetting is one setting of a NIC beside what is wanted of it.
type ComparedSetting struct {
	Want policies.Want
	// Drifted are the fields of its state that differ, and Impact is what putting
	// them right does.
	Drifted []string
	Impact  tuning.Impact
	// Reason is why what is wanted can't be had, or could not be compared. The
	// rest says nothing then.
	Reason inventory.Reason
	// Skipped is what the policies call optional and the NIC lacks.
	Skipped []tuning.Skipped
}

// Comparer gives a function for Options.Compare: what the policies want and what
// the host has, setting by setting, so that a NIC which can't do what is wanted
// hides nothing about the others. The labels are the host's; past is its history,
// which [tuning.MakePlan] asks for.
func Comparer(r kernel.Reader, settings []tuning.Setting, wanted []policies.Policy, labels map[string]string, past func() ([]tuning.Transaction, error)) func(context.Context, *inventory.Inventory) (*Comparison, error) {
	return func(ctx context.Context, inv *inventory.Inventory) (*Comparison, error) {
		wants, report, err := policies.Resolve(wanted, policies.HostOf(inv, labels), inv.NICs)
		if err != nil {
			return nil, err
		}
		c := &Comparison{Drift: &metrics.Drift{Matched: map[string]int{}}}
		for _, m := range report.Policies {
			c.Drift.Matched[m.Policy] = len(m.NICs)
			for _, u := range m.Undecided {
				one := metrics.UndecidedMatch{Policy: m.Policy, Device: u.NIC.Name}
				if !slices.Contains(c.Drift.Undecided, one) { // of several facts once
					c.Drift.Undecided = append(c.Drift.Undecided, one)
					c.Summaries = append(c.Summaries, audit.DriftSummary{
						Policy: m.Policy, NIC: u.NIC.ID(), Name: u.NIC.Name, Status: audit.Undecided, Detail: u.Err.Error(),
					})
				}
			}
		}
		plan, err := tuning.MakePlan(ctx, r, settings, wants, past)
		var problems tuning.PlanError
		if faults := (*tuning.PlanError)(nil); errors.As(err, &faults) {
			problems = *faults
		} else if err != nil {
			return nil, err
		}
		for _, w := range wants {
			one := ComparedSetting{Want: w}
			var fields []tuning.Field
			target := tuning.TargetOf(w.NIC)
			for _, change := range plan.Changes {
				// What is only kept, or makes way, is as it should be now.
				if change.NIC == target && change.Setting == w.Setting && (change.Turn == tuning.Direct || change.Turn == tuning.Late) {
					one.Impact, fields = change.Impact, change.Fields
				}
			}
			for _, f := range fields {
				one.Drifted = append(one.Drifted, f.Name)
			}
			var wrong []tuning.Problem
			for _, p := range problems.Problems {
				if p.NIC == target.Name && p.Setting == w.Setting {
					wrong = append(wrong, p)
				}
			}
			if len(wrong) > 0 {
				one = ComparedSetting{Want: w, Reason: wrong[0].Reason}
			} else {
				for _, s := range plan.Skipped {
					if s.NIC == target && s.Setting == w.Setting {
						one.Skipped = append(one.Skipped, s)
					}
				}
			}
			c.add(one, fields, wrong)
		}
		return c, nil
	}
}

// ComparerOfEach gives a function for Options.Compare that holds each policy against
// the host by itself, as if there were no other: alternatives, which may contradict
// each other: those that nictune ships. None of them is chosen, so there are
// no NICs in the comparison, and nothing to put right.
func ComparerOfEach(r kernel.Reader, settings []tuning.Setting, alternatives []policies.Policy, labels map[string]string, past func() ([]tuning.Transaction, error)) func(context.Context, *inventory.Inventory) (*Comparison, error) {
	return func(ctx context.Context, inv *inventory.Inventory) (*Comparison, error) {
		all := &Comparison{Drift: &metrics.Drift{Shipped: true, Matched: map[string]int{}}}
		for _, p := range alternatives {
			one, err := Comparer(r, settings, []policies.Policy{p}, labels, past)(ctx, inv)
			if err != nil {
				return nil, err
			}
			maps.Copy(all.Drift.Matched, one.Drift.Matched)
			all.Drift.Settings = append(all.Drift.Settings, one.Drift.Settings...)
			all.Drift.Undecided = append(all.Drift.Undecided, one.Drift.Undecided...)
			all.Summaries = append(all.Summaries, one.Summaries...)
		}
		return all, nil
	}
}

// add files one setting under its NIC, and under each policy that wants some of it.
// wrong is why it can't be had.
func (c *Comparison) add(s ComparedSetting, fields []tuning.Field, wrong []tuning.Problem) {
	target := tuning.TargetOf(s.Want.NIC)
	if n := len(c.NICs); n == 0 || c.NICs[n-1].NIC != target {
		c.NICs = append(c.NICs, Compared{NIC: target, Up: s.Want.NIC == nil || s.Want.NIC.Link.Admin == "up"})
	}
	last := &c.NICs[len(c.NICs)-1]
	last.Settings = append(last.Settings, s)
	var wanting []string
	for _, a := range s.Want.Fields {
		if !slices.Contains(wanting, a.Value.Source.Policy) {
			wanting = append(wanting, a.Value.Source.Policy)
		}
	}
	if len(s.Want.Fields) == 0 { // a list, which is one policy's
		wanting = []string{s.Want.Source.Policy}
	}
	for _, policy := range wanting {
		skipped, whole := s.skippedOf(policy)
		for _, lacking := range skipped {
			c.Drift.Skipped = append(c.Drift.Skipped, metrics.SkippedSetting{
				Policy: policy, Device: deviceOf(target), Setting: s.Want.Setting, Field: lacking.Field,
			})
		}
		c.Summaries = append(c.Summaries, summaryOf(policy, target, s, fields, wrong))
		if whole {
			continue
		}
		c.Drift.Settings = append(c.Drift.Settings, metrics.DriftedSetting{
			Policy: policy, Device: deviceOf(target), Setting: s.Want.Setting, Reason: s.Reason,
			Drifted: slices.ContainsFunc(fields, func(f tuning.Field) bool { return f.Source.Policy == policy }),
		})
	}
}

// skippedOf is what of a policy's is skipped, and whether that is all it wants of the
// setting: then it is one, without a field.
func (s *ComparedSetting) skippedOf(policy string) (skipped []tuning.Skipped, whole bool) {
	wants := 0
	for _, a := range s.Want.Fields {
		if a.Value.Source.Policy == policy {
			wants++
		}
	}
	for _, lacking := range s.Skipped {
		switch {
		case lacking.Field == "":
			return []tuning.Skipped{lacking}, true
		case lacking.Source.Policy == policy:
			skipped = append(skipped, lacking)
		}
	}
	if len(skipped) == 0 || len(skipped) < wants {
		return skipped, false
	}
	all := skipped[0]
	all.Field, all.Detail = "", strings.Join(lacks(skipped), "; ")
	return []tuning.Skipped{all}, true
}

// lacks says of each field why it was skipped.
func lacks(skipped []tuning.Skipped) []string {
	texts := make([]string, len(skipped))
	for i, s := range skipped {
		texts[i] = s.Field + ": " + s.Detail
	}
	return texts
}

// summaryOf tells an audit of what a policy wants of a setting.
func summaryOf(policy string, target tuning.Target, s ComparedSetting, fields []tuning.Field, wrong []tuning.Problem) audit.DriftSummary {
	one := audit.DriftSummary{Policy: policy, NIC: target.ID, Name: deviceOf(target), Setting: s.Want.Setting, Status: audit.AsWanted}
	if s.Reason != "" {
		one.Status, one.Reason = audit.Impossible, s.Reason
		var details []string
		for _, p := range wrong {
			detail := p.Err.Error()
			if p.Field != "" {
				one.Fields = append(one.Fields, p.Field)
				detail = fmt.Sprintf("%s: %s: %s", p.Field, p.Value, detail)
			}
			details = append(details, detail)
		}
		one.Detail = strings.Join(details, "; ")
		return one
	}
	skipped, whole := s.skippedOf(policy)
	if whole {
		one.Status, one.Reason, one.Detail = audit.Skipped, inventory.Unsupported, skipped[0].Detail
		return one
	}
	one.Skipped = lacks(skipped)
	for _, f := range fields {
		if f.Source.Policy != policy {
			continue
		}
		one.Status = audit.Drifted
		before, after := cmp.Or(string(f.Before), "absent"), cmp.Or(string(f.After), "absent")
		one.Fields = append(one.Fields, fmt.Sprintf("%s: %s, wanted %s", f.Name, before, after))
	}
	return one
}

// deviceOf is a target in the label device, which a setting of the host lacks.
func deviceOf(target tuning.Target) string {
	if target == tuning.TargetOf(nil) {
		return ""
	}
	return target.Name
}
