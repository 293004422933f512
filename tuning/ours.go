package tuning

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// What nictune did to a host in its present boot, as its journals and the ledger tell.
// Nothing else is kept of it: what a journal can't prove to be ours is not.

// thisBoot are the transactions of the boot that the host is in: what was set
// before it is gone.
func thisBoot(past []Transaction, host HostID) []Transaction {
	var now []Transaction
	for _, t := range past {
		if host.BootID != "" && t.Plan.Host.BootID == host.BootID && t.Outcome != Undone {
			now = append(now, t)
		}
	}
	return now
}

// ask is what a setting of a target is asked with that is in a state.
func ask(
	r kernel.Reader, nic inventory.NIC, target Target, past []Transaction, s Setting, current Values, planned Planned,
) Ask {
	return Ask{Reader: r, NIC: nic, Planned: planned, Owned: owned(past, target, s, current)}
}

// owned are the fields of a setting that transactions added, that none removed,
// and that are in current as they were added.
func owned(past []Transaction, target Target, s Setting, current Values) Values {
	if !s.entries() {
		return Values{}
	}
	ours := added(past, target, s.name()).ours
	for field, value := range ours {
		if !bytes.Equal(value, current[field]) {
			delete(ours, field)
		}
	}
	return ours
}

// additions is what transactions added to a setting.
type additions struct {
	ours Values
	// moved are those of ours that made way in a plan, whose next change of the setting
	// may add them again.
	moved map[string]bool
	// removed are fields that were taken away last.
	removed []string
}

func added(past []Transaction, target Target, setting string) additions {
	a := additions{Values{}, map[string]bool{}, nil}
	for c, step := range steps(past, target, setting) {
		for field, value := range step.After {
			_, has := a.ours[field]
			a.removed = slices.DeleteFunc(a.removed, func(f string) bool { return f == field })
			switch {
			case value == nil:
				a.moved[field] = has
				a.removed = append(a.removed, field)
				delete(a.ours, field)
			case has || a.moved[field] || c.Before[field] == nil:
				a.ours[field] = value
			}
		}
		if c.Turn != MakingWay {
			clear(a.moved)
		}
	}
	return a
}

// original is what a field was before the first of the transactions that changed
// it.
func original(past []Transaction, target Target, setting, field string) (value json.RawMessage, changed bool) {
	for c, step := range steps(past, target, setting) {
		if before := c.Before[field]; before != nil && step.Found != nil && !bytes.Equal(before, step.Found[field]) {
			return before, true
		}
	}
	return nil, false
}

// steps are the changes of one setting that were or may have been written, the
// oldest first.
func steps(past []Transaction, target Target, setting string) func(yield func(*Change, *Step) bool) {
	return func(yield func(*Change, *Step) bool) {
		for i := range past {
			for j := range past[i].Plan.Changes {
				c, step := &past[i].Plan.Changes[j], &past[i].Steps[j]
				if c.Setting == setting && c.NIC.alike(target) && step.open() && !yield(c, step) {
					return
				}
			}
		}
	}
}

// alike says whether two targets of one boot are the same NIC: it can have been
// renamed, or its driver loaded again. A software device that has the name of
// another, but not its index, is the next of that name.
func (t Target) alike(other Target) bool {
	return t.ID == other.ID && (t.Index == other.Index || t.Name == other.Name && t.ID != t.Name)
}
