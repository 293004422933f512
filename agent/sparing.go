package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// callPatience is how long an answer is waited for at most.
const callPatience = 10 * time.Second

// Sparing returns a reader for who asks the same host again and again. No call gets out
// of a driver that hangs, and who asks again only leaves another one there: so of a
// device that didn't answer in time nothing is asked before it has, and nor is what had
// no answer about all devices at once. What would be asked fails at once instead, as if
// it had been late. New makes one of its reader if it isn't one.
//
// Files are read as ever: what they hold seldom comes from a device.
func Sparing(r kernel.Reader) kernel.Reader { return sparingOf(r) }

func sparingOf(r kernel.Reader) *sparing {
	if s, ok := r.(*sparing); ok {
		return s
	}
	return &sparing{Reader: r, hanging: map[string]*hung{}, named: map[string]int{}}
}

type sparing struct {
	kernel.Reader
	// some is how many hang, for who asks thousands of things.
	some atomic.Int32

	mu      sync.Mutex
	hanging map[string]*hung // by what is asked about
	named   map[string]int   // devices' indexes by their names, and by devlink's
}

// hung is a call that was not waited for any more.
type hung struct {
	op       string
	since    time.Time
	returned bool
}

// meet notes what devices are called.
func (s *sparing) meet(inv *inventory.Inventory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.named)
	for i := range inv.NICs {
		n := &inv.NICs[i]
		s.named[n.Name] = n.Index
		if handle := handleOf(n); handle != "" && s.named[handle] == 0 { // of several ports the first
			s.named[handle] = n.Index
		}
	}
}

// index is what is asked about, where that is a device of this index.
func index(n int) string { return fmt.Sprint("device ", n) }

// device is what is asked about, where that is a device of this name.
func (s *sparing) device(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.named[name]; n != 0 {
		return index(n)
	}
	return name
}

// subject is what a request asks about: a device, or all of its kind.
func (s *sparing) subject(r kernel.Request) string {
	a := kernel.AttributesOf(r.Body)
	switch {
	case r.Family == kernel.FamilyRoute && !r.Dump && (r.Command == uapi.RTM_GETLINK || r.Command == uapi.RTM_GETSTATS):
		const from, to = 4, 8 // of struct ifinfomsg and struct if_stats_msg
		if len(r.Body) >= to {
			if n := binary.NativeEndian.Uint32(r.Body[from:]); n != 0 {
				return index(int(n))
			}
		}
	case r.Family == kernel.FamilyEthtool && a.Next(): // the header comes first
		for header := a.Nested(); header.Next(); {
			if header.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
				return index(int(header.Uint32()))
			}
		}
	case r.Family == kernel.FamilyDevlink:
		var bus, device string
		for a.Next() {
			switch a.Type {
			case uapi.DEVLINK_ATTR_BUS_NAME:
				bus = a.String()
			case uapi.DEVLINK_ATTR_DEV_NAME:
				device = a.String()
			}
		}
		if device != "" && !r.Dump {
			return s.device(bus + "/" + device)
		}
	}
	return r.String() + "\x00" + string(r.Body)
}

// free reports whether a call needs no care: nothing hangs, and who asks waits by itself.
// Most of what is asked for a scrape is of that kind, and costs no more than it must.
func (s *sparing) free(ctx context.Context) bool { return s.some.Load() == 0 && kernel.IsOnItsOwn(ctx) }

// hangs says that an earlier call about a subject has not come back.
func (s *sparing) hangs(subject, op, object string) error {
	if s.some.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hanging[subject]
	if h == nil {
		return nil
	}
	return &kernel.Error{Op: op, Object: object, Err: fmt.Errorf("not asked, since %q of %s has had no answer yet, the driver or its firmware may hang: %w",
		h.op, h.since.Format(time.TimeOnly), context.DeadlineExceeded)}
}

// begin and end count what hangs. s.mu is locked.
func (s *sparing) begin(subject string, h *hung) {
	s.hanging[subject] = h
	s.some.Store(int32(len(s.hanging)))
}

func (s *sparing) end(subject string, h *hung) {
	if s.hanging[subject] == h {
		delete(s.hanging, subject)
		s.some.Store(int32(len(s.hanging)))
	}
}

