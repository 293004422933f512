package inventory

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// ruleBytes is the answer to ETHTOOL_GRXCLSRULE for one rule.
func ruleBytes(flowType uint32, value, mask []byte, cookie uint64, context uint32) []byte {
	b := rxnfc(uapi.ETHTOOL_GRXCLSRULE, 0)
	spec := b[rxnfcSpec:]
	binary.NativeEndian.PutUint32(spec, flowType)
	copy(spec[specValue:], value)
	copy(spec[specMask:], mask)
	binary.NativeEndian.PutUint64(spec[specCookie:], cookie)
	binary.NativeEndian.PutUint32(spec[specLocation:], 5)
	binary.NativeEndian.PutUint32(b[rxnfcCount:], context)
	return b
}

// ones are n bytes of 0xff at an offset.
func ones(offset, n int) []byte {
	return append(make([]byte, offset), strings.Repeat("\xff", n)...)
}

// extra puts a struct ethtool_flow_ext behind a union.
func extra(union, ext []byte) []byte {
	return append(append(union, make([]byte, specExtra-len(union))...), ext...)
}

type ruleCase struct {
	name  string
	bytes []byte
	want  string
}

func ruleCases() []ruleCase {
	v4 := []byte{10, 0, 0, 1, 192, 168, 7, 0, 0x1f, 0x90, 0, 53, 0x10}
	v6 := append(append([]byte{0xfd, 15: 1}, []byte{0xfe, 0x80, 15: 2}...), 0x1f, 0x90, 0, 53, 0x20)
	ext := []byte{0, 0, 2, 0, 0, 0, 0, 9, 0x81, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 1}
	return []ruleCase{
		{"a port, to a queue", ruleBytes(uapi.UDP_V4_FLOW, v4, ones(10, 2), 4, 0),
			`{"location": 5, "flowType": "udp4", "match": {"dst-port": "53"}, "action": "queue", "queue": 4}`},
		{"a whole connection, dropped", ruleBytes(uapi.TCP_V4_FLOW, v4, ones(0, 13), 1<<64-1, 0),
			`{"location": 5, "flowType": "tcp4", "match": {"src-ip": "10.0.0.1", "dst-ip": "192.168.7.0",
				"src-port": "8080", "dst-port": "53", "tos": "0x10"}, "action": "drop"}`},
		{"parts of fields", ruleBytes(uapi.SCTP_V4_FLOW, []byte{4: 192, 168, 7, 9, 0, 0, 0x1f, 0x90}, []byte{4: 255, 255, 255, 0, 0, 0, 0xf0, 0}, 0, 0),
			`{"location": 5, "flowType": "sctp4", "match": {"dst-ip": "192.168.7.0/255.255.255.0", "dst-port": "4096/0xf000"},
				"action": "queue", "queue": 0}`},
		{"a VF and a context", ruleBytes(uapi.TCP_V6_FLOW|uapi.FLOW_RSS, v6, ones(0, 37), 3<<32|2, 7),
			`{"location": 5, "flowType": "tcp6", "match": {"src-ip": "fd00::1", "dst-ip": "fe80::2", "src-port": "8080",
				"dst-port": "53", "tclass": "0x20"}, "action": "queue", "queue": 2, "vf": 2, "context": 7}`},
		{"IPsec", ruleBytes(uapi.ESP_V4_FLOW, []byte{8: 0, 0, 1, 2}, ones(8, 4), 0, 0),
			`{"location": 5, "flowType": "esp4", "match": {"spi": "258"}, "action": "queue", "queue": 0}`},
		{"IPsec 6", ruleBytes(uapi.AH_V6_FLOW, []byte{32: 0, 0, 1, 2}, ones(32, 4), 0, 0),
			`{"location": 5, "flowType": "ah6", "match": {"spi": "258"}, "action": "queue", "queue": 0}`},
		{"any IPv4", ruleBytes(uapi.IPV4_USER_FLOW, []byte{8: 1, 2, 3, 4, 0, 1, 47}, ones(8, 7), 0, 0),
			`{"location": 5, "flowType": "ip4", "match": {"l4data": "0x1020304", "tos": "0x0", "l4proto": "47"}, "action": "queue", "queue": 0}`},
		{"any IPv6", ruleBytes(uapi.IPV6_USER_FLOW, []byte{36: 1, 58}, ones(36, 2), 0, 0),
			`{"location": 5, "flowType": "ip6", "match": {"tclass": "0x1", "l4proto": "58"}, "action": "queue", "queue": 0}`},
		{"Ethernet, woken up by", ruleBytes(uapi.ETHER_FLOW, []byte{1, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x88, 0xf7}, ones(0, 14), 1<<64-2, 0),
			`{"location": 5, "flowType": "ether", "match": {"dst": "01:00:5e:00:00:01", "src": "02:00:00:00:00:09", "proto": "0x88f7"},
				"action": "wake"}`},
		{"a VLAN, a MAC and the driver's own", ruleBytes(uapi.UDP_V4_FLOW|uapi.FLOW_EXT|uapi.FLOW_MAC_EXT,
			extra(nil, ext), extra(nil, ones(2, 18)), 0, 0),
			`{"location": 5, "flowType": "udp4", "match": {"vlan-etype": "0x8100", "vlan": "100", "user-def": "0x1",
				"dst-mac": "02:00:00:00:00:09"}, "action": "queue", "queue": 0}`},
		{"a flow of the future", ruleBytes(99, nil, nil, 0, 0), `{"location": 5, "flowType": "99", "action": "queue", "queue": 0}`},
	}
}

