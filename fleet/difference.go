package fleet

import "time"

// DifferenceKind heads a [Difference].
const DifferenceKind = "FleetDifference"

// Difference is what changed between two reports of a fleet, the top changes first:
// what got worse before what got better, the gravest first, then by how large a share of
// the fleet it is.
type Difference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Before and Now are when the two were made, the hosts how many they count.
	Before      time.Time `json:"before"`
	Now         time.Time `json:"now"`
	HostsBefore int       `json:"hostsBefore"`
	HostsNow    int       `json:"hostsNow"`
	// Worse and Better are how many changes there are of each kind.
	Worse   int      `json:"worse"`
	Better  int      `json:"better"`
	Changes []Change `json:"changes"`
	LeftOut int      `json:"leftOut,omitempty"`
}

// Change is one figure that is another than before.
type Change struct {
	// Section is the part of the report: "rules", "hosts", "outliers", "links", "pcie",
	// "optics", "flaps", "vfs", "readiness", "drift", "waivers".
	Section string `json:"section"`
	// Name is what of it: a rule, a policy, "missing", "stale", "below maximum".
	Name string `json:"name"`
	// Severity is the rule's; other changes have none.
	Severity string `json:"severity,omitempty"`
	// Worse is whether that is bad news.
	Worse bool `json:"worse"`
	// Before and Now count what Unit says ("hosts", "ports"), BeforeOf and NowOf of how
	// many; 0 where it is of nothing.
	Before   int    `json:"before"`
	BeforeOf int    `json:"beforeOf,omitempty"`
	Now      int    `json:"now"`
	NowOf    int    `json:"nowOf,omitempty"`
	Unit     string `json:"unit"`
	// Hosts are some that it is about: new among the missing or stale.
	Hosts []string `json:"hosts,omitempty"`
}
