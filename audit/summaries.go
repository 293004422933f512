package audit

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/xdpcheck"
)

// hostSummary is what a report tells of the host.
func (e *Evidence) hostSummary() HostSummary {
	h := &e.Host
	return HostSummary{
		Name: h.Hostname, MachineID: e.MachineID, Kernel: h.Kernel, Distribution: h.Distribution, Architecture: h.Architecture,
		VirtualMachine: h.VirtualMachine, Machine: h.Machine, CPUs: h.CPUs, NUMANodes: h.Nodes, IOMMUs: h.IOMMU.Units, Unread: e.Unread,
	}
}

// summaries are what a report tells of each NIC, in an order that names don't change.
func (e *Evidence) summaries() []NICSummary {
	all := []NICSummary{}
	var facts *xdpcheck.Facts
	if e.XDP != nil {
		facts = e.XDPFacts()
	}
	told := map[string]bool{} // PFs by address
	for i := range e.NICs {
		n := &e.NICs[i]
		s := e.summary(n)
		if n.PCI != nil || n.Parent != nil {
			for j := range e.PFs {
				// Of two ports on one function the first has its VFs, as lspci shows them.
				if pf := &e.PFs[j]; isOf(pf, n) && !told[pf.Bus+pf.Address] {
					told[pf.Bus+pf.Address] = true
					s.SRIOV = vfSummaries(pf)
				}
			}
		}
		if facts != nil {
			if x, ok := facts.Named(n.Name); ok {
				s.Readiness = readiness(x)
			}
		}
		all = append(all, s)
	}
	for i := range e.PFs {
		if pf := &e.PFs[i]; !told[pf.Bus+pf.Address] {
			all = append(all, NICSummary{
				ID: pf.Address, Name: pf.Name, Kind: inventory.PF, Driver: pf.Driver, PCI: functionOf(pf), SRIOV: vfSummaries(pf), Unread: pf.Unread,
			})
		}
	}
	slices.SortStableFunc(all, func(a, b NICSummary) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})
	return all
}

// isOf reports whether a NIC is a physical function's own network device.
func isOf(pf *sriov.PF, n *inventory.NIC) bool {
	if n.Function == inventory.VF || n.Function == inventory.SF || n.Function == inventory.Representor {
		return false
	}
	if n.PCI != nil && pf.Bus == "pci" {
		return n.PCI.Address == pf.Address
	}
	return n.Parent != nil && n.Parent.Bus == pf.Bus && n.Parent.Address == pf.Address
}

// functionOf is all that is known of a function without a network device.
func functionOf(pf *sriov.PF) *PCISummary {
	if pf.Bus != "pci" {
		return nil
	}
	return &PCISummary{Address: pf.Address}
}

// summary is what a report tells of a NIC by itself.
func (e *Evidence) summary(n *inventory.NIC) NICSummary {
	s := NICSummary{
		ID: n.ID(), Name: n.Name, Kind: n.Function, Type: n.Type, MAC: n.MAC, PermanentMAC: n.PermanentMAC,
		PortName: n.Port.Name, Master: n.Stack.Master, Link: linkSummary(&n.Link), Module: moduleBrief(n.Module),
		XDPMode: xdpMode(n), Unread: n.Unread,
	}
	if d := n.Driver; d != nil {
		s.Driver, s.DriverVersion, s.Firmware = d.Name, d.Version, d.Firmware
	}
	if n.NUMA != nil {
		s.NUMANode = n.NUMA.Node
	}
	if g := n.IOMMU; g != nil {
		s.IOMMU = &IOMMUGroup{Group: g.Group, Type: g.Type, Shared: len(g.Members) > 0, Members: g.Members}
	}
	if p := n.PCI; p != nil {
		s.PCI = &PCISummary{
			Address: p.Address, VendorID: p.VendorID, DeviceID: p.DeviceID, Vendor: p.Vendor, Device: p.Device,
			PhysicalFunction: p.PhysicalFunction, VFIndex: p.VFIndex, Path: p.Path, Link: p.Link,
		}
		if p.Subsystem != p.Device {
			s.PCI.Subsystem = p.Subsystem
		}
		j := nic{NIC: n, evidence: e}
		if _, none := j.noPCIe(); !none {
			if tightest, ok := j.tightest(); ok {
				s.PCI.Tightest = &Passage{
					Address: tightest.address, Kind: tightest.kind, CarriesGBs: tightest.rate.GBs, UsableGBs: thousandths(tightest.usable()), Ports: tightest.ports,
				}
				if tightest.need > 0 {
					s.PCI.Tightest.NeededGBs = new(thousandths(tightest.need))
				}
			}
		}
	}
	return s
}

func thousandths(x float64) float64 { return math.Round(x*1000) / 1000 }

