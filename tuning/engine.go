package tuning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Engine applies plans to one host, one at a time.
type Engine struct {
	// Settings are all settings, in the order in which they are to be applied.
	Settings []Setting
	Writer   kernel.Writer
	Store    *Store
	// Settle is how long a written value may take to be read back, and a value
	// that is being put back may be refused; 0 is 5 s.
	Settle time.Duration
	// Timeout bounds each question to the kernel and each write; 0 is 30 s.
	Timeout time.Duration
	// Gates are what must hold before a transaction counts as done.
	Gates Gates
	// Progress, where set, is told of each change as it is made or undone.
	Progress func(Change, State)
}

// Apply carries out a plan as one transaction, on the NICs that the host has
// now. A plan without changes does nothing and returns nil.
//
// An error that wraps [ErrRefused] says that nothing was tried. An [ApplyError]
// says what failed, and that all was undone or what was not. Everything else
// failed before the first write.
func (e *Engine) Apply(ctx context.Context, plan *Plan, nics []inventory.NIC, request Request) (*Transaction, error) {
	return e.apply(ctx, beginning{Request: request, Plan: *plan}, nics)
}

func (e *Engine) apply(ctx context.Context, b beginning, nics []inventory.NIC) (*Transaction, error) {
	if err := b.Plan.validate(); err != nil {
		return nil, err
	}
	if len(b.Plan.Changes) == 0 {
		return nil, nil
	}
	if worst := b.Plan.Impact(); !worst.Within(b.Request.Allow) {
		return nil, fmt.Errorf("%w: the plan has the impact %s; allow it with --allow %s", ErrRefused, worst, worst)
	}
	t, err := e.open(ctx, &b.Plan, nics)
	if err != nil {
		return nil, err
	}
	if err := t.fits(ctx); err != nil {
		return nil, err
	}
	if err := e.unencumbered(ctx, &b.Plan); err != nil {
		return nil, err
	}
	if err := t.guarded(ctx, nics, b.Request); err != nil {
		return nil, err
	}
	if err := t.watch(ctx); err != nil {
		return nil, err
	}
	if t.journal, err = e.Store.begin(b); err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	failure := &ApplyError{Transaction: t.journal.ID}
	var failed int
	if failed, failure.Err = t.forward(ctx); failure.Err != nil {
		failure.Change = b.Plan.Changes[failed]
	} else if failure.Err = t.healthy(ctx); failure.Err == nil {
		failure.Err = t.conclude(ctx)
		switch {
		case t.journal.Outcome == Unconfirmed:
			return &t.journal.Transaction, t.journal.close()
		case t.journal.Outcome != Applied:
		case failure.Err != nil:
			return &t.journal.Transaction, fmt.Errorf("every change of transaction %d holds, but its journal can't be filed away: %w", t.journal.ID, failure.Err)
		default:
			return &t.journal.Transaction, nil
		}
	}
	// What was begun is undone also when the caller was interrupted.
	failure.Left = t.undo(context.WithoutCancel(ctx), failure.Err.Error())
	return &t.journal.Transaction, failure
}

// transaction is a plan with everything that carries it out.
type transaction struct {
	*Engine
	plan    *Plan
	journal *journal
	// sameBoot is whether the plan is of the boot that the host is in.
	sameBoot bool
	// settings and nics belong to the changes of the plan. A nil NIC is gone.
	settings []Setting
	nics     []*inventory.NIC
	// uses is what all NICs are used for, as far as it could be told.
	uses inventory.Uses
	gates
}

// open finds the settings and the NICs of a plan.
func (e *Engine) open(ctx context.Context, plan *Plan, nics []inventory.NIC) (*transaction, error) {
	t := &transaction{Engine: e, plan: plan, gates: gates{bonds: bondsOf(nics)}}
	t.sameBoot = plan.Host.BootID != "" && readHostID(ctx, e.Writer).BootID == plan.Host.BootID
	for _, c := range plan.Changes {
		i := rank(e.Settings, c.Setting)
		if i < 0 {
			return nil, fmt.Errorf("this nictune has no setting %q", c.Setting)
		}
		t.settings = append(t.settings, e.Settings[i])
		t.nics = append(t.nics, c.NIC.find(nics, t.sameBoot))
	}
	return t, nil
}

