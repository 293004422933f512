package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

func newApplyCommand(app *app) *cobra.Command {
	var match matching
	var format, planFile, allow, state string
	var safety safetyFlags
	cmd := &cobra.Command{
		Use:   "apply (-f FILE | --plan FILE)",
		Short: "Make this host what policies want",
		Long: `Change what differs from the policies, or carry out a plan made before, as one
transaction: each change is noted on disk before it is written, read back after,
and when one fails or does not hold, all are undone. What is as wanted already is
not written.

A change that does more than a seamless one must be allowed: --allow link-flap, or
--allow nic-reset. One that disturbs what a NIC is used for (the default route, your
SSH session, an XDP program, an AF_XDP socket) needs the NIC's name, too: --disrupt
eth0; one that takes a virtual function from its user that of the VF. A plan that no
longer fits the host is refused.

Afterwards every NIC that was changed must have its carrier back and be no slower,
the gateways behind it must answer, and what --gate-tcp names take a connection;
else all is undone. Members of one bond are changed one after the other.

With --confirm 60s all is undone in a minute unless somebody runs nictune confirm,
or presses Enter here: so also when this command is killed, the session is lost, or
the host restarts.

What an apply that was killed, or cut off with the power, left behind is undone at
the next start of apply or rollback, before anything else.

Exit status: 0 when all is as wanted, 1 on an error (all was undone unless it says
otherwise), 3 when refused and nothing was tried.`,
		Example: `  nictune apply -f /etc/nictune/policies --allow nic-reset
  nictune apply -f edge.yaml --confirm 60s --reason 'CHG-4711: drops on edge3'
  nictune apply --plan edge.plan`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			command := "apply -f " + strings.Join(match.policies, ",")
			if planFile != "" {
				command = "apply --plan " + planFile
			}
			request, err := requester(command, allow)
			if err == nil {
				err = safety.into(&request)
			}
			if err != nil {
				return err
			}
			var plan *tuning.Plan
			if planFile != "" {
				if plan, err = readPlan(planFile); err != nil {
					return err
				}
			}
			signals := make(chan os.Signal, 1)
			signal.Notify(signals, endings()...)
			defer signal.Stop(signals)
			result, err := app.changed(cmd.Context(), state, func(ctx context.Context, c changer) (*tuning.Transaction, error) {
				c.engine.Gates = safety.gates()
				if plan == nil {
					if plan, c.nics, err = app.plan(ctx, c.host, c.nics, match, state); err != nil {
						return nil, err
					}
				}
				if format == "text" {
					if err := plan.WriteText(app.stdout); err != nil {
						return nil, err
					}
				}
				if safety.confirm > 0 && len(plan.Changes) > 0 {
					if err := startWatcher(state); err != nil {
						return nil, fmt.Errorf("nothing was changed: %w", err)
					}
				}
				// Its own deadlines bound each write: cutting the whole short would undo it.
				return c.engine.Apply(cmd.Context(), plan, c.nics, request)
			})
			if t := result.Transaction; err == nil && t != nil && t.Outcome == tuning.Unconfirmed && !safety.noWait {
				result.Transaction, err = app.await(cmd.Context(), signals, state, *t)
			}
			return app.report(format, result, err)
		},
	}
	match.flags(cmd)
	cmd.Flags().StringVar(&planFile, "plan", "", "carry out the plan in `FILE`, from nictune plan --out")
	cmd.Flags().StringVar(&allow, "allow", string(tuning.Seamless), "allow changes of up to this `IMPACT`: seamless, link-flap, nic-reset")
	stateFlag(cmd, &state)
	safety.add(cmd)
	safety.addConfirm(cmd)
	for _, name := range []string{"policy", "label", "labels", "require-match"} {
		cmd.MarkFlagsMutuallyExclusive(name, "plan") // there all that is decided
	}
	cmd.MarkFlagsOneRequired("policy", "plan")
	outputFlag(cmd, &format, "text", "json")
	return cmd
}

func stateFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state-dir", tuning.StateDir, "keep the journal of changes in `DIR`")
}

