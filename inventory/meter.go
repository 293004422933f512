package inventory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nictune/nictune/internal/kernel"
)

// A Meter reads what a host counts, again and again. What does not change between
// two readings it keeps: the names of drivers' counters, and who has nothing of a
// kind. So a reading costs one dump of all devices, and a few questions to those
// that have more to tell.
type Meter struct {
	reader  kernel.Reader
	bulk    bulkReader
	options MeterOptions

	mu sync.Mutex // one reading at a time
	// facts are those that the rest was made from.
	facts *Inventory
	lanes []*lane // of those with anything to ask, by index
	room  []visit // for those of a reading, which is cheaper to keep than to make
	// byIndex has these and those that lack everything.
	byIndex map[int]*lane
	// refused is what devices of a software type don't have: they share a driver.
	refused map[string]source
	aer     aerReader
	irqs    []irqOf
	fired   interruptCounts
	// lacking are the parts that this kernel does not have.
	lacking map[Part]bool
	// told are the devices whose queues' packets netdev genl had when it was read last,
	// by name; nil before that.
	told map[string]bool
	// loopbacks are devices that nobody counts, by index.
	loopbacks map[int]bool
	// want says which parts this reading is for.
	want func(Part) bool

	setsMu sync.Mutex
	sets   map[string]*CounterSet // by driver and the names as the kernel gave them
}

// MeterOptions say what a meter leaves out, and how long it waits.
type MeterOptions struct {
	// Driver says of which devices the driver's own counters are read. Nil: of all
	// but software devices.
	Driver func(*NIC) bool
	// Counter says which of a driver's counters are kept, by name. Nil: all.
	Counter func(name string) bool
	// VFs reads the counters of a PF's virtual functions. Nil: nobody's.
	VFs func(ctx context.Context, r kernel.Reader, pf *NIC) ([]VFCounters, error)
	// Changed says of which devices the names may be others by now than the facts have,
	// or that this isn't known. Where it is, the kernel is not asked for what it costs
	// most to tell. Nil: it never is.
	Changed func(facts *Inventory) (indexes map[int]bool, all bool)
	// Patience is how long the answers of one device are waited for. Zero: two
	// seconds. A device that has not answered by then is left out, and not asked
	// again before it has. What is asked for all devices at once has three times as
	// long, all of it together.
	Patience time.Duration
}

// Part is one of the sources of a [Sample].
type Part string

// The parts.
const (
	PartStatistics Part = "statistics" // RTM_GETLINK
	PartStandard   Part = "standard"   // ethtool netlink: FEC, pause, eth-mac, eth-phy, eth-ctrl, rmon
	PartDriver     Part = "driver"     // ethtool -S
	PartQueues     Part = "queue"      // netdev genl
	PartPagePools  Part = "pagepool"   // netdev genl
	PartVFs        Part = "vf"         // RTM_GETLINK with the VFs of one PF
	PartSoftnet    Part = "softnet"    // /proc/net/softnet_stat
	PartInterrupts Part = "interrupt"  // /proc/interrupts
	PartAER        Part = "aer"        // aer_dev_* of PCI functions

	// PartInterruptCPUs is more of PartInterrupts, which has to be wanted, too: what
	// each CPU served. It has no reading of its own.
	PartInterruptCPUs Part = "interrupt_cpu"
)

// Parts are all parts.
func Parts() []Part {
	return []Part{
		PartStatistics, PartStandard, PartDriver, PartQueues, PartPagePools, PartVFs, PartSoftnet, PartInterrupts, PartAER,
		PartInterruptCPUs,
	}
}

// Sample is what a host has counted at one moment. Nobody writes on it again.
type Sample struct {
	// Statistics are of all devices, by index.
	Statistics []Statistics
	// Devices are those with more to tell, by index.
	Devices []DeviceSample
	// Queues are from netdev genl, or where the driver takes no part in that from its
	// own counters, which have only packets.
	Queues     []DeviceQueue
	PagePools  []DevicePagePool
	Softnet    []Softnet
	Interrupts []DeviceInterrupt
	// InterruptCPUs are the numbers of the CPUs that an interrupt's CPUs are of.
	InterruptCPUs []int
	AER           []DeviceErrors
	// Failures are the devices whose counters could not be read.
	Failures []SampleFailure
	// Reads say how each part went.
	Reads []PartRead
}