// find returns the NIC that the target is, nil if it is gone. A rename is
// followed where a permanent MAC tells NICs apart. Ports and representors that
// have none share the identity of their device, and a software device has only
// its name: there the name must fit, and in the same boot the index, too. Names
// are exchanged, and given to the next device; an index is not.
func (t Target) find(nics []inventory.NIC, sameBoot bool) *inventory.NIC {
	var alike []*inventory.NIC
	for i := range nics {
		if nics[i].ID() == t.ID {
			alike = append(alike, &nics[i])
		}
	}
	if len(alike) == 1 && alike[0].Parent != nil && (alike[0].PermanentMAC != "" || alike[0].Name == t.Name) {
		return alike[0]
	}
	for _, nic := range alike {
		if nic.Name == t.Name && (!sameBoot || t.Index == 0 || nic.Index == t.Index) {
			return nic
		}
	}
	return nil
}

// gone says that find found nothing.
func (t Target) gone() string {
	if t.ID == t.Name {
		return t.Name + " is gone, or another device has its name now"
	}
	return t.String() + " is gone"
}

// fits refuses a plan whose host, NICs or values are not those it was made for.
func (t *transaction) fits(ctx context.Context) error {
	var stale []string
	if here := readHostID(ctx, t.Writer); here != t.plan.Host {
		switch {
		case here.MachineID != t.plan.Host.MachineID:
			stale = append(stale, fmt.Sprintf("it was made on another host (%s)", t.plan.Host.Hostname))
		case here.BootID != t.plan.Host.BootID:
			stale = append(stale, "the host was restarted since")
		}
	}
	for i, c := range t.plan.Changes {
		if t.nics[i] == nil {
			stale = append(stale, c.NIC.gone())
			continue
		}
		// A plan in a file may say less than what it does.
		impact, err := t.settings[i].impact(*t.nics[i], c.Before, c.After)
		if err != nil {
			return fmt.Errorf("nothing was changed: %s: %s: %w", c.NIC.Name, c.Setting, err)
		}
		if !impact.Within(c.Impact) {
			stale = append(stale, fmt.Sprintf("%s: %s has the impact %s, not %s", c.NIC.Name, c.Setting, impact, c.Impact))
		}
		current, err := t.read(ctx, i)
		if err != nil {
			return fmt.Errorf("nothing was changed: %s: %s: %w", c.NIC.Name, c.Setting, err)
		}
		for _, field := range differing(current, c.Before) {
			stale = append(stale, fmt.Sprintf("%s: %s.%s is %s, not %s", c.NIC.Name, c.Setting, field, show(current[field]), show(c.Before[field])))
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("%w: the plan does not fit this host any more: %s; make a new one", ErrRefused, strings.Join(stale, "; "))
	}
	return nil
}

// unencumbered refuses a plan for a NIC with an unfinished transaction: whose
// values are in between can't be what a plan starts from.
func (e *Engine) unencumbered(ctx context.Context, plan *Plan) error {
	ids, err := journals(filepath.Join(e.Store.dir, pendingDir))
	if err != nil {
		return err
	}
	for _, id := range ids {
		path := filepath.Join(e.Store.dir, pendingDir, fileName(id))
		t, err := readJournal(path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if t == nil {
			continue
		}
		for i, c := range t.Plan.Changes {
			if state := t.Steps[i].State; state != Writing && state != Verified {
				continue
			}
			if slices.ContainsFunc(plan.Changes, func(d Change) bool { return c.NIC.ID == d.NIC.ID }) {
				if t.Outcome == Unconfirmed {
					return e.awaits(ctx, c.NIC, t)
				}
				return fmt.Errorf("%w: %s has the unfinished transaction %d, which could not be undone; to give up on it, remove %s",
					ErrRefused, c.NIC, id, path)
			}
		}
	}
	return nil
}

// forward makes the changes in order. It returns the index of the one that
// failed.
func (t *transaction) forward(ctx context.Context) (int, error) {
	for i := range t.plan.Changes {
		if err := t.change(ctx, i); err != nil {
			return i, err
		}
	}
	// A later change can have disturbed an earlier one.
	for i := range t.plan.Changes {
		if err := t.holds(ctx, i); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// change makes one change.
func (t *transaction) change(ctx context.Context, i int) error {
	c := &t.plan.Changes[i]
	fields := c.names()
	if err := t.turn(ctx, i); err != nil {
		return err
	}
	current, err := t.read(ctx, i)
	if err != nil {
		return err
	}
	held := same(current, c.After, fields)
	if !held && !same(current, c.Before, fields) {
		return fmt.Errorf("%s was changed by somebody else meanwhile, or by an earlier change of this plan", c.Setting)
	}
	if err := t.journal.append(record{Kind: kindWriting, Change: i}); err != nil {
		return err
	}
	t.progress(i)
	if !held {
		if err := t.write(ctx, i, current, over(current, c.After, fields)); err != nil {
			return err
		}
	}
	found, err := t.settle(ctx, i, over(current, c.After, fields), fields)
	if err != nil {
		return err
	}
	if err := t.journal.append(record{Kind: kindVerified, Change: i, Found: found}); err != nil {
		return err
	}
	t.progress(i)
	return nil
}

// holds says whether a change is still as it was verified.
func (t *transaction) holds(ctx context.Context, i int) error {
	c := &t.plan.Changes[i]
	_, err := t.settle(ctx, i, c.After, c.names())
	return err
}

// undo puts back everything that was or may have been written, the last first,
// and returns what it could not.
func (t *transaction) undo(ctx context.Context, reason string) (left []string) {
	// A journal that can't be written any more says less than what happened; what
	// it says still leads recovery to the same end.
	_ = t.journal.append(record{Kind: kindUndoing, Text: reason})
	for _, err := range t.putBack(ctx, func(int, string, Values) bool { return true }) {
		left = append(left, err.Error())
	}
	if len(left) > 0 {
		t.journal.close()
	} else if err := t.journal.end(Undone); err != nil {
		left = append(left, fmt.Sprintf("all is as before, but %v", err))
	}
	return left
}

// putBack puts back every change that was or may have been written and has not
// been put back, the last first, and returns what stands against it. ours says
// whether a field's present value is one that we may overwrite.
func (t *transaction) putBack(ctx context.Context, ours func(change int, field string, current Values) bool) (faults []error) {
	var open []int
	for i, step := range t.journal.Steps {
		if step.State == Writing || step.State == Verified {
			open = append(open, i)
		}
	}
	// Putting one setting back can disturb another that was put back before it.
	const passes = 3
	for range passes {
		faults = nil
		wrote := false
		for _, i := range slices.Backward(open) {
			state := t.journal.Steps[i].State
			if state == Left {
				continue
			}
			w, err := t.restore(ctx, i, func(field string, current Values) bool {
				return state == Restored || ours(i, field, current)
			})
			wrote = wrote || w
			if err != nil {
				c := &t.plan.Changes[i]
				faults = append(faults, fmt.Errorf("%s: %s: %w", c.NIC.Name, c.Setting, err))
			}
		}
		if !wrote {
			break
		}
	}
	return faults
}

// restore puts one change back. ours says whether a field's present value is one
// that we may overwrite; the change is left alone if one is not.
func (t *transaction) restore(ctx context.Context, i int, ours func(field string, current Values) bool) (wrote bool, err error) {
	c := &t.plan.Changes[i]
	if t.nics[i] == nil {
		return false, errors.New(c.NIC.gone())
	}
	deadline := time.Now().Add(t.settleTime())
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		wrote, err = t.restoreOnce(ctx, i, ours)
		if err == nil || !sleep(ctx, pause, deadline) {
			return wrote, err
		}
	}
}

func (t *transaction) restoreOnce(ctx context.Context, i int, ours func(string, Values) bool) (wrote bool, err error) {
	_ = t.turn(ctx, i) // what does not come back is not helped by leaving the rest as it is
	c, step := &t.plan.Changes[i], t.journal.Steps[i]
	current, err := t.read(ctx, i)
	if err != nil {
		return false, err
	}
	// What was verified is known to have changed these fields, the wanted ones
	// and those that followed; of an unverified write anything may have come.
	fields := differing(c.Before, current)
	if step.State == Verified || step.Found != nil {
		touched := differing(c.Before, step.Found)
		fields = slices.DeleteFunc(fields, func(f string) bool {
			return !slices.Contains(touched, f) && !slices.Contains(c.names(), f)
		})
	}
	if len(fields) > 0 {
		for _, field := range fields {
			if !ours(field, current) {
				detail := fmt.Sprintf("%s.%s is %s, which is neither what it was (%s) nor what was written: left alone",
					c.Setting, field, show(current[field]), show(c.Before[field]))
				_ = t.journal.append(record{Kind: kindLeft, Change: i, Text: detail})
				t.progress(i)
				return false, nil
			}
		}
		goal := over(current, c.Before, fields)
		if err := t.write(ctx, i, current, goal); err != nil {
			return true, err
		}
		if _, err := t.settle(ctx, i, goal, fields); err != nil {
			return true, err
		}
	}
	_ = t.journal.append(record{Kind: kindRestored, Change: i})
	t.progress(i)
	return len(fields) > 0, nil
}

// Recover ends what an earlier process left unfinished: a transaction of which
// every change was verified is completed, any other is undone. It is to be
// called before anything else is written, at every start.
//
// After a restart of the host, or where the last value written is known, a value
// that is neither what it was before nor what was written belongs to somebody
// else: it is left alone and the step says so. A transaction whose NIC is gone,
// or can't be written, stays pending. The transactions that were looked at are
// returned also with an error.
func (e *Engine) Recover(ctx context.Context, nics []inventory.NIC) ([]Transaction, error) {
	ids, err := journals(filepath.Join(e.Store.dir, pendingDir))
	if err != nil {
		return nil, err
	}
	var done []Transaction
	var faults []error
	for _, id := range slices.Backward(ids) {
		if err := ctx.Err(); err != nil { // which would look like a host that can't be read
			return done, errors.Join(append(faults, err)...)
		}
		j, err := e.Store.pending(id)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if j == nil {
			continue
		}
		if e.mayBeConfirmed(ctx, j) {
			faults = append(faults, j.close())
			continue
		}
		if err := e.recover(ctx, j, nics); err != nil {
			faults = append(faults, fmt.Errorf("transaction %d is still unfinished: %w; to give up on it, remove %s", id, err,
				filepath.Join(e.Store.dir, pendingDir, fileName(id))))
		}
		done = append(done, j.Transaction)
	}
	return done, errors.Join(faults...)
}

func (e *Engine) recover(ctx context.Context, j *journal, nics []inventory.NIC) error {
	if j.Outcome != Pending && j.Outcome != Unconfirmed { // only the filing was left to do
		return j.end(j.Outcome)
	}
	t, err := e.open(ctx, &j.Plan, nics)
	if err != nil {
		return errors.Join(err, j.close())
	}
	t.journal = j
	if _, why := t.waits(ctx); why != "" {
		if err := j.append(record{Kind: kindUndoing, Text: why}); err != nil {
			return errors.Join(err, j.close())
		}
	}
	if j.UndoReason == "" && !slices.ContainsFunc(j.Steps, func(s Step) bool { return s.State != Verified }) {
		if !t.sameBoot || t.allHold(ctx) {
			return j.end(Applied)
		}
	}
	if j.UndoReason == "" {
		if err := j.append(record{Kind: kindUndoing, Text: "nictune was interrupted"}); err != nil {
			return errors.Join(err, j.close())
		}
	}
	faults := t.putBack(ctx, func(i int, field string, current Values) bool {
		after, found := j.Plan.Changes[i].After, j.Steps[i].Found
		// Of a write that nobody saw the result of, the result is ours.
		return t.sameBoot && found == nil || same(current, after, []string{field}) || same(current, found, []string{field})
	})
	if len(faults) > 0 {
		return errors.Join(append(faults, j.close())...)
	}
	return j.end(Undone)
}

func (t *transaction) allHold(ctx context.Context) bool {
	for i := range t.plan.Changes {
		if t.nics[i] == nil || t.holds(ctx, i) != nil {
			return false
		}
	}
	return true
}

// Rollback takes an applied transaction back, as a transaction of its own. It is
// refused where a value is not what that transaction had made it, unless forced.
func (e *Engine) Rollback(ctx context.Context, id int, nics []inventory.NIC, request Request, force bool) (*Transaction, error) {
	if j, err := e.unconfirmed(id); err != nil {
		return nil, err
	} else if j != nil {
		return e.withdraw(ctx, j, nics, request)
	}
	past, err := readJournal(filepath.Join(e.Store.dir, historyDir, fileName(id)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no finished transaction %d; nictune history lists them", id)
	case err != nil:
		return nil, err
	case past == nil || past.Outcome != Applied:
		return nil, fmt.Errorf("transaction %d changed nothing that lasts: it was undone", id)
	}
	t, err := e.open(ctx, &past.Plan, nics)
	if err != nil {
		return nil, err
	}
	back := Plan{
		APIVersion: APIVersion, Kind: PlanKind, CreatedAt: time.Now().UTC().Truncate(time.Second),
		Host: readHostID(ctx, e.Writer), Changes: []Change{},
	}
	var refusals []string
	// What depends on what is the other way round now.
	for i := range slices.Backward(past.Plan.Changes) {
		c, found := &past.Plan.Changes[i], past.Steps[i].Found
		if t.nics[i] == nil {
			refusals = append(refusals, c.NIC.gone())
			continue
		}
		current, err := t.read(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("nothing was changed: %s: %s: %w", t.nics[i].Name, c.Setting, err)
		}
		undo := Change{NIC: targetOf(t.nics[i]), Setting: c.Setting, Before: current}
		undo.After = over(current, c.Before, differing(c.Before, found))
		for _, field := range differing(current, undo.After) {
			if !same(current, found, []string{field}) {
				refusals = append(refusals, fmt.Sprintf("%s: %s.%s is %s, not %s as transaction %d left it",
					t.nics[i].Name, c.Setting, field, show(current[field]), show(found[field]), id))
			}
			undo.Fields = append(undo.Fields, Field{Name: field, Before: current[field], After: undo.After[field]})
		}
		if len(undo.Fields) == 0 {
			back.Kept += len(c.Fields)
			continue
		}
		if undo.Impact, err = t.settings[i].impact(*t.nics[i], undo.Before, undo.After); err != nil {
			return nil, err
		}
		back.Changes = append(back.Changes, undo)
	}
	if len(refusals) > 0 && !force {
		return nil, fmt.Errorf("%w: the host changed since transaction %d: %s; --force puts back all the same what is there",
			ErrRefused, id, strings.Join(refusals, "; "))
	}
	request.Allow = back.Impact() // who allowed the change has allowed its end
	return e.apply(ctx, beginning{Request: request, RollbackOf: id, Plan: back}, nics)
}

// read asks for the state of one change's setting.
func (t *transaction) read(ctx context.Context, i int) (Values, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	current, _, err := t.settings[i].read(ctx, t.Writer, *t.nics[i])
	return current, err
}

func (t *transaction) write(ctx context.Context, i int, current, next Values) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	return t.settings[i].write(ctx, t.Writer, *t.nics[i], current, next)
}

// firstPause is how long to wait before asking again; each pause doubles, up to
// longestPause.
const (
	firstPause   = 5 * time.Millisecond
	longestPause = 320 * time.Millisecond
)

// settle reads a setting back until the named fields are as wanted, and returns
// it whole.
func (t *transaction) settle(ctx context.Context, i int, want Values, fields []string) (Values, error) {
	deadline := time.Now().Add(t.settleTime())
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		found, err := t.read(ctx, i)
		if err == nil && same(found, want, fields) {
			return found, nil
		}
		if sleep(ctx, pause, deadline) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read back: %w", err)
		}
		for _, field := range fields {
			if !same(found, want, []string{field}) {
				err = errors.Join(err, errReadBack{field, show(want[field]), show(found[field])})
			}
		}
		return nil, err
	}
}

// sleep waits unless the deadline or the context comes first.
func sleep(ctx context.Context, pause time.Duration, deadline time.Time) bool {
	if time.Now().Add(pause).After(deadline) {
		return false
	}
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}

func (e *Engine) settleTime() time.Duration {
	if e.Settle == 0 {
		return 5 * time.Second
	}
	return e.Settle
}

func (e *Engine) timeout() time.Duration {
	if e.Timeout == 0 {
		return 30 * time.Second
	}
	return e.Timeout
}

func (t *transaction) progress(i int) {
	if t.Progress != nil {
		t.Progress(t.plan.Changes[i], t.journal.Steps[i].State)
	}
}
