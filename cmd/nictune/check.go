package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/terminal"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/sriov"
)

// checking is what all forms of nictune check share.
type checking struct {
	format, failOn, explain string
	// earlier is the file with an earlier recording.
	earlier  string
	all      bool
	watch    time.Duration
	flags    inventory.Flags
	matching matching
}

func newCheckCommand(app *app) *cobra.Command {
	cmd := newCheckGroupCommand(app, audit.Group{Doc: "everything that nictune has rules for"})
	cmd.Use = "check [DEVICE...]"
	cmd.Short = "Judge the host's NICs and say what to do"
	cmd.Args = cobra.ArbitraryArgs
	cmd.Long = `Judge links, cables and what else nictune has rules for. Each rule says what it
saw on a device, what it expected, why that matters and what to do.

DEVICE is a name, an alternative name or a PCI address, also as a shell pattern.
A group's name as the first word judges by the rules of that group only.

What counters say is judged by what happened while the host is watched: --watch 10s
looks twice. A counter by itself has counted since nobody knows when. Of a
recorded host --earlier names a recording that was made before.

A rule that could not be judged is "unknown" where the driver or kernel doesn't
tell, "error" where reading failed; neither is a pass. docs/rules.md lists all
rules; --explain tells of one.

Exit status: 0 when nothing fails, 2 when a rule of at least the severity of
--fail-on does, 1 when something could not be read because of an error.`
	cmd.Example = `  nictune check
  nictune check link eth0
  nictune check --all -o json | jq '.findings[] | select(.status == "unknown")'
  nictune check link --watch 10s
  nictune check --host 9h.txtar --earlier 8h.txtar
  nictune check -f checks.yaml --fail-on critical
  nictune check --explain link/half-duplex`
	for _, g := range audit.Groups() {
		switch g.Name {
		case "xdp":
			cmd.AddCommand(newCheckXDPCommand(app, g))
		case "link":
			cmd.AddCommand(newCheckLinkCommand(app, g))
		default:
			cmd.AddCommand(newCheckGroupCommand(app, g))
		}
	}
	return cmd
}

// newCheckGroupCommand makes the command for one group of rules, or for all.
func newCheckGroupCommand(app *app, group audit.Group) *cobra.Command {
	var c checking
	var latched bool
	cmd := &cobra.Command{
		Use:   group.Name + " [DEVICE...]",
		Short: "Judge " + group.Doc,
		RunE: func(cmd *cobra.Command, devices []string) error {
			if c.explain != "" {
				return explainRule(app.stdout, c.explain)
			}
			if !slices.Contains(findings.Severities(), findings.Severity(c.failOn)) {
				return fmt.Errorf("unknown severity %q: use info, warning or critical", c.failOn)
			}
			var names []string
			if group.Name != "" {
				names = []string{group.Name}
			}
			groups, err := audit.Named(names...)
			if err != nil {
				return err
			}
			if latched {
				c.flags = inventory.ReadFlagsTwice
			}
			err = app.check(cmd.Context(), c, groups, devices)
			if none := noDevice(""); group.Name == "" && errors.As(err, &none) {
				cmd.SuggestionsMinimumDistance = 2 // letters
				if near := cmd.SuggestionsFor(string(none)); len(near) > 0 {
					return fmt.Errorf("%w; did you mean nictune check %s?", err, near[0])
				}
			}
			return err
		},
	}
	outputFlag(cmd, &c.format, "text", "json")
	flags := cmd.Flags()
	flags.BoolVar(&c.all, "all", false, "list what passes, is unknown or does not apply, too")
	flags.StringVar(&c.failOn, "fail-on", string(findings.Warning), "the least `SEVERITY` that makes the exit status 2: info, warning or critical")
	flags.DurationVar(&c.watch, "watch", 0, "look twice, `INTERVAL` apart (10s), and judge what happened between")
	flags.StringVar(&c.earlier, "earlier", "", "with --host: judge what happened since the earlier recording of the host in `FILE`")
	flags.StringSliceVarP(&c.matching.policies, "policy", "f", nil, "obey the check policies in these `FILES` or directories: rules off, severities, waivers; judge by the rules of your own in them; of tuning policies, judge whether VFs are as migratable as they ask")
	if group.Name == "link" {
		flags.BoolVar(&latched, "flags", false, "judge also the flags of QSFP and CMIS modules that reading clears, for whoever else watches them, too; what was raised is read again a second later")
	}
	c.matching.labelFlags(cmd)
	flags.StringVar(&c.explain, "explain", "", "explain a `RULE` instead: why it matters, what to do, its sources")
	if err := cmd.RegisterFlagCompletionFunc("explain", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return ruleIDs(), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err) // the flag was added above
	}
	return cmd
}

