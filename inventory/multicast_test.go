package inventory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// The three files as Linux 6.18 prints them.
const (
	devMcast = `2    v1              1     0     333300000001
2    v1              1     0     01005e010107
5    averylongname01 2     0     01005e000001
5    averylongname01 1     1     01005e010203
8    ib0             1     0     00ffffffff12401bffff00000000000000000001
9    tun0            1     0     
`
	igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n" +
		"1\tlo        :     1      V3\n" +
		"\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
		"2\tv1        :     2      V2\n" +
		"\t\t\t\t070101EF     2 1:000000A3\t\t1\n" +
		"\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
		"5\taverylongname01:     1      V3\n" +
		"\t\t\t\t010000E0     1 0:00000000\t\t0\n"
	igmp6 = `1    lo              ff020000000000000000000000000001     1 0000000C 0
2    v1              ff0200000000000000000001fff8ec00     1 00000004 0
2    v1              ff150000000000000000000000000008     2 00000004 0
`
)

func TestParseMemberships(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the file's numbers are of a little-endian host")
	}
	for name, c := range map[string]struct {
		parse func([]byte) (map[int][]Membership, error)
		text  string
		want  map[int][]Membership
	}{
		"dev_mcast": {parseDevMcast, devMcast, map[int][]Membership{
			2: {{Family: "link", Address: "33:33:00:00:00:01", Users: 1}, {Family: "link", Address: "01:00:5e:01:01:07", Users: 1}},
			5: {{Family: "link", Address: "01:00:5e:00:00:01", Users: 2}, {Family: "link", Address: "01:00:5e:01:02:03", Users: 1, Static: true}},
			8: {{Family: "link", Address: "00:ff:ff:ff:ff:12:40:1b:ff:ff:00:00:00:00:00:00:00:00:00:01", Users: 1}},
		}},
		"igmp": {parseIGMP, igmp, map[int][]Membership{
			1: {{Family: "ipv4", Address: "224.0.0.1", Users: 1}},
			2: {{Family: "ipv4", Address: "239.1.1.7", Users: 2}, {Family: "ipv4", Address: "224.0.0.1", Users: 1}},
			5: {{Family: "ipv4", Address: "224.0.0.1", Users: 1}},
		}},
		"igmp6": {parseIGMP6, igmp6, map[int][]Membership{
			1: {{Family: "ipv6", Address: "ff02::1", Users: 1}},
			2: {{Family: "ipv6", Address: "ff02::1:fff8:ec00", Users: 1}, {Family: "ipv6", Address: "ff15::8", Users: 2}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.parse([]byte(c.text))
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("\n got %v, %v\nwant %v", got, err, c.want)
			}
			if got, err := c.parse(nil); err != nil || len(got) != 0 {
				t.Errorf("an empty file: %v, %v", got, err)
			}
		})
	}
}