func TestFlowRules(t *testing.T) {
	for _, c := range ruleCases() {
		t.Run(c.name, func(t *testing.T) {
			rule, err := decodeRule("eth0", c.bytes)
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, rule, c.want)
		})
	}
	for i := range rxnfcLocations {
		if _, err := decodeRule("eth0", ruleCases()[0].bytes[:i]); !errors.Is(err, kernel.ErrMalformed) {
			t.Fatalf("%d bytes: %v", i, err)
		}
	}
}

func FuzzFlowRule(f *testing.F) {
	for _, c := range ruleCases() {
		f.Add(c.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if rule, err := decodeRule("eth0", b); err == nil {
			if _, err := json.Marshal(rule); err != nil {
				t.Error(err)
			}
		}
		if locations, _, err := decodeLocations("eth0", b); err == nil && len(locations) > len(b)/4 {
			t.Errorf("%d locations in %d bytes", len(locations), len(b))
		}
		if rss, err := decodeRXFH("eth0", b, testWords()); err == nil && len(rss.Table) > len(b)/4 {
			t.Errorf("%d buckets in %d bytes", len(rss.Table), len(b))
		}
		for _, kind := range tunables() {
			if _, err := kind.decode("eth0", b); err == nil && len(b) < tunableData {
				t.Errorf("%s in %d bytes", kind.name, len(b))
			}
		}
	})
}

// refusing answers some ioctls by their command and refuses the others.
func refusing(answers map[uint32]func(arg []byte) ([]byte, error)) func(string, []byte) ([]byte, error) {
	return func(_ string, arg []byte) ([]byte, error) {
		if answer := answers[binary.NativeEndian.Uint32(arg)]; answer != nil {
			return answer(arg)
		}
		return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EOPNOTSUPP}
	}
}

