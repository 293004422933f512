package main

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/nstest"
)

// Somebody changes an MTU: the next audit of the running host says so, in drift and by
// a rule of one's own, and a baseline tells that it is new; put right, it is fixed.
func TestAuditOfTheRunningHost(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "au0", "mtu 1500 type veth peer name au1")
	nstest.IP(t, "link set au0 up")
	nstest.IP(t, "link set au1 up")
	policy := written(t, "policy.yaml", `apiVersion: nictune/v1
kind: TuningPolicy
name: veths
match: {name: au0}
settings: {netdev: {mtu: 1500}}
---
apiVersion: nictune/v1
kind: RulePolicy
name: house
match: {name: au0}
rules: {user/mtu: {severity: critical, title: the MTU is not 1500, why: Paths., remedy: Set it., expect: nic.link.mtu == 1500}}
`)
	state := t.TempDir()
	say := func(args ...string) string {
		t.Helper()
		stdout, stderr, _ := nictune(t, append([]string{"audit", "-o", "json", "-f", policy, "--state-dir", state}, args...)...)
		if stdout == "" {
			t.Fatalf("%v: %s", args, stderr)
		}
		return stdout
	}
	status := func(text, rule string) findings.Status {
		t.Helper()
		r, err := audit.ParseHostReport([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings {
			if f.Rule == rule && f.Subject.Name == "au0" {
				return f.Status
			}
		}
		return ""
	}
	well := say()
	if drift, own := status(well, "policy/drifted"), status(well, "user/mtu"); drift != findings.Pass || own != findings.Pass {
		t.Errorf("as wanted: %s and %s", drift, own)
	}
	nstest.IP(t, "link set au0 mtu 1400")
	ill := say()
	if drift, own := status(ill, "policy/drifted"), status(ill, "user/mtu"); drift != findings.Fail || own != findings.Fail {
		t.Errorf("after it was changed: %s and %s", drift, own)
	}
	rules := func(changes []audit.Change) string {
		var all []string
		for _, c := range changes {
			if c.Subject.Name == "au0" {
				all = append(all, c.Rule)
			}
		}
		return strings.Join(all, " ")
	}
	r, exit := auditJSON(t, "-f", policy, "--state-dir", state, "--baseline", written(t, "well.json", well), "--fail-on-new")
	if got := rules(r.Baseline.New); exit != exitDifferences || !strings.Contains(got, "user/mtu") || !strings.Contains(got, "policy/drifted") {
		t.Errorf("exit %d, new are %s", exit, got)
	}
	nstest.IP(t, "link set au0 mtu 1500")
	r, _ = auditJSON(t, "-f", policy, "--state-dir", state, "--baseline", written(t, "ill.json", ill), "--fail-on-new")
	if got := rules(r.Baseline.Fixed); !strings.Contains(got, "user/mtu") || !strings.Contains(got, "policy/drifted") {
		t.Errorf("fixed are %s", got)
	}
}
