package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// HostKind heads a [HostReport].
const HostKind = "AuditReport"

// HostReport is what nictune audit says of one host: every verdict, the facts that a
// reader needs beside them, and what became of policies. It can be read without the
// host and without nictune. Its form is described by docs/schema/audit.schema.json.
//
// The same host gives the same bytes but for the times, the names of devices and what
// counts: lists are in an order that renames and reboots leave alone. A fact that is
// not known is absent. All text is what hosts, drivers and modules say of themselves:
// whoever renders it escapes it.
type HostReport struct {
	APIVersion  string    `json:"apiVersion"`
	Kind        string    `json:"kind"`
	CollectedAt time.Time `json:"collectedAt"`
	// Version is that of the nictune that wrote the report.
	Version string `json:"version,omitempty"`

	Host HostSummary `json:"host"`
	// WatchedSeconds is how long the host was watched; absent where it was looked at
	// once: rules about rates are then unknown.
	WatchedSeconds float64 `json:"watchedSeconds,omitempty"`

	// Counts are how many findings there are of each status.
	Counts map[findings.Status]int `json:"counts"`
	// Rules are what is told of the rules that have a finding, by id.
	Rules []findings.About `json:"rules"`
	// Findings are all of them: what fails first, the gravest first, then by rule and
	// subject.
	Findings []findings.Finding `json:"findings"`
	// NICs are the network devices, and the physical functions that have none, by ID.
	NICs []NICSummary `json:"nics"`
	// Drift is what tuning policies want of the host, beside what it has. It is absent
	// where no policies were given, and empty where they want nothing.
	Drift []DriftSummary `json:"drift,omitzero"`
	// Waivers are those that policies for this host have, by rule.
	Waivers []WaiverSummary `json:"waivers,omitempty"`
	// Baseline is what changed since an earlier report, where one was given.
	Baseline *Difference `json:"baseline,omitempty"`
	// Problems are what went wrong and is no finding: a policy's condition that can't
	// be decided, policies that contradict each other.
	Problems []string `json:"problems,omitempty"`
}

// HostSummary is the host.
type HostSummary struct {
	// Name is the hostname. Two hosts may have the same; MachineID, of
	// /etc/machine-id, is one host's own.
	Name      string `json:"name,omitempty"`
	MachineID string `json:"machineId,omitempty"`
	// Labels are what the administrators say of the host.
	Labels       map[string]string `json:"labels,omitempty"`
	Kernel       string            `json:"kernel,omitempty"`
	Distribution string            `json:"distribution,omitempty"`
	Architecture string            `json:"architecture,omitempty"`
	// VirtualMachine is absent where that can't be told.
	VirtualMachine *bool              `json:"virtualMachine,omitempty"`
	Machine        *inventory.Machine `json:"machine,omitempty"`
	CPUs           inventory.CPUs     `json:"cpus"`
	// NUMANodes are the memory nodes, by number.
	NUMANodes []inventory.NUMANode `json:"numaNodes,omitempty"`
	// IOMMUs are the units in use: "dmar0". Empty means that none is.
	IOMMUs []string           `json:"iommus,omitempty"`
	Unread []inventory.Unread `json:"unread,omitempty"`
}

