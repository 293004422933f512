package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// lockPause is between two attempts to get the state directory, lockPatience how
// long a change tries: who confirms, or looks whether recovery is due, has it for
// a moment only.
const (
	lockPause    = 50 * time.Millisecond
	lockPatience = time.Second
)

func newConfirmCommand(app *app) *cobra.Command {
	var format, state string
	cmd := &cobra.Command{
		Use:   "confirm [ID]",
		Short: "Keep what an apply --confirm changed",
		Long: `Keep the changes of transaction ID, or of the only one that awaits confirmation. They
are taken back otherwise when the time is over that apply --confirm gave.

Exit status: 0 when they stay, 3 when it is too late.`,
		Example: `  nictune apply -f edge.yaml --allow nic-reset --disrupt eth0 --confirm 60s --no-wait
  nictune confirm`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := transactionID(args)
			if err != nil {
				return err
			}
			t, err := app.confirm(cmd.Context(), state, id)
			if err != nil || format == "json" {
				return app.report(format, tuning.Result{APIVersion: tuning.APIVersion, Kind: tuning.ResultKind, Transaction: t}, err)
			}
			_, err = fmt.Fprintf(app.stdout, "Confirmed: transaction %d stays.\n", t.ID)
			return err
		},
	}
	stateFlag(cmd, &state)
	outputFlag(cmd, &format, "text", "json")
	return cmd
}

// confirm keeps an unconfirmed transaction; 0 means the only one.
func (a *app) confirm(ctx context.Context, state string, id int) (*tuning.Transaction, error) {
	h, err := a.open()
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if h.live == nil {
		return nil, &exitStatus{exitRefused, errors.New("only the running host can be changed: leave out --host and --root")}
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	who, err := requester("confirm", string(tuning.Seamless))
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, state)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	engine := &tuning.Engine{Settings: settings.All(), Writer: h.live, Store: store}
	return engine.Confirm(ctx, id, who)
}

// pause waits, and says whether there is reason to go on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// startWatcher starts this program once more, as nictune recover --wait in a
// session of its own: what survives us takes back what nobody confirms. It waits
// for the state directory, which we hold until the change is made.
func startWatcher(state string) error {
	state, err := filepath.Abs(state)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{"nictune", "recover", "--wait", "--state-dir", state}, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{null, null, null},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start what takes an unconfirmed change back: %w", err)
	}
	return p.Release()
}

// recoverInTime recovers when that is due, until nothing is unfinished any more.
// Nobody else may come, so what can't be ended yet is tried again for two minutes:
// a NIC that is away for a moment, or refuses.
func (a *app) recoverInTime(ctx context.Context, state string, ended func(context.Context, changer) (*tuning.Transaction, error)) (tuning.Result, error) {
	h, err := a.open()
	if err != nil {
		return tuning.Result{}, err
	}
	defer h.Close()
	// First whoever is at work is waited for: the change may not be made yet.
	store, err := openStore(ctx, state)
	if err != nil {
		return tuning.Result{}, err
	}
	if err := store.Close(); err != nil {
		return tuning.Result{}, err
	}
	result := tuning.Result{APIVersion: tuning.APIVersion, Kind: tuning.ResultKind}
	for wait := time.Second; ; {
		due, in, err := tuning.Unfinished(ctx, h, state)
		switch {
		case err != nil || !due:
			return result, err
		case in > 0:
			if !pause(ctx, min(in, time.Second)) {
				return result, ctx.Err() // whoever starts next ends it
			}
			continue
		}
		result, err = a.changed(ctx, state, ended)
		switch {
		case err == nil || errors.Is(err, tuning.ErrLocked):
		case wait > time.Minute || !pause(ctx, wait):
			return result, err
		default:
			wait *= 2
		}
	}
}

// openStore waits for as long as ctx lasts until nobody else holds the state
// directory.
func openStore(ctx context.Context, state string) (*tuning.Store, error) {
	store, err := tuning.OpenStore(state)
	for errors.Is(err, tuning.ErrLocked) && pause(ctx, lockPause) {
		store, err = tuning.OpenStore(state)
	}
	return store, err
}

