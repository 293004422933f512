package metrics

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/xdpcheck"
)

// everything is an exporter with each collector on.
func everything(t *testing.T, source func() Snapshot) *Exporter {
	t.Helper()
	on := map[string]bool{}
	for _, c := range Collectors() {
		on[c.Name] = true
	}
	return exporter(t, source, Options{Collectors: on, Limit: 1000})
}

// whole is a host that has a sample of every metric.
func whole() Snapshot {
	s := example()
	s.Inventory.Host = inventory.Host{
		Hostname: "edge-1", Kernel: "6.12.1", Architecture: "x86_64", Distribution: "Debian 13", VirtualMachine: ptr(false),
		Machine: &inventory.Machine{Vendor: "ACME", Product: "R7 \"Blade\"\n", BIOS: inventory.BIOS{Vendor: "AMI", Version: "2.1", Date: "01/02/2025"}},
		CPUs:    inventory.CPUs{Model: "EPYC", Online: "0-7", Isolated: "6-7"},
		Nodes:   []inventory.NUMANode{{ID: 0, CPUs: "0-3"}, {ID: 1, CPUs: "4-7"}},
		IOMMU:   inventory.HostIOMMU{Types: map[string]int{"DMA-FQ": 30, "identity": 2}}, Managers: []inventory.Manager{{Name: "irqbalance"}},
	}
	s.Inventory.Unread = []inventory.Unread{{Fact: "machine", Reason: inventory.Denied}}
	n := &s.Inventory.NICs[0]
	n.NUMA.LocalCPUs, n.IOMMU.Type, n.IOMMU.Members = "0-3", "DMA-FQ", []string{"0000:41:00.1"}
	n.PCI = &inventory.PCI{
		Address: "0000:41:00.0", VendorID: "8086", DeviceID: "10c9", Vendor: "Intel Corporation", Device: "82576 Gigabit Network Connection",
		SubsystemVendorID: "8086", SubsystemDeviceID: "a03c", Class: "020000", Revision: "01", Subsystem: "Gigabit ET Dual Port",
		VPD:  &inventory.VPD{PartNumber: "G20214", SerialNumber: "001b21"},
		Link: &inventory.PCIeLink{Current: &inventory.PCIeRate{GTs: 2.5, Width: 4, GBs: 1}, Maximum: &inventory.PCIeRate{GTs: 5, Width: 8, GBs: 4}},
		Path: []inventory.PCIHop{{Address: "0000:40:01.0", Kind: "root-port", Link: &inventory.PCIeLink{Current: &inventory.PCIeRate{GTs: 2.5, Width: 2, GBs: 0.5}}}}, Bottleneck: "0000:40:01.0",
	}
	n.IRQs = []inventory.IRQ{
		{Number: 40, Name: "eth0-TxRx-0", Affinity: "0-7", EffectiveAffinity: "1"},
		{Number: 41, Name: "eth0-TxRx-1", Affinity: "5"}, {Number: 42, Name: "eth0-TxRx-2", EffectiveAffinity: "1"}, {Number: 43},
	}
	n.Broadcast, n.Alias, n.AltNames = "ff:ff:ff:ff:ff:ff", "rack 7 \"left\"", []string{"enp65s0f0", "uplink"}
	n.NetClass = &inventory.NetClass{
		Hardware: 1, Flags: 0x31043, LinkMode: 1, Group: 42, Link: 2, Dormant: ptr(true),
		AddressAssignType: ptr(3), NameAssignType: ptr(4), DeviceID: ptr(0),
	}
	n.NUMA.Node, n.PCI.D3ColdAllowed, n.PCI.PowerState = ptr(1), ptr(true), "D0"
	n.Link.Lanes, n.Link.Autoneg, n.Link.TxQueueLen = ptr(1), ptr(true), ptr(1000)
	n.Link.MinMTU, n.Link.MaxMTU, n.Link.SQI, n.Link.SQIMax = ptr(68), ptr(9216), ptr(5), ptr(7)
	n.Devlink = &inventory.Devlink{
		Handle: "pci/0000:41:00.0", Fixed: map[string]string{"board.id": "K-\"7\""},
		Running: map[string]string{"fw.mgmt": "7.3.0", "fw.psid": "X1"}, Stored: map[string]string{"fw.mgmt": "7.4.1"},
	}
	n.Link.Supported, n.Link.Advertised, n.Link.Peer = []string{"100baseT/Full", "1000baseT/Full"}, []string{"1000baseT/Full"}, []string{"100baseT/Half"}
	n.Link.Abilities = &inventory.LinkAbilities{
		Supported:  inventory.LinkAbility{Ports: []string{"TP"}, Autoneg: true, Pause: "Symmetric"},
		Advertised: inventory.LinkAbility{Autoneg: true, Pause: "No"},
	}
	n.Link.Pause = &inventory.Pause{Autoneg: true, RX: true, Negotiated: &inventory.PauseDirections{TX: true}}
	n.Link.EEE = &inventory.EEE{Enabled: true, TXLPI: true, TXLPITimerUsecs: ptr(uint32(17))}
	n.Link.FEC = &inventory.FEC{Auto: ptr(true), Configured: []string{"RS", "BaseR"}, Active: "RS"}
	n.Queues = inventory.Queues{
		RX: ptr(8), TX: ptr(8),
		Netdev:   []inventory.Queue{{Direction: "rx", ID: 0, XSK: true}, {Direction: "rx", ID: 1, XSK: true}, {Direction: "tx", ID: 0, XSK: true}, {Direction: "tx", ID: 1}},
		Channels: &inventory.Channels{Combined: &inventory.ChannelCount{Current: 4, Maximum: 8}, Other: &inventory.ChannelCount{Current: 1, Maximum: 1}},
		Rings: &inventory.Rings{
			RX: &inventory.RingSize{Current: 256, Maximum: 4096}, TX: &inventory.RingSize{Current: 512, Maximum: 4096},
			RXBufLen: ptr(uint32(2048)), HDSThreshold: &inventory.RingSize{Current: 128, Maximum: 1024}, TCPDataSplit: "off", TXPush: ptr(true),
		},
		Coalesce: &inventory.Coalesce{
			Values: map[string]uint32{"rx-usecs": 8, "tx-frames": 64, "pkt-rate-low": 1000, "sample-interval": 2, "tx-aggr-max-bytes": 16384, "rx-cqe-nsecs": 500},
			Flags:  map[string]bool{"adaptive-rx": true},
		},
		RSS: &inventory.RSS{
			Hash: "toeplitz", Table: []uint32{0, 1, 0, 2, 0, 1, 0, 0}, Fields: map[string]string{"tcp4": "sdfn", "udp4": "sd"},
			Contexts: []inventory.RSSContext{{ID: 1}},
		},
		Ntuple:        &inventory.Ntuple{Capacity: ptr(8192), Rules: make([]inventory.FlowRule, 3)},
		NAPI:          []inventory.NAPI{{ID: 1}, {ID: 2}},
		DeferHardIRQs: ptr(uint32(2)), GROFlushTimeoutNS: ptr(uint64(200000)), Threaded: ptr(0),
	}
	n.Offloads = inventory.Offloads{
		Features: map[string]inventory.Feature{
			"rx-gro": {Active: true, Wanted: true, Hardware: true}, "rx-lro": {Hardware: true},
			"tx-scatter-gather-fraglist": {Fixed: true}, "highdma": {Active: true, Fixed: true},
		},
		PrivateFlags: map[string]bool{"legacy-rx": false}, Tunables: map[string]uint32{"rx-copybreak": 256},
		XDP: []inventory.XDPProgram{{Mode: "driver", ID: 12}}, XDPFeatures: []string{"basic", "redirect"},
		Limits: inventory.Limits{GSOMaxSize: ptr(uint32(65536)), GSOMaxSegs: ptr(uint32(65535)), TSOMaxSize: ptr(uint32(65536)), GROMaxSize: ptr(uint32(65536))},
	}
	n.Multicast = inventory.Multicast{
		AllMulti: ptr(false), Promiscuous: ptr(true),
		Memberships: []inventory.Membership{{Family: "ipv4", Address: "224.0.0.1"}, {Family: "link", Address: "01:00:5e:00:00:01"}, {Family: "link", Address: "33:33:00:00:00:01"}},
	}
	n.Stack.BridgePort = &inventory.BridgePort{Groups: ptr(uint32(3)), MaxGroups: ptr(uint32(100))}
	s.Inventory.NICs = append(s.Inventory.NICs,
		inventory.NIC{Name: "br0", Function: inventory.Virtual, Type: "bridge", Stack: inventory.Stack{
			Bridge: &inventory.Bridge{Snooping: ptr(true), Querier: ptr(false), HashMax: ptr(4096), MDB: make([]inventory.MDBEntry, 2)},
		}},
		inventory.NIC{Name: "bond0", Function: inventory.Virtual, Type: "bond", Stack: inventory.Stack{
			Lower: []string{"eth0", "eth1"}, Bond: &inventory.Bond{Mode: "active-backup", ActiveSlave: "eth0"},
		}},
		inventory.NIC{Name: "eth0.100", Function: inventory.Virtual, Type: "vlan", Stack: inventory.Stack{
			Lower: []string{"eth0"}, VLAN: &inventory.VLAN{ID: 100, Protocol: "802.1Q"},
		}, Multicast: inventory.Multicast{AllMulti: ptr(false), Promiscuous: ptr(false)}},
	)
	s.XDP = &XDP{NICs: []XDPOf{{
		Device: "eth0",
		Can: xdpcheck.Capabilities{
			Native: xdpcheck.Capability{Answer: xdpcheck.Yes}, Redirect: xdpcheck.Capability{Answer: xdpcheck.Yes}, Xmit: xdpcheck.Capability{Answer: xdpcheck.Blocked},
			ZeroCopy: xdpcheck.Capability{Answer: xdpcheck.Unsupported}, MultiBuffer: xdpcheck.Capability{Answer: xdpcheck.Unknown},
			Offload: xdpcheck.Capability{Answer: xdpcheck.Unsupported}, MaxMTU: ptr(3050),
		},
		Ready: []XDPReady{{"l4lb", true}, {"af-xdp", false}},
		Offloads: &xdpcheck.Offloads{
			TLSTransmit: "no", TLSReceive: "no", MACsec: "no", IPsec: "off", HardwareGRO: "on", LRO: "off", TunnelGSO: "on", TrafficClass: "unknown",
			Timestamps: "hardware", PHC: ptr(0), Missed: []xdpcheck.Missed{{Feature: "rx-gro-hw", Because: "rx-checksum"}},
			TunnelPorts: []xdpcheck.TunnelTable{{Types: []string{"vxlan", "geneve"}, Size: 16, Ports: []uint16{4789}}},
		},
	}}}
	s.VFs = &VFs{PFs: []sriov.PF{
		{
			Bus: "pci", Address: "0000:41:00.0", Name: "eth0", TotalVFs: ptr(7), NumVFs: ptr(2), Autoprobe: ptr(true), MSIXPool: ptr(64),
			ESwitch: &sriov.ESwitch{Mode: "switchdev", InlineMode: "none", Encap: "basic"},
			VFs: []sriov.VF{
				{
					Index: 0, Address: "0000:41:10.0", Driver: "vfio-pci", DriverKind: sriov.DriverVFIO, MSIX: ptr(3),
					IOMMU: &sriov.Group{Number: 21, Own: true}, Users: []sriov.User{{Kind: "vm", Name: "web-1"}},
					Settings: &sriov.Settings{
						MAC: "52:54:00:00:00:10", VLANs: []sriov.VLANTag{{ID: 100, QoS: 3, Protocol: "802.1Q"}}, MinTxRate: ptr(uint32(100)), MaxTxRate: ptr(uint32(1000)),
						LinkState: "auto", SpoofCheck: ptr(true), Trust: ptr(false), QueryRSS: ptr(false),
					}, Representor: "eth0_0",
				},
				{
					Index: 1, Address: "0000:41:10.2", Driver: "igbvf", DriverKind: sriov.DriverKernel, IOMMU: &sriov.Group{Number: 7},
					Netdev:   &sriov.Netdev{Name: "eth5", Namespace: &sriov.Namespace{Name: "blue"}},
					Settings: &sriov.Settings{MAC: "00:00:00:00:00:00", MinTxRate: ptr(uint32(0)), MaxTxRate: ptr(uint32(0))},
				},
			},
		},
		{Bus: "pci", Address: "0000:42:00.0", TotalVFs: ptr(8), NumVFs: ptr(0)},
	}}
	limits := func(unit string, low, high float64) *module.Range {
		level := func(v float64) module.Level { return module.Level{Value: v, Unit: unit} }
		return &module.Range{LowAlarm: level(low), LowWarning: level(low + 1), HighWarning: level(high - 1), HighAlarm: level(high)}
	}
	monitor := func(v float64, light string) *module.Monitor {
		return &module.Monitor{Level: module.Level{Value: v}, Light: light}
	}
	s.Modules = &Modules{Plugged: []Plugged{
		{Device: "eth0", Module: &module.Module{
			Standard: module.SFF8636, Identifier: &module.Code{Value: 0x11, Name: "QSFP28"}, Medium: module.Optical,
			Vendor: "FINISAR", PartNumber: "FTLC1151", SerialNumber: "X1", VendorRevision: "A", Firmware: "1.2", Date: "2020-01-02",
			Power: &module.Power{Class: 4, Watts: ptr(3.5)},
			DOM: &module.DOM{
				Temperature: monitor(38.5, ""), Voltage: monitor(3.3, ""),
				Lanes: []module.Lane{
					{
						Number: 1, Bias: monitor(36, ""), TXPower: monitor(1.1, ""), RXPower: monitor(0.0001, "dark"), TXFault: ptr(false), TXLossOfSignal: ptr(false),
						TXLossOfLock: ptr(false), TXEqualizerFail: ptr(false), RXLossOfSignal: ptr(true), RXLossOfLock: ptr(true),
					},
					{Number: 2, Bias: monitor(0, "unused"), TXPower: monitor(0, "unused"), RXPower: monitor(0.9, "")},
				},
				Thresholds: module.Thresholds{Temperature: limits("°C", -5, 75), Voltage: limits("V", 2, 5), Bias: limits("mA", 10, 80), TXPower: limits("mW", 0.5, 4), RXPower: limits("mW", 0.25, 3)},
			},
		}},
		{Device: "eth1", Module: &module.Module{Standard: module.SFF8472, Doubts: []string{"the checksum of page A0h does not hold"}, DOM: &module.DOM{Temperature: monitor(999, "")}}},
	}}
	subject := findings.Subject{ID: "0000:41:00.0/52:54:00:00:01:00", Host: "edge-1", Name: "eth0", PCIAddress: "0000:41:00.0", PermanentMAC: "52:54:00:00:01:00"}
	vf := subject
	vf.Part = "vf 1"
	s.Findings = &Findings{
		At: time.Unix(1700000000, 250e6), Watched: 5 * time.Minute,
		Counts: map[RuleStatus]int{
			{"link/down", findings.Critical, findings.Pass}: 2, {"link/down", findings.Critical, findings.Fail}: 1,
			{"pcie/link-degraded", findings.Warning, findings.Waived}: 1, {"link/eee", findings.Info, findings.NotApplicable}: 0,
		},
		Open: []findings.Finding{
			{Rule: "link/down", Severity: findings.Critical, Status: findings.Fail, Subject: subject},
			{
				Rule: "pcie/link-degraded", Severity: findings.Warning, Status: findings.Waived, Subject: subject,
				Waiver: &findings.Waiver{Owner: "netops", Expires: "2027-01-31"},
			},
			{
				Rule: "sriov/trust", Severity: findings.Warning, Status: findings.Fail, Subject: vf,
				Waiver: &findings.Waiver{Owner: "netops", Expires: "2023-01-31", Expired: true},
			},
		},
	}
	s.Findings.Waivers = []Waiver{
		{Rule: "pcie/link-degraded", Owner: "netops", Expires: "2027-01-31", Policy: "edge", Source: "edge.yaml:9", Failures: 1},
		{Rule: "link/eee", Owner: "netops", Expires: "2023-01-31", Policy: "edge", Source: "edge.yaml:13"},
	}
	s.History = &History{tuning.Summary{
		Ended: map[tuning.Outcome]int{tuning.Applied: 3, tuning.Undone: 1}, Rollbacks: 1,
		Last: map[tuning.Outcome]time.Time{tuning.Applied: time.Unix(1700000100, 0), tuning.Undone: time.Unix(1690000000, 0)},
		Open: []tuning.OpenTransaction{
			{ID: 5, Started: time.Unix(1700000200, 0), Outcome: tuning.Unconfirmed, Until: time.Unix(1700000260, 0)},
			{ID: 6, Started: time.Unix(1700000300, 0), Outcome: tuning.Pending},
		}, Damaged: 1,
	}}
	return s
}

