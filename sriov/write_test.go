package sriov

import (
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// fakeKernel is a fakeHost that can be written: with the rules of the kernel's
// drivers/pci (iov.c, pci-driver.c) as far as nothing in the lab has them.
type fakeKernel struct {
	*fakeHost
	kernel.Writer
	mu   sync.Mutex // somebody looks while sriov_numvfs is written
	pool int
	// mode and inline are the switch's.
	mode   uint16
	inline uint8
	// gone are the files of VFs that were removed.
	gone map[string]string
	// did is what was written, in order.
	did []string
}

func (k *fakeKernel) ReadFile(ctx context.Context, name string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fakeHost.ReadFile(ctx, name)
}
func (k *fakeKernel) ReadLink(ctx context.Context, name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fakeHost.ReadLink(ctx, name)
}
func (k *fakeKernel) ReadDir(ctx context.Context, name string) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fakeHost.ReadDir(ctx, name)
}
func (k *fakeKernel) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	return k.fakeHost.Netlink(ctx, req)
}
func (k *fakeKernel) SocketHolders(ctx context.Context, inodes []uint64) ([]kernel.SocketHolder, error) {
	return k.fakeHost.SocketHolders(ctx, inodes)
}

func (k *fakeKernel) Users(ctx context.Context) (kernel.Users, error) { return k.fakeHost.Users(ctx) }

// smartKernel has VFs with eight vectors each, of a pool of 64.
func smartKernel(t *testing.T, vfs int) (*fakeKernel, inventory.NIC) {
	t.Helper()
	k := &fakeKernel{fakeHost: smartHost(vfs), pool: 64}
	k.netlink["route LINK_GET"] = func(kernel.Request) ([]kernel.Message, error) {
		return []kernel.Message{{Command: uapi.RTM_NEWLINK, Body: linkBody(manyVFs(uint32(vfs), nil))}}, nil
	}
	for n := range vfs {
		k.files[vfDir(n)+"/sriov_vf_msix_count"] = ""
		k.files[vfDir(n)+"/driver_override"] = "(null)\n"
		k.setVectors(t, n, 8)
		k.bound(n)
	}
	return k, inventory.NIC{Name: "eth0", Index: 2, Function: inventory.PF, PCI: &inventory.PCI{Address: pfAddress}}
}

// config is a VF's configuration space with an MSI-X capability.
func (k *fakeKernel) setVectors(t *testing.T, vf, n int) {
	t.Helper()
	b := configOf(t, "vf.config")
	for at := int(b[pciCapabilityList]); at != 0; at = int(b[at+1]) {
		if b[at] == capabilityMSIX {
			binary.LittleEndian.PutUint16(b[at+2:], uint16(n-1))
		}
	}
	k.files[vfDir(vf)+"/config"] = string(b)
}

func (k *fakeKernel) vectors(vf int) int {
	c, err := parseConfig([]byte(k.files[vfDir(vf)+"/config"]))
	if err != nil {
		return -1
	}
	return *c.msix
}

// bound gives a VF its driver, which makes a network device.
func (k *fakeKernel) bound(vf int) {
	k.files[vfDir(vf)+"/driver"] = "-> ../../../../bus/pci/drivers/mlx5_core"
	k.files[fmt.Sprintf("%s/net/eth%d/mtu", vfDir(vf), 10+vf)] = "1500\n"
	k.files[fmt.Sprintf("%s/net/eth%d/flags", vfDir(vf), 10+vf)] = "0x1002\n"
}

func (k *fakeKernel) WriteFile(_ context.Context, name string, data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	refuse := func(errno syscall.Errno) error { return &kernel.Error{Op: "write", Object: name, Err: errno} }
	value := strings.TrimSpace(string(data))
	k.did = append(k.did, path.Base(path.Dir(name))+"/"+path.Base(name)+" "+value)
	vf := slices.IndexFunc([]int{0, 1, 2, 3, 4, 5, 6, 7}, func(n int) bool {
		return strings.HasPrefix(name, vfDir(n)+"/") || path.Base(name) == "drivers_probe" && value == vfAddress(n)
	})
	switch path.Base(name) {
	case "unbind":
		delete(k.files, vfDir(vf)+"/driver")
		delete(k.files, fmt.Sprintf("%s/net/eth%d/mtu", vfDir(vf), 10+vf))
		delete(k.files, fmt.Sprintf("%s/net/eth%d/flags", vfDir(vf), 10+vf))
	case "drivers_probe":
		switch override := strings.TrimSpace(k.files[vfDir(vf)+"/driver_override"]); override {
		case "", "(null)":
			if strings.TrimSpace(k.files[pfDir+"/sriov_drivers_autoprobe"]) == "1" {
				k.bound(vf)
			}
		default:
			k.files[vfDir(vf)+"/driver"] = "-> ../../../../bus/pci/drivers/" + override
		}
	case "sriov_vf_msix_count":
		n, err := strconv.Atoi(value)
		sum := n
		for other := range 8 {
			if other != vf && k.files[vfDir(other)+"/config"] != "" {
				sum += k.vectors(other)
			}
		}
		switch {
		case err != nil:
			return refuse(syscall.EINVAL)
		case k.files[vfDir(vf)+"/driver"] != "":
			return refuse(syscall.EBUSY)
		case sum > k.pool:
			return refuse(syscall.ENOSPC)
		}
		b := []byte(k.files[vfDir(vf)+"/config"])
		for at := int(b[pciCapabilityList]); at != 0; at = int(b[at+1]) {
			if b[at] == capabilityMSIX {
				binary.LittleEndian.PutUint16(b[at+2:], uint16(n-1))
			}
		}
		k.files[vfDir(vf)+"/config"] = string(b)
	case "sriov_numvfs":
		if n, _ := strconv.Atoi(value); n == 0 {
			k.gone = map[string]string{}
			for file, content := range k.files {
				if strings.Contains(file, "/0000:3b:02.") || strings.Contains(file, "/virtfn") {
					k.gone[file] = content
					delete(k.files, file)
				}
			}
		} else {
			for file, content := range k.gone {
				if path.Base(file) != "driver" && !strings.Contains(file, "/net/") {
					k.files[file] = content
				}
			}
		}
		k.files[name] = value + "\n"
	default:
		if _, there := k.files[name]; !there {
			return refuse(syscall.ENOENT)
		}
		k.files[name] = value + "\n"
	}
	return nil
}