func readPlan(name string) (*tuning.Plan, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	plan, err := tuning.ParsePlan(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return plan, nil
}

// requester says who asks for a change, and why.
func requester(reason, allow string) (tuning.Request, error) {
	impact, err := tuning.ParseImpact(allow)
	if err != nil {
		return tuning.Request{}, fmt.Errorf("--allow: %w", err)
	}
	r := tuning.Request{UID: os.Getuid(), Login: os.Getenv("SUDO_USER"), Reason: reason, Allow: impact}
	if u, err := user.Current(); err == nil {
		r.User = u.Username
	}
	return r, nil
}

// changer is everything that a change of this host needs.
type changer struct {
	host   host
	nics   []inventory.NIC
	engine *tuning.Engine
}

// change does what it is given and tells how that ended.
func (a *app) change(ctx context.Context, state, format string, do func(context.Context, changer) (*tuning.Transaction, error)) error {
	result, err := a.changed(ctx, state, do)
	return a.report(format, result, err)
}

// changed opens the running host and the state directory, ends what an earlier
// process left unfinished, and does what it is given.
func (a *app) changed(ctx context.Context, state string, do func(context.Context, changer) (*tuning.Transaction, error)) (tuning.Result, error) {
	result := tuning.Result{APIVersion: tuning.APIVersion, Kind: tuning.ResultKind}
	h, err := a.open()
	if err != nil {
		return result, err
	}
	defer h.Close()
	if h.live == nil {
		return result, &exitStatus{exitRefused, errors.New("only the running host can be changed: leave out --host and --root")}
	}
	// Who reads the progress may leave (| head): that is no reason to die between
	// two writes.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	patient, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	store, err := openStore(patient, state)
	if err != nil {
		return result, err
	}
	defer store.Close()
	c := changer{host: h, engine: &tuning.Engine{
		Settings: settings.All(), Writer: h.live, Store: store,
		Progress: func(c tuning.Change, s tuning.State) {
			fmt.Fprintf(a.stderr, "%s: %s: %s\n", c.NIC.Name, c.Setting, s)
		},
		Detail: func(c tuning.Change, text string) {
			fmt.Fprintf(a.stderr, "%s: %s: %s\n", c.NIC.Name, c.Setting, text)
		},
	}}
	if c.nics, err = a.identities(ctx, h); err != nil {
		return result, err
	}
	result.Recovered = a.recover(ctx, c.engine, c.nics)
	// The time that recovery took, waiting for a NIC that refuses, is not taken
	// from the others.
	planning, done := context.WithTimeout(ctx, a.timeout)
	defer done()
	result.Transaction, err = do(planning, c)
	return result, err
}

// report tells how a change ended.
func (a *app) report(format string, result tuning.Result, err error) error {
	if format == "json" {
		if err != nil {
			result.Error = err.Error()
		}
		if unwritten := writeJSON(a.stdout, result); unwritten != nil {
			return errors.Join(refused(err), unwritten)
		}
		return refused(err)
	}
	if t := result.Transaction; err == nil && t != nil {
		switch t.Outcome {
		case tuning.Undone:
			fmt.Fprintf(a.stdout, "Done: what transaction %d had changed is as it was before.\n", t.ID)
		case tuning.Unconfirmed:
			fmt.Fprintf(a.stdout, "Unconfirmed: transaction %[1]d. nictune confirm %[1]d keeps it; in %[2]s it is taken back.\n",
				t.ID, time.Duration(t.Request.ConfirmSeconds*float64(time.Second)))
		default:
			fmt.Fprintf(a.stdout, "Done: transaction %d. nictune rollback %d takes it back.\n", t.ID, t.ID)
		}
	}
	return refused(err)
}

// recover ends what an earlier process left unfinished, and says so.
func (a *app) recover(ctx context.Context, engine *tuning.Engine, nics []inventory.NIC) []tuning.Transaction {
	ended, err := engine.Recover(ctx, nics)
	if err != nil {
		a.log.Warn("an earlier transaction could not be ended", "err", err)
	}
	for _, t := range ended {
		why := "an earlier transaction had been interrupted"
		if t.Until != nil {
			why = "an earlier transaction was not confirmed"
		}
		a.log.Warn(why, "transaction", t.ID, "outcome", t.Outcome)
		for i, s := range t.Steps {
			if s.State == tuning.Left {
				a.log.Warn("left alone", "transaction", t.ID, "device", t.Plan.Changes[i].NIC.Name, "why", s.Detail)
			}
		}
	}
	return ended
}

// identities are the NICs of the host, read within the time that --timeout gives.
func (a *app) identities(ctx context.Context, h host) ([]inventory.NIC, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	inv, err := inventory.ReadIdentity(ctx, h)
	if err != nil {
		return nil, err
	}
	return inv.NICs, nil
}

// refused gives errors that say that nothing was tried their exit code.
func refused(err error) error {
	if errors.Is(err, tuning.ErrRefused) || errors.Is(err, tuning.ErrLocked) {
		return &exitStatus{exitRefused, err}
	}
	return err
}
