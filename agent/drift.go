package agent

import (
	"context"
	"errors"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// Comparer gives a function for Options.Compare: what the policies want and what
// the host has, setting by setting, so that a NIC which can't do what is wanted
// hides nothing about the others.
func Comparer(r kernel.Reader, settings []tuning.Setting, wanted []policies.Policy) func(context.Context, *inventory.Inventory) (*metrics.Drift, error) {
	return func(ctx context.Context, inv *inventory.Inventory) (*metrics.Drift, error) {
		wants, report, err := policies.Resolve(wanted, inv.NICs)
		if err != nil {
			return nil, err
		}
		drift := &metrics.Drift{Matched: map[string]int{}}
		for _, m := range report.Policies {
			drift.Matched[m.Policy] = len(m.NICs)
		}
		var failed []error
		for _, w := range wants {
			setting := metrics.DriftedSetting{Device: w.NIC.Name, Setting: w.Setting}
			plan, err := tuning.MakePlan(ctx, r, settings, []policies.Want{w})
			var problems *tuning.PlanError
			switch {
			case err == nil:
				setting.Drifted = len(plan.Changes) > 0
			case errors.As(err, &problems):
				setting.Reason = problems.Problems[0].Reason
			default:
				failed = append(failed, err)
				setting.Reason = kernel.ReasonOf(err)
			}
			drift.Settings = append(drift.Settings, setting)
		}
		return drift, errors.Join(failed...)
	}
}
