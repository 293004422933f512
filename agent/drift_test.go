package agent

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// A recorded lab host has drifted in one setting, is as wanted in another, and
// can't have a third; each is told on its own.
func TestComparer(t *testing.T) {
	b, err := os.ReadFile("../cmd/nictune/testdata/hosts/lab-nics.txtar")
	if err != nil {
		t.Fatal(err)
	}
	host, err := kernel.ParseRecording(b)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Read(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	wanted, err := policies.Parse("edge.yaml", []byte(`apiVersion: nictune/v1
kind: TuningPolicy
name: edge
match: {name: [eth1, eth3]}
settings:
  rings: {rx: max}
  channels: {combined: 2}
  features: {rx-gro: on}
---
apiVersion: nictune/v1
kind: TuningPolicy
name: where-possible
match: {name: eth3}
settings:
  rss: {equal: 2}
  coalesce: {rx-usecs: 3, tx-usecs: 3}
  features: {rx-gro-list: on}
  private-flags: {no-such-flag: on}
optional: true
---
apiVersion: nictune/v1
kind: TuningPolicy
name: elsewhere
match: {driver: mlx5_core}
settings:
  rings: {rx: max}
---
apiVersion: nictune/v1
kind: TuningPolicy
name: fast
match: {name: [eth1, eth3], where: nic.link.speedMbps > 100000, speed: ">=1"}
settings:
  rings: {rx: max}
`))
	if err != nil {
		t.Fatal(err)
	}
	// A link that is down has no speed: whether it is a fast one can't be told.
	for i := range inv.NICs {
		if inv.NICs[i].Name == "eth3" {
			inv.NICs[i].Link.SpeedMbps = nil
		}
	}
	if wanted, err = policies.Bind(wanted, tuning.Catalogue(settings.All())); err != nil {
		t.Fatal(err)
	}
	compared, err := Comparer(host, settings.All(), wanted, nil, unwritten)(t.Context(), inv)
	if err != nil {
		t.Fatal(err)
	}
	drift := compared.Drift
	want := map[metrics.DriftedSetting]bool{
		{Policy: "edge", Device: "eth1", Setting: "rings", Drifted: true}: true,
		{Policy: "edge", Device: "eth1", Setting: "channels"}:             true,
		{Policy: "edge", Device: "eth1", Setting: "features"}:             true,
		{Policy: "edge", Device: "eth3", Setting: "rings", Drifted: true}: true,
		// e1000e has no channels.
		{Policy: "edge", Device: "eth3", Setting: "channels", Reason: inventory.Unsupported}: true,
		{Policy: "edge", Device: "eth3", Setting: "features"}:                                true,
		// What is optional and not there is neither drifted nor as wanted.
		{Policy: "where-possible", Device: "eth3", Setting: "coalesce"}:                true,
		{Policy: "where-possible", Device: "eth3", Setting: "features", Drifted: true}: true,
	}
	for _, got := range drift.Settings {
		if !want[got] {
			t.Errorf("%+v is not so", got)
		}
		delete(want, got)
	}
	for missing := range want {
		t.Errorf("%+v is missing", missing)
	}
	if want := []metrics.SkippedSetting{
		{Policy: "where-possible", Device: "eth3", Setting: "coalesce", Field: "tx-usecs"},
		{Policy: "where-possible", Device: "eth3", Setting: "private-flags"},
		{Policy: "where-possible", Device: "eth3", Setting: "rss"},
	}; !slices.Equal(drift.Skipped, want) {
		t.Errorf("skipped %+v, want %+v", drift.Skipped, want)
	}
	if drift.Matched["edge"] != 2 || drift.Matched["elsewhere"] != 0 || drift.Matched["fast"] != 0 || len(drift.Matched) != 4 {
		t.Errorf("matched %v", drift.Matched)
	}
	if drift.Shipped {
		t.Error("policies that were given are shown as shipped")
	}
	if want := []metrics.UndecidedMatch{{Policy: "fast", Device: "eth3"}}; !slices.Equal(drift.Undecided, want) {
		t.Errorf("undecided %v, want %v", drift.Undecided, want)
	}

	// An audit hears the same, with the NICs' identities and the values.
	said := map[string]audit.DriftSummary{}
	for _, s := range compared.Summaries {
		if s.NIC == "" || s.NIC == s.Name {
			t.Errorf("%+v names no NIC by what stays", s)
		}
		said[s.Policy+" "+s.Name+" "+s.Setting] = s
	}
	if len(said) != 11 {
		t.Errorf("it hears %+v", said)
	}
	for key, want := range map[string]string{
		"edge eth1 rings":    "drifted [rx: 256, wanted 4096] ",
		"edge eth1 channels": "as-wanted [] ",
		"edge eth3 channels": "impossible [] unsupported",
		"fast eth3 ":         "undecided [] ",

		"where-possible eth3 rss":           "skipped [] unsupported",
		"where-possible eth3 private-flags": "skipped [] unsupported",
		"where-possible eth3 coalesce":      "as-wanted [] ",
		"where-possible eth3 features":      "drifted [rx-gro-list: false, wanted true] ",
	} {
		if s := said[key]; fmt.Sprintf("%s %v %s", s.Status, s.Fields, s.Reason) != want || slices.Contains([]string{audit.Impossible, audit.Skipped, audit.Undecided}, s.Status) != (s.Detail != "") {
			t.Errorf("%s: it hears %+v, want %s", key, s, want)
		}
	}
	if s := said["where-possible eth3 coalesce"]; !slices.Equal(s.Skipped, []string{"tx-usecs: the device has no tx-usecs"}) {
		t.Errorf("of the part that was skipped it hears %+v", s)
	}
}

// Policies that contradict each other are no conflict while none of them is chosen,
// and what one wants says nothing of another.
func TestComparerOfEach(t *testing.T) {
	b, err := os.ReadFile("../cmd/nictune/testdata/hosts/lab-nics.txtar")
	if err != nil {
		t.Fatal(err)
	}
	host, err := kernel.ParseRecording(b)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Read(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: %s\nmatch: {name: eth1}\nsettings: {rings: {rx: %d}}\n"
	alternatives, err := policies.Parse("shipped.yaml", fmt.Appendf(nil, document+"---\n"+document, "as-it-is", 256, "larger", 512))
	if err == nil {
		alternatives, err = policies.Bind(alternatives, tuning.Catalogue(settings.All()))
	}
	if err != nil {
		t.Fatal(err)
	}
	compared, err := ComparerOfEach(host, settings.All(), alternatives, nil, unwritten)(t.Context(), inv)
	if err != nil {
		t.Fatal(err)
	}
	if want := []metrics.DriftedSetting{
		{Policy: "as-it-is", Device: "eth1", Setting: "rings"},
		{Policy: "larger", Device: "eth1", Setting: "rings", Drifted: true},
	}; !slices.Equal(compared.Drift.Settings, want) {
		t.Errorf("drift %+v", compared.Drift.Settings)
	}
	if !compared.Drift.Shipped {
		t.Error("alternatives are shown as given")
	}
	if !maps.Equal(compared.Drift.Matched, map[string]int{"as-it-is": 1, "larger": 1}) || len(compared.NICs) != 0 {
		t.Errorf("matched %v, to put right %v", compared.Drift.Matched, compared.NICs)
	}
}

// unwritten is the history of a host that nictune never changed.
func unwritten() ([]tuning.Transaction, error) { return nil, nil }
