package fleet

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// nicHost is a host with these NICs.
func nicHost(name string, nics ...NIC) Host {
	return host(name, func(h *Host) { h.NICs = nics })
}

// A report is stale from --max-age on, and of any age without.
func TestMaxAge(t *testing.T) {
	for _, test := range []struct {
		age, most time.Duration
		stale     int
	}{
		{time.Hour - time.Second, time.Hour, 0}, {time.Hour, time.Hour, 1}, {1000 * time.Hour, 0, 0}, {-4 * time.Minute, time.Hour, 0},
	} {
		r := reportOf(t, Options{MaxAge: test.most}, host("a", func(h *Host) { h.CollectedAt = testNow.Add(-test.age) }))
		if r.Scope.Stale.Count != test.stale || r.Scope.Hosts != 1-test.stale || r.Scope.Ahead.Count != 0 {
			t.Errorf("%s of %s: %+v", test.age, test.most, r.Scope)
		}
	}
}

func TestLinksAndPCIe(t *testing.T) {
	slow := NIC{ID: "a", Device: "eth0", Address: "0000:01:00.0", Kind: "pf", Carrier: ptr(true), SpeedMbps: ptr(1000), MaxSpeedMbps: ptr(10000), Downs: ptr(uint64(3)), PCIe: &PCIe{8, 16, 8, 16}}
	slower := slow
	slower.SpeedMbps, slower.Device, slower.Downs, slower.PCIe = ptr(100), "eth1", ptr(uint64(0)), &PCIe{16, 16, 16, 16}
	down := NIC{ID: "b", Device: "eth2", Kind: "plain", Carrier: ptr(false), SpeedMbps: ptr(10), MaxSpeedMbps: ptr(100)}
	silent := NIC{ID: "c", Device: "eth3", Address: "0000:02:00.0", Kind: "plain", Carrier: ptr(true), MaxSpeedMbps: ptr(100)}
	vf := slow
	vf.Kind = "vf"
	guest := nicHost("guest", slow)
	guest.VirtualMachine = ptr(true)
	r := reportOf(t, Options{}, nicHost("a", slow, slower, down, silent, vf), guest)
	if l := r.Links; l.Compared != 3 || l.Below != 3 || l.Down != 1 || l.Unknown != 1 || len(l.Worst) != 3 || l.Worst[0].Device != "eth1" || r.Scope.NICs != 5 {
		t.Errorf("links %+v, %d NICs", l, r.Scope.NICs)
	}
	if p := r.PCIe; p.Compared != 2 || p.Degraded != 1 || p.Unknown != 2 || len(p.Worst) != 1 || p.Worst[0].Share != 0.25 || p.Worst[0].Host != "a" {
		t.Errorf("PCIe %+v", p)
	}
	if f := r.Flaps; f.Counted != 3 || f.Flapped != 2 || f.Downs != 6 || f.Worst[0].Downs != 3 {
		t.Errorf("flaps %+v", f)
	}
}

