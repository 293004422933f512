package policies

import (
	"path"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// Holds says whether a NIC is one that the policy is for. A fact that the NIC
// lacks matches nothing.
func (m *Match) Holds(nic *inventory.NIC) bool {
	if m.empty() {
		return slices.Contains(hardware[:], nic.Function)
	}
	return m.holdsDriver(nic) && m.holdsPCI(nic) && m.holdsName(nic) &&
		(len(m.Kind) == 0 || slices.Contains(m.Kind, nic.Function)) &&
		(len(m.PermanentMAC) == 0 || nic.PermanentMAC != "" && slices.Contains(m.PermanentMAC, strings.ToLower(nic.PermanentMAC)))
}

// hardware are the kinds of NIC that an empty match is for. A representor is the
// switch's view of another NIC, and a virtual device has no hardware to tune:
// both have to be asked for.
var hardware = [...]inventory.Function{inventory.PF, inventory.VF, inventory.SF, inventory.Plain}

func (m *Match) empty() bool {
	return len(m.Driver)+len(m.PCI)+len(m.Kind)+len(m.Name)+len(m.PermanentMAC) == 0
}

func (m *Match) holdsDriver(nic *inventory.NIC) bool {
	return len(m.Driver) == 0 || nic.Driver != nil && anyGlob(m.Driver, nic.Driver.Name)
}

func (m *Match) holdsName(nic *inventory.NIC) bool {
	return len(m.Name) == 0 || anyGlob(m.Name, nic.Name) ||
		slices.ContainsFunc(nic.AltNames, func(name string) bool { return anyGlob(m.Name, name) })
}

// holdsPCI compares ids with patterns of ids and addresses with patterns of
// addresses: a glob's * would also swallow a colon.
func (m *Match) holdsPCI(nic *inventory.NIC) bool {
	if len(m.PCI) == 0 || nic.PCI == nil {
		return len(m.PCI) == 0
	}
	id := nic.PCI.VendorID + ":" + nic.PCI.DeviceID
	return slices.ContainsFunc(m.PCI, func(p string) bool {
		if strings.Count(p, ":") == 1 {
			return anyGlob([]string{p}, id)
		}
		return anyGlob([]string{p}, nic.PCI.Address)
	})
}

// anyGlob says whether one of the patterns, checked when they were parsed,
// matches the name.
func anyGlob(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return false
}
