package policies

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
)

func userRules(t *testing.T, text string) []RulePolicy {
	t.Helper()
	documents, err := ParseDocuments("r.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return documents.Rules
}

// What is not known is neither as expected nor not; and what a rule looks at is shown.
func TestUserRules(t *testing.T) {
	mtu := 1500
	nic := &inventory.NIC{
		Name: "eth0", Function: inventory.PF, Driver: &inventory.Driver{Name: "igb", Version: "6.1"},
		AltNames: []string{"enp1s0", "uplink"},
		Link:     inventory.Link{MTU: &mtu},
		Offloads: inventory.Offloads{Features: map[string]inventory.Feature{"rx-lro": {Active: true}}},
		Unread:   []inventory.Unread{{Fact: "link.carrier", Reason: inventory.Denied}, {Fact: "queues.rings", Reason: inventory.Failed}},
	}
	host := &Host{Host: inventory.Host{Kernel: "6.12.1"}, Labels: map[string]string{"role": "edge"}}
	for _, c := range []struct {
		expect, on string
		holds      bool
		unknown    string // the fact that isn't known
		seen       string
	}{
		{`nic.link.mtu == 9000`, "nic", false, "", "nic.link.mtu is 1500"},
		{`nic.link.mtu == 1500`, "nic", true, "", "nic.link.mtu is 1500"},
		{`nic.driver.name == "ice" || nic.link.mtu > 9000`, "nic", false, "", "nic.driver.name is igb, nic.link.mtu is 1500"},
		{`!nic.offloads.features["rx-lro"].active`, "nic", false, "", `nic.offloads.features["rx-lro"].active is true`},
		{`nic.link.speedMbps >= 10000`, "nic", false, "nic.link.speedMbps", "nic.link.speedMbps is not known"},
		{`!(nic.link.speedMbps >= 10000)`, "nic", false, "nic.link.speedMbps", "nic.link.speedMbps is not known"},
		{`nic.link.carrier`, "nic", false, "nic.link.carrier", "nic.link.carrier is not known (denied)"},
		{`nic.queues.rings.rx.current >= 512`, "nic", false, "nic.queues.rings.rx.current", "nic.queues.rings.rx.current is not known (failed)"},
		{`nic.offloads.features["tx-gso"].active`, "nic", false, `the key "tx-gso"`, `nic.offloads.features["tx-gso"].active is not known`},
		{`"uplink" in nic.altNames && size(nic.altNames) == 1`, "nic", false, "", "nic.altNames is [enp1s0, uplink]"},
		{`nic.altNames.exists(n, n.startsWith("x"))`, "nic", false, "", "nic.altNames is [enp1s0, uplink]"},
		{`has(nic.module)`, "nic", false, "", "it does not hold"},
		{`host.kernel.startsWith("6.6.")`, "host", false, "", "host.kernel is 6.12.1"},
		{`host.labels.role == "edge"`, "host", true, "", ""},
		{`host.architecture == "x86_64"`, "host", false, "host.architecture", "host.architecture is not known"},
	} {
		rules := userRules(t, "apiVersion: nictune/v1\nkind: RulePolicy\nname: r\nmatch: {}\nrules:\n  user/a:\n    {severity: info, title: t, why: w, remedy: r, subject: "+c.on+", expect: '"+c.expect+"'}\n")
		rule := &rules[0].Rules[0]
		of := nic
		if c.on == "host" {
			of = nil
		}
		holds, err := rule.Judge(of, host)
		var unknown *UnknownError
		switch {
		case c.unknown != "" && (!errors.As(err, &unknown) || unknown.Fact != c.unknown):
			t.Errorf("%s: %v, want that %s is not known", c.expect, err, c.unknown)
		case c.unknown == "" && err != nil || holds != c.holds:
			t.Errorf("%s: %v, %v", c.expect, holds, err)
		}
		if seen := rule.Seen(of, host); c.seen != "" && seen != c.seen {
			t.Errorf("%s: seen %q, want %q", c.expect, seen, c.seen)
		}
	}
}

// A rule is for the NICs that its document matches, and a rule on the host for hosts
// with its labels.
func TestRulesFor(t *testing.T) {
	const rest = "\nrules: {user/a: {severity: info, title: t, why: w, remedy: r, expect: nic.link.mtu > 0}}\n"
	head := "apiVersion: nictune/v1\nkind: RulePolicy\nname: r\nmatch: "
	igb := &inventory.NIC{Function: inventory.PF, Driver: &inventory.Driver{Name: "igb"}}
	veth := &inventory.NIC{Function: inventory.Virtual}
	edge, core := &Host{Labels: map[string]string{"role": "edge"}}, &Host{Labels: map[string]string{"role": "core"}}
	for _, c := range []struct {
		match string
		nic   *inventory.NIC
		host  *Host
		want  bool
	}{
		{"{}", igb, edge, true}, {"{}", veth, edge, false}, {"{}", nil, edge, true},
		{"{driver: ice}", igb, edge, false}, {"{driver: igb}", igb, edge, true},
		{"{labels: {role: edge}}", nil, edge, true}, {"{labels: {role: edge}}", nil, core, false}, {"{labels: {role: edge}}", igb, core, false},
	} {
		got, err := userRules(t, head+c.match+rest)[0].For(c.nic, c.host)
		if got != c.want || err != nil {
			t.Errorf("%s: %v, %v", c.match, got, err)
		}
	}
	if _, err := userRules(t, head+"{speed: 25000}"+rest)[0].For(igb, edge); err == nil {
		t.Error("a speed that is not known was decided")
	}
}

// One id in two files is told with both places; a directory may hold all kinds.
func TestLoadRules(t *testing.T) {
	dir := t.TempDir()
	rule := func(name string) []byte {
		return []byte("apiVersion: nictune/v1\nkind: RulePolicy\nname: " + name + "\nmatch: {}\nrules: {user/a: {severity: info, title: t, why: w, remedy: r, expect: nic.link.mtu > 0}}\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), rule("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	documents, err := LoadDocuments(dir)
	if err != nil || strings.Join(RuleIDs(documents.Rules), " ") != "user/a" {
		t.Fatalf("%v, %v", RuleIDs(documents.Rules), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.yaml"), rule("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadDocuments(dir); err == nil || !strings.Contains(err.Error(), `the rule "user/a" is already at `+filepath.Join(dir, "a.yaml")+":5") {
		t.Errorf("two rules of one id: %v", err)
	}
}
