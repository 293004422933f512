package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
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
	facts := []string{
		"--collector.disable-defaults", "--collector.netclass", "--collector.netdev", "--collector.ethtool",
		"--collector.softnet", "--collector.pcidevice", "--collector.interrupts", "--log.level=error",
	}
	for _, count := range []int{100, 900, 4000} {
		names := devices(b, count, veths)
		traffic := newTraffic(b)
		results := map[string]scraping{}
		for _, one := range []struct {
			name    string
			program string
			args    []string
			metric  string
		}{
			{"node_exporter-default", node, facts, "node_network_receive_packets_total"},
			{"node_exporter-netlink", node, append([]string{"--collector.netclass.netlink", "--collector.netdev.netlink"}, facts...), "node_network_receive_packets_total"},
			{"nictune", nictune, []string{"agent", "--collector.driver.virtual", "--collector.netclass", "--collector.link_modes", "--collector.interrupt_cpu"}, "nictune_network_receive_packets_total"},
			{"nictune-default", nictune, []string{"agent"}, "nictune_network_receive_packets_total"},
		} {
			b.Run(fmt.Sprintf("%d/%s", count, one.name), func(b *testing.B) {
				r := scrape(b, one.program, one.args, one.metric, len(names), traffic)
				results[one.name] = r
				r.report(b)
			})
		}
		b.Run(fmt.Sprintf("%d/calls", count), func(b *testing.B) {
			bare := benchmarkCalls(b, len(names))
			reportCPU(b, bare)
			for _, name := range []string{"nictune", "nictune-default"} {
				results[name].judge(b, name, results["node_exporter-default"], results["node_exporter-netlink"], bare)
			}
		})
	}
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
	if name == "nictune" { // the calls are for the same facts
		say("times the CPU of the bare system calls", of/float64(bare), overCalls, of/float64(bare) <= overCalls)
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

// scrape starts a program and scrapes it some times, as Prometheus does.
func scrape(b *testing.B, program string, args []string, metric string, count int, traffic *traffic) scraping {
	b.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	cmd := exec.Command(program, append(args, "--web.listen-address="+address)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	var page bytes.Buffer
	ask := func() (int, error) {
		request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
		if err != nil {
			return 0, err
		}
		request.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1")
		request.Header.Set("Accept-Encoding", "gzip")
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		page.Reset()
		if _, err := page.ReadFrom(response.Body); err != nil {
			return 0, err
		}
		return response.StatusCode, nil
	}
	// Until it serves all devices; nictune reads the facts first.
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if time.Since(start) > 3*time.Minute {
			b.Fatalf("%s does not serve %d devices after three minutes", program, count)
		}
		if code, err := ask(); err != nil || code != http.StatusOK {
			continue
		}
		if _, devices, _ := read(b, page.Bytes(), metric); devices >= count {
			break
		}
	}
	time.Sleep(2 * time.Second) // for what it does beside
	var s scraping
	const most, enough = 30, 10 * time.Second
	n := 0
	started, before := time.Now(), processCPU(b, cmd.Process.Pid)
	for ; n < most && (n < 3 || time.Since(started) < enough); n++ {
		traffic.send(b)
		at := time.Now()
		if code, err := ask(); err != nil || code != http.StatusOK {
			b.Fatal(code, err)
		}
		s.wall += time.Since(at)
	}
	// What is done between two scrapes, as collecting garbage, is on the account, too.
	s.cpu = processCPU(b, cmd.Process.Pid) - before
	s.cpu /= time.Duration(n)
	s.wall /= time.Duration(n)
	s.length = page.Len()
	var devices int
	s.series, devices, s.unpacked = read(b, page.Bytes(), metric)
	if devices < count {
		b.Fatalf("%s served %d devices, want %d", program, devices, count)
	}
	s.peak = peakMemory(b, cmd.Process.Pid)
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

// peakMemory is the most that was resident.
func peakMemory(b *testing.B, pid int) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatal("no VmHWM")
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
// the same netlink requests and files, and nobody looks at the answers.
func benchmarkCalls(b *testing.B, count int) time.Duration {
	b.Helper()
	live := open(b)
	counted := &calls{Reader: live}
	var failed []error
	keeper := agent.New(counted, agent.Options{
		Timeout: time.Minute, Failed: func(err error) { failed = append(failed, err) },
		Meter: inventory.MeterOptions{Driver: func(*inventory.NIC) bool { return true }},
	})
	if err := keeper.Once(b.Context()); err != nil {
		b.Fatal(err, failed)
	}
	keeper.Snapshot(nil) // learns who has what
	counted.requests, counted.paths, counted.asked = nil, nil, nil
	counted.files, counted.ioctls = 0, 0
	s := keeper.Snapshot(nil)
	if len(s.Statistics) != count {
		b.Fatalf("%d devices, want %d", len(s.Statistics), count)
	}
	f := newFloor(b, live, counted.requests)
	f.paths, f.asked = counted.paths, counted.asked
	start := cpu(b)
	for b.Loop() {
		f.run(b)
		f.runOthers(b)
	}
	b.ReportMetric(float64(len(counted.requests)), "netlink-requests")
	b.ReportMetric(float64(counted.files), "files")
	b.ReportMetric(float64(counted.ioctls), "ioctls")
	return (cpu(b) - start) / time.Duration(b.N)
}
