package sriov

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/tuning"
)

// functionKernel has the functions of two VFs and of subfunction 88.
func functionKernel(t *testing.T, opstate uint8) (*fakeKernel, tuning.Ask) {
	t.Helper()
	k, nic := smartKernel(t, 2)
	k.netlink["devlink PORT_GET dump"] = func(kernel.Request) ([]kernel.Message, error) {
		port := func(index uint32, flavour uint16) kernel.Body {
			return handle(pfAddress).Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, index).Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, flavour)
		}
		caps := kernel.Body{}.Bytes(uapi.DEVLINK_PORT_FN_ATTR_CAPS, u32s(uapi.DEVLINK_PORT_FN_CAP_ROCE, uapi.DEVLINK_PORT_FN_CAP_ROCE|uapi.DEVLINK_PORT_FN_CAP_MIGRATABLE))
		sf := kernel.Body{}.Bytes(uapi.DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR, make([]byte, 6)).
			Uint8(uapi.DEVLINK_PORT_FN_ATTR_STATE, 1).Uint8(uapi.DEVLINK_PORT_FN_ATTR_OPSTATE, opstate)
		return []kernel.Message{
			{Body: port(0, uapi.DEVLINK_PORT_FLAVOUR_PHYSICAL)},
			{Body: port(1, uapi.DEVLINK_PORT_FLAVOUR_PCI_VF).Uint16(uapi.DEVLINK_ATTR_PORT_PCI_VF_NUMBER, 0).Nested(uapi.DEVLINK_ATTR_PORT_FUNCTION, caps)},
			{Body: port(2, uapi.DEVLINK_PORT_FLAVOUR_PCI_VF).Uint16(uapi.DEVLINK_ATTR_PORT_PCI_VF_NUMBER, 1).Nested(uapi.DEVLINK_ATTR_PORT_FUNCTION, caps)},
			{Body: port(32768, uapi.DEVLINK_PORT_FLAVOUR_PCI_SF).Uint32(uapi.DEVLINK_ATTR_PORT_PCI_SF_NUMBER, 88).Nested(uapi.DEVLINK_ATTR_PORT_FUNCTION, sf)},
		}, nil
	}
	return k, tuning.Ask{Reader: k, NIC: nic}
}

// TestFunctions: nothing in the lab has subfunctions, or VFs with both a driver and
// a port function. A VF is free while its function is set.
func TestFunctions(t *testing.T) {
	k, ask := functionKernel(t, 0)
	k.files[pfDir+"/sriov_drivers_autoprobe"] = "1\n"
	knob := PortFunctions()
	current, _, err := knob.Read(t.Context(), k, ask.NIC)
	if err != nil || len(current) != 6 || current["vf1.roce"] != "on" || current["vf1.migratable"] != "off" || current["sf88.state"] != "active" || current["sf88.hw-addr"] != "00:00:00:00:00:00" {
		t.Fatalf("%v, %v", current, err)
	}
	next, err := resolveFunctions(t.Context(), ask, []FunctionWish{
		{VF: new("1"), Migratable: new(true), RoCE: new(false)}, {SF: new("88"), State: new("inactive"), HWAddr: new("derived")},
	}, current)
	if err != nil {
		t.Fatal(err)
	}
	if err := knob.Write(t.Context(), &functionWriter{fakeKernel: k, t: t}, ask.NIC, current, next); err != nil {
		t.Error(err)
	}
	mac := next["sf88.hw-addr"]
	want := []string{"port 32768: hw-addr " + mac + " state 0", "driver/unbind 0000:3b:02.1", "port 2: caps 2 of 3", "pci/drivers_probe 0000:3b:02.1"}
	if !slices.Equal(k.did, want) {
		t.Errorf("it did %q, want %q", k.did, want)
	}
	if victims, err := knob.Victims(t.Context(), k, ask.NIC, FunctionState{"sf88.state": "active"}, FunctionState{"sf88.state": "inactive"}); err != nil || len(victims) > 0 {
		t.Errorf("%v, %v", victims, err)
	}
	k, ask = functionKernel(t, 1)
	got, err := knob.Victims(t.Context(), k, ask.NIC, FunctionState{"sf88.state": "active"}, FunctionState{"sf88.state": "inactive"})
	if err != nil || len(got) != 1 || !strings.Contains(got[0].Text, "would take subfunction 88 from its driver") || got[0].Names[0] != "eth0-sf88" {
		t.Errorf("%v, %v", got, err)
	}
	delete(k.netlink, "devlink PORT_GET dump")
	if _, _, err := knob.Read(t.Context(), k, ask.NIC); kernel.ReasonOf(err) != kernel.Unsupported {
		t.Error(err)
	}
}

// functionWriter notes what devlink is asked to set.
type functionWriter struct {
	*fakeKernel
	t *testing.T
}

func (w *functionWriter) NetlinkSet(_ context.Context, req kernel.Request) error {
	said := ""
	a := kernel.AttributesOf(req.Body)
	for a.Next() {
		switch a.Type {
		case uapi.DEVLINK_ATTR_PORT_INDEX:
			said += fmt.Sprintf("port %d:", a.Uint32())
		case uapi.DEVLINK_ATTR_PORT_FUNCTION:
			f := a.Nested()
			for f.Next() {
				switch f.Type {
				case uapi.DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR:
					said += " hw-addr " + colonHex(f.Data)
				case uapi.DEVLINK_PORT_FN_ATTR_STATE:
					said += fmt.Sprintf(" state %d", f.Uint8())
				case uapi.DEVLINK_PORT_FN_ATTR_CAPS:
					said += fmt.Sprintf(" caps %d of %d", binary.NativeEndian.Uint32(f.Data), binary.NativeEndian.Uint32(f.Data[4:]))
				}
			}
			a.Join(f)
		}
	}
	w.did = append(w.did, said)
	if req.String() != "devlink PORT_SET" || a.Err() != nil {
		w.t.Errorf("%s: %v", req, a.Err())
	}
	return nil
}
