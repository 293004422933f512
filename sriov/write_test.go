package sriov

import (
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// fakeKernel is a fakeHost that can be written: with the rules of the kernel's
// drivers/pci (iov.c, pci-driver.c) as far as nothing in the lab has them.
type fakeKernel struct {
	*fakeHost
	kernel.Writer
	pool int
	// did is what was written, in order.
	did []string
}

func (k *fakeKernel) ReadFile(ctx context.Context, name string) ([]byte, error) {
	return k.fakeHost.ReadFile(ctx, name)
}
func (k *fakeKernel) ReadLink(ctx context.Context, name string) (string, error) {
	return k.fakeHost.ReadLink(ctx, name)
}
func (k *fakeKernel) ReadDir(ctx context.Context, name string) ([]string, error) {
	return k.fakeHost.ReadDir(ctx, name)
}
func (k *fakeKernel) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	return k.fakeHost.Netlink(ctx, req)
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
}

func (k *fakeKernel) WriteFile(_ context.Context, name string, data []byte) error {
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
	case "drivers_probe":
		switch override := strings.TrimSpace(k.files[vfDir(vf)+"/driver_override"]); {
		case override == "" || override == "(null)":
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
	default:
		if _, there := k.files[name]; !there {
			return refuse(syscall.ENOENT)
		}
		k.files[name] = value + "\n"
	}
	return nil
}

// NetlinkSet knows ip link set NAME mtu N.
func (k *fakeKernel) NetlinkSet(_ context.Context, req kernel.Request) error {
	k.did = append(k.did, req.String())
	var name string
	a := kernel.AttributesAfter(req.Body, linkHeader)
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_IFNAME:
			name = a.String()
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
	before, after, err := turn(t, k, nic, VFWish{VF: new("0-3"), MSIX: new(uint32(12))}, VFWish{VF: new("4-7"), MSIX: new(uint32(4))})
	if err != nil {
		t.Fatal(err)
	}
	if before["0.msix"] != "8" || after["0.msix"] != "12" || after["7.msix"] != "4" || after["3.mtu"] != "9000" || after["3.driver"] != networkDriver {
		t.Errorf("before %v, after %v", before, after)
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
		"the VFs would have 65 vectors, and the PF has 64": {VF: new("0"), MSIX: new(uint32(9))},
		"a VF has at least one vector":                     {VF: new("0"), MSIX: new(uint32(0))},
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

// TestMTUOfVFs: a VF without a driver gets one for its MTU; one that a program
// drives has none.
func TestMTUOfVFs(t *testing.T) {
	k, nic := smartKernel(t, 2)
	delete(k.files, vfDir(0)+"/driver")
	delete(k.files, vfDir(0)+"/net/eth10/mtu")
	before, after, err := turn(t, k, nic, VFWish{VF: new("0-1"), MTU: new(uint32(9000))})
	if err != nil || before["0.mtu"] != noMTU || after["0.mtu"] != "9000" || after["1.mtu"] != "9000" || after["0.driver"] != networkDriver {
		t.Errorf("%v, then %v, %v", before, after, err)
	}
	k.vfio(1, 21, vfioPCI)
	delete(k.files, vfDir(1)+"/net/eth11/mtu")
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
		"bnxt_en":   "number_of_vfs_per_pf",
		"ice":       "fixed in the driver or the device",
		"nfp":       "its vendor's tool sets them in the firmware",
	} {
		k.files[pfDir+"/driver"] = "-> ../../../../bus/pci/drivers/" + driver
		if err := resolve(16); err == nil || !strings.Contains(err.Error(), "8 VFs at most") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", driver, err, want)
		}
	}
	if len(k.did) > 0 {
		t.Error(k.did)
	}
}
