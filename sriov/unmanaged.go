package sriov

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// Management is who else sets up the network devices of a PF's VFs.
type Management struct {
	Unmanaged *bool `json:"unmanaged,omitempty" doc:"whether NetworkManager and systemd-networkd (256 and newer) are told, by an udev rule in /run/, to leave them alone"`
}

// unmanagedSetting is the name of the setting whose state is a [Management].
const unmanagedSetting = "vf-netdevs"

// Unmanaged keeps others from the network devices of VFs. It makes way for these: where
// somebody would take them they are told before VFs are made, and an undo takes that
// back when they are gone.
func Unmanaged() tuning.Knob[Management] {
	return tuning.Knob[Management]{
		Name: unmanagedSetting,
		Doc: "Who else sets up the network devices of a PF's virtual functions (a rule in /run/udev/rules.d). It holds until the next boot, as the " +
			"virtual functions do. Where one of the two runs they are told without being asked for it before VFs are made, unless a policy says off.",
		After:  []string{CountSetting},
		Impact: func(inventory.NIC, Management, Management) tuning.Impact { return tuning.Seamless },
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit Management, err error) {
			d, err := deviceOf(ctx, r, nic)
			if err != nil {
				return current, limit, err
			}
			current.Unmanaged, err = d.unmanaged(ctx)
			return current, limit, err
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, _, next Management) error {
			d, err := deviceOf(ctx, w, nic)
			if err != nil {
				return err
			}
			return d.setUnmanaged(ctx, w, *next.Unmanaged)
		},
		MakeWay: makeWayForVFs,
		Keep: func(tuning.Ask, Management) (Management, error) {
			return Management{}, nil // making VFs wipes nothing of it
		},
	}
}

// makeWayForVFs has those told who run, before VFs are made, or what a policy says.
func makeWayForVFs(ctx context.Context, ask tuning.Ask, current Management) (Management, error) {
	count, planned := tuning.Get[Count](ask.Planned, CountSetting)
	if !planned || count.VFs == nil || *count.VFs == 0 || current.Unmanaged == nil || *current.Unmanaged || tuning.Undoing(ctx) {
		return current, nil
	}
	if wanted, ok := tuning.Get[Management](ask.Planned, unmanagedSetting); ok {
		return wanted, nil
	}
	managers, err := inventory.ReadManagers(ctx, ask.Reader)
	if err != nil {
		ask.Doubt("whether NetworkManager or systemd-networkd would set up the VFs' network devices is not known: " + err.Error())
	}
	for _, m := range managers {
		if m.Name == "NetworkManager" || m.Name == "systemd-networkd" {
			return Management{new(true)}, nil
		}
	}
	return current, nil
}

// NetworkManager leaves alone what udev calls NM_UNMANAGED, and systemd-networkd
// (256 and newer) what udev says another manages (ID_NET_MANAGED_BY). Both get it with
// the device, so nothing has to be sent to either, and a rule in /run is gone with the
// VFs at the next boot.

// rules are the rule for the network devices of the PF's VFs. The number places it
// behind udev's own rules for network devices.
func (d *device) rules() (name, text string) {
	name = fmt.Sprintf("81-nictune-vfs-%s-%s.rules", d.Bus, strings.ReplaceAll(d.Address, ":", "-"))
	text = "# Of nictune: the setting vf-netdevs, unmanaged: on. An undo takes it away.\n" +
		`SUBSYSTEM=="net", ACTION!="remove", ATTR{device/physfn/uevent}=="*PCI_SLOT_NAME=` + d.Address + `*", ` +
		`ENV{NM_UNMANAGED}="1", ENV{ID_NET_MANAGED_BY}="nobody"` + "\n"
	return name, text
}

// unmanaged says whether the rule is there. It can't be without udev, or for VFs that
// are no PCI devices.
func (d *device) unmanaged(ctx context.Context) (*bool, error) {
	if d.Bus != "pci" {
		return nil, fmt.Errorf("%w: the VFs of this device have no network devices of their own", errors.ErrUnsupported)
	}
	udev, err := d.ReadDir(ctx, path.Dir(kernel.UdevRulesDir))
	switch {
	case err != nil:
		return nil, err
	case !slices.Contains(udev, "control"):
		return nil, fmt.Errorf("%w: udev does not run here", errors.ErrUnsupported)
	}
	name, text := d.rules()
	found, err := d.ReadFile(ctx, path.Join(kernel.UdevRulesDir, name))
	if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
		return nil, err
	}
	return new(string(found) == text), nil
}

// setUnmanaged makes the rule, or takes it away, and has udev look again at network
// devices that are there.
func (d *device) setUnmanaged(ctx context.Context, w kernel.Writer, on bool) error {
	name, text := d.rules()
	rules := []byte(text)
	if !on {
		rules = nil
	}
	if err := w.UdevRules(ctx, name, rules); err != nil {
		if on { // at nobody's wish, perhaps
			err = fmt.Errorf("%w; a policy that says vf-netdevs: {unmanaged: off} does without", err)
		}
		return err
	}
	const looks = 3 * time.Second // udev's own, in its manager_reload
	select {
	case <-time.After(looks + 100*time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := d.list(ctx); err != nil {
		return err
	}
	for _, vf := range d.vfs {
		if vf.Netdev == nil || vf.Netdev.Name == "" {
			continue
		}
		err := w.WriteFile(ctx, vf.file("uevent"), []byte("change"))
		if reason := kernel.ReasonOf(err); err != nil && reason != kernel.Unsupported && reason != kernel.Gone { // or nobody has to look at it
			return fmt.Errorf("VF %d: %w", vf.Index, err)
		}
	}
	return nil
}