// answerSwitch has devlink tell of the switch's mode.
func (k *fakeKernel) answerSwitch(mode uint16) {
	k.mode = mode
	k.netlink["devlink DEV_GET dump"] = func(kernel.Request) ([]kernel.Message, error) {
		return []kernel.Message{{Body: handle(pfAddress)}}, nil
	}
	k.netlink["devlink ESWITCH_GET"] = func(kernel.Request) ([]kernel.Message, error) {
		return []kernel.Message{{Body: handle(pfAddress).Uint16(uapi.DEVLINK_ATTR_ESWITCH_MODE, k.mode).
			Uint8(uapi.DEVLINK_ATTR_ESWITCH_INLINE_MODE, k.inline).Uint8(uapi.DEVLINK_ATTR_ESWITCH_ENCAP_MODE, 0)}}, nil
	}
}

// setSwitch is devlink dev eswitch set: ice takes a mode only without VFs, mlx5 here
// only while they have no driver, and an inline mode only in switchdev.
func (k *fakeKernel) setSwitch(body []byte) error {
	refuse := func(message string) error {
		return &kernel.Error{Op: "devlink ESWITCH_SET", Err: syscall.EOPNOTSUPP, Message: message}
	}
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.DEVLINK_ATTR_ESWITCH_MODE:
			if strings.HasSuffix(k.files[pfDir+"/driver"], "ice") && strings.TrimSpace(k.files[pfDir+"/sriov_numvfs"]) != "0" {
				return refuse("Changing eswitch mode is allowed only if there is no VFs created")
			}
			for n := range 8 {
				if k.files[vfDir(n)+"/driver"] != "" {
					return refuse("a VF is bound")
				}
			}
			k.mode = a.Uint16()
		case uapi.DEVLINK_ATTR_ESWITCH_INLINE_MODE:
			if k.mode == 0 {
				return refuse("no inline mode in legacy")
			}
			k.inline = a.Uint8()
		}
	}
	return a.Err()
}

// NetlinkSet knows ip link set NAME mtu N, ip link set NAME up, and devlink dev eswitch set.
func (k *fakeKernel) NetlinkSet(_ context.Context, req kernel.Request) error {
	k.did = append(k.did, req.String())
	if req.Family == kernel.FamilyDevlink {
		return k.setSwitch(req.Body)
	}
	var name string
	a := kernel.AttributesAfter(req.Body, linkHeader)
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_IFNAME:
			name = a.String()
			if binary.NativeEndian.Uint32(req.Body[12:])&uapi.IFF_UP != 0 {
				for file := range k.files {
					if strings.HasSuffix(file, "/net/"+name+"/flags") {
						k.files[file] = fmt.Sprintf("%#x\n", 0x1002|binary.NativeEndian.Uint32(req.Body[8:]))
					}
				}
			}
		case uapi.IFLA_MTU:
			for file := range k.files {
				if strings.HasSuffix(file, "/net/"+name+"/mtu") {
					k.files[file] = fmt.Sprintf("%d\n", a.Uint32())
				}
			}
		}
	}
	return a.Err()
}

func (k *fakeKernel) UdevRules(_ context.Context, name string, rules []byte) error {
	k.did = append(k.did, "rules")
	if delete(k.files, path.Join(kernel.UdevRulesDir, name)); rules != nil {
		k.files[path.Join(kernel.UdevRulesDir, name)] = string(rules)
	}
	return nil
}

// turn resolves a wish and writes it, as the engine would.
func turn(t *testing.T, k *fakeKernel, nic inventory.NIC, wish ...VFWish) (before, after VFState, err error) {
	t.Helper()
	knob := VFs()
	before, _, err = knob.Read(t.Context(), k, nic)
	if err != nil {
		t.Fatal(err)
	}
	next, err := resolveVFs(t.Context(), tuning.Ask{Reader: k, NIC: nic}, wish, before)
	if err != nil {
		return before, nil, err
	}
	if err := knob.Write(t.Context(), k, nic, before, next); err != nil {
		return before, nil, err
	}
	after, _, err = knob.Read(t.Context(), k, nic)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range next {
		if after[key] != value {
			t.Errorf("%s is %q, want %q", key, after[key], value)
		}
	}
	return before, after, nil
}

