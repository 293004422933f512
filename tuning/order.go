package tuning

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
)

// Turn is when, in the order of a plan, a change is made.
type Turn string

// The turns, in their order. Late and kept changes are made at their setting's
// place among the direct ones.
const (
	// MakingWay: what must move before another change of the plan is possible, such
	// as an RSS table that names queues which will go.
	MakingWay Turn = "make-way"
	// Direct: what the plan says, whatever else it changes.
	Direct Turn = ""
	// Late: wanted, but built anew by an earlier change of the plan. What exactly is
	// to be written is seen when that was made.
	Late Turn = "late"
	// Kept: not wanted by anybody, but wiped by an earlier change of the plan.
	Kept Turn = "kept"
)

// arrangement puts what is to change on one target in order. It computes the
// order from the changes themselves, so it serves plans, rollbacks and undoing
// alike.
type arrangement struct {
	// settings are all there are, in the order of their dependencies.
	settings []Setting
	// ask is what a setting is asked with that is in a state.
	ask func(s Setting, current Values, planned Planned) Ask
	// aim says what a setting shall become, nil if nobody wants anything of it: a
	// change with Before and After, the Fields in which these differ, and the Wish or
	// the Goal to resolve it from if it is late. planned is of the settings before it.
	aim func(s Setting, late bool, planned Planned) *Change
	// read gives the state of a setting that nobody wants, but that others' changes
	// may wipe.
	read func(s Setting) (Values, error)
	// fault takes what stands against keeping a setting, or making way.
	fault func(s Setting, err error)
}

// changes are the changes in order; their targets and impacts are the caller's to
// fill in.
func (a arrangement) changes(ctx context.Context) []Change {
	var planned Planned
	var moved []string
	var settings []Setting // of forward
	var forward []Change
	for _, s := range a.settings {
		late := slices.ContainsFunc(s.after(), func(name string) bool { return slices.Contains(moved, name) })
		c := a.aim(s, late, planned)
		switch {
		case c != nil && late:
			c.Turn = Late
		case c != nil && len(c.Fields) > 0:
			if !s.entries() {
				c.Stay = append(c.Stay, without(without(reachable(s, c.After, c.Goal), c.names()), s.volatile(c.After))...)
			}
			c.Turn, c.Wish, c.Goal = Direct, nil, nil
		case late:
			if c = a.kept(s, planned); c == nil {
				continue
			}
		default:
			continue
		}
		c.Setting = s.name()
		// What can't be kept as it is, settings after it have to know of.
		if c.Turn != Kept || len(differing(c.Before, c.After)) > 0 {
			planned.plan(c)
		}
		moved = append(moved, c.Setting)
		settings, forward = append(settings, s), append(forward, *c)
	}
	var way []Change
	for i, s := range slices.Backward(settings) {
		c := &forward[i]
		if c.Turn == Direct {
			continue
		}
		next, err := s.makeWay(ctx, a.ask(s, c.Before, planned), c.Before)
		if err != nil {
			a.fault(s, err)
			continue
		}
		if fields := differing(c.Before, next); len(fields) > 0 {
			way = append(way, Change{
				Setting: c.Setting, Turn: MakingWay, Before: c.Before, After: next, Fields: fieldsOf(c.Before, next, fields),
			})
		}
		goal, err := s.keep(a.ask(s, c.Before, planned), c.Before)
		if err != nil {
			a.fault(s, err)
			continue
		}
		// Beside what is wanted of it the rest is kept.
		goal = maps.Clone(goal)
		maps.Copy(goal, c.Goal)
		c.Goal = goal
		if c.Turn == Kept {
			c.After = over(c.Before, c.Goal, c.Goal.names())
		}
	}
	return append(way, forward...)
}

// kept is the change that keeps a setting, nil if the NIC has none.
func (a arrangement) kept(s Setting, planned Planned) *Change {
	state, err := a.read(s)
	switch {
	case err == nil && state != nil:
		c := &Change{Turn: Kept, Before: state, After: state}
		if goal, err := s.keep(a.ask(s, state, planned), state); err == nil { // or it is said below
			c.After = over(state, goal, goal.names())
		}
		return c
	case err != nil && kernel.ReasonOf(err) != kernel.Unsupported && !errors.Is(err, kernel.ErrNotRecorded):
		a.fault(s, err)
	}
	return nil
}

// fieldsOf are the named fields with what becomes of them.
func fieldsOf(before, after Values, names []string) []Field {
	fields := make([]Field, 0, len(names))
	for _, name := range names {
		fields = append(fields, Field{Name: name, Before: before[name], After: after[name]})
	}
	return fields
}

// reachable are the fields of goal that a setting in this state can be given: one
// that the device does not have can't.
func reachable(s Setting, current, goal Values) []string {
	fields := goal.names()
	if s.entries() {
		return fields
	}
	return slices.DeleteFunc(fields, func(field string) bool { return current[field] == nil || goal[field] == nil })
}
