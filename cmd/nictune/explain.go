package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// unlessKnown ends what is said of an impact.
const unlessKnown = ", unless a driver is known to do more or less; nictune plan shows the NIC's own"

func newPolicyExplainCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [SETTING[.FIELD]]",
		Short: "Explain a setting that policies can name, or one of its fields",
		Long: `Say what a setting is, which command or file of the kernel it stands for, what its
fields take, what changing them does to traffic, and how a policy names them.
Without a name, list the settings.`,
		Example: `  nictune policy explain rings
  nictune policy explain rings.rx
  nictune policy explain features.tso`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return knobNames(begun), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			catalogue := tuning.Catalogue(settings.All())
			if len(args) == 0 {
				return explainAll(app.stdout, catalogue)
			}
			setting, fields, err := catalogue.Find(args[0])
			switch {
			case err != nil:
				return err
			case len(fields) == 0:
				return explainSetting(app.stdout, setting)
			default:
				return explainField(app.stdout, setting, args[0], fields)
			}
		},
	}
}

// knobNames complete what was begun: settings, and behind a dot their fields.
func knobNames(begun string) []string {
	return slices.DeleteFunc(tuning.Catalogue(settings.All()).Names(), func(name string) bool {
		return !strings.HasPrefix(name, begun) || strings.Contains(name, ".") != strings.Contains(begun, ".")
	})
}

func explainAll(w io.Writer, catalogue policies.Catalogue) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "SETTING\tIMPACT\tWHAT IT IS")
	for _, s := range catalogue {
		first, _, _ := strings.Cut(s.Doc, ". ")
		fmt.Fprintf(tw, "%s\t%s\t%s\n", s.Name, tuning.ImpactOf(settings.All(), s.Name, ""), strings.TrimSuffix(first, "."))
	}
	return tw.Flush()
}

func explainSetting(w io.Writer, s *policies.Setting) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "%s\n\n%s\n\n", s.Name, s.Doc)
	if s.Host {
		fmt.Fprintf(tw, "It is the host's: set once, by the policies that match one of its NICs at least.\n\n")
	}
	if s.List {
		fmt.Fprintf(tw, "It is a list; each item has these fields.\n\n")
	}
	shown := s.Fields
	if s.Open != nil {
		fmt.Fprintf(tw, "Any name takes %s. Names that nictune knows beside the kernel's:\n\n", s.Open.Takes())
		fmt.Fprintln(tw, "FIELD\tIMPACT\tALSO CALLED")
	} else {
		fmt.Fprintln(tw, "FIELD\tTAKES\tIMPACT\tWHAT IT IS")
	}
	for _, f := range shown {
		impact := tuning.ImpactOf(settings.All(), s.Name, f.Name)
		if s.Open != nil {
			fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, impact, strings.Join(f.Aliases, ", "))
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", f.Name, f.Takes(), impact, f.Doc)
	}
	fmt.Fprintf(tw, "\nThe impact is as shown%s.\n", unlessKnown)
	for _, f := range shown {
		if example := s.Example(f); example != "" {
			fmt.Fprintf(tw, "\nsettings:\n  %s\n", strings.ReplaceAll(example, "\n", "\n  "))
			break
		}
	}
	return tw.Flush()
}

func explainField(w io.Writer, s *policies.Setting, asked string, fields []policies.Field) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		fmt.Fprintf(tw, "%s.%s\n\n", s.Name, f.Name)
		if f.Doc != "" {
			fmt.Fprintf(tw, "what it is\t%s\n", f.Doc)
		}
		fmt.Fprintf(tw, "takes\t%s\n", f.Takes())
		if computed := f.Computed(); computed != "" {
			fmt.Fprintf(tw, "computed\t%s\n", computed)
		}
		fmt.Fprintf(tw, "impact\t%s%s\n", tuning.ImpactOf(settings.All(), s.Name, f.Name), unlessKnown)
		if len(f.Aliases) > 0 {
			fmt.Fprintf(tw, "also called\t%s\n", strings.Join(f.Aliases, ", "))
		}
		if example := s.Example(f); example != "" {
			fmt.Fprintf(tw, "example\t%s\n", strings.ReplaceAll(example, "\n", " "))
		}
		fmt.Fprintln(tw)
	}
	fmt.Fprintf(tw, "%s: %s\n", s.Name, s.Doc)
	if len(fields) > 1 {
		fmt.Fprintf(tw, "\n%s sets all of these that the NIC has.\n", asked)
	}
	return tw.Flush()
}
