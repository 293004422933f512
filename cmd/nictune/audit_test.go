package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// ruleDocuments are a rule that fails on the lab's igb, and one that can't be told.
const ruleDocuments = `apiVersion: nictune/v1
kind: RulePolicy
name: house
match: {driver: igb}
rules:
  user/rx-ring: {severity: info, title: receive rings are small, why: Bursts., remedy: More., expect: nic.queues.rings.rx.current >= 512}
  user/module: {severity: critical, title: not our module, why: Support., remedy: Another., expect: nic.module.vendor == "ACME"}
`

func written(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// auditJSON is the report that an audit writes.
func auditJSON(t *testing.T, args ...string) (*audit.HostReport, int) {
	t.Helper()
	stdout, stderr, exit := nictune(t, append([]string{"audit", "-o", "json"}, args...)...)
	r, err := audit.ParseHostReport([]byte(stdout))
	if err != nil {
		t.Fatalf("%v: %v, %s", args, err, stderr)
	}
	return r, exit
}

func TestAuditJSONAgreesWithItsSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("../../docs/schema/audit.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := nictune(t, "--host", labHost, "audit", "-o", "json")
	baseline := written(t, "baseline.json", first)
	checks := checkPolicy(t, "waivers: [{rule: pcie/below-slot, reason: lab, owner: me, expires: 2099-12-31}]\n")
	for _, args := range [][]string{
		{"--host", numaHost}, {"--host", vfsHost},
		{"--host", labHost, "--baseline", baseline, "-f", "testdata/impossible.yaml," + checks, "-f", written(t, "rules.yaml", ruleDocuments), "--label", "role=edge"},
	} {
		stdout, stderr, _ := nictune(t, append([]string{"audit", "-o", "json"}, args...)...)
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(stdout))
		if err != nil {
			t.Fatalf("%v: %v, %s", args, err, stderr)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		again, _, _ := nictune(t, append([]string{"audit", "-o", "json"}, args...)...)
		if again != stdout {
			t.Errorf("%v: the same host gives another report", args)
		}
	}
}

// What fails shows in the exit status, what can't be told is no pass, and what goes
// wrong is no silence.
func TestAuditExit(t *testing.T) {
	rules := written(t, "rules.yaml", ruleDocuments)
	optional := written(t, "optional.yaml", "apiVersion: nictune/v1\nkind: TuningPolicy\nname: optional\nmatch: {driver: e1000e}\n"+
		"settings: {channels: {combined: 2}, features: {rx-gro: on}}\noptional: true\n")
	for name, c := range map[string]struct {
		args []string
		exit int
		want []string // in the text
	}{
		"informational":           {nil, exitOK, []string{"FAILS       5 info"}},
		"from info on":            {[]string{"--fail-on", "info"}, exitDifferences, nil},
		"drift":                   {[]string{"-f", "testdata/igb.yaml"}, exitDifferences, []string{"policy/drifted", "rx: 256, wanted 4096; tx: 256, wanted 2048", "1 of 6 settings as wanted, 5 drifted"}},
		"drift is a warning":      {[]string{"-f", "testdata/igb.yaml", "--fail-on", "critical"}, exitOK, nil},
		"impossible":              {[]string{"-f", "testdata/impossible.yaml"}, exitDifferences, []string{"policy/impossible", "rx: 8192: the device takes 4096 at most", "the driver does not offer it"}},
		"optional, and not there": {[]string{"-f", optional}, exitOK, []string{"policy/skipped", "the driver does not offer it", "1 of 2 settings as wanted, 1 skipped"}},
		"optional, and asked for": {[]string{"-f", optional, "--fail-on", "info"}, exitDifferences, nil},
		"policies that contradict each other": {[]string{"-f", "testdata/impossible.yaml", "-f", "testdata/igb.yaml"}, exitError,
			[]string{"PROBLEM     conflict: two policies"}},
		"a rule of one's own":       {[]string{"-f", rules, "--fail-on", "info"}, exitDifferences, []string{"user/rx-ring", "nic.queues.rings.rx.current is 256"}},
		"what can't be told":        {[]string{"-f", rules, "--fail-on", "critical"}, exitOK, []string{"FAILS       7 info"}},
		"a rule that weighs more":   {[]string{"-f", rules, "-f", checkPolicy(t, "rules: {user/rx-ring: critical}\n"), "--fail-on", "critical"}, exitDifferences, []string{"CRITICAL  user/rx-ring"}},
		"waived":                    {[]string{"-f", checkPolicy(t, "waivers: [{rule: pcie/below-slot, reason: an old card, owner: jane, expires: 2099-12-31}]\n")}, exitOK, []string{"waived      5 fail", "pcie/below-slot on eth1, eth2, eth3, eth4, eth0", "until 2099-12-31, jane: an old card"}},
		"waived until long ago":     {[]string{"-f", checkPolicy(t, "waivers: [{rule: pcie/below-slot, reason: an old card, owner: jane, expires: 2020-12-31}]\n")}, exitDifferences, []string{"policy/waiver-expired", "WAIVER    expired after 2020-12-31: an old card (jane,"}},
		"a waiver of nobody":        {[]string{"-f", checkPolicy(t, "waivers: [{rule: pcie/below-slot, reason: an old card, expires: 2099-12-31}]\n")}, exitError, []string{`the key "owner" is missing`, "^"}},
		"a waiver without an end":   {[]string{"-f", checkPolicy(t, "waivers: [{rule: pcie/below-slot, reason: an old card, owner: jane, expires: soon}]\n")}, exitError, []string{"expires is a day, as 2027-01-31", "^"}},
		"a waiver of no rule":       {[]string{"-f", checkPolicy(t, "waivers: [{rule: user/rx-rings, reason: an old card, owner: jane, expires: 2099-12-31}]\n"), "-f", rules}, exitError, []string{`there is no rule "user/rx-rings"; did you mean "user/rx-ring"?`}},
		"an unknown fact":           {[]string{"-f", written(t, "rules.yaml", strings.Replace(ruleDocuments, "module.vendor", "module.vender", 1))}, exitError, []string{`unknown fact "vender"; did you mean "vendor"?`, "^^^^^^"}},
		"no such file":              {[]string{"-f", "testdata/nothing.yaml"}, exitError, []string{"testdata/nothing.yaml"}},
		"an unknown format":         {[]string{"-o", "yaml"}, exitError, []string{"use one of text, json"}},
		"an unknown severity":       {[]string{"--fail-on", "fatal"}, exitError, []string{"use info, warning or critical"}},
		"new since nothing":         {[]string{"--fail-on-new"}, exitError, []string{"--baseline FILE"}},
		"to watch a recorded host":  {[]string{"--watch", "1s"}, exitError, []string{"a running host"}},
		"a device, which check has": {[]string{"eth0"}, exitError, nil},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, exit := nictune(t, append([]string{"--host", labHost, "audit"}, c.args...)...)
			if exit != c.exit {
				t.Errorf("exit %d, want %d: %s", exit, c.exit, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("it doesn't say %q: %s%s", want, stdout, stderr)
				}
			}
		})
	}
}

