package inventory

import (
	"errors"
	"slices"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

// The throughputs are those of the PCI-SIG's generations, worked out by hand:
// 8b/10b leaves 0.25 and 0.5 GB/s a lane, 128b/130b 0.98462, 1.96923 and 3.93846,
// a flit of 256 bytes with 14 of CRC and FEC 7.5625 and 15.125.
func TestParsePCIeRate(t *testing.T) {
	for _, c := range []struct {
		speed, width string
		want         PCIeRate
	}{
		{"2.5 GT/s PCIe\n", "1\n", PCIeRate{2.5, 1, 0.25}},
		{"5.0 GT/s PCIe", "4", PCIeRate{5, 4, 2}},
		{"5 GT/s", "8", PCIeRate{5, 8, 4}},
		{"8.0 GT/s PCIe", "8", PCIeRate{8, 8, 7.877}},
		{"8 GT/s", "16", PCIeRate{8, 16, 15.754}},
		{"16.0 GT/s PCIe", "16", PCIeRate{16, 16, 31.508}},
		{"32.0 GT/s PCIe", "16", PCIeRate{32, 16, 63.015}},
		{"64.0 GT/s PCIe", "16", PCIeRate{64, 16, 121}},
		{"128.0 GT/s PCIe", "1", PCIeRate{128, 1, 15.125}},
		{"16.0 GT/s PCIe", "12", PCIeRate{16, 12, 23.631}},
	} {
		got, err := parsePCIeRate(c.speed, c.width)
		if err != nil || got == nil || *got != c.want {
			t.Errorf("%q x%q: %+v, %v, want %+v", c.speed, c.width, got, err, c.want)
		}
	}
	for _, c := range [][2]string{
		{"Unknown", "0"}, {"Unknown speed", "8"}, {"Unknown", "255"}, {"0.0 GT/s", "0"}, {"8.0 GT/s PCIe", "0"},
		{"8.0 GT/s PCIe", "63"}, {"8.0 GT/s PCIe", "255"}, {"", ""}, {"8.0 GT/s PCIe", "Unknown"},
	} {
		if got, err := parsePCIeRate(c[0], c[1]); got != nil || err != nil {
			t.Errorf("%q x%q: %+v, %v, want neither a rate nor an error", c[0], c[1], got, err)
		}
	}
	for _, c := range [][2]string{
		{"fast", "8"}, {"8.0", "8"}, {"NaN GT/s", "8"}, {"-8 GT/s", "8"}, {"1e300 GT/s", "8"}, {"8.0 GT/s PCIe", "x8"},
		{"8.0 GT/s PCIe", "-1"}, {"8.0 GT/s PCIe", "33"}, {"8.0 GT/s PCIe", ""},
	} {
		if got, err := parsePCIeRate(c[0], c[1]); got != nil || !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%q x%q: %+v, %v, want ErrMalformed", c[0], c[1], got, err)
		}
	}
}

func FuzzParsePCIeRate(f *testing.F) {
	f.Add("8.0 GT/s PCIe\n", "8\n")
	f.Add("Unknown", "255")
	f.Add("1e308 GT/s", "0")
	f.Fuzz(func(t *testing.T, speed, width string) {
		rate, err := parsePCIeRate(speed, width)
		if rate != nil && (err != nil || rate.GBs < 0 || rate.GBs > 1024/8*32 || rate.Width < 1) {
			t.Fatalf("%q x%q: %+v, %v", speed, width, rate, err)
		}
	})
}

func TestHopKinds(t *testing.T) {
	for _, c := range []struct {
		what    string
		express []bool
		want    []string
	}{
		{"on the root bus", []bool{true}, nil},
		{"behind a root port", []bool{true, true}, []string{"root-port"}},
		{"behind a switch", []bool{true, true, true, true}, []string{"root-port", "upstream-port", "downstream-port"}},
		{
			"behind two switches",
			[]bool{true, true, true, true, true, true},
			[]string{"root-port", "upstream-port", "downstream-port", "upstream-port", "downstream-port"},
		},
		{"behind a PCIe to PCI bridge", []bool{true, true, false}, []string{"root-port", "bridge"}},
		{"behind a PCI bridge", []bool{false, false}, []string{"bridge"}},
		{"a conventional device in a root port, as QEMU allows", []bool{true, false}, []string{"root-port"}},
		{
			"behind a PCI bridge behind a PCIe to PCI bridge",
			[]bool{true, true, false, false},
			[]string{"root-port", "bridge", "bridge"},
		},
		{"nothing", nil, nil},
	} {
		if got := hopKinds(c.express); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestBottleneck(t *testing.T) {
	link := func(gbs float64) *PCIeLink { return &PCIeLink{Current: &PCIeRate{GBs: gbs}} }
	for _, c := range []struct {
		what string
		pci  PCI
		want string
	}{
		{"no link is known", PCI{Address: "f", Path: []PCIHop{{Address: "r"}}}, ""},
		{"a switch's upstream port", PCI{
			Address: "f", Link: link(8),
			Path: []PCIHop{{Address: "r", Link: link(4)}, {Address: "u", Link: link(4)}, {Address: "d", Link: link(8)}},
		}, "u"},
		{"a tie, which the function wins", PCI{Address: "f", Link: link(4), Path: []PCIHop{{Address: "r", Link: link(4)}}}, "f"},
		{"the function's link is unknown", PCI{Address: "f", Path: []PCIHop{{Address: "r", Link: link(4)}}}, "r"},
		{"only a maximum is known", PCI{Address: "f", Link: &PCIeLink{Maximum: &PCIeRate{GBs: 1}}}, ""},
	} {
		if got := bottleneck(&c.pci); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}