// golden holds what is gathered against a file.
func golden(t *testing.T, name string, e *Exporter) {
	t.Helper()
	families, err := e.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "nictune_scrape_") {
			continue
		}
		f.Help = nil // the catalogue has it
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		got := strings.Split(b.String(), "\n")
		for i, line := range strings.Split(string(want), "\n") {
			if i >= len(got) || got[i] != line {
				t.Fatalf("%s, line %d: got %q, want %q (go generate ./exporters/metrics writes it anew)", path, i+1, append(got, "")[min(i, len(got))], line)
			}
		}
		t.Fatalf("%s: there is more than it has", path)
	}
}

func TestGoldenWhole(t *testing.T) { golden(t, "whole.prom", everything(t, whole)) }

// A recorded host of bridges, bonds, VLANs and veths.
func TestGoldenStacked(t *testing.T) {
	data, err := os.ReadFile("../../inventory/testdata/stacked.txtar")
	if err != nil {
		t.Fatal(err)
	}
	host, err := kernel.ParseRecording(data)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Read(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "stacked.prom", exporter(t, func() Snapshot { return Snapshot{Inventory: inv} }))
}

func TestEverythingIsWellFormed(t *testing.T) {
	problems, err := testutil.GatherAndLint(prometheus.Gatherers{everything(t, whole)})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// What is not known is absent: an empty host has no sample that could be taken for a
// fact, and nothing panics.
func TestNothingKnownIsAbsent(t *testing.T) {
	s := Snapshot{
		Inventory: &inventory.Inventory{NICs: []inventory.NIC{{Name: "eth0", Function: inventory.PF}}},
		VFs:       &VFs{PFs: []sriov.PF{{Address: "0000:01:00.0", VFs: []sriov.VF{{Index: 3}}}}},
		XDP:       &XDP{NICs: []XDPOf{{Device: "eth0"}}}, Modules: &Modules{Plugged: []Plugged{{Device: "eth0", Module: &module.Module{}}}},
		Findings: &Findings{}, History: &History{},
	}
	families, err := everything(t, func() Snapshot { return s }).Gather()
	if err != nil {
		t.Fatal(err)
	}
	// These are known to be so, or say that nothing is.
	allowed := map[string]bool{
		"nictune_nic_info": true, "nictune_network_info": true, "nictune_host_info": true, "nictune_vf_info": true, "nictune_xdp_capability_info": true,
		"nictune_module_info": true, "nictune_module_doubts": true, "nictune_history_rollbacks": true, "nictune_history_damaged_journals": true,
		"nictune_history_open_transactions": true, "nictune_sriov_vfs_by_driver": true, "nictune_network_iface_id": true,
	}
	for _, f := range families {
		// To have no samples is something that hosts can have in common, too.
		if name := f.GetName(); !allowed[name] && !strings.HasPrefix(name, "nictune_scrape_") && !strings.HasSuffix(name, "_fingerprint") {
			t.Errorf("%s: %v", name, f.GetMetric())
		}
	}
}
