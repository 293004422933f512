package sriov

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// soundHost is a host with a PF of two VFs at which no rule fires.
func soundHost() *Inventory {
	vf := func(n int, mac string) VF {
		return VF{
			Index: n, Address: vfAddress(n), Driver: "mlx5_core", DriverKind: DriverKernel, IOMMU: &Group{Number: 20 + n, Own: true},
			Netdev:     &Netdev{Name: "eth" + string(rune('1'+n)), MAC: mac, MTU: new(1500)},
			Settings:   &Settings{MAC: mac, LinkState: "auto", SpoofCheck: new(true), Trust: new(false)},
			Statistics: &Statistics{RxPackets: 10, TxPackets: 20},
		}
	}
	nic := func(name, address, mac string, function inventory.Function) inventory.NIC {
		return inventory.NIC{
			Name: name, Function: function, MAC: mac, PermanentMAC: mac, Parent: &inventory.Parent{Bus: "pci", Address: address},
			PCI: &inventory.PCI{Address: address}, Link: inventory.Link{MTU: new(1500)},
		}
	}
	return &Inventory{
		Inventory: inventory.Inventory{Host: inventory.Host{Hostname: "web1"}, NICs: []inventory.NIC{
			nic("eth0", pfAddress, "02:00:00:00:00:10", inventory.PF),
			nic("eth1", vfAddress(0), "02:00:00:00:00:00", inventory.VF),
			nic("eth2", vfAddress(1), "02:00:00:00:00:01", inventory.VF),
			nic("eth9", "0000:5e:00.0", "02:00:00:00:00:19", inventory.Plain),
		}},
		PFs: []PF{{
			Bus: "pci", Address: pfAddress, Name: "eth0", Driver: "mlx5_core",
			PeerToPeer: peerToPeer(nil, []PortACS{{Address: "0000:3a:00.0", Kind: "root-port", ACS: parseACS(0x1d)}}),
			Budget:     &Budget{NarrowHop: pfAddress, EastWestGbps: 52, LineRateGbps: new(25.0)},
			VFs:        []VF{vf(0, "02:00:00:00:00:00"), vf(1, "02:00:00:00:00:01")},
		}},
	}
}

func variant(vf *VF, migratable *bool) {
	vf.Driver, vf.DriverKind, vf.Netdev = "mlx5_vfio_pci", DriverVFIOVariant, nil
	vf.PortFunction = &PortFunction{Port: "pci/0000:3b:00.0/1", Migratable: migratable}
}

// verdicts are the findings by rule and subject.
func verdicts(inv *Inventory) map[string]findings.Finding {
	all := map[string]findings.Finding{}
	for _, f := range Judge(inv.PFs, inv, nil, map[string]bool{"eth0 vf 1": true}) {
		all[f.Rule+" "+f.Subject.String()] = f
	}
	return all
}

