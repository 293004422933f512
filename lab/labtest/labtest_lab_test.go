//go:build lab

package labtest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMachine asserts that each profile is the machine that tests rely on: the drivers with their
// number of interfaces, the NUMA nodes and the IOMMU groups.
func TestMachine(t *testing.T) {
	Require(t)
	for driver, n := range map[string]map[string]int{
		"nics": {"igb": 2, "e1000e": 1, "virtio_net": 1, "vmxnet3": 1},
		"hub":  {"igb": 2, "virtio_net": 1, "vmxnet3": 1},
		"numa": {"igb": 2, "e1000e": 1, "virtio_net": 1},
	}[Profile()] {
		if got := NICs(t, driver, n); len(got) != n {
			t.Errorf("%s: %v, want %d interfaces", driver, got, n)
		}
	}
}

func TestEachNICHasItsOwnIOMMUGroup(t *testing.T) {
	Require(t, "nics", "hub")
	seen := map[string]string{}
	for _, driver := range []string{"igb", "e1000e", "virtio_net", "vmxnet3"} {
		for _, name := range byDriver(driver) {
			g := iommuGroup(t, name)
			if other, ok := seen[g]; ok {
				t.Errorf("%s and %s share IOMMU group %s", name, other, g)
			}
			seen[g] = name
		}
	}
	if len(seen) < 4 {
		t.Errorf("only %d groups: %v", len(seen), seen)
	}
}

func TestNUMA(t *testing.T) {
	Require(t, "numa")
	igb := NICs(t, "igb", 2)
	nodes := map[string]bool{}
	for _, name := range igb {
		nodes[read(t, name, "device/numa_node")] = true
	}
	if !nodes["0"] || !nodes["1"] {
		t.Errorf("the two igb are on nodes %v, want 0 and 1", nodes)
	}
	// The slot of one igb is wider and faster than the card.
	slots := map[string]bool{}
	for _, name := range igb {
		slots[read(t, name, "device/../max_link_speed")+" x"+read(t, name, "device/../max_link_width")] = true
	}
	if !slots["8.0 GT/s PCIe x8"] {
		t.Errorf("slots of the igb: %v, want one of 8.0 GT/s PCIe x8", slots)
	}
}

func TestVirtioHasQueuePairs(t *testing.T) {
	Require(t, "nics")
	name := NIC(t, "virtio_net")
	var channels []struct {
		Max int `json:"combined-max"`
	}
	if err := json.Unmarshal(Ethtool(t, "--json", "-l", name), &channels); err != nil {
		t.Fatal(err)
	}
	if len(channels) != 1 || channels[0].Max != 4 {
		t.Errorf("channels %+v, want at most 4", channels)
	}
	for n, want := range map[string]int{"2": 2, "4": 4} {
		Ethtool(t, "-L", name, "combined", n)
		queues, err := filepath.Glob("/sys/class/net/" + name + "/queues/rx-*")
		if err != nil || len(queues) != want {
			t.Errorf("after combined %s: %v %v", n, queues, err)
		}
	}
}

// TestVirtioSends shows that the network behind virtio-net takes packets, also after its rings
// changed: a backend that keeps them would look like a transmit timeout of the driver.
func TestVirtioSends(t *testing.T) {
	Require(t, "nics")
	name := NIC(t, "virtio_net")
	Run(t, "ip", "link", "set", name, "up")
	Ethtool(t, "-G", name, "tx", "256")
	t.Cleanup(func() { Ethtool(t, "-G", name, "tx", "1024") })
	sent := func() string { return read(t, name, "device/net/"+name+"/statistics/tx_packets") }
	before := sent()
	Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", name)
	t.Cleanup(func() { Run(t, "ip", "addr", "flush", "dev", name) })
	Eventually(t, "packets are sent", func() bool {
		Try(t, "ping", "-c", "1", "-W", "1", "192.0.2.2")
		return sent() != before
	})
}

func TestVFsHaveTheirOwnIOMMUGroups(t *testing.T) {
	Require(t, "nics")
	pf := NIC(t, "igb")
	vfs := makeVFs(t, pf)
	if p, a, b := iommuGroup(t, pf), iommuGroup(t, vfs[0]), iommuGroup(t, vfs[1]); a == b || p == a || p == b {
		t.Errorf("IOMMU groups: PF %s, VFs %s and %s", p, a, b)
	}
}

