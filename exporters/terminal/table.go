// Package terminal draws an inventory for people: as a table in the manner of
// kubectl, or as a tree in the manner of lstopo.
//
// It renders what it is given and asks nobody anything. A fact that is not known
// is a dash, never a zero.
package terminal

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/nictune/nictune/inventory"
)

// unknown stands for a fact that is absent.
const unknown = "-"

// column is one column of the table.
type column struct {
	title string
	wide  bool // only in the wide table
	cell  func(*inventory.NIC) string
}

func columns() []column {
	return []column{
		{"NAME", false, func(n *inventory.NIC) string { return n.Name }},
		{"KIND", false, func(n *inventory.NIC) string { return string(n.Function) }},
		{"DRIVER", false, driver},
		{"ADDRESS", false, address},
		{"NUMA", false, node},
		{"STATE", false, state},
		{"SPEED", false, speed},
		{"MTU", false, func(n *inventory.NIC) string { return number(n.Link.MTU) }},
		{"QUEUES", false, queues},
		{"RINGS", false, rings},
		{"MAC", false, func(n *inventory.NIC) string { return n.MAC }},
		{"MASTER", false, func(n *inventory.NIC) string { return n.Stack.Master }},
		{"MODEL", false, model},
		{"FIRMWARE", true, firmware},
		{"IOMMU", true, iommuGroup},
		{"PCIE", true, pcie},
		{"IRQS", true, func(n *inventory.NIC) string { return count(len(n.IRQs)) }},
		{"FEC", true, fec},
		{"XDP", true, xdp},
		{"ALTNAMES", true, func(n *inventory.NIC) string { return strings.Join(n.AltNames, ",") }},
	}
}

// Table writes one line for each NIC. The wide one has more columns.
func Table(w io.Writer, nics []inventory.NIC, wide bool) error {
	table := columns()
	if !wide {
		table = slices.DeleteFunc(table, func(c column) bool { return c.wide })
	}
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	cells := make([]string, len(table))
	for i, c := range table {
		cells[i] = c.title
	}
	fmt.Fprintln(tw, strings.Join(cells, "\t"))
	for i := range nics {
		for j, c := range table {
			cells[j] = cmp.Or(printable(c.cell(&nics[i])), unknown)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// printable keeps what a device or its firmware calls itself from moving the
// cursor or breaking the line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// driver is the driver's name. A software device is known by its type: what it
// gives as its driver is a sentence at times.
func driver(n *inventory.NIC) string {
	if n.Driver != nil && n.Function != inventory.Virtual {
		return n.Driver.Name
	}
	return n.Type
}

func firmware(n *inventory.NIC) string {
	if n.Driver != nil {
		return n.Driver.Firmware
	}
	return ""
}

func address(n *inventory.NIC) string {
	switch {
	case n.PCI != nil:
		return n.PCI.Address
	case n.Parent != nil:
		return n.Parent.Address
	}
	return ""
}

func node(n *inventory.NIC) string {
	if n.NUMA != nil {
		return number(n.NUMA.Node)
	}
	return ""
}

// state is the operational state, and tells a device that was switched off from
// one whose link is down.
func state(n *inventory.NIC) string {
	if n.Link.Admin == "down" {
		return "admin-down"
	}
	return n.Link.Oper
}

func speed(n *inventory.NIC) string {
	if n.Link.SpeedMbps == nil {
		return ""
	}
	mbps := *n.Link.SpeedMbps
	if mbps >= 1000 {
		return strconv.FormatFloat(float64(mbps)/1000, 'g', -1, 64) + "G"
	}
	return strconv.Itoa(mbps) + "M"
}

// queues are the channels in use out of those that are possible, "8/16", or rx
// and tx apart where the device has them apart.
func queues(n *inventory.NIC) string {
	c := n.Queues.Channels
	if c == nil {
		if n.Queues.RX == nil || n.Queues.TX == nil {
			return ""
		}
		return fmt.Sprintf("rx %d tx %d", *n.Queues.RX, *n.Queues.TX)
	}
	var parts []string
	add := func(name string, c *inventory.ChannelCount) {
		if c != nil {
			parts = append(parts, fmt.Sprintf("%s%d/%d", name, c.Current, c.Maximum))
		}
	}
	add("", c.Combined)
	add("rx ", c.RX)
	add("tx ", c.TX)
	return strings.Join(parts, " ")
}

// rings are the sizes in use, "rx 256/4096 tx 256/4096".
func rings(n *inventory.NIC) string {
	r := n.Queues.Rings
	if r == nil {
		return ""
	}
	var parts []string
	add := func(name string, s *inventory.RingSize) {
		if s != nil {
			parts = append(parts, fmt.Sprintf("%s %d/%d", name, s.Current, s.Maximum))
		}
	}
	add("rx", r.RX)
	add("tx", r.TX)
	return strings.Join(parts, " ")
}

func model(n *inventory.NIC) string {
	if n.PCI == nil {
		return ""
	}
	return cmp.Or(n.PCI.Device, n.PCI.VendorID+":"+n.PCI.DeviceID)
}

func iommuGroup(n *inventory.NIC) string {
	if n.IOMMU == nil {
		return ""
	}
	return strconv.Itoa(n.IOMMU.Group)
}

// pcie is the function's own link, with what it could be where that is more, and
// the hop that narrows the path.
func pcie(n *inventory.NIC) string {
	if n.PCI == nil || n.PCI.Link == nil {
		return ""
	}
	s := linkRate(n.PCI.Link)
	if n.PCI.Bottleneck != "" && n.PCI.Bottleneck != n.PCI.Address {
		s += ", narrow at " + n.PCI.Bottleneck
	}
	return s
}

func fec(n *inventory.NIC) string {
	if n.Link.FEC == nil {
		return ""
	}
	return n.Link.FEC.Active
}

func xdp(n *inventory.NIC) string {
	var parts []string
	for _, p := range n.Offloads.XDP {
		parts = append(parts, fmt.Sprintf("%s id %d", p.Mode, p.ID))
	}
	return strings.Join(parts, ",")
}

func number(p *int) string {
	if p == nil {
		return ""
	}
	return strconv.Itoa(*p)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
