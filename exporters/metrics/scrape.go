package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/nictune/nictune/inventory"
)

// scrapeCollector is part of every scrape: without it nobody could tell whether
// the others are whole.
const scrapeCollector = "scrape"

// Read is how one part of the snapshot was read.
type Read struct {
	// Collector is what was read: a collector's name, or "inventory" and "xdp", what
	// several show, or "drift", which the collector policy shows.
	Collector string
	Seconds   float64
	Success   bool
	// At is when it was read last without an error, of what isn't read for each scrape.
	// Zero: never, or for this one.
	At time.Time
	// Errors counts the devices whose part could not be read, by reason.
	Errors map[inventory.Reason]int
}

// cutSeries counts the series of a collector that there was no room for.
type cutSeries struct {
	collector string
	series    int
}

// scrape says how the scrape itself went.
func scrape() collector {
	return collector{
		name: scrapeCollector, doc: "how the scrape itself went",
		define: func(c *catalogue) func(*Snapshot) {
			const each = "1 per collector that is asked for"
			success := c.add(Metric{
				Name: "scrape_collector_success", Type: gauge, Labels: []string{"collector"},
				Help:   "Whether what the collector shows was read without an error, for this scrape or, of what isn't read for each scrape, last. Collectors that show the same reading say the same; 0 also while it was never read.",
				Source: "the agent", Series: each,
			})
			duration := c.add(Metric{
				Name: "scrape_collector_duration_seconds", Type: gauge, Unit: "seconds", Labels: []string{"collector"},
				Help:   "How long the reading took that the collector shows. Collectors that show the same reading say the same; 0 where there is nothing to read.",
				Source: "the agent", Series: each,
			})
			at := c.add(Metric{
				Name: "scrape_collector_read_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: []string{"collector"},
				Help:   "When what isn't read for each scrape was read last without an error, in Unix time: the age of what is shown.",
				Source: "the agent", Series: "1 per collector that shows facts, drift, findings, VFs, XDP, modules or the history, once that was read",
			})
			failed := c.add(Metric{
				Name: "scrape_device_errors", Type: gauge, Unit: "devices", Labels: []string{"collector", "reason"},
				Help:   "Devices whose samples are missing because they could not be read, by reason, for the collector that is named after what was read.",
				Source: "the agent", Series: "at most 4 per collector that asks devices (gone, denied, failed, and timeout where a device has not answered in time)",
			})
			missing := c.add(Metric{
				Name: "scrape_series_cut", Type: gauge, Unit: "series", Labels: []string{"collector"},
				Help:   "Series that are missing because the collector has more than its limit.",
				Source: "`nictune agent --limit.series-per-collector`", Series: "1 per collector",
			})
			collections := c.add(Metric{
				Name: "scrape_collections_total", Type: counter, Unit: "collections",
				Help:   "How often the kernel was asked for a scrape. Scrapes that overlap share one collection.",
				Source: "the agent", Series: "1",
			})
			return func(s *Snapshot) {
				collections.set(float64(s.collections))
				for _, c := range s.cut {
					missing.set(float64(c.series), c.collector)
				}
				for _, name := range s.asked {
					how := s.readFor(name)
					success.set(truth(how.Success), name)
					duration.set(how.Seconds, name)
					if !how.At.IsZero() {
						at.set(float64(how.At.UnixMilli())/1000, name)
					}
				}
				for _, r := range s.Reads {
					for _, reason := range slices.Sorted(maps.Keys(r.Errors)) {
						failed.set(float64(r.Errors[reason]), r.Collector, string(reason))
					}
				}
			}
		},
	}
}

// readings are the names of the Reads that a collector shows. Of several lists the first
// counts of which any was read.
func readings(collector string) [][]string {
	switch collector {
	case "statistics", "standard", "driver", "pagepool", "vf", "softnet", "interrupt", "aer", "module", "findings", "history":
		return [][]string{{collector}}
	case "queue":
		return [][]string{{"queue", "driver"}}
	case "meaning":
		return [][]string{{"standard", "driver", "queue"}}
	case "interrupt_cpu":
		return [][]string{{"interrupt"}}
	case "sriov": // judging reads VFs, and XDP, too
		return [][]string{{"sriov"}, {"findings"}}
	case "xdp_ready", "offload":
		return [][]string{{"xdp"}, {"findings"}}
	case "policy":
		return [][]string{{"drift"}}
	case "reconcile": // the agent's own memory
		return nil
	}
	return [][]string{{"inventory"}}
}

// readFor is how a collector's readings went, all of them together. Of one that the kernel
// lacks, or that nobody wants, there is none: then it is as good as the facts are, which
// say so.
func (s *Snapshot) readFor(collector string) Read {
	for _, names := range readings(collector) {
		all := Read{Success: true}
		found := false
		for _, r := range s.Reads {
			if !slices.Contains(names, r.Collector) {
				continue
			}
			all.Success = all.Success && r.Success
			all.Seconds += r.Seconds
			if !found || r.At.Before(all.At) {
				all.At = r.At
			}
			found = true
		}
		if found {
			return all
		}
	}
	i := slices.IndexFunc(s.Reads, func(r Read) bool { return r.Collector == "inventory" })
	return Read{Success: i < 0 || s.Reads[i].Success}
}
