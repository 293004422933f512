package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet/promql"
)

var evening = time.Date(2027, 1, 31, 18, 0, 0, 0, time.UTC)

// asked is a server that answers by what a query is about, and notes every query. It
// evaluates nothing: that is for a real Prometheus, in cmd/nictune. A row that has another
// value than the rest has it as its label ownValue.
const ownValue = "(value)"

type asked struct {
	answer func(query string) (rows []map[string]string, value float64)
	// lately are the series of host_info; warning comes with every answer.
	lately  []map[string]string
	warning string
	refuse  string // queries with this in them fail

	mu      sync.Mutex
	queries []string
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	reply := map[string]any{"status": "success"}
	if a.warning != "" {
		reply["warnings"] = []string{a.warning}
	}
	query := form.Get("query")
	status := http.StatusOK
	switch {
	case strings.HasSuffix(r.URL.Path, "/series"):
		reply["data"] = a.lately
	case a.refuse != "" && strings.Contains(query, a.refuse):
		status = http.StatusUnprocessableEntity
		reply = map[string]any{"status": "error", "errorType": "execution", "error": "too many samples"}
	default:
		a.mu.Lock()
		a.queries = append(a.queries, query)
		a.mu.Unlock()
		rows, value := a.answer(query)
		result := []any{}
		for _, labels := range rows {
			of, own := labels[ownValue]
			if !own {
				of = strconv.FormatFloat(value, 'f', -1, 64)
			}
			delete(labels, ownValue)
			result = append(result, map[string]any{"metric": labels, "value": []any{1, of}})
		}
		reply["data"] = map[string]any{"resultType": "vector", "result": result}
	}
	text, err := json.Marshal(reply)
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(text)))}, err
}

func (a *asked) report(t *testing.T, p Prometheus) (*Report, error) {
	t.Helper()
	into := NewAggregate(Options{Now: evening, MaxAge: 25 * time.Hour, Top: 20})
	defer into.Close()
	p.Server = &promql.Server{URL: &url.URL{Scheme: "http", Host: "prometheus.example"}, HTTP: &http.Client{Transport: a}}
	p.At = evening
	if err := p.Read(t.Context(), into); err != nil {
		return nil, err
	}
	return into.Report()
}

// targets are hosts that report, and were judged a minute ago.
func targets(instances ...string) func(query string) ([]map[string]string, float64) {
	return func(query string) ([]map[string]string, float64) {
		var rows []map[string]string
		for _, i := range instances {
			rows = append(rows, map[string]string{"job": "nictune", "instance": i, "hostname": "host of " + i, "kernel": "6.12"})
		}
		switch {
		case strings.Contains(query, "(up{"):
			return rows, 1
		case strings.HasPrefix(query, "group by (cluster, instance, job, hostname") || strings.HasPrefix(query, "group by (instance, job, hostname"):
			return rows, 1
		case strings.Contains(query, "nictune_audit_timestamp_seconds"):
			return rows, float64(evening.Unix() - 60)
		}
		return nil, 0
	}
}

