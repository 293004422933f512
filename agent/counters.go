package agent

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/inventory"
)

// counters are what one reading for a scrape brought.
type counters struct {
	sample *inventory.Sample
	reads  []metrics.Read
}

// count reads the counters that the collectors which are asked for show. Scrapes
// that come at the same time and show something of the same parts share one reading.
func (a *Agent) count(asked metrics.Asked, inv *inventory.Inventory) counters {
	all := inventory.Parts()
	wanted := make([]inventory.Part, 0, len(all))
	var key strings.Builder
	for _, p := range all {
		if asked == nil || shownBy(asked, p) {
			wanted = append(wanted, p)
			key.WriteString(string(p) + " ")
		}
	}
	return a.counters.do(key.String(), func() counters {
		ctx, cancel := context.WithTimeout(context.Background(), a.options.Timeout)
		defer cancel()
		sample := a.meter.Read(ctx, inv, func(p inventory.Part) bool { return slices.Contains(wanted, p) })
		a.tellFailures(sample)
		c := counters{sample: sample}
		for _, r := range sample.Reads {
			if r.Err != nil {
				a.options.Failed(r.Err)
			}
			one := metrics.Read{Collector: string(r.Part), Seconds: r.Seconds, Success: r.Err == nil}
			for i, f := range sample.Failures {
				again := slices.ContainsFunc(sample.Failures[:i], func(e inventory.SampleFailure) bool {
					return e.Part == f.Part && e.Device == f.Device && e.Reason == f.Reason
				})
				if f.Part != r.Part || again {
					continue
				}
				if one.Errors == nil {
					one.Errors = map[inventory.Reason]int{}
				}
				one.Errors[f.Reason]++
			}
			c.reads = append(c.reads, one)
		}
		return c
	})
}

// shownBy reports whether a collector that is asked for shows something of a part.
func shownBy(asked metrics.Asked, p inventory.Part) bool {
	switch p {
	case inventory.PartStandard:
		return asked["standard"] || asked["meaning"]
	case inventory.PartDriver: // which has the packets of queues, too
		return asked["driver"] || asked["meaning"] || asked["queue"]
	case inventory.PartQueues:
		return asked["queue"] || asked["meaning"]
	case inventory.PartInterrupts:
		return asked["interrupt"] || asked["interrupt_cpu"]
	}
	return asked[string(p)] // named alike
}

// tellFailures says of each device what could not be read, once for as long as it
// lasts.
func (a *Agent) tellFailures(s *inventory.Sample) {
	a.failing.mu.Lock()
	defer a.failing.mu.Unlock()
	now := map[failure]bool{}
	for known := range a.failing.known {
		if !slices.ContainsFunc(s.Reads, func(r inventory.PartRead) bool { return r.Part == known.part }) {
			now[known] = true // this reading was not about it
		}
	}
	for _, f := range s.Failures {
		a.tellOnce(a.failing.known, now, failure{f.Device, f.Part, f.Reason}, f.Err)
	}
	a.failing.known = now
}

// tellOnce tells of a failure that is in neither list, and puts it into the second.
func (a *Agent) tellOnce(before, now map[failure]bool, one failure, err error) {
	if !before[one] && !now[one] {
		a.options.Failed(err)
	}
	now[one] = true
}

// failing is what was told already.
type failing struct {
	mu    sync.Mutex
	known map[failure]bool
}

type failure struct {
	device string
	part   inventory.Part
	reason inventory.Reason
}

// shared lets callers that come while a call is under way, and ask for the same,
// have its answer.
type shared[T any] struct {
	mu    sync.Mutex
	calls map[string]*call[T] // under way, by what they ask for
}

type call[T any] struct {
	done  chan struct{}
	value T
	// returned says that there is a value: f may panic.
	returned bool
}

func (s *shared[T]) do(key string, f func() T) T {
	for {
		s.mu.Lock()
		c := s.calls[key]
		if c == nil {
			return s.lead(key, f)
		}
		s.mu.Unlock()
		<-c.done
		if c.returned {
			return c.value
		}
	}
}

// lead calls f for all who come meanwhile. s.mu is locked before, and not after.
func (s *shared[T]) lead(key string, f func() T) T {
	c := &call[T]{done: make(chan struct{})}
	if s.calls == nil {
		s.calls = map[string]*call[T]{}
	}
	s.calls[key] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.calls, key)
		s.mu.Unlock()
		close(c.done)
	}()
	c.value = f()
	c.returned = true
	return c.value
}