func TestReadNtuple(t *testing.T) {
	counted := uint32(1)
	fake := &fakeEthtool{ioctl: refusing(map[uint32]func([]byte) ([]byte, error){
		uapi.ETHTOOL_GRXCLSRLCNT: func(b []byte) ([]byte, error) {
			counted++ // one more each time: the first list is too short
			binary.NativeEndian.PutUint32(b[rxnfcCount:], counted)
			return b, nil
		},
		uapi.ETHTOOL_GRXCLSRLALL: func(b []byte) ([]byte, error) {
			if room := (len(b) - rxnfcLocations) / 4; room < 3 {
				return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EMSGSIZE}
			}
			binary.NativeEndian.PutUint64(b[rxnfcData:], uapi.RX_CLS_LOC_SPECIAL|1024)
			for i, location := range []uint32{5, 6, 1023} {
				binary.NativeEndian.PutUint32(b[rxnfcLocations+4*i:], location)
			}
			return b, nil
		},
		uapi.ETHTOOL_GRXCLSRULE: func(b []byte) ([]byte, error) {
			location := binary.NativeEndian.Uint32(b[rxnfcSpec+specLocation:])
			if location == 6 { // deleted meanwhile
				return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.ENOENT}
			}
			rule := ruleCases()[0].bytes
			binary.NativeEndian.PutUint32(rule[rxnfcSpec+specLocation:], location)
			return rule, nil
		},
	})}
	s := threeNICs(fake)
	s.nics = s.nics[:1]
	readNtuple(t.Context(), s)
	if len(s.nics[0].Unread) > 0 {
		t.Fatal(s.nics[0].Unread)
	}
	sameJSON(t, s.nics[0].Queues.Ntuple, `{"capacity": 1024, "rules": [
		{"location": 5, "flowType": "udp4", "match": {"dst-port": "53"}, "action": "queue", "queue": 4},
		{"location": 1023, "flowType": "udp4", "match": {"dst-port": "53"}, "action": "queue", "queue": 4}]}`)
}

// Whoever is gone or hangs is not asked by name again, and hides nobody else's
// facts.
func TestTheLostAreAskedOnce(t *testing.T) {
	for reason, err := range map[string]error{"gone": syscall.ENODEV, "failed": context.DeadlineExceeded} {
		t.Run(reason, func(t *testing.T) { lostOnce(t, reason, err) })
	}
}

func lostOnce(t *testing.T, reason string, err error) {
	answered := false
	fake := &fakeEthtool{ioctl: func(device string, arg []byte) ([]byte, error) {
		if device == "eth3" && !answered {
			answered = true // one kind of packet's hash fields
		} else if device == "eth3" {
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Object: device, Err: err}
		}
		return arg, nil
	}}
	s := threeNICs(fake)
	for _, n := range s.nics {
		n.Type = "veth"
	}
	readHashFields(t.Context(), s)
	readNtuple(t.Context(), s)
	readTunables(t.Context(), s)
	if n := strings.Count(strings.Join(fake.asked, "\n"), "of eth3"); n != 2 {
		t.Errorf("eth3 was asked %d times, want one and one more", n)
	}
	for _, fact := range []string{"queues.rss.fields", "queues.ntuple", "offloads.tunables"} {
		if got := unreadOf(s.nics[1], fact); !strings.HasPrefix(got, reason) {
			t.Errorf("eth3 %s: %q", fact, got)
		}
		if got := unreadOf(s.nics[0], fact) + unreadOf(s.nics[2], fact); got != "" {
			t.Errorf("the others' %s: %q", fact, got)
		}
	}
}

// One of many software devices of a type is asked for what the type refuses;
// hardware is asked each.
func TestRefusalsAreRememberedForSoftware(t *testing.T) {
	for _, c := range []struct {
		kind string
		want int
	}{{"veth", 1}, {"ether", 3}} {
		fake := &fakeEthtool{ioctl: refusing(nil)}
		s := threeNICs(fake)
		for _, n := range s.nics {
			n.Type = c.kind
		}
		readNtuple(t.Context(), s)
		if len(fake.asked) != c.want {
			t.Errorf("%s: asked %v", c.kind, fake.asked)
		}
		for _, n := range s.nics {
			if got := unreadOf(n, "queues.ntuple"); !strings.HasPrefix(got, "unsupported") {
				t.Errorf("%s %s: %q", c.kind, n.Name, got)
			}
		}
	}
	// Of hardware even one of the same type is asked.
	fake := &fakeEthtool{ioctl: refusing(nil)}
	s := threeNICs(fake)
	for _, n := range s.nics {
		n.Type = "veth"
	}
	s.nics[2].Parent = &Parent{Bus: "netdevsim", Address: "netdevsim10"}
	readNtuple(t.Context(), s)
	if len(fake.asked) != 2 {
		t.Errorf("hardware among software: asked %v", fake.asked)
	}
	// A failure says nothing about the others.
	fake = &fakeEthtool{ioctl: func(string, []byte) ([]byte, error) { return nil, &kernel.Error{Op: "x", Err: syscall.EIO} }}
	s = threeNICs(fake)
	for _, n := range s.nics {
		n.Type = "veth"
	}
	readNtuple(t.Context(), s)
	if len(fake.asked) != 3 {
		t.Errorf("after a failure: asked %v", fake.asked)
	}
}

