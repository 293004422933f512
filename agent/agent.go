// Package agent keeps what is known of a host current, for as long as it runs.
//
// Facts change seldom and are costly to read; counters change always and are
// cheap. So the facts are read once, then those of single devices when the kernel
// tells of a change, and all of them now and then in case of something that it
// doesn't tell of; the counters are read for each scrape.
//
// By itself the agent only reads: it asks for no privilege and changes nothing.
// Where it is given an [Enforcement], a [Reconciler] decides what of the drift
// from policies is put right and when, and the engine of whoever gave it does so.
package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Options are an agent's surroundings.
type Options struct {
	// Changes waits until the kernel tells of a change, or of one that was
	// missed. Nil: nobody tells, as with a recorded host.
	Changes func(context.Context) (Event, error)
	// Compare compares a host with its policies. Nil: there are none.
	Compare func(context.Context, *inventory.Inventory) (*Comparison, error)
	// Enforce puts right what has drifted. Nil: nothing is changed.
	Enforce *Enforcement
	// Sysfs has it read with the facts of software devices, too, what is in sysfs alone.
	Sysfs bool
	// Meter says which counters are read for a scrape.
	Meter inventory.MeterOptions
	// Beside is what else is kept. Nil: nothing.
	Beside *Beside
	// Interval is how long facts are trusted without news. Zero: for ever.
	Interval time.Duration
	// Pause is the least time between two whole readings of the facts, and between
	// two comparisons, however often something changes.
	Pause time.Duration
	// Timeout bounds one reading of the facts, and of the counters.
	Timeout time.Duration
	// Heavy is called before the work that takes most memory, which is to read all
	// facts, to compare and to judge, and what it returns after it. Nil: nobody wants
	// to know. Calls may overlap.
	Heavy func() (done func())
	// Failed is told what went wrong; the agent goes on with what it has.
	Failed func(error)
}

// Agent is safe for concurrent use.
type Agent struct {
	reader  *remembering
	sparing *sparing // what reader asks
	options Options
	heard   heard

	changed *changed
	// The loop's alone:
	keeper      *inventory.Keeper
	nextReading time.Time // of some devices, at the earliest
	readAt      time.Time // when the last whole reading ended
	failures    int       // of whole readings since the last that succeeded

	mu    sync.Mutex
	facts facts

	meter    *inventory.Meter
	counters shared[counters]
	failing  failing
	beside   *beside // nil where nothing else is kept
}

// facts are what the last reading of the host brought.
type facts struct {
	inventory *inventory.Inventory // the last that succeeded
	drift     *metrics.Drift
	summaries []audit.DriftSummary // the same for rules
	// reconciliation is what is done about the drift.
	reconciliation *metrics.Reconciliation
	// read and compared say how that went last; nil where it never was.
	read, compared *metrics.Read
}

// New makes an agent that knows nothing yet: Run fills it.
func New(reader kernel.Reader, options Options) *Agent {
	spares := sparingOf(reader)
	a := &Agent{reader: &remembering{Reader: spares, vpd: map[string]remembered{}}, sparing: spares, options: options, changed: newChanged()}
	a.keeper = inventory.NewKeeper(a.reader)
	a.keeper.Check = spares.held
	a.keeper.Sysfs = options.Sysfs
	meter := options.Meter
	if options.Changes != nil {
		meter.Changed = a.changedSince
	}
	a.meter = inventory.NewMeter(a.reader, meter)
	a.beside = newBeside(a, options.Beside)
	a.facts.reconciliation = &metrics.Reconciliation{Mode: options.mode()}
	return a
}

// Ready reports whether the facts have been read.
func (a *Agent) Ready() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.facts.inventory != nil
}

// Run keeps the facts current until ctx ends, and returns ctx's error.
func (a *Agent) Run(ctx context.Context) error {
	news := make(chan struct{}, 1)
	if a.options.Changes != nil {
		go a.listen(ctx, news)
	}
	if a.beside != nil {
		var beside sync.WaitGroup
		defer beside.Wait()
		beside.Go(func() { a.beside.run(ctx) })
	}
	next := round{whole: true, occasion: "found at the start"}
	for {
		var comparison *Comparison
		if !next.whole || a.readWhole(ctx) {
			comparison = a.compare(ctx)
		}
		wake := a.enforce(ctx, a.current(), comparison, next.occasion)
		var err error
		if next, err = a.wait(ctx, news, wake); err != nil {
			return err
		}
	}
}

// Once reads once what Run keeps, in place of Run: for a single Snapshot.
func (a *Agent) Once(ctx context.Context) error {
	if !a.readWhole(ctx) {
		return errors.Join(errors.New("the host could not be read"), ctx.Err())
	}
	a.compare(ctx)
	if a.beside != nil {
		a.beside.round(ctx)
	}
	return ctx.Err()
}

// heavy tells of the work that takes most memory.
func (a *Agent) heavy() (done func()) {
	if a.options.Heavy == nil {
		return func() {}
	}
	return a.options.Heavy()
}

// Snapshot is a [metrics.Source]. Scrapes that come at the same time share one
// reading of the counters.
func (a *Agent) Snapshot(asked metrics.Asked) metrics.Snapshot {
	a.mu.Lock()
	inv := a.facts.inventory
	a.mu.Unlock()
	c := a.count(asked, inv)
	a.mu.Lock()
	defer a.mu.Unlock()
	snapshot := metrics.Snapshot{
		Inventory:  a.facts.inventory,
		Drift:      a.facts.drift,
		Statistics: c.sample.Statistics,
		Counted:    c.sample,
		Reads:      c.reads,

		Reconciliation: a.facts.reconciliation,
	}
	facts, compared := metrics.Read{Collector: "inventory"}, metrics.Read{Collector: "drift"} // never read
	if a.facts.read != nil {
		facts = *a.facts.read
	}
	if a.facts.compared != nil {
		compared = *a.facts.compared
	}
	snapshot.Reads = append(snapshot.Reads, facts)
	if a.options.Compare != nil {
		snapshot.Reads = append(snapshot.Reads, compared)
	}
	a.beside.into(&snapshot)
	return snapshot
}

// read is how something was read that began at start; earlier is how it was before, nil
// where it never was.
func read(collector string, start time.Time, err error, earlier *metrics.Read) metrics.Read {
	now := time.Now()
	one := metrics.Read{Collector: collector, Seconds: now.Sub(start).Seconds(), Success: err == nil, At: now}
	if err != nil {
		one.At = time.Time{}
		if earlier != nil {
			one.At = earlier.At
		}
	}
	return one
}