// A baseline knows devices by what stays, and says what is new; what is no report of
// this host is refused.
func TestAuditBaseline(t *testing.T) {
	first, _, _ := nictune(t, "--host", labHost, "audit", "-o", "json")
	baseline := written(t, "baseline.json", first)
	r, exit := auditJSON(t, "--host", labHost, "--baseline", baseline, "--fail-on", "info", "--fail-on-new")
	if d := r.Baseline; exit != exitOK || len(d.New)+len(d.Fixed)+len(d.Gone)+len(d.Unclear) > 0 || len(d.Unchanged) != 5 {
		t.Errorf("exit %d, the host differs from itself: %+v", exit, d)
	}
	renamed := strings.NewReplacer(`"eth1"`, `"uplink"`).Replace(first)
	r, exit = auditJSON(t, "--host", labHost, "--baseline", written(t, "renamed.json", renamed), "--fail-on", "info", "--fail-on-new")
	if d := r.Baseline; exit != exitOK || len(d.New)+len(d.Gone) > 0 || len(d.Unchanged) != 5 {
		t.Errorf("exit %d, a device was renamed: %+v", exit, d)
	}
	// Without one of its failures, and with another: the counts stay.
	var earlier audit.HostReport
	if err := json.Unmarshal([]byte(first), &earlier); err != nil {
		t.Fatal(err)
	}
	changed := 0
	for i := range earlier.Findings {
		switch f := &earlier.Findings[i]; {
		case f.Rule == "pcie/below-slot" && f.Subject.Name == "eth1":
			f.Status = findings.Pass
		case f.Rule == "link/half-duplex" && f.Subject.Name == "eth1" && f.Status == findings.Pass:
			f.Status = findings.Fail
		default:
			continue
		}
		changed++
	}
	data, err := json.Marshal(earlier)
	if err != nil || changed != 2 {
		t.Fatalf("%d changed: %v", changed, err)
	}
	other := written(t, "other.json", string(data))
	r, exit = auditJSON(t, "--host", labHost, "--baseline", other, "--fail-on", "info", "--fail-on-new")
	if d := r.Baseline; exit != exitDifferences || len(d.New) != 1 || d.New[0].Rule != "pcie/below-slot" || len(d.Fixed) != 1 || d.Fixed[0].Rule != "link/half-duplex" || len(d.Unchanged) != 4 {
		t.Errorf("exit %d, %+v", exit, d)
	}
	if _, exit = auditJSON(t, "--host", labHost, "--baseline", other, "--fail-on-new"); exit != exitOK {
		t.Errorf("a new failure below the threshold: exit %d", exit)
	}
	stdout, _, _ := nictune(t, "--host", labHost, "audit", "--baseline", other)
	for _, want := range []string{"1 new, 1 fixed, 4 unchanged", "FIXED     link/half-duplex on eth1", "INFO      NEW pcie/below-slot"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the text lacks %q: %s", want, stdout)
		}
	}

	for name, c := range map[string]struct{ text, want string }{
		"half":             {first[:len(first)/2], "cut short"},
		"empty":            {"", "it is empty"},
		"another document": {`{"apiVersion":"nictune/v1","kind":"Findings"}`, "not AuditReport"},
		"another host":     {strings.Replace(first, `"name": "(none)"`, `"name": "web2"`, 1), `the report of another host: "web2"`},
	} {
		_, stderr, exit := nictune(t, "--host", labHost, "audit", "--baseline", written(t, "b.json", c.text))
		if exit != exitError || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %s", name, exit, stderr)
		}
	}
	if _, stderr, exit := nictune(t, "--host", labHost, "audit", "--baseline", "testdata/nothing.json"); exit != exitError || !strings.Contains(stderr, "--baseline") {
		t.Errorf("no file: exit %d, %s", exit, stderr)
	}
}

