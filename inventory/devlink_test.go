package inventory

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

func devlinkBody(bus, name string) kernel.Body {
	return kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, bus).String(uapi.DEVLINK_ATTR_DEV_NAME, name)
}

func devlinkVersion(b kernel.Body, typ uint16, name, value string) kernel.Body {
	return b.Nested(typ, kernel.Body{}.
		String(uapi.DEVLINK_ATTR_INFO_VERSION_NAME, name).String(uapi.DEVLINK_ATTR_INFO_VERSION_VALUE, value))
}

// iceInfo is laid out as the ice driver fills it in.
func iceInfo(name string) kernel.Body {
	b := devlinkBody("pci", name).
		String(uapi.DEVLINK_ATTR_INFO_DRIVER_NAME, "ice").
		String(uapi.DEVLINK_ATTR_INFO_SERIAL_NUMBER, "00-01-ab-ff-ff-ca-05-68")
	b = devlinkVersion(b, uapi.DEVLINK_ATTR_INFO_VERSION_FIXED, "board.id", "K65390-000")
	b = devlinkVersion(b, uapi.DEVLINK_ATTR_INFO_VERSION_RUNNING, "fw.mgmt", "5.1.6")
	b = devlinkVersion(b, uapi.DEVLINK_ATTR_INFO_VERSION_RUNNING, "fw.app", "1.3.1.0")
	return devlinkVersion(b, uapi.DEVLINK_ATTR_INFO_VERSION_STORED, "fw.mgmt", "5.1.7").
		String(uapi.DEVLINK_ATTR_INFO_BOARD_SERIAL_NUMBER, "B42")
}

