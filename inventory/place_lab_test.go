//go:build lab

package inventory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

// lspciFunction is what lspci and sysfs say about one PCI function.
type lspciFunction struct {
	fields  map[string]string // of lspci -vmmnnk: "Vendor", "SDevice", "NUMANode", ...
	express string            // of lspci -vv: "Root Port", "Endpoint", ""
	current string            // LnkSta: "2.5 x1"
	maximum string            // LnkCap; "" where the device names none
	irqs    []int
	irqsCut bool   // lspci did not print the last one
	msi     string // "msix" or "msi", whichever is enabled
}

func lspci(t *testing.T, address string) lspciFunction {
	t.Helper()
	f := lspciFunction{fields: map[string]string{}}
	for line := range strings.Lines(string(labtest.Run(t, "lspci", "-D", "-vmmnnk", "-s", address))) {
		if key, value, found := strings.Cut(line, ":"); found {
			f.fields[key] = strings.TrimSpace(value)
		}
	}
	verbose := string(labtest.Run(t, "lspci", "-D", "-vvnn", "-s", address))
	capture := func(pattern string) []string {
		return append(regexp.MustCompile(pattern).FindStringSubmatch(verbose), "", "", "")[1:]
	}
	f.express = capture(`Express \(v\d\) (Root Port|Upstream Port|Downstream Port|Endpoint|[\w ]+)`)[0]
	if m := capture(`LnkCap:.*Speed ([\d.]+)GT/s, Width x(\d+)`); m[1] != "" && m[1] != "0" {
		f.maximum = m[0] + " x" + m[1]
	}
	if m := capture(`LnkSta:\s+Speed ([\d.]+)GT/s[^,]*, Width x(\d+)`); m[1] != "" && m[1] != "0" {
		f.current = m[0] + " x" + m[1]
	}
	if m := capture(`MSI\(X\) routed to IRQ ([\d,-]+)`); m[0] != "" {
		// The same notation. lspci was seen to leave out the number behind the last comma
		// where vectors don't follow each other: "40-41," for 40, 41 and 51.
		var list string
		list, f.irqsCut = strings.CutSuffix(m[0], ",")
		set, err := inventory.ParseCPUSet(list)
		if err != nil {
			t.Fatal(err)
		}
		f.irqs = slices.Collect(set.All())
	} else if m := capture(`routed to IRQ (\d+)`); m[0] != "" {
		n, _ := strconv.Atoi(m[0])
		f.irqs = []int{n}
	}
	switch {
	case capture(`MSI-X: (Enable\+)`)[0] != "":
		f.msi = "msix"
	case capture(`MSI: (Enable\+)`)[0] != "":
		f.msi = "msi"
	}
	return f
}

// bracketed is the id in "82576 Gigabit Network Connection [10c9]", and what
// stands before it.
func bracketed(s string) (words, id string) {
	words, id, _ = strings.Cut(strings.TrimSuffix(s, "]"), "[")
	if at := strings.LastIndex(s, "["); at >= 0 {
		words, id = s[:at], strings.TrimSuffix(s[at+1:], "]")
	}
	words = strings.TrimSpace(words)
	if words == "Device" || words == "Vendor" { // lspci's words for what pci.ids lacks
		words = ""
	}
	return words, id
}

func rate(r *inventory.PCIeRate) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%g x%d", r.GTs, r.Width)
}

func rates(l *inventory.PCIeLink) (current, maximum string) {
	if l == nil {
		return "", ""
	}
	return rate(l.Current), rate(l.Maximum)
}

func text(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(data))
}