// TestVectors: nothing in the lab distributes MSI-X vectors. They are taken before
// they are given, from and to VFs without a driver, which get it back along with
// their MTU.
func TestVectors(t *testing.T) {
	k, nic := smartKernel(t, 8) // all of the pool is in use
	k.files[vfDir(3)+"/net/eth13/mtu"] = "9000\n"
	k.files[vfDir(3)+"/net/eth13/flags"] = "0x1003\n"
	before, after, err := turn(t, k, nic, VFWish{VF: new("0-3"), MSIX: new(uint32(12))}, VFWish{VF: new("4-7"), MSIX: new(uint32(4))})
	if err != nil {
		t.Fatal(err)
	}
	if before["0.msix"] != "8" || after["0.msix"] != "12" || after["7.msix"] != "4" || after["3.mtu"] != "9000" || after["3.driver"] != networkDriver {
		t.Errorf("before %v, after %v", before, after)
	}
	if up, still := k.files[vfDir(3)+"/net/eth13/flags"], k.files[vfDir(2)+"/net/eth12/flags"]; up != "0x1003\n" || still != "0x1002\n" {
		t.Errorf("flags %q of the one that was up, %q of one that was down", up, still)
	}
	if k.vectors(0) != 12 || k.vectors(7) != 4 {
		t.Errorf("%d and %d vectors", k.vectors(0), k.vectors(7))
	}
	if strings.TrimSpace(k.files[pfDir+"/sriov_drivers_autoprobe"]) != "0" {
		t.Error("autoprobe is left on")
	}
	if err := VFs().Write(t.Context(), k, nic, after, before); err != nil || k.vectors(0) != 8 || k.vectors(7) != 8 {
		t.Errorf("back: %v, %d and %d vectors", err, k.vectors(0), k.vectors(7))
	}

	for want, wish := range map[string]VFWish{
		"the VFs would have 65 vectors, and the PF has 64 for them (sriov_vf_total_msix); more are set in the firmware: mlxconfig -d 0000:3b:00.0 set NUM_VF_MSIX=N": {VF: new("0"), MSIX: new(uint32(9))},
		"a VF has at least one vector": {VF: new("0"), MSIX: new(uint32(0))},
	} {
		k.did = nil
		if _, _, err := turn(t, k, nic, wish); err == nil || !strings.Contains(err.Error(), want) || len(k.did) > 0 {
			t.Errorf("%v, want %s; done: %v", err, want, k.did)
		}
	}
	k.files[pfDir+"/sriov_vf_total_msix"] = "0\n"
	if _, _, err := turn(t, k, nic, VFWish{VF: new("0"), MSIX: new(uint32(4))}); kernel.ReasonOf(err) != kernel.Unsupported {
		t.Errorf("a driver that does not distribute: %v", err)
	}
}

// TestRefusedVectors: a VF that is refused its vectors has the driver that it had.
func TestRefusedVectors(t *testing.T) {
	k, nic := smartKernel(t, 2)
	k.pool = 17 // the driver keeps some for itself
	_, _, err := turn(t, k, nic, VFWish{VF: new("0-1"), MSIX: new(uint32(10))})
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "VF 0: msix 10") {
		t.Error(err)
	}
	for n := range 2 {
		if k.files[vfDir(n)+"/driver"] == "" {
			t.Errorf("VF %d has no driver", n)
		}
	}
}

// strictKernel refuses some settings of VFs, as igb does a limit without a link, and
// knows which ones it took.
type strictKernel struct {
	*fakeKernel
	refused map[string]bool // "0.max-tx-rate"
	took    []string
}

func (k *strictKernel) NetlinkSet(_ context.Context, req kernel.Request) error {
	a := kernel.AttributesAfter(req.Body, linkHeader)
	for a.Next() {
		list := a.Nested()
		for list.Next() {
			info := list.Nested()
			for info.Next() {
				key, data := "", info.Data
				switch info.Type {
				case uapi.IFLA_VF_VLAN_LIST:
					key = keyVLAN
					if tags := info.Nested(); tags.Next() {
						data = tags.Data
					}
				case uapi.IFLA_VF_SPOOFCHK:
					key = keySpoofchk
				case uapi.IFLA_VF_MAC:
					key = keyMAC
				case uapi.IFLA_VF_RATE:
					key = keyMaxRate
				case uapi.IFLA_VF_TRUST:
					key = keyTrust
				}
				key = keyOf(int(binary.NativeEndian.Uint32(data)), key)
				if k.refused[key] {
					return &kernel.Error{Op: "route LINK_SET", Err: syscall.EINVAL}
				}
				k.took, k.did = append(k.took, key), append(k.did, key)
			}
		}
	}
	return nil
}

// TestUndoGoesOn: going forward the first refusal is the last write; going back each VF
// gets what can be had, and no driver only where it would be less confined than it was.
func TestUndoGoesOn(t *testing.T) {
	before, next := VFState{}, VFState{}
	for n := range 3 {
		for key, values := range map[string][2]string{
			keyMAC: {"00:00:00:00:00:00", fmt.Sprintf("02:00:00:00:00:0%d", n+1)}, keyMaxRate: {"0", "500"}, keyTrust: {"off", "on"}, keyDriver: {unbound, networkDriver},
		} {
			before[keyOf(n, key)], next[keyOf(n, key)] = values[0], values[1]
		}
	}
	for _, undoing := range []bool{false, true} {
		f, nic := smartKernel(t, 3)
		f.files[pfDir+"/sriov_drivers_autoprobe"] = "1\n"
		for n := range 3 {
			delete(f.files, vfDir(n)+"/driver")
			delete(f.files, fmt.Sprintf("%s/net/eth%d/mtu", vfDir(n), 10+n))
			delete(f.files, fmt.Sprintf("%s/net/eth%d/flags", vfDir(n), 10+n))
		}
		k := &strictKernel{fakeKernel: f, refused: map[string]bool{"0.max-tx-rate": true, "1.mac": true}}
		err := setVFs(t.Context(), k, nic, before, next, undoing)
		want, bound := []string{"0.mac"}, []bool{false, false, false}
		if undoing {
			want = []string{"0.mac", "0.trust", "1.max-tx-rate", "1.trust", "2.mac", "2.max-tx-rate", "2.trust"}
			bound = []bool{true, false, true}
		}
		if err == nil || !strings.Contains(err.Error(), "VF 0: max-tx-rate 500: ") || strings.Contains(err.Error(), "VF 1: mac") != undoing || !slices.Equal(k.took, want) {
			t.Errorf("undoing %v: it took %q, want %q; %v", undoing, k.took, want, err)
		}
		for n := range 3 {
			if _, has := k.files[vfDir(n)+"/driver"]; has != bound[n] {
				t.Errorf("undoing %v: VF %d has a driver: %v", undoing, n, has)
			}
		}
	}
}