// await stays until an unconfirmed transaction was confirmed or taken back, and
// takes it back when its time is over. Ctrl-C and SIGTERM take it back at once; a
// lost terminal does not: whose session is gone may come back and confirm.
// signals has those since before the change was made.
func (a *app) await(ctx context.Context, signals <-chan os.Signal, state string, t tuning.Transaction) (*tuning.Transaction, error) {
	ctx = context.WithoutCancel(ctx) // which the same signals end
	h, err := a.open()
	if err != nil {
		return &t, err
	}
	defer h.Close()
	fmt.Fprintf(a.stderr, "Transaction %[1]d is made; nictune confirm %[1]d keeps it, and in %[2]s it is taken back.\n",
		t.ID, time.Duration(t.Request.ConfirmSeconds*float64(time.Second)))
	enter := make(chan struct{})
	if info, err := os.Stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintln(a.stderr, "Enter keeps it, too; Ctrl-C takes it back now.")
		go func() {
			if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err == nil {
				close(enter)
			}
		}()
	}
	withdraw := false
	const attempts = 3 // a NIC that refuses, or is gone, is left to the next start
	for tried := 0; ; {
		if now, err := tuning.ReadNow(ctx, h); err == nil && (withdraw || t.Left(now) == 0) && a.takeBack(ctx, state, t.ID, withdraw) {
			tried++
		}
		end, err := ended(state, t.ID)
		switch {
		case end != nil || err != nil:
			return end, err
		case tried == attempts:
			return &t, fmt.Errorf("transaction %d could not be taken back yet; the next start of apply, rollback or recover tries again", t.ID)
		}
		select {
		case <-enter:
			enter = nil
			if _, err := a.confirm(ctx, state, t.ID); err != nil {
				fmt.Fprintf(a.stderr, "nictune: %v\n", err)
			}
		case s := <-signals:
			if s == syscall.SIGHUP {
				return &t, fmt.Errorf("the terminal is gone; transaction %d can be confirmed until %s", t.ID, t.Until.At.Format("15:04:05Z"))
			}
			withdraw = true
		case <-time.After(lockPause):
		}
	}
}

// ended is how a transaction ended, nil if it has not. One that was taken back is
// an error, too.
func ended(state string, id int) (*tuning.Transaction, error) {
	waiting, err := tuning.Awaiting(state)
	if err != nil {
		return nil, err
	}
	for _, t := range waiting {
		if t.ID == id {
			return nil, nil
		}
	}
	all, err := tuning.History(state)
	for _, t := range all {
		switch {
		case t.ID != id:
		case t.Outcome == tuning.Undone:
			return &t, fmt.Errorf("transaction %d was taken back: %s", id, t.UndoReason)
		case t.Outcome == tuning.Applied:
			return &t, nil
		default:
			return nil, nil // it is being taken back
		}
	}
	return nil, errors.Join(fmt.Errorf("transaction %d has disappeared from %s", id, state), err)
}

// takeBack undoes a transaction that nobody confirmed, or at once where somebody
// wants that. It returns false where somebody else holds the state directory, and
// does the same, or confirms.
func (a *app) takeBack(ctx context.Context, state string, id int, now bool) bool {
	_, err := a.changed(ctx, state, func(ctx context.Context, c changer) (*tuning.Transaction, error) {
		waiting, err := tuning.Awaiting(state)
		if !now || err != nil || !slices.ContainsFunc(waiting, func(t tuning.Transaction) bool { return t.ID == id }) {
			return nil, err // recovery has done it, or somebody confirmed
		}
		who, err := requester("rollback", string(tuning.Seamless))
		if err != nil {
			return nil, err
		}
		return c.engine.Rollback(ctx, id, c.nics, who, false)
	})
	if errors.Is(err, tuning.ErrLocked) {
		return false
	}
	if err != nil {
		a.log.Error("could not take back", "transaction", id, "err", err)
	}
	return true
}

// takeBackInTime takes back what nobody confirms, beside whoever else does, for
// as long as the agent runs. What it can't take back it tries again ever more
// seldom. busy is held by what else of this process changes the host: what that
// has not finished was not left behind.
func (a *app) takeBackInTime(ctx context.Context, h host, state string, busy *sync.Mutex) {
	const often, seldom = time.Second, time.Minute
	between := often
	attempt := func() time.Duration {
		busy.Lock()
		defer busy.Unlock()
		due, in, err := tuning.Unfinished(ctx, h, state)
		if err != nil || !due || in > 0 {
			return often
		}
		// What has begun goes on to its end although the agent is told to stop.
		_, err = a.changed(context.WithoutCancel(ctx), state, func(context.Context, changer) (*tuning.Transaction, error) { return nil, nil })
		if errors.Is(err, tuning.ErrLocked) {
			return between
		}
		return min(2*between, seldom)
	}
	for pause(ctx, between) {
		between = attempt()
	}
}
