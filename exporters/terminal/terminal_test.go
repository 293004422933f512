package terminal

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

func ptr[T any](v T) *T { return &v }

// example is a host with two nodes, a switch, a bond and a device of which
// nearly nothing is known.
func example() *inventory.Inventory {
	x8 := &inventory.PCIeRate{GTs: 8, Width: 8, GBs: 7.877}
	x1 := &inventory.PCIeRate{GTs: 2.5, Width: 1, GBs: 0.25}
	pci := func(address string, node int) *inventory.PCI {
		return &inventory.PCI{
			Address: address, VendorID: "8086", DeviceID: "10c9", Device: "82576 Gigabit Network Connection",
			Link:       &inventory.PCIeLink{Current: x1, Maximum: x8},
			Path:       []inventory.PCIHop{{Address: "0000:40:00.0", Kind: "root-port", Link: &inventory.PCIeLink{Current: x8, Maximum: x8}}},
			Bottleneck: address, SRIOV: &inventory.SRIOV{TotalVFs: 7},
		}
	}
	nic := func(index int, name, address string) inventory.NIC {
		return inventory.NIC{
			Name: name, Index: index, Function: inventory.PF, Type: "ether", MAC: "52:54:00:00:01:00",
			Parent: &inventory.Parent{Bus: "pci", Address: address}, PCI: pci(address, 0),
			Driver: &inventory.Driver{Name: "igb", Firmware: "1.4"},
			NUMA:   &inventory.NUMA{Node: ptr(0)}, IOMMU: &inventory.IOMMU{Group: 7, Members: []string{"0000:41:10.0"}},
			Stack: inventory.Stack{Master: "bond0", Upper: []string{"bond0"}},
			Link:  inventory.Link{Admin: "up", Oper: "up", SpeedMbps: ptr(25000), MTU: ptr(1500)},
			Queues: inventory.Queues{
				Channels: &inventory.Channels{Combined: &inventory.ChannelCount{Current: 4, Maximum: 8}},
				Rings:    &inventory.Rings{RX: &inventory.RingSize{Current: 256, Maximum: 4096}},
			},
		}
	}
	return &inventory.Inventory{
		Host: inventory.Host{
			Hostname: "edge1", Kernel: "6.12.0", CPUs: inventory.CPUs{Online: "0-7"},
			Nodes: []inventory.NUMANode{{ID: 0, CPUs: "0-3", MemoryBytes: ptr(uint64(768 << 20))}, {ID: 1, CPUs: "4-7"}},
			IOMMU: inventory.HostIOMMU{Units: []string{"dmar0"}},
		},
		NICs: []inventory.NIC{
			nic(2, "eth0", "0000:41:00.0"), nic(3, "eth1", "0000:41:00.1"),
			{Name: "bond0", Index: 4, Function: inventory.Virtual, Type: "bond", Stack: inventory.Stack{Lower: []string{"eth0", "eth1"}}},
			{Name: "usb0", Index: 5, Function: inventory.Plain, Parent: &inventory.Parent{Bus: "usb", Address: "1-1:1.0"}, Link: inventory.Link{Admin: "down", Oper: "down"}},
			{Name: "ve\x1b[2Jil", Index: 6, Function: inventory.Virtual, Type: "veth"},
		},
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := Table(&b, example().NICs, false); err != nil {
		t.Fatal(err)
	}
	want := `NAME       KIND      DRIVER   ADDRESS        NUMA   STATE        SPEED   MTU    QUEUES   RINGS         MAC                 MASTER   MODEL
eth0       pf        igb      0000:41:00.0   0      up           25G     1500   4/8      rx 256/4096   52:54:00:00:01:00   bond0    82576 Gigabit Network Connection
eth1       pf        igb      0000:41:00.1   0      up           25G     1500   4/8      rx 256/4096   52:54:00:00:01:00   bond0    82576 Gigabit Network Connection
bond0      virtual   bond     -              -      -            -       -      -        -             -                   -        -
usb0       plain     -        1-1:1.0        -      admin-down   -       -      -        -             -                   -        -
ve?[2Jil   virtual   veth     -              -      -            -       -      -        -             -                   -        -
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTree(t *testing.T) {
	var b strings.Builder
	if err := Tree(&b, whole(example())); err != nil {
		t.Fatal(err)
	}
	want := `edge1  Linux 6.12.0  CPUs 0-7  IOMMU dmar0
├─ NUMA node 0  CPUs 0-3  768 MiB
│  └─ 0000:40:00.0  root-port  8 GT/s x8 7.88 GB/s
│     ├─ 0000:41:00.0  82576 Gigabit Network Connection  2.5 GT/s x1 0.25 GB/s (max 8 GT/s x8 7.88 GB/s)  <- narrowest hop  IOMMU group 7 with 0000:41:10.0  VFs 0/7
│     │  └─ eth0  pf  igb  up  25G  4/8
│     │     └─ bond0  virtual  bond
│     └─ 0000:41:00.1  82576 Gigabit Network Connection  2.5 GT/s x1 0.25 GB/s (max 8 GT/s x8 7.88 GB/s)  <- narrowest hop  IOMMU group 7 with 0000:41:10.0  VFs 0/7
│        └─ eth1  pf  igb  up  25G  4/8
│           └─ bond0  virtual  bond
├─ no NUMA node
│  └─ usb 1-1:1.0
│     └─ usb0  plain  admin-down
└─ software devices
   └─ ve?[2Jil  virtual  veth
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTreeShowsHowTheIOMMUTranslates(t *testing.T) {
	for want, types := range map[string]map[string]int{
		"IOMMU dmar0 (DMA-FQ)":                {"DMA-FQ": 30},
		"IOMMU dmar0 (DMA-FQ 30, identity 2)": {"DMA-FQ": 30, "identity": 2},
		"IOMMU dmar0":                         nil,
	} {
		inv := &inventory.Inventory{Host: inventory.Host{IOMMU: inventory.HostIOMMU{Units: []string{"dmar0"}, Types: types}}}
		var b strings.Builder
		if err := Tree(&b, whole(inv)); err != nil || b.String() != "host  "+want+"\n" {
			t.Errorf("%v: got %q", err, b.String())
		}
	}
}

func TestTreeTellsNoIOMMUFromAnUnknownOne(t *testing.T) {
	for want, iommu := range map[string]inventory.HostIOMMU{
		"host\n":           {},
		"host  no IOMMU\n": {Groups: ptr(0)},
	} {
		var b strings.Builder
		if err := Tree(&b, whole(&inventory.Inventory{Host: inventory.Host{IOMMU: iommu}})); err != nil || b.String() != want {
			t.Errorf("got %q, %v; want %q", b.String(), err, want)
		}
	}
}

func TestTreeEndsOnALoop(t *testing.T) {
	loop := &inventory.Inventory{NICs: []inventory.NIC{
		{Name: "a", Index: 1, Stack: inventory.Stack{Lower: []string{"b"}, Upper: []string{"b"}}},
		{Name: "b", Index: 2, Stack: inventory.Stack{Lower: []string{"a"}, Upper: []string{"a"}}},
	}}
	var b strings.Builder
	if err := Tree(&b, whole(loop)); err != nil || strings.Count(b.String(), "\n") > 6 {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestUnread(t *testing.T) {
	gap := func(fact string, reason inventory.Reason, detail string) []inventory.Unread {
		return []inventory.Unread{{Fact: fact, Reason: reason, Detail: detail}}
	}
	inv := &inventory.Inventory{NICs: []inventory.NIC{
		{Name: "eth0", Unread: gap("pci.vpd", inventory.Denied, "read /sys/vpd: permission denied")},
		{Name: "eth1", Unread: gap("pci.vpd", inventory.Denied, "read /sys/vpd: permission denied")},
		{Name: "eth2", Unread: gap("link.fec", inventory.Unsupported, "ethtool FEC_GET: operation not supported")},
		{Name: "et\x1b3", Unread: gap("link.eee", inventory.Failed, "ethtool EEE_GET: input/output error")},
	}}
	var b strings.Builder
	if err := Unread(&b, whole(inv)); err != nil {
		t.Fatal(err)
	}
	want := `not read (denied): pci.vpd of eth0, eth1: read /sys/vpd: permission denied
not read (failed): link.eee of et?3: ethtool EEE_GET: input/output error
What was denied can be read as root.
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// whole is an inventory for which VFs were not asked.
func whole(inv *inventory.Inventory) *sriov.Inventory { return &sriov.Inventory{Inventory: *inv} }
