package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

var testNow = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// host makes one with a NIC and what the changes make of it.
func host(name string, changes ...func(*Host)) Host {
	h := Host{
		Name: name, MachineID: "machine of " + name, Source: name + ".json", CollectedAt: testNow.Add(-10 * time.Minute),
		Verdicts: []Verdict{{"link/down", findings.Warning, findings.Pass, 1}},
		NICs:     []NIC{{ID: "0000:3b:00.0/a", Device: "eth0", Address: "0000:3b:00.0", Kind: "pf", Model: "E810", Driver: "ice", Firmware: "4.20"}},
	}
	for _, change := range changes {
		change(&h)
	}
	return h
}

// failing makes a rule fail on the host's NIC.
func failing(rule string, severity findings.Severity) func(*Host) {
	return func(h *Host) {
		h.Verdicts = append(h.Verdicts, Verdict{rule, severity, findings.Fail, 1})
		h.Findings = append(h.Findings, Finding{Rule: rule, Severity: severity, Status: findings.Fail, NIC: h.NICs[0].ID, Device: "eth0", Title: "it fails"})
	}
}

// reportOf aggregates hosts.
func reportOf(t *testing.T, o Options, hosts ...Host) *Report {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = testNow
	}
	o.SpoolDir = t.TempDir()
	a := NewAggregate(o)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, h := range hosts {
		if err := a.Add(&h); err != nil {
			t.Fatal(err)
		}
	}
	r, err := a.Report()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func names(l NameList) []string {
	var all []string
	for _, h := range l.Hosts {
		all = append(all, h.Name)
	}
	return all
}

// Hosts that are missing, stale or of a time that is yet to come are named, and nothing
// that they once said is counted.
func TestAbsentHostsAreNamedAndNeverPass(t *testing.T) {
	stale := host("stale", failing("link/slow", findings.Critical), func(h *Host) { h.CollectedAt = testNow.Add(-2 * time.Hour) })
	early := host("early", func(h *Host) { h.CollectedAt = testNow.Add(time.Hour) })
	r := reportOf(t, Options{MaxAge: time.Hour, Expected: []string{"here", "stale", "early", "gone", "gone"}}, host("here"), stale, early, host("other"))
	s := r.Scope
	for what, c := range map[string]struct {
		list NameList
		want []string
	}{
		"missing": {s.Missing, []string{"gone"}}, "stale": {s.Stale, []string{"stale"}},
		"ahead": {s.Ahead, []string{"early"}}, "unexpected": {s.Unexpected, []string{"other"}},
	} {
		if got := names(c.list); !slices.Equal(got, c.want) || c.list.Count != len(c.want) {
			t.Errorf("%s: %q (%d), want %q", what, got, c.list.Count, c.want)
		}
	}
	if s.Hosts != 2 || *s.Expected != 4 || r.Counts[findings.Pass] != 2 || r.Counts[findings.Fail] != 0 {
		t.Errorf("hosts %d, expected %d, counts %v", s.Hosts, *s.Expected, r.Counts)
	}
	if *s.Stale.Hosts[0].Failing != 1 {
		t.Error("what the stale host last said is forgotten")
	}
	if r.Problems.Counts[ClockAhead] != 1 {
		t.Errorf("problems: %+v", r.Problems)
	}
	if !r.Failed(findings.Critical) {
		t.Error("a fleet with hosts missing is clean")
	}
	if r := reportOf(t, Options{MaxAge: time.Hour, Expected: []string{"here"}}, host("here")); r.Failed(findings.Info) {
		t.Error("a fleet where nothing fails is not clean")
	}
}

// Of a host's reports the newest counts, whenever it is read; hosts of one name are told
// apart by their machine.
func TestNewestReportCounts(t *testing.T) {
	old := host("web", failing("link/slow", findings.Warning), func(h *Host) { h.CollectedAt = testNow.Add(-time.Hour); h.Source = "old" })
	now := host("web", func(h *Host) { h.Source = "new" })
	again := now
	twin := host("web", func(h *Host) { h.MachineID = "another"; h.Source = "twin" })
	for _, hosts := range [][]Host{{old, now, again, twin}, {twin, now, old, again}, {now, again, twin, old}} {
		r := reportOf(t, Options{}, hosts...)
		if r.Scope.Hosts != 2 || r.Scope.Superseded != 2 || r.Counts[findings.Fail] != 0 || r.Counts[findings.Pass] != 2 {
			t.Errorf("%d hosts, %d superseded, counts %v", r.Scope.Hosts, r.Scope.Superseded, r.Counts)
		}
		if got := r.Problems.Counts; got[Repeated] != 2 || got[SameName] != 2 {
			t.Errorf("problems %v", got)
		}
		if p := r.Problems.List[0]; p.Kind != SameName || p.Host != "web" || !strings.Contains(p.Detail, "machine") {
			t.Errorf("problem %+v", p)
		}
	}
}

