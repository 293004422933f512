package terminal

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// VFs writes one line for each PF and, below, one for each VF. The wide tables
// have more columns.
func VFs(w io.Writer, pfs []sriov.PF, wide bool) error {
	rows := make([]*sriov.PF, len(pfs))
	var vfs []vfRow
	for i := range pfs {
		rows[i] = &pfs[i]
		for j := range pfs[i].VFs {
			vfs = append(vfs, vfRow{&pfs[i], &pfs[i].VFs[j]})
		}
	}
	if len(pfs) == 0 {
		_, err := fmt.Fprintln(w, "No device here can have virtual functions.")
		return err
	}
	if err := writeRows(w, pfColumns(), rows, wide); err != nil || len(vfs) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return writeRows(w, vfColumns(), vfs, wide)
}

// vfRow is a VF with its PF.
type vfRow struct {
	pf *sriov.PF
	vf *sriov.VF
}

// columnOf is one column of a table of Ts.
type columnOf[T any] struct {
	title string
	wide  bool // only in the wide table
	cell  func(T) string
}

func writeRows[T any](w io.Writer, columns []columnOf[T], rows []T, wide bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	var cells []string
	for _, c := range columns {
		if wide || !c.wide {
			cells = append(cells, c.title)
		}
	}
	fmt.Fprintln(tw, strings.Join(cells, "\t"))
	for _, row := range rows {
		cells = cells[:0]
		for _, c := range columns {
			if wide || !c.wide {
				cells = append(cells, cmp.Or(printable(c.cell(row)), unknown))
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

func pfColumns() []columnOf[*sriov.PF] {
	return []columnOf[*sriov.PF]{
		{"PF", false, func(pf *sriov.PF) string { return pf.Name }},
		{"ADDRESS", false, func(pf *sriov.PF) string { return pf.Address }},
		{"DRIVER", false, func(pf *sriov.PF) string { return pf.Driver }},
		{"VFS", false, enabledVFs},
		{"DEVICE-VFS", true, func(pf *sriov.PF) string {
			if pf.Device == nil {
				return ""
			}
			return strconv.Itoa(pf.Device.TotalVFs)
		}},
		{"AUTOPROBE", true, func(pf *sriov.PF) string { return onOff(pf.Autoprobe) }},
		{"MSIX-POOL", true, func(pf *sriov.PF) string { return number(pf.MSIXPool) }},
		{"ESWITCH", false, func(pf *sriov.PF) string {
			if pf.ESwitch == nil {
				return ""
			}
			return pf.ESwitch.Mode
		}},
		{"PEER-TO-PEER", false, peerToPeer},
		{"EAST-WEST", false, eastWest},
	}
}

func vfColumns() []columnOf[vfRow] {
	settings := func(cell func(*sriov.Settings) string) func(vfRow) string {
		return func(r vfRow) string {
			if r.vf.Settings == nil {
				return ""
			}
			return cell(r.vf.Settings)
		}
	}
	statistics := func(cell func(*sriov.Statistics) string) func(vfRow) string {
		return func(r vfRow) string {
			if r.vf.Statistics == nil {
				return ""
			}
			return cell(r.vf.Statistics)
		}
	}
	return []columnOf[vfRow]{
		{"PF", false, func(r vfRow) string { return pfName(r.pf) }},
		{"VF", false, func(r vfRow) string { return strconv.Itoa(r.vf.Index) }},
		{"ADDRESS", false, func(r vfRow) string { return r.vf.Address }},
		{"DRIVER", false, func(r vfRow) string { return vfDriver(r.vf) }},
		{"GROUP", false, func(r vfRow) string { return vfGroup(r.vf) }},
		{"NETDEV", false, func(r vfRow) string { return netdev(r.vf.Netdev) }},
		{"MAC", false, settings(func(s *sriov.Settings) string { return s.MAC })},
		{"MAC-IN-USE", true, func(r vfRow) string {
			if r.vf.Netdev == nil {
				return ""
			}
			return r.vf.Netdev.MAC
		}},
		{"VLAN", false, settings(vlans)},
		{"RATE", true, settings(txRate)},
		{"LINK", false, settings(func(s *sriov.Settings) string { return s.LinkState })},
		{"TRUST", false, settings(func(s *sriov.Settings) string { return onOff(s.Trust) })},
		{"SPOOFCHK", false, settings(func(s *sriov.Settings) string { return onOff(s.SpoofCheck) })},
		{"RSS-QUERY", true, settings(func(s *sriov.Settings) string { return onOff(s.QueryRSS) })},
		{"MSIX", true, func(r vfRow) string { return number(r.vf.MSIX) }},
		{"REPRESENTOR", true, func(r vfRow) string { return r.vf.Representor }},
		{"FUNCTION", true, portFunction},
		{"RX-PACKETS", true, statistics(func(s *sriov.Statistics) string { return strconv.FormatUint(s.RxPackets, 10) })},
		{"TX-PACKETS", true, statistics(func(s *sriov.Statistics) string { return strconv.FormatUint(s.TxPackets, 10) })},
		{"RX-DROPPED", true, statistics(func(s *sriov.Statistics) string { return strconv.FormatUint(s.RxDropped, 10) })},
		{"TX-DROPPED", true, statistics(func(s *sriov.Statistics) string { return strconv.FormatUint(s.TxDropped, 10) })},
		{"USERS", false, func(r vfRow) string { return users(r.vf) }},
	}
}

func pfName(pf *sriov.PF) string { return cmp.Or(pf.Name, pf.Address) }

// enabledVFs are the VFs enabled out of those that are possible, "2/7".
func enabledVFs(pf *sriov.PF) string {
	return cmp.Or(number(pf.NumVFs), unknown) + "/" + cmp.Or(number(pf.TotalVFs), unknown)
}

func peerToPeer(pf *sriov.PF) string {
	switch p := pf.PeerToPeer; {
	case p == nil || p.UpToRoot == nil:
		return ""
	case *p.UpToRoot:
		return "up-to-root"
	default:
		return "across-" + p.Shortcut
	}
}

// eastWest is what frames from VF to VF can get beside the port's line rate,
// "13.8G/10G at 0000:3b:00.0".
func eastWest(pf *sriov.PF) string {
	b := pf.Budget
	if b == nil {
		return ""
	}
	line := unknown
	if b.LineRateGbps != nil {
		line = strconv.FormatFloat(*b.LineRateGbps, 'g', 4, 64) + "G"
	}
	return fmt.Sprintf("%sG/%s at %s", strconv.FormatFloat(b.EastWestGbps, 'g', 4, 64), line, b.NarrowHop)
}

func vfDriver(vf *sriov.VF) string {
	if vf.DriverKind == sriov.DriverNone {
		return "none"
	}
	return vf.Driver
}

func vfGroup(vf *sriov.VF) string {
	if vf.IOMMU == nil {
		return ""
	}
	s := strconv.Itoa(vf.IOMMU.Number)
	if !vf.IOMMU.Own {
		s += " shared"
	}
	return s
}

// netdev is a VF's network device, "eth5", or "eth0 in blue" elsewhere.
func netdev(n *sriov.Netdev) string {
	if n == nil {
		return ""
	}
	if n.Namespace == nil {
		return n.Name
	}
	where := "another namespace"
	switch {
	case n.Namespace.Name != "":
		where = n.Namespace.Name
	case n.Namespace.ID != nil:
		where = "namespace " + strconv.Itoa(*n.Namespace.ID)
	}
	return cmp.Or(n.Name, "?") + " in " + where
}

func vlans(s *sriov.Settings) string {
	var parts []string
	for _, v := range s.VLANs {
		text := strconv.Itoa(v.ID)
		if v.QoS != 0 {
			text += " qos " + strconv.Itoa(v.QoS)
		}
		if v.Protocol == "802.1ad" {
			text += " " + v.Protocol
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ",")
}

// txRate is the guaranteed and the largest rate in Mbit/s, where one is set.
func txRate(s *sriov.Settings) string {
	var parts []string
	if s.MinTxRate != nil && *s.MinTxRate > 0 {
		parts = append(parts, fmt.Sprintf("min %dM", *s.MinTxRate))
	}
	if s.MaxTxRate != nil && *s.MaxTxRate > 0 {
		parts = append(parts, fmt.Sprintf("max %dM", *s.MaxTxRate))
	}
	return strings.Join(parts, " ")
}

func portFunction(r vfRow) string {
	f := r.vf.PortFunction
	if f == nil {
		return ""
	}
	return words(f.State, f.OpState, flagged("roce", f.RoCE), flagged("migratable", f.Migratable))
}

func flagged(name string, on *bool) string {
	if on == nil {
		return ""
	}
	return name + " " + onOff(on)
}

func onOff(on *bool) string {
	switch {
	case on == nil:
		return ""
	case *on:
		return "on"
	}
	return "off"
}

// users are who uses a VF: "vm web1 (pid 4711)", "bond bond0".
func users(vf *sriov.VF) string {
	var parts []string
	for _, u := range vf.Users {
		name := u.Name
		const shown = 12 // what docker ps shows of a container's id
		if u.Kind == "container" && len(name) == 64 {
			name = name[:shown]
		}
		text := u.Kind
		if name != "" {
			text += " " + name
		}
		if u.PID != nil {
			text += fmt.Sprintf(" (pid %d)", *u.PID)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// topology knows the VFs of a tree by their addresses.
type topology struct {
	pfs map[string]*sriov.PF // by the address of the PF and of each of its VFs
	// at are the branches of the PFs' functions; nil for one not drawn yet.
	at map[*sriov.PF]*branch
	// order are the PFs as the inventory has them.
	order []*sriov.PF
}

func newTopology(inv *sriov.Inventory) *topology {
	t := &topology{pfs: map[string]*sriov.PF{}, at: map[*sriov.PF]*branch{}}
	for i := range inv.PFs {
		pf := &inv.PFs[i]
		t.order = append(t.order, pf)
		t.pfs[pf.Address] = pf
		for _, vf := range pf.VFs {
			if vf.Address != "" {
				t.pfs[vf.Address] = pf
			}
		}
	}
	return t
}

// place is where a NIC hangs: below its device, and a VF's below its PF.
func (t *topology) place(root *branch, inv *inventory.Inventory, n *inventory.NIC) *branch {
	address := n.Parent.Address
	if n.PCI != nil {
		address = n.PCI.Address
	}
	pf := t.pfs[address]
	if pf == nil {
		return place(root, inv, n)
	}
	if pf.Address == address {
		at := place(root, inv, n)
		t.grow(pf, at)
		return at
	}
	at := t.at[pf]
	if at == nil {
		at = t.function(root, inv, pf, n)
	}
	t.grow(pf, at)
	for i := range pf.VFs {
		if pf.VFs[i].Address == address {
			return at.child(vfKey(&pf.VFs[i]), vfText(&pf.VFs[i]))
		}
	}
	return at
}

// function draws a PF: as its own NIC has it, or where that isn't shown as far as
// its VF's tells. Both lie on the same path.
func (t *topology) function(root *branch, inv *inventory.Inventory, pf *sriov.PF, vf *inventory.NIC) *branch {
	for i := range inv.NICs {
		if n := &inv.NICs[i]; n.PCI != nil && n.PCI.Address == pf.Address {
			return place(root, inv, n)
		}
	}
	return above(root, inv, vf).child("p"+pf.Address, functionText(pf))
}

func functionText(pf *sriov.PF) string { return words(pf.Address, pf.Driver, "VFs "+enabledVFs(pf)) }

// grow hangs a PF's VFs below its function.
func (t *topology) grow(pf *sriov.PF, at *branch) {
	if t.at[pf] != nil {
		return
	}
	t.at[pf] = at
	for i := range pf.VFs {
		at.child(vfKey(&pf.VFs[i]), vfText(&pf.VFs[i]))
	}
}

// rest draws the PFs that no network device led to.
func (t *topology) rest(root *branch) {
	for _, pf := range t.order {
		if t.at[pf] == nil {
			t.grow(pf, root.child("p"+pf.Address, functionText(pf)))
		}
	}
}

func vfKey(vf *sriov.VF) string { return fmt.Sprintf("v%06d", vf.Index) }

// vfText is a VF in the tree.
func vfText(vf *sriov.VF) string {
	group, representor := "", ""
	if vf.IOMMU != nil {
		group = "IOMMU group " + strconv.Itoa(vf.IOMMU.Number)
		if !vf.IOMMU.Own {
			group += " with " + strings.Join(vf.IOMMU.Members, " ")
		}
	}
	if vf.Representor != "" {
		representor = "representor " + vf.Representor
	}
	elsewhere := ""
	if vf.Netdev != nil && vf.Netdev.Namespace != nil {
		elsewhere = netdev(vf.Netdev)
	}
	used := ""
	if u := users(vf); u != "" {
		used = "<- " + u
	}
	driver := vfDriver(vf)
	if driver == "none" {
		driver = "no driver"
	}
	return words(fmt.Sprintf("VF %d", vf.Index), vf.Address, driver, group, elsewhere, representor, used)
}