func linkSummary(l *inventory.Link) LinkSummary {
	s := LinkSummary{
		Admin: l.Admin, Oper: l.Oper, Carrier: l.Carrier, SpeedMbps: l.SpeedMbps, Duplex: l.Duplex, MTU: l.MTU, Downs: l.CarrierDown, DownEvents: l.DownEvents,
	}
	if most := inventory.FastestMode(l.Supported); most > 0 {
		s.MaxSpeedMbps = &most
	}
	if l.FEC != nil {
		s.FEC = l.FEC.Active
	}
	return s
}

// xdpMode is how XDP programs run on a NIC: the slowest way where there are several.
func xdpMode(n *inventory.NIC) string {
	for _, mode := range []string{"generic", "driver", "hardware"} {
		for _, p := range n.Offloads.XDP {
			if p.Mode == mode {
				return mode
			}
		}
	}
	for _, u := range n.Unread {
		if u.Fact == "offloads" || strings.HasPrefix(u.Fact, "offloads.xdp") {
			return ""
		}
	}
	return "none"
}

func readiness(n xdpcheck.NIC) map[string]string {
	answers := map[string]string{}
	for _, p := range xdpcheck.Profiles() {
		switch p.Judge(n).Ready {
		case "yes":
			answers[p.Name] = Ready
		case "no":
			answers[p.Name] = NotReady
		default:
			answers[p.Name] = ReadyUnknown
		}
	}
	return answers
}

func vfSummaries(pf *sriov.PF) *SRIOVSummary {
	s := &SRIOVSummary{NumVFs: pf.NumVFs, TotalVFs: pf.TotalVFs}
	for i := range pf.VFs {
		v := &pf.VFs[i]
		one := VFSummary{Index: v.Index, Address: v.Address, Driver: v.Driver, Representor: v.Representor}
		if v.Netdev != nil {
			one.Name = v.Netdev.Name
		}
		if v.Settings != nil {
			one.MAC = v.Settings.MAC
		}
		if g := v.IOMMU; g != nil {
			one.IOMMU = &IOMMUGroup{Group: g.Number, Shared: !g.Own, Members: g.Members}
		}
		for _, u := range v.Users {
			one.Users = append(one.Users, strings.TrimSpace(u.Kind+" "+cmp.Or(u.Name, u.Process, u.Container)))
		}
		if u := v.UsersUnread(); u != nil {
			one.UsersUnread = fmt.Sprintf("%s: %s: %s", u.Fact, u.Reason, u.Detail)
		}
		s.VFs = append(s.VFs, one)
	}
	return s
}

func moduleBrief(m *module.Module) *ModuleBrief {
	if m == nil {
		return nil
	}
	b := &ModuleBrief{Medium: string(m.Medium), Vendor: m.Vendor, PartNumber: m.PartNumber, SerialNumber: m.SerialNumber, Doubts: m.Doubts}
	if m.Identifier != nil {
		b.FormFactor = m.Identifier.Name
	}
	if m.DOM == nil {
		return b
	}
	add := func(quantity string, lane int, v *module.Monitor, r *module.Range) {
		if v != nil && v.Light != "unused" {
			b.Measured = append(b.Measured, held(quantity, lane, v, r))
		}
	}
	t := &m.DOM.Thresholds
	add("temperature", 0, m.DOM.Temperature, t.Temperature)
	add("voltage", 0, m.DOM.Voltage, t.Voltage)
	for _, lane := range m.DOM.Lanes {
		add("bias", lane.Number, lane.Bias, t.Bias)
		add("tx-power", lane.Number, lane.TXPower, t.TXPower)
		add("rx-power", lane.Number, lane.RXPower, t.RXPower)
	}
	return b
}

// held holds a value against its thresholds. Powers are compared in dB: a margin
// of light is one of loss on the way.
func held(quantity string, lane int, v *module.Monitor, r *module.Range) Measured {
	inDB := v.Unit == "mW"
	of := func(l module.Level) *float64 {
		if inDB {
			return l.DBm
		}
		return &l.Value
	}
	m := Measured{Quantity: quantity, Lane: lane, Value: rounded(of(v.Level)), Unit: v.Unit, Verdict: v.Verdict}
	if inDB {
		m.Unit = "dBm"
		if v.Light != "" {
			m.Value = nil // as little as can be measured, or less
		}
	}
	if m.Value == nil || r == nil {
		return m
	}
	above := func(least module.Level) *float64 {
		if l := of(least); l != nil {
			return rounded(new(*of(v.Level) - *l))
		}
		return nil
	}
	below := func(most module.Level) *float64 {
		if l := of(most); l != nil {
			return rounded(new(*l - *of(v.Level)))
		}
		return nil
	}
	m.Margins = &Margins{LowAlarm: above(r.LowAlarm), LowWarning: above(r.LowWarning), HighWarning: below(r.HighWarning), HighAlarm: below(r.HighAlarm)}
	return m
}

// rounded is what is left of a value when what no module measures is taken off.
func rounded(x *float64) *float64 {
	if x == nil {
		return nil
	}
	return new(thousandths(*x))
}
