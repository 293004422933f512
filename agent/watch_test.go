package agent

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/lab/nstest"
)

// The kernel says which device and what, whoever changed it.
func TestWatchSaysWhatChanged(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "told0", "numrxqueues 4 numtxqueues 4 type veth peer name told1")
	device, err := net.InterfaceByName("told0")
	if err != nil {
		t.Fatal(err)
	}
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	changes, err := Watch(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what   string
		change func()
	}{
		{"link", func() { nstest.IP(t, "link set told0 mtu 1400") }},
		{"features", func() { nstest.Run(t, "ethtool", "-K", "told0", "rx-gro-list", "on") }},
		{"channels", func() { nstest.Run(t, "ethtool", "-L", "told0", "rx", "2") }},
		{"link gone", func() { nstest.IP(t, "link del told0") }},
	} {
		test.change()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for {
			e, err := changes(ctx)
			if err != nil {
				t.Fatalf("%s: %v", test.what, err)
			}
			if e == (Event{Index: device.Index, What: test.what}) {
				break
			}
		}
		cancel()
	}
}

func FuzzEventOf(f *testing.F) {
	f.Add("route", uint16(uapi.RTM_NEWLINK), slices.Concat([]byte{0, 0, 1, 0, 7, 0, 0, 0}, make([]byte, 8)))
	f.Add("ethtool", uint16(uapi.ETHTOOL_MSG_RINGS_NTF), []byte{12, 0, 1, 128, 8, 0, 1, 0, 7, 0, 0, 0})
	f.Add("devlink", uint16(uapi.DEVLINK_CMD_PORT_NEW), []byte{8, 0, 1, 0, 'p', 'c', 'i', 0})
	f.Add("uevent", uint16(0), []byte("add@/x\x00ACTION=add\x00SUBSYSTEM=pci\x00"))
	f.Add("ethtool", uint16(1000), []byte{12, 0, 1})
	f.Fuzz(func(t *testing.T, family string, command uint16, body []byte) {
		e, concerns := eventOf(kernel.Notification{Family: family, Message: kernel.Message{Command: command, Body: body}})
		if concerns != (e.What != "") {
			t.Errorf("concerns: %v, what: %q", concerns, e.What)
		}
	})
}

func TestEventOf(t *testing.T) {
	for _, test := range []struct {
		family  string
		command uint16
		body    []byte
		want    Event
	}{
		{kernel.FamilyRoute, uapi.RTM_NEWLINK, slices.Concat([]byte{0, 0, 1, 0, 7, 0, 0, 0}, make([]byte, 8)), Event{Index: 7, What: "link"}},
		{kernel.FamilyRoute, uapi.RTM_DELLINK, []byte{0, 0, 1, 0, 7, 0, 0, 0}, Event{Index: 7, What: "link gone"}},
		{kernel.FamilyRoute, uapi.RTM_DELLINK, []byte{0, 0, 1, 0, 7}, Event{Index: 0, What: "link gone"}},
		{kernel.FamilyEthtool, uapi.ETHTOOL_MSG_RINGS_NTF, []byte{12, 0, 1, 128, 8, 0, 1, 0, 7, 0, 0, 0}, Event{Index: 7, What: "rings"}},
		{kernel.FamilyEthtool, uapi.ETHTOOL_MSG_RINGS_NTF, []byte{12, 0, 1, 128, 8, 0, 2, 0, 'a', 0, 0, 0}, Event{Index: 0, What: "rings"}},
		{kernel.FamilyEthtool, 1000, nil, Event{Index: 0, What: "ethtool notification 1000"}},
		// What a bridge says of a port that leaves it.
		{kernel.FamilyRoute, uapi.RTM_DELLINK, []byte{7, 0, 0, 0, 7, 0, 0, 0}, Event{Index: 7, What: "link"}},
		{kernel.FamilyDevlink, uapi.DEVLINK_CMD_PORT_NEW, kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, "pci").String(uapi.DEVLINK_ATTR_DEV_NAME, "0000:3b:00.0").
			Uint32(uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX, 7), Event{Index: 7, What: "devlink", Handle: "pci/0000:3b:00.0"}},
		{kernel.FamilyDevlink, uapi.DEVLINK_CMD_PARAM_NEW, kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, "pci").String(uapi.DEVLINK_ATTR_DEV_NAME, "0000:3b:00.0"),
			Event{What: "devlink", Handle: "pci/0000:3b:00.0"}},
		{kernel.FamilyDevlink, uapi.DEVLINK_CMD_NEW, kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, "pci").String(uapi.DEVLINK_ATTR_DEV_NAME, "0000:3b:00.0"),
			Event{What: "devlink"}},
		{kernel.FamilyDevlink, uapi.DEVLINK_CMD_FLASH_UPDATE_STATUS, nil, Event{}},
		{kernel.FamilyUevent, 0, []byte("bind@/devices/pci0000:00/0000:00:03.0\x00ACTION=bind\x00SUBSYSTEM=pci\x00DRIVER=igb\x00PCI_CLASS=20000\x00"), Event{What: "pci bind"}},
		{kernel.FamilyUevent, 0, []byte("add@/x\x00ACTION=add\x00SUBSYSTEM=pci\x00PCI_CLASS=10802\x00"), Event{}}, // a disk
		{kernel.FamilyUevent, 0, []byte("add@/x\x00ACTION=add\x00SUBSYSTEM=pci\x00PCI_CLASS=60400\x00"), Event{What: "pci add"}},
		{kernel.FamilyUevent, 0, []byte("remove@/module/igb\x00ACTION=remove\x00SUBSYSTEM=module\x00"), Event{What: "module remove"}},
		{kernel.FamilyUevent, 0, []byte("add@/x\x00ACTION=add\x00SUBSYSTEM=net\x00INTERFACE=eth0\x00IFINDEX=7\x00"), Event{}}, // told of as a link
		{kernel.FamilyUevent, 0, nil, Event{}},
	} {
		got, concerns := eventOf(kernel.Notification{Family: test.family, Message: kernel.Message{Command: test.command, Body: test.body}})
		if got != test.want || concerns != (test.want != Event{}) {
			t.Errorf("%s %d %v: %+v (%v), want %+v", test.family, test.command, test.body, got, concerns, test.want)
		}
	}
}

// How drift was found is kept while its attempt is put off, and told once.
func TestHeard(t *testing.T) {
	var h heard
	nics := []Compared{{}, {}}
	nics[0].NIC.Index, nics[1].NIC.Index = 2, 3
	h.add(Event{Index: 2, What: "rings"})
	h.add(Event{Index: 2, What: "link"})
	h.add(Event{Index: 2, What: "rings"})
	h.add(Event{Index: 9, What: "link"})
	first := h.take(nics, []int{2, 3}, "found at the start")
	if first[2] != "told of by the kernel: rings, link" || first[3] != "found at the start" {
		t.Errorf("%v", first)
	}
	if later := h.take(nics, []int{2}, "found when it was due"); later[2] != first[2] || later[3] != first[3] {
		t.Errorf("%v", later)
	}
	h.take(nics, nil, "found when it was due")
	h.wait(2, first[2]) // the attempt failed
	if later := h.take(nics, nil, "found when it was due"); later[2] != first[2] {
		t.Errorf("%v", later)
	}
	if again := h.take(nics, nil, "found at the interval"); again[2] != "found at the interval" || len(h.events)+len(h.waiting) != 0 {
		t.Errorf("%v, %v, %v", again, h.events, h.waiting)
	}
}