func TestReadHashFields(t *testing.T) {
	fake := &fakeEthtool{ioctl: func(device string, b []byte) ([]byte, error) {
		flow := binary.NativeEndian.Uint32(b[rxnfcFlowType:])
		switch {
		case device == "eth3":
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EOPNOTSUPP}
		case flow == uapi.TCP_V4_FLOW:
			binary.NativeEndian.PutUint64(b[rxnfcData:], uapi.RXH_IP_SRC|uapi.RXH_IP_DST)
			return b, nil
		case flow == uapi.UDP_V6_FLOW:
			return b, nil
		}
		return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EINVAL}
	}}
	s := threeNICs(fake)
	s.nics[2].Queues.RSS = &RSS{Fields: map[string]string{"tcp4": "sdfn"}} // told by netlink
	readHashFields(t.Context(), s)
	sameJSON(t, s.nics[0].Queues.RSS, `{"fields": {"tcp4": "sd", "udp6": ""}}`)
	if s.nics[1].Queues.RSS != nil || !strings.HasPrefix(unreadOf(s.nics[1], "queues.rss.fields"), "unsupported") {
		t.Errorf("refused: %+v, %v", s.nics[1].Queues.RSS, s.nics[1].Unread)
	}
	if asked := fmt.Sprint(fake.asked); strings.Count(asked, "eth3") != 1 || strings.Contains(asked, "eth4") {
		t.Errorf("asked %s", asked)
	}
}

// What older kernels do not tell of contexts is asked for, unless the driver answers for a
// context that there is not, or refuses it.
func TestReadContextHashFields(t *testing.T) {
	for name, c := range map[string]struct {
		unknown error // what is said to a context that there is not
		want    string
	}{
		"by context":       {syscall.ENOENT, `[{"id": 1, "fields": {"tcp4": "s"}}, {"id": 3, "fields": {"tcp4": "sd"}}]`},
		"heeds no context": {nil, `[{"id": 1}, {"id": 3}]`},
		"refused":          {syscall.EINVAL, `[{"id": 1}, {"id": 3}]`},
	} {
		known := map[uint32]uint64{0: uapi.RXH_VLAN, 1: uapi.RXH_IP_SRC, 3: uapi.RXH_IP_SRC | uapi.RXH_IP_DST}
		fake := &fakeEthtool{ioctl: func(_ string, b []byte) ([]byte, error) {
			flow, number := binary.NativeEndian.Uint32(b[rxnfcFlowType:]), binary.NativeEndian.Uint32(b[rxnfcCount:])
			bits, ok := known[number]
			switch {
			case flow&^uapi.FLOW_RSS != uapi.TCP_V4_FLOW, (flow&uapi.FLOW_RSS != 0) != (number != 0), number != 0 && errors.Is(c.unknown, syscall.EINVAL):
				return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EINVAL}
			case !ok && c.unknown != nil:
				return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: c.unknown}
			}
			binary.NativeEndian.PutUint64(b[rxnfcData:], bits)
			return b, nil
		}}
		s := threeNICs(fake)
		s.nics = s.nics[:1]
		s.nics[0].Queues.RSS = &RSS{Contexts: []RSSContext{{ID: 1}, {ID: 3}}}
		readHashFields(t.Context(), s)
		if got := s.nics[0].Queues.RSS.Fields; got["tcp4"] != "v" {
			t.Errorf("%s: the default context: %v", name, got)
		}
		t.Run(name, func(t *testing.T) { sameJSON(t, s.nics[0].Queues.RSS.Contexts, c.want) })
	}
}

