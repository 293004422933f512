// Package audit judges a host: its links and cables, its PCIe, its queues and its
// multicast, by rules of its own, and gathers the findings of the other rooms.
//
// [Gather] reads what the rules need; judging asks the host nothing more, so what
// is said of a host can be said of its recording. The room changes nothing.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/xdpcheck"
)

// Evidence is what rules are judged on: the facts about one host.
type Evidence struct {
	sriov.Inventory
	// MachineID is /etc/machine-id, empty where it could not be read.
	MachineID string `json:"machineId,omitempty"`
	// Counted are the counters at the time of the facts.
	Counted Sample `json:"counted"`
	// Earlier is an earlier look at the same host, where it was watched.
	Earlier *Look `json:"earlier,omitempty"`
	// Left are NICs that left the list of devices while the host was looked at, by
	// their ID. True: what they are devices of is still on its bus.
	Left map[string]bool `json:"left,omitempty"`
	// Migratable are the VFs, as "eth0 vf 3", that policies want to be migratable.
	Migratable map[string]bool `json:"migratable,omitempty"`
	// Drift and Waivers are what policies want, nil where none were given.
	Drift   []DriftSummary  `json:"drift,omitempty"`
	Waivers []WaiverSummary `json:"waivers,omitempty"`
	// earlierNICs are those of Earlier by their ID, once one was looked for: of the look
	// that indexed is.
	earlierNICs map[string]*inventory.NIC
	indexed     *Look
	// whole is the host when only some of its devices are judged.
	whole *sriov.Inventory
	// XDP is what the groups xdp and offload need beside the inventory.
	XDP *xdpcheck.Extra `json:"xdp,omitempty"`
}

// Group is a set of rules about one subject: what nictune check takes as an argument.
type Group struct {
	Name string
	// Doc says what its rules look at, in one line.
	Doc string
	// The rules are made when they are asked for: each command would pay for them
	// when it starts.
	rules func() []findings.About
	judge judge
}

// judge judges evidence, and hands over what it finds some at a time.
type judge func(*Evidence, func([]findings.Finding))

// Rules are what is told of its rules.
func (g Group) Rules() []findings.About { return g.rules() }

// traffic reports whether its rules need what queues, interrupts and CPUs count.
func (g Group) traffic() bool { return g.Name == "queues" || g.Name == "multicast" }

// Groups are all groups that judge the host by itself, in the order in which reports
// show them.
func Groups() []Group {
	return []Group{
		{"link", "cables, modules and links", abouts(allLinkRules), links},
		{"pcie", "PCI Express between NICs and CPUs", abouts(pcieRules), perNIC(pcieRules)},
		{"sriov", "virtual functions", sriov.Rules, vfs},
		{"queues", "queues, interrupts and CPUs, and where packets are lost", aboutBoth(saturationRules, queueRules), both(saturationRules, queueRules)},
		{"multicast", "who hears which groups", aboutBoth(membershipRules, multicastRules), both(membershipRules, multicastRules)},
		{"xdp", "XDP programs, and what is in their way", abouts(xdpcheck.Rules), perXDP(xdpcheck.Rules)},
		{"offload", "what NICs do instead of the CPU", abouts(xdpcheck.OffloadRules), perXDP(xdpcheck.OffloadRules)},
	}
}

// Rules are what is told of all rules that nictune has, those about policies, too.
func Rules() []findings.About {
	var all []findings.About
	for _, g := range append(Groups(), PolicyGroup()) {
		all = append(all, g.Rules()...)
	}
	return all
}

// abouts are what is told of rules, once they are made.
func abouts[S findings.Judged](rules func() []findings.Rule[S]) func() []findings.About {
	return func() []findings.About { return findings.Abouts(rules()) }
}

func aboutBoth[S, T findings.Judged](some func() []findings.Rule[S], others func() []findings.Rule[T]) func() []findings.About {
	return func() []findings.About { return append(findings.Abouts(some()), findings.Abouts(others())...) }
}

