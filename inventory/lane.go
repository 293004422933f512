package inventory

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// source is a set of questions that a device is asked by itself.
type source uint8

const (
	fromFEC source = 1 << iota
	fromPause
	fromStandard
	fromDriver
	fromVFs
)

// part is where what comes of a question belongs.
func (s source) part() Part {
	switch s {
	case fromDriver:
		return PartDriver
	case fromVFs:
		return PartVFs
	}
	return PartStandard
}

// A lane is one device that is asked by itself, one question after the other, so
// that one that hangs holds up nobody else's answers.
//
// Devices are not asked in one dump: among thousands of them a few have these
// counters, and a dump ends, or hangs, with the first that fails.
type lane struct {
	nic     *NIC
	sources source
	// lacks are those that the device turned out not to have.
	lacks source
	// calling is set while a question is under way, of this reading or an earlier one.
	calling atomic.Bool

	// The rest is the visitor's.
	counters driverCounters
	// vfsCount is set when one of the VFs had counted anything: the kernel says 0 for
	// a driver that doesn't count.
	vfsCount bool
}

// same reports whether a device is the one that the lane was made for: the index
// stays, the driver tells.
func (l *lane) same(n *NIC) bool {
	return l.nic.Index == n.Index && l.nic.Type == n.Type && driverOf(l.nic) == driverOf(n) && l.nic.PermanentMAC == n.PermanentMAC
}

func driverOf(n *NIC) string {
	if n.Driver == nil {
		return ""
	}
	return n.Driver.Name
}

// meet takes the device's facts. What decides over the names of its counters has
// them read again, and who lacked something is asked anew when its link changed.
func (l *lane) meet(n *NIC, sources source) {
	if old := l.nic; old != nil {
		if !samePlan(old, n) {
			l.counters.stale.Store(true)
			l.lacks = 0
		}
		if old.Name != n.Name { // by which the driver was asked: another may have answered
			l.counters.stale.Store(true)
		}
		if !reflect.DeepEqual(old.Link.Carrier, n.Link.Carrier) || !reflect.DeepEqual(old.Link.FEC, n.Link.FEC) || sources&^l.sources != 0 {
			l.lacks = 0
		}
	}
	l.nic, l.sources = n, sources
}

// samePlan reports whether a device has the same queues and private flags: the
// names of a driver's counters go by them, where their number may stay the same.
func samePlan(a, b *NIC) bool {
	return reflect.DeepEqual(a.Queues.Channels, b.Queues.Channels) && maps.Equal(a.Offloads.PrivateFlags, b.Offloads.PrivateFlags)
}

// visit is one reading of one device.
type visit struct {
	lane  *lane
	nic   *NIC
	asks  source
	began time.Time // zero: it was not made
	// done is set when all is filled in.
	done   atomic.Bool
	sample DeviceSample
	lacks  source
	errs   []SampleFailure
	// late is set when nobody waits any more.
	late atomic.Bool
	// request is room for questions, of all visits of a goroutine.
	request *[]byte
}

// overlap is how long a device is given before the next one is asked beside it.
// Most answer in microseconds, one after the other, on one thread.
const overlap = 25 * time.Millisecond

// ask visits all devices.
func (m *Meter) ask(ctx context.Context) *round {
	var wanted source
	for from := fromFEC; from <= fromVFs; from <<= 1 {
		if m.wants(from.part()) {
			wanted |= from
		}
	}
	room := m.room
	m.room = nil // until all that is written there has been
	if len(room) != len(m.lanes) {
		room = make([]visit, len(m.lanes))
	}
	clear(room)
	r := &round{meter: m, room: room, begun: make(chan struct{}), ended: make(chan struct{}, 1)}
	for _, l := range m.lanes {
		asks := l.sources &^ l.lacks & wanted
		if asks == 0 {
			continue
		}
		r.visits = room[:len(r.visits)+1]
		v := &room[len(r.visits)-1]
		v.lane, v.nic, v.asks = l, l.nic, asks
		v.sample = DeviceSample{Name: l.nic.Name, Index: l.nic.Index}
	}
	if len(r.visits) == 0 {
		close(r.begun)
		return r
	}
	go r.work(ctx)
	go func() {
		tick := time.NewTicker(overlap)
		defer tick.Stop()
		for at := 0; ; {
			select {
			case <-r.begun:
				return
			case <-tick.C:
				// Whoever is asked takes long: others are asked beside it.
				if now := r.reached(); now == at {
					go r.work(ctx)
				} else {
					at = now
				}
			}
		}
	}()
	return r
}

