package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/nictune/nictune/inventory"
)

func ptr[T any](v T) *T { return &v }

func example() Snapshot {
	values := make([]uint64, len(inventory.StatisticNames()))
	for i := range values {
		values[i] = uint64(i + 1)
	}
	return Snapshot{
		Inventory: &inventory.Inventory{NICs: []inventory.NIC{
			{
				Name: "eth0", Function: inventory.PF, Type: "ether", PermanentMAC: "52:54:00:00:01:00",
				Driver: &inventory.Driver{Name: "igb", Version: "6.12", Firmware: "1.4\xff"},
				PCI:    &inventory.PCI{Address: "0000:41:00.0", VendorID: "8086", DeviceID: "10c9"},
				NUMA:   &inventory.NUMA{Node: ptr(0)}, IOMMU: &inventory.IOMMU{Group: 7},
				Link: inventory.Link{
					Admin: "up", Oper: "up", Carrier: ptr(true), SpeedMbps: ptr(1000), Duplex: "full", MTU: ptr(1500),
					CarrierUp: ptr(uint64(2)), CarrierDown: ptr(uint64(1)), DownEvents: ptr(uint64(1)),
				},
				Unread: []inventory.Unread{{Fact: "link.fec", Reason: inventory.Unsupported}, {Fact: "pci.vpd", Reason: inventory.Denied}},
			},
			{Name: "tun0", Function: inventory.Virtual, Link: inventory.Link{Oper: "unknown"}},
		}},
		Statistics: []inventory.Statistics{{Name: "eth0", Index: 2, Values: values}, {Name: "tun0", Index: 3, Values: values[:10]}},
		Counted:    counted(),
		Drift: &Drift{
			Settings: []DriftedSetting{
				{Policy: "edge", Device: "eth0", Setting: "rings", Drifted: true},
				{Policy: "edge", Device: "eth0", Setting: "channels"},
				{Policy: "rx", Device: "eth0", Setting: "channels"},
				{Policy: "edge", Device: "tun0", Setting: "rings", Reason: inventory.Unsupported},
				{Policy: "edge", Setting: "sysctl"},
			},
			Skipped: []SkippedSetting{
				{Policy: "edge", Device: "tun0", Setting: "rss"},
				{Policy: "edge", Device: "eth0", Setting: "channels", Field: "other"},
			},
			Matched:   map[string]int{"throughput": 1},
			Undecided: []UndecidedMatch{{Policy: "throughput", Device: "eth1"}},
		},
		Reconciliation: &Reconciliation{Mode: "enforce", NICs: []Reconciled{{
			Device: "eth0", Attempts: map[string]uint64{"applied": 2, "undone": 0},
			Held: map[string]string{"rings": HeldImpact}, Next: time.Unix(1700000000, 500e6),
			Lost: []LostField{{"coalesce", "rx-usecs", []string{"tuned", "NetworkManager"}}},
		}}},
		Reads: []Read{
			{Collector: "inventory", Seconds: 0.5, Success: true, At: time.Unix(1700000000, 0)},
			{Collector: "statistics", Seconds: 0.25, Errors: map[inventory.Reason]int{inventory.Gone: 1}},
		},
	}
}

