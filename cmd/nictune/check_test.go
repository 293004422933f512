package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// checkPolicy writes a check policy with this in it.
func checkPolicy(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "checks.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: nictune/v1\nkind: CheckPolicy\nname: t\nmatch: {}\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCheckJSONAgreesWithItsSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/schema/findings.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	file := checkPolicy(t, "waivers: [{rule: pcie/below-slot, reason: lab, owner: me, expires: 2099-12-31}]\n")
	for _, args := range [][]string{{}, {"--all"}, {"-f", file}, {"pcie", "eth1"}} {
		stdout, stderr, _ := nictune(t, append([]string{"--host", numaHost, "check", "-o", "json"}, args...)...)
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(stdout))
		if err != nil {
			t.Fatalf("%v: %v, %s", args, err, stderr)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		if bytes.Count([]byte(stdout), []byte(`"rule"`)) == 0 {
			t.Errorf("%v: no finding", args)
		}
	}
}

// What policies say shows in the exit status and in the text.
func TestCheckObeysPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		exit   int
		want   []string
		never  string
	}{
		"none":    {"", exitOK, []string{"INFO      pcie/below-slot", "4 info"}, "do  "},
		"worse":   {"rules: {pcie/below-slot: critical}\n", exitDifferences, []string{"CRITICAL  pcie/below-slot", "severity  by ", "checks.yaml:5", "4 critical"}, ""},
		"off":     {"rules: {\"pcie/*\": critical, pcie/below-slot: off}\n", exitOK, []string{"nothing fails"}, "below-slot"},
		"waived":  {"rules: {pcie/below-slot: critical}\nwaivers: [{rule: pcie/below-slot, reason: an old card, owner: jane, expires: 2099-12-31}]\n", exitOK, []string{"WAIVED ", "(an old card; jane, until 2099-12-31)", "4 waived"}, "CRITICAL"},
		"expired": {"rules: {pcie/below-slot: critical}\nwaivers: [{rule: pcie/below-slot, reason: an old card, owner: jane, expires: 2020-12-31}]\n", exitDifferences, []string{"CRITICAL", "WAIVER EXPIRED on 2020-12-31: an old card (jane,"}, "WAIVED"},
		"unknown": {"rules: {pcie/below-slto: off}\n", exitError, []string{`did you mean "pcie/below-slot"?`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--host", numaHost, "check", "pcie"}
			if c.policy != "" {
				args = append(args, "-f", checkPolicy(t, c.policy))
			}
			stdout, stderr, exit := nictune(t, args...)
			if exit != c.exit {
				t.Errorf("exit %d, want %d", exit, c.exit)
			}
			for _, want := range c.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("no %q in\n%s%s", want, stdout, stderr)
				}
			}
			if c.never != "" && strings.Contains(stdout, c.never) {
				t.Errorf("%q in\n%s", c.never, stdout)
			}
		})
	}
	file := checkPolicy(t, "rules: {pcie/below-slot: off}\n")
	if stdout, stderr, exit := nictune(t, "policy", "validate", file); exit != exitOK || stdout != "1 policies are valid.\n" {
		t.Errorf("validate: %d, %s%s", exit, stdout, stderr)
	}
	if _, stderr, exit := nictune(t, "policy", "validate", checkPolicy(t, "rules: {pcie/below-slto: off}\n")); exit != exitError || !strings.Contains(stderr, "did you mean") {
		t.Errorf("validate of an unknown rule: %d, %s", exit, stderr)
	}
	if _, stderr, exit := nictune(t, "--host", numaHost, "check", "-f", "testdata/igb.yaml"); exit != exitError || !strings.Contains(stderr, "CheckPolicy") {
		t.Errorf("a policy of the other kind: %d, %s", exit, stderr)
	}
}

func TestCheckUsage(t *testing.T) {
	if _, stderr, exit := nictune(t, "--host", numaHost, "check", "links"); exit != exitError || !strings.Contains(stderr, `matches "links"`) || !strings.Contains(stderr, "did you mean nictune check link?") {
		t.Errorf("a group's name with a slip: exit %d: %s", exit, stderr)
	}
	if stdout, _, exit := nictune(t, "check", "--help"); exit != exitOK || !strings.Contains(stdout, "nictune check [DEVICE...] [flags]\n") {
		t.Errorf("%d, %s", exit, stdout)
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"--host", numaHost, "check", "--watch", "1s"}, {"check", "--watch", "-1s"},
		{"--host", numaHost, "check", "--fail-on", "bad"}, {"--host", numaHost, "check", "nosuch0"},
		{"check", "--explain", "link/none"}, {"check", "--explain", "none"},
		{"--host", numaHost, "check", "link", "--cable-test", "--allow", "link-flap", "eth0"}, {"check", "link", "--cable-test"},
		{"check", "link", "--cable-test", "--all", "--allow", "link-flap", "nosuch0"},
		{"check", "link", "--tdr"}, {"check", "link", "--cable-test", "--allow", "everything", "eth0"},
	} {
		if stdout, stderr, exit := nictune(t, args...); exit != exitError || stdout != "" || stderr == "" {
			t.Errorf("%v: %d, %s%s", args, exit, stdout, stderr)
		}
	}
}

// A dump from elsewhere is judged like a module that is plugged in.
func TestModuleDecodeCheck(t *testing.T) {
	const dumps = "../../inventory/module/testdata/"
	for file, want := range map[string]struct {
		exit int
		text string
	}{
		"qsfp-40g-sr4-finisar-ftl410qe3c.hex":          {exitDifferences, "TX power of lane 2 -0.38 dBm"},
		"edited-cmis-400g-lr4-vdm.hex":                 {exitOK, "nothing fails"},
		"sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0.hex": {exitDifferences, "RX LOS of lane 1"},
		"edited-osfp-2x400g-fr4-lite.hex":              {exitDifferences, "page checksum of page 00h does not hold"},
	} {
		stdout, stderr, exit := nictune(t, "module", "decode", "--check", dumps+file)
		if exit != want.exit || !strings.Contains(stdout, want.text) || stderr != "" {
			t.Errorf("%s: %d, %s\n%s", file, exit, stderr, stdout)
		}
	}
}