// A VF is a NIC where its PF is not: in a guest. What a PF is seen through a second time
// on its own host is none, and has no PCIe link of its own.
func TestWhatCountsAsNIC(t *testing.T) {
	link := PCIe{8, 16, 8, 8}
	pf := NIC{ID: "a", Device: "eth0", Address: "0000:01:00.0", Kind: "pf", Model: "E810", Carrier: ptr(true), SpeedMbps: ptr(25000), MaxSpeedMbps: ptr(25000), PCIe: &link}
	of := func(kind, device, whose string) NIC {
		n := pf
		n.Kind, n.Device, n.PhysicalFunction = kind, device, whose
		return n
	}
	vf := of("vf", "eth1", "")
	vf.Address, vf.Model = "0000:06:00.0", "E810 VF"
	for _, test := range []struct {
		name           string
		nics           []NIC
		NICs, compared int
	}{
		{"a host with VFs", []NIC{pf, of("vf", "eth1", pf.Address), of("vf", "eth2", pf.Address)}, 1, 1},
		{"a host of Prometheus with VFs", []NIC{pf, of("vf", "eth1", "")}, 1, 1},
		{"a guest", []NIC{vf, {ID: "b", Device: "eth2", Kind: "plain"}}, 2, 0},
		{"a PF that is not in the report", []NIC{pf, of("vf", "eth1", "0000:81:00.0")}, 2, 1},
		{"switchdev", []NIC{pf, of("representor", "pf0vf0", ""), of("sf", "eth3", "")}, 1, 1},
	} {
		r := reportOf(t, Options{}, nicHost("a", test.nics...))
		if l, p := r.Links, r.PCIe; r.Scope.NICs != test.NICs || l.Compared+l.Unknown+l.Down != test.NICs || p.Compared != test.compared || p.Unknown != 0 {
			t.Errorf("%s: %d NICs, links %+v, PCIe %+v", test.name, r.Scope.NICs, l, p)
		}
	}
	if m := reportOf(t, Options{}, nicHost("guest", vf)).Models; m.Count != 1 || m.Worst[0].Name != "E810 VF" {
		t.Errorf("models of a guest: %+v", m)
	}
}

// Of a module's lanes the one nearest to a threshold is told; a port that nobody sends
// to says nothing by the light that it doesn't get.
func TestOptics(t *testing.T) {
	measured := func(lane int, value, low, high float64, verdict string) audit.Measured {
		return audit.Measured{Quantity: rxPower, Lane: lane, Value: &value, Unit: "dBm", Verdict: verdict, Margins: &audit.Margins{LowWarning: &low, HighWarning: &high}}
	}
	m := &audit.ModuleBrief{Vendor: "ACME", Measured: []audit.Measured{
		measured(1, -5, 5, 5, "ok"), measured(2, -9, 1, 9, "ok"), measured(3, -7, 3, 7, "ok"),
		{Quantity: "temperature", Value: ptr(75.0), Unit: "°C", Verdict: "high-alarm", Margins: &audit.Margins{LowAlarm: ptr(80.0), HighAlarm: ptr(-5.0)}},
		{Quantity: "voltage", Value: ptr(3.3), Unit: "V"}, // no thresholds, nothing to say
	}}
	all := opticsOf(m)
	if len(all) != 2 || all[0].Lane != 2 || *all[0].Margin != 1 || *all[0].Room != 0.1 || *all[1].Margin != -5 || *all[1].Room >= 0 || all[1].Vendor != "ACME" {
		t.Fatalf("%s", compact(t, all))
	}
	dark, ok := NewOptic(&audit.Measured{Quantity: rxPower, Lane: 1, Unit: "dBm", Verdict: "low-alarm"})
	if !ok || dark.Margin != nil {
		t.Errorf("no light: %+v", dark)
	}
	lit, unplugged := NIC{ID: "a", Device: "lit", Carrier: ptr(true), Optics: all}, NIC{ID: "b", Device: "unplugged", Carrier: ptr(false), Optics: []Optic{dark}}
	loud := NIC{ID: "c", Device: "dark", Carrier: ptr(true), Optics: []Optic{dark}}
	r := reportOf(t, Options{}, nicHost("a", lit, unplugged, loud))
	o := r.Optics
	var got []string
	for _, row := range o.Lowest {
		got = append(got, row.Device+" "+row.Quantity)
	}
	if want := []string{"dark rx-power", "lit temperature", "lit rx-power"}; !reflect.DeepEqual(got, want) {
		t.Errorf("lowest %q, want %q", got, want)
	}
	if o.Ports != 3 || o.Alarms != 2 || o.Warnings != 0 || o.Margins[2].Ports != 1 || *o.Margins[2].UnderDB != 2 {
		t.Errorf("%+v", o)
	}
}

