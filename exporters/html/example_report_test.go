package html

import (
	"fmt"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

func at[T any](x T) *T { return &x }

// exampleReport is a host with so many NICs, two to a card, each with so many VFs. It
// has something of everything that a page shows.
func exampleReport(nics, vfs int) *audit.HostReport {
	abouts := audit.Rules()
	r := &audit.HostReport{
		APIVersion: inventory.APIVersion, Kind: audit.HostKind, CollectedAt: time.Date(2026, 11, 23, 2, 30, 5, 0, time.UTC), Version: "v0.6.0",
		Host: audit.HostSummary{
			Name: "edge-17.fra1", MachineID: "4bf1a0d4e5f64fd0a4f9c8a0f9c7f1d2", Kernel: "6.12.48", Architecture: "x86_64", Distribution: "Debian GNU/Linux 13",
			Machine: &inventory.Machine{Vendor: "Supermicro", Product: "SYS-121H-TNR"}, CPUs: inventory.CPUs{Model: "Intel Xeon Gold 6438N"},
			Labels: map[string]string{"role": "edge", "site": "fra1"}, IOMMUs: []string{"dmar0", "dmar1"}, VirtualMachine: at(false),
			NUMANodes: []inventory.NUMANode{{ID: 0, CPUs: "0-31,64-95"}, {ID: 1, CPUs: "32-63,96-127"}},
			Unread:    []inventory.Unread{{Fact: "machine.bios.version", Reason: inventory.Denied, Detail: "permission denied"}},
		},
		WatchedSeconds: 10, Rules: abouts,
		Problems: []string{`policy edge.yaml:12: match.where asks for nic.module.vendor, which is not known of ens9f1np1`},
	}
	for i := range nics {
		r.NICs = append(r.NICs, exampleNIC(i, vfs))
	}
	r.NICs = append(r.NICs,
		audit.NICSummary{ID: "bond0", Name: "bond0", Kind: inventory.Virtual, Type: "bond", Link: audit.LinkSummary{Carrier: at(true), SpeedMbps: at(50000), MTU: at(9000)}, XDPMode: "none"},
		audit.NICSummary{ID: "br0", Name: "br0", Kind: inventory.Virtual, Type: "bridge", Link: audit.LinkSummary{Carrier: at(true), MTU: at(1500)}})
	r.Findings = exampleFindings(r, abouts)
	r.Counts = map[findings.Status]int{}
	for _, f := range r.Findings {
		r.Counts[f.Status]++
	}
	if nics == 0 {
		return r
	}
	r.Drift = []audit.DriftSummary{
		{Policy: "edge.yaml", NIC: r.NICs[0].ID, Name: r.NICs[0].Name, Setting: "rings", Status: audit.Drifted, Fields: []string{"rx: 512, wanted 4096", "tx: 512, wanted 2048"}},
		{Policy: "edge.yaml", NIC: r.NICs[1].ID, Name: r.NICs[1].Name, Setting: "fec", Status: audit.Impossible, Reason: inventory.Unsupported, Detail: "ice: operation not supported"},
		{Policy: "edge.yaml", NIC: r.NICs[0].ID, Name: r.NICs[0].Name, Setting: "channels", Status: audit.AsWanted},
	}
	change := func(i int, was, is findings.Status) audit.Change {
		f := r.Findings[i]
		return audit.Change{Rule: f.Rule, Severity: f.Severity, Title: f.Title, Subject: f.Subject, Was: was, Is: is, Seen: f.Seen}
	}
	r.Baseline = &audit.Difference{
		Since: r.CollectedAt.Add(-7 * 24 * time.Hour), New: []audit.Change{change(0, findings.Pass, findings.Fail)},
		Fixed: []audit.Change{change(len(r.Findings)-1, findings.Fail, findings.Pass)}, Unchanged: []audit.Change{change(1, findings.Fail, findings.Fail)},
	}
	return r
}

func exampleNIC(i, vfs int) audit.NICSummary {
	bus, port := 0x17+(i/2)*0x20, i%2
	address := fmt.Sprintf("0000:%02x:00.%d", bus, port)
	mac := fmt.Sprintf("b4:96:91:a0:%02x:%02x", i/2, port)
	rate := func(gts float64, width int) *inventory.PCIeRate {
		return &inventory.PCIeRate{GTs: gts, Width: width, GBs: gts / 8 * 128 / 130 * float64(width)}
	}
	link := func(now, most *inventory.PCIeRate) *inventory.PCIeLink {
		return &inventory.PCIeLink{Current: now, Maximum: most}
	}
	full := link(rate(16, 8), rate(16, 8))
	n := audit.NICSummary{
		ID: address + "/" + mac, Name: fmt.Sprintf("ens%df%dnp%d", 1+i/2, port, port), Kind: inventory.PF, Type: "ether", MAC: mac, PermanentMAC: mac,
		Driver: "ice", DriverVersion: "6.12.48", Firmware: "4.60 0x8001e8dc 1.3682.0", NUMANode: at(i * 2 / 8 % 2), IOMMU: &audit.IOMMUGroup{Group: 40 + i, Type: "DMA-FQ"},
		PCI: &audit.PCISummary{
			Address: address, VendorID: "8086", DeviceID: "159b", Vendor: "Intel Corporation", Device: "Ethernet Controller E810-XXV for SFP", Link: full,
			Path: []inventory.PCIHop{{Address: fmt.Sprintf("0000:%02x:02.0", bus-1), Kind: "root-port", Link: full}},
		},
		Link:      audit.LinkSummary{Admin: "up", Oper: "up", Carrier: at(true), SpeedMbps: at(25000), MaxSpeedMbps: at(25000), Duplex: "full", FEC: "rs", MTU: at(1500), Downs: at(uint64(i)), DownEvents: at(uint64(2 * i))},
		XDPMode:   "driver",
		Readiness: map[string]string{"ddos-filter": audit.Ready, "l4lb": audit.NotReady, "af-xdp": audit.ReadyUnknown},
		SRIOV:     &audit.SRIOVSummary{NumVFs: at(vfs), TotalVFs: at(128)},
	}
	switch i % 8 {
	case 1:
		n.Link.SpeedMbps, n.Master = at(10000), "bond0"
	case 2, 3: // behind a switch, on a slow link
		slow := link(rate(8, 4), rate(16, 16))
		n.PCI.Path = []inventory.PCIHop{
			{Address: fmt.Sprintf("0000:%02x:02.0", bus-3), Kind: "root-port", Link: slow}, {Address: fmt.Sprintf("0000:%02x:00.0", bus-2), Kind: "upstream-port", Link: slow},
			{Address: fmt.Sprintf("0000:%02x:%02x.0", bus-1, port), Kind: "downstream-port", Link: full},
		}
		n.PCI.Tightest = &audit.Passage{Address: fmt.Sprintf("0000:%02x:00.0", bus-2), Kind: "upstream port", CarriesGBs: 3.938, UsableGBs: 3.4, NeededGBs: at(6.25), Ports: 2}
	case 4:
		n.Link.Carrier, n.Link.SpeedMbps, n.Link.Oper = at(false), nil, "down"
	case 5:
		n.Link.Admin, n.Link.Carrier, n.Link.SpeedMbps, n.XDPMode = "down", nil, nil, "none"
		n.IOMMU.Shared, n.IOMMU.Members = true, []string{"0000:5e:00.0"}
		n.Unread = []inventory.Unread{{Fact: "link.fec", Reason: inventory.Failed, Detail: "input/output error"}}
	}
	for v := range vfs {
		vf := audit.VFSummary{
			Index: v, Address: fmt.Sprintf("0000:%02x:%02x.%d", bus, 1+port*16+v/8, v%8), Driver: "iavf", MAC: fmt.Sprintf("02:00:00:%02x:%02x:%02x", i, port, v),
			IOMMU: &audit.IOMMUGroup{Group: 200 + i*128 + v},
		}
		switch {
		case v%5 < 2:
			vf.Driver, vf.Users = "vfio-pci", []string{fmt.Sprintf("vm web-%d", v)}
		case v%5 == 2:
			vf.Name = fmt.Sprintf("ens%df%dv%d", 1+i/2, port, v)
		case v%16 == 15:
			vf.IOMMU.Shared, vf.IOMMU.Members, vf.IOMMU.Group = true, []string{"0000:17:1f.7"}, 199
		}
		n.SRIOV.VFs = append(n.SRIOV.VFs, vf)
	}
	if i%8 < 4 {
		n.Module = exampleModule(i)
	}
	return n
}

func exampleModule(i int) *audit.ModuleBrief {
	margins := func(value, lowAlarm, lowWarning, highWarning, highAlarm float64) *audit.Margins {
		return &audit.Margins{LowAlarm: at(value - lowAlarm), LowWarning: at(value - lowWarning), HighWarning: at(highWarning - value), HighAlarm: at(highAlarm - value)}
	}
	m := &audit.ModuleBrief{
		FormFactor: "SFP28", Medium: "optical", Vendor: "FINISAR CORP.", PartNumber: "FTLF8536P4BCL", SerialNumber: fmt.Sprintf("P2JA%03d", i),
		Measured: []audit.Measured{
			{Quantity: "temperature", Value: at(41.3), Unit: "°C", Verdict: "ok", Margins: margins(41.3, -13, -8, 73, 78)},
			{Quantity: "voltage", Value: at(3.31), Unit: "V", Verdict: "ok", Margins: margins(3.31, 2.9, 3, 3.6, 3.7)},
			{Quantity: "bias", Lane: 1, Value: at(7.2), Unit: "mA", Verdict: "ok", Margins: margins(7.2, 2, 3, 12, 13)},
			{Quantity: "tx-power", Lane: 1, Value: at(-0.4), Unit: "dBm", Verdict: "ok", Margins: margins(-0.4, -9.4, -8.4, 2.4, 3.4)},
			{Quantity: "rx-power", Lane: 1, Value: at(-9.7), Unit: "dBm", Verdict: "ok", Margins: margins(-9.7, -13.3, -10.3, 2.4, 3.4)},
		},
	}
	switch i {
	case 1:
		m.Measured[4] = audit.Measured{Quantity: "rx-power", Lane: 1, Value: at(-11.2), Unit: "dBm", Verdict: "low-warning", Margins: margins(-11.2, -13.3, -10.3, 2.4, 3.4)}
	case 2:
		m.Measured[4] = audit.Measured{Quantity: "rx-power", Lane: 1, Unit: "dBm"}
	}
	return m
}

// exampleFindings are of each rule on each NIC, most of them a pass. Which are not goes by
// the rules' names: rules may be added.
func exampleFindings(r *audit.HostReport, abouts []findings.About) []findings.Finding {
	var all []findings.Finding
	for i, about := range abouts {
		for j := range r.NICs {
			n := &r.NICs[j]
			if n.PCI == nil {
				continue
			}
			f := findings.Finding{
				Rule: about.ID, Severity: about.Severity, Status: findings.Pass, Title: about.Title, Seen: fmt.Sprintf("%d of %d as it should be", j+1, i+1),
				Subject: findings.Subject{ID: n.ID, Host: r.Host.Name, Name: n.Name, PCIAddress: n.PCI.Address, PermanentMAC: n.PermanentMAC},
			}
			fail := func(seen, expected string) {
				f.Status, f.Seen, f.Expected, f.Why, f.Remedy = findings.Fail, seen, expected, about.Why, about.Remedy
			}
			switch about.ID {
			case tooNarrow:
				if t := n.PCI.Tightest; t != nil {
					fail(tightWords(t), "6.25 GB/s")
				}
			case "link/module-signals", "queues/receive-drops", "link/slow", "link/fcs-errors", "link/hidden-flaps", "xdp/generic-mode", "link/eee":
				if j%3 == 1 {
					fail("10 Gb/s", "25 Gb/s, which both ends can do")
				}
				if j == 1 {
					f.Remedy = "Set " + n.Name + " to negotiate: ethtool -s " + n.Name + " autoneg on"
				}
			case "link/autoneg-mismatch":
				fail("negotiates, and its partner doesn't", "both or neither")
			case "link/half-duplex", "sriov/drops", "queues/xps":
				if j == 0 {
					f.Status, f.Seen = findings.Error, "link.fec: failed: input/output error"
				}
			case "link/module-checksum", "multicast/filter-overflow", "queues/allowance", "pcie/below-slot":
				f.Status, f.Seen = findings.Unknown, "this driver doesn't tell"
			case "link/fec", "multicast/no-querier", "sriov/east-west":
				f.Status, f.Seen = findings.NotApplicable, "a twisted pair port"
			case "link/sqi":
				if j == 0 {
					fail("8 GT/s x4", "16 GT/s x8")
					f.Status, f.Waiver = findings.Waived, &findings.Waiver{Reason: "the riser is on order (OPS-412)", Owner: "net-ops@example.com", Expires: "2027-01-31", Policy: "checks.yaml:9"}
				}
			case "pcie/link-degraded":
				if j == 1 {
					fail("x4", "x8")
					f.Waiver = &findings.Waiver{Reason: "until the rack is rebuilt", Owner: "net-ops@example.com", Expires: "2026-10-31", Expired: true, Policy: "checks.yaml:19"}
				}
			}
			all = append(all, f)
		}
	}
	findings.Sort(all)
	return all
}
