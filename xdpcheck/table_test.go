package xdpcheck

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

//go:generate go test -run TestGoldenTable -update .
//go:generate go test -run TestGoldenDrivers -update .

var update = flag.Bool("update", false, "rewrite the golden files")

func table(t testing.TB) *Table {
	t.Helper()
	known, err := ParseTable(drivers)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// Every claim of the table has a source, and nothing stands there that the program
// does not understand.
func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	source := regexp.MustCompile(`\b[0-9a-f]{12}\b|\b[4-9]\.[0-9]+ |bond_xdp_set_features`)
	for _, d := range table(t).Drivers {
		name := strings.Join(d.Names, ", ")
		for _, n := range d.Names {
			if seen[n] {
				t.Errorf("%s is there twice", n)
			}
			seen[n] = true
		}
		if d.Title == "" || len(d.Names) == 0 {
			t.Errorf("%q has no name", name)
		}
		for what, s := range map[string]Support{"native": d.Native, "redirect": d.Redirect, "xmit": d.Xmit, "zero-copy": d.ZeroCopy, "multi-buffer": d.MultiBuffer, "offload": d.Offload} {
			empty := s == Support{}
			switch {
			case empty && what == "native":
				t.Errorf("%s: nothing is said of native", name)
			case empty:
			case !source.MatchString(s.Source):
				t.Errorf("%s: %s has the source %q", name, what, s.Source)
			case s.None == (!s.Since.IsZero() || !s.Seen.IsZero()):
				t.Errorf("%s: %s is none and since, or neither", name, what)
			case !s.Since.IsZero() && !s.Seen.IsZero():
				t.Errorf("%s: %s has since and seen", name, what)
			case s.When != "" && s.When != "attached":
				t.Errorf("%s: %s when %q", name, what, s.When)
			}
		}
		for _, b := range slices.Concat(d.Blockers, d.ZeroCopyBlockers) {
			if blockers()[b.Kind] == nil || !slices.Contains([]string{"refuses", "hides", "turned-off"}, b.Effect) || !source.MatchString(b.Source) {
				t.Errorf("%s: blocker %+v", name, b)
			}
			if (b.Feature != "") != (b.Kind == "feature") {
				t.Errorf("%s: blocker %+v", name, b)
			}
		}
		if d.Attach != nil && (!slices.Contains([]string{"seamless", "link-flap", "nic-reset"}, d.Attach.Impact) || d.Attach.Does == "" || !source.MatchString(d.Attach.Source)) {
			t.Errorf("%s: attach %+v", name, *d.Attach)
		}
		if d.MTU == nil {
			continue
		}
		formulas := []Formula{d.MTU.Formula}
		if d.MTU.LargePages != "" {
			formulas = append(formulas, d.MTU.LargePages)
		}
		if d.MTU.WithFlag != nil {
			formulas = append(formulas, d.MTU.WithFlag.Formula)
		}
		for _, f := range formulas {
			if n, ok, err := f.bytes(memory{page: 4096, shinfo: 320, exact: true}); err != nil || !ok || n < 1000 || n > 4096 {
				t.Errorf("%s: %q is %d, %v, %v", name, f, n, ok, err)
			}
		}
		if !source.MatchString(d.MTU.Source) {
			t.Errorf("%s: MTU has the source %q", name, d.MTU.Source)
		}
	}
	if len(seen) < 70 {
		t.Errorf("%d drivers", len(seen))
	}
}