func TestVFsReadinessAndDrift(t *testing.T) {
	s := &audit.SRIOVSummary{NumVFs: ptr(3), TotalVFs: ptr(8), VFs: []audit.VFSummary{
		{Index: 0, Driver: "vfio-pci", Users: []string{"vm a"}, IOMMU: &audit.IOMMUGroup{Group: 7, Shared: true}},
		{Index: 1, Driver: "vfio-pci", IOMMU: &audit.IOMMUGroup{Group: 7, Shared: true}}, {Index: 2, IOMMU: &audit.IOMMUGroup{Group: 8}},
	}}
	a := nicHost("a", NIC{ID: "n", Device: "eth0", Kind: "pf", VFs: vfsOf(s), Readiness: map[string]string{"l4lb": audit.Ready}})
	b := nicHost("b", NIC{ID: "n", Kind: "pf", VFs: vfsOf(&audit.SRIOVSummary{NumVFs: ptr(4), TotalVFs: ptr(8)}), Readiness: map[string]string{"l4lb": audit.NotReady}})
	a.Drift = []Drift{{"edge", "n", "eth0", "rings", audit.Drifted}, {"edge", "n", "eth0", "channels", audit.Drifted}, {"core", "n", "eth0", "rings", audit.AsWanted}}
	b.Drift = []Drift{{"edge", "n", "eth0", "rings", audit.Impossible}, {"edge", "n", "eth0", "rss", audit.Skipped}, {"edge", "n", "eth0", "fec", "something new"}}
	r := reportOf(t, Options{}, a, b, host("no policies"))
	v := r.VFs
	if v.NICs != 2 || v.Enabled != 7 || v.Total != 16 || v.Used != 1 || v.Known != 3 || v.SharedGroups != 1 || !reflect.DeepEqual(v.Shared[0].VFs, []int{0, 1}) ||
		!reflect.DeepEqual(v.Drivers, []DriverCount{{"vfio-pci", 2}, {"", 1}}) {
		t.Errorf("VFs %+v", v)
	}
	if want := []Profile{{Profile: "l4lb", Ready: 1, NotReady: 1, ReadyHosts: 1, Hosts: 2}}; !reflect.DeepEqual(r.Readiness, want) {
		t.Errorf("readiness %+v", r.Readiness)
	}
	edge := r.Drift.Policies[0]
	if r.Drift.Hosts != 2 || r.Drift.Drifted != 1 || edge.Policy != "edge" || edge.Hosts != 2 || edge.DriftedHosts != 1 || edge.Drifted != 2 || edge.Impossible != 1 || edge.Skipped != 1 || edge.Undecided != 1 ||
		!reflect.DeepEqual(edge.Worst, []HostCount{{"a", 2}}) || len(edge.Settings) != 2 || r.Drift.Policies[1].AsWanted != 1 {
		t.Errorf("drift %+v", r.Drift)
	}
}

// VFs of which nobody could read who uses them are not free.
func TestVFsWhoseUsersAreUnread(t *testing.T) {
	vfs := func(change func(s *audit.SRIOVSummary)) NIC {
		s := &audit.SRIOVSummary{NumVFs: ptr(2), TotalVFs: ptr(8), VFs: []audit.VFSummary{{Index: 0, Users: []string{"vm a"}}, {Index: 1}}}
		change(s)
		return NIC{ID: "n", Kind: "pf", VFs: vfsOf(s)}
	}
	r := reportOf(t, Options{},
		nicHost("read", vfs(func(*audit.SRIOVSummary) {})),
		nicHost("denied", vfs(func(s *audit.SRIOVSummary) { s.VFs[1].UsersUnread = "users: denied" })),
		nicHost("used all the same", vfs(func(s *audit.SRIOVSummary) { s.VFs[0].UsersUnread = "users: denied" })),
		nicHost("one is not listed", vfs(func(s *audit.SRIOVSummary) { s.VFs = s.VFs[:1] })))
	if v := r.VFs; v.Enabled != 8 || v.Known != 4 || v.Used != 2 {
		t.Errorf("%d enabled, %d used of %d that are known", v.Enabled, v.Used, v.Known)
	}
}

