package html

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/xdpcheck"
)

// hostPage is what the page of a host shows.
type hostPage struct {
	*audit.HostReport
	Facts     []fact
	Verdict   string
	Tiles     []tile
	Standings []standing
	Groups    []string
	Subjects  []subjectName
	Picture   *picture
	Tables    []nicTable
	WithVFs   []*nic
	Modules   []moduleView
	Profiles  []string
	XDP       []*nic
	Drift     []audit.DriftSummary
	AsWanted  int
	Unread    []unreadFact
}

type fact struct{ Name, Value string }

type unreadFact struct {
	Where string
	inventory.Unread
}

// Host writes the page of one host's audit report.
func Host(w io.Writer, r *audit.HostReport) error {
	known := &subjects{}
	p := hostPage{HostReport: r, Facts: hostFacts(r), Verdict: verdict(r.Findings), Tiles: tiles(r.Findings)}
	p.Standings = standings(r.Findings, r.Rules, known)
	for _, s := range p.Standings {
		for _, rule := range s.Rules {
			if g := rule.Group(); !slices.Contains(p.Groups, g) {
				p.Groups = append(p.Groups, g)
			}
		}
	}
	slices.Sort(p.Groups)
	for i := range p.Tiles {
		// All of a status may stand below rules that said worse of other subjects.
		if t := &p.Tiles[i]; !slices.ContainsFunc(p.Standings, func(s standing) bool { return s.ID == t.To }) {
			t.To = "findings"
		}
	}
	p.Subjects = known.byName()

	nics := nicViews(r, known)
	p.Picture = draw(nics, r.Host.NUMANodes)
	p.Tables = nicTables(nics)
	for i := range nics {
		n := &nics[i]
		if n.SRIOV != nil && len(n.SRIOV.VFs) > 0 {
			p.WithVFs = append(p.WithVFs, n)
		}
		if n.Module != nil {
			p.Modules = append(p.Modules, moduleOf(n))
		}
		if len(n.Readiness) > 0 || n.XDPMode != "" && n.XDPMode != "none" {
			p.XDP = append(p.XDP, n)
		}
	}
	p.Profiles = profilesOf(r.NICs)
	for _, d := range r.Drift {
		if d.Status == audit.AsWanted {
			p.AsWanted++
		} else {
			p.Drift = append(p.Drift, d)
		}
	}
	for _, u := range r.Host.Unread {
		p.Unread = append(p.Unread, unreadFact{"host", u})
	}
	for i := range r.NICs {
		for _, u := range r.NICs[i].Unread {
			p.Unread = append(p.Unread, unreadFact{cmp.Or(r.NICs[i].Name, r.NICs[i].ID), u})
		}
	}
	return write(w, "host", cmp.Or(r.Host.Name, "unnamed host")+": NIC audit", p)
}

// hostFacts are what stands below the host's name.
func hostFacts(r *audit.HostReport) []fact {
	h := &r.Host
	machine := ""
	if h.Machine != nil {
		machine = strings.TrimSpace(h.Machine.Vendor + " " + h.Machine.Product)
	}
	if h.VirtualMachine != nil && *h.VirtualMachine {
		machine = strings.TrimSpace(machine + " (virtual)")
	}
	watched := ""
	if r.WatchedSeconds > 0 {
		watched = decimal(r.WatchedSeconds) + " s"
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
		labels = append(labels, name+"="+h.Labels[name])
	}
	iommu := ""
	if len(h.IOMMUs) > 0 {
		iommu = listed(h.IOMMUs, 4)
	}
	all := []fact{
		{"Watched", watched}, {"Kernel", strings.TrimSpace(h.Kernel + " " + h.Architecture)}, {"System", h.Distribution}, {"Machine", machine},
		{"CPUs", h.CPUs.Model}, {"IOMMU", iommu}, {"Labels", strings.Join(labels, ", ")}, {"Machine ID", h.MachineID}, {"nictune", r.Version},
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.Value == "" })
}

// The places where a NIC is listed.
const (
	hardware = "hardware"
	virtual  = "vf" // a VF whose port is here
	software = "software"
)

