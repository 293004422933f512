package inventory

import (
	"errors"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

func TestIdentify(t *testing.T) {
	for in, want := range map[string]PCI{
		// Captured: a virtio function, an igb of QEMU's, a root port of QEMU's.
		"pci:v00001AF4d00001041sv00001AF4sd00000001bc02sc00i00": {
			VendorID: "1af4", DeviceID: "1041", SubsystemVendorID: "1af4", SubsystemDeviceID: "0001", Class: "020000",
		},
		"pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00": {
			VendorID: "8086", DeviceID: "10c9", SubsystemVendorID: "8086", SubsystemDeviceID: "a03c", Class: "020000",
		},
		"pci:v00001B36d0000000Csv00000000sd00000000bc06sc04i00": {VendorID: "1b36", DeviceID: "000c", Class: "060400"},
		"pci:v00001B36d0000000CsvFFFFFFFFsdFFFFFFFFbc06sc04i01": {VendorID: "1b36", DeviceID: "000c", Class: "060401"},
	} {
		var got PCI
		if err := got.identify(in); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		same(t, in, got, want)
	}
	for _, in := range []string{
		"", "pci:", "virtio:d00000001v00001AF4", "pci:v00001AF4", "pci:v00001AF4d00001041sv00001AF4sd00000001bc02sc00i0",
		"pci:v00001AF4d00001041sv00001AF4sd00000001bc02sc00i000", "pci:v0000-AF4d00001041sv00001AF4sd00000001bc02sc00i00",
		"v00001AF4d00001041sv00001AF4sd00000001bc02sc00i00",
	} {
		var got PCI
		if err := got.identify(in); !errors.Is(err, kernel.ErrMalformed) || got.VendorID != "" {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add("pci:v00001AF4d00001041sv00001AF4sd00000001bc02sc00i00")
	f.Add("pci:v")
	f.Fuzz(func(t *testing.T, in string) {
		var got PCI
		if err := got.identify(in); err == nil && (len(got.VendorID) != 4 || len(got.DeviceID) != 4 || len(got.Class) != 6) {
			t.Fatalf("%q: %+v", in, got)
		}
	})
}

func TestPCIPaths(t *testing.T) {
	for _, c := range []struct {
		dir, function string
		hops          []string
	}{
		{"/sys/devices/pci0000:00/0000:00:03.0/virtio2", "/sys/devices/pci0000:00/0000:00:03.0", nil},
		{
			"/sys/devices/pci0000:80/0000:80:00.0/0000:81:00.0", "/sys/devices/pci0000:80/0000:80:00.0/0000:81:00.0",
			[]string{"/sys/devices/pci0000:80/0000:80:00.0"},
		},
		{
			// Intel VMD: a host bridge of its own below an endpoint.
			"/sys/devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:00:02.0/10000:01:00.0",
			"/sys/devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:00:02.0/10000:01:00.0",
			[]string{"/sys/devices/pci0000:00/0000:00:0e.0/pci10000:00/10000:00:02.0"},
		},
		{"/sys/devices/platform/soc/1c50000.ethernet", "", nil},
		{"", "", nil},
		{"/", "", nil},
	} {
		function, ok := pciFunctionOf(c.dir)
		if function != c.function || ok != (c.function != "") {
			t.Errorf("%s: function %q, %v", c.dir, function, ok)
		}
		same(t, c.dir, pciHopsOf(function), c.hops)
	}
}
