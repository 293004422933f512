package sriov

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// fakeHost is a host made of files ("-> target" is a link), netlink answers by the
// request's name, and users.
type fakeHost struct {
	kernel.Reader
	files   map[string]string
	netlink map[string]func(kernel.Request) ([]kernel.Message, error)
	users   kernel.Users
	asked   map[string]int
}

func (h *fakeHost) ReadFile(_ context.Context, name string) ([]byte, error) {
	if content, ok := h.files[name]; ok && !strings.HasPrefix(content, "-> ") {
		return []byte(content), nil
	}
	return nil, &kernel.Error{Op: "read", Object: name, Err: fs.ErrNotExist}
}

func (h *fakeHost) ReadLink(_ context.Context, name string) (string, error) {
	if target, ok := strings.CutPrefix(h.files[name], "-> "); ok {
		return target, nil
	}
	return "", &kernel.Error{Op: "read link", Object: name, Err: fs.ErrNotExist}
}

func (h *fakeHost) ReadDir(_ context.Context, name string) ([]string, error) {
	entries := map[string]bool{}
	for file := range h.files {
		if rest, ok := strings.CutPrefix(file, name+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			if first != "" {
				entries[first] = true
			}
		}
	}
	if _, ok := h.files[name+"/"]; !ok && len(entries) == 0 { // "name/" is an empty directory
		return nil, &kernel.Error{Op: "list", Object: name, Err: fs.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(entries)), nil
}

func (h *fakeHost) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	h.asked[req.String()]++
	if answer := h.netlink[req.String()]; answer != nil {
		return answer(req)
	}
	return nil, &kernel.Error{Op: req.String(), Err: syscall.EOPNOTSUPP}
}

func (h *fakeHost) SocketHolders(context.Context, []uint64) ([]kernel.SocketHolder, error) {
	return nil, kernel.ErrNotRecorded
}

func (h *fakeHost) Users(context.Context) (kernel.Users, error) {
	h.asked["users"]++
	return h.users, nil
}

const (
	pfAddress = "0000:3b:00.0"
	pfDir     = "/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0"
)

func vfAddress(n int) string { return fmt.Sprintf("0000:3b:02.%d", n) }
func vfDir(n int) string     { return path.Join(path.Dir(pfDir), vfAddress(n)) }

// smartHost has one PF of a smart NIC with this many VFs, each with a driver.
func smartHost(vfs int) *fakeHost {
	h := &fakeHost{asked: map[string]int{}, netlink: map[string]func(kernel.Request) ([]kernel.Message, error){}, files: map[string]string{
		"/sys/bus/pci/devices/" + pfAddress:            "-> ../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0",
		"/sys/bus/pci/devices/" + pfAddress + "/class": "0x020000\n",
		"/sys/bus/pci/devices/0000:00:1f.2/class":      "0x010601\n",
		pfDir + "/driver":                              "-> ../../../../bus/pci/drivers/mlx5_core",
		pfDir + "/sriov_totalvfs":                      "8\n",
		pfDir + "/sriov_numvfs":                        fmt.Sprintf("%d\n", vfs),
		pfDir + "/sriov_drivers_autoprobe":             "0\n",
		pfDir + "/sriov_vf_total_msix":                 "64\n",
		pfDir + "/sriov_vf_device":                     "101e\n",
	}}
	for n := range vfs {
		h.files[fmt.Sprintf("%s/virtfn%d", pfDir, n)] = "-> ../" + vfAddress(n)
		h.files["/sys/bus/pci/devices/"+vfAddress(n)+"/class"] = "0x020000\n"
		h.files["/sys/bus/pci/devices/"+vfAddress(n)] = "-> ../../../devices/pci0000:3a/0000:3a:00.0/" + vfAddress(n)
		h.files[vfDir(n)+"/driver"] = "-> ../../../../bus/pci/drivers/mlx5_core"
		h.files[vfDir(n)+"/iommu_group"] = fmt.Sprintf("-> ../../../../kernel/iommu_groups/%d", 20+n)
		h.files[fmt.Sprintf("/sys/kernel/iommu_groups/%d/devices/%s", 20+n, vfAddress(n))] = "-> x"
	}
	return h
}

