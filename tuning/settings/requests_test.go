package settings

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// script answers every request with one reply, but for that about words, and
// notes what is set.
type script struct {
	kernel.Writer
	words kernel.Body
	reply kernel.Body
	set   []kernel.Request
}

func (s *script) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	if req.Command == uapi.ETHTOOL_MSG_STRSET_GET && req.Family == kernel.FamilyEthtool {
		return []kernel.Message{{Command: uapi.ETHTOOL_MSG_STRSET_GET_REPLY, Body: s.words}}, nil
	}
	return []kernel.Message{{Command: uapi.ETHTOOL_MSG_RINGS_GET_REPLY, Body: s.reply}}, nil
}

// ReadFile says that the kernel has no such file.
func (*script) ReadFile(_ context.Context, path string) ([]byte, error) {
	return nil, &kernel.Error{Op: "read", Object: path, Err: syscall.ENOENT}
}

func (s *script) NetlinkSet(_ context.Context, req kernel.Request) error {
	s.set = append(s.set, req)
	return nil
}

// sent lists the attributes of a request behind its header as "type=value".
func sent(t *testing.T, req kernel.Request) string {
	t.Helper()
	var out []string
	a := kernel.AttributesOf(req.Body)
	if req.Family == kernel.FamilyRoute {
		a = kernel.AttributesAfter(req.Body, 16)
		if index := binary.NativeEndian.Uint32(req.Body[4:]); index != 7 {
			t.Errorf("it is about device %d, not 7", index)
		}
	}
	for a.Next() {
		switch {
		case a.Type == header && req.Family == kernel.FamilyEthtool:
			h := a.Nested()
			for h.Next() {
				if h.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX && h.Uint32() != 7 {
					t.Errorf("it is about device %d, not 7", h.Uint32())
				}
			}
			a.Join(h)
		case len(a.Data) > 4: // a bit set, for sentBits
		case len(a.Data) == 1:
			out = append(out, fmt.Sprintf("%d=%d", a.Type, a.Data[0]))
		default:
			out = append(out, fmt.Sprintf("%d=%d", a.Type, binary.NativeEndian.Uint32(a.Data)))
		}
	}
	if err := a.Err(); err != nil {
		t.Error(err)
	}
	return strings.Join(out, " ")
}

// No driver in the lab has all of these, so the answer is one as the kernel's
// net/ethtool/rings.c would build it.
func TestEveryRingField(t *testing.T) {
	s := &script{reply: kernel.Body{}.
		Nested(uapi.ETHTOOL_A_RINGS_HEADER, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, 7)).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_MAX, 8192).Uint32(uapi.ETHTOOL_A_RINGS_RX, 1).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_MINI_MAX, 8193).Uint32(uapi.ETHTOOL_A_RINGS_RX_MINI, 2).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_JUMBO_MAX, 8194).Uint32(uapi.ETHTOOL_A_RINGS_RX_JUMBO, 3).
		Uint32(uapi.ETHTOOL_A_RINGS_TX_MAX, 8195).Uint32(uapi.ETHTOOL_A_RINGS_TX, 4).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_BUF_LEN, 2048).Uint8(uapi.ETHTOOL_A_RINGS_TCP_DATA_SPLIT, uapi.ETHTOOL_TCP_DATA_SPLIT_ENABLED).
		Uint32(uapi.ETHTOOL_A_RINGS_CQE_SIZE, 64).Uint8(uapi.ETHTOOL_A_RINGS_TX_PUSH, 0).Uint8(uapi.ETHTOOL_A_RINGS_RX_PUSH, 1).
		Uint32(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN_MAX, 224).Uint32(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN, 96).
		Uint32(uapi.ETHTOOL_A_RINGS_HDS_THRESH_MAX, 1023).Uint32(uapi.ETHTOOL_A_RINGS_HDS_THRESH, 256)}
	everyField(t, Rings(), s, uapi.ETHTOOL_MSG_RINGS_SET,
		`{"rx":1,"rx-mini":2,"rx-jumbo":3,"tx":4,"rx-buf-len":2048,"cqe-size":64,"tx-push":false,"rx-push":true,"tx-push-buf-len":96,"tcp-data-split":true,"hds-thresh":256}`,
		`{"rx":8192,"rx-mini":8193,"rx-jumbo":8194,"tx":8195,"tx-push-buf-len":224,"hds-thresh":1023}`,
		map[string]string{
			`{}`:                                      "",
			`{"rx":1,"tx-push":false}`:                "",
			`{"rx":5}`:                                "6=5",
			`{"rx-mini":5,"rx-jumbo":6,"tx":7}`:       "7=5 8=6 9=7",
			`{"rx-buf-len":4096,"cqe-size":128}`:      "10=4096 12=128",
			`{"tx-push":true,"rx-push":false}`:        "13=1 14=0",
			`{"tx-push-buf-len":224}`:                 "15=224",
			`{"tcp-data-split":false,"hds-thresh":0}`: "11=1 17=0",
		})
}

