package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// How the facts of single devices are kept.
const (
	// gather is how long changes are gathered after the first: who sets up a device
	// does so in many steps.
	gather = 100 * time.Millisecond
	// spacing is the least time between two readings of some devices. Where one takes
	// long it is share times as long, so that keeping facts takes one part in share of
	// a CPU at most; but no longer than between two whole readings.
	spacing = time.Second
	share   = 50
	// many devices at once, and a quarter of all, are read whole: dumps cost less then.
	many = 32
)

// changed is what the kernel told of since the last reading.
type changed struct {
	mu      sync.Mutex
	whole   bool
	indexes map[int]bool
	handles map[string]bool
	// reading are the devices that are being read: of them the facts are not those
	// that are published. readingAll says that this is the whole host.
	reading    map[int]bool
	readingAll bool
	// deaf is set when nobody listens any more.
	deaf bool
}

func newChanged() *changed {
	return &changed{indexes: map[int]bool{}, handles: map[string]bool{}}
}

func (c *changed) add(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.whole():
		c.whole = true
	case e.Index != 0:
		c.indexes[e.Index] = true
	default:
		c.handles[e.Handle] = true
	}
}

// all says that nobody knows what changed.
func (c *changed) all() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = true
}

// take returns the devices concerned, and forgets them. whole says that more may be,
// until that is forgotten.
func (c *changed) take(inv *inventory.Inventory) (indexes []int, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if inv == nil {
		return nil, true
	}
	for i := range inv.NICs {
		n := &inv.NICs[i]
		if len(c.handles) > 0 && c.handles[handleOf(n)] {
			c.indexes[n.Index] = true
		}
	}
	if n := len(c.indexes); n > many && n > len(inv.NICs)/4 {
		c.whole = true
		return nil, true
	}
	for index := range c.indexes {
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	c.reading, c.indexes = c.indexes, map[int]bool{}
	clear(c.handles)
	return indexes, c.whole
}

// begin says that the whole host is read from now on.
func (c *changed) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole, c.readingAll = false, true
	clear(c.indexes)
	clear(c.handles)
}

// end says that what was read is published, or never will be.
func (c *changed) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading, c.readingAll = nil, false
}

// since are the devices of which the published facts may not say what they are now.
func (c *changed) since() (indexes map[int]bool, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.whole || c.readingAll || c.deaf {
		return nil, true
	}
	indexes = maps.Clone(c.indexes)
	maps.Copy(indexes, c.reading)
	return indexes, false
}

// changedSince are the devices of which facts may not say what they are now. What is
// being read is asked first: it is forgotten only when newer facts are published.
func (a *Agent) changedSince(facts *inventory.Inventory) (indexes map[int]bool, all bool) {
	indexes, all = a.changed.since()
	if facts != a.current() { // there are newer ones
		return nil, true
	}
	return indexes, all
}

// handleOf is what devlink calls a NIC's device.
func handleOf(n *inventory.NIC) string {
	switch {
	case n.Devlink != nil:
		return n.Devlink.Handle
	case n.Parent != nil:
		return n.Parent.Bus + "/" + n.Parent.Address
	}
	return ""
}

