package inventory

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// CPUTime is how one CPU spent its time since boot, in ticks (USER_HZ, a hundredth
// of a second on nearly all machines). The kernel's sums may go back a little.
type CPUTime struct {
	CPU int `json:"cpu"`
	// SoftIRQ is time in soft interrupts, where packets are received; IRQ in hard
	// ones; Idle also while waiting for disks. Total is all there is.
	SoftIRQ uint64 `json:"softIrq"`
	IRQ     uint64 `json:"irq"`
	Idle    uint64 `json:"idle"`
	Total   uint64 `json:"total"`
}

// readCPUTimes reads how the online CPUs spent their time.
func readCPUTimes(ctx context.Context, r kernel.Reader) ([]CPUTime, error) {
	const path = "/proc/stat"
	data, err := r.ReadFile(ctx, path)
	if err != nil {
		return nil, err
	}
	times, err := parseCPUTimes(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return times, nil
}

// parseCPUTimes reads the lines cpu0, cpu1, ... of /proc/stat (proc_stat(5)):
// user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice. The
// last two are in user and nice already.
func parseCPUTimes(data []byte) ([]CPUTime, error) {
	const idle, iowait, irq, softirq, steal = 3, 4, 5, 6, 7
	var times []CPUTime
	for line := range bytes.Lines(data) {
		number, found := bytes.CutPrefix(line, []byte("cpu"))
		if !found || len(number) == 0 || number[0] == ' ' {
			continue // the sum of all, or something else
		}
		fields := bytes.Fields(number)
		if len(fields) < softirq+2 {
			return nil, malformedLine(line)
		}
		cpu, err := strconv.ParseUint(string(fields[0]), 10, 32)
		if err != nil || cpu >= maxCPUs {
			return nil, malformedLine(line)
		}
		t := CPUTime{CPU: int(cpu)}
		for i, field := range fields[1:min(len(fields), steal+2)] {
			v, err := strconv.ParseUint(string(field), 10, 63)
			if err != nil {
				return nil, malformedLine(line)
			}
			t.Total += v
			switch i {
			case idle, iowait:
				t.Idle += v
			case irq:
				t.IRQ = v
			case softirq:
				t.SoftIRQ = v
			}
		}
		times = append(times, t)
	}
	if times == nil {
		return nil, fmt.Errorf("%w: no CPU", kernel.ErrMalformed)
	}
	return times, nil
}
