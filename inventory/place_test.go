package inventory

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

// mapHost is a host as a map of files; "-> target" is a symbolic link. It counts
// what is read, to show that nothing is read twice.
type mapHost struct {
	kernel.Reader // nil: what isn't a file panics
	files         map[string]string
	denied        map[string]bool
	netlink       func(kernel.Request) ([]kernel.Message, error)
	reads         map[string]int
}

func newMapHost(files map[string]string) *mapHost {
	return &mapHost{files: files, denied: map[string]bool{}, reads: map[string]int{}}
}

func (h *mapHost) answer(op, name string) (string, error) {
	h.reads[op+" "+name]++
	if h.denied[name] {
		return "", &kernel.Error{Op: op, Object: name, Err: fs.ErrPermission}
	}
	content, ok := h.files[name]
	if !ok {
		return "", &kernel.Error{Op: op, Object: name, Err: fs.ErrNotExist}
	}
	return content, nil
}

func (h *mapHost) ReadFile(_ context.Context, name string) ([]byte, error) {
	content, err := h.answer("read", name)
	return []byte(content), err
}

func (h *mapHost) ReadLink(_ context.Context, name string) (string, error) {
	content, err := h.answer("readlink", name)
	target, _ := strings.CutPrefix(content, "-> ")
	return target, err
}

func (h *mapHost) ReadDir(_ context.Context, name string) ([]string, error) {
	h.reads["readdir "+name]++
	entries := map[string]bool{}
	for file := range h.files {
		if rest, found := strings.CutPrefix(file, name+"/"); found {
			first, _, _ := strings.Cut(rest, "/")
			entries[first] = true
		}
	}
	if len(entries) == 0 {
		return nil, &kernel.Error{Op: "readdir", Object: name, Err: fs.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(entries)), nil
}

func (h *mapHost) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	return h.netlink(req)
}

func (h *mapHost) Machine(context.Context) (kernel.Machine, error) {
	const vendor = "/sys/class/dmi/id/sys_vendor"
	content, err := h.answer("read", vendor)
	if err != nil {
		return kernel.Machine{}, err
	}
	return kernel.Machine{Vendor: content, Product: "PowerEdge R640", BIOSVersion: "2.21.2"}, nil
}

func (h *mapHost) PCINames(_ context.Context, modalias string) (kernel.PCINames, error) {
	h.reads["names "+modalias]++
	if strings.Contains(modalias, "d000010C9") {
		return kernel.PCINames{Vendor: "Intel Corporation", Device: "82576 Gigabit Network Connection"}, nil
	}
	return kernel.PCINames{}, nil
}

// pciDevice adds a PCI function's directory to a host's files. path is below
// /sys/devices; files come in pairs of name and content.
func (h *mapHost) pciDevice(dir, modalias string, files ...string) {
	dir = "/sys/devices/" + dir
	h.files["/sys/bus/pci/devices/"+path.Base(dir)] = "-> ../../.." + strings.TrimPrefix(dir, "/sys")
	h.files[dir+"/modalias"] = modalias + "\n"
	h.files[dir+"/config"] = ""
	for i := 0; i < len(files); i += 2 {
		h.files[dir+"/"+files[i]] = files[i+1]
	}
}

func (h *mapHost) link(dir, speed, width, maxSpeed, maxWidth string) {
	for name, value := range map[string]string{
		"current_link_speed": speed, "current_link_width": width, "max_link_speed": maxSpeed, "max_link_width": maxWidth,
	} {
		h.files["/sys/devices/"+dir+"/"+name] = value + "\n"
	}
}

