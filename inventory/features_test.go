package inventory

import (
	"maps"
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// featuresReply is an answer about a NIC whose first features are these, of two that
// can be switched.
func featuresReply(index, active uint32) []byte {
	set := func(value uint32) kernel.Body {
		bits := func(v uint32) []byte { return kernel.Body{}.Uint32(0, v)[4:] }
		return kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 2).
			Bytes(uapi.ETHTOOL_A_BITSET_VALUE, bits(value)).Bytes(uapi.ETHTOOL_A_BITSET_MASK, bits(3))
	}
	return kernel.Body{}.
		Nested(ethtoolHeader, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, index)).
		Nested(uapi.ETHTOOL_A_FEATURES_HW, set(3)).
		Nested(uapi.ETHTOOL_A_FEATURES_WANTED, set(active)).
		Nested(uapi.ETHTOOL_A_FEATURES_ACTIVE, set(active)).
		Nested(uapi.ETHTOOL_A_FEATURES_NOCHANGE, set(0))
}

func TestNICsWithTheSameFeaturesShareThem(t *testing.T) {
	w := &words{sets: map[uint32][]string{uapi.ETH_SS_FEATURES: {"tx-checksum-ipv4", "rx-gro"}}}
	var nics [3]NIC
	for i, active := range []uint32{1, 1, 3} {
		if err := fileFeatures(&nics[i], w, featuresReply(uint32(7+i), active)); err != nil {
			t.Fatal(err)
		}
	}
	on := Feature{Active: true, Wanted: true, Hardware: true}
	first, other := nics[0].Offloads.Features, nics[2].Offloads.Features
	if want := (map[string]Feature{"tx-checksum-ipv4": on, "rx-gro": {Hardware: true}}); !maps.Equal(first, want) || !maps.Equal(nics[1].Offloads.Features, want) {
		t.Errorf("%v and %v, want %v", first, nics[1].Offloads.Features, want)
	}
	if want := (map[string]Feature{"tx-checksum-ipv4": on, "rx-gro": on}); !maps.Equal(other, want) {
		t.Errorf("another NIC has %v, want %v", other, want)
	}
	if reflect.ValueOf(first).Pointer() != reflect.ValueOf(nics[1].Offloads.Features).Pointer() {
		t.Error("two NICs with the same features have a map each")
	}
	// A broken answer is no key to a good one.
	if err := fileFeatures(&nics[0], w, featuresReply(7, 1)[:38]); err == nil {
		t.Error("an answer that is cut off is no error")
	}
}
