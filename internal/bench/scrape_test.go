package bench

import (
	"testing"
	"time"

	"github.com/nictune/nictune/inventory"
)

// BenchmarkScrape measures what a scrape reads anew each time, the standard
// counters of 1,000 devices, beside the bare dump that they come from.
func BenchmarkScrape(b *testing.B) {
	names := devices(b, deviceCount, veths)
	live := open(b)
	counted := &calls{Reader: live}
	if _, err := inventory.ReadStatistics(b.Context(), counted); err != nil {
		b.Fatal(err)
	}
	var bare time.Duration

	b.Run("floor", func(b *testing.B) {
		f := newFloor(b, live, counted.requests)
		start := cpu(b)
		for b.Loop() {
			f.run(b)
		}
		bare = (cpu(b) - start) / time.Duration(b.N)
		reportCPU(b, bare)
	})

	b.Run("statistics", func(b *testing.B) {
		b.ReportAllocs()
		start := cpu(b)
		for b.Loop() {
			all, err := inventory.ReadStatistics(b.Context(), live)
			if err != nil {
				b.Fatal(err)
			}
			if len(all) != len(names) {
				b.Fatalf("counters of %d devices, want %d", len(all), len(names))
			}
		}
		used := (cpu(b) - start) / time.Duration(b.N)
		reportCPU(b, used)
		if bare > 0 {
			b.ReportMetric(float64(used)/float64(bare), "x-the-floor")
		}
	})

	// Everything that a scrape reads: of veths nothing is asked that they don't have.
	b.Run("counters", func(b *testing.B) {
		inv, err := inventory.Read(b.Context(), live)
		if err != nil {
			b.Fatal(err)
		}
		asked := &calls{Reader: live}
		meter := inventory.NewMeter(asked, inventory.MeterOptions{
			Changed: func(*inventory.Inventory) (map[int]bool, bool) { return nil, false }, // as in an agent that hears of changes
		})
		meter.Read(b.Context(), inv, nil) // what a device lacks is found out once
		asked.requests, asked.files, asked.ioctls = nil, 0, 0
		b.ReportAllocs()
		start := cpu(b)
		for b.Loop() {
			s := meter.Read(b.Context(), inv, nil)
			if len(s.Statistics) != len(names) || len(s.Failures) > 0 {
				b.Fatalf("counters of %d devices, want %d; failures: %v", len(s.Statistics), len(names), s.Failures)
			}
		}
		used := (cpu(b) - start) / time.Duration(b.N)
		reportCPU(b, used)
		if bare > 0 {
			b.ReportMetric(float64(used)/float64(bare), "x-the-floor")
		}
		b.ReportMetric(float64(len(asked.requests))/float64(b.N), "netlink-requests/op")
		b.ReportMetric(float64(asked.files)/float64(b.N), "files/op")
		b.ReportMetric(float64(asked.ioctls)/float64(b.N), "ioctls/op")
	})
}