// everyField reads a knob from a reply, and holds what it sends for changes of
// that against the attributes that are due.
func everyField[T any](t *testing.T, k tuning.Knob[T], s *script, command uint16, wantCurrent, wantLimit string, requests map[string]string) {
	t.Helper()
	nic := inventory.NIC{Name: "eth7", Index: 7}
	current, limit, err := k.Read(t.Context(), s, nic)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[any]string{&current: wantCurrent, &limit: wantLimit} {
		if b, err := json.Marshal(got); err != nil || string(b) != want {
			t.Errorf("%s, %v, want %s", b, err, want)
		}
	}
	for change, want := range requests {
		var next T
		for _, text := range []string{wantCurrent, change} {
			if err := json.Unmarshal([]byte(text), &next); err != nil {
				t.Fatal(err)
			}
		}
		s.set = nil
		if err := k.Write(t.Context(), s, nic, current, next); err != nil || len(s.set) != 1 || s.set[0].Command != command {
			t.Fatalf("%s: %+v, %v", change, s.set, err)
		}
		if got := sent(t, s.set[0]); got != want {
			t.Errorf("%s sends %q, want %q", change, got, want)
		}
	}
}

// The numbers of the moderation attributes are those of linux/ethtool_netlink.h;
// every one that the inventory has a name for has a field here.
func TestEveryCoalesceField(t *testing.T) {
	s := &script{reply: kernel.Body{}.Nested(header, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, 7))}
	isFlag := func(a uint16) bool { return a == 11 || a == 12 || a == 24 || a == 25 }
	isProfile := func(a uint16) bool { return a == 29 || a == 30 }
	for a := uint16(2); a <= uapi.ETHTOOL_A_COALESCE_MAX; a++ {
		switch {
		case isFlag(a):
			s.reply = s.reply.Uint8(a, 0)
		case !isProfile(a):
			s.reply = s.reply.Uint32(a, uint32(a))
		}
	}
	nic := inventory.NIC{Name: "eth7", Index: 7}
	inventoried, err := inventory.ReadCoalesce(t.Context(), s, nic)
	if err != nil {
		t.Fatal(err)
	}
	current, _, err := Coalesce().Read(t.Context(), s, nic)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	b, err := json.Marshal(current)
	if err == nil {
		err = json.Unmarshal(b, &fields)
	}
	if err != nil || len(fields) != 29 || len(inventoried.Values)+len(inventoried.Flags) != 29 {
		t.Fatalf("%d fields of %+v: %s, %v", len(fields), inventoried, b, err)
	}
	for name, value := range fields {
		var next Moderation
		var want string
		change := `{"` + name + `":true}`
		switch name {
		case "adaptive-rx":
			want = "11=1"
		case "adaptive-tx":
			want = "12=1"
		case "cqe-mode-tx":
			want = "24=1"
		case "cqe-mode-rx":
			want = "25=1"
		default:
			// The value says which attribute it came from.
			n, _ := value.(float64)
			change, want = fmt.Sprintf(`{"%s":1000}`, name), fmt.Sprintf("%d=1000", int(n))
		}
		for _, text := range []string{string(b), change} {
			if err := json.Unmarshal([]byte(text), &next); err != nil {
				t.Fatal(err)
			}
		}
		s.set = nil
		if err := Coalesce().Write(t.Context(), s, nic, current, next); err != nil || s.set[0].Command != uapi.ETHTOOL_MSG_COALESCE_SET {
			t.Fatal(err)
		}
		if got := sent(t, s.set[0]); got != want {
			t.Errorf("%s sends %q, want %q", change, got, want)
		}
	}
}