// TestOneReset: a VF is taken from its driver once, whatever changes of it, and has all
// of it when it is given back.
func TestOneReset(t *testing.T) {
	f, nic := smartKernel(t, 2)
	k := &strictKernel{fakeKernel: f}
	before, next := VFState{}, VFState{}
	for key, values := range map[string][2]string{
		keyMAC: {noAddress, "02:00:00:00:00:01"}, keyVLAN: {"none", "100 qos 3"}, keyMinRate: {"0", "100"}, keyMaxRate: {"0", "500"},
		keySpoofchk: {"on", "off"}, keyTrust: {"off", "on"}, keyMSIX: {"8", "6"}, keyDriver: {networkDriver, networkDriver},
	} {
		before[keyOf(1, key)], next[keyOf(1, key)] = values[0], values[1]
	}
	if err := setVFs(t.Context(), k, nic, before, next, false); err != nil {
		t.Fatal(err)
	}
	did := slices.DeleteFunc(k.did, func(s string) bool { return strings.Contains(s, "sriov_drivers_autoprobe") })
	want := []string{"driver/unbind 0000:3b:02.1", "0000:3b:02.1/sriov_vf_msix_count 6", "1.mac", "1.vlan", "1.max-tx-rate", "1.spoofchk", "1.trust", "pci/drivers_probe 0000:3b:02.1"}
	if !slices.Equal(did, want) {
		t.Errorf("it did %q, want %q", did, want)
	}
}

// stingyKernel makes one VF fewer than it is told, and says nothing.
type stingyKernel struct{ *fakeKernel }

func (k *stingyKernel) WriteFile(ctx context.Context, name string, data []byte) error {
	if n, err := strconv.Atoi(string(data)); err == nil && n > 0 && path.Base(name) == "sriov_numvfs" {
		data = []byte(strconv.Itoa(n - 1))
	}
	return k.fakeKernel.WriteFile(ctx, name, data)
}

// TestFewerCame: the kernel only warns where a driver makes fewer VFs than it is told.
func TestFewerCame(t *testing.T) {
	k, nic := smartKernel(t, 4)
	if err := k.WriteFile(t.Context(), pfDir+"/sriov_numvfs", []byte("0")); err != nil {
		t.Fatal(err)
	}
	err := Counting().Write(t.Context(), &stingyKernel{k}, nic, Count{VFs: new(uint32(0))}, Count{VFs: new(uint32(4))})
	if err == nil || !strings.Contains(err.Error(), "the driver made 3 of 4 VFs") {
		t.Error(err)
	}
}

// TestRatesAreKept: igb limits VFs with a link only, and to no more than that carries.
// All VFs go for another number of them, so that is asked before.
func TestRatesAreKept(t *testing.T) {
	infos := func(k *fakeKernel, rate uint32) {
		var list kernel.Body
		for n, rate := range []uint32{0, rate} {
			list = list.Bytes(uapi.IFLA_VF_INFO, kernel.Body{}.
				Bytes(uapi.IFLA_VF_VLAN, u32s(uint32(n), 0, 0)).Bytes(uapi.IFLA_VF_RATE, u32s(uint32(n), 0, rate)))
		}
		k.netlink["route LINK_GET"] = func(kernel.Request) ([]kernel.Message, error) {
			return []kernel.Message{{Command: uapi.RTM_NEWLINK, Body: linkBody(list)}}, nil
		}
	}
	for _, c := range []struct {
		driver, carrier, speed string
		rate, next             uint32
		want                   string
	}{
		{"igb", "0", "-1", 500, 3, "igb takes one only while its link is up, and eth0 has none"},
		{"igb", "1", "100", 500, 3, "igb takes none above the speed of its link, and that of eth0 is 100"},
		{"igb", "1", "1000", 500, 3, ""},
		{"igb", "0", "-1", 0, 3, ""},
		{"igb", "0", "-1", 500, 1, ""}, // the VF that has it goes
		{"igb", "0", "-1", 500, 0, ""},
		{"mlx5_core", "0", "-1", 500, 3, ""},
	} {
		k, nic := smartKernel(t, 2)
		infos(k, c.rate)
		k.files[pfDir+"/driver"] = "-> ../../../../bus/pci/drivers/" + c.driver
		k.files["/sys/class/net/eth0/carrier"], k.files["/sys/class/net/eth0/speed"] = c.carrier+"\n", c.speed+"\n"
		_, err := resolveCount(t.Context(), tuning.Ask{Reader: k, NIC: nic}, CountWish{VFs: &c.next}, Count{VFs: new(uint32(2))})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), "VF 1") || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
		if c.want == "" {
			continue
		}
		if err := writeCount(t.Context(), k, nic, Count{VFs: new(uint32(2))}, Count{VFs: &c.next}); err == nil || len(k.did) > 0 {
			t.Errorf("%+v: written: %v, %v", c, k.did, err)
		}
	}
}

