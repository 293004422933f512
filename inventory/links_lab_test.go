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

// TestRepresentorsInTheLab finds the ports of a switch, by devlink and, for
// drivers without it, by their names alone.
func TestRepresentorsInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	uplink := labtest.Netdevsim(t, 11, 1)[0]
	if err := os.WriteFile("/sys/bus/netdevsim/devices/netdevsim11/sriov_numvfs", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "devlink", "dev", "eswitch", "set", "netdevsim/netdevsim11", "mode", "switchdev")

	// Not all of Read: asking netdevsim's representors for their timestamping
	// (nsim_get_ts_info) oopses Linux 6.12 with the RTNL lock held.
	s := surveyed(t, open(t), readDevlink, readPlaces, readFunctions)
	representors := 0
	for _, n := range s.nics {
		if n.Parent == nil || n.Parent.Address != "netdevsim11" {
			continue
		}
		for fact, got := range map[string]string{"phys_port_name": n.Port.Name, "phys_switch_id": n.Port.SwitchID} {
			b, err := os.ReadFile("/sys/class/net/" + n.Name + "/" + fact)
			if want := strings.TrimSpace(string(b)); err != nil || got != want || want == "" {
				t.Errorf("%s: %s is %q, sysfs says %q, %v", n.Name, fact, got, want, err)
			}
		}
		want := Representor
		if n.Name == uplink {
			want = Plain
		} else {
			representors++
		}
		alone := *n
		alone.Devlink = nil
		if byName := functionOf(&alone); n.Function != want || byName != want {
			t.Errorf("%s counts as %s, without devlink as %s; want %s", n.Name, n.Function, byName, want)
		}
	}
	if representors != 2 {
		t.Errorf("%d representors of 2 VFs", representors)
	}
}
