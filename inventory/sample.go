package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// The parts of a sample that are read for all devices at once.

// find is where a device's statistics are.
func (s *Sample) find(index int) (i int, ok bool) {
	return slices.BinarySearchFunc(s.Statistics, index, func(one Statistics, index int) int { return one.Index - index })
}

// readStatistics reads the standard counters of all devices. Where the facts have the
// names, the kernel is asked for counters only (RTM_GETSTATS): one RTM_GETLINK dump of
// 4,000 veths took 15 ms of CPU time, this 2. A device that is new, or may have another
// name, is asked for by itself.
func (m *Meter) readStatistics(ctx context.Context) ([]Statistics, error) {
	known := func() (changed map[int]bool, ok bool) {
		if m.options.Changed == nil || m.facts == nil {
			return nil, false
		}
		changed, all := m.options.Changed(m.facts)
		return changed, !all
	}
	if _, ok := known(); !ok {
		return ReadStatistics(ctx, &m.bulk)
	}
	messages, err := m.bulk.Netlink(ctx, statsDump())
	if late(err) { // the other question waits for the same
		return nil, fmt.Errorf("read statistics: %w", err)
	}
	if err != nil { // an older kernel, a recorded host, or one where devices come and go
		return ReadStatistics(ctx, &m.bulk)
	}
	// Asked after the answer, too: most who were renamed before it are among the changed
	// by now. Of one whose notification is still to come the counters have the old name
	// this once.
	changed, ok := known()
	if !ok {
		return ReadStatistics(ctx, &m.bulk)
	}
	const few = 64
	var strangers []int
	all := make([]Statistics, 0, len(messages))
	values := make([]uint64, 0, len(messages)*len(statisticNames))
	for _, message := range messages {
		index, after, err := decodeStats(message.Body, values)
		if err != nil {
			return ReadStatistics(ctx, &m.bulk)
		}
		l := m.byIndex[index]
		switch {
		case m.loopbacks[index]:
		case l == nil || changed[index]:
			strangers = append(strangers, index)
		default:
			all = append(all, Statistics{Name: l.nic.Name, Index: index, Values: after[len(values):len(after):len(after)]})
			values = after
		}
	}
	if len(strangers) > few {
		return ReadStatistics(ctx, &m.bulk)
	}
	var errs []error
	for _, index := range strangers {
		if len(errs) > 0 && late(errs[len(errs)-1]) {
			break // the next one would wait for the same
		}
		one, loopback, err := readOneStatistics(ctx, &m.bulk, index)
		switch {
		case loopback:
			m.loopbacks[index] = true
		case err == nil:
			all = append(all, one)
		case kernel.ReasonOf(err) != kernel.Gone:
			errs = append(errs, err)
		}
	}
	slices.SortStableFunc(all, func(a, b Statistics) int { return a.Index - b.Index })
	return all, errors.Join(errs...)
}

// statsHeader is the size of struct if_stats_msg.
const statsHeader = 12

func statsDump() kernel.Request {
	const mask = 8
	header := make([]byte, statsHeader)
	binary.NativeEndian.PutUint32(header[mask:], 1<<(uapi.IFLA_STATS_LINK_64-1))
	return kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_GETSTATS, Dump: true, Body: header}
}

// decodeStats decodes an RTM_NEWSTATS message, appending the values to space.
func decodeStats(body []byte, space []uint64) (index int, after []uint64, err error) {
	if len(body) < statsHeader {
		return 0, space, fmt.Errorf("%w: %d bytes where an if_stats_msg is due", kernel.ErrMalformed, len(body))
	}
	after = space
	a := kernel.AttributesAfter(body, statsHeader)
	for a.Next() {
		if a.Type == uapi.IFLA_STATS_LINK_64 {
			after = appendStatistics(space, a.Data)
		}
	}
	return int(int32(binary.NativeEndian.Uint32(body[4:]))), after, a.Err()
}

// readOneStatistics reads the standard counters of one device.
func readOneStatistics(ctx context.Context, r kernel.Reader, index int) (s Statistics, loopback bool, err error) {
	header := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK, Body: kernel.Body(header).Uint32(uapi.IFLA_EXT_MASK, 0),
	})
	if err != nil {
		return s, false, err
	}
	for _, m := range messages {
		if m.Command == uapi.RTM_NEWLINK {
			s, loopback, _, err = decodeStatistics(m.Body, nil)
			return s, loopback, err
		}
	}
	return s, false, fmt.Errorf("%w: no answer about network device %d", kernel.ErrMalformed, index)
}