// NICSummary is what a reader of a report needs to know of a NIC.
type NICSummary struct {
	// ID stays over renames: that of [inventory.NIC.ID].
	ID string `json:"id"`
	// Name is the network device's; absent on a physical function that has none here.
	Name string `json:"name,omitempty"`
	// Kind is the part of a device that it is: "pf", "vf", "virtual", ...
	Kind inventory.Function `json:"kind"`
	// Type is the link type: "ether", "veth", "bridge".
	Type         string `json:"type,omitempty"`
	MAC          string `json:"mac,omitempty"`
	PermanentMAC string `json:"permanentMac,omitempty"`
	// PortName is phys_port_name; Master the bond or bridge that it is in.
	PortName string `json:"portName,omitempty"`
	Master   string `json:"master,omitempty"`

	Driver        string `json:"driver,omitempty"`
	DriverVersion string `json:"driverVersion,omitempty"`
	Firmware      string `json:"firmware,omitempty"`

	PCI *PCISummary `json:"pci,omitempty"`
	// NUMANode is the memory node that the device is on; absent where none is known.
	NUMANode *int         `json:"numaNode,omitempty"`
	IOMMU    *IOMMUGroup  `json:"iommu,omitempty"`
	Link     LinkSummary  `json:"link"`
	Module   *ModuleBrief `json:"module,omitempty"`
	// SRIOV is there on a physical function that can have virtual ones, where they
	// were looked at.
	SRIOV *SRIOVSummary `json:"sriov,omitempty"`
	// XDPMode is "driver", "generic" or "hardware" where a program is attached, the
	// slowest where there are several, and "none". It is absent where it is not known.
	XDPMode string `json:"xdpMode,omitempty"`
	// Readiness is "ready", "not-ready" or "unknown" by profile of nictune check xdp
	// --profile.
	Readiness map[string]string `json:"readiness,omitempty"`

	Unread []inventory.Unread `json:"unread,omitempty"`
}

// The answers of [NICSummary.Readiness].
const (
	Ready        = "ready"
	NotReady     = "not-ready"
	ReadyUnknown = "unknown"
)

// PCISummary is the PCI function behind a NIC.
type PCISummary struct {
	// Address is domain:bus:device.function.
	Address string `json:"address"`
	// The ids are four hex digits without 0x; the names those of pci.ids.
	VendorID string `json:"vendorId,omitempty"`
	DeviceID string `json:"deviceId,omitempty"`
	Vendor   string `json:"vendor,omitempty"`
	Device   string `json:"device,omitempty"`
	// Subsystem is the name of the board, where it differs from the device's.
	Subsystem string `json:"subsystem,omitempty"`
	// PhysicalFunction is the address of a VF's PF, VFIndex its number there.
	PhysicalFunction string `json:"physicalFunction,omitempty"`
	VFIndex          *int   `json:"vfIndex,omitempty"`
	// Path are the hops from the root port down to the one just above the function.
	Path []inventory.PCIHop `json:"path,omitempty"`
	// Link is the function's own link.
	Link *inventory.PCIeLink `json:"link,omitempty"`
	// Tightest is the link on the way that has the least left for what has to pass it.
	Tightest *Passage `json:"tightest,omitempty"`
}

// Passage is a PCIe link beside what the ports need whose packets pass it. The
// figures are in gigabytes (10^9) a second each way.
type Passage struct {
	// Address is the hop or the function at whose upper end the link is; Kind
	// "root port", "its own link", ...
	Address string `json:"address"`
	Kind    string `json:"kind"`
	// CarriesGBs is the link's rate after line coding, UsableGBs what is left of it
	// for packets, NeededGBs what the ports need at line rate; absent where their
	// speeds aren't known.
	CarriesGBs float64  `json:"carriesGBs"`
	UsableGBs  float64  `json:"usableGBs"`
	NeededGBs  *float64 `json:"neededGBs,omitempty"`
	// Ports is how many ports that is of.
	Ports int `json:"ports"`
}

// IOMMUGroup is where a function stands among the groups.
type IOMMUGroup struct {
	Group int `json:"group"`
	// Type is the default domain: "DMA", "DMA-FQ", "identity".
	Type string `json:"type,omitempty"`
	// Shared is whether other devices are in the group: Members are their addresses.
	Shared  bool     `json:"shared"`
	Members []string `json:"members,omitempty"`
}

