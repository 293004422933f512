package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// enforcer puts right what has drifted on the running host, for the agent.
type enforcer struct {
	*app
	host  host
	state string // the state directory
	allow tuning.Impact
	// disrupt are the NICs whose use may be disturbed.
	disrupt []string
	gates   tuning.Gates
	busy    sync.Mutex // held while this process changes the host
}

// enforcement makes what puts drift right, after it has ended what an earlier
// process left unfinished.
func (a *app) enforcement(ctx context.Context, h host, f agentFlags) (*enforcer, error) {
	switch {
	case h.live == nil:
		return nil, &exitStatus{exitRefused, errors.New("--reconcile=enforce: only the running host can be changed: leave out --host and --root")}
	case len(f.match.policies) == 0:
		return nil, errors.New("--reconcile=enforce needs --policy: the shipped policies are not applied without being asked for")
	case os.Geteuid() != 0:
		return nil, &exitStatus{exitRefused, errors.New("--reconcile=enforce changes the host, and that needs root")}
	}
	allow, err := tuning.ParseImpact(f.allow)
	if err != nil {
		return nil, fmt.Errorf("--allow: %w", err)
	}
	if err := f.gates.check(); err != nil {
		return nil, err
	}
	e := &enforcer{app: a, host: h, state: f.state, allow: allow, disrupt: f.disrupt, gates: f.gates.gates()}
	if err := e.begin(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// into makes an agent of these options put drift right.
func (e *enforcer) into(options *agent.Options) {
	compare := options.Compare
	options.Compare = func(ctx context.Context, inv *inventory.Inventory) (*agent.Comparison, error) {
		c, err := compare(ctx, inv)
		if err == nil {
			e.unconfirmed(c)
		}
		return c, err
	}
	options.Enforce = &agent.Enforcement{
		Reconciler: agent.NewReconciler(e.allow, rand.Float64), //nolint:gosec // it spreads attempts and keeps no secret
		Apply:      e.apply,
		Who:        e.others,
		Lost:       e.lost,
		Held:       e.held,
		Done:       e.done,
	}
}

// unconfirmed marks the NICs with a change that somebody may still confirm.
func (e *enforcer) unconfirmed(c *agent.Comparison) {
	waiting, err := tuning.Awaiting(e.state)
	if err != nil {
		e.log.Warn("some transactions can't be read", "err", err)
	}
	for _, t := range waiting {
		for _, change := range t.Plan.Changes {
			for i := range c.NICs {
				if c.NICs[i].NIC.ID == change.NIC.ID {
					c.NICs[i].Unconfirmed = true
				}
			}
		}
	}
}

// begin refuses a state directory that can't be used, and recovers.
func (e *enforcer) begin(ctx context.Context) error {
	nics, err := e.identities(ctx, e.host)
	if err != nil {
		return err
	}
	err = e.changing(ctx, func(engine *tuning.Engine) error {
		e.recover(ctx, engine, nics)
		return nil
	})
	if errors.Is(err, tuning.ErrLocked) {
		e.log.Warn("what an earlier process left unfinished is ended before the first change", "err", err)
		return nil
	}
	return err
}

// changing gives f the engine, for as long as nobody else may change the host.
func (e *enforcer) changing(ctx context.Context, f func(*tuning.Engine) error) error {
	e.busy.Lock()
	defer e.busy.Unlock()
	patient, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	store, err := openStore(patient, e.state)
	if err != nil {
		return err
	}
	defer store.Close()
	return f(&tuning.Engine{Settings: settings.All(), Writer: e.host.live, Store: store, Gates: e.gates})
}

// apply makes one attempt. One that has begun goes on to its end although the
// agent is told to stop: each write has its own deadline, and an agent that stops
// undoes nothing.
func (e *enforcer) apply(ctx context.Context, inv *inventory.Inventory, attempt agent.Attempt, reason string) (result agent.Result) {
	ctx = context.WithoutCancel(ctx)
	err := e.changing(ctx, func(engine *tuning.Engine) error {
		e.recover(ctx, engine, inv.NICs)
		planning, cancel := context.WithTimeout(ctx, e.timeout)
		defer cancel()
		plan, err := tuning.MakePlan(planning, e.host, settings.All(), attempt.Wants, pastOf(e.state))
		if err != nil {
			return err
		}
		request, err := requester(reason, string(e.allow))
		if err != nil {
			return err
		}
		request.Disrupt = e.disrupt
		t, err := engine.Apply(ctx, plan, inv.NICs, request)
		result = agent.ResultOf(t, err)
		return nil
	})
	if err != nil {
		result = agent.ResultOf(nil, err)
	}
	return result
}

// others are who changed through nictune what the agent had put right: they are
// in the journals.
func (e *enforcer) others(l agent.Lost) []string {
	history, err := tuning.History(e.state)
	if err != nil {
		e.log.Warn("some transactions can't be read", "err", err)
	}
	var names []string
	for _, t := range history {
		if !t.Started.After(l.PutRight) || t.Outcome != tuning.Applied {
			continue
		}
		if slices.ContainsFunc(t.Plan.Changes, func(c tuning.Change) bool {
			return c.NIC.ID == l.NIC.ID && c.Setting == l.Setting &&
				slices.ContainsFunc(c.Fields, func(f tuning.Field) bool { return f.Name == l.Field })
		}) {
			names = append(names, fmt.Sprintf("nictune transaction %d by %s", t.ID, cmp.Or(t.Request.Login, t.Request.User)))
		}
	}
	return names
}

func (e *enforcer) lost(l agent.Lost) {
	who := "nobody that nictune knows runs here: look at timers, udev rules and the driver"
	if len(l.Who) > 0 {
		who = strings.Join(l.Who, ", ")
	}
	e.log.Warn("somebody else sets this again and again: it is left to them", "device", l.NIC.Name,
		"setting", l.Setting, "field", l.Field, "times", l.Times, "suspects", who)
}

func (e *enforcer) held(h agent.Held) {
	if h.Why != metrics.HeldImpact {
		return // it passes
	}
	e.log.Warn("drift is left as it is: putting it right needs more than is allowed", "device", h.NIC.Name,
		"setting", h.Setting, "needs", "--allow "+string(h.Impact))
}

func (e *enforcer) done(a agent.Attempt, r agent.Result) {
	about := []any{"device", a.NIC.Name, "drifted", strings.Join(a.Drifted, " ")}
	switch r.Outcome {
	case agent.Applied:
		e.log.Info("drift was put right", append(about, "transaction", r.Transaction)...)
	case agent.Unchanged:
	case agent.Refused:
		e.log.Warn("drift is left as it is for now", append(about, "err", r.Err)...)
	default:
		e.log.Error("drift could not be put right; it is tried again later", append(about, "outcome", r.Outcome, "err", r.Err)...)
	}
}
