package sriov

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"time"

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
		Takes: func(Probing, Probing) time.Duration {
			return timeFor(mostVFs)
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, _, next Probing) error {
			return writeProbing(ctx, w, nic, *next.Autoprobe, tuning.Undoing(ctx))
		},
	}
}

func writeProbing(ctx context.Context, w kernel.Writer, nic inventory.NIC, on, undoing bool) error {
	d, err := deviceOf(ctx, w, nic)
	if err != nil {
		return err
	}
	if err := d.setAutoprobe(ctx, w, on); err != nil || !on {
		return err
	}
	if err := d.list(ctx); err != nil {
		return err
	}
	tell := telling(ctx, len(d.vfs))
	for i, vf := range d.vfs {
		if vf.Driver != "" || vf.DriverOverride == noDriver {
			continue
		}
		if err := probe(ctx, w, vf); err != nil {
			return fmt.Errorf("VF %d: %w", vf.Index, err)
		}
		tell(i+1, "were offered to drivers")
	}
	return d.awaitDrivers(ctx, undoing)
}

// awaitDrivers waits until the VFs have drivers and network devices, as far as some can
// come: the kernel binds at once what is loaded, and udev may be loading more. That a VF
// lacks what others of the PF got is an error, but in an undo: it may have lacked that
// before, too. That nothing is loaded which takes any is none. What is none is told.
func (d *device) awaitDrivers(ctx context.Context, undoing bool) error {
	tell := telling(ctx, len(d.vfs))
	most, deadline := -1, time.Time{}
	for {
		if err := d.list(ctx); err != nil {
			return err
		}
		a := arrivalsOf(d.vfs)
		tell(len(d.vfs)-len(a.free)-len(a.bare), "have their drivers and network devices")
		if done := len(d.vfs) - len(a.free) - len(a.bare); done > most { // the others may still come
			most, deadline = done, time.Now().Add(patience)
		}
		coming := len(a.bare) > 0 || len(a.free) > 0 && (a.driven != nil || d.udevIsBusy(ctx))
		if !coming || time.Now().After(deadline) {
			return a.missing(ctx, d, undoing)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("the VFs' drivers are not all there: %w", err)
		}
	}
}

// arrivals are how far those VFs have come that the kernel finds drivers for by itself.
type arrivals struct {
	driven, networked *virtual // one that has a driver, and one that has a network device
	free, bare        []int    // those that have no driver, and those that have one but no network device
}

func arrivalsOf(vfs []*virtual) (a arrivals) {
	for _, vf := range vfs {
		if vf.DriverOverride != "" || vf.DriverKind == "" { // it is not left to the kernel, or not known
			continue
		}
		switch vf.DriverKind {
		case DriverNone:
			a.free = append(a.free, vf.Index)
			continue
		case DriverKernel:
			if vf.Netdev != nil {
				a.networked = cmp.Or(a.networked, vf)
			} else if len(vf.files) == 0 { // else it is driven by a program, through these
				a.bare = append(a.bare, vf.Index)
			}
		}
		a.driven = cmp.Or(a.driven, vf)
	}
	return a
}

// missing says what did not come.
func (a arrivals) missing(ctx context.Context, d *device, undoing bool) error {
	var faults []error
	report := func(isFault bool, what string) {
		if isFault && !undoing {
			faults = append(faults, errors.New(what))
		} else {
			tuning.Tell(ctx, what)
		}
	}
	switch {
	case len(a.free) == 0:
	case a.driven != nil:
		report(true, fmt.Sprintf("VF %s: no driver took it in %s, and VF %d has %s: dmesg has its reasons", listOf(a.free), patience, a.driven.Index, a.driven.Driver))
	default:
		report(false, fmt.Sprintf("VF %s: no driver that is loaded takes it: modprobe $(cat %s/modalias)", listOf(a.free), path.Join(sysPCI, d.vf(a.free[0]).Address)))
	}
	if len(a.bare) > 0 {
		report(a.networked != nil, fmt.Sprintf("VF %s: its driver %s made no network device in %s", listOf(a.bare), d.vf(a.bare[0]).Driver, patience))
	}
	return errors.Join(faults...)
}

// listOf are VFs' numbers as policies have them: "0-2,5".
func listOf(vfs []int) string { return inventory.NewCPUSet(vfs...).String() }

// udevIsBusy says whether udev has yet to handle what became of devices, and so may
// load drivers for them. Its file is there for as long.
func (d *device) udevIsBusy(ctx context.Context) bool {
	_, err := d.ReadFile(ctx, "/run/udev/queue")
	return err == nil
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
