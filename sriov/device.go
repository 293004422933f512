package sriov

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// errNoPF is what a NIC says that can't have VFs.
var errNoPF = fmt.Errorf("%w: the device has no virtual functions", errors.ErrUnsupported)

// device is one PF as its knobs see it.
type device struct {
	*physical
	directory
}

// deviceOf finds a NIC's PF. It reads nothing that asks the firmware.
func deviceOf(ctx context.Context, r kernel.Reader, nic inventory.NIC) (*device, error) {
	pf := &physical{nic: &nic}
	var dir string
	switch {
	case nic.Function == inventory.VF || nic.Function == inventory.Representor || nic.Function == inventory.SF:
		return nil, errNoPF
	case nic.PCI != nil:
		target, err := r.ReadLink(ctx, path.Join(sysPCI, nic.PCI.Address))
		if err != nil {
			return nil, gone(err)
		}
		pf.Bus, pf.Address, dir = "pci", nic.PCI.Address, path.Join(sysPCI, target)
	case nic.Parent != nil:
		pf.Bus, pf.Address = nic.Parent.Bus, nic.Parent.Address
		dir = path.Join("/sys/bus", pf.Bus, "devices", pf.Address)
	default:
		return nil, errNoPF
	}
	s := &survey{
		Reader: r, inv: &Inventory{}, byAddress: map[string]*inventory.NIC{},
		configs: map[string]configAnswer{}, groups: map[int]groupAnswer{},
	}
	entries, err := r.ReadDir(ctx, dir)
	if err != nil {
		return nil, gone(err)
	}
	d := &device{pf, directory{s, dir, entries}}
	if !d.has("sriov_numvfs") {
		driver, err := d.linked(ctx, "driver")
		if why := whyNone(driver, d.Address, nic.Name); err == nil && why != "" {
			return nil, fmt.Errorf("%w%s", errNoPF, why)
		}
		return nil, errNoPF
	}
	for file, field := range map[string]**int{"sriov_numvfs": &pf.NumVFs, "sriov_totalvfs": &pf.TotalVFs} {
		if *field, err = d.number(ctx, file); err != nil {
			return nil, err
		}
	}
	pf.Driver, err = d.linked(ctx, "driver")
	return d, err
}

// gone is what an error says of a file that was there a moment ago: without it the
// device is gone, too.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", kernel.ErrGone, err)
	}
	return err
}

// listed finds a NIC's PF, with its VFs.
func listed(ctx context.Context, r kernel.Reader, nic inventory.NIC) (*device, error) {
	d, err := deviceOf(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	return d, d.list(ctx)
}

// ofPF asks something of a NIC's PF.
func ofPF[T any](ctx context.Context, r kernel.Reader, nic inventory.NIC, what func(*device, context.Context) (T, error)) (T, error) {
	d, err := deviceOf(ctx, r, nic)
	if err != nil {
		var none T
		return none, err
	}
	return what(d, ctx)
}

// list reads the PF's VFs, with their drivers.
func (d *device) list(ctx context.Context) error {
	d.vfs = nil
	d.listVFs(ctx, d.physical, d.directory)
	if at := slices.IndexFunc(d.Unread, func(u inventory.Unread) bool { return u.Fact == "vfs" }); at >= 0 {
		return errors.New(d.Unread[at].Detail)
	}
	return nil
}

// vf is the VF of a number, nil if there is none.
func (d *device) vf(index int) *virtual {
	at := slices.IndexFunc(d.vfs, func(vf *virtual) bool { return vf.Index == index })
	if at < 0 {
		return nil
	}
	return d.vfs[at]
}

// write writes a file of the PF.
func (d *device) write(ctx context.Context, w kernel.Writer, file, value string) error {
	return gone(w.WriteFile(ctx, path.Join(d.path, file), []byte(value)))
}

// autoprobe says whether the kernel binds drivers to new VFs by itself; nil for a
// device whose VFs have none.
func (d *device) autoprobe(ctx context.Context) (*bool, error) {
	n, err := d.number(ctx, "sriov_drivers_autoprobe")
	if err != nil || n == nil {
		return nil, err
	}
	return new(*n != 0), nil
}

func (d *device) setAutoprobe(ctx context.Context, w kernel.Writer, on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return d.write(ctx, w, "sriov_drivers_autoprobe", value)
}

// patience is how long VFs may take to appear, a driver to make a network device,
// and a module to be loaded.
const patience = 10 * time.Second

// timeFor is how long something may take that a device does to so many VFs, one
// after the other.
func timeFor(vfs int) time.Duration {
	const each = 3 * time.Second
	return 3*patience + time.Duration(vfs)*each
}

// mostVFs is how many VFs there may be, where that is not known.
const mostVFs = 256

// pace is how often it is told how far something has come.
const pace = 2 * time.Second

// telling tells how many of n VFs are done, no more often than there is something to
// see.
func telling(ctx context.Context, n int) func(done int, what string) {
	last := time.Now()
	return func(done int, what string) {
		if time.Since(last) < pace || done == n {
			return
		}
		last = time.Now()
		tuning.Tell(ctx, fmt.Sprintf("%d of %d VFs %s", done, n, what))
	}
}

// await asks until done says so, for as long as it may take a device.
func await(ctx context.Context, what string, done func() (bool, error)) error {
	return awaitFor(ctx, patience, what, done)
}

func awaitFor(ctx context.Context, patience time.Duration, what string, done func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s after %s", what, patience)
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// pause waits until it is worth looking again.
func pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// count is "1 VF", "7 VFs".
func count(n int) string {
	if n == 1 {
		return "1 VF"
	}
	return strconv.Itoa(n) + " VFs"
}
