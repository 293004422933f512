package tuning

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// undo puts back everything that was or may have been written, and returns what
// it could not.
func (t *transaction) undo(ctx context.Context, reason string) (left []string) {
	// A journal that can't be written any more says less than what happened; what
	// it says still leads recovery to the same end.
	_ = t.journal.append(record{Kind: kindUndoing, Text: reason})
	for _, err := range t.putBack(ctx) {
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
// been put back, the last NIC first, and returns what stands against it.
func (t *transaction) putBack(ctx context.Context) (faults []error) {
	ctx = context.WithValue(ctx, undoing{}, true)
	for _, indexes := range slices.Backward(t.targets()) {
		faults = append(faults, t.putTargetBack(ctx, indexes)...)
	}
	return faults
}

// undoing is the key of what Undoing says.
type undoing struct{}

// Undoing says, inside of a knob's Write, that it puts back what was: there is nothing
// behind it that would, so what can't be put back is no reason to leave the rest.
func Undoing(ctx context.Context) bool {
	back, _ := ctx.Value(undoing{}).(bool)
	return back
}

// targets are the indexes of the changes of each target, in the order of the
// plan.
func (t *transaction) targets() [][]int {
	var all [][]int
	for i, c := range t.plan.Changes {
		if n := len(all); n > 0 && t.plan.Changes[all[n-1][0]].NIC == c.NIC {
			all[n-1] = append(all[n-1], i)
		} else {
			all = append(all, []int{i})
		}
	}
	return all
}

// putTargetBack puts one target back. The order is computed anew, from what is
// there and what was: channels that grew have to shrink now.
func (t *transaction) putTargetBack(ctx context.Context, indexes []int) []error {
	isOpen := func(i int) bool { return t.journal.Steps[i].open() }
	if !slices.ContainsFunc(indexes, isOpen) {
		return nil
	}
	name := t.plan.Changes[indexes[0]].NIC.Name
	if t.nics[indexes[0]] == nil {
		return []error{errors.New(t.plan.Changes[indexes[0]].NIC.gone())}
	}
	b := back{transaction: t, indexes: indexes, goals: map[string]Values{}}
	// What is refused now can be possible in a moment. And what a pass puts back
	// can disturb what it put back before.
	deadline := time.Now().Add(t.settleTime())
	passes := 0
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		changes, faults := b.changes(ctx)
		var refused []refusal
		var blocked []string // as what had to make way is there still
		for _, c := range changes {
			if slices.Contains(blocked, c.Setting) {
				continue
			}
			if err := b.restore(ctx, c); err != nil {
				faults = append(faults, fmt.Errorf("%s: %s: %w", name, c.Setting, err))
				refused = append(refused, refusal{c, err})
				if c.Turn == MakingWay {
					blocked = append(blocked, b.Settings[rank(b.Settings, c.Setting)].after()...)
				}
			}
		}
		if len(faults) == 0 && len(changes) == 0 {
			break
		}
		const enough = 4
		if passes++; passes == 1 || len(faults) == 0 && passes < enough {
			continue
		}
		if !sleep(ctx, pause, deadline) {
			switch {
			case len(faults) == 0:
				faults = []error{fmt.Errorf("%s: what is put back does not last", name)}
			case ctx.Err() == nil && len(refused) == len(faults) && b.resign(ctx, refused):
				deadline = time.Now().Add(t.settleTime()) // for the others
				continue
			}
			return faults
		}
	}
	for _, i := range indexes {
		if isOpen(i) {
			// With what is somebody else's now it is left.
			_ = t.journal.append(record{Kind: kindRestored, Change: i})
			t.progress(i)
		}
	}
	return nil
}

// open says whether a step was or may have been written, and not put back.
func (s Step) open() bool { return s.done() || s.State == Writing || s.State == Restoring }

// done says whether a step came to its end.
func (s Step) done() bool { return s.State == Verified || s.State == Passed }

// back is a target on its way back.
type back struct {
	*transaction
	indexes []int
	// goals is what each setting goes back to, decided when it was first looked at;
	// nil for one that is not ours to change.
	goals map[string]Values
}

// changes are the changes from what is there to what was.
func (b *back) changes(ctx context.Context) (changes []Change, faults []error) {
	fault := func(setting string, err error) {
		faults = append(faults, fmt.Errorf("%s: %s: %w", b.plan.Changes[b.indexes[0]].NIC.Name, setting, err))
	}
	is := map[string]Values{}
	for _, i := range b.indexes {
		if !b.last(i) {
			continue
		}
		name := b.plan.Changes[i].Setting
		current, err := b.read(ctx, i)
		if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
			fault(name, err)
			continue
		}
		if _, decided := b.goals[name]; !decided {
			b.goals[name] = b.goal(i, current)
		}
		is[name] = current
	}
	return arrangement{
		settings: b.Settings,
		ask: func(s Setting, current Values, planned Planned) Ask {
			ask, err := b.asking(b.indexes[0], s, current, planned)
			if err != nil {
				fault(s.name(), err)
			}
			return ask
		},
		aim: func(s Setting, late bool, _ Planned) *Change {
			goal, current := b.goals[s.name()], is[s.name()]
			if goal == nil || current == nil && !late {
				return nil
			}
			fields := without(reachable(s, current, goal), s.volatile(goal))
			c := &Change{Before: current, After: over(current, goal, fields), Goal: goal}
			c.Fields = fieldsOf(current, c.After, differing(current, c.After))
			return c
		},
		read:  func(s Setting) (Values, error) { return is[s.name()], nil },
		fault: func(s Setting, err error) { fault(s.name(), err) },
	}.changes(ctx), faults
}

