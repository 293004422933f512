package fleet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// Host is what a fleet's report takes of one host. Both sources, reports and
// Prometheus, make it, so that both give the same report. A fact that is not known is
// absent: nothing here stands for "all is well" by being missing, except that a status
// which no subject has is left out of Verdicts.
type Host struct {
	// Name is the hostname. Two hosts may have the same: MachineID, of
	// /etc/machine-id, tells them apart. It is empty where it isn't known.
	Name      string `json:"name"`
	MachineID string `json:"machineId,omitempty"`
	// Source is where this was read: "web-1.json", "-:12" for the 12th report of
	// standard input, an instance of Prometheus.
	Source string `json:"source,omitempty"`
	// CollectedAt is when the host was judged, by its own clock.
	CollectedAt time.Time `json:"collectedAt"`
	// Version is that of the nictune that judged it, Kernel the host's.
	Version string `json:"version,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	// VirtualMachine is absent where that can't be told. What a virtual machine says
	// of PCIe is not held against it.
	VirtualMachine *bool `json:"virtualMachine,omitempty"`

	// Verdicts are how many subjects a rule has of each status, of all findings.
	Verdicts []Verdict `json:"verdicts"`
	// Findings are those that fail, could not be read or are waived.
	Findings []Finding `json:"findings,omitempty"`
	// NICs are the network devices, but no software devices.
	NICs []NIC `json:"nics,omitempty"`
	// Drift is what tuning policies want of the host, those settings that it has as
	// wanted, too. It is absent where no policies were given.
	Drift []Drift `json:"drift,omitzero"`
	// Waivers are those that the policies for this host have: also the expired, and those
	// that nothing fails without.
	Waivers []Waiver `json:"waivers,omitempty"`
	// Problems are what went wrong on the host and is no finding.
	Problems []string `json:"problems,omitempty"`
	// LeftOut is how many findings, NICs and settings of one of the worst hosts are left out.
	LeftOut int `json:"leftOut,omitempty"`
}

// detailRows is how many findings, NICs and settings each of a worst host there are.
const detailRows = 100

// brief is the host with the gravest of its findings, the first of its NICs and of the
// settings that are not as wanted.
func (h *Host) brief() Host {
	b := *h
	b.LeftOut = 0
	b.Findings = slices.SortedStableFunc(slices.Values(h.Findings), func(x, y Finding) int {
		status := func(f Finding) int { return slices.Index(findings.Statuses(), f.Status) }
		severity := func(f Finding) int { return slices.Index(findings.Severities(), f.Severity) }
		return cmp.Or(cmp.Compare(status(x), status(y)), cmp.Compare(severity(y), severity(x)))
	})
	b.Drift = slices.DeleteFunc(slices.Clone(h.Drift), func(d Drift) bool { return d.Status == audit.AsWanted })
	b.Findings = firstRows(&b, b.Findings)
	b.NICs = firstRows(&b, b.NICs)
	b.Drift = firstRows(&b, b.Drift)
	return b
}

func firstRows[T any](h *Host, all []T) []T {
	n := min(len(all), detailRows)
	h.LeftOut += len(all) - n
	return all[:n]
}

// Verdict is how many subjects of a host have this status by a rule.
type Verdict struct {
	Rule     string            `json:"rule"`
	Severity findings.Severity `json:"severity"`
	Status   findings.Status   `json:"status"`
	Subjects int               `json:"subjects"`
}

// Finding is one that asks for somebody's attention.
type Finding struct {
	Rule     string            `json:"rule"`
	Severity findings.Severity `json:"severity"`
	Status   findings.Status   `json:"status"`
	// NIC is the ID of the NIC that it is about, "host" for the host; Device what
	// people call it; Part what of it is judged by itself: "vf 3".
	NIC    string `json:"nic"`
	Device string `json:"device,omitempty"`
	Part   string `json:"part,omitempty"`
	// Title is what is wrong, Seen what was seen; Prometheus knows neither.
	Title string `json:"title,omitempty"`
	Seen  string `json:"seen,omitempty"`
}

// NIC is a network device of a host.
type NIC struct {
	// ID stays over renames; Device is the network device's name, Address the PCI
	// address.
	ID      string `json:"id"`
	Device  string `json:"device,omitempty"`
	Address string `json:"pciAddress,omitempty"`
	// Kind is "pf", "plain", "vf", "sf" or "representor".
	Kind string `json:"kind,omitempty"`
	// PhysicalFunction is the PCI address of a VF's PF, where that is in the same host.
	// Prometheus doesn't know.
	PhysicalFunction string `json:"physicalFunction,omitempty"`
	// Model is the name of vendor and device, or their ids.
	Model         string `json:"model,omitempty"`
	Driver        string `json:"driver,omitempty"`
	DriverVersion string `json:"driverVersion,omitempty"`
	Firmware      string `json:"firmware,omitempty"`
	// Carrier is whether the link is there; the speeds are what it runs at and the most
	// that the port can, in 10^6 bits a second.
	Carrier      *bool `json:"carrier,omitempty"`
	SpeedMbps    *int  `json:"speedMbps,omitempty"`
	MaxSpeedMbps *int  `json:"maxSpeedMbps,omitempty"`
	// Downs is how often the link was lost since the device was made; from Prometheus,
	// within the time asked for.
	Downs *uint64 `json:"downs,omitempty"`
	PCIe  *PCIe   `json:"pcie,omitempty"`
	// Optics are what its module measures, with thresholds.
	Optics []Optic `json:"optics,omitempty"`
	VFs    *VFs    `json:"vfs,omitempty"`
	// Readiness is "ready", "not-ready" or "unknown" by profile of nictune check xdp
	// --profile.
	Readiness map[string]string `json:"readiness,omitempty"`
}

// PCIe is a NIC's own PCIe link, with the speed of a lane in GT/s.
type PCIe struct {
	CurrentGTs   float64 `json:"currentGTs,omitempty"`
	MaxGTs       float64 `json:"maxGTs,omitempty"`
	CurrentWidth int     `json:"currentWidth,omitempty"`
	MaxWidth     int     `json:"maxWidth,omitempty"`
}

// Optic is one quantity of a module: of its lanes, the one nearest to a threshold.
type Optic struct {
	// Vendor, PartNumber and SerialNumber are the module's.
	Vendor       string `json:"vendor,omitempty"`
	PartNumber   string `json:"partNumber,omitempty"`
	SerialNumber string `json:"serialNumber,omitempty"`
	// Quantity is "temperature", "voltage", "bias", "tx-power" or "rx-power"; Lane
	// counts from 1, and is absent for what concerns the whole module.
	Quantity string `json:"quantity"`
	Lane     int    `json:"lane,omitempty"`
	// Value is in Unit: °C, V, mA or dBm. It is absent where no light arrives.
	Value *float64 `json:"value,omitempty"`
	Unit  string   `json:"unit"`
	// Verdict is "ok", "low-warning", "high-warning", "low-alarm", "high-alarm".
	Verdict string `json:"verdict,omitempty"`
	// Margin is how far the value is inside of the nearer warning threshold (the alarm's
	// where there is no warning's), negative outside: in Unit, and in dB for powers. It
	// is absent where no light arrives.
	Margin *float64 `json:"margin,omitempty"`
	// Room is the margin as a share of what lies between the low and the high
	// threshold, so that a temperature can stand beside a power. 0.5 is the middle. It
	// is absent with only one threshold.
	Room *float64 `json:"room,omitempty"`
}

// VFs are the virtual functions of a NIC.
type VFs struct {
	// Enabled and Total are how many there are and can be.
	Enabled *int `json:"enabled,omitempty"`
	Total   *int `json:"total,omitempty"`
	// Used is how many of those enabled somebody uses: a virtual machine, a container,
	// a process. It is absent where that could not be read of one. Drivers how many each driver has, "" for none.
	Used    *int           `json:"used,omitempty"`
	Drivers map[string]int `json:"drivers,omitempty"`
	// Shared are the IOMMU groups that hold a VF and something else: they can't be
	// given to different virtual machines.
	Shared []SharedGroup `json:"shared,omitempty"`
}

// SharedGroup is an IOMMU group that holds more than one device.
type SharedGroup struct {
	Group int `json:"group"`
	// VFs are the numbers of this NIC's that are in it.
	VFs []int `json:"vfs"`
}

// Drift is one setting that a policy wants of a NIC or the host.
type Drift struct {
	Policy string `json:"policy"`
	// NIC is the NIC's ID, "host" for the host; Device what people call it.
	NIC    string `json:"nic"`
	Device string `json:"device,omitempty"`
	// Setting is empty where it can't be told whether the policy is for the NIC.
	Setting string `json:"setting,omitempty"`
	// Status is "as-wanted", "drifted", "impossible", "skipped" or "undecided".
	Status string `json:"status"`
}

// Waiver is somebody's word that a failure is accepted for a time.
type Waiver struct {
	Rule   string `json:"rule"`
	Owner  string `json:"owner,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Expires is the last day on which it holds, in UTC: "2027-01-31".
	Expires string `json:"expires"`
	// Subjects is how many findings of this host it is about; 0 where nothing needs it.
	Subjects int `json:"subjects"`
}

// waiversOf is a list of waivers in order, each with how many findings it is about.
func waiversOf(subjects map[Waiver]int) []Waiver {
	all := make([]Waiver, 0, len(subjects))
	for w, n := range subjects {
		w.Subjects = n
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b Waiver) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Expires, b.Expires), strings.Compare(a.Owner, b.Owner), strings.Compare(a.Reason, b.Reason))
	})
	return all
}
