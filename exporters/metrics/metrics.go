// Package metrics renders facts, counters and drift as Prometheus metrics.
//
// It renders what it is given: a [Source] decides how fresh that is and where it
// comes from. Names follow node_exporter where it has the same fact
// (nictune_network_receive_bytes_total), units are base units, and what is not
// known is an absent sample.
package metrics

import (
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nictune/nictune/inventory"
)

// Snapshot is what one scrape shows.
type Snapshot struct {
	// Inventory are the facts; nil while none have been read.
	Inventory *inventory.Inventory
	// Statistics are the counters at this moment.
	Statistics []inventory.Statistics
	// Drift is what policies want otherwise; nil without policies.
	Drift *Drift
	// Reconciliation is what the agent does about drift; nil where nobody asked.
	Reconciliation *Reconciliation
	// Reads says how each part of the snapshot went.
	Reads []Read
}

// Drift is how far a host is from its policies.
type Drift struct {
	Settings []DriftedSetting
	// Matched counts the NICs that each policy is for, by the policy's name.
	Matched map[string]int
	// Undecided are the NICs of which it can't be told whether a policy is for them.
	Undecided []UndecidedMatch
	// InError says that the policies could not be compared with the host.
	InError bool
}

// UndecidedMatch is a NIC that lacks a fact which a policy's match asks for.
type UndecidedMatch struct {
	Policy, Device string
}

// DriftedSetting is one setting of one NIC that a policy wants something of.
type DriftedSetting struct {
	// Device is empty for a setting of the whole host.
	Policy, Device, Setting string
	// Drifted is whether it differs from that. It says nothing where Reason is
	// set: what is wanted can't be had, or could not be compared.
	Drifted bool
	Reason  inventory.Reason
}

// Reconciliation is what is done about drift.
type Reconciliation struct {
	// Mode is "off", "report" or "enforce"; NICs are known only for the last.
	Mode string
	NICs []Reconciled
}

// Reconciled is what was done about the drift of one NIC.
type Reconciled struct {
	Device string
	// Attempts counts them by outcome.
	Attempts map[string]uint64
	// Held says for each drifted setting that is left as it is, why.
	Held map[string]string
	// Next is when the next attempt is due; zero where none is put off.
	Next time.Time
	// Lost are the fields that are left to somebody else.
	Lost []LostField
}

// Why a drifted setting is left as it is.
const (
	HeldImpact      = "impact"      // it takes more than was allowed
	HeldBackoff     = "backoff"     // an attempt failed, or a value came back
	HeldFight       = "fight"       // somebody else sets it again and again
	HeldSettling    = "settling"    // the NIC has just come, or been renamed
	HeldUnconfirmed = "unconfirmed" // a transaction waits for nictune confirm
)

// LostField is a field that somebody else sets again and again.
type LostField struct {
	Setting, Field string
	// Who are the programs that may do it.
	Who []string
}

// Read is how one part of the snapshot was read.
type Read struct {
	Collector string
	Seconds   float64
	Success   bool
}

// Source gives a snapshot for each scrape. It reports failures in the
// snapshot's Reads and never fails a scrape.
type Source func() Snapshot

// Collector is a [prometheus.Collector] over a source.
type Collector struct {
	source   Source
	families []*family // in the order of the catalogue

	info, linkInfo, unread                               *family
	up, admin, carrier, speed, mtu                       *family
	carrierUp, carrierDown, downEvents                   *family
	drifted, impossible, matched, undecided, policyError *family
	mode, attempts, held, next, fight                    *family
	success, duration                                    *family
	statistics                                           []*family // by inventory.StatisticNames
}

// New makes a collector.
func New(source Source) *Collector {
	c := &Collector{source: source}
	c.define()
	return c
}

