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
	// Collector is what was read: a collector's name, or "inventory", the facts
	// that several show.
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
			const parts = "1 per part that is read"
			success := c.add(Metric{
				Name: "scrape_collector_success", Type: gauge, Labels: []string{"collector"}, Help: "Whether this part of the scrape was read without an error.",
				Source: "the agent", Series: parts,
			})
			duration := c.add(Metric{
				Name: "scrape_collector_duration_seconds", Type: gauge, Unit: "seconds", Labels: []string{"collector"}, Help: "How long this part of the scrape took to read.",
				Source: "the agent", Series: parts,
			})
			at := c.add(Metric{
				Name: "scrape_collector_read_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: []string{"collector"},
				Help:   "When what isn't read for each scrape was read last without an error, in Unix time: the age of what is shown.",
				Source: "the agent", Series: "1 each for inventory, drift, findings, sriov, xdp, module and history, once it was read",
			})
			failed := c.add(Metric{
				Name: "scrape_device_errors", Type: gauge, Unit: "devices", Labels: []string{"collector", "reason"},
				Help:   "Devices whose samples are missing from this part because they could not be read, by reason.",
				Source: "the agent", Series: "at most 4 per part that is read (gone, denied, failed, and timeout where a device has not answered in time)",
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
				for _, r := range s.Reads {
					success.set(truth(r.Success), r.Collector)
					duration.set(r.Seconds, r.Collector)
					if !r.At.IsZero() {
						at.set(float64(r.At.UnixMilli())/1000, r.Collector)
					}
					for _, reason := range slices.Sorted(maps.Keys(r.Errors)) {
						failed.set(float64(r.Errors[reason]), r.Collector, string(reason))
					}
				}
			}
		},
	}
}
