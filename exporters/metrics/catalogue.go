package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nictune/nictune/inventory"
)

// Metric says what one metric is.
type Metric struct {
	Name, Help string
	// Type is "gauge" or "counter".
	Type string
	// Unit is a base unit, or "" for a number without one: a truth (1 or 0), or
	// an info that is always 1.
	Unit   string
	Labels []string
	// Source is where the value comes from: the kernel's interface, and the
	// command that prints the same.
	Source string
	// Series is how many there are at most.
	Series string
}

// Catalogue lists every metric of nictune's own, in the order of their subjects.
func Catalogue() []Metric {
	all := []Metric{buildInfo}
	for _, f := range New(nil).families {
		all = append(all, f.Metric)
	}
	return all
}

// family is a metric that can be sent.
type family struct {
	Metric
	desc      *prometheus.Desc
	valueType prometheus.ValueType
}

// add makes a family, which is then described and catalogued.
func (c *Collector) add(m Metric) *family {
	m.Name = "nictune_" + m.Name
	f := &family{Metric: m, desc: prometheus.NewDesc(m.Name, m.Help, m.Labels, nil), valueType: prometheus.GaugeValue}
	if m.Type == counter {
		f.valueType = prometheus.CounterValue
	}
	c.families = append(c.families, f)
	return f
}

const (
	gauge   = "gauge"
	counter = "counter"

	perDevice = "1 per device"
)

var buildInfo = Metric{
	Name: "nictune_build_info", Type: gauge, Help: "The version of nictune. Always 1.",
	Labels: []string{"version", "revision", "goversion"}, Source: "`nictune version`", Series: "1",
}

