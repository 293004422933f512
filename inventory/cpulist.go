package inventory

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// CPUSet is a set of CPUs. The zero value is the empty set.
//
// It reads and writes the kernel's list format ("0-3,8"), which sysfs, procfs
// and parameters such as isolcpus= share.
type CPUSet struct {
	words []uint64
}

// maxCPUs bounds what ParseCPUSet believes. The kernel's own bound (NR_CPUS) is
// 8192 on the largest configuration.
const maxCPUs = 1 << 16

// ParseCPUSet reads a CPU list: numbers and ranges, separated by commas, as in
// "0-3,8". A range may pick groups out of itself, as the kernel's parameters do:
// "0-31:2/8" are the first two of every eight. An empty list is the empty set.
func ParseCPUSet(list string) (CPUSet, error) {
	var set CPUSet
	list = strings.TrimSpace(list)
	if list == "" {
		return set, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, used, group, err := parseCPURange(part)
		if err != nil {
			return CPUSet{}, fmt.Errorf("CPU list %.80q: %w", list, err)
		}
		for cpu := first; cpu <= last; cpu++ {
			if (cpu-first)%group < used {
				set.add(cpu)
			}
		}
	}
	return set, nil
}

// parseCPURange reads "8", "0-3" or "0-31:2/8".
func parseCPURange(part string) (first, last, used, group int, err error) {
	span, step, stepped := strings.Cut(part, ":")
	low, high, ranged := strings.Cut(span, "-")
	if first, err = parseCPU(low); err != nil {
		return 0, 0, 0, 0, err
	}
	last, used, group = first, 1, 1
	if ranged {
		if last, err = parseCPU(high); err != nil {
			return 0, 0, 0, 0, err
		}
	}
	if last < first {
		return 0, 0, 0, 0, fmt.Errorf("range %q runs backwards", span)
	}
	if stepped {
		a, b, _ := strings.Cut(step, "/")
		if used, err = parseCPU(a); err != nil {
			return 0, 0, 0, 0, err
		}
		if group, err = parseCPU(b); err != nil {
			return 0, 0, 0, 0, err
		}
		if used == 0 || group < used {
			return 0, 0, 0, 0, fmt.Errorf("group %q takes none, or more than it has", step)
		}
	}
	return first, last, used, group, nil
}

func parseCPU(s string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%.20q is no CPU number", s)
	}
	if n >= maxCPUs {
		return 0, fmt.Errorf("CPU %d is beyond %d", n, maxCPUs-1)
	}
	return int(n), nil
}

// NewCPUSet is the set of the given CPUs; numbers that are none are left out.
func NewCPUSet(cpus ...int) CPUSet {
	var set CPUSet
	for _, cpu := range cpus {
		if cpu >= 0 && cpu < maxCPUs {
			set.add(cpu)
		}
	}
	return set
}

// ParseCPUMask reads a CPU mask as sysfs and procfs print it: hexadecimal, 32 bits
// to a group, the highest first: "00000001,0000000f".
func ParseCPUMask(text string) (CPUSet, error) {
	groups := strings.Split(strings.TrimSpace(text), ",")
	slices.Reverse(groups)
	var cpus []int
	for i, group := range groups {
		bits, err := strconv.ParseUint(group, 16, 32)
		if err != nil {
			return CPUSet{}, fmt.Errorf("%w: CPU mask %.80q", kernel.ErrMalformed, text)
		}
		for bit := range 32 {
			if bits>>bit&1 != 0 {
				cpus = append(cpus, 32*i+bit)
			}
		}
	}
	return NewCPUSet(cpus...), nil
}

func (s *CPUSet) add(cpu int) {
	for len(s.words) <= cpu/64 {
		s.words = append(s.words, 0)
	}
	s.words[cpu/64] |= 1 << (cpu % 64)
}

// Len is the number of CPUs in the set.
func (s CPUSet) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// All yields the CPUs in ascending order.
func (s CPUSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s.words {
			for ; w != 0; w &= w - 1 {
				if !yield(i*64 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// Intersect are the CPUs in both sets.
func (s CPUSet) Intersect(t CPUSet) CPUSet {
	words := make([]uint64, min(len(s.words), len(t.words)))
	for i := range words {
		words[i] = s.words[i] & t.words[i]
	}
	return CPUSet{words}
}

// Minus are the CPUs of s that are not in t.
func (s CPUSet) Minus(t CPUSet) CPUSet {
	words := append([]uint64(nil), s.words...)
	for i := range min(len(words), len(t.words)) {
		words[i] &^= t.words[i]
	}
	return CPUSet{words}
}

// String is the set as the kernel prints it: "0-3,8", and "" for the empty set.
func (s CPUSet) String() string {
	var b strings.Builder
	first, last := -1, -1
	flush := func() {
		if first < 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(first))
		if last > first {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(last))
		}
	}
	for cpu := range s.All() {
		if cpu != last+1 || first < 0 {
			flush()
			first = cpu
		}
		last = cpu
	}
	flush()
	return b.String()
}
