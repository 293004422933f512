package main

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// Writing one NIC at a time is for memory's sake and changes no byte.
func TestWriteInventoryWritesWhatWriteJSONDoes(t *testing.T) {
	var pfs []sriov.PF
	nasty := "\n  \"nics\": [] <&> \u2028"
	for _, nics := range [][]inventory.NIC{
		nil,
		{},
		{{Name: "eth0"}},
		{{Name: nasty, AltNames: []string{"a", "b"}, Unread: []inventory.Unread{{Fact: "link.fec", Detail: nasty}}}, {Name: "eth1"}},
	} {
		inv := &sriov.Inventory{Inventory: inventory.Inventory{
			APIVersion: inventory.APIVersion, Kind: inventory.Kind, CollectedAt: time.Unix(0, 0).UTC(),
			Host: inventory.Host{Hostname: nasty}, NICs: nics, Unread: []inventory.Unread{{Fact: nasty}},
		}, PFs: pfs}
		var got, want bytes.Buffer
		if err := writeInventory(&got, inv); err != nil {
			t.Fatal(err)
		}
		if nics == nil {
			inv.NICs = []inventory.NIC{} // no list is an empty one
		}
		if err := writeJSON(&want, inv); err != nil {
			t.Fatal(err)
		}
		pfs = append(pfs, sriov.PF{Name: nasty, VFs: []sriov.VF{{Index: 1}}})
		if got.String() != want.String() {
			t.Errorf("%d NICs:\n%s\nwant\n%s", len(nics), got.String(), want.String())
		}
	}
}

// full is a writer that takes nothing, as /dev/full.
type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteInventoryReportsAFullDisk(t *testing.T) {
	for _, nics := range [][]inventory.NIC{nil, {{Name: "eth0"}}} {
		if err := writeInventory(full{}, &sriov.Inventory{Inventory: inventory.Inventory{NICs: nics}}); !errors.Is(err, errFull) {
			t.Errorf("%d NICs: %v, want %v", len(nics), err, errFull)
		}
	}
}
