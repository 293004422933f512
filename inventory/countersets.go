package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// CounterSet are the names of a driver's own counters, in its order. Devices whose
// names are the same share one, which nobody writes on.
type CounterSet struct {
	// Names are without the blanks around them. Where a driver has one name several
	// times (vmxnet3: once for each queue), all but the first have " #2", " #3" behind
	// it. One that is left out is empty.
	Names []string

	// totals say which counters count for which meaning, queues which are a queue's
	// packets.
	totals []totalOf
	queues []queueOf
}

type totalOf struct {
	meaning Meaning
	at      []int // in Names
}

type queueOf struct {
	direction string
	number    uint32
	at        []int
}

// newCounterSet makes a set of the names as the kernel gave them. The values of
// some drivers' counters number the queues of those below them.
func newCounterSet(driver string, names []string, values []uint64, keep func(string) bool) *CounterSet {
	set := &CounterSet{Names: make([]string, len(names))}
	times := map[string]int{}
	counters := make([]DriverCounter, len(names))
	for i, name := range names {
		counters[i] = DriverCounter{Name: name, Value: values[i]}
		label := strings.TrimSpace(name)
		if times[label]++; times[label] > 1 {
			label += " #" + strconv.Itoa(times[label])
		}
		if keep == nil || keep(label) {
			set.Names[i] = label
		}
	}
	// A name that counts what others count, too, counts where these are absent.
	also := map[Meaning][]int{}
	eachMeaning(driver, counters, func(i int, n CounterName, m Meant) {
		switch {
		case m.Meaning == QueuePackets && m.Queue >= 0:
			set.addQueue(m.Direction, uint32(m.Queue), i)
		case m.Meaning == QueuePackets:
		case overlaps(driver, n.Pattern):
			also[m.Meaning] = append(also[m.Meaning], i)
		default:
			set.addTotal(m.Meaning, i)
		}
	})
	for _, m := range Meanings() {
		if list := also[m.Meaning]; len(list) > 0 && !set.has(m.Meaning) {
			set.totals = append(set.totals, totalOf{m.Meaning, list})
		}
	}
	return set
}

func (s *CounterSet) has(m Meaning) bool {
	for _, t := range s.totals {
		if t.meaning == m {
			return true
		}
	}
	return false
}

func (s *CounterSet) addTotal(m Meaning, i int) {
	for j := range s.totals {
		if s.totals[j].meaning == m {
			s.totals[j].at = append(s.totals[j].at, i)
			return
		}
	}
	s.totals = append(s.totals, totalOf{m, []int{i}})
}

func (s *CounterSet) addQueue(direction string, number uint32, i int) {
	for j := range s.queues {
		if q := &s.queues[j]; q.direction == direction && q.number == number {
			q.at = append(q.at, i)
			return
		}
	}
	s.queues = append(s.queues, queueOf{direction, number, []int{i}})
}

// meant adds up the counters that have a meaning.
func (s *CounterSet) meant(values []uint64) []MeaningTotal {
	if len(s.totals) == 0 {
		return nil
	}
	all := make([]MeaningTotal, len(s.totals))
	for i, t := range s.totals {
		all[i] = MeaningTotal{t.meaning, total(values, t.at)}
	}
	return all
}

func total(values []uint64, at []int) (sum uint64) {
	for _, i := range at {
		sum += values[i]
	}
	return sum
}

// fillQueues adds the packets of the queues of devices that netdev genl says
// nothing of. The two count from other zeros: where netdev genl can't be read this
// time, who was in it the last time has none.
func (m *Meter) fillQueues(s *Sample) {
	if !m.wants(PartQueues) {
		return // nobody shows them
	}
	told := map[string]bool{}
	for i := range s.Queues {
		if s.Queues[i].Packets != nil {
			told[s.Queues[i].Name] = true
		}
	}
	if !slices.ContainsFunc(s.Reads, func(r PartRead) bool { return r.Part == PartQueues && r.Err != nil }) {
		m.told = told
	} else if m.told == nil {
		return // nor is it known who would be in it
	}
	for _, d := range s.Devices {
		if d.Set == nil || told[d.Name] || m.told[d.Name] {
			continue
		}
		for _, q := range d.Set.queues {
			s.Queues = append(s.Queues, DeviceQueue{d.Name, QueueStats{
				Direction: q.direction, ID: q.number, Packets: new(total(d.Driver, q.at)),
			}})
		}
	}
}

// driverCounters are what is kept of a device's own counters between two readings.
type driverCounters struct {
	set  *CounterSet
	read time.Time // when the names were
	// stale is set when the names may be others by now.
	stale atomic.Bool
}

const (
	// namesFor is how long names are trusted: a driver that renames its counters
	// without a word, and keeps their number, is found out.
	namesFor = 5 * time.Minute
	// countersTries is how often a device is asked whose counters keep changing.
	countersTries = 3
	// maxCounters bounds a device's counters; the most known are some ten thousand.
	maxCounters = 60000
)

