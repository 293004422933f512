package terminal

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// branch is a line of the tree with what hangs below it.
type branch struct {
	text string
	// key orders a branch among its siblings and finds it again.
	key      string
	children []*branch
}

// child finds the branch with a key below b, or hangs a new one there.
func (b *branch) child(key, text string) *branch {
	for _, c := range b.children {
		if c.key == key {
			return c
		}
	}
	c := &branch{key: key, text: text}
	b.children = append(b.children, c)
	return c
}

// Tree draws where the NICs are: NUMA node, PCI path, function, network device,
// and what is stacked on it. Where VFs were asked for they hang below their PF,
// each with its group, driver and users.
func Tree(w io.Writer, inv *sriov.Inventory) error {
	root := &branch{text: host(&inv.Host)}
	topology := newTopology(inv)
	byName := make(map[string]*inventory.NIC, len(inv.NICs))
	for i := range inv.NICs {
		byName[inv.NICs[i].Name] = &inv.NICs[i]
	}
	drawn := map[string]bool{}
	for i := range inv.NICs {
		n := &inv.NICs[i]
		if n.Parent == nil {
			continue
		}
		hang(topology.place(root, &inv.Inventory, n), n, byName, drawn)
	}
	topology.rest(root)
	// What is left stands on no hardware that is seen here.
	for i := range inv.NICs {
		n := &inv.NICs[i]
		if !drawn[n.Name] && len(n.Stack.Lower) == 0 {
			hang(root.child("z", "software devices"), n, byName, drawn)
		}
	}
	for i := range inv.NICs {
		if n := &inv.NICs[i]; !drawn[n.Name] { // a loop of devices stacked on each other
			hang(root.child("z", "software devices"), n, byName, drawn)
		}
	}
	return draw(w, root, "", "")
}

// place walks down to the branch of a NIC's device and grows it where needed.
func place(root *branch, inv *inventory.Inventory, n *inventory.NIC) *branch {
	at := above(root, inv, n)
	if n.PCI == nil {
		return at.child("p"+n.Parent.Bus+n.Parent.Address, n.Parent.Bus+" "+n.Parent.Address)
	}
	return at.child("p"+n.PCI.Address, words(
		n.PCI.Address, cmp.Or(n.PCI.Device, n.PCI.VendorID+":"+n.PCI.DeviceID),
		linkRate(n.PCI.Link), bottleneck(n.PCI, n.PCI.Address), group(n.IOMMU), vfs(n.PCI)))
}

// above is the branch that a NIC's device hangs on: its NUMA node and the hops of
// its PCI path.
func above(root *branch, inv *inventory.Inventory, n *inventory.NIC) *branch {
	at := root
	if n.NUMA != nil && n.NUMA.Node != nil {
		id := *n.NUMA.Node
		at = at.child(fmt.Sprintf("n%06d", id), numaNode(inv, id))
	} else if len(inv.Host.Nodes) > 1 {
		at = at.child("n~", "no NUMA node")
	}
	if n.PCI == nil {
		return at
	}
	for _, hop := range n.PCI.Path {
		at = at.child("p"+hop.Address, words(hop.Address, hop.Kind, hop.Name, linkRate(hop.Link), bottleneck(n.PCI, hop.Address)))
	}
	return at
}

// hang adds a NIC and all that is stacked on it.
func hang(at *branch, n *inventory.NIC, byName map[string]*inventory.NIC, drawn map[string]bool) {
	again := drawn[n.Name]
	drawn[n.Name] = true
	b := at.child(fmt.Sprintf("d%09d", n.Index), words(n.Name, string(n.Function), driver(n), state(n), speed(n), queues(n), ""))
	if again {
		return // its own stack is drawn already; this also ends a loop
	}
	for _, name := range n.Stack.Upper {
		if up := byName[name]; up != nil {
			hang(b, up, byName, drawn)
		}
	}
}