// apart declares that what a flag asks for is no judging by rules, so that the flags
// about that can't be meant.
func apart(cmd *cobra.Command, flag string) {
	for _, other := range []string{"watch", "earlier", "policy", "all", "fail-on", "explain", "label", "labels"} {
		cmd.MarkFlagsMutuallyExclusive(flag, other)
	}
}

// checkReport is what nictune check writes with -o json.
type checkReport struct {
	audit.Report
	factSheet
}

// check judges the devices by the groups' rules and says what was found.
func (a *app) check(ctx context.Context, c checking, groups []audit.Group, devices []string) error {
	if c.watch < 0 || c.watch > 0 && (a.host != "" || a.root != "") {
		return errors.New("--watch takes an interval as 10s, and a running host to look at twice")
	}
	if c.earlier != "" && a.host == "" {
		return errors.New("--earlier needs a recorded host to compare with: --host; a running one is watched with --watch 10s")
	}
	documents, labels, err := a.checkPolicies(c.matching)
	if err != nil {
		return err
	}
	a.timeout += c.watch
	if c.watch > 0 {
		a.sayWait(c.watch)
	}
	return a.read(ctx, func(ctx context.Context, reader host) error {
		evidence, err := a.gather(ctx, c, reader, groups)
		if err != nil {
			return err
		}
		if !reader.recorded.IsZero() {
			evidence.CollectedAt = reader.recorded
		}
		if len(documents.Policies) > 0 {
			wants, err := a.resolve(&evidence.Inventory.Inventory, documents.Policies, c.matching)
			if err != nil {
				return err
			}
			evidence.Want(wants)
		}
		if err := only(evidence, devices); err != nil {
			return err
		}
		all := audit.Judge(evidence, groups)
		if len(groups) > 1 { // a rule of somebody's own is of no group
			all = append(all, audit.JudgeUserRules(evidence, documents.Rules, labels)...)
		}
		all, undecided := audit.Obey(all, evidence, documents.Checks, labels, time.Now())
		var facts factSheet
		if len(groups) == 1 {
			facts = a.facts(reader, evidence, groups[0].Name)
		}
		if c.format == "json" {
			err = writeJSON(a.stdout, checkReport{audit.NewReport(evidence, all, c.all), facts})
		} else {
			if rates := evidence.Rates(); rates != nil {
				err = terminal.Rates(a.stdout, rates, a.screen())
			}
			if err == nil {
				err = facts.write(a.stdout)
			}
			if err == nil {
				err = terminal.Findings(a.stdout, all, c.all)
			}
		}
		switch {
		case err != nil || undecided != nil:
			return errors.Join(err, undecided)
		case findings.Failed(all, findings.Severity(c.failOn)):
			return &exitStatus{code: exitDifferences}
		case slices.ContainsFunc(all, func(f findings.Finding) bool { return f.Status == findings.Error }):
			return errors.New("not everything could be judged: see what says ERROR")
		}
		return nil
	})
}