func TestEveryPauseField(t *testing.T) {
	s := &script{reply: kernel.Body{}.
		Uint8(uapi.ETHTOOL_A_PAUSE_AUTONEG, 1).Uint8(uapi.ETHTOOL_A_PAUSE_RX, 0).Uint8(uapi.ETHTOOL_A_PAUSE_TX, 1)}
	everyField(t, Pause(), s, uapi.ETHTOOL_MSG_PAUSE_SET, `{"autoneg":true,"rx":false,"tx":true}`, `{}`, map[string]string{
		`{"rx":false}`: "", `{"autoneg":false,"rx":true,"tx":false}`: "2=0 3=1 4=0", `{"rx":true}`: "3=1",
	})
}

// Flags of which the driver has more than 32, with names that have blanks.
func TestPrivateFlags(t *testing.T) {
	const bitset = uapi.ETHTOOL_A_PRIVFLAGS_FLAGS
	var bits kernel.Body
	for i := range uint32(40) {
		bit := kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_BIT_INDEX, i).
			String(uapi.ETHTOOL_A_BITSET_BIT_NAME, fmt.Sprintf("flag %d", i))
		if i%2 == 1 {
			bit = bit.Flag(uapi.ETHTOOL_A_BITSET_BIT_VALUE)
		}
		bits = bits.Nested(uapi.ETHTOOL_A_BITSET_BITS_BIT, bit)
	}
	s := &script{reply: kernel.Body{}.Nested(bitset, kernel.Body{}.
		Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 40).Nested(uapi.ETHTOOL_A_BITSET_BITS, bits))}
	nic := inventory.NIC{Name: "eth7", Index: 7}
	current, _, err := PrivateFlags().Read(t.Context(), s, nic)
	if err != nil || len(current) != 40 || current["flag 0"] || !current["flag 39"] {
		t.Fatalf("%v, %v", current, err)
	}
	next := maps.Clone(current)
	next["flag 2"], next["flag 39"] = true, false
	if err := PrivateFlags().Write(t.Context(), s, nic, current, next); err != nil || s.set[0].Command != uapi.ETHTOOL_MSG_PRIVFLAGS_SET {
		t.Fatal(err)
	}
	if got := sentBits(t, s.set[0], bitset); got != "flag 2=on, flag 39=off" {
		t.Errorf("sent %s", got)
	}
}

// sentBits are the bits of the bit set in a request.
func sentBits(t *testing.T, req kernel.Request, attribute uint16) string {
	t.Helper()
	var out []string
	request := kernel.AttributesOf(req.Body)
	for request.Next() {
		if request.Type != attribute {
			continue
		}
		set := request.Nested()
		for set.Next() {
			if set.Type != uapi.ETHTOOL_A_BITSET_BITS {
				continue
			}
			bits := set.Nested()
			for bits.Next() {
				name, value := "", "off"
				bit := bits.Nested()
				for bit.Next() {
					switch bit.Type {
					case uapi.ETHTOOL_A_BITSET_BIT_NAME:
						name = bit.String()
					case uapi.ETHTOOL_A_BITSET_BIT_VALUE:
						value = "on"
					}
				}
				bits.Join(bit)
				out = append(out, name+"="+value)
			}
			set.Join(bits)
		}
		request.Join(set)
	}
	if err := request.Err(); err != nil {
		t.Error(err)
	}
	return strings.Join(out, ", ")
}

