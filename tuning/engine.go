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
	"sync"
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
	// Detail, where set, is told how far a write has come that takes long: "64 of 128
	// VFs".
	Detail func(Change, string)
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
	b.Plan.Changes = slices.Clone(b.Plan.Changes) // what is kept is read once more
	t, err := e.open(ctx, &b.Plan, nics)
	if err != nil {
		return nil, err
	}
	if err := t.fits(ctx); err != nil {
		return nil, err
	}
	if b.RollbackOf == 0 && b.RollbackTo == nil { // which nobody could edit
		if err := t.shows(ctx); err != nil {
			return nil, err
		}
	}
	if err := e.unencumbered(ctx, &b.Plan, nics); err != nil {
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
	// host is the host as it is now, which the plan may not be of.
	host HostID
	// sameBoot is whether the plan is of the boot that the host is in.
	sameBoot bool
	// recovering is whether an earlier process began it.
	recovering bool
	// settings and nics belong to the changes of the plan. A nil NIC is gone.
	settings []Setting
	nics     []*inventory.NIC
	// uses is what all NICs are used for, as far as it could be told.
	uses inventory.Uses
	// past reads what was done to the host in its present boot before this
	// transaction, once: nobody else writes while we hold the store.
	past func() ([]Transaction, error)
	gates
}

// open finds the settings and the NICs of a plan.
func (e *Engine) open(ctx context.Context, plan *Plan, nics []inventory.NIC) (*transaction, error) {
	t := &transaction{Engine: e, plan: plan, host: readHostID(ctx, e.Writer), gates: gates{bonds: bondsOf(nics)}}
	t.sameBoot = plan.Host.BootID != "" && t.host.BootID == plan.Host.BootID
	t.past = sync.OnceValues(func() ([]Transaction, error) {
		all, err := Remembered(e.Store.dir)
		return thisBoot(all, t.host), err
	})
	for _, c := range plan.Changes {
		i := rank(e.Settings, c.Setting)
		if i < 0 {
			return nil, fmt.Errorf("this nictune has no setting %q", c.Setting)
		}
		t.settings = append(t.settings, e.Settings[i])
		if perHost := e.Settings[i].scope() == PerHost; perHost != (c.NIC == TargetOf(nil)) {
			return nil, fmt.Errorf("%s: %s is a setting of the host and not of a NIC, or the other way round", c.NIC.Name, c.Setting)
		} else if perHost {
			t.nics = append(t.nics, &inventory.NIC{})
		} else {
			t.nics = append(t.nics, c.NIC.find(nics, t.sameBoot))
		}
	}
	return t, nil
}

// asking is what a setting of the target of the i-th change is asked with.
func (t *transaction) asking(i int, s Setting, current Values, planned Planned) (Ask, error) {
	var past []Transaction
	if s.entries() {
		all, err := t.past()
		if err != nil {
			return Ask{}, err
		}
		past = all
		if t.journal != nil && t.sameBoot { // which has come since
			past = append(slices.DeleteFunc(slices.Clone(all), func(o Transaction) bool { return o.ID == t.journal.ID }), t.journal.Transaction)
			slices.SortFunc(past, func(a, b Transaction) int { return a.ID - b.ID })
		}
	}
	return ask(t.Writer, *t.nics[i], t.plan.Changes[i].NIC, past, s, current, planned), nil
}

// planned is what the plan makes of the target of a change.
func (t *transaction) planned(i int) Planned {
	var p Planned
	for j, c := range t.plan.Changes {
		kept := c.Turn == Kept && len(differing(c.Before, c.After)) == 0
		if c.NIC == t.plan.Changes[i].NIC && c.Turn != MakingWay && !kept {
			p.plan(&t.plan.Changes[j])
		}
	}
	return p
}

// first and last say whether a change is the first, or the last, of its setting.
func (t *transaction) first(i int) bool {
	return !slices.ContainsFunc(t.plan.Changes[:i], t.plan.Changes[i].sibling)
}
func (t *transaction) last(i int) bool {
	return !slices.ContainsFunc(t.plan.Changes[i+1:], t.plan.Changes[i].sibling)
}