// listen notes what changed, and puts a token into news. One is enough.
func (a *Agent) listen(ctx context.Context, news chan<- struct{}) {
	for {
		event, err := a.options.Changes(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !errors.Is(err, kernel.ErrOverrun):
			if !errors.Is(err, context.Canceled) { // whose source ends a moment before ctx does
				a.options.Failed(err)
			}
			a.changed.mu.Lock()
			a.changed.deaf = true
			a.changed.mu.Unlock()
			return // the interval still brings changes in, later
		case err != nil:
			// After an overrun the facts are read whole: that is the resync.
			a.changed.all()
		default:
			a.changed.add(event)
			a.heard.add(event)
		}
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// round is what is due: a comparison, of facts that are read whole before it or are
// current already.
type round struct {
	whole    bool
	occasion string
}

// wait keeps the facts current by what the kernel tells, and returns when a round is
// due.
func (a *Agent) wait(ctx context.Context, news <-chan struct{}, wake time.Time) (round, error) {
	var stale, again, pause, reading timer
	defer func() {
		for _, t := range []*timer{&stale, &again, &pause, &reading} {
			t.stop()
		}
	}()
	if at := a.wholeAgain(); !at.IsZero() {
		stale.set(time.Until(at))
	}
	if !wake.IsZero() {
		again.set(time.Until(wake))
	}
	pause.set(a.options.Pause)
	rested := false
	var due round
	for {
		if rested && due.occasion != "" {
			return due, nil
		}
		select {
		case <-ctx.Done():
			return due, ctx.Err()
		case <-pause.fired():
			pause.stop()
			rested = true
		case <-stale.fired():
			stale.stop()
			due = round{true, "found at the interval"}
			if a.failures > 0 {
				due.occasion = "found when the host could be read again"
			}
		case <-again.fired():
			again.stop()
			due = round{true, "found when it was due"}
		case <-news:
			if reading.fired() == nil {
				reading.set(max(min(gather, a.options.Pause), time.Until(a.nextReading)))
			}
		case <-reading.fired():
			reading.stop()
			const told = "found when the kernel told of a change elsewhere"
			switch read, whole := a.readSome(ctx); {
			case whole && !due.whole:
				due = round{true, told}
			case read && due.occasion == "" && a.options.Compare != nil:
				due.occasion = told
			}
		}
	}
}

// wholeAgain is when the host is read whole at the latest, whatever is told until then;
// zero: never. After a reading that failed that is soon, and each time less soon.
func (a *Agent) wholeAgain() time.Time {
	const atMost = 5 // times doubled
	interval := a.options.Interval
	if a.failures > 0 {
		soon := max(spacing, a.options.Pause) << min(a.failures-1, atMost)
		if interval == 0 || soon < interval {
			interval = soon
		}
	}
	if interval == 0 {
		return time.Time{}
	}
	return a.readAt.Add(interval)
}

// timer is a timer that may not be set.
type timer struct{ *time.Timer }

func (t *timer) set(d time.Duration) { t.Timer = time.NewTimer(d) }

func (t *timer) stop() {
	if t.Timer != nil {
		t.Stop()
		t.Timer = nil
	}
}

func (t *timer) fired() <-chan time.Time {
	if t.Timer == nil {
		return nil
	}
	return t.C
}

// readSome reads the devices again that changed. whole says that this was not
// enough.
func (a *Agent) readSome(parent context.Context) (read, whole bool) {
	ctx, cancel := context.WithTimeout(parent, a.options.Timeout)
	defer cancel()
	indexes, whole := a.changed.take(a.current())
	if len(indexes) == 0 {
		return false, whole
	}
	start := time.Now()
	inv, err := a.keeper.Some(sharing(ctx), indexes)
	end := time.Now()
	rest := min(spacing, a.options.Pause)
	if err == nil { // one that failed may have waited, and the whole host comes next
		rest = max(rest, min(share*end.Sub(start), max(spacing, a.options.Pause)))
	}
	a.nextReading = end.Add(rest)
	if err != nil {
		a.changed.all() // a whole reading says what is wrong
		a.changed.end()
		return false, true
	}
	a.keep(inv)
	a.changed.end()
	return true, whole
}

// readWhole reads the facts. A reading that fails keeps the earlier ones.
func (a *Agent) readWhole(parent context.Context) (ok bool) {
	defer a.heavy()()
	ctx, cancel := context.WithTimeout(parent, a.options.Timeout)
	defer cancel()
	a.changed.begin() // what changes from now on is read again
	defer a.changed.end()
	start := time.Now()
	inv, err := a.keeper.Whole(sharing(ctx))
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("reading the host took longer than %s: %w", a.options.Timeout, ctx.Err())
	}
	a.failed(parent, err)
	if err == nil {
		a.keep(inv)
	} else {
		a.changed.all() // and again when something changes next, or soon
	}
	a.readAt = time.Now()
	if a.failures++; err == nil {
		a.failures = 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := read("inventory", start, err, a.facts.read)
	a.facts.read = &one
	return err == nil
}

// keep publishes facts.
func (a *Agent) keep(inv *inventory.Inventory) {
	a.reader.forget(inv)
	a.sparing.meet(inv)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.facts.inventory = inv
	a.beside.tell()
}

// current are the facts as they are known.
func (a *Agent) current() *inventory.Inventory {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.facts.inventory
}

// failed tells of an error, unless it is that the agent stops.
func (a *Agent) failed(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		a.options.Failed(err)
	}
}

// compare holds the policies against the facts, which it returns with what came of
// it.
func (a *Agent) compare(parent context.Context) *Comparison {
	inv := a.current()
	if a.options.Compare == nil || inv == nil {
		return nil
	}
	defer a.heavy()()
	ctx, cancel := context.WithTimeout(parent, a.options.Timeout)
	defer cancel()
	start := time.Now()
	comparison, err := a.options.Compare(sharing(ctx), inv)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("comparing the host with its policies took longer than %s: %w", a.options.Timeout, ctx.Err())
		}
		a.failed(parent, err)
		comparison = &Comparison{Drift: &metrics.Drift{InError: true}}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := read("drift", start, err, a.facts.compared)
	a.facts.drift, a.facts.summaries, a.facts.compared = comparison.Drift, comparison.Summaries, &one
	a.beside.tell()
	return comparison
}