// define is the table of all metrics.
func (c *Collector) define() {
	device := []string{"device"}
	c.info = c.add(Metric{
		Name: "nic_info", Type: gauge,
		Help: "A network device: what it is and where it is attached. Always 1; a label that is not known is empty.",
		Labels: []string{
			"device", "kind", "type", "driver", "driver_version", "firmware", "pci_address", "vendor_id", "device_id",
			"permanent_mac", "mac", "numa_node", "iommu_group", "port_name", "master",
		},
		Source: "`nictune inventory`: rtnetlink, the ethtool ioctl GDRVINFO, sysfs", Series: perDevice,
	})
	c.linkInfo = c.add(Metric{
		Name: "network_info", Type: gauge,
		Help:   "A network device's link in words, as ethtool and ip print them. Always 1; a label that is not known is empty.",
		Labels: []string{"device", "admin", "operstate", "duplex", "port", "autoneg", "fec", "extended_state"},
		Source: "`ip link`, `ethtool`: rtnetlink, ethtool netlink", Series: perDevice,
	})
	c.up = c.add(Metric{
		Name: "network_up", Type: gauge, Labels: device, Help: "Whether the operational state is up.",
		Source: "IFLA_OPERSTATE; absent while it is unknown", Series: perDevice,
	})
	c.admin = c.add(Metric{
		Name: "network_admin_up", Type: gauge, Labels: device, Help: "Whether the device is switched on.",
		Source: "IFF_UP", Series: perDevice,
	})
	c.carrier = c.add(Metric{
		Name: "network_carrier", Type: gauge, Labels: device, Help: "Whether the link is there.",
		Source: "IFLA_CARRIER; absent while the device is switched off", Series: perDevice,
	})
	c.speed = c.add(Metric{
		Name: "network_speed_bytes", Type: gauge, Unit: "bytes per second", Labels: device, Help: "The link's speed in bytes per second.",
		Source: "ETHTOOL_A_LINKMODES_SPEED; absent while it is unknown", Series: perDevice,
	})
	c.mtu = c.add(Metric{
		Name: "network_mtu_bytes", Type: gauge, Unit: "bytes", Labels: device, Help: "The largest packet that the device sends.",
		Source: "IFLA_MTU", Series: perDevice,
	})
	c.carrierUp = c.add(Metric{
		Name: "network_carrier_up_changes_total", Type: counter, Unit: "events", Labels: device, Help: "How often the link came up, as the kernel counts.",
		Source: "IFLA_CARRIER_UP_COUNT", Series: perDevice,
	})
	c.carrierDown = c.add(Metric{
		Name: "network_carrier_down_changes_total", Type: counter, Unit: "events", Labels: device, Help: "How often the link went down, as the kernel counts.",
		Source: "IFLA_CARRIER_DOWN_COUNT", Series: perDevice,
	})
	c.downEvents = c.add(Metric{
		Name: "network_link_down_events_total", Type: counter, Unit: "events", Labels: device, Help: "How often the device itself lost its link.",
		Source: "ETHTOOL_A_LINKSTATE_EXT_DOWN_CNT; few drivers have it", Series: perDevice,
	})
	for _, name := range inventory.StatisticNames() {
		c.statistics = append(c.statistics, c.add(statistic(name)))
	}
	c.unread = c.add(Metric{
		Name: "nic_unread_facts", Type: gauge, Unit: "facts", Labels: []string{"device", "reason"}, Help: "Facts that could not be read, by reason.",
		Source: "`nictune inventory -o json`: unread", Series: "4 per device (unsupported, gone, denied, failed)",
	})
	c.drifted = c.add(Metric{
		Name: "policy_setting_drifted", Type: gauge, Labels: []string{"policy", "device", "setting"},
		Help:   "Whether a setting differs from what a policy wants. A setting of the whole host has no device.",
		Source: "`nictune plan`", Series: "1 per policy, device and setting that it wants",
	})
	c.impossible = c.add(Metric{
		Name: "policy_setting_impossible", Type: gauge, Labels: []string{"policy", "device", "setting", "reason"},
		Help:   "A setting that a policy wants and that the NIC can't have, by reason. Always 1.",
		Source: "`nictune plan`", Series: "1 per policy, device and setting that it wants, instead of drifted",
	})
	c.matched = c.add(Metric{
		Name: "policy_matched_nics", Type: gauge, Unit: "NICs", Labels: []string{"policy"}, Help: "How many NICs a policy is for.",
		Source: "`nictune plan`", Series: "1 per policy",
	})
	c.undecided = c.add(Metric{
		Name: "policy_undecided", Type: gauge, Labels: []string{"policy", "device"},
		Help:   "A NIC to which a policy is not applied because a fact that its match asks for is unknown, such as the speed of a link that is down. Always 1.",
		Source: "`nictune plan`", Series: "at most 1 per policy and device",
	})
	c.policyError = c.add(Metric{
		Name: "policy_error", Type: gauge, Help: "Whether the policies could not be compared with the host.",
		Source: "`nictune plan`", Series: "1",
	})
	c.mode = c.add(Metric{
		Name: "reconcile_info", Type: gauge, Labels: []string{"mode"}, Help: "What the agent does about drift: off, report or enforce. Always 1.",
		Source: "`nictune agent --reconcile`", Series: "1",
	})
	c.attempts = c.add(Metric{
		Name: "reconcile_attempts_total", Type: counter, Unit: "attempts", Labels: []string{"device", "outcome"},
		Help:   "Attempts to put right what had drifted, by outcome: applied, unchanged, undone, refused or failed.",
		Source: "the agent; `nictune history` has each but those that changed nothing", Series: "5 per device that a policy wants something of, with --reconcile=enforce",
	})
	c.held = c.add(Metric{
		Name: "reconcile_held", Type: gauge, Labels: []string{"device", "setting", "reason"},
		Help:   "A setting that has drifted and is not put right now, by reason: impact, backoff, fight, settling or unconfirmed. Always 1.",
		Source: "the agent", Series: "at most 1 per device and setting that a policy wants",
	})
	c.next = c.add(Metric{
		Name: "reconcile_next_attempt_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: device,
		Help:   "When the next attempt that was put off for this device is due, in Unix time.",
		Source: "the agent; absent where none is put off", Series: "at most 1 per device that a policy wants something of",
	})
	c.fight = c.add(Metric{
		Name: "reconcile_given_up", Type: gauge, Labels: []string{"device", "setting", "field", "suspects"},
		Help:   "A field that somebody sets again and again, and that is left to them, with the programs that run here and may do it. Always 1.",
		Source: "the agent", Series: "1 per field given up",
	})
	const parts = "1 per part: statistics, inventory, drift"
	c.success = c.add(Metric{
		Name: "scrape_collector_success", Type: gauge, Labels: []string{"collector"}, Help: "Whether this part of the scrape was read without an error.",
		Source: "the agent", Series: parts,
	})
	c.duration = c.add(Metric{
		Name: "scrape_collector_duration_seconds", Type: gauge, Unit: "seconds", Labels: []string{"collector"}, Help: "How long this part of the scrape took to read.",
		Source: "the agent", Series: parts,
	})
}

// statistic is the metric for one of the kernel's standard counters: "rx_bytes"
// is network_receive_bytes_total.
func statistic(name string) Metric {
	m := Metric{
		Type: counter, Unit: "packets or events", Labels: []string{"device"},
		Help:   "Standard counter " + name + " of struct rtnl_link_stats64, see linux/if_link.h.",
		Source: "`ip -s -s link`: IFLA_STATS64, `" + name + "`", Series: perDevice,
	}
	if strings.HasSuffix(name, "_bytes") {
		m.Unit = "bytes"
	}
	metric := name
	if rest, ok := strings.CutPrefix(name, "rx_"); ok {
		metric = "receive_" + rest
	} else if rest, ok := strings.CutPrefix(name, "tx_"); ok {
		metric = "transmit_" + rest
	} else if name == "multicast" {
		metric = "receive_multicast"
	}
	m.Name = "network_" + metric + "_total"
	return m
}
