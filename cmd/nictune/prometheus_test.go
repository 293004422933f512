package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
)

// tool finds one of Prometheus's programs: installed, or where scripts/setup
// puts them.
func tool(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := filepath.Abs("../../.cache/prometheus/usr/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no %s: scripts/setup fetches it", name)
		}
		t.Skipf("no %s: scripts/setup fetches it", name)
	}
	return path
}

// Prometheus's own linter has nothing to say about a scrape.
func TestPromtoolFindsNothing(t *testing.T) {
	promtool := tool(t, "promtool")
	s := startInProcess(t, "--host", labHost)
	base := "http://" + s.address(t)
	ready(t, base)
	_, page := get(t, base+"/metrics")
	s.end(t)
	check := func(page string) (string, error) {
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(page)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := check(page); err != nil || out != "" {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	if out, err := check(page + "nictune_bad_total 1\n"); err == nil {
		t.Errorf("promtool takes a metric without a type: %s", out)
	}
}

// A real Prometheus scrapes the agent and answers queries about it, those of
// docs/metrics.md among them.
func TestPrometheusScrapesTheAgent(t *testing.T) {
	nstest.Require(t)
	prometheus := tool(t, "prometheus")
	nstest.Link(t, "prom0", "type veth peer name prom1")
	s := startInProcess(t)
	target := s.address(t)
	ready(t, "http://"+target)

	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `global: {scrape_interval: 1s}
scrape_configs:
  - job_name: nictune
    static_configs: [{targets: ["%s"]}]
`, target), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	var log lockedBuffer
	cmd := exec.Command(prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()

	var found []map[string]string
	if !comes(func() bool {
		found, _ = query(address, `nictune_nic_info{device="prom0"}`)
		return len(found) > 0
	}) {
		t.Fatalf("Prometheus knows no prom0 after %v; it logged:\n%s", patience, &log)
	}
	if got := found[0]; got["driver"] != "veth" || got["instance"] != target || got["job"] != "nictune" || got["mac"] == "" {
		t.Errorf("nictune_nic_info: %v", got)
	}
	expressions := documented(t)
	if len(expressions) < 5 {
		t.Errorf("docs/metrics.md has %d expressions, want at least 5", len(expressions))
	}
	for _, e := range expressions {
		found, err := query(address, e)
		if err != nil {
			t.Errorf("%s: %v", e, err)
		}
		// Others are of hardware that not every host has.
		if strings.Contains(e, "nictune_nic_info") && strings.Contains(e, "group_left") && (len(found) == 0 || found[0]["driver"] == "") {
			t.Errorf("%s: %v, want a driver", e, found)
		}
	}
	s.end(t)
}

// query asks Prometheus for what an expression gives now, as labels.
func query(address, expression string) ([]map[string]string, error) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	var found []map[string]string
	for _, r := range answer.Data.Result {
		found = append(found, r.Metric)
	}
	return found, nil
}

// documented are the expressions in docs/metrics.md.
func documented(t *testing.T) (expressions []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	code := false
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```":
			code = !code
		case code && !strings.HasPrefix(line, "#"):
			expressions = append(expressions, line)
		}
	}
	return expressions
}