// TestMTUOfVFs: a VF without a driver gets one for its MTU; one that a program
// drives has none.
func TestMTUOfVFs(t *testing.T) {
	k, nic := smartKernel(t, 2)
	delete(k.files, vfDir(0)+"/driver")
	delete(k.files, vfDir(0)+"/net/eth10/mtu")
	delete(k.files, vfDir(0)+"/net/eth10/flags")
	before, after, err := turn(t, k, nic, VFWish{VF: new("0-1"), MTU: new(uint32(9000))})
	if err != nil || before["0.mtu"] != noMTU || after["0.mtu"] != "9000" || after["1.mtu"] != "9000" || after["0.driver"] != networkDriver {
		t.Errorf("%v, then %v, %v", before, after, err)
	}
	k.vfio(1, 21, vfioPCI)
	delete(k.files, vfDir(1)+"/net/eth11/mtu")
	delete(k.files, vfDir(1)+"/net/eth11/flags")
	if _, _, err := turn(t, k, nic, VFWish{VF: new("1"), MTU: new(uint32(1500))}); err == nil || !strings.Contains(err.Error(), "its driver is vfio-pci") {
		t.Error(err)
	}
}

// TestAutoprobeIsPutBack: who is killed while it is on finds in the journal what it
// was, and writes that.
func TestAutoprobeIsPutBack(t *testing.T) {
	k, nic := smartKernel(t, 1)
	state, _, err := VFs().Read(t.Context(), k, nic)
	if err != nil || state[keyAutoprobe] != "off" {
		t.Fatalf("%v, %v", state, err)
	}
	k.files[pfDir+"/sriov_drivers_autoprobe"] = "1\n"
	now, _, err := VFs().Read(t.Context(), k, nic)
	if err == nil {
		err = VFs().Write(t.Context(), k, nic, now, state)
	}
	if err != nil || strings.TrimSpace(k.files[pfDir+"/sriov_drivers_autoprobe"]) != "0" {
		t.Errorf("autoprobe is %s, %v", k.files[pfDir+"/sriov_drivers_autoprobe"], err)
	}
}

// TestLimitsInFirmware: what only the vendor's tool changes is said with its
// command, and nothing is written.
func TestLimitsInFirmware(t *testing.T) {
	k, nic := smartKernel(t, 0)
	resolve := func(n uint32) error {
		current, _, err := Counting().Read(t.Context(), k, nic)
		if err != nil {
			t.Fatal(err)
		}
		_, err = resolveCount(t.Context(), tuning.Ask{Reader: k, NIC: nic}, CountWish{VFs: &n}, current)
		return err
	}
	if err := resolve(8); err != nil {
		t.Error(err)
	}
	for driver, want := range map[string]string{
		"mlx5_core": "mlxconfig -d 0000:3b:00.0 set SRIOV_EN=1 NUM_OF_VFS=16",
		"bnxt_en":   "niccli -dev DEVICE nvm -setoption number_of_vfs_per_pf -scope 0 -value 16",
		"ice":       "fixed in the driver or the device",
		"sfc":       "sfboot --adapter=eth0 switch-mode=sriov vf-count=16",
		"nfp":       "devlink dev flash pci/0000:3b:00.0 file FILE",
		"qede":      "its vendor's tool sets them in the firmware",
	} {
		k.files[pfDir+"/driver"] = "-> ../../../../bus/pci/drivers/" + driver
		if err := resolve(16); err == nil || !strings.Contains(err.Error(), "8 VFs at most") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", driver, err, want)
		}
	}
	// Switched off as a whole, the card shows nothing of SR-IOV.
	for file := range k.files {
		if strings.HasPrefix(file, pfDir+"/sriov_") {
			delete(k.files, file)
		}
	}
	for driver, want := range map[string]string{
		"mlx5_core": "no virtual functions; if the card can have some, its firmware has SR-IOV switched off: mlxconfig -d 0000:3b:00.0 set SRIOV_EN=1",
		"bnxt_en":   "devlink dev param set pci/0000:3b:00.0 name enable_sriov value true cmode permanent",
		"sfc":       "its firmware has SR-IOV switched off: sfboot --adapter=eth0 switch-mode=sriov vf-count=8",
		"cxgb4":     "echo N > /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs",
		"e1000e":    "no virtual functions",
	} {
		k.files[pfDir+"/driver"] = "-> ../../../../bus/pci/drivers/" + driver
		_, _, err := Counting().Read(t.Context(), k, nic)
		if kernel.ReasonOf(err) != kernel.Unsupported || !strings.Contains(err.Error(), want) || driver == "e1000e" && strings.Contains(err.Error(), "firmware") {
			t.Errorf("%s: %v, want %s", driver, err, want)
		}
	}
	if len(k.did) > 0 {
		t.Error(k.did)
	}
}

