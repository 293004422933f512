package mixin

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/nictune/nictune/exporters/metrics"
)

const runbooks = "../../docs/runbooks"

// rule is one of alerts.yaml or rules.yaml.
type rule struct {
	Alert       string            `yaml:"alert"`
	Record      string            `yaml:"record"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rulesOf(t *testing.T, file string) []rule {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Groups []struct {
			Name     string `yaml:"name"`
			Interval string `yaml:"interval"`
			Rules    []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions(data, &all, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var rules []rule
	for _, g := range all.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// promtool runs it, and returns what it says.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if path, err = filepath.Abs("../../.cache/prometheus/usr/bin/promtool"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no promtool: scripts/setup fetches it")
		}
		t.Skip("no promtool: scripts/setup fetches it")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	return string(out), err
}

// Every alert fires when it should and not otherwise.
func TestRules(t *testing.T) {
	if out, err := promtool(t, "check", "rules", "alerts.yaml", "rules.yaml"); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
	if out, err := promtool(t, "test", "rules", "tests.yaml", "tests-day.yaml", "tests-recorded.yaml"); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}

// ruleTest is one of the tests*.yaml.
type ruleTest struct {
	Name  string `yaml:"name"`
	Input []struct {
		Series string `yaml:"series"`
	} `yaml:"input_series"`
	Cases []struct {
		Expr string `yaml:"expr"`
		Exp  []any  `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

func ruleTests(t *testing.T, files ...string) []ruleTest {
	t.Helper()
	var all []ruleTest
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var one struct {
			Tests []ruleTest `yaml:"tests"`
		}
		if err := yaml.Unmarshal(data, &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one.Tests...)
	}
	return all
}

// A recording rule whose series no test asks for is not tested.
func TestEveryRecordedSeriesIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, test := range ruleTests(t, "tests-recorded.yaml") {
		for _, c := range test.Cases {
			if strings.Contains(c.Expr, test.Name) && len(c.Exp) > 0 {
				tested[test.Name] = true
			}
		}
	}
	for _, r := range rulesOf(t, "rules.yaml") {
		if !tested[r.Record] {
			t.Errorf("tests-recorded.yaml has no case with samples of %s", r.Record)
		}
	}
}

