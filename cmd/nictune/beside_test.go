package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// judged waits until the agent has judged the host and compared it with policies, and
// gives what it exports then.
func judged(t *testing.T, base string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, page := get(t, base+"/metrics")
		if strings.Contains(page, "\nnictune_audit_timestamp_seconds ") && strings.Contains(page, "\nnictune_policy_error ") {
			return page
		}
	}
	t.Fatal("the host is not judged within a minute")
	return ""
}

// The agent shows what nictune check, inventory --vfs, check xdp --profile and history
// say, and policies of all kinds count.
func TestAgentShowsWhatItFinds(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "all.yaml")
	if err := os.WriteFile(file, []byte(`
apiVersion: nictune/v1
kind: TuningPolicy
name: jumbo
match: {driver: igb}
settings: {netdev: {mtu: 9000}}
---
apiVersion: nictune/v1
kind: CheckPolicy
name: lab
match: {}
rules: {"pcie/*": "off"}
waivers:
  - {rule: user/mtu, reason: the lab has no jumbo frames, owner: netops, expires: 2199-12-31}
  - {rule: link/eee, reason: nothing needs this one, owner: nobody, expires: 2199-12-31}
  - {rule: link/down, reason: nor what has expired, owner: netops, expires: 2020-12-31}
---
apiVersion: nictune/v1
kind: RulePolicy
name: own
match: {driver: igb}
rules:
  user/mtu: {severity: critical, title: small frames, expect: nic.link.mtu >= 9000, why: Jumbo frames cost less., remedy: Raise the MTU.}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startInProcess(t, "--host", vfsHost, "-f", file, "--state-dir", filepath.Join(dir, "none"))
	base := "http://" + s.address(t)
	page := judged(t, base)
	s.end(t)
	igbs := strconv.Itoa(strings.Count(page, `rule="user/mtu",severity="critical",status="waived"} 1`)) + "\n"
	for _, line := range []string{
		`nictune_finding{device="eth1",part="",pci_address="`,
		`rule="user/mtu",severity="critical",status="waived"} 1`,
		`nictune_waiver_expiry_timestamp_seconds{device="eth1",owner="netops",part="",rule="user/mtu"} 7258118400`,
		`nictune_check_waiver_expiry_timestamp_seconds{owner="netops",policy="lab",rule="user/mtu",source="` + file + `:14"} 7258118400`,
		`nictune_check_waiver_failures{owner="netops",policy="lab",rule="user/mtu",source="` + file + `:14"} ` + igbs,
		`nictune_check_waiver_expiry_timestamp_seconds{owner="nobody",policy="lab",rule="link/eee",source="` + file + `:15"} 7258118400`,
		`nictune_check_waiver_failures{owner="nobody",policy="lab",rule="link/eee",source="` + file + `:15"} 0`,
		`nictune_check_waiver_expiry_timestamp_seconds{owner="netops",policy="lab",rule="link/down",source="` + file + `:16"} 1609459200`,
		`nictune_check_waiver_failures{owner="netops",policy="lab",rule="link/down",source="` + file + `:16"} 0`,
		`nictune_rule_findings{rule="pcie/link-degraded",severity="warning",status="not-applicable"} `,
		`rule="policy/drifted"`,
		`nictune_policy_setting_drifted{device="eth1",origin="given",policy="jumbo",setting="netdev"} 1`,
		`nictune_sriov_vfs{device="eth1"} `, `nictune_vf_info{device="eth1",driver="`, `nictune_xdp_ready{device="eth1",profile="`,
		`nictune_host_info{`, `nictune_ring_descriptors{device="eth1",ring="rx"} `, `model="`,
	} {
		if !strings.Contains(page, line) {
			t.Errorf("there is no %s", line)
		}
	}
	for _, line := range []string{"nictune_history_", `rule="pcie/link-degraded",severity="warning",status="pass"`, `rule="user/mtu",severity="critical",status="fail"`, "nictune_feature_active"} {
		if strings.Contains(page, line) {
			t.Errorf("there is %s", line)
		}
	}
	cmd := exec.CommandContext(t.Context(), tool(t, "promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(page)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// What is switched off is neither read nor shown.
func TestAgentWithoutFindings(t *testing.T) {
	s := startInProcess(t, "--host", vfsHost, "--no-collector.findings", "--no-collector.module", "--no-collector.xdp_ready", "--no-collector.offload", "--collector.features")
	base := "http://" + s.address(t)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, page := get(t, base+"/metrics")
		if !strings.Contains(page, `nictune_vf_info{`) {
			if time.Now().After(deadline) {
				t.Fatal("no VFs within a minute")
			}
			continue
		}
		for _, name := range []string{"nictune_rule_findings", "nictune_module_", "nictune_xdp_ready", "nictune_offload_"} {
			if strings.Contains(page, name) {
				t.Errorf("there is %s", name)
			}
		}
		if !strings.Contains(page, `nictune_feature_active{device="eth1",feature="`) {
			t.Error("features were asked for, and there are none")
		}
		return
	}
}

// A directory with check policies alone leaves the shipped policies to compare with;
// to enforce, there must be something to enforce.
func TestAgentWithCheckPoliciesAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "checks.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: nictune/v1\nkind: CheckPolicy\nname: lab\nmatch: {}\nrules: {link/eee: \"off\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startInProcess(t, "--host", labHost, "-f", file)
	base := "http://" + s.address(t)
	if page := judged(t, base); !strings.Contains(page, "nictune_policy_matched_nics{") || strings.Contains(page, `rule="policy/drifted"`) {
		t.Error("the shipped policies are not compared with, or are taken for somebody's wishes")
	}
	s.end(t)
	s = startInProcess(t, "--host", labHost, "-f", file, "--reconcile=enforce")
	if exit := s.wait(t); exit == exitOK || !strings.Contains(s.log.String(), "no document of kind TuningPolicy in ") {
		t.Errorf("exit %d: %s", exit, s.log)
	}
}