func number(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

// behind is the PCI function that sysfs has behind a network device.
func behind(t *testing.T, ifname string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks("/sys/class/net/" + ifname + "/device")
	if err != nil {
		t.Fatal(err)
	}
	for !regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`).MatchString(filepath.Base(dir)) {
		if dir = filepath.Dir(dir); len(dir) < 2 {
			t.Fatalf("%s has no PCI function", ifname)
		}
	}
	return filepath.Base(dir)
}

func readInventory(t *testing.T) (*inventory.Inventory, map[string]inventory.NIC) {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	inv, err := inventory.Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]inventory.NIC{}
	for _, n := range inv.NICs {
		byName[n.Name] = n
	}
	return inv, byName
}

// Every fact of a NIC's place agrees with lspci and sysfs.
func TestPlacesAgreeWithLspci(t *testing.T) {
	labtest.Require(t, "nics", "numa")
	drivers := map[string]int{"igb": 2, "e1000e": 1, "virtio_net": 1}
	if labtest.Profile() == "nics" {
		drivers["vmxnet3"] = 1
	}
	igb := labtest.NICs(t, "igb", 2)[0]
	numvfs := "/sys/class/net/" + igb + "/device/sriov_numvfs"
	if err := os.WriteFile(numvfs, []byte("2"), 0o200); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(numvfs, []byte("0"), 0o200); err != nil {
			t.Error(err)
		}
	})
	labtest.NICs(t, "igbvf", 2)
	drivers["igbvf"] = 2
	// A NIC has asked for its interrupts when it is up, and only then.
	for driver, count := range drivers {
		for i, name := range labtest.NICs(t, driver, count) {
			if i%2 == 0 {
				labtest.Run(t, "ip", "link", "set", name, "up")
			}
		}
	}
	_, nics := readInventory(t)
	for driver, count := range drivers {
		names := labtest.NICs(t, driver, count)
		for _, name := range names {
			t.Run(driver+"/"+name, func(t *testing.T) { comparePlace(t, nics[name], nics, igb) })
		}
	}
}

func comparePlace(t *testing.T, n inventory.NIC, nics map[string]inventory.NIC, withVFs string) {
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, lspci or sysfs says %q", what, got, want)
		}
	}
	address := behind(t, n.Name)
	if n.PCI == nil {
		t.Fatal("no PCI function")
	}
	theirs := lspci(t, address)
	dir := "/sys/bus/pci/devices/" + address
	pci := n.PCI

	check("address", pci.Address, address)
	vendorName, vendor := bracketed(theirs.fields["Vendor"])
	deviceName, device := bracketed(theirs.fields["Device"])
	subsystemName, subsystem := bracketed(theirs.fields["SDevice"])
	_, subvendor := bracketed(theirs.fields["SVendor"])
	_, class := bracketed(theirs.fields["Class"])
	check("vendor", pci.VendorID, vendor)
	check("vendor's name", pci.Vendor, vendorName)
	check("device", pci.DeviceID, device)
	check("device's name", pci.Device, deviceName)
	check("subsystem vendor", pci.SubsystemVendorID, subvendor)
	check("subsystem device", pci.SubsystemDeviceID, subsystem)
	check("subsystem's name", pci.Subsystem, subsystemName)
	check("class", pci.Class, class+cmpOr(theirs.fields["ProgIf"], "00"))
	check("revision", pci.Revision, cmpOr(theirs.fields["Rev"], "00"))

	// A VF has the link of its PF.
	linked, linkedAddress := theirs, address
	physfn, err := os.Readlink(dir + "/physfn")
	if err == nil {
		linkedAddress = filepath.Base(physfn)
		linked = lspci(t, linkedAddress)
		check("physical function", pci.PhysicalFunction, linkedAddress)
		target, _ := os.Readlink("/sys/bus/pci/devices/" + linkedAddress + "/virtfn" + number(pci.VFIndex))
		check("function at the VF's index", filepath.Base(target), address)
	} else {
		check("physical function", pci.PhysicalFunction, "")
	}
	current, maximum := rates(pci.Link)
	check("current link", current, linked.current)
	check("maximum link", maximum, linked.maximum)
	if n.Name == withVFs {
		check("VFs", fmt.Sprintf("%+v", *pci.SRIOV), "{TotalVFs:"+text(t, dir, "sriov_totalvfs")+" NumVFs:2}")
	} else if pci.SRIOV != nil {
		check("VFs", fmt.Sprintf("%+v", *pci.SRIOV), "{TotalVFs:"+text(t, dir, "sriov_totalvfs")+" NumVFs:0}")
	}

	// lspci -PP: "40:00.0/41:00.0 Ethernet controller ...".
	chain, _, _ := strings.Cut(string(labtest.Run(t, "lspci", "-D", "-PP", "-s", address)), " ")
	hops := strings.Split(chain, "/")
	hops = hops[:len(hops)-1]
	narrowest, least := "", 1e9
	if len(pci.Path) != len(hops) {
		t.Fatalf("path %+v, lspci says %s", pci.Path, chain)
	}
	consider := func(address, rate string) {
		var gts float64
		var width int
		if k, _ := fmt.Sscanf(rate, "%g x%d", &gts, &width); k == 2 && gts*float64(width) <= least {
			narrowest, least = address, gts*float64(width)
		}
	}
	for i, hop := range pci.Path {
		if !strings.HasSuffix(hop.Address, hops[i]) {
			t.Errorf("hop %d: %s, lspci says %s", i, hop.Address, hops[i])
		}
		bridge := lspci(t, hop.Address)
		name, id := bracketed(bridge.fields["Device"])
		_, vendor := bracketed(bridge.fields["Vendor"])
		check(hop.Address+" ids", hop.VendorID+":"+hop.DeviceID, vendor+":"+id)
		check(hop.Address+" name", hop.Name, name)
		check(hop.Address+" kind", hop.Kind, strings.ReplaceAll(strings.ToLower(bridge.express), " ", "-"))
		current, maximum := rates(hop.Link)
		check(hop.Address+" current link", current, bridge.current)
		check(hop.Address+" maximum link", maximum, bridge.maximum)
		consider(hop.Address, bridge.current)
	}
	consider(linkedAddress, linked.current)
	check("bottleneck", pci.Bottleneck, narrowest)

	if n.NUMA == nil {
		t.Error("no NUMA facts")
	} else {
		check("NUMA node", number(n.NUMA.Node), theirs.fields["NUMANode"])
		check("local CPUs", n.NUMA.LocalCPUs, text(t, dir, "local_cpulist"))
	}
	if n.IOMMU == nil {
		t.Error("no IOMMU group")
	} else {
		group := filepath.Join("/sys/kernel/iommu_groups", theirs.fields["IOMMUGroup"])
		check("IOMMU group", strconv.Itoa(n.IOMMU.Group), theirs.fields["IOMMUGroup"])
		check("IOMMU type", n.IOMMU.Type, text(t, group, "type"))
		devices, _ := filepath.Glob(group + "/devices/*")
		var others []string
		for _, d := range devices {
			if filepath.Base(d) != address {
				others = append(others, filepath.Base(d))
			}
		}
		check("IOMMU group's members", strings.Join(n.IOMMU.Members, " "), strings.Join(others, " "))
	}

	var irqs []int
	table := text(t, "/proc/interrupts")
	for _, irq := range n.IRQs {
		irqs = append(irqs, irq.Number)
		check(fmt.Sprint("kind of ", irq.Number), irq.Kind, theirs.msi)
		dir := "/proc/irq/" + strconv.Itoa(irq.Number)
		if _, err := os.Stat(dir); err != nil {
			check(fmt.Sprint("name, affinities of ", irq.Number), irq.Name+irq.Affinity+irq.EffectiveAffinity, "")
			continue
		}
		// The kernel has a directory by the name, too.
		if _, err := os.Stat(filepath.Join(dir, irq.Name)); irq.Name == "" || err != nil {
			t.Errorf("IRQ %d: name %q, %s disagrees", irq.Number, irq.Name, dir)
		}
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^ *%d:.* %s$`, irq.Number, regexp.QuoteMeta(irq.Name))).MatchString(table) {
			t.Errorf("IRQ %d: name %q, /proc/interrupts disagrees", irq.Number, irq.Name)
		}
		check("affinity", irq.Affinity, text(t, dir, "smp_affinity_list"))
		check("effective affinity", irq.EffectiveAffinity, text(t, dir, "effective_affinity_list"))
	}
	if theirs.irqsCut && len(irqs) == len(theirs.irqs)+1 {
		irqs = irqs[:len(theirs.irqs)]
	}
	if !slices.Equal(irqs, theirs.irqs) {
		t.Errorf("IRQs %v, lspci says %v", irqs, theirs.irqs)
	}
	for _, u := range n.Unread {
		room, _, _ := strings.Cut(u.Fact, ".")
		if slices.Contains([]string{"pci", "numa", "iommu", "irqs", "devlink"}, room) {
			t.Errorf("unread: %+v", u)
		}
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// What the numa profile was built as: the order of hops, nodes and groups that
// the comparison can't get wrong by following sysfs the same way.
func TestPlacesOfTheNUMAMachine(t *testing.T) {
	labtest.Require(t, "numa")
	inv, nics := readInventory(t)
	kinds := func(n inventory.NIC) string {
		var kinds []string
		for _, hop := range n.PCI.Path {
			kinds = append(kinds, hop.Kind)
		}
		return strings.Join(kinds, " ")
	}
	for _, name := range labtest.NICs(t, "igb", 2) {
		n := nics[name]
		switch *n.NUMA.Node {
		case 0:
			if slot := n.PCI.Path[0].Link.Maximum; kinds(n) != "root-port" || *slot != (inventory.PCIeRate{GTs: 8, Width: 8, GBs: 7.877}) {
				t.Errorf("igb of node 0: %q, slot %+v", kinds(n), slot)
			}
		case 1:
			if kinds(n) != "root-port upstream-port downstream-port" || n.PCI.Path[2].Link.Maximum != nil {
				t.Errorf("igb of node 1: %q, %+v", kinds(n), n.PCI.Path[2].Link)
			}
		}
	}
	if len(inv.Host.Nodes) != 2 || !slices.Equal(inv.Host.Nodes[1].Distances, []int{21, 10}) {
		t.Errorf("nodes: %+v", inv.Host.Nodes)
	}
	if units := inv.Host.IOMMU.Units; !slices.Equal(units, []string{"dmar0"}) {
		t.Errorf("IOMMUs: %v", units)
	}
}

// The host's facts agree with what commands and files say.
func TestHostAgrees(t *testing.T) {
	labtest.Require(t, "nics", "numa")
	inv, _ := readInventory(t)
	h := inv.Host
	for _, c := range []struct{ what, got, want string }{
		{"kernel", h.Kernel, strings.TrimSpace(string(labtest.Run(t, "uname", "-r")))},
		{"architecture", h.Architecture, strings.TrimSpace(string(labtest.Run(t, "uname", "-m")))},
		{"online CPUs", h.CPUs.Online, text(t, "/sys/devices/system/cpu/online")},
		{"softnet lines", strconv.Itoa(len(h.Softnet)), strings.TrimSpace(string(labtest.Run(t, "nproc")))},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	if groups, _ := filepath.Glob("/sys/kernel/iommu_groups/*"); h.IOMMU.Groups == nil || *h.IOMMU.Groups != len(groups) {
		t.Errorf("IOMMU groups: %v, want %d", h.IOMMU.Groups, len(groups))
	}
	if !slices.Contains(h.CommandLine, "intel_iommu=on") {
		t.Errorf("command line: %q", h.CommandLine)
	}
}

// netdevsim has a devlink instance with ports; devlink(8) says what they are.
func TestDevlinkAgrees(t *testing.T) {
	labtest.Require(t, "nics")
	ports := labtest.Netdevsim(t, 30, 2)
	_, nics := readInventory(t)
	info := string(labtest.Run(t, "devlink", "dev", "info", "netdevsim/netdevsim30"))
	for _, name := range ports {
		n := nics[name]
		if n.Devlink == nil || n.Devlink.Port == nil {
			t.Errorf("%s: devlink %+v", name, n.Devlink)
			continue
		}
		d, p := n.Devlink, n.Devlink.Port
		line := string(labtest.Run(t, "devlink", "port", "show", fmt.Sprintf("%s/%d", d.Handle, p.Index)))
		for _, want := range []string{"netdev " + name + " ", "flavour " + p.Flavour + " ", fmt.Sprintf("splittable %v", *p.Splittable)} {
			if !strings.Contains(line, want) {
				t.Errorf("%s: devlink port says %q, which lacks %q", name, line, want)
			}
		}
		if d.Handle != "netdevsim/netdevsim30" || d.Driver != "netdevsim" || !strings.Contains(info, "driver "+d.Driver) {
			t.Errorf("%s: %+v, devlink dev info says %q", name, d, info)
		}
		for version, value := range d.Running {
			if !strings.Contains(info, version+" "+value) {
				t.Errorf("%s: version %s %s, devlink dev info says %q", name, version, value, info)
			}
		}
	}
}
