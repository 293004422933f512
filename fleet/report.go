// Package fleet is many hosts: it reads their audit reports one after the other, or
// asks a Prometheus, and makes one report that says which rules fail where, which
// models and versions are worse than their peers, and who is missing.
//
// It judges no host: verdicts are those of the hosts' own audit. What is not known of
// a host is never counted as well: a host that is missing, too old or can't be read is
// named. It talks to no host and changes none.
package fleet

import (
	"time"

	"github.com/nictune/nictune/findings"
)

// Kind heads a [Report].
const Kind = "FleetReport"

// Report is what nictune fleet report says. Its form is described by
// docs/schema/fleet.schema.json. The same hosts give the same report in whatever order
// they are read. Lists of the worst are bounded, and say how many more there are
// ("leftOut"). All text is what hosts say of themselves: whoever renders it escapes it.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// GeneratedAt is when it was made: ages are by this clock.
	GeneratedAt time.Time `json:"generatedAt"`
	// Version is that of the nictune that made it.
	Version string `json:"version,omitempty"`

	Scope    Scope    `json:"scope"`
	Problems Problems `json:"problems"`

	// Counts are how many findings the hosts have of each status.
	Counts map[findings.Status]int `json:"counts"`
	// Severities are how much fails, the gravest first.
	Severities []SeverityTotal `json:"severities"`
	// Rules are those that have a finding: what fails first, the gravest first, then on
	// how many hosts.
	Rules []RuleTotal `json:"rules"`
	// Hosts are those where the most fails, the gravest first.
	Hosts HostList `json:"hosts"`

	// Models, Drivers and Firmware are the kinds of NIC of which the largest share
	// fails, and Outliers those that fail more often than their peers by more than
	// chance.
	Models   GroupList   `json:"models"`
	Drivers  GroupList   `json:"drivers"`
	Firmware GroupList   `json:"firmware"`
	Outliers OutlierList `json:"outliers"`

	Links     Links     `json:"links"`
	PCIe      PCIeLinks `json:"pcie"`
	Optics    Optics    `json:"optics"`
	Flaps     Flaps     `json:"flaps"`
	VFs       VFUse     `json:"vfs"`
	Readiness []Profile `json:"readiness"`
	Drift     DriftList `json:"drift"`
	Waivers   Waivers   `json:"waivers"`

	// Details are the hosts that were asked for by name, or, where that was asked for, the
	// worst in the order of Hosts, each with the first of what is wrong with it.
	Details []Host `json:"details,omitempty"`
	// Baseline is what changed since an earlier report, where one was given.
	Baseline *Difference `json:"baseline,omitempty"`
}

// Scope is what the report is about.
type Scope struct {
	// Source is "reports" or "prometheus", Inputs the files or the address.
	Source string   `json:"source"`
	Inputs []string `json:"inputs,omitempty"`
	// Host is the name of the only host that was asked for.
	Host string `json:"host,omitempty"`
	// Hosts is how many hosts are counted in all that follows, NICs and VFs what they
	// have: NICs without subfunctions, representors and VFs, but a VF in a guest, where
	// its PF is not, is a NIC.
	Hosts int `json:"hosts"`
	NICs  int `json:"nics"`
	VFs   int `json:"vfs"`
	// Oldest and Newest are when hosts that are counted were judged, by their clocks.
	Oldest *time.Time `json:"oldest,omitempty"`
	Newest *time.Time `json:"newest,omitempty"`
	// Ages are how many of them were judged how long ago.
	Ages []AgeBand `json:"ages"`
	// MaxAgeSeconds is the age from which a host is stale; absent where any age will do.
	MaxAgeSeconds float64 `json:"maxAgeSeconds,omitempty"`

	// Expected is how many hosts there should be; absent where nobody said.
	Expected *int `json:"expected,omitempty"`
	// Missing are expected and nowhere to be found, Stale were judged too long ago,
	// Ahead say a time that is yet to come. None of them is counted in what follows,
	// and none passes. Unexpected are counted.
	Missing    NameList `json:"missing"`
	Stale      NameList `json:"stale"`
	Ahead      NameList `json:"ahead"`
	Unexpected NameList `json:"unexpected"`

	// Read is how many reports were read, Superseded how many of them gave way to a
	// newer one of the same host, Rejected how many could not be used.
	Read       int `json:"read"`
	Superseded int `json:"superseded"`
	Rejected   int `json:"rejected"`
}

