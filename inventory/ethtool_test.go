package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// testWords are string sets as short as the tests need them.
func testWords() *words {
	modes := make([]string, 125)
	modes[5], modes[6], modes[7], modes[10] = "1000baseT/Full", "Autoneg", "TP", "FIBRE"
	modes[13], modes[14], modes[31] = "Pause", "Asym_Pause", "25000baseCR/Full"
	modes[49], modes[50], modes[51] = "None", "RS", "BASER"
	modes[124] = "1600000baseDR8_2/Full"
	return &words{sets: map[uint32][]string{
		uapi.ETH_SS_LINK_MODES:       modes,
		uapi.ETH_SS_FEATURES:         {"tx-scatter-gather", "", "rx-lro", "highdma"},
		uapi.ETH_SS_RSS_HASH_FUNCS:   {"toeplitz", "xor", "crc32"},
		uapi.ETH_SS_SOF_TIMESTAMPING: {"hardware-transmit", "software-transmit", "hardware-receive"},
		uapi.ETH_SS_TS_TX_TYPES:      {"off", "on"},
		uapi.ETH_SS_TS_RX_FILTERS:    {"none", "all"},
	}}
}

// bitWordsOf are the words of a set with these bits on.
func bitWordsOf(on ...int) []byte {
	words := make([]uint32, 4)
	for _, i := range on {
		words[i/32] |= 1 << (i % 32)
	}
	var b []byte
	for _, w := range words {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

// list is a compact bit set without a mask.
func list(on ...int) kernel.Body {
	return kernel.Body{}.Flag(uapi.ETHTOOL_A_BITSET_NOMASK).Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 128).
		Bytes(uapi.ETHTOOL_A_BITSET_VALUE, bitWordsOf(on...))
}

// masked is a compact bit set with a mask.
func masked(value, mask []int) kernel.Body {
	return kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 128).
		Bytes(uapi.ETHTOOL_A_BITSET_VALUE, bitWordsOf(value...)).
		Bytes(uapi.ETHTOOL_A_BITSET_MASK, bitWordsOf(mask...))
}

// verbose is a bit set in the form that brings names.
func verbose(bits ...kernel.Body) kernel.Body {
	var nest kernel.Body
	for _, b := range bits {
		nest = nest.Nested(uapi.ETHTOOL_A_BITSET_BITS_BIT, b)
	}
	return kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 8).Nested(uapi.ETHTOOL_A_BITSET_BITS, nest)
}

func bit(i uint32, name string, on bool) kernel.Body {
	b := kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_BIT_INDEX, i).String(uapi.ETHTOOL_A_BITSET_BIT_NAME, name)
	if on {
		b = b.Flag(uapi.ETHTOOL_A_BITSET_BIT_VALUE)
	}
	return b
}

// reply is the start of an answer: its header.
func reply(index uint32) kernel.Body {
	return kernel.Body{}.Nested(ethtoolHeader, kernel.Body{}.
		Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, index).String(uapi.ETHTOOL_A_HEADER_DEV_NAME, "eth0"))
}

