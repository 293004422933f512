package sriov

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// RepresentorState is what the representors of a PF's VFs are called and do, by the
// VF's number and the setting's name: "3.hw-tc-offload": "on".
type RepresentorState map[string]string

// The settings of a representor.
const (
	keyName      = "name"
	keyTCOffload = "hw-tc-offload" // the kernel's name of the feature, too
)

// RepresentorWish is what policies say of the representors of one VF or some.
type RepresentorWish struct {
	VF        *string `json:"vf,omitempty" form:"numbers: 3, \"0-3\" or \"0,2,4-7\"" doc:"of which virtual functions"`
	Name      *string `json:"name,omitempty" form:"a name of 15 bytes at most; {pf} in it is the PF's name and {vf} the VF's number" example:"\"{pf}-vf{vf}\"" doc:"what the representor is called"`
	TCOffload *bool   `json:"hw-tc-offload,omitempty" doc:"whether rules of tc on it are the device's to carry out"`
}

// Representors are the network devices at the switch's end of VFs.
func Representors() tuning.Knob[RepresentorState] {
	return tuning.Knob[RepresentorState]{
		Name: "representors",
		Doc: "What the representors of a PF's virtual functions are called (ip link set name), and whether they offload rules of tc " +
			"(ethtool -K hw-tc-offload). They are there while the eswitch's mode is switchdev.",
		After:  []string{CountSetting, SwitchSetting},
		Impact: func(inventory.NIC, RepresentorState, RepresentorState) tuning.Impact { return tuning.Seamless },
		Wish:   tuning.WishOf(resolveRepresentors),
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit RepresentorState, err error) {
			d, err := deviceOf(ctx, r, nic)
			if err != nil {
				return nil, nil, err
			}
			representors, err := d.representors(ctx)
			if err != nil {
				return nil, nil, err
			}
			current = RepresentorState{}
			for index, n := range representors {
				current[keyOf(index, keyName)] = n.Name
				features, err := inventory.ReadFeatures(ctx, r, n)
				if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
					return nil, nil, err
				}
				if f, ok := features[keyTCOffload]; ok && !f.Fixed {
					current[keyOf(index, keyTCOffload)] = onOff(f.Active)
				}
			}
			return current, nil, nil
		},
		Write: writeRepresentors,
	}
}

// representors are the representors of the PF's VFs, by the VF's number: its devlink
// ports, or what is named after the VFs where the driver has no ports.
func (d *device) representors(ctx context.Context) (map[int]inventory.NIC, error) {
	e, err := d.eswitch(ctx)
	switch {
	case err != nil:
		return nil, err
	case e.Mode == "" || e.Mode == modeLegacy:
		return nil, fmt.Errorf("%w: there are no representors: the eswitch's mode is not switchdev", errors.ErrUnsupported)
	}
	found := map[int]inventory.NIC{}
	ports, err := readPorts(ctx, d, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		if p.handle == d.Bus+"/"+d.Address && p.vf >= 0 && p.netdev != "" {
			found[p.vf] = inventory.NIC{Name: p.netdev, Index: p.device}
		}
	}
	if len(found) > 0 || *d.NumVFs == 0 {
		return found, nil
	}
	inv, err := inventory.Read(ctx, d)
	if err != nil {
		return nil, err
	}
	number := 0
	if d.nic.PCI != nil {
		number = int(d.Address[len(d.Address)-1] - '0')
	}
	pf := slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Index == d.nic.Index })
	for i := range inv.NICs {
		n := &inv.NICs[i]
		for index := range *d.NumVFs {
			if pf >= 0 && n.Port.SwitchID != "" && n.Port.SwitchID == inv.NICs[pf].Port.SwitchID && isRepresentorOf(n.Port.Name, number, index) {
				found[index] = inventory.NIC{Name: n.Name, Index: n.Index}
			}
		}
	}
	return found, nil
}