// Named gives the groups of these names; all of them where none is named.
func Named(names ...string) ([]Group, error) {
	all := Groups()
	if len(names) == 0 {
		return all, nil
	}
	var some []Group
	for _, name := range names {
		i := slices.IndexFunc(all, func(g Group) bool { return g.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no group of rules %q", name)
		}
		some = append(some, all[i])
	}
	return some, nil
}

// Gather reads what the groups' rules need. What could not be read is in the facts'
// own notes; an error means that nothing could be.
//
// With an interval to watch, the host is looked at twice, so far apart: rules that
// judge rates need that. A recorded host is always the same. The modules say how those
// are read, once, and only where a group's rules judge them.
func Gather(ctx context.Context, r kernel.Reader, groups []Group, watch time.Duration, modules *inventory.Modules) (*Evidence, error) {
	var earlier *Look
	if watch > 0 {
		var err error
		if earlier, err = look(ctx, r, groups); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("watch for %s: %w", watch, ctx.Err())
		case <-time.After(watch):
		}
	}
	now, err := look(ctx, r, groups)
	if err != nil {
		return nil, err
	}
	return gathered(ctx, r, earlier, now, groups, modules), nil
}

// GatherPair is [Gather] for a host that was recorded twice. How far apart the
// recordings are their uptimes tell.
func GatherPair(ctx context.Context, before, after kernel.Reader, groups []Group, modules *inventory.Modules) (*Evidence, error) {
	earlier, err := look(ctx, before, groups)
	if err != nil {
		return nil, fmt.Errorf("the earlier one: %w", err)
	}
	now, err := look(ctx, after, groups)
	if err != nil {
		return nil, err
	}
	switch was, is := earlier.Counted.Uptime, now.Counted.Uptime; {
	case was == 0 || is == 0:
		return nil, errors.New("the two recordings can't be compared: one lacks /proc/uptime")
	case was >= is:
		return nil, fmt.Errorf("the host was up for %s in the earlier recording, for %s in the later: the two are in the wrong order, or it started anew between them", was, is)
	case identity(ctx, before) != identity(ctx, after):
		return nil, errors.New("the two recordings are of two hosts: /etc/machine-id is another")
	default:
		earlier.Counted.At = now.Counted.At.Add(was - is)
	}
	return gathered(ctx, after, earlier, now, groups, modules), nil
}

// gathered makes evidence of the looks that a caller may take from, with modules.
func gathered(ctx context.Context, r kernel.Reader, earlier, now *Look, groups []Group, modules *inventory.Modules) *Evidence {
	if named(groups, "link") {
		// Each page of a module costs milliseconds of a slow bus.
		modules.ReadAll(ctx, r, &now.Inventory)
	}
	e := Since(ctx, r, earlier, now, groups)
	// From these the caller takes what is not asked for.
	e.NICs, e.PFs = slices.Clone(e.NICs), slices.Clone(e.PFs)
	for i := range e.PFs {
		e.PFs[i].VFs = slices.Clone(e.PFs[i].VFs)
	}
	return e
}

