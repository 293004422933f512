package sriov

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// ESwitch is how a PF's embedded switch is set up, in the words of devlink dev
// eswitch show.
type ESwitch struct {
	// Mode is "legacy" (the PF's driver decides where frames go) or "switchdev"
	// (representors do).
	Mode string `json:"mode,omitempty"`
	// InlineMode is how much of a frame's header the VF's driver has to hand over:
	// "none", "link", "network", "transport".
	InlineMode string `json:"inlineMode,omitempty"`
	// Encap is "none" or "basic": whether tunnels are offloaded.
	Encap string `json:"encapMode,omitempty"`
}

// PortFunction is what devlink says of the function behind a representor's port.
type PortFunction struct {
	// Port is the devlink port: "pci/0000:3b:00.0/1".
	Port string `json:"port"`
	// MAC is the function's address; all zeros when none was set.
	MAC string `json:"mac,omitempty"`
	// State is "active" or "inactive", OpState "attached" (a driver is bound) or
	// "detached".
	State   string `json:"state,omitempty"`
	OpState string `json:"opState,omitempty"`
	// The capabilities that the function was given. Absent: the driver has no
	// such switch.
	RoCE        *bool `json:"roce,omitempty"`
	Migratable  *bool `json:"migratable,omitempty"`
	IPsecCrypto *bool `json:"ipsecCrypto,omitempty"`
	IPsecPacket *bool `json:"ipsecPacket,omitempty"`
	// MaxIOEQs is how many event queues it may have.
	MaxIOEQs *uint32 `json:"maxIoEqs,omitempty"`
}

// functionPort is a devlink port that stands for a VF or a subfunction.
type functionPort struct {
	handle string
	// port is its number; vf or sf is that of the function, the other one -1.
	port     uint32
	vf, sf   int
	netdev   string
	device   int // the netdev's index
	function *PortFunction
}

// readPorts lists the ports that stand for this host's VFs and subfunctions, with
// one dump: of all devices, or of one by its handle.
func readPorts(ctx context.Context, r kernel.Reader, of kernel.Body) ([]functionPort, error) {
	messages, err := r.Netlink(ctx, kernel.Request{Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_PORT_GET, Dump: true, Body: of})
	var ports []functionPort
	for _, m := range messages {
		port, ok, bad := decodePort(m.Body)
		if bad != nil {
			err = errors.Join(err, bad)
		}
		if ok {
			ports = append(ports, port)
		}
	}
	return ports, err
}

// decodePort decodes an answer to DEVLINK_CMD_PORT_GET. ok is false for a port that
// is no VF's or subfunction's, or one of another host: a SmartNIC's own system sees
// those of the host that it sits in as external.
func decodePort(body []byte) (p functionPort, ok bool, err error) {
	var bus, device string
	var flavour uint16
	external := false
	p.vf, p.sf = -1, -1
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.DEVLINK_ATTR_BUS_NAME:
			bus = a.String()
		case uapi.DEVLINK_ATTR_DEV_NAME:
			device = a.String()
		case uapi.DEVLINK_ATTR_PORT_INDEX:
			p.port = a.Uint32()
		case uapi.DEVLINK_ATTR_PORT_FLAVOUR:
			flavour = a.Uint16()
		case uapi.DEVLINK_ATTR_PORT_PCI_VF_NUMBER:
			p.vf = int(a.Uint16())
		case uapi.DEVLINK_ATTR_PORT_PCI_SF_NUMBER:
			p.sf = int(int32(a.Uint32()))
		case uapi.DEVLINK_ATTR_PORT_EXTERNAL:
			external = a.Uint8() != 0
		case uapi.DEVLINK_ATTR_PORT_NETDEV_NAME:
			p.netdev = a.String()
		case uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX:
			p.device = int(a.Uint32())
		case uapi.DEVLINK_ATTR_PORT_FUNCTION:
			function := a.Nested()
			p.function = decodePortFunction(function)
			a.Join(function)
		}
	}
	if err := a.Err(); err != nil {
		return functionPort{}, false, fmt.Errorf("devlink port: %w", err)
	}
	ok = flavour == uapi.DEVLINK_PORT_FLAVOUR_PCI_VF && p.vf >= 0 || flavour == uapi.DEVLINK_PORT_FLAVOUR_PCI_SF && p.sf >= 0
	if !ok || external {
		return functionPort{}, false, nil
	}
	p.handle = bus + "/" + device
	if p.function != nil {
		p.function.Port = fmt.Sprintf("%s/%d", p.handle, p.port)
	}
	return p, true, nil
}

func decodePortFunction(a *kernel.Attributes) *PortFunction {
	f := &PortFunction{}
	for a.Next() {
		switch a.Type {
		case uapi.DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR:
			f.MAC = colonHex(a.Data)
		case uapi.DEVLINK_PORT_FN_ATTR_STATE:
			f.State = word(a.Uint8(), "inactive", "active")
		case uapi.DEVLINK_PORT_FN_ATTR_OPSTATE:
			f.OpState = word(a.Uint8(), "detached", "attached")
		case uapi.DEVLINK_PORT_FN_ATTR_CAPS:
			// struct nla_bitfield32: which are set, and which the driver knows.
			if a.Uint64(); a.Err() == nil {
				set, selected := binary.NativeEndian.Uint32(a.Data), binary.NativeEndian.Uint32(a.Data[4:])
				capability := func(bit uint32) *bool {
					if selected&bit == 0 {
						return nil
					}
					return new(set&bit != 0)
				}
				f.RoCE, f.Migratable = capability(uapi.DEVLINK_PORT_FN_CAP_ROCE), capability(uapi.DEVLINK_PORT_FN_CAP_MIGRATABLE)
				f.IPsecCrypto, f.IPsecPacket = capability(uapi.DEVLINK_PORT_FN_CAP_IPSEC_CRYPTO), capability(uapi.DEVLINK_PORT_FN_CAP_IPSEC_PACKET)
			}
		case uapi.DEVLINK_PORT_FN_ATTR_MAX_IO_EQS:
			f.MaxIOEQs = new(a.Uint32())
		}
	}
	return f
}

