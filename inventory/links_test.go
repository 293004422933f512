package inventory

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// linkMessage builds an RTM_NEWLINK message.
func linkMessage(index int, hardware uint16, flags uint32, attributes kernel.Body) kernel.Message {
	b := make([]byte, linkHeader)
	binary.NativeEndian.PutUint16(b[2:], hardware)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	return kernel.Message{Command: uapi.RTM_NEWLINK, Body: append(b, attributes...)}
}

// surveyed lists the devices and reads the given subjects.
func surveyed(t *testing.T, r kernel.Reader, subjects ...func(context.Context, *survey)) *survey {
	t.Helper()
	s := &survey{Reader: r, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
	if err := readLinks(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, subject := range subjects {
		subject(t.Context(), s)
	}
	return s
}

// named is the least that a device says of itself.
func named(name string) kernel.Body { return kernel.Body{}.String(uapi.IFLA_IFNAME, name) }

// softwareLink builds IFLA_LINKINFO.
func softwareLink(kind string, data kernel.Body) kernel.Body {
	return kernel.Body{}.Nested(uapi.IFLA_LINKINFO,
		kernel.Body{}.String(uapi.IFLA_INFO_KIND, kind).Nested(uapi.IFLA_INFO_DATA, data))
}

// value is what a pointer points to, or the zero value.
func value[T any](p *T) any {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func join(parts ...kernel.Body) kernel.Body { return slices.Concat(parts...) }

// stub is a host of which netlink answers by family and command, and a tree of
// files and links.
type stub struct {
	kernel.Reader
	netlink map[string]answer
	one     map[string]answer // RTM_GETLINK of one name
	files   map[string]string
	links   map[string]string
	asked   []string
}

type answer struct {
	messages []kernel.Message
	err      error
}

func (s *stub) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	if req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_GETLINK && !req.Dump {
		for a := kernel.AttributesAfter(req.Body, linkHeader); a.Next(); {
			if a.Type == uapi.IFLA_IFNAME {
				s.asked = append(s.asked, a.String())
				one, ok := s.one[a.String()]
				if !ok {
					return nil, errGone
				}
				return one.messages, one.err
			}
		}
	}
	a, ok := s.netlink[fmt.Sprint(req.Family, " ", req.Command)]
	if !ok {
		return nil, fmt.Errorf("netlink: %w", kernel.ErrNotRecorded)
	}
	return a.messages, a.err
}

// errGone is a file or device that is not there; a stub can't name an errno.
var errGone = fs.ErrNotExist

func (s *stub) ReadFile(_ context.Context, p string) ([]byte, error) {
	if v, ok := s.files[p]; ok {
		return []byte(v), nil
	}
	return nil, errGone
}

func (s *stub) ReadLink(_ context.Context, p string) (string, error) {
	if v, ok := s.links[p]; ok {
		return v, nil
	}
	return "", errGone
}

func (s *stub) ReadDir(_ context.Context, dir string) ([]string, error) {
	names := map[string]bool{}
	for _, tree := range []map[string]string{s.files, s.links} {
		for p := range tree {
			if rest, ok := strings.CutPrefix(p, dir+"/"); ok {
				name, _, _ := strings.Cut(rest, "/")
				names[name] = true
			}
		}
	}
	if len(names) == 0 {
		return nil, errGone
	}
	return slices.Sorted(maps.Keys(names)), nil
}

var getLink = fmt.Sprint(kernel.FamilyRoute, " ", uapi.RTM_GETLINK)

func linksOf(messages ...kernel.Message) *stub {
	return &stub{netlink: map[string]answer{getLink: {messages: messages}}}
}

func TestDecodeLink(t *testing.T) {
	be := func(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
	const up = uapi.IFF_UP | uapi.IFF_MULTICAST
	for _, c := range []struct {
		name string
		m    kernel.Message
		want func(*NIC)
	}{
		{"a port", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), kernel.Body{}.
			Bytes(uapi.IFLA_ADDRESS, []byte{0x52, 0x54, 0, 0x12, 0x34, 0xaf}).
			Bytes(uapi.IFLA_PERM_ADDRESS, []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}).
			Bytes(uapi.IFLA_BROADCAST, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}).
			Uint8(uapi.IFLA_LINKMODE, 1).Uint32(uapi.IFLA_GROUP, 5).Uint32(uapi.IFLA_LINK, 9).
			String(uapi.IFLA_IFALIAS, "rack 7").
			Nested(uapi.IFLA_PROP_LIST, kernel.Body{}.String(uapi.IFLA_ALT_IFNAME, "enp3s0").String(uapi.IFLA_ALT_IFNAME, "uplink")).
			String(uapi.IFLA_PARENT_DEV_NAME, "0000:03:00.0").String(uapi.IFLA_PARENT_DEV_BUS_NAME, "pci").
			String(uapi.IFLA_PHYS_PORT_NAME, "p0").Bytes(uapi.IFLA_PHYS_PORT_ID, []byte{0xec, 0x0d}).Bytes(uapi.IFLA_PHYS_SWITCH_ID, []byte{1, 2}).
			Uint8(uapi.IFLA_OPERSTATE, uapi.IF_OPER_UP).Uint8(uapi.IFLA_CARRIER, 1).Uint8(uapi.IFLA_PROTO_DOWN, 1).
			Uint32(uapi.IFLA_MTU, 1500).Uint32(uapi.IFLA_MIN_MTU, 68).Uint32(uapi.IFLA_MAX_MTU, 9216).
			Uint32(uapi.IFLA_TXQLEN, 1000).Uint32(uapi.IFLA_CARRIER_UP_COUNT, 3).Uint32(uapi.IFLA_CARRIER_DOWN_COUNT, 2).
			Uint32(uapi.IFLA_NUM_RX_QUEUES, 8).Uint32(uapi.IFLA_NUM_TX_QUEUES, 16).
			Uint32(uapi.IFLA_PROMISCUITY, 2).Uint32(uapi.IFLA_ALLMULTI, 0).
			Uint32(uapi.IFLA_GSO_MAX_SIZE, 1).Uint32(uapi.IFLA_GSO_MAX_SEGS, 2).Uint32(uapi.IFLA_GSO_IPV4_MAX_SIZE, 3).
			Uint32(uapi.IFLA_TSO_MAX_SIZE, 4).Uint32(uapi.IFLA_TSO_MAX_SEGS, 5).Uint32(uapi.IFLA_GRO_MAX_SIZE, 6).
			Uint32(uapi.IFLA_GRO_IPV4_MAX_SIZE, 7))), func(n *NIC) {
			n.MAC, n.PermanentMAC, n.Alias, n.AltNames = "52:54:00:12:34:af", "52:54:00:12:34:56", "rack 7", []string{"enp3s0", "uplink"}
			n.Broadcast = "ff:ff:ff:ff:ff:ff"
			n.NetClass = &NetClass{Hardware: 1, Flags: up, LinkMode: 1, Group: 5, Link: 9, Dormant: new(false)}
			n.Parent = &Parent{Bus: "pci", Address: "0000:03:00.0"}
			n.Port = Port{Name: "p0", ID: "ec0d", SwitchID: "0102"}
			n.Link = Link{Admin: "up", Oper: "up", Carrier: new(true), ProtoDown: true, MTU: new(1500), MinMTU: new(68), MaxMTU: new(9216),
				TxQueueLen: new(1000), CarrierUp: new(uint64(3)), CarrierDown: new(uint64(2))}
			n.Queues = Queues{RX: new(8), TX: new(16)}
			n.Multicast = Multicast{Capable: new(true), Promiscuous: new(true), PromiscuousUsers: new(uint32(2)), AllMulti: new(false), AllMultiUsers: new(uint32(0))}
			n.Offloads.Limits = Limits{
				GSOMaxSize: new(uint32(1)), GSOMaxSegs: new(uint32(2)), GSOIPv4MaxSize: new(uint32(3)),
				TSOMaxSize: new(uint32(4)), TSOMaxSegs: new(uint32(5)), GROMaxSize: new(uint32(6)), GROIPv4MaxSize: new(uint32(7)),
			}
		}},
		{"one that is down keeps its old carrier to itself", linkMessage(2, uapi.ARPHRD_ETHER, 0, join(named("eth0"),
			kernel.Body{}.Uint8(uapi.IFLA_CARRIER, 1).Uint8(uapi.IFLA_OPERSTATE, uapi.IF_OPER_DOWN).Uint32(uapi.IFLA_MAX_MTU, 0))), func(n *NIC) {
			n.Link = Link{Admin: "down", Oper: "down"}
			n.Multicast.Capable = new(false)
			n.NetClass.Flags, n.NetClass.Dormant = 0, nil
		}},
		{"a kernel that does not count allmulti", linkMessage(2, uapi.ARPHRD_ETHER, up|uapi.IFF_ALLMULTI|uapi.IFF_PROMISC, named("eth0")), func(n *NIC) {
			n.Multicast.AllMulti, n.Multicast.Promiscuous = new(true), new(true)
			n.NetClass.Flags |= uapi.IFF_ALLMULTI | uapi.IFF_PROMISC
		}},
		{"XDP in two modes", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), kernel.Body{}.Nested(uapi.IFLA_XDP, kernel.Body{}.
			Uint8(uapi.IFLA_XDP_ATTACHED, uapi.XDP_ATTACHED_MULTI).Uint32(uapi.IFLA_XDP_DRV_PROG_ID, 7).Uint32(uapi.IFLA_XDP_HW_PROG_ID, 9)))), func(n *NIC) {
			n.Offloads.XDP = []XDPProgram{{Mode: "driver", ID: 7}, {Mode: "hardware", ID: 9}}
		}},
		{"XDP on a kernel before 4.16", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), kernel.Body{}.Nested(uapi.IFLA_XDP, kernel.Body{}.
			Uint8(uapi.IFLA_XDP_ATTACHED, uapi.XDP_ATTACHED_SKB).Uint32(uapi.IFLA_XDP_PROG_ID, 7)))), func(n *NIC) {
			n.Offloads.XDP = []XDPProgram{{Mode: "generic", ID: 7}}
		}},
		{"no XDP", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"),
			kernel.Body{}.Nested(uapi.IFLA_XDP, kernel.Body{}.Uint8(uapi.IFLA_XDP_ATTACHED, 0)))), func(*NIC) {}},
		{"a VLAN of 802.1ad", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), softwareLink("vlan",
			kernel.Body{}.Uint16(uapi.IFLA_VLAN_ID, 4094).Bytes(uapi.IFLA_VLAN_PROTOCOL, be(0x88a8))))), func(n *NIC) {
			n.Type, n.Stack.VLAN = "vlan", &VLAN{ID: 4094, Protocol: "802.1ad"}
		}},
		{"a bond", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), softwareLink("bond",
			kernel.Body{}.Uint8(uapi.IFLA_BOND_MODE, 4)))), func(n *NIC) {
			n.Type, n.Stack.Bond = "bond", &Bond{Mode: "802.3ad"}
		}},
		{"a VRF", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), softwareLink("vrf",
			kernel.Body{}.Uint32(uapi.IFLA_VRF_TABLE, 1234)))), func(n *NIC) {
			n.Type, n.Stack.VRFTable = "vrf", new(1234)
		}},
		{"a macvtap", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), softwareLink("macvtap",
			kernel.Body{}.Uint32(uapi.IFLA_MACVLAN_MODE, uapi.MACVLAN_MODE_PASSTHRU)))), func(n *NIC) {
			n.Type, n.Stack.MACVLANMode = "macvtap", "passthru"
		}},
		{"a bridge with queriers", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), softwareLink("bridge", kernel.Body{}.
			Uint8(uapi.IFLA_BR_VLAN_FILTERING, 1).Uint32(uapi.IFLA_BR_STP_STATE, 0).Uint8(uapi.IFLA_BR_MCAST_SNOOPING, 1).
			Uint8(uapi.IFLA_BR_MCAST_QUERIER, 1).Uint8(uapi.IFLA_BR_MCAST_ROUTER, 2).Uint32(uapi.IFLA_BR_MCAST_HASH_MAX, 4096).
			Uint8(uapi.IFLA_BR_MCAST_IGMP_VERSION, 3).Uint8(uapi.IFLA_BR_MCAST_MLD_VERSION, 2).
			Nested(uapi.IFLA_BR_MCAST_QUERIER_STATE, kernel.Body{}.
				Bytes(uapi.BRIDGE_QUERIER_IP_ADDRESS, []byte{192, 0, 2, 1}).Uint32(uapi.BRIDGE_QUERIER_IP_PORT, 5).
				Bytes(uapi.BRIDGE_QUERIER_IPV6_ADDRESS, []byte{0xfe, 0x80, 15: 1}))))), func(n *NIC) {
			n.Type, n.Stack.Bridge = "bridge", &Bridge{
				VLANFiltering: new(true), STP: new(false), Snooping: new(true), Querier: new(true), Router: new(2),
				HashMax: new(4096), IGMPVersion: new(3), MLDVersion: new(2),
				QuerierState: []BridgeQuerier{{Family: "ipv4", Address: "192.0.2.1"}, {Family: "ipv6", Address: "fe80::1"}},
			}
		}},
		{"a bridge that snoops in each VLAN", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), softwareLink("bridge", kernel.Body{}.
			Bytes(uapi.IFLA_BR_MULTI_BOOLOPT, []byte{2, 0, 0, 0, 3, 0, 0, 0})))), func(n *NIC) {
			n.Type, n.Stack.Bridge = "bridge", &Bridge{VLANSnooping: new(true)}
		}},
		{"a port of a bridge", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), kernel.Body{}.Nested(uapi.IFLA_LINKINFO, kernel.Body{}.
			String(uapi.IFLA_INFO_SLAVE_KIND, "bridge").Nested(uapi.IFLA_INFO_SLAVE_DATA, kernel.Body{}.
			Uint8(uapi.IFLA_BRPORT_STATE, 4).Uint8(uapi.IFLA_BRPORT_FAST_LEAVE, 1).Uint8(uapi.IFLA_BRPORT_MULTICAST_ROUTER, 2).
			Uint8(uapi.IFLA_BRPORT_MCAST_FLOOD, 0).Uint8(uapi.IFLA_BRPORT_MCAST_TO_UCAST, 1).
			Uint32(uapi.IFLA_BRPORT_MCAST_N_GROUPS, 7).Uint32(uapi.IFLA_BRPORT_MCAST_MAX_GROUPS, 9))))), func(n *NIC) {
			n.Stack.BridgePort = &BridgePort{
				State: "blocking", FastLeave: new(true), Router: new(2), Flood: new(false), ToUnicast: new(true),
				Groups: new(uint32(7)), MaxGroups: new(uint32(9)),
			}
		}},
		{"a slave of a bond", linkMessage(2, uapi.ARPHRD_ETHER, up, join(named("eth0"), kernel.Body{}.Nested(uapi.IFLA_LINKINFO, kernel.Body{}.
			String(uapi.IFLA_INFO_SLAVE_KIND, "bond").Nested(uapi.IFLA_INFO_SLAVE_DATA, kernel.Body{}.Uint8(1, 1))))), func(*NIC) {}},
		{"a tunnel", linkMessage(2, uapi.ARPHRD_SIT, up, join(named("eth0"), kernel.Body{}.Bytes(uapi.IFLA_ADDRESS, []byte{192, 0, 2, 1}))), func(n *NIC) {
			n.Type, n.MAC = "sit", "192.0.2.1"
			n.NetClass.Hardware = uapi.ARPHRD_SIT
		}},
		{"a link type of tomorrow", linkMessage(2, 4242, up, named("eth0")), func(n *NIC) {
			n.Type, n.NetClass.Hardware = "4242", 4242
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := NIC{
				Name: "eth0", Index: 2, Type: "ether", Link: Link{Admin: "up"}, Multicast: Multicast{Capable: new(true)},
				NetClass: &NetClass{Hardware: 1, Flags: up, Link: 2, Dormant: new(false)},
			}
			c.want(&want)
			got, err := decodeLink(c.m.Body)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.nic, want) {
				t.Errorf("\n got %s\nwant %s", asJSON(t, got.nic), asJSON(t, want))
			}
		})
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDecodeLinkRefusesMalformed(t *testing.T) {
	good := linkMessage(2, uapi.ARPHRD_ETHER, 0, join(named("eth0"), kernel.Body{}.Uint32(uapi.IFLA_MTU, 1500))).Body
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"half a header":        good[:10],
		"an attribute cut off": good[:len(good)-3],
		"an attribute that ends beyond the message": linkMessage(2, 1, 0, kernel.Body{0xff, 0xff, uapi.IFLA_IFNAME, 0, 'x'}).Body,
		"an attribute shorter than its header":      linkMessage(2, 1, 0, kernel.Body{2, 0, uapi.IFLA_IFNAME, 0}).Body,
		"an MTU of one byte":                        linkMessage(2, 1, 0, join(named("eth0"), kernel.Body{}.Uint8(uapi.IFLA_MTU, 1))).Body,
		"a nested attribute cut off":                linkMessage(2, 1, 0, join(named("eth0"), kernel.Body{}.Bytes(uapi.IFLA_LINKINFO, []byte{9, 0, 1, 0}))).Body,
		"no name":                                   linkMessage(2, 1, 0, nil).Body,
	} {
		if _, err := decodeLink(b); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One answer that can't be read costs the others nothing, and is not hidden.
func TestReadLinksKeepsTheOthers(t *testing.T) {
	s := surveyed(t, linksOf(
		linkMessage(1, uapi.ARPHRD_LOOPBACK, uapi.IFF_LOOPBACK, named("lo")),
		kernel.Message{Command: uapi.RTM_NEWLINK, Body: []byte{1, 2, 3}},
		linkMessage(3, 1, 0, join(named("eth1"), kernel.Body{}.Uint8(uapi.IFLA_MTU, 1))),
		linkMessage(2, 1, 0, named("eth0")),
		kernel.Message{Command: uapi.RTM_DELLINK, Body: linkMessage(4, 1, 0, named("eth2")).Body},
	))
	if names := namesOf(s); names != "eth0 eth1" {
		t.Errorf("listed: %s", names)
	}
	if len(s.unread) != 1 || s.unread[0].Fact != "nics" || s.unread[0].Reason != kernel.Failed {
		t.Errorf("unread of the host: %+v", s.unread)
	}
	if u := s.byName["eth1"].Unread; len(u) != 1 || u[0].Fact != "link" {
		t.Errorf("unread of eth1: %+v", u)
	}
}

func namesOf(s *survey) string {
	var names []string
	for _, n := range s.nics {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

// A dump that changed on every attempt loses no device that was there all the
// time, whichever attempts saw it, and the latest answer counts.
func TestReadLinksInterrupted(t *testing.T) {
	mtu := func(v uint32) kernel.Body { return kernel.Body{}.Uint32(uapi.IFLA_MTU, v) }
	r := &stub{
		netlink: map[string]answer{getLink: {
			messages: []kernel.Message{
				linkMessage(2, 1, 0, join(named("eth0"), mtu(1500))),
				linkMessage(3, 1, 0, named("seen-once")),
				// The second attempt.
				linkMessage(2, 1, 0, join(named("eth0"), mtu(9000))),
				linkMessage(5, 1, 0, named("new")),
			},
			err: fmt.Errorf("dump: %w", kernel.ErrInterrupted),
		}},
		one: map[string]answer{"passed-over": {messages: []kernel.Message{linkMessage(4, 1, 0, named("passed-over"))}}},
		links: map[string]string{
			sysClassNet + "/eth0": "", sysClassNet + "/seen-once": "", sysClassNet + "/new": "",
			sysClassNet + "/passed-over": "", sysClassNet + "/lo": "", sysClassNet + "/just-gone": "",
		},
	}
	s := surveyed(t, r)
	if names := namesOf(s); names != "eth0 seen-once passed-over new" {
		t.Errorf("listed: %s", names)
	}
	if got := value(s.byName["eth0"].Link.MTU); got != 9000 {
		t.Errorf("eth0 has the MTU of the first attempt: %v", got)
	}
	if slices.Contains(r.asked, "eth0") {
		t.Errorf("asked one by one for devices that were listed: %v", r.asked)
	}
}

// Names are used again while a dump is repeated: each is listed once, for the
// device that has it now.
func TestReadLinksInterruptedByRenames(t *testing.T) {
	message := func(index int, name string) kernel.Message {
		return linkMessage(index, 1, 0, join(named(name), counters(25, uint64(index))))
	}
	for _, c := range []struct {
		what     string
		messages []kernel.Message
		want     string
	}{
		{"deleted and made again", []kernel.Message{message(2, "a"), message(5, "a")}, "5:a"},
		{"seen by every attempt", []kernel.Message{message(2, "a"), message(2, "a")}, "2:a"},
		{"renamed", []kernel.Message{message(2, "a"), message(2, "b")}, "2:b"},
		{"renamed, and its name taken", []kernel.Message{message(2, "a"), message(2, "b"), message(5, "a")}, "2:b 5:a"},
		{"its name taken, and renamed", []kernel.Message{message(2, "a"), message(5, "a"), message(2, "b")}, "2:b 5:a"},
		{"names exchanged", []kernel.Message{message(2, "a"), message(5, "b"), message(2, "b"), message(5, "a")}, "2:b 5:a"},
	} {
		r := &stub{
			netlink: map[string]answer{getLink: {messages: c.messages, err: kernel.ErrInterrupted}},
			one:     map[string]answer{"lo": {}},
			links:   map[string]string{sysClassNet + "/lo": ""},
		}
		s := surveyed(t, r)
		var got []string
		for _, n := range s.nics {
			got = append(got, fmt.Sprintf("%d:%s", n.Index, n.Name))
			if s.byName[n.Name] != n || s.byIndex[n.Index] != n {
				t.Errorf("%s: %s can't be found", c.what, n.Name)
			}
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: listed %s, want %s", c.what, got, c.want)
		}
		all, err := ReadStatistics(t.Context(), r)
		got = nil
		for _, one := range all {
			got = append(got, fmt.Sprintf("%d:%s", one.Index, one.Name))
		}
		if got := strings.Join(got, " "); err != nil || got != c.want {
			t.Errorf("%s: counters of %s, want %s (%v)", c.what, got, c.want, err)
		}
	}
}

func TestStackLinks(t *testing.T) {
	link := func(index int) kernel.Body { return kernel.Body{}.Uint32(uapi.IFLA_LINK, uint32(index)) }
	master := func(index int) kernel.Body { return kernel.Body{}.Uint32(uapi.IFLA_MASTER, uint32(index)) }
	elsewhere := func(id int32) kernel.Body { return kernel.Body{}.Uint32(uapi.IFLA_LINK_NETNSID, uint32(id)) }
	s := surveyed(t, linksOf(
		linkMessage(2, 1, 0, join(named("eth0"), master(4))),
		linkMessage(3, 1, 0, join(named("eth1"), master(4))),
		linkMessage(4, 1, 0, join(named("bond0"), softwareLink("bond", kernel.Body{}.Uint8(uapi.IFLA_BOND_MODE, 1).Uint32(uapi.IFLA_BOND_ACTIVE_SLAVE, 3)))),
		linkMessage(5, 1, 0, join(named("bond0.7"), link(4), softwareLink("vlan", kernel.Body{}.Uint16(uapi.IFLA_VLAN_ID, 7)))),
		linkMessage(6, 1, 0, join(named("veth0"), link(7), softwareLink("veth", nil))),
		linkMessage(7, 1, 0, join(named("veth1"), link(6), softwareLink("veth", nil))),
		// Their index counts in another namespace: it is not eth0.
		linkMessage(8, 1, 0, join(named("veth2"), link(2), elsewhere(11), softwareLink("veth", nil))),
		linkMessage(9, 1, 0, join(named("mv0"), link(2), elsewhere(-1), softwareLink("macvlan", nil))),
		linkMessage(10, 1, 0, join(named("sit0"), link(0), softwareLink("sit", nil))),
		linkMessage(11, 1, 0, join(named("vx0"), softwareLink("vxlan", kernel.Body{}.Uint32(uapi.IFLA_VXLAN_LINK, 2)))),
		linkMessage(12, 1, 0, join(named("odd"), link(12), master(99))),
	))
	for name, want := range map[string]Stack{
		"eth0":    {Master: "bond0", Upper: []string{"bond0", "vx0"}},
		"eth1":    {Master: "bond0", Upper: []string{"bond0"}},
		"bond0":   {Lower: []string{"eth0", "eth1"}, Upper: []string{"bond0.7"}, Bond: &Bond{Mode: "active-backup", ActiveSlave: "eth1"}},
		"bond0.7": {Lower: []string{"bond0"}, VLAN: &VLAN{ID: 7}},
		"veth0":   {Peer: "veth1"},
		"veth1":   {Peer: "veth0"},
		"veth2":   {PeerNamespace: new(11)},
		"mv0":     {},
		"sit0":    {},
		"vx0":     {Lower: []string{"eth0"}},
		"odd":     {},
	} {
		if got := s.byName[name].Stack; !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, asJSON(t, got), asJSON(t, want))
		}
	}
}

// A plain tree has no netlink, and often less of sysfs than a host.
func TestReadLinksFromSysfs(t *testing.T) {
	tree := &stub{files: map[string]string{}, links: map[string]string{}}
	for file, content := range map[string]string{
		"eth0/address": "52:54:00:12:34:56\n", "eth0/addr_len": "6\n", "eth0/carrier": "1\n", "eth0/carrier_up_count": "2\n",
		"eth0/carrier_down_count": "1\n", "eth0/dev_port": "1\n", "eth0/duplex": "full\n", "eth0/flags": "0x1103\n",
		"eth0/ifindex": "2\n", "eth0/iflink": "2\n", "eth0/mtu": "9000\n", "eth0/operstate": "up\n", "eth0/speed": "1000\n",
		"eth0/link_mode": "1\n", "eth0/dormant": "1\n", "eth0/netdev_group": "7\n", "eth0/broadcast": "ff:ff:ff:ff:ff:ff\n",
		"eth0/addr_assign_type": "3\n", "eth0/name_assign_type": "4\n", "eth0/dev_id": "0x1\n",
		"eth0/tx_queue_len": "1000\n", "eth0/type": "1\n", "eth0/phys_port_name": "p0\n", "eth0/ifalias": "\n",
		"eth0/upper_bond0": "", "bond0/lower_eth0": "",
		"bond0/ifindex": "3\n", "bond0/flags": "0x1002\n", "bond0/type": "1\n", "bond0/duplex": "unknown\n", "bond0/speed": "-1\n",
		"lo/type": "772\n", "lo/ifindex": "1\n",
		"bonding_masters": "bond0\n",
	} {
		tree.files[path.Join(sysClassNet, file)] = content
	}
	for link, target := range map[string]string{
		"eth0":   "../../devices/pci0000:00/0000:00:03.0/virtio1/net/eth0",
		"bond0":  "../../devices/virtual/net/bond0",
		"lo":     "../../devices/virtual/net/lo",
		"thin":   "../../devices/pci0000:00/0000:00:04.0/net/thin",
		"usb0":   "../../devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/net/usb0",
		"noname": "../../devices/virtual/net/noname",

		"eth0/device": "../../../virtio1", "eth0/device/subsystem": "../../../../bus/virtio", "eth0/master": "../bond0",
	} {
		tree.links[path.Join(sysClassNet, link)] = target
	}
	s := surveyed(t, tree)
	if names := namesOf(s); names != "noname thin usb0 eth0 bond0" {
		t.Errorf("listed: %s", names)
	}
	if len(s.unread) != 1 || s.unread[0].Fact != "nics" {
		t.Errorf("the host's unread must say once that there was no netlink: %+v", s.unread)
	}
	want := NIC{
		Name: "eth0", Index: 2, Type: "ether", MAC: "52:54:00:12:34:56", Broadcast: "ff:ff:ff:ff:ff:ff",
		NetClass: &NetClass{
			Hardware: 1, Flags: 0x1103, LinkMode: 1, Group: 7, Link: 2, Dormant: new(true),
			AddressAssignType: new(3), NameAssignType: new(4), DeviceID: new(1),
		},
		Parent: &Parent{Bus: "virtio", Address: "virtio1"}, Port: Port{Name: "p0", Number: new(1)},
		Stack: Stack{Master: "bond0", Upper: []string{"bond0"}},
		Link: Link{Admin: "up", Oper: "up", Carrier: new(true), SpeedMbps: new(1000), Duplex: "full", MTU: new(9000), TxQueueLen: new(1000),
			CarrierUp: new(uint64(2)), CarrierDown: new(uint64(1))},
		Multicast: Multicast{Capable: new(true), AllMulti: new(false), Promiscuous: new(true)},
	}
	if got := *s.byName["eth0"]; !reflect.DeepEqual(got, want) {
		t.Errorf("eth0:\n got %s\nwant %s", asJSON(t, got), asJSON(t, want))
	}
	bond := *s.byName["bond0"]
	if bond.Link.SpeedMbps != nil || bond.Link.Duplex != "" || bond.Link.Carrier != nil || bond.Parent != nil || bond.Link.Admin != "down" || bond.NetClass != nil {
		t.Errorf("bond0 has what its files don't say: %s", asJSON(t, bond))
	}
	if p := s.byName["thin"].Parent; p == nil || *p != (Parent{Bus: "pci", Address: "0000:00:04.0"}) {
		t.Errorf("thin: parent %v", p)
	}
	if p := s.byName["usb0"].Parent; p == nil || p.Address != "1-1:1.0" || p.Bus != "" {
		t.Errorf("usb0: parent %v", p)
	}
}

func TestReadLinksWithoutAnything(t *testing.T) {
	s := &survey{Reader: &stub{}, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
	err := readLinks(t.Context(), s)
	if !errors.Is(err, kernel.ErrNotRecorded) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error must tell of netlink and of sysfs: %v", err)
	}
}

// Kernels before 5.14 don't name the parent in netlink.
func TestParentOfOldKernels(t *testing.T) {
	r := linksOf(
		linkMessage(2, 1, 0, named("eth0")),
		linkMessage(3, 1, 0, join(named("br0"), softwareLink("bridge", nil))),
	)
	r.links = map[string]string{
		sysClassNet + "/eth0/device":           "../../../0000:03:00.0",
		sysClassNet + "/eth0/device/subsystem": "../../../../bus/pci",
		sysClassNet + "/br0/device":            "must not be asked",
	}
	r.files = map[string]string{sysClassNet + "/eth0/dev_port": "1\n"}
	s := surveyed(t, r)
	if got := s.byName["eth0"]; got.Parent == nil || *got.Parent != (Parent{Bus: "pci", Address: "0000:03:00.0"}) || value(got.Port.Number) != 1 {
		t.Errorf("eth0: %s", asJSON(t, got))
	}
	if got := s.byName["br0"].Parent; got != nil {
		t.Errorf("br0: %v", got)
	}
}

func TestIsPCIAddress(t *testing.T) {
	for address, want := range map[string]bool{
		"0000:3b:00.0": true, "10000:01:1f.7": true,
		"": false, "0000:3b:00.8": false, "3b:00.0": false, "0000:3b:00": false, "0000:3b-00.0": false, "virtio1": false,
		"1-1:1.0": false, "000g:3b:00.0": false,
	} {
		if got := isPCIAddress(address); got != want {
			t.Errorf("%q: %t", address, got)
		}
	}
}

func FuzzDecodeLink(f *testing.F) {
	f.Add([]byte{})
	f.Add(linkMessage(1, uapi.ARPHRD_LOOPBACK, uapi.IFF_LOOPBACK, named("lo")).Body)
	f.Add(linkMessage(2, 1, uapi.IFF_UP, join(named("bond0.7"), kernel.Body{}.Uint32(uapi.IFLA_LINK, 4).Bytes(uapi.IFLA_ADDRESS, []byte{1, 2, 3, 4, 5, 6}),
		softwareLink("vlan", kernel.Body{}.Uint16(uapi.IFLA_VLAN_ID, 7)))).Body)
	f.Add(linkMessage(3, 1, uapi.IFF_UP, join(named("br0"), softwareLink("bridge", kernel.Body{}.Nested(uapi.IFLA_BR_MCAST_QUERIER_STATE,
		kernel.Body{}.Bytes(uapi.BRIDGE_QUERIER_IP_ADDRESS, []byte{192, 0, 2, 1}))))).Body)
	f.Add(linkMessage(4, 1, 0, join(named("x"), kernel.Body{}.Nested(uapi.IFLA_XDP, kernel.Body{}.Uint32(uapi.IFLA_XDP_DRV_PROG_ID, 7)),
		kernel.Body{}.Nested(uapi.IFLA_PROP_LIST, kernel.Body{}.String(uapi.IFLA_ALT_IFNAME, "alt")))).Body)
	for _, m := range messagesOf(f, linkDump(uapi.RTEXT_FILTER_SKIP_STATS)) {
		f.Add(m.Body)
	}
	// Two bridges in one message, of which only the first has queriers.
	f.Add(linkMessage(5, 1, 0, join(named("br1"), softwareLink("bridge", kernel.Body{}.Nested(uapi.IFLA_BR_MCAST_QUERIER_STATE,
		kernel.Body{}.Bytes(uapi.BRIDGE_QUERIER_IP_ADDRESS, []byte{192, 0, 2, 1}))), softwareLink("bridge", kernel.Body{}.Uint32(uapi.IFLA_BR_STP_STATE, 1)))).Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := decodeLink(body)
		if err == nil && l.nic.Name == "" {
			t.Error("a device without a name and without an error")
		}
		// What was read must survive what comes after it.
		s := surveyed(t, linksOf(kernel.Message{Command: uapi.RTM_NEWLINK, Body: body}, linkMessage(2, 1, 0, named("eth0"))))
		if _, err := json.Marshal(s.nics); err != nil {
			t.Error(err)
		}
		if _, err := ReadStatistics(t.Context(), linksOf(kernel.Message{Command: uapi.RTM_NEWLINK, Body: body})); err != nil && !errors.Is(err, kernel.ErrMalformed) {
			t.Error(err)
		}
	})
}
