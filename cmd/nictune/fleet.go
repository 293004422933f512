package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/exporters/html"
	"github.com/nictune/nictune/exporters/report"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

func newFleetCommand(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Report on many hosts, and on what changed",
		Args:  cobra.ArbitraryArgs, // group refuses them
		RunE:  group,
	}
	cmd.AddCommand(newFleetReportCommand(app), newFleetDiffCommand(app))
	return cmd
}

// agentMaxAge is --max-age of what agents say, who judge their hosts every few minutes: as
// the alert NictuneAuditStale has it. Audits may be a day apart.
const agentMaxAge = time.Hour

// fleetReport is what nictune fleet report was asked for.
type fleetReport struct {
	server                         fleetServer
	reports                        []string
	format, table, failOn, out     string
	hosts, host, baseline, spoolIn string
	maxAge                         time.Duration
	top                            int
}

func newFleetReportCommand(app *app) *cobra.Command {
	var f fleetReport
	cmd := &cobra.Command{
		Use:   "report {--reports PATH | --prometheus URL}",
		Short: "Say which rules fail where, what is worse than its peers, and who is missing",
		Long: `Read the audit reports of many hosts (nictune audit -o json) and make one of them, or
ask a Prometheus that scrapes their agents.

--reports names files and folders, or - for standard input. A file holds the report of
one host, or those of many, one after the other or in lines; gzip and zstd are unpacked.
They are read one at a time, so that there may be any number.

A host of which there is no report counts nowhere as well. With --hosts, a file with
one name on each line, those are named that should be here and are not. A report older
than --max-age is stale, one from more than five minutes in the future has a clock that
is wrong: both are named and not counted. Of two reports of a host the newer counts;
two hosts with one name are told apart by their machine's id.

--prometheus asks Prometheus, Thanos, Mimir or VictoriaMetrics; nothing else is needed
of the hosts than the scrape. It is asked for some hundred hosts at a time (--shards at
once), and reduces what it can. Hosts that can't be scraped, or that reported within
--since and don't now, are missing. --http.config.file holds credentials and TLS as for
promtool. docs/fleet.md says what Prometheus knows less of than reports.

--host NAME is about one host only, with each of its findings.

docs/fleet.md says what the figures mean, and how outliers are found.

Exit status: 0 when nothing fails, 2 when a rule of at least the severity of --fail-on
does, or hosts are missing, stale or of a report that can't be used, or a verdict could
not be given; 1 for an error, and where there is no host to say anything about.`,
		Example: `  nictune fleet report --reports /var/lib/audits --hosts hosts.txt
  zcat audits/*.gz | nictune fleet report --reports - -o json > fleet.json
  nictune fleet report --reports /var/lib/audits --baseline yesterday.json -o markdown
  nictune fleet report --reports /var/lib/audits --hosts hosts.txt -o html --out fleet.html
  nictune fleet report --reports /var/lib/audits -o csv --table optics
  nictune fleet report --reports /var/lib/audits --host web-17
  nictune fleet report --prometheus http://localhost:9090 --timeout 5m
  nictune fleet report --prometheus https://mimir.example/prometheus --http.config.file mimir.yml --selector 'cluster="eu"'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(findings.Severities(), findings.Severity(f.failOn)) {
				return fmt.Errorf("unknown severity %q: use info, warning or critical", f.failOn)
			}
			if cmd.Flags().Changed("table") && f.format != "csv" {
				return errors.New("--table is for -o csv: the other formats have all tables")
			}
			if f.server.address != "" && !cmd.Flags().Changed("max-age") {
				f.maxAge = agentMaxAge
			}
			ctx, cancel := app.within(cmd)
			defer cancel()
			return app.fleetReport(ctx, f)
		},
	}
	outputFlag(cmd, &f.format, "text", "json", "html", "csv", "markdown")
	flags := cmd.Flags()
	flags.StringArrayVar(&f.reports, "reports", nil, "read the audit reports in `PATH`, a file or folder, or - for standard input; may be repeated")
	f.server.flags(cmd)
	flags.StringVar(&f.hosts, "hosts", "", "the hosts that there should be, one name on each line of `FILE`")
	// On other commands --host is a recording: here there are many hosts to choose from.
	flags.StringVar(&f.host, "host", "", "report on the host of this `NAME` only, with each finding")
	flags.DurationVar(&f.maxAge, "max-age", 25*time.Hour, "a report is stale from this age on; 0 for never (with --prometheus 1h unless given)")
	flags.IntVar(&f.top, "top", 20, "how long lists of the worst are, `N`")
	flags.StringVar(&f.baseline, "baseline", "", "say what changed since the report in `FILE` (of nictune fleet report -o json)")
	flags.StringVar(&f.failOn, "fail-on", string(findings.Warning), "the least `SEVERITY` that makes the exit status 2: info, warning or critical")
	flags.StringVar(&f.table, "table", "rules", "the `TABLE` to write as CSV: "+strings.Join(report.FleetTables(), ", "))
	flags.StringVar(&f.out, "out", "", "write the report to `FILE` in place of standard output")
	flags.StringVar(&f.spoolIn, "spool-dir", "", "where a file is made for hosts that don't fit in memory: half a kilobyte for each (default TMPDIR, or /tmp)")
	if err := cmd.RegisterFlagCompletionFunc("table", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return report.FleetTables(), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err) // the flag was added above
	}
	return cmd
}

// fleetReport makes the report and says how the fleet is.
func (a *app) fleetReport(ctx context.Context, f fleetReport) error {
	fewGarbage()
	o, err := f.options(time.Now())
	if err != nil {
		return err
	}
	var baseline *fleet.Report
	if f.baseline != "" {
		if baseline, err = readFleet(f.baseline); err != nil {
			return err
		}
	}
	r, err := a.readFleetFrom(ctx, &f, o)
	if err != nil {
		return err
	}
	if baseline != nil {
		r.Baseline = fleet.Compare(baseline, r, f.top)
	}
	if err := f.aboutNobody(r); err != nil {
		return err // before a report that says something is replaced
	}
	if err := a.writeTo(f.out, func(w io.Writer) error { return f.write(w, r) }); err != nil {
		return err
	}
	if r.Failed(findings.Severity(f.failOn)) {
		return &exitStatus{code: exitDifferences}
	}
	return nil
}

// aboutNobody is an error where a report has no host to say anything about.
func (f *fleetReport) aboutNobody(r *fleet.Report) error {
	s := &r.Scope
	switch {
	case s.Hosts+s.Missing.Count+s.Stale.Count+s.Ahead.Count > 0:
		return nil
	case f.host != "":
		return fmt.Errorf("no report of a host named %q among those that were read%s", f.host, unusable(f.host, r))
	}
	inputs := strings.Join(s.Inputs[:min(len(s.Inputs), 3)], ", ")
	if more := len(s.Inputs) - 3; more > 0 {
		inputs += fmt.Sprintf(" and %d more", more)
	}
	return noReport(inputs, r)
}

// unusable says why what was read of a host is of no use.
func unusable(host string, r *fleet.Report) string {
	for _, p := range r.Problems.List {
		if p.Host == host {
			return ", but for one that can't be used; " + problemWords(p)
		}
	}
	return ""
}

// noReport says that there is no report of a host in what was read, and the first reason.
func noReport(inputs string, r *fleet.Report) error {
	n := len(r.Problems.List) + r.Problems.LeftOut
	if n == 0 {
		return fmt.Errorf("%s: no audit report that counts: it is empty", inputs)
	}
	p := r.Problems.List[0]
	more := ""
	if n > 1 {
		more = fmt.Sprintf(" (and %d more problems)", n-1)
	}
	return fmt.Errorf("%s: no audit report that counts; %s%s", inputs, problemWords(p), more)
}

func problemWords(p fleet.Problem) string { return p.Source + ": " + string(p.Kind) + ": " + p.Detail }

// within is the time that a command about many hosts has: there is no telling how long
// that takes, so that it ends only where --timeout was given.
func (a *app) within(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	if !cmd.Flags().Changed("timeout") {
		return context.WithCancel(cmd.Context())
	}
	return context.WithTimeoutCause(cmd.Context(), a.timeout, fmt.Errorf("not done within --timeout %s", a.timeout))
}

// readFleetFrom makes the report of the source that was asked for.
func (a *app) readFleetFrom(ctx context.Context, f *fleetReport, o fleet.Options) (*fleet.Report, error) {
	switch {
	case f.server.address != "":
		p, err := f.server.fleet(o.Now)
		if err != nil {
			return nil, err
		}
		p.Host = f.host
		o.Source, o.Inputs, o.Now, o.FlapWindow = "prometheus", []string{p.Server.URL.Redacted()}, p.At, p.Window
		return aggregate(o, func(into *fleet.Aggregate) error { return readPrometheus(ctx, p, into) })
	case len(f.reports) > 0:
		o.Source, o.Inputs = "reports", f.reports
		return aggregate(o, func(into *fleet.Aggregate) error { return fleet.ReadReports(ctx, into, f.reports, os.Stdin) })
	}
	return nil, errors.New("nothing to report on: --reports PATH reads audit reports, --prometheus URL asks a server")
}

// fewGarbage lets the heap grow less than other commands do: this one runs for longer,
// and its memory is to stay small.
func fewGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(100)
	}
}

// options are those of the aggregate.
func (f *fleetReport) options(now time.Time) (fleet.Options, error) {
	o := fleet.Options{Now: now, Version: version, MaxAge: f.maxAge, Host: f.host, Top: f.top, SpoolDir: f.spoolIn}
	if f.format == "html" {
		o.Details = f.top // the page leads from a host to what is wrong on it
	}
	switch {
	case f.maxAge < 0:
		return o, fmt.Errorf("--max-age %s: an age is not less than 0", f.maxAge)
	case f.top < 1:
		return o, fmt.Errorf("--top %d: a list has one line at least", f.top)
	case f.hosts == "":
		return o, nil
	}
	var err error
	o.Expected, err = readNames(f.hosts)
	return o, err
}

// readNames reads a list of hosts: one name on each line, and comments after #.
func readNames(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	names := []string{}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		switch words := strings.Fields(text); len(words) {
		case 0:
		case 1:
			names = append(names, words[0])
		default:
			return nil, fmt.Errorf("%s:%d: one host on each line, not %d words", path, n, len(words))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s names no host", path)
	}
	return names, nil
}

// aggregate makes the report of what feed adds.
func aggregate(o fleet.Options, feed func(*fleet.Aggregate) error) (*fleet.Report, error) {
	into := fleet.NewAggregate(o)
	var r *fleet.Report
	err := feed(into)
	if err == nil {
		r, err = into.Report()
	}
	return r, errors.Join(err, into.Close())
}

func (f *fleetReport) write(w io.Writer, r *fleet.Report) error {
	switch f.format {
	case "json":
		return writeJSON(w, r)
	case "html":
		return html.Fleet(w, r)
	case "csv":
		return report.FleetCSV(w, r, f.table)
	case "markdown":
		return report.FleetMarkdown(w, r)
	}
	return report.FleetText(w, r)
}

// writeTo writes to a file, or to standard output where none is named.
func (a *app) writeTo(path string, write func(io.Writer) error) error {
	if path == "" {
		return write(a.stdout)
	}
	return writeWhole(path, func(f *os.File) error { return write(f) })
}

// readFleet reads a fleet's report.
func readFleet(path string) (*fleet.Report, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r, err := fleet.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// fleetDiff is what nictune fleet diff was asked for.
type fleetDiff struct {
	format, out, hosts string
	top                int
}

func newFleetDiffCommand(app *app) *cobra.Command {
	var f fleetDiff
	cmd := &cobra.Command{
		Use:   "diff BEFORE NOW",
		Short: "Say what changed between two reports of a fleet",
		Long: `Compare two reports of nictune fleet report -o json, or two folders of audit reports.
What got worse comes first, the gravest first, then by how large a share of the fleet
it is. A figure is worse when a larger share of the hosts, NICs or ports has it than
before: a fleet that grows is no worse for that. It is better when fewer have it and more
are well, and unclear where the others may be missing, not read, or no longer concerned.

Of a folder, no report is too old, since nobody knows when it was to be read.

Exit status: 0 when nothing got worse, 2 when something did, 1 for an error.`,
		Example: `  nictune fleet diff yesterday.json today.json
  nictune fleet diff audits/2026-07-01 audits/2026-07-02 -o markdown`,
		Args: func(_ *cobra.Command, paths []string) error {
			if len(paths) != 2 {
				return fmt.Errorf("two reports or folders are compared, not %d: nictune fleet diff BEFORE NOW", len(paths))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, paths []string) error {
			return app.fleetDiff(cmd.Context(), f, paths[0], paths[1])
		},
	}
	outputFlag(cmd, &f.format, "text", "json", "csv", "markdown")
	flags := cmd.Flags()
	flags.IntVar(&f.top, "top", 20, "how many changes to list, `N`")
	flags.StringVar(&f.hosts, "hosts", "", "of folders: the hosts that there should be, one name on each line of `FILE`")
	flags.StringVar(&f.out, "out", "", "write to `FILE` in place of standard output")
	return cmd
}

func (a *app) fleetDiff(ctx context.Context, f fleetDiff, before, now string) error {
	fewGarbage()
	if f.top < 1 {
		return fmt.Errorf("--top %d: a list has one line at least", f.top)
	}
	var both [2]*fleet.Report
	for i, path := range [...]string{before, now} {
		var err error
		if both[i], err = f.read(ctx, path); err != nil {
			return err
		}
	}
	d := fleet.Compare(both[0], both[1], f.top)
	if err := a.writeTo(f.out, func(w io.Writer) error {
		switch f.format {
		case "json":
			return writeJSON(w, d)
		case "csv":
			return report.DifferenceCSV(w, d)
		case "markdown":
			return report.DifferenceMarkdown(w, d)
		}
		return report.DifferenceText(w, d)
	}); err != nil {
		return err
	}
	if d.Worse > 0 {
		return &exitStatus{code: exitDifferences}
	}
	return nil
}

// read reads a fleet's report, or makes one of a folder.
func (f *fleetDiff) read(ctx context.Context, path string) (*fleet.Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		r, err := readFleet(path)
		if errors.Is(err, fleet.ErrNoFleetReport) {
			err = fmt.Errorf("%w; audit reports are compared by the folder", err)
		}
		return r, err
	}
	o, err := (&fleetReport{hosts: f.hosts, top: f.top}).options(time.Now())
	if err != nil {
		return nil, err
	}
	o.Source, o.Inputs = "reports", []string{path}
	r, err := aggregate(o, func(into *fleet.Aggregate) error { return fleet.ReadReports(ctx, into, o.Inputs, nil) })
	if err == nil && r.Scope.Hosts == 0 {
		err = noReport(path, r)
	}
	return r, err
}
