package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

// audits writes the reports of three hosts of the lab to a folder: fresh, and of names
// of their own.
func audits(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"lab-nics", "lab-numa", "lab-vfs"} {
		text, err := os.ReadFile("../../audit/testdata/reports/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var r audit.HostReport
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		r.Host.Name, r.Host.MachineID, r.CollectedAt = name, "id of "+name, time.Now().Add(-time.Minute)
		write(t, filepath.Join(dir, name+".json"), r)
	}
	return dir
}

func write(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A fleet's report is what its schema says, and its exit status tells how the fleet is.
func TestFleetReport(t *testing.T) {
	dir := audits(t)
	hosts := filepath.Join(t.TempDir(), "hosts.txt")
	if err := os.WriteFile(hosts, []byte("# rack 1\nlab-nics\nlab-numa # spare\n\nlab-vfs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.NewCompiler().Compile("../../docs/schema/fleet.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, exit := nictune(t, "fleet", "report", "--reports", dir, "--hosts", hosts, "-o", "json")
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(stdout))
	if err != nil || stderr != "" || exit != exitDifferences {
		t.Fatalf("exit %d, %q, %v", exit, stderr, err)
	}
	if err := schema.Validate(document); err != nil {
		t.Error(err)
	}
	r, err := fleet.Decode(strings.NewReader(stdout))
	if err != nil || r.Scope.Hosts != 3 || *r.Scope.Expected != 3 || r.Scope.Missing.Count != 0 || r.Counts[findings.Fail] == 0 {
		t.Errorf("%v: %+v", err, r)
	}
	for _, format := range []string{"text", "markdown"} {
		if stdout, stderr, exit := nictune(t, "fleet", "report", "--reports", dir, "-o", format); !strings.Contains(stdout, "sriov/unbound") || stderr != "" || exit != exitDifferences {
			t.Errorf("%s: exit %d, %q\n%s", format, exit, stderr, stdout)
		}
	}
	// Nothing critical fails there; a host that is missing is no less for that.
	if _, stderr, exit := nictune(t, "fleet", "report", "--reports", dir, "--fail-on", "critical"); exit != exitOK {
		t.Errorf("exit %d, %q", exit, stderr)
	}
	if err := os.WriteFile(hosts, []byte("lab-nics\nweb-1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if stdout, _, exit := nictune(t, "fleet", "report", "--reports", dir, "--fail-on", "critical", "--hosts", hosts); exit != exitDifferences || !strings.Contains(stdout, "web-1") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
	// One host, with its findings, written to a file; its CSV.
	out := filepath.Join(t.TempDir(), "report.txt")
	if stdout, stderr, _ := nictune(t, "fleet", "report", "--reports", dir, "--host", "lab-vfs", "--out", out); stdout != "" || stderr != "" {
		t.Errorf("%q %q", stdout, stderr)
	}
	if text, err := os.ReadFile(out); err != nil || !bytes.Contains(text, []byte("FINDINGS OF THIS HOST")) || !bytes.Contains(text, []byte("1 host, ")) {
		t.Errorf("%v\n%s", err, text)
	}
	if stdout, _, _ := nictune(t, "fleet", "report", "--reports", dir, "-o", "csv", "--table", "links"); !strings.HasPrefix(stdout, "host,device,address,model,mb_per_s,maximum\r\n") {
		t.Errorf("links: %s", stdout)
	}
}

// What is asked for wrongly is refused in so many words.
func TestFleetRefuses(t *testing.T) {
	dir := audits(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("# nobody\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	earlier := filepath.Join(t.TempDir(), "fleet.json")
	if err := os.WriteFile(earlier, []byte("yesterday's"), 0o644); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "README"), []byte("audits go here\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cut := t.TempDir()
	whole, err := os.ReadFile(filepath.Join(dir, "lab-nics.json"))
	if err != nil {
		t.Fatal(err)
	}
	half := strings.Replace(string(whole[:len(whole)/2]), `"name": "lab-nics"`, `"name": "half"`, 1)
	if err := os.WriteFile(filepath.Join(cut, "half.json"), []byte(half), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"report"}, "--reports"},
		{[]string{"report", "--reports", t.TempDir()}, "no audit report that counts: it is empty"},
		{[]string{"report", "--reports", folder, "--out", earlier}, "no audit report that counts; " + folder + "/README: passed-over: "},
		{[]string{"report", "--reports", dir, "--host", "web", "--out", earlier}, `named "web"`},
		{[]string{"report", "--reports", dir + "/nothing"}, "no such file"},
		{[]string{"report", "--reports", dir, "--hosts", empty}, "names no host"},
		{[]string{"report", "--reports", dir, "--max-age", "-1h"}, "--max-age"},
		{[]string{"report", "--reports", dir, "--top", "0"}, "--top"},
		{[]string{"report", "--reports", dir, "--fail-on", "bad"}, "info, warning or critical"},
		{[]string{"report", "--reports", dir, "--table", "links"}, "-o csv"},
		{[]string{"report", "--reports", dir, "-o", "csv", "--table", "x"}, "severities"},
		{[]string{"report", "--reports", dir, "--host", "web"}, `named "web"`},
		{[]string{"report", "--reports", dir, "--baseline", dir + "/lab-vfs.json"}, "AuditReport"},
		{[]string{"report", "--reports", cut, "--host", "half"}, "half.json: truncated: it ends before"},
		{[]string{"diff", dir, dir + "/lab-vfs.json"}, "by the folder"},
		{[]string{"diff", dir}, "fleet diff BEFORE NOW"},
		{[]string{"diff", t.TempDir(), dir}, "no audit report"},
		{[]string{"dif"}, "unknown command"},
	} {
		if _, stderr, exit := nictune(t, append([]string{"fleet"}, test.args...)...); exit != exitError || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit %d, %q, want %q", test.args, exit, stderr, test.want)
		}
	}
	if text, err := os.ReadFile(earlier); err != nil || string(text) != "yesterday's" {
		t.Errorf("an error, and the earlier report is %q, %v", text, err)
	}
}

// Two reports of a fleet, or the folders that they are of, say what changed.
func TestFleetDiff(t *testing.T) {
	before, now := audits(t), audits(t)
	var r audit.HostReport
	text, err := os.ReadFile(filepath.Join(now, "lab-vfs.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Findings {
		if r.Findings[i].Rule == "link/down" && r.Findings[i].Status == findings.Pass {
			r.Findings[i].Status = findings.Fail
			r.Counts[findings.Pass]--
			r.Counts[findings.Fail]++
		}
	}
	write(t, filepath.Join(now, "lab-vfs.json"), r)
	reports := t.TempDir()
	was, is := filepath.Join(reports, "before.json"), filepath.Join(reports, "now.json")
	for dir, out := range map[string]string{before: was, now: is} {
		if _, stderr, exit := nictune(t, "fleet", "report", "--reports", dir, "-o", "json", "--out", out); exit != exitDifferences {
			t.Fatalf("exit %d, %s", exit, stderr)
		}
	}
	for _, paths := range [][2]string{{before, now}, {was, is}} {
		stdout, stderr, exit := nictune(t, "fleet", "diff", paths[0], paths[1], "-o", "json")
		var d fleet.Difference
		if err := json.Unmarshal([]byte(stdout), &d); err != nil || exit != exitDifferences || d.Worse != 1 || d.Changes[0].Name != "link/down" {
			t.Errorf("exit %d, %q, %v: %s", exit, stderr, err, stdout)
		}
		if _, stderr, exit := nictune(t, "fleet", "diff", paths[0], paths[0]); exit != exitOK {
			t.Errorf("nothing changed: exit %d, %q", exit, stderr)
		}
	}
	if stdout, _, exit := nictune(t, "fleet", "report", "--reports", now, "--baseline", was); exit != exitDifferences || !strings.Contains(stdout, "worse") || !strings.Contains(stdout, "CHANGES") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
}
