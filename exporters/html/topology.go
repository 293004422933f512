package html

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/inventory"
)

// The picture's measures, in the units of its view box: about a pixel each.
const (
	nodeWidth = 92
	hopWidth  = 116
	hopHeight = 36
	// emptyHeight is that of a memory node without a NIC: two lines.
	emptyHeight = 44
	nicWidth    = 252
	nicHeight   = 64
	vfsWidth    = 316
	rowGap      = 12
	// A wire that has a link's rate written on it needs more room.
	plainGap = 26
	ratedGap = 96

	square     = 9
	squareStep = 11
	perRow     = 28
	// mostSquares is how many VFs of a port are drawn one by one.
	mostSquares = 4 * perRow
)

// picture is the host as a drawing: memory nodes, PCIe hops, NICs, VFs.
type picture struct {
	Width, Height int
	Boxes         []box
	Wires         []wire
	Ports         []port
	// Words are the same for those who can't see it.
	Words []*place
	// Left are the devices that stand on no hardware.
	Left string
	// VFs, Narrow and Shared say what the legend has to explain.
	VFs, Narrow, Shared bool
}

// box is a memory node or a hop.
type box struct {
	X, Y, Width, Height int
	Lines               []line
	Title               string
}

// line is a line of text in the picture.
type line struct {
	X, Y  int
	Text  string
	Class string
	End   bool
}

// wire is a link between two boxes.
type wire struct {
	Path   string
	Width  float64
	Narrow bool
	Lines  []line
	Title  string
}

// port is a NIC with its virtual functions.
type port struct {
	box
	// NIC is the number of the row that the table of NICs has on it.
	NIC     int
	State   string // "up", "down", "off", or "" where it isn't known
	CX, CY  int
	Squares []vfSquare
	Notes   []line
}

type vfSquare struct {
	X, Y         int
	Class, Title string
}

// place is a branch of the tree of where things are.
type place struct {
	key, Text string
	hop       *inventory.PCIHop
	nic       *nic
	Below     []*place

	x, y, depth int
}

func (p *place) below(key string, grow func() *place) *place {
	for _, c := range p.Below {
		if c.key == key {
			return c
		}
	}
	c := grow()
	c.key = key
	p.Below = append(p.Below, c)
	return c
}

// draw draws the NICs that are hardware. VFs whose port is here are drawn with it.
func draw(nics []nic, nodes []inventory.NUMANode) *picture {
	pic := &picture{}
	root := &place{}
	// A node without a NIC is part of the picture, too: there may be too many on the other.
	if len(nodes) > 1 {
		for i := range nodes {
			root.below(nodeKey(&nodes[i].ID), func() *place { return &place{Text: nodeWords(&nodes[i].ID, nodes)} })
		}
	}
	var left []string
	for i := range nics {
		n := &nics[i]
		if n.Where != hardware {
			if n.Where == software {
				left = append(left, n.Label)
			}
			continue
		}
		at := root.below(nodeKey(n.NUMANode), func() *place { return &place{Text: nodeWords(n.NUMANode, nodes)} })
		if n.PCI != nil {
			for j := range n.PCI.Path {
				hop := &n.PCI.Path[j]
				at = at.below("p"+hop.Address, func() *place { return &place{Text: hopWords(hop), hop: hop} })
			}
		}
		at.below(fmt.Sprintf("q%s %06d", addressOf(n), i), func() *place { return &place{Text: n.words(), nic: n} })
	}
	pic.Left = listed(left, 12)
	root.sort()
	pic.Words = root.Below
	pic.lay(root)
	return pic
}

func (p *place) sort() {
	slices.SortStableFunc(p.Below, func(a, b *place) int { return cmp.Compare(a.key, b.key) })
	for _, c := range p.Below {
		c.sort()
	}
}

// unknownNode comes after all numbers.
const unknownNode = "~"