func (h *mapHost) survey(nics ...*NIC) *survey {
	s := &survey{Reader: h, nics: nics, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
	for _, n := range nics {
		s.byIndex[n.Index], s.byName[n.Name] = n, n
	}
	return s
}

const (
	igbAlias    = "pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00"
	igbvfAlias  = "pci:v00008086d000010CAsv00008086sd0000A03Cbc02sc00i00"
	bridgeAlias = "pci:v00001B36d0000000Csv00000000sd00000000bc06sc04i00"
)

// switchedHost has a two-port igb with two VFs below a switch whose upstream
// port trained to half its width, and the switch below a root port.
func switchedHost() *mapHost {
	h := newMapHost(map[string]string{})
	const (
		root       = "pci0000:80/0000:80:00.0"
		upstream   = root + "/0000:81:00.0"
		downstream = upstream + "/0000:82:01.0"
		pf         = downstream + "/0000:83:00.0"
		second     = downstream + "/0000:83:00.1"
		vf0        = downstream + "/0000:83:10.0"
		vf1        = downstream + "/0000:83:10.4"
	)
	for _, dir := range []string{root, upstream, downstream} {
		h.pciDevice(dir, bridgeAlias, "revision", "0x00\n")
	}
	h.link(root, "8.0 GT/s PCIe", "4", "8.0 GT/s PCIe", "8")
	h.link(upstream, "8.0 GT/s PCIe", "4", "16.0 GT/s PCIe", "8")
	h.link(downstream, "8.0 GT/s PCIe", "8", "16.0 GT/s PCIe", "8")
	h.pciDevice(pf, igbAlias,
		"revision", "0x01\n", "numa_node", "1\n", "local_cpulist", "2-3\n", "irq", "11\n",
		"sriov_totalvfs", "7\n", "sriov_numvfs", "2\n",
		"virtfn0", "-> ../0000:83:10.0", "virtfn1", "-> ../0000:83:10.4",
		"iommu_group", "-> ../../../../../../kernel/iommu_groups/5",
		"msi_irqs/40", "msix\n", "msi_irqs/100", "msix\n", "msi_irqs/101", "msix\n",
		"vpd", string(encodeVPD("A card", vpdField{"PN", "K91258-006"}, vpdField{"SN", "0042"})),
	)
	h.link(pf, "8.0 GT/s PCIe", "8", "8.0 GT/s PCIe", "8")
	h.pciDevice(second, igbAlias, "numa_node", "1\n", "local_cpulist", "2-3\n", "irq", "12\n",
		"iommu_group", "-> ../../../../../../kernel/iommu_groups/5")
	h.link(second, "Unknown", "0", "8.0 GT/s PCIe", "8")
	for _, vf := range []string{vf0, vf1} {
		h.pciDevice(vf, igbvfAlias, "physfn", "-> ../0000:83:00.0", "numa_node", "1\n", "local_cpulist", "2-3\n", "irq", "0\n")
		h.link(vf, "Unknown", "0", "Unknown", "0")
	}
	maps.Copy(h.files, map[string]string{
		"/sys/kernel/iommu_groups/5/type":                 "DMA-FQ\n",
		"/sys/kernel/iommu_groups/5/devices/0000:83:00.0": "-> x",
		"/sys/kernel/iommu_groups/5/devices/0000:83:00.1": "-> x",
		"/proc/irq/40/smp_affinity_list":                  "0-3\n",
		"/proc/irq/40/effective_affinity_list":            "2\n",
		"/proc/irq/100/smp_affinity_list":                 "3\n",
		"/proc/irq/100/effective_affinity_list":           "3\n",
		"/proc/irq/12/smp_affinity_list":                  "0-3\n",
		"/proc/irq/12/effective_affinity_list":            "0\n",
		"/proc/interrupts":                                "           CPU0       CPU1       \n" + " 12:          0          7   IO-APIC  12-fasteoi   ehci_hcd:usb1, eth1\n" + " 40:          1          0  PCI-MSIX-0000:83:00.0   0-edge      eth0\n" + "100:          5          0  PCI-MSIX-0000:83:00.0   1-edge      eth0-TxRx-0\n",
	})
	return h
}

func pciNIC(index int, name, address string) *NIC {
	return &NIC{Index: index, Name: name, Parent: &Parent{Bus: "pci", Address: address}}
}

func TestPlacesOfSwitchedHost(t *testing.T) {
	h := switchedHost()
	pf, second := pciNIC(2, "eth0", "0000:83:00.0"), pciNIC(3, "eth1", "0000:83:00.1")
	vf, twin := pciNIC(4, "eth0v1", "0000:83:10.4"), pciNIC(5, "eth0p2", "0000:83:00.0")
	veth := &NIC{Index: 6, Name: "veth0"}
	readPlaces(t.Context(), h.survey(pf, second, vf, twin, veth))

	rate := func(gts float64, width int, gbs float64) *PCIeRate { return &PCIeRate{gts, width, gbs} }
	half, full := rate(8, 4, 3.938), rate(8, 8, 7.877)
	gen4 := rate(16, 8, 15.754)
	hops := []PCIHop{
		{Address: "0000:80:00.0", Kind: "root-port", VendorID: "1b36", DeviceID: "000c", Link: &PCIeLink{half, full}},
		{Address: "0000:81:00.0", Kind: "upstream-port", VendorID: "1b36", DeviceID: "000c", Link: &PCIeLink{half, gen4}},
		{Address: "0000:82:01.0", Kind: "downstream-port", VendorID: "1b36", DeviceID: "000c", Link: &PCIeLink{full, gen4}},
	}
	same(t, "PF", pf.PCI, &PCI{
		Address: "0000:83:00.0", VendorID: "8086", DeviceID: "10c9", SubsystemVendorID: "8086", SubsystemDeviceID: "a03c",
		Class: "020000", Revision: "01", Vendor: "Intel Corporation", Device: "82576 Gigabit Network Connection",
		VPD:  &VPD{Identifier: "A card", PartNumber: "K91258-006", SerialNumber: "0042"},
		Link: &PCIeLink{full, full}, Path: hops, Bottleneck: "0000:81:00.0", SRIOV: &SRIOV{TotalVFs: 7, NumVFs: 2},
	})
	same(t, "VF", vf.PCI, &PCI{
		Address: "0000:83:10.4", VendorID: "8086", DeviceID: "10ca", SubsystemVendorID: "8086", SubsystemDeviceID: "a03c",
		Class: "020000", Link: &PCIeLink{full, full}, Path: hops, Bottleneck: "0000:81:00.0",
		PhysicalFunction: "0000:83:00.0", VFIndex: new(1),
	})
	same(t, "second port's link", second.PCI.Link, &PCIeLink{Maximum: full})
	same(t, "second port's VPD and SR-IOV", []any{second.PCI.VPD, second.PCI.SRIOV}, []any{(*VPD)(nil), (*SRIOV)(nil)})
	same(t, "NUMA", pf.NUMA, &NUMA{Node: new(1), LocalCPUs: "2-3"})
	same(t, "IOMMU", pf.IOMMU, &IOMMU{Type: "DMA-FQ", Group: 5, Members: []string{"0000:83:00.1"}})
	same(t, "IOMMU of the VF", vf.IOMMU, (*IOMMU)(nil))
	same(t, "MSI-X", pf.IRQs, []IRQ{
		{Number: 40, Name: "eth0", Kind: "msix", Affinity: "0-3", EffectiveAffinity: "2"},
		{Number: 100, Name: "eth0-TxRx-0", Kind: "msix", Affinity: "3", EffectiveAffinity: "3"},
		{Number: 101, Kind: "msix"}, // nobody has asked for it
	})
	same(t, "INTx", second.IRQs, []IRQ{
		{Number: 12, Name: "ehci_hcd:usb1, eth1", Kind: "intx", Affinity: "0-3", EffectiveAffinity: "0"},
	})
	same(t, "no IRQ", vf.IRQs, []IRQ(nil))
	same(t, "the same function's other NIC", []any{twin.PCI, twin.NUMA, twin.IOMMU, twin.IRQs}, []any{pf.PCI, pf.NUMA, pf.IOMMU, pf.IRQs})
	same(t, "the software device", *veth, NIC{Index: 6, Name: "veth0"})
	for _, n := range []*NIC{pf, second, vf, twin} {
		same(t, n.Name+": unread", n.Unread, []Unread(nil))
	}
	for read, times := range h.reads {
		if times > 1 && !strings.HasPrefix(read, "names ") && read != "readlink /sys/bus/pci/devices/0000:83:00.0" {
			t.Errorf("%s: %d times", read, times)
		}
	}
}

// A NIC without a device must not cost a single read: there may be thousands.
func TestPlacesOfSoftwareDevicesCostNothing(t *testing.T) {
	h := newMapHost(nil)
	readPlaces(t.Context(), h.survey(&NIC{Name: "veth0"}, &NIC{Name: "veth1"}))
	if len(h.reads) != 0 {
		t.Error("read", h.reads)
	}
}

func TestPlacesThroughOtherBuses(t *testing.T) {
	h := newMapHost(map[string]string{
		"/sys/bus/virtio/devices/virtio2":                        "-> ../../../devices/pci0000:00/0000:00:03.0/virtio2",
		"/sys/bus/usb/devices/2-1:1.0":                           "-> ../../../devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0",
		"/sys/bus/netdevsim/devices/netdevsim":                   "-> ../../../devices/netdevsim",
		"/sys/devices/netdevsim/uevent":                          "",
		"/sys/bus/auxiliary/devices/mlx5.sf.4":                   "-> ../../../devices/pci0000:00/0000:00:04.0/mlx5.sf.4",
		"/sys/devices/pci0000:00/0000:00:04.0/mlx5.sf.4/irqs/77": "",
		"/sys/class/net/old0":                                    "-> ../../devices/pci0000:00/0000:00:03.0/virtio2/net/old0",
		"/proc/irq/29/smp_affinity_list":                         "0\n", "/proc/irq/29/effective_affinity_list": "0\n",
		"/proc/irq/77/smp_affinity_list": "1\n", "/proc/irq/77/effective_affinity_list": "1\n",
		"/proc/interrupts": " 29:  0  0 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0\n 77:  0  0 mlx5_comp4  1-edge  mlx5_comp0@sf\n",
	})
	h.pciDevice("pci0000:00/0000:00:03.0", "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00", "msi_irqs/29", "msix\n")
	h.pciDevice("pci0000:00/0000:00:14.0", "pci:v00008086d0000A36Dsv00000000sd00000000bc0Csc03i30", "msi_irqs/50", "msi\n")
	h.pciDevice("pci0000:00/0000:00:04.0", igbAlias, "msi_irqs/60", "msix\n")
	nic := func(name, bus, address string) *NIC {
		return &NIC{Name: name, Parent: &Parent{Bus: bus, Address: address}}
	}
	virtio, usb := nic("eth0", "virtio", "virtio2"), nic("usb0", "usb", "2-1:1.0")
	sim, sf := nic("eni0", "netdevsim", "netdevsim"), nic("sf0", "auxiliary", "mlx5.sf.4")
	old, rep := nic("old0", "", "virtio2"), pciNIC(9, "rep0", "0000:00:04.0")
	rep.Port.Name, rep.Port.SwitchID = "pf0vf3", "0123"
	gone := pciNIC(8, "gone0", "0000:00:1f.0")
	readPlaces(t.Context(), h.survey(virtio, usb, sim, sf, old, rep, gone))

	for n, address := range map[*NIC]string{
		virtio: "0000:00:03.0", usb: "0000:00:14.0", sf: "0000:00:04.0", old: "0000:00:03.0", rep: "0000:00:04.0",
	} {
		if n.PCI == nil || n.PCI.Address != address || n.PCI.VendorID == "" {
			t.Errorf("%s: PCI is %+v, want %s", n.Name, n.PCI, address)
		}
	}
	same(t, "virtio", virtio.IRQs, []IRQ{{Number: 29, Name: "virtio2-input.0", Kind: "msix", Affinity: "0", EffectiveAffinity: "0"}})
	same(t, "the controller's IRQs", usb.IRQs, []IRQ(nil))
	same(t, "a representor's IRQs", rep.IRQs, []IRQ(nil))
	same(t, "a subfunction's IRQs", sf.IRQs, []IRQ{{Number: 77, Name: "mlx5_comp0@sf", Affinity: "1", EffectiveAffinity: "1"}})
	same(t, "netdevsim", []any{sim.PCI, sim.NUMA, sim.IOMMU, sim.IRQs, sim.Unread}, []any{(*PCI)(nil), (*NUMA)(nil), (*IOMMU)(nil), []IRQ(nil), []Unread(nil)})
	if len(gone.Unread) != 1 || gone.Unread[0].Fact != "pci" {
		t.Errorf("unplugged: %+v", gone.Unread)
	}
}

// What root alone may read is listed as denied, and costs nothing else.
func TestPlacesDenied(t *testing.T) {
	h := switchedHost()
	const pf = "/sys/devices/pci0000:80/0000:80:00.0/0000:81:00.0/0000:82:01.0/0000:83:00.0"
	for _, file := range []string{pf + "/vpd", "/proc/irq/40/smp_affinity_list", "/proc/irq/100/smp_affinity_list", pf + "/numa_node"} {
		h.denied[file] = true
	}
	n := pciNIC(2, "eth0", "0000:83:00.0")
	readPlaces(t.Context(), h.survey(n))
	var facts []string
	for _, u := range n.Unread {
		if u.Reason != kernel.Denied {
			t.Errorf("%+v, want denied", u)
		}
		facts = append(facts, u.Fact)
	}
	same(t, "denied facts", facts, []string{"pci.vpd", "numa.node", "irqs.affinity"})
	same(t, "NUMA", n.NUMA, &NUMA{LocalCPUs: "2-3"})
	if len(n.IRQs) != 3 || n.IRQs[1].EffectiveAffinity != "3" || n.IRQs[1].Name != "eth0-TxRx-0" {
		t.Errorf("IRQs: %+v", n.IRQs)
	}
}

// One device whose files hold nonsense is listed and spoils no other.
func TestPlacesMalformed(t *testing.T) {
	h := switchedHost()
	const vf = "/sys/devices/pci0000:80/0000:80:00.0/0000:81:00.0/0000:82:01.0/0000:83:10.0"
	h.files[vf+"/modalias"] = "pci:v0000808\n"
	h.files[vf+"/physfn"] = "-> ../0000:83:10.0" // itself
	h.files[vf+"/numa_node"] = "near\n"
	h.files[vf+"/iommu_group"] = "-> ../../x"
	h.files[vf+"/current_link_width"] = "wide\n"
	h.files[vf+"/current_link_speed"] = "8.0 GT/s PCIe\n"
	sick, well := pciNIC(2, "eth0v0", "0000:83:10.0"), pciNIC(3, "eth0", "0000:83:00.0")
	readPlaces(t.Context(), h.survey(sick, well))
	var facts []string
	for _, u := range sick.Unread {
		if u.Reason != kernel.Failed || !strings.Contains(u.Detail, kernel.ErrMalformed.Error()) {
			t.Errorf("%+v", u)
		}
		facts = append(facts, u.Fact)
	}
	same(t, "facts", facts, []string{"pci.vendorId", "pci.link", "pci.physicalFunction", "numa.node", "iommu.group"})
	if well.Unread != nil || well.PCI.VendorID != "8086" {
		t.Errorf("the other: %+v, %+v", well.PCI, well.Unread)
	}
}

// vmxnet3's subsystem is itself, which pci.ids doesn't repeat.
func TestSubsystemThatIsTheDeviceItself(t *testing.T) {
	h := newMapHost(map[string]string{})
	h.pciDevice("pci0000:00/0000:00:01.0", "pci:v00008086d000010C9sv00008086sd000010C9bc02sc00i00")
	h.pciDevice("pci0000:00/0000:00:02.0", "pci:v00008086d000010C9sv00008086sd000010CAbc02sc00i00")
	itself, other := pciNIC(1, "eth0", "0000:00:01.0"), pciNIC(2, "eth1", "0000:00:02.0")
	readPlaces(t.Context(), h.survey(itself, other))
	if itself.PCI.Subsystem != "82576 Gigabit Network Connection" || other.PCI.Subsystem != "" {
		t.Errorf("%q, %q", itself.PCI.Subsystem, other.PCI.Subsystem)
	}
}

func TestPlacesSaysOnceThatNamesAreMissing(t *testing.T) {
	h := switchedHost()
	s := h.survey(pciNIC(2, "eth0", "0000:83:00.0"), pciNIC(3, "eth1", "0000:83:00.1"))
	s.Reader = namelessHost{h}
	readPlaces(t.Context(), s)
	if len(s.unread) != 1 || s.unread[0].Fact != "nics.pci.device" || s.nics[0].Unread != nil {
		t.Errorf("host %+v, NIC %+v", s.unread, s.nics[0].Unread)
	}
}

type namelessHost struct{ *mapHost }

func (namelessHost) PCINames(context.Context, string) (kernel.PCINames, error) {
	return kernel.PCINames{}, errors.New("no pci.ids")
}