// goal is what a setting, of which i is the last change, goes back to: what was,
// in the fields that we may have changed. It is nil if it is not ours to change.
func (b *back) goal(i int, current Values) Values {
	s := b.settings[i]
	var was, found Values // as it was before, and as it was verified last
	written := Values{}
	var open []int
	foreign := Values{} // what somebody else has changed since
	lasting := b.sameBoot && !b.anew()
	here := !b.recovering || lasting
	unseen, left := b.disturbed(i), false
	for _, j := range b.indexes {
		c, step := &b.plan.Changes[j], b.journal.Steps[j]
		if c.Setting != s.name() {
			continue
		}
		if was == nil {
			was = c.Before
		}
		left = left || step.State == Left
		if !step.open() {
			continue
		}
		open = append(open, j)
		found = step.Found
		maps.Copy(written, step.After)
		maps.Copy(foreign, step.Foreign)
	}
	if left || len(open) == 0 && (!unseen || !here) {
		return nil
	}
	// What was verified is known to have changed these fields, the wanted ones and
	// those that followed; of an unverified write anything may have come.
	fields := slices.DeleteFunc(differing(was, current), func(f string) bool {
		ours := s.writes(written, f)
		if s.entries() && was[f] == nil {
			return !ours || !lasting // then it is somebody else's
		}
		followed := found != nil && !bytes.Equal(was[f], found[f])
		return was[f] == nil || !ours && !followed && (!unseen || !here)
	})
	fields = without(without(fields, s.volatile(was)), foreign.names())
	var whose []string
	for _, field := range without(reachable(s, current, only(was, fields)), s.volatile(current)) {
		mine := !b.recovering || lasting && unseen ||
			bytes.Equal(current[field], written[field]) || bytes.Equal(current[field], found[field])
		if !mine {
			whose = append(whose, fmt.Sprintf("%s.%s is %s, which is neither what it was (%s) nor what was written",
				s.name(), field, show(current[field]), show(was[field])))
			foreign[field] = current[field]
		}
	}
	if len(whose) > 0 {
		fields = without(fields, foreign.names())
		for _, j := range open {
			_ = b.journal.append(record{Kind: kindLeft, Change: j, Found: foreign, Text: strings.Join(whose, "; ") + ": left alone"})
		}
	}
	goal := maps.Clone(current)
	if goal == nil {
		goal = Values{}
	}
	maps.Copy(goal, only(was, fields))
	return goal
}

// anew says whether the NIC was unplugged, or lost its driver, and came back since:
// what it is like now its driver made, and not the transaction, unless that has a
// change which makes network devices anew itself.
func (b *back) anew() bool {
	if slices.ContainsFunc(b.indexes, func(i int) bool { return b.settings[i].renames() }) {
		return false
	}
	for i, pf := range b.nics {
		if b.settings[i].remakesVFs() && isVFOf(b.nics[b.indexes[0]], pf) {
			return false
		}
	}
	was, now := b.plan.Changes[b.indexes[0]].NIC, b.nics[b.indexes[0]]
	return b.sameBoot && was.Index != 0 && now.Index != was.Index
}

// refusal is a change of those that put a target back, and what stands against it.
type refusal struct {
	change Change
	err    error
}

