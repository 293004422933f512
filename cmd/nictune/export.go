package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/exporters/metrics"
)

func newExportCommand(app *app) *cobra.Command {
	f := agentFlags{reconcile: agent.Report}
	var textfile string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the metrics once, for node_exporter's textfile collector",
		Long: `Read the host once and write the metrics that nictune agent serves, to standard
output or with --textfile to a file.

The file is written beside the old one, synced and renamed, so that whoever reads
it finds one or the other whole. If the host can't be read, or the file not written,
the old file stays, and node_textfile_mtime_seconds tells its age.

What one device doesn't tell costs the others nothing: nictune_nic_unread_facts and
nictune_scrape_device_errors count it. A part that could not be read as a whole is an
error.`,
		Example: `  nictune export --textfile /var/lib/prometheus/node-exporter/nictune.prom
  nictune export --collector.disable-defaults --collector.link | promtool check metrics`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("textfile") && textfile == "" {
				return errors.New("--textfile is empty")
			}
			if err := f.settle(cmd); err != nil {
				return err
			}
			return app.export(cmd.Context(), f, textfile)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&textfile, "textfile", "", "replace this `FILE`; node_exporter reads those whose names end in .prom")
	f.match.labelFlags(cmd)
	flags.StringSliceVarP(&f.match.policies, "policy", "f", nil, "the policies in these `FILES` or directories, of all kinds: compare the host with the tuning policies instead of the shipped ones, judge it by the others")
	stateFlag(cmd, &f.state)
	f.collectors.add(cmd)
	return cmd
}

func (a *app) export(ctx context.Context, f agentFlags, textfile string) error {
	return a.read(ctx, func(ctx context.Context, reader host) error {
		options, err := a.observing(reader, f)
		if err != nil {
			return err
		}
		var failures []error
		options.Failed = func(err error) { failures = append(failures, err) }
		keeper := agent.New(reader, options)
		if err := keeper.Once(ctx); err != nil {
			return errors.Join(append(failures, err)...)
		}
		var unread []string
		exporter, err := metrics.New(func(asked metrics.Asked) metrics.Snapshot {
			s := keeper.Snapshot(asked)
			for _, r := range s.Reads {
				if !r.Success {
					unread = append(unread, r.Collector)
				}
			}
			return s
		}, f.exporter)
		if err != nil {
			return err
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(metrics.BuildInfo(buildVersion()))
		write := func(w io.Writer) error {
			if err := exporter.WriteText(w, registry); err != nil {
				return err
			}
			if len(unread) > 0 {
				err := fmt.Errorf("not everything could be read: %s", strings.Join(unread, ", "))
				return errors.Join(append(failures, err)...)
			}
			return nil
		}
		if textfile == "" {
			err = write(a.stdout)
		} else if err = metrics.WriteFile(textfile, write); err != nil {
			err = fmt.Errorf("%s stays as it was: %w", textfile, err)
		}
		if err == nil {
			for _, failure := range failures {
				a.log.Warn("one device's metrics are missing", "err", failure)
			}
			if textfile != "" && !strings.HasSuffix(textfile, ".prom") {
				a.log.Warn("node_exporter reads only files whose names end in .prom", "file", textfile)
			}
		}
		return err
	})
}
