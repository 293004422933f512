package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/exporters/terminal"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

func newInventoryCommand(app *app) *cobra.Command {
	var format string
	var kinds []string
	var vfs, modules bool
	cmd := &cobra.Command{
		Use:   "inventory [DEVICE...]",
		Short: "Show the host's NICs and how they are set up",
		Long: `Show the host's network devices: what they are, where they are attached, their
links, queues, offloads and multicast memberships.

DEVICE is a name, an alternative name or a PCI address, also as a shell pattern.
Without one, all devices but the loopback are shown.

With --vfs the tables show physical functions and their VFs: settings, drivers,
IOMMU groups and users; the tree hangs VFs below their PF, and JSON and YAML have
a list "pfs" more. The kernel blocks changes to all network devices while a PF
with VFs is asked for them; that can take its firmware a second. Root is needed
to see who uses VFs and what is in configuration space.

Nothing is changed and no privilege is needed. What could not be read, and why,
is listed on standard error, and under "unread" in the JSON and YAML forms;
root can read more.`,
		Example: `  nictune inventory                     # one line for each device
  nictune inventory -o wide eth0
  nictune inventory 'enp*' '0000:3b:*'
  nictune inventory -o tree --kind pf,vf
  nictune inventory --vfs -o wide eth0  # eth0's VFs, one line for each
  nictune inventory --vfs -o json | jq '.pfs[].vfs[] | select(.users) | {address, users}'
  nictune inventory -o json | jq '.nics[].link.speedMbps'`,
		RunE: func(cmd *cobra.Command, devices []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, reader host) error {
				inv, err := inventory.Read(ctx, reader)
				if err != nil {
					return err
				}
				if !reader.recorded.IsZero() {
					inv.CollectedAt = reader.recorded
				}
				whole := &sriov.Inventory{Inventory: *inv}
				if vfs {
					whole = sriov.Read(ctx, reader, inv)
				}
				if err := filter(whole, devices, kinds); err != nil {
					return err
				}
				if modules {
					app.modules(reader, inventory.LeaveFlags, false).ReadAll(ctx, reader, &whole.Inventory)
				}
				switch format {
				case "json":
					err = writeInventory(app.stdout, whole)
				case "yaml":
					err = writeYAML(app.stdout, whole)
				case "tree":
					err = terminal.Tree(app.stdout, whole)
				default:
					if vfs {
						err = terminal.VFs(app.stdout, whole.PFs, format == "wide")
					} else {
						err = terminal.Table(app.stdout, whole.NICs, format == "wide")
					}
				}
				if err == nil && format != "json" && format != "yaml" { // they hold it
					err = terminal.Unread(app.stderr, whole)
				}
				if err == nil && ctx.Err() != nil {
					err = fmt.Errorf("reading the host took longer than %s and was cut short: what is shown is not all; --timeout gives it longer", app.timeout)
				}
				return err
			})
		},
	}
	outputFlag(cmd, &format, "table", "wide", "tree", "json", "yaml")
	cmd.Flags().BoolVar(&vfs, "vfs", false, "show physical functions and their VFs")
	cmd.Flags().BoolVar(&modules, "modules", false, "read pluggable modules, too, for the JSON and YAML forms (slow; root)")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only devices of these `KINDS`: pf, vf, sf, representor, plain, virtual")
	return cmd
}

// noDevice is the pattern that matches no device.
type noDevice string

func (d noDevice) Error() string {
	return fmt.Sprintf("no network device matches %q; nictune inventory lists them all", string(d))
}

// filter keeps the NICs that were asked for, and the PFs and VFs. A device that was
// named and isn't there is an error; so is a kind that doesn't exist.
func filter(inv *sriov.Inventory, devices, kinds []string) error {
	functions := []inventory.Function{inventory.PF, inventory.VF, inventory.SF, inventory.Representor, inventory.Plain, inventory.Virtual}
	for _, k := range kinds {
		if !slices.Contains(functions, inventory.Function(k)) {
			return fmt.Errorf("unknown kind %q: use pf, vf, sf, representor, plain or virtual", k)
		}
	}
	for _, d := range devices {
		if _, err := path.Match(d, ""); err != nil {
			return fmt.Errorf("device pattern %q: %w", d, err)
		}
		if !knows(inv, d) {
			return noDevice(d)
		}
	}
	inv.NICs = slices.DeleteFunc(inv.NICs, func(n inventory.NIC) bool {
		if len(kinds) > 0 && !slices.Contains(kinds, string(n.Function)) {
			return true
		}
		return len(devices) > 0 && !slices.ContainsFunc(devices, func(d string) bool { return named(&n, d) })
	})
	if len(devices) > 0 {
		filterFunctions(inv, devices)
	}
	return nil
}

// knows reports whether a pattern names a device of an inventory.
func knows(inv *sriov.Inventory, d string) bool {
	return slices.ContainsFunc(inv.NICs, func(n inventory.NIC) bool { return named(&n, d) }) || namesFunction(inv.PFs, d)
}

// filterFunctions keeps the PFs that were named, whole, and of others the VFs that
// were.
func filterFunctions(inv *sriov.Inventory, devices []string) {
	asked := func(names ...string) bool {
		return slices.ContainsFunc(devices, func(d string) bool { return matches(d, names...) })
	}
	inv.PFs = slices.DeleteFunc(inv.PFs, func(pf sriov.PF) bool {
		return !slices.ContainsFunc(devices, func(d string) bool { return namesFunction([]sriov.PF{pf}, d) })
	})
	for i := range inv.PFs {
		pf := &inv.PFs[i]
		if !asked(pf.Name, pf.Address) {
			pf.VFs = slices.DeleteFunc(pf.VFs, func(vf sriov.VF) bool { return !asked(vfNames(&vf)...) })
		}
	}
}

// namesFunction reports whether a pattern is that of a PF or VF.
func namesFunction(pfs []sriov.PF, pattern string) bool {
	return slices.ContainsFunc(pfs, func(pf sriov.PF) bool {
		return matches(pattern, pf.Name, pf.Address) ||
			slices.ContainsFunc(pf.VFs, func(vf sriov.VF) bool { return matches(pattern, vfNames(&vf)...) })
	})
}

// vfNames are what a VF can be asked for by. Names in another namespace are none
// here.
func vfNames(vf *sriov.VF) []string {
	names := []string{vf.Address, vf.Representor}
	if vf.Netdev != nil && vf.Netdev.Namespace == nil {
		names = append(names, vf.Netdev.Name)
	}
	return names
}

// named reports whether a NIC answers to a name, a PCI address or a pattern.
func named(n *inventory.NIC, pattern string) bool {
	names := append([]string{n.Name}, n.AltNames...)
	if n.PCI != nil {
		names = append(names, n.PCI.Address)
	}
	return matches(pattern, names...)
}

// matches reports whether one of the names fits a pattern. PCI addresses may be
// given without the domain 0000.
func matches(pattern string, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		ok, _ := path.Match(pattern, name) // the pattern was checked
		if short, found := strings.CutPrefix(name, "0000:"); found && !ok {
			ok, _ = path.Match(pattern, short)
		}
		return ok && name != ""
	})
}