// round is one reading's visits, and how far it has come.
type round struct {
	meter  *Meter
	visits []visit
	room   []visit // that they stand in
	// begun is closed when the last visit has begun.
	begun chan struct{}
	// ended has something after one ended.
	ended chan struct{}

	mu   sync.Mutex
	next int
}

// reached is how many visits have begun.
func (r *round) reached() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// work makes one visit after the other until all have begun. A device that hangs
// keeps its goroutine.
func (r *round) work(ctx context.Context) {
	unbroken := kernel.AmongMany(context.WithoutCancel(ctx))
	var request []byte
	for {
		v, ok := r.take(ctx)
		if !ok {
			return
		}
		if v == nil {
			continue
		}
		v.request = &request
		r.meter.visit(unbroken, v)
		select {
		case r.ended <- struct{}{}:
		default:
		}
	}
}

// take begins the next visit. It is not made (nil, and began is zero) if an earlier
// reading's question is under way, or there is no time left.
func (r *round) take(ctx context.Context) (v *visit, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == len(r.visits) {
		return nil, false
	}
	if next := &r.visits[r.next]; ctx.Err() == nil && next.lane.calling.CompareAndSwap(false, true) {
		v, next.began = next, time.Now()
	}
	r.next++
	if r.next == len(r.visits) {
		close(r.begun)
	}
	return v, true
}

// await waits until a visit has ended, or a device has had its time.
func (r *round) await(v *visit) (ended bool) {
	if v.done.Load() {
		return true
	}
	timer := time.NewTimer(time.Until(v.began.Add(r.meter.options.Patience)))
	defer timer.Stop()
	for {
		select {
		case <-r.ended:
			if v.done.Load() {
				return true
			}
		case <-timer.C:
			return v.done.Load()
		}
	}
}

// visit asks one device. Its calls are not broken off, so that it is known when a
// device that hung answers again.
func (m *Meter) visit(ctx context.Context, v *visit) {
	defer v.done.Store(true)
	defer v.lane.calling.Store(false)
	for _, q := range [...]struct {
		from source
		ask  func(context.Context, *visit) error
	}{
		{fromFEC, m.visitFEC}, {fromPause, m.visitPause}, {fromStandard, m.visitStandard},
		{fromDriver, m.visitDriver}, {fromVFs, m.visitVFs},
	} {
		if v.asks&q.from == 0 {
			continue
		}
		if v.late.Load() {
			return
		}
		switch err := q.ask(ctx, v); {
		case err == nil:
		case kernel.ReasonOf(err) == kernel.Unsupported, errors.Is(err, kernel.ErrNotRecorded):
			v.lacks |= q.from
		default:
			v.errs = append(v.errs, SampleFailure{v.nic.Name, q.from.part(), kernel.ReasonOf(err), err})
		}
	}
}

