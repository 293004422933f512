package inventory

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// Interrupts are how often each interrupt fired on each CPU since it was set up.
type Interrupts struct {
	// CPUs are the numbers of the CPUs, in the order of Counts.
	CPUs []int `json:"cpus,omitempty"`
	// Counts are by the interrupt's number.
	Counts map[int][]uint64 `json:"counts,omitempty"`
}

// readInterrupts reads the counts of all numbered interrupts.
func readInterrupts(ctx context.Context, r kernel.Reader) (Interrupts, error) {
	const path = "/proc/interrupts"
	data, err := r.ReadFile(ctx, path)
	if err != nil {
		return Interrupts{}, err
	}
	counts, err := parseInterruptCounts(data)
	if err != nil {
		return Interrupts{}, fmt.Errorf("%s: %w", path, err)
	}
	return counts, nil
}

// parseInterruptCounts reads the counts of /proc/interrupts; see parseInterrupts
// for its form. The counts have 32 bits and wrap.
func parseInterruptCounts(table []byte) (Interrupts, error) {
	head, rest, _ := bytes.Cut(table, []byte("\n"))
	counts := Interrupts{Counts: map[int][]uint64{}}
	for _, field := range bytes.Fields(head) {
		number, found := bytes.CutPrefix(field, []byte("CPU"))
		cpu, err := strconv.ParseUint(string(number), 10, 32)
		if !found || err != nil || cpu >= maxCPUs {
			return Interrupts{}, fmt.Errorf("%w: %.40q heads a column", kernel.ErrMalformed, field)
		}
		counts.CPUs = append(counts.CPUs, int(cpu))
	}
	if len(counts.CPUs) == 0 {
		return Interrupts{}, fmt.Errorf("%w: no CPU", kernel.ErrMalformed)
	}
	for line := range bytes.Lines(rest) {
		label, values, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue
		}
		number, err := strconv.ParseUint(string(bytes.TrimSpace(label)), 10, 31)
		if err != nil {
			continue // one of the architecture's own: "NMI", "LOC"
		}
		of := make([]uint64, 0, len(counts.CPUs))
		for field := range bytes.FieldsSeq(values) {
			if len(of) == len(counts.CPUs) {
				break
			}
			v, err := strconv.ParseUint(string(field), 10, 64)
			if err != nil {
				return Interrupts{}, malformedLine(line)
			}
			of = append(of, v)
		}
		if len(of) < len(counts.CPUs) {
			return Interrupts{}, malformedLine(line)
		}
		counts.Counts[int(number)] = of
	}
	return counts, nil
}
