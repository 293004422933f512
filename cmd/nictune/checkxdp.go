package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/terminal"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/xdpcheck"
)

// xdpChecking is what nictune check xdp has beside the other groups.
type xdpChecking struct {
	format, profile, allow string
	probe, asPolicy        bool
	disrupt                []string
}

func newCheckXDPCommand(app *app, group audit.Group) *cobra.Command {
	var x xdpChecking
	cmd := newCheckGroupCommand(app, group)
	judge := cmd.RunE
	cmd.Long = `Say what XDP programs are attached, what each NIC could run and what is in the
way, and judge that.

What the kernel announces (netdev genl) is the present state: a NIC whose driver
could run XDP announces nothing while, say, LRO is on. docs/xdp-drivers.md is what
nictune knows of drivers, with the source of each claim; where neither tells, the
answer is unknown.

With --probe it is tried: a program that passes every packet is attached in driver
mode, never in another, and an AF_XDP socket that insists on zero copy is bound to
queue 0; both are gone when the command ends, however it ends. Root is needed. A NIC
that has a program already is refused, and so is one that attaching would reset
without --allow nic-reset, or without --disrupt NAME where it carries the default
route or your SSH session.

With --profile a NIC is judged for a purpose: ` + profileNames() + `. --as-policy
writes what a policy can mend as one, for nictune policy validate, plan and apply.

Exit status: as for nictune check; with --profile 0 for yes, 2 for no or unknown;
with --probe 3 where a NIC was refused.`
	cmd.Example = `  nictune check xdp
  nictune check xdp --profile l4lb eth0
  nictune check xdp --profile af-xdp --as-policy eth0 > af-xdp.yaml
  nictune check xdp --probe --allow nic-reset eth1
  nictune check xdp -o json | jq '.xdp[] | {name: .subject.name, native: .capabilities.native.answer}'`
	flags := cmd.Flags()
	flags.StringVar(&x.profile, "profile", "", "judge for a `PURPOSE`: "+profileNames())
	flags.BoolVar(&x.asPolicy, "as-policy", false, "with --profile: write what a policy can mend as one")
	flags.BoolVar(&x.probe, "probe", false, "attach a program for a moment and see (root; Linux 5.9 and later)")
	flags.StringVar(&x.allow, "allow", "", "with --probe: the worst `IMPACT` that attaching may have: link-flap, nic-reset")
	flags.StringSliceVar(&x.disrupt, "disrupt", nil, "with --probe: `NAMES` of NICs whose uses may be disturbed")
	cmd.MarkFlagsMutuallyExclusive("profile", "probe")
	apart(cmd, "profile")
	apart(cmd, "probe")
	if err := cmd.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return strings.Split(profileNames(), ", "), cobra.ShellCompDirectiveNoFileComp
	}); err != nil {
		panic(err) // the flag was added above
	}
	cmd.RunE = func(cmd *cobra.Command, devices []string) error {
		x.format, _ = cmd.Flags().GetString("output") // newCheckGroupCommand added it
		switch {
		case x.asPolicy && x.profile == "":
			return errors.New("--as-policy goes with --profile")
		case (x.allow != "" || len(x.disrupt) > 0) && !x.probe:
			return errors.New("--allow and --disrupt go with --probe")
		case x.profile != "":
			return app.checkProfile(cmd.Context(), x, devices)
		case x.probe:
			return app.probeXDP(cmd.Context(), x, devices)
		}
		return judge(cmd, devices)
	}
	return cmd
}