// visitDriver reads the driver's own counters: one ioctl, where the names are
// known.
func (m *Meter) visitDriver(ctx context.Context, v *visit) error {
	c := &v.lane.counters
	for range countersTries {
		if c.set != nil && !c.stale.Load() && v.began.Sub(c.read) < namesFor {
			values, err := m.driverValues(ctx, v, len(c.set.Names))
			if err == nil {
				v.sample.Set, v.sample.Driver, v.sample.Meant = c.set, values, c.set.meant(values)
				return nil
			}
			if !errors.Is(err, errChanged) {
				return err
			}
		}
		c.stale.Store(false) // before the names are read, which may change again meanwhile
		switch err := m.readNames(ctx, v, c); {
		case errors.Is(err, errChanged):
		case errors.Is(err, kernel.ErrNotRecorded):
			return m.recordedCounters(ctx, v)
		case err != nil:
			return err
		}
	}
	return &kernel.Error{Op: "ethtool -S", Object: v.nic.Name, Err: fmt.Errorf("%w in each of %d attempts", errChanged, countersTries)}
}

// errChanged: the number of a device's counters is another than a moment ago.
var errChanged = errors.New("the number of counters changed")

// Sizes of struct ethtool_sset_info with one set, ethtool_gstrings and
// ethtool_stats.
const (
	sizeOfSetInfo  = 20
	stringsHeader  = 12
	valuesHeader   = 8
	sizeOfCounter  = 8
	setInfoMask    = 8
	setInfoCount   = 16
	stringsCount   = 8
	valuesCount    = 4
	nameOfCounters = uapi.ETH_GSTRING_LEN
)

// driverValues reads the values of so many counters.
func (m *Meter) driverValues(ctx context.Context, v *visit, n int) ([]uint64, error) {
	device, size := v.nic.Name, valuesHeader+n*sizeOfCounter
	request := slices.Grow((*v.request)[:0], size)[:size]
	*v.request = request
	clear(request)
	binary.NativeEndian.PutUint32(request, uapi.ETHTOOL_GSTATS)
	binary.NativeEndian.PutUint32(request[valuesCount:], uint32(n))
	answer, err := m.reader.Ethtool(ctx, device, request)
	switch {
	case errors.Is(err, kernel.ErrInvalid): // how a kernel that checks the number refuses it
		return nil, fmt.Errorf("%w: %w", errChanged, err)
	case err != nil:
		return nil, err
	case len(answer) < size:
		return nil, short("GSTATS", device, answer)
	case int(binary.NativeEndian.Uint32(answer[valuesCount:])) != n:
		return nil, errChanged
	}
	values := make([]uint64, n)
	for i := range values {
		values[i] = binary.NativeEndian.Uint64(answer[valuesHeader+i*sizeOfCounter:])
	}
	return values, nil
}

// readNames reads the names of a device's counters, and shares them with others of
// its kind.
func (m *Meter) readNames(ctx context.Context, v *visit, c *driverCounters) error {
	n := v.nic
	c.set = nil
	ask := make([]byte, sizeOfSetInfo)
	binary.NativeEndian.PutUint32(ask, uapi.ETHTOOL_GSSET_INFO)
	binary.NativeEndian.PutUint64(ask[setInfoMask:], 1<<uapi.ETH_SS_STATS)
	info, err := m.reader.Ethtool(ctx, n.Name, ask)
	if err != nil {
		return err
	}
	if len(info) < sizeOfSetInfo {
		return short("GSSET_INFO", n.Name, info)
	}
	count := int(binary.NativeEndian.Uint32(info[setInfoCount:]))
	switch {
	case binary.NativeEndian.Uint64(info[setInfoMask:]) == 0 || count == 0:
		return noCounters{}
	case count > maxCounters:
		return short("GSSET_INFO", n.Name, info)
	}
	request := make([]byte, stringsHeader+count*nameOfCounters)
	binary.NativeEndian.PutUint32(request, uapi.ETHTOOL_GSTRINGS)
	binary.NativeEndian.PutUint32(request[4:], uapi.ETH_SS_STATS)
	binary.NativeEndian.PutUint32(request[stringsCount:], uint32(count))
	answer, err := m.reader.Ethtool(ctx, n.Name, request)
	switch {
	case err != nil:
		return err
	case len(answer) < len(request):
		return short("GSTRINGS", n.Name, answer)
	case int(binary.NativeEndian.Uint32(answer[stringsCount:])) != count:
		return errChanged
	}
	key := driverOf(n) + "\x00" + string(answer[stringsHeader:len(request)])
	m.setsMu.Lock()
	c.set = m.sets[key]
	m.setsMu.Unlock()
	c.read = time.Now()
	if c.set != nil {
		return nil
	}
	values, err := m.driverValues(ctx, v, count)
	if err != nil {
		return err
	}
	names := make([]string, count)
	for i := range names {
		name, _, _ := bytes.Cut(answer[stringsHeader+i*nameOfCounters:][:nameOfCounters], []byte{0})
		names[i] = strings.ToValidUTF8(string(name), "\uFFFD")
	}
	c.set = newCounterSet(driverOf(n), names, values, m.options.Counter)
	m.setsMu.Lock()
	m.sets[key] = c.set
	m.setsMu.Unlock()
	return nil
}

// recordedCounters are those of a recorded host, which has names and values as one
// answer.
func (m *Meter) recordedCounters(ctx context.Context, v *visit) error {
	counters, err := m.reader.Counters(ctx, v.nic.Name)
	if err != nil {
		return err
	}
	names, values := make([]string, len(counters)), make([]uint64, len(counters))
	for i, c := range counters {
		names[i], values[i] = c.Name, c.Value
	}
	set := newCounterSet(driverOf(v.nic), names, values, m.options.Counter)
	v.sample.Set, v.sample.Driver, v.sample.Meant = set, values, set.meant(values)
	return nil
}
