package metrics

import (
	"slices"

	"github.com/nictune/nictune/inventory"
)

// meaning is what counters count that each driver names otherwise. One metric for
// each meaning, and not one with the meaning as a label: packets, blocks and events
// are not to be added up, and what can be added up is one metric's.
func meaning() collector {
	return collector{
		name: "meaning", doc: "losses, pause frames, FEC and PCIe stalls under one name for all drivers",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			families := map[inventory.Meaning]*family{}
			for _, m := range meanings() {
				m.Type, m.Labels, m.Series = counter, []string{deviceLabel}, "1 per device whose driver counts it"
				families[m.meaning] = c.add(m.Metric)
			}
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				var of totals
				failed := failedParts(s.Counted)
				queues := of.queues(s.Counted)
				for i := range s.Counted.Devices {
					d := &s.Counted.Devices[i]
					of.take(d, queues[d.Name], failed[d.Name])
					delete(queues, d.Name)
					of.set(families, d.Name)
				}
				for i := range s.Counted.Queues { // of those that have no other counters, in order
					name := s.Counted.Queues[i].Name
					if q := queues[name]; q != nil {
						of.take(nil, q, failed[name])
						delete(queues, name)
						of.set(families, name)
					}
				}
			}
		},
	}
}

// meant is the metric of a meaning.
type meant struct {
	Metric
	meaning inventory.Meaning
}

// meanings are the metrics of all meanings but that of a queue's packets.
func meanings() []meant {
	const drivers = "`ethtool -S`, by the table in docs/counters.md"
	return []meant{
		{Metric{
			Name: "receive_missed_packets_total", Unit: "packets",
			Help:   "Received packets lost in the device's own packet memory: its rings, PCIe or the device itself were too slow.",
			Source: drivers,
		}, inventory.Missed},
		{Metric{
			Name: "receive_no_buffer_packets_total", Unit: "packets",
			Help:   "Received packets lost because a queue's ring had no free buffer: the CPU did not empty it in time.",
			Source: drivers + "; else netdev genl's rx-hw-drop-overruns of all queues",
		}, inventory.NoBuffer},
		{Metric{
			Name: "receive_late_buffer_events_total", Unit: "events",
			Help:   "Times that a ring had no free buffer while packets came, which waited inside the device. None is lost yet.",
			Source: drivers,
		}, inventory.Late},
		{Metric{
			Name: "receive_driver_dropped_packets_total", Unit: "packets",
			Help:   "Packets that the driver dropped after it had taken them off the ring.",
			Source: drivers,
		}, inventory.ReceiveDropped},
		{Metric{
			Name: "receive_no_memory_events_total", Unit: "events",
			Help:   "Times that the kernel had no memory for a receive buffer.",
			Source: drivers + "; else netdev genl's rx-alloc-fail of all queues",
		}, inventory.NoMemory},
		{Metric{
			Name: "transmit_driver_dropped_packets_total", Unit: "packets",
			Help:   "Packets that the stack handed over and nobody sent.",
			Source: drivers,
		}, inventory.TransmitDropped},
		{Metric{
			Name: "cloud_allowance_exceeded_packets_total", Unit: "packets",
			Help:   "Packets that a cloud's limits (bandwidth, packets, connections) queued or dropped.",
			Source: drivers,
		}, inventory.Allowance},
		{Metric{
			Name: "pci_stall_events_total", Unit: "events",
			Help:   "Times that the device had packets and the host's PCIe did not take them.",
			Source: drivers,
		}, inventory.PCIStall},
		{Metric{
			Name: "pci_stall_seconds_total", Unit: "seconds",
			Help:   "Seconds in which PCIe, reading or writing, was stalled for more than 30 % of the time (mlx5). A second in which both were counts twice.",
			Source: drivers,
		}, inventory.PCIStallSeconds},
		{Metric{
			Name: "pause_receive_frames_total", Unit: "frames",
			Help:   "IEEE 802.3x pause frames received; those of priority flow control are not among them.",
			Source: "`ethtool -I -a`: ETHTOOL_A_PAUSE_STAT_RX_FRAMES; else " + drivers,
		}, inventory.PauseReceived},
		{Metric{
			Name: "pause_transmit_frames_total", Unit: "frames",
			Help:   "IEEE 802.3x pause frames sent; those of priority flow control are not among them.",
			Source: "`ethtool -I -a`: ETHTOOL_A_PAUSE_STAT_TX_FRAMES; else " + drivers,
		}, inventory.PauseSent},
		{Metric{
			Name: "fec_corrected_blocks_total", Unit: "blocks",
			Help:   "Blocks that forward error correction corrected, of all lanes.",
			Source: "`ethtool -I --show-fec`: ETHTOOL_A_FEC_STAT_CORRECTED; else " + drivers,
		}, inventory.FECCorrected},
		{Metric{
			Name: "fec_uncorrectable_blocks_total", Unit: "blocks",
			Help:   "Blocks beyond forward error correction, of all lanes.",
			Source: "`ethtool -I --show-fec`: ETHTOOL_A_FEC_STAT_UNCORR; else " + drivers,
		}, inventory.FECUncorrectable},
	}
}

