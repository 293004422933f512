package audit

import (
	"maps"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
)

// What policies want of functions is noted of the VFs that they name.
func TestWant(t *testing.T) {
	const document = `apiVersion: nictune/v1
kind: TuningPolicy
name: vms
match: {name: "eth*"}
settings:
  port-functions:
    - {vf: "0-1", migratable: on}
    - {vf: 2, migratable: off}
    - {vf: 3, roce: off}
    - {sf: 88, migratable: on}
`
	parsed, err := policies.Parse("vms.yaml", []byte(document))
	if err == nil {
		parsed, err = policies.Bind(parsed, tuning.Catalogue(sriov.Knobs()))
	}
	if err != nil {
		t.Fatal(err)
	}
	wants, _, err := policies.Resolve(parsed, policies.Host{}, []inventory.NIC{{Name: "eth0"}, {Name: "lo"}})
	if err != nil {
		t.Fatal(err)
	}
	e := &Evidence{}
	e.Want(wants)
	if want := map[string]bool{"eth0 vf 0": true, "eth0 vf 1": true}; !maps.Equal(e.Migratable, want) {
		t.Errorf("%v, want %v", e.Migratable, want)
	}
}