func nodeKey(id *int) string {
	if id == nil {
		return unknownNode
	}
	return fmt.Sprintf("n%09d", *id)
}

func nodeWords(id *int, nodes []inventory.NUMANode) string {
	if id == nil {
		return "no NUMA node known"
	}
	text := "NUMA node " + strconv.Itoa(*id)
	for i := range nodes {
		if nodes[i].ID == *id && nodes[i].CPUs != "" {
			text += ", CPUs " + nodes[i].CPUs
		}
	}
	return text
}

func hopWords(hop *inventory.PCIHop) string {
	parts := []string{hop.Address, strings.ReplaceAll(hop.Kind, "-", " "), hop.Name}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

func addressOf(n *nic) string {
	if n.PCI != nil {
		return n.PCI.Address
	}
	return n.ID
}

// lay gives everything its place: columns by depth, rows by NIC.
func (pic *picture) lay(root *place) {
	deepest := 0
	gaps := map[int]int{} // before the column of hops of that depth; the last is before the NICs
	var measure func(p *place, depth int)
	measure = func(p *place, depth int) {
		p.depth = depth
		if p.hop != nil {
			deepest = max(deepest, depth)
		}
		for _, c := range p.Below {
			if c.hop != nil {
				gap := plainGap
				if rateAbove(p, c) != nil {
					gap = ratedGap
				}
				gaps[depth+1] = max(gaps[depth+1], gap)
			}
			measure(c, depth+1)
		}
	}
	measure(root, 0)
	// Depth 1 are the nodes.
	columns := map[int]int{1: 0}
	x := nodeWidth
	for depth := 2; depth <= deepest; depth++ {
		x += gaps[depth]
		columns[depth] = x
		x += hopWidth
	}
	nicX := x + ratedGap
	pic.Width = nicX + nicWidth
	y := 1
	for _, node := range root.Below {
		top := y
		if len(node.Below) == 0 {
			y += emptyHeight + rowGap
		}
		pic.place(node, columns, nicX, &y)
		height := y - rowGap - top
		name, _, _ := strings.Cut(node.Text, ",")
		words := []line{{X: 10, Y: top + 20, Text: short(strings.TrimPrefix(name, "NUMA "), 12), Class: "strong"}}
		switch {
		case node.key == unknownNode:
			words = []line{{X: 10, Y: top + 20, Text: "NUMA node", Class: "dim"}, {X: 10, Y: top + 34, Text: "not known", Class: "dim"}}
		case len(node.Below) == 0:
			words = append(words, line{X: 10, Y: top + 34, Text: "no NIC", Class: "dim"})
		}
		pic.Boxes = append(pic.Boxes, box{X: 1, Y: top, Width: nodeWidth - 2, Height: max(height, emptyHeight), Lines: words, Title: node.Text})
	}
	pic.Height = max(y-rowGap+2, 1)
	if pic.VFs {
		pic.Width += plainGap/2 + vfsWidth
	}
}

// place places what is below p from *y on, and moves *y below it.
func (pic *picture) place(p *place, columns map[int]int, nicX int, y *int) {
	if p.nic != nil {
		pic.port(p, nicX, y)
		return
	}
	top := *y
	for _, c := range p.Below {
		pic.place(c, columns, nicX, y)
	}
	if p.hop != nil {
		first, last := p.Below[0], p.Below[len(p.Below)-1]
		p.x, p.y = columns[p.depth], (first.y+last.y)/2
		pic.Boxes = append(pic.Boxes, box{
			X: p.x, Y: p.y - hopHeight/2, Width: hopWidth, Height: hopHeight, Title: p.Text,
			Lines: []line{
				{X: p.x + 8, Y: p.y - 3, Text: short(p.hop.Address, 16), Class: "mono"},
				{X: p.x + 8, Y: p.y + 11, Text: short(strings.ReplaceAll(p.hop.Kind, "-", " "), 18), Class: "dim"},
			},
		})
		for _, c := range p.Below {
			pic.wire(p.x+hopWidth, p.y, p, c)
		}
		return
	}
	// A memory node reaches over all its rows: its wires are straight.
	for _, c := range p.Below {
		pic.wire(nodeWidth-1, min(max(c.y, top), *y), p, c)
	}
}

// rateAbove is the link between a place and one below it. Its rate is read at its
// lower end where that has one, else at the port above. Within a switch, and on the
// root bus, there is none.
func rateAbove(above, p *place) *inventory.PCIeLink {
	if p.nic != nil && p.nic.PCI != nil && p.nic.PCI.Link != nil {
		if above.hop == nil {
			return nil
		}
		return p.nic.PCI.Link
	}
	if above.hop == nil || p.hop != nil && p.hop.Kind == "downstream-port" {
		return nil
	}
	if p.hop != nil && p.hop.Link != nil {
		return p.hop.Link
	}
	return above.hop.Link
}

// wire draws the link to a place that has been placed.
func (pic *picture) wire(x, y int, above, p *place) {
	w := wire{Path: fmt.Sprintf("M%d %dH%dV%dH%d", x, y, x+10, p.y, p.x), Width: 1.5}
	link := rateAbove(above, p)
	if link != nil {
		if now := link.Current; now != nil {
			w.Width = 1.5 + float64(min(now.Width, 32))/6
			w.Lines = append(w.Lines, line{X: p.x - 6, Y: p.y - 6, Text: rateWords(now), Class: "dim", End: true})
			if most := link.Maximum; most != nil && most.GBs > now.GBs {
				w.Lines = append(w.Lines, line{X: p.x - 6, Y: p.y + 15, Text: "of " + rateWords(most), Class: "dim", End: true})
			}
			w.Title = rateWords(now) + ": " + decimal(now.GBs) + " GB/s"
		} else {
			w.Lines = append(w.Lines, line{X: p.x - 6, Y: p.y - 6, Text: "rate not known", Class: "dim", End: true})
		}
	}
	if tight := narrowBelow(p); tight != nil {
		w.Narrow, pic.Narrow = true, true
		w.Lines = append(w.Lines, line{X: p.x - 6, Y: p.y + 28, Text: "▲ too narrow", Class: "bad", End: true})
		w.Title = strings.Join(slices.DeleteFunc([]string{w.Title, tightWords(tight)}, func(s string) bool { return s == "" }), "; ")
	}
	pic.Wires = append(pic.Wires, w)
}

// narrowBelow is the passage at whose upper end p stands, where a NIC below needs
// more than it carries.
func narrowBelow(p *place) *audit.Passage {
	address := ""
	switch {
	case p.hop != nil:
		address = p.hop.Address
	case p.nic != nil && p.nic.PCI != nil:
		address = p.nic.PCI.Address
	}
	var look func(*place) *audit.Passage
	look = func(below *place) *audit.Passage {
		if below.nic != nil {
			if t := below.nic.Narrow; t != nil && t.Address == address {
				return t
			}
		}
		for _, c := range below.Below {
			if t := look(c); t != nil {
				return t
			}
		}
		return nil
	}
	return look(p)
}

// port draws a NIC and its virtual functions.
func (pic *picture) port(p *place, x int, y *int) {
	n, top := p.nic, *y
	height := nicHeight
	vfX := x + nicWidth + plainGap/2
	var squares []vfSquare
	var notes []line
	if n.VFs != "" {
		pic.VFs = true
		notes = append(notes, line{X: vfX, Y: top + 14, Text: short(n.VFs, 52)})
		at := top + 22
		if n.SRIOV != nil {
			vfs := n.SRIOV.VFs
			for i := range vfs[:min(len(vfs), mostSquares)] {
				squares = append(squares, vfSquare{
					X: vfX + i%perRow*squareStep, Y: at + i/perRow*squareStep, Class: vfClass(&vfs[i]), Title: vfWords(&vfs[i]),
				})
			}
			if drawn := len(squares); drawn > 0 {
				at += (drawn + perRow - 1) / perRow * squareStep
			}
			if more := len(vfs) - mostSquares; more > 0 {
				notes = append(notes, line{X: vfX, Y: at + 12, Text: fmt.Sprintf("and %d more", more), Class: "dim"})
				at += 14
			}
			if n.UsedBy != "" {
				notes = append(notes, line{X: vfX, Y: at + 12, Text: short(n.UsedBy, 56), Class: "dim"})
				at += 14
			}
			if shared := sharedVFs(vfs); shared != "" {
				pic.Shared = true
				notes = append(notes, line{X: vfX, Y: at + 12, Text: short(shared, 52), Class: "bad"})
				at += 14
			}
		}
		height = max(height, at-top+2)
	}
	p.x, p.y = x, top+nicHeight/2
	right := x + nicWidth - 10
	lines := []line{
		{X: x + 26, Y: top + 19, Text: short(n.Label, 18), Class: "strong"},
		{X: right, Y: top + 19, Text: short(n.Speed, 20), End: true},
		{X: x + 10, Y: top + 37, Text: short(strings.Join(n.Below, " · "), 34), Class: "mono"},
		{X: x + 10, Y: top + 54, Text: short(n.Device, 40), Class: "dim"},
	}
	if n.IOMMU != nil && n.IOMMU.Shared {
		pic.Shared = true
		lines[3] = line{X: x + 10, Y: top + 54, Text: "▲ shares IOMMU group " + strconv.Itoa(n.IOMMU.Group), Class: "bad"}
	}
	pic.Ports = append(pic.Ports, port{
		box: box{X: x, Y: top, Width: nicWidth - 1, Height: nicHeight, Lines: lines, Title: n.words()},
		NIC: n.Number, State: n.State, CX: x + 16, CY: top + 15, Squares: squares, Notes: notes,
	})
	*y += height + rowGap
}

// vfClass is how a VF is drawn.
func vfClass(vf *audit.VFSummary) string {
	class := "vf"
	if len(vf.Users) > 0 {
		class += " used"
	}
	if vf.IOMMU != nil && vf.IOMMU.Shared {
		class += " shared"
	}
	return class
}

func vfWords(vf *audit.VFSummary) string {
	parts := []string{"VF " + strconv.Itoa(vf.Index), vf.Address, cmp.Or(vf.Driver, "no driver")}
	if vf.IOMMU != nil {
		parts = append(parts, "IOMMU group "+strconv.Itoa(vf.IOMMU.Group))
	}
	parts = append(parts, vf.Users...)
	if vf.UsersUnread != "" {
		parts = append(parts, "users not known: "+vf.UsersUnread)
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " · ")
}

// sharedVFs says which VFs aren't alone in their IOMMU group.
func sharedVFs(vfs []audit.VFSummary) string {
	groups := map[int]bool{}
	shared := 0
	for i := range vfs {
		if g := vfs[i].IOMMU; g != nil && g.Shared {
			shared++
			groups[g.Group] = true
		}
	}
	if shared == 0 {
		return ""
	}
	return fmt.Sprintf("▲ %s in %s", count(shared, "VF", "VFs"), count(len(groups), "shared IOMMU group", "shared IOMMU groups"))
}

// rateWords are a link's speed and width as lspci prints them.
func rateWords(r *inventory.PCIeRate) string {
	return fmt.Sprintf("%s GT/s x%d", decimal(r.GTs), r.Width)
}

func tightWords(t *audit.Passage) string {
	text := fmt.Sprintf("%s %s carries %s GB/s", t.Kind, t.Address, decimal(t.UsableGBs))
	if t.NeededGBs != nil {
		text += fmt.Sprintf(", %s need %s GB/s", count(t.Ports, "port", "ports"), decimal(*t.NeededGBs))
	}
	return text
}
