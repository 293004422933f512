package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	_ "embed" // the flags for the same facts
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/sriov"
)

// What an exporter may cost, beside node_exporter in its two modes and the bare
// system calls.
const (
	defaultMode = 25
	netlinkMode = 10
	overCalls   = 3.0
	memoryShare = 2
)

// BenchmarkExporters has nictune's agent and node_exporter scraped side by side, as
// Prometheus does it, with the same facts enabled, on hosts of several sizes. All
// devices send something between two scrapes: none finds what it served before.
func BenchmarkExporters(b *testing.B) {
	nictune, node := build(b), buildNodeExporter(b)
	nstest.IP(b, "link set lo up")
	defer func() { remove(b, listed(b)) }()
	growth := map[string][]cost{}
	for _, count := range []int{100, 900, 4000} {
		names := devices(b, count, veths)
		traffic := newTraffic(b)
		results := map[string]scraping{}
		for _, one := range exporters(nictune, node) {
			b.Run(fmt.Sprintf("%d/%s", count, one.name), func(b *testing.B) {
				r := scrape(b, one, len(names), traffic)
				results[one.name] = r
				growth[one.name] = append(growth[one.name], cost{count, r.cpu})
				r.report(b)
			})
		}
		for _, one := range barely() {
			b.Run(fmt.Sprintf("%d/%s", count, one.name), func(b *testing.B) {
				bare := benchmarkCalls(b, one, len(names), results[one.of].length, traffic)
				reportCPU(b, bare)
				growth[one.name] = append(growth[one.name], cost{count, bare})
				results[one.of].judge(b, one.of, results["node_exporter-default"], results["node_exporter-netlink"], bare)
				judgeGrowth(b, one.name, growth)
				judgeGrowth(b, one.of, growth)
			})
		}
	}
}

// exporter is a program that is scraped, and the metric that says how many devices it
// serves. The figures are about NICs, so that none tells of itself.
type exporter struct {
	name, program string
	args          []string
	metric        string
	// last is what is served when the program has done all that it does at the start;
	// empty where there is no such thing.
	last string
}

// exporters are those that are compared: node_exporter with what it has about NICs, and
// nictune with the same facts, by default, and with more than either.
func exporters(nictune, node string) []exporter {
	const lean, counter, judged = "--web.disable-exporter-metrics", "_network_receive_packets_total", "nictune_audit_timestamp_seconds"
	facts := []string{
		lean, "--collector.disable-defaults", "--collector.netclass", "--collector.netdev", "--collector.ethtool",
		"--collector.softnet", "--collector.pcidevice", "--collector.interrupts", "--log.level=error",
	}
	return []exporter{
		{"node_exporter-default", node, facts, "node" + counter, ""},
		{"node_exporter-netlink", node, append([]string{"--collector.netclass.netlink", "--collector.netdev.netlink"}, facts...), "node" + counter, ""},
		{"nictune", nictune, append([]string{"agent", lean}, strings.Fields(sameFacts)...), "nictune" + counter, `nictune_scrape_collector_success{collector="sriov"} 1`},
		{"nictune-default", nictune, []string{"agent", lean}, "nictune" + counter, judged},
		{"nictune-more", nictune, []string{"agent", lean, "--collector.driver.virtual", "--collector.netclass", "--collector.link_modes", "--collector.interrupt_cpu"}, "nictune" + counter, judged},
	}
}

// sameFacts are the flags with which an agent exports what node_exporter does. A test in
// cmd/nictune holds what they export against node_exporter's, family by family.
//
//go:embed nictune.flags
var sameFacts string

// bare is the calls alone of one of the programs: what it asks the kernel for a scrape.
type bare struct {
	name, of string
	asked    metrics.Asked
	virtual  bool // drivers' counters of software devices, too
}

func barely() []bare {
	same, byDefault := metrics.Asked{}, metrics.Asked{}
	for _, c := range metrics.Collectors() {
		byDefault[c.Name] = c.Default
	}
	for _, flag := range strings.Fields(sameFacts) {
		if name, ok := strings.CutPrefix(flag, "--collector."); ok {
			same[name] = true
		}
	}
	return []bare{{"calls", "nictune", same, true}, {"calls-default", "nictune-default", byDefault, false}, {"calls-more", "nictune-more", nil, true}}
}

// cost is what a scrape costs of some devices.
type cost struct {
	devices int
	cpu     time.Duration
}