func TestCoalesceImpact(t *testing.T) {
	eight := Moderation{RXUsecs: new(uint32(8)), AdaptiveRX: new(true), StatsBlockUsecs: new(uint32(1)), CQEModeRX: new(false)}
	for _, test := range []struct {
		driver string
		change string
		want   tuning.Impact
	}{
		{"igb", `{"rx-usecs":9}`, tuning.Seamless},
		{"", `{"rx-usecs":9,"adaptive-rx":false}`, tuning.Seamless},
		{"ixgbe", `{"rx-usecs":9}`, tuning.NICReset},
		{"mlx5_core", `{"rx-usecs":9}`, tuning.Seamless},
		{"mlx5_core", `{"adaptive-rx":false}`, tuning.NICReset},
		{"bnxt_en", `{"stats-block-usecs":2}`, tuning.NICReset},
		{"igb", `{"cqe-mode-rx":true}`, tuning.NICReset},
		{"bnx2", `{"rx-usecs":9}`, tuning.NICReset},
		{"mlx5_core", `{"tx-usecs":5}`, tuning.Seamless}, // a field that it lacks
	} {
		nic := inventory.NIC{Driver: &inventory.Driver{Name: test.driver}}
		if test.driver == "" {
			nic.Driver = nil
		}
		var next Moderation
		b, err := json.Marshal(eight)
		for _, text := range []string{string(b), test.change} {
			if err == nil {
				err = json.Unmarshal([]byte(text), &next)
			}
		}
		if got := coalesceImpact(nic, eight, next); err != nil || got != test.want {
			t.Errorf("%s %s: %s, %v, want %s", test.driver, test.change, got, err, test.want)
		}
	}
}

// Kernels differ in which of these they have.
func TestEveryNetdevField(t *testing.T) {
	link := kernel.Body(make([]byte, 16)).String(uapi.IFLA_IFNAME, "eth7").
		Uint32(uapi.IFLA_MTU, 1500).Uint32(uapi.IFLA_MIN_MTU, 68).Uint32(uapi.IFLA_MAX_MTU, 9216).Uint32(uapi.IFLA_TXQLEN, 1000).
		Uint32(uapi.IFLA_GSO_MAX_SIZE, 65536).Uint32(uapi.IFLA_GSO_MAX_SEGS, 65535)
	old := &script{reply: link}
	everyField(t, Netdev(), old, uapi.RTM_SETLINK,
		`{"mtu":1500,"txqueuelen":1000,"gso-max-size":65536,"gso-max-segs":65535,"alias":""}`, `{"mtu":9216}`,
		map[string]string{`{"mtu":9000}`: "4=9000", `{"gso-max-size":32768}`: "41=32768", `{"mtu":1500}`: ""})
	s := &script{reply: link.
		Uint32(uapi.IFLA_GRO_MAX_SIZE, 65537).Uint32(uapi.IFLA_TSO_MAX_SIZE, 524280).Uint32(uapi.IFLA_TSO_MAX_SEGS, 65535).
		Uint32(uapi.IFLA_GSO_IPV4_MAX_SIZE, 65538).Uint32(uapi.IFLA_GRO_IPV4_MAX_SIZE, 65539)}
	everyField(t, Netdev(), s, uapi.RTM_SETLINK,
		`{"mtu":1500,"txqueuelen":1000,"gso-max-size":65536,"gso-max-segs":65535,"gro-max-size":65537,"gso-ipv4-max-size":65538,"gro-ipv4-max-size":65539,"alias":""}`,
		`{"mtu":9216,"gso-max-size":524280,"gso-max-segs":65535,"gso-ipv4-max-size":524280}`,
		map[string]string{
			`{"mtu":9000,"txqueuelen":2000}`:                   "4=9000 13=2000",
			`{"gso-max-segs":64}`:                              "40=64",
			`{"gso-max-size":1000}`:                            "41=1000 63=65538", // as it was
			`{"gro-max-size":1000,"gro-ipv4-max-size":2000}`:   "58=1000 64=2000",
			`{"gso-ipv4-max-size":4000,"gro-ipv4-max-size":1}`: "63=4000 64=1",
		})
}

func TestNetdevImpact(t *testing.T) {
	now := NetdevState{MTU: new(uint32(1500)), TxQueueLen: new(uint32(1000)), GSOMaxSize: new(uint32(65536))}
	for _, test := range []struct {
		driver string
		next   NetdevState
		want   tuning.Impact
	}{
		{"igb", NetdevState{MTU: new(uint32(9000))}, tuning.NICReset},
		{"", NetdevState{MTU: new(uint32(9000))}, tuning.NICReset},
		{"bonding", NetdevState{MTU: new(uint32(9000))}, tuning.NICReset}, // its members'
		{"virtio_net", NetdevState{MTU: new(uint32(9000))}, tuning.Seamless},
		{"virtio_net", NetdevState{MTU: new(uint32(1280))}, tuning.Seamless},
		{"virtio_net", NetdevState{MTU: new(uint32(1279))}, tuning.NICReset},
		{"virtio_net", NetdevState{MTU: new(uint32(9000)), TxQueueLen: new(uint32(1))}, tuning.LinkFlap},
		{"igb", NetdevState{MTU: new(uint32(1500)), GSOMaxSize: new(uint32(1))}, tuning.Seamless},
	} {
		nic := inventory.NIC{Driver: &inventory.Driver{Name: test.driver}}
		if got := netdevImpact(nic, now, test.next); got != test.want {
			t.Errorf("%s: %s, want %s", test.driver, got, test.want)
		}
	}
}