// The worst hosts are there with what is wrong on them, the gravest first, and not with
// more than can be shown.
func TestDetailsOfTheWorst(t *testing.T) {
	hosts := []Host{host("well"), host("bad", failing("link/slow", findings.Warning)), host("worst", failing("link/slow", findings.Warning), failing("link/module-alarm", findings.Critical))}
	big := host("big", failing("link/module-alarm", findings.Critical))
	for i := range 300 {
		big.Findings = append(big.Findings, Finding{Rule: fmt.Sprintf("user/%d", i), Severity: findings.Info, Status: findings.Fail, NIC: big.NICs[0].ID})
		big.Drift = append(big.Drift, Drift{Policy: "edge", NIC: "a", Setting: "rings", Status: audit.AsWanted})
	}
	big.Findings[0], big.Findings[300] = big.Findings[300], big.Findings[0]
	hosts = append(hosts, big)
	r := reportOf(t, Options{Details: 2, Top: 3}, hosts...)
	var names []string
	for _, d := range r.Details {
		names = append(names, d.Name)
	}
	if len(r.Hosts.Worst) != 3 || !slices.Equal(names, []string{r.Hosts.Worst[0].Name, r.Hosts.Worst[1].Name}) || !slices.Contains(names, "big") || !slices.Contains(names, "worst") {
		t.Fatalf("details of %q, the worst are %+v", names, r.Hosts.Worst)
	}
	for _, d := range r.Details {
		if d.Findings[0].Severity != findings.Critical {
			t.Errorf("%s begins with %+v", d.Name, d.Findings[0])
		}
		if d.Name == "big" && (len(d.Findings) != 100 || d.LeftOut != 201 || len(d.Drift) != 0) {
			t.Errorf("%d findings, %d settings, %d left out", len(d.Findings), len(d.Drift), d.LeftOut)
		}
	}
	if r := reportOf(t, Options{Top: 3}, hosts...); r.Details != nil {
		t.Errorf("nobody asked for %+v", r.Details)
	}
	if r := reportOf(t, Options{Top: 3, Details: 3, Host: "big"}, hosts...); len(r.Details) != 1 || len(r.Details[0].Findings) != 301 {
		t.Error("a host that was asked for is not there, or not whole")
	}
}