// linear is by how much the next device may cost more where there are many. What is
// above it isn't linear, whatever the machine's caches and its other work add.
const linear = 1.25

// judgeGrowth says what each further device costs one of them, between two sizes of host, and
// whether that stays the same. Of the calls alone it is said, too: what they cost more of many
// devices is the kernel's.
func judgeGrowth(b *testing.B, name string, all map[string][]cost) {
	b.Helper()
	sizes := all[name]
	if len(sizes) < 3 {
		return // until all were measured; and -bench may have left some out
	}
	further := func(from, to cost) float64 { return float64(to.cpu-from.cpu) / 1e3 / float64(to.devices-from.devices) }
	few, many := further(sizes[0], sizes[1]), further(sizes[1], sizes[2])
	verdict := "MISSED"
	if many <= few*linear {
		verdict = "met"
	}
	b.Logf("%s: a further device costs %.1f us from %d to %d of them, %.1f us from there to %d; the target is linear growth, at most %.2f times as much: %s",
		name, few, sizes[0].devices, sizes[1].devices, many, sizes[2].devices, linear, verdict)
}

// BenchmarkChurn scrapes while devices come and go beside those that stay: of these no
// sample may be missing.
func BenchmarkChurn(b *testing.B) {
	nictune, node := build(b), buildNodeExporter(b)
	nstest.IP(b, "link set lo up")
	defer func() { remove(b, listed(b)) }()
	const count = 200
	stay := devices(b, count, veths)
	for _, one := range exporters(nictune, node) {
		b.Run(one.name, func(b *testing.B) {
			s := startExporter(b, one, nil) // node_exporter says of each device that it went
			s.awaits(b, count)
			ctx, cancel := context.WithCancel(b.Context())
			churned := make(chan int)
			go func() { churned <- churn(ctx) }()
			const most = 10 * time.Second
			scrapes, lost := 0, 0
			for start := time.Now(); time.Since(start) < most; scrapes++ {
				code, err := s.ask(b)
				if err != nil || code != http.StatusOK {
					b.Fatal(code, err)
				}
				there := servedDevices(b, s.page.Bytes(), one.metric)
				for _, name := range stay {
					if !there[name] {
						lost++
					}
				}
			}
			cancel()
			b.ReportMetric(float64(<-churned), "devices-came-and-went")
			b.ReportMetric(float64(scrapes), "scrapes")
			b.ReportMetric(float64(lost), "samples-lost")
			b.ReportMetric(0, "ns/op")
			if lost > 0 && one.program == nictune {
				b.Errorf("%d samples of devices that stayed are missing", lost)
			}
		})
	}
}

// churn makes pairs of devices and takes them away, until ctx ends, and returns how many
// came and went.
func churn(ctx context.Context) (devices int) {
	for ctx.Err() == nil {
		add := exec.Command("ip", "link", "add", "come0", "up", "type", "veth", "peer", "name", "come1")
		if add.Run() == nil && exec.Command("ip", "link", "del", "come0").Run() == nil {
			devices += 2
		}
	}
	return devices
}

// servedDevices are those of which a page has a sample of a metric.
func servedDevices(b *testing.B, page []byte, metric string) map[string]bool {
	b.Helper()
	z, err := gzip.NewReader(bytes.NewReader(page))
	if err != nil {
		b.Fatal(err)
	}
	there := map[string]bool{}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), metric+`{device="`); ok {
			name, _, _ := strings.Cut(rest, `"`)
			there[name] = true
		}
	}
	if err := lines.Err(); err != nil {
		b.Fatal(err)
	}
	return there
}

// scraping is what scrapes of a program cost.
type scraping struct {
	cpu, wall        time.Duration // for one
	peak             int64         // bytes of memory
	series           int
	length, unpacked int
}

func (s scraping) report(b *testing.B) {
	b.ReportMetric(float64(s.cpu)/1e6, "cpu-ms/scrape")
	b.ReportMetric(float64(s.wall)/1e6, "ms/scrape")
	b.ReportMetric(float64(s.peak)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(s.series), "series")
	b.ReportMetric(float64(s.length), "gzip-B")
	b.ReportMetric(float64(s.unpacked), "text-B")
	b.ReportMetric(0, "ns/op")
}