func TestRules(t *testing.T) {
	if all := verdicts(soundHost()); len(all) != 2+2*8 {
		t.Errorf("%d verdicts", len(all))
	}
	judged := map[string]bool{}
	for key, f := range verdicts(soundHost()) {
		if f.Status != findings.Pass && f.Rule != "sriov/vlan-clash" && f.Rule != "sriov/not-migratable" {
			t.Errorf("%s of a sound host: %s: %s", key, f.Status, f.Seen)
		}
	}
	for _, test := range []struct {
		name   string
		change func(inv *Inventory, pf *PF, vf *VF) // vf is VF 0
		rule   string                               // and what it is judged on
		status findings.Status
		seen   string
	}{
		{"a switch without ACS", func(_ *Inventory, pf *PF, _ *VF) {
			pf.PeerToPeer = peerToPeer(nil, []PortACS{{Address: "0000:3a:00.0", Kind: "root-port", ACS: parseACS(0x1d)}, {Address: "0000:3b:01.0", Kind: "downstream-port"}})
		}, "sriov/no-acs eth0", findings.Fail, "no ACS at 0000:3b:01.0"},
		{"a root port that redirects nothing", func(_ *Inventory, pf *PF, _ *VF) {
			pf.PeerToPeer = peerToPeer(nil, []PortACS{{Address: "0000:3a:00.0", Kind: "root-port", ACS: parseACS(0x01)}})
		}, "sriov/no-acs eth0", findings.Fail, "no ACS that sends requests up at 0000:3a:00.0"},
		{"ACS for root only", func(_ *Inventory, pf *PF, _ *VF) {
			pf.PeerToPeer, pf.Unread = nil, []inventory.Unread{{Fact: "peerToPeer", Reason: inventory.Denied, Detail: "shows configuration space to root only"}}
		}, "sriov/no-acs eth0", findings.Unknown, "root only"},
		{"a PF without VFs", func(_ *Inventory, pf *PF, _ *VF) { pf.VFs = nil }, "sriov/no-acs eth0", findings.NotApplicable, "no VFs"},

		{"a narrow slot", func(_ *Inventory, pf *PF, _ *VF) {
			pf.Budget = &Budget{NarrowHop: "0000:3a:00.0", EastWestGbps: 12.6, LineRateGbps: new(25.0)}
		}, "sriov/east-west eth0", findings.Fail, "12.6 Gbit/s between VFs at most, at 0000:3a:00.0"},
		{"no link", func(_ *Inventory, pf *PF, _ *VF) { pf.Budget.LineRateGbps = nil }, "sriov/east-west eth0", findings.Unknown, "no link"},
		{"no budget", func(_ *Inventory, pf *PF, _ *VF) { pf.Budget = nil }, "sriov/east-west eth0", findings.Unknown, "not known"},
		{"one VF", func(_ *Inventory, pf *PF, _ *VF) { pf.VFs = pf.VFs[:1] }, "sriov/east-west eth0", findings.NotApplicable, "fewer than two"},

		{"a shared group", func(_ *Inventory, _ *PF, vf *VF) {
			vf.IOMMU = &Group{Number: 7, Members: []string{"a", "b", "c", "d", "e", "f"}}
		}, "sriov/shared-group eth0 vf 0", findings.Fail, "group 7 is shared with a, b, c, d and 2 more"},
		{"no IOMMU", func(_ *Inventory, _ *PF, vf *VF) { vf.IOMMU = nil }, "sriov/shared-group eth0 vf 0", findings.NotApplicable, "no IOMMU"},
		{"a group that can't be read", func(_ *Inventory, _ *PF, vf *VF) {
			vf.IOMMU, vf.Unread = nil, []inventory.Unread{{Fact: "iommu", Reason: inventory.Failed, Detail: "i/o error"}}
		}, "sriov/shared-group eth0 vf 0", findings.Error, "i/o error"},

		{"trust without a check", func(_ *Inventory, _ *PF, vf *VF) { vf.Settings.Trust, vf.Settings.SpoofCheck = new(true), new(false) }, "sriov/trusted-unchecked eth0 vf 0", findings.Fail, "trust on, spoof check off"},
		{"trust with a check", func(_ *Inventory, _ *PF, vf *VF) { vf.Settings.Trust = new(true) }, "sriov/trusted-unchecked eth0 vf 0", findings.Pass, "spoof check on"},
		{"no check, no trust", func(_ *Inventory, _ *PF, vf *VF) { vf.Settings.SpoofCheck = new(false) }, "sriov/trusted-unchecked eth0 vf 0", findings.Pass, "trust off"},
		{"a driver that tells nothing of trust", func(_ *Inventory, _ *PF, vf *VF) { vf.Settings.Trust, vf.Settings.SpoofCheck = nil, new(false) }, "sriov/trusted-unchecked eth0 vf 0", findings.Unknown, "doesn't tell"},
		{"settings that can't be read", func(_ *Inventory, pf *PF, vf *VF) {
			vf.Settings, pf.Unread = nil, []inventory.Unread{{Fact: "vfs.settings", Reason: inventory.Failed, Detail: "device busy"}}
		}, "sriov/trusted-unchecked eth0 vf 0", findings.Error, "device busy"},

		{"no driver", func(_ *Inventory, _ *PF, vf *VF) { vf.Driver, vf.DriverKind = "", DriverNone }, "sriov/unbound eth0 vf 0", findings.Fail, "no driver"},
		{"the driver to be is not there", func(_ *Inventory, _ *PF, vf *VF) {
			vf.Driver, vf.DriverKind, vf.DriverOverride = "", DriverNone, "vfio-pci"
		}, "sriov/unbound eth0 vf 0", findings.Fail, "allows only vfio-pci"},
		{"no driver, and none is to be bound", func(_ *Inventory, pf *PF, vf *VF) {
			vf.Driver, vf.DriverKind, pf.Autoprobe = "", DriverNone, new(false)
		}, "sriov/unbound eth0 vf 0", findings.NotApplicable, "until somebody takes it"},
		{"no driver, though one is to be bound", func(_ *Inventory, pf *PF, vf *VF) {
			vf.Driver, vf.DriverKind, pf.Autoprobe = "", DriverNone, new(true)
		}, "sriov/unbound eth0 vf 0", findings.Fail, "no driver"},
		{"kept free", func(_ *Inventory, _ *PF, vf *VF) {
			vf.Driver, vf.DriverKind, vf.DriverOverride = "", DriverNone, "none"
		}, "sriov/unbound eth0 vf 0", findings.Pass, "kept free"},

		{"drops", func(_ *Inventory, _ *PF, vf *VF) { vf.Statistics.RxDropped = 700 }, "sriov/drops eth0 vf 0", findings.Fail, "700 packets to the VF and 0 from it dropped, 10 and 20 passed"},
		{"drops of all", func(_ *Inventory, _ *PF, vf *VF) { vf.Statistics = &Statistics{TxDropped: 1000} }, "sriov/drops eth0 vf 0", findings.Fail, "1000 from it"},
		{"drops of few", func(_ *Inventory, _ *PF, vf *VF) { vf.Statistics.RxDropped = 7 }, "sriov/drops eth0 vf 0", findings.Pass, "--watch"},
		{"drops of one in many", func(_ *Inventory, _ *PF, vf *VF) { vf.Statistics = &Statistics{RxPackets: 9e9, RxDropped: 1000} }, "sriov/drops eth0 vf 0", findings.Pass, "1000 packets to the VF"},
		{"a driver that doesn't count", func(_ *Inventory, _ *PF, vf *VF) { vf.Statistics = &Statistics{} }, "sriov/drops eth0 vf 0", findings.Unknown, "all counters are 0"},
		{"no statistics", func(_ *Inventory, _ *PF, vf *VF) { vf.Statistics = nil }, "sriov/drops eth0 vf 0", findings.Unknown, "not known"},

		{"jumbo frames", func(_ *Inventory, _ *PF, vf *VF) { vf.Netdev.MTU = new(9000) }, "sriov/pf-mtu eth0 vf 0", findings.Fail, "9000 bytes, and the PF 1500 bytes"},
		{"a VF in a VM", func(_ *Inventory, _ *PF, vf *VF) { vf.Netdev = nil }, "sriov/pf-mtu eth0 vf 0", findings.NotApplicable, "no network device"},
		{"a PF elsewhere", func(inv *Inventory, pf *PF, _ *VF) { pf.Name, inv.NICs = "", inv.NICs[1:] }, "sriov/pf-mtu 0000:3b:00.0 vf 0", findings.Unknown, "no network device in this namespace"},

		{"a VLAN device in a VLAN", func(inv *Inventory, _ *PF, vf *VF) {
			vf.Settings.VLANs, vf.Users = []VLANTag{{100, 3, "802.1Q"}}, []User{{Kind: "vlan", Name: "eth1.7"}}
			inv.NICs = append(inv.NICs, inventory.NIC{Name: "eth1.7", Function: inventory.Virtual, Stack: inventory.Stack{VLAN: &inventory.VLAN{ID: 7}}})
		}, "sriov/vlan-clash eth0 vf 0", findings.Fail, "VLAN 100 qos 3: the device eth1.7 (VLAN 7) on it tags, too"},
		{"two protocols", func(_ *Inventory, pf *PF, vf *VF) {
			vf.Settings.VLANs, pf.VFs[1].Settings.VLANs = []VLANTag{{100, 0, "802.1Q"}}, []VLANTag{{100, 0, "802.1ad"}}
		}, "sriov/vlan-clash eth0 vf 1", findings.Fail, "VLAN 100 proto 802.1ad: VF 0 has the number with another protocol"},
		{"one VLAN of two VFs", func(_ *Inventory, pf *PF, vf *VF) {
			vf.Settings.VLANs, pf.VFs[1].Settings.VLANs = []VLANTag{{100, 0, "802.1Q"}}, []VLANTag{{100, 3, "802.1Q"}}
		}, "sriov/vlan-clash eth0 vf 0", findings.Pass, "VLAN 100"},
		{"a VLAN device of no VLAN", func(_ *Inventory, _ *PF, vf *VF) { vf.Users = []User{{Kind: "vlan", Name: "eth1.7"}} }, "sriov/vlan-clash eth0 vf 0", findings.NotApplicable, "not in a VLAN"},

		{"the other VF's address", func(_ *Inventory, _ *PF, vf *VF) { vf.Settings.MAC = "02:00:00:00:00:01" }, "sriov/duplicate-mac eth0 vf 1", findings.Fail, "02:00:00:00:00:01 is eth0 vf 0's, too"},
		{"another card's address", func(_ *Inventory, _ *PF, vf *VF) { vf.Netdev.MAC = "02:00:00:00:00:19" }, "sriov/duplicate-mac eth0 vf 0", findings.Fail, "is eth9's, too"},
		{"its PF's address", func(_ *Inventory, _ *PF, vf *VF) { vf.Settings.MAC = "02:00:00:00:00:10" }, "sriov/duplicate-mac eth0 vf 0", findings.Fail, "is eth0's, too"},
		{"members of a bond", func(_ *Inventory, pf *PF, vf *VF) {
			vf.Netdev.MAC = "02:00:00:00:00:01"
			vf.Users, pf.VFs[1].Users = []User{{Kind: "bond", Name: "bond0"}}, []User{{Kind: "bond", Name: "bond0"}}
		}, "sriov/duplicate-mac eth0 vf 0", findings.Pass, "02:00:00:00:00:00"},
		{"a PF in a bond", func(inv *Inventory, _ *PF, vf *VF) {
			inv.NICs[0].MAC, inv.NICs[0].Stack.Master = vf.Settings.MAC, "bond0"
		}, "sriov/duplicate-mac eth0 vf 0", findings.Pass, ""},
		{"a VLAN device has its parent's", func(inv *Inventory, _ *PF, vf *VF) {
			inv.NICs = append(inv.NICs, inventory.NIC{Name: "eth1.7", Function: inventory.Virtual, MAC: vf.Settings.MAC})
		}, "sriov/duplicate-mac eth0 vf 0", findings.Pass, ""},
		{"the VM chooses", func(_ *Inventory, _ *PF, vf *VF) { vf.Settings.MAC, vf.Netdev = noAddress, nil }, "sriov/duplicate-mac eth0 vf 0", findings.NotApplicable, "user chooses"},

		{"a variant driver, migratable", func(_ *Inventory, _ *PF, vf *VF) { variant(vf, new(true)) }, "sriov/not-migratable eth0 vf 0", findings.Pass, "mlx5_vfio_pci"},
		{"a variant driver, not migratable", func(_ *Inventory, _ *PF, vf *VF) { variant(vf, new(false)) }, "sriov/not-migratable eth0 vf 0", findings.Fail, "off, driver mlx5_vfio_pci"},
		{"a variant driver, no switch", func(_ *Inventory, _ *PF, vf *VF) { variant(vf, nil) }, "sriov/not-migratable eth0 vf 0", findings.Unknown, "no port"},
		{"devlink's ports can't be read", func(_ *Inventory, pf *PF, vf *VF) {
			variant(vf, nil)
			vf.PortFunction, pf.Unread = nil, []inventory.Unread{{Fact: "vfs.portFunction", Reason: inventory.Failed, Detail: "i/o error"}}
		}, "sriov/not-migratable eth0 vf 0", findings.Error, "i/o error"},
		{"a policy asks", func(_ *Inventory, pf *PF, _ *VF) { pf.VFs[1].PortFunction = &PortFunction{Migratable: new(false)} }, "sriov/not-migratable eth0 vf 1", findings.Fail, "off, driver mlx5_core"},
		{"a policy asks of a card that can't say", func(*Inventory, *PF, *VF) {}, "sriov/not-migratable eth0 vf 1", findings.Unknown, "no port"},
		{"a policy asks of a VF that is no device", func(_ *Inventory, pf *PF, _ *VF) {
			vf := &pf.VFs[1]
			vf.Address, vf.Driver, vf.DriverKind, vf.PortFunction = "", "", "", &PortFunction{Migratable: new(false)}
		}, "sriov/not-migratable eth0 vf 1", findings.Fail, "off, driver none"},
		{"no variant driver", func(*Inventory, *PF, *VF) {}, "sriov/not-migratable eth0 vf 0", findings.NotApplicable, "mlx5_core"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inv := soundHost()
			test.change(inv, &inv.PFs[0], &inv.PFs[0].VFs[0])
			all := verdicts(inv)
			f, ok := all[test.rule]
			if !ok || f.Status != test.status || !strings.Contains(f.Seen, test.seen) {
				t.Errorf("%s: %s: %q, want %s: %q (of %d)", test.rule, f.Status, f.Seen, test.status, test.seen, len(all))
			}
			if f.Status == findings.Fail {
				judged[f.Rule] = true
				if f.Expected == "" || f.Remedy == "" {
					t.Errorf("%s says not what was expected or what to do: %+v", f.Rule, f)
				}
			}
		})
	}
	for _, r := range Rules() {
		if !judged[r.ID] {
			t.Errorf("%s never fired", r.ID)
		}
	}
}

