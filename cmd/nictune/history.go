package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/tuning"
)

func newHistoryCommand(app *app) *cobra.Command {
	var format, state string
	cmd := &cobra.Command{
		Use:   "history [ID]",
		Short: "Show who changed what, when and why",
		Long: `List the transactions of nictune apply and rollback on this host, the oldest first,
or show the changes of one. The last 1,000 that have ended are kept.`,
		Example: `  nictune history
  nictune history 17
  nictune history -o json | jq '.transactions[-1].plan.changes'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// One damaged journal does not hide the others.
			all, damaged := tuning.History(state)
			trimmed, _ := tuning.Trimmed(state) // that it can't be read is said already
			if len(args) == 1 {
				i := slices.IndexFunc(all, func(t tuning.Transaction) bool { return strconv.Itoa(t.ID) == args[0] })
				if i < 0 {
					err := fmt.Errorf("there is no transaction %s in %s", args[0], state)
					if id, no := strconv.Atoi(args[0]); no == nil && id > 0 && id <= trimmed {
						err = fmt.Errorf("transaction %d was trimmed: the oldest that is kept is %d", id, trimmed+1)
					}
					return errors.Join(err, damaged)
				}
				all = all[i : i+1]
			}
			var now tuning.Now // of what awaits confirmation, the time left depends on it
			err := app.read(cmd.Context(), func(ctx context.Context, h host) error {
				now, _ = tuning.ReadNow(ctx, h)
				return nil
			})
			switch {
			case err != nil:
			case format == "json":
				err = writeJSON(app.stdout, tuning.HistoryOf(all, trimmed))
			case len(args) == 1:
				err = all[0].WriteText(app.stdout, now)
			default:
				err = tuning.WriteHistory(app.stdout, all, now, trimmed)
			}
			return errors.Join(err, damaged)
		},
	}
	stateFlag(cmd, &state)
	outputFlag(cmd, &format, "text", "json")
	return cmd
}
