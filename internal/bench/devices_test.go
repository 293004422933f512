package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// deviceCount is the size of host that the benchmarks look at.
const deviceCount = 1000

// veths adds two devices.
const veths = "link add %s up type veth peer name %s\n"

// devices fills the test's network namespace up to count devices, and returns the
// names of all of them. add makes two, for ip -batch.
func devices(tb testing.TB, count int, add string) []string {
	tb.Helper()
	nstest.Require(tb)
	names := listed(tb)
	if len(names) > count {
		tb.Fatalf("%d devices in the namespace, more than %d", len(names), count)
	}
	var batch strings.Builder
	for i := len(names); i < count; i += 2 {
		a, b := fmt.Sprintf("nic%04d", i), fmt.Sprintf("nic%04d", i+1)
		fmt.Fprintf(&batch, add+"link set %s up\n", a, b, b)
	}
	file := filepath.Join(tb.TempDir(), "devices")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	nstest.Run(tb, "ip", "-batch", file)
	names = listed(tb)
	if len(names) != count {
		tb.Fatalf("%d devices in the namespace, want %d", len(names), count)
	}
	return names
}

// remove takes devices away. With one end of a veth goes the other.
func remove(tb testing.TB, names []string) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "devices")
	if err := os.WriteFile(file, []byte("link del "+strings.Join(names, "\nlink del ")+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	_ = exec.CommandContext(tb.Context(), "ip", "-force", "-batch", file).Run() // it fails for those that went with the other
	if left := listed(tb); len(left) > 0 {
		tb.Fatalf("%d devices are left", len(left))
	}
}

// listed asks the standard library, so that nictune's own count has something
// to be held against.
func listed(tb testing.TB) []string {
	tb.Helper()
	all, err := net.Interfaces()
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return names
}

func open(tb testing.TB) *kernel.Live {
	tb.Helper()
	live, err := kernel.Open()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = live.Close() })
	return live
}

// cpu is the CPU time, user and system, that this process has used, on all of
// its threads: what the garbage collector does is in it.
func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// reportCPU reports CPU time for one operation.
func reportCPU(b *testing.B, used time.Duration) {
	b.ReportMetric(float64(used)/float64(time.Millisecond), "cpu-ms/op")
}
