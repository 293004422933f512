package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// A user's rule passes where what it expects holds, fails where it does not, and is
// neither where that can't be told; on devices that it isn't for it says nothing.
func TestUserRules(t *testing.T) {
	documents, err := policies.ParseDocuments("house.yaml", []byte(`apiVersion: nictune/v1
kind: RulePolicy
name: house
match: {driver: [igb, ice]}
rules:
  user/mtu: {severity: warning, title: the MTU is not 9000., why: Slow., remedy: Set it., expect: nic.link.mtu == 9000}
  user/speed: {severity: info, title: slow, why: Slow., remedy: Faster., sources: [NET-1, NET-2], expect: nic.link.speedMbps >= 1000}
  user/kernel: {subject: host, severity: critical, title: old, why: Old., remedy: New., expect: 'host.kernel.startsWith("6.")'}
---
apiVersion: nictune/v1
kind: RulePolicy
name: fast
match: {speed: ">=25000", driver: ice}
rules:
  user/fec: {severity: info, title: no FEC, why: Loss., remedy: Set it., expect: nic.link.fec.active != "off"}
`))
	if err != nil {
		t.Fatal(err)
	}
	mtu := func(n int) *int { return &n }
	e := &Evidence{}
	e.Host.Kernel, e.Host.Hostname = "5.10.1", "web1"
	e.NICs = []inventory.NIC{
		{Name: "eth0", Driver: &inventory.Driver{Name: "igb"}, Link: inventory.Link{MTU: mtu(9000), SpeedMbps: mtu(1000)}},
		{Name: "eth1", Driver: &inventory.Driver{Name: "ice"}, Link: inventory.Link{MTU: mtu(1500)}, Unread: []inventory.Unread{{Fact: "link.speedMbps", Reason: inventory.Failed}}},
		{Name: "eth2", Driver: &inventory.Driver{Name: "virtio_net"}},
	}
	got := map[string]findings.Finding{}
	for _, f := range JudgeUserRules(e, documents.Rules, nil) {
		got[f.Rule+" "+f.Subject.String()] = f
	}
	for key, want := range map[string]string{
		"user/mtu eth0":    "pass nic.link.mtu is 9000",
		"user/mtu eth1":    "fail nic.link.mtu is 1500",
		"user/mtu eth2":    "not-applicable the match of house (house.yaml:3) leaves it out",
		"user/speed eth0":  "pass nic.link.speedMbps is 1000",
		"user/speed eth1":  "error nic.link.speedMbps is not known (failed)",
		"user/kernel host": "fail host.kernel is 5.10.1",
		"user/fec eth0":    "not-applicable the match of fast (house.yaml:12) leaves it out",
		// A match by speed doesn't say why it isn't known.
		"user/fec eth1": "unknown whether it is for this device can't be told: nic.link.speedMbps is not known",
	} {
		if f := got[key]; string(f.Status)+" "+f.Seen != want {
			t.Errorf("%s: %s %s, want %s", key, f.Status, f.Seen, want)
		}
	}
	if f := got["user/mtu eth1"]; f.Expected != "nic.link.mtu == 9000" || f.Remedy != "Set it." || f.Title != "the MTU is not 9000" || f.Severity != findings.Warning {
		t.Errorf("it says %+v", f)
	}
	abouts := UserRules(documents.Rules)
	if len(abouts) != 4 || abouts[0].Sources[0] != "house.yaml:6" || len(abouts[1].Sources) != 2 || abouts[0].Group() != policies.UserGroup {
		t.Errorf("told of them is %+v", abouts)
	}

	// They can be waived, and a waiver that is over is told, matched or not.
	checks, err := policies.ParseDocuments("checks.yaml", []byte(`apiVersion: nictune/v1
kind: CheckPolicy
name: checks
match: {driver: ice}
waivers:
  - {rule: [user/mtu, link/eee], reason: old switch, owner: jane, expires: 2026-11-30}
---
apiVersion: nictune/v1
kind: CheckPolicy
name: elsewhere
match: {driver: mlx5_core}
waivers:
  - {rule: user/mtu, reason: old switch, owner: jane, expires: 2020-11-30}
`))
	if err != nil {
		t.Fatal(err)
	}
	for day, want := range map[string]string{
		"2026-11-01": "waived; pass pass; pass pass",
		"2026-11-30": "waived; pass fail; pass fail",
		"2026-12-01": "fail; fail not-applicable; fail not-applicable",
	} {
		now, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		e.NoteWaivers(checks.Checks, nil, now)
		obeyed, err := Obey(append(JudgeUserRules(e, documents.Rules, nil), Judge(e, []Group{PolicyGroup()})...), e, checks.Checks, nil, now)
		if err != nil {
			t.Fatal(err)
		}
		status := func(rule, subject string) string {
			for _, f := range obeyed {
				if f.Rule == rule && f.Subject.String() == subject {
					return string(f.Status)
				}
			}
			return "none"
		}
		said := []string{status("user/mtu", "eth1")}
		for _, of := range []string{"link/eee", "user/mtu"} {
			part := "host waiver of " + of + " in checks"
			said = append(said, status("policy/waiver-expired", part)+" "+status("policy/waiver-expiring", part))
		}
		if got := strings.Join(said, "; "); got != want || len(e.Waivers) != 2 {
			t.Errorf("on %s: %s with %d waivers, want %s", day, got, len(e.Waivers), want)
		}
	}
}