func TestReadTunables(t *testing.T) {
	fake := &fakeEthtool{ioctl: func(device string, b []byte) ([]byte, error) {
		switch id := binary.NativeEndian.Uint32(b[4:]); {
		case device == "eth3":
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EOPNOTSUPP}
		case device == "eth4":
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.ENODEV}
		case id == uapi.ETHTOOL_RX_COPYBREAK:
			binary.NativeEndian.PutUint32(b[tunableData:], 256)
			return b, nil
		case id == uapi.ETHTOOL_PFC_PREVENTION_TOUT:
			binary.NativeEndian.PutUint16(b[tunableData:], 8000)
			return b, nil
		}
		return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EINVAL}
	}}
	s := threeNICs(fake)
	readTunables(t.Context(), s)
	sameJSON(t, s.nics[0].Offloads.Tunables, `{"rx-copybreak": 256, "pfc-prevention-tout": 8000}`)
	for i, want := range []string{"", "unsupported", "gone"} {
		got, _, _ := strings.Cut(unreadOf(s.nics[i], "offloads.tunables"), " ")
		if got != want {
			t.Errorf("%s: %q, want %q", s.nics[i].Name, got, want)
		}
	}
}

// Kernels before 6.3 have no RSS_GET.
func TestRSSByIoctl(t *testing.T) {
	config := append(words32(0, 1, 2, 3), 0xab, 0x01)
	fake := &fakeEthtool{operations: everyOperation(), ioctl: refusing(map[uint32]func([]byte) ([]byte, error){
		uapi.ETHTOOL_GRSSH: func(b []byte) ([]byte, error) {
			if binary.NativeEndian.Uint32(b[rxfhIndirSize:]) == 4 && binary.NativeEndian.Uint32(b[rxfhKeySize:]) == 2 {
				copy(b[rxfhConfig:], config)
			}
			binary.NativeEndian.PutUint32(b[rxfhIndirSize:], 4)
			binary.NativeEndian.PutUint32(b[rxfhKeySize:], 2)
			b[rxfhFunction] = 1
			return b, nil
		},
	})}
	delete(fake.operations, uapi.ETHTOOL_MSG_RSS_GET)
	fake.dump = func(uint16) ([]kernel.Message, error) { return replies(2, 3, 4), nil }
	s := threeNICs(fake)
	s.nics = s.nics[:1]
	w := testWords()
	if passed := groupOf(t, "queues.rss.table").read(t.Context(), s, kernel.Operation{}, w); passed != nil {
		t.Errorf("passed over: %v", passed)
	}
	sameJSON(t, s.nics[0].Queues.RSS, `{"hash": "toeplitz", "table": [0, 1, 2, 3], "key": "ab:01"}`)
}

// driverless answers ethtool -i for some devices, as who asks all in turn sees it.
type driverless struct {
	kernel.Reader
	errs map[string]error
}

func (d driverless) DriverInfo(_ context.Context, device string) (kernel.DriverInfo, error) {
	return kernel.DriverInfo{Driver: "of " + device}, d.errs[device]
}

// Asked in turn for an identity or one by one for all facts, the drivers are the same,
// and so is what is said of those that do not tell.
func TestDriversInTurn(t *testing.T) {
	for _, brief := range []bool{false, true} {
		s := threeNICs(driverless{errs: map[string]error{
			"eth3": &kernel.Error{Op: "SIOCETHTOOL GDRVINFO", Object: "eth3", Err: syscall.ENODEV}, "eth4": context.DeadlineExceeded,
		}})
		s.brief = brief
		readDrivers(t.Context(), s)
		if d := s.nics[0].Driver; d == nil || d.Name != "of eth2" || s.nics[1].Driver != nil || s.nics[2].Driver != nil {
			t.Errorf("brief %v: %+v, %+v, %+v", brief, s.nics[0].Driver, s.nics[1].Driver, s.nics[2].Driver)
		}
		if gone, late := unreadOf(s.nics[1], "driver"), unreadOf(s.nics[2], "driver"); !strings.HasPrefix(gone, "gone") || !strings.HasPrefix(late, "failed") || s.lost[s.nics[2]] == nil {
			t.Errorf("brief %v: %q, %q", brief, gone, late)
		}
	}
}