func TestParseMembershipsRefusesMalformed(t *testing.T) {
	for _, c := range []struct {
		parse func([]byte) (map[int][]Membership, error)
		text  string
	}{
		{parseDevMcast, "2 v1 1"}, {parseDevMcast, "x v1 1 0 0102"}, {parseDevMcast, "2 v1 -1 0 0102"}, {parseDevMcast, "2 v1 1 0 010"},
		{parseIGMP, "Idx\n\t\t010000E0 1"}, {parseIGMP, "Idx\nv1 2"}, {parseIGMP, "Idx\n2 v1 : 1 V3\n\tZZ 1"}, {parseIGMP, "Idx\n2 v1 : 1 V3\n\t010000E0"},
		{parseIGMP, "Idx\n2 v1 : 1 V3\n\t1010000E0 1 0:0"},
		{parseIGMP6, "2 v1 ff02 1 0 0"}, {parseIGMP6, "2 v1"}, {parseIGMP6, "2 v1 ff020000000000000000000000000001 many 0 0"},
	} {
		if _, err := c.parse([]byte(c.text)); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

// mdbMessage builds an RTM_GETMDB answer for the bridge with index 7.
func mdbMessage(attributes kernel.Body) kernel.Message {
	b := make([]byte, bridgePortMessage)
	b[0] = afBridge
	binary.NativeEndian.PutUint32(b[4:], 7)
	return kernel.Message{Command: uapi.RTM_GETMDB, Body: append(b, attributes...)}
}

// mdbInfo builds MDBA_MDB_ENTRY_INFO: a struct br_mdb_entry and attributes.
func mdbInfo(port int, state byte, vlan, protocol uint16, address []byte, attributes kernel.Body) kernel.Body {
	b := make([]byte, mdbEntry)
	binary.NativeEndian.PutUint32(b, uint32(port))
	b[4] = state
	binary.NativeEndian.PutUint16(b[6:], vlan)
	copy(b[8:24], address)
	binary.BigEndian.PutUint16(b[24:], protocol)
	return kernel.Body{}.Bytes(uapi.MDBA_MDB_ENTRY_INFO, append(b, attributes...))
}

func exampleMDB() kernel.Message {
	entries := kernel.Body{}.
		Nested(uapi.MDBA_MDB_ENTRY, join(
			mdbInfo(2, 1, 0, 0x0800, []byte{239, 2, 2, 2}, nil),
			mdbInfo(3, 0, 10, 0x0800, []byte{239, 2, 2, 2}, kernel.Body{}.Bytes(uapi.MDBA_MDB_EATTR_SOURCE, []byte{192, 0, 2, 9})))).
		Nested(uapi.MDBA_MDB_ENTRY, mdbInfo(7, 0, 0, 0x86dd, []byte{0xff, 0x15, 15: 5}, kernel.Body{}.Uint32(uapi.MDBA_MDB_EATTR_TIMER, 26000))).
		Nested(uapi.MDBA_MDB_ENTRY, mdbInfo(2, 1, 0, 0, []byte{1, 0, 0, 0, 0, 0x55}, nil))
	router := binary.NativeEndian.AppendUint32(nil, 3)
	return mdbMessage(kernel.Body{}.Nested(uapi.MDBA_MDB, entries).
		Nested(uapi.MDBA_ROUTER, kernel.Body{}.Bytes(uapi.MDBA_ROUTER_PORT, append(router, kernel.Body{}.Uint32(uapi.MDBA_ROUTER_PATTR_TIMER, 1)...))))
}

func bridgeHost(answers ...kernel.Message) *stub {
	r := linksOf(
		linkMessage(2, 1, 0, named("eth0")), linkMessage(3, 1, 0, named("eth1")),
		linkMessage(7, 1, 0, join(named("br0"), softwareLink("bridge", nil))),
	)
	r.netlink[fmt.Sprint(kernel.FamilyRoute, " ", uapi.RTM_GETMDB)] = answer{messages: answers}
	r.files = map[string]string{"/proc/net/dev_mcast": devMcast, "/proc/net/igmp": igmp, "/proc/net/igmp6": igmp6}
	return r
}

func TestReadMDB(t *testing.T) {
	// Twice: an interrupted dump repeats itself.
	s := surveyed(t, bridgeHost(exampleMDB(), exampleMDB()), readMulticast)
	want := &Bridge{
		MDB: []MDBEntry{
			{Port: "eth0", Group: "239.2.2.2", State: "permanent"},
			{Port: "eth1", Group: "239.2.2.2", Source: "192.0.2.9", VLAN: 10, State: "temporary"},
			{Port: "br0", Group: "ff15::5", State: "temporary"},
			{Port: "eth0", Group: "01:00:00:00:00:55", State: "permanent"},
		},
		RouterPorts: []string{"eth1"},
	}
	if got := s.byName["br0"].Stack.Bridge; !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %s\nwant %s", asJSON(t, got), asJSON(t, want))
	}
	if len(s.unread) != 0 {
		t.Errorf("unread: %+v", s.unread)
	}
}

func TestReadMDBMalformed(t *testing.T) {
	short := mdbMessage(kernel.Body{}.Nested(uapi.MDBA_MDB, kernel.Body{}.Nested(uapi.MDBA_MDB_ENTRY, kernel.Body{}.Bytes(uapi.MDBA_MDB_ENTRY_INFO, make([]byte, 20)))))
	s := surveyed(t, bridgeHost(short, kernel.Message{Command: uapi.RTM_GETMDB, Body: []byte{7}}), readMulticast)
	if u := s.byName["br0"].Unread; len(u) != 1 || u[0].Fact != "stack.bridge.mdb" {
		t.Errorf("unread of br0: %+v", u)
	}
	if len(s.unread) != 1 {
		t.Errorf("unread of the host: %+v", s.unread)
	}
}

// What can't be read is noted once for the host; the rest is there.
func TestReadMulticastWithoutIPv6(t *testing.T) {
	r := bridgeHost()
	delete(r.files, "/proc/net/igmp6")
	r.files["/sys/class/net/eth0/flags"] = "0x1203\n"
	s := surveyed(t, r, readMulticast)
	if len(s.unread) != 1 || s.unread[0].Fact != "nics.multicast.memberships" || s.unread[0].Reason != kernel.Unsupported {
		t.Errorf("unread: %+v", s.unread)
	}
	if m := s.byName["eth0"].Multicast; len(m.Memberships) != 4 || value(m.AllMulti) != true {
		t.Errorf("eth0: %s", asJSON(t, m))
	}
	if m := s.byName["eth1"].Multicast; m.AllMulti != nil {
		t.Errorf("eth1: allmulti is known from nowhere")
	}
}

func FuzzParseMemberships(f *testing.F) {
	for _, seed := range []string{devMcast, igmp, igmp6, "", "Idx\n\n\n2\t", "2 v1 1 0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte) (map[int][]Membership, error){parseDevMcast, parseIGMP, parseIGMP6} {
			groups, err := parse(b)
			if err != nil && !errors.Is(err, kernel.ErrMalformed) {
				t.Error(err)
			}
			for _, memberships := range groups {
				for _, m := range memberships {
					if m.Family == "" || m.Address == "" {
						t.Errorf("%+v", m)
					}
				}
			}
		}
	})
}

func FuzzDecodeMDB(f *testing.F) {
	f.Add([]byte{})
	f.Add(exampleMDB().Body)
	f.Add(mdbMessage(nil).Body)
	for _, m := range messagesOf(f, mdbDump()) {
		f.Add(m.Body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := decodeMDB(body)
		if err != nil && !errors.Is(err, kernel.ErrMalformed) {
			t.Error(err)
		}
		if len(d.entries) != len(d.ports) {
			t.Errorf("%d entries on %d ports", len(d.entries), len(d.ports))
		}
	})
}