// survey reads a host that has the PF's network device, index 2.
func (h *fakeHost) survey(t *testing.T, more ...inventory.NIC) PF {
	t.Helper()
	nics := append([]inventory.NIC{{
		Name: "eth0", Index: 2, Function: inventory.PF, PCI: &inventory.PCI{Address: pfAddress, SRIOV: &inventory.SRIOV{}}, Port: inventory.Port{SwitchID: "aa"},
	}}, more...)
	inv := Read(t.Context(), h, &inventory.Inventory{NICs: nics})
	if len(inv.PFs) != 1 {
		t.Fatalf("%d PFs: %+v", len(inv.PFs), inv.PFs)
	}
	return inv.PFs[0]
}

func (h *fakeHost) vfio(n, group int, name string) {
	h.files[vfDir(n)+"/driver"] = "-> ../../../../bus/pci/drivers/" + name
	h.files[vfDir(n)+"/iommu_group"] = fmt.Sprintf("-> ../../../../kernel/iommu_groups/%d", group)
	h.files[fmt.Sprintf("/sys/kernel/iommu_groups/%d/devices/%s", group, vfAddress(n))] = "-> x"
}

func (h *fakeHost) process(pid int, comm, cgroup string) {
	h.files[fmt.Sprintf("/proc/%d/comm", pid)] = comm + "\n"
	h.files[fmt.Sprintf("/proc/%d/cgroup", pid)] = cgroup + "\n"
}

// Where one VF's users could not be read, nobody knows how many are used, unless it is
// known to be anyway.
func TestUsedVFs(t *testing.T) {
	three := func(change func(vfs []VF)) PF {
		vfs := []VF{{Users: []User{{Kind: "vm"}}}, {Index: 1, Unread: []inventory.Unread{{Fact: "msix", Reason: inventory.Denied}}}, {Index: 2}}
		change(vfs)
		return PF{NumVFs: new(3), VFs: vfs}
	}
	unread := []inventory.Unread{{Fact: "users", Reason: inventory.Denied}}
	read, denied, used := three(func([]VF) {}), three(func(v []VF) { v[2].Unread = unread }), three(func(v []VF) { v[0].Unread = unread })
	fewer, none, untold := read, PF{NumVFs: new(0)}, PF{}
	fewer.NumVFs = new(4)
	for name, c := range map[string]struct {
		pf    PF
		n     int
		known bool
	}{
		"read": {read, 1, true}, "denied": {denied, 0, false}, "used all the same": {used, 1, true},
		"one is not listed": {fewer, 0, false}, "none": {none, 0, true}, "nobody knows how many": {untold, 0, false},
	} {
		if n, known := c.pf.Used(); n != c.n || known != c.known {
			t.Errorf("%s: %d, %v", name, n, known)
		}
	}
}

