package sriov

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

func configOf(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The spaces are an igb's, its VF's and a root port's, taken in the lab; the lab's
// tests compare the same fields with lspci.
func TestParseConfig(t *testing.T) {
	for name, want := range map[string]configSpace{
		"pf.config": {
			sriov: &sriovCapability{Capability: Capability{TotalVFs: 8, InitialVFs: 8, NumVFs: 2}, offset: 128, stride: 2, vfDeviceID: 0x10ca},
			msix:  new(10), maxPayload: new(128), kind: "bridge",
		},
		"vf.config": {msix: new(3), maxPayload: new(128), kind: "bridge"},
		"root.config": {
			acs:  &ACS{SourceValidation: true, RequestRedirect: true, CompletionRedirect: true, UpstreamForward: true},
			msix: new(1), maxPayload: new(128), kind: "root-port",
		},
	} {
		if got, err := parseConfig(configOf(t, name)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestParseConfigOfLess(t *testing.T) {
	whole := configOf(t, "pf.config")
	if _, err := parseConfig(whole[:64]); !errors.Is(err, fs.ErrPermission) || kernel.ReasonOf(err) != kernel.Denied {
		t.Errorf("64 bytes: %v", err)
	}
	if _, err := parseConfig(whole[:20]); !errors.Is(err, kernel.ErrMalformed) {
		t.Errorf("20 bytes: %v", err)
	}
	gone := make([]byte, 4096)
	for i := range gone {
		gone[i] = 0xff
	}
	if _, err := parseConfig(gone); !errors.Is(err, kernel.ErrMalformed) {
		t.Errorf("an unplugged device: %v", err)
	}
	// A conventional PCI function has 256 bytes.
	if c, err := parseConfig(whole[:256]); err != nil || c.sriov != nil || c.msix == nil {
		t.Errorf("256 bytes: %+v, %v", c, err)
	}
	for n, want := range map[byte]*int{0: new(128), 1: new(256), 5: new(4096), 6: nil, 7: nil} {
		space := append([]byte(nil), whole...)
		const express = 0xa0 // as lspci says of this igb
		space[express+expressControl] = n << 5
		if c, err := parseConfig(space); err != nil || !reflect.DeepEqual(c.maxPayload, want) {
			t.Errorf("payload %d: %v, %v", n, c.maxPayload, err)
		}
	}
	// Lists that lead in a circle end.
	circle := append([]byte(nil), whole...)
	at := int(circle[pciCapabilityList])
	circle[at+1] = byte(at)
	binary.LittleEndian.PutUint32(circle[pciConfigStandard:], 0x100<<20|1<<16|1)
	if c, err := parseConfig(circle); err != nil || c.sriov != nil {
		t.Errorf("a circle: %+v, %v", c, err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, name := range []string{"pf.config", "vf.config", "root.config"} {
		f.Add(configOf(f, name))
		f.Add(configOf(f, name)[:64])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseConfig(b); err == nil && (c.msix != nil && (*c.msix < 1 || *c.msix > 2048)) {
			t.Errorf("%d MSI-X vectors", *c.msix)
		}
	})
}

func TestPeerToPeer(t *testing.T) {
	redirects := &ACS{SourceValidation: true, RequestRedirect: true, CompletionRedirect: true, UpstreamForward: true}
	root := PortACS{Address: "0000:00:01.0", Kind: "root-port", ACS: redirects}
	up := PortACS{Address: "0000:01:00.0", Kind: "upstream-port"}
	for name, c := range map[string]struct {
		ports    []PortACS
		up       bool
		shortcut string
	}{
		"a root port with ACS":     {[]PortACS{root}, true, ""},
		"a root port without":      {[]PortACS{{Address: "0000:00:01.0", Kind: "root-port"}}, false, "0000:00:01.0"},
		"a switch with ACS":        {[]PortACS{root, up, {Address: "0000:02:00.0", Kind: "downstream-port", ACS: redirects}}, true, ""},
		"a switch without":         {[]PortACS{root, up, {Address: "0000:02:00.0", Kind: "downstream-port"}}, false, "0000:02:00.0"},
		"ACS that is off":          {[]PortACS{root, up, {Address: "0000:02:00.0", Kind: "downstream-port", ACS: &ACS{}}}, false, "0000:02:00.0"},
		"both without: the nearer": {[]PortACS{{Address: "0000:00:01.0", Kind: "root-port"}, up, {Address: "0000:02:00.0", Kind: "downstream-port"}}, false, "0000:02:00.0"},
		"a bridge to PCI":          {[]PortACS{root, {Address: "0000:01:00.0", Kind: "bridge"}}, false, "0000:01:00.0"},
	} {
		got := peerToPeer(nil, c.ports)
		if *got.UpToRoot != c.up || got.Shortcut != c.shortcut {
			t.Errorf("%s: up %v, shortcut %q", name, *got.UpToRoot, got.Shortcut)
		}
	}
}

func TestBudget(t *testing.T) {
	rate := func(gts float64, width int, gbs float64) *inventory.PCIeLink {
		return &inventory.PCIeLink{Current: &inventory.PCIeRate{GTs: gts, Width: width, GBs: gbs}}
	}
	n := &inventory.NIC{
		PCI: &inventory.PCI{
			Address: "0000:3b:00.0", Link: rate(8, 16, 15.754), Bottleneck: "0000:3a:00.0",
			Path: []inventory.PCIHop{{Address: "0000:3a:00.0", Link: rate(8, 8, 7.877)}},
		},
		Link: inventory.Link{SpeedMbps: new(50000)},
	}
	// 63.016 Gbit/s, of packets of 256 bytes and 24 more each: 57.615.
	want := &Budget{
		NarrowHop: "0000:3a:00.0", LinkGbps: 63.016, MaxPayload: new(256), EastWestGbps: 57.615,
		LineRateGbps: new(50.0), BesideLineRateGbps: new(7.615),
	}
	if got := budgetOf(n, new(256)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	n.Link.SpeedMbps = new(100000)
	if got := budgetOf(n, nil); *got.BesideLineRateGbps != 0 || got.EastWestGbps != 63.016 || got.MaxPayload != nil {
		t.Errorf("of a port faster than its slot: %+v", got)
	}
	n.Link.SpeedMbps = nil
	if got := budgetOf(n, nil); got.LineRateGbps != nil || got.BesideLineRateGbps != nil {
		t.Errorf("without a link: %+v", got)
	}
	n.PCI.Bottleneck = ""
	if got := budgetOf(n, nil); got != nil {
		t.Errorf("of unknown rates: %+v", got)
	}
	if got := budgetOf(nil, nil); got != nil {
		t.Errorf("without a NIC: %+v", got)
	}
}
