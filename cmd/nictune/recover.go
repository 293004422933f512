package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/tuning"
)

func newRecoverCommand(app *app) *cobra.Command {
	var format, state string
	var wait bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "End what an interrupted apply left behind",
		Long: `Undo what an apply that was killed, or cut off with the power, had changed, or
complete it where every change had been verified. apply and rollback do this
first, too; at boot it is for nictune-recover.service.

Where nothing was left behind, nothing is done. A change that still may be confirmed
is left alone; with --wait this command stays until it was confirmed, or its time is
over, and then takes it back. apply --confirm starts it in the background.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ended := func(context.Context, changer) (*tuning.Transaction, error) {
				left, err := tuning.History(state)
				if err != nil {
					app.log.Warn("some transactions can't be read", "err", err) // of the past; a pending one is told of before
				}
				for _, t := range left {
					if t.Outcome == tuning.Pending {
						return nil, fmt.Errorf("transaction %d is still unfinished; nictune history shows it", t.ID)
					}
				}
				return nil, nil
			}
			if wait {
				result, err := app.recoverInTime(cmd.Context(), state, ended)
				return app.report(format, result, err)
			}
			return app.change(cmd.Context(), state, format, ended)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "stay while a change awaits confirmation, and take it back when its time is over")
	stateFlag(cmd, &state)
	outputFlag(cmd, &format, "text", "json")
	return cmd
}