// No query is longer than servers take, and each host is asked for once, whatever it is
// called.
func TestShards(t *testing.T) {
	var instances []string
	for i := range 2500 {
		instances = append(instances, fmt.Sprintf("rack-%02d.node-%04d.dc1.example.org:9810", i%40, i))
	}
	hostile := "a\"}) or vector(1) # \\ .*|\n[x]:9810"
	instances = append(instances, hostile, "[2001:db8::1]:9810")
	a := &asked{answer: targets(instances...)}
	r, err := a.report(t, Prometheus{Selector: `env="prod"`, Identity: []string{"cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Scope.Hosts != len(instances) {
		t.Errorf("%d hosts, want %d", r.Scope.Hosts, len(instances))
	}
	matcher := regexp.MustCompile(`instance=~("(?:[^"\\]|\\.)*")`)
	covered := map[string]int{}
	shards := 0
	for _, q := range a.queries {
		if len(q) > 16<<10 {
			t.Errorf("a query of %d bytes: %.200s", len(q), q)
		}
		if !strings.Contains(q, `env="prod"`) {
			t.Errorf("a query without the selector: %.200s", q)
		}
		if !strings.Contains(q, "permanent_mac, vendor_id") {
			continue
		}
		shards++
		pattern, err := strconv.Unquote(matcher.FindStringSubmatch(q)[1])
		if err != nil {
			t.Fatalf("%v: %.200s", err, q)
		}
		picks := regexp.MustCompile("^(?:" + pattern + ")$")
		for _, i := range instances {
			if picks.MatchString(i) {
				covered[i]++
			}
		}
	}
	for _, i := range instances {
		if covered[i] != 1 {
			t.Errorf("%q is asked for %d times", i, covered[i])
		}
	}
	if shards < 2500/shardHosts {
		t.Errorf("%d shards", shards)
	}
	// Of every collector whose metrics are asked for it is asked whether something is cut.
	collectorOf := map[string]string{}
	for _, m := range metrics.Catalogue() {
		collectorOf[m.Name] = m.Collector
	}
	var collectors []string
	for _, q := range a.queries {
		for _, name := range regexp.MustCompile(`nictune_[a-z0-9_]+`).FindAllString(q, -1) {
			if c := collectorOf[name]; c != "" && c != "scrape" && !slices.Contains(collectors, c) {
				collectors = append(collectors, c)
			}
		}
	}
	slices.Sort(collectors)
	if want := `collector=~"` + strings.Join(collectors, "|") + `"`; told != want {
		t.Errorf("it is asked what is cut of %s, and the metrics are of %s", told, want)
	}
}

// Those who ask for shards at the same time come to their ends together.
func TestShardsAreEven(t *testing.T) {
	for _, test := range []struct {
		hosts, width int
		want         []int
	}{
		{0, 2, nil},
		{400, 2, []int{400}},
		{401, 2, []int{201, 200}},
		{1000, 0, []int{250, 250, 250, 250}},
		{1000, 1, []int{334, 334, 332}},
		{-390, 2, []int{195, 195}}, // the pattern would be too long
	} {
		r := (&Prometheus{Shards: test.width}).reading(nil)
		domain := ""
		if test.hosts < 0 {
			test.hosts, domain = -test.hosts, ".example.org"
		}
		for i := range test.hosts {
			instance := fmt.Sprintf("web-%d%s", i, domain)
			r.targets[instance] = &target{instance: instance}
		}
		var got []int
		for _, shard := range r.shards() {
			got = append(got, len(shard))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%d hosts for %d: shards of %d, want %d", test.hosts, test.width, got, test.want)
		}
	}
}

// Who doesn't report is named with what is known of them, and never counted.
func TestMissingFromPrometheus(t *testing.T) {
	lately := func(instance, hostname string) map[string]string {
		return map[string]string{"__name__": "nictune_host_info", "job": "nictune", "instance": instance, "hostname": hostname}
	}
	all := targets("a:1", "b:1")
	a := &asked{
		lately: []map[string]string{lately("a:1", "host of a:1"), lately("gone:1", "gone"), lately("down:1", "down")},
		answer: func(query string) ([]map[string]string, float64) {
			switch {
			case strings.Contains(query, "last_over_time"):
				return []map[string]string{{"job": "nictune", "instance": "gone:1"}}, float64(evening.Unix() - 7200)
			case strings.Contains(query, "(up{"):
				return []map[string]string{{"job": "nictune", "instance": "down:1"}, {"job": "nictune", "instance": "never:1"}}, 0
			}
			return all(query)
		},
	}
	r, err := a.report(t, Prometheus{Since: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if r.Scope.Hosts != 2 || r.Scope.Missing.Count != 3 {
		t.Fatalf("%d hosts, %d missing: %+v", r.Scope.Hosts, r.Scope.Missing.Count, r.Scope.Missing)
	}
	said := map[string]string{}
	for _, p := range r.Problems.List {
		if p.Kind == Incomplete {
			said[p.Host] = p.Detail
		}
	}
	for i, want := range []struct{ name, why string }{
		{"down", "it can't be scraped: up is 0"},
		{"gone", "it reported within the last 86400s, and nothing scrapes it now"},
		{"never:1", "it can't be scraped: up is 0"},
	} {
		if got := r.Scope.Missing.Hosts[i].Name; got != want.name || !strings.Contains(said[want.name], want.why) {
			t.Errorf("missing: %s, want %s: %q", got, want.name, said[want.name])
		}
	}
	if at := r.Scope.Missing.Hosts[1].CollectedAt; at == nil || !at.Equal(evening.Add(-2*time.Hour)) {
		t.Errorf("gone was judged at %v", at)
	}
	if !r.Failed(findings.Critical) {
		t.Error("a fleet with hosts missing is clean")
	}
}

// Hosts that a server can't tell apart are both named, and neither is counted; one in
// whose place another reports is missing, unless it reports elsewhere.
func TestHostsThatShareAnInstance(t *testing.T) {
	info := func(instance, hostname string) map[string]string {
		return map[string]string{"__name__": "nictune_host_info", "job": "nictune", "instance": instance, "hostname": hostname, "kernel": "6.12"}
	}
	a := &asked{lately: []map[string]string{
		info("vip:1", "left"), info("vip:1", "right"), info("a:1", "host of a:1"), info("b:1", "replaced"), info("c:1", "host of a:1"), info("d:1", ""),
	}}
	all := targets("a:1", "b:1", "c:1")
	a.answer = func(query string) ([]map[string]string, float64) {
		rows, value := all(query)
		if strings.Contains(query, "job, hostname") {
			rows = append(rows, info("vip:1", "left"), info("vip:1", "right"), info("d:1", ""), info("d:1", ""))
		}
		if strings.Contains(query, "nictune_audit_timestamp_seconds") {
			rows = append(rows, info("d:1", "")) // it doesn't know its name
		}
		return rows, value
	}
	r, err := a.report(t, Prometheus{Since: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(r.Scope.Missing), []string{"left", "replaced", "right"}; !slices.Equal(got, want) || r.Scope.Hosts != 4 {
		t.Errorf("%d hosts, missing %q, want %q", r.Scope.Hosts, got, want)
	}
	said := map[string]string{}
	for _, p := range r.Problems.List {
		said[p.Host] += p.Detail
	}
	for host, want := range map[string]string{
		"left": "hosts left, right have the same instance, job", "right": "--identity", "replaced": "host of b:1 is in its place now",
	} {
		if !strings.Contains(said[host], want) {
			t.Errorf("%s: %q, want %q", host, said[host], want)
		}
	}
	if !r.Failed(findings.Critical) {
		t.Error("hosts that can't be told apart pass")
	}
}

// A host whose agent cut what it exports is not taken for one where nothing fails.
func TestCutSeries(t *testing.T) {
	all := targets("a:1", "b:1")
	a := &asked{answer: func(query string) ([]map[string]string, float64) {
		if strings.Contains(query, "nictune_scrape_series_cut") && strings.HasSuffix(query, " > 0)") {
			return []map[string]string{{"job": "nictune", "instance": "b:1", "collector": "findings"}}, 120
		}
		return all(query)
	}}
	r, err := a.report(t, Prometheus{})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Problems.Counts[Incomplete]; n != 1 || !r.Failed(findings.Critical) || r.Scope.Hosts != 2 {
		t.Fatalf("%d hosts, problems %+v", r.Scope.Hosts, r.Problems)
	}
	if p := r.Problems.List[0]; p.Host != "host of b:1" || !strings.Contains(p.Detail, "left out 120 series of the collector findings") || !strings.Contains(p.Detail, "rules may fail") {
		t.Errorf("%+v", p)
	}
}

// Of a host that was added nothing is kept: there may be any number.
func TestReadHostsAreLetGo(t *testing.T) {
	a := &asked{answer: targets("a:1", "b:1")}
	into := NewAggregate(Options{Now: evening})
	defer into.Close()
	p := &Prometheus{Server: &promql.Server{URL: &url.URL{Scheme: "http", Host: "prometheus.example"}, HTTP: &http.Client{Transport: a}}, At: evening}
	r := p.reading(into)
	if err := r.findAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.settleTargets(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.readShard(t.Context(), []string{"a:1", "b:1"}); err != nil {
		t.Fatal(err)
	}
	for key, host := range r.targets {
		if !reflect.DeepEqual(host.Host, Host{}) {
			t.Errorf("%q is kept: %+v", key, host.Host)
		}
	}
	if into.read != 2 {
		t.Errorf("%d hosts were added", into.read)
	}
}

// What the server says of its answers is in the report, once; what it refuses ends it.
func TestServersWords(t *testing.T) {
	a := &asked{answer: targets("a:1", "b:1"), warning: "store 3 did not answer"}
	r, err := a.report(t, Prometheus{})
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Problems.Counts[Incomplete]; n != 1 || !strings.Contains(r.Problems.List[0].Detail, "store 3 did not answer") {
		t.Errorf("%d problems: %+v", n, r.Problems.List)
	}
	if r.Scope.Hosts != 2 || !r.Failed(findings.Critical) {
		t.Errorf("a report from a partial answer is clean: %+v", r.Scope)
	}
	a = &asked{answer: targets("a:1", "b:1"), refuse: "nictune_rule_findings{"}
	if _, err := a.report(t, Prometheus{}); err == nil || !strings.Contains(err.Error(), "asking for what fails of 2 hosts from a:1 to b:1") || !strings.Contains(err.Error(), "too many samples") {
		t.Errorf("error %v", err)
	}
	a = &asked{answer: targets(), warning: "no store answers"}
	if _, err := a.report(t, Prometheus{}); err == nil || !strings.Contains(err.Error(), "no metrics of nictune") || !strings.Contains(err.Error(), "the server says: no store answers") {
		t.Errorf("error %v", err)
	}
	a = &asked{answer: targets()}
	if _, err := a.report(t, Prometheus{Selector: `env="x"`}); err == nil || !strings.Contains(err.Error(), `no metrics of nictune with env="x"`) || !strings.Contains(err.Error(), "is the tenant the right one") {
		t.Errorf("error %v", err)
	}
}

// Of hosts that are alike one is asked and counts for all; of the others the server has a
// sum. None is counted twice or left out, also where two have an instance in common, and
// whoever fails is asked by itself.
func TestHostsThatAreAlike(t *testing.T) {
	const alike, own, none, failing, both = 800, 5, 4, 3, 2
	type host struct {
		instance, cluster string
		print             float64
	}
	var hosts []host
	add := func(n int, name, cluster string, fingerprint func(i int) float64) {
		for i := range n {
			hosts = append(hosts, host{fmt.Sprintf("%s%03d:1", name, i), cluster, fingerprint(i)})
		}
	}
	add(alike, "alike", "c1", func(i int) float64 { return float64(1<<40 + i%2) }) // two kinds
	add(own, "own", "c1", func(i int) float64 { return float64(1<<41 + i) })
	add(none, "none", "c1", func(int) float64 { return 0 })
	add(failing, "failing", "c1", func(int) float64 { return 1 << 40 })
	add(both, "both", "c1", func(int) float64 { return 1 << 40 })
	add(alike/2, "elsewhere", "c3", func(int) float64 { return 1 << 40 }) // a third kind
	add(both, "both", "c2", func(i int) float64 { return float64(1<<42 + i) })

	var mu sync.Mutex
	single := map[string]int{} // how often each was asked for verdicts by itself
	matcher := regexp.MustCompile(`instance=~("(?:[^"\\]|\\.)*")`)
	a := &asked{answer: func(query string) (rows []map[string]string, value float64) {
		var picks *regexp.Regexp
		if m := matcher.FindStringSubmatch(query); m != nil {
			pattern, err := strconv.Unquote(m[1])
			if err != nil {
				t.Error(err)
			}
			picks = regexp.MustCompile("^(?:" + pattern + ")$")
		}
		all := func(with ...string) (rows []map[string]string) {
			for _, h := range hosts {
				if picks == nil || picks.MatchString(h.instance) {
					row := map[string]string{"job": "nictune", "instance": h.instance, "cluster": h.cluster}
					for i := 0; i < len(with); i += 2 {
						row[with[i]] = with[i+1]
					}
					rows = append(rows, row)
				}
			}
			return rows
		}
		fails := func(row map[string]string) bool { return strings.HasPrefix(row["instance"], "failing") }
		verdict := []string{"rule", "link/down", "severity", "critical", "status", "pass"}
		switch {
		case strings.Contains(query, "_fingerprint"):
			rows = all()
			for i, h := range hosts {
				rows[i][ownValue] = fmt.Sprint(h.print)
			}
			return slices.DeleteFunc(rows, func(row map[string]string) bool { return row[ownValue] == "0" }), 0
		case strings.Contains(query, "(up{"):
			return all(), 1
		case strings.Contains(query, "nictune_audit_timestamp_seconds"):
			return all(), float64(evening.Unix() - 60)
		case strings.HasPrefix(query, "group by (cluster, instance, job, hostname"):
			rows := all()
			for _, row := range rows {
				row["hostname"] = row["cluster"] + " " + row["instance"]
			}
			return rows, 1
		case strings.Contains(query, "permanent_mac, vendor_id"):
			return all("device", "eth0", "kind", "plain"), 1
		case strings.Contains(query, "nictune_rule_findings{") && strings.Contains(query, `status=~"fail|error|waived"`):
			rows := slices.DeleteFunc(all("rule", "link/down", "severity", "critical", "status", "fail"), func(row map[string]string) bool { return !fails(row) })
			return rows, 1
		case strings.HasPrefix(query, "count_values") && strings.Contains(query, "nictune_rule_findings{"):
			return []map[string]string{{"n": "4", "rule": "link/down", "severity": "critical", "status": "pass"}}, float64(len(all()))
		case strings.HasPrefix(query, "count_values") && strings.Contains(query, "nictune_xdp_ready{"):
			return []map[string]string{{"n": "1000001", "profile": "l4lb"}}, float64(len(all()))
		case strings.Contains(query, "nictune_rule_findings{"):
			rows := all(verdict...)
			mu.Lock()
			defer mu.Unlock()
			for _, row := range rows {
				single[row["cluster"]+row["instance"]]++
			}
			return rows, 4
		case strings.HasPrefix(query, "min by") && strings.Contains(query, "nictune_xdp_ready{"):
			return all("device", "eth0", "profile", "l4lb"), 1
		case strings.Contains(query, "nictune_xdp_ready{"):
			return all("profile", "l4lb"), 1000001
		}
		return nil, 0
	}}
	r, err := a.report(t, Prometheus{Identity: []string{"cluster"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Scope.Hosts != len(hosts) || r.Counts[findings.Pass] != 4*len(hosts) || r.Counts[findings.Fail] != failing {
		t.Errorf("%d of %d hosts, %v", r.Scope.Hosts, len(hosts), r.Counts)
	}
	if len(r.Rules) != 1 || r.Rules[0].JudgedHosts != len(hosts) {
		t.Errorf("rules %+v", r.Rules)
	}
	if len(r.Readiness) != 1 || r.Readiness[0].Ready != len(hosts) || r.Readiness[0].Hosts != len(hosts) || r.Readiness[0].ReadyHosts != len(hosts) || r.Readiness[0].Unknown != 0 {
		t.Errorf("readiness %+v", r.Readiness)
	}
	// Two shards at a time may both meet a kind first.
	if n := len(single) - failing; n < 3 || n > 6 {
		t.Errorf("%d hosts that are well were asked by themselves, of three kinds: %v", n, single)
	}
}

// A host of which nobody says when it was judged is no host that is well.
func TestNotJudged(t *testing.T) {
	all := targets("a:1")
	a := &asked{answer: func(query string) ([]map[string]string, float64) {
		if strings.HasPrefix(query, "min by") && strings.Contains(query, "nictune_audit_timestamp_seconds") {
			return nil, 0
		}
		if strings.Contains(query, "timestamp(nictune_host_info") {
			return []map[string]string{{"job": "nictune", "instance": "a:1"}}, float64(evening.Unix())
		}
		return all(query)
	}}
	r, err := a.report(t, Prometheus{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Problems.Counts[Incomplete] != 1 || !strings.Contains(r.Problems.List[0].Detail, "was not judged") || !r.Failed(findings.Critical) {
		t.Errorf("problems %+v", r.Problems.List)
	}
}

// A day of samples is asked for only of hosts with a port of which nothing is recorded.
func TestRecordedDowns(t *testing.T) {
	all := targets("whole:1", "part:1")
	a := &asked{answer: func(query string) ([]map[string]string, float64) {
		var rows []map[string]string
		switch {
		case strings.Contains(query, "permanent_mac, vendor_id"):
			for _, i := range []string{"whole:1", "part:1"} {
				for _, device := range []string{"eth0", "eth1"} {
					rows = append(rows, map[string]string{"job": "nictune", "instance": i, "device": device, "kind": "plain"})
				}
			}
			return rows, 1
		case strings.Contains(query, recordedDowns):
			for _, device := range []string{"eth0", "eth1"} {
				rows = append(rows, map[string]string{"job": "nictune", "instance": "whole:1", "device": device})
			}
			return append(rows, map[string]string{"job": "nictune", "instance": "part:1", "device": "eth0"}), 2
		case strings.Contains(query, "increase("):
			return []map[string]string{{"job": "nictune", "instance": "part:1", "device": "eth1"}}, 1
		}
		return all(query)
	}}
	r, err := a.report(t, Prometheus{Window: recordedWindow})
	if err != nil {
		t.Fatal(err)
	}
	if r.Flaps.Counted != 4 || r.Flaps.Downs != 7 {
		t.Errorf("%+v", r.Flaps)
	}
	for _, q := range a.queries {
		if strings.Contains(q, "increase(") && (strings.Contains(q, "whole") || !strings.Contains(q, "part")) {
			t.Errorf("a day of samples is asked for by %s", q)
		}
	}
}

// The lane nearest to a threshold stands for a quantity, with the margins of the host's
// own audit.
func TestModuleFromPrometheus(t *testing.T) {
	m := &module{near: true, vendor: "V", values: map[measure]float64{}, thresholds: map[measure]float64{}}
	for which, w := range map[string]float64{"low-alarm": 1e-5, "low-warning": 1e-4, "high-warning": 1e-3, "high-alarm": 1e-2} {
		m.thresholds[measure{"rx-power", which}] = w
	}
	m.values[measure{"rx-power", "1"}] = 5e-4
	m.values[measure{"rx-power", "2"}] = 1e-4 * 1.2589254 // 1 dB above
	all := m.optics()
	if len(all) != 1 || all[0].Lane != 2 || *all[0].Margin != 1 || *all[0].Room != 0.1 || *all[0].Value != -9 || all[0].Verdict != "ok" || all[0].Vendor != "V" {
		t.Errorf("%+v", all)
	}
	m.values[measure{"rx-power", "3"}] = 0
	if all = m.optics(); len(all) != 1 || all[0].Lane != 3 || all[0].Value != nil || all[0].Margin != nil || all[0].Verdict != "low-alarm" {
		t.Errorf("no light: %+v", all)
	}
	m.values[measure{"rx-power", "3"}] = 2e-3
	if all = m.optics(); all[0].Lane != 3 || all[0].Verdict != "high-warning" || *all[0].Margin != -3.01 {
		t.Errorf("too much light: %+v", all)
	}
}
