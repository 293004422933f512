package inventory

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"

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

// readVirtual finds out whether the host is a virtual machine, given /proc/cpuinfo: nil
// where nothing tells.
func (s *survey) readVirtual(ctx context.Context, cpuinfo []byte) *bool {
	is := parseHypervisorFlag(cpuinfo)
	if is == nil { // not x86
		if _, err := s.ReadFile(ctx, "/proc/device-tree/hypervisor/compatible"); err != nil {
			board, err := s.ReadFile(ctx, "/proc/device-tree/compatible")
			if err != nil || !parseVirtualBoard(board) {
				return nil
			}
		}
		is = new(true)
	}
	if !*is {
		return is
	}
	// Xen's dom0 runs on a hypervisor, too, and has the hardware.
	features, err := s.ReadFile(ctx, "/sys/hypervisor/properties/features")
	return new(err != nil || !parseXenDom0(features))
}

// parseHypervisorFlag looks in /proc/cpuinfo for the flag that CPUs of x86 have on a
// hypervisor (CPUID 1, ECX bit 31); nil where the CPU lists no flags.
func parseHypervisorFlag(cpuinfo []byte) *bool {
	for line := range bytes.Lines(cpuinfo) {
		key, value, found := strings.Cut(string(line), ":")
		if found && strings.TrimSpace(key) == "flags" {
			return new(slices.Contains(strings.Fields(value), "hypervisor"))
		}
	}
	return nil
}

// parseVirtualBoard reports whether a device tree's list of what a board is compatible
// with, each ended by a zero byte, names the board that QEMU and others make up.
func parseVirtualBoard(compatible []byte) bool {
	return slices.Contains(strings.Split(string(compatible), "\x00"), "linux,dummy-virt")
}

// parseXenDom0 reports whether the features that Xen gives a guest, a bit map in hex,
// have that of dom0 (XENFEAT_dom0, 11).
func parseXenDom0(features []byte) bool {
	bits, err := strconv.ParseUint(trimmed(features), 16, 64)
	return err == nil && bits>>11&1 == 1
}
