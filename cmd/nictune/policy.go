package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

func newPolicyCommand(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check policies, and show those that nictune ships",
		RunE:  group,
	}
	cmd.AddCommand(newPolicyValidateCommand(app), newPolicyExplainCommand(app), newPolicyListCommand(app), newPolicyShowCommand(app), newPolicySchemaCommand(app))
	return cmd
}

// loadPolicies loads the policies in files and directories, and holds them
// against the settings that there are.
func loadPolicies(paths []string) ([]policies.Policy, error) {
	return bindPolicies(policies.Load(paths...))
}

func bindPolicies(wanted []policies.Policy, err error) ([]policies.Policy, error) {
	if err != nil {
		return nil, err
	}
	var named []string
	for _, p := range wanted {
		for _, b := range p.Settings {
			named = append(named, b.Setting)
		}
	}
	if bound, err := policies.Bind(wanted, tuning.Catalogue(settings.All(), named...)); err == nil {
		return bound, nil
	}
	// What is wrong is told best by who knows all settings.
	return policies.Bind(wanted, tuning.Catalogue(settings.All()))
}

func newPolicyValidateCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check policies without asking any device",
		Long: `Read policy files, or all of a directory, and hold them against the settings that
nictune has, or the rules of nictune check: names, values, expressions, and the
types of conditions, those of rules of your own, too. Every fault is named with its
line and column. Whether a NIC can do what is wanted only
nictune plan knows.`,
		Example: "  nictune policy validate /etc/nictune/policies",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			documents, err := policies.LoadDocuments(paths...)
			if err != nil {
				return err
			}
			_, err = bindPolicies(documents.Policies, nil)
			if err := errors.Join(err, policies.BindChecks(documents.Checks, knownRules(documents.Rules))); err != nil {
				return err
			}
			_, err = fmt.Fprintf(app.stdout, "%d policies are valid.\n", len(documents.Policies)+len(documents.Checks)+len(documents.Rules))
			return err
		},
	}
}

func newPolicyListCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [FILE...]",
		Short: "List the policies that nictune ships, or those in files",
		Long: `List policies with their priority, what they set, and what they are for: those in
files and directories, or, without any, those that nictune ships. Rules of your own
are listed with their severity and title.`,
		Example: `  nictune policy list
  nictune policy list /etc/nictune/policies`,
		RunE: func(_ *cobra.Command, paths []string) error {
			if len(paths) == 0 {
				shipped, err := bindPolicies(policies.Shipped())
				if err != nil {
					return err
				}
				return listPolicies(app.stdout, shipped)
			}
			documents, err := policies.LoadDocuments(paths...)
			if err != nil {
				return err
			}
			listed, err := bindPolicies(documents.Policies, nil)
			if err != nil {
				return err
			}
			if len(listed)+len(documents.Rules) == 0 {
				return fmt.Errorf("no policies and no rules in %s (what there is says what nictune check makes of its rules)", strings.Join(paths, ", "))
			}
			if len(listed) > 0 {
				if err := listPolicies(app.stdout, listed); err != nil {
					return err
				}
			}
			if len(documents.Rules) > 0 {
				if len(listed) > 0 {
					fmt.Fprintln(app.stdout)
				}
				return listRules(app.stdout, documents.Rules)
			}
			return nil
		},
	}
}

func listPolicies(w io.Writer, listed []policies.Policy) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "NAME\tPRIORITY\tSETTINGS\tDESCRIPTION")
	for _, p := range listed {
		var names []string
		for _, b := range p.Settings {
			names = append(names, b.Setting)
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\n", p.Name, p.Priority, strings.Join(names, ","), p.Description)
	}
	return tw.Flush()
}

func listRules(w io.Writer, documents []policies.RulePolicy) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, "RULE\tSEVERITY\tPOLICY\tTITLE")
	for _, p := range documents {
		for _, r := range p.Rules {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.ID, r.Severity, p.Name, r.Title)
		}
	}
	return tw.Flush()
}

func newPolicyShowCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Print a policy that nictune ships, with its reasons",
		Example: "  nictune policy show throughput > throughput.yaml",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			shipped, err := policies.Shipped()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			names := make([]string, len(shipped))
			for i, p := range shipped {
				names[i] = p.Name
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			document, err := policies.ShippedDocument(args[0])
			if err != nil {
				return err
			}
			_, err = app.stdout.Write(document)
			return err
		},
	}
}

func newPolicySchemaCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of policies, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := policies.Schema(tuning.Catalogue(settings.All()), ruleIDs())
			if err != nil {
				return err
			}
			_, err = app.stdout.Write(schema)
			return err
		},
	}
}
