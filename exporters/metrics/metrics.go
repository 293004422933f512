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
	// Reads says how each part of the snapshot went.
	Reads []Read
}

// Drift is how far a host is from its policies.
type Drift struct {
	Settings []DriftedSetting
	// Matched counts the NICs that each policy is for, by the policy's name.
	Matched map[string]int
	// InError says that the policies could not be compared with the host.
	InError bool
}

// DriftedSetting is one setting of one NIC that policies want something of.
type DriftedSetting struct {
	Device, Setting string
	// Drifted is whether it differs from that. It says nothing where Reason is
	// set: what is wanted can't be had, or could not be compared.
	Drifted bool
	Reason  inventory.Reason
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
	source Source

	info, up, admin, carrier, speed, mtu *prometheus.Desc
	linkInfo, carrierUp, carrierDown     *prometheus.Desc
	downEvents, unread                   *prometheus.Desc
	drifted, impossible                  *prometheus.Desc
	matched, driftError                  *prometheus.Desc
	success, duration                    *prometheus.Desc
	statistics                           []*prometheus.Desc // by inventory.StatisticNames
}

const namespace = "nictune"

// New makes a collector.
func New(source Source) *Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	c := &Collector{
		source: source,
		info: desc("nic_info", "A network device: what it is and where it is attached. Always 1; a label that is not known is empty.",
			"device", "kind", "type", "driver", "driver_version", "firmware", "pci_address", "vendor_id", "device_id",
			"permanent_mac", "mac", "numa_node", "iommu_group", "port_name", "master"),
		linkInfo: desc("network_info", "A network device's link in words, as ethtool and ip print them. Always 1; a label that is not known is empty.",
			"device", "admin", "operstate", "duplex", "port", "autoneg", "fec", "extended_state"),
		up:          desc("network_up", "Whether the operational state is up.", "device"),
		admin:       desc("network_admin_up", "Whether the device is switched on.", "device"),
		carrier:     desc("network_carrier", "Whether the link is there.", "device"),
		speed:       desc("network_speed_bytes", "The link's speed in bytes per second.", "device"),
		mtu:         desc("network_mtu_bytes", "The largest packet that the device sends.", "device"),
		carrierUp:   desc("network_carrier_up_changes_total", "How often the link came up, as the kernel counts.", "device"),
		carrierDown: desc("network_carrier_down_changes_total", "How often the link went down, as the kernel counts.", "device"),
		downEvents:  desc("network_link_down_events_total", "How often the device itself lost its link.", "device"),
		unread:      desc("nic_unread_facts", "Facts that could not be read, by reason.", "device", "reason"),
		drifted:     desc("policy_setting_drifted", "Whether a setting differs from what the policies want.", "device", "setting"),
		impossible:  desc("policy_setting_impossible", "A setting that policies want and that the NIC can't have, by reason. Always 1.", "device", "setting", "reason"),
		matched:     desc("policy_matched_nics", "How many NICs a policy is for.", "policy"),
		driftError:  desc("policy_error", "Whether the policies could not be compared with the host."),
		success:     desc("scrape_collector_success", "Whether this part of the scrape was read without an error.", "collector"),
		duration:    desc("scrape_collector_duration_seconds", "How long this part of the scrape took to read.", "collector"),
	}
	for _, name := range inventory.StatisticNames() {
		metric, help := statistic(name)
		c.statistics = append(c.statistics, desc(metric, help, "device"))
	}
	return c
}

