package inventory

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

// thousand makes 1,000 devices, 500 pairs of veth.
func thousand(b *testing.B) {
	b.Helper()
	nstest.Require(b)
	var batch, undo strings.Builder
	for i := range 500 {
		fmt.Fprintf(&batch, "link add many%d type veth peer name more%d\n", i, i)
		fmt.Fprintf(&undo, "link del many%d\n", i)
	}
	ip := func(lines string) {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(lines)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Errorf("ip -batch: %v: %s", err, out)
		}
	}
	ip(batch.String())
	b.Cleanup(func() { ip(undo.String()) })
}

func openBench(b *testing.B) *kernel.Live {
	b.Helper()
	live, err := kernel.Open()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = live.Close() })
	return live
}

// BenchmarkThousand lists 1,000 devices and reads one subject of all of them.
// cpu-ms/op is the processor time of this process, in the kernel included: it
// holds on a busy machine, too.
func BenchmarkThousand(b *testing.B) {
	thousand(b)
	live := openBench(b)
	for _, c := range []struct {
		name    string
		subject func(context.Context, *survey)
	}{
		{"links", func(context.Context, *survey) {}},
		{"links+multicast", readMulticast},
		{"links+netdev", readNetdev},
	} {
		measure(b, c.name, func() {
			s := &survey{Reader: live, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
			if err := readLinks(b.Context(), s); err != nil || len(s.nics) < 1000 {
				b.Fatal(len(s.nics), err)
			}
			c.subject(b.Context(), s)
		})
	}
	measure(b, "statistics", func() {
		if all, err := ReadStatistics(b.Context(), live); err != nil || len(all) < 1000 {
			b.Fatal(len(all), err)
		}
	})
}

func measure(b *testing.B, name string, f func()) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		before := cpuTime(b)
		for b.Loop() {
			f()
		}
		b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	})
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