func draw(w io.Writer, b *branch, first, rest string) error {
	if _, err := fmt.Fprintln(w, first+printable(b.text)); err != nil {
		return err
	}
	slices.SortStableFunc(b.children, func(a, b *branch) int { return cmp.Compare(a.key, b.key) })
	for i, c := range b.children {
		fork, bar := "├─ ", "│  "
		if i == len(b.children)-1 {
			fork, bar = "└─ ", "   "
		}
		if err := draw(w, c, rest+fork, rest+bar); err != nil {
			return err
		}
	}
	return nil
}

// words joins what is known with two blanks.
func words(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "  ")
}

func host(h *inventory.Host) string {
	iommu := ""
	switch {
	case len(h.IOMMU.Units) > 0:
		iommu = "IOMMU " + strings.Join(h.IOMMU.Units, " ") + domains(h.IOMMU.Types)
	case h.IOMMU.Groups != nil && *h.IOMMU.Groups == 0:
		iommu = "no IOMMU" // known to be absent, not merely unread
	}
	kernel := ""
	if h.Kernel != "" {
		kernel = "Linux " + h.Kernel
	}
	machine := ""
	if h.Machine != nil {
		machine = strings.TrimSpace(h.Machine.Vendor + " " + h.Machine.Product)
	}
	return words(cmp.Or(h.Hostname, "host"), machine, kernel, cpus(h.CPUs.Online), iommu)
}

// domains are the types of the IOMMU groups' domains, with how many groups have
// each where they differ.
func domains(types map[string]int) string {
	var parts []string
	for _, t := range slices.Sorted(maps.Keys(types)) {
		if len(types) == 1 {
			return " (" + t + ")"
		}
		parts = append(parts, fmt.Sprintf("%s %d", t, types[t]))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func numaNode(inv *inventory.Inventory, id int) string {
	text := "NUMA node " + strconv.Itoa(id)
	for _, n := range inv.Host.Nodes {
		if n.ID == id {
			memory := ""
			if n.MemoryBytes != nil {
				memory = fmt.Sprintf("%d MiB", *n.MemoryBytes>>20)
			}
			return words(text, cpus(n.CPUs), memory)
		}
	}
	return text
}

func cpus(list string) string {
	if list == "" {
		return ""
	}
	return "CPUs " + list
}

// linkRate is what a link runs at, and what it could run at where that is more.
func linkRate(l *inventory.PCIeLink) string {
	if l == nil || l.Current == nil {
		return ""
	}
	s := rate(l.Current)
	if l.Maximum != nil && *l.Maximum != *l.Current {
		s += " (max " + rate(l.Maximum) + ")"
	}
	return s
}

func rate(r *inventory.PCIeRate) string {
	return fmt.Sprintf("%s GT/s x%d %.2f GB/s", strconv.FormatFloat(r.GTs, 'g', -1, 64), r.Width, r.GBs)
}

// bottleneck marks the hop that narrows the path, where one is narrower than
// another.
func bottleneck(p *inventory.PCI, address string) string {
	if p.Bottleneck != address {
		return ""
	}
	rates := map[float64]bool{}
	for _, l := range append([]*inventory.PCIeLink{p.Link}, links(p.Path)...) {
		if l != nil && l.Current != nil {
			rates[l.Current.GBs] = true
		}
	}
	if len(rates) < 2 {
		return ""
	}
	return "<- narrowest hop"
}

func links(hops []inventory.PCIHop) []*inventory.PCIeLink {
	all := make([]*inventory.PCIeLink, len(hops))
	for i := range hops {
		all[i] = hops[i].Link
	}
	return all
}

func group(g *inventory.IOMMU) string {
	if g == nil {
		return ""
	}
	s := "IOMMU group " + strconv.Itoa(g.Group)
	if len(g.Members) > 0 {
		s += " with " + strings.Join(g.Members, " ")
	}
	return s
}

func vfs(p *inventory.PCI) string {
	if p.SRIOV == nil {
		return ""
	}
	return fmt.Sprintf("VFs %d/%d", p.SRIOV.NumVFs, p.SRIOV.TotalVFs)
}
