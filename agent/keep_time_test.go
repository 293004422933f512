package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// clocked is a recorded host in a bubble, whose time costs nothing. Of a single device
// it says that it is gone, and it can take its time, or fail.
type clocked struct {
	noting
	takes time.Duration
	// sick fails when devices are listed, slowlySick when one is asked for, afterwards.
	sick, slowlySick atomic.Bool
}

func newClocked(t *testing.T) *clocked {
	t.Helper()
	return &clocked{noting: noting{Reader: recorded(t, "lab-nics.txtar").Reader}}
}

func (c *clocked) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if r.Family != kernel.FamilyRoute || r.Command != uapi.RTM_GETLINK {
		return c.Reader.Netlink(ctx, r)
	}
	if c.sick.Load() {
		return nil, &kernel.Error{Op: "list network devices", Err: syscall.EIO}
	}
	messages, err := c.noting.Netlink(ctx, r)
	if !r.Dump && binary.NativeEndian.Uint32(r.Body[4:]) != 1 { // the loopback answers
		time.Sleep(c.takes)
		if c.slowlySick.Load() {
			return nil, &kernel.Error{Op: "list network device", Err: syscall.EIO}
		}
		return nil, &kernel.Error{Op: "list network device", Err: syscall.ENODEV}
	}
	return messages, err
}

// What nobody tells of is found at the interval, although something else is told of all
// the time and compared each time.
func TestNewsDoNotPutOffTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := newClocked(t)
		ctx, cancel := context.WithCancel(t.Context())
		var compared atomic.Int32
		a := New(host, Options{
			Interval: 5 * time.Minute, Pause: 5 * time.Second, Timeout: 30 * time.Second,
			Failed: func(err error) { t.Error(err) },
			Changes: func(ctx context.Context) (Event, error) {
				select {
				case <-time.After(time.Minute):
					return Event{Index: 2, What: "link"}, nil
				case <-ctx.Done():
					return Event{}, ctx.Err()
				}
			},
			Compare: func(context.Context, *inventory.Inventory) (*Comparison, error) {
				compared.Add(1)
				return &Comparison{Drift: &metrics.Drift{}}, nil
			},
		})
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(time.Hour + time.Minute)
		listed, single := host.counts()
		if listed < 12 || listed > 14 {
			t.Errorf("in an hour the host was read whole %d times, with an interval of 5 minutes", listed)
		}
		if single < 40 || compared.Load() < 40 {
			t.Errorf("of 60 changes, some beside a whole reading, %d were read, and %d comparisons made", single, compared.Load())
		}
		cancel()
		<-done
	})
}

// A host that can't be read at the start is read when it can, without an interval and
// without news.
func TestAReadingThatFailedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := newClocked(t)
		host.sick.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		var failed atomic.Int32
		a := New(host, Options{Pause: 5 * time.Second, Timeout: 30 * time.Second, Failed: func(error) { failed.Add(1) }})
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(time.Hour)
		if n := failed.Load(); n < 10 || n > 30 {
			t.Errorf("in an hour it was tried %d times: neither patient nor awake", n)
		}
		host.sick.Store(false)
		time.Sleep(3 * time.Minute)
		if !a.Ready() {
			t.Error("the host can be read, and nobody reads it")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A reading that takes long is not soon followed by the next, but by one before long.
func TestAReadingThatTookLongIsFollowedByRest(t *testing.T) {
	for _, test := range []struct {
		what              string
		takes             time.Duration
		sick              bool
		atLeast, thenLess time.Duration
	}{
		{"short", time.Millisecond, false, spacing, 2 * spacing},
		{"some time", 100 * time.Millisecond, false, 5 * time.Second, 6 * time.Second},
		{"long", 8 * time.Second, false, 20 * time.Second, 31 * time.Second},
		{"failed", 8 * time.Second, true, 0, 2 * spacing},
	} {
		synctest.Test(t, func(t *testing.T) {
			host := newClocked(t)
			a := New(host, Options{Pause: 30 * time.Second, Timeout: 60 * time.Second, Failed: func(err error) { t.Error(err) }})
			if !a.readWhole(t.Context()) {
				t.Fatal("the recorded host can't be read")
			}
			host.takes = test.takes
			host.slowlySick.Store(test.sick)
			a.changed.add(Event{Index: 2})
			if read, _ := a.readSome(t.Context()); read == test.sick {
				t.Errorf("%s: read: %v", test.what, read)
			}
			if rest := time.Until(a.nextReading); rest < test.atLeast || rest >= test.thenLess {
				t.Errorf("%s: the next comes after %s, want %s and less than %s", test.what, rest, test.atLeast, test.thenLess)
			}
		})
	}
}

func TestSharedOutlivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared[int]
		panics := make(chan struct{})
		go func() {
			defer func() { _ = recover() }()
			s.do("a", func() int { <-panics; panic("a bug") })
		}()
		synctest.Wait()
		answer := make(chan int, 2)
		one := func() { answer <- s.do("a", func() int { return 1 }) }
		go one()
		synctest.Wait() // until it waits for the other's answer
		close(panics)
		synctest.Wait()
		go one()
		synctest.Wait()
		if len(answer) != 2 {
			t.Fatalf("after a panic %d of 2 have an answer", len(answer))
		}
		if first, second := <-answer, <-answer; first != 1 || second != 1 {
			t.Errorf("answers %d, %d, want 1", first, second)
		}
	})
}