// exporter shows what a source says, whatever is asked for.
func exporter(tb testing.TB, source func() Snapshot, options ...Options) *Exporter {
	tb.Helper()
	e, err := New(func(Asked) Snapshot { return source() }, append(options, Options{Limit: 1000})[0])
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestMetrics(t *testing.T) {
	want := `# HELP nictune_network_speed_bytes The link's speed in bytes per second.
# TYPE nictune_network_speed_bytes gauge
nictune_network_speed_bytes{device="eth0"} 1.25e+08
# HELP nictune_network_up Whether the operational state is up.
# TYPE nictune_network_up gauge
nictune_network_up{device="eth0"} 1
# HELP nictune_nic_info A network device: what it is and where it is attached. Always 1; a label that is not known is empty.
# TYPE nictune_nic_info gauge
nictune_nic_info{broadcast="",bus_info="",device="eth0",device_id="10c9",driver="igb",driver_version="6.12",expansion_rom_version="",firmware="1.4�",ifalias="",iommu_group="7",kind="pf",mac="",master="",model="",numa_node="0",pci_address="0000:41:00.0",permanent_mac="52:54:00:00:01:00",port_name="",type="ether",vendor_id="8086"} 1
nictune_nic_info{broadcast="",bus_info="",device="tun0",device_id="",driver="",driver_version="",expansion_rom_version="",firmware="",ifalias="",iommu_group="",kind="virtual",mac="",master="",model="",numa_node="",pci_address="",permanent_mac="",port_name="",type="",vendor_id=""} 1
# HELP nictune_nic_unread_facts Facts that could not be read, by reason.
# TYPE nictune_nic_unread_facts gauge
nictune_nic_unread_facts{device="eth0",reason="denied"} 1
nictune_nic_unread_facts{device="eth0",reason="unsupported"} 1
# HELP nictune_network_receive_bytes_total Standard counter rx_bytes of struct rtnl_link_stats64, see linux/if_link.h.
# TYPE nictune_network_receive_bytes_total counter
nictune_network_receive_bytes_total{device="eth0"} 3
nictune_network_receive_bytes_total{device="tun0"} 3
# HELP nictune_network_receive_nohandler_total Standard counter rx_nohandler of struct rtnl_link_stats64, see linux/if_link.h.
# TYPE nictune_network_receive_nohandler_total counter
nictune_network_receive_nohandler_total{device="eth0"} 24
# HELP nictune_policy_setting_drifted Whether a setting differs from what a policy wants. A setting of the whole host has no device. The origin is given (--policy), or shipped: an alternative that nobody chose.
# TYPE nictune_policy_setting_drifted gauge
nictune_policy_setting_drifted{device="",origin="given",policy="edge",setting="sysctl"} 0
nictune_policy_setting_drifted{device="eth0",origin="given",policy="edge",setting="channels"} 0
nictune_policy_setting_drifted{device="eth0",origin="given",policy="edge",setting="rings"} 1
nictune_policy_setting_drifted{device="eth0",origin="given",policy="rx",setting="channels"} 0
# HELP nictune_policy_setting_impossible A setting that a policy wants and that the NIC can't have, by reason. Always 1. The origin is given (--policy), or shipped: an alternative that nobody chose.
# TYPE nictune_policy_setting_impossible gauge
nictune_policy_setting_impossible{device="tun0",origin="given",policy="edge",reason="unsupported",setting="rings"} 1
# HELP nictune_policy_setting_skipped A setting that a policy calls optional and that the NIC lacks, or, with a field, that part of it. Always 1. The origin is given (--policy), or shipped: an alternative that nobody chose.
# TYPE nictune_policy_setting_skipped gauge
nictune_policy_setting_skipped{device="eth0",field="other",origin="given",policy="edge",setting="channels"} 1
nictune_policy_setting_skipped{device="tun0",field="",origin="given",policy="edge",setting="rss"} 1
# HELP nictune_reconcile_attempts_total Attempts to put right what had drifted, by outcome: applied, unchanged, undone, refused or failed.
# TYPE nictune_reconcile_attempts_total counter
nictune_reconcile_attempts_total{device="eth0",outcome="applied"} 2
nictune_reconcile_attempts_total{device="eth0",outcome="undone"} 0
# HELP nictune_reconcile_given_up A field that somebody sets again and again, and that is left to them, with the programs that run here and may do it. Always 1.
# TYPE nictune_reconcile_given_up gauge
nictune_reconcile_given_up{device="eth0",field="rx-usecs",setting="coalesce",suspects="tuned, NetworkManager"} 1
# HELP nictune_reconcile_held A setting that has drifted and is not put right now, by reason: impact, backoff, fight, settling or unconfirmed. Always 1.
# TYPE nictune_reconcile_held gauge
nictune_reconcile_held{device="eth0",reason="impact",setting="rings"} 1
# HELP nictune_reconcile_info What the agent does about drift: off, report or enforce. Always 1.
# TYPE nictune_reconcile_info gauge
nictune_reconcile_info{mode="enforce"} 1
# HELP nictune_reconcile_next_attempt_timestamp_seconds When the next attempt that was put off for this device is due, in Unix time.
# TYPE nictune_reconcile_next_attempt_timestamp_seconds gauge
nictune_reconcile_next_attempt_timestamp_seconds{device="eth0"} 1.7000000005e+09
`
	var names []string
	for line := range strings.Lines(want) {
		if f := strings.Fields(line); f[1] == "TYPE" {
			names = append(names, f[2])
		}
	}
	if err := testutil.GatherAndCompare(prometheus.Gatherers{exporter(t, example)}, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	for name, s := range map[string]func() Snapshot{"full": example, "nothing read yet": func() Snapshot { return Snapshot{} }} {
		problems, err := testutil.GatherAndLint(prometheus.Gatherers{exporter(t, s)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
	}
}
