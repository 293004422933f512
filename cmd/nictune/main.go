// Command nictune discovers, judges, tunes and exports the network devices of a
// Linux host.
//
// There is one file for each subcommand here: flags, logging, output and exit
// codes. What the subcommands do lives in the rooms beside this folder.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every subcommand.
const (
	exitOK          = 0
	exitError       = 1
	exitDifferences = 2 // differences or findings
	exitRefused     = 3 // needs --allow, a stale plan, ...
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// endings are the signals that end a command.
func endings() []os.Signal {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	return ends
}

// run is main with its surroundings handed in, so that tests can call it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := &app{stdout: stdout, stderr: stderr, log: slog.New(slog.NewTextHandler(stderr, nil))}
	root := newRoot(app)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit *exitStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "nictune: %v\n", exit.err)
		}
		return exit.code
	default:
		fmt.Fprintf(stderr, "nictune: %v\n", err)
		return exitError
	}
}

// exitStatus is an outcome with an exit code of its own. Without an error it
// says nothing: the output has said it.
type exitStatus struct {
	code int
	err  error
}

func (e *exitStatus) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitStatus) Unwrap() error { return e.err }

// app is what all subcommands share.
type app struct {
	stdout, stderr io.Writer
	log            *slog.Logger

	// The flags that every subcommand has.
	host    string        // --host: a recording to read instead of this host
	root    string        // --root: a plain tree to read instead of this host
	timeout time.Duration // --timeout: for the whole command
}

func newRoot(app *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "nictune",
		Short:         "See, judge, tune and export the NICs of a Linux host",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs, // group refuses them
		RunE:          group,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Name() == "agent" {
				collectAt(agentGarbage)
			} else {
				collectAt(commandGarbage)
			}
			if app.timeout <= 0 {
				return fmt.Errorf("--timeout %s leaves no time for anything", app.timeout)
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&app.host, "host", "", "read the recorded host in `FILE` (see nictune record) instead of this one")
	flags.StringVar(&app.root, "root", "", "read the plain sysfs and procfs tree below `DIR` instead of this host")
	flags.DurationVar(&app.timeout, "timeout", 30*time.Second, "give up after this long")
	root.MarkFlagsMutuallyExclusive("host", "root")
	root.AddCommand(
		newInventoryCommand(app),
		newRecordCommand(app),
		newAgentCommand(app),
		newExportCommand(app),
		newPolicyCommand(app),
		newPlanCommand(app),
		newApplyCommand(app),
		newConfirmCommand(app),
		newRollbackCommand(app),
		newRecoverCommand(app),
		newHistoryCommand(app),
		newCheckCommand(app),
		newAuditCommand(app),
		newFleetCommand(app),
		newModuleCommand(app),
		newVersionCommand(app),
	)
	root.AddCommand(forPackagers()...)
	return root
}

// group is a command that only holds others. A word that names none of them is
// an error: cobra alone would show the help and exit with 0.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2 // cobra's own default, which it sets too late
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w; did you mean %q?", err, near[0])
	}
	return err
}