// identity is /etc/machine-id, empty where it could not be read.
func identity(ctx context.Context, r kernel.Reader) string {
	id, err := r.ReadFile(ctx, "/etc/machine-id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// look reads the facts, and what else the groups' rules need.
func look(ctx context.Context, r kernel.Reader, groups []Group) (*Look, error) {
	inv, err := inventory.Read(ctx, r)
	if err != nil {
		return nil, err
	}
	return Observe(ctx, r, inv, groups), nil
}

// Observe adds to facts that have just been read what else the groups' rules need and
// what changes with time, for [Since]. The modules are those that the facts have. The
// inventory stays as it is.
func Observe(ctx context.Context, r kernel.Reader, inv *inventory.Inventory, groups []Group) *Look {
	l := &Look{Inventory: *inv}
	l.NICs, l.Unread = slices.Clone(inv.NICs), slices.Clip(inv.Unread)
	for i := range l.NICs {
		l.NICs[i].Unread = slices.Clip(l.NICs[i].Unread) // notes are added
	}
	l.Counted = sample(ctx, r, &l.Inventory)
	if slices.ContainsFunc(groups, Group.traffic) {
		l.Counted.Traffic = inventory.ReadTraffic(ctx, r, &l.Inventory)
	}
	if named(groups, "link") {
		l.ownCounters(ctx, r)
	}
	isVF := func(n inventory.NIC) bool { return n.Function == inventory.VF }
	if named(groups, "sriov") || named(groups, "multicast") && slices.ContainsFunc(l.NICs, isVF) {
		// A PF's firmware is asked about each VF with the RTNL lock held.
		all := sriov.Read(ctx, r, &l.Inventory)
		l.Inventory, l.PFs = all.Inventory, all.PFs
	}
	return l
}

// Since is the evidence of a look at a host, and of an earlier one where there was
// one (nil: none). Both must have been made for the same groups. The evidence's NICs
// and PFs are those of now, and not to be written on.
func Since(ctx context.Context, r kernel.Reader, earlier, now *Look, groups []Group) *Evidence {
	e := &Evidence{Inventory: sriov.Inventory{Inventory: now.Inventory, PFs: now.PFs}, Counted: now.Counted, Earlier: earlier, MachineID: identity(ctx, r)}
	whole := e.Inventory
	e.whole = &whole
	if named(groups, "link") {
		e.Left = left(ctx, r, e)
	}
	if named(groups, "xdp") || named(groups, "offload") {
		e.XDP = xdpcheck.Read(ctx, r, &e.Host, whole.NICs)
	}
	return e
}

func named(groups []Group, name string) bool {
	return slices.ContainsFunc(groups, func(g Group) bool { return g.Name == name })
}

// Want notes what tuning policies want of the host, as far as rules go by it.
func (e *Evidence) Want(wants []policies.Want) {
	e.Migratable = map[string]bool{}
	for _, w := range wants {
		if w.NIC == nil || w.Setting != sriov.FunctionSetting {
			continue
		}
		for _, item := range w.Items {
			vfs, wanted := "", false
			for _, field := range item.Fields {
				switch field.Field {
				case "vf":
					vfs = field.Value.String()
				case "migratable":
					wanted, _ = field.Value.Bool()
				}
			}
			numbers, err := inventory.ParseCPUSet(vfs)
			if err != nil || !wanted {
				continue // of subfunctions, or plan says what is wrong with it
			}
			for vf := range numbers.All() {
				e.Migratable[fmt.Sprintf("%s vf %d", w.NIC.Name, vf)] = true
			}
		}
	}
}

// Judge judges the evidence by the groups' rules.
func Judge(e *Evidence, groups []Group) []findings.Finding {
	var all []findings.Finding
	JudgeEach(e, groups, func(some []findings.Finding) { all = append(all, some...) })
	findings.Sort(all)
	return all
}

// JudgeEach judges the evidence by the groups' rules, and hands over what it finds some
// at a time and in no particular order, for who doesn't want all of it at once: of a
// thousand NICs it is more than sixty thousand findings. A slice that was handed over is
// written on again afterwards: with copies what it keeps.
func JudgeEach(e *Evidence, groups []Group, with func([]findings.Finding)) {
	for _, g := range groups {
		g.judge(e, with)
	}
}

// nic is a NIC as the rules see it.
type nic struct {
	*inventory.NIC
	evidence *Evidence
	// lost is set on one that the earlier look saw, and the later didn't.
	lost bool
}

// Subject is the NIC's identity.
func (n nic) Subject() findings.Subject { return findings.NICSubject(&n.evidence.Host, n.NIC) }

// lost are the NICs of the earlier look that the host no longer has, by their ID,
// whatever they are called now.
func (e *Evidence) lost() []inventory.NIC {
	if e.Earlier == nil {
		return nil
	}
	here := map[string]bool{}
	all := e.All()
	for i := range all {
		here[all[i].ID()] = true
	}
	var lost []inventory.NIC
	for i := range e.Earlier.NICs {
		if n := &e.Earlier.NICs[i]; !here[n.ID()] {
			lost = append(lost, *n)
		}
	}
	return lost
}

// left finds out which NICs are no longer in the list of devices, and whether their
// hardware is still there: one that was given to a container, or has no driver any
// more, did not leave its bus. A driver's word that there is no such device counts for
// nothing: many say so of what they don't have, a PHY for instance.
func left(ctx context.Context, r kernel.Reader, e *Evidence) map[string]bool {
	gone := e.lost()
	var doubtful []inventory.NIC
	for _, n := range e.NICs {
		if slices.ContainsFunc(n.Unread, wentAway) {
			doubtful = append(doubtful, n)
		}
	}
	if len(doubtful) > 0 {
		if now, err := inventory.ReadStatistics(ctx, r); err == nil {
			gone = append(gone, slices.DeleteFunc(doubtful, func(n inventory.NIC) bool {
				return slices.ContainsFunc(now, func(s inventory.Statistics) bool { return s.Index == n.Index })
			})...)
		}
	}
	type listed struct {
		devices []string
		err     error
	}
	all, buses := map[string]bool{}, map[string]listed{}
	for _, n := range gone {
		var bus, address string
		switch {
		case n.PCI != nil:
			bus, address = "pci", n.PCI.Address
		case n.Parent != nil:
			bus, address = n.Parent.Bus, n.Parent.Address
		default:
			continue // a software device
		}
		there, read := buses[bus]
		if !read {
			there.devices, there.err = r.ReadDir(ctx, BusDevices(bus))
			buses[bus] = there
		}
		// A bus that could not be read tells nothing of what left it.
		all[n.ID()] = slices.Contains(there.devices, address) || there.err != nil && !errors.Is(there.err, fs.ErrNotExist)
	}
	return all
}

// BusDevices is the directory of a bus's devices ("pci"), by which a NIC that went away
// is judged.
func BusDevices(bus string) string { return "/sys/bus/" + bus + "/devices" }

// wentAway reports whether the kernel said that there is no such device.
func wentAway(u inventory.Unread) bool { return u.Reason == inventory.Gone }

func allLinkRules() []findings.Rule[nic] { return append(linkRules(), goneRule()) }

// links judges each NIC, and says of those that went away that they did.
func links(e *Evidence, with func([]findings.Finding)) {
	perNIC(allLinkRules)(e, with)
	lost := e.lost()
	for i := range lost {
		if n := (nic{NIC: &lost[i], evidence: e, lost: true}); n.Function != inventory.Virtual { // those come and go
			with(findings.Judge([]findings.Rule[nic]{goneRule()}, n))
		}
	}
}

// vfs judges PFs and VFs, which are compared with all of the host.
func vfs(e *Evidence, with func([]findings.Finding)) {
	whole := &e.Inventory
	if e.whole != nil {
		whole = e.whole
	}
	var earlier *sriov.Earlier
	if e.Earlier != nil {
		earlier = &sriov.Earlier{PFs: e.Earlier.PFs, Ago: e.Watched()}
	}
	with(sriov.Judge(e.PFs, whole, earlier, e.Migratable))
}

// perNIC judges each NIC by rules.
func perNIC(rules func() []findings.Rule[nic]) judge {
	return func(e *Evidence, with func([]findings.Finding)) {
		made := rules()
		var some []findings.Finding
		for i := range e.NICs {
			some = findings.AppendJudged(some[:0], made, nic{NIC: &e.NICs[i], evidence: e})
			with(some)
		}
	}
}

// All are all NICs of the host, also where only some are judged.
func (e *Evidence) All() []inventory.NIC {
	if e.whole != nil {
		return e.whole.NICs
	}
	return e.NICs
}

// XDPFacts are what package xdpcheck judges.
func (e *Evidence) XDPFacts() *xdpcheck.Facts { return xdpcheck.Of(&e.Host, e.All(), e.Unread, e.XDP) }

// perXDP judges each NIC by the rules of package xdpcheck.
func perXDP(rules func() []findings.Rule[xdpcheck.NIC]) judge {
	return func(e *Evidence, with func([]findings.Finding)) {
		made := rules()
		facts := e.XDPFacts()
		var some []findings.Finding
		for i := range e.NICs {
			if n, ok := facts.Named(e.NICs[i].Name); ok {
				some = findings.AppendJudged(some[:0], made, n)
				with(some)
			}
		}
	}
}