// spared asks, unless an earlier call hangs.
func spared[T any](ctx context.Context, s *sparing, subject, op, object string, ask func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := s.hangs(subject, op, object); err != nil {
		return zero, err
	}
	if kernel.IsOnItsOwn(ctx) { // and who asks knows what hangs
		return ask(ctx)
	}
	if err := ctx.Err(); err != nil {
		return zero, &kernel.Error{Op: op, Object: object, Err: err}
	}
	limited, cancel := context.WithTimeout(ctx, patienceOf(ctx))
	type answer struct {
		value T
		err   error
	}
	h := &hung{op: op, since: time.Now()}
	answers := make(chan answer, 1)
	go func() {
		value, err := ask(kernel.OnItsOwn(limited))
		s.mu.Lock()
		h.returned = true
		s.end(subject, h)
		s.mu.Unlock()
		answers <- answer{value, err}
	}()
	defer cancel()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-limited.Done():
	}
	over := limited.Err()
	if err := ctx.Err(); err != nil {
		over = err // the caller's time, or it is told to stop
	}
	s.mu.Lock()
	if !h.returned {
		s.begin(subject, h)
	}
	s.mu.Unlock()
	return zero, &kernel.Error{Op: op, Object: object, Err: fmt.Errorf("no answer in time, the driver or its firmware may hang: %w", over)}
}

// shares is the key of what sharing says.
type shares struct{}

// sharing is for a reading that asks many devices until ctx's deadline: no call has more
// than a quarter of what is left of the time, so that a few devices that hang leave
// the others enough.
func sharing(ctx context.Context) context.Context { return context.WithValue(ctx, shares{}, true) }

// patienceOf is how long an answer is waited for.
func patienceOf(ctx context.Context) time.Duration {
	const part = 4
	deadline, ok := ctx.Deadline()
	if ok && ctx.Value(shares{}) != nil {
		return min(callPatience, time.Until(deadline)/part)
	}
	return callPatience
}

// Netlink implements [kernel.Reader].
func (s *sparing) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if s.free(ctx) {
		return s.Reader.Netlink(ctx, r)
	}
	return spared(ctx, s, s.subject(r), r.String(), "", func(ctx context.Context) ([]kernel.Message, error) { return s.Reader.Netlink(ctx, r) })
}

// Ethtool implements [kernel.Reader].
func (s *sparing) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	if s.free(ctx) {
		return s.Reader.Ethtool(ctx, device, arg)
	}
	arg = append([]byte(nil), arg...) // the caller's is no longer ours once ctx ends
	return spared(ctx, s, s.device(device), "SIOCETHTOOL", device, func(ctx context.Context) ([]byte, error) { return s.Reader.Ethtool(ctx, device, arg) })
}

// DriverInfo implements [kernel.Reader].
func (s *sparing) DriverInfo(ctx context.Context, device string) (kernel.DriverInfo, error) {
	if s.free(ctx) {
		return s.Reader.DriverInfo(ctx, device)
	}
	return spared(ctx, s, s.device(device), "SIOCETHTOOL GDRVINFO", device, func(ctx context.Context) (kernel.DriverInfo, error) { return s.Reader.DriverInfo(ctx, device) })
}

// Counters implements [kernel.Reader].
func (s *sparing) Counters(ctx context.Context, device string) ([]kernel.Counter, error) {
	if s.free(ctx) {
		return s.Reader.Counters(ctx, device)
	}
	return spared(ctx, s, s.device(device), "SIOCETHTOOL GSTATS", device, func(ctx context.Context) ([]kernel.Counter, error) { return s.Reader.Counters(ctx, device) })
}

// held finds out whether some driver holds the kernel's lock for all network devices
// (RTNL): then no device answers, which says nothing of any. The loopback is asked,
// whose answer needs nothing else.
func (s *sparing) held(ctx context.Context) error {
	const header, loopback = 16, 1 // struct ifinfomsg
	body := make([]byte, header)
	binary.NativeEndian.PutUint32(body[4:], loopback)
	_, err := s.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK,
		Body: kernel.Body(body).Uint32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS),
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the kernel's lock for all network devices (RTNL) is held: %w", err)
	}
	return nil
}