func profileNames() string {
	var names []string
	for _, p := range xdpcheck.Profiles() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// factSheet are the facts that the findings of a group stand on, where the group's
// name is that of a field.
type factSheet struct {
	XDP      []xdpcheck.Report `json:"xdp,omitempty"`
	Offloads []offloadsOf      `json:"offloads,omitempty"`
}

// offloadsOf are a NIC's offloads, with its identity.
type offloadsOf struct {
	Subject  findings.Subject   `json:"subject"`
	Offloads *xdpcheck.Offloads `json:"offloads"`
}

// facts gathers the facts for one group, empty for those that show none.
func (a *app) facts(reader host, evidence *audit.Evidence, group string) (s factSheet) {
	if group != "xdp" && group != "offload" {
		return s
	}
	var programs map[int][]xdpcheck.Program
	if group == "xdp" && reader.live != nil {
		var err error
		if programs, err = xdpcheck.Programs(evidence.NICs); err != nil {
			fmt.Fprintf(a.stderr, "names, tags and links of programs could not all be read: %v\n", err)
		}
	}
	facts := evidence.XDPFacts()
	for i := range evidence.NICs {
		n, ok := facts.Named(evidence.NICs[i].Name)
		switch {
		case !ok:
		case group == "xdp":
			s.XDP = append(s.XDP, n.Report(programs))
		default:
			s.Offloads = append(s.Offloads, offloadsOf{n.Subject(), n.OffloadReport()})
		}
	}
	return s
}

// write shows the facts to people.
func (s factSheet) write(w io.Writer) error {
	var err error
	switch {
	case len(s.XDP) > 0:
		err = terminal.XDP(w, s.XDP)
	case len(s.Offloads) > 0:
		names, offloads := make([]string, len(s.Offloads)), make([]*xdpcheck.Offloads, len(s.Offloads))
		for i, o := range s.Offloads {
			names[i], offloads[i] = o.Subject.String(), o.Offloads
		}
		err = terminal.Offloads(w, names, offloads)
	default:
		return nil
	}
	if err == nil {
		_, err = fmt.Fprintln(w)
	}
	return err
}

// checkProfile judges NICs for a purpose.
func (a *app) checkProfile(ctx context.Context, x xdpChecking, devices []string) error {
	profile, err := xdpcheck.FindProfile(x.profile)
	if err != nil {
		return err
	}
	return a.read(ctx, func(ctx context.Context, reader host) error {
		evidence, err := a.gatherXDP(ctx, reader, devices)
		if err != nil {
			return err
		}
		var all []xdpcheck.Readiness
		facts := evidence.XDPFacts()
		for i := range evidence.NICs {
			// Without a name only hardware is meant.
			if n, ok := facts.Named(evidence.NICs[i].Name); ok && (len(devices) > 0 || n.Function != inventory.Virtual) {
				all = append(all, profile.Judge(n))
			}
		}
		if len(all) == 0 {
			return errors.New("this host has no hardware NIC: name a device")
		}
		switch {
		case x.asPolicy:
			err = writeReadinessPolicy(a.stdout, profile, all)
		case x.format == "json":
			err = writeJSON(a.stdout, all)
		default:
			err = terminal.Readiness(a.stdout, all)
		}
		if err != nil || x.asPolicy {
			return err
		}
		if slices.ContainsFunc(all, func(r xdpcheck.Readiness) bool { return r.Ready != "yes" }) {
			return &exitStatus{code: exitDifferences}
		}
		return nil
	})
}

func (a *app) gatherXDP(ctx context.Context, reader host, devices []string) (*audit.Evidence, error) {
	groups, err := audit.Named("xdp")
	if err != nil {
		return nil, err
	}
	evidence, err := audit.Gather(ctx, reader, groups, 0, inventory.NewModules())
	if err != nil {
		return nil, err
	}
	return evidence, filter(&evidence.Inventory, devices, nil)
}

// writeReadinessPolicy writes what mends the failing items, one document for each NIC.
func writeReadinessPolicy(w io.Writer, profile xdpcheck.Profile, all []xdpcheck.Readiness) error {
	var b strings.Builder
	for _, r := range all {
		settings := r.Settings()
		if len(settings) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("---\n")
		}
		fmt.Fprintf(&b, "# What makes %s ready for %s: %s.\n", r.Subject, profile.Name, profile.Doc)
		for _, item := range r.Items {
			if item.Status == findings.Fail && item.Value == nil {
				fmt.Fprintf(&b, "# No policy can mend %s: %s. %s\n", item.Name, item.Seen, item.Do)
			}
		}
		match := fmt.Sprintf("name: %q", r.Subject.Name)
		if r.Subject.PCIAddress != "" {
			match = fmt.Sprintf("pci: %q", r.Subject.PCIAddress)
			if r.Subject.PermanentMAC != "" { // a function may have two ports
				match += fmt.Sprintf(", permanentMac: %q", r.Subject.PermanentMAC)
			}
		}
		fmt.Fprintf(&b, "apiVersion: nictune/v1\nkind: TuningPolicy\nname: %s-%s\nmatch: {%s}\nsettings:\n", profile.Name, strings.ToLower(r.Subject.Name), match)
		for _, setting := range slices.Sorted(maps.Keys(settings)) {
			fmt.Fprintf(&b, "  %s:\n", setting)
			for _, field := range slices.Sorted(maps.Keys(settings[setting])) {
				fmt.Fprintf(&b, "    %s: %s\n", field, policyValue(settings[setting][field]))
			}
		}
	}
	if b.Len() == 0 {
		b.WriteString("# Nothing that fails can be mended by a policy.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// policyValue is a value in a policy's words.
func policyValue(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "on"
		}
		return "off"
	case []uint32:
		words := make([]string, 0, len(v))
		for _, n := range v {
			words = append(words, fmt.Sprint(n))
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// probeXDP tries NICs, one after another. All are looked at before anything is tried.
func (a *app) probeXDP(ctx context.Context, x xdpChecking, devices []string) error {
	allowed := tuning.Seamless
	if x.allow != "" {
		var err error
		if allowed, err = tuning.ParseImpact(x.allow); err != nil {
			return err
		}
	}
	return a.read(ctx, func(ctx context.Context, reader host) error {
		if reader.live == nil {
			return errors.New("--probe needs a running host, not a recorded one")
		}
		if len(devices) == 0 {
			return errors.New("--probe needs the names of devices: it does nothing to those that nobody named")
		}
		evidence, err := a.gatherXDP(ctx, reader, devices)
		if err != nil {
			return err
		}
		uses, err := inventory.ReadUses(ctx, reader, evidence.All())
		if err != nil {
			return fmt.Errorf("what the NICs are used for can't be told, so nothing is tried: %w", err)
		}
		var refused []error
		facts := evidence.XDPFacts()
		for i := range evidence.NICs {
			n, ok := facts.Named(evidence.NICs[i].Name)
			if !ok {
				continue
			}
			impact, does := n.ProbeImpact()
			fmt.Fprintf(a.stderr, "%s: attaching a program is %s: %s\n", n.Name, impact, does)
			refused = append(refused, mayProbe(n, tuning.Impact(impact), allowed, uses[n.Index], x.disrupt))
		}
		if err := errors.Join(refused...); err != nil {
			return &exitStatus{code: exitRefused, err: err}
		}
		programs, _ := xdpcheck.Programs(evidence.NICs) // there are none: NICs with programs are refused
		var reports []xdpcheck.Report
		var failed []error
		for i := range evidence.NICs {
			n, ok := facts.Named(evidence.NICs[i].Name)
			if !ok {
				continue
			}
			r := n.Report(programs)
			probed, err := xdpcheck.Probe(ctx, reader.live, *n.NIC)
			if err != nil {
				failed = append(failed, err)
			} else {
				r.Probe = &probed
			}
			reports = append(reports, r)
		}
		if x.format == "json" {
			failed = append(failed, writeJSON(a.stdout, reports))
		} else {
			failed = append(failed, terminal.XDP(a.stdout, reports))
		}
		err = errors.Join(failed...)
		var refusal *xdpcheck.Refusal
		if errors.As(err, &refusal) {
			return &exitStatus{code: exitRefused, err: err}
		}
		return err
	})
}

// mayProbe says why a NIC is not tried, nil where it may be.
func mayProbe(n xdpcheck.NIC, impact, allowed tuning.Impact, uses []inventory.Use, disrupt []string) error {
	if err := n.Refuses(); err != nil {
		return err
	}
	for _, u := range uses {
		// Before Linux 6.15 only sock_diag tells of them.
		if u.Kind == inventory.XDPSocket && u.VF == "" {
			return fmt.Errorf("%s has %s: nothing was tried; the probe would take its packets' memory away", n.Name, u)
		}
	}
	if !impact.Within(allowed) {
		return fmt.Errorf("%s: attaching a program has the impact %s: allow it with --allow %s", n.Name, impact, impact)
	}
	return mayDisturb(n.Name, "attaching a program", impact, uses, disrupt)
}

// mayDisturb says why what would disturb a NIC's uses is not done; nil where it may be.
func mayDisturb(name, what string, impact tuning.Impact, uses []inventory.Use, disrupt []string) error {
	if impact == tuning.Seamless || slices.Contains(disrupt, name) {
		return nil
	}
	for _, u := range uses {
		if u.Kind == inventory.DefaultRoute || u.Kind == inventory.SSHSession || u.VF != "" {
			return fmt.Errorf("%s: %s (%s) would disturb %s: allow it with --disrupt %s", name, what, impact, u, name)
		}
	}
	return nil
}