// linkModeWords names the FEC bits as the kernel does.
func linkModeWords() kernel.Body {
	var strings kernel.Body
	for bit, word := range map[uint32]string{
		uapi.ETHTOOL_LINK_MODE_FEC_NONE_BIT: "None", uapi.ETHTOOL_LINK_MODE_FEC_RS_BIT: "RS",
		uapi.ETHTOOL_LINK_MODE_FEC_BASER_BIT: "BASER", uapi.ETHTOOL_LINK_MODE_FEC_LLRS_BIT: "LLRS",
	} {
		strings = strings.Nested(uapi.ETHTOOL_A_STRINGS_STRING, kernel.Body{}.
			Uint32(uapi.ETHTOOL_A_STRING_INDEX, bit).String(uapi.ETHTOOL_A_STRING_VALUE, word))
	}
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_STRSET_STRINGSETS, kernel.Body{}.
		Nested(uapi.ETHTOOL_A_STRINGSETS_STRINGSET, kernel.Body{}.
			Uint32(uapi.ETHTOOL_A_STRINGSET_ID, uapi.ETH_SS_LINK_MODES).
			Nested(uapi.ETHTOOL_A_STRINGSET_STRINGS, strings)))
}

// What a driver has configured, also in combinations, can be put back.
func TestFECEncodings(t *testing.T) {
	for configured, want := range map[string]struct {
		auto uint8
		bits []int
		sent string
	}{
		"off":           {0, []int{uapi.ETHTOOL_LINK_MODE_FEC_NONE_BIT}, "None=off, auto 0"},
		"rs":            {0, []int{uapi.ETHTOOL_LINK_MODE_FEC_RS_BIT}, "RS=off, auto 0"},
		"llrs":          {0, []int{uapi.ETHTOOL_LINK_MODE_FEC_LLRS_BIT}, "LLRS=off, auto 0"},
		"auto":          {1, nil, ", auto 1"},
		"auto rs baser": {1, []int{uapi.ETHTOOL_LINK_MODE_FEC_RS_BIT, uapi.ETHTOOL_LINK_MODE_FEC_BASER_BIT}, "RS=off, BASER=off, auto 1"},
	} {
		words := make([]byte, 16)
		for _, bit := range want.bits {
			words[bit/8] |= 1 << (bit % 8) // little-endian, as the machines that run this
		}
		s := &script{words: linkModeWords(), reply: kernel.Body{}.
			Nested(uapi.ETHTOOL_A_FEC_MODES, kernel.Body{}.Flag(uapi.ETHTOOL_A_BITSET_NOMASK).
				Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 128).Bytes(uapi.ETHTOOL_A_BITSET_VALUE, words)).
			Uint8(uapi.ETHTOOL_A_FEC_AUTO, want.auto)}
		nic := inventory.NIC{Name: "eth7", Index: 7}
		current, _, err := FEC().Read(t.Context(), s, nic)
		if err != nil || current.Encoding == nil || string(*current.Encoding) != configured {
			t.Errorf("%s: read %+v, %v", configured, current.Encoding, err)
			continue
		}
		if err := FEC().Write(t.Context(), s, nic, ErrorCorrection{Encoding: new(FECEncodings("other"))}, current); err != nil || s.set[0].Command != uapi.ETHTOOL_MSG_FEC_SET {
			t.Fatal(err)
		}
		auto := "missing"
		a := kernel.AttributesOf(s.set[0].Body)
		for a.Next() {
			if a.Type == uapi.ETHTOOL_A_FEC_AUTO {
				auto = fmt.Sprint(a.Uint8())
			}
		}
		// In a list a bit has no value: that it is named means on.
		if got := sentBits(t, s.set[0], uapi.ETHTOOL_A_FEC_MODES) + ", auto " + auto; got != want.sent {
			t.Errorf("%s: sent %q, want %q", configured, got, want.sent)
		}
	}
}

