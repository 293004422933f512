package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nictune/nictune/inventory"
)

// discard counts a response's bytes.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.bytes += len(p); return len(p), nil }

// BenchmarkScrape renders a host of 1,000 devices. Reading their counters comes
// on top.
func BenchmarkScrape(b *testing.B) {
	one := example()
	s := Snapshot{Inventory: &inventory.Inventory{}, Drift: &Drift{}}
	for i := range 1000 {
		n, counters := one.Inventory.NICs[0], one.Statistics[0]
		n.Name = fmt.Sprintf("eth%d", i)
		counters.Name = n.Name
		s.Inventory.NICs = append(s.Inventory.NICs, n)
		s.Statistics = append(s.Statistics, counters)
		s.Drift.Settings = append(s.Drift.Settings, DriftedSetting{Device: n.Name, Setting: "rings"})
	}
	handler := promhttp.HandlerFor(exporter(b, func() Snapshot { return s }), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
	request := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: http.Header{}}
		handler.ServeHTTP(w, request)
		b.ReportMetric(float64(w.bytes), "bytes/scrape")
	}
}
