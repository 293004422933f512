package audit

import (
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// Kind heads a [Report].
const Kind = "Findings"

// Report is what nictune check writes with -o json. Its form is described by
// docs/schema/findings.schema.json.
type Report struct {
	APIVersion  string    `json:"apiVersion"`
	Kind        string    `json:"kind"`
	CollectedAt time.Time `json:"collectedAt"`
	Host        string    `json:"host,omitempty"`
	// WatchedSeconds is how long the host was watched; absent where it was looked at
	// once.
	WatchedSeconds float64 `json:"watchedSeconds,omitempty"`
	// Counts are how many findings there are of each status, those that are left out
	// of the list, too.
	Counts map[findings.Status]int `json:"counts"`
	// Findings are what fails, could not be judged or is waived, and with --all the
	// rest.
	Findings []findings.Finding `json:"findings"`
	// Rates are what queues, interrupts and CPUs did while they were watched.
	Rates *Rates `json:"rates,omitempty"`
}

// NewReport is the report of findings about a host, of all or only those that ask for
// somebody's attention.
func NewReport(e *Evidence, all []findings.Finding, whole bool) Report {
	r := Report{
		APIVersion: inventory.APIVersion, Kind: Kind, CollectedAt: e.CollectedAt, Host: e.Host.Hostname,
		WatchedSeconds: e.Watched().Seconds(), Counts: map[findings.Status]int{}, Findings: []findings.Finding{}, Rates: e.Rates(),
	}
	for _, f := range all {
		r.Counts[f.Status]++
		if whole || f.Status != findings.Pass && f.Status != findings.NotApplicable {
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}