func (m *Meter) readSoftnet(ctx context.Context, s *Sample) (err error) {
	const path = "/proc/net/softnet_stat"
	data, err := m.bulk.ReadFile(ctx, path)
	if err != nil {
		return err
	}
	var online CPUSet // of use for kernels before 5.10 only
	if m.facts != nil {
		online, _ = ParseCPUSet(m.facts.Host.CPUs.Online)
	}
	if s.Softnet, err = parseSoftnet(data, online); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (m *Meter) readQueues(ctx context.Context, s *Sample) error {
	messages, err := m.bulk.Netlink(ctx, queueStatsDump())
	s.Queues = make([]DeviceQueue, 0, len(messages))
	at := make(map[queueStatsAt]int, len(messages)) // an interrupted dump repeats itself
	for _, message := range messages {
		index, q, decoding := decodeQueueStats(message.Body)
		if decoding != nil {
			err = decoding
			continue
		}
		name := m.nameOf(s, index)
		if name == "" {
			continue
		}
		key := queueStatsAt{index, q.Direction, q.ID}
		if i, ok := at[key]; ok {
			s.Queues[i].QueueStats = q
			continue
		}
		at[key] = len(s.Queues)
		s.Queues = append(s.Queues, DeviceQueue{name, q})
	}
	if errors.Is(err, kernel.ErrInterrupted) {
		err = nil // devices come and go; who stays is in it
	}
	return err
}

func (m *Meter) readPagePools(ctx context.Context, s *Sample) error {
	messages, err := m.bulk.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyNetdev, Command: uapi.NETDEV_CMD_PAGE_POOL_STATS_GET, Dump: true,
	})
	at := map[uint64]int{} // an interrupted dump repeats itself
	for _, message := range messages {
		p, decoding := decodePagePoolStats(message.Body)
		if decoding != nil {
			err = decoding
			continue
		}
		name := m.nameOf(s, p.index)
		if name == "" {
			continue // its device is gone
		}
		if i, ok := at[p.ID]; ok {
			s.PagePools[i].PagePoolStats = p
			continue
		}
		at[p.ID] = len(s.PagePools)
		s.PagePools = append(s.PagePools, DevicePagePool{name, p})
	}
	if errors.Is(err, kernel.ErrInterrupted) {
		err = nil
	}
	return err
}

// irqOf is one interrupt of one device.
type irqOf struct {
	device, queue string
	number        int
}

// irqsOf are the interrupts of all devices, by number.
func irqsOf(inv *Inventory) []irqOf {
	var all []irqOf
	for i := range inv.NICs {
		n := &inv.NICs[i]
		for _, irq := range n.IRQs {
			all = append(all, irqOf{n.Name, n.queueOf(irq), irq.Number})
		}
	}
	slices.SortStableFunc(all, func(a, b irqOf) int { return a.number - b.number })
	return all
}

// queueOf is the number of the queue that an interrupt serves: what the kernel says
// of the NAPI context that it wakes, or else what the driver put into its name.
func (n *NIC) queueOf(irq IRQ) string {
	for _, napi := range n.Queues.NAPI {
		if napi.IRQ == nil || *napi.IRQ != irq.Number {
			continue
		}
		for _, q := range n.Queues.Netdev {
			if q.NAPI != nil && *q.NAPI == napi.ID {
				return strconv.FormatUint(uint64(q.ID), 10)
			}
		}
	}
	// "eth1-TxRx-3", "virtio0-input.0", "mlx5_comp3@pci:0000:3b:00.0"
	name, _, _ := strings.Cut(irq.Name, "@")
	word := strings.TrimRight(name, "0123456789")
	number := name[len(word):]
	if _, err := strconv.ParseUint(number, 10, 16); err != nil {
		return ""
	}
	for _, suffix := range [...]string{"-", "input.", "output.", "comp"} {
		if strings.HasSuffix(word, suffix) {
			return number
		}
	}
	return ""
}

