package sriov

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// FunctionSetting is the name of the setting whose state is a [FunctionState].
const FunctionSetting = "port-functions"

// FunctionState is what the functions behind a PF's devlink ports were given, by the
// VF's or subfunction's number and devlink's name: "vf3.roce": "on", "sf88.state":
// "active". What a driver hasn't is absent.
type FunctionState map[string]string

// The attributes of a port function.
const (
	keyHWAddr      = "hw-addr"
	keyRoCE        = "roce"
	keyMigratable  = "migratable"
	keyIPsecCrypto = "ipsec-crypto"
	keyIPsecPacket = "ipsec-packet"
	keyMaxIOEQs    = "max-io-eqs"
)

// FunctionWish is what policies say of the functions of some VFs or subfunctions.
type FunctionWish struct {
	VF          *string `json:"vf,omitempty" form:"numbers: 3, \"0-3\" or \"0,2,4-7\"" doc:"which virtual functions"`
	SF          *string `json:"sf,omitempty" form:"numbers: 88, \"88-90\" or \"88,91\"" doc:"or which subfunctions, by the number that they were added with (sfnum)"`
	HWAddr      *string `json:"hw-addr,omitempty" form:"a MAC address, or derived" words:"derived" doc:"the function's address; derived is one made of the PF's address and the function's number, the same each time"`
	State       *string `json:"state,omitempty" words:"active,inactive" doc:"whether a subfunction can have a driver"`
	RoCE        *bool   `json:"roce,omitempty" doc:"whether the function has RDMA over Ethernet"`
	Migratable  *bool   `json:"migratable,omitempty" doc:"whether a VM can be migrated with it"`
	IPsecCrypto *bool   `json:"ipsec-crypto,omitempty" doc:"whether it offloads IPsec's encryption"`
	IPsecPacket *bool   `json:"ipsec-packet,omitempty" doc:"whether it offloads IPsec's packets"`
	MaxIOEQs    *uint32 `json:"max-io-eqs,omitempty" example:"8" doc:"event queues that it has at most, and so channels"`
}

// PortFunctions is devlink port function set.
func PortFunctions() tuning.Knob[FunctionState] {
	return tuning.Knob[FunctionState]{
		Name: FunctionSetting,
		Doc: "What the functions behind a PF's devlink ports are given (devlink port function set): virtual functions while the eswitch's mode is " +
			"switchdev, and subfunctions that are there. A VF is taken from its driver for that moment; where somebody uses it, that is refused unless " +
			"--disrupt names the VF.",
		After:      []string{CountSetting, SwitchSetting},
		Impact:     func(inventory.NIC, FunctionState, FunctionState) tuning.Impact { return tuning.Seamless },
		Wish:       tuning.WishOf(resolveFunctions),
		RemakesVFs: true,
		Takes: func(current, next FunctionState) time.Duration {
			return timeFor(len(functionsOf(current, next)))
		},
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit FunctionState, err error) {
			ports, err := ofPF(ctx, r, nic, (*device).functions)
			if err != nil {
				return nil, nil, err
			}
			current = FunctionState{}
			for name, p := range ports {
				for key, value := range p.function.words() {
					current[name+"."+key] = value
				}
			}
			return current, nil, nil
		},
		Victims: func(ctx context.Context, r kernel.Reader, nic inventory.NIC, current, next FunctionState) ([]tuning.Victim, error) {
			changes := functionsOf(current, next)
			if len(changes) == 0 {
				return nil, nil
			}
			ports, err := ofPF(ctx, r, nic, (*device).functions)
			if err != nil {
				return nil, err
			}
			hit := map[int]loss{}
			var all []tuning.Victim
			for _, name := range slices.Sorted(maps.Keys(changes)) {
				p, there := ports[name]
				switch {
				case there && p.vf >= 0:
					hit[p.vf] = itself
				case there && p.function.OpState == "attached":
					all = append(all, tuning.Victim{
						Names: []string{nic.Name + "-" + name},
						Text:  fmt.Sprintf("%s: %s would take subfunction %d from its driver, and whoever uses it", nic.Name, FunctionSetting, p.sf),
					})
				}
			}
			if len(hit) == 0 {
				return all, nil
			}
			of, err := victims(ctx, r, nic, FunctionSetting, false, func(index int) loss { return hit[index] })
			return append(all, of...), err
		},
		Write: writeFunctions,
	}
}