func resolveRepresentors(ctx context.Context, ask tuning.Ask, wish []RepresentorWish, current RepresentorState) (RepresentorState, error) {
	d, err := deviceOf(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return nil, err
	}
	if planned, ok := tuning.Get[SwitchState](ask.Planned, SwitchSetting); ok && planned.Mode != nil && *planned.Mode == modeLegacy {
		return nil, errors.New("there are no representors in the mode legacy")
	}
	vfs := d.planned(ask)
	next := maps.Clone(current)
	if next == nil {
		next = RepresentorState{}
	}
	said := map[string]bool{}
	for i, w := range wish {
		if err := w.into(ask.NIC.Name, next, said, vfs); err != nil {
			return nil, &tuning.ItemError{Item: i, Err: err}
		}
	}
	named := map[string]string{}
	for key, name := range next {
		if _, field := splitKey(key); field != keyName {
			continue
		}
		if other, twice := named[name]; twice {
			return nil, fmt.Errorf("the representors %s and %s would both be called %s", min(key, other), max(key, other), name)
		}
		named[name] = key
	}
	return next, nil
}

// into puts the wish into the state.
func (w RepresentorWish) into(pf string, next RepresentorState, said map[string]bool, vfs int) error {
	numbers, err := someVFs(w.VF, vfs)
	if err != nil {
		return err
	}
	for index := range numbers.All() {
		words := map[string]string{}
		if w.Name != nil {
			words[keyName] = strings.NewReplacer("{pf}", pf, "{vf}", strconv.Itoa(index)).Replace(*w.Name)
			if err := checkName(words[keyName]); err != nil {
				return err
			}
		}
		if w.TCOffload != nil {
			words[keyTCOffload] = onOff(*w.TCOffload)
		}
		for name, value := range words {
			key := keyOf(index, name)
			if said[key] {
				return fmt.Errorf("another item of the list says %s of VF %d, too", name, index)
			}
			said[key], next[key] = true, value
		}
	}
	return nil
}

// checkName refuses what the kernel does (dev_valid_name), and "%d", which it would
// replace.
func checkName(name string) error {
	const most = 15
	if name == "" || len(name) > most || name == "." || name == ".." || strings.ContainsAny(name, "/:%{} \t\n\v\f\r") {
		return fmt.Errorf("name: %q is no name for a network device: 1 to %d bytes without spaces, /, : and %%", name, most)
	}
	return nil
}

func writeRepresentors(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next RepresentorState) error {
	d, err := deviceOf(ctx, w, nic)
	if err != nil {
		return err
	}
	representors, err := d.representors(ctx)
	if err != nil {
		return err
	}
	changes := changesOf(VFState(current), VFState(next))
	for _, index := range slices.Sorted(maps.Keys(changes)) {
		n, there := representors[index]
		if !there {
			return fmt.Errorf("VF %d has no representor", index)
		}
		if value, ok := changes[index][keyTCOffload]; ok {
			if err := setTCOffload(ctx, w, n, value == "on"); err != nil {
				return fmt.Errorf("the representor of VF %d: %s %s: %w", index, keyTCOffload, value, err)
			}
		}
		if name, ok := changes[index][keyName]; ok {
			header := make([]byte, linkHeader)
			binary.NativeEndian.PutUint32(header[4:], uint32(n.Index))
			err := w.NetlinkSet(ctx, kernel.Request{
				Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK, Body: kernel.Body(header).String(uapi.IFLA_IFNAME, name),
			})
			if err != nil {
				return fmt.Errorf("the representor of VF %d: name %s: %w", index, name, err)
			}
		}
	}
	return nil
}

// setTCOffload is ethtool -K NIC hw-tc-offload on|off.
func setTCOffload(ctx context.Context, w kernel.Writer, nic inventory.NIC, on bool) error {
	bit := kernel.Body{}.String(uapi.ETHTOOL_A_BITSET_BIT_NAME, keyTCOffload)
	if on {
		bit = bit.Flag(uapi.ETHTOOL_A_BITSET_BIT_VALUE)
	}
	return w.NetlinkSet(ctx, kernel.Request{
		Family: kernel.FamilyEthtool, Command: uapi.ETHTOOL_MSG_FEATURES_SET,
		Body: kernel.Body{}.
			Nested(uapi.ETHTOOL_A_FEATURES_HEADER, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, uint32(nic.Index))).
			Nested(uapi.ETHTOOL_A_FEATURES_WANTED, kernel.Body{}.Nested(uapi.ETHTOOL_A_BITSET_BITS, kernel.Body{}.Nested(uapi.ETHTOOL_A_BITSET_BITS_BIT, bit))),
	})
}