// TestSwitchMode: each driver gets the sequence that it wants, and what it refuses
// leaves the VFs as they were.
func TestSwitchMode(t *testing.T) {
	knob := SwitchMode()
	for driver, test := range map[string]struct {
		bound bool // afterwards
		did   []string
	}{
		"mlx5_core": {true, []string{"driver/unbind 0000:3b:02.0", "driver/unbind 0000:3b:02.1", "devlink ESWITCH_SET", "devlink ESWITCH_SET"}},
		"ice":       {false, []string{"0000:3b:00.0/sriov_numvfs 0", "devlink ESWITCH_SET", "0000:3b:00.0/sriov_drivers_autoprobe 0", "0000:3b:00.0/sriov_numvfs 2", "devlink ESWITCH_SET"}},
	} {
		t.Run(driver, func(t *testing.T) {
			k, nic := smartKernel(t, 2)
			k.files[pfDir+"/driver"] = "-> ../../../../bus/pci/drivers/" + driver
			k.files[pfDir+"/sriov_drivers_autoprobe"] = "1\n"
			k.answerSwitch(0)
			current, _, err := knob.Read(t.Context(), k, nic)
			if err != nil || *current.Mode != modeLegacy || *current.InlineMode != "none" {
				t.Fatalf("%+v, %v", current, err)
			}
			next, err := resolveSwitch(t.Context(), tuning.Ask{Reader: k, NIC: nic}, SwitchState{Mode: new(modeSwitchdev), InlineMode: new("transport")}, current)
			if err == nil {
				err = knob.Write(t.Context(), k, nic, current, next)
			}
			if err != nil || k.mode != 1 || k.inline != 3 {
				t.Fatalf("mode %d, inline %d, %v", k.mode, k.inline, err)
			}
			did := slices.DeleteFunc(slices.Clone(k.did), func(s string) bool { return strings.Contains(s, "drivers_probe") })
			if !slices.Equal(did, test.did) {
				t.Errorf("it did %q, want %q", did, test.did)
			}
			for n := range 2 {
				if bound := k.files[vfDir(n)+"/driver"] != ""; bound != test.bound {
					t.Errorf("VF %d bound: %v", n, bound)
				}
			}
			for n := range 2 {
				delete(k.files, vfDir(n)+"/driver")
			}
			if err := knob.Write(t.Context(), k, nic, next, current); err != nil || k.mode != 0 || k.inline != 0 {
				t.Errorf("back: mode %d, inline %d, %v", k.mode, k.inline, err)
			}
		})
	}

	k, nic := smartKernel(t, 2)
	k.answerSwitch(0)
	current := SwitchState{Mode: new(modeLegacy), InlineMode: new("none")}
	if _, err := resolveSwitch(t.Context(), tuning.Ask{Reader: k, NIC: nic}, SwitchState{Mode: new("switch")}, current); err == nil || !strings.Contains(err.Error(), "none of legacy, switchdev") {
		t.Error(err)
	}
	k.files[pfDir+"/driver"] = "-> ../../../../bus/pci/drivers/nfp"
	if _, err := resolveSwitch(t.Context(), tuning.Ask{Reader: k, NIC: nic}, SwitchState{Mode: new(modeSwitchdev)}, current); kernel.ReasonOf(err) != kernel.Unsupported ||
		!strings.Contains(err.Error(), "devlink dev flash pci/0000:3b:00.0") {
		t.Error(err)
	}
	delete(k.netlink, "devlink DEV_GET dump")
	k.netlink["devlink DEV_GET dump"] = func(kernel.Request) ([]kernel.Message, error) { return nil, nil }
	if _, _, err := knob.Read(t.Context(), k, nic); kernel.ReasonOf(err) != kernel.Unsupported {
		t.Errorf("without devlink: %v", err)
	}
}

