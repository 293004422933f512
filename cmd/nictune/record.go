package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/xdpcheck"
)

func newRecordCommand(app *app) *cobra.Command {
	var output string
	var vfs, modules bool
	cmd := &cobra.Command{
		Use:   "record",
		Short: "Record this host, to be read elsewhere with --host",
		Long: `Write all that the read commands ask this host, and its answers, to one text
file. Every read command replays it with --host FILE: for a bug report, a test,
or an audit on another machine.

A PF that has VFs is asked for them, as inventory --vfs does: the kernel blocks
changes to all network devices meanwhile. --vfs=false leaves that out.

The recording holds MAC addresses, serial numbers, host and device names. Read it
before handing it on: it is text. Nothing of this host is changed.`,
		Example: `  nictune record -o web1.txtar
  nictune --host web1.txtar inventory -o tree`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.read(cmd.Context(), func(ctx context.Context, reader host) error {
				v, _ := buildVersion()
				recorder := kernel.NewRecorder(reader, kernel.RecordingHeader{Nictune: v, Recorded: time.Now().UTC()})
				if shared := app.modules(reader, inventory.LeaveFlags, modules).Shared; modules && shared != nil {
					release, err := shared.Lock(ctx) // it reads all, but in its turn
					if err != nil {
						return err
					}
					defer release()
				}
				if err := ask(ctx, recorder, vfs, modules); err != nil {
					return err
				}
				if output == "" {
					_, err := recorder.WriteTo(app.stdout)
					return err
				}
				return writeWhole(output, func(f *os.File) error {
					_, err := recorder.WriteTo(f)
					return err
				})
			})
		},
	}
	cmd.Flags().BoolVar(&vfs, "vfs", true, "record VFs too; a PF's firmware may take its time over them")
	cmd.Flags().BoolVar(&modules, "modules", false, "record pluggable modules, too (slow; root)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` instead of standard output")
	return cmd
}

// ask puts to a host every question that the read commands have, of VFs and
// modules where that is wanted.
func ask(ctx context.Context, r kernel.Reader, vfs, modules bool) error {
	inv, err := inventory.Read(ctx, r)
	if err != nil {
		return err
	}
	if _, err := inventory.ReadStatistics(ctx, r); err != nil {
		return err
	}
	for _, file := range []string{"/proc/uptime", "/etc/machine-id"} {
		_, _ = r.ReadFile(ctx, file) // what it says is recorded, an error too
	}
	_, _ = r.ReadDir(ctx, audit.BusDevices("pci")) // by which a later recording is judged
	for i := range inv.NICs {
		if p := inv.NICs[i].Parent; p != nil {
			_, _ = r.ReadDir(ctx, audit.BusDevices(p.Bus))
		}
	}
	inventory.ReadCounters(ctx, r, inv)
	inventory.ReadTraffic(ctx, r, inv)
	if vfs {
		sriov.Read(ctx, r, inv)
	}
	xdpcheck.Read(ctx, r, &inv.Host, inv.NICs)
	if modules {
		inventory.NewModules().ReadAll(ctx, r, inv)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("there was no time to ask everything, a longer --timeout may help: %w", err)
	}
	return nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(name string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(f.Name()))
	}
	return nil
}
