//go:build lab

package audit

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/sriov"
)

func labHost(t *testing.T) *kernel.Live {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Close() })
	return live
}

func labLook(t *testing.T, live *kernel.Live) *Look {
	t.Helper()
	l, err := look(t.Context(), live, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// between is the evidence of two looks.
func between(before, now *Look) *Evidence {
	return &Evidence{Inventory: sriov.Inventory{Inventory: now.Inventory}, Counted: now.Counted, Earlier: before}
}

// found is what a rule said of a device.
func found(t *testing.T, all []findings.Finding, rule, device string) findings.Finding {
	t.Helper()
	i := slices.IndexFunc(all, func(f findings.Finding) bool { return f.Rule == rule && f.Subject.Name == device })
	if i < 0 {
		t.Fatalf("%s says nothing of %s", rule, device)
	}
	t.Logf("%s %s: %s: %s", device, rule, all[i].Status, all[i].Seen)
	return all[i]
}

func carrier(name string) string {
	b, _ := os.ReadFile("/sys/class/net/" + name + "/carrier")
	return strings.TrimSpace(string(b))
}

// A cable that is pulled and put back is a flap between two looks, and while it is
// out the link is down. A card that is pulled is gone.
func TestCableAndCardPulled(t *testing.T) {
	labtest.Require(t, "nics")
	live := labHost(t)
	name := labtest.NICs(t, "igb", 2)[0]
	labtest.Run(t, "ip", "link", "set", name, "up")
	labtest.Eventually(t, "a carrier", func() bool { return carrier(name) == "1" })
	before := labLook(t, live)
	if f := found(t, Judge(between(nil, before), Groups()), "link/down", name); f.Status != findings.Pass {
		t.Errorf("link/down is %s", f.Status)
	}

	labtest.SetLink(t, "igb0", false)
	labtest.Eventually(t, "no carrier", func() bool { return carrier(name) == "0" })
	cut := labLook(t, live)
	if f := found(t, Judge(between(nil, cut), Groups()), "link/down", name); f.Status != findings.Fail {
		t.Errorf("link/down is %s", f.Status)
	}
	labtest.SetLink(t, "igb0", true)
	labtest.Eventually(t, "a carrier again", func() bool { return carrier(name) == "1" })
	restored := labLook(t, live)
	all := Judge(between(before, restored), Groups())
	if f := found(t, all, "link/flaps", name); f.Status != findings.Fail || !strings.HasPrefix(f.Seen, "lost once within") {
		t.Errorf("link/flaps is %s", f.Status)
	}
	if f := found(t, all, "link/down", name); f.Status != findings.Pass {
		t.Errorf("link/down is %s", f.Status)
	}
	other := labtest.NICs(t, "igb", 2)[1]
	for _, rule := range []string{"link/flaps", "link/gone"} {
		if f := found(t, all, rule, other); f.Status != findings.Pass {
			t.Errorf("%s is %s of a link that nobody touched", rule, f.Status)
		}
	}

	labtest.Unplug(t, "igb1")
	all = Judge(between(restored, labLook(t, live)), Groups())
	if f := found(t, all, "link/gone", other); f.Status != findings.Fail || f.Subject.PCIAddress == "" || f.Subject.PermanentMAC == "" {
		t.Errorf("link/gone is %s of %+v", f.Status, f.Subject)
	}
	if f := found(t, all, "link/gone", name); f.Status != findings.Pass {
		t.Errorf("link/gone is %s of a card that nobody touched", f.Status)
	}
}

// netdevsim has FEC with counters, pause frames' counters and a module.
func TestSimulatedFECAndModule(t *testing.T) {
	labtest.Require(t, "nics")
	live := labHost(t)
	name := labtest.Netdevsim(t, 19, 1)[0]
	labtest.Run(t, "ip", "link", "set", name, "up")
	labtest.Eventually(t, "a carrier", func() bool { return carrier(name) == "1" })
	groups, err := Named("link")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Gather(t.Context(), live, groups, 0, inventory.NewModules())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(e.NICs, func(n inventory.NIC) bool { return n.Name == name })
	n := nic{NIC: &e.NICs[i], evidence: e}
	theirs := string(labtest.Ethtool(t, "-I", "--show-fec", name))
	t.Logf("%s\nours: %+v, %v", theirs, n.Link.FEC, e.Counted.NICs[n.ID()])
	if c := n.count("fec/corrected"); !c.Known || c.Total == 0 || !strings.Contains(theirs, "corrected_blocks") {
		t.Errorf("corrected blocks: %+v", c)
	}
	if c := n.count("fec/uncorrectable"); !c.Known || c.Total == 0 {
		t.Errorf("uncorrectable blocks: %+v", c)
	}
	all := Judge(e, groups)
	// Without an earlier look, what was counted says nothing of now.
	if f := found(t, all, "link/fec-uncorrectable", name); f.Status != findings.Unknown {
		t.Errorf("it is %s", f.Status)
	}
	for rule, want := range map[string]findings.Status{
		// Its checksums are zeros, so that nothing else of it is believed.
		"link/module-checksum": findings.Fail, "link/module-alarm": findings.Unknown,
		"link/eee": findings.Unknown,
	} {
		if f := found(t, all, rule, name); f.Status != want {
			t.Errorf("%s is %s, want %s", rule, f.Status, want)
		}
	}
	// FEC as it was asked for.
	labtest.Ethtool(t, "--set-fec", name, "encoding", "rs")
	set, err := look(t.Context(), live, groups)
	if err != nil {
		t.Fatal(err)
	}
	i = slices.IndexFunc(set.NICs, func(n inventory.NIC) bool { return n.Name == name })
	if l := &set.NICs[i].Link; l.FEC == nil || l.FEC.Active != "RS" {
		t.Errorf("FEC is %+v after it was set to rs", l.FEC)
	}
	found(t, Judge(between(nil, set), groups), "link/fec", name)
	// A second look, at counters that stand still.
	again, err := look(t.Context(), live, groups)
	if err != nil {
		t.Fatal(err)
	}
	all = Judge(between(&Look{Inventory: e.Inventory.Inventory, Counted: e.Counted}, again), groups)
	if f := found(t, all, "link/fec-uncorrectable", name); f.Status != findings.Pass {
		t.Errorf("it is %s", f.Status)
	}
}

// A slot that could do more than the link in it runs at is named; what a virtual
// machine says is not called broken.
func TestSlotAboveLink(t *testing.T) {
	labtest.Require(t, "numa")
	live := labHost(t)
	name := labtest.NICs(t, "igb", 2)[0]
	labtest.Run(t, "ip", "link", "set", name, "up")
	labtest.Eventually(t, "a carrier", func() bool { return carrier(name) == "1" })
	now := labLook(t, live)
	e := between(nil, now)
	all := Judge(e, Groups())
	i := slices.IndexFunc(e.NICs, func(n inventory.NIC) bool { return n.Name == name })
	hop := e.NICs[i].PCI.Path[len(e.NICs[i].PCI.Path)-1].Address
	if f := found(t, all, "pcie/below-slot", name); f.Status != findings.Fail || !strings.Contains(f.Seen, "root port "+hop) ||
		!strings.Contains(f.Seen, "2.5 GT/s x1") || !strings.Contains(f.Expected, "8 GT/s x8") {
		t.Errorf("%s: %s, expected %s", f.Status, f.Seen, f.Expected)
	}
	if f := found(t, all, "pcie/link-degraded", name); f.Status == findings.Fail {
		t.Errorf("%s", f.Seen)
	}
	// The link above the switch is another's.
	other := labtest.NIC(t, "e1000e")
	if f := found(t, all, "pcie/below-slot", other); f.Status != findings.Fail || strings.Contains(f.Seen, hop) {
		t.Errorf("%s: %s", f.Status, f.Seen)
	}
	for _, rule := range []string{"pcie/too-narrow", "pcie/irq-node"} {
		if f := found(t, all, rule, name); f.Status != findings.Pass && f.Status != findings.Fail {
			t.Errorf("%s is %s", rule, f.Status)
		}
	}
}