// LinkSummary is a NIC's link.
type LinkSummary struct {
	Admin   string `json:"admin,omitempty"`
	Oper    string `json:"oper,omitempty"`
	Carrier *bool  `json:"carrier,omitempty"`
	// SpeedMbps is what it runs at, MaxSpeedMbps the most that the port's modes have,
	// in 10^6 bits a second.
	SpeedMbps    *int   `json:"speedMbps,omitempty"`
	MaxSpeedMbps *int   `json:"maxSpeedMbps,omitempty"`
	Duplex       string `json:"duplex,omitempty"`
	// FEC is the mode that is active: "rs", "baser", "off".
	FEC string `json:"fec,omitempty"`
	// MTU is in bytes.
	MTU *int `json:"mtu,omitempty"`
	// Downs is how often the carrier was lost since the device was made; DownEvents
	// the device's own count, where it has one.
	Downs      *uint64 `json:"downs,omitempty"`
	DownEvents *uint64 `json:"downEvents,omitempty"`
}

// ModuleBrief is a pluggable module or cable.
type ModuleBrief struct {
	// FormFactor is the identifier's name: "SFP/SFP+/SFP28", "QSFP28".
	FormFactor   string `json:"formFactor,omitempty"`
	Medium       string `json:"medium,omitempty"`
	Vendor       string `json:"vendor,omitempty"`
	PartNumber   string `json:"partNumber,omitempty"`
	SerialNumber string `json:"serialNumber,omitempty"`
	// Measured is what the module measures, the temperature and the voltage first and
	// then lane by lane.
	Measured []Measured `json:"measured,omitempty"`
	// Doubts name what is not to be believed, and why.
	Doubts []string `json:"doubts,omitempty"`
}

// Measured is one value beside its thresholds.
type Measured struct {
	// Quantity is "temperature", "voltage", "bias", "tx-power" or "rx-power".
	Quantity string `json:"quantity"`
	// Lane counts from 1; absent for what concerns the whole module.
	Lane int `json:"lane,omitempty"`
	// Value is in Unit: °C, V, mA, or dBm for powers. It is absent at no light.
	Value *float64 `json:"value,omitempty"`
	Unit  string   `json:"unit"`
	// Verdict is "ok", "high-alarm", "low-alarm", "high-warning" or "low-warning";
	// absent without thresholds.
	Verdict string `json:"verdict,omitempty"`
	// Margins are how far the value is inside each of the module's thresholds, and
	// negative where it is outside: in the value's unit, and in dB for powers.
	Margins *Margins `json:"margins,omitempty"`
}

// Margins are distances to thresholds.
type Margins struct {
	LowAlarm    *float64 `json:"lowAlarm,omitempty"`
	LowWarning  *float64 `json:"lowWarning,omitempty"`
	HighWarning *float64 `json:"highWarning,omitempty"`
	HighAlarm   *float64 `json:"highAlarm,omitempty"`
}

// SRIOVSummary is a physical function's virtual ones.
type SRIOVSummary struct {
	// NumVFs is how many are enabled, TotalVFs how many can be.
	NumVFs   *int `json:"numVfs,omitempty"`
	TotalVFs *int `json:"totalVfs,omitempty"`
	// VFs are the enabled ones, by number.
	VFs []VFSummary `json:"vfs,omitempty"`
}

// VFSummary is one virtual function, wherever it is used.
type VFSummary struct {
	// Index is the number that ip link calls vf.
	Index int `json:"index"`
	// Address is its PCI address; absent for one that is no PCI device.
	Address string `json:"address,omitempty"`
	Driver  string `json:"driver,omitempty"`
	// Name is its network device, in whatever namespace.
	Name string `json:"name,omitempty"`
	// MAC is the address that the PF's driver gives it.
	MAC         string      `json:"mac,omitempty"`
	IOMMU       *IOMMUGroup `json:"iommu,omitempty"`
	Representor string      `json:"representor,omitempty"`
	// Users are who would notice if it went away: "vm web-1", "container 3f2a".
	Users []string `json:"users,omitempty"`
	// UsersUnread is why that could not be read: then there may be more, and none is no
	// proof that nobody uses it.
	UsersUnread string `json:"usersUnread,omitempty"`
}