func (m *Meter) readInterrupts(ctx context.Context, s *Sample) error {
	if len(m.irqs) == 0 {
		return nil
	}
	const path = "/proc/interrupts"
	data, err := m.bulk.ReadFile(ctx, path)
	if err != nil {
		return err
	}
	s.Interrupts = make([]DeviceInterrupt, 0, len(m.irqs))
	err = m.fired.read(data, func(number int) bool {
		_, wanted := slices.BinarySearchFunc(m.irqs, number, func(i irqOf, number int) int { return i.number - number })
		return wanted
	}, func(number int, count uint64) {
		i, _ := slices.BinarySearchFunc(m.irqs, number, func(i irqOf, number int) int { return i.number - number })
		var cpus []uint64
		if m.wants(PartInterruptCPUs) {
			cpus = m.fired.ofCPUs(number)
		}
		for ; i < len(m.irqs) && m.irqs[i].number == number; i++ {
			s.Interrupts = append(s.Interrupts, DeviceInterrupt{m.irqs[i].device, number, m.irqs[i].queue, count, cpus})
		}
	})
	s.InterruptCPUs = slices.Clone(m.fired.cpus)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// interruptCounts add up what /proc/interrupts has of each CPU. The kernel shows CPUs
// that are online only, and counts with 32 bits: neither a CPU that goes nor a column
// that begins again at 0 takes anything off the total.
type interruptCounts struct {
	of     map[int]*interruptCount // by the interrupt's number
	cpus   []int                   // of the columns
	values []uint32
	// table counts the tables that were read.
	table int
}

type interruptCount struct {
	total uint64
	// last is the last value of each CPU, by its number, and above 32 bits how often it
	// wrapped; known has those that had any.
	last  []uint64
	known []bool
	table int // that had it last
}

// fewInterrupts is how much a column can grow between two readings: more than 20
// minutes' worth at 200,000 a second. What seems to be more is an interrupt that was
// freed and counts from 0 again.
const fewInterrupts = 1 << 28

// read takes the counts of those interrupts of a table that are wanted; see
// parseInterrupts for its form.
func (c *interruptCounts) read(table []byte, wanted func(number int) bool, add func(number int, count uint64)) error {
	head, rest, _ := bytes.Cut(table, []byte("\n"))
	c.cpus = c.cpus[:0]
	for _, word := range bytes.Fields(head) {
		number, ok := decimal(bytes.TrimPrefix(word, []byte("CPU")))
		if !ok || number >= maxCPUs {
			return fmt.Errorf("%w: %.40q where a CPU is due", kernel.ErrMalformed, word)
		}
		c.cpus = append(c.cpus, int(number))
	}
	if len(c.cpus) == 0 {
		return fmt.Errorf("%w: no CPU", kernel.ErrMalformed)
	}
	c.table++
	for line := range bytes.Lines(rest) {
		label, values, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue
		}
		number, ok := decimal(bytes.TrimSpace(label))
		if !ok || number > 1<<31 || !wanted(int(number)) {
			continue // or one of the architecture's own: "NMI", "LOC"
		}
		c.values = c.values[:0]
		for range c.cpus {
			values = bytes.TrimLeft(values, " ")
			end := bytes.IndexByte(values, ' ')
			if end < 0 {
				return malformedLine(line)
			}
			v, ok := decimal(values[:end])
			if !ok || v > math.MaxUint32 {
				return malformedLine(line)
			}
			c.values = append(c.values, uint32(v))
			values = values[end:]
		}
		add(int(number), c.add(int(number)))
	}
	maps.DeleteFunc(c.of, func(_ int, one *interruptCount) bool { return one.table != c.table }) // freed
	return nil
}

// add takes the values of one interrupt, and returns its total.
func (c *interruptCounts) add(number int) uint64 {
	one := c.of[number]
	if one == nil || one.restarted(c.cpus, c.values) {
		one = &interruptCount{}
		if c.of == nil {
			c.of = map[int]*interruptCount{}
		}
		c.of[number] = one
		for _, v := range c.values {
			one.total += uint64(v)
		}
	}
	for i, cpu := range c.cpus {
		if cpu >= len(one.last) {
			one.last = append(one.last, make([]uint64, cpu+1-len(one.last))...)
			one.known = append(one.known, make([]bool, cpu+1-len(one.known))...)
		}
		if !one.known[cpu] { // it counts from here: what was before is no growth of now
			one.last[cpu], one.known[cpu] = uint64(c.values[i]), true
			continue
		}
		grown := uint64(c.values[i] - uint32(one.last[cpu]))
		one.total += grown
		one.last[cpu] += grown
	}
	one.table = c.table
	return one.total
}