// nic is a NIC as the page shows it.
type nic struct {
	*audit.NICSummary
	Number int
	Label  string
	Where  string
	// State is "up", "down" or "off"; StateWords say it.
	State, StateWords string
	// Speed is "10 / 25 Gb/s", Below what stands below the name in the picture.
	Speed string
	Below []string
	// Model is vendor and device, Device the device alone.
	Model, Device string
	PCIe          string
	Narrow        *audit.Passage
	// EnabledVFs is "8 of 64", for a column that says of what; VFs is "8 of 64 VFs", UsedBy
	// what they are used for.
	EnabledVFs, VFs, UsedBy string
	// Failing are its findings that fail, Unread those that could not be judged.
	Failing, Unjudged int
}

// tooNarrow is the rule by which a link of PCIe is marked in the picture: whether it
// carries enough is not for a page to judge, and what virtual machines show is no link.
const tooNarrow = "pcie/too-narrow"

func nicViews(r *audit.HostReport, known *subjects) []nic {
	failing, unjudged, narrow := map[string]int{}, map[string]int{}, map[string]bool{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Rule == tooNarrow && (f.Status == findings.Fail || f.Status == findings.Waived) {
			narrow[f.Subject.ID] = true
		}
		switch f.Status {
		case findings.Fail:
			failing[f.Subject.ID]++
		case findings.Error, findings.Unknown:
			unjudged[f.Subject.ID]++
		}
	}
	here := map[string]bool{}
	for i := range r.NICs {
		if n := &r.NICs[i]; n.PCI != nil && n.Kind != inventory.VF {
			here[n.PCI.Address] = true
		}
	}
	all := make([]nic, len(r.NICs))
	for i := range r.NICs {
		s := &r.NICs[i]
		n := nic{NICSummary: s, Number: known.number(s.ID, s.Name), Label: cmp.Or(s.Name, s.ID), Failing: failing[s.ID], Unjudged: unjudged[s.ID]}
		switch {
		case s.Kind == inventory.VF && s.PCI != nil && here[s.PCI.PhysicalFunction]:
			n.Where = virtual
		case s.PCI == nil && (s.Kind == inventory.Virtual || s.Kind == inventory.Representor):
			n.Where = software
		default:
			n.Where = hardware
		}
		n.State, n.StateWords = state(&s.Link)
		n.Speed = speeds(&s.Link)
		if s.PCI != nil {
			n.Below = append(n.Below, s.PCI.Address)
			n.Model = cmp.Or(strings.TrimSpace(s.PCI.Vendor+" "+s.PCI.Device), strings.Trim(s.PCI.VendorID+":"+s.PCI.DeviceID, ":"))
			n.Device = cmp.Or(s.PCI.Device, n.Model)
			n.PCIe = pcie(s.PCI.Link)
			if narrow[s.ID] {
				n.Narrow = s.PCI.Tightest
			}
		}
		if s.Driver != "" {
			n.Below = append(n.Below, s.Driver)
		}
		if s.SRIOV != nil {
			n.EnabledVFs, n.VFs = vfCounts(s.SRIOV)
			n.UsedBy = vfUses(s.SRIOV)
		}
		all[i] = n
	}
	slices.SortStableFunc(all, func(a, b nic) int { return natural(a.Label, b.Label) })
	return all
}

