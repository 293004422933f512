//go:build lab

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	// An audit looks once. An agent that had looked a second time would have judged rates as well.
	agent := startInProcess(t, "-f", wanted, "--pause", "1h")
	// A scrape of a first page may take more than a second under emulation.
	address := startPrometheus(t, tool(t, "prometheus"), strings.Replace(scraping([]string{agent.address(t)}, ""), "scrape_interval: 1s", "scrape_interval: 5s, scrape_timeout: 5s", 1))
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if judged, _ := query(address, "nictune_audit_timestamp_seconds and on (instance) nictune_nic_info and on (instance) nictune_policy_setting_drifted"); len(judged) == 1 {
			break
		}
		if time.Now().After(deadline) {
			up, _ := query(address, "up == 1")
			judged, _ := query(address, "nictune_audit_timestamp_seconds")
			compared, _ := query(address, "nictune_policy_setting_drifted")
			t.Fatalf("after four minutes the host is not judged: up %v, judged %v, compared %v\n%s", up, judged, compared, agent.log)
		}
	}
	audits := t.TempDir()
	report, stderr, exit := nictune(t, "audit", "-f", wanted, "-o", "json")
	if exit == exitError && report == "" {
		t.Fatalf("nictune audit: %s", stderr)
	}
	if err := os.WriteFile(filepath.Join(audits, name+".json"), []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	fromServer := []string{"--prometheus", fmt.Sprintf("http://%s", address), "--window", "0"}
	asked := wholeReport(t, fromServer...)
	sameFigures(t, asked, wholeReport(t, "--reports", audits))
	sameOfHost(t, name, fromServer, audits)
	if asked.Scope.VFs != 2 || asked.VFs.Known != 2 || asked.Counts[findings.Pass] == 0 || asked.Counts[findings.Fail] == 0 || asked.Drift.Drifted == 0 {
		t.Errorf("too little to agree on: %+v, VFs %+v, drift %+v, %v", asked.Scope, asked.VFs, asked.Drift, asked.Counts)
	}
}