// gather looks at the host, or at two recordings of it.
func (a *app) gather(ctx context.Context, c checking, reader host, groups []audit.Group) (*audit.Evidence, error) {
	modules := a.modules(reader, c.flags, false)
	if c.earlier == "" {
		return audit.Gather(ctx, reader, groups, c.watch, modules)
	}
	before, err := openRecording("--earlier", c.earlier)
	if err != nil {
		return nil, err
	}
	evidence, err := audit.GatherPair(ctx, before, reader, groups, modules)
	if err != nil {
		return nil, fmt.Errorf("--earlier %s: %w", c.earlier, err)
	}
	return evidence, nil
}

// checkPolicies are the documents that the flags name: check policies, held against
// the rules that there are, and tuning policies, of which some rules ask what they
// want. With them come the host's labels.
func (a *app) checkPolicies(m matching) (policies.Documents, map[string]string, error) {
	labels, err := a.hostLabels(m)
	if err != nil || len(m.policies) == 0 {
		return policies.Documents{}, labels, err
	}
	documents, err := policies.LoadDocuments(m.policies...)
	// Of what tuning policies want the rules ask for one setting so far.
	documents.Policies = slices.DeleteFunc(documents.Policies, func(p policies.Policy) bool {
		return !slices.ContainsFunc(p.Settings, func(b policies.Block) bool { return b.Setting == sriov.FunctionSetting })
	})
	if err == nil && len(documents.Checks)+len(documents.Rules)+len(documents.Policies) == 0 {
		err = fmt.Errorf("no document of kind %s or %s in %s, and no policy with the setting %s", policies.CheckKind, policies.RuleKind, strings.Join(m.policies, ", "), sriov.FunctionSetting)
	}
	if err == nil {
		err = policies.BindChecks(documents.Checks, knownRules(documents.Rules))
	}
	if err == nil {
		documents.Policies, err = bindPolicies(documents.Policies, nil)
	}
	return documents, labels, err
}

// only keeps the devices that are named, also those that went away meanwhile.
func only(e *audit.Evidence, devices []string) error {
	if len(devices) == 0 {
		return nil
	}
	before := sriov.Inventory{}
	if e.Earlier != nil {
		before.Inventory = e.Earlier.Inventory
	}
	var now, then []string
	for _, d := range devices {
		here, was := knows(&e.Inventory, d), knows(&before, d)
		if here || !was {
			now = append(now, d) // what nobody has ever seen is an error below
		}
		if was {
			then = append(then, d)
		}
	}
	if err := keep(&e.Inventory, now); err != nil {
		return err
	}
	if e.Earlier == nil {
		return nil
	}
	err := keep(&before, then)
	e.Earlier.Inventory = before.Inventory
	return err
}

// keep is filter, but keeps nothing where nothing is named.
func keep(inv *sriov.Inventory, devices []string) error {
	if len(devices) == 0 {
		inv.NICs, inv.PFs = nil, nil
		return nil
	}
	return filter(inv, devices, nil)
}

func ruleIDs() []string {
	var ids []string
	for _, r := range audit.Rules() {
		ids = append(ids, r.ID)
	}
	return ids
}

// knownRules are the ids of all rules that policies can name.
func knownRules(documents []policies.RulePolicy) []string {
	return append(ruleIDs(), policies.RuleIDs(documents)...)
}

func explainRule(w io.Writer, id string) error {
	rules := audit.Rules()
	i := slices.IndexFunc(rules, func(r findings.About) bool { return r.ID == id })
	if i >= 0 {
		return terminal.Rule(w, rules[i])
	}
	group, _, _ := strings.Cut(id, "/")
	var near, groups []string
	for _, r := range rules {
		if r.Group() == group {
			near = append(near, r.ID)
		}
		if !slices.Contains(groups, r.Group()) {
			groups = append(groups, r.Group())
		}
	}
	if len(near) > 0 {
		return fmt.Errorf("there is no rule %q; of %s there are %s", id, group, strings.Join(near, ", "))
	}
	return fmt.Errorf("there is no rule %q; docs/rules.md lists them, of the groups %s", id, strings.Join(groups, ", "))
}