// A waiver holds to the end of its last day, whatever the host thought of it.
func TestWaivers(t *testing.T) {
	waiver := func(expires string) Waiver {
		return Waiver{Rule: "link/eee", Owner: "ann", Reason: "why not", Expires: expires, Subjects: 2}
	}
	h, other := host("a"), host("b")
	for _, day := range []string{"2026-06-30", "2026-07-01", "2026-07-14", "2026-07-15", "next week"} {
		h.Waivers = append(h.Waivers, waiver(day))
	}
	other.Waivers = []Waiver{waiver("2026-07-01")}
	r := reportOf(t, Options{Now: time.Date(2026, 7, 1, 23, 59, 59, 0, time.UTC), MaxAge: 0}, h, other)
	w := r.Waivers
	if w.Active != 3 || w.Expiring != 2 || w.Expired != 1 || w.Undated != 1 {
		t.Errorf("%+v", w)
	}
	var got []string
	for _, row := range w.List {
		got = append(got, fmt.Sprint(row.State, " ", row.Expires, " ", row.Hosts, " ", row.Subjects))
	}
	want := []string{"undated next week 1 2", "expired 2026-06-30 1 2", "expiring 2026-07-01 2 4", "expiring 2026-07-14 1 2", "active 2026-07-15 1 2"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A waiver is there whether something fails without it or not: an expired one whose
// failure was mended, and one that nothing needs yet.
func TestWaiversThatNothingNeeds(t *testing.T) {
	of := func(rule, expires string) audit.WaiverSummary {
		return audit.WaiverSummary{Rule: rule, Reason: "why not", Owner: "ann", Expires: expires, Policy: "edge", Source: "edge.yaml:9"}
	}
	report := audit.HostReport{
		Host: audit.HostSummary{Name: "web-1"}, CollectedAt: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC),
		Waivers: []audit.WaiverSummary{of("link/eee", "2026-06-30"), of("link/down", "2026-12-31"), of("link/duplex", "2026-12-31")},
		Findings: []findings.Finding{{
			Rule: "link/duplex", Severity: findings.Warning, Status: findings.Waived,
			Waiver: &findings.Waiver{Reason: "why not", Owner: "ann", Expires: "2026-12-31", Policy: "edge.yaml:9"},
		}},
	}
	h := FromReport(&report)
	want := []Waiver{
		{"link/down", "ann", "why not", "2026-12-31", 0}, {"link/duplex", "ann", "why not", "2026-12-31", 1}, {"link/eee", "ann", "why not", "2026-06-30", 0},
	}
	if !reflect.DeepEqual(h.Waivers, want) {
		t.Errorf("got  %+v\nwant %+v", h.Waivers, want)
	}
	r := reportOf(t, Options{Now: time.Date(2026, 7, 1, 13, 0, 0, 0, time.UTC), MaxAge: 0}, *h)
	if w := r.Waivers; w.Active != 2 || w.Expired != 1 {
		t.Errorf("%+v", w)
	}
}

// What could not be judged is no pass, whatever rule it is; neither is what a host says
// went wrong on it.
func TestWhatCouldNotBeJudgedFails(t *testing.T) {
	blind := host("a", func(h *Host) {
		h.Verdicts = []Verdict{{"link/down", findings.Info, findings.Error, 3}}
	})
	if r := reportOf(t, Options{}, blind); !r.Failed(findings.Critical) || r.Hosts.Failing != 0 || r.Counts[findings.Error] != 3 {
		t.Errorf("nothing could be read, and the fleet is clean: %+v", r.Counts)
	}
	troubled := host("a", func(h *Host) { h.Problems = []string{"two policies contradict each other"} })
	if r := reportOf(t, Options{}, troubled); !r.Failed(findings.Critical) {
		t.Errorf("a host has a problem, and the fleet is clean: %+v", r.Problems)
	}
	unclear := host("a", func(h *Host) { h.Verdicts = []Verdict{{"link/down", findings.Info, findings.Unknown, 3}} })
	if r := reportOf(t, Options{}, unclear); r.Failed(findings.Info) {
		t.Error("what a driver doesn't tell fails")
	}
}

// The more is compared, the stronger must be what is called an outlier.
func TestOutliersAreCorrectedForHowManyAreCompared(t *testing.T) {
	// 3 of 20 against 0 of 100 happens by chance once in some 250 times.
	kinds := map[kind]*tally{
		{"firmware", "E810", "4.40"}: {20, map[string]int{"a/b": 3}},
		{"firmware", "E810", "4.20"}: {100, map[string]int{}},
	}
	list, tests := outliers(kinds)
	if len(list) != 1 || tests != 2 || list[0].P < 2*0.004 || list[0].P > 2*0.0041 {
		t.Fatalf("%d tests: %+v", tests, list)
	}
	for i := range 10 {
		kinds[kind{"firmware", "X710", fmt.Sprint(i)}] = &tally{100, map[string]int{"a/b": 50, "c/d": 50}}
	}
	if list, tests := outliers(kinds); len(list) != 0 || tests != 22 {
		t.Errorf("%d tests: %+v", tests, list)
	}
}

// What a newer nictune says is never taken for well.
func TestWordsOfANewerVersion(t *testing.T) {
	h := host("a", func(h *Host) {
		h.Verdicts = []Verdict{{"a/b", "catastrophic", findings.Fail, 1}, {"c/d", findings.Info, "splendid", 2}}
		h.Findings = []Finding{{Rule: "a/b", Severity: "catastrophic", Status: findings.Fail, NIC: h.NICs[0].ID}}
	})
	r := reportOf(t, Options{}, h)
	if r.Counts[findings.Fail] != 1 || r.Counts[findings.Unknown] != 2 || r.Hosts.Worst[0].Warning != 1 || r.Problems.Counts[NotUnderstood] != 2 || r.Models.Worst[0].FailingHosts != 1 {
		t.Errorf("counts %v, hosts %+v, problems %+v", r.Counts, r.Hosts, r.Problems)
	}
}
