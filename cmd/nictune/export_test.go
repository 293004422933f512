package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
)

// What export writes a real node_exporter serves as it is, and Prometheus's linter
// has nothing to say about it.
func TestExportForNodeExporter(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "export0", "type veth peer name export1")
	loopback(t)
	promtool, exporter := tool(t, "promtool"), tool(t, "prometheus-node-exporter")
	dir := t.TempDir()
	file := filepath.Join(dir, "nictune.prom")
	var log bytes.Buffer
	if exit := run(t.Context(), []string{"export", "--textfile", file, "--state-dir", t.TempDir()}, io.Discard, &log); exit != exitOK || log.Len() > 0 {
		t.Fatalf("exit %d: %s", exit, &log)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = bytes.NewReader(written)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	var said lockedBuffer
	cmd := exec.Command(exporter, "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+dir, "--web.listen-address="+address)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if !comes(func() bool { return listens(address) }) {
		t.Fatalf("node_exporter does not listen after %v; it logged:\n%s", patience, &said)
	}
	_, page := get(t, "http://"+address+"/metrics")
	served := scraped(t, page)
	if e := served["node_textfile_scrape_error"].GetMetric(); len(e) != 1 || e[0].GetGauge().GetValue() != 0 {
		t.Errorf("node_exporter could not read the file: %v; it logged:\n%s", e, &said)
	}
	for name, f := range scraped(t, string(written)) {
		if got := served[name]; len(got.GetMetric()) != len(f.GetMetric()) || got.GetType() != f.GetType() || got.GetHelp() != f.GetHelp() {
			t.Errorf("%s: node_exporter serves %d samples, want %d", name, len(got.GetMetric()), len(f.GetMetric()))
		}
	}
	if nicInfo(t, page)["export0"] == nil {
		t.Error("export0 is missing")
	}
}

// An export that fails says so, and leaves what is there.
func TestExportThatFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nictune.prom")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(broken, []byte("kind: Nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"no such file":                         {"--host", "/nonexistent.txt"},
		"it has no directory sys":              {"--root", t.TempDir()},
		"Nonsense":                             {"--host", labHost, "-f", broken},
		"context deadline exceeded":            {"--host", labHost, "--timeout", "1ns"},
		"missing/nictune.prom stays as it was": {"--host", labHost, "--textfile", filepath.Join(t.TempDir(), "missing", "nictune.prom")},
	} {
		var log bytes.Buffer
		exit := run(t.Context(), append([]string{"export", "--textfile", file}, args...), io.Discard, &log)
		if exit != exitError || !strings.Contains(log.String(), want) {
			t.Errorf("%v: exit %d, want %q in\n%s", args, exit, want, &log)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "old" {
			t.Errorf("%v: the file has %.40q, %v", args, b, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

func TestExportToStandardOutput(t *testing.T) {
	var out, log bytes.Buffer
	if exit := run(t.Context(), []string{"export", "--host", labHost, "--collector.disable-defaults", "--collector.link"}, &out, &log); exit != exitOK {
		t.Fatalf("exit %d: %s", exit, &log)
	}
	page := scraped(t, out.String())
	if page["nictune_network_mtu_bytes"] == nil || page["nictune_nic_info"] != nil || page["nictune_build_info"] == nil || page["go_goroutines"] != nil {
		t.Errorf("%s", &out)
	}
}
