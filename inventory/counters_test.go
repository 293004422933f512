package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"reflect"
	"slices"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

func counted(values ...uint64) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, values)
	return b.Bytes()
}

// Each counter of the kernel's messages is filed under its name, that of the port
// and not of its lanes.
func TestDecodeCounters(t *testing.T) {
	one := func(group uint32, typ uint16, value uint64) kernel.Body {
		return kernel.Body{}.Nested(uapi.ETHTOOL_A_STATS_GRP, kernel.Body{}.
			Uint32(uapi.ETHTOOL_A_STATS_GRP_ID, group).
			Uint32(uapi.ETHTOOL_A_STATS_GRP_SS_ID, group+17).
			Nested(uapi.ETHTOOL_A_STATS_GRP_STAT, kernel.Body{}.Bytes(typ, counted(value))))
	}
	for name, test := range map[string]struct {
		decode func([]byte, func(StandardCounter)) error
		body   kernel.Body
		want   Counters
	}{
		"FEC, by lane": {decodeFECCounters, kernel.Body{}.
			Uint8(uapi.ETHTOOL_A_FEC_AUTO, 1).
			Nested(uapi.ETHTOOL_A_FEC_STATS, kernel.Body{}.
				Bytes(uapi.ETHTOOL_A_FEC_STAT_CORRECTED, counted(30, 10, 20)).
				Bytes(uapi.ETHTOOL_A_FEC_STAT_UNCORR, counted(2)).
				Bytes(uapi.ETHTOOL_A_FEC_STAT_CORR_BITS, nil)), // a driver without
			Counters{"fec/corrected": 30, "fec/uncorrectable": 2}},
		"pause": {decodePauseCounters, kernel.Body{}.Nested(uapi.ETHTOOL_A_PAUSE_STATS, kernel.Body{}.
			Bytes(uapi.ETHTOOL_A_PAUSE_STAT_TX_FRAMES, counted(1)).
			Bytes(uapi.ETHTOOL_A_PAUSE_STAT_RX_FRAMES, counted(2)).
			Bytes(uapi.ETHTOOL_A_PAUSE_STAT_TX_PAUSE_STORM_EVENTS, counted(3))),
			Counters{"pause/tx": 1, "pause/rx": 2, "pause/tx-storm": 3}},
		"MAC and PHY": {decodeStandardCounters, append(one(uapi.ETHTOOL_STATS_ETH_MAC, uapi.ETHTOOL_A_STATS_ETH_MAC_6_FCS_ERR, 7),
			append(one(uapi.ETHTOOL_STATS_ETH_PHY, uapi.ETHTOOL_A_STATS_ETH_PHY_5_SYM_ERR, 8),
				append(one(uapi.ETHTOOL_STATS_ETH_MAC, uapi.ETHTOOL_A_STATS_ETH_MAC_25_TOO_LONG_ERR, 9),
					one(77, 0, 10)...)...)...), // a group of a newer kernel
			Counters{"mac/FrameCheckSequenceErrors": 7, "phy/SymbolErrorDuringCarrier": 8, "mac/FrameTooLongErrors": 9}},
		"none": {decodeFECCounters, kernel.Body{}.Uint8(uapi.ETHTOOL_A_FEC_AUTO, 1), Counters{}},
	} {
		got := Counters{}
		if err := test.decode(test.body, got.add); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, test.want)
		}
	}
}

func FuzzDecodeCounters(f *testing.F) {
	f.Add([]byte(kernel.Body{}.Nested(uapi.ETHTOOL_A_FEC_STATS, kernel.Body{}.Bytes(uapi.ETHTOOL_A_FEC_STAT_CORRECTED, counted(1)))))
	f.Add([]byte(kernel.Body{}.Nested(uapi.ETHTOOL_A_STATS_GRP, kernel.Body{}.Nested(uapi.ETHTOOL_A_STATS_GRP_STAT, kernel.Body{}.Bytes(3, counted(1))))))
	f.Add([]byte("RxErr 0\nBadTLP 12\nTOTAL_ERR_COR 12\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, decode := range []func([]byte, func(StandardCounter)) error{decodeFECCounters, decodePauseCounters, decodeStandardCounters} {
			_ = decode(body, func(StandardCounter) {})
		}
		c := Counters{}
		if err := parseAER(string(body), "aer/", c); err == nil && bytes.Count(body, []byte("\n"))+1 < len(c) {
			t.Errorf("%d counters of %q", len(c), body)
		}
	})
}

func TestParseAER(t *testing.T) {
	got := Counters{}
	if err := parseAER("RxErr 0\nBadTLP 12\nTOTAL_ERR_COR 12\n", "aer/x/correctable/", got); err != nil {
		t.Fatal(err)
	}
	if want := (Counters{"aer/x/correctable/RxErr": 0, "aer/x/correctable/BadTLP": 12}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, bad := range []string{"RxErr\n", "RxErr -1\n", "RxErr x\n"} {
		if err := parseAER(bad, "", Counters{}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A host whose kernel or recording lacks the counters has notes instead of zeros.
func TestCountersOfAnOldRecording(t *testing.T) {
	r := stacked(t)
	inv, err := Read(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	all := ReadCounters(context.Background(), r, inv)
	if len(all) != len(inv.NICs) {
		t.Fatalf("%d of %d NICs", len(all), len(inv.NICs))
	}
	for i, c := range all {
		noted := map[string]bool{}
		for _, u := range inv.NICs[i].Unread {
			noted[u.Fact] = true
		}
		if _, ok := c["ip/rx_packets"]; !ok {
			t.Errorf("%s has no standard counters", inv.NICs[i].Name)
		}
		if _, ok := c["mac/FramesReceivedOK"]; ok || !noted["counters/mac"] || !noted["counters/fec"] || !noted["counters/pause"] {
			t.Errorf("%s: %v, notes %v", inv.NICs[i].Name, c, noted)
		}
	}
}

func TestJudgedCountersAreStandardOnes(t *testing.T) {
	for _, name := range judged {
		if !slices.Contains(StatisticNames(), name) {
			t.Errorf("there is no standard counter %s", name)
		}
	}
}
