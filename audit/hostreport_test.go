package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/sriov"
)

//go:generate go test -run TestGoldenReports -update .

// recordedReport is the report of a host that was recorded in the lab.
func recordedReport(t testing.TB, name string) *HostReport {
	t.Helper()
	data, err := os.ReadFile("../cmd/nictune/testdata/hosts/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	replay, err := kernel.ParseRecording(data)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Gather(t.Context(), replay, Groups(), 0, inventory.NewModules())
	if err != nil {
		t.Fatal(err)
	}
	e.CollectedAt = replay.Header().Recorded
	r := NewHostReport(e, Judge(e, Groups()), Rules())
	r.Version = "v0.0.0-test"
	return r
}

func encoded(t testing.TB, r *HostReport) []byte {
	t.Helper()
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// The reports in testdata are those of the recorded hosts, the same bytes each time,
// and survive being read and written again.
func TestGoldenReports(t *testing.T) {
	for _, name := range []string{"lab-nics", "lab-numa", "lab-vfs"} {
		file := "testdata/reports/" + name + ".json"
		got := encoded(t, recordedReport(t, name))
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run go generate ./audit", file)
		}
		r, err := ReadHostReport(iotest.OneByteReader(bytes.NewReader(want)))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if again := encoded(t, r); !bytes.Equal(again, want) {
			t.Errorf("%s is another report when it was read", file)
		}
	}
}

// The order of a report doesn't depend on the order in which devices were found, as
// it is another after each start.
func TestReportOrderStays(t *testing.T) {
	data, err := os.ReadFile("../cmd/nictune/testdata/hosts/lab-vfs.txtar")
	if err != nil {
		t.Fatal(err)
	}
	replay, err := kernel.ParseRecording(data)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Gather(t.Context(), replay, Groups(), 0, inventory.NewModules())
	if err != nil {
		t.Fatal(err)
	}
	first := encoded(t, NewHostReport(e, Judge(e, Groups()), Rules()))
	slices.Reverse(e.NICs)
	slices.Reverse(e.PFs)
	if second := encoded(t, NewHostReport(e, Judge(e, Groups()), Rules())); !bytes.Equal(first, second) {
		t.Error("the report depends on the order of the devices")
	}
}

func TestReportTellsOfNICs(t *testing.T) {
	r := recordedReport(t, "lab-vfs")
	i := slices.IndexFunc(r.NICs, func(n NICSummary) bool { return n.SRIOV != nil && len(n.SRIOV.VFs) > 0 })
	if i < 0 {
		t.Fatal("no NIC has VFs")
	}
	pf := &r.NICs[i]
	if pf.Kind != inventory.PF || pf.PCI == nil || pf.Driver != "igb" || pf.Link.MaxSpeedMbps == nil || *pf.Link.MaxSpeedMbps != 1000 {
		t.Errorf("the PF is %+v", pf)
	}
	if *pf.SRIOV.NumVFs != len(pf.SRIOV.VFs) || pf.SRIOV.VFs[0].Address == "" || pf.SRIOV.VFs[0].MAC == "" || pf.SRIOV.VFs[0].IOMMU == nil {
		t.Errorf("its VFs are %+v", pf.SRIOV)
	}
	if len(pf.Readiness) != 7 || pf.Readiness["sriov-host"] == "" {
		t.Errorf("it is ready for %v", pf.Readiness)
	}
	if tightest := pf.PCI.Tightest; tightest == nil || tightest.CarriesGBs <= tightest.UsableGBs {
		t.Errorf("its tightest link is %+v", tightest)
	}
	total := 0
	for _, n := range r.Counts {
		total += n
	}
	if total != len(r.Findings) || len(r.Rules) == 0 || r.Host.Name == "" || len(r.Host.NUMANodes) == 0 {
		t.Errorf("%d findings counted of %d, %d rules, host %+v", total, len(r.Findings), len(r.Rules), r.Host)
	}
}

func TestModuleMargins(t *testing.T) {
	dBm := func(mW, dBm float64) module.Level { return module.Level{Value: mW, Unit: "mW", DBm: &dBm} }
	r := &module.Range{HighAlarm: dBm(2, 3), LowAlarm: dBm(0.1, -10), HighWarning: dBm(1, 0), LowWarning: module.Level{Unit: "mW"}}
	m := held("rx-power", 2, &module.Monitor{Level: dBm(0.05, -13.0103), Verdict: "low-alarm"}, r)
	if *m.Value != -13.01 || m.Unit != "dBm" || m.Lane != 2 || m.Verdict != "low-alarm" {
		t.Errorf("measured %+v", m)
	}
	if g := m.Margins; *g.LowAlarm != -3.01 || *g.HighAlarm != 16.01 || *g.HighWarning != 13.01 || g.LowWarning != nil {
		t.Errorf("margins %+v", g)
	}
	if dark := held("rx-power", 1, &module.Monitor{Level: module.Level{Unit: "mW"}, Light: "dark", Verdict: "low-alarm"}, r); dark.Value != nil || dark.Margins != nil {
		t.Errorf("no light is %+v", dark)
	}
	warm := module.Range{HighAlarm: module.Level{Value: 75, Unit: "°C"}, LowAlarm: module.Level{Value: -5, Unit: "°C"}}
	if m := held("temperature", 0, &module.Monitor{Level: module.Level{Value: 40.5, Unit: "°C"}}, &warm); *m.Margins.HighAlarm != 34.5 || *m.Margins.LowAlarm != 45.5 {
		t.Errorf("margins %+v", m.Margins)
	}
}

// Who uses a VF is unknown where that could not be read, which an empty list doesn't say.
func TestUnreadUsersOfVFs(t *testing.T) {
	hidden := inventory.Unread{Fact: "users", Reason: inventory.Denied, Detail: "3 processes don't show us their open files"}
	s := vfSummaries(&sriov.PF{VFs: []sriov.VF{
		{Index: 0, Unread: []inventory.Unread{{Fact: "msix", Reason: inventory.Denied}}},
		{Index: 1, Unread: []inventory.Unread{{Fact: "msix", Reason: inventory.Denied}, hidden}},
	}})
	if s.VFs[0].UsersUnread != "" || s.VFs[1].UsersUnread != "users: denied: 3 processes don't show us their open files" {
		t.Errorf("%+v", s.VFs)
	}
}

// small is the least report that is one.
const small = `{"apiVersion":"nictune/v1","kind":"AuditReport","collectedAt":"2026-11-23T03:00:00Z","host":{"name":"a","cpus":{}},
"counts":{"fail":1},"rules":[],"nics":[{"id":"0000:3b:00.0","kind":"pf","link":{"speedMbps":10000}}],
"findings":[{"rule":"link/eee","severity":"info","status":"fail","subject":{"id":"0000:3b:00.0"},"title":"x"}],"newer":{"than":"this"}}`

// What is no whole report is refused, and says why.
func TestReportsThatAreNone(t *testing.T) {
	if r, err := ParseHostReport([]byte(small)); err != nil || len(r.Findings) != 1 {
		t.Fatalf("the small one: %v", err)
	}
	for _, c := range []struct{ old, new, want string }{
		{small, "", "it is empty"},
		{small, "null", `of kind ""`},
		{small, "[]", "it is a JSON array, and a report is an object (line 1)"},
		{small, "\x1f\x8b\x08\x00", "unpack it first"},
		{small, small + small, "invalid character '{' after top-level value (line 3)"},
		{small, small[:len(small)/2], "it was cut short"},
		{"AuditReport", "Findings", `of kind "Findings", not AuditReport`},
		{"nictune/v1", "nictune/v9", `its version is "nictune/v9"`},
		{`"collectedAt":"2026-11-23T03:00:00Z",`, "", "when it was collected"},
		{`2026-11-23T03`, "yesterday", "parsing time"},
		{`"counts":{"fail":1}`, `"counts":{}`, "it counts 0 findings of status fail and lists 1"},
		{`"counts":{"fail":1}`, `"counts":{"fail":1,"pass":400}`, "it counts 400 findings of status pass and lists 0"},
		{`"findings":[`, `"other":[`, "no list of findings"},
		{`"rule":"link/eee"`, `"rule":"a\nb"`, `"a\nb" is no rule`},
		{`"severity":"info"`, `"severity":"mild"`, `unknown severity "mild"`},
		{`"status":"fail"`, `"status":"healthy"`, `unknown status "healthy"`},
		{`"status":"fail"`, `"status":"waived"`, "without a waiver"},
		{`"subject":{"id":"0000:3b:00.0"}`, `"subject":{}`, "names no subject"},
		{`"nics":[{"id":"0000:3b:00.0"`, `"nics":[{"id":""`, "NIC 1 has no id"},
		{`"speedMbps":10000`, `"speedMbps":-1`, "speed below zero"},
		{`"speedMbps":10000`, `"speedMbps":"fast"`, "nics.link.speedMbps can't be a JSON string (line 2)"},
		{`"link":{`, `"readiness":{"l4lb":"yes"},"link":{`, `for "l4lb" it is "yes"`},
		{`"newer":`, `"drift":[{"policy":"p","nic":"x","status":"fine"}],"newer":`, `unknown status "fine"`},
		{`"newer":`, `"drift":[` + strings.Repeat("{},", 2000) + `{}],"newer":`, "objects in"},
		{`"newer":`, `"drift":[` + strings.Repeat("null,", 2000) + `null],"newer":`, "objects in"},
		{`"newer":`, `"watchedSeconds":-2,"newer":`, "watched for -2 seconds"},
	} {
		text := strings.Replace(small, c.old, c.new, 1)
		if text == small {
			t.Errorf("%q is not in it", c.old)
		}
		_, err := ReadHostReport(strings.NewReader(text))
		if !errors.Is(err, ErrHostReport) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %q for %q: %v, want %q", c.new, c.old, err, c.want)
		}
	}
	if _, err := ReadHostReport(iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that can't be read: %v", err)
	}
	// It is not read to its end: there may be none.
	endless := io.MultiReader(strings.NewReader(`{"kind":"`), spaces{})
	if _, err := readAtMost(endless, 1<<20); !errors.Is(err, ErrHostReport) || !strings.Contains(err.Error(), "more than 1 MiB") {
		t.Errorf("an endless one: %v", err)
	}
	if data, err := readAtMost(strings.NewReader("whole"), 5); err != nil || string(data) != "whole" {
		t.Errorf("one that is as long as may be: %q, %v", data, err)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func FuzzParseHostReport(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(small[:100]))
	f.Add([]byte(`{"apiVersion":"nictune/v1","kind":"AuditReport","collectedAt":"2026-11-23T03:00:00Z","findings":[],"counts":null,"drift":[{"policy":"p","nic":"host","status":"drifted"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseHostReport(data)
		if err != nil {
			if r != nil {
				t.Error("an error, and a report")
			}
			return
		}
		// What was read can be written, and is the same when it is read again.
		written, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseHostReport(written)
		if err != nil {
			t.Fatalf("%v of %s", err, written)
		}
		rewritten, err := json.Marshal(again)
		if err != nil || !bytes.Equal(written, rewritten) {
			t.Errorf("%v: %s became %s", err, written, rewritten)
		}
		d := Compare(r, again)
		if len(d.New)+len(d.Fixed)+len(d.Gone)+len(d.Unclear) > 0 {
			t.Errorf("it differs from itself: %+v", d)
		}
	})
}

// What changed is told by what stays: the address, whatever the device is called.
func TestCompare(t *testing.T) {
	finding := func(rule string, status findings.Status, id, name string) findings.Finding {
		return findings.Finding{Rule: rule, Severity: findings.Warning, Status: status, Subject: findings.Subject{ID: id, Name: name}}
	}
	const a, b = "0000:3b:00.0/52:54:00:00:00:01", "0000:3b:00.1/52:54:00:00:00:02"
	earlier := &HostReport{CollectedAt: time.Unix(1, 0), Findings: []findings.Finding{
		finding("link/eee", findings.Fail, a, "eth0"),
		finding("link/fec", findings.Fail, a, "eth0"),
		finding("link/half-duplex", findings.Pass, a, "eth0"),
		finding("link/loss", findings.Fail, a, "eth0"),
		finding("link/eee", findings.Fail, b, "eth1"),
		finding("link/gone", findings.Waived, a, "eth0"),
		finding("link/fec", findings.Waived, b, "eth1"),
		finding("user/a", findings.Unknown, a, "eth0"),
		finding("user/b", findings.Pass, b, "eth1"),
		finding("link/errors", findings.Fail, a, "eth0"),
		finding("link/speed", findings.Waived, a, "eth0"),
	}}
	later := &HostReport{Findings: []findings.Finding{
		finding("link/eee", findings.Fail, a, "uplink"),
		finding("link/fec", findings.Pass, a, "uplink"),
		finding("link/half-duplex", findings.Fail, a, "uplink"),
		finding("link/loss", findings.Unknown, a, "uplink"),
		finding("link/gone", findings.Fail, a, "uplink"),
		finding("user/a", findings.Fail, a, "uplink"),
		finding("link/new", findings.Pass, a, "uplink"),
		finding("link/errors", findings.NotApplicable, a, "uplink"),
		finding("link/speed", findings.NotApplicable, a, "uplink"),
	}}
	d := Compare(earlier, later)
	rules := func(changes []Change) string {
		var all []string
		for _, c := range changes {
			all = append(all, c.Rule+" "+string(c.Was)+">"+string(c.Is))
		}
		return strings.Join(all, ", ")
	}
	for _, c := range []struct {
		got  []Change
		want string
	}{
		{d.New, "link/half-duplex pass>fail, link/gone waived>fail, user/a unknown>fail"},
		{d.Fixed, "link/fec fail>pass"},
		{d.Unchanged, "link/eee fail>fail"},
		{d.NotApplicable, "link/errors fail>not-applicable, link/speed waived>not-applicable"},
		{d.Unclear, "link/loss fail>unknown"},
		{d.Gone, "link/eee fail>, link/fec waived>"},
	} {
		if got := rules(c.got); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// Ports of a switch share an address and have none of their own.
func TestKeysAreDifferent(t *testing.T) {
	port := func(name string) findings.Finding {
		return findings.Finding{Rule: "link/eee", Subject: findings.Subject{ID: "0000:3b:00.0", Name: name}}
	}
	keys := Keys([]findings.Finding{port("pf0vf0"), port("pf0vf1"), port("x"), port("x")})
	slices.Sort(keys)
	if len(slices.Compact(keys)) != 4 {
		t.Errorf("%q", keys)
	}
}
