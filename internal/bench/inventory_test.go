package bench

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// ethtoolGroups are the ethtool commands that show, for one device, the facts
// that an inventory lists for all: one for each group, as a script would run
// them. What the inventory leaves out is left out here (statistics, registers,
// EEPROMs), and so is what takes ethtool a process for each of many facts (the
// tunables, and the hash fields by flow), which would flatter nictune.
func ethtoolGroups() [][]string {
	return [][]string{
		{},     // link modes, speed, duplex, port, autonegotiation, link
		{"-i"}, // driver, firmware, bus
		{"-k"}, // features
		{"-l"}, // channels
		{"-g"}, // rings
		{"-c"}, // coalescing
		{"-a"}, // pause
		{"-x"}, // RSS
		{"-T"}, // timestamping
		{"-n"}, // ntuple rules
		{"-P"}, // permanent address
		{"--show-fec"},
		{"--show-eee"},
		{"--show-priv-flags"},
	}
}

// target is the ratio that the project set itself.
const target = 20

// BenchmarkInventory measures, side by side in one run on a host of 1,000
// devices, the CPU time of a full inventory.
func BenchmarkInventory(b *testing.B) {
	names := devices(b, deviceCount, veths)
	live := open(b)
	var ethtool time.Duration

	b.Run("ethtool", func(b *testing.B) { ethtool = benchmarkEthtool(b, names, ethtoolGroups()) })

	b.Run("nictune-library", func(b *testing.B) {
		b.ReportAllocs()
		start := cpu(b)
		for b.Loop() {
			inv, err := inventory.Read(b.Context(), live)
			if err != nil {
				b.Fatal(err)
			}
			allListed(b, inv, names)
		}
		compare(b, "inventory.Read", deviceCount, (cpu(b)-start)/time.Duration(b.N), ethtool)
	})

	b.Run("nictune-binary", func(b *testing.B) {
		compare(b, "nictune inventory -o json", deviceCount, benchmarkBinary(b, names), ethtool)
	})

	b.Run("floor", func(b *testing.B) {
		counted := &calls{Reader: live}
		if _, err := inventory.Read(b.Context(), counted); err != nil {
			b.Fatal(err)
		}
		f := newFloor(b, live, counted.requests)
		start, bytes := cpu(b), 0
		for b.Loop() {
			bytes = f.run(b)
		}
		used := (cpu(b) - start) / time.Duration(b.N)
		reportCPU(b, used)
		b.ReportMetric(float64(bytes), "answer-B/op")
		b.ReportMetric(float64(len(counted.requests)), "netlink-requests/op")
		b.ReportMetric(float64(counted.files), "files/op")
		b.ReportMetric(float64(counted.ioctls), "ioctls/op")
	})
}

// benchmarkEthtool runs ethtool once per device and group and returns the CPU
// time of its processes. What it costs to start them is not in it.
func benchmarkEthtool(b *testing.B, names []string, groups [][]string) time.Duration {
	program, err := exec.LookPath("ethtool")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/ethtool")
	}
	if err != nil {
		b.Fatalf("%v: make setup installs it", err)
	}
	var used time.Duration
	for b.Loop() {
		for _, group := range groups {
			answered := 0
			for _, name := range names {
				cmd := exec.CommandContext(b.Context(), program, append(slices.Clone(group), name)...)
				err := cmd.Run()
				var exit *exec.ExitError
				switch {
				case err == nil:
					answered++
				case !errors.As(err, &exit):
					b.Fatal(err)
				}
				used += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			}
			// A veth has no private flags, and so on; it has a driver and features.
			if len(group) == 1 && (group[0] == "-i" || group[0] == "-k") && answered != len(names) {
				b.Fatalf("ethtool %s answered for %d of %d devices", group[0], answered, len(names))
			}
		}
	}
	used /= time.Duration(b.N)
	reportCPU(b, used)
	b.ReportMetric(float64(len(names)*len(groups)), "processes/op")
	return used
}

// build builds nictune as `make build` does.
func build(b *testing.B) string {
	b.Helper()
	program := filepath.Join(b.TempDir(), "nictune")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/nictune/nictune/cmd/nictune")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// benchmarkBinary runs nictune inventory and returns the CPU time of its process.
func benchmarkBinary(b *testing.B, names []string) time.Duration {
	program := build(b)
	var used time.Duration
	for b.Loop() {
		out, err := os.Create(filepath.Join(b.TempDir(), "inventory.json"))
		if err != nil {
			b.Fatal(err)
		}
		cmd := exec.CommandContext(b.Context(), program, "inventory", "-o", "json")
		cmd.Stdout, cmd.Stderr = out, os.Stderr
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		used += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		b.StopTimer()
		document, err := os.ReadFile(out.Name())
		if err := errors.Join(err, out.Close()); err != nil {
			b.Fatal(err)
		}
		var inv inventory.Inventory
		if err := json.Unmarshal(document, &inv); err != nil {
			b.Fatal(err)
		}
		allListed(b, &inv, names)
		b.StartTimer()
	}
	return used / time.Duration(b.N)
}

// compare reports what nictune used, how many times less that is than what
// ethtool used, and whether the target is met.
func compare(b *testing.B, what string, devices int, used, ethtool time.Duration) {
	reportCPU(b, used)
	b.ReportMetric(float64(devices), "devices")
	if ethtool == 0 {
		return // -bench left it out
	}
	b.ReportMetric(float64(ethtool)/float64(used), "x-less-cpu-than-ethtool")
	verdict := "MISSED"
	if ethtool >= target*used {
		verdict = "met"
	}
	b.Logf("%d devices: ethtool used %v of CPU time, %s %v, 1/%.0f of it; the target, at most 1/%d, is %s",
		devices, ethtool.Round(time.Millisecond), what, used.Round(time.Millisecond), float64(ethtool)/float64(used), target, verdict)
}

// allListed fails when a device is missing, or nothing is known of it but its
// name.
func allListed(tb testing.TB, inv *inventory.Inventory, names []string) {
	tb.Helper()
	if len(inv.NICs) != len(names) {
		tb.Fatalf("%d devices listed, want %d", len(inv.NICs), len(names))
	}
	for i := range inv.NICs {
		n := &inv.NICs[i]
		if n.Name != names[i] {
			tb.Fatalf("device %d is %s, want %s", i, n.Name, names[i])
		}
		if n.Driver == nil || n.Driver.Name == "" || n.Link.MTU == nil || len(n.Offloads.Features) == 0 {
			tb.Fatalf("%s lacks its driver, MTU or features: %+v", n.Name, n.Unread)
		}
		for _, u := range n.Unread {
			if u.Reason != kernel.Unsupported {
				tb.Fatalf("%s: %+v", n.Name, u)
			}
		}
	}
}
