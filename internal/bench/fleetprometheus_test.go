package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/fleet"
	"github.com/nictune/nictune/lab/nstest"
)

// What a fleet's report may take of 10,000 hosts.
const (
	fleetHosts   = 10000
	fleetSeconds = 15
	fleetMB      = 300
)

// BenchmarkFleetPrometheus measures a full report of a fleet that a real Prometheus
// knows, by the program itself.
func BenchmarkFleetPrometheus(b *testing.B) {
	prometheus, promtool := prometheusTool(b, "prometheus"), prometheusTool(b, "promtool")
	program := build(b)
	hosts := fleetHosts
	if testing.Short() {
		hosts = 500
	}
	// The end of a block, so that all but the day of counters is in one.
	at := time.Now().UTC().Truncate(2 * time.Hour).Add(-time.Minute)
	f := &syntheticFleet{hosts: hosts, at: at}
	dir := b.TempDir()
	data := filepath.Join(dir, "data")
	f.store(b, promtool, data)
	address := startPrometheus(b, prometheus, data)
	// What is lost in 24 hours is recorded; a minute less is asked of the counters.
	for _, variant := range []struct{ name, window string }{{"recorded", "24h"}, {"raw", "23h59m"}} {
		b.Run(variant.name, func(b *testing.B) {
			f.measure(b, program, "fleet", "report", "--prometheus", "http://"+address, "--at", at.Format(time.RFC3339), "--window", variant.window, "--timeout", "5m", "-o", "json")
		})
	}
}

// store has promtool make blocks of the fleet, one at a time: it reads all of a file for
// each block that is in it.
func (f *syntheticFleet) store(b *testing.B, promtool, data string) {
	b.Helper()
	text := filepath.Join(b.TempDir(), "fleet.om")
	for block := range 12 {
		out, err := os.Create(text)
		if err != nil {
			b.Fatal(err)
		}
		if block == 0 {
			err = f.write(out)
		} else {
			err = f.writeEarlier(out, block)
		}
		if err := errors.Join(err, out.Close()); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.CommandContext(b.Context(), promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", text, data).CombinedOutput(); err != nil {
			b.Fatalf("promtool tsdb create-blocks-from openmetrics: %v\n%s", err, out)
		}
		if err := os.Remove(text); err != nil {
			b.Fatal(err)
		}
	}
}

// measure runs a report, and holds what it says against the fleet.
func (f *syntheticFleet) measure(b *testing.B, program string, args ...string) {
	b.Helper()
	hosts := f.hosts
	report := filepath.Join(b.TempDir(), "report.json")
	for b.Loop() {
		file, err := os.Create(report)
		if err != nil {
			b.Fatal(err)
		}
		cmd := exec.CommandContext(b.Context(), program, args...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = file, &said
		start := time.Now()
		// It exits with 2: the fleet has failures.
		if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != 2 {
			b.Fatalf("nictune fleet report: %v\n%s", err, &said)
		}
		took := time.Since(start)
		if err := file.Close(); err != nil {
			b.Fatal(err)
		}
		usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			b.Fatal("the kernel says nothing of the memory used")
		}
		mb := float64(usage.Maxrss) * 1024 / 1e6
		b.ReportMetric(took.Seconds(), "s/report")
		b.ReportMetric(mb, "peak-MB")
		b.ReportMetric((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), "cpu-s/report")
		met := func(is bool) string {
			switch {
			case hosts != fleetHosts:
				return "not the fleet that it is for"
			case is:
				return "MET"
			}
			return "MISSED"
		}
		b.Logf("a report of %d hosts with %d series took %.1f s and %.0f MB at most; the targets for %d hosts: %d s %s, %d MB %s",
			hosts, f.series, took.Seconds(), mb, fleetHosts, fleetSeconds, met(took.Seconds() <= fleetSeconds), fleetMB, met(mb <= fleetMB))
	}
	f.check(b, report)
}

// check fails when the report doesn't say of the fleet what was put in.
func (f *syntheticFleet) check(b *testing.B, file string) {
	b.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var r fleet.Report
	if err := json.Unmarshal(data, &r); err != nil {
		b.Fatal(err)
	}
	missing, stale, bad := 0, 0, 0
	for h := range f.hosts {
		switch {
		case f.missing(h):
			missing++
		case f.stale(h):
			stale++
		case f.bad(h):
			bad++
		}
	}
	counted := f.hosts - missing - stale
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"hosts", r.Scope.Hosts, counted},
		{"missing", r.Scope.Missing.Count, missing},
		{"stale", r.Scope.Stale.Count, stale},
		{"NICs", r.Scope.NICs, counted * syntheticNICs},
		{"VFs", r.Scope.VFs, counted * syntheticNICs * syntheticVFs},
		{"links without a carrier", r.Links.Down, bad},
		{"links below their maximum", r.Links.Below, bad},
		{"degraded PCIe", r.PCIe.Degraded, bad},
		{"flaps", r.Flaps.Flapped, bad},
		{"lost links", int(r.Flaps.Downs), syntheticDowns * bad},
		{"shared groups", r.VFs.SharedGroups, 2 * bad},
		{"hosts that drifted", r.Drift.Drifted, bad},
	} {
		if c.got != c.want {
			b.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
}

// startPrometheus serves a directory of blocks on loopback, and scrapes nothing.
func startPrometheus(b *testing.B, program, data string) (address string) {
	b.Helper()
	nstest.IP(b, "link set lo up")
	dir := b.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 1m}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address = free.Addr().String()
	free.Close()
	var log bytes.Buffer
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=10y",
		// Blocks as long as these are compacted no further, which would be measured, too.
		"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--web.listen-address="+address, "--log.level=warn")
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	client := &http.Client{Timeout: 5 * time.Second}
	for range 600 {
		if response, err := client.Get("http://" + address + "/-/ready"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return address
			}
		}
		select {
		case <-ended:
			b.Fatalf("Prometheus ended:\n%s", &log)
		case <-time.After(200 * time.Millisecond):
		}
	}
	b.Fatal("Prometheus is not ready after two minutes")
	return ""
}

// prometheusTool finds one of Prometheus's programs: installed, or where scripts/setup
// puts them.
func prometheusTool(tb testing.TB, name string) string {
	tb.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := filepath.Abs("../../.cache/prometheus/usr/bin/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("no %s: scripts/setup fetches it", name)
		}
		tb.Skipf("no %s: scripts/setup fetches it", name)
	}
	return path
}