// What a VF lost is judged by what it lost while it was watched, where it was.
func TestDropsWhileWatched(t *testing.T) {
	for _, test := range []struct {
		name     string
		was, now Statistics
		want     findings.Status
		seen     string
	}{
		{"long ago", Statistics{RxPackets: 10, RxDropped: 4711}, Statistics{RxPackets: 20, RxDropped: 4711}, findings.Pass, "0 packets to the VF and 0 from it dropped, 10 and 0 passed in 10s"},
		{"now", Statistics{RxPackets: 9e9}, Statistics{RxPackets: 9e9 + 1000, RxDropped: 5}, findings.Fail, "5 packets to the VF"},
		{"one of many", Statistics{}, Statistics{TxPackets: 1e6, TxDropped: 1}, findings.Pass, "1 from it"},
		{"counted anew", Statistics{RxPackets: 10, RxDropped: 4711}, Statistics{RxPackets: 10, RxDropped: 700}, findings.Fail, "700 packets to the VF"},
	} {
		inv, before := soundHost(), soundHost()
		*before.PFs[0].VFs[0].Statistics, *inv.PFs[0].VFs[0].Statistics = test.was, test.now
		all := Judge(inv.PFs, inv, &Earlier{before.PFs, 10 * time.Second}, nil)
		at := slices.IndexFunc(all, func(f findings.Finding) bool { return f.Rule == "sriov/drops" && f.Subject.Part == "vf 0" })
		if f := all[at]; f.Status != test.want || !strings.Contains(f.Seen, test.seen) {
			t.Errorf("%s: %s: %s", test.name, f.Status, f.Seen)
		}
	}
}

// Of a part of a host each VF is compared with the whole.
func TestRulesOfAPart(t *testing.T) {
	whole := soundHost()
	whole.PFs[0].VFs[0].Settings.MAC = "02:00:00:00:00:01"
	part := whole.PFs[0]
	part.VFs = slices.Clone(part.VFs[1:])
	all := Judge([]PF{part}, whole, nil, nil)
	if len(all) != 2+8 {
		t.Errorf("%d verdicts", len(all))
	}
	if !slices.ContainsFunc(all, func(f findings.Finding) bool { return f.Rule == "sriov/duplicate-mac" && f.Status == findings.Fail }) {
		t.Errorf("the address of a VF that is not judged is not seen: %+v", all)
	}
	s := all[len(all)-1].Subject
	if s.ID != pfAddress+"/02:00:00:00:00:10" || s.PCIAddress != vfAddress(1) || s.Host != "web1" || s.Part != "vf 1" {
		t.Errorf("%+v", s)
	}
}
