package sriov

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// Probing is whether the kernel looks for drivers of a PF's VFs by itself.
type Probing struct {
	Autoprobe *bool `json:"autoprobe,omitempty" doc:"whether the kernel binds a driver to VFs by itself; turning it on does so for those that have none"`
}

// Drivers is sriov_drivers_autoprobe. It comes after the VFs' settings: new VFs
// are made with it off, and it is put back when they are set up.
func Drivers() tuning.Knob[Probing] {
	return tuning.Knob[Probing]{
		Name: "vf-drivers",
		Doc: "Whether the kernel binds drivers to a PF's virtual functions by itself (sriov_drivers_autoprobe in /sys/). It is off while VFs " +
			"are made and set up, and put back after that.",
		After:  []string{CountSetting, SwitchSetting, FunctionSetting},
		Impact: func(inventory.NIC, Probing, Probing) tuning.Impact { return tuning.Seamless },
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit Probing, err error) {
			d, err := deviceOf(ctx, r, nic)
			if err != nil {
				return current, limit, err
			}
			if current.Autoprobe, err = d.autoprobe(ctx); err == nil && current.Autoprobe == nil {
				err = fmt.Errorf("%w: the VFs of this device have no drivers", errors.ErrUnsupported)
			}
			return current, limit, err
		},
		Write: writeProbing,
	}
}

func writeProbing(ctx context.Context, w kernel.Writer, nic inventory.NIC, _, next Probing) error {
	d, err := deviceOf(ctx, w, nic)
	if err != nil {
		return err
	}
	if err := d.setAutoprobe(ctx, w, *next.Autoprobe); err != nil || !*next.Autoprobe {
		return err
	}
	if err := d.list(ctx); err != nil {
		return err
	}
	for _, vf := range d.vfs {
		if vf.Driver != "" || vf.DriverOverride == noDriver {
			continue
		}
		if err := probe(ctx, w, vf); err != nil {
			return fmt.Errorf("VF %d: %w", vf.Index, err)
		}
	}
	return nil
}

// probe has the kernel look for a VF's driver.
func probe(ctx context.Context, w kernel.Writer, vf *virtual) error {
	return w.WriteFile(ctx, "/sys/bus/pci/drivers_probe", []byte(vf.Address))
}

// What a VF is driven by, besides the names of drivers.
const (
	// networkDriver is whatever driver makes a network device of it.
	networkDriver = "netdev"
	// noDriver keeps any from it: it is the override, too, and no driver's name.
	noDriver = "none"
	// unbound is a VF that has no driver, but may be given one.
	unbound = "unbound"
	vfioPCI = "vfio-pci"
)

// drivenBy is a VF's driver in these words.
func (vf *virtual) drivenBy() string {
	switch {
	case vf.DriverKind == DriverNone && vf.DriverOverride == noDriver:
		return noDriver
	case vf.DriverKind == DriverNone:
		return unbound
	case vf.DriverKind == DriverKernel && vf.Netdev != nil:
		return networkDriver
	}
	return vf.Driver
}

// unbind takes a VF's driver away.
func unbind(ctx context.Context, w kernel.Writer, vf *virtual) error {
	if vf.Driver == "" {
		return nil
	}
	return gone(w.WriteFile(ctx, path.Join(vf.dir, "driver", "unbind"), []byte(vf.Address)))
}

// bind gives a VF that has no driver what drives it.
func (d *device) bind(ctx context.Context, w kernel.Writer, vf *virtual, driver string) error {
	override := driver
	if driver == networkDriver || driver == unbound {
		override = ""
	}
	if vf.DriverOverride != override {
		if err := w.WriteFile(ctx, path.Join(vf.dir, "driver_override"), []byte(override+"\n")); err != nil {
			return gone(err)
		}
	}
	if driver == noDriver || driver == unbound {
		return nil
	}
	on, err := d.autoprobe(ctx)
	if err != nil {
		return err
	}
	// Without autoprobe the kernel binds only what has an override.
	if override == "" && on != nil && !*on {
		if err := d.setAutoprobe(ctx, w, true); err != nil {
			return err
		}
		defer func() { _ = d.setAutoprobe(context.WithoutCancel(ctx), w, false) }()
	}
	err = await(ctx, "no driver took it (is its module loaded?)", func() (bool, error) {
		if err := probe(ctx, w, vf); err != nil {
			return false, err
		}
		now, err := d.look(ctx, vf)
		return err == nil && now.Driver != "", err
	})
	if err != nil || driver != networkDriver {
		return err
	}
	return await(ctx, "its driver made no network device", func() (bool, error) {
		now, err := d.look(ctx, vf)
		return err == nil && now.Netdev != nil, err
	})
}

// look reads a VF again.
func (d *device) look(ctx context.Context, vf *virtual) (*virtual, error) {
	now := &virtual{VF: VF{Index: vf.Index, Address: vf.Address}, dir: vf.dir}
	d.readVF(ctx, now)
	for _, u := range now.Unread {
		if u.Fact == "address" || u.Fact == "driver" {
			return nil, errors.New(u.Detail)
		}
	}
	return now, nil
}