// functions are the PF's ports that have a function: "vf3", "sf88".
func (d *device) functions(ctx context.Context) (map[string]functionPort, error) {
	ports, err := readPorts(ctx, d, nil)
	if err != nil {
		return nil, err
	}
	found := map[string]functionPort{}
	for _, p := range ports {
		switch {
		case p.handle != d.Bus+"/"+d.Address || p.function == nil || len(p.function.words()) == 0:
		case p.vf >= 0:
			found["vf"+strconv.Itoa(p.vf)] = p
		default:
			found["sf"+strconv.Itoa(p.sf)] = p
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: no devlink port of the device has a function", errors.ErrUnsupported)
	}
	return found, nil
}

// words are what a function was given, in these words.
func (f *PortFunction) words() map[string]string {
	words := map[string]string{}
	for key, word := range map[string]string{keyHWAddr: f.MAC, keyState: f.State} {
		if word != "" {
			words[key] = word
		}
	}
	for key, on := range map[string]*bool{
		keyRoCE: f.RoCE, keyMigratable: f.Migratable, keyIPsecCrypto: f.IPsecCrypto, keyIPsecPacket: f.IPsecPacket,
	} {
		if on != nil {
			words[key] = onOff(*on)
		}
	}
	if f.MaxIOEQs != nil {
		words[keyMaxIOEQs] = strconv.FormatUint(uint64(*f.MaxIOEQs), 10)
	}
	return words
}

// functionsOf are the attributes that change, by the function.
func functionsOf(current, next FunctionState) map[string]map[string]string {
	changes := map[string]map[string]string{}
	for key, value := range next {
		if was, there := current[key]; !there || was == value {
			continue
		}
		name, attribute, _ := strings.Cut(key, ".")
		if changes[name] == nil {
			changes[name] = map[string]string{}
		}
		changes[name][attribute] = value
	}
	return changes
}

func resolveFunctions(ctx context.Context, ask tuning.Ask, wish []FunctionWish, current FunctionState) (FunctionState, error) {
	d, err := deviceOf(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return nil, err
	}
	next := maps.Clone(current)
	if next == nil {
		next = FunctionState{}
	}
	said := map[string]bool{}
	for i, w := range wish {
		if err := w.into(d, next, said, d.planned(ask)); err != nil {
			return nil, &tuning.ItemError{Item: i, Err: err}
		}
	}
	return next, nil
}

// into puts the wish into the state.
func (w FunctionWish) into(d *device, next FunctionState, said map[string]bool, vfs int) error {
	var numbers inventory.CPUSet
	var err error
	kind := "vf"
	switch {
	case (w.VF == nil) == (w.SF == nil):
		return errors.New("vf or sf is needed, and not both: which functions")
	case w.VF != nil:
		if w.State != nil {
			return errors.New("state is of subfunctions: a VF comes and goes with the setting sriov")
		}
		numbers, err = someVFs(w.VF, vfs)
	default:
		kind = "sf"
		if numbers, err = inventory.ParseCPUSet(*w.SF); err == nil && numbers.Len() == 0 {
			err = fmt.Errorf("sf: %q is no list of numbers such as 88 or 88-90", *w.SF)
		}
	}
	if err != nil {
		return err
	}
	words := (&PortFunction{RoCE: w.RoCE, Migratable: w.Migratable, IPsecCrypto: w.IPsecCrypto, IPsecPacket: w.IPsecPacket, MaxIOEQs: w.MaxIOEQs}).words()
	if w.State != nil {
		words[keyState] = *w.State
	}
	for index := range numbers.All() {
		if w.HWAddr != nil {
			of := index
			if kind == "sf" {
				const behindVFs = 1 << 16 // so that a VF and an SF never have the same
				of += behindVFs
			}
			if words[keyHWAddr], err = d.macFor(*w.HWAddr, of, numbers.Len()); err != nil {
				return err
			}
		}
		for attribute, value := range words {
			key := fmt.Sprintf("%s%d.%s", kind, index, attribute)
			if said[key] {
				return fmt.Errorf("another item of the list says %s of %s %d, too", attribute, kind, index)
			}
			said[key], next[key] = true, value
		}
	}
	return nil
}

// writeFunctions sets functions while they have no driver, which would not see it
// (the kernel's Documentation/networking/devlink/devlink-port.rst).
func writeFunctions(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next FunctionState) error {
	d, err := listed(ctx, w, nic)
	if err != nil {
		return err
	}
	ports, err := d.functions(ctx)
	if err != nil {
		return err
	}
	changes := functionsOf(current, next)
	order := slices.Sorted(maps.Keys(changes))
	tell := telling(ctx, len(order))
	for i, name := range order {
		p, there := ports[name]
		if !there {
			return fmt.Errorf("%s has no function any more", name)
		}
		var vf *virtual
		if p.vf >= 0 {
			vf = d.vf(p.vf)
		}
		if vf != nil && vf.Driver != "" {
			if err := unbind(ctx, w, vf); err != nil {
				return fmt.Errorf("%s: take it from its driver: %w", name, err)
			}
		}
		err := d.setFunction(ctx, w, p, changes[name])
		if vf != nil && vf.Driver != "" {
			err = errors.Join(err, d.bind(ctx, w, vf, vf.drivenBy()))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		tell(i+1, "have their port functions set")
	}
	return nil
}

// setFunction is devlink port function set. The kernel looks at the whole request
// before it hands the first of it to the driver.
func (d *device) setFunction(ctx context.Context, w kernel.Writer, p functionPort, change map[string]string) error {
	var f kernel.Body
	var caps, selected uint32
	for _, c := range []struct {
		key string
		bit uint32
	}{
		{keyRoCE, uapi.DEVLINK_PORT_FN_CAP_ROCE},
		{keyMigratable, uapi.DEVLINK_PORT_FN_CAP_MIGRATABLE},
		{keyIPsecCrypto, uapi.DEVLINK_PORT_FN_CAP_IPSEC_CRYPTO},
		{keyIPsecPacket, uapi.DEVLINK_PORT_FN_CAP_IPSEC_PACKET},
	} {
		if value, ok := change[c.key]; ok {
			selected |= c.bit
			if value == "on" {
				caps |= c.bit
			}
		}
	}
	if value, ok := change[keyHWAddr]; ok {
		mac, err := net.ParseMAC(value)
		if err != nil {
			return err
		}
		f = f.Bytes(uapi.DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR, mac)
	}
	if selected != 0 {
		f = f.Bytes(uapi.DEVLINK_PORT_FN_ATTR_CAPS, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, caps), selected))
	}
	if value, ok := change[keyMaxIOEQs]; ok {
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return err
		}
		f = f.Uint32(uapi.DEVLINK_PORT_FN_ATTR_MAX_IO_EQS, uint32(n))
	}
	if value, ok := change[keyState]; ok {
		at := slices.Index([]string{"inactive", "active"}, value)
		if at < 0 {
			return fmt.Errorf("state: %q is none that can be set", value)
		}
		f = f.Uint8(uapi.DEVLINK_PORT_FN_ATTR_STATE, uint8(at))
	}
	return w.NetlinkSet(ctx, kernel.Request{
		Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_PORT_SET,
		Body: append(d.handle(), kernel.Body{}.Uint32(uapi.DEVLINK_ATTR_PORT_INDEX, p.port).Nested(uapi.DEVLINK_ATTR_PORT_FUNCTION, f)...),
	})
}