// An alert without a case that fires, and one that doesn't, is not tested.
func TestEveryAlertIsTested(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, group := range ruleTests(t, "tests.yaml", "tests-day.yaml") {
		hosts := map[string]bool{}
		for _, in := range group.Input {
			if m := regexp.MustCompile(`instance="([^"]*)"`).FindStringSubmatch(in.Series); m != nil {
				hosts[m[1]] = true
			}
		}
		for _, c := range group.Cases {
			if !strings.Contains(c.Expr, `alertname="`+group.Name+`"`) {
				t.Errorf("%s is tested by %s", group.Name, c.Expr)
			}
			fires[group.Name] = fires[group.Name] || len(c.Exp) > 0
			// Not at this time, or not for this host.
			silent[group.Name] = silent[group.Name] || len(c.Exp) < len(hosts)
		}
	}
	for _, r := range rulesOf(t, "alerts.yaml") {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: tests.yaml shows that it fires: %t, and when it doesn't: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// Every alert says how bad it is and what to do, on a page of its own.
func TestEveryAlertHasARunbook(t *testing.T) {
	pages := map[string]bool{"README.md": true}
	index, err := os.ReadFile(filepath.Join(runbooks, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rulesOf(t, "alerts.yaml") {
		page := r.Alert + ".md"
		pages[page] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: no summary, or no description", r.Alert)
		}
		if want := "https://github.com/nictune/nictune/blob/main/docs/runbooks/" + page; r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		text, err := os.ReadFile(filepath.Join(runbooks, page))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, part := range []string{"# " + r.Alert + "\n", "\n## What it means\n", "\n## How to look\n", "\n## What to do\n"} {
			if !bytes.Contains(text, []byte(part)) {
				t.Errorf("%s has no %q", page, strings.TrimSpace(part))
			}
		}
		if !bytes.Contains(index, []byte("("+page+")")) {
			t.Errorf("docs/runbooks/README.md does not link to %s", page)
		}
	}
	files, err := os.ReadDir(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !pages[f.Name()] {
			t.Errorf("docs/runbooks/%s is of no alert", f.Name())
		}
	}
}

// metricName is a metric of nictune, or one that it records.
var metricName = regexp.MustCompile(`\b(?:[a-z_]+:)?nictune_[a-z0-9_]+(?::[a-z0-9]+)?\b`)

// Alerts, recording rules, runbooks and dashboards name no metric that isn't there.
func TestMetricsExist(t *testing.T) {
	there := map[string]bool{}
	for _, m := range metrics.Catalogue() {
		there[m.Name] = true
	}
	recorded := rulesOf(t, "rules.yaml")
	for _, r := range recorded {
		there[r.Record] = true
	}
	check := func(where, text string) {
		for _, name := range metricName.FindAllString(text, -1) {
			if !there[name] {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	for _, r := range append(rulesOf(t, "alerts.yaml"), recorded...) {
		check(r.Alert+r.Record, r.Expr)
	}
	for _, b := range boards() {
		for _, v := range b.variables {
			check(b.uid, v.values)
		}
		for _, r := range b.rows {
			for _, p := range r.panels {
				for _, q := range p.queries {
					check(b.uid+": "+p.title, q.expression)
				}
			}
		}
	}
	pages, err := filepath.Glob(runbooks + "/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d runbooks: %v", len(pages), err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		check(page, string(text))
	}
}

// What Grafana puts into expressions before it sends them.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$__range", "6h", "$cluster", ".*", "$job", ".*", "$instance", "a:1", "$device", ".*")

// The dashboards' expressions are PromQL: promtool reads each as a recording rule.
func TestDashboardsAsk(t *testing.T) {
	var text strings.Builder
	text.WriteString("groups:\n  - name: dashboards\n    rules:\n")
	n := 0
	for _, b := range boards() {
		for _, r := range b.rows {
			for _, p := range r.panels {
				for _, q := range p.queries {
					fmt.Fprintf(&text, "      - {record: 'panel:%d', expr: %q}\n", n, grafana.Replace(q.expression))
					n++
				}
			}
		}
	}
	file := filepath.Join(t.TempDir(), "dashboards.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, "check", "rules", file); err != nil || !strings.Contains(out, fmt.Sprintf("%d rules found", n)) {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}

// What a dashboard counts of a host that can't be scraped, or that can't be judged or
// compared, is nothing: a 0 would look like a host in order.
func TestDashboardsCountNothingOfSilence(t *testing.T) {
	hosts := map[string][]string{ // with what they tell
		"silent": {`up 0`},
		"young":  {`up 1`, `nictune_nic_info{device="eth0"} 1`, `nictune_policy_error 1`},
		"good": {
			`up 1`, `nictune_nic_info{device="eth0"} 1`, `nictune_policy_error 0`, `nictune_audit_timestamp_seconds 100`,
			`nictune_rule_findings{rule="link/down", severity="critical", status="pass"} 3`,
		},
		"bad": {
			`up 1`, `nictune_nic_info{device="eth0"} 1`, `nictune_policy_error 0`, `nictune_audit_timestamp_seconds 100`,
			`nictune_rule_findings{rule="link/down", severity="critical", status="fail"} 2`, `nictune_rule_findings{rule="link/slow", severity="warning", status="error"} 1`,
			`nictune_policy_setting_drifted{origin="given", policy="p", device="eth0", setting="rings"} 1`,
			`nictune_check_waiver_expiry_timestamp_seconds{rule="link/slow", owner="o", policy="w", source="w.yaml:3"} 50`,
		},
	}
	want := map[string]map[string]string{ // what each panel shows of a host alone; nothing else is shown
		"Can be scraped":             {"silent": "0", "young": "1", "good": "1", "bad": "1"},
		"Judged":                     {"good": "100000", "bad": "100000"},
		"Critical findings":          {"good": "0", "bad": "2"},
		"Warnings":                   {"good": "0", "bad": "0"},
		"Could not be judged":        {"good": "0", "bad": "1"},
		"Drifted settings":           {"good": "0", "bad": "1"},
		"Report":                     {"silent": "0", "young": "1", "good": "1", "bad": "1"},
		"Can't be scraped":           {"silent": "1", "young": "0", "good": "0", "bad": "0"},
		"Not judged within an hour":  {"young": "1", "good": "0", "bad": "0"},
		"With critical findings":     {"good": "0", "bad": "1"},
		"Drifted, or not compared":   {"young": "1", "good": "0", "bad": "1"},
		"Waivers ended, or about to": {"good": "0", "bad": "1"},
	}
	var text strings.Builder
	text.WriteString("rule_files: []\ntests:\n")
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		fmt.Fprintf(&text, "  - interval: 1m\n    name: %s\n    input_series:\n", host)
		for _, sample := range hosts[host] {
			at := strings.LastIndex(sample, " ")
			value := sample[at+1:]
			name, labels, _ := strings.Cut(strings.TrimSuffix(sample[:at], "}"), "{")
			fmt.Fprintf(&text, "      - {series: %q, values: '%sx5'}\n", name+`{job="nictune", instance="a:1", `+labels+"}", value)
		}
		text.WriteString("    promql_expr_test:\n")
		for _, b := range boards() {
			for _, r := range b.rows {
				for _, p := range r.panels {
					if p.kind != "stat" {
						continue
					}
					if want[p.title] == nil {
						t.Errorf("%s: it is not said what %q is to show of whom", b.uid, p.title)
					}
					samples := "[]"
					if value, ok := want[p.title][host]; ok {
						samples = "[{labels: '{}', value: " + value + "}]"
					}
					// Whatever labels there are.
					fmt.Fprintf(&text, "      - {expr: %q, eval_time: 3m, exp_samples: %s}\n", "sum("+grafana.Replace(p.queries[0].expression)+")", samples)
				}
			}
		}
	}
	file := filepath.Join(t.TempDir(), "silence.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, "test", "rules", file); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}

// Nothing that an alert says is a template's error: every label that it names is one of
// those that its metrics have, or that Prometheus adds.
func TestAnnotationsNameLabels(t *testing.T) {
	labels := map[string][]string{}
	for _, m := range metrics.Catalogue() {
		labels[m.Name] = m.Labels
	}
	for _, r := range rulesOf(t, "alerts.yaml") {
		known := []string{"instance", "job", "cluster"}
		for _, name := range metricName.FindAllString(r.Expr, -1) {
			known = append(known, labels[name]...)
		}
		for _, m := range regexp.MustCompile(`\$labels\.([a-z_]+)`).FindAllStringSubmatch(r.Annotations["summary"]+r.Annotations["description"], -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s says $labels.%s, which its metrics don't have: %q", r.Alert, m[1], known)
			}
		}
	}
}
