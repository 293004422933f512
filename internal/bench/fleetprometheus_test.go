package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
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
	log := filepath.Join(dir, "queries.log")
	address := startPrometheus(b, prometheus, data, log)
	// What is lost in 24 hours is recorded; a minute less is asked of the counters.
	for _, variant := range []struct{ name, window string }{{"recorded", "24h"}, {"raw", "23h59m"}} {
		b.Run(variant.name, func(b *testing.B) {
			if err := os.Truncate(log, 0); err != nil {
				b.Fatal(err)
			}
			before := serverCPU(b, address)
			f.measure(b, program, "fleet", "report", "--prometheus", "http://"+address, "--at", at.Format(time.RFC3339), "--window", variant.window, "--timeout", "5m", "-o", "json")
			b.ReportMetric((serverCPU(b, address)-before)/float64(b.N), "server-cpu-s/report")
			f.logQueries(b, log)
		})
	}
}

// serverCPU is the CPU time that the server says it has used, in seconds: unlike the time on the
// wall it hardly depends on what else runs.
func serverCPU(b *testing.B, address string) float64 {
	b.Helper()
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "process_cpu_seconds_total "); ok {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			return seconds
		}
	}
	b.Fatal("the server doesn't say what CPU time it has used")
	return 0
}

// logQueries says what each kind of query took the server, the dearest first, and fails
// where one was about a metric that the fleet doesn't have.
func (f *syntheticFleet) logQueries(b *testing.B, log string) {
	b.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		b.Fatal(err)
	}
	type kind struct {
		query          string
		times, samples int
		took           float64
	}
	kinds := map[string]*kind{}
	instances, metric := regexp.MustCompile(`instance=~"[^"]*"`), regexp.MustCompile(`\b(?:instance_device:)?nictune_[a-z0-9_]+(?::increase1d)?|\bup\b`)
	total := 0.0
	for decoder := json.NewDecoder(bytes.NewReader(data)); ; {
		var entry struct {
			Params struct{ Query string }
			Stats  struct {
				Timings struct{ ExecTotalTime float64 }
				Samples struct{ TotalQueryableSamples int }
			}
		}
		if err := decoder.Decode(&entry); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			b.Fatal(err)
		}
		query := instances.ReplaceAllString(entry.Params.Query, "…")
		k := kinds[query]
		if k == nil {
			k = &kind{query: query}
			kinds[query] = k
		}
		k.times++
		k.samples += entry.Stats.Samples.TotalQueryableSamples
		k.took += entry.Stats.Timings.ExecTotalTime
		total += entry.Stats.Timings.ExecTotalTime
	}
	if len(kinds) == 0 {
		b.Fatal("the server noted no query")
	}
	for _, k := range slices.SortedFunc(maps.Values(kinds), func(a, b *kind) int { return cmp.Compare(b.took, a.took) }) {
		b.Logf("%5.1f%% %7.3f s %4d times %8d samples: %.150s", 100*k.took/total, k.took, k.times, k.samples, k.query)
		for _, name := range metric.FindAllString(k.query, -1) {
			if !f.written[name] {
				b.Errorf("the fleet has no %s, for which is asked", name)
			}
		}
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
	var missing, stale, bad, used, optional, optics int
	for h := range f.hosts {
		switch {
		case f.missing(h):
			missing++
			continue
		case f.stale(h):
			stale++
			continue
		case f.bad(h):
			bad++
		}
		used += syntheticNICs * usedVFs(h)
		if f.optional(h) {
			optional++
		}
		if f.card(h).optical {
			optics += syntheticNICs
		}
	}
	counted := f.hosts - missing - stale
	var settings, others, ready int
	for _, p := range r.Drift.Policies {
		settings += p.AsWanted + p.Drifted
		others += p.Impossible + p.Skipped + p.Undecided
	}
	for _, p := range r.Readiness {
		ready += p.Ready + p.NotReady + p.Unknown
	}
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
		{"VFs that are used", r.VFs.Used, used},
		{"PFs whose use is known", r.VFs.Known, counted * syntheticNICs * syntheticVFs},
		{"passes", r.Counts[findings.Pass], f.verdicts[findings.Pass]},
		{"failures", r.Counts[findings.Fail], f.verdicts[findings.Fail]},
		{"unknown", r.Counts[findings.Unknown], f.verdicts[findings.Unknown]},
		{"settings", settings, 16 * counted},
		{"settings that can't be had, were left out, or are undecided", others, 3 * optional},
		{"answers of readiness", ready, 7 * syntheticNICs * counted},
		{"modules", r.Optics.Ports, optics},
	} {
		if c.got != c.want {
			b.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
}

// startPrometheus serves a directory of blocks on loopback, and scrapes nothing.
// It notes queries in a file.
func startPrometheus(b *testing.B, program, data, log string) (address string) {
	b.Helper()
	nstest.IP(b, "link set lo up")
	dir := b.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "global: {scrape_interval: 1m, query_log_file: %q}\n", log), 0o600); err != nil {
		b.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address = free.Addr().String()
	free.Close()
	var stderr bytes.Buffer
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+data, "--storage.tsdb.retention.time=10y",
		// Blocks as long as these are compacted no further, which would be measured, too.
		"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--web.listen-address="+address, "--log.level=warn")
	cmd.Stderr = &stderr
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
			b.Fatalf("Prometheus ended:\n%s", &stderr)
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
