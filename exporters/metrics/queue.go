package metrics

import (
	"strconv"

	"github.com/nictune/nictune/inventory"
)

// queue are the counters of each queue.
func queue() collector {
	return collector{
		name: "queue", doc: "the counters of each queue",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			type counted struct {
				*family
				direction string
				value     func(*inventory.QueueStats) *uint64
			}
			var families []counted
			add := func(direction, name, unit, help, source string, value func(*inventory.QueueStats) *uint64) {
				families = append(families, counted{c.add(Metric{
					Name: "queue_" + name + "_total", Type: counter, Unit: unit, Labels: []string{deviceLabel, "queue"}, Help: help,
					Source: "netdev genl QSTATS_GET, " + source, Series: "1 per queue of devices whose driver counts it",
				}), direction, value})
			}
			packets := func(q *inventory.QueueStats) *uint64 { return q.Packets }
			bytes := func(q *inventory.QueueStats) *uint64 { return q.Bytes }
			drops := func(q *inventory.QueueStats) *uint64 { return q.Drops }
			add("rx", "receive_packets", "packets", "Packets that a queue received.", "rx-packets; else `ethtool -S`, by the table in docs/counters.md", packets)
			add("rx", "receive_bytes", "bytes", "Bytes that a queue received.", "rx-bytes", bytes)
			add("rx", "receive_dropped", "packets", "Received packets that the device dropped.", "rx-hw-drops", drops)
			add("rx", "receive_overruns", "packets", "Received packets that the device dropped because the ring had no free buffer.", "rx-hw-drop-overruns",
				func(q *inventory.QueueStats) *uint64 { return q.Overruns })
			add("rx", "receive_allocation_failures", "events", "Times that there was no memory for a receive buffer, whether or not that lost a packet.", "rx-alloc-fail",
				func(q *inventory.QueueStats) *uint64 { return q.AllocFail })
			add("tx", "transmit_packets", "packets", "Packets that a queue sent.", "tx-packets; else `ethtool -S`, by the table in docs/counters.md", packets)
			add("tx", "transmit_bytes", "bytes", "Bytes that a queue sent.", "tx-bytes", bytes)
			add("tx", "transmit_dropped", "packets", "Packets to be sent that the device dropped.", "tx-hw-drops", drops)
			add("tx", "transmit_stops", "events", "Times that a transmit queue was full and stopped.", "tx-stop",
				func(q *inventory.QueueStats) *uint64 { return q.Stops })
			numbers := newNumbers()
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for i := range s.Counted.Queues {
					q := &s.Counted.Queues[i]
					for _, f := range families {
						if v := f.value(&q.QueueStats); v != nil && f.direction == q.Direction {
							f.set(float64(*v), q.Name, numbers.text(int(q.ID)))
						}
					}
				}
			}
		},
	}
}

// numbers keep small numbers as text, for labels.
type numbers struct{ known []string }

func newNumbers() *numbers { return &numbers{} }

func (n *numbers) text(i int) string {
	const kept = 4096
	if i < 0 || i >= kept {
		return strconv.Itoa(i)
	}
	for len(n.known) <= i {
		n.known = append(n.known, strconv.Itoa(len(n.known)))
	}
	return n.known[i]
}