// BuildInfo is the metric that tells which nictune runs.
func BuildInfo(version, revision string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        buildInfo.Name,
		Help:        buildInfo.Help,
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.families {
		ch <- f.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.source()
	for _, r := range s.Reads {
		send(ch, c.success, truth(r.Success), r.Collector)
		send(ch, c.duration, r.Seconds, r.Collector)
	}
	if s.Inventory != nil {
		for i := range s.Inventory.NICs {
			c.nic(ch, &s.Inventory.NICs[i])
		}
	}
	for i := range s.Statistics {
		one := &s.Statistics[i]
		for j, v := range one.Values {
			send(ch, c.statistics[j], float64(v), one.Name)
		}
	}
	if s.Drift != nil {
		c.drift(ch, s.Drift)
	}
	if s.Reconciliation != nil {
		c.reconciliation(ch, s.Reconciliation)
	}
}

func (c *Collector) nic(ch chan<- prometheus.Metric, n *inventory.NIC) {
	var driver inventory.Driver
	if n.Driver != nil {
		driver = *n.Driver
	}
	var pci inventory.PCI
	if n.PCI != nil {
		pci = *n.PCI
	}
	var node, group, autoneg, fec string
	if n.NUMA != nil && n.NUMA.Node != nil {
		node = strconv.Itoa(*n.NUMA.Node)
	}
	if n.IOMMU != nil {
		group = strconv.Itoa(n.IOMMU.Group)
	}
	if n.Link.Autoneg != nil {
		autoneg = strconv.FormatBool(*n.Link.Autoneg)
	}
	if n.Link.FEC != nil {
		fec = n.Link.FEC.Active
	}
	send(ch, c.info, 1, n.Name, string(n.Function), n.Type, driver.Name, driver.Version, driver.Firmware, pci.Address,
		pci.VendorID, pci.DeviceID, n.PermanentMAC, n.MAC, node, group, n.Port.Name, n.Stack.Master)
	send(ch, c.linkInfo, 1, n.Name, n.Link.Admin, n.Link.Oper, n.Link.Duplex, n.Link.Port, autoneg, fec, n.Link.ExtendedState)

	if n.Link.Oper != "" && n.Link.Oper != "unknown" {
		send(ch, c.up, truth(n.Link.Oper == "up"), n.Name)
	}
	if n.Link.Admin != "" {
		send(ch, c.admin, truth(n.Link.Admin == "up"), n.Name)
	}
	if n.Link.Carrier != nil {
		send(ch, c.carrier, truth(*n.Link.Carrier), n.Name)
	}
	if n.Link.SpeedMbps != nil {
		const bytesPerMegabit = 1e6 / 8
		send(ch, c.speed, float64(*n.Link.SpeedMbps)*bytesPerMegabit, n.Name)
	}
	if n.Link.MTU != nil {
		send(ch, c.mtu, float64(*n.Link.MTU), n.Name)
	}
	for _, count := range []struct {
		family *family
		value  *uint64
	}{{c.carrierUp, n.Link.CarrierUp}, {c.carrierDown, n.Link.CarrierDown}, {c.downEvents, n.Link.DownEvents}} {
		if count.value != nil {
			send(ch, count.family, float64(*count.value), n.Name)
		}
	}
	unread := map[inventory.Reason]int{}
	for _, u := range n.Unread {
		unread[u.Reason]++
	}
	for reason, count := range unread {
		send(ch, c.unread, float64(count), n.Name, string(reason))
	}
}

func (c *Collector) drift(ch chan<- prometheus.Metric, d *Drift) {
	send(ch, c.policyError, truth(d.InError))
	for _, s := range d.Settings {
		if s.Reason != "" {
			send(ch, c.impossible, 1, s.Policy, s.Device, s.Setting, string(s.Reason))
			continue
		}
		send(ch, c.drifted, truth(s.Drifted), s.Policy, s.Device, s.Setting)
	}
	for policy, nics := range d.Matched {
		send(ch, c.matched, float64(nics), policy)
	}
	for _, u := range d.Undecided {
		send(ch, c.undecided, 1, u.Policy, u.Device)
	}
}

func (c *Collector) reconciliation(ch chan<- prometheus.Metric, r *Reconciliation) {
	send(ch, c.mode, 1, r.Mode)
	for _, n := range r.NICs {
		for outcome, count := range n.Attempts {
			send(ch, c.attempts, float64(count), n.Device, outcome)
		}
		for setting, why := range n.Held {
			send(ch, c.held, 1, n.Device, setting, why)
		}
		if !n.Next.IsZero() {
			send(ch, c.next, float64(n.Next.UnixMilli())/1000, n.Device)
		}
		for _, f := range n.Lost {
			send(ch, c.fight, 1, n.Device, f.Setting, f.Field, strings.Join(f.Who, ", "))
		}
	}
}

// send drops nothing: label values that the exposition can't hold (a firmware
// string that is no UTF-8) are repaired, so that one device never fails a scrape.
func send(ch chan<- prometheus.Metric, f *family, v float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	ch <- prometheus.MustNewConstMetric(f.desc, f.valueType, v, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