func TestUsersOfVFs(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	h := smartHost(7)
	h.vfio(0, 40, "vfio-pci")
	h.vfio(1, 40, "vfio-pci") // the same group: whoever has it has both
	h.vfio(2, 41, "mlx5_vfio_pci")
	h.files[vfDir(2)+"/vfio-dev/vfio3/dev"] = "511:3\n"
	h.files[vfDir(3)+"/infiniband_verbs/uverbs5/dev"] = "231:5\n"
	h.vfio(4, 42, "vfio-pci")
	h.files[vfDir(5)+"/driver"] = "-> ../../../../bus/pci/drivers/uio_pci_generic"
	h.files[vfDir(5)+"/uio/uio0/dev"] = "240:0\n"
	h.users = kernel.Users{Hidden: 2, Files: []kernel.OpenFile{
		{PID: 100, Path: "/dev/vfio/40"}, {PID: 101, Path: "/dev/vfio/devices/vfio3"}, {PID: 102, Path: "/dev/infiniband/uverbs5"},
		{PID: 103, Path: vfDir(4)}, {PID: 104, Path: "/dev/uio0"}, {PID: 105, Path: "/dev/vfio/43"},
	}}
	h.process(100, "qemu-system-x86", `0::/machine.slice/machine-qemu\x2d1\x2dweb1.scope`)
	h.process(101, "qemu-kvm", "0::/kubepods/burstable/pod1/"+id) // a VM in a pod
	h.process(102, "ib_write_bw", "0::/user.slice")
	h.process(103, "dpdk-testpmd", "0::/docker/"+id)
	pf := h.survey(t, inventory.NIC{
		Name: "eth6", Function: inventory.VF, PCI: &inventory.PCI{Address: vfAddress(6)}, MAC: "02:00:00:00:00:06",
		Stack: inventory.Stack{Master: "br0", Upper: []string{"br0", "eth6.7"}},
	}, inventory.NIC{Name: "br0", Type: "bridge"}, inventory.NIC{Name: "eth6.7", Type: "vlan"})
	vm := User{Kind: "vm", Name: "web1", PID: new(100), Process: "qemu-system-x86", Device: "/dev/vfio/40"}
	want := [][]User{
		{vm},
		{vm},
		{{Kind: "vm", PID: new(101), Process: "qemu-kvm", Container: id, Device: "/dev/vfio/devices/vfio3"}},
		{{Kind: "process", Name: "ib_write_bw", PID: new(102), Process: "ib_write_bw", Device: "/dev/infiniband/uverbs5"}},
		{{Kind: "container", Name: id, PID: new(103), Process: "dpdk-testpmd", Container: id, Device: vfDir(4)}},
		{{Kind: "process", PID: new(104), Device: "/dev/uio0"}}, // ended meanwhile
		{{Kind: "bridge", Name: "br0"}, {Kind: "vlan", Name: "eth6.7"}},
	}
	for n, vf := range pf.VFs {
		if !reflect.DeepEqual(vf.Users, want[n]) {
			t.Errorf("VF %d: %+v, want %+v", n, vf.Users, want[n])
		}
	}
	if vf := pf.VFs[0]; vf.IOMMU.Own || !slices.Equal(vf.IOMMU.Members, []string{vfAddress(1)}) {
		t.Errorf("a shared group: %+v", vf.IOMMU)
	}
	if kind := pf.VFs[2].DriverKind; kind != DriverVFIOVariant {
		t.Errorf("mlx5_vfio_pci is %s", kind)
	}
	if n := pf.VFs[6].Netdev; n == nil || n.MAC != "02:00:00:00:00:06" || n.Namespace != nil {
		t.Errorf("%+v", n)
	}
}

// Nobody is asked who uses what is not there to be used.
func TestUsersAreNotLookedForInVain(t *testing.T) {
	h := smartHost(3)
	pf := h.survey(t)
	if h.asked["users"] > 0 || h.asked["route NSID_GET dump"] > 0 || len(pf.VFs) != 3 {
		t.Errorf("asked %v for %d VFs", h.asked, len(pf.VFs))
	}
	h = smartHost(0)
	if pf := h.survey(t); h.asked["route LINK_GET"] > 0 || pf.VFs == nil || len(pf.VFs) > 0 {
		t.Errorf("asked %v of a PF without VFs", h.asked)
	}
}

