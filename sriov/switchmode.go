package sriov

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// SwitchSetting is the name of the setting whose state is a [SwitchState].
const SwitchSetting = "eswitch"

// SwitchState is devlink dev eswitch, in its words. What a driver hasn't is absent.
type SwitchState struct {
	Mode       *string `json:"mode,omitempty" words:"legacy,switchdev,switchdev_inactive" doc:"legacy: the PF's driver decides where frames go; switchdev: each VF has a representor, and tc, a bridge or Open vSwitch decide; switchdev_inactive: so, but nothing passes yet"`
	InlineMode *string `json:"inline-mode,omitempty" words:"none,link,network,transport" doc:"how much of a frame's header the VFs' drivers hand over"`
	EncapMode  *string `json:"encap-mode,omitempty" words:"none,basic" doc:"whether tunnels are offloaded"`
}

const (
	modeLegacy    = "legacy"
	modeSwitchdev = "switchdev"
)

// Words of devlink, at the place of their numbers.
func modeWords() []string   { return []string{modeLegacy, modeSwitchdev, "switchdev_inactive"} }
func inlineWords() []string { return []string{"none", "link", "network", "transport"} }
func encapWords() []string  { return []string{"none", "basic"} }

// SwitchMode is devlink dev eswitch set.
func SwitchMode() tuning.Knob[SwitchState] {
	return tuning.Knob[SwitchState]{
		Name: SwitchSetting,
		Doc: "How a PF's embedded switch is set up (devlink dev eswitch set). Another mode makes or destroys the VFs' representors, and VFs are taken " +
			"from their drivers for it; with ice they are made anew. Where somebody uses a VF or a representor, that is refused unless --disrupt names it.",
		After: []string{CountSetting},
		Impact: func(_ inventory.NIC, current, next SwitchState) tuning.Impact {
			if differ(current.Mode, next.Mode) || differ(current.EncapMode, next.EncapMode) {
				return tuning.NICReset // the switch's tables are built anew
			}
			return tuning.Seamless
		},
		Wish:       tuning.WishOf(resolveSwitch),
		RemakesVFs: true,
		Renames:    true,
		Takes: func(SwitchState, SwitchState) time.Duration {
			return timeFor(mostVFs)
		},
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit SwitchState, err error) {
			e, err := ofPF(ctx, r, nic, (*device).eswitch)
			if err != nil {
				return current, limit, err
			}
			for word, field := range map[*string]**string{&e.Mode: &current.Mode, &e.InlineMode: &current.InlineMode, &e.Encap: &current.EncapMode} {
				if *word != "" {
					*field = word
				}
			}
			return current, limit, nil
		},
		Victims: func(ctx context.Context, r kernel.Reader, nic inventory.NIC, current, next SwitchState) ([]tuning.Victim, error) {
			if !differ(current.Mode, next.Mode) {
				return nil, nil
			}
			return victims(ctx, r, nic, SwitchSetting, true, func(int) loss { return itself })
		},
		Write: writeSwitch,
	}
}

// eswitch reads how the PF's switch is set up. Who has a devlink everybody is told;
// of its switch only root is.
func (d *device) eswitch(ctx context.Context) (*ESwitch, error) {
	handles, err := devlinkHandles(ctx, d)
	if err != nil {
		return nil, err
	}
	if !handles[d.Bus+"/"+d.Address] {
		return nil, fmt.Errorf("%w: the driver has no devlink", errors.ErrUnsupported)
	}
	return readESwitch(ctx, d, d.Bus, d.Address)
}

func differ(from, to *string) bool { return from != nil && to != nil && *from != *to }

