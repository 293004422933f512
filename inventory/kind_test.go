package inventory

import (
	"strings"
	"testing"
)

func TestFunctionOf(t *testing.T) {
	pci := func(p PCI, n NIC) NIC {
		p.Address = "0000:3b:00.0"
		n.PCI = &p
		if n.Parent == nil {
			n.Parent = &Parent{Bus: "pci", Address: p.Address}
		}
		return n
	}
	port := func(flavour string) *Devlink { return &Devlink{Port: &DevlinkPort{Flavour: flavour}} }
	for _, c := range []struct {
		name string
		nic  NIC
		want Function
	}{
		{"a veth", NIC{Type: "veth"}, Virtual},
		{"a wired port without functions", pci(PCI{VendorID: "8086", DeviceID: "10d3"}, NIC{}), Plain},
		{"a function that can have VFs", pci(PCI{SRIOV: &SRIOV{TotalVFs: 7}}, NIC{}), PF},
		{"SR-IOV that the firmware switched off", pci(PCI{SRIOV: &SRIOV{}}, NIC{}), Plain},
		{"a VF whose PF is in sight", pci(PCI{PhysicalFunction: "0000:3b:00.0"}, NIC{}), VF},
		{"a VF that has its own SR-IOV capability", pci(PCI{PhysicalFunction: "0000:3b:00.0", SRIOV: &SRIOV{TotalVFs: 4}}, NIC{}), VF},
		{"igbvf in a guest", pci(PCI{VendorID: "8086", DeviceID: "10ca"}, NIC{Driver: &Driver{Name: "igbvf"}}), VF},
		{"mlx5 VF in a guest", pci(PCI{VendorID: "15b3", DeviceID: "101e"}, NIC{Driver: &Driver{Name: "mlx5_core"}}), VF},
		{"mlx5 PF with SR-IOV off", pci(PCI{VendorID: "15b3", DeviceID: "101d"}, NIC{Driver: &Driver{Name: "mlx5_core"}}), Plain},
		{"bnxt VF in a guest", pci(PCI{VendorID: "14e4", DeviceID: "1806"}, NIC{}), VF},
		{"another vendor's device of that number", pci(PCI{VendorID: "10ec", DeviceID: "1806"}, NIC{}), Plain},
		{"virtio", pci(PCI{VendorID: "1af4", DeviceID: "1041"}, NIC{Parent: &Parent{Bus: "virtio", Address: "virtio2"}}), Plain},
		{"a DPU's virtio VF", pci(PCI{VendorID: "1af4", DeviceID: "1041", PhysicalFunction: "0000:3b:00.2"},
			NIC{Parent: &Parent{Bus: "virtio", Address: "virtio2"}}), VF},
		{"USB", NIC{Parent: &Parent{Bus: "usb", Address: "1-1:1.0"}}, Plain},
		{"a subfunction", pci(PCI{SRIOV: &SRIOV{TotalVFs: 8}}, NIC{
			Parent: &Parent{Bus: "auxiliary", Address: "mlx5_core.sf.4"}, Devlink: port("virtual"),
		}), SF},
		{"a VF's representor by devlink", pci(PCI{SRIOV: &SRIOV{TotalVFs: 8}}, NIC{Devlink: port("pcivf")}), Representor},
		{"a representor without a parent", NIC{Port: Port{Name: "pf0vf3", SwitchID: "aa"}}, Representor},
		{"a representor by its name", pci(PCI{SRIOV: &SRIOV{TotalVFs: 8}}, NIC{Port: Port{Name: "c1pf0sf88", SwitchID: "aa"}}), Representor},
		{"the name without a switch", pci(PCI{SRIOV: &SRIOV{TotalVFs: 8}}, NIC{Port: Port{Name: "pf0vf3"}}), PF},
		{"an uplink in switchdev mode", pci(PCI{SRIOV: &SRIOV{TotalVFs: 8}}, NIC{Port: Port{Name: "p0", SwitchID: "aa"}, Devlink: port("physical")}), PF},
		{"netdevsim", NIC{Parent: &Parent{Bus: "netdevsim", Address: "netdevsim1"}, Devlink: port("physical")}, Plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := functionOf(&c.nic); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestIsRepresentorName(t *testing.T) {
	for name, want := range map[string]bool{
		"pf0": true, "pf0vf3": true, "pf12sf88": true, "c1pf0": true, "c1pf0vf127": true,
		"": false, "p0": false, "p0s1": false, "n1": false, "pf": false, "pfvf3": false, "pf0vf": false,
		"pf0vf3x": false, "cpf0": false, "c1": false, "pf0pf1": false,
	} {
		if got := isRepresentorName(name); got != want {
			t.Errorf("%q: got %t", name, got)
		}
	}
}

// FuzzIsRepresentorName: a representor's name has the grammar that devlink
// prints, and nothing panics.
func FuzzIsRepresentorName(f *testing.F) {
	for _, seed := range []string{"", "pf0", "pf0vf3", "c1pf0sf88", "p0", "c", "pf0vf", "c9pf9vf9sf9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if isRepresentorName(name) && (!strings.Contains(name, "pf") || strings.Trim(name, "cpfvs0123456789") != "") {
			t.Errorf("%q is taken for a representor's", name)
		}
	})
}
