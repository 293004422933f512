package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/policies"
)

func TestExplain(t *testing.T) {
	for name, want := range map[string][]string{
		"":                  {"rings", "nic-reset", "(ethtool -G)"},
		"netdev":            {"mtu", "a number or max", "nic-reset", "txqueuelen", "link-flap", "seamless", "netdev: {mtu: max}"},
		"rings.rx":          {"descriptors of a receive ring", "a number or max", "50%", "nic-reset", "(ethtool -G)", "rings: {rx: max}"},
		"rings.rx-buf-len":  {"a number\n", "default, cpus"},
		"features.tso":      {"features.tx-tcp6-segmentation", "features.tx-tcp-segmentation", "also called", "features.tso sets all of these"},
		"features.rx-gro":   {"seamless"},
		"features.anything": {"nic-reset", "on or off"},
		"irq.cpus":          {"local-cpus or housekeeping-cpus", "irq: {cpus: all}"},
	} {
		stdout, stderr, exit := nictune(t, slices.DeleteFunc([]string{"policy", "explain", name}, func(s string) bool { return s == "" })...)
		if exit != exitOK || stderr != "" {
			t.Errorf("%s: exit %d, %s", name, exit, stderr)
		}
		for _, text := range want {
			if !strings.Contains(stdout, text) {
				t.Errorf("%s: no %q in\n%s", name, text, stdout)
			}
		}
		if name == "rings.rx-buf-len" && strings.Contains(stdout, "50%") {
			t.Error("a share of no maximum")
		}
	}
	if _, stderr, exit := nictune(t, "policy", "explain", "ringz"); exit != exitError || !strings.Contains(stderr, `did you mean "rings"?`) {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

func TestCompleteKnobs(t *testing.T) {
	for begun, want := range map[string]string{"ri": "rings", "fec.": "fec.encoding", "rings.rx-": "rings.rx-mini rings.rx-jumbo rings.rx-buf-len rings.rx-push", "zzz": ""} {
		stdout, _, exit := nictune(t, cobra.ShellCompNoDescRequestCmd, "policy", "explain", begun)
		lines := strings.Fields(stdout)
		if exit != exitOK || len(lines) == 0 || strings.Join(lines[:len(lines)-1], " ") != want {
			t.Errorf("%s: %q, want %s", begun, stdout, want)
		}
	}
}

func TestPolicyList(t *testing.T) {
	stdout, _, exit := nictune(t, "policy", "list")
	if exit != exitOK || !strings.Contains(stdout, "throughput") || !strings.Contains(stdout, "-100") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
	stdout, _, exit = nictune(t, "policy", "list", "testdata/igb.yaml")
	if exit != exitOK || !strings.Contains(stdout, "channels") || strings.Contains(stdout, "throughput") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
}

// What a match asks of the host, and what becomes of one that hits nothing or
// can't be decided.
func TestMatching(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	policy := write("edge.yaml", `apiVersion: nictune/v1
kind: TuningPolicy
name: edge
match:
  driver: igb
  labels: {role: "edge*"}
  where: "!(nic.link.lanes > 1)"
settings:
  netdev: {txqueuelen: 1000}
`)
	labels := write("labels", "# the file\nrole = edge-1\n")
	const none, unknown = "No NIC here matches: edge (", "edge.yaml:7: policy edge does not match "
	for _, test := range []struct {
		args          []string
		exit          int
		stderr, never string
	}{
		{nil, exitOK, none, unknown},
		{[]string{"--label", "role=core"}, exitOK, none, unknown},
		{[]string{"--label", "role=edge"}, exitOK, unknown, ""},
		{[]string{"--labels", labels}, exitOK, unknown, ""},
		{[]string{"--labels", labels, "--label", "role=core"}, exitOK, none, unknown},
		{[]string{"--label", "role=core", "--require-match"}, exitError, "--require-match: no NIC here matches: edge (", "No changes"},
		{[]string{"--label", "role"}, exitError, `--label: "role" is no label: write KEY=VALUE`, ""},
		{[]string{"--label", "role=a", "--label", "role=b"}, exitError, `--label role is given twice, as "a" and "b"`, ""},
		{[]string{"--labels", filepath.Join(dir, "missing")}, exitError, "no such file", ""},
		{[]string{"--labels", policy}, exitError, "is no label: write KEY=VALUE", ""},
	} {
		stdout, stderr, exit := nictune(t, append([]string{"--host", labHost, "plan", "-f", policy}, test.args...)...)
		if exit != test.exit || !strings.Contains(stderr, test.stderr) || test.never != "" && strings.Contains(stdout+stderr, test.never) {
			t.Errorf("%q: exit %d\n%s%s", test.args, exit, stdout, stderr)
		}
	}
	_, stderr, _ := nictune(t, "--host", labHost, "plan", "-f", policy, "--label", "role=edge")
	if !strings.Contains(stderr, ": nic.link.lanes is not known") || strings.Count(stderr, unknown) != 1 {
		t.Errorf("which fact of which NICs: %s", stderr)
	}
}

// Each shipped profile can be planned for each recorded host, as a user would do
// it: nothing that it asks is wrong. (Recordings lack what no inventory shows.)
func TestShippedOnRecordedHosts(t *testing.T) {
	hosts, err := filepath.Glob("testdata/hosts/*.txtar")
	if err != nil || len(hosts) < 3 {
		t.Fatalf("%v, %v", hosts, err)
	}
	shipped, err := policies.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range shipped {
		document, stderr, exit := nictune(t, "policy", "show", p.Name)
		if exit != exitOK {
			t.Fatalf("%s: %s", p.Name, stderr)
		}
		file := filepath.Join(t.TempDir(), "mine.yaml")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, host := range hosts {
			stdout, stderr, exit := nictune(t, "--host", host, "plan", "-f", file, "--require-match")
			switch exit {
			case exitOK:
				t.Errorf("%s on %s changes nothing:\n%s", p.Name, host, stdout)
			case exitDifferences:
			default:
				for line := range strings.Lines(stderr) {
					if !strings.Contains(line, " not in this recording: ") && !strings.HasPrefix(line, "nictune: ") {
						t.Errorf("%s on %s: %s", p.Name, host, line)
					}
				}
			}
		}
	}
}
