package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/terminal"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/sriov"
)

func newModuleCommand(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "module",
		Short: "Read pluggable modules and cables",
		RunE:  group,
	}
	cmd.AddCommand(newModuleDecodeCommand(app), newModuleShowCommand(app))
	return cmd
}

func newModuleDecodeCommand(app *app) *cobra.Command {
	var format, port string
	var check bool
	cmd := &cobra.Command{
		Use:   "decode FILE",
		Short: "Say what a dump of a module's memory holds",
		Long: `Decode the memory of an SFP (SFF-8472), QSFP (SFF-8636) or CMIS module (QSFP-DD,
OSFP): what it is, what it can do, what it measures, and whether its checksums
hold. No device is asked.

FILE is what "ethtool -m DEV raw on" or "hex on" wrote, a hexdump of SONiC
("sfputil show eeprom-hexdump"), hexadecimal in sections ([a0], [a2], [lower],
[page 00], [bank 1 page 11]), or the bytes themselves; "-" is standard input.
Which of them it is shows in its content.

What the module does not say is left out. What stands under a checksum that does
not hold is marked as doubtful, and not judged.

With --check it is judged instead, by the rules for modules of nictune check link;
the exit status is then 2 where one of them fails.`,
		Example: `  ethtool -m eth0 raw on | nictune module decode -
  nictune module decode dump.hex
  nictune module decode --check dump.hex
  nictune module decode -o json dump.bin | jq '.dom.lanes[].rxPower.dBm'
  nictune module decode --port Ethernet8 hexdump-of-all-ports.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readModuleDump(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			dumps, err := module.ParseDump(data)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			dump, err := pickPort(dumps, port)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			m, err := module.Decode(&dump.Image)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			var written any = m
			write := terminal.Module
			all := audit.Module(m, cmp.Or(port, filepath.Base(args[0])))
			if check {
				written = all
				write = func(w io.Writer, _ *module.Module) error { return terminal.Findings(w, all, false) }
			}
			switch format {
			case "json":
				err = writeJSON(app.stdout, written)
			case "yaml":
				err = writeYAML(app.stdout, written)
			default:
				err = write(app.stdout, m)
			}
			if err == nil && check && findings.Failed(all, findings.Warning) {
				return &exitStatus{code: exitDifferences}
			}
			return err
		},
	}
	outputFlag(cmd, &format, "text", "json", "yaml")
	cmd.Flags().BoolVar(&check, "check", false, "judge it instead: what is wrong, why that matters, what to do")
	cmd.Flags().StringVar(&port, "port", "", "of a hexdump of several ports, the one called `NAME`")
	return cmd
}

func newModuleShowCommand(app *app) *cobra.Command {
	var format string
	var latched bool
	cmd := &cobra.Command{
		Use:   "show DEVICE...",
		Short: "Show the modules that are plugged into NICs",
		Long: `Read the memory of pluggable modules, one after another, and say what it holds.
Root is needed. DEVICE is a name, an alternative name or a PCI address, also as a
shell pattern.

Alarm and warning flags that reading would clear, those of QSFP and CMIS modules, are
left unread unless --flags asks for them. They say what was raised since anybody last
read them, and nobody after that learns of it.

What was measured less than a minute ago, by whatever process, is not measured again.`,
		Example: `  nictune module show eth0
  nictune module show --flags eth0
  nictune module show -o json 'enp*' | jq '.[] | {name, dom: .module.dom}'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, devices []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, reader host) error {
				inv, err := inventory.Read(ctx, reader)
				if err != nil {
					return err
				}
				whole := &sriov.Inventory{Inventory: *inv}
				if err := filter(whole, devices, nil); err != nil {
					return err
				}
				var shown []plugged
				var failed []error
				flags := inventory.LeaveFlags
				if latched {
					flags = inventory.ReadFlags
				}
				modules := app.modules(reader, flags, true)
				for _, n := range whole.NICs {
					m, err := modules.Read(ctx, reader, n)
					if err != nil {
						failed = append(failed, fmt.Errorf("%s: %w", n.Name, err))
					}
					if m != nil {
						shown = append(shown, plugged{n.Name, m})
					}
				}
				return errors.Join(append([]error{writePlugged(app.stdout, format, shown)}, failed...)...)
			})
		},
	}
	outputFlag(cmd, &format, "text", "json", "yaml")
	cmd.Flags().BoolVar(&latched, "flags", false, "read flags, too, that reading clears for whoever else watches them")
	return cmd
}

// plugged is a module with the NIC that it is in.
type plugged struct {
	Name   string         `json:"name"`
	Module *module.Module `json:"module"`
}

func writePlugged(w io.Writer, format string, shown []plugged) error {
	switch format {
	case "json":
		return writeJSON(w, append([]plugged{}, shown...))
	case "yaml":
		return writeYAML(w, append([]plugged{}, shown...))
	}
	for _, p := range shown {
		if _, err := fmt.Fprintf(w, "%s:\n", p.Name); err != nil {
			return err
		}
		if err := terminal.Module(w, p.Module); err != nil {
			return err
		}
	}
	return nil
}

func readModuleDump(path string, stdin io.Reader) ([]byte, error) {
	if path != "-" {
		return os.ReadFile(path)
	}
	const most = 64 << 20
	data, err := io.ReadAll(io.LimitReader(stdin, most+1))
	if err == nil && len(data) > most {
		err = errors.New("standard input: this is no dump of modules: it does not end")
	}
	return data, err
}

// pickPort finds the dump that is meant among those of several ports.
func pickPort(dumps []module.Dump, port string) (*module.Dump, error) {
	names := make([]string, len(dumps))
	for i := range dumps {
		names[i] = dumps[i].Name
		if dumps[i].Name == port || port == "" && len(dumps) == 1 {
			return &dumps[i], nil
		}
	}
	list := strings.Join(names, ", ")
	switch {
	case port == "":
		return nil, fmt.Errorf("it holds %d modules: name one with --port: %s", len(dumps), list)
	case list == "":
		return nil, fmt.Errorf("it names no ports: leave out --port %s", port)
	}
	return nil, fmt.Errorf("it has no port %s, but %s", port, list)
}
