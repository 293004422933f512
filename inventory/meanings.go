package inventory

import (
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// DriverCounter is one of a driver's own statistics, as ethtool -S shows it.
type DriverCounter = kernel.Counter

// Meaning is what a driver's own counter counts, whatever the driver calls it.
type Meaning string

// The meanings. Counts of packets unless it says otherwise. One packet may be in
// several counters of a device; they are not to be added up.
//
// Rules go by those that tell of losses, and by those of pause frames and FEC where a
// driver has no standard counters of them (see [Counters]). Late and ReceiveDropped are
// for people who read counters.
const (
	// NoBuffer: received packets lost because the queue's ring had no free buffer:
	// the CPU did not empty it in time.
	NoBuffer Meaning = "no-buffer"
	// Late: times that a ring had no free buffer while packets came, which waited
	// inside the device. None is lost yet.
	Late Meaning = "late"
	// Missed: received packets lost in the device's own packet memory, before they
	// had a queue: the rings, PCIe or the device itself were too slow.
	Missed Meaning = "missed"
	// ReceiveDropped: packets that the driver dropped after it had taken them off
	// the ring.
	ReceiveDropped Meaning = "receive-dropped"
	// NoMemory: times that the kernel had no memory for a receive buffer.
	NoMemory Meaning = "no-memory"
	// TransmitDropped: packets that the stack handed over and nobody sent.
	TransmitDropped Meaning = "transmit-dropped"
	// Allowance: packets that a cloud's limits (bandwidth, packets, connections)
	// queued or dropped.
	Allowance Meaning = "allowance"
	// PCIStall: times that the device had packets and the host's PCIe did not take
	// them.
	PCIStall Meaning = "pci-stall"
	// PCIStallSeconds: seconds in which PCIe, reading or writing, was stalled for more
	// than 30 % of the time. A second in which both were counts twice.
	PCIStallSeconds Meaning = "pci-stall-seconds"
	// PauseReceived and PauseSent are IEEE 802.3x pause frames, PFC frames apart.
	PauseReceived Meaning = "pause-received"
	PauseSent     Meaning = "pause-sent"
	// FECCorrected and FECUncorrectable are blocks, or codewords.
	FECCorrected     Meaning = "fec-corrected"
	FECUncorrectable Meaning = "fec-uncorrectable"
	// QueuePackets are a queue's packets. Where a driver counts unicast, multicast
	// and broadcast apart, they add up.
	QueuePackets Meaning = "queue-packets"
	// queueHeader is no counter: its value numbers the queue of the lines after it.
	queueHeader Meaning = "numbers the lines below it"
)

// Meanings are all meanings, with what is counted, in a few words.
func Meanings() []struct {
	Meaning Meaning
	Doc     string
} {
	return []struct {
		Meaning Meaning
		Doc     string
	}{
		{NoBuffer, "received packets lost because a queue's ring had no free buffer"},
		{Late, "times that a ring had no free buffer and packets waited in the device; none is lost yet"},
		{Missed, "received packets lost in the device's own packet memory"},
		{ReceiveDropped, "received packets that the driver dropped after it had taken them off the ring"},
		{NoMemory, "times that the kernel had no memory for a receive buffer"},
		{TransmitDropped, "packets that the stack handed over and nobody sent"},
		{Allowance, "packets that a cloud's limits queued or dropped"},
		{PCIStall, "times that the host's PCIe did not take what the device had"},
		{PCIStallSeconds, "seconds in which PCIe, one way, was stalled for more than 30 % of the time"},
		{PauseReceived, "pause frames received"},
		{PauseSent, "pause frames sent"},
		{FECCorrected, "FEC blocks corrected"},
		{FECUncorrectable, "FEC blocks beyond correction"},
		{QueuePackets, "packets of one queue"},
	}
}

// CounterName is one name (or pattern of names) in a driver's own statistics.
type CounterName struct {
	// Pattern is the name; a % in it stands for the queue's number, a * for another
	// number.
	Pattern string
	// Direction is "rx" or "tx".
	Direction string
	Meaning   Meaning
}

// DriverCounters are the names that one driver uses.
type DriverCounters struct {
	// Driver is what ethtool -i calls it.
	Driver string
	Names  []CounterName
	// Source is the kernel's file that has them.
	Source string
}

// Meant is a driver's counter with what it means.
type Meant struct {
	DriverCounter
	Direction string  `json:"direction"`
	Meaning   Meaning `json:"meaning"`
	// Queue is the number of the queue, -1 for one of the whole device.
	Queue int `json:"queue"`
}

// MeaningsOf picks out of a driver's statistics those whose meaning is known, in
// their order. It is empty for a driver that nothing is known of.
func MeaningsOf(driver string, counters []DriverCounter) []Meant {
	var all []Meant
	eachMeaning(driver, counters, func(_ int, _ CounterName, m Meant) { all = append(all, m) })
	return all
}

// eachMeaning calls found for each counter whose meaning is known.
func eachMeaning(driver string, counters []DriverCounter, found func(i int, n CounterName, m Meant)) {
	var names []CounterName
	for _, d := range KnownCounters() {
		if d.Driver == driver {
			names = d.Names
		}
	}
	queue, direction := -1, ""
	for i, c := range counters {
		for _, n := range names {
			number, ok := n.match(c.Name)
			switch {
			case !ok:
				continue
			case n.Meaning == queueHeader:
				queue, direction = int(min(c.Value, maxQueues)), n.Direction
			case number >= 0:
				found(i, n, Meant{c, n.Direction, n.Meaning, number})
			case direction == n.Direction: // below a header
				found(i, n, Meant{c, n.Direction, n.Meaning, queue})
			default:
				found(i, n, Meant{c, n.Direction, n.Meaning, -1})
			}
			break
		}
	}
}

// maxQueues bounds a queue's number: alloc_netdev_mqs takes no more.
const maxQueues = 65535

// match reports whether a counter has such a name, and its queue's number, -1
// where the name has none.
func (n CounterName) match(name string) (queue int, ok bool) {
	queue = -1
	pattern := n.Pattern
	for pattern != "" {
		if c := pattern[0]; c != '%' && c != '*' {
			literal := pattern
			if i := strings.IndexAny(pattern, "%*"); i >= 0 {
				literal = pattern[:i]
			}
			if !strings.HasPrefix(name, literal) {
				return -1, false
			}
			name, pattern = name[len(literal):], pattern[len(literal):]
			continue
		}
		number, digits := 0, 0
		for digits < len(name) && name[digits] >= '0' && name[digits] <= '9' && number <= maxQueues {
			number = number*10 + int(name[digits]-'0')
			digits++
		}
		if digits == 0 || number > maxQueues {
			return -1, false
		}
		if pattern[0] == '%' {
			queue = number
		}
		name, pattern = name[digits:], pattern[1:]
	}
	return queue, name == ""
}
