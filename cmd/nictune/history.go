package main

import (
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
or show the changes of one.`,
		Example: `  nictune history
  nictune history 17
  nictune history -o json | jq '.transactions[-1].plan.changes'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := tuning.History(state)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				i := slices.IndexFunc(all, func(t tuning.Transaction) bool { return strconv.Itoa(t.ID) == args[0] })
				if i < 0 {
					return fmt.Errorf("there is no transaction %s in %s", args[0], state)
				}
				all = all[i : i+1]
			}
			switch {
			case format == "json":
				return writeJSON(app.stdout, tuning.HistoryOf(all))
			case len(args) == 1:
				return all[0].WriteText(app.stdout)
			default:
				return tuning.WriteHistory(app.stdout, all)
			}
		},
	}
	stateFlag(cmd, &state)
	outputFlag(cmd, &format, "text", "json")
	return cmd
}
