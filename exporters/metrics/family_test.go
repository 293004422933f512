package metrics

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nictune/nictune/inventory"
)

// gathered is what an exporter shows of a metric: labels, in their order, and
// value.
func gathered(t *testing.T, e *Exporter, name string) (all []string) {
	t.Helper()
	families, err := prometheus.Gatherers{e}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			all = append(all, fmt.Sprint(strings.Join(labels, " "), " ", m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	return all
}

// Samples are kept by their place, and devices come, go and change places.
func TestSamplesFollowTheirDevices(t *testing.T) {
	var s Snapshot
	e := exporter(t, func() Snapshot { return s })
	for _, names := range [][]string{{"a", "b", "c"}, {"a", "c"}, {}, {"c", "a", "d", "b"}, {"b", "d"}, {"b", "d", "b"}, {"b", "d", "e"}} {
		s.Statistics = nil
		want := map[string]bool{}
		for i, name := range names {
			one := inventory.Statistics{Name: name, Index: i, Values: make([]uint64, 25)}
			one.Values[0] = uint64(name[0])
			s.Statistics = append(s.Statistics, one)
			want[fmt.Sprint(name, " ", name[0])] = true
		}
		got := gathered(t, e, "nictune_network_receive_packets_total")
		for _, one := range got {
			if !want[one] {
				t.Errorf("%v: there is a %q", names, one)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%v: %q", names, got)
		}
	}
}

// Families with the same devices share their names; what one of them does then is none of
// the other's business.
func TestFamiliesThatShareLabels(t *testing.T) {
	for _, later := range [][]string{{"a", "x", "c"}, {"a", "b", "c", "d"}, {"a"}, {}, {"b", "c", "a"}, {"a", "b", "c"}} {
		still, other := newFamily(Metric{Name: "still", Labels: []string{"device"}}), newFamily(Metric{Name: "other", Labels: []string{"device"}})
		collect := func(f *family, labels *seen, devices ...string) {
			f.begin()
			for i, device := range devices {
				f.set(float64(i), device)
			}
			f.end(labels)
		}
		var first, second seen
		for _, f := range []*family{still, other} {
			collect(f, &first, "a", "b", "c")
		}
		if &still.labels[0] != &other.labels[0] {
			t.Error("each keeps the names for itself")
		}
		collect(other, &second, later...)
		if got := fmt.Sprint(other.labels); got != fmt.Sprint(later) {
			t.Errorf("%s instead of %s", got, later)
		}
		for range 2 { // also once it is told the same again
			if got := fmt.Sprint(still.labels); got != "[a b c]" {
				t.Errorf("after %s of another the labels are %s", later, got)
			}
			collect(still, &second, "a", "b", "c")
		}
	}
}

// A collector whose part of the snapshot is the same is not asked again.
func TestOnlyWhatChangedIsRendered(t *testing.T) {
	s := example()
	e := exporter(t, func() Snapshot { return s })
	gathered(t, e, "")
	s.Inventory.NICs[0].Name = "written over" // which nobody may
	if got := gathered(t, e, "nictune_network_mtu_bytes"); len(got) != 1 || got[0] != "eth0 1500" {
		t.Errorf("it was rendered again: %q", got)
	}
	again := *s.Inventory
	s.Inventory = &again
	if got := gathered(t, e, "nictune_network_mtu_bytes"); len(got) != 1 || got[0] != "written over 1500" {
		t.Errorf("it was not rendered again: %q", got)
	}
	s.Inventory = nil
	if got := gathered(t, e, "nictune_network_mtu_bytes"); got != nil {
		t.Errorf("there are no facts, and %q", got)
	}
}

func TestLimitAndFilter(t *testing.T) {
	e := exporter(t, example, Options{Limit: 30})
	if got := gathered(t, e, "nictune_scrape_series_cut"); !slices.Contains(got, "statistics 5") || !slices.Contains(got, "nic 0") {
		t.Errorf("cut: %q", got)
	}
	if got := gathered(t, e, "nictune_network_receive_packets_total"); len(got) != 2 {
		t.Errorf("the limit is 30, and %q", got)
	}
	e = exporter(t, example, Options{Devices: Filter{Kind: Match{Include: regexp.MustCompile("virtual")}}, Collectors: map[string]bool{"policy": false}})
	for name, want := range map[string]string{
		"nictune_network_receive_packets_total": "[tun0 1]", "nictune_policy_setting_drifted": "[]", "nictune_reconcile_held": "[]",
		"nictune_network_mtu_bytes": "[]", "nictune_reconcile_info": "[enforce 1]", "nictune_scrape_series_cut": "[]",
	} {
		if got := fmt.Sprint(gathered(t, e, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, filter := range map[string]Filter{
		"[eth0 1]": {Driver: Match{Include: regexp.MustCompile("^igb$")}},
		"[tun0 1]": {Driver: Match{Exclude: regexp.MustCompile("^igb$")}},
		"[]":       {Kind: Match{Exclude: regexp.MustCompile("^pf$")}, Device: Match{Exclude: regexp.MustCompile("^tun")}},
	} {
		e := exporter(t, example, Options{Devices: filter})
		for range 2 {
			if got := fmt.Sprint(gathered(t, e, "nictune_network_receive_packets_total")); got != name {
				t.Errorf("%+v: %s, want %s", filter, got, name)
			}
		}
	}
	if got := e.Enabled(); !slices.Contains(got, "reconcile") || slices.Contains(got, "policy") || slices.Contains(got, "scrape") {
		t.Errorf("enabled: %s", got)
	}
	if _, err := New(nil, Options{Collectors: map[string]bool{"scrape": false}}); err == nil {
		t.Error("how the scrape went can be switched off")
	}
}

// Two names that are no UTF-8 look the same once they are repaired: one is shown.
func TestRepairedLabelsAreShownOnce(t *testing.T) {
	s := Snapshot{Counted: &inventory.Sample{Devices: []inventory.DeviceSample{{
		Name: "eth0", Set: &inventory.CounterSet{Names: []string{"a\xff", "a\xfe", "b"}}, Driver: []uint64{1, 2, 3},
	}}}}
	e := exporter(t, func() Snapshot { return s })
	got := gathered(t, e, "nictune_driver_statistic_total")
	if want := []string{"a\uFFFD eth0 1", "b eth0 3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A fingerprint is that of what is shown: the same for the same samples in any order, another
// as soon as one differs, also where a limit or a filter of devices makes the difference.
func TestFingerprintsTellSamplesApart(t *testing.T) {
	of := func(options Options, counts map[RuleStatus]int, ready ...XDPOf) string {
		e, err := New(func(Asked) Snapshot { return Snapshot{Findings: &Findings{Counts: counts}, XDP: &XDP{NICs: ready}} }, options)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(gathered(t, e, "nictune_rule_findings_fingerprint"), gathered(t, e, "nictune_xdp_ready_fingerprint"))
	}
	passes := func(n int) map[RuleStatus]int {
		return map[RuleStatus]int{{"link/down", "critical", "pass"}: n, {"link/slow", "warning", "pass"}: 7 - n}
	}
	is := func(device string, ready bool) XDPOf {
		return XDPOf{Device: device, Ready: []XDPReady{{"l4lb", ready}}}
	}
	base := of(Options{}, passes(4), is("eth0", true), is("eth1", false))
	if again := of(Options{}, passes(4), is("eth1", false), is("eth0", true)); again != base {
		t.Errorf("the order makes a difference: %s, %s", base, again)
	}
	all := map[string]string{base: "the first"}
	for name, other := range map[string]string{
		"counts that changed places":  of(Options{}, passes(3), is("eth0", true), is("eth1", false)),
		"readiness that did":          of(Options{}, passes(4), is("eth0", false), is("eth1", true)),
		"another status":              of(Options{}, map[RuleStatus]int{{"link/down", "critical", "fail"}: 4, {"link/slow", "warning", "pass"}: 3}, is("eth0", true), is("eth1", false)),
		"none":                        of(Options{}, nil),
		"a device that is not shown":  of(Options{Devices: Filter{Device: Match{Exclude: regexp.MustCompile("eth1")}}}, passes(4), is("eth0", true), is("eth1", false)),
		"a limit of one for a family": of(Options{Limit: 1}, passes(4), is("eth0", true), is("eth1", false)),
	} {
		if same := all[other]; same != "" {
			t.Errorf("%s has the fingerprint of %s: %s", name, same, other)
		}
		all[other] = name
	}
}
