package policies

import (
	"path"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// Holds says whether a NIC of a host is one that the policy is for. A fact that
// the NIC lacks matches nothing. The error says what where, or the speed, could
// not be decided for; all else holds then, and the policy is not for the NIC.
func (m *Match) Holds(nic *inventory.NIC, host *Host) (bool, error) {
	return m.holds(&candidate{nic: nic, host: host})
}

// candidate is one NIC on its way through all policies.
type candidate struct {
	nic  *inventory.NIC
	host *Host
	// variables are those of conditions, made when the first one asks.
	variables map[string]any
}

func (m *Match) holds(c *candidate) (bool, error) {
	if !m.holdsDevice(c.nic) || !m.holdsLabels(c.host) || !m.holdsLinkState(c.nic) || !m.holdsNode(c.nic) || !m.holdsFirmware(c.nic) {
		return false, nil
	}
	if ok, err := m.holdsSpeed(c.nic); !ok || err != nil {
		return false, err
	}
	if m.Where == nil {
		return true, nil
	}
	if c.variables == nil {
		c.variables = m.Where.facts.bind(c.nic, c.host)
	}
	return m.Where.holds(c.variables)
}

// holdsDevice is for the keys that say which NICs.
func (m *Match) holdsDevice(nic *inventory.NIC) bool {
	if m.everyHardware() {
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

// BeyondIdentity says whether it takes facts to decide that
// [inventory.ReadIdentity] leaves out: a condition can look at anything.
func (m *Match) BeyondIdentity() bool { return m.Where != nil || len(m.Speed) > 0 }

func (m *Match) everyHardware() bool {
	return len(m.Driver)+len(m.PCI)+len(m.Kind)+len(m.Name)+len(m.PermanentMAC)+len(m.Vendor)+len(m.Device)+len(m.Subsystem) == 0
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
	if len(m.PCI)+len(m.Vendor)+len(m.Device)+len(m.Subsystem) == 0 || nic.PCI == nil {
		return len(m.PCI)+len(m.Vendor)+len(m.Device)+len(m.Subsystem) == 0
	}
	p := nic.PCI
	return holdsGlob(m.Vendor, p.VendorID) && holdsGlob(m.Device, p.DeviceID) &&
		(len(m.Subsystem) == 0 || p.SubsystemVendorID != "" && anyGlob(m.Subsystem, p.SubsystemVendorID+":"+p.SubsystemDeviceID)) &&
		(len(m.PCI) == 0 || slices.ContainsFunc(m.PCI, func(pattern string) bool {
			if strings.Count(pattern, ":") == 1 {
				return anyGlob([]string{pattern}, p.VendorID+":"+p.DeviceID)
			}
			return anyGlob([]string{pattern}, p.Address)
		}))
}

func (m *Match) holdsLabels(host *Host) bool {
	for _, l := range m.Labels {
		if value, ok := host.Labels[l.Key]; !ok || !anyGlob(l.Values, value) {
			return false
		}
	}
	return true
}

// holdsLinkState takes the carrier for the link, as ethtool's "Link detected"
// does; a device that is down has none.
func (m *Match) holdsLinkState(nic *inventory.NIC) bool {
	if len(m.LinkState) == 0 {
		return true
	}
	switch {
	case nic.Link.Carrier != nil && *nic.Link.Carrier:
		return slices.Contains(m.LinkState, "up")
	case nic.Link.Carrier != nil || nic.Link.Admin == "down":
		return slices.Contains(m.LinkState, "down")
	}
	return false
}

func (m *Match) holdsNode(nic *inventory.NIC) bool {
	return len(m.NUMANode) == 0 || nic.NUMA != nil && nic.NUMA.Node != nil && slices.Contains(m.NUMANode, *nic.NUMA.Node)
}

func (m *Match) holdsFirmware(nic *inventory.NIC) bool {
	return len(m.Firmware) == 0 || nic.Driver != nil && holdsGlob(m.Firmware, nic.Driver.Firmware)
}

// holdsSpeed reports a speed that is not known, because it changes with the link.
func (m *Match) holdsSpeed(nic *inventory.NIC) (bool, error) {
	switch speed := nic.Link.SpeedMbps; {
	case len(m.Speed) == 0:
		return true, nil
	case speed == nil || *speed < 0:
		return false, &UnknownError{Fact: "nic.link.speedMbps"}
	default:
		return slices.ContainsFunc(m.Speed, func(c Comparison) bool { return c.holds(uint64(*speed)) }), nil
	}
}

func (c Comparison) holds(n uint64) bool {
	switch c.Operator {
	case ">=":
		return n >= c.Value
	case "<=":
		return n <= c.Value
	case ">":
		return n > c.Value
	case "<":
		return n < c.Value
	default:
		return n == c.Value
	}
}

// holdsGlob says whether a key is not given, or a fact is there and matches it.
func holdsGlob(patterns []string, fact string) bool {
	return len(patterns) == 0 || fact != "" && anyGlob(patterns, fact)
}

// anyGlob says whether one of the patterns, checked when they were parsed,
// matches the name. A slash is a character like any other, as in "216.0/pkg 21".
func anyGlob(patterns []string, name string) bool {
	name = strings.ReplaceAll(name, "/", "\x00")
	for _, p := range patterns {
		if ok, err := path.Match(strings.ReplaceAll(p, "/", "\x00"), name); ok && err == nil {
			return true
		}
	}
	return false
}
