package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/html"
	"github.com/nictune/nictune/exporters/report"
	"github.com/nictune/nictune/exporters/terminal"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// auditing is what nictune audit was asked for.
type auditing struct {
	format, out, failOn, baseline, state string
	failOnNew                            bool
	watch                                time.Duration
	matching                             matching
}

// auditFormats are the forms of an audit report but text, by name.
func auditFormats() []auditFormat {
	return []auditFormat{
		{"json", func(w io.Writer, r *audit.HostReport, _ findings.Severity) error { return writeJSON(w, r) }},
		{"markdown", func(w io.Writer, r *audit.HostReport, _ findings.Severity) error { return report.Markdown(w, r) }},
		{"html", func(w io.Writer, r *audit.HostReport, _ findings.Severity) error { return html.Host(w, r) }},
		{"csv", func(w io.Writer, r *audit.HostReport, _ findings.Severity) error { return report.CSV(w, r) }},
		{"junit", report.JUnit},
		{"sarif", func(w io.Writer, r *audit.HostReport, _ findings.Severity) error { return report.SARIF(w, r) }},
	}
}

// auditFormat is one form of a report. It is told from which severity on a failure
// counts.
type auditFormat struct {
	name  string
	write func(w io.Writer, r *audit.HostReport, least findings.Severity) error
}

func newAuditCommand(app *app) *cobra.Command {
	var a auditing
	cmd := &cobra.Command{
		Use:   "audit [-f FILE]",
		Short: "Report everything that is wrong with this host's NICs",
		Long: `Judge the whole host by all rules, hold it against policies, and write one report:
for people, for CI, for a fleet's collector.

-f names files or directories with documents of all kinds. What tuning policies want
and the host does not have is a finding (policy/drifted, policy/impossible,
policy/skipped); check policies weigh rules and waive failures; rule policies hold
rules of your own. A waiver that has expired is a finding, too.

With --baseline, an earlier report (-o json), the report says what is new, fixed and
unchanged since. Devices are recognised by PCI address and permanent MAC, whatever
they are called now.

What could not be read is never a pass. docs/audit.md describes the formats.

Exit status: 0 when nothing fails, 2 when a rule of at least the severity of
--fail-on does (with --fail-on-new: and did not before), 1 when something could not
be read because of an error.`,
		Example: `  nictune audit
  nictune audit -f /etc/nictune/policies --watch 10s
  nictune audit -o json --out today.json
  nictune audit -f policies/ -o html --out today.html
  nictune audit --baseline yesterday.json --fail-on-new
  nictune audit -f policies/ -o junit --out nictune.xml
  nictune audit --host web1.txtar -o markdown        # a recorded host`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(findings.Severities(), findings.Severity(a.failOn)) {
				return fmt.Errorf("unknown severity %q: use info, warning or critical", a.failOn)
			}
			if a.failOnNew && a.baseline == "" {
				return errors.New("--fail-on-new needs a report to compare with: --baseline FILE")
			}
			return app.audit(cmd.Context(), a)
		},
	}
	formats := []string{"text"}
	for _, f := range auditFormats() {
		formats = append(formats, f.name)
	}
	outputFlag(cmd, &a.format, formats...)
	flags := cmd.Flags()
	flags.StringSliceVarP(&a.matching.policies, "policy", "f", nil, "the policies in these `FILES` or directories, of all kinds")
	a.matching.labelFlags(cmd)
	flags.StringVar(&a.out, "out", "", "write the report to `FILE`, and a summary to standard output")
	flags.StringVar(&a.baseline, "baseline", "", "compare with the report in `FILE` (of nictune audit -o json)")
	flags.StringVar(&a.failOn, "fail-on", string(findings.Warning), "the least `SEVERITY` that makes the exit status 2: info, warning or critical")
	flags.BoolVar(&a.failOnNew, "fail-on-new", false, "only what did not fail in the baseline makes the exit status 2")
	flags.DurationVar(&a.watch, "watch", 0, "look twice, `INTERVAL` apart (10s), and judge what happened between")
	flags.StringVar(&a.state, "state-dir", tuning.StateDir, "the journal of changes is in `DIR`: it says what is nictune's own, and what was there before")
	return cmd
}

// audit reads the host, judges it and writes the report.
func (a *app) audit(ctx context.Context, c auditing) error {
	if c.watch < 0 || c.watch > 0 && (a.host != "" || a.root != "") {
		return errors.New("--watch takes an interval as 10s, and a running host to look at twice")
	}
	labels, err := a.hostLabels(c.matching)
	if err != nil {
		return err
	}
	var documents policies.Documents
	if len(c.matching.policies) > 0 {
		if documents, err = loadDocuments(c.matching.policies); err != nil {
			return err
		}
	}
	var baseline *audit.HostReport
	if c.baseline != "" {
		if baseline, err = readBaseline(c.baseline); err != nil {
			return err
		}
	}
	a.timeout += c.watch
	if c.watch > 0 {
		a.sayWait(c.watch)
	}
	return a.read(ctx, func(ctx context.Context, h host) error {
		r, err := a.hostReport(ctx, h, documents, labels, c)
		if err != nil {
			return err
		}
		if baseline != nil {
			if err := sameHost(baseline, r); err != nil {
				return fmt.Errorf("--baseline %s: %w", c.baseline, err)
			}
			r.Baseline = audit.Compare(baseline, r)
		}
		if err := a.writeReport(r, c); err != nil {
			return err
		}
		return auditStatus(r, c)
	})
}

