package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// labelsFile is where the labels of this host are kept.
const labelsFile = "/etc/nictune/labels"

// matching are the flags that say which policies there are, and what of the host
// they are held against.
type matching struct {
	policies []string
	labels   []string
	file     string
	require  bool
}

func (m *matching) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVarP(&m.policies, "policy", "f", nil, "the policies in these `FILES` or directories")
	m.labelFlags(cmd)
	flags.BoolVar(&m.require, "require-match", false, "make it an error when a policy matches no NIC")
}

func (m *matching) labelFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	// Not a slice: a value may have commas.
	flags.StringArrayVar(&m.labels, "label", nil, "give the host the label `KEY=VALUE`, over one of the same key in the file")
	flags.StringVar(&m.file, "labels", "", "read the host's labels from `FILE`, KEY=VALUE on each line (default "+labelsFile+", of the running host)")
}

// hostLabels are the labels of the host that the flags name. A recorded host is
// another than this one, so that this one's file says nothing of it.
func (a *app) hostLabels(m matching) (map[string]string, error) {
	labels := map[string]string{}
	file := m.file
	if file == "" && a.host == "" && a.root == "" {
		file = labelsFile
	}
	if file != "" {
		data, err := os.ReadFile(file)
		switch {
		case errors.Is(err, fs.ErrNotExist) && m.file == "":
		case err != nil:
			return nil, fmt.Errorf("labels: %w", err)
		default:
			if labels, err = policies.ParseLabels(file, data); err != nil {
				return nil, err
			}
		}
	}
	given := map[string]bool{}
	for _, text := range m.labels {
		key, value, err := policies.ParseLabel(text)
		if err != nil {
			return nil, fmt.Errorf("--label: %w", err)
		}
		if given[key] && labels[key] != value {
			return nil, fmt.Errorf("--label %s is given twice, as %q and %q", key, labels[key], value)
		}
		labels[key], given[key] = value, true
	}
	return labels, nil
}

// survey reads what the policies look at. For most that is what NICs are told
// apart by, which costs little, and nothing where it is known. A recorded host is
// read whole: what it was asked for all NICs it can't be asked again for each.
func survey(ctx context.Context, r host, wanted []policies.Policy, known []inventory.NIC) (*inventory.Inventory, error) {
	if r.live == nil || slices.ContainsFunc(wanted, func(p policies.Policy) bool { return p.Match.BeyondIdentity() }) {
		return inventory.Read(ctx, r)
	}
	if known != nil {
		return &inventory.Inventory{NICs: known}, nil
	}
	return inventory.ReadIdentity(ctx, r)
}

// resolve says what the policies want of the host, and tells of those that match
// nothing, or could not be decided.
func (a *app) resolve(inv *inventory.Inventory, wanted []policies.Policy, m matching) ([]policies.Want, error) {
	labels, err := a.hostLabels(m)
	if err != nil {
		return nil, err
	}
	wants, report, err := policies.Resolve(wanted, policies.HostOf(inv, labels), inv.NICs)
	if err != nil {
		return nil, err
	}
	var idle []string
	for _, matched := range report.Policies {
		for _, u := range grouped(matched.Undecided) {
			fmt.Fprintf(a.stderr, "%s: policy %s does not match %s: %v\n", u.source, matched.Policy, strings.Join(u.nics, ", "), u.problem)
		}
		if len(matched.NICs) == 0 {
			idle = append(idle, fmt.Sprintf("%s (%s)", matched.Policy, matched.Source))
		}
	}
	switch none := strings.Join(idle, ", "); {
	case len(idle) > 0 && m.require:
		return nil, fmt.Errorf("--require-match: no NIC here matches: %s", none)
	case len(idle) > 0:
		fmt.Fprintf(a.stderr, "No NIC here matches: %s\n", none)
	}
	return wants, nil
}

// undecided are the NICs for which one thing could not be decided.
type undecided struct {
	source  policies.Source
	problem string
	nics    []string
}

func grouped(all []policies.Undecided) (groups []undecided) {
	for _, u := range all {
		problem := u.Err.Error()
		i := slices.IndexFunc(groups, func(g undecided) bool { return g.source == u.Source && g.problem == problem })
		if i < 0 {
			i, groups = len(groups), append(groups, undecided{source: u.Source, problem: problem})
		}
		groups[i].nics = append(groups[i].nics, u.NIC.Name)
	}
	return groups
}
