package html

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

func TestNatural(t *testing.T) {
	names := []string{"eth10", "eth2", "eth2 vf 10", "eth2 vf 9", "eth", "lan", "", "eth02", "7"}
	slices.SortFunc(names, natural)
	if got := strings.Join(names, "|"); got != "|7|eth|eth2|eth02|eth2 vf 9|eth2 vf 10|eth10|lan" && got != "|7|eth|eth02|eth2|eth2 vf 9|eth2 vf 10|eth10|lan" {
		t.Errorf("got %s", got)
	}
}

func TestListed(t *testing.T) {
	names := strings.Split("a b c d e f", " ")
	for n, want := range map[int]string{0: "", 1: "a", 2: "a and b", 4: "a, b, c and d", 5: "a, b, c, d and e", 6: "a, b, c, d and 2 more"} {
		if got := listed(names[:n], 4); got != want {
			t.Errorf("%d names: %q, want %q", n, got, want)
		}
	}
}

func TestStandings(t *testing.T) {
	finding := func(rule string, status findings.Status, severity findings.Severity, name string) findings.Finding {
		return findings.Finding{Rule: rule, Status: status, Severity: severity, Subject: findings.Subject{ID: "id of " + name, Name: name}, Title: "it is " + rule}
	}
	known := &subjects{}
	parts := standings([]findings.Finding{
		finding("link/a", findings.Pass, findings.Warning, "eth0"), finding("link/b", findings.Fail, findings.Warning, "eth0"),
		finding("link/a", findings.Fail, findings.Warning, "eth10"), finding("link/a", findings.Fail, findings.Critical, "eth9"),
		finding("pcie/c", findings.Unknown, findings.Info, "eth0"), finding("pcie/d", findings.Pass, findings.Critical, "eth0"),
		finding("own/e", "mended", findings.Info, "eth1"),
	}, []findings.About{{ID: "link/a", Severity: findings.Warning, Title: "the rule says so"}}, known)
	var got []string
	for _, p := range parts {
		for _, r := range p.Rules {
			got = append(got, fmt.Sprintf("%s: %s %s %q on %q (%s) fails %t", p.Title, r.Severity, r.ID, r.Title, r.On, r.Tally, r.Fails()))
		}
	}
	want := []string{
		// A status that nobody knows is not taken for a pass.
		`mended: info own/e "it is own/e" on "eth1" () fails false`,
		`Failing: critical link/a "the rule says so" on "eth9 and eth10" (2 fail · 1 pass) fails true`,
		`Failing: warning link/b "it is link/b" on "eth0" (1 fail) fails true`,
		`Unknown: info pcie/c "it is pcie/c" on "eth0" (1 unknown) fails false`,
		`Passing: critical pcie/d "it is pcie/d" on "" (1 pass) fails false`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := fmt.Sprint(known.byName()); got != "[{0 eth0} {3 eth1} {2 eth9} {1 eth10}]" {
		t.Errorf("subjects: %s", got)
	}
}

// TestRest holds what nobody has to look at apart, where it is more than a few.
func TestRest(t *testing.T) {
	of := func(statuses ...findings.Status) ruled {
		t.Helper()
		var all []findings.Finding
		for i, s := range statuses {
			all = append(all, findings.Finding{Rule: "link/a", Status: s, Subject: findings.Subject{ID: strconv.Itoa(i)}})
		}
		return standings(all, nil, &subjects{})[0].Rules[0]
	}
	const pass, none = findings.Pass, findings.NotApplicable
	for _, test := range []struct {
		rule       ruled
		said, rest int
		tally      string
	}{
		{of(findings.Fail, pass, pass, none, pass), 5, 0, ""},
		{of(pass, none, findings.Fail, pass, findings.Unknown, pass, pass), 2, 5, "4 pass · 1 not applicable"},
		{of(pass, pass, pass, pass, pass, none), 6, 0, ""}, // there is nothing to look at beside them
		{of("mended", pass, pass, pass, pass, pass), 1, 5, "5 pass"},
	} {
		if r := test.rule; len(r.Said) != test.said || len(r.Rest) != test.rest || r.RestTally != test.tally {
			t.Errorf("%s: %d said, %d rest (%s), want %d, %d (%s)", r.Tally, len(r.Said), len(r.Rest), r.RestTally, test.said, test.rest, test.tally)
		}
	}
}

func TestVerdict(t *testing.T) {
	for want, all := range map[string][]findings.Finding{
		"Nothing was judged.": nil,
		"Nothing fails.":      {{Status: findings.Pass}},
		"Nothing fails. 2 verdicts could not be given: what could not be read is not a pass.":    {{Status: findings.Unknown}, {Status: findings.Error}},
		"3 failures: 1 critical and 2 warning.":                                                  {{Status: findings.Fail, Severity: "critical"}, {Status: findings.Fail, Severity: "warning"}, {Status: findings.Fail, Severity: "warning"}},
		"1 failure: 1 info. 1 verdict could not be given: what could not be read is not a pass.": {{Status: findings.Fail, Severity: "info"}, {Status: findings.Unknown}},
	} {
		if got := verdict(all); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestPicture draws hosts small and large: nothing lies on anything else, all is inside,
// and the narrow link is marked once, where it is.
func TestPicture(t *testing.T) {
	for _, test := range []struct{ nics, vfs, squares, narrow int }{{0, 0, 0, 0}, {1, 0, 0, 0}, {2, 4, 8, 0}, {8, 64, 512, 1}, {40, 8, 320, 5}, {2, 200, 2 * mostSquares, 0}} {
		r := exampleReport(test.nics, test.vfs)
		pic := draw(nicViews(r, &subjects{}), r.Host.NUMANodes)
		boxes := slices.Clone(pic.Boxes)
		squares := 0
		for _, p := range pic.Ports {
			boxes = append(boxes, p.box)
			for _, s := range p.Squares {
				squares++
				boxes = append(boxes, box{X: s.X, Y: s.Y, Width: square, Height: square, Title: s.Title})
			}
		}
		narrow := 0
		for _, w := range pic.Wires {
			if w.Narrow {
				narrow++
				if !strings.Contains(w.Title, "upstream port 0000:") || !strings.Contains(w.Title, "carries 3.4 GB/s, 2 ports need 6.25 GB/s") {
					t.Errorf("the narrow wire says %q", w.Title)
				}
			}
		}
		if len(pic.Ports) != test.nics || squares != test.squares || narrow != test.narrow || pic.Left != "bond0 and br0" {
			t.Errorf("%+v: %d NICs, %d VFs, %d narrow links, left %q", test, len(pic.Ports), squares, narrow, pic.Left)
		}
		for i, a := range boxes {
			if a.X < 0 || a.Y < 0 || a.X+a.Width > pic.Width || a.Y+a.Height > pic.Height {
				t.Fatalf("%+v: %q is outside: %+v of %dx%d", test, a.Title, a, pic.Width, pic.Height)
			}
			for _, b := range boxes[:i] {
				if a.X < b.X+b.Width && b.X < a.X+a.Width && a.Y < b.Y+b.Height && b.Y < a.Y+a.Height {
					t.Fatalf("%+v: %q lies on %q", test, a.Title, b.Title)
				}
			}
		}
	}
}

// TestPictureOfOddPaths draws what hosts have been seen to say of themselves, and what
// they may: nothing known, one hop below itself, a hop under two nodes.
func TestPictureOfOddPaths(t *testing.T) {
	hop := inventory.PCIHop{Address: "0000:00:01.0"}
	for name, nics := range map[string][]audit.NICSummary{
		"nothing":      {{}},
		"no path":      {{ID: "a", PCI: &audit.PCISummary{}}},
		"a loop":       {{ID: "a", PCI: &audit.PCISummary{Address: "0000:00:01.0", Path: []inventory.PCIHop{hop, hop, hop}}}},
		"two nodes":    {{ID: "a", NUMANode: at(0), PCI: &audit.PCISummary{Path: []inventory.PCIHop{hop}}}, {ID: "b", NUMANode: at(-7), PCI: &audit.PCISummary{Path: []inventory.PCIHop{hop}}}},
		"same address": {{ID: "a", PCI: &audit.PCISummary{Address: "x"}}, {ID: "b", PCI: &audit.PCISummary{Address: "x"}}},
		"lone VF":      {{ID: "a", Kind: inventory.VF, PCI: &audit.PCISummary{PhysicalFunction: "y"}}},
		"no rates":     {{ID: "a", PCI: &audit.PCISummary{Link: &inventory.PCIeLink{}, Path: []inventory.PCIHop{{Link: &inventory.PCIeLink{}}}, Tightest: &audit.Passage{}}}},
	} {
		r := &audit.HostReport{NICs: nics}
		if pic := draw(nicViews(r, &subjects{}), nil); len(pic.Ports) != len(nics) {
			t.Errorf("%s: %d of %d NICs are drawn", name, len(pic.Ports), len(nics))
		}
		if err := Host(&bytes.Buffer{}, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Host(&bytes.Buffer{}, &audit.HostReport{}); err != nil {
		t.Error(err)
	}
}

// TestVFsWhoseUsersAreUnread holds that they are not shown as if nobody used them.
func TestVFsWhoseUsersAreUnread(t *testing.T) {
	s := &audit.SRIOVSummary{NumVFs: at(3), TotalVFs: at(8), VFs: []audit.VFSummary{{Users: []string{"vm a"}}, {UsersUnread: "users: denied"}, {}}}
	if used := vfUses(s); used != "1 in use, of 1 not known · 3 no driver" {
		t.Errorf("%q", used)
	}
	page := string(hostBytes(t, &audit.HostReport{NICs: []audit.NICSummary{{ID: "a", Kind: inventory.PF, SRIOV: s}}}))
	if !strings.Contains(page, "not known<small>users: denied</small>") {
		t.Error("the table of VFs doesn't say that it isn't known who uses one")
	}
}

// TestHostPageSize holds a large host's page to what a mail takes.
func TestHostPageSize(t *testing.T) {
	r := exampleReport(40, 64)
	page := hostBytes(t, r)
	if most := 3 << 20; len(page) > most || len(r.Findings) < 75*40 {
		t.Errorf("%d findings on 40 NICs with 64 VFs make %d bytes, want %d at most", len(r.Findings), len(page), most)
	}
	if !bytes.Equal(page, hostBytes(t, exampleReport(40, 64))) {
		t.Error("the same report gives another page")
	}
}

type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	if err := Host(full{}, exampleReport(1, 0)); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

func TestModule(t *testing.T) {
	n := &nic{NICSummary: &audit.NICSummary{Module: exampleModule(1)}}
	m := moduleOf(n)
	if m.Worst != "low-warning" || m.Nearest != "RX power, lane 1 -11.20 dBm, 0.90 dB beyond its warning" {
		t.Errorf("%q, nearest %q", m.Worst, m.Nearest)
	}
	rx := m.Values[4].Meter
	if rx == nil || !rx.Beyond || rx.X >= rx.From {
		t.Errorf("the meter is %+v", rx)
	}
	ok := m.Values[0]
	if ok.Said != "41.30 °C" || ok.Margin != "31.70 °C to its warning" || ok.Meter.Beyond || ok.Meter.X <= ok.Meter.From || ok.Meter.X >= ok.Meter.From+ok.Meter.Width {
		t.Errorf("temperature: %+v %+v", ok, ok.Meter)
	}
	n.Module = exampleModule(2)
	if dark := moduleOf(n).Values[4]; dark.Said != "no light" || dark.Meter != nil || dark.Margin != "" {
		t.Errorf("no light: %+v", dark)
	}
}
