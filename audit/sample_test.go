package audit

import (
	"context"
	"errors"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// counting answers for drivers' own counters, and notes of whom it was asked.
type counting struct {
	kernel.Reader
	err   error
	asked []string
}

func (c *counting) Counters(_ context.Context, device string) ([]kernel.Counter, error) {
	c.asked = append(c.asked, device)
	if c.err != nil {
		return nil, c.err
	}
	return []kernel.Counter{
		{Name: "rx_pause_frames", Value: 1}, {Name: "tx_pause_frames", Value: 2},
		{Name: "rx_fec_corrected_blocks", Value: 3}, {Name: "rx_fec_uncorrectable_blocks", Value: 4},
		{Name: "[0]: rx_discards", Value: 5},
	}, nil
}

// A driver's own counters are read where it has no standard ones, and only those.
func TestOwnCounters(t *testing.T) {
	standard := inventory.Counters{"pause/rx": 0, "pause/tx": 0, "fec/corrected": 0, "fec/uncorrectable": 0}
	pauseOnly := inventory.Counters{"pause/rx": 0, "pause/tx": 0}
	traffic := &inventory.Traffic{NICs: map[string]inventory.NICTraffic{"eth0": {Driver: []inventory.Meant{
		{DriverCounter: kernel.Counter{Name: "rx_pause_frames", Value: 9}, Meaning: inventory.PauseReceived, Queue: -1},
		{DriverCounter: kernel.Counter{Name: "[0]: rx_discards", Value: 9}, Meaning: inventory.NoBuffer},
	}}}}
	for name, c := range map[string]struct {
		driver  string
		has     inventory.Counters
		traffic *inventory.Traffic
		err     error
		asked   int
		want    map[string]uint64 // by the standard's name
		notes   int
	}{
		"none standard":         {"bnxt_en", nil, nil, nil, 1, map[string]uint64{"pause/rx": 1, "pause/tx": 2, "fec/corrected": 3, "fec/uncorrectable": 4}, 0},
		"pause standard":        {"bnxt_en", pauseOnly, nil, nil, 1, map[string]uint64{"fec/corrected": 3, "fec/uncorrectable": 4}, 0},
		"all standard":          {"bnxt_en", standard, nil, nil, 0, nil, 0},
		"a driver without FEC":  {"igb", pauseOnly, nil, nil, 0, nil, 0},
		"an unknown driver":     {"other", nil, nil, nil, 0, nil, 0},
		"traffic was read":      {"bnxt_en", nil, traffic, nil, 0, map[string]uint64{"pause/rx": 9}, 0},
		"gone":                  {"bnxt_en", nil, nil, kernel.ErrGone, 1, nil, 1},
		"an old recording":      {"bnxt_en", nil, nil, kernel.ErrNotRecorded, 1, nil, 0},
		"an unexpected failure": {"bnxt_en", nil, nil, errors.New("no"), 1, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := &Look{}
			l.NICs = []inventory.NIC{{Name: "eth0", Driver: &inventory.Driver{Name: c.driver}}, {Name: "veth0"}}
			l.Counted = Sample{NICs: map[string]inventory.Counters{"eth0": c.has}, Traffic: c.traffic}
			host := &counting{err: c.err}
			l.ownCounters(t.Context(), host)
			if len(host.asked) != c.asked || len(l.NICs[0].Unread) != c.notes {
				t.Errorf("asked %v, notes %v", host.asked, l.NICs[0].Unread)
			}
			e := &Evidence{Counted: l.Counted}
			e.NICs = l.NICs
			n := nic{NIC: &e.NICs[0], evidence: e}
			for counter := range standsFor {
				got, own := n.counted(counter)
				want, known := c.want[counter]
				if _, std := c.has[counter]; std {
					want, known = 0, true
				}
				if got.Known != known || got.Total != want || (own != "") != (known && want > 0) {
					t.Errorf("%s: %+v %q, want %d, %v", counter, got, own, want, known)
				}
			}
		})
	}
}
