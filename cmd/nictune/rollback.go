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
	var to int
	var safety safetyFlags
	cmd := &cobra.Command{
		Use:   "rollback [ID]",
		Short: "Take back what an apply changed",
		Long: `Put back what transaction ID changed, or the last one that has not been taken back.
This is a transaction of its own, and can be taken back, too. Whoever allowed the
impact of the first has allowed that of its end.

With --to ID everything that came after transaction ID is taken back at once, as one
transaction: what these changed is then as it was when ID had ended, and with --to 0
as it was before the first. A setting that several of them changed is written once.

One that awaits confirmation is undone at once. A rollback is guarded and its
effect watched as an apply's is: see there for --disrupt and the gates.

It is refused where a value is not what the transaction made it, or a NIC is gone;
--force puts back all the same what is there, also over what somebody else set.`,
		Example: `  nictune rollback
  nictune rollback 17
  nictune rollback --to 14`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := transactionID(args)
			if err != nil {
				return err
			}
			returns := cmd.Flags().Changed("to")
			switch {
			case returns && len(args) > 0:
				return fmt.Errorf("rollback %s takes one transaction back, and --to %d all after another: leave one out", args[0], to)
			case to < 0:
				return fmt.Errorf("--to %d: the number of a transaction, or 0 for before the first; nictune history lists them", to)
			}
			return app.change(cmd.Context(), state, format, func(_ context.Context, c changer) (*tuning.Transaction, error) {
				if id == 0 && !returns { // known only now: an interrupted one may have been completed first
					all, err := tuning.History(state)
					if err != nil {
						return nil, err
					}
					if id = tuning.LastApplied(all); id == 0 {
						return nil, fmt.Errorf("nothing to take back: no transaction in %s holds", state)
					}
				}
				why, all := fmt.Sprintf("rollback %d", id), fmt.Sprintf("all is as before transaction %d", id)
				if returns {
					why, all = fmt.Sprintf("rollback --to %d", to), fmt.Sprintf("all is as after transaction %d", to)
				}
				if returns && to == 0 {
					all = "all is as before the first transaction"
				}
				request, err := requester(why, string(tuning.Seamless))
				if err == nil {
					err = safety.into(&request)
				}
				if err != nil {
					return nil, err
				}
				c.engine.Gates = safety.gates()
				var t *tuning.Transaction
				if returns {
					t, err = c.engine.RollbackTo(cmd.Context(), to, c.nics, request, force)
				} else {
					t, err = c.engine.Rollback(cmd.Context(), id, c.nics, request, force)
				}
				if err == nil && t == nil && format == "text" {
					fmt.Fprintf(app.stdout, "Nothing to do: %s.\n", all)
				}
				return t, err
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "put back also over what was set since, and leave out NICs that are gone")
	cmd.Flags().IntVar(&to, "to", 0, "put back all that came after transaction `ID`; 0: all that nictune ever changed, where the history still has it")
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
