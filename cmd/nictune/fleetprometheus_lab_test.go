//go:build lab

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/labtest"
)

// A real Prometheus scrapes the real agent of NICs with VFs, and a fleet's report from it says
// of them what one from the host's own audit says.
//
//lab:seconds 35
func TestFleetOfTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	const name = "lab-nics"
	const hostname = "/proc/sys/kernel/hostname"
	before, err := os.ReadFile(hostname)
	if err == nil {
		err = os.WriteFile(hostname, []byte(name), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(hostname, before, 0) })
	igbWithVFs(t)
	labtest.LinksSettle(t) // of one that comes later one of the two would not know
	wanted := writeFile(t, "policies.yaml", fleetPolicies(time.Now().UTC()))
	// Frames come when they will, and a link's first one makes it another to judge: the host
	// has to be the same before the agent looks and after it.
	for attempt := 1; ; attempt++ {
		before := auditOfLab(t, wanted)
		agent, address := scrapedInLab(t, wanted)
		after := auditOfLab(t, wanted)
		if judged, again := statusesOf(t, before), statusesOf(t, after); judged != again {
			agent.stop()
			<-agent.exit
			if attempt == 5 {
				t.Fatalf("a host that never stays as it is:\n%s\nand then\n%s", judged, again)
			}
			continue
		}
		audits := t.TempDir()
		if err := os.WriteFile(filepath.Join(audits, name+".json"), []byte(after), 0o600); err != nil {
			t.Fatal(err)
		}
		fromServer := []string{"--prometheus", fmt.Sprintf("http://%s", address), "--window", "0"}
		asked := wholeReport(t, fromServer...)
		sameFigures(t, asked, wholeReport(t, "--reports", audits))
		sameOfHost(t, name, fromServer, audits)
		if asked.Scope.VFs != 2 || asked.VFs.Known != 2 || asked.Counts[findings.Pass] == 0 || asked.Counts[findings.Fail] == 0 || asked.Drift.Drifted == 0 {
			t.Errorf("too little to agree on: %+v, VFs %+v, drift %+v, %v", asked.Scope, asked.VFs, asked.Drift, asked.Counts)
		}
		return
	}
}

// scrapedInLab starts an agent, and a Prometheus that knows what it judged.
func scrapedInLab(t *testing.T, wanted string) (agent *served, prometheus string) {
	t.Helper()
	// An audit looks once. An agent that had looked a second time would have judged rates as well.
	agent = startInProcess(t, "-f", wanted, "--pause", "1h")
	// A scrape of a first page may take more than a second under emulation.
	prometheus = startPrometheus(t, tool(t, "prometheus"), strings.Replace(scraping([]string{agent.address(t)}, ""), "scrape_interval: 1s", "scrape_interval: 5s, scrape_timeout: 5s", 1))
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if judged, _ := query(prometheus, "nictune_audit_timestamp_seconds and on (instance) nictune_nic_info and on (instance) nictune_policy_setting_drifted"); len(judged) == 1 {
			return agent, prometheus
		}
		if time.Now().After(deadline) {
			up, _ := query(prometheus, "up == 1")
			judged, _ := query(prometheus, "nictune_audit_timestamp_seconds")
			compared, _ := query(prometheus, "nictune_policy_setting_drifted")
			t.Fatalf("after four minutes the host is not judged: up %v, judged %v, compared %v\n%s", up, judged, compared, agent.log)
		}
	}
}

func auditOfLab(t *testing.T, wanted string) (report string) {
	t.Helper()
	report, stderr, exit := nictune(t, "audit", "-f", wanted, "-o", "json")
	if exit == exitError && report == "" {
		t.Fatalf("nictune audit: %s", stderr)
	}
	return report
}

// statusesOf is what came of each rule on each subject.
func statusesOf(t *testing.T, report string) string {
	t.Helper()
	r, err := audit.ParseHostReport([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f.Status, f.Rule, f.Subject)
	}
	return b.String()
}