// resign gives up on values that the driver refuses for good, and leaves them as they
// are: of a NIC that is new, or on which somebody else changed what they depend on,
// they may never be had again. It says whether that is so of all that was refused.
func (b *back) resign(ctx context.Context, refused []refusal) bool {
	other := !b.sameBoot || b.anew() ||
		slices.ContainsFunc(b.indexes, func(i int) bool { return len(b.journal.Steps[i].Foreign) > 0 })
	if !b.recovering || !other {
		return false
	}
	final := func(err error) bool {
		var rounded errReadBack
		return errors.Is(err, kernel.ErrInvalid) || errors.Is(err, kernel.ErrOutOfRange) ||
			kernel.ReasonOf(err) == kernel.Unsupported || errors.As(err, &rounded)
	}
	if slices.ContainsFunc(refused, func(r refusal) bool { return r.change.Turn == MakingWay || !final(r.err) }) {
		return false
	}
	progress := false
	for _, r := range refused {
		i := b.indexes[slices.IndexFunc(b.indexes, func(i int) bool { return b.last(i) && b.plan.Changes[i].Setting == r.change.Setting })]
		s, step := b.settings[i], b.journal.Steps[i]
		current, err := b.read(ctx, i)
		if err != nil {
			return false
		}
		goal, left := b.goals[s.name()], maps.Clone(step.Foreign)
		if left == nil {
			left = Values{}
		}
		var what, fields []string
		for _, field := range without(differing(current, goal), s.volatile(current)) {
			if s.entries() || current[field] != nil && goal[field] != nil {
				fields, left[field] = append(fields, field), current[field]
				what = append(what, fmt.Sprintf("%s.%s is %s and can't be %s again", s.name(), field, show(current[field]), show(goal[field])))
			}
		}
		if len(fields) == 0 {
			continue
		}
		text := fmt.Sprintf("%s: %v: left alone", strings.Join(what, "; "), r.err)
		if len(step.Foreign) > 0 {
			text = step.Detail + "; " + text
		}
		if err := b.journal.append(record{Kind: kindLeft, Change: i, Found: left, Text: text}); err != nil {
			return false
		}
		b.goals[s.name()] = over(goal, current, fields)
		progress = true
	}
	return progress
}

// disturbed says whether, since the setting of the i-th change was last seen, the
// transaction wrote what can have changed it: itself, or what builds it anew.
func (t *transaction) disturbed(i int) bool {
	seen := 0
	for j, c := range t.plan.Changes {
		if c.sibling(t.plan.Changes[i]) {
			seen = max(seen, t.journal.Steps[j].seen)
		}
	}
	for j, c := range t.plan.Changes {
		if c.NIC == t.plan.Changes[i].NIC && t.journal.Steps[j].wrote > seen &&
			(c.Setting == t.plan.Changes[i].Setting || slices.Contains(t.settings[i].after(), c.Setting)) {
			return true
		}
	}
	return false
}

// restore makes one change of those that put a target back.
func (b *back) restore(ctx context.Context, c Change) error {
	at := slices.IndexFunc(b.indexes, func(i int) bool { return b.last(i) && b.plan.Changes[i].Setting == c.Setting })
	i := b.indexes[at]
	s := b.settings[i]
	_ = b.turn(ctx, i) // what does not come back is not helped by leaving the rest as it is
	current, err := b.read(ctx, i)
	switch {
	case kernel.ReasonOf(err) == kernel.Unsupported && (c.Turn == Kept || c.Turn == Late):
		return nil
	case err != nil:
		return err
	}
	goal := only(c.After, c.names())
	if c.Turn == Late || c.Turn == Kept {
		fields := reachable(s, current, c.Goal)
		goal = only(c.Goal, without(fields, s.volatile(over(current, c.Goal, fields))))
	}
	fields := goal.names()
	if same(current, goal, fields) {
		return nil
	}
	// A journal that can't be written must not keep anything from going back.
	_ = b.journal.append(record{Kind: kindRestoring, Change: i, After: goal})
	if err := b.write(ctx, i, current, over(current, goal, fields)); err != nil {
		switch {
		case kernel.ReasonOf(err) != kernel.Unsupported:
			return err
		case b.journal.Steps[i].passed: // it is the driver's own, as it was on the way here
			b.goals[c.Setting] = nil
			return nil
		case c.Turn == MakingWay || c.Turn == Kept:
			return nil
		}
		return err
	}
	_, err = b.settle(ctx, i, goal, fields)
	return err
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
	if j.UndoReason == "" && !slices.ContainsFunc(j.Steps, func(s Step) bool { return !s.done() }) {
		if !t.sameBoot || t.allHold(ctx) {
			return j.end(Applied)
		}
	}
	if j.UndoReason == "" {
		if err := j.append(record{Kind: kindUndoing, Text: "nictune was interrupted"}); err != nil {
			return errors.Join(err, j.close())
		}
	}
	t.recovering = true
	faults := t.putBack(ctx)
	if len(faults) > 0 {
		return errors.Join(append(faults, j.close())...)
	}
	return j.end(Undone)
}

func (t *transaction) allHold(ctx context.Context) bool {
	for i := range t.plan.Changes {
		if t.last(i) && (t.nics[i] == nil || t.holds(ctx, i) != nil) {
			return false
		}
	}
	return true
}
