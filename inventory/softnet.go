package inventory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// Softnet is what one CPU's receive path counted since boot.
type Softnet struct {
	CPU       int    `json:"cpu"`
	Processed uint64 `json:"processed"`
	// Dropped are packets lost because the backlog was full, TimeSqueeze how
	// often the budget ended before the work, FlowLimit packets dropped by flow
	// limits.
	Dropped     uint64 `json:"dropped"`
	TimeSqueeze uint64 `json:"timeSqueeze"`
	ReceivedRPS uint64 `json:"receivedRps"`
	FlowLimit   uint64 `json:"flowLimit"`
	// Collisions is how often a driver's transmit lock was held by another CPU, of
	// kernels before 4.7; later ones say 0.
	Collisions uint64 `json:"collisions,omitempty"`
	// Backlog is how many packets wait now; absent before Linux 5.10.
	Backlog *uint64 `json:"-"`
}

func (s *survey) readSoftnet(ctx context.Context) {
	data, err := s.ReadFile(ctx, "/proc/net/softnet_stat")
	if err != nil {
		s.missed("softnet", err)
		return
	}
	online, _ := ParseCPUSet(s.host.CPUs.Online) // Empty when unknown, which parseSoftnet can tell.
	if s.host.Softnet, err = parseSoftnet(data, online); err != nil {
		s.missed("softnet", fmt.Errorf("/proc/net/softnet_stat: %w", err))
	}
}

// parseSoftnet decodes /proc/net/softnet_stat (softnet_seq_show in the kernel's
// net/core/net-procfs.c): a line of hexadecimal columns for each online CPU.
// Columns were added at the end over time, the CPU's number as the thirteenth.
// Without it the lines are the online CPUs in order.
// The counters have 32 bits and wrap.
func parseSoftnet(data []byte, online CPUSet) ([]Softnet, error) {
	const (
		processed   = 0
		dropped     = 1
		timeSqueeze = 2
		collisions  = 8
		receivedRPS = 9
		flowLimit   = 10
		backlog     = 11
		cpu         = 12
	)
	var stats []Softnet
	var columns [cpu + 1]uint64
	order := slices.Collect(online.All())
	for line := range bytes.Lines(data) {
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) <= flowLimit {
			return nil, fmt.Errorf("%w: %d columns where Linux 3.11 and newer have 11 or more", kernel.ErrMalformed, len(fields))
		}
		for i := range min(len(fields), len(columns)) {
			v, err := strconv.ParseUint(string(fields[i]), 16, 64)
			if err != nil {
				return nil, fmt.Errorf("%w: %.40q is no hexadecimal number", kernel.ErrMalformed, fields[i])
			}
			columns[i] = v
		}
		stat := Softnet{
			Processed: columns[processed], Dropped: columns[dropped], TimeSqueeze: columns[timeSqueeze],
			ReceivedRPS: columns[receivedRPS], FlowLimit: columns[flowLimit], Collisions: columns[collisions],
		}
		if len(fields) > cpu { // the two columns came together
			stat.Backlog = new(columns[backlog])
		}
		switch {
		case len(fields) > cpu && columns[cpu] < maxCPUs:
			stat.CPU = int(columns[cpu])
		case len(fields) > cpu:
			return nil, fmt.Errorf("%w: CPU number %d", kernel.ErrMalformed, columns[cpu])
		case len(stats) < len(order):
			stat.CPU = order[len(stats)]
		default:
			return nil, fmt.Errorf("%w: lines without a CPU's number, and more of them than CPUs known to be online", kernel.ErrMalformed)
		}
		stats = append(stats, stat)
	}
	return stats, nil
}
