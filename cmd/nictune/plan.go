package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

func newPlanCommand(app *app) *cobra.Command {
	var match matching
	var format, out, state string
	cmd := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Show what policies would change on this host",
		Long: `Compare the host with policies and show what nictune apply would change: which
field of which setting of which NIC, from what to what, which line wants it, and
what it does to traffic.

Nothing is changed. What can't be had (a knob that a NIC lacks, a number above its
maximum) is named all at once, and is an error.

Exit status: 0 when all is as wanted, 2 when there are changes, 1 on an error.`,
		Example: `  nictune plan -f /etc/nictune/policies
  nictune plan -f edge.yaml --out edge.plan && nictune apply --plan edge.plan
  nictune plan -f policies/ --label role=edge --require-match
  nictune plan -f edge.yaml --host web1.txtar        # on a recorded host`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, reader host) error {
				plan, nics, err := app.plan(ctx, reader, nil, match, state)
				if err != nil {
					return err
				}
				if err := app.foresee(ctx, reader, plan, nics); err != nil {
					return err
				}
				if out != "" {
					if err := writeWhole(out, func(f *os.File) error { return writeJSON(f, plan) }); err != nil {
						return err
					}
				}
				if format == "json" {
					err = writeJSON(app.stdout, plan)
				} else {
					err = plan.WriteText(app.stdout)
					if err == nil {
						err = app.takes(plan)
					}
				}
				if err == nil && len(plan.Changes) > 0 {
					return &exitStatus{code: exitDifferences}
				}
				return err
			})
		},
	}
	match.flags(cmd)
	if err := cmd.MarkFlagRequired("policy"); err != nil {
		panic(err) // the flag was added above
	}
	cmd.Flags().StringVar(&out, "out", "", "write the plan to `FILE`, for nictune apply --plan")
	cmd.Flags().StringVar(&state, "state-dir", tuning.StateDir, "the journal of changes is in `DIR`: it says what is nictune's own, and what was there before")
	outputFlag(cmd, &format, "text", "json")
	return cmd
}

// foresee notes in a plan what it would do to what NICs are used for, and to whom
// devices are lent. That is known of the running host only.
func (a *app) foresee(ctx context.Context, h host, plan *tuning.Plan, nics []inventory.NIC) (err error) {
	if h.live == nil || len(plan.Changes) == 0 {
		return nil
	}
	uses, unknown := inventory.ReadUses(ctx, h, nics)
	if plan.Disruptions, err = tuning.Disruptions(settings.All(), plan, nics, uses, unknown); err != nil {
		return err
	}
	plan.Victims, err = tuning.Victims(ctx, h, settings.All(), plan, nics)
	return err
}

// takes says what an apply of the plan would have to be told.
func (a *app) takes(plan *tuning.Plan) error {
	var flags []string
	if worst := plan.Impact(); worst != tuning.Seamless {
		flags = append(flags, "--allow "+string(worst))
	}
	var names []string
	for _, v := range plan.Victims {
		names = append(names, v.Names[0])
		if _, err := fmt.Fprintln(a.stdout, v.Text); err != nil {
			return err
		}
	}
	for _, d := range plan.Disruptions {
		names = append(names, d.NIC.Name)
		if _, err := fmt.Fprintln(a.stdout, d); err != nil {
			return err
		}
	}
	if len(names) > 0 {
		flags = append(flags, "--disrupt "+strings.Join(names, ","))
	}
	if len(flags) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(a.stdout, "To apply it takes %s.\n", strings.Join(flags, " "))
	return err
}

// plan makes the plan of what policies want of a host, whose journal is in the
// directory state, with the NICs that the host has: those that are known, or nil.
func (a *app) plan(ctx context.Context, r host, known []inventory.NIC, m matching, state string) (*tuning.Plan, []inventory.NIC, error) {
	wanted, err := loadPolicies(m.policies)
	if err != nil {
		return nil, nil, err
	}
	inv, err := survey(ctx, r, wanted, known)
	if err != nil {
		return nil, nil, err
	}
	wants, err := a.resolve(inv, wanted, m)
	if err != nil {
		return nil, nil, err
	}
	plan, err := tuning.MakePlan(ctx, r, settings.All(), wants, pastOf(state))
	if err != nil {
		return nil, nil, err // of a plan that lacks something nothing is shown
	}
	return plan, inv.NICs, nil
}

// pastOf reads what is remembered in the directory state.
func pastOf(state string) func() ([]tuning.Transaction, error) {
	return func() ([]tuning.Transaction, error) { return tuning.Remembered(state) }
}