func TestDecodeDevlinkInfo(t *testing.T) {
	got, err := decodeDevlinkInfo(iceInfo("0000:3b:00.0"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "info", got, Devlink{
		Handle: "pci/0000:3b:00.0", Driver: "ice", SerialNumber: "00-01-ab-ff-ff-ca-05-68", BoardSerial: "B42",
		Fixed:   map[string]string{"board.id": "K65390-000"},
		Running: map[string]string{"fw.mgmt": "5.1.6", "fw.app": "1.3.1.0"},
		Stored:  map[string]string{"fw.mgmt": "5.1.7"},
	})
	for what, body := range map[string][]byte{
		"no device":           kernel.Body{}.String(uapi.DEVLINK_ATTR_INFO_DRIVER_NAME, "ice"),
		"a cut message":       iceInfo("0000:3b:00.0")[:61],
		"a version that's no": devlinkBody("pci", "x").Bytes(uapi.DEVLINK_ATTR_INFO_VERSION_FIXED, []byte{99, 0, 1, 0, 1}),
	} {
		if got, err := decodeDevlinkInfo(body); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

func TestDecodeDevlinkPort(t *testing.T) {
	handle, ifindex, port, err := decodeDevlinkPort(devlinkBody("pci", "0000:3b:00.0").
		Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, 65535).
		Uint16(uapi.DEVLINK_ATTR_PORT_TYPE, uapi.DEVLINK_PORT_TYPE_ETH).
		Uint32(uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX, 7).
		Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, uapi.DEVLINK_PORT_FLAVOUR_PHYSICAL).
		Uint32(uapi.DEVLINK_ATTR_PORT_NUMBER, 1).
		Uint32(uapi.DEVLINK_ATTR_PORT_LANES, 4).
		Uint8(uapi.DEVLINK_ATTR_PORT_SPLITTABLE, 1))
	if err != nil || handle != "pci/0000:3b:00.0" || ifindex != 7 {
		t.Fatal(handle, ifindex, err)
	}
	same(t, "physical", port, DevlinkPort{Index: 65535, Flavour: "physical", Number: new(1), Lanes: new(4), Splittable: new(true)})

	_, ifindex, port, err = decodeDevlinkPort(devlinkBody("pci", "0000:3b:00.0").
		Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, uapi.DEVLINK_PORT_FLAVOUR_PCI_VF).
		Uint16(uapi.DEVLINK_ATTR_PORT_PCI_PF_NUMBER, 0).
		Uint16(uapi.DEVLINK_ATTR_PORT_PCI_VF_NUMBER, 3).
		Uint8(uapi.DEVLINK_ATTR_PORT_SPLITTABLE, 0))
	if err != nil || ifindex != 0 {
		t.Fatal(ifindex, err)
	}
	same(t, "VF", port, DevlinkPort{Flavour: "pcivf", PF: new(0), VF: new(3), Splittable: new(false)})

	if _, _, port, _ = decodeDevlinkPort(devlinkBody("pci", "x").Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, 900)); port.Flavour != "flavour 900" {
		t.Error("unknown flavour:", port.Flavour)
	}
	for what, body := range map[string][]byte{
		"no device":   kernel.Body{}.Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, 1),
		"short index": devlinkBody("pci", "x").Uint16(uapi.DEVLINK_ATTR_PORT_INDEX, 1),
	} {
		if _, _, _, err := decodeDevlinkPort(body); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// devlinkHost answers the three dumps.
type devlinkHost struct {
	devices, infos, ports []kernel.Body
	infoErr               error
	infoOf                map[string]kernel.Body // single questions, by device; missing ones fail
	asked                 []string
}

func (d *devlinkHost) answer(req kernel.Request) ([]kernel.Message, error) {
	messages := func(bodies []kernel.Body) []kernel.Message {
		var m []kernel.Message
		for _, b := range bodies {
			m = append(m, kernel.Message{Command: req.Command, Body: b})
		}
		return m
	}
	switch {
	case req.Family != kernel.FamilyDevlink:
		return nil, errors.ErrUnsupported
	case req.Dump && req.Command == uapi.DEVLINK_CMD_GET:
		return messages(d.devices), nil
	case req.Dump && req.Command == uapi.DEVLINK_CMD_INFO_GET:
		return messages(d.infos), d.infoErr
	case req.Dump && req.Command == uapi.DEVLINK_CMD_PORT_GET:
		return messages(d.ports), nil
	case req.Command == uapi.DEVLINK_CMD_INFO_GET:
		handle, err := decodeDevlinkHandle(req.Body)
		if err != nil {
			return nil, err
		}
		d.asked = append(d.asked, handle)
		if body, ok := d.infoOf[handle]; ok {
			return messages([]kernel.Body{body}), nil
		}
		return nil, &kernel.Error{Op: "devlink INFO_GET", Object: handle, Err: syscall.EIO}
	}
	return nil, errors.ErrUnsupported
}

func TestReadDevlink(t *testing.T) {
	d := &devlinkHost{
		devices: []kernel.Body{devlinkBody("pci", "0000:3b:00.0"), devlinkBody("pci", "0000:3b:00.1"), devlinkBody("netdevsim", "netdevsim1")},
		infos:   []kernel.Body{iceInfo("0000:3b:00.0"), iceInfo("0000:3b:00.1")},
		ports: []kernel.Body{
			devlinkBody("pci", "0000:3b:00.0").Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, 0).Uint32(uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX, 2),
			devlinkBody("pci", "0000:3b:00.0").Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, 1).Uint32(uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX, 3).
				Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, uapi.DEVLINK_PORT_FLAVOUR_PCI_VF),
			devlinkBody("pci", "0000:3b:00.0").Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, 2).Uint32(uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX, 99),
			devlinkBody("pci", "0000:3b:00.0").Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, 3),
		},
	}
	h := newMapHost(nil)
	h.netlink = d.answer
	pf, rep, second := pciNIC(2, "eth0", "0000:3b:00.0"), pciNIC(3, "eth0vf0", "0000:3b:00.0"), pciNIC(4, "eth1", "0000:3b:00.1")
	sim := &NIC{Index: 5, Name: "eni1", Parent: &Parent{Bus: "netdevsim", Address: "netdevsim1"}}
	other, veth := pciNIC(6, "eth9", "0000:99:00.0"), &NIC{Index: 7, Name: "veth0"}
	s := h.survey(pf, rep, second, sim, other, veth)
	readDevlink(t.Context(), s)
	if len(s.unread) != 0 || len(d.asked) != 0 {
		t.Error(s.unread, d.asked)
	}
	if pf.Devlink == nil || pf.Devlink.Driver != "ice" || pf.Devlink.Port == nil || pf.Devlink.Port.Index != 0 {
		t.Errorf("PF: %+v", pf.Devlink)
	}
	if rep.Devlink == nil || rep.Devlink.Port == nil || rep.Devlink.Port.Flavour != "pcivf" || rep.Devlink.Handle != "pci/0000:3b:00.0" {
		t.Errorf("representor: %+v", rep.Devlink)
	}
	if second.Devlink == nil || second.Devlink.Handle != "pci/0000:3b:00.1" || second.Devlink.Port != nil {
		t.Errorf("by address: %+v", second.Devlink)
	}
	same(t, "netdevsim, which the dump left out", sim.Devlink, &Devlink{Handle: "netdevsim/netdevsim1"})
	if other.Devlink != nil || veth.Devlink != nil {
		t.Errorf("NICs without devlink: %+v, %+v", other.Devlink, veth.Devlink)
	}
}