// judge says whether the targets are met.
func (s scraping) judge(b *testing.B, name string, byDefault, byNetlink scraping, bare time.Duration) {
	if s.cpu == 0 {
		return // -bench left it out
	}
	say := func(what string, value, limit float64, met bool) {
		verdict := "MISSED"
		if met {
			verdict = "met"
		}
		b.Logf("%s: %s: %.1f, the target is %.0f: %s", name, what, value, limit, verdict)
	}
	of := float64(s.cpu)
	if c := float64(byDefault.cpu); c > 0 {
		say("times less CPU than node_exporter", c/of, defaultMode, c/of >= defaultMode)
		m := float64(byDefault.peak) / float64(s.peak)
		say("times less peak memory than node_exporter", m, memoryShare, m >= memoryShare)
	}
	if c := float64(byNetlink.cpu); c > 0 {
		say("times less CPU than node_exporter by netlink", c/of, netlinkMode, c/of >= netlinkMode)
		m := float64(byNetlink.peak) / float64(s.peak)
		say("times less peak memory than node_exporter by netlink", m, memoryShare, m >= memoryShare)
	}
	times := of / float64(bare)
	if name == "nictune" { // the target is for the same facts
		say("times the CPU of the bare system calls", times, overCalls, times <= overCalls)
	} else {
		b.Logf("%s: times the CPU of its own bare system calls: %.1f", name, times)
	}
}

// buildNodeExporter builds the node_exporter that is pinned beside here.
func buildNodeExporter(b *testing.B) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), "node_exporter")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-C", "nodeexporter", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/prometheus/node_exporter")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// scraped is a program that runs and is scraped.
type scraped struct {
	exporter
	address string
	pid     int
	client  *http.Client
	page    bytes.Buffer // the last, compressed
}

// startExporter starts a program, which ends with the benchmark.
func startExporter(b *testing.B, one exporter, complaints io.Writer) *scraped {
	b.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &scraped{exporter: one, address: free.Addr().String()}
	free.Close()
	cmd := exec.Command(one.program, append(slices.Clone(one.args), "--web.listen-address="+s.address)...)
	cmd.Stderr = complaints
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	s.client = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableCompression: true}}
	b.Cleanup(func() {
		s.client.CloseIdleConnections()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return s
}

// ask scrapes as Prometheus does.
func (s *scraped) ask(b *testing.B) (int, error) {
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+s.address+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1")
	request.Header.Set("Accept-Encoding", "gzip")
	response, err := s.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	s.page.Reset()
	if _, err := s.page.ReadFrom(response.Body); err != nil {
		return 0, err
	}
	return response.StatusCode, nil
}

// awaits waits until a program serves all devices, and has done what it does first.
func (s *scraped) awaits(b *testing.B, count int) {
	b.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 3*time.Minute {
			b.Fatalf("%s does not serve %d devices after three minutes", s.name, count)
		}
		if code, err := s.ask(b); err != nil || code != http.StatusOK {
			continue
		}
		_, devices, _ := read(b, s.page.Bytes(), s.metric)
		done := 1
		if s.last != "" {
			_, done, _ = read(b, s.page.Bytes(), s.last)
		}
		if devices >= count && done > 0 {
			return
		}
	}
}

// rests waits until a program has nothing more to do at its start, or for two minutes.
func (s *scraped) rests(b *testing.B) {
	b.Helper()
	const still, little = 2 * time.Second, 40 * time.Millisecond
	for start := time.Now(); time.Since(start) < 2*time.Minute; {
		before := processCPU(b, s.pid)
		time.Sleep(still)
		if processCPU(b, s.pid)-before < little {
			return
		}
	}
	b.Logf("%s has not come to rest after two minutes", s.name)
}

// scrape starts a program and scrapes it some times, as Prometheus does.
func scrape(b *testing.B, one exporter, count int, traffic *traffic) scraping {
	b.Helper()
	server := startExporter(b, one, os.Stderr)
	server.awaits(b, count)
	server.rests(b)
	var s scraping
	const most, enough = 3000, 10 * time.Second
	n := 0
	started, before := time.Now(), processCPU(b, server.pid)
	for ; n < most && (n < 3 || time.Since(started) < enough); n++ {
		traffic.send(b)
		at := time.Now()
		if code, err := server.ask(b); err != nil || code != http.StatusOK {
			b.Fatal(code, err)
		}
		s.wall += time.Since(at)
	}
	// What is done between two scrapes, as collecting garbage, is on the account, too.
	s.cpu = processCPU(b, server.pid) - before
	s.cpu /= time.Duration(n)
	s.wall /= time.Duration(n)
	s.length = server.page.Len()
	var devices int
	s.series, devices, s.unpacked = read(b, server.page.Bytes(), one.metric)
	if devices < count {
		b.Fatalf("%s served %d devices, want %d", one.name, devices, count)
	}
	s.peak = peakMemory(b, server.pid)
	return s
}