func TestVFsBehindTheSwitchShareTheirPFsIOMMUGroup(t *testing.T) {
	Require(t, "numa")
	igb := NICs(t, "igb", 2)
	pf := igb[slices.IndexFunc(igb, func(name string) bool { return read(t, name, "device/numa_node") == "1" })]
	vfs := makeVFs(t, pf)
	if p, a, b := iommuGroup(t, pf), iommuGroup(t, vfs[0]), iommuGroup(t, vfs[1]); p != a || p != b {
		t.Errorf("IOMMU groups: PF %s, VFs %s and %s", p, a, b)
	}
}

// makeVFs makes two VFs, which are gone at the end of the test.
func makeVFs(t *testing.T, pf string) []string {
	t.Helper()
	file := filepath.Join("/sys/class/net", pf, "device/sriov_numvfs")
	if err := os.WriteFile(file, []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(file, []byte("0"), 0) })
	return NICs(t, "igbvf", 2)
}

func TestCable(t *testing.T) {
	Require(t, "nics")
	name := NIC(t, "e1000e")
	Run(t, "ip", "link", "set", name, "up")
	carrier := func(want string) {
		t.Helper()
		Eventually(t, name+" has carrier "+want, func() bool {
			b, err := os.ReadFile("/sys/class/net/" + name + "/carrier")
			return err == nil && strings.TrimSpace(string(b)) == want
		})
	}
	carrier("1")
	SetLink(t, "e1000e0", false)
	carrier("0")
	SetLink(t, "e1000e0", true)
	carrier("1")
}

func TestUnplug(t *testing.T) {
	Require(t, "hub")
	n := len(NICs(t, "vmxnet3", 1))
	Unplug(t, "vmxnet30")
	if left := byDriver("vmxnet3"); len(left) != n-1 {
		t.Errorf("interfaces after the card is out: %v", left)
	}
	QMP(t, `{"execute": "device_add", "arguments": {"driver": "vmxnet3", "id": "vmxnet30", "bus": "rp3", "netdev": "net-vmxnet30", "romfile": "", "mac": "52:54:00:00:04:00"}}`)
	NICs(t, "vmxnet3", n)
}

func TestNetdevsimHasTheAddOn(t *testing.T) {
	Require(t, "nics")
	ports := Netdevsim(t, 10, 2)
	var module []struct {
		Name string `json:"vendor_name"`
	}
	if err := json.Unmarshal(Ethtool(t, "--json", "-m", ports[0]), &module); err != nil || len(module) != 1 || strings.TrimSpace(module[0].Name) != "NSIM-LAB" {
		t.Errorf("module EEPROM: %+v %v", module, err)
	}
	Ethtool(t, "-K", ports[0], "ntuple", "on")
	Ethtool(t, "-N", ports[0], "flow-type", "udp4", "dst-port", "53", "action", "0")
	if out := string(Ethtool(t, "-n", ports[0])); !strings.Contains(out, "Total 1 rules") {
		t.Errorf("rules: %s", out)
	}
}

func TestPCINames(t *testing.T) {
	Require(t)
	if out := string(Run(t, "lspci")); !strings.Contains(out, "82576 Gigabit Network Connection") {
		t.Errorf("lspci knows no names:\n%s", out)
	}
}

func TestMonitorRefuses(t *testing.T) {
	Require(t)
	if _, err := qmp(`{"execute": "set_link", "arguments": {"name": "none", "up": true}}`); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("error %v, want one that names the device", err)
	}
}

func read(t *testing.T, ifname, attr string) string {
	t.Helper()
	// EvalSymlinks first: ".." is meant in the device's place, not in /sys/class/net.
	dir, err := filepath.EvalSymlinks(filepath.Join("/sys/class/net", ifname, "device"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, strings.TrimPrefix(attr, "device/")))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// iommuGroup of an interface's PCI function; virtio hangs one below it.
func iommuGroup(t *testing.T, ifname string) string {
	t.Helper()
	for _, p := range []string{"device/iommu_group", "device/../iommu_group"} {
		dir, err := filepath.EvalSymlinks(filepath.Join("/sys/class/net", ifname, "device"))
		if err != nil {
			t.Fatal(err)
		}
		if link, err := os.Readlink(filepath.Join(dir, strings.TrimPrefix(p, "device/"))); err == nil {
			return filepath.Base(link)
		}
	}
	t.Fatalf("%s has no IOMMU group", ifname)
	return ""
}
