package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nictune/nictune/inventory"
)

// Each collector that collect[] takes says how it went, and those that nobody asked for
// say nothing.
func TestEachCollectorSaysHowItWent(t *testing.T) {
	var s Snapshot
	e := everything(t, func() Snapshot { return s })
	registry := prometheus.NewRegistry()
	handler := e.Handler(registry, registry, func(err error) { t.Error(err) })
	for _, c := range Collectors() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics?collect[]="+c.Name, http.NoBody))
		for _, name := range []string{"success", "duration_seconds"} {
			line := fmt.Sprintf("\nnictune_scrape_collector_%s{collector=%q} ", name, c.Name)
			if page := w.Body.String(); !strings.Contains(page, line) || strings.Count(page, "\nnictune_scrape_collector_"+name+"{") != 1 {
				t.Errorf("collect[]=%s: want one line %s in\n%s", c.Name, strings.TrimSpace(line), page)
			}
		}
	}
}

func TestHowCollectorsWent(t *testing.T) {
	const all = "all but statistics"
	at := time.Unix(1700000000, 0)
	var reads []Read
	e := everything(t, func() Snapshot { return Snapshot{Reads: reads} })
	for _, step := range []struct {
		what    string
		reads   []Read
		failed  string // collectors, in order
		seconds map[string]string
		aged    string // those with a time
	}{
		{"facts that were never read", []Read{{Collector: "inventory"}, {Collector: "drift"}, {Collector: "findings"}, {Collector: "statistics", Success: true}},
			all, nil, ""},
		{"all is well", []Read{
			{Collector: "inventory", Success: true, Seconds: 2, At: at}, {Collector: "drift", Success: true, Seconds: 3, At: at}, {Collector: "findings", Success: true, Seconds: 4, At: at},
			{Collector: "driver", Success: true, Seconds: 5}, {Collector: "standard", Success: true, Seconds: 6}, {Collector: "queue", Success: true, Seconds: 7}, {Collector: "interrupt", Success: true, Seconds: 8},
		}, "", map[string]string{
			"rings": "2", "xdp": "2", "policy": "3", "findings": "4", "sriov": "4", "xdp_ready": "4", "offload": "4", "driver": "5", "queue": "12", "meaning": "18", "interrupt": "8", "interrupt_cpu": "8",
			"reconcile": "0", "history": "0", "aer": "0",
		}, "findings fec sriov policy"},
		{"VFs are read by themselves", []Read{{Collector: "inventory", Success: true}, {Collector: "sriov", Seconds: 9}, {Collector: "xdp", Success: true, Seconds: 1}},
			"sriov", map[string]string{"sriov": "9", "xdp_ready": "1", "xdp": "0"}, ""},
		{"one of three fails", []Read{{Collector: "inventory", Success: true}, {Collector: "driver", Success: true}, {Collector: "queue", Errors: map[inventory.Reason]int{inventory.Gone: 1}}},
			"meaning queue", nil, ""},
	} {
		reads = step.reads
		var failed []string
		for _, one := range gathered(t, e, "nictune_scrape_collector_success") {
			if name, ok := strings.CutSuffix(one, " 0"); ok {
				failed = append(failed, name)
			}
		}
		slices.Sort(failed)
		got := strings.Join(failed, " ")
		if len(failed) == len(Collectors())-1 && !slices.Contains(failed, "statistics") {
			got = all
		}
		if got != step.failed {
			t.Errorf("%s: %q failed, want %q", step.what, got, step.failed)
		}
		durations := gathered(t, e, "nictune_scrape_collector_duration_seconds")
		for name, want := range step.seconds {
			if !slices.Contains(durations, name+" "+want) {
				t.Errorf("%s: %s took not %s s: %q", step.what, name, want, durations)
			}
		}
		aged := gathered(t, e, "nictune_scrape_collector_read_timestamp_seconds")
		for name := range strings.FieldsSeq(step.aged) {
			if !slices.Contains(aged, name+" 1.7e+09") {
				t.Errorf("%s: no age of %s: %q", step.what, name, aged)
			}
		}
		if step.aged == "" && len(aged) > 0 || slices.Contains(aged, "driver 1.7e+09") {
			t.Errorf("%s: ages: %q", step.what, aged)
		}
	}
}