// readESwitch asks how a device's switch is set up. It takes CAP_NET_ADMIN.
func readESwitch(ctx context.Context, r kernel.Reader, bus, device string) (*ESwitch, error) {
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_ESWITCH_GET,
		Body: kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, bus).String(uapi.DEVLINK_ATTR_DEV_NAME, device),
	})
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		return decodeESwitch(m.Body)
	}
	return nil, fmt.Errorf("%w: devlink says nothing about the switch", kernel.ErrMalformed)
}

// decodeESwitch decodes an answer to DEVLINK_CMD_ESWITCH_GET.
func decodeESwitch(body []byte) (*ESwitch, error) {
	e := &ESwitch{}
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.DEVLINK_ATTR_ESWITCH_MODE:
			e.Mode = word(a.Uint16(), "legacy", "switchdev", "switchdev_inactive")
		case uapi.DEVLINK_ATTR_ESWITCH_INLINE_MODE:
			e.InlineMode = word(a.Uint8(), "none", "link", "network", "transport")
		case uapi.DEVLINK_ATTR_ESWITCH_ENCAP_MODE:
			e.Encap = word(a.Uint8(), "none", "basic")
		}
	}
	if err := a.Err(); err != nil {
		return nil, fmt.Errorf("devlink eswitch: %w", err)
	}
	return e, nil
}

// readFirmware asks for the stored settings that bound the number of VFs. A
// driver that has neither gives nil.
func readFirmware(ctx context.Context, r kernel.Reader, bus, device string) (*Firmware, error) {
	var f Firmware
	var errs []error
	for _, name := range []string{"enable_sriov", "total_vfs"} {
		messages, err := r.Netlink(ctx, kernel.Request{
			Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_PARAM_GET,
			Body: kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, bus).String(uapi.DEVLINK_ATTR_DEV_NAME, device).
				String(uapi.DEVLINK_ATTR_PARAM_NAME, name),
		})
		if err != nil {
			// EINVAL is devlink's answer for a parameter that the driver hasn't.
			if !errors.Is(err, kernel.ErrInvalid) && kernel.ReasonOf(err) != kernel.Unsupported {
				errs = append(errs, fmt.Errorf("devlink parameter %s: %w", name, err))
			}
			if late(err) {
				break // so would be the other
			}
			continue
		}
		for _, m := range messages {
			if err := f.decode(m.Body); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if f == (Firmware{}) {
		return nil, errors.Join(errs...)
	}
	return &f, errors.Join(errs...)
}

// decode decodes an answer to DEVLINK_CMD_PARAM_GET.
func (f *Firmware) decode(body []byte) error {
	a := kernel.AttributesOf(body)
	for a.Next() {
		if a.Type != uapi.DEVLINK_ATTR_PARAM {
			continue
		}
		name := ""
		parameter := a.Nested()
		for parameter.Next() {
			switch parameter.Type {
			case uapi.DEVLINK_ATTR_PARAM_NAME:
				name = parameter.String()
			case uapi.DEVLINK_ATTR_PARAM_VALUES_LIST:
				values := parameter.Nested()
				for values.Next() {
					value := values.Nested()
					f.decodeValue(name, value)
					values.Join(value)
				}
				parameter.Join(values)
			}
		}
		a.Join(parameter)
	}
	if err := a.Err(); err != nil {
		return fmt.Errorf("devlink parameter: %w", err)
	}
	return nil
}

// decodeValue takes the permanent value of a parameter. A flag that is off comes
// without data.
func (f *Firmware) decodeValue(name string, a *kernel.Attributes) {
	mode, set := -1, false
	var number *int
	for a.Next() {
		switch a.Type {
		case uapi.DEVLINK_ATTR_PARAM_VALUE_CMODE:
			mode = int(a.Uint8())
		case uapi.DEVLINK_ATTR_PARAM_VALUE_DATA:
			set = true
			if name == "total_vfs" {
				number = new(int(a.Uint32()))
			}
		}
	}
	if mode != uapi.DEVLINK_PARAM_CMODE_PERMANENT || a.Err() != nil {
		return
	}
	switch name {
	case "enable_sriov":
		f.EnableSRIOV = &set
	case "total_vfs":
		f.TotalVFs = number
	}
}

// word names a number of devlink's; one that is new comes as it is.
func word[T uint8 | uint16](n T, words ...string) string {
	if int(n) < len(words) {
		return words[n]
	}
	return fmt.Sprint(n)
}

// isRepresentorOf reports whether a phys_port_name is that of a PF's VF:
// "pf0vf3", or "c1pf0vf3" behind a controller.
func isRepresentorOf(portName string, pf, vf int) bool {
	if rest, found := strings.CutPrefix(portName, "c"); found {
		portName = strings.TrimLeft(rest, "0123456789")
	}
	return portName == fmt.Sprintf("pf%dvf%d", pf, vf)
}
