package tuning

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

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
		if l, err := readLedger(e.Store.dir); err != nil || id <= l.Trimmed {
			return nil, cmp.Or(err, l.lacks(id))
		}
		return nil, fmt.Errorf("there is no finished transaction %d; nictune history lists them", id)
	case err != nil:
		return nil, err
	case past == nil || past.Outcome != Applied:
		return nil, fmt.Errorf("transaction %d changed nothing that lasts: it was undone", id)
	}
	return e.takeBack(ctx, []Transaction{*past}, nics, beginning{Request: request, RollbackOf: id}, force)
}

// RollbackTo puts back what all transactions after one changed, rollbacks too, as one
// transaction: what they changed is as it was when that one had ended, and for id 0
// before the first. It is refused where a value is not what the last of them to change it
// had made it, or a journal between is missing, unless forced. The transaction is nil
// where nothing is to be changed.
func (e *Engine) RollbackTo(ctx context.Context, id int, nics []inventory.NIC, request Request, force bool) (*Transaction, error) {
	all, err := History(e.Store.dir)
	if err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	l, err := readLedger(e.Store.dir)
	if err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	at := slices.IndexFunc(all, func(t Transaction) bool { return t.ID == id })
	switch {
	case at < 0 && id == 0 && l.Trimmed > 0:
		return nil, fmt.Errorf("%w: the beginning is not in the history any more: the oldest transaction that is kept is %d", ErrRefused, l.Trimmed+1)
	case at < 0 && id != 0 && id <= l.Trimmed:
		return nil, fmt.Errorf("%w: %w", ErrRefused, l.lacks(id))
	case at < 0 && id != 0:
		return nil, l.lacks(id)
	}
	var later []Transaction
	before := id
	for _, t := range all[at+1:] {
		if t.ID != before+1 && !force {
			return nil, fmt.Errorf("%w: the history has nothing of what came between transactions %d and %d; --force leaves that out", ErrRefused, before, t.ID)
		}
		before = t.ID
		switch t.Outcome {
		case Applied:
			later = append(later, t)
		case Undone:
		default:
			return nil, fmt.Errorf("%w: transaction %d has not ended: confirm it, or take it back, first", ErrRefused, t.ID)
		}
	}
	return e.takeBack(ctx, later, nics, beginning{Request: request, RollbackTo: &id}, force)
}

// takeBack takes transactions back, the oldest first in the list, in one that begins so.
func (e *Engine) takeBack(ctx context.Context, past []Transaction, nics []inventory.NIC, b beginning, force bool) (*Transaction, error) {
	b.Plan = Plan{
		APIVersion: APIVersion, Kind: PlanKind, CreatedAt: time.Now().UTC().Truncate(time.Second),
		Host: readHostID(ctx, e.Writer), Changes: []Change{},
	}
	r := rollback{}
	if err := r.compose(ctx, e, past, nics, b.Plan.Host); err != nil {
		return nil, err
	}
	for _, indexes := range slices.Backward(r.targets()) {
		changes, err := r.target(ctx, indexes)
		if err != nil {
			return nil, fmt.Errorf("nothing was changed: %w", err)
		}
		b.Plan.Changes = append(b.Plan.Changes, changes...)
	}
	if len(r.refusals) > 0 && !force {
		return nil, fmt.Errorf("%w: the host changed since: %s; --force puts back all the same what is there",
			ErrRefused, strings.Join(r.refusals, "; "))
	}
	b.Plan.Kept = r.kept
	b.Request.Allow = b.Plan.Impact() // who allowed the changes has allowed their end
	return e.apply(ctx, b, nics)
}

// rollback is a plan in the making that takes transactions back.
type rollback struct {
	// transaction has the changes of all of them, target by target, by the names that
	// the NICs have now, and each target's in the order in which they were made; made
	// says of each what became of it.
	*transaction
	made     []made
	refusals []string
	kept     int
}

// made is a change as its transaction made it.
type made struct {
	change   *Change
	step     *Step
	id       int  // the transaction's
	sameBoot bool // whether that was in the boot that the host is in
}

// compose finds the targets of the transactions on the host as it is.
func (r *rollback) compose(ctx context.Context, e *Engine, past []Transaction, nics []inventory.NIC, host HostID) error {
	var order []Target
	of := map[Target][]made{}
	for i := range past {
		one := &past[i]
		opened, err := e.open(ctx, &one.Plan, nics)
		if err != nil {
			return err
		}
		for j := range one.Plan.Changes {
			c := &one.Plan.Changes[j]
			var now Target
			switch nic := opened.nics[j]; {
			case nic == nil:
				if gone := c.NIC.gone(); !slices.Contains(r.refusals, gone) {
					r.refusals = append(r.refusals, gone)
				}
				continue
			case opened.settings[j].scope() == PerHost:
				now = TargetOf(nil)
			default:
				now = TargetOf(nic)
			}
			if of[now] == nil {
				order = append(order, now)
			}
			of[now] = append(of[now], made{c, &one.Steps[j], one.ID, opened.sameBoot})
		}
	}
	plan := Plan{Host: host}
	for _, target := range order {
		for _, m := range of[target] {
			c := *m.change
			c.NIC = target
			plan.Changes, r.made = append(plan.Changes, c), append(r.made, m)
		}
	}
	var err error
	r.transaction, err = e.open(ctx, &plan, nics)
	return err
}

