package metrics

import "github.com/nictune/nictune/inventory"

// facts is what a collector of facts alone renders.
func facts(s *Snapshot) any { return s.Inventory }

// eachNIC makes of what fills the samples of one NIC what fills those of all.
func eachNIC(fill func(*inventory.NIC)) func(*Snapshot) {
	return func(s *Snapshot) {
		if s.Inventory == nil {
			return
		}
		for i := range s.Inventory.NICs {
			fill(&s.Inventory.NICs[i])
		}
	}
}

// maybe sets a truth that may be unknown.
func maybe(f *family, v *bool, labels ...string) {
	if v != nil {
		f.set(truth(*v), labels...)
	}
}

// number sets a number, where it is known.
func number[N int | uint32 | uint64](f *family, v *N, labels ...string) {
	if v != nil {
		f.set(float64(*v), labels...)
	}
}

const perHardware = "1 per hardware device"
