package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/cabletest"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// cableTesting is what nictune check link has beside the other groups.
type cableTesting struct {
	format, allow string
	cable, echoes bool
	disrupt       []string
}

func newCheckLinkCommand(app *app, group audit.Group) *cobra.Command {
	var c cableTesting
	cmd := newCheckGroupCommand(app, group)
	judge := cmd.RunE
	cmd.Long = `Judge links, what they lose, and modules: speed and duplex against what both ends
can do, FEC against the medium, errors while the link is watched (--watch 10s), and
what a module measures against its maker's limits. Modules are read slowly, and need
root.

QSFP and CMIS modules raise faults and losses of signal as flags that reading clears,
for other readers, too. They are left alone unless --flags asks for them: then what is
raised is read a second time, and what stands then is judged.

With --cable-test the PHY measures the twisted pairs of the cable instead: whole,
open or shorted, and how far away. THE LINK IS DOWN MEANWHILE, for some seconds, so
that it has to be allowed with --allow link-flap, and --disrupt NAME where the NIC
carries the default route or your SSH session. With --tdr it is measured what a
pulse echoes. Few PHYs can do it; who can't says so, and nothing happens.

Exit status: as for nictune check; with --cable-test 0 where all pairs are whole, 2
where one is not, 3 where it was not allowed.`
	cmd.Example = `  nictune check link eth0 --watch 10s
  nictune check link --flags eth0
  nictune check link --cable-test --allow link-flap eth1
  nictune check link --cable-test --tdr --allow link-flap -o json eth1`
	flags := cmd.Flags()
	flags.BoolVar(&c.cable, "cable-test", false, "have the PHY test the cable: drops the link for seconds (root)")
	flags.BoolVar(&c.echoes, "tdr", false, "with --cable-test: measure what a pulse echoes")
	flags.StringVar(&c.allow, "allow", string(tuning.Seamless), "with --cable-test: the worst `IMPACT` that it may have: link-flap")
	flags.StringSliceVar(&c.disrupt, "disrupt", nil, "with --cable-test: `NAMES` of NICs whose uses may be disturbed")
	apart(cmd, "cable-test")
	cmd.MarkFlagsMutuallyExclusive("cable-test", "flags")
	cmd.RunE = func(cmd *cobra.Command, devices []string) error {
		c.format, _ = cmd.Flags().GetString("output") // newCheckGroupCommand added it
		switch {
		case c.cable:
			return app.testCables(cmd.Context(), c, devices)
		case c.echoes || len(c.disrupt) > 0 || cmd.Flags().Changed("allow"):
			return errors.New("--tdr, --allow and --disrupt go with --cable-test")
		}
		return judge(cmd, devices)
	}
	return cmd
}

// tested is what a cable test found of one NIC.
type tested struct {
	Name string `json:"name"`
	*cabletest.Result
}

// testCables tests the cables of devices, one after another.
func (a *app) testCables(ctx context.Context, c cableTesting, devices []string) error {
	allowed, err := tuning.ParseImpact(c.allow)
	switch {
	case err != nil:
		return fmt.Errorf("--allow: %w", err)
	case len(devices) == 0:
		return errors.New("--cable-test needs the names of devices: it does nothing to those that nobody named")
	}
	return a.read(ctx, func(ctx context.Context, reader host) error {
		if reader.live == nil {
			return errors.New("--cable-test needs a running host, not a recorded one")
		}
		inv, err := inventory.Read(ctx, reader)
		if err != nil {
			return err
		}
		evidence := &audit.Evidence{}
		evidence.Inventory.Inventory = *inv
		if err := only(evidence, devices); err != nil {
			return err
		}
		uses, err := inventory.ReadUses(ctx, reader, inv.NICs)
		if err != nil {
			return fmt.Errorf("what the NICs are used for can't be told, so nothing is tested: %w", err)
		}
		var refused []error
		for i := range evidence.NICs {
			refused = append(refused, mayDrop(&evidence.NICs[i], allowed, uses[evidence.NICs[i].Index], c.disrupt))
		}
		if err := errors.Join(refused...); err != nil {
			return &exitStatus{code: exitRefused, err: err}
		}
		all, whole := []tested{}, true
		var failed []error
		for _, n := range evidence.NICs {
			fmt.Fprintf(a.stderr, "%s: testing the cable, the link is down meanwhile\n", n.Name)
			r, err := cabletest.Run(ctx, reader.live, n, c.echoes)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			whole = whole && r.OK()
			all = append(all, tested{n.Name, r})
		}
		if c.format == "json" {
			failed = append(failed, writeJSON(a.stdout, all))
		} else {
			failed = append(failed, writeCables(a.stdout, all))
		}
		if err := errors.Join(failed...); err != nil || whole {
			return err
		}
		return &exitStatus{code: exitDifferences}
	})
}

// mayDrop says why a NIC's link is not to be dropped; nil where it may be.
func mayDrop(n *inventory.NIC, allowed tuning.Impact, uses []inventory.Use, disrupt []string) error {
	if !tuning.LinkFlap.Within(allowed) {
		return fmt.Errorf("%s: a cable test takes the link down for seconds: allow it with --allow %s", n.Name, tuning.LinkFlap)
	}
	return mayDisturb(n.Name, "a cable test", tuning.LinkFlap, uses, disrupt)
}

func writeCables(w io.Writer, all []tested) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, t := range all {
		for _, p := range t.Pairs {
			at := ""
			if p.FaultMeters != nil {
				at = fmt.Sprintf("%.2f m", *p.FaultMeters)
			}
			fmt.Fprintf(tw, "%s\tpair %s\t%s\t%s\n", t.Name, p.Name, p.Status, at)
		}
		for _, e := range t.Strongest() {
			fmt.Fprintf(tw, "%s\tpair %s\tstrongest echo %d mV\t%.2f m\n", t.Name, e.Pair, e.Millivolts, e.Meters)
		}
		if len(t.Pairs)+len(t.Echoes) == 0 {
			fmt.Fprintf(tw, "%s\tthe PHY reports nothing\n", t.Name)
		}
	}
	return tw.Flush()
}
