//go:build lab

package inventory

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/lab/labtest"
)

// netdevsim has a QSFP28 with flat memory, of which ethtool -m says the same.
func TestModuleSameAsEthtool(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.Netdevsim(t, 17, 1)[0]
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Close() })
	inv := labSurvey(t)
	NewModules().ReadAll(t.Context(), live, inv)
	n := nicNamed(t, inv, name)
	m := n.Module
	if m == nil {
		t.Fatalf("no module: %q", unreadOf(n, "module"))
	}
	theirs := string(labtest.Ethtool(t, "-m", name))
	for _, want := range []string{m.Vendor, m.PartNumber, m.SerialNumber, m.Identifier.Name, "41.00 degrees C", "3.3000 V"} {
		if want == "" || !strings.Contains(theirs, want) {
			t.Errorf("%q is not in\n%s", want, theirs)
		}
	}
	if m.Standard != module.SFF8636 || m.Vendor != "NSIM-LAB" || m.DOM == nil || m.DOM.Temperature.Value != 41 || m.DOM.Voltage.Value != 3.3 {
		t.Errorf("%+v", m)
	}
	// Real drivers without a cage, and software, have none and say so.
	for _, driver := range []string{"igb", "e1000e", "virtio_net", "vmxnet3"} {
		n := nicNamed(t, inv, labtest.NIC(t, driver))
		if n.Module != nil || !strings.HasPrefix(unreadOf(n, "module"), "unsupported") {
			t.Errorf("%s: %+v, %q", driver, n.Module, unreadOf(n, "module"))
		}
	}
	// A driver that has pages only shows them only where one is named.
	of := []string{"offset", "0", "length", "128", "page", "0", "i2c", "0x50"}
	raw := labtest.Ethtool(t, append([]string{"-m", name, "raw", "on"}, of...)...)
	dumps, err := module.ParseDump(raw)
	if err != nil {
		t.Fatalf("%v of %d bytes", err, len(raw))
	}
	hex := labtest.Ethtool(t, append([]string{"-m", name, "hex", "on"}, of...)...)
	hexDumps, err := module.ParseDump(hex)
	if err != nil {
		t.Fatalf("%v of\n%s", err, hex)
	}
	for _, d := range []module.Dump{dumps[0], hexDumps[0]} {
		if got, err := module.Decode(&d.Image); err != nil || got.Identifier.Name != "QSFP28" {
			t.Errorf("%v: %+v", err, got)
		}
	}
}
