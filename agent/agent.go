// Package agent keeps what is known of a host current, for as long as it runs.
//
// Facts change seldom and are costly to read; counters change always and are
// cheap. So the facts are read once, then again when the kernel tells of a
// change, and now and then in case it told of something nobody heard; the
// counters are read for each scrape.
//
// By itself the agent only reads: it asks for no privilege and changes nothing.
// Where it is given an [Enforcement], a [Reconciler] decides what of the drift
// from policies is put right and when, and the engine of whoever gave it does so.
package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
	// Meter says which counters are read for a scrape.
	Meter inventory.MeterOptions
	// Beside is what else is kept. Nil: nothing.
	Beside *Beside
	// Interval is how long facts are trusted without news. Zero: for ever.
	Interval time.Duration
	// Pause is the least time between two readings of the facts, however often
	// something changes.
	Pause time.Duration
	// Timeout bounds one reading of the facts, and of the counters.
	Timeout time.Duration
	// Failed is told what went wrong; the agent goes on with what it has.
	Failed func(error)
}

// Agent is safe for concurrent use.
type Agent struct {
	reader  *remembering
	options Options
	heard   heard

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
	// reconciliation is what is done about the drift.
	reconciliation *metrics.Reconciliation
	reads          []metrics.Read
}

// New makes an agent that knows nothing yet: Run fills it.
func New(reader kernel.Reader, options Options) *Agent {
	a := &Agent{reader: &remembering{Reader: reader, vpd: map[string]remembered{}}, options: options}
	a.meter = inventory.NewMeter(a.reader, options.Meter)
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
	occasion := "found at the start"
	for {
		inv, comparison := a.refresh(ctx)
		wake := a.enforce(ctx, inv, comparison, occasion)
		var err error
		if occasion, err = a.wait(ctx, news, wake); err != nil {
			return err
		}
	}
}

// Once reads once what Run keeps, in place of Run: for a single Snapshot.
func (a *Agent) Once(ctx context.Context) error {
	inv, _ := a.refresh(ctx)
	if inv == nil {
		return errors.Join(errors.New("the host could not be read"), ctx.Err())
	}
	if a.beside != nil {
		a.beside.round(ctx)
	}
	return ctx.Err()
}

// listen puts a token into news whenever something changed. One is enough: the
// facts are read whole.
func (a *Agent) listen(ctx context.Context, news chan<- struct{}) {
	for {
		event, err := a.options.Changes(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !errors.Is(err, kernel.ErrOverrun):
			a.options.Failed(err)
			return // the interval still brings changes in, later
		case err == nil:
			a.heard.add(event)
		}
		// After an overrun the facts are read anew as after any change: that is
		// the resync.
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// wait returns when the facts should be read again, and says what for.
func (a *Agent) wait(ctx context.Context, news <-chan struct{}, wake time.Time) (occasion string, err error) {
	var stale, again <-chan time.Time
	if a.options.Interval > 0 {
		timer := time.NewTimer(a.options.Interval)
		defer timer.Stop()
		stale = timer.C
	}
	if !wake.IsZero() {
		timer := time.NewTimer(time.Until(wake))
		defer timer.Stop()
		again = timer.C
	}
	pause := time.NewTimer(a.options.Pause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	select {
	case <-news:
		return "found when the kernel told of a change elsewhere", nil
	case <-again:
		return "found when it was due", nil
	case <-stale:
		return "found at the interval", nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// refresh reads the facts, and returns them. A reading that fails keeps the
// earlier one, and returns nothing.
func (a *Agent) refresh(parent context.Context) (*inventory.Inventory, *Comparison) {
	ctx, cancel := context.WithTimeout(parent, a.options.Timeout)
	defer cancel()
	// What breaks off because the agent stops is no failure.
	failed := func(err error) {
		if err != nil && parent.Err() == nil {
			a.options.Failed(err)
		}
	}
	start := time.Now()
	inv, err := inventory.Read(ctx, a.reader)
	if err == nil && ctx.Err() != nil {
		// Cut short it knows less than the one before, and says so NIC by NIC.
		inv, err = nil, fmt.Errorf("reading the host took longer than %s: %w", a.options.Timeout, ctx.Err())
	}
	failed(err)
	reads := []metrics.Read{read("inventory", start, err)}
	var comparison *Comparison
	if err == nil && a.options.Compare != nil {
		start = time.Now()
		if comparison, err = a.options.Compare(ctx, inv); err != nil {
			failed(err)
			comparison = &Comparison{Drift: &metrics.Drift{InError: true}}
		}
		reads = append(reads, read("drift", start, err))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.facts.reads = reads
	if inv != nil {
		a.reader.forget(inv)
		a.facts.inventory, a.facts.drift = inv, nil
		a.beside.tell()
	}
	if comparison != nil {
		a.facts.drift = comparison.Drift
	}
	return inv, comparison
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
		Reads:      append(c.reads, a.facts.reads...),

		Reconciliation: a.facts.reconciliation,
	}
	a.beside.into(&snapshot)
	return snapshot
}

func read(collector string, start time.Time, err error) metrics.Read {
	return metrics.Read{Collector: collector, Seconds: time.Since(start).Seconds(), Success: err == nil}
}
