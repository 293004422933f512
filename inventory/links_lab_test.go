//go:build lab

package inventory

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// TestLinksInTheLab makes the comparisons of the namespace tests beside real
// drivers, on a kernel that has every kind of software device.
func TestLinksInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	labtest.Run(t, "modprobe", "bonding", "max_bonds=0")
	for _, module := range strings.Fields("veth bridge vrf ifb macvlan macvtap vxlan dummy 8021q tun team") {
		labtest.Run(t, "modprobe", module)
	}
	for _, driver := range []string{"igb", "e1000e", "virtio_net", "vmxnet3"} {
		labtest.Run(t, "ip", "link", "set", labtest.NIC(t, driver), "up", "multicast", "on")
	}
	t.Run("links", TestLinksAgreeWithIP)
	t.Run("stack", TestStackAgreesWithSysfs)
	t.Run("counts", TestLinksCountersAndSysfs)
	t.Run("groups", TestMulticastAgreesWithIP)
	t.Run("mdb", TestMDBAgreesWithBridge)
	t.Run("netdev", TestNetdevAgreesWithSysfs)
	t.Run("statistics", TestStatisticsAgreeWithSysfs)
}

// TestFunctionsInTheLab tells the parts of real devices apart.
func TestFunctionsInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	pf := labtest.NIC(t, "igb")
	numVFs := "/sys/class/net/" + pf + "/device/sriov_numvfs"
	if err := os.WriteFile(numVFs, []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(numVFs, []byte("0"), 0); err != nil {
			t.Error(err)
		}
	})
	vfs := labtest.NICs(t, "igbvf", 2)
	simulated := labtest.Netdevsim(t, 10, 1)
	labtest.Run(t, "modprobe", "dummy")
	labtest.Run(t, "ip", "link", "add", "software0", "type", "dummy")
	t.Cleanup(func() {
		if err := exec.Command("ip", "link", "del", "software0").Run(); err != nil {
			t.Error(err)
		}
	})

	inv, err := Read(t.Context(), open(t))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Function{
		pf: PF, vfs[0]: VF, vfs[1]: VF, simulated[0]: Plain, "software0": Virtual,
		labtest.NIC(t, "e1000e"): Plain, labtest.NIC(t, "virtio_net"): Plain, labtest.NIC(t, "vmxnet3"): Plain,
	}
	for _, n := range inv.NICs {
		if f, ok := want[n.Name]; ok {
			if n.Function != f {
				t.Errorf("%s is %s and counts as %s", n.Name, f, n.Function)
			}
			delete(want, n.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
	// In a guest a VF's PF is out of sight; the driver still tells.
	for _, n := range inv.NICs {
		if slices.Contains(vfs, n.Name) {
			alone := n
			hidden := *n.PCI
			hidden.PhysicalFunction, hidden.VFIndex = "", nil
			alone.PCI = &hidden
			if f := functionOf(&alone); f != VF {
				t.Errorf("%s without its PF counts as %s", n.Name, f)
			}
		}
	}
}