// A VF that is elsewhere is said to be elsewhere, whatever else can't be told.
func TestVFElsewhere(t *testing.T) {
	away := func() *fakeHost {
		h := smartHost(1)
		h.files[vfDir(0)+"/net/"] = ""
		return h
	}
	numbers := func(kernel.Request) ([]kernel.Message, error) {
		id := func(n uint32) kernel.Message {
			return kernel.Message{Body: kernel.Body(make([]byte, 4)).Uint32(uapi.NETNSA_NSID, n)}
		}
		return []kernel.Message{id(3), id(1<<32 - 1), id(5)}, nil
	}
	inside := func(req kernel.Request) ([]kernel.Message, error) {
		a := kernel.AttributesAfter(req.Body, linkHeader)
		for a.Next() {
			if a.Type == uapi.IFLA_TARGET_NETNSID && a.Uint32() == 5 {
				device := func(index uint32, b kernel.Body) kernel.Message {
					header := u32s(0, index, 0, 0)
					return kernel.Message{Command: uapi.RTM_NEWLINK, Body: append(kernel.Body(header), b...)}
				}
				return []kernel.Message{
					device(9, kernel.Body{}.String(uapi.IFLA_IFNAME, "net1").Uint32(uapi.IFLA_MASTER, 10).
						String(uapi.IFLA_PARENT_DEV_NAME, vfAddress(0)).String(uapi.IFLA_PARENT_DEV_BUS_NAME, "pci").
						Bytes(uapi.IFLA_ADDRESS, []byte{2, 0, 0, 0, 0, 9}).Uint8(uapi.IFLA_OPERSTATE, 6)),
					device(10, kernel.Body{}.String(uapi.IFLA_IFNAME, "bond0").
						Nested(uapi.IFLA_LINKINFO, kernel.Body{}.String(uapi.IFLA_INFO_KIND, "bond"))),
				}, nil
			}
		}
		return nil, nil
	}
	id := strings.Repeat("0123456789abcdef", 4)

	h := away()
	h.netlink["route NSID_GET dump"], h.netlink["route LINK_GET dump"] = numbers, inside
	h.users = kernel.Users{Namespaces: []kernel.Namespace{{Inode: 77, ID: new(5), PIDs: []int{200}, Paths: []string{"/run/netns/cni-1"}}}}
	h.process(200, "pause", "0::/kubepods/pod1/"+id)
	vf := h.survey(t).VFs[0]
	wantNetdev := &Netdev{Name: "net1", Index: 9, MAC: "02:00:00:00:00:09", State: "up", Namespace: &Namespace{ID: new(5), Name: "cni-1", Inode: 77}}
	wantUsers := []User{{Kind: "container", Name: id, PID: new(200), Process: "pause", Container: id}, {Kind: "bond", Name: "bond0"}}
	if !reflect.DeepEqual(vf.Netdev, wantNetdev) || !reflect.DeepEqual(vf.Users, wantUsers) {
		t.Errorf("%+v, users %+v", vf.Netdev, vf.Users)
	}

	for name, c := range map[string]struct {
		inside func(kernel.Request) ([]kernel.Message, error)
		reason inventory.Reason
	}{
		"denied":    {func(kernel.Request) ([]kernel.Message, error) { return nil, syscall.EPERM }, inventory.Denied},
		"nowhere":   {func(kernel.Request) ([]kernel.Message, error) { return nil, nil }, inventory.Unsupported},
		"it's gone": {func(kernel.Request) ([]kernel.Message, error) { return nil, syscall.ENODEV }, inventory.Unsupported},
	} {
		h := away()
		h.netlink["route NSID_GET dump"], h.netlink["route LINK_GET dump"] = numbers, c.inside
		vf := h.survey(t).VFs[0]
		at := slices.IndexFunc(vf.Unread, func(u inventory.Unread) bool { return u.Fact == "netdev.namespace" })
		if vf.Netdev == nil || vf.Netdev.Namespace == nil || !reflect.DeepEqual(vf.Users, []User{{Kind: "namespace"}}) || at < 0 || vf.Unread[at].Reason != c.reason {
			t.Errorf("%s: %+v, users %+v, unread %+v", name, vf.Netdev, vf.Users, vf.Unread)
		}
	}
}

// A PF that was given away has VFs nevertheless; that they can't be asked for is
// said.
func TestPFWithoutNetworkDevice(t *testing.T) {
	h := smartHost(2)
	inv := Read(t.Context(), h, &inventory.Inventory{})
	if len(inv.PFs) != 1 || len(inv.PFs[0].VFs) != 2 || inv.PFs[0].Name != "" {
		t.Fatalf("%+v", inv.PFs)
	}
	pf := inv.PFs[0]
	if !slices.ContainsFunc(pf.Unread, func(u inventory.Unread) bool { return u.Fact == "vfs.settings" }) {
		t.Errorf("unread %+v", pf.Unread)
	}
	if *pf.TotalVFs != 8 || *pf.NumVFs != 2 || *pf.Autoprobe || *pf.MSIXPool != 64 || pf.VFDeviceID != "101e" || pf.Driver != "mlx5_core" {
		t.Errorf("%+v", pf)
	}
}

