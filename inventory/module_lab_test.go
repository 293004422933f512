//go:build lab

package inventory

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
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

// oldKernel answers as Linux before 5.13, which has no pages in netlink.
type oldKernel struct {
	*kernel.Live
	asked int
}

func (o *oldKernel) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if r.Family == kernel.FamilyEthtool && r.Command == uapi.ETHTOOL_MSG_MODULE_EEPROM_GET {
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Err: errors.ErrUnsupported}
	}
	return o.Live.Netlink(ctx, r)
}

func (o *oldKernel) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	o.asked++
	return o.Live.Ethtool(ctx, device, arg)
}

// The ioctl shows what netlink does, as far as it goes.
func TestModuleByIoctlInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Close() })
	dumps := []string{"sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0", "qsfp-40g-sr4-finisar-ftl410qe3c"}
	for i, name := range labtest.Netdevsim(t, 18, len(dumps)) {
		labtest.Plug(t, name, labtest.ModuleDump(t, "module/testdata/"+dumps[i]+".hex"), false)
		n := nicNamed(t, labSurvey(t), name)
		want, err := NewModules().Read(t.Context(), live, *n)
		if err != nil {
			t.Fatal(err)
		}
		old := &oldKernel{Live: live}
		got, err := NewModules().Read(t.Context(), old, *n)
		if err != nil || old.asked == 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %d ioctls:\n%+v\nwant\n%+v", dumps[i], err, old.asked, got, want)
		}
	}
}
