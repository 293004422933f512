package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	ofProgram "github.com/prometheus/client_golang/prometheus/collectors"
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

// BenchmarkScrape renders a host of 1,000 devices, of which each has had traffic
// since the scrape before, or one in ten, or none. Reading their counters comes on
// top. "expfmt" is promhttp by itself, over the same samples.
func BenchmarkScrape(b *testing.B) {
	const devices = 1000
	one := example()
	for _, busy := range []int{devices, devices / 10, 0} {
		var s Snapshot
		s.Inventory = &inventory.Inventory{}
		for i := range devices {
			n, counters := one.Inventory.NICs[0], one.Statistics[0]
			n.Name = fmt.Sprintf("eth%d", i)
			counters.Name = n.Name
			counters.Values = make([]uint64, len(counters.Values))
			s.Inventory.NICs = append(s.Inventory.NICs, n)
			s.Statistics = append(s.Statistics, counters)
		}
		e := exporter(b, func() Snapshot {
			for i := range busy {
				for j := range 4 { // packets and bytes
					s.Statistics[i].Values[j] += uint64(1000 + i)
				}
			}
			return s
		}, Options{})
		registry := prometheus.NewRegistry()
		registry.MustRegister(ofProgram.NewGoCollector(), ofProgram.NewProcessCollector(ofProgram.ProcessCollectorOpts{}))
		handlers := map[string]http.Handler{
			"kept":   e.Handler(registry, registry, func(err error) { b.Error(err) }),
			"expfmt": promhttp.HandlerFor(prometheus.Gatherers{registry, e}, promhttp.HandlerOpts{}),
		}
		for _, name := range []string{"kept", "expfmt"} {
			for _, coding := range []string{"identity", "gzip", "zstd"} {
				if name == "expfmt" && coding == "zstd" {
					continue // it has none unless asked to link it in
				}
				b.Run(fmt.Sprintf("%s/%s/busy=%d", name, coding, busy), func(b *testing.B) {
					request := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
					request.Header.Set("Accept-Encoding", coding)
					b.ReportAllocs()
					for b.Loop() {
						w := &discard{header: http.Header{}}
						handlers[name].ServeHTTP(w, request)
						b.ReportMetric(float64(w.bytes), "bytes/scrape")
					}
				})
			}
		}
	}
}