// A report of a clock that was ahead doesn't hide a later one for ever.
func TestClockAheadLoses(t *testing.T) {
	early := host("web", func(h *Host) { h.CollectedAt = testNow.Add(365 * 24 * time.Hour); h.Source = "early" })
	earlier := host("web", func(h *Host) { h.CollectedAt = testNow.Add(time.Hour); h.Source = "earlier" })
	now := host("web", failing("link/slow", findings.Warning))
	old := host("web", func(h *Host) { h.CollectedAt = testNow.Add(-time.Hour) })
	for _, hosts := range [][]Host{{early, now, old, earlier}, {now, old, earlier, early}, {old, earlier, early, now}} {
		r := reportOf(t, Options{}, hosts...)
		if r.Scope.Hosts != 1 || r.Scope.Ahead.Count != 0 || r.Scope.Superseded != 3 || r.Counts[findings.Fail] != 1 {
			t.Errorf("%d hosts, %d ahead, %d superseded, counts %v", r.Scope.Hosts, r.Scope.Ahead.Count, r.Scope.Superseded, r.Counts)
		}
	}
	if r := reportOf(t, Options{}, early, earlier); r.Scope.Hosts != 0 || r.Scope.Ahead.Count != 1 {
		t.Errorf("nothing but such ones: %+v", r.Scope)
	}
}

// The order of reading doesn't change the report.
func TestOrderDoesNotMatter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var hosts []Host
		for i := range 200 {
			hosts = append(hosts, randomHost(random, i))
		}
		var want []byte
		for range 3 {
			random.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
			r := reportOf(t, Options{MaxAge: time.Hour, Expected: []string{"host-3", "host-1000"}, Top: 5}, hosts...)
			got, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = got
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("another order, another report:\n%s\n%s", got, want)
			}
		}
	}
}

// randomHost is one of any kind, some of which share names and machines.
func randomHost(random *rand.Rand, i int) Host {
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	h := Host{
		Name: fmt.Sprintf("host-%d", random.IntN(150)), MachineID: pick("", "a", "b"), Source: fmt.Sprint(i),
		CollectedAt: testNow.Add(-time.Duration(random.IntN(100)-10) * time.Minute), Drift: []Drift{},
	}
	for range random.IntN(5) {
		rule, severity := pick("link/down", "link/slow", "pcie/link-degraded"), findings.Severity(pick("info", "warning", "critical", "dreadful"))
		status := findings.Status(pick("pass", "fail", "error", "unknown", "waived", "puzzled"))
		h.Verdicts = append(h.Verdicts, Verdict{rule, severity, status, 1 + random.IntN(3)})
		h.Findings = append(h.Findings, Finding{Rule: rule, Severity: severity, Status: status, NIC: "n0", Title: pick("a", "b")})
		h.Drift = append(h.Drift, Drift{Policy: pick("edge", "core"), NIC: "n0", Setting: pick("rings", "channels"), Status: pick(audit.AsWanted, audit.Drifted, audit.Impossible, "undecided")})
		h.Waivers = append(h.Waivers, Waiver{Rule: rule, Owner: pick("ann", "bob"), Expires: pick("2026-07-01", "2026-06-30", "2027-01-01", "soon"), Subjects: 1})
	}
	for j := range random.IntN(4) {
		n := NIC{
			ID: fmt.Sprintf("n%d", j), Device: fmt.Sprintf("eth%d", j), Address: fmt.Sprintf("0000:00:%02x.0", j),
			Kind: pick("pf", "plain", "vf"), Model: pick("E810", "X710", ""), Driver: pick("ice", "i40e"), DriverVersion: pick("1", "2"), Firmware: pick("4.20", "4.30", ""),
			Carrier: ptr(random.IntN(4) > 0), SpeedMbps: ptr(10000), MaxSpeedMbps: ptr(10000 * (1 + random.IntN(2))), Downs: ptr(uint64(random.IntN(3))),
			PCIe:      &PCIe{8, float64(8 * (1 + random.IntN(2))), 8, 8},
			VFs:       &VFs{Enabled: ptr(4), Total: ptr(64), Used: ptr(random.IntN(4)), Drivers: map[string]int{pick("", "vfio-pci"): 4}},
			Readiness: map[string]string{"l4lb": pick(audit.Ready, audit.NotReady, "unknown")},
		}
		if random.IntN(3) == 0 {
			n.VFs.Shared = []SharedGroup{{random.IntN(9), []int{0, 1}}}
		}
		if random.IntN(2) == 0 {
			m := float64(random.IntN(80)) / 10
			n.Optics = []Optic{{Quantity: pick("rx-power", "temperature"), Unit: "dBm", Value: ptr(m - 12), Margin: &m, Room: ptr(m / 20), Verdict: pick("ok", "low-warning", "low-alarm")}}
		}
		h.NICs = append(h.NICs, n)
	}
	return h
}