func resolveSwitch(ctx context.Context, ask tuning.Ask, wish, current SwitchState) (SwitchState, error) {
	d, err := deviceOf(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return current, err
	}
	for _, f := range []struct {
		name   string
		wanted *string
		words  []string
		field  **string
	}{
		{"mode", wish.Mode, modeWords(), &current.Mode},
		{"inline-mode", wish.InlineMode, inlineWords(), &current.InlineMode},
		{"encap-mode", wish.EncapMode, encapWords(), &current.EncapMode},
	} {
		if f.wanted == nil {
			continue
		}
		if !slices.Contains(f.words, *f.wanted) {
			return current, fmt.Errorf("%s: %q is none of %s", f.name, *f.wanted, strings.Join(f.words, ", "))
		}
		if f.name == "mode" && differ(*f.field, f.wanted) && d.Driver == "nfp" {
			// nfp_app_eswitch_mode_set: of its firmwares only abm, for switches, takes one.
			return current, fmt.Errorf("%w: nfp's mode comes with its firmware: flower's is switchdev, the basic NIC's is legacy "+
				"(devlink dev flash %s/%s file FILE, and a restart of the host)", errors.ErrUnsupported, d.Bus, d.Address)
		}
		if f.name == "mode" && differ(*f.field, f.wanted) && d.Driver == "ice" && *d.NumVFs > 0 && ask.SwitchedOn(CountSetting, "externally-managed") {
			return current, errors.New("mode: ice takes another one only without VFs, and they are somebody else's (sriov: externally-managed): " +
				"whoever makes them has to remove them first")
		}
		*f.field = f.wanted
	}
	return current, nil
}

// writeSwitch enters switchdev before it sets what only that has, and leaves it
// after.
func writeSwitch(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next SwitchState) error {
	d, err := deviceOf(ctx, w, nic)
	if err != nil {
		return err
	}
	rest := func() error {
		var b kernel.Body
		if differ(current.InlineMode, next.InlineMode) {
			b = b.Uint8(uapi.DEVLINK_ATTR_ESWITCH_INLINE_MODE, uint8(slices.Index(inlineWords(), *next.InlineMode)))
		}
		if differ(current.EncapMode, next.EncapMode) {
			b = b.Uint8(uapi.DEVLINK_ATTR_ESWITCH_ENCAP_MODE, uint8(slices.Index(encapWords(), *next.EncapMode)))
		}
		if len(b) == 0 {
			return nil
		}
		return d.setSwitch(ctx, w, b)
	}
	if !differ(current.Mode, next.Mode) {
		return rest()
	}
	if *next.Mode == modeLegacy {
		if err := rest(); err != nil {
			return err
		}
	}
	if err := d.setMode(ctx, w, *next.Mode); err != nil || *next.Mode == modeLegacy {
		return err
	}
	return rest()
}

// setSwitch asks devlink for some of the switch's settings.
func (d *device) setSwitch(ctx context.Context, w kernel.Writer, settings kernel.Body) error {
	return w.NetlinkSet(ctx, kernel.Request{
		Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_ESWITCH_SET, Body: append(d.handle(), settings...),
	})
}

// handle begins a devlink request about the PF.
func (d *device) handle() kernel.Body {
	return kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, d.Bus).String(uapi.DEVLINK_ATTR_DEV_NAME, d.Address)
}

// setMode changes the mode in the order that the driver wants. A driver of a VF
// does not survive it with mlx5 (kernel's Documentation: "unbind the VFs, change the
// mode, bind them"), and no other minds; ice refuses while there are VFs
// (ice_eswitch_mode_set). VFs that are made anew have no drivers until the setting
// vfs, which is kept, gives them theirs.
func (d *device) setMode(ctx context.Context, w kernel.Writer, mode string) error {
	if err := d.list(ctx); err != nil {
		return err
	}
	set := func() error {
		err := d.setSwitch(ctx, w, kernel.Body{}.Uint16(uapi.DEVLINK_ATTR_ESWITCH_MODE, uint16(slices.Index(modeWords(), mode))))
		if err != nil {
			return fmt.Errorf("mode %s: %w", mode, err)
		}
		return nil
	}
	if n := *d.NumVFs; n > 0 && d.Driver == "ice" {
		if err := d.setNumber(ctx, w, 0); err != nil {
			return err
		}
		err := set()
		return errors.Join(err, d.make(ctx, w, n)) // also after an error: they were there
	}
	drivers := map[*virtual]string{}
	var faults []error
	for _, vf := range d.vfs {
		if vf.Driver == "" || len(faults) > 0 {
			continue
		}
		drivers[vf] = vf.drivenBy()
		if err := unbind(ctx, w, vf); err != nil {
			faults = append(faults, fmt.Errorf("VF %d: take it from its driver: %w", vf.Index, err))
		}
	}
	if len(faults) == 0 {
		faults = append(faults, set())
	}
	for _, vf := range d.vfs {
		if driver, ok := drivers[vf]; ok {
			if err := d.bind(ctx, w, vf, driver); err != nil {
				faults = append(faults, fmt.Errorf("VF %d: driver %s: %w", vf.Index, driver, err))
			}
		}
	}
	return errors.Join(faults...)
}