// A driver that fails ends the dump of all; the others keep their facts.
func TestReadDevlinkWithASickDevice(t *testing.T) {
	d := &devlinkHost{
		devices: []kernel.Body{devlinkBody("pci", "0000:01:00.0"), devlinkBody("pci", "0000:02:00.0"), devlinkBody("pci", "0000:03:00.0")},
		infos:   []kernel.Body{iceInfo("0000:01:00.0")},
		infoErr: &kernel.Error{Op: "devlink INFO_GET", Err: syscall.EIO},
		infoOf:  map[string]kernel.Body{"pci/0000:03:00.0": iceInfo("0000:03:00.0")},
	}
	h := newMapHost(nil)
	h.netlink = d.answer
	a, sick, c := pciNIC(1, "a", "0000:01:00.0"), pciNIC(2, "b", "0000:02:00.0"), pciNIC(3, "c", "0000:03:00.0")
	s := h.survey(a, sick, c)
	readDevlink(t.Context(), s)
	for _, n := range []*NIC{a, c} {
		if n.Devlink == nil || n.Devlink.Driver != "ice" || n.Unread != nil {
			t.Errorf("%s: %+v, %+v", n.Name, n.Devlink, n.Unread)
		}
	}
	same(t, "the sick one", sick.Devlink, &Devlink{Handle: "pci/0000:02:00.0"})
	if len(sick.Unread) != 1 || sick.Unread[0].Reason != kernel.Failed || s.unread != nil {
		t.Errorf("unread: %+v, host %+v", sick.Unread, s.unread)
	}
	if !slices.Equal(d.asked, []string{"pci/0000:02:00.0", "pci/0000:03:00.0"}) {
		t.Error("asked again:", d.asked)
	}
}

func TestReadDevlinkUnsupported(t *testing.T) {
	h := newMapHost(nil)
	h.netlink = func(kernel.Request) ([]kernel.Message, error) {
		return nil, &kernel.Error{Op: "devlink GET", Err: syscall.ENOENT}
	}
	s := h.survey(pciNIC(1, "a", "0000:01:00.0"))
	readDevlink(t.Context(), s)
	if len(s.unread) != 1 || s.unread[0].Reason != kernel.Unsupported || s.nics[0].Unread != nil {
		t.Errorf("%+v, %+v", s.unread, s.nics[0].Unread)
	}
}

func FuzzDecodeDevlink(f *testing.F) {
	f.Add([]byte(iceInfo("0000:3b:00.0")))
	f.Add([]byte(devlinkBody("pci", "x").Uint32(uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX, 7).Uint16(uapi.DEVLINK_ATTR_PORT_FLAVOUR, 8)))
	f.Add([]byte{4, 0, 1, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		_, handleErr := decodeDevlinkHandle(body)
		info, infoErr := decodeDevlinkInfo(body)
		handle, _, _, portErr := decodeDevlinkPort(body)
		if infoErr == nil && (handleErr != nil || info.Handle == "") || portErr == nil && handle == "" {
			t.Fatal(info, handle, handleErr)
		}
		if !bytes.Equal(before, body) {
			t.Fatal("the input was changed")
		}
	})
}