// AgeBand is how many hosts were judged less than a time ago, and no less than the band
// before says.
type AgeBand struct {
	// UnderSeconds is absent in the last band, which has no end.
	UnderSeconds float64 `json:"underSeconds,omitempty"`
	Hosts        int     `json:"hosts"`
}

// NameList is a list of hosts by name.
type NameList struct {
	Count   int         `json:"count"`
	Hosts   []NamedHost `json:"hosts"`
	LeftOut int         `json:"leftOut,omitempty"`
}

// NamedHost is a host that is named for a reason.
type NamedHost struct {
	Name      string `json:"name"`
	MachineID string `json:"machineId,omitempty"`
	// CollectedAt is when it was last judged, by its clock.
	CollectedAt *time.Time `json:"collectedAt,omitempty"`
	// Failing is how many findings failed then.
	Failing *int   `json:"failing,omitempty"`
	Source  string `json:"source,omitempty"`
}

// ProblemKind says what is wrong with an input.
type ProblemKind string

// The kinds of problem, in the order in which reports show them.
const (
	// Unreadable: a file could not be opened or read.
	Unreadable ProblemKind = "unreadable"
	// Truncated: a report ends before it is whole.
	Truncated ProblemKind = "truncated"
	// Malformed: it is no JSON, or not that of a report.
	Malformed ProblemKind = "malformed"
	// TooLarge: one report is larger than can be.
	TooLarge ProblemKind = "too-large"
	// WrongKind: it is another document.
	WrongKind ProblemKind = "wrong-kind"
	// NewerVersion: its apiVersion is one that this nictune doesn't know.
	NewerVersion ProblemKind = "newer-version"
	// Nameless: it doesn't say of which host, or when.
	Nameless ProblemKind = "nameless"
	// NotUnderstood: it has a status or severity that this nictune doesn't know, which
	// is counted as unknown.
	NotUnderstood ProblemKind = "not-understood"
	// HostProblem: the host's own report says what went wrong and is no finding.
	HostProblem ProblemKind = "host-problem"
	// SameName: several hosts have this name.
	SameName ProblemKind = "same-name"
	// ClockAhead: the host's time is yet to come.
	ClockAhead ProblemKind = "clock-ahead"
	// Repeated: the host reported more than once, and this is not the newest.
	Repeated ProblemKind = "repeated"
	// Incomplete: a source did not give all that it should.
	Incomplete ProblemKind = "incomplete"
	// PassedOver: a file of a folder that was not read for its name.
	PassedOver ProblemKind = "passed-over"
	// TooMany: there are more different models, rules or the like than are told apart.
	TooMany ProblemKind = "too-many"
)

// ProblemKinds are all of them.
func ProblemKinds() []ProblemKind {
	return []ProblemKind{
		Unreadable, Truncated, Malformed, TooLarge, WrongKind, NewerVersion, Nameless,
		NotUnderstood, SameName, ClockAhead, Incomplete, TooMany, HostProblem, Repeated, PassedOver,
	}
}

// Problems are what is wrong with the inputs.
type Problems struct {
	Counts  map[ProblemKind]int `json:"counts"`
	List    []Problem           `json:"list"`
	LeftOut int                 `json:"leftOut,omitempty"`
}