// DeviceSample are the counters of one device.
type DeviceSample struct {
	Name  string
	Index int
	// Standard are those of ethtool netlink.
	Standard []StandardCounter
	// Set has the names of Driver, the driver's own counters.
	Set    *CounterSet
	Driver []uint64
	// Meant is what of these has a meaning, over all queues.
	Meant []MeaningTotal
	VFs   []VFCounters
}

// StandardCounter is a counter that ethtool netlink has one name for, whatever the
// driver calls it.
type StandardCounter struct {
	// Group is "fec", "pause", "eth-mac", "eth-phy", "eth-ctrl" or "rmon"; Name is
	// IEEE's or the RMON MIB's, as ethtool -S --groups prints it ("fec": "corrected",
	// "uncorrectable", "corrected-bits"; "pause": "rx", "tx", "tx-storm").
	Group, Name string
	Value       uint64
}

// MeaningTotal is what all counters of a device with one meaning have counted.
type MeaningTotal struct {
	Meaning Meaning
	Value   uint64
}

// VFCounters are those of one virtual function, from the VF's side, as its PF's
// driver counts them.
type VFCounters struct {
	VF                   int
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	Broadcast, Multicast uint64
	RxDropped, TxDropped uint64
}

// DeviceQueue is a queue of a device.
type DeviceQueue struct {
	Name string
	QueueStats
}

// DevicePagePool is a page pool of a device.
type DevicePagePool struct {
	Name string
	PagePoolStats
}

// DeviceInterrupt is an interrupt of a device, over all CPUs.
type DeviceInterrupt struct {
	Name string
	IRQ  int
	// Queue is the number of the queue that it serves, empty where that is unknown or
	// it serves none.
	Queue string
	Count uint64
	// CPUs are what each of the sample's InterruptCPUs served, as the kernel counts but
	// with 64 bits from the first reading on; nil where that wasn't asked for.
	CPUs []uint64
}

// DeviceErrors are the PCIe errors of a device's function, or of a hop above it.
type DeviceErrors struct {
	Name, Address string
	Errors        []PCIeErrors
}

// PCIeErrors is one kind of error (Advanced Error Reporting).
type PCIeErrors struct {
	// Severity is "correctable", "nonfatal" or "fatal"; Type is the kernel's word:
	// "RxErr", "BadTLP".
	Severity, Type string
	Count          uint64
}

// SampleFailure is a device of which a part could not be read.
type SampleFailure struct {
	Device string
	Part   Part
	// Reason is one of the four of [Reason], or NoAnswer.
	Reason Reason
	Err    error
}

// NoAnswer is the reason of a device that has not answered in time, or not yet the
// question of an earlier reading.
const NoAnswer Reason = "timeout"

// errNoAnswer goes with it.
var errNoAnswer = errors.New("no answer in time, the driver or its firmware may hang")

// PartRead is how one part was read.
type PartRead struct {
	Part    Part
	Seconds float64
	// Err is why the part, or some of it, is missing; nil for one that is whole.
	// Single devices are among the failures instead.
	Err error
}

// NewMeter makes a meter that knows nothing yet.
func NewMeter(r kernel.Reader, options MeterOptions) *Meter {
	if options.Patience == 0 {
		options.Patience = 2 * time.Second
	}
	return &Meter{
		reader: r, bulk: bulkReader{Reader: r}, options: options, byIndex: map[int]*lane{}, refused: map[string]source{}, sets: map[string]*CounterSet{},
		aer: aerReader{lacking: map[string]bool{}, words: map[string]string{}}, lacking: map[Part]bool{}, loopbacks: map[int]bool{},
	}
}