// sibling says whether two changes are of one setting of one target.
func (c Change) sibling(other Change) bool { return c.NIC == other.NIC && c.Setting == other.Setting }

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
	// A virtual function's permanent MAC is what its PF assigned when its driver came:
	// which one it is its address says.
	address, _, _ := strings.Cut(t.ID, "/")
	for i := range nics {
		if nics[i].Function == inventory.VF && nics[i].PCI != nil && nics[i].PCI.Address == address {
			return &nics[i]
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
	switch {
	case t.host.MachineID != t.plan.Host.MachineID:
		stale = append(stale, fmt.Sprintf("it was made on another host (%s)", t.plan.Host.Hostname))
	case t.host.BootID != t.plan.Host.BootID:
		stale = append(stale, "the host was restarted since")
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
		if c.Turn == Late && !t.rebuilt(i) {
			stale = append(stale, fmt.Sprintf("%s: %s is late, and no change before it builds it anew", c.NIC.Name, c.Setting))
		}
		if !t.first(i) { // read with the first change of the setting
			first := t.plan.Changes[slices.IndexFunc(t.plan.Changes, c.sibling)].Before
			if fields := differing(first, c.Before); len(fields) > 0 {
				stale = append(stale, fmt.Sprintf("%s: %s.%s is two things before", c.NIC.Name, c.Setting, fields[0]))
			}
			continue
		}
		current, err := t.read(ctx, i)
		switch {
		case len(c.Before) == 0 && kernel.ReasonOf(err) == kernel.Unsupported:
			continue // what it depends on brings it
		case err != nil:
			return fmt.Errorf("nothing was changed: %s: %s: %w", c.NIC.Name, c.Setting, err)
		}
		if c.Turn == Kept { // whatever it is
			if err := t.keep(i, current); err != nil {
				return fmt.Errorf("nothing was changed: %s: %s: %w", c.NIC.Name, c.Setting, err)
			}
			continue
		}
		for _, field := range without(differing(current, c.Before), t.settings[i].volatile(current)) {
			stale = append(stale, fmt.Sprintf("%s: %s.%s is %s, not %s", c.NIC.Name, c.Setting, field, show(current[field]), show(c.Before[field])))
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("%w: the plan does not fit this host any more: %s; make a new one", ErrRefused, strings.Join(stale, "; "))
	}
	return nil
}

// shows refuses a plan whose late changes would do other than it shows: a wish in a
// file can have been edited beside the fields that somebody looked at.
func (t *transaction) shows(ctx context.Context) error {
	var stray []string
	for i, c := range t.plan.Changes {
		if c.Turn != Late {
			continue
		}
		will, kept, err := t.foreseen(ctx, i)
		if err != nil {
			return fmt.Errorf("nothing was changed: %s: %s: %w", c.NIC.Name, c.Setting, err)
		}
		shown := Values{}
		for _, f := range c.Fields {
			shown[f.Name] = f.After
		}
		fields := without(slices.Compact(slices.Sorted(slices.Values(append(will.names(), shown.names()...)))), t.settings[i].volatile(c.After))
		for _, field := range fields {
			becomes, wanted := will[field]
			if !wanted {
				becomes = kept[field]
			}
			said, told := shown[field]
			if !told {
				said = c.Before[field]
			}
			if !bytes.Equal(becomes, said) {
				stray = append(stray, fmt.Sprintf("%s: %s.%s would become %s, and the plan shows %s", c.NIC.Name, c.Setting, field, show(becomes), show(said)))
			}
		}
	}
	if len(stray) > 0 {
		return fmt.Errorf("%w: the plan does not show what it does: %s; make a new one", ErrRefused, strings.Join(stray, "; "))
	}
	return nil
}

// foreseen are the fields that the i-th change, a late one, is to change at the
// wish of somebody, as far as that can be told beforehand, and those that it keeps.
func (t *transaction) foreseen(ctx context.Context, i int) (will, kept Values, err error) {
	c, s := &t.plan.Changes[i], t.settings[i]
	ask, err := t.asking(i, s, c.Before, t.planned(i))
	if err != nil {
		return nil, nil, err
	}
	if kept, err = s.keep(ask, c.Before); err != nil {
		return nil, nil, err
	}
	will = only(c.Goal, differing(c.Goal, kept))
	if c.Wish == nil {
		return will, kept, nil
	}
	// As the plan was made: of the changes before this one, none of which is made.
	ask.Planned = Planned{}
	for j := range t.plan.Changes[:i] {
		switch other := &t.plan.Changes[j]; {
		case other.Turn == MakingWay || other.Turn == Kept && len(differing(other.Before, other.After)) == 0:
		case other.NIC == c.NIC:
			ask.Planned.plan(other)
		case other.NIC == TargetOf(nil):
			ask.Host.plan(other)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	next, err := s.resolve(ctx, ask, c.Wish, c.Before)
	if err == nil {
		next, err = rounded(s, *t.nics[i], c.Before, next)
	}
	for _, field := range differing(c.Before, next) {
		if next[field] != nil || s.entries() { // what goes with its queue is not changed
			will[field] = next[field]
		}
	}
	return will, kept, err
}

// rebuilt says whether an earlier change of the plan builds anew what the i-th is
// about.
func (t *transaction) rebuilt(i int) bool {
	return slices.ContainsFunc(t.plan.Changes[:i], func(c Change) bool {
		return c.NIC == t.plan.Changes[i].NIC && c.Turn != MakingWay && slices.Contains(t.settings[i].after(), c.Setting)
	})
}

// keep makes the present state the one that a kept change keeps.
func (t *transaction) keep(i int, current Values) (err error) {
	c := &t.plan.Changes[i]
	c.Before = current
	ask, err := t.asking(i, t.settings[i], current, t.planned(i))
	if err != nil {
		return err
	}
	if c.Goal, err = t.settings[i].keep(ask, current); err == nil {
		c.After = over(current, c.Goal, c.Goal.names())
	}
	return err
}

// unencumbered refuses a plan for a NIC with an unfinished transaction, or for one
// that lies on it or under it: whose values are in between can't be what a plan
// starts from, and to take them back would disturb what was built on them.
func (e *Engine) unencumbered(ctx context.Context, plan *Plan, nics []inventory.NIC) error {
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
			if !t.Steps[i].open() {
				continue
			}
			name := c.NIC.Name
			if nic := c.NIC.find(nics, true); nic != nil { // what it is called now
				name = nic.Name
			}
			for _, d := range plan.Changes {
				if c.NIC.ID != d.NIC.ID && !stacked(nics, name, d.NIC.Name) {
					continue
				}
				who := c.NIC.String()
				if c.NIC.ID != d.NIC.ID {
					who = fmt.Sprintf("%s, which %s belongs with,", who, d.NIC.Name)
				}
				if t.Outcome == Unconfirmed {
					return e.awaits(ctx, who, t)
				}
				return fmt.Errorf("%w: %s has the unfinished transaction %d, which could not be undone; to give up on it, remove %s",
					ErrRefused, who, id, path)
			}
		}
	}
	return nil
}

// stacked says whether one of two NICs lies on the other, by whatever stands
// between them: a bond on its members, a VLAN on a bond.
func stacked(nics []inventory.NIC, a, b string) bool {
	lies := func(top, bottom string) bool {
		below := []string{top}
		for i := 0; i < len(below); i++ { // it grows
			at := slices.IndexFunc(nics, func(n inventory.NIC) bool { return n.Name == below[i] })
			if at < 0 {
				continue
			}
			for _, name := range nics[at].Stack.Lower {
				if !slices.Contains(below, name) {
					below = append(below, name)
				}
			}
		}
		return slices.Contains(below[1:], bottom)
	}
	return lies(a, b) || lies(b, a)
}

// forward makes the changes in order. It returns the index of the one that
// failed.
func (t *transaction) forward(ctx context.Context) (int, error) {
	for i := range t.plan.Changes {
		if err := t.change(ctx, i); err != nil {
			return i, err
		}
	}
	// A later change can have disturbed an earlier one. What repairs that can
	// disturb again: it is tried once.
	repaired := false
	for i := range t.plan.Changes {
		if !t.last(i) || t.holds(ctx, i) == nil {
			continue
		}
		repaired = true
		if err := t.make(ctx, i, t.journal.Steps[i].After); err != nil {
			return i, err
		}
	}
	for i := range t.plan.Changes {
		if !repaired || !t.last(i) {
			continue
		}
		if err := t.holds(ctx, i); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// change makes one change, the turn of which has come.
func (t *transaction) change(ctx context.Context, i int) error {
	c, s := &t.plan.Changes[i], t.settings[i]
	if err := t.turn(ctx, i); err != nil {
		return err
	}
	current, err := t.read(ctx, i)
	if c.Turn == Kept && kernel.ReasonOf(err) == kernel.Unsupported {
		return t.pass(ctx, i, err)
	}
	if err != nil {
		return err
	}
	var goal Values
	switch c.Turn {
	case Direct, MakingWay:
		fields := c.names()
		goal = only(c.After, slices.Concat(fields, c.Stay))
		fields = without(fields, s.volatile(current))
		if !same(current, c.After, fields) && !same(current, c.Before, fields) {
			return fmt.Errorf("%s was changed by somebody else meanwhile, or by an earlier change of this plan", c.Setting)
		}
	default:
		if goal, err = t.due(ctx, i, current); err != nil {
			return err
		}
	}
	return t.make(ctx, i, goal)
}

// due is what a late or a kept change is to write, now that the changes before it
// are made: the fields that it decides.
func (t *transaction) due(ctx context.Context, i int, current Values) (Values, error) {
	c, s, nic := &t.plan.Changes[i], t.settings[i], *t.nics[i]
	fields := reachable(s, current, c.Goal)
	next := over(current, c.Goal, fields)
	if c.Wish != nil {
		ask, err := t.asking(i, s, next, t.planned(i))
		if err != nil {
			return nil, err
		}
		kept := next
		asking, cancel := context.WithTimeout(ctx, t.timeout())
		next, err = s.resolve(asking, ask, c.Wish, kept)
		cancel()
		if err == nil {
			next, err = rounded(s, nic, kept, next)
		}
		if err == nil {
			err = s.check(current, next)
		}
		if err != nil {
			return nil, err
		}
		for _, field := range differing(current, next) {
			if !s.entries() && (current[field] == nil || next[field] == nil) {
				return nil, lacks(s, field)
			}
		}
		fields = slices.Compact(slices.Sorted(slices.Values(slices.Concat(fields, differing(current, next)))))
	}
	switch impact, err := s.impact(nic, current, next); {
	case err != nil:
		return nil, err
	case !impact.Within(t.journal.Request.Allow):
		return nil, fmt.Errorf("it has the impact %[1]s now, which is not allowed; allow it with --allow %[1]s", impact)
	case !impact.Within(t.said(i)):
		// What the NIC is used for was held against what the plan says.
		return nil, fmt.Errorf("it has the impact %s now; the plan says %s", impact, t.said(i))
	}
	return only(next, without(fields, s.volatile(next))), nil
}

// said is the worst impact that the plan has for the target of a change.
func (t *transaction) said(i int) Impact {
	target := Plan{}
	for _, c := range t.plan.Changes {
		if c.NIC == t.plan.Changes[i].NIC {
			target.Changes = append(target.Changes, c)
		}
	}
	return target.Impact()
}

// make gives the fields of goal to a setting, and sees that they hold.
func (t *transaction) make(ctx context.Context, i int, goal Values) error {
	current, err := t.read(ctx, i)
	if err != nil {
		return err
	}
	if err := t.journal.append(record{Kind: kindWriting, Change: i, After: goal}); err != nil {
		return err
	}
	t.progress(i)
	fields := goal.names()
	if !same(current, goal, fields) {
		defer t.follow(context.WithoutCancel(ctx), i)
		err := t.write(ctx, i, current, over(current, goal, fields))
		if turn := t.plan.Changes[i].Turn; kernel.ReasonOf(err) == kernel.Unsupported && (turn == MakingWay || turn == Kept) {
			// A driver that is busy can say so, too; of what is passed over too early
			// nothing is kept. What it says twice is so.
			if sleep(ctx, longestPause, time.Now().Add(t.settleTime())) {
				if current, err = t.read(ctx, i); err == nil {
					err = t.write(ctx, i, current, over(current, goal, fields))
				}
			}
			if kernel.ReasonOf(err) == kernel.Unsupported {
				return t.pass(ctx, i, err)
			}
		}
		if err != nil {
			return err
		}
	}
	found, err := t.settle(ctx, i, goal, fields)
	if err != nil {
		return err
	}
	if err := t.journal.append(record{Kind: kindVerified, Change: i, Found: found}); err != nil {
		return err
	}
	t.progress(i)
	return nil
}

// pass makes nothing of a change: what can't be read or written is the driver's
// own. It makes way by itself, and becomes what the driver makes of it.
func (t *transaction) pass(ctx context.Context, i int, why error) error {
	found, err := t.read(ctx, i)
	if err != nil {
		found = nil
	}
	if err := t.journal.append(record{Kind: kindPassed, Change: i, Found: found, Text: "it is the driver's own: " + why.Error()}); err != nil {
		return err
	}
	t.progress(i)
	return nil
}

// follow looks at what else the transaction has changed of a target, after a write
// for the i-th change: a driver can make more of a write than was asked of it. What
// is other than it was just seen goes back with the rest. What somebody else
// changes is seen at another time, and stays.
func (t *transaction) follow(ctx context.Context, i int) {
	latest := map[string]int{} // of each setting
	for j, c := range t.plan.Changes {
		if c.NIC == t.plan.Changes[i].NIC && c.Setting != t.plan.Changes[i].Setting && t.journal.Steps[j].State == Verified {
			latest[c.Setting] = j
		}
	}
	for _, j := range slices.Sorted(maps.Values(latest)) {
		found, err := t.read(ctx, j)
		if err != nil {
			return // nor can the others be read
		}
		if len(without(differing(t.journal.Steps[j].Found, found), t.settings[j].volatile(found))) > 0 {
			// A journal that can't be written fails the next change.
			_ = t.journal.append(record{Kind: kindVerified, Change: j, Found: found})
		}
	}
}

// holds says whether a change is still as it was verified.
func (t *transaction) holds(ctx context.Context, i int) error {
	goal := t.journal.Steps[i].After
	if len(goal) == 0 {
		return nil
	}
	_, err := t.settle(ctx, i, goal, goal.names())
	return err
}

// read asks for the state of one change's setting.
func (t *transaction) read(ctx context.Context, i int) (Values, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout())
	defer cancel()
	current, err := read(ctx, t.settings[i], t.Writer, *t.nics[i])
	return current, err
}

func (t *transaction) write(ctx context.Context, i int, current, next Values) error {
	long, err := t.settings[i].takes(current, next)
	if err != nil {
		return err
	}
	limit := t.timeout()
	if long > limit {
		limit = long
		ctx = kernel.Patiently(ctx, long)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := t.spares(ctx, i, current, next); err != nil {
		return err
	}
	if t.Detail != nil {
		ctx = Hearing(ctx, func(text string) { t.Detail(t.plan.Changes[i], text) })
	}
	err = t.settings[i].write(ctx, t.Writer, *t.nics[i], current, next)
	if t.settings[i].renames() {
		err = errors.Join(err, t.refind(ctx, i)) // also of what failed half-way
	}
	if t.settings[i].remakesVFs() {
		err = errors.Join(err, t.refindVFs(ctx, i))
	}
	return err
}

// detail is the key of the function that takes what a write tells of itself.
type detail struct{}

// Hearing has hear take what a knob's Write tells of itself ([Tell]).
func Hearing(ctx context.Context, hear func(text string)) context.Context {
	return context.WithValue(ctx, detail{}, hear)
}

// Tell says, from inside of a knob's Write that takes long, how far it has come.
func Tell(ctx context.Context, text string) {
	if tell, ok := ctx.Value(detail{}).(func(string)); ok {
		tell(text)
	}
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
		fields := without(fields, t.settings[i].volatile(found))
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

// sleep waits, no longer than until the deadline. It says whether there is reason
// to look again: not when the deadline has passed, or the context has ended.
func sleep(ctx context.Context, pause time.Duration, deadline time.Time) bool {
	left := time.Until(deadline)
	if left <= 0 {
		return false
	}
	select {
	case <-time.After(min(pause, left)):
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