// Problem is something wrong with one input.
type Problem struct {
	Kind ProblemKind `json:"kind"`
	// Source is the file, with the number of the report in it, or the instance.
	Source string `json:"source,omitempty"`
	// Host is whose it is, as far as that can be told.
	Host   string `json:"host,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// SeverityTotal is how much of a severity there is.
type SeverityTotal struct {
	Severity findings.Severity `json:"severity"`
	// Failing is how many findings fail, Hosts on how many hosts; Rules how many rules.
	Failing int `json:"failing"`
	Hosts   int `json:"hosts"`
	Rules   int `json:"rules"`
	// Waived is how many findings are waived.
	Waived int `json:"waived"`
}

// RuleTotal is one rule with one severity (policies may change it on some hosts).
type RuleTotal struct {
	Rule     string            `json:"rule"`
	Severity findings.Severity `json:"severity"`
	Title    string            `json:"title,omitempty"`
	// Subjects are how many NICs, VFs and hosts have each status.
	Subjects map[findings.Status]int `json:"subjects"`
	// FailingHosts is on how many hosts it fails, JudgedHosts on how many it passes,
	// fails or is waived.
	FailingHosts int `json:"failingHosts"`
	JudgedHosts  int `json:"judgedHosts"`
	// Worst are the hosts with the most failing subjects.
	Worst   []HostCount `json:"worst"`
	LeftOut int         `json:"leftOut,omitempty"`
}

// HostCount is how many of something a host has.
type HostCount struct {
	Host  string `json:"host"`
	Count int    `json:"count"`
}

// HostList is a list of the worst hosts.
type HostList struct {
	// Failing is how many hosts fail a rule of any severity.
	Failing int         `json:"failing"`
	Worst   []HostTotal `json:"worst"`
	LeftOut int         `json:"leftOut,omitempty"`
}

// HostTotal is how a host stands.
type HostTotal struct {
	Name        string    `json:"name"`
	MachineID   string    `json:"machineId,omitempty"`
	CollectedAt time.Time `json:"collectedAt"`
	// Critical, Warning and Info are how many findings of that severity fail.
	Critical int `json:"critical"`
	Warning  int `json:"warning"`
	Info     int `json:"info"`
	Error    int `json:"error"`
	Unknown  int `json:"unknown"`
	Waived   int `json:"waived"`
	Pass     int `json:"pass"`
	// Drifted is how many settings differ from what policies want.
	Drifted int `json:"drifted"`
	NICs    int `json:"nics"`
}

// GroupList is a list of kinds of NIC, those first that are surest to fail often: by the
// lower end of the 95% Wilson interval of the share, so that one of one is not the worst.
type GroupList struct {
	// Count is how many different there are.
	Count   int     `json:"count"`
	Worst   []Group `json:"worst"`
	LeftOut int     `json:"leftOut,omitempty"`
}

// Group is NICs, as [Scope] counts them, that have something in common.
type Group struct {
	// Of is what Name is one of: the model of a firmware version, the driver of a
	// driver's version. It is empty for a model.
	Of string `json:"of,omitempty"`
	// Name is "" where the NICs don't tell.
	Name string `json:"name"`
	// Hosts have such NICs; on FailingHosts one of these fails a rule of severity
	// warning or critical.
	Hosts        int `json:"hosts"`
	FailingHosts int `json:"failingHosts"`
	NICs         int `json:"nics"`
	FailingNICs  int `json:"failingNics"`
	// Share is FailingHosts of Hosts, Least the lower end of its 95% Wilson interval.
	Share float64 `json:"share"`
	Least float64 `json:"least"`
	// Rules are those that fail on the most hosts there.
	Rules []RuleCount `json:"rules"`
}

// RuleCount is on how many hosts a rule fails.
type RuleCount struct {
	Rule  string `json:"rule"`
	Hosts int    `json:"hosts"`
}

// OutlierList is a list of kinds of NIC that fail more often than their peers.
type OutlierList struct {
	// Tests is how many comparisons were made. P of each outlier is corrected for that.
	Tests   int       `json:"tests"`
	List    []Outlier `json:"list"`
	LeftOut int       `json:"leftOut,omitempty"`
}

// Outlier is a kind of NIC on which a rule fails on a share of hosts that is well above
// its peers': at least three hosts, at least twice the peers' share, and by Fisher's
// exact test (one-sided, over hosts, corrected by Holm's method for how many comparisons
// were made) with less than 5% probability that any outlier of the report is chance.
type Outlier struct {
	// Dimension is "firmware" (peers: the same model with other firmware),
	// "driver-version" (the same driver's other versions) or "model" (other models).
	Dimension string `json:"dimension"`
	// Of is what the peers have in common, Name what sets these apart.
	Of   string `json:"of,omitempty"`
	Name string `json:"name"`
	// Rule is what fails.
	Rule        string  `json:"rule"`
	Hosts       int     `json:"hosts"`
	Failing     int     `json:"failing"`
	Share       float64 `json:"share"`
	PeerHosts   int     `json:"peerHosts"`
	PeerFailing int     `json:"peerFailing"`
	PeerShare   float64 `json:"peerShare"`
	// P is the corrected probability.
	P float64 `json:"p"`
}

// Links are ports and the speed that they run at.
type Links struct {
	// Compared is how many have a link whose speed and maximum are both known, Below how
	// many of those run slower than they can; Unknown is how many can't be compared, and
	// Down how many have no link.
	Compared int       `json:"compared"`
	Below    int       `json:"below"`
	Unknown  int       `json:"unknown"`
	Down     int       `json:"down"`
	Worst    []LinkRow `json:"worst"`
	LeftOut  int       `json:"leftOut,omitempty"`
}

// LinkRow is a port below its maximum.
type LinkRow struct {
	Port
	SpeedMbps    int `json:"speedMbps"`
	MaxSpeedMbps int `json:"maxSpeedMbps"`
}

// Port says which NIC it is about.
type Port struct {
	Host    string `json:"host"`
	Device  string `json:"device,omitempty"`
	Address string `json:"pciAddress,omitempty"`
	Model   string `json:"model,omitempty"`
}

// PCIeLinks are NICs' own PCIe links.
type PCIeLinks struct {
	// Compared is how many are known with their maximum, Degraded how many of those are
	// slower or narrower; Unknown is how many can't be compared. Those of virtual
	// machines are no real links, and among the unknown.
	Compared int       `json:"compared"`
	Degraded int       `json:"degraded"`
	Unknown  int       `json:"unknown"`
	Worst    []PCIeRow `json:"worst"`
	LeftOut  int       `json:"leftOut,omitempty"`
}

// PCIeRow is a NIC whose PCIe link is below its maximum.
type PCIeRow struct {
	Port
	PCIe
	// Share is what is left of the maximum, speed and width taken together.
	Share float64 `json:"share"`
}

// Optics are what modules measure.
type Optics struct {
	// Ports is how many have a module that measures something with thresholds.
	Ports int `json:"ports"`
	// Alarms and Warnings are how many of them are outside of such a threshold, an alarm
	// not counted as a warning again.
	Alarms   int `json:"alarms"`
	Warnings int `json:"warnings"`
	// Margins is how many ports receive with how much to spare to the low threshold of
	// their warning: the least lane of each.
	Margins []MarginBand `json:"margins"`
	// Lowest are those with the least room to their thresholds.
	Lowest  []OpticRow `json:"lowest"`
	LeftOut int        `json:"leftOut,omitempty"`
}

// MarginBand is how many ports have a margin of received power below this, and no less
// than the band before says.
type MarginBand struct {
	// UnderDB is absent in the last band, which has no end.
	UnderDB *float64 `json:"underDb,omitempty"`
	Ports   int      `json:"ports"`
}

// OpticRow is a quantity that a module measures.
type OpticRow struct {
	Port
	Optic
}

// Flaps are links that were lost.
type Flaps struct {
	// Counted is how many NICs' losses are known, Flapped how many of these lost their
	// link, Downs how often in sum.
	Counted int    `json:"counted"`
	Flapped int    `json:"flapped"`
	Downs   uint64 `json:"downs"`
	// WindowSeconds is the time in which it happened; absent where it is that since each
	// device was made.
	WindowSeconds float64   `json:"windowSeconds,omitempty"`
	Worst         []FlapRow `json:"worst"`
	LeftOut       int       `json:"leftOut,omitempty"`
}

// FlapRow is a NIC that lost its link.
type FlapRow struct {
	Port
	Downs uint64 `json:"downs"`
}

// VFUse is what is made of virtual functions.
type VFUse struct {
	// NICs is how many can have VFs; Enabled and Total how many there are and can be.
	NICs    int `json:"nics"`
	Enabled int `json:"enabled"`
	Total   int `json:"total"`
	// Used is how many of them somebody uses, Known of how many that is known.
	Used  int `json:"used"`
	Known int `json:"known"`
	// Drivers is how many each driver has, the most first; "" is none.
	Drivers []DriverCount `json:"drivers"`
	// SharedGroups is how many IOMMU groups hold a VF and something else.
	SharedGroups int         `json:"sharedGroups"`
	Shared       []SharedRow `json:"shared"`
	LeftOut      int         `json:"leftOut,omitempty"`
}

// DriverCount is how many VFs a driver has.
type DriverCount struct {
	Driver string `json:"driver"`
	VFs    int    `json:"vfs"`
}

// SharedRow is an IOMMU group that holds a VF and something else.
type SharedRow struct {
	Port
	SharedGroup
}

// Profile is how many NICs are ready for a purpose.
type Profile struct {
	Profile  string `json:"profile"`
	Ready    int    `json:"ready"`
	NotReady int    `json:"notReady"`
	Unknown  int    `json:"unknown"`
	// ReadyHosts is how many hosts have a NIC that is ready, of Hosts that were asked.
	ReadyHosts int `json:"readyHosts"`
	Hosts      int `json:"hosts"`
}

// DriftList is how hosts stand to policies.
type DriftList struct {
	// Hosts is how many hosts were compared with policies, Drifted how many differ.
	Hosts    int           `json:"hosts"`
	Drifted  int           `json:"drifted"`
	Policies []PolicyDrift `json:"policies"`
	LeftOut  int           `json:"leftOut,omitempty"`
}

// PolicyDrift is how hosts stand to one policy.
type PolicyDrift struct {
	Policy string `json:"policy"`
	Hosts  int    `json:"hosts"`
	// DriftedHosts have a setting that differs.
	DriftedHosts int `json:"driftedHosts"`
	// How many settings of NICs and hosts stand how.
	AsWanted   int `json:"asWanted"`
	Drifted    int `json:"drifted"`
	Impossible int `json:"impossible"`
	Skipped    int `json:"skipped"`
	Undecided  int `json:"undecided"`
	// Settings are those that differ, the most first.
	Settings []SettingCount `json:"settings"`
	// Worst are the hosts with the most settings that differ.
	Worst   []HostCount `json:"worst"`
	LeftOut int         `json:"leftOut,omitempty"`
}

// SettingCount is how often a setting differs.
type SettingCount struct {
	Setting string `json:"setting"`
	Drifted int    `json:"drifted"`
}

// Waivers are what somebody answers for.
type Waivers struct {
	// Active hold, Expiring are those of them that end within two weeks, Expired hold no
	// more: findings.
	Active   int `json:"active"`
	Expiring int `json:"expiring"`
	Expired  int `json:"expired"`
	// Undated have an end that is no date, and hold for nobody.
	Undated int `json:"undated"`
	// List are the waivers, those that ended first.
	List    []WaiverRow `json:"list"`
	LeftOut int         `json:"leftOut,omitempty"`
}

// The states of a waiver.
const (
	WaiverActive   = "active"
	WaiverExpiring = "expiring"
	WaiverExpired  = "expired"
	WaiverUndated  = "undated"
)

// WaiverRow is a waiver with all that it is about.
type WaiverRow struct {
	Waiver
	// State is "active", "expiring", "expired" or "undated"; Hosts on how many hosts.
	State string `json:"state"`
	Hosts int    `json:"hosts"`
}