// A report goes to a file whole, and how it stands is said beside.
func TestAuditFormats(t *testing.T) {
	for _, f := range auditFormats() {
		stdout, stderr, exit := nictune(t, "--host", labHost, "audit", "-o", f.name, "-f", "testdata/igb.yaml")
		if exit != exitDifferences || stdout == "" || stderr != "" {
			t.Errorf("%s: exit %d, %d bytes, %s", f.name, exit, len(stdout), stderr)
		}
		file := filepath.Join(t.TempDir(), "report")
		summary, _, _ := nictune(t, "--host", labHost, "audit", "-o", f.name, "-f", "testdata/igb.yaml", "--out", file)
		data, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(data, []byte(stdout)) {
			t.Errorf("%s: the file has something else: %v", f.name, err)
		}
		if !strings.Contains(summary, "FAILS ") || strings.Contains(summary, "policy/drifted") {
			t.Errorf("%s: the summary is %s", f.name, summary)
		}
	}
	if _, stderr, exit := nictune(t, "--host", labHost, "audit", "--out", filepath.Join(t.TempDir(), "no", "such")); exit != exitError || !strings.Contains(stderr, "no such file") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

// Rules of one's own are checked, listed and judged by nictune check, too.
func TestRulePolicies(t *testing.T) {
	rules := written(t, "rules.yaml", ruleDocuments)
	if stdout, stderr, exit := nictune(t, "policy", "validate", rules, "testdata/igb.yaml"); exit != exitOK || stdout != "2 policies are valid.\n" {
		t.Errorf("exit %d, %s%s", exit, stdout, stderr)
	}
	stdout, _, _ := nictune(t, "policy", "list", rules, "testdata/igb.yaml")
	for _, want := range []string{"igb ", "RULE ", "user/rx-ring   info       house    receive rings are small"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the list lacks %q: %s", want, stdout)
		}
	}
	if stdout, _, exit := nictune(t, "--host", labHost, "check", "-f", rules, "--fail-on", "info"); exit != exitDifferences || !strings.Contains(stdout, "user/rx-ring: receive rings are small") {
		t.Errorf("check: exit %d, %s", exit, stdout)
	}
	if stdout, _, _ := nictune(t, "--host", labHost, "check", "pcie", "-f", rules); strings.Contains(stdout, "user/") {
		t.Errorf("check pcie judges other rules: %s", stdout)
	}
}

// A baseline is of the host when the machine's id is the same, whatever the two are called.
func TestABaselineIsOfTheHost(t *testing.T) {
	report := func(name, machine string) *audit.HostReport {
		return &audit.HostReport{Host: audit.HostSummary{Name: name, MachineID: machine}}
	}
	now := report("web1", "aaaa")
	for _, c := range []struct {
		baseline *audit.HostReport
		want     string
	}{
		{report("web1", "aaaa"), ""},
		{report("renamed", "aaaa"), ""},
		{report("web1", ""), ""}, // an older nictune, or a host without an id
		{report("web2", ""), `of another host: "web2", and this is "web1"`},
		{report("web2", "bbbb"), `of another host: "web2", and this is "web1"`},
		{report("web1", "bbbb"), `another host with the name "web1": of machine bbbb, and this is aaaa`},
	} {
		if err := sameHost(c.baseline, now); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %q: %v, want %q", c.baseline.Host.Name, c.baseline.Host.MachineID, err, c.want)
		}
	}
}