func TestSwitchOfAPF(t *testing.T) {
	h := smartHost(2)
	h.netlink["devlink DEV_GET dump"] = func(kernel.Request) ([]kernel.Message, error) {
		return []kernel.Message{{Body: handle(pfAddress)}, {Body: handle("0000:99:00.0")}}, nil
	}
	h.netlink["devlink PORT_GET dump"] = func(kernel.Request) ([]kernel.Message, error) {
		return []kernel.Message{{Body: vfPortBody()}}, nil // of VF 1
	}
	h.netlink["devlink ESWITCH_GET"] = func(kernel.Request) ([]kernel.Message, error) {
		return []kernel.Message{{Body: handle(pfAddress).Uint16(uapi.DEVLINK_ATTR_ESWITCH_MODE, 1)}}, nil
	}
	pf := h.survey(t,
		inventory.NIC{Name: "rep0", Function: inventory.Representor, Port: inventory.Port{Name: "pf0vf0", SwitchID: "aa"}},
		inventory.NIC{Name: "foreign", Function: inventory.Representor, Port: inventory.Port{Name: "pf0vf0", SwitchID: "bb"}},
	)
	if pf.ESwitch == nil || pf.ESwitch.Mode != "switchdev" || pf.Firmware != nil {
		t.Errorf("switch %+v, firmware %+v", pf.ESwitch, pf.Firmware)
	}
	// One by its name, one by devlink.
	if pf.VFs[0].Representor != "rep0" || pf.VFs[0].PortFunction != nil {
		t.Errorf("VF 0: %q, %+v", pf.VFs[0].Representor, pf.VFs[0].PortFunction)
	}
	if f := pf.VFs[1].PortFunction; pf.VFs[1].Representor != "eth0_1" || f == nil || f.Migratable == nil || *f.Migratable {
		t.Errorf("VF 1: %q, %+v", pf.VFs[1].Representor, f)
	}
}

// A sick PF costs its own facts and no other's.
func TestSickPF(t *testing.T) {
	h := smartHost(2)
	h.netlink["route LINK_GET"] = func(kernel.Request) ([]kernel.Message, error) {
		return nil, &kernel.Error{Op: "route LINK_GET", Err: syscall.ENODEV}
	}
	h.files[pfDir+"/sriov_vf_device"] = "moose\n"
	delete(h.files, vfDir(1)+"/driver")
	delete(h.files, vfDir(1)+"/iommu_group")
	pf := h.survey(t)
	reasons := map[string]inventory.Reason{}
	for _, u := range pf.Unread {
		reasons[u.Fact] = u.Reason
	}
	if reasons["vfs.settings"] != inventory.Gone || reasons["vfDeviceId"] != inventory.Failed {
		t.Errorf("%+v", pf.Unread)
	}
	if len(pf.VFs) != 1 || pf.VFs[0].Index != 0 { // the other one's directory is gone
		for _, vf := range pf.VFs {
			if vf.Index == 1 && len(vf.Unread) == 0 {
				t.Errorf("%+v", vf)
			}
		}
	}
}

// A file that the directory lists and that isn't there any more went away with its
// device; so did a device that isn't where it was.
func TestPulledWhileReading(t *testing.T) {
	h := smartHost(1)
	h.files[pfDir+"/sriov_offset"] = "-> no file" // listed, and can't be read
	pf := h.survey(t)
	if len(pf.Unread) == 0 || pf.Unread[0].Fact != "firstVfOffset" || pf.Unread[0].Reason != inventory.Gone {
		t.Errorf("%+v", pf.Unread)
	}
	delete(h.files, "/sys/bus/pci/devices/"+pfAddress)
	nic := inventory.NIC{Name: "eth0", Function: inventory.PF, PCI: &inventory.PCI{Address: pfAddress}}
	if _, err := deviceOf(t.Context(), h, nic); kernel.ReasonOf(err) != kernel.Gone {
		t.Errorf("%v: %s", err, kernel.ReasonOf(err))
	}
}

