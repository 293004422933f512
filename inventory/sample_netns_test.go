package inventory

import (
	"net"
	"slices"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/lab/nstest"
)

// Counters read with the facts' names are those that a dump of everything has, also of
// devices that the facts lack or have by another name.
func TestMeterNamesStatistics(t *testing.T) {
	nstest.Require(t)
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	nstest.Link(t, "stat0", "type veth peer name stat1")
	nstest.IP(t, "link set stat0 up")
	nstest.IP(t, "link set stat1 up")
	device, err := net.InterfaceByName("stat0")
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	changed, all := map[int]bool{}, false
	asked := 0
	m := NewMeter(live, MeterOptions{Changed: func(facts *Inventory) (map[int]bool, bool) {
		if facts != inv {
			t.Error("asked about other facts")
		}
		asked++
		return changed, all
	}})
	only := func(p Part) bool { return p == PartStatistics }
	check := func(what string) {
		t.Helper()
		// Packets may come meanwhile: the names have to be right, and counters between two
		// readings.
		before, err := ReadStatistics(t.Context(), live)
		if err != nil {
			t.Fatal(err)
		}
		s := m.Read(t.Context(), inv, only)
		after, err := ReadStatistics(t.Context(), live)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Reads) != 1 || s.Reads[0].Err != nil || len(s.Statistics) != len(before) || len(before) != len(after) {
			t.Fatalf("%s: %+v, %d of %d devices", what, s.Reads, len(s.Statistics), len(before))
		}
		for i, got := range s.Statistics {
			if got.Name != before[i].Name || got.Index != before[i].Index || len(got.Values) != len(before[i].Values) {
				t.Errorf("%s: %s (%d), want %s (%d)", what, got.Name, got.Index, before[i].Name, before[i].Index)
				continue
			}
			for j, v := range got.Values {
				if v < before[i].Values[j] || v > after[i].Values[j] {
					t.Errorf("%s: %s of %s is %d, not between %d and %d", what, statisticNames[j], got.Name, v, before[i].Values[j], after[i].Values[j])
				}
			}
		}
	}
	check("as the facts have them")
	if asked != 2 {
		t.Errorf("asked %d times what changed", asked)
	}
	nstest.Link(t, "stat2", "type veth peer name stat3")
	check("with new ones")
	nstest.IP(t, "link set stat0 name stat9")
	changed[device.Index] = true
	check("renamed")
	changed, all = nil, true
	check("nobody knows what changed")
	changed, all = map[int]bool{device.Index: true}, false
	nstest.IP(t, "link del stat9")
	check("gone")
	if slices.ContainsFunc(m.Read(t.Context(), inv, only).Statistics, func(s Statistics) bool { return s.Name == "lo" }) {
		t.Error("the loopback has counters")
	}
}

func FuzzDecodeStats(f *testing.F) {
	f.Add(append(make([]byte, 4), append([]byte{7, 0, 0, 0, 1, 0, 0, 0}, kernel.Body{}.Bytes(uapi.IFLA_STATS_LINK_64, counted(1, 2, 3))...)...))
	f.Add([]byte{1, 2})
	f.Fuzz(func(t *testing.T, body []byte) {
		_, values, err := decodeStats(body, nil)
		if err == nil && (len(values) > len(statisticNames) || 8*len(values) > len(body)) {
			t.Errorf("%d values of %d bytes", len(values), len(body))
		}
	})
}