// gather waits for the visits and files what they brought. Those that are late are
// left out: what they had counted at an earlier time is no answer now.
func (m *Meter) gather(s *Sample, r *round, start time.Time) {
	<-r.begun
	fail := func(f SampleFailure) { s.Failures = append(s.Failures, f) }
	late := func(v *visit) {
		for _, from := range [...]source{fromFEC | fromPause | fromStandard, fromDriver, fromVFs} {
			if v.asks&from != 0 {
				fail(SampleFailure{v.nic.Name, from.part(), NoAnswer, &kernel.Error{Op: "read counters", Object: v.nic.Name, Err: errNoAnswer}})
			}
		}
	}
	learned := false
	m.room = r.room
	s.Devices = slices.Grow(s.Devices, len(r.visits))
	for i := range r.visits {
		v := &r.visits[i]
		if v.began.IsZero() {
			late(v)
			continue
		}
		if !r.await(v) {
			v.late.Store(true)
			m.room = nil // it is still written on
			late(v)
			continue
		}
		for _, f := range v.errs {
			if f.Reason != kernel.Gone { // as devices do
				fail(f)
			}
		}
		if v.lacks != 0 {
			learned = true
			v.lane.lacks |= v.lacks
			if software(v.nic) {
				m.refused[v.nic.Type] |= v.lacks &^ (fromFEC | fromPause)
			}
		}
		if i, ok := s.find(v.nic.Index); ok && s.Statistics[i].Name != v.nic.Name {
			continue // renamed since the facts were read: by that name another may have answered
		}
		if d := &v.sample; d.Standard != nil || d.Set != nil || d.VFs != nil {
			s.Devices = append(s.Devices, *d)
		}
	}
	if learned {
		m.lanes = slices.DeleteFunc(m.lanes, func(l *lane) bool {
			if software(l.nic) {
				l.lacks |= m.refused[l.nic.Type]
			}
			return l.sources&^l.lacks == 0
		})
	}
	m.fillQueues(s)
	seconds := time.Since(start).Seconds()
	for _, p := range [...]Part{PartStandard, PartDriver, PartVFs} {
		if !m.wants(p) || p == PartVFs && m.options.VFs == nil {
			continue
		}
		s.Reads = append(s.Reads, PartRead{p, seconds, nil})
	}
}

func (m *Meter) visitFEC(ctx context.Context, v *visit) error {
	g := ethtoolGroup{command: uapi.ETHTOOL_MSG_FEC_GET, statistics: true}
	return m.standard(ctx, v, g, decodeFECCounters)
}

func (m *Meter) visitPause(ctx context.Context, v *visit) error {
	g := ethtoolGroup{command: uapi.ETHTOOL_MSG_PAUSE_GET, statistics: true}
	return m.standard(ctx, v, g, decodePauseCounters)
}

func (m *Meter) visitStandard(ctx context.Context, v *visit) error {
	g := ethtoolGroup{
		command: uapi.ETHTOOL_MSG_STATS_GET, header: uapi.ETHTOOL_A_STATS_HEADER,
		more: statisticsGroups(uapi.ETHTOOL_STATS_ETH_PHY, uapi.ETHTOOL_STATS_ETH_MAC, uapi.ETHTOOL_STATS_ETH_CTRL, uapi.ETHTOOL_STATS_RMON),
	}
	return m.standard(ctx, v, g, decodeStandardCounters)
}

// noCounters is what a device answers that has the settings of a group and none of
// its counters.
type noCounters struct{}

func (noCounters) Error() string { return "no such counters" }

// Is makes kernel.ReasonOf say unsupported.
func (noCounters) Is(target error) bool { return target == errors.ErrUnsupported }

func (m *Meter) standard(ctx context.Context, v *visit, g ethtoolGroup, decode func([]byte, func(StandardCounter)) error) error {
	messages, err := g.one(ctx, m.reader, v.nic.Index)
	if err != nil {
		return err
	}
	before := len(v.sample.Standard)
	for _, message := range messages {
		if err := decode(message.Body, func(c StandardCounter) { v.sample.Standard = append(v.sample.Standard, c) }); err != nil {
			v.sample.Standard = v.sample.Standard[:before]
			return &kernel.Error{Op: "ethtool statistics", Object: v.nic.Name, Err: err}
		}
	}
	if len(v.sample.Standard) == before {
		return noCounters{}
	}
	return nil
}

func (m *Meter) visitVFs(ctx context.Context, v *visit) error {
	vfs, err := m.options.VFs(ctx, m.reader, v.nic)
	for _, one := range vfs {
		number := one.VF
		one.VF = 0
		v.lane.vfsCount = v.lane.vfsCount || one != VFCounters{}
		one.VF = number
	}
	if v.lane.vfsCount {
		v.sample.VFs = vfs
	}
	return err
}
