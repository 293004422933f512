package agent

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func has(s metrics.Snapshot, device string) bool {
	if s.Inventory == nil {
		return false
	}
	for _, n := range s.Inventory.NICs {
		if n.Name == device {
			return true
		}
	}
	return false
}

// eventually waits for what takes a busy machine a while.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(25 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func start(t *testing.T, reader kernel.Reader, options Options) *Agent {
	t.Helper()
	options.Timeout = cmp.Or(options.Timeout, 10*time.Second)
	if options.Failed == nil {
		options.Failed = func(err error) { t.Error(err) }
	}
	a := New(reader, options)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	return a
}

func TestTheAgentSeesDevicesComeAndGo(t *testing.T) {
	nstest.Require(t)
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	changes, err := Watch(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, live, Options{Changes: changes})
	eventually(t, "ready", a.Ready)
	if has(a.Snapshot(nil), "come0") {
		t.Fatal("the device is there before it is made")
	}
	nstest.Link(t, "come0", "type ifb")
	eventually(t, "the new device", func() bool { return has(a.Snapshot(nil), "come0") })
	nstest.IP(t, "link del come0")
	eventually(t, "its end", func() bool { return !has(a.Snapshot(nil), "come0") })
}

// silent is a host whose netlink never answers; it counts the questions.
type silent struct {
	kernel.Reader
	asked atomic.Int32
}

func newSilent(t *testing.T) *silent {
	t.Helper()
	empty, err := kernel.ParseRecording([]byte("nictune recording 1\n-- end --\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &silent{Reader: empty}
}

func (s *silent) Netlink(ctx context.Context, _ kernel.Request) ([]kernel.Message, error) {
	s.asked.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestScrapesAtTheSameTimeShareOneReading(t *testing.T) {
	host := newSilent(t)
	a := New(host, Options{Timeout: 200 * time.Millisecond, Failed: func(error) {}})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if s := a.Snapshot(nil); len(s.Reads) == 0 || s.Reads[0].Success {
				t.Errorf("reads: %+v, want one that failed", s.Reads)
			}
		})
	}
	wg.Wait()
	if n := host.asked.Load(); n > 3 {
		t.Errorf("the host was asked %d times for 50 scrapes", n)
	}
}

// What counts is what is read, not which collectors show it.
func TestScrapesOfOtherPartsShareNoReading(t *testing.T) {
	host := newSilent(t)
	a := New(host, Options{Timeout: 500 * time.Millisecond, Failed: func(error) {}})
	var wg sync.WaitGroup
	scrape := func(asked metrics.Asked, part string) {
		wg.Go(func() {
			if s := a.Snapshot(asked); len(s.Reads) == 0 || s.Reads[0].Collector != part {
				t.Errorf("%v: reads %+v, want %s", asked, s.Reads, part)
			}
		})
	}
	scrape(metrics.Asked{"statistics": true}, "statistics")
	eventually(t, "the first question", func() bool { return host.asked.Load() > 0 })
	scrape(metrics.Asked{"statistics": true, "link": true}, "statistics")
	scrape(metrics.Asked{"softnet": true}, "softnet")
	wg.Wait()
	if n := host.asked.Load(); n != 1 {
		t.Errorf("the host was asked %d times for the same", n)
	}
}

func TestAnOverrunIsAChangeAndAnErrorEndsListening(t *testing.T) {
	host := newSilent(t)
	told := make(chan error)
	broken := errors.New("broken")
	var failed atomic.Int32
	start(t, host, Options{
		Timeout: time.Millisecond,
		Changes: func(ctx context.Context) (Event, error) {
			select {
			case err := <-told:
				return Event{}, err
			case <-ctx.Done():
				return Event{}, ctx.Err()
			}
		},
		Failed: func(err error) {
			if errors.Is(err, broken) {
				failed.Add(1)
			}
		},
	})
	told <- kernel.ErrOverrun
	told <- broken
	eventually(t, "the error", func() bool { return failed.Load() == 1 })
}

func TestDriftThatCannotBeComparedIsShownAsSuch(t *testing.T) {
	nstest.Require(t)
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	a := start(t, live, Options{
		Compare: func(context.Context, *inventory.Inventory) (*Comparison, error) { return nil, errors.New("no") },
		Failed:  func(error) {},
	})
	eventually(t, "drift in error", func() bool { // the agent is ready before it compares
		s := a.Snapshot(nil)
		return s.Drift != nil && s.Drift.InError
	})
}

// stuck is a host whose files don't answer any more once it is told so.
type stuck struct {
	kernel.Reader
	now atomic.Bool
}

func (s *stuck) ReadFile(ctx context.Context, name string) ([]byte, error) {
	if s.now.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Reader.ReadFile(ctx, name)
}

func TestAReadingThatIsCutShortReplacesNothing(t *testing.T) {
	nstest.Require(t)
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	host := &stuck{Reader: live}
	again := make(chan struct{})
	a := start(t, host, Options{
		Timeout: 2 * time.Second,
		Changes: func(ctx context.Context) (Event, error) {
			select {
			case <-again:
				return Event{}, nil
			case <-ctx.Done():
				return Event{}, ctx.Err()
			}
		},
		Failed: func(error) {},
	})
	eventually(t, "ready", a.Ready)
	first := a.Snapshot(nil).Inventory
	host.now.Store(true)
	again <- struct{}{}
	eventually(t, "a reading that failed", func() bool {
		for _, r := range a.Snapshot(nil).Reads {
			if r.Collector == "inventory" && !r.Success {
				return true
			}
		}
		return false
	})
	if a.Snapshot(nil).Inventory != first {
		t.Error("the facts were replaced by half of them")
	}
}