func words32(v ...uint32) []byte {
	var b []byte
	for _, w := range v {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

// ethtoolCase is one answer, and what of the NIC's JSON it makes.
type ethtoolCase struct {
	name, fact string
	body       kernel.Body
	want       string
}

func ethtoolCases() []ethtoolCase {
	coalesce, coalesceWant := coalesceAll()
	return []ethtoolCase{
		{"a server NIC's modes", "link.supportedModes", reply(2).
			Uint8(uapi.ETHTOOL_A_LINKMODES_AUTONEG, uapi.AUTONEG_ENABLE).
			Nested(uapi.ETHTOOL_A_LINKMODES_OURS, masked([]int{6, 13, 31}, []int{6, 10, 13, 14, 31, 50, 51, 124})).
			Nested(uapi.ETHTOOL_A_LINKMODES_PEER, list(6, 14, 31)).
			Uint32(uapi.ETHTOOL_A_LINKMODES_SPEED, 1600000).Uint8(uapi.ETHTOOL_A_LINKMODES_DUPLEX, uapi.DUPLEX_FULL).
			Uint32(uapi.ETHTOOL_A_LINKMODES_LANES, 8).
			Uint8(uapi.ETHTOOL_A_LINKMODES_MASTER_SLAVE_CFG, 4).Uint8(uapi.ETHTOOL_A_LINKMODES_MASTER_SLAVE_STATE, 2).
			Uint8(uapi.ETHTOOL_A_LINKMODES_RATE_MATCHING, 1),
			`{"link": {"speedMbps": 1600000, "duplex": "full", "lanes": 8, "autoneg": true,
				"supportedModes": ["25000baseCR/Full", "1600000baseDR8_2/Full"], "advertisedModes": ["25000baseCR/Full"],
				"peerModes": ["25000baseCR/Full"],
				"abilities": {
					"supported": {"ports": ["FIBRE"], "autoneg": true, "pause": "Symmetric Receive-only", "fec": ["RS", "BASER"]},
					"advertised": {"autoneg": true, "pause": "Symmetric"},
					"peer": {"autoneg": true, "pause": "Transmit-only"}},
				"masterSlave": "forced-master", "masterSlaveState": "master", "rateMatching": "pause"}}`},
		{"a link that is down has no speed", "link.supportedModes", reply(2).
			Uint8(uapi.ETHTOOL_A_LINKMODES_AUTONEG, uapi.AUTONEG_DISABLE).
			Uint32(uapi.ETHTOOL_A_LINKMODES_SPEED, 1<<32-1).Uint8(uapi.ETHTOOL_A_LINKMODES_DUPLEX, uapi.DUPLEX_UNKNOWN),
			`{"link": {"autoneg": false}}`},
		{"a mode that has no name yet", "link.supportedModes", reply(2).Nested(uapi.ETHTOOL_A_LINKMODES_OURS, masked(nil, []int{126})),
			`{"link": {"supportedModes": ["bit 126"], "abilities":
				{"supported": {"autoneg": false, "pause": "No"}, "advertised": {"autoneg": false, "pause": "No"}}}}`},
		{"a connector", "link.port", reply(2).Uint8(uapi.ETHTOOL_A_LINKINFO_PORT, uapi.PORT_DA).
			Uint8(uapi.ETHTOOL_A_LINKINFO_PHYADDR, 3).Uint8(uapi.ETHTOOL_A_LINKINFO_TP_MDIX, 1).
			Uint8(uapi.ETHTOOL_A_LINKINFO_TP_MDIX_CTRL, 3).Uint8(uapi.ETHTOOL_A_LINKINFO_TRANSCEIVER, 1),
			`{"link": {"port": "Direct Attach Copper", "phyAddress": 3, "transceiver": "external"}}`},
		{"crossed twisted pairs", "link.port", reply(2).Uint8(uapi.ETHTOOL_A_LINKINFO_PORT, uapi.PORT_TP).
			Uint8(uapi.ETHTOOL_A_LINKINFO_TP_MDIX, 2).Uint8(uapi.ETHTOOL_A_LINKINFO_TP_MDIX_CTRL, 3),
			`{"link": {"port": "Twisted Pair", "mdix": "on (auto)"}}`},
		{"no connector", "link.port", reply(2).Uint8(uapi.ETHTOOL_A_LINKINFO_PORT, uapi.PORT_NONE), `{"link": {"port": "None"}}`},
		{"a connector of the future", "link.port", reply(2).Uint8(uapi.ETHTOOL_A_LINKINFO_PORT, 77), `{"link": {"port": "77"}}`},
		{"why a link is down", "link.detected", reply(2).Uint8(uapi.ETHTOOL_A_LINKSTATE_LINK, 0).
			Uint8(uapi.ETHTOOL_A_LINKSTATE_EXT_STATE, uapi.ETHTOOL_LINK_EXT_STATE_CABLE_ISSUE).
			Uint8(uapi.ETHTOOL_A_LINKSTATE_EXT_SUBSTATE, uapi.ETHTOOL_LINK_EXT_SUBSTATE_CI_CABLE_TEST_FAILURE).
			Uint32(uapi.ETHTOOL_A_LINKSTATE_EXT_DOWN_CNT, 7).
			Uint32(uapi.ETHTOOL_A_LINKSTATE_SQI, 5).Uint32(uapi.ETHTOOL_A_LINKSTATE_SQI_MAX, 7),
			`{"link": {"detected": false, "extendedState": "Cable issue", "extendedSubstate": "Cable test failure",
				"downEvents": 7, "sqi": 5, "sqiMax": 7}}`},
		{"nothing said of the link", "link.detected", reply(2), `{"link": {}}`},
		{"forward error correction", "link.fec", reply(2).Nested(uapi.ETHTOOL_A_FEC_MODES, list(49, 50, 51)).
			Uint8(uapi.ETHTOOL_A_FEC_AUTO, 1).Uint32(uapi.ETHTOOL_A_FEC_ACTIVE, uapi.ETHTOOL_LINK_MODE_FEC_RS_BIT),
			`{"link": {"fec": {"auto": true, "configured": ["Off", "RS", "BaseR"], "active": "RS"}}}`},
		{"flow control", "link.pause", reply(2).Uint8(uapi.ETHTOOL_A_PAUSE_AUTONEG, 0).
			Uint8(uapi.ETHTOOL_A_PAUSE_RX, 1).Uint8(uapi.ETHTOOL_A_PAUSE_TX, 0),
			`{"link": {"pause": {"autoneg": false, "rx": true, "tx": false}}}`},
		{"energy saving", "link.eee", reply(2).
			Nested(uapi.ETHTOOL_A_EEE_MODES_OURS, masked([]int{5}, []int{5, 124})).Nested(uapi.ETHTOOL_A_EEE_MODES_PEER, list(5)).
			Uint8(uapi.ETHTOOL_A_EEE_ACTIVE, 1).Uint8(uapi.ETHTOOL_A_EEE_ENABLED, 0).
			Uint8(uapi.ETHTOOL_A_EEE_TX_LPI_ENABLED, 1).Uint32(uapi.ETHTOOL_A_EEE_TX_LPI_TIMER, 17),
			`{"link": {"eee": {"enabled": false, "active": true, "txLpi": true, "txLpiTimerUsecs": 17,
				"supportedModes": ["1000baseT/Full", "1600000baseDR8_2/Full"], "advertisedModes": ["1000baseT/Full"],
				"peerModes": ["1000baseT/Full"]}}}`},
		{"channels", "queues.channels", reply(2).
			Uint32(uapi.ETHTOOL_A_CHANNELS_RX_MAX, 1).Uint32(uapi.ETHTOOL_A_CHANNELS_RX_COUNT, 2).
			Uint32(uapi.ETHTOOL_A_CHANNELS_TX_MAX, 3).Uint32(uapi.ETHTOOL_A_CHANNELS_TX_COUNT, 4).
			Uint32(uapi.ETHTOOL_A_CHANNELS_OTHER_MAX, 5).Uint32(uapi.ETHTOOL_A_CHANNELS_OTHER_COUNT, 6).
			Uint32(uapi.ETHTOOL_A_CHANNELS_COMBINED_MAX, 7).Uint32(uapi.ETHTOOL_A_CHANNELS_COMBINED_COUNT, 8),
			`{"queues": {"channels": {"rx": {"maximum": 1, "current": 2}, "tx": {"maximum": 3, "current": 4},
				"other": {"maximum": 5, "current": 6}, "combined": {"maximum": 7, "current": 8}}}}`},
		{"one kind of channel", "queues.channels", reply(2).
			Uint32(uapi.ETHTOOL_A_CHANNELS_COMBINED_MAX, 7).Uint32(uapi.ETHTOOL_A_CHANNELS_COMBINED_COUNT, 0),
			`{"queues": {"channels": {"combined": {"maximum": 7, "current": 0}}}}`},
		{"rings", "queues.rings", reply(2).
			Uint32(uapi.ETHTOOL_A_RINGS_RX_MAX, 1).Uint32(uapi.ETHTOOL_A_RINGS_RX, 2).
			Uint32(uapi.ETHTOOL_A_RINGS_RX_MINI_MAX, 3).Uint32(uapi.ETHTOOL_A_RINGS_RX_MINI, 4).
			Uint32(uapi.ETHTOOL_A_RINGS_RX_JUMBO_MAX, 5).Uint32(uapi.ETHTOOL_A_RINGS_RX_JUMBO, 6).
			Uint32(uapi.ETHTOOL_A_RINGS_TX_MAX, 7).Uint32(uapi.ETHTOOL_A_RINGS_TX, 8).
			Uint32(uapi.ETHTOOL_A_RINGS_RX_BUF_LEN, 9).Uint8(uapi.ETHTOOL_A_RINGS_TCP_DATA_SPLIT, uapi.ETHTOOL_TCP_DATA_SPLIT_ENABLED).
			Uint32(uapi.ETHTOOL_A_RINGS_CQE_SIZE, 10).Uint8(uapi.ETHTOOL_A_RINGS_TX_PUSH, 1).Uint8(uapi.ETHTOOL_A_RINGS_RX_PUSH, 0).
			Uint32(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN_MAX, 11).Uint32(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN, 12).
			Uint32(uapi.ETHTOOL_A_RINGS_HDS_THRESH_MAX, 13).Uint32(uapi.ETHTOOL_A_RINGS_HDS_THRESH, 0),
			`{"queues": {"rings": {"rx": {"maximum": 1, "current": 2}, "rxMini": {"maximum": 3, "current": 4},
				"rxJumbo": {"maximum": 5, "current": 6}, "tx": {"maximum": 7, "current": 8}, "rxBufLen": 9, "cqeSize": 10,
				"txPush": true, "rxPush": false, "txPushBufLen": {"maximum": 11, "current": 12},
				"tcpDataSplit": "on", "hdsThreshold": {"maximum": 13, "current": 0}}}}`},
		{"coalescing, all of it", "queues.coalesce", coalesce, coalesceWant},
		{"a driver without coalescing parameters", "queues.coalesce", reply(2), `{"queues": {"coalesce": {}}}`},
		{"spreading", "queues.rss.table", reply(2).Uint32(uapi.ETHTOOL_A_RSS_HFUNC, 2).
			Bytes(uapi.ETHTOOL_A_RSS_INDIR, words32(0, 1, 300)).Bytes(uapi.ETHTOOL_A_RSS_HKEY, []byte{0x6d, 0x5a, 0}).
			Uint32(uapi.ETHTOOL_A_RSS_INPUT_XFRM, uapi.RXH_XFRM_SYM_XOR).
			Nested(uapi.ETHTOOL_A_RSS_FLOW_HASH, kernel.Body{}.
				Uint32(uapi.ETHTOOL_A_FLOW_TCP4, uapi.RXH_IP_SRC|uapi.RXH_IP_DST|uapi.RXH_L4_B_0_1|uapi.RXH_L4_B_2_3).
				Uint32(uapi.ETHTOOL_A_FLOW_ETHER, uapi.RXH_L2DA|uapi.RXH_VLAN|uapi.RXH_L3_PROTO).
				Uint32(uapi.ETHTOOL_A_FLOW_GTPC_TEID6, uapi.RXH_GTP_TEID|uapi.RXH_IP6_FL).
				Uint32(uapi.ETHTOOL_A_FLOW_UDP6, 1<<31).Uint32(uapi.ETHTOOL_A_FLOW_AH4, 0)),
			`{"queues": {"rss": {"hash": "xor", "inputTransform": "symmetric-xor", "table": [0, 1, 300], "key": "6d:5a:00",
				"fields": {"tcp4": "sdfn", "ether": "mvt", "gtpc6t": "el", "udp6": "r", "ah4": ""}}}}`},
		{"a further context", "queues.rss.table", reply(2).Uint32(uapi.ETHTOOL_A_RSS_CONTEXT, 3).
			Bytes(uapi.ETHTOOL_A_RSS_INDIR, words32(7)),
			`{"queues": {"rss": {"contexts": [{"id": 3, "table": [7]}]}}}`},
		{"private flags", "offloads.privateFlags", reply(2).Nested(uapi.ETHTOOL_A_PRIVFLAGS_FLAGS,
			verbose(bit(0, "legacy-rx", false), bit(1, "link-down-on-close", true))),
			`{"offloads": {"privateFlags": {"legacy-rx": false, "link-down-on-close": true}}}`},
		{"timestamping with a clock", "offloads.timestamping", reply(2).
			Nested(uapi.ETHTOOL_A_TSINFO_TIMESTAMPING, list(0, 2)).Nested(uapi.ETHTOOL_A_TSINFO_TX_TYPES, list(0, 1)).
			Nested(uapi.ETHTOOL_A_TSINFO_RX_FILTERS, list(1)).Uint32(uapi.ETHTOOL_A_TSINFO_PHC_INDEX, 0),
			`{"offloads": {"timestamping": {"capabilities": ["hardware-transmit", "hardware-receive"],
				"txTypes": ["off", "on"], "rxFilters": ["all"], "phc": 0}}}`},
		{"timestamping in software", "offloads.timestamping", reply(2).Nested(uapi.ETHTOOL_A_TSINFO_TIMESTAMPING, list(1)),
			`{"offloads": {"timestamping": {"capabilities": ["software-transmit"]}}}`},
		{"features", "offloads.features", reply(2).
			Nested(uapi.ETHTOOL_A_FEATURES_HW, masked([]int{0, 3}, []int{0, 1, 2, 3})).
			Nested(uapi.ETHTOOL_A_FEATURES_WANTED, list(0)).Nested(uapi.ETHTOOL_A_FEATURES_ACTIVE, list(2, 3)).
			Nested(uapi.ETHTOOL_A_FEATURES_NOCHANGE, list(3)),
			`{"offloads": {"features": {
				"tx-scatter-gather": {"active": false, "wanted": true, "hardware": true},
				"rx-lro": {"active": true, "wanted": false, "hardware": false, "fixed": true},
				"highdma": {"active": true, "wanted": false, "hardware": true, "fixed": true}}}}`},
	}
}

// coalesceAll has every attribute, each with its own number as value.
func coalesceAll() (kernel.Body, string) {
	body := reply(2)
	values, flags := map[string]uint32{}, map[string]bool{}
	for a, name := range []string{
		uapi.ETHTOOL_A_COALESCE_RX_USECS:             "rx-usecs",
		uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES:        "rx-frames",
		uapi.ETHTOOL_A_COALESCE_RX_USECS_IRQ:         "rx-usecs-irq",
		uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_IRQ:    "rx-frames-irq",
		uapi.ETHTOOL_A_COALESCE_TX_USECS:             "tx-usecs",
		uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES:        "tx-frames",
		uapi.ETHTOOL_A_COALESCE_TX_USECS_IRQ:         "tx-usecs-irq",
		uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_IRQ:    "tx-frames-irq",
		uapi.ETHTOOL_A_COALESCE_STATS_BLOCK_USECS:    "stats-block-usecs",
		uapi.ETHTOOL_A_COALESCE_PKT_RATE_LOW:         "pkt-rate-low",
		uapi.ETHTOOL_A_COALESCE_RX_USECS_LOW:         "rx-usecs-low",
		uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_LOW:    "rx-frames-low",
		uapi.ETHTOOL_A_COALESCE_TX_USECS_LOW:         "tx-usecs-low",
		uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_LOW:    "tx-frames-low",
		uapi.ETHTOOL_A_COALESCE_PKT_RATE_HIGH:        "pkt-rate-high",
		uapi.ETHTOOL_A_COALESCE_RX_USECS_HIGH:        "rx-usecs-high",
		uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES_HIGH:   "rx-frames-high",
		uapi.ETHTOOL_A_COALESCE_TX_USECS_HIGH:        "tx-usecs-high",
		uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES_HIGH:   "tx-frames-high",
		uapi.ETHTOOL_A_COALESCE_RATE_SAMPLE_INTERVAL: "sample-interval",
		uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_BYTES:    "tx-aggr-max-bytes",
		uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_FRAMES:   "tx-aggr-max-frames",
		uapi.ETHTOOL_A_COALESCE_TX_AGGR_TIME_USECS:   "tx-aggr-time-usecs",
		uapi.ETHTOOL_A_COALESCE_RX_CQE_FRAMES:        "rx-cqe-frames",
		uapi.ETHTOOL_A_COALESCE_RX_CQE_NSECS:         "rx-cqe-nsecs",
	} {
		if name != "" {
			body = body.Uint32(uint16(a), uint32(a))
			values[name] = uint32(a)
		}
	}
	for name, a := range map[string]uint16{
		"adaptive-rx": uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX, "adaptive-tx": uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX,
		"cqe-mode-rx": uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_RX, "cqe-mode-tx": uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_TX,
	} {
		on := uint8(a % 2)
		body = body.Uint8(a, on)
		flags[name] = on == 1
	}
	want, _ := json.Marshal(map[string]any{"queues": map[string]any{"coalesce": Coalesce{Values: values, Flags: flags}}})
	return body, string(want)
}

// groupOf finds a group by its fact.
func groupOf(t testing.TB, fact string) ethtoolGroup {
	t.Helper()
	for _, g := range ethtoolGroups {
		if g.fact == fact {
			return g
		}
	}
	t.Fatalf("no group %q", fact)
	return ethtoolGroup{}
}

// sameJSON compares what got says with want, both as JSON.
func sameJSON(t *testing.T, got any, want string) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var g, w any
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%v in %s", err, want)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

// parts is what ethtool netlink fills in of a NIC.
type parts struct {
	Link     *Link     `json:"link,omitempty"`
	Queues   *Queues   `json:"queues,omitempty"`
	Offloads *Offloads `json:"offloads,omitempty"`
}

func TestEthtoolReplies(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range ethtoolCases() {
		tested[c.fact] = true
		t.Run(c.name, func(t *testing.T) {
			n := &NIC{}
			if err := groupOf(t, c.fact).file(n, testWords(), c.body); err != nil {
				t.Fatal(err)
			}
			var got parts
			switch room, _, _ := strings.Cut(c.fact, "."); room {
			case "link":
				got.Link = &n.Link
			case "queues":
				got.Queues = &n.Queues
			case "offloads":
				got.Offloads = &n.Offloads
			}
			sameJSON(t, got, c.want)
		})
	}
	for _, g := range ethtoolGroups {
		if !tested[g.fact] {
			t.Errorf("no case for %s", g.fact)
		}
	}
}

// An interrupted dump brings a device several times: the last word counts.
func TestEthtoolRepliesReplaceEarlierOnes(t *testing.T) {
	for _, c := range ethtoolCases() {
		once, twice := &NIC{}, &NIC{}
		g := groupOf(t, c.fact)
		for _, n := range []*NIC{once, twice, twice} {
			if err := g.file(n, testWords(), c.body); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(once, twice) {
			t.Errorf("%s: %+v after the first answer, %+v after the second", c.name, once, twice)
		}
	}
	n := &NIC{}
	for _, c := range ethtoolCases() {
		if c.fact == "link.supportedModes" {
			if err := groupOf(t, c.fact).file(n, testWords(), c.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n.Link.SpeedMbps != nil || n.Link.Duplex != "" || n.Link.Peer != nil {
		t.Errorf("the link kept what an earlier answer said: %+v", n.Link)
	}
}

// A reply cut anywhere is refused or means less; it changes nothing when it is
// refused.
func TestCutEthtoolReplies(t *testing.T) {
	for _, c := range ethtoolCases() {
		refused := 0
		for i := range len(c.body) {
			n := &NIC{}
			if err := groupOf(t, c.fact).file(n, testWords(), c.body[:i]); err != nil {
				refused++
				if !errors.Is(err, kernel.ErrMalformed) {
					t.Errorf("%s cut at %d: %v is not ErrMalformed", c.name, i, err)
				}
				if !reflect.DeepEqual(n, &NIC{}) {
					t.Errorf("%s cut at %d: refused and filed: %+v", c.name, i, n)
				}
			}
		}
		if refused < len(c.body)/2 {
			t.Errorf("%s: only %d of %d cuts were noticed", c.name, refused, len(c.body))
		}
	}
}

func FuzzEthtoolReply(f *testing.F) {
	groups := ethtoolGroups
	for _, c := range ethtoolCases() {
		for i, g := range groups {
			if g.fact == c.fact {
				f.Add(byte(i), []byte(c.body))
			}
		}
	}
	f.Fuzz(func(t *testing.T, group byte, body []byte) {
		n := &NIC{}
		g := groups[int(group)%len(groups)]
		err := g.file(n, testWords(), body)
		if err != nil && !reflect.DeepEqual(n, &NIC{}) {
			t.Errorf("%s: refused (%v) and filed: %+v", g.name, err, n)
		}
		if _, jsonErr := json.Marshal(n); jsonErr != nil {
			t.Errorf("%s: %v", g.name, jsonErr)
		}
		if _, indexErr := ethtoolIndex(body); indexErr == nil && err != nil && len(body) == 0 {
			t.Error("an empty body is refused")
		}
	})
}

func TestNegotiatedPause(t *testing.T) {
	const none, symmetric, transmit, receive = "No", "Symmetric", "Transmit-only", "Symmetric Receive-only"
	// IEEE 802.3, table 28B-3.
	for _, c := range []struct {
		ours, peer string
		rx, tx     bool
	}{
		{none, receive, false, false},
		{transmit, symmetric, false, false},
		{transmit, receive, false, true},
		{symmetric, none, false, false},
		{symmetric, symmetric, true, true},
		{receive, symmetric, true, true},
		{receive, transmit, true, false},
		{transmit, transmit, false, false},
	} {
		n := &NIC{Link: Link{Abilities: &LinkAbilities{Advertised: LinkAbility{Pause: c.ours}, Peer: &LinkAbility{Pause: c.peer}}}}
		if err := filePause(n, nil, reply(2).Uint8(uapi.ETHTOOL_A_PAUSE_AUTONEG, 1)); err != nil {
			t.Fatal(err)
		}
		if got := n.Link.Pause.Negotiated; got == nil || got.RX != c.rx || got.TX != c.tx {
			t.Errorf("%s with %s: %+v, want rx %v, tx %v", c.ours, c.peer, got, c.rx, c.tx)
		}
		if err := filePause(n, nil, reply(2)); err != nil || n.Link.Pause.Negotiated != nil {
			t.Errorf("negotiated without negotiation: %+v, %v", n.Link.Pause.Negotiated, err)
		}
	}
}

func TestBitset(t *testing.T) {
	huge := kernel.Body{}.Nested(uapi.ETHTOOL_A_BITSET_BITS,
		kernel.Body{}.Nested(uapi.ETHTOOL_A_BITSET_BITS_BIT, kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_BIT_INDEX, 1<<31)))
	for _, c := range []struct {
		name string
		body kernel.Body
		want bitset
		bad  bool
	}{
		{"compact list", list(0, 33), bitset{value: []uint32{1, 2, 0, 0}}, false},
		{"compact with mask", masked([]int{1}, []int{1, 2}), bitset{value: []uint32{2, 0, 0, 0}, mask: []uint32{6, 0, 0, 0}}, false},
		{"verbose", verbose(bit(0, "a", false), bit(40, "b", true)),
			bitset{value: []uint32{0, 256}, mask: []uint32{1, 256}, names: map[int]string{0: "a", 40: "b"}}, false},
		{"verbose list", append(kernel.Body{}.Flag(uapi.ETHTOOL_A_BITSET_NOMASK), verbose(bit(2, "c", false))...),
			bitset{value: []uint32{4}, names: map[int]string{2: "c"}}, false},
		{"empty", nil, bitset{}, false},
		{"half a word", kernel.Body{}.Bytes(uapi.ETHTOOL_A_BITSET_VALUE, []byte{1, 2, 3, 4, 5, 6}), bitset{}, true},
		{"a bit beyond all", huge, bitset{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decodeBitset(c.body)
			if (err != nil) != c.bad {
				t.Fatalf("error %v", err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// stringSets is an ETHTOOL_MSG_STRSET_GET_REPLY.
func stringSets() kernel.Body {
	str := func(i uint32, s string) kernel.Body {
		return kernel.Body{}.Uint32(uapi.ETHTOOL_A_STRING_INDEX, i).String(uapi.ETHTOOL_A_STRING_VALUE, s)
	}
	var strings kernel.Body
	strings = strings.Nested(uapi.ETHTOOL_A_STRINGS_STRING, str(2, "rx-lro")).Nested(uapi.ETHTOOL_A_STRINGS_STRING, str(0, "highdma"))
	set := kernel.Body{}.Uint32(uapi.ETHTOOL_A_STRINGSET_ID, uapi.ETH_SS_FEATURES).Uint32(uapi.ETHTOOL_A_STRINGSET_COUNT, 3).
		Nested(uapi.ETHTOOL_A_STRINGSET_STRINGS, strings)
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_STRSET_STRINGSETS, kernel.Body{}.Nested(uapi.ETHTOOL_A_STRINGSETS_STRINGSET, set))
}

func TestWords(t *testing.T) {
	w := &words{sets: map[uint32][]string{}}
	if err := w.add(stringSets()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"highdma", "", "rx-lro", "bit 3"} {
		if got := w.word(uapi.ETH_SS_FEATURES, i); got != want {
			t.Errorf("word %d is %q, want %q", i, got, want)
		}
	}
}

func FuzzStringSets(f *testing.F) {
	f.Add([]byte(stringSets()))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &words{sets: map[uint32][]string{}}
		if err := w.add(b); err != nil && !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%v is not ErrMalformed", err)
		}
		for _, set := range w.sets {
			if len(set) > maxWords {
				t.Errorf("a set of %d strings from %d bytes", len(set), len(b))
			}
		}
	})
}

// fakeEthtool answers ethtool requests from lists: what the lab's kernel can't
// be made to do at will.
type fakeEthtool struct {
	kernel.Reader
	operations map[uint16]kernel.Operation
	// dump and single answer a group's requests; a nil function refuses.
	dump   func(command uint16) ([]kernel.Message, error)
	single func(command uint16, index int) ([]kernel.Message, error)
	ioctl  func(device string, arg []byte) ([]byte, error)

	asked []string
}

func (f *fakeEthtool) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	switch {
	case req.Family == kernel.FamilyControl:
		return []kernel.Message{{Body: familyBody(f.operations)}}, nil
	case req.Command == uapi.ETHTOOL_MSG_STRSET_GET:
		return []kernel.Message{{Body: stringSets()}}, nil
	case req.Dump:
		return f.dump(req.Command)
	}
	index, err := ethtoolIndex(req.Body)
	if err != nil {
		return nil, err
	}
	f.asked = append(f.asked, fmt.Sprintf("%d of %d", req.Command, index))
	return f.single(req.Command, index)
}

func (f *fakeEthtool) Ethtool(_ context.Context, device string, arg []byte) ([]byte, error) {
	f.asked = append(f.asked, fmt.Sprintf("%#x of %s", binary.NativeEndian.Uint32(arg), device))
	return f.ioctl(device, bytes.Clone(arg))
}

func familyBody(operations map[uint16]kernel.Operation) kernel.Body {
	var ops kernel.Body
	for id, o := range operations {
		var flags uint32
		if o.Do {
			flags |= uapi.GENL_CMD_CAP_DO
		}
		if o.Dump {
			flags |= uapi.GENL_CMD_CAP_DUMP
		}
		ops = ops.Nested(1, kernel.Body{}.Uint32(uapi.CTRL_ATTR_OP_ID, uint32(id)).Uint32(uapi.CTRL_ATTR_OP_FLAGS, flags))
	}
	return kernel.Body{}.String(uapi.CTRL_ATTR_FAMILY_NAME, kernel.FamilyEthtool).Uint16(uapi.CTRL_ATTR_FAMILY_ID, 21).
		Nested(uapi.CTRL_ATTR_OPS, ops)
}

func everyOperation() map[uint16]kernel.Operation {
	operations := map[uint16]kernel.Operation{}
	for _, g := range ethtoolGroups {
		operations[g.command] = kernel.Operation{Do: true, Dump: true}
	}
	return operations
}

// threeNICs is a survey with devices 2, 3 and 4.
func threeNICs(r kernel.Reader) *survey {
	s := &survey{Reader: r, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
	for i := 2; i <= 4; i++ {
		n := &NIC{Name: fmt.Sprintf("eth%d", i), Index: i}
		s.nics = append(s.nics, n)
		s.byIndex[i], s.byName[n.Name] = n, n
	}
	return s
}

func replies(indexes ...uint32) []kernel.Message {
	var messages []kernel.Message
	for _, i := range indexes {
		messages = append(messages, kernel.Message{Body: reply(i).Uint32(uapi.ETHTOOL_A_RINGS_TX_MAX, 7).Uint32(uapi.ETHTOOL_A_RINGS_TX, i)})
	}
	return messages
}

// unreadOf is what the NIC says of a fact.
func unreadOf(n *NIC, fact string) string {
	var all []string
	for _, u := range n.Unread {
		if u.Fact == fact {
			all = append(all, strings.TrimSpace(string(u.Reason)+" "+u.Detail))
		}
	}
	return strings.Join(all, "; ")
}

func TestReadEthtool(t *testing.T) {
	const rings, features = uapi.ETHTOOL_MSG_RINGS_GET, uapi.ETHTOOL_MSG_FEATURES_GET
	// unread by NIC; "" where the rings are there.
	for _, c := range []struct {
		name   string
		lacks  bool // the kernel lacks the dump
		dump   func(command uint16) ([]kernel.Message, error)
		single func(command uint16, index int) ([]kernel.Message, error)
		want   [3]string
		asked  bool
	}{
		{
			name: "a device that is passed over lacks it, and one that even features pass over is gone",
			dump: func(command uint16) ([]kernel.Message, error) {
				if command == features {
					return replies(2, 3), nil
				}
				return replies(2), nil
			},
			want: [3]string{"", "unsupported", "gone"},
		},
		{
			name: "a features dump that fails says of nobody that it is gone",
			dump: func(command uint16) ([]kernel.Message, error) {
				if command == features {
					return nil, &kernel.Error{Op: "ethtool FEATURES_GET dump", Err: syscall.EPERM}
				}
				return replies(2), nil
			},
			want: [3]string{"", "unsupported", "unsupported"},
		},
		{
			name: "an interrupted dump counts",
			dump: func(command uint16) ([]kernel.Message, error) {
				if command == features {
					return replies(2, 3, 3, 2, 4), kernel.ErrInterrupted
				}
				return replies(2, 3, 3, 2), kernel.ErrInterrupted
			},
			want: [3]string{"", "", "unsupported"},
		},
		{
			name: "a dump that a sick device ends",
			dump: func(command uint16) ([]kernel.Message, error) {
				return replies(2), &kernel.Error{Op: "ethtool RINGS_GET dump", Err: syscall.EIO}
			},
			single: func(_ uint16, index int) ([]kernel.Message, error) {
				if index == 3 {
					return nil, &kernel.Error{Op: "ethtool RINGS_GET", Err: syscall.EIO, Message: "firmware hung"}
				}
				return replies(uint32(index)), nil
			},
			want:  [3]string{"", "failed ethtool RINGS_GET: input/output error (kernel: firmware hung)", ""},
			asked: true,
		},
		{
			name:  "a kernel that has no dump",
			lacks: true,
			dump:  func(uint16) ([]kernel.Message, error) { return replies(2, 3, 4), nil },
			single: func(_ uint16, index int) ([]kernel.Message, error) {
				if index == 4 {
					return nil, &kernel.Error{Op: "ethtool RINGS_GET", Err: syscall.EOPNOTSUPP}
				}
				return replies(uint32(index)), nil
			},
			want:  [3]string{"", "", "unsupported ethtool RINGS_GET: operation not supported"},
			asked: true,
		},
		{
			name: "a privilege that lacks",
			dump: func(uint16) ([]kernel.Message, error) {
				return nil, &kernel.Error{Op: "ethtool RINGS_GET dump", Err: syscall.EPERM}
			},
			want: [3]string{
				"denied ethtool RINGS_GET dump: operation not permitted",
				"denied ethtool RINGS_GET dump: operation not permitted",
				"denied ethtool RINGS_GET dump: operation not permitted",
			},
		},
		{
			name: "a reply that is malformed spoils no other",
			dump: func(uint16) ([]kernel.Message, error) {
				messages := replies(2, 3, 4)
				messages[1].Body = append(messages[1].Body, 9, 0, 9)
				return messages, nil
			},
			want: [3]string{"", "failed ethtool RINGS_GET eth3: malformed answer: 3 bytes after the last attribute", ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := &fakeEthtool{operations: everyOperation(), dump: c.dump, single: c.single}
			if c.lacks {
				fake.operations[rings] = kernel.Operation{Do: true}
			}
			if fake.single == nil {
				fake.single = func(uint16, int) ([]kernel.Message, error) { return nil, nil }
			}
			s := threeNICs(fake)
			readEthtool(t.Context(), s)
			for i, n := range s.nics {
				if got := unreadOf(n, "queues.rings"); got != c.want[i] {
					t.Errorf("%s: %q, want %q", n.Name, got, c.want[i])
				}
				if (n.Queues.Rings != nil) != (c.want[i] == "") {
					t.Errorf("%s: rings %+v", n.Name, n.Queues.Rings)
				}
				if n.Queues.Rings != nil && n.Queues.Rings.TX.Current != uint32(n.Index) {
					t.Errorf("%s has another's rings: %+v", n.Name, n.Queues.Rings.TX)
				}
			}
			// Who has answered is not asked again.
			if strings.Contains(fmt.Sprint(fake.asked), fmt.Sprintf("%d of 2", rings)) && !c.lacks {
				t.Errorf("asked eth2 again: %v", fake.asked)
			}
			if asked := strings.Contains(fmt.Sprint(fake.asked), fmt.Sprintf("%d of", rings)); asked != c.asked {
				t.Errorf("asked singly: %v", fake.asked)
			}
		})
	}
}

// The dump of timestamping leaves out devices without a clock and repeats those
// with several.
func TestTimestampingIsRefined(t *testing.T) {
	fake := &fakeEthtool{
		operations: everyOperation(),
		dump: func(command uint16) ([]kernel.Message, error) {
			if command == uapi.ETHTOOL_MSG_TSINFO_GET {
				return replies(2, 3, 3), nil
			}
			return replies(2, 3, 4), nil
		},
		single: func(_ uint16, index int) ([]kernel.Message, error) {
			return []kernel.Message{{Body: reply(uint32(index)).Uint32(uapi.ETHTOOL_A_TSINFO_PHC_INDEX, uint32(10+index))}}, nil
		},
	}
	s := threeNICs(fake)
	readEthtool(t.Context(), s)
	want := fmt.Sprintf("[%[1]d of 3 %[1]d of 4]", uapi.ETHTOOL_MSG_TSINFO_GET)
	if got := fmt.Sprint(fake.asked); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	for _, n := range s.nics[1:] {
		if phc := n.Offloads.Timestamping.PHC; phc == nil || *phc != 10+n.Index {
			t.Errorf("%s: clock %v", n.Name, phc)
		}
	}
}

func TestKernelWithoutEthtoolNetlink(t *testing.T) {
	fake := &fakeEthtool{}
	s := threeNICs(fake)
	// A family list without ethtool's.
	s.Reader = otherFamily{fake}
	readEthtool(t.Context(), s)
	for _, g := range ethtoolGroups {
		if got := unreadOf(s.nics[0], g.fact); !strings.HasPrefix(got, "unsupported this kernel has no ethtool netlink") {
			t.Errorf("%s: %q", g.fact, got)
		}
	}
}

type otherFamily struct{ *fakeEthtool }

func (otherFamily) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return []kernel.Message{{Body: kernel.Body{}.String(uapi.CTRL_ATTR_FAMILY_NAME, "nlctrl").Uint16(uapi.CTRL_ATTR_FAMILY_ID, 16)}}, nil
}

// hung is a host with one NIC that answers neither by itself nor in a dump.
type hung struct {
	*fakeEthtool
	dumps, asked int
}

func (h *hung) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	if req.Family != kernel.FamilyEthtool || req.Command == uapi.ETHTOOL_MSG_STRSET_GET {
		return h.fakeEthtool.Netlink(ctx, req)
	}
	index, _ := ethtoolIndex(req.Body)
	switch {
	case req.Dump && index == 0:
		h.dumps++
	case index == 2:
		h.asked++
	default:
		return nil, &kernel.Error{Op: req.String(), Err: syscall.EOPNOTSUPP}
	}
	return nil, &kernel.Error{Op: req.String(), Err: context.DeadlineExceeded}
}

// A NIC that hangs costs one dump's deadline and one of its own, not two for each group.
func TestReadEthtoolLeavesOutWhoHangs(t *testing.T) {
	h := &hung{fakeEthtool: &fakeEthtool{}}
	s := threeNICs(h)
	operations := everyOperation()
	for _, g := range ethtoolGroups {
		g.read(t.Context(), s, operations[g.command], testWords())
	}
	if h.dumps != 1 || h.asked != 1 {
		t.Errorf("%d dumps, and the NIC that hangs was asked %d times", h.dumps, h.asked)
	}
	for _, n := range s.nics {
		if u := unreadOf(n, "offloads.features"); n.Index == 2 != strings.Contains(u, "deadline") {
			t.Errorf("%s: %q", n.Name, u)
		}
	}
}
