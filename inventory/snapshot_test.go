package inventory

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// snapshotHost is one of the machines whose sysfs ghw publishes: an excerpt,
// with no file that ghw doesn't need.
func snapshotHost(t *testing.T, name string) *mapHost {
	t.Helper()
	f, err := os.Open(filepath.Join("../internal/kernel/testdata/ghw", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	h := newMapHost(map[string]string{})
	for archive := tar.NewReader(z); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return h
		}
		if err != nil {
			t.Fatal(err)
		}
		switch at := "/" + filepath.Clean(header.Name); header.Typeflag {
		case tar.TypeDir:
		case tar.TypeSymlink:
			h.files[at] = "-> " + header.Linkname
		default:
			data, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			h.files[at] = string(data)
		}
	}
}

// A desktop with an AMD chipset: its NICs hang behind the chipset's switch. The
// excerpt has no link rates, so that nothing is said of them, nor of what kind
// the bridges are.
func TestPlacesOfSnapshot(t *testing.T) {
	h := snapshotHost(t, "amd64.tar.gz")
	onboard, i350 := pciNIC(1, "enp3s0", "0000:03:00.0"), pciNIC(2, "enp6s0f1", "0000:06:00.1")
	readPlaces(t.Context(), h.survey(onboard, i350))
	bridges := func(last, device string) []PCIHop {
		return []PCIHop{
			{Address: "0000:00:01.3", VendorID: "1022", DeviceID: "1453"},
			{Address: "0000:01:00.2", VendorID: "1022", DeviceID: "43b2"},
			{Address: last, VendorID: "1022", DeviceID: device},
		}
	}
	same(t, "onboard", onboard.PCI, &PCI{
		Address: "0000:03:00.0", VendorID: "10ec", DeviceID: "8168", SubsystemVendorID: "1043", SubsystemDeviceID: "8677",
		Class: "020000", Path: bridges("0000:02:00.0", "43b4"),
	})
	same(t, "I350", i350.PCI, &PCI{
		Address: "0000:06:00.1", VendorID: "8086", DeviceID: "1521", Class: "020000", Path: bridges("0000:02:04.0", "43b4"),
	})
	same(t, "NUMA, of a board that names no node", i350.NUMA, &NUMA{LocalCPUs: "0-11"})
	same(t, "IRQs, MSI or not", i350.IRQs, []IRQ{{Number: 34}})

	s := h.survey()
	readHost(t.Context(), s)
	same(t, "nodes", s.host.Nodes, []NUMANode{{ID: 0, CPUs: "0-11", Distances: []int{10}}})
	if s.host.CPUs.Model != "AMD Ryzen 5 1600 Six-Core Processor" || s.host.Architecture != "x86_64" {
		t.Errorf("%+v, %s", s.host.CPUs, s.host.Architecture)
	}
}