// How a setting stands that a policy wants.
const (
	// AsWanted: the host has it.
	AsWanted = "as-wanted"
	// Drifted: the host has something else.
	Drifted = "drifted"
	// Impossible: it can't be had, or could not be compared, for a reason.
	Impossible = "impossible"
	// Skipped: the device lacks it, and the policy calls it optional.
	Skipped = "skipped"
	// Undecided: whether the policy is for the device can't be told, since a fact
	// that its match asks for is not known.
	Undecided = "undecided"
)

// DriftSummary is one setting that a policy wants of a NIC.
type DriftSummary struct {
	Policy string `json:"policy"`
	// NIC is the ID of the NIC, "host" for a setting of the host; Name what it is
	// called.
	NIC  string `json:"nic"`
	Name string `json:"name,omitempty"`
	// Setting is empty where it can't be told whether the policy is for the NIC.
	Setting string `json:"setting,omitempty"`
	// Status is "as-wanted", "drifted", "impossible", "skipped" or "undecided".
	Status string `json:"status"`
	// Fields are those of the setting that differ, "rx: 512, wanted 4096", or that
	// can't have what is wanted: "rx". Of a setting that is impossible as a whole there
	// are none.
	Fields []string `json:"fields,omitempty"`
	// Skipped are those that the policy calls optional and the device lacks, each with the
	// reason, where it has others of the setting.
	Skipped []string `json:"skipped,omitempty"`
	// Reason is why it is impossible or skipped, in the four words of [inventory.Reason];
	// Detail is more of it.
	Reason inventory.Reason `json:"reason,omitempty"`
	Detail string           `json:"detail,omitempty"`
}

// NewHostReport is the report of all findings about a host. rules are what is told of
// rules, of those without a finding, too. Version, Host.Labels, Baseline and Problems
// are the caller's to fill.
func NewHostReport(e *Evidence, all []findings.Finding, rules []findings.About) *HostReport {
	r := &HostReport{
		APIVersion: inventory.APIVersion, Kind: HostKind, CollectedAt: e.CollectedAt.UTC(),
		Host: e.hostSummary(), WatchedSeconds: e.Watched().Seconds(),
		Counts: countsOf(all), Rules: []findings.About{}, Findings: slices.Clone(all), NICs: e.summaries(),
		Drift: slices.Clone(e.Drift), Waivers: e.Waivers,
	}
	slices.SortStableFunc(r.Drift, func(a, b DriftSummary) int {
		return cmp.Or(strings.Compare(a.Policy, b.Policy), strings.Compare(a.NIC, b.NIC), strings.Compare(a.Setting, b.Setting))
	})
	if r.Findings == nil {
		r.Findings = []findings.Finding{}
	}
	sortFindings(r.Findings)
	said := map[string]bool{}
	for _, f := range all {
		said[f.Rule] = true
	}
	for _, about := range rules {
		if said[about.ID] {
			r.Rules = append(r.Rules, about)
		}
	}
	slices.SortFunc(r.Rules, func(a, b findings.About) int { return strings.Compare(a.ID, b.ID) })
	return r
}

func countsOf(all []findings.Finding) map[findings.Status]int {
	counts := map[findings.Status]int{}
	for _, f := range all {
		counts[f.Status]++
	}
	return counts
}

// sortFindings puts findings in an order that doesn't depend on the order in which
// devices were found.
func sortFindings(all []findings.Finding) {
	slices.SortStableFunc(all, func(a, b findings.Finding) int {
		return cmp.Or(strings.Compare(a.Subject.ID, b.Subject.ID), comparePart(a.Subject.Part, b.Subject.Part), strings.Compare(a.Subject.Name, b.Subject.Name))
	})
	findings.Sort(all)
}

// comparePart has "vf 2" before "vf 10".
func comparePart(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// Worst is the gravest severity that fails, and whether any does.
func (r *HostReport) Worst() (findings.Severity, bool) {
	worst, fails := findings.Info, false
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Status == findings.Fail && (!fails || f.Severity.AtLeast(worst)) {
			worst, fails = f.Severity, true
		}
	}
	return worst, fails
}