// The limits are those that drivers compute, on pages of 4 and 64 KiB.
func TestMTULimits(t *testing.T) {
	small, large := memory{page: 4096, shinfo: 320, exact: true}, memory{page: 65536, shinfo: 320, exact: true}
	for _, test := range []struct {
		driver string
		m      memory
		flags  map[string]bool
		want   int
	}{
		{"ena", small, nil, 3498}, {"ena", large, nil, 15786}, {"mlx5_core", small, nil, 3498}, {"mlx4_en", small, nil, 3498},
		{"bnxt_en", small, nil, 3502}, {"ice", small, nil, 3046}, {"ice", large, nil, 3046}, {"ice", small, map[string]bool{"legacy-rx": true}, 1638},
		{"ixgbe", small, nil, 3050}, {"ixgbe", large, nil, 2026}, {"i40e", small, map[string]bool{"legacy-rx": true}, 1702},
		{"igc", small, nil, 1500}, {"virtio_net", small, nil, 3506}, {"vmxnet3", small, nil, 3494}, {"veth", small, nil, 3506},
		{"gve", small, nil, 2032}, {"funeth", small, nil, 3566}, {"nicvf", small, nil, 1508}, {"rvu-nicpf", small, nil, 1508},
		{"mana", small, nil, 3506}, {"ionic", small, nil, 3502},
		{"vif", small, nil, 3840}, {"vif", large, nil, 3840}, {"mtk_soc_eth", small, nil, 3520}, {"mvpp2", small, nil, 3552}, {"netsec", small, nil, 1500},
	} {
		if n, ok := table(t).Driver(test.driver).MTU.limit(test.m, test.flags); !ok || n != test.want {
			t.Errorf("%s, pages of %d, %v: %d, %v, want %d", test.driver, test.m.page, test.flags, n, ok, test.want)
		}
	}
	for _, m := range []memory{{}, {page: 4096}} {
		if n, ok := table(t).Driver("ena").MTU.limit(m, nil); ok {
			t.Errorf("with %+v: %d", m, n)
		}
	}
	for _, f := range []Formula{"", "page", "12 12", "page * 2", "1 +", "cage - 1", "14 - 400"} {
		if n, ok, err := f.bytes(memory{}); ok || n > 0 {
			t.Errorf("%q: %d, %v, %v", f, n, ok, err)
		}
	}
}

