package fleet

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

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
		} else {
			standing(h, "link/slow", findings.Pass)
		}
		if i < 2 {
			failing("pcie/too-narrow", findings.Warning)(h)
		}
		h.Drift = []Drift{{Policy: "edge", NIC: "a", Setting: "rings", Status: audit.AsWanted}}
	})...)
	now := reportOf(t, Options{Expected: expected}, fleetOf(20, func(i int, h *Host) {
		if i < 2 {
			failing("link/slow", findings.Warning)(h)
		} else {
			standing(h, "link/slow", findings.Pass)
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
		word := trend(c)
		got = append(got, fmt.Sprintf("%s %s %s %d/%d %d/%d %s", word, c.Section, c.Name, c.Before, c.BeforeOf, c.Now, c.NowOf, strings.Join(c.Hosts, ",")))
	}
	want := []string{
		"worse hosts missing 0/0 1/0 gone",
		"worse rules link/module-alarm 0/10 5/20 ",
		"worse drift edge 0/10 1/20 ",
		"worse hosts unexpected 8/0 18/0 host-10,host-11,host-12,host-13,host-14,host-15,host-16,host-17,host-18,host-19",
		"unclear rules pcie/too-narrow 2/10 4/20 ",
		"better hosts counted 10/0 20/0 ",
		"better rules link/slow 4/10 2/20 ",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d.Worse != 4 || d.Better != 2 || d.Unclear != 1 || d.HostsBefore != 10 || d.HostsNow != 20 {
		t.Errorf("%+v", d)
	}
	if same := Compare(now, now, 0); same.Worse+same.Better+same.Unclear != 0 || same.Changes == nil {
		t.Errorf("a report differs from itself: %+v", same)
	}
	if short := Compare(before, now, 2); len(short.Changes) != 2 || short.LeftOut != 5 {
		t.Errorf("%d changes, %d left out", len(short.Changes), short.LeftOut)
	}
}

// standing gives a host a verdict.
func standing(h *Host, rule string, status findings.Status) {
	h.Verdicts = append(h.Verdicts, Verdict{Rule: rule, Severity: findings.Warning, Status: status, Subjects: 1})
}

func trend(c Change) string {
	switch {
	case c.Worse:
		return "worse"
	case c.Unclear:
		return "unclear"
	}
	return "better"
}

// What fails on fewer hosts is better only where something was mended, and not where its
// hosts are missing, can't be judged, or the rule doesn't apply to them any more.
func TestCompareTakesNothingForMended(t *testing.T) {
	const rule = "link/errors"
	hosts := func(n int, status func(i int) findings.Status) []Host {
		var all []Host
		for i := range n {
			h := host(fmt.Sprintf("host-%02d", i))
			standing(&h, rule, status(i))
			all = append(all, h)
		}
		return all
	}
	// Hosts 0 to 3 of ten failed; of these, 0 and 1 are another now.
	now := func(n int, is findings.Status) []Host {
		return hosts(n, func(i int) findings.Status {
			switch {
			case i < 2:
				return is
			case i < 4:
				return findings.Fail
			}
			return findings.Pass
		})
	}
	before := now(10, findings.Fail)
	var expected []string
	for _, h := range now(20, findings.Pass) {
		expected = append(expected, h.Name)
	}
	old := func(all []Host, n int) []Host {
		for i := range n {
			all[i].CollectedAt = all[i].CollectedAt.Add(-48 * time.Hour)
		}
		return all
	}
	for name, step := range map[string]struct {
		now  []Host
		want string
	}{
		"mended":                             {now(10, findings.Pass), "better"},
		"mended, and the fleet grew":         {now(20, findings.Pass), "better"},
		"does not apply":                     {now(10, findings.NotApplicable), "unclear"},
		"does not apply, and the fleet grew": {now(20, findings.NotApplicable), "unclear"},
		"unknown":                            {now(10, findings.Unknown), "unclear"},
		"not read":                           {now(10, findings.Error), "unclear"},
		"waived":                             {now(10, findings.Waived), "unclear"},
		"missing":                            {now(10, findings.Pass)[2:], "unclear"},
		"missing, and the fleet grew":        {now(20, findings.Pass)[2:], "unclear"},
		"stale":                              {old(now(20, findings.Pass), 2), "unclear"},
		"judged by no such rule":             {nil, "unclear"},
	} {
		o := Options{Expected: expected[:10], MaxAge: 24 * time.Hour}
		was := reportOf(t, o, before...)
		if step.now == nil {
			step.now = hosts(10, func(int) findings.Status { return findings.Pass })
			for i := range step.now {
				step.now[i].Verdicts = nil
			}
		}
		d := Compare(was, reportOf(t, o, step.now...), 0)
		i := slices.IndexFunc(d.Changes, func(c Change) bool { return c.Name == rule })
		if i < 0 || trend(d.Changes[i]) != step.want {
			t.Errorf("%s: %+v, want %s", name, d.Changes, step.want)
		}
	}
}

// The same of figures that no rule is behind: links that are down are not below their
// maximum any more, and nobody mended them.
func TestCompareLinksThatAreDown(t *testing.T) {
	fleetOf := func(carrier bool, speed int) *Report {
		var all []Host
		for i := range 4 {
			h := host(fmt.Sprintf("host-%d", i))
			h.NICs = []NIC{{ID: "a", Device: "eth0", Carrier: new(true), SpeedMbps: new(10000), MaxSpeedMbps: new(10000)}}
			if i == 0 {
				h.NICs[0].Carrier, h.NICs[0].SpeedMbps = &carrier, &speed
			}
			all = append(all, h)
		}
		return reportOf(t, Options{}, all...)
	}
	before := fleetOf(true, 1000)
	for want, now := range map[string]*Report{"unclear": fleetOf(false, 0), "better": fleetOf(true, 10000)} {
		d := Compare(before, now, 0)
		i := slices.IndexFunc(d.Changes, func(c Change) bool { return c.Name == "below maximum" })
		if i < 0 || trend(d.Changes[i]) != want {
			t.Errorf("%+v, want it %s", d.Changes, want)
		}
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
		`{"apiVersion":"nictune/v1","kind":"Fle`:                     "it ends before it is whole, after 38 bytes",
		` `:                                                          "it is empty",
	} {
		if _, err := Decode(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		} else if errors.Is(err, ErrNoFleetReport) != strings.Contains(text, "AuditReport") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