// Of two PFs one hangs, in devlink and in its firmware, and holds devlink's lists up. It
// is asked one question; the other's facts are whole.
func TestReadLeavesOutAPFThatHangs(t *testing.T) {
	const hungAddress, hungIndex = "0000:5e:00.0", 3
	const hungDir = "/sys/devices/pci0000:5d/0000:5d:00.0/" + hungAddress
	h := smartHost(2)
	for name, content := range map[string]string{
		"/sys/bus/pci/devices/" + hungAddress:            "-> ../../../devices/pci0000:5d/0000:5d:00.0/" + hungAddress,
		"/sys/bus/pci/devices/" + hungAddress + "/class": "0x020000\n",
		hungDir + "/sriov_totalvfs":                      "8\n",
		hungDir + "/sriov_numvfs":                        "2\n",
	} {
		h.files[name] = content
	}
	asked := 0
	hangs := func(req kernel.Request) ([]kernel.Message, error) {
		return nil, &kernel.Error{Op: req.String(), Err: context.DeadlineExceeded}
	}
	each := func(answer ...kernel.Message) func(kernel.Request) ([]kernel.Message, error) {
		return func(req kernel.Request) ([]kernel.Message, error) {
			if strings.Contains(string(req.Body), hungAddress) {
				asked++
				return hangs(req)
			}
			return answer, nil
		}
	}
	h.netlink["devlink DEV_GET dump"] = hangs
	h.netlink["devlink DEV_GET"] = each(kernel.Message{Body: handle(pfAddress)})
	h.netlink["devlink PORT_GET dump"] = func(req kernel.Request) ([]kernel.Message, error) {
		if len(req.Body) == 0 {
			return hangs(req)
		}
		return each(kernel.Message{Body: vfPortBody()})(req)
	}
	h.netlink["devlink ESWITCH_GET"] = each(kernel.Message{Body: handle(pfAddress).Uint16(uapi.DEVLINK_ATTR_ESWITCH_MODE, 1)})
	h.netlink["devlink PARAM_GET"] = each()
	h.netlink["route LINK_GET"] = func(req kernel.Request) ([]kernel.Message, error) {
		if binary.NativeEndian.Uint32(req.Body[4:]) == hungIndex {
			asked++
			return hangs(req)
		}
		list := kernel.Body{}.Nested(uapi.IFLA_VF_INFO, vfBody(1, vfMAC(1), VLANTag{}, 0, 0, nil))
		return []kernel.Message{{Command: uapi.RTM_NEWLINK, Body: linkBody(list)}}, nil
	}
	inv := Read(t.Context(), h, &inventory.Inventory{NICs: []inventory.NIC{
		{Name: "eth0", Index: 2, Function: inventory.PF, PCI: &inventory.PCI{Address: pfAddress, SRIOV: &inventory.SRIOV{}}},
		{Name: "hung", Index: hungIndex, Function: inventory.PF, PCI: &inventory.PCI{Address: hungAddress, SRIOV: &inventory.SRIOV{}}},
	}})
	if len(inv.PFs) != 2 || len(inv.Unread) != 0 {
		t.Fatalf("%d PFs, unread %+v", len(inv.PFs), inv.Unread)
	}
	sound, sick := inv.PFs[0], inv.PFs[1]
	if asked != 1 {
		t.Errorf("the PF that hangs was asked %d times", asked)
	}
	failed := func(u inventory.Unread) bool { return u.Reason == inventory.Failed }
	if sound.ESwitch == nil || slices.ContainsFunc(sound.Unread, failed) || sound.VFs[1].Settings == nil || sound.VFs[1].PortFunction == nil {
		t.Errorf("%+v", sound)
	}
	missing := map[string]inventory.Reason{}
	for _, u := range sick.Unread {
		missing[u.Fact] = u.Reason
	}
	for _, fact := range []string{"eswitch", "firmware", "vfs.portFunction", "vfs.settings"} {
		if missing[fact] != inventory.Failed {
			t.Errorf("%s: %q", fact, missing[fact])
		}
	}
}