func TestReleases(t *testing.T) {
	for text, want := range map[string]Release{
		"6.12.107+deb13-amd64": {6, 12}, "4.18.0-553.el8.x86_64": {4, 18}, "7.2": {7, 2}, "6.1-rc3": {6, 1}, "5.10.": {5, 10},
		"": {}, "6": {}, "linux-6.1": {}, "-6.1": {}, "6.": {}, "0.99": {},
	} {
		if got, ok := ParseRelease(text); got != want || ok != (want != Release{}) {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	read := Release{7, 2}
	for _, test := range []struct {
		s      Support
		kernel Release
		want   int
	}{
		{Support{None: true}, Release{6, 1}, -1}, {Support{None: true}, Release{7, 3}, 0}, {Support{}, Release{6, 1}, 0},
		{Support{Since: Release{5, 10}}, Release{5, 10}, 1}, {Support{Since: Release{5, 10}}, Release{5, 9}, -1},
		{Support{Seen: Release{7, 2}, Absent: Release{6, 12}}, Release{6, 13}, 0}, {Support{Seen: Release{7, 2}, Absent: Release{6, 12}}, Release{6, 12}, -1},
		{Support{Seen: Release{6, 1}}, Release{6, 0}, 0}, {Support{Since: Release{5, 10}}, Release{}, 0},
	} {
		if got := test.s.has(test.kernel, read); got != test.want {
			t.Errorf("%+v on %s: %d, want %d", test.s, test.kernel, got, test.want)
		}
	}
}

func TestParseTableIsStrict(t *testing.T) {
	for _, text := range []string{`{"version": 2}`, `{"version": 1, "colour": "red"}`, `{"version": 1, "read": "soon"}`, `{"version": 1, "read": "7.2.1"}`, "[]", ""} {
		if _, err := ParseTable([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// drivers.json says what drivers.yaml says, a driver to a line.
func TestGoldenTable(t *testing.T) {
	text, err := os.ReadFile("drivers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	converted, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		Version int               `json:"version"`
		Read    string            `json:"read"`
		Drivers []json.RawMessage `json:"drivers"`
	}
	if err := json.Unmarshal(converted, &whole); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\"version\": %d, \"read\": %q, \"drivers\": [", whole.Version, whole.Read)
	for i, d := range whole.Drivers {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		if err := json.Compact(&b, d); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString("\n]}\n")
	if *update {
		if err := os.WriteFile("drivers.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(b.Bytes(), drivers) {
		t.Error("drivers.json is stale: run go generate ./xdpcheck")
	}
}

const page = "../docs/xdp-drivers.md"

// docs/xdp-drivers.md says what the table says.
func TestGoldenDrivers(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := []byte("<!-- drivers -->\n"), []byte("<!-- end -->")
	before, rest, ok := bytes.Cut(data, begin)
	_, after, ended := bytes.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the drivers", page)
	}
	want := slices.Concat(before, begin, []byte(driversText(table(t))), end, after)
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s is stale: run go generate ./xdpcheck", page)
	}
}

func driversText(known *Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nRead for it: Linux 5.10, 6.1, 6.12 and %s.\n\n", known.Read)
	b.WriteString("| driver | native | redirect | ndo-xmit | zero copy | multi-buffer | offload | largest MTU | attaching |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, d := range known.Drivers {
		mtu, attach := "?", "?"
		if d.MTU != nil {
			n, _, _ := d.MTU.Formula.bytes(memory{page: 4096, shinfo: 320, exact: true})
			mtu = fmt.Sprint(n)
		}
		if d.Attach != nil {
			attach = d.Attach.Impact
		}
		if d.Native.None {
			mtu, attach = "", ""
		}
		cell := func(s Support) string {
			if d.Native.None {
				return ""
			}
			return s.span()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", strings.Join(d.Names, ", "), d.Native.span(),
			cell(d.Redirect), cell(d.Xmit), cell(d.ZeroCopy), cell(d.MultiBuffer), cell(d.Offload), mtu, attach)
	}
	for _, d := range known.Drivers {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n", strings.Join(d.Names, ", "), d.Title)
		for _, c := range []struct {
			what string
			s    Support
		}{{"native", d.Native}, {"redirect", d.Redirect}, {"ndo-xmit", d.Xmit}, {"zero copy", d.ZeroCopy}, {"multi-buffer", d.MultiBuffer}, {"offload", d.Offload}} {
			if (c.s == Support{}) {
				continue
			}
			extra := ""
			if c.s.When != "" {
				extra = ", announced while a program is attached"
			}
			if !c.s.Announced.IsZero() {
				extra = ", announced from Linux " + c.s.Announced.String()
			}
			fmt.Fprintf(&b, "- %s: %s%s. Source: %s\n", c.what, c.s.span(), extra, c.s.Source)
		}
		if u := d.MTU; u != nil {
			fmt.Fprintf(&b, "- largest MTU for programs of one buffer: `%s`", u.Formula)
			if u.LargePages != "" {
				fmt.Fprintf(&b, ", with pages of 8 KiB and more `%s`", u.LargePages)
			}
			if u.WithFlag != nil {
				fmt.Fprintf(&b, ", with private flag %s `%s`", u.WithFlag.Flag, u.WithFlag.Formula)
			}
			fmt.Fprintf(&b, ". Source: %s\n", u.Source)
		}
		if d.Attach != nil {
			fmt.Fprintf(&b, "- attaching a first program is %s: %s. Source: %s\n", d.Attach.Impact, d.Attach.Does, d.Attach.Source)
		}
		for _, l := range d.Blockers {
			if l.Effect == "turned-off" {
				fmt.Fprintf(&b, "- turns %s off by itself. Source: %s\n", l.Feature, l.Source)
				continue
			}
			fmt.Fprintf(&b, "- %s %s. Source: %s\n", map[string]string{"refuses": "refuses programs", "hides": "announces nothing and refuses programs"}[l.Effect], blockerWords(l.Kind, l.Feature), l.Source)
		}
		for _, l := range d.ZeroCopyBlockers {
			fmt.Fprintf(&b, "- zero copy is refused %s. Source: %s\n", blockerWords(l.Kind, l.Feature), l.Source)
		}
		for _, n := range d.Notes {
			fmt.Fprintf(&b, "- %s\n", n)
		}
	}
	return b.String() + "\n"
}

// blockerWords is a blocker's kind for readers of the page.
func blockerWords(kind, what string) string {
	words := map[string]string{
		"feature": "while " + what + " is on", "tcp-data-split": "while header split is on", "rx-buf-len": "with receive buffers of another size than 2048 bytes",
		"hds-thresh": "while packets of the MTU are split (hds-thresh)", "channels-half": "with more than half of its channels in use",
		"channels-equal": "with another number of receive than of transmit queues", "channels-shared": "while receive and transmit queues are not combined channels",
		"vfs": "while it has virtual functions", "guest-offloads": "while the device merges packets and offers no ctrl_guest_offloads",
		"bond-mode": "in other modes than balance-rr, active-backup, balance-xor and 802.3ad", "bond-members": "while a member has a program, or can take none",
		"bond-hash":       "in the modes 802.3ad and balance-xor with xmit_hash_policy vlan+srcmac",
		"access-platform": "while the device takes no mapped addresses (access_platform)",
		"peer-queues":     "with fewer receive queues than the peer has transmit queues", "ethernet": "as a tun device, which has no Ethernet header",
	}
	return words[kind]
}

func FuzzParseRelease(f *testing.F) {
	f.Add("6.12.107+deb13-amd64")
	f.Add("9999999999999999999.1")
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := ParseRelease(s)
		if ok && (r.Major <= 0 || r.Minor < 0) {
			t.Errorf("%q is %v", s, r)
		}
	})
}
