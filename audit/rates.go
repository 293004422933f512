package audit

import (
	"maps"
	"slices"

	"github.com/nictune/nictune/inventory"
)

// Rates are what happened on a host between two looks.
type Rates struct {
	Seconds float64     `json:"seconds"`
	Queues  []QueueRate `json:"queues"`
	CPUs    []CPURate   `json:"cpus"`
}

// QueueRate is what went through one queue.
type QueueRate struct {
	Device    string `json:"device"`
	Direction string `json:"direction"` // "rx" or "tx"
	// Queue is absent for a device that does not count by queue.
	Queue            *int    `json:"queue,omitempty"`
	PacketsPerSecond float64 `json:"packetsPerSecond"`
	// Share is the queue's of all packets of the device in this direction, 0 to 1.
	Share float64 `json:"share"`
	// LostPerSecond are received packets lost for want of room, where the device
	// counts them for the queue.
	LostPerSecond *float64 `json:"lostPerSecond,omitempty"`
}

// CPURate is what one CPU did.
type CPURate struct {
	CPU int `json:"cpu"`
	// SoftIRQ, IRQ and Idle are shares of its time, 0 to 1.
	SoftIRQ float64 `json:"softIrq"`
	IRQ     float64 `json:"irq"`
	Idle    float64 `json:"idle"`
	// PacketsPerSecond are received, from NICs and from other CPUs.
	PacketsPerSecond  float64 `json:"packetsPerSecond"`
	DropsPerSecond    float64 `json:"dropsPerSecond"`
	SqueezesPerSecond float64 `json:"squeezesPerSecond"`
}

// Rates are those between the looks, nil where there was one, or nothing was asked
// about traffic.
func (e *Evidence) Rates() *Rates {
	_, seconds := e.earlierTraffic()
	if seconds <= 0 {
		return nil
	}
	r := &Rates{Seconds: seconds, Queues: []QueueRate{}, CPUs: []CPURate{}}
	for i := range e.NICs {
		n := nic{NIC: &e.NICs[i], evidence: e}
		for _, direction := range []string{"rx", "tx"} {
			r.Queues = append(r.Queues, n.queueRates(direction, seconds)...)
		}
	}
	stats, _ := e.softnet()
	for _, l := range e.cpuLoads() {
		c := CPURate{CPU: l.CPU, SoftIRQ: l.Soft, IRQ: l.Hard, Idle: l.Idle}
		if i := slices.IndexFunc(stats, func(s inventory.Softnet) bool { return s.CPU == l.CPU }); i >= 0 {
			s := stats[i]
			c.PacketsPerSecond = float64(s.Processed) / seconds
			c.DropsPerSecond = float64(s.Dropped) / seconds
			c.SqueezesPerSecond = float64(s.TimeSqueeze) / seconds
		}
		r.CPUs = append(r.CPUs, c)
	}
	return r
}

// queueRates are those of a direction's queues; of a device that counts none by
// queue, one of all.
func (n nic) queueRates(direction string, seconds float64) []QueueRate {
	l := n.queueLoad(direction)
	if l == nil || !l.watched {
		c := n.count("ip/" + direction + "_packets")
		if !c.Watched {
			return nil
		}
		rate := QueueRate{Device: n.Name, Direction: direction, PacketsPerSecond: c.PerSecond()}
		if c.More > 0 {
			rate.Share = 1
		}
		return []QueueRate{rate}
	}
	lost := n.lostByQueue(direction)
	sum := l.sum()
	var rates []QueueRate
	for _, queue := range slices.Sorted(maps.Keys(l.packets)) {
		rate := QueueRate{Device: n.Name, Direction: direction, Queue: &queue, PacketsPerSecond: float64(l.packets[queue]) / seconds}
		if sum > 0 {
			rate.Share = float64(l.packets[queue]) / float64(sum)
		}
		if v, ok := lost[queue]; ok {
			rate.LostPerSecond = new(float64(v) / seconds)
		}
		rates = append(rates, rate)
	}
	return rates
}

// lostByQueue is what each queue lost for want of a free buffer between the looks,
// of queues that count it.
func (n nic) lostByQueue(direction string) map[int]uint64 {
	lost := map[int]uint64{}
	for _, l := range n.losses(direction, inventory.NoBuffer) {
		if l.Queue >= 0 && l.Watched {
			lost[l.Queue] += l.More
		}
	}
	return lost
}
