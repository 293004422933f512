package kernel

import (
	"testing"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// The names of features are asked for once; those of a device's own counters are
// its driver's, and each time.
func TestTheKernelsOwnStringsAreAskedForOnce(t *testing.T) {
	l := open(t)
	manyLinks(t, 2)
	set := func(id uint32) Body {
		return Body{}.Nested(uapi.ETHTOOL_A_STRINGSETS_STRINGSET, Body{}.Uint32(uapi.ETHTOOL_A_STRINGSET_ID, id))
	}
	ask := func(header, sets Body) []Message {
		t.Helper()
		messages, err := l.Netlink(t.Context(), Request{
			Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_STRSET_GET,
			Body: Body{}.Nested(uapi.ETHTOOL_A_STRSET_HEADER, header).Nested(uapi.ETHTOOL_A_STRSET_STRINGSETS, sets),
		})
		if err != nil || len(messages) != 1 || len(messages[0].Body) == 0 {
			t.Fatalf("%d messages, %v", len(messages), err)
		}
		return messages
	}
	const counters = 1 // ETH_SS_STATS
	first, second := ask(nil, set(uapi.ETH_SS_FEATURES)), ask(nil, set(uapi.ETH_SS_FEATURES))
	if &first[0].Body[0] != &second[0].Body[0] {
		t.Error("the same question was put to the kernel twice")
	}
	modes := ask(nil, set(uapi.ETH_SS_LINK_MODES))
	if string(modes[0].Body) == string(first[0].Body) {
		t.Error("link modes have the names of features")
	}
	device := Body{}.String(uapi.ETHTOOL_A_HEADER_DEV_NAME, "many0")
	first, second = ask(device, set(counters)), ask(device, set(counters))
	if &first[0].Body[0] == &second[0].Body[0] {
		t.Error("a driver's own strings were kept")
	}
}