// What doesn't fit in memory waits in a file, and comes back as it was, in order.
func TestSpool(t *testing.T) {
	s := newSpool(t.TempDir())
	s.limit = 1000
	want := 2000
	random := rand.New(rand.NewPCG(3, 4))
	for i := range want {
		h := host(fmt.Sprintf("host %d %d", i, random.Uint64()))
		packed, err := json.Marshal(h)
		if err == nil {
			err = s.add(packed)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	if err := s.each(func(h *Host, packed []byte) error {
		if !strings.HasPrefix(h.Name, fmt.Sprintf("host %d ", got)) || !json.Valid(packed) {
			t.Fatalf("host %d is %q", got, h.Name)
		}
		got++
		return nil
	}); err != nil || got != want || s.file == nil {
		t.Errorf("%d of %d came back, file %v, error %v", got, want, s.file, err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// A firmware version that fails more often than the same model's others is an outlier;
// one of one that fails is not, and neither is one of many that fail alike.
func TestOutliers(t *testing.T) {
	var hosts []Host
	add := func(n, bad int, model, firmware string) {
		for i := range n {
			h := host(fmt.Sprintf("%s-%s-%d", model, firmware, i), func(h *Host) { h.NICs[0].Model, h.NICs[0].Firmware = model, firmware })
			if i < bad {
				failing("link/flaps", findings.Warning)(&h)
			}
			hosts = append(hosts, h)
		}
	}
	add(20, 8, "E810", "4.40") // the bad one
	add(100, 2, "E810", "4.20")
	add(1, 1, "E810", "4.10") // one of one is no evidence
	add(40, 10, "X710", "9.1")
	add(40, 11, "X710", "9.2")
	r := reportOf(t, Options{}, hosts...)
	var got []string
	for _, o := range r.Outliers.List {
		got = append(got, o.Dimension+" "+o.Name)
		if o.Dimension == "firmware" && (o.Hosts != 20 || o.Failing != 8 || o.PeerHosts != 101 || o.PeerFailing != 3 || o.P > 0.001) {
			t.Errorf("outlier %+v", o)
		}
	}
	slices.Sort(got)
	if want := []string{"firmware 4.40", "model X710"}; !slices.Equal(got, want) {
		t.Errorf("outliers %q, want %q", got, want)
	}
	if worst := r.Firmware.Worst[0]; worst.Name != "4.40" || worst.Share != 0.4 {
		t.Errorf("the worst firmware is %+v", worst)
	}
}

// The figures are those of textbooks: Fisher's tea, and Wilson's interval.
func TestStatistics(t *testing.T) {
	for _, test := range []struct{ got, want float64 }{
		{fisher(3, 4, 4, 8), 17.0 / 70}, {fisher(4, 4, 4, 8), 1.0 / 70}, {fisher(0, 4, 4, 8), 1}, {fisher(1, 1, 8, 8), 1},
		{fisher(300, 1000, 400, 100000), 0},
		{wilson(1, 1), 0.20655}, {wilson(0, 10), 0}, {wilson(5, 10), 0.23659}, {wilson(0, 0), 0}, {wilson(100, 100), 0.96301},
	} {
		if math.Abs(test.got-test.want) > 1e-5 {
			t.Errorf("got %v, want %v", test.got, test.want)
		}
	}
}

// Texts without end, and kinds without number, are not remembered.
func TestHostileHostsAreBounded(t *testing.T) {
	long := strings.Repeat("ä\"<script>\n", 10000)
	h := host("web", failing(long, findings.Warning), func(h *Host) {
		h.NICs[0].Model, h.NICs[0].Readiness = long, map[string]string{long: audit.Ready}
		h.Verdicts = append(h.Verdicts, Verdict{"a/b", "info", "pass", -5})
	})
	for i := range mostDistinct + 10 {
		h.Verdicts = append(h.Verdicts, Verdict{fmt.Sprint("rule ", i), "info", "pass", 1})
	}
	r := reportOf(t, Options{}, h)
	text, err := json.Marshal(r)
	if err != nil || bytes.Contains(text, []byte(strings.Repeat("script", 3))) || strings.Count(string(text), "script") > 1000 {
		t.Errorf("%v, %d bytes", err, len(text))
	}
	if r.Problems.Counts[TooMany] != 1 || len(r.Rules) > mostDistinct {
		t.Errorf("%d rules, problems %v", len(r.Rules), r.Problems.Counts)
	}
}