// Nothing in the lab has EEE.
func TestEveryEEEField(t *testing.T) {
	s := &script{words: linkModeWords(), reply: kernel.Body{}.Uint8(uapi.ETHTOOL_A_EEE_ACTIVE, 0).
		Uint8(uapi.ETHTOOL_A_EEE_ENABLED, 1).Uint8(uapi.ETHTOOL_A_EEE_TX_LPI_ENABLED, 0).Uint32(uapi.ETHTOOL_A_EEE_TX_LPI_TIMER, 17)}
	everyField(t, EEE(), s, uapi.ETHTOOL_MSG_EEE_SET, `{"eee":true,"tx-lpi":false,"tx-timer":17}`, `{}`, map[string]string{
		`{"eee":false}`: "5=0", `{"tx-lpi":true,"tx-timer":20}`: "6=1 7=20", `{"tx-timer":17}`: "",
	})
}

// linkModesReply is an answer about a port that supports three modes.
func linkModesReply(autoneg uint8, speed uint32, duplex uint8, advertised ...int) kernel.Body {
	set := func(bits ...int) []byte {
		words := make([]byte, 16)
		for _, bit := range bits {
			words[bit/8] |= 1 << (bit % 8)
		}
		return words
	}
	return kernel.Body{}.Uint8(uapi.ETHTOOL_A_LINKMODES_AUTONEG, autoneg).
		Uint32(uapi.ETHTOOL_A_LINKMODES_SPEED, speed).Uint8(uapi.ETHTOOL_A_LINKMODES_DUPLEX, duplex).
		Nested(uapi.ETHTOOL_A_LINKMODES_OURS, kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 128).
			Bytes(uapi.ETHTOOL_A_BITSET_VALUE, set(advertised...)).
			Bytes(uapi.ETHTOOL_A_BITSET_MASK, set(uapi.ETHTOOL_LINK_MODE_10baseT_Full_BIT, uapi.ETHTOOL_LINK_MODE_100baseT_Full_BIT,
				uapi.ETHTOOL_LINK_MODE_1000baseT_Full_BIT, uapi.ETHTOOL_LINK_MODE_TP_BIT, uapi.ETHTOOL_LINK_MODE_Autoneg_BIT)))
}