// BuildInfo is the metric that tells which nictune runs.
func BuildInfo(version, revision string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace:   namespace,
		Name:        "build_info",
		Help:        "The version of nictune. Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

// statistic names the metric for one of the kernel's standard counters:
// "rx_bytes" is network_receive_bytes_total.
func statistic(name string) (metric, help string) {
	metric, help = name, "Standard counter "+name+" of struct rtnl_link_stats64, see linux/if_link.h."
	if rest, ok := strings.CutPrefix(name, "rx_"); ok {
		metric = "receive_" + rest
	} else if rest, ok := strings.CutPrefix(name, "tx_"); ok {
		metric = "transmit_" + rest
	} else if name == "multicast" {
		metric = "receive_multicast"
	}
	return "network_" + metric + "_total", help
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{
		c.info, c.linkInfo, c.up, c.admin, c.carrier, c.speed, c.mtu, c.carrierUp, c.carrierDown, c.downEvents,
		c.unread, c.drifted, c.impossible, c.matched, c.driftError, c.success, c.duration,
	}, c.statistics...) {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.source()
	for _, r := range s.Reads {
		gauge(ch, c.success, truth(r.Success), r.Collector)
		gauge(ch, c.duration, r.Seconds, r.Collector)
	}
	if s.Inventory != nil {
		for i := range s.Inventory.NICs {
			c.nic(ch, &s.Inventory.NICs[i])
		}
	}
	for i := range s.Statistics {
		one := &s.Statistics[i]
		for j, v := range one.Values {
			counter(ch, c.statistics[j], v, one.Name)
		}
	}
	if s.Drift != nil {
		c.drift(ch, s.Drift)
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
	gauge(ch, c.info, 1, n.Name, string(n.Function), n.Type, driver.Name, driver.Version, driver.Firmware, pci.Address,
		pci.VendorID, pci.DeviceID, n.PermanentMAC, n.MAC, node, group, n.Port.Name, n.Stack.Master)
	gauge(ch, c.linkInfo, 1, n.Name, n.Link.Admin, n.Link.Oper, n.Link.Duplex, n.Link.Port, autoneg, fec, n.Link.ExtendedState)

	if n.Link.Oper != "" && n.Link.Oper != "unknown" {
		gauge(ch, c.up, truth(n.Link.Oper == "up"), n.Name)
	}
	if n.Link.Admin != "" {
		gauge(ch, c.admin, truth(n.Link.Admin == "up"), n.Name)
	}
	if n.Link.Carrier != nil {
		gauge(ch, c.carrier, truth(*n.Link.Carrier), n.Name)
	}
	if n.Link.SpeedMbps != nil {
		const bytesPerMegabit = 1e6 / 8
		gauge(ch, c.speed, float64(*n.Link.SpeedMbps)*bytesPerMegabit, n.Name)
	}
	if n.Link.MTU != nil {
		gauge(ch, c.mtu, float64(*n.Link.MTU), n.Name)
	}
	for desc, v := range map[*prometheus.Desc]*uint64{
		c.carrierUp: n.Link.CarrierUp, c.carrierDown: n.Link.CarrierDown, c.downEvents: n.Link.DownEvents,
	} {
		if v != nil {
			counter(ch, desc, *v, n.Name)
		}
	}
	unread := map[inventory.Reason]int{}
	for _, u := range n.Unread {
		unread[u.Reason]++
	}
	for reason, count := range unread {
		gauge(ch, c.unread, float64(count), n.Name, string(reason))
	}
}

func (c *Collector) drift(ch chan<- prometheus.Metric, d *Drift) {
	gauge(ch, c.driftError, truth(d.InError))
	for _, s := range d.Settings {
		if s.Reason != "" {
			gauge(ch, c.impossible, 1, s.Device, s.Setting, string(s.Reason))
			continue
		}
		gauge(ch, c.drifted, truth(s.Drifted), s.Device, s.Setting)
	}
	for policy, nics := range d.Matched {
		gauge(ch, c.matched, float64(nics), policy)
	}
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	send(ch, d, prometheus.GaugeValue, v, labels)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	send(ch, d, prometheus.CounterValue, float64(v), labels)
}

// send drops nothing: label values that the exposition can't hold (a firmware
// string that is no UTF-8) are repaired, so that one device never fails a scrape.
func send(ch chan<- prometheus.Metric, d *prometheus.Desc, t prometheus.ValueType, v float64, labels []string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