// loadDocuments reads documents of all kinds, and holds them against the settings and
// rules that there are.
func loadDocuments(paths []string) (policies.Documents, error) {
	documents, err := policies.LoadDocuments(paths...)
	if err != nil {
		return documents, err
	}
	var unbound error
	documents.Policies, unbound = bindPolicies(documents.Policies, nil)
	return documents, errors.Join(unbound, policies.BindChecks(documents.Checks, knownRules(documents.Rules)))
}

// hostReport judges the host by everything that there is.
func (a *app) hostReport(ctx context.Context, h host, documents policies.Documents, labels map[string]string, c auditing) (*audit.HostReport, error) {
	groups := audit.Groups()
	evidence, err := audit.Gather(ctx, h, groups, c.watch, a.modules(h, inventory.LeaveFlags, false))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if !h.recorded.IsZero() {
		evidence.CollectedAt = h.recorded
	}
	inv := &evidence.Inventory.Inventory
	var problems []error
	if len(documents.Policies) > 0 {
		wants, _, err := policies.Resolve(documents.Policies, policies.HostOf(inv, labels), inv.NICs)
		if err != nil {
			problems = append(problems, err)
		} else {
			evidence.Want(wants)
			compared, err := agent.Comparer(h, settings.All(), documents.Policies, labels, pastOf(c.state))(ctx, inv)
			if err != nil {
				problems = append(problems, fmt.Errorf("compare with policies: %w", err))
			} else {
				evidence.Drift = append([]audit.DriftSummary{}, compared.Summaries...)
			}
		}
	}
	if len(documents.Checks) > 0 {
		evidence.NoteWaivers(documents.Checks, labels, now)
	}
	all := audit.Judge(evidence, append(groups, audit.PolicyGroup()))
	all = append(all, audit.JudgeUserRules(evidence, documents.Rules, labels)...)
	all, undecided := audit.Obey(all, evidence, documents.Checks, labels, now)
	r := audit.NewHostReport(evidence, all, append(audit.Rules(), audit.UserRules(documents.Rules)...))
	r.Version, _ = buildVersion()
	r.Host.Labels = labels
	if undecided != nil {
		problems = append(problems, undecided)
	}
	for _, p := range problems {
		r.Problems = append(r.Problems, p.Error())
	}
	return r, nil
}

// readBaseline reads an earlier report.
func readBaseline(file string) (*audit.HostReport, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--baseline: %w", err)
	}
	defer f.Close()
	r, err := audit.ReadHostReport(f)
	if err != nil {
		return nil, fmt.Errorf("--baseline %s: %w", file, err)
	}
	return r, nil
}

// sameHost refuses a baseline of another host: all of it would be gone, and all of
// this one new.
func sameHost(baseline, r *audit.HostReport) error {
	then, now := &baseline.Host, &r.Host
	if then.MachineID != "" && now.MachineID != "" {
		if then.MachineID == now.MachineID {
			return nil
		}
		if then.Name == now.Name {
			return fmt.Errorf("it is the report of another host with the name %q: of machine %s, and this is %s", now.Name, then.MachineID, now.MachineID)
		}
	} else if then.Name == now.Name {
		return nil
	}
	return fmt.Errorf("it is the report of another host: %q, and this is %q", then.Name, now.Name)
}

// writeReport writes the report in its format, to where it is wanted.
func (a *app) writeReport(r *audit.HostReport, c auditing) error {
	write := func(w io.Writer, screen terminal.Screen) error { return terminal.Audit(w, r, screen) }
	for _, f := range auditFormats() {
		if f.name == c.format {
			write = func(w io.Writer, _ terminal.Screen) error { return f.write(w, r, findings.Severity(c.failOn)) }
		}
	}
	if c.out == "" {
		return write(a.stdout, a.screen())
	}
	if err := writeWhole(c.out, func(f *os.File) error { return write(f, terminal.Screen{}) }); err != nil {
		return err
	}
	return terminal.AuditSummary(a.stdout, r, a.screen())
}

// auditStatus is the exit status of a report.
func auditStatus(r *audit.HostReport, c auditing) error {
	least := findings.Severity(c.failOn)
	fails := findings.Failed(r.Findings, least)
	if c.failOnNew {
		fails = slices.ContainsFunc(r.Baseline.New, func(n audit.Change) bool { return n.Severity.AtLeast(least) })
	}
	switch {
	case len(r.Problems) > 0:
		return errors.New(strings.Join(r.Problems, "\n"))
	case fails:
		return &exitStatus{code: exitDifferences}
	case r.Counts[findings.Error] > 0:
		return errors.New("not everything could be judged: see what could not be read")
	}
	return nil
}