// TestForeignVFsStay: ice's VFs would have to go for another mode, and they are not ours
// where somebody else makes them.
func TestForeignVFsStay(t *testing.T) {
	k, nic := smartKernel(t, 2)
	k.answerSwitch(0)
	for _, c := range []struct {
		driver, count, mode string
		refused             bool
	}{
		{"ice", "{vfs: 2, externally-managed: on}", "switchdev", true},
		{"ice", "{vfs: 2, externally-managed: on}", "legacy", false},
		{"ice", "{vfs: 2, externally-managed: off}", "switchdev", false},
		{"ice", "{vfs: 2}", "switchdev", false},
		{"mlx5_core", "{vfs: 2, externally-managed: on}", "switchdev", false},
	} {
		k.files[pfDir+"/driver"] = "-> ../../../../bus/pci/drivers/" + c.driver
		settings := []tuning.Setting{Counting(), SwitchMode()}
		_, err := planFor(t, k, nic, settings, fmt.Sprintf("{sriov: %s, eswitch: {mode: %s}}", c.count, c.mode))
		if c.refused != (err != nil && strings.Contains(err.Error(), "they are somebody else's (sriov: externally-managed)")) || !c.refused && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestRefusedMode: the VFs have their drivers back.
func TestRefusedMode(t *testing.T) {
	k, nic := smartKernel(t, 2)
	k.files[pfDir+"/sriov_drivers_autoprobe"] = "1\n"
	k.answerSwitch(0)
	next := SwitchState{Mode: new(modeSwitchdev)}
	refusing := &refusingKernel{k}
	err := SwitchMode().Write(t.Context(), refusing, nic, SwitchState{Mode: new(modeLegacy)}, next)
	if err == nil || !strings.Contains(err.Error(), "E-Switch is busy") {
		t.Error(err)
	}
	for n := range 2 {
		if k.files[vfDir(n)+"/driver"] == "" {
			t.Errorf("VF %d has no driver", n)
		}
	}
}

type refusingKernel struct{ *fakeKernel }

func (*refusingKernel) NetlinkSet(context.Context, kernel.Request) error {
	return &kernel.Error{Op: "devlink ESWITCH_SET", Err: syscall.EBUSY, Message: "E-Switch is busy"}
}

func TestKeptInSwitchdev(t *testing.T) {
	before := VFState{"0.vlan": "100", "0.mac": "02:00:00:00:00:01", "0.trust": "on", "0.driver": "netdev", keyAutoprobe: "on"}
	kept, err := keepVFs(tuning.Ask{}, before)
	if err != nil || len(kept) != 4 || kept["0.vlan"] != "100" {
		t.Errorf("%v, %v", kept, err)
	}
	planned, err := tuning.PlannedOf(SwitchSetting, SwitchState{Mode: new(modeLegacy)}, SwitchState{Mode: new(modeSwitchdev)})
	if err != nil {
		t.Fatal(err)
	}
	kept, err = keepVFs(tuning.Ask{Planned: planned}, before)
	if err != nil || len(kept) != 2 || kept["0.mac"] == "" || kept["0.driver"] == "" {
		t.Errorf("%v, %v", kept, err)
	}
}

// TestAddressesOfTheirOwn: what a VF's user chose may be listed as what the PF assigned.
// A plan that assigns it says so, and says nothing of what nobody else can have chosen.
func TestAddressesOfTheirOwn(t *testing.T) {
	pf := inventory.NIC{Name: "eth0", PermanentMAC: "02:00:00:00:00:10", Driver: &inventory.Driver{Name: "igb"}}
	state := VFState{}
	for n, vf := range []struct{ mac, driver, trust string }{
		{"02:aa:00:00:00:00", networkDriver, "off"},
		{"02:aa:00:00:00:01", networkDriver, "on"},
		{"02:aa:00:00:00:02", vfioPCI, "off"},
		{noAddress, networkDriver, "off"},
		{derivedMAC(&pf, 4), networkDriver, "off"},
		{"02:aa:00:00:00:05", networkDriver, "off"},
		{"02:aa:00:00:00:06", networkDriver, "off"},
	} {
		state[keyOf(n, keyMAC)], state[keyOf(n, keyDriver)], state[keyOf(n, keyTrust)] = vf.mac, vf.driver, vf.trust
	}
	if got := chosenBy(pf, state, 6); !slices.Equal(got, []string{"0", "5"}) {
		t.Errorf("%q", got)
	}
	pf.Driver.Name = "mlx5_core"
	if got := chosenBy(pf, state, 6); len(got) > 0 {
		t.Errorf("mlx5 lists what the PF assigned only: %q", got)
	}
}

func TestNamesOfRepresentors(t *testing.T) {
	wish := func(current RepresentorState, items ...RepresentorWish) (RepresentorState, error) {
		k, nic := smartKernel(t, 2)
		return resolveRepresentors(t.Context(), tuning.Ask{Reader: k, NIC: nic}, items, current)
	}
	got, err := wish(RepresentorState{"0.name": "eth3", "1.name": "eth4", "1.hw-tc-offload": "off"},
		RepresentorWish{VF: new("0-1"), Name: new("{pf}r{vf}")}, RepresentorWish{VF: new("1"), TCOffload: new(true)})
	if err != nil || got["0.name"] != "eth0r0" || got["1.name"] != "eth0r1" || got["1.hw-tc-offload"] != "on" {
		t.Errorf("%v, %v", got, err)
	}
	for want, item := range map[string]RepresentorWish{
		"would both be called rep":      {VF: new("0-1"), Name: new("rep")},
		`"rep%d" is no name`:            {VF: new("0"), Name: new("rep%d")},
		"there is no VF 2":              {VF: new("0-2"), TCOffload: new(true)},
		"vf is missing":                 {TCOffload: new(true)},
		`"{vg}" is no name`:             {VF: new("0"), Name: new("{vg}")},
		`"a-name-too-long0" is no name`: {VF: new("0"), Name: new("a-name-too-long{vf}")},
	} {
		if got, err := wish(nil, item); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
	}
}

// TestUnmanaged: udev is told, and of the network devices that are there it is asked
// to look at them again. Without udev there is nobody to tell.
func TestUnmanaged(t *testing.T) { synctest.Test(t, testUnmanaged) }

func testUnmanaged(t *testing.T) {
	k, nic := smartKernel(t, 2)
	knob := Unmanaged()
	if current, _, err := knob.Read(t.Context(), k, nic); kernel.ReasonOf(err) != kernel.Unsupported {
		t.Errorf("without udev: %+v, %v", current, err)
	}
	k.files["/run/udev/control"] = ""
	current, _, err := knob.Read(t.Context(), k, nic)
	if err != nil || current.Unmanaged == nil || *current.Unmanaged {
		t.Fatalf("%+v, %v", current, err)
	}
	err = knob.Write(t.Context(), k, nic, current, Management{new(true)})
	if want := []string{"rules", "eth10/uevent change", "eth11/uevent change"}; err != nil || !slices.Equal(k.did, want) {
		t.Errorf("%v, %v", k.did, err)
	}
	const file = kernel.UdevRulesDir + "/81-nictune-vfs-pci-0000-3b-00.0.rules"
	if rules := k.files[file]; !strings.Contains(rules, `"*PCI_SLOT_NAME=0000:3b:00.0*"`) || !strings.Contains(rules, `ENV{NM_UNMANAGED}="1"`) {
		t.Errorf("%s: %q", file, rules)
	}
	again, _, err := knob.Read(t.Context(), k, nic)
	if err != nil || !*again.Unmanaged {
		t.Errorf("%+v, %v", again, err)
	}
	if err := knob.Write(t.Context(), k, nic, again, current); err != nil || k.files[file] != "" {
		t.Errorf("%q, %v", k.files[file], err)
	}
}

// managed is a host with udev, where these programs run, and an engine for it.
func managed(t *testing.T, vfs int, programs ...string) (*fakeKernel, inventory.NIC, *tuning.Engine) {
	t.Helper()
	k, nic := smartKernel(t, vfs)
	k.files[pfDir+"/sriov_drivers_autoprobe"] = "1\n"
	k.files["/run/udev/control"] = ""
	for i, name := range append([]string{"systemd"}, programs...) {
		k.files[fmt.Sprintf("/proc/%d/comm", i+1)] = name[:min(len(name), 15)] + "\n"
		k.files[fmt.Sprintf("/proc/%d/cmdline", i+1)] = "/usr/sbin/" + name + "\x00"
	}
	for _, request := range []string{"route LINK_GET dump", "route ADDR_GET dump", "route ROUTE_GET dump"} {
		k.netlink[request] = func(kernel.Request) ([]kernel.Message, error) { return nil, nil }
	}
	store, err := tuning.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	counting := Counting()
	counting.Victims = nil // for whom all of an inventory is read
	return k, nic, &tuning.Engine{Settings: []tuning.Setting{counting, Unmanaged(), Drivers()}, Writer: k, Store: store, Settle: time.Second}
}

// planFor plans what settings say of the PF.
func planFor(t *testing.T, k *fakeKernel, nic inventory.NIC, settings []tuning.Setting, say string) (*tuning.Plan, error) {
	t.Helper()
	documents, err := policies.Parse("p.yaml", []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: eth0}\nsettings: "+say+"\n"))
	if err == nil {
		documents, err = policies.Bind(documents, tuning.Catalogue(settings))
	}
	if err != nil {
		t.Fatal(err)
	}
	wants, _, err := policies.Resolve(documents, policies.Host{}, []inventory.NIC{nic})
	if err != nil {
		t.Fatal(err)
	}
	return tuning.MakePlan(t.Context(), k, settings, wants, nil)
}

// plannedFor is the plan where there is one.
func plannedFor(t *testing.T, k *fakeKernel, nic inventory.NIC, settings []tuning.Setting, say string) *tuning.Plan {
	t.Helper()
	plan, err := planFor(t, k, nic, settings, say)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestManagersAreTold: who would set up the network devices of VFs is told before these
// are made, without being asked for it, unless a policy says otherwise; and a rollback
// takes it back.
func TestManagersAreTold(t *testing.T) {
	const rules = kernel.UdevRulesDir + "/81-nictune-vfs-pci-0000-3b-00.0.rules"
	for _, c := range []struct {
		program, say string
		vfs          int
		did          string // before VFs are made
		told         bool   // afterwards
	}{
		{"NetworkManager", "{sriov: {vfs: 2}}", 0, "rules, 0000:3b:00.0/sriov_drivers_autoprobe 0, 0000:3b:00.0/sriov_numvfs 2", true},
		{"systemd-networkd", "{sriov: {vfs: 2}}", 0, "rules, 0000:3b:00.0/sriov_drivers_autoprobe 0, 0000:3b:00.0/sriov_numvfs 2", true},
		{"systemd-networkd-wait-online", "{sriov: {vfs: 2}}", 0, "0000:3b:00.0/sriov_drivers_autoprobe 0, 0000:3b:00.0/sriov_numvfs 2", false},
		{"irqbalance", "{sriov: {vfs: 2}, vf-netdevs: {unmanaged: on}}", 0, "rules, 0000:3b:00.0/sriov_drivers_autoprobe 0, 0000:3b:00.0/sriov_numvfs 2", true},
		{"NetworkManager", "{sriov: {vfs: 2}, vf-netdevs: {unmanaged: off}}", 0, "0000:3b:00.0/sriov_drivers_autoprobe 0, 0000:3b:00.0/sriov_numvfs 2", false},
		{"NetworkManager", "{sriov: {vfs: 2, externally-managed: on}}", 2, "", false},
		{"NetworkManager", "{sriov: {vfs: 0}}", 2, "0000:3b:00.0/sriov_numvfs 0", false},
	} {
		t.Run(c.program+c.say, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // udev is given seconds
				k, nic, e := managed(t, 2, c.program)
				if c.vfs == 0 {
					if err := k.WriteFile(t.Context(), pfDir+"/sriov_numvfs", []byte("0")); err != nil {
						t.Fatal(err)
					}
					k.did = nil
				}
				plan := plannedFor(t, k, nic, e.Settings, c.say)
				done, err := e.Apply(t.Context(), plan, []inventory.NIC{nic}, tuning.Request{Allow: tuning.NICReset, Disrupt: []string{"eth0"}})
				if err != nil {
					t.Fatal(err)
				}
				did := strings.Join(slices.DeleteFunc(slices.Clone(k.did), func(s string) bool {
					return strings.Contains(s, "drivers_probe") || strings.HasSuffix(s, "/uevent change") || strings.HasSuffix(s, "sriov_drivers_autoprobe 1")
				}), ", ")
				if told := k.files[rules] != ""; did != c.did || told != c.told {
					t.Errorf("it did %s and told %v, want %s and %v", did, told, c.did, c.told)
				}
				if done == nil {
					return
				}
				if _, err := e.Rollback(t.Context(), done.ID, []inventory.NIC{nic}, tuning.Request{Allow: tuning.NICReset, Disrupt: []string{"eth0"}}, false); err != nil {
					t.Error(err)
				}
				if k.files[rules] != "" || strings.TrimSpace(k.files[pfDir+"/sriov_numvfs"]) != strconv.Itoa(c.vfs) {
					t.Errorf("after the rollback: %q, %s VFs", k.files[rules], k.files[pfDir+"/sriov_numvfs"])
				}
			})
		})
	}
}
