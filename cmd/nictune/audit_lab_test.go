//go:build lab

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/labtest"
)

// An audit tells of VFs what the kernel's files and ip say, sees drift as soon as
// somebody else sets something, and takes a device with another name for the same.
func TestAuditInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.NIC(t, "igb")
	device := filepath.Join("/sys/class/net", name, "device")
	count := func(n int) {
		if err := os.WriteFile(filepath.Join(device, "sriov_numvfs"), fmt.Appendf(nil, "%d", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	device, err := filepath.EvalSymlinks(device) // the name will change
	if err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "ip", "link", "set", name, "up")
	count(2)
	t.Cleanup(func() { count(0) })
	// Their driver, which is loaded for the first of them, gives them their addresses.
	labtest.NICs(t, "igbvf", 2)

	// The VFs, as sysfs and ip know them.
	r, _ := auditJSON(t)
	pf := summaryNamed(t, r, name)
	if pf.SRIOV == nil || *pf.SRIOV.NumVFs != 2 || len(pf.SRIOV.VFs) != 2 || pf.Driver != "igb" || pf.IOMMU == nil {
		t.Fatalf("the PF is %+v", pf)
	}
	var links []struct {
		VFs []struct {
			VF      int    `json:"vf"`
			Address string `json:"address"`
		} `json:"vfinfo_list"`
	}
	if err := json.Unmarshal(labtest.Run(t, "ip", "-j", "link", "show", name), &links); err != nil || len(links) != 1 || len(links[0].VFs) != 2 {
		t.Fatalf("ip: %v, %+v", err, links)
	}
	for i, vf := range pf.SRIOV.VFs {
		target, err := os.Readlink(filepath.Join(device, fmt.Sprintf("virtfn%d", i)))
		if err != nil || vf.Address != filepath.Base(target) || vf.Index != i {
			t.Errorf("VF %d is %+v, and at %s (%v)", i, vf, target, err)
		}
		group, err := os.Readlink(filepath.Join(device, fmt.Sprintf("virtfn%d", i), "iommu_group"))
		if err != nil || vf.IOMMU == nil || fmt.Sprint(vf.IOMMU.Group) != filepath.Base(group) || vf.IOMMU.Shared {
			t.Errorf("VF %d is in group %+v, and in %s (%v)", i, vf.IOMMU, group, err)
		}
		if !strings.EqualFold(vf.MAC, links[0].VFs[i].Address) {
			t.Errorf("VF %d has the address %s, ip says %s", i, vf.MAC, links[0].VFs[i].Address)
		}
	}

	// Drift.
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: edge\nmatch: {name: "+name+"}\nsettings: {rings: {rx: 512}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	if _, stderr, exit := nictune(t, "apply", "-f", policy, "--state-dir", state, "--allow", "nic-reset"); exit != exitOK {
		t.Fatalf("apply: exit %d: %s", exit, stderr)
	}
	t.Cleanup(func() { _, _ = labtest.Try(t, "ethtool", "-G", pf.Name, "rx", "256") })
	r, _ = auditJSON(t, "-f", policy, "--state-dir", state)
	if len(r.Drift) != 1 || r.Drift[0].Status != audit.AsWanted {
		t.Errorf("after it was applied: %+v", r.Drift)
	}
	labtest.Ethtool(t, "-G", name, "rx", "256")
	text, stderr, exit := nictune(t, "audit", "-f", policy, "--state-dir", state)
	if exit != exitDifferences || !strings.Contains(text, "rx: 256, wanted 512") {
		t.Errorf("after somebody else set it: exit %d, %s%s", exit, text, stderr)
	}
	t.Logf("for people:\n%s", text)

	// Another name.
	before, _, _ := nictune(t, "audit", "-o", "json")
	baseline := filepath.Join(dir, "baseline.json")
	if err := os.WriteFile(baseline, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "ip", "link", "set", name, "down")
	labtest.Run(t, "ip", "link", "set", name, "name", "renamed0")
	t.Cleanup(func() {
		labtest.Run(t, "ip", "link", "set", "renamed0", "down")
		labtest.Run(t, "ip", "link", "set", "renamed0", "name", name)
		labtest.Run(t, "ip", "link", "set", name, "up")
	})
	labtest.Run(t, "ip", "link", "set", "renamed0", "up")
	labtest.Eventually(t, "a carrier", func() bool {
		r, _ = auditJSON(t, "--baseline", baseline)
		nic := summaryNamed(t, r, "renamed0")
		return nic.Link.Carrier != nil && *nic.Link.Carrier
	})
	if nic := summaryNamed(t, r, "renamed0"); nic.ID != pf.ID {
		t.Errorf("it was %s and is %s", pf.ID, nic.ID)
	}
	ofIt := func(c audit.Change) bool { return c.Subject.ID == pf.ID }
	for _, lost := range []struct {
		what    string
		changes []audit.Change
	}{{"gone", r.Baseline.Gone}, {"new", r.Baseline.New}} {
		for _, c := range lost.changes {
			// That it was set down just now is news.
			if ofIt(c) && !strings.HasPrefix(c.Rule, "link/") {
				t.Errorf("%s with another name: %+v", lost.what, c)
			}
		}
	}
	if !slices.ContainsFunc(r.Baseline.Unchanged, ofIt) && slices.ContainsFunc(r.Findings, func(f findings.Finding) bool { return f.Status == findings.Fail && f.Subject.ID == pf.ID }) {
		t.Errorf("nothing of it is unchanged: %+v", r.Baseline)
	}
}

func summaryNamed(t *testing.T, r *audit.HostReport, name string) *audit.NICSummary {
	t.Helper()
	i := slices.IndexFunc(r.NICs, func(n audit.NICSummary) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("no device %s in the report", name)
	}
	return &r.NICs[i]
}
