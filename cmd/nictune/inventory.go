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
)

func newInventoryCommand(app *app) *cobra.Command {
	var format string
	var kinds []string
	cmd := &cobra.Command{
		Use:   "inventory [DEVICE...]",
		Short: "Show the host's NICs and how they are set up",
		Long: `Show the host's network devices: what they are, where they are attached, their
links, queues, offloads and multicast memberships.

DEVICE is a name, an alternative name or a PCI address, also as a shell pattern.
Without one, all devices but the loopback are shown.

Nothing is changed and no privilege is needed. What could not be read, and why,
is listed on standard error, and under "unread" in the JSON and YAML forms;
root can read more.`,
		Example: `  nictune inventory                     # one line for each device
  nictune inventory -o wide eth0
  nictune inventory 'enp*' '0000:3b:*'
  nictune inventory -o tree --kind pf,vf
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
				if err := filter(inv, devices, kinds); err != nil {
					return err
				}
				switch format {
				case "json":
					err = writeInventory(app.stdout, inv)
				case "yaml":
					err = writeYAML(app.stdout, inv)
				case "tree":
					err = terminal.Tree(app.stdout, inv)
				default:
					err = terminal.Table(app.stdout, inv.NICs, format == "wide")
				}
				if err == nil && format != "json" && format != "yaml" { // they hold it
					err = terminal.Unread(app.stderr, inv)
				}
				if err == nil && ctx.Err() != nil {
					err = fmt.Errorf("reading the host took longer than %s and was cut short: what is shown is not all; --timeout gives it longer", app.timeout)
				}
				return err
			})
		},
	}
	outputFlag(cmd, &format, "table", "wide", "tree", "json", "yaml")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only devices of these `KINDS`: pf, vf, sf, representor, plain, virtual")
	return cmd
}

// filter keeps the NICs that were asked for. A device that was named and isn't
// there is an error; so is a kind that doesn't exist.
func filter(inv *inventory.Inventory, devices, kinds []string) error {
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
		if !slices.ContainsFunc(inv.NICs, func(n inventory.NIC) bool { return named(&n, d) }) {
			return fmt.Errorf("no network device matches %q; nictune inventory lists them all", d)
		}
	}
	inv.NICs = slices.DeleteFunc(inv.NICs, func(n inventory.NIC) bool {
		if len(kinds) > 0 && !slices.Contains(kinds, string(n.Function)) {
			return true
		}
		return len(devices) > 0 && !slices.ContainsFunc(devices, func(d string) bool { return named(&n, d) })
	})
	return nil
}

// named reports whether a NIC answers to a name, a PCI address or a pattern.
func named(n *inventory.NIC, pattern string) bool {
	names := append([]string{n.Name}, n.AltNames...)
	if n.PCI != nil {
		names = append(names, n.PCI.Address, strings.TrimPrefix(n.PCI.Address, "0000:"))
	}
	return slices.ContainsFunc(names, func(name string) bool {
		ok, _ := path.Match(pattern, name) // the pattern was checked
		return ok
	})
}