// read counts a page's samples, and those of one metric but the loopback's.
func read(b *testing.B, page []byte, metric string) (series, devices, length int) {
	b.Helper()
	z, err := gzip.NewReader(bytes.NewReader(page))
	if err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Bytes()
		length += len(line) + 1
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		series++
		if bytes.HasPrefix(line, []byte(metric)) && !bytes.Contains(line, []byte(`device="lo"`)) {
			devices++
		}
	}
	if err := lines.Err(); err != nil {
		b.Fatal(err)
	}
	return series, devices, length
}

// processCPU is what a process has used, on all of its threads, to the nanosecond.
func processCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	var t unix.Timespec
	// clock_getcpuclockid(3): the process's clock is made of its number.
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// peakMemory is the most that was resident, residentMemory what is.
func peakMemory(b *testing.B, pid int) int64     { return memory(b, pid, "VmHWM:") }
func residentMemory(b *testing.B, pid int) int64 { return memory(b, pid, "VmRSS:") }

func memory(b *testing.B, pid int, of string) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, of); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatal("no " + of)
	return 0
}

// traffic sends a frame out of each device.
type traffic struct {
	fd      int
	indexes []int
}

func newTraffic(b *testing.B) *traffic {
	b.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Close(fd) })
	t := &traffic{fd: fd}
	all, err := net.Interfaces()
	if err != nil {
		b.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			t.indexes = append(t.indexes, i.Index)
		}
	}
	return t
}

func (t *traffic) send(b *testing.B) {
	b.Helper()
	frame := make([]byte, 100) // to 00:00:00:00:00:00, of EtherType 88b5, for experiments
	frame[12], frame[13] = 0x88, 0xb5
	for _, index := range t.indexes {
		if err := unix.Sendto(t.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkCalls is the CPU time of what a scrape asks the kernel, and nothing else:
// the same netlink requests and files, and nobody looks at the answers; and so many bytes
// sent to whoever scrapes. As before a scrape, each device has just sent something.
func benchmarkCalls(b *testing.B, of bare, count, page int, traffic *traffic) time.Duration {
	b.Helper()
	live := open(b)
	counted := &calls{Reader: live}
	var failed []error
	keeper := agent.New(counted, agent.Options{
		Timeout: time.Minute, Failed: func(err error) { failed = append(failed, err) },
		// As an agent that listens it has the names, and asks for counters alone.
		Changes: func(ctx context.Context) (agent.Event, error) {
			<-ctx.Done()
			return agent.Event{}, ctx.Err()
		},
		Meter: inventory.MeterOptions{VFs: sriov.Counters, Driver: func(n *inventory.NIC) bool { return of.virtual || n.Function != inventory.Virtual }},
	})
	if err := keeper.Once(b.Context()); err != nil {
		b.Fatal(err, failed)
	}
	keeper.Snapshot(of.asked) // learns who has what
	counted.requests, counted.paths, counted.asked = nil, nil, nil
	counted.files, counted.ioctls = 0, 0
	s := keeper.Snapshot(of.asked)
	if len(s.Statistics) != count {
		b.Fatalf("%d devices, want %d", len(s.Statistics), count)
	}
	if slices.ContainsFunc(counted.requests, func(r kernel.Request) bool {
		return r.Family == kernel.FamilyRoute && r.Command == unix.RTM_GETLINK && r.Dump
	}) {
		b.Fatal("it asks for more than counters, which no scrape does")
	}
	f := newFloor(b, live, counted.requests)
	f.paths, f.asked = counted.paths, counted.asked
	f.serve(b, page)
	var used time.Duration
	for b.Loop() {
		traffic.send(b)
		start := processCPU(b, os.Getpid())
		f.run(b)
		f.runOthers(b)
		f.send(b)
		used += processCPU(b, os.Getpid()) - start
	}
	b.ReportMetric(float64(len(counted.requests)), "netlink-requests")
	b.ReportMetric(float64(counted.files), "files")
	b.ReportMetric(float64(counted.ioctls), "ioctls")
	return used / time.Duration(b.N)
}
