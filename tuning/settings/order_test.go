package settings

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

func TestRoundRings(t *testing.T) {
	for driver, want := range map[string]string{
		"igb": "1008 8", "ice": "1024 32", "mlx5_core": "1024 1", "ena": "512 1", "veth": "1001 1",
	} {
		nic := inventory.NIC{Driver: &inventory.Driver{Name: driver}}
		got := roundRings(nic, RingSizes{RX: new(uint32(1001)), TX: new(uint32(1))})
		if s := fmt.Sprint(*got.RX, *got.TX); s != want {
			t.Errorf("%s: %s, want %s", driver, s, want)
		}
	}
	got := roundFlows(inventory.NIC{}, QueueFiles{"rx-0/rps_flow_cnt": "65", "rx-1/rps_flow_cnt": "0", "rx-2/rps_flow_cnt": "64", "rx-0/rps_cpus": "65"})
	if want := (QueueFiles{"rx-0/rps_flow_cnt": "128", "rx-1/rps_flow_cnt": "0", "rx-2/rps_flow_cnt": "64", "rx-0/rps_cpus": "65"}); !maps.Equal(got, want) {
		t.Errorf("flows: %v", got)
	}
}

// asking is about a plan that changes the number of queues.
func asking(t *testing.T, from, to uint32) tuning.Ask {
	t.Helper()
	planned, err := tuning.PlannedOf("channels", ChannelCounts{Combined: &from}, ChannelCounts{Combined: &to})
	if err != nil {
		t.Fatal(err)
	}
	return tuning.Ask{Planned: planned}
}

func TestRSSMakesWayAndIsKept(t *testing.T) {
	even, igb := []uint32{0, 1, 2, 3, 0, 1, 2, 3}, []uint32{0, 0, 1, 1, 2, 2, 3, 3}
	for name, c := range map[string]struct {
		table         []uint32
		from, to      uint32
		way, kept     []uint32 // nil: left to the driver
		left, staying bool
	}{
		"shrinking, even":               {table: even, from: 4, to: 2, way: []uint32{0, 0, 0, 0, 1, 1, 1, 1}, kept: []uint32{0, 1, 0, 1, 0, 1, 0, 1}},
		"shrinking, chosen and in way":  {table: []uint32{3, 3, 3, 3, 3, 3, 3, 3}, from: 4, to: 3, way: []uint32{0, 0, 0, 1, 1, 1, 2, 2}, kept: []uint32{0, 1, 2, 0, 1, 2, 0, 1}},
		"shrinking, chosen and not":     {table: []uint32{0, 0, 0, 1, 0, 0, 0, 1}, from: 4, to: 2, staying: true},
		"shrinking, even over fewer":    {table: []uint32{0, 1, 0, 1, 0, 1, 0, 1}, from: 8, to: 4, staying: true},
		"growing, even":                 {table: even, from: 4, to: 8, left: true},
		"growing, even as igb makes it": {table: igb, from: 4, to: 8, left: true},
		"growing, chosen":               {table: []uint32{0, 0, 0, 1, 0, 0, 0, 1}, from: 2, to: 8, staying: true},
	} {
		ask, before := asking(t, c.from, c.to), RSSState{Table: slices.Clone(c.table)}
		if c.staying || c.left {
			c.way = c.table
		}
		if c.staying {
			c.kept = c.table
		}
		way, err := makeWayRSS(t.Context(), ask, before)
		if err != nil || !slices.Equal(way.Table, c.way) {
			t.Errorf("%s: way is made with %v, %v, want %v", name, way.Table, err, c.way)
		}
		kept, err := keepRSS(ask, before)
		if err != nil || !slices.Equal(kept.Table, c.kept) {
			t.Errorf("%s: kept is %v, %v, want %v", name, kept.Table, err, c.kept)
		}
		if !slices.Equal(before.Table, c.table) {
			t.Errorf("%s: the state before was changed", name)
		}
	}
}

func TestIRQIsKeptByQueue(t *testing.T) {
	kept, err := keepIRQ(tuning.Ask{}, IRQAffinity{"eth1": "0-3", "eth1-rx-0": "0", "eth1-tx-0": "0", "eth1-rx-1": "1", "eth1-tx-1": "2"})
	want := IRQAffinity{
		"eth1": "0-3", "eth1-rx-0": "0", "eth1-tx-0": "0", "eth1-rx-1": "1", "eth1-tx-1": "2", "eth1-TxRx-0": "0", "eth1-TxRx-1": "1",
	}
	if err != nil || !maps.Equal(kept, want) {
		t.Errorf("%v, %v", kept, err)
	}
	kept, _ = keepIRQ(tuning.Ask{}, IRQAffinity{"mlx5_comp0@pci:0000:03:00.0": "3"})
	if len(kept) != 1 {
		t.Errorf("%v", kept)
	}
}
