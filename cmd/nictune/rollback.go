package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/tuning"
)

func newRollbackCommand(app *app) *cobra.Command {
	var format, state string
	var force bool
	var safety safetyFlags
	cmd := &cobra.Command{
		Use:   "rollback [ID]",
		Short: "Take back what an apply changed",
		Long: `Put back what transaction ID changed, or the last one that has not been taken back.
This is a transaction of its own, and can be taken back, too. Whoever allowed the
impact of the first has allowed that of its end.

One that awaits confirmation is undone at once. A rollback is guarded and its
effect watched as an apply's is: see there for --disrupt and the gates.

It is refused where a value is not what the transaction made it, or a NIC is gone;
--force puts back all the same what is there, also over what somebody else set.`,
		Example: `  nictune rollback
  nictune rollback 17`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := transactionID(args)
			if err != nil {
				return err
			}
			return app.change(cmd.Context(), state, format, func(_ context.Context, c changer) (*tuning.Transaction, error) {
				if id == 0 { // known only now: an interrupted one may have been completed first
					all, err := tuning.History(state)
					if err != nil {
						return nil, err
					}
					if id = tuning.LastApplied(all); id == 0 {
						return nil, fmt.Errorf("nothing to take back: no transaction in %s holds", state)
					}
				}
				request, err := requester(fmt.Sprintf("rollback %d", id), string(tuning.Seamless))
				if err == nil {
					err = safety.into(&request)
				}
				if err != nil {
					return nil, err
				}
				c.engine.Gates = safety.gates()
				t, err := c.engine.Rollback(cmd.Context(), id, c.nics, request, force)
				if err == nil && t == nil && format == "text" {
					fmt.Fprintf(app.stdout, "Nothing to do: all is as before transaction %d.\n", id)
				}
				return t, err
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "put back also over what was set since, and leave out NICs that are gone")
	stateFlag(cmd, &state)
	safety.add(cmd)
	outputFlag(cmd, &format, "text", "json")
	return cmd
}

// transactionID is the transaction that the arguments name, 0 where there are none.
func transactionID(args []string) (int, error) {
	if len(args) == 0 {
		return 0, nil
	}
	id, err := strconv.Atoi(args[0])
	if err != nil || id < 1 {
		return 0, fmt.Errorf("%q is not the number of a transaction; nictune history lists them", args[0])
	}
	return id, nil
}
