package sriov

import (
	"strings"
	"testing"
)

func TestParseCgroup(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for text, want := range map[string][2]string{
		"0::/user.slice/user-1000.slice/session-3.scope\n":                                                                    {},
		"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1a2b_3c.slice/cri-containerd-" + id + ".scope\n": {id, ""},
		"0::/kubepods/burstable/podaa-bb/" + id + "\n":                                                                        {id, ""},
		"12:devices:/docker/" + id + "\n11:cpu:/docker/" + id + "\n":                                                          {id, ""},
		"0::/system.slice/docker-" + id + ".scope\n":                                                                          {id, ""},
		"0::/machine.slice/libpod-" + id + ".scope/container\n":                                                               {id, ""},
		"0::/machine.slice/crio-" + id + ".scope\n":                                                                           {id, ""},
		"0::/lxc.payload.web\n":                                                                                               {"web", ""},
		`0::/machine.slice/machine-qemu\x2d1\x2dweb1.scope/emulator`:                                                          {"", "web1"},
		`0::/machine.slice/machine-qemu\x2d12\x2ddb\x2d2.scope/libvirt`:                                                       {"", "db-2"},
		`0::/machine.slice/machine-qemu\x2.scope`:                                                                             {},
		"broken\n0:\n": {},
	} {
		if container, vm := parseCgroup([]byte(text)); container != want[0] || vm != want[1] {
			t.Errorf("%q: container %q, VM %q", text, container, vm)
		}
	}
}

func TestDriverKind(t *testing.T) {
	for _, c := range []struct {
		driver string
		vfio   bool
		want   DriverKind
	}{
		{"", false, DriverNone}, {"igbvf", false, DriverKernel}, {"vfio-pci", true, DriverVFIO}, {"vfio-pci", false, DriverVFIO},
		{"mlx5_vfio_pci", false, DriverVFIOVariant}, {"pds-vfio-pci", false, DriverVFIOVariant}, {"xe-vfio", true, DriverVFIOVariant},
	} {
		if got := driverKind(c.driver, c.vfio); got != c.want {
			t.Errorf("%q: %s", c.driver, got)
		}
	}
}

func FuzzParseCgroup(f *testing.F) {
	f.Add([]byte(`0::/machine.slice/machine-qemu\x2d1\x2dweb1.scope/emulator`))
	f.Add([]byte("0::/docker/" + strings.Repeat("a", 64)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if container, vm := parseCgroup(data); len(container)+len(vm) > len(data) {
			t.Errorf("%q %q", container, vm)
		}
	})
}
