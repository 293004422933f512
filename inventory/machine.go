package inventory

import (
	"context"

	"github.com/nictune/nictune/internal/kernel"
)

// Machine is a machine's identity as its firmware gives it, in SMBIOS or a
// device tree: what a fleet is sorted by.
type Machine struct {
	Vendor  string `json:"vendor,omitempty"`
	Product string `json:"product,omitempty"`
	Version string `json:"version,omitempty"`
	// BIOS is the machine's own firmware, whatever its kind.
	BIOS BIOS `json:"bios,omitzero"`
}

// BIOS is the firmware that a machine starts with.
type BIOS struct {
	Vendor  string `json:"vendor,omitempty"`
	Version string `json:"version,omitempty"`
	Date    string `json:"date,omitempty"`
}

func (s *survey) readMachine(ctx context.Context) {
	m, err := s.Machine(ctx)
	if err != nil {
		s.missed("machine", err)
		return
	}
	s.host.Machine = machine(m)
}

func machine(m kernel.Machine) *Machine {
	return &Machine{
		Vendor: m.Vendor, Product: m.Product, Version: m.Version,
		BIOS: BIOS{Vendor: m.BIOSVendor, Version: m.BIOSVersion, Date: m.BIOSDate},
	}
}
