package policies_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

func shipped(t *testing.T) []policies.Policy {
	t.Helper()
	all, err := policies.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Each profile can be used as it is: alone, on any hardware, and below what a user
// writes.
func TestShipped(t *testing.T) {
	var names []string
	for _, p := range shipped(t) {
		names = append(names, p.Name)
		if p.Source.File != "profiles/"+p.Name+".yaml" {
			t.Errorf("%s is in %s: a profile's file has its name", p.Name, p.Source.File)
		}
		if p.Description == "" || p.Priority != -100 {
			t.Errorf("%s: description %q, priority %d", p.Name, p.Description, p.Priority)
		}
		bound, err := policies.Bind([]policies.Policy{p}, tuning.Catalogue(settings.All()))
		if err != nil {
			t.Fatal(err)
		}
		_, report, err := policies.Resolve(bound, policies.Host{}, []inventory.NIC{
			{Name: "veth0", Function: inventory.Virtual, Driver: &inventory.Driver{Name: "veth"}},
			{Name: "eth0_0", Function: inventory.Representor, Driver: &inventory.Driver{Name: "mlx5e_rep"}},
			{Name: "eth0", Function: inventory.PF}, {Name: "eth1", Function: inventory.VF}, {Name: "eth2", Function: inventory.Plain},
		})
		if err != nil {
			t.Fatal(err)
		}
		var matched []string
		for _, nic := range report.Policies[0].NICs {
			matched = append(matched, nic.Name)
		}
		want := []string{"eth0", "eth1", "eth2"}
		if p.Name == "sriov-host" {
			want = want[:1]
		}
		if !slices.Equal(matched, want) {
			t.Errorf("%s is for %v, want %v", p.Name, matched, want)
		}
	}
	if want := []string{
		"af-xdp", "ddos-filter", "forwarder", "isolated-cpus", "low-latency",
		"multicast-market-data", "queue-share", "sriov-host", "throughput", "xdp-l4lb",
	}; !slices.Equal(names, want) {
		t.Errorf("shipped %v, want %v", names, want)
	}
}

// What each profile's text has to say: whom it is for, what it costs, what it
// leaves out, and a reason for each of its settings.
func TestShippedReasons(t *testing.T) {
	for _, p := range shipped(t) {
		text, err := policies.ShippedDocument(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"# For hosts ", "# What it costs: ", "# Not here:"} {
			if !strings.Contains("\n"+string(text), "\n"+part) {
				t.Errorf("%s says nothing behind %q", p.Name, part)
			}
		}
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			if len(line) > 100 {
				t.Errorf("%s:%d has %d characters", p.Name, i+1, len(line))
			}
		}
		for _, block := range p.Settings {
			// Lines count from 1: lines[at] is the first one below the setting's.
			at := block.Source.Line
			if !strings.Contains(lines[at], "#") && !strings.HasPrefix(strings.TrimSpace(lines[at-2]), "#") {
				t.Errorf("%s:%d: %s has no reason", p.Name, at, block.Setting)
			}
		}
	}
	if _, err := policies.ShippedDocument("troughput"); err == nil || !strings.Contains(err.Error(), "sriov-host, throughput") {
		t.Errorf("%v", err)
	}
}

// A user's policy can't take a shipped one's name: a report would not say which
// of them is meant.
func TestShippedNames(t *testing.T) {
	mine, err := policies.Parse("mine.yaml", []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: throughput\nmatch: {}\nsettings: {rings: {rx: 1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = policies.Bind(append(mine, shipped(t)...), tuning.Catalogue(settings.All()))
	if err == nil || !strings.Contains(err.Error(), `the policy "throughput" is already at mine.yaml:3`) {
		t.Errorf("%v", err)
	}
}

// Editors take them.
func TestShippedSchema(t *testing.T) {
	text, err := policies.Schema(tuning.Catalogue(settings.All()), ruleIDs())
	if err != nil {
		t.Fatal(err)
	}
	schema := policies.CompileSchema(t, text)
	for _, p := range shipped(t) {
		document, err := policies.ShippedDocument(p.Name)
		if err == nil {
			err = policies.ValidateBy(t, schema, string(document))
		}
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}
