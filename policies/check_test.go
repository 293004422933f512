package policies

import (
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/inventory"
)

func checks(t *testing.T, text string) []CheckPolicy {
	t.Helper()
	documents, err := ParseDocuments("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return documents.Checks
}

func check(name, match, rest string) string {
	return "---\napiVersion: nictune/v1\nkind: CheckPolicy\nname: " + name + "\nmatch: " + match + "\n" + rest + "\n"
}

// Which policy decides of a rule: the one of the higher priority, within one document
// the rule's own line over its group's, and only on NICs that it is for.
func TestRule(t *testing.T) {
	igb := &inventory.NIC{Name: "eth0", Function: inventory.PF, Driver: &inventory.Driver{Name: "igb"}}
	conflict := check("a", "{}", "rules: {link/eee: off}") + check("b", "{}", "rules: {link/eee: warning}")
	higher := check("c", "{}", "priority: 10\nrules: {link/eee: info}")
	edge := &Host{Labels: map[string]string{"role": "edge"}}
	for _, c := range []struct {
		name, text, rule string
		nic              *inventory.NIC
		want             string
	}{
		{"off", check("a", "{driver: igb}", "rules: {link/eee: off}"), "link/eee", igb, "off"},
		{"another NIC", check("a", "{driver: ice}", "rules: {link/eee: off}"), "link/eee", igb, ""},
		{"another rule", check("a", "{}", "rules: {link/eee: off}"), "link/down", igb, ""},
		{"the group", check("a", "{}", `rules: {"link/*": info}`), "link/down", igb, "info"},
		{"another group", check("a", "{}", `rules: {"link/*": info}`), "pcie/too-narrow", igb, ""},
		{"own line first", check("a", "{}", `rules: {link/eee: critical, "link/*": info}`), "link/eee", igb, "critical"},
		{"own line last", check("a", "{}", `rules: {"link/*": info, link/eee: critical}`), "link/eee", igb, "critical"},
		{"higher priority", check("a", "{}", "priority: 1\nrules: {link/eee: info}") + check("b", "{}", "rules: {link/eee: off}"), "link/eee", igb, "info"},
		{"higher priority, last", check("b", "{}", "rules: {link/eee: off}") + check("a", "{}", "priority: 1\nrules: {link/eee: info}"), "link/eee", igb, "info"},
		{"a conflict below the highest priority, which comes last", conflict + higher, "link/eee", igb, "info"},
		{"a conflict below the highest priority, which comes first", higher + conflict, "link/eee", igb, "info"},
		{"agreed", check("a", "{}", "rules: {link/eee: off}") + check("b", "{driver: igb}", "rules: {link/eee: off}"), "link/eee", igb, "off"},
		{"the host, by an empty match", check("a", "{}", "rules: {link/eee: off}"), "link/eee", nil, "off"},
		{"the host, by its label", check("a", "{labels: {role: edge}}", "rules: {link/eee: off}"), "link/eee", nil, "off"},
		{"the host is no igb", check("a", "{driver: igb}", "rules: {link/eee: off}"), "link/eee", nil, ""},
		{"the host has no speed", check("a", "{speed: \">0\"}", "rules: {link/eee: off}"), "link/eee", nil, ""},
	} {
		got, err := Rule(checks(t, c.text), c.rule, c.nic, edge)
		if err != nil || got.Severity != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got.Severity, err, c.want)
		}
	}
	_, err := Rule(checks(t, check("a", "{}", "rules: {link/eee: off}")+check("b", "{}", "rules: {link/eee: info}")), "link/eee", igb, edge)
	if err == nil || !strings.Contains(err.Error(), "c.yaml:12") || !strings.Contains(err.Error(), "c.yaml:6") {
		t.Errorf("a conflict: %v", err)
	}
	_, err = Rule(checks(t, check("a", "{where: nic.link.speedMbps > 1000}", "rules: {link/eee: off}")), "link/eee", igb, edge)
	if err == nil || !strings.Contains(err.Error(), "speedMbps") {
		t.Errorf("a condition that can't be decided: %v", err)
	}
}

// A waiver holds through its last day, in UTC; of several the one that holds longest.
func TestWaiver(t *testing.T) {
	waiver := func(day string) string {
		return "waivers:\n  - {rule: link/eee, reason: r, owner: o, expires: " + day + "}"
	}
	list := checks(t, check("a", "{}", waiver("2027-01-31"))+check("b", "{}", waiver("2026-12-31")))
	got, err := Rule(list, "link/eee", nil, &Host{})
	if err != nil || got.Waiver == nil || got.Waiver.Expires.Format(time.DateOnly) != "2027-01-31" {
		t.Fatalf("%+v, %v", got.Waiver, err)
	}
	for at, want := range map[string]bool{"2027-01-31T23:59:59Z": false, "2027-02-01T00:00:00Z": true, "2027-02-01T00:30:00+01:00": false} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got.Waiver.Expired(now) != want {
			t.Errorf("at %s: %t", at, !want)
		}
	}
}

// Documents for settings and for checks may lie in one file; each command takes its own.
func TestKindsSideBySide(t *testing.T) {
	text := in("{}", fine) + check("a", "{}", "rules: {link/eee: off}")
	documents, err := ParseDocuments("c.yaml", []byte(text))
	if err != nil || len(documents.Policies) != 1 || len(documents.Checks) != 1 {
		t.Errorf("%+v, %v", documents, err)
	}
	if policies, err := Parse("c.yaml", []byte(text)); err != nil || len(policies) != 1 {
		t.Errorf("%+v, %v", policies, err)
	}
}