// target are the changes that put one target back, on which the indexed ones were made.
func (r *rollback) target(ctx context.Context, indexes []int) ([]Change, error) {
	first := indexes[0]
	target, nic := r.plan.Changes[first].NIC, r.nics[first]
	if nic == nil { // it was there a moment ago
		r.refusals = append(r.refusals, target.gone())
		return nil, nil
	}
	var faults []error
	at := func(s Setting, err error) {
		faults = append(faults, fmt.Errorf("%s: %s: %w", target.Name, s.name(), err))
	}
	read := func(s Setting) (Values, error) {
		ctx, cancel := context.WithTimeout(ctx, r.timeout())
		defer cancel()
		state, err := read(ctx, s, r.Writer, *nic)
		return state, err
	}
	changes := arrangement{
		settings: r.Settings, read: read, fault: at,
		ask: func(s Setting, current Values, planned Planned) Ask {
			ask, err := r.asking(first, s, current, planned)
			if err != nil {
				at(s, err)
			}
			return ask
		},
		aim: func(s Setting, late bool, _ Planned) *Change {
			c, err := r.aim(s, indexes, late, read)
			if err != nil {
				at(s, err)
			}
			return c
		},
	}.changes(ctx)
	for i := range changes {
		c := &changes[i]
		s := r.Settings[rank(r.Settings, c.Setting)]
		c.NIC = target
		var err error
		if c.Impact, err = s.impact(*nic, c.Before, c.After); err != nil {
			at(s, err)
		}
	}
	return changes, errors.Join(faults...)
}

// aim is what the rollback makes of one setting, nil if the transactions did nothing to
// it: what was before the first of them that changed a field.
func (r *rollback) aim(s Setting, indexes []int, late bool, read func(Setting) (Values, error)) (*Change, error) {
	name := r.plan.Changes[indexes[0]].NIC.Name
	goal, found, by := Values{}, Values{}, map[string]int{}
	planned := 0
	// Before the first of them that says anything of the setting, after the last, and the
	// fields that moved by themselves at some time between.
	var first, last Values
	var moved []string
	since := 0
	for len(indexes) > 0 {
		id := r.made[indexes[0]].id
		n := 0
		for n < len(indexes) && r.made[indexes[n]].id == id {
			n++
		}
		was, left, fields := r.changed(s, indexes[:n], &planned)
		indexes = indexes[n:]
		if was != nil {
			if first == nil {
				first, since = was, id
			}
			last, moved = left, slices.Concat(moved, s.volatile(was), s.volatile(left))
		}
		for _, field := range fields {
			if by[field] == 0 {
				goal[field], by[field] = was[field], id
			}
		}
		later := differing(was, left)
		if was != nil {
			later = append(later, s.volatile(was)...) // which moved before this one, too
		}
		for _, field := range later {
			if by[field] != 0 { // also a queue that went, and that the driver made anew since
				found[field], by[field] = left[field], id
			}
		}
	}
	if len(goal) == 0 && (!late || first == nil || s.entries()) {
		return nil, nil
	}
	for _, field := range moved { // which no transaction changed, and which stood still then
		if by[field] == 0 && first[field] != nil {
			goal[field], found[field], by[field] = first[field], last[field], since
		}
	}
	for _, field := range s.volatile(first) { // it will move again
		delete(goal, field)
	}
	current, err := read(s)
	switch {
	case late && kernel.ReasonOf(err) == kernel.Unsupported:
		current = Values{}
	case err != nil:
		return nil, err
	}
	if late && !s.entries() {
		// What the rollback itself builds anew is not only kept, which leaves to the driver
		// what looks like its own: that it was so before is known.
		for field, v := range first {
			if by[field] == 0 && !slices.Contains(s.volatile(first), field) && same(first, current, []string{field}) {
				goal[field] = v
			}
		}
	}
	if len(goal) == 0 {
		return nil, nil
	}
	c := &Change{Before: current, Goal: goal}
	c.After = over(current, c.Goal, reachable(s, current, c.Goal))
	names := differing(current, c.After)
	for _, field := range without(names, s.volatile(current)) {
		if !same(current, found, []string{field}) {
			r.refusals = append(r.refusals, fmt.Sprintf("%s: %s.%s is %s, not %s as transaction %d left it",
				name, s.name(), field, show(current[field]), show(found[field]), by[field]))
		}
	}
	c.Fields = fieldsOf(current, c.After, names)
	if len(names) == 0 {
		r.kept += planned
	}
	return c, nil
}

// changed are the fields of a setting that one transaction changed by the indexed
// changes, what they were before and how they were left.
func (r *rollback) changed(s Setting, indexes []int, planned *int) (was, found Values, fields []string) {
	written, sameBoot := Values{}, false
	for _, i := range indexes {
		m := r.made[i]
		if m.change.Setting != s.name() || m.step.Found == nil || m.step.State == Passed {
			continue
		}
		if was == nil {
			was = m.change.Before
		}
		found, *planned, sameBoot = m.step.Found, len(m.change.Fields), m.sameBoot
		maps.Copy(written, m.step.After)
	}
	// What the device has is not the rollback's to take away; nor are, of rules and
	// such, those that somebody else added: after a restart of the host all are.
	fields = slices.DeleteFunc(differing(was, found), func(f string) bool {
		return was[f] == nil && !(s.entries() && s.writes(written, f) && sameBoot)
	})
	return was, found, without(fields, s.volatile(was))
}