// ofCPUs is what each CPU of the table that was read last served of an interrupt.
func (c *interruptCounts) ofCPUs(number int) []uint64 {
	one := c.of[number]
	counts := make([]uint64, len(c.cpus))
	for i, cpu := range c.cpus {
		counts[i] = one.last[cpu]
	}
	return counts
}

// forget drops those that were another device's.
func (c *interruptCounts) forget(before, now []irqOf) {
	device := func(irqs []irqOf, number int) string {
		i, ok := slices.BinarySearchFunc(irqs, number, func(i irqOf, number int) int { return i.number - number })
		if !ok {
			return ""
		}
		return irqs[i].device
	}
	maps.DeleteFunc(c.of, func(number int, _ *interruptCount) bool { return device(before, number) != device(now, number) })
}

// restarted reports whether the values are those of an interrupt that was freed
// meanwhile.
func (one *interruptCount) restarted(cpus []int, values []uint32) bool {
	for i, cpu := range cpus {
		if cpu >= len(one.last) || !one.known[cpu] {
			continue
		}
		if last := uint32(one.last[cpu]); values[i] < last && values[i]-last >= fewInterrupts {
			return true
		}
	}
	return false
}

// decimal reads a number that fits 64 bits, without a string in between.
func decimal(digits []byte) (v uint64, ok bool) {
	if len(digits) == 0 || len(digits) > 19 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	return v, true
}

// aerReader reads the error counters of PCI functions.
type aerReader struct {
	// devices are the NICs with their functions, and the hops above.
	devices []functionsOf
	lacking map[string]bool // functions that count no errors
	words   map[string]string
}

type functionsOf struct {
	name      string
	addresses []string
}

func (a *aerReader) learn(inv *Inventory) {
	a.devices = a.devices[:0]
	there := map[string]bool{}
	for i := range inv.NICs {
		n := &inv.NICs[i]
		if n.PCI == nil || n.Function == VF || n.Function == Representor || n.Function == SF {
			continue // what there is to count, the PF counts
		}
		f := functionsOf{name: n.Name, addresses: []string{n.PCI.Address}}
		for _, hop := range n.PCI.Path {
			f.addresses = append(f.addresses, hop.Address)
		}
		for _, address := range f.addresses {
			there[address] = true
		}
		a.devices = append(a.devices, f)
	}
	for address := range a.lacking {
		if !there[address] { // another may come in its place
			delete(a.lacking, address)
		}
	}
}

func (m *Meter) readAER(ctx context.Context, s *Sample) error {
	read := map[string][]PCIeErrors{}
	for _, d := range m.aer.devices {
		for _, address := range d.addresses {
			if m.aer.lacking[address] {
				continue
			}
			list, known := read[address]
			if !known {
				var err error
				if list, err = m.aer.read(ctx, &m.bulk, address); err != nil {
					switch reason := kernel.ReasonOf(err); {
					case reason == kernel.Unsupported, errors.Is(err, kernel.ErrNotRecorded):
						m.aer.lacking[address] = true
					case reason != kernel.Gone:
						s.Failures = append(s.Failures, SampleFailure{d.name, PartAER, reason, err})
					}
				}
				read[address] = list
			}
			if len(list) > 0 {
				s.AER = append(s.AER, DeviceErrors{d.name, address, list})
			}
		}
	}
	return nil
}

// read reads the counters of one function.
func (a *aerReader) read(ctx context.Context, r kernel.Reader, address string) ([]PCIeErrors, error) {
	var list []PCIeErrors
	for _, severity := range [...]string{"correctable", "nonfatal", "fatal"} {
		path := "/sys/bus/pci/devices/" + address + "/aer_dev_" + severity
		data, err := r.ReadFile(ctx, path)
		if err == nil {
			err = eachAER(data, func(name []byte, count uint64) {
				word, known := a.words[string(name)]
				if !known {
					word = strings.ToValidUTF8(string(name), "\uFFFD")
					a.words[word] = word
				}
				list = append(list, PCIeErrors{severity, word, count})
			})
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}
