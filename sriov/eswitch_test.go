package sriov

import (
	"context"
	"errors"
	"reflect"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

func handle(device string) kernel.Body {
	return kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, "pci").String(uapi.DEVLINK_ATTR_DEV_NAME, device)
}

// What mlx5 and sfc say of a VF's port (net/devlink/port.c).
func vfPortBody() kernel.Body {
	return handle("0000:3b:00.0").Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, 2).Uint16(uapi.DEVLINK_ATTR_PORT_TYPE, 2).
		String(uapi.DEVLINK_ATTR_PORT_NETDEV_NAME, "eth0_1").
		Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, uapi.DEVLINK_PORT_FLAVOUR_PCI_VF).
		Uint32(uapi.DEVLINK_ATTR_PORT_CONTROLLER_NUMBER, 0).Uint16(uapi.DEVLINK_ATTR_PORT_PCI_PF_NUMBER, 0).
		Uint16(uapi.DEVLINK_ATTR_PORT_PCI_VF_NUMBER, 1).Uint8(uapi.DEVLINK_ATTR_PORT_EXTERNAL, 0).
		Nested(uapi.DEVLINK_ATTR_PORT_FUNCTION, kernel.Body{}.
			Bytes(uapi.DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR, []byte{2, 0, 0, 0, 0, 1}).
			Uint8(uapi.DEVLINK_PORT_FN_ATTR_STATE, 1).Uint8(uapi.DEVLINK_PORT_FN_ATTR_OPSTATE, 0).
			Bytes(uapi.DEVLINK_PORT_FN_ATTR_CAPS, u32s(uapi.DEVLINK_PORT_FN_CAP_ROCE, uapi.DEVLINK_PORT_FN_CAP_ROCE|uapi.DEVLINK_PORT_FN_CAP_MIGRATABLE)).
			Uint32(uapi.DEVLINK_PORT_FN_ATTR_MAX_IO_EQS, 24))
}

func TestDecodePort(t *testing.T) {
	got, ok, err := decodePort(vfPortBody())
	want := functionPort{handle: "pci/0000:3b:00.0", port: 2, vf: 1, sf: -1, netdev: "eth0_1", function: &PortFunction{
		Port: "pci/0000:3b:00.0/2", MAC: "02:00:00:00:00:01", State: "active", OpState: "detached",
		RoCE: new(true), Migratable: new(false), MaxIOEQs: new(uint32(24)),
	}}
	if err != nil || !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %+v, %v, %v", got, got.function, ok, err)
	}
	for name, body := range map[string]kernel.Body{
		"another host's": vfPortBody().Uint8(uapi.DEVLINK_ATTR_PORT_EXTERNAL, 1),
		"the uplink":     handle("0000:3b:00.0").Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, uapi.DEVLINK_PORT_FLAVOUR_PHYSICAL),
	} {
		if got, ok, err := decodePort(body); ok || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, ok, err := decodePort(vfPortBody()[:30]); ok || !errors.Is(err, kernel.ErrMalformed) {
		t.Errorf("a cut port: %v, %v", ok, err)
	}
}

func TestDecodeESwitch(t *testing.T) {
	body := handle("0000:3b:00.0").Uint16(uapi.DEVLINK_ATTR_ESWITCH_MODE, 1).
		Uint8(uapi.DEVLINK_ATTR_ESWITCH_INLINE_MODE, 3).Uint8(uapi.DEVLINK_ATTR_ESWITCH_ENCAP_MODE, 1)
	if got, err := decodeESwitch(body); err != nil || *got != (ESwitch{"switchdev", "transport", "basic"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeESwitch(handle("x").Uint16(uapi.DEVLINK_ATTR_ESWITCH_MODE, 9)); err != nil || *got != (ESwitch{Mode: "9"}) {
		t.Errorf("a new mode: %+v, %v", got, err)
	}
}

// parameter is an answer to DEVLINK_CMD_PARAM_GET with a value in force now and a
// stored one. A nil value is a flag that is off.
func parameter(name string, now, stored []byte) kernel.Body {
	value := func(mode uint8, data []byte) kernel.Body {
		b := kernel.Body{}
		if data != nil {
			b = b.Bytes(uapi.DEVLINK_ATTR_PARAM_VALUE_DATA, data)
		}
		return b.Uint8(uapi.DEVLINK_ATTR_PARAM_VALUE_CMODE, mode)
	}
	return handle("0000:3b:00.0").Nested(uapi.DEVLINK_ATTR_PARAM, kernel.Body{}.
		String(uapi.DEVLINK_ATTR_PARAM_NAME, name).Flag(uapi.DEVLINK_ATTR_PARAM_GENERIC).
		Nested(uapi.DEVLINK_ATTR_PARAM_VALUES_LIST, kernel.Body{}.
			Nested(uapi.DEVLINK_ATTR_PARAM_VALUE, value(uapi.DEVLINK_PARAM_CMODE_RUNTIME, now)).
			Nested(uapi.DEVLINK_ATTR_PARAM_VALUE, value(uapi.DEVLINK_PARAM_CMODE_PERMANENT, stored))))
}

// paramHost knows some devlink parameters.
type paramHost struct {
	kernel.Reader
	answers map[string]kernel.Body
	err     error // for those that it doesn't know
}

func (h paramHost) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	a := kernel.AttributesOf(req.Body)
	for a.Next() {
		if a.Type == uapi.DEVLINK_ATTR_PARAM_NAME {
			if body, ok := h.answers[a.String()]; ok {
				return []kernel.Message{{Body: body}}, nil
			}
		}
	}
	return nil, &kernel.Error{Op: req.String(), Err: h.err}
}

func TestReadFirmware(t *testing.T) {
	for name, c := range map[string]struct {
		host paramHost
		want *Firmware
		err  error
	}{
		"both":    {paramHost{answers: map[string]kernel.Body{"enable_sriov": parameter("enable_sriov", nil, []byte{}), "total_vfs": parameter("total_vfs", u32s(8), u32s(16))}}, &Firmware{new(true), new(16)}, nil},
		"off":     {paramHost{answers: map[string]kernel.Body{"enable_sriov": parameter("enable_sriov", []byte{}, nil)}, err: syscall.EINVAL}, &Firmware{EnableSRIOV: new(false)}, nil},
		"neither": {paramHost{err: syscall.EINVAL}, nil, nil},
		"denied":  {paramHost{err: syscall.EPERM}, nil, syscall.EPERM},
	} {
		got, err := readFirmware(t.Context(), c.host, "pci", "0000:3b:00.0")
		if !reflect.DeepEqual(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestIsRepresentorOf(t *testing.T) {
	for name, want := range map[string]bool{"pf0vf3": true, "c1pf0vf3": true, "pf1vf3": false, "pf0vf33": false, "pf0": false, "p0": false, "": false, "cpf0vf3": true} {
		if got := isRepresentorOf(name, 0, 3); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func FuzzDecodeDevlink(f *testing.F) {
	f.Add([]byte(vfPortBody()))
	f.Add([]byte(parameter("total_vfs", u32s(8), u32s(16))))
	f.Add([]byte(handle("x").Uint16(uapi.DEVLINK_ATTR_ESWITCH_MODE, 1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		if p, ok, err := decodePort(body); ok && (err != nil || p.vf < 0) {
			t.Errorf("%+v, %v", p, err)
		}
		_, _ = decodeESwitch(body)
		_ = new(Firmware).decode(body)
	})
}
