package metrics

import "github.com/nictune/nictune/inventory"

// Snapshot is what one scrape shows. What is read anew is a new value behind its
// pointer or slice; nothing writes to one that was handed over.
type Snapshot struct {
	// Inventory are the facts; nil while none have been read.
	Inventory *inventory.Inventory
	// Statistics are the counters at this moment.
	Statistics []inventory.Statistics
	// Counted are the other counters at this moment; nil where nobody asked.
	Counted *inventory.Sample
	// Drift is what policies want otherwise; nil without policies.
	Drift *Drift
	// Reconciliation is what the agent does about drift; nil where nobody asked.
	Reconciliation *Reconciliation
	// VFs, XDP, Modules, Findings and History are what takes longer to read than facts
	// and counters; nil while it has not been read, or nobody asked for it.
	VFs      *VFs
	XDP      *XDP
	Modules  *Modules
	Findings *Findings
	History  *History
	// Reads says how each part of the snapshot went.
	Reads []Read

	asked       []string // the collectors that are asked for, but for scrape
	cut         []cutSeries
	collections int
}

// Source gives a snapshot for a scrape, of which only what the collectors that
// are asked for show need be read. It reports failures in the snapshot's Reads
// and never fails a scrape. It is called by one goroutine at a time.
type Source func(Asked) Snapshot

// Asked are the collectors that a scrape is for, by name.
type Asked map[string]bool