// words are a NIC in one line.
func (n *nic) words() string {
	parts := []string{n.Label}
	parts = append(parts, n.Below...)
	parts = append(parts, n.StateWords, n.Speed, n.Model)
	if n.IOMMU != nil {
		group := "IOMMU group " + strconv.Itoa(n.IOMMU.Group)
		if n.IOMMU.Shared {
			group += ", shared with " + listed(n.IOMMU.Members, 3)
		}
		parts = append(parts, group)
	}
	if n.Narrow != nil {
		parts = append(parts, tightWords(n.Narrow))
	}
	parts = append(parts, n.VFs)
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// state is a link's in a word for the picture, and in words.
func state(l *audit.LinkSummary) (class, words string) {
	switch {
	case l.Admin == "down":
		return "off", "set down"
	case l.Carrier == nil:
		return "", ""
	case *l.Carrier:
		return "up", "link up"
	}
	return "down", "no link"
}

// speeds is what a link runs at, and of how much where that is more.
func speeds(l *audit.LinkSummary) string {
	switch {
	case l.SpeedMbps != nil && l.MaxSpeedMbps != nil && *l.MaxSpeedMbps > *l.SpeedMbps:
		return bits(*l.SpeedMbps) + " of " + bits(*l.MaxSpeedMbps)
	case l.SpeedMbps != nil:
		return bits(*l.SpeedMbps)
	case l.MaxSpeedMbps != nil:
		return "up to " + bits(*l.MaxSpeedMbps)
	}
	return ""
}

// bits is a speed in Mb/s as people say it.
func bits(mbps int) string {
	if mbps >= 1000 {
		return decimal(float64(mbps)/1000) + " Gb/s"
	}
	return strconv.Itoa(mbps) + " Mb/s"
}

// decimal is a number with at most three digits after the point.
func decimal(x float64) string {
	return strconv.FormatFloat(math.Round(x*1000)/1000, 'f', -1, 64)
}

func pcie(l *inventory.PCIeLink) string {
	switch {
	case l == nil:
		return ""
	case l.Current != nil && l.Maximum != nil && l.Maximum.GBs > l.Current.GBs:
		return rateWords(l.Current) + " of " + rateWords(l.Maximum)
	case l.Current != nil:
		return rateWords(l.Current)
	case l.Maximum != nil:
		return "up to " + rateWords(l.Maximum)
	}
	return ""
}

// vfCounts are how many VFs there are, bare and with the word for them.
func vfCounts(s *audit.SRIOVSummary) (bare, words string) {
	enabled := len(s.VFs)
	if s.NumVFs != nil {
		enabled = *s.NumVFs
	}
	before, last := "", enabled
	switch {
	case s.TotalVFs != nil:
		before, last = fmt.Sprintf("%d of ", enabled), *s.TotalVFs
	case s.NumVFs == nil && enabled == 0:
		return "", ""
	}
	return before + strconv.Itoa(last), before + count(last, "VF", "VFs")
}

// vfUses are who has the VFs.
func vfUses(s *audit.SRIOVSummary) string {
	drivers := map[string]int{}
	inUse, unread := 0, 0
	for i := range s.VFs {
		drivers[cmp.Or(s.VFs[i].Driver, "no driver")]++
		if len(s.VFs[i].Users) > 0 {
			inUse++
		} else if s.VFs[i].UsersUnread != "" {
			unread++
		}
	}
	if len(s.VFs) == 0 {
		return ""
	}
	parts := []string{fmt.Sprintf("%d in use", inUse)}
	if unread > 0 {
		parts[0] += fmt.Sprintf(", of %d not known", unread)
	}
	for _, d := range slices.SortedFunc(maps.Keys(drivers), func(a, b string) int {
		return cmp.Or(-cmp.Compare(drivers[a], drivers[b]), strings.Compare(a, b))
	}) {
		parts = append(parts, fmt.Sprintf("%d %s", drivers[d], d))
	}
	return strings.Join(parts, " · ")
}

// nicTable is a list of NICs.
type nicTable struct {
	Name, Title string
	Open        bool
	NICs        []*nic
}

func nicTables(nics []nic) []nicTable {
	all := []nicTable{
		{Name: hardware, Title: "Hardware", Open: true}, {Name: virtual, Title: "Virtual functions with a network device here"}, {Name: software, Title: "Software devices"},
	}
	for i := range nics {
		for j := range all {
			if all[j].Name == nics[i].Where {
				all[j].NICs = append(all[j].NICs, &nics[i])
			}
		}
	}
	return slices.DeleteFunc(all, func(t nicTable) bool { return len(t.NICs) == 0 })
}

// profilesOf are the purposes that NICs were judged for, in the order of xdpcheck.
func profilesOf(nics []audit.NICSummary) []string {
	known := xdpcheck.Profiles()
	place := func(name string) int {
		i := slices.IndexFunc(known, func(p xdpcheck.Profile) bool { return p.Name == name })
		if i < 0 {
			return len(known)
		}
		return i
	}
	seen := map[string]bool{}
	for i := range nics {
		for name := range nics[i].Readiness {
			seen[name] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b string) int { return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(a, b)) })
}