// totals are what one device has counted, by meaning.
type totals struct {
	values []inventory.MeaningTotal
}

// put takes a total, in the place of an earlier one of the same meaning.
func (t *totals) put(m inventory.Meaning, value uint64) {
	i := slices.IndexFunc(t.values, func(one inventory.MeaningTotal) bool { return one.Meaning == m })
	if i < 0 {
		i = len(t.values)
		t.values = append(t.values, inventory.MeaningTotal{Meaning: m})
	}
	t.values[i].Value = value
}

// failedParts are the parts that could not be read of a device this time.
func failedParts(s *inventory.Sample) map[string][]inventory.Part {
	all := map[string][]inventory.Part{}
	for _, f := range s.Failures {
		all[f.Device] = append(all[f.Device], f.Part)
	}
	return all
}

// standardised reports whether ethtool netlink has a standard for a meaning.
func standardised(m inventory.Meaning) bool {
	switch m {
	case inventory.PauseReceived, inventory.PauseSent, inventory.FECCorrected, inventory.FECUncorrectable:
		return true
	}
	return false
}

// take takes a device's counters: where the kernel has a standard for what they
// mean, that; else the driver's own. These count from other zeros: where what comes
// first could not be read this time, the other doesn't stand in for it.
func (t *totals) take(d *inventory.DeviceSample, q *queueTotals, failed []inventory.Part) {
	t.values = t.values[:0]
	if q != nil && !slices.Contains(failed, inventory.PartDriver) {
		if q.overruns != nil {
			t.put(inventory.NoBuffer, *q.overruns)
		}
		if q.allocFail != nil {
			t.put(inventory.NoMemory, *q.allocFail)
		}
	}
	if d == nil {
		return
	}
	noStandard := slices.Contains(failed, inventory.PartStandard)
	for _, m := range d.Meant {
		if !noStandard || !standardised(m.Meaning) {
			t.put(m.Meaning, m.Value)
		}
	}
	for i := range d.Standard {
		one := &d.Standard[i]
		switch one.Group + "/" + one.Name {
		case "pause/rx":
			t.put(inventory.PauseReceived, one.Value)
		case "pause/tx":
			t.put(inventory.PauseSent, one.Value)
		case "fec/corrected":
			t.put(inventory.FECCorrected, one.Value)
		case "fec/uncorrectable":
			t.put(inventory.FECUncorrectable, one.Value)
		}
	}
}

func (t *totals) set(families map[inventory.Meaning]*family, device string) {
	for _, one := range t.values {
		if f := families[one.Meaning]; f != nil {
			f.set(float64(one.Value), device)
		}
	}
}

// queueTotals are what all queues of a device have counted; nil where none did.
type queueTotals struct{ overruns, allocFail *uint64 }

func (*totals) queues(s *inventory.Sample) map[string]*queueTotals {
	all := map[string]*queueTotals{}
	add := func(sum **uint64, v *uint64) {
		switch {
		case v == nil:
		case *sum == nil:
			*sum = new(*v)
		default:
			**sum += *v
		}
	}
	for i := range s.Queues {
		q := &s.Queues[i]
		if q.Overruns == nil && q.AllocFail == nil {
			continue
		}
		t := all[q.Name]
		if t == nil {
			t = &queueTotals{}
			all[q.Name] = t
		}
		add(&t.overruns, q.Overruns)
		add(&t.allocFail, q.AllocFail)
	}
	return all
}