func TestLink(t *testing.T) {
	var names kernel.Body
	for bit, word := range map[uint32]string{
		uapi.ETHTOOL_LINK_MODE_10baseT_Full_BIT: "10baseT/Full", uapi.ETHTOOL_LINK_MODE_100baseT_Full_BIT: "100baseT/Full",
		uapi.ETHTOOL_LINK_MODE_1000baseT_Full_BIT: "1000baseT/Full",
	} {
		names = names.Nested(uapi.ETHTOOL_A_STRINGS_STRING, kernel.Body{}.
			Uint32(uapi.ETHTOOL_A_STRING_INDEX, bit).String(uapi.ETHTOOL_A_STRING_VALUE, word))
	}
	words := kernel.Body{}.Nested(uapi.ETHTOOL_A_STRSET_STRINGSETS, kernel.Body{}.
		Nested(uapi.ETHTOOL_A_STRINGSETS_STRINGSET, kernel.Body{}.
			Uint32(uapi.ETHTOOL_A_STRINGSET_ID, uapi.ETH_SS_LINK_MODES).
			Nested(uapi.ETHTOOL_A_STRINGSET_STRINGS, names)))
	const hundred, thousand, autoneg = uapi.ETHTOOL_LINK_MODE_100baseT_Full_BIT, uapi.ETHTOOL_LINK_MODE_1000baseT_Full_BIT, uapi.ETHTOOL_LINK_MODE_Autoneg_BIT
	negotiating := linkModesReply(1, 1000, uapi.DUPLEX_FULL, autoneg, hundred, thousand)
	forced := linkModesReply(0, 100, uapi.DUPLEX_HALF)
	down := linkModesReply(0, 1<<32-1, uapi.DUPLEX_UNKNOWN)
	for _, test := range []struct {
		reply   kernel.Body
		current string
		change  string
		sent    string
		modes   string
	}{
		{negotiating, `{"autoneg":true,"speed":"auto","duplex":"auto","advertise":"1000baseT/Full,100baseT/Full"}`,
			`{"autoneg":false,"speed":100,"duplex":"half"}`, "2=0 5=100 6=0", ""},
		{negotiating, "", `{"advertise":"100baseT/Full, 10baseT/Full"}`, "", "1000baseT/Full=off, 100baseT/Full=on, 10baseT/Full=on"},
		{negotiating, "", `{"advertise":"100baseT/Full 1000baseT/Full"}`, "", ""}, // in another order
		// The way back from forced to negotiating, modes and all.
		{forced, `{"autoneg":false,"speed":100,"duplex":"half","advertise":"none"}`,
			`{"autoneg":true,"speed":"auto","duplex":"auto","advertise":"1000baseT/Full,100baseT/Full"}`, "2=1", "1000baseT/Full=on, 100baseT/Full=on"},
		{forced, "", `{"autoneg":true}`, "2=1", ""},
		{forced, "", `{"speed":10}`, "5=10 6=0", ""},
		{down, `{"autoneg":false,"speed":"unknown","duplex":"unknown","advertise":"none"}`, `{"speed":100,"duplex":"full"}`, "5=100 6=1", ""},
	} {
		s := &script{words: words, reply: test.reply}
		nic := inventory.NIC{Name: "eth7", Index: 7}
		current, _, err := Link().Read(t.Context(), s, nic)
		b, err2 := json.Marshal(current)
		if err != nil || err2 != nil || test.current != "" && string(b) != test.current {
			t.Errorf("read %s, %v, want %s", b, err, test.current)
			continue
		}
		var next LinkModes
		for _, text := range []string{string(b), test.change} {
			if err := json.Unmarshal([]byte(text), &next); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
		if err := Link().Write(t.Context(), s, nic, current, next); err != nil || s.set[0].Command != uapi.ETHTOOL_MSG_LINKMODES_SET {
			t.Fatal(err)
		}
		if modes := sentBits(t, s.set[0], uapi.ETHTOOL_A_LINKMODES_OURS); modes != test.modes {
			t.Errorf("%s from %s: sent modes %q, want %q", test.change, b, modes, test.modes)
		}
		if got := sent(t, s.set[0]); got != test.sent {
			t.Errorf("%s from %s: sent %q, want %q", test.change, b, got, test.sent)
		}
	}
	for _, bad := range []string{`{"speed":0}`, `{"speed":-1}`, `{"speed":"fast"}`, `{"speed":4294967295}`, `{"duplex":"both"}`, `{"advertise":" "}`} {
		if err := json.Unmarshal([]byte(bad), &LinkModes{}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// A change of one flag leaves all others as they are.
func TestMulticastFlags(t *testing.T) {
	body := kernel.Body(make([]byte, 16))
	binary.NativeEndian.PutUint32(body[8:], uapi.IFF_UP|uapi.IFF_MULTICAST)
	s := &script{reply: body.String(uapi.IFLA_IFNAME, "eth7").Uint32(uapi.IFLA_ALLMULTI, 1)} // somebody else's
	nic := inventory.NIC{Name: "eth7", Index: 7}
	current, _, err := Multicast().Read(t.Context(), s, nic)
	if b, _ := json.Marshal(current); err != nil || string(b) != `{"multicast":true,"allmulti":false}` {
		t.Fatalf("%s, %v", b, err)
	}
	for _, test := range []struct {
		next          MulticastState
		flags, change uint32
	}{
		{MulticastState{Multicast: new(true), AllMulti: new(true)}, uapi.IFF_ALLMULTI, uapi.IFF_ALLMULTI},
		{MulticastState{Multicast: new(false), AllMulti: new(false)}, 0, uapi.IFF_MULTICAST},
	} {
		s.set = nil
		if err := Multicast().Write(t.Context(), s, nic, current, test.next); err != nil {
			t.Fatal(err)
		}
		b := s.set[0].Body
		if len(b) != 16 || binary.NativeEndian.Uint32(b[4:]) != 7 ||
			binary.NativeEndian.Uint32(b[8:]) != test.flags || binary.NativeEndian.Uint32(b[12:]) != test.change {
			t.Errorf("sent % x, want flags %x of %x", b, test.flags, test.change)
		}
	}
}
