package fleet

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// What got worse comes first, the gravest first; a fleet that grew is no change for the
// worse while the share stays.
func TestCompare(t *testing.T) {
	fleetOf := func(n int, change func(i int, h *Host)) []Host {
		var all []Host
		for i := range n {
			h := host(fmt.Sprintf("host-%02d", i))
			change(i, &h)
			all = append(all, h)
		}
		return all
	}
	expected := []string{"host-00", "host-01", "gone"}
	before := reportOf(t, Options{Expected: expected[:2]}, fleetOf(10, func(i int, h *Host) {
		if i < 4 {
			failing("link/slow", findings.Warning)(h)
		}
		if i < 2 {
			failing("pcie/too-narrow", findings.Warning)(h)
		}
		h.Drift = []Drift{{Policy: "edge", NIC: "a", Setting: "rings", Status: audit.AsWanted}}
	})...)
	now := reportOf(t, Options{Expected: expected}, fleetOf(20, func(i int, h *Host) {
		if i < 2 {
			failing("link/slow", findings.Warning)(h)
		}
		if i < 4 {
			failing("pcie/too-narrow", findings.Warning)(h)
		}
		if i < 5 {
			failing("link/module-alarm", findings.Critical)(h)
		}
		h.Drift = []Drift{{Policy: "edge", NIC: "a", Setting: "rings", Status: audit.AsWanted}}
		if i == 0 {
			h.Drift[0].Status = audit.Drifted
		}
	})...)
	d := Compare(before, now, 0)
	var got []string
	for _, c := range d.Changes {
		word := "better"
		if c.Worse {
			word = "worse"
		}
		got = append(got, fmt.Sprintf("%s %s %s %d/%d %d/%d %s", word, c.Section, c.Name, c.Before, c.BeforeOf, c.Now, c.NowOf, strings.Join(c.Hosts, ",")))
	}
	want := []string{
		"worse hosts missing 0/0 1/0 gone",
		"worse rules link/module-alarm 0/10 5/20 ",
		"worse drift edge 0/10 1/20 ",
		"worse hosts unexpected 8/0 18/0 host-10,host-11,host-12,host-13,host-14,host-15,host-16,host-17,host-18,host-19",
		"better hosts counted 10/0 20/0 ",
		"better rules link/slow 4/10 2/20 ",
		"better rules pcie/too-narrow 2/10 4/20 ",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d.Worse != 4 || d.Better != 3 || d.HostsBefore != 10 || d.HostsNow != 20 {
		t.Errorf("%+v", d)
	}
	if same := Compare(now, now, 0); same.Worse+same.Better != 0 || same.Changes == nil {
		t.Errorf("a report differs from itself: %+v", same)
	}
	if short := Compare(before, now, 2); len(short.Changes) != 2 || short.LeftOut != 5 {
		t.Errorf("%d changes, %d left out", len(short.Changes), short.LeftOut)
	}
}

// A report comes back from JSON as it was; other documents are refused in so many words.
func TestDecode(t *testing.T) {
	r := reportOf(t, Options{Expected: []string{"x"}, Host: ""}, host("a", failing("link/slow", findings.Warning)), host("b"))
	back, err := Decode(strings.NewReader(compact(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := compact(t, back), compact(t, r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for text, want := range map[string]string{
		`{"apiVersion":"nictune/v1","kind":"AuditReport","rules":3}`: `kind "AuditReport", wanted "FleetReport"`,
		`{"apiVersion":"nictune/v9","kind":"FleetReport"}`:           `apiVersion "nictune/v9": this nictune reads "nictune/v1"`,
		`{"apiVersion":"nictune/v1","kind":"FleetReport","rules":3}`: "/rules",
		`{"apiVersion":"nictune/v1","kind":"Fle`:                     "unexpected EOF",
		``:                                                           "EOF",
	} {
		if _, err := Decode(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		} else if errors.Is(err, ErrNoFleetReport) != strings.Contains(text, "AuditReport") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