// Read reads the counters of those parts that are wanted, nil for all. inv are the
// host's facts, or nil while nobody knows them: then there is what needs none. It is
// safe for concurrent use; one reading waits for the other.
func (m *Meter) Read(ctx context.Context, inv *Inventory, want func(Part) bool) *Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.learn(inv)
	m.want = want
	s := &Sample{}
	// Devices are asked while the rest is read: a driver that asks its firmware takes
	// its time.
	start := time.Now()
	asked := m.ask(ctx)
	m.bulk.begin(m.options.Patience)
	s.part(m, PartStatistics, func() (err error) {
		s.Statistics, err = m.readStatistics(ctx)
		return err
	})
	s.part(m, PartSoftnet, func() error { return m.readSoftnet(ctx, s) })
	if inv != nil {
		s.part(m, PartInterrupts, func() error { return m.readInterrupts(ctx, s) })
		s.part(m, PartAER, func() error { return m.readAER(ctx, s) })
		s.part(m, PartPagePools, func() error { return m.readPagePools(ctx, s) })
		s.part(m, PartQueues, func() error { return m.readQueues(ctx, s) })
		m.gather(s, asked, start)
	}
	return s
}

func (m *Meter) wants(p Part) bool { return m.want == nil || m.want(p) }

// part reads one part, unless nobody wants it or this kernel lacks it.
func (s *Sample) part(m *Meter, p Part, read func() error) {
	if !m.wants(p) || m.lacking[p] {
		return
	}
	start := time.Now()
	err := read()
	if err != nil && (kernel.ReasonOf(err) == kernel.Unsupported || errors.Is(err, kernel.ErrNotRecorded)) {
		m.lacking[p] = true
		err = nil
	}
	s.Reads = append(s.Reads, PartRead{p, time.Since(start).Seconds(), err})
}

// learn takes what the facts say about who can be asked for what. They are the same
// most of the time.
func (m *Meter) learn(inv *Inventory) {
	if inv == nil || inv == m.facts {
		return
	}
	m.facts = inv
	irqs := irqsOf(inv)
	m.fired.forget(m.irqs, irqs)
	m.irqs = irqs
	m.aer.learn(inv)
	before := m.byIndex
	m.byIndex = make(map[int]*lane, len(inv.NICs))
	m.lanes = m.lanes[:0]
	used := 0
	for i := range inv.NICs {
		n := &inv.NICs[i]
		l := before[n.Index]
		if l == nil || !l.same(n) {
			l = &lane{}
		}
		l.meet(n, m.sourcesOf(n))
		m.byIndex[n.Index] = l
		if l.sources&^l.lacks != 0 {
			m.lanes = append(m.lanes, l)
			used++
		}
	}
	m.setsMu.Lock()
	if len(m.sets) > 2*used+8 { // of devices that are gone
		clear(m.sets)
	}
	m.setsMu.Unlock()
}

// sourcesOf is what a device may be asked for, by its facts.
func (m *Meter) sourcesOf(n *NIC) source {
	s := fromStandard
	if n.Link.FEC != nil {
		s |= fromFEC
	}
	if n.Link.Pause != nil {
		s |= fromPause
	}
	own := m.options.Driver
	if own == nil {
		own = func(n *NIC) bool { return n.Parent != nil }
	}
	if own(n) {
		s |= fromDriver
	}
	if m.options.VFs != nil && mayHaveVFs(n) {
		s |= fromVFs
	}
	if software(n) {
		s &^= m.refused[n.Type]
	}
	return s
}

// mayHaveVFs says whether a device has VFs, or can have some and their number is not
// among the facts.
func mayHaveVFs(n *NIC) bool {
	if n.PCI == nil {
		return n.Parent != nil && n.Parent.SRIOV && n.Function != Representor
	}
	return n.Function == PF && n.PCI.SRIOV != nil && n.PCI.SRIOV.NumVFs > 0
}

// nameOf is the name of a device by its index, in the statistics of this reading or
// else the facts.
func (m *Meter) nameOf(s *Sample, index int) string {
	if i, ok := s.find(index); ok {
		return s.Statistics[i].Name
	}
	if l := m.byIndex[index]; l != nil && len(s.Statistics) == 0 {
		return l.nic.Name
	}
	return "" // gone, or in another namespace
}
