package policies

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

//go:generate go test -run Golden -update .

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file in testdata, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := "testdata/" + file
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d differs (run go generate to rewrite it):\n got: %s\nwant: %s", path, i+1, gotLines[i], strings.Join(wantLines[min(i, len(wantLines)):min(i+1, len(wantLines))], ""))
		}
	}
	t.Fatalf("%s has more lines than expected", path)
}

// testCatalogue is what package tuning could hand in.
func testCatalogue() Catalogue {
	size := func(name string, aliases ...string) Field {
		return Field{Name: name, Aliases: aliases, Doc: "Descriptors of " + name + ".", Type: Number, Words: []string{"max"}}
	}
	tso := []string{"tcp-segmentation-offload", "tso"}
	return Catalogue{
		{Name: "channels", Doc: "Numbers of queues.", Fields: []Field{size("rx"), size("tx"), size("combined")}},
		{Name: "rings", Doc: "Sizes of descriptor rings.", Fields: []Field{
			size("rx"), size("rx-mini"), size("rx-jumbo"), size("tx"),
			{Name: "rx-buf-len", Doc: "Bytes of a receive buffer.", Type: Number},
			{Name: "tcp-data-split", Doc: "Header and data in buffers of their own.", Type: Bool, Words: []string{"auto"}},
			{Name: "mode", Doc: "For the test.", Words: []string{"fast"}},
		}},
		{Name: "features", Doc: "Offloads.", Open: &Field{Doc: "On or off.", Type: Bool}, Fields: []Field{
			{Name: "rx-lro", Aliases: []string{"large-receive-offload", "lro"}, Doc: "Merge in the device.", Type: Bool},
			{Name: "tx-tcp-segmentation", Aliases: tso, Doc: "Segment TCP over IPv4.", Type: Bool},
			{Name: "tx-tcp6-segmentation", Aliases: tso, Doc: "Segment TCP over IPv6.", Type: Bool},
		}},
	}
}

const (
	head      = "apiVersion: nictune/v1\nkind: TuningPolicy\nname: edge\n"
	rulesHead = "apiVersion: nictune/v1\nkind: RulePolicy\nname: edge\nmatch: {}\n"
	fineRule  = "{severity: info, title: t, why: w, remedy: r, expect: nic.link.mtu == 9000}"
	checkHead = "apiVersion: nictune/v1\nkind: CheckPolicy\nname: edge\nmatch: {}\n"
)

// in is a document with a match and settings, whole but for what a case puts in.
func in(match, settings string) string {
	return head + "match: " + match + "\nsettings: " + settings + "\n"
}

const fine = "{rings: {rx: max}}"

func faultCases() []struct{ name, yaml string } {
	return []struct{ name, yaml string }{
		{"unknown key", head + "mach: {}\nmatch: {}\nsettings: " + fine},
		{"unknown key that resembles none", head + "metadata: {}\nmatch: {}\nsettings: " + fine},
		{"unknown key in match", in("{drvier: igb}", fine)},
		{"key in another case", in("{permanent-mac: 52:54:00:12:34:56}", fine)},
		{"several faults at once", head + "priority: high\nmatch:\n  kind: [pf, vff]\n  pci: 8086\nsettings: {}\n"},
		{"no apiVersion", "kind: TuningPolicy\nname: edge\n"},
		{"another apiVersion", "apiVersion: nictune/v2\nkind: TuningPolicy\nname: edge\n"},
		{"misspelt apiVersion", "apiversion: nictune/v1\nkind: TuningPolicy\n"},
		{"another kind", "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {}\n"},
		{"no name", "apiVersion: nictune/v1\nkind: TuningPolicy\nmatch: {}\nsettings: " + fine},
		{"name with spaces", "apiVersion: nictune/v1\nkind: TuningPolicy\nname: my policy\nmatch: {}\nsettings: " + fine},
		{"no match", head + "settings: " + fine},
		{"match without anything", head + "match:\nsettings: " + fine},
		{"match is a list", head + "match: [driver]\nsettings: " + fine},
		{"no settings", head + "match: {}\n"},
		{"settings without anything", in("{}", "")},
		{"setting without fields", in("{}", "{rings: {}}")},
		{"setting is a value", in("{}", "{rings: max}")},
		{"field without value", in("{}", "\n  rings:\n    rx:\n    tx: 1")},
		{"field is a list", in("{}", "{rings: {rx: [1, 2]}}")},
		{"field is a mapping", in("{}", "{rings: {rx: {min: 1}}}")},
		{"duplicate key", in("{}", "\n  rings:\n    rx: 1\n    tx: 1\n    rx: 2")},
		{"two documents of one name", in("{}", fine) + "---\n" + in("{}", fine)},
		{"empty list", in("{driver: []}", fine)},
		{"broken glob", in("{name: \"eth[0\"}", fine)},
		{"a shell's glob", in("{name: \"eth[!0]\"}", fine)},
		{"PCI id as in sysfs", in("{pci: \"0x8086:0x10c9\"}", fine)},
		{"PCI id too short", in("{pci: \"8086:10c\"}", fine)},
		{"PCI address without function", in("{pci: \"0000:3b:00\"}", fine)},
		{"MAC too short", in("{permanentMac: \"52:54:00\"}", fine)},
		{"vendor as in sysfs", in("{vendor: 0x8086, device: 10c, subsystem: 8086}", fine)},
		{"speed with a unit", in("{speed: [25G, \"=>25000\", \"> \"]}", fine)},
		{"node and link", in("{numaNode: -1, linkState: [on, Up], firmware: \"[\"}", fine)},
		{"labels", in("{labels: {-role: edge, \"a b\": c, rack: [], site: {a: b}}}", fine)},
		{"labels without any", in("{labels: {}}", fine)},
		{"condition with unknown facts", head + "match:\n  where: |\n    nic.driver.nme == \"igb\" ||\n      nic.link.speed > 1000\nsettings: " + fine},
		{"condition of another type", in("{where: nic.name}", fine)},
		{"condition with types that differ", in("{where: nic.link.speedMbps > \"25G\"}", fine)},
		{"condition cut by its comma", in("{where: nic.altNames.exists(n, n == \"x\")}", fine)},
		{"condition without value", in("{where: }", fine)},
		{"condition that is a list", in("{where: [a]}", fine)},
		{"priority in quotes", head + "priority: \"5\"\nmatch: {}\nsettings: " + fine},
		{"bool in another case", in("{}", "{features: {rx-gro: On}}")},
		{"no in another case", in("{}", "{features: {rx-gro: NO}}")},
		{"priority too large", head + "priority: 3000000000\nmatch: {}\nsettings: " + fine},
		{"number too large", in("{}", "{rings: {rx: 99999999999999999999}}")},
		{"name not in the expression", in("{}", "{rings: {rx: \"min(local-cpu, 16)\", tx: 0%}}")},
		{"expression cut by its comma", in("{}", "{rings: {rx: min(local-cpus, 16)}}")},
		{"expression that is not closed", in("{}", "\n  rings:\n    rx: max(cpus, 4")},
		{"bound without quotes", in("{}", "\n  rings:\n    rx: >=4096\n    tx: 1")},
		{"share of no maximum", in("{}", "{rings: {rx-buf-len: 50%}}")},
		{"no maximum", in("{}", "{rings: {rx-buf-len: max}}")},
		{"quantity misspelt", in("{}", "{rings: {rx: local-cpu}}")},
		{"expression for a bool", in("{}", "{features: {rx-gro: \"min(1, 2)\"}}")},
		{"list for fields", in("{}", "{rings: [{rx: max}]}")},
		{"fields for a list", in("{}", "{flows: {queue: 1}}")},
		{"items without fields", in("{}", "\n  flows:\n    - {}\n    - 3\n    - queue:\n    - {quue: 1}")},
		{"value in an item", in("{}", "\n  flows:\n    - {proto: udp, queue: 99%}\n    - {queue: 101%}")},
		{"optional names another setting", in("{}", fine) + "optional: [rings.rx, ring]\nclamp: rings.tx\n"},
		{"optional names a part of a list", in("{}", "{flows: [{queue: 1}]}") + "optional: [flows.queue]\n"},
		{"optional is a mapping", in("{}", fine) + "optional: {rings: true}\n"},
		{"optional is empty", in("{}", fine) + "optional: []\nclamp:\n"},
		{"unknown setting", in("{}", "{ring: {rx: max}}")},
		{"unknown field", in("{}", "{rings: {rxmini: max, depth: 1}}")},
		{"word for a number", in("{}", "{rings: {rx: mx}}")},
		{"bool for a number", in("{}", "{rings: {rx: on}}")},
		{"number in quotes", in("{}", "{rings: {rx: \"1024\"}}")},
		{"hexadecimal", in("{}", "{rings: {rx: 0x400}}")},
		{"octal", in("{}", "{rings: {rx: 0400}}")},
		{"negative", in("{}", "{rings: {rx: -1}}")},
		{"number for a bool", in("{}", "{features: {rx-gro: 1}}")},
		{"word for a bool", in("{}", "{rings: {tcp-data-split: atuo}}")},
		{"number for a word", in("{}", "{rings: {mode: 1}}")},
		{"alias and field disagree", in("{}", "\n  features:\n    tso: on\n    tx-tcp6-segmentation: off")},
		{"anchors and aliases", in("&all {}", "*all")},
		{"alias bomb", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"},
		{"a glob without quotes", in("{name: *}", fine)},
		{"merge key", head + "<<: {a: 1}\n"},
		{"tag", head + "match: !!map {}\n"},
		{"directive", "%YAML 1.2\n---\n" + head},
		{"complex key", "? a\n: b\n"},
		{"deeply nested", strings.Repeat("[", 1000)},
		{"deeply nested in blocks", strings.Repeat("- ", 1000) + "x"},
		{"bracket left open", head + "match: {driver: igb\n"},
		{"bracket closed twice", head + "match: {}}\n"},
		{"tab as indentation", head + "match:\n\tdriver: igb\n"},
		{"wrong indentation", head + "match:\n    driver: igb\n  kind: pf\n"},
		{"quote left open", head + "match: {driver: \"igb}\n"},
		{"two values on a line", head + "match: {}: {}\n"},
		{"a list", "- " + head},
		{"a word", "throughput"},
		{"text the parser would lose", in("{}", fine) + "!!!"},
		{"a list of addresses without quotes", in("{pci: [\"1af4:1041\", 0000:02:10.0]}", fine)},
		{"text after ---", "--- {a: b}\n"},
		{"not UTF-8", head + "match: {driver: \xff}\n"},
		{"escape sequence", head + "match: {driver: \x1b[2J}\n"},
		{"after an empty document", "---\n# nothing\n---\nfoo: bar\n"},
		{"a long line", in("{driver: ["+strings.Repeat("igb, ", 60)+"{}]}", fine)},
		{"spaces at the end of a line", in("{}", "\n  rings:\n    rx: mx  \t\n    tx: 1")},
		{"tabs within a line", in("{}", "\n  rings:\n    rx:\t\tmx")},
		{"Windows line ends", strings.ReplaceAll(in("{drivr: igb}", fine), "\n", "\r\n")},
		{"characters of several bytes", head + "description: \"größer → schneller\"\nmatch: {name: \"Ω\", kindd: pf}\nsettings: " + fine},
		{"check without rules", checkHead},
		{"check with an unknown key", checkHead + "rule: {link/eee: off}\nrules: {link/eee: off}\n"},
		{"check with settings", checkHead + "settings: {rings: {rx: max}}\nrules: {link/eee: off}\n"},
		{"an unknown rule", checkHead + "rules: {link/eeee: off, pcie/narrow: info, \"lnk/*\": off}\n"},
		{"no rule at all", checkHead + "rules: {eee: off, \"*\": off}\n"},
		{"an unknown severity", checkHead + "rules: {link/eee: warn, link/down: [info]}\n"},
		{"waivers that are no list", checkHead + "waivers: {rule: link/eee}\n"},
		{"a waiver without anything", checkHead + "waivers: [{}]\n"},
		{"a waiver without an end", checkHead + "waivers:\n  - {rule: link/eee, reason: it is old, owner: jane}\n"},
		{"a waiver for nobody knows whom", checkHead + "waivers:\n  - {rule: link/eee, reson: it is old, owner: \"\", expires: 31.1.2027}\n"},
		{"a waiver of a group", checkHead + "waivers:\n  - {rule: \"link/*\", reason: it is old, owner: jane, expires: 2027-01-31}\n"},
		{"a waiver of an unknown rule", checkHead + "waivers:\n  - {rule: [link/eee, link/dwn], reason: it is old, owner: jane, expires: 2027-01-31}\n"},
		{"rules without rules", rulesHead},
		{"rules that are empty", rulesHead + "rules: {}\n"},
		{"rules with a priority", rulesHead + "priority: 3\nrules: {user/mtu: " + fineRule + "}\n"},
		{"a rule of nobody", rulesHead + "rules: {mtu: " + fineRule + "}\n"},
		{"a rule in a group of ours", rulesHead + "rules: {link/mtu: " + fineRule + "}\n"},
		{"a rule with capitals", rulesHead + "rules: {user/MTU: " + fineRule + "}\n"},
		{"a rule without anything", rulesHead + "rules: {user/mtu: {}}\n"},
		{"a rule with half of it", rulesHead + "rules:\n  user/mtu:\n    severity: warn\n    title: jumbo frames are off\n    reason: they are not\n    subject: nics\n"},
		{"a rule that is no condition", rulesHead + "rules: {user/mtu: {severity: info, title: t, why: w, remedy: r, expect: nic.link.mtu}}\n"},
		{"a rule about unknown facts", rulesHead + "rules:\n  user/mtu:\n    severity: info\n    title: t\n    why: w\n    remedy: r\n    expect: |\n      nic.kind == \"x\" ||\n      nic.link.mut == 9000\n"},
		{"a rule on the host about a NIC", rulesHead + "rules: {user/mtu: {subject: host, severity: info, title: t, why: w, remedy: r, expect: host.kernel == \"x\" && nic.link.mtu == 9000}}\n"},
		{"two rules of one id", rulesHead + "rules: {user/mtu: " + fineRule + "}\n---\n" + strings.Replace(rulesHead, "edge", "core", 1) + "rules: {user/mtu: " + fineRule + "}\n"},
		{"two checks of one name", checkHead + "rules: {link/eee: off}\n---\n" + checkHead + "rules: {link/eee: off}\n"},
	}
}

// Every fault of the documents above, word by word, is in testdata/faults.golden.
func TestGoldenFaults(t *testing.T) {
	var b strings.Builder
	for _, c := range faultCases() {
		documents, err := ParseDocuments("edge.yaml", []byte(c.yaml))
		policies := documents.Policies
		if err == nil {
			policies, err = Bind(policies, steering())
		}
		if err == nil {
			if err = BindChecks(documents.Checks, someRules); err != nil {
				policies = nil
			}
		}
		if err == nil {
			t.Errorf("%s: no fault", c.name)
			continue
		}
		if policies != nil {
			t.Errorf("%s: policies in spite of faults", c.name)
		}
		var f *Fault
		if !errors.As(err, &f) || f.Source.Line == 0 {
			t.Errorf("%s: no Fault with a line in %v", c.name, err)
		}
		fmt.Fprintf(&b, "# %s\n%s\n\n", c.name, err)
	}
	golden(t, "faults.golden", b.String())
}

func TestFaultsEnd(t *testing.T) {
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "x%d: 1\n", i)
	}
	_, err := Parse("many.yaml", []byte(head+"match: {}\nsettings: "+fine+"\n"+many.String()))
	if err == nil {
		t.Fatal("no fault")
	}
	if n := strings.Count(err.Error(), "unknown key"); n != enough {
		t.Errorf("%d faults, want %d", n, enough)
	}
	if !strings.HasSuffix(err.Error(), "there may be more") {
		t.Errorf("it doesn't say that it stopped: %s", err.Error())
	}
}

func TestTooLarge(t *testing.T) {
	_, err := Parse("big.yaml", make([]byte, MaxSize+1))
	if err == nil || !strings.Contains(err.Error(), "more than 262144 bytes") {
		t.Errorf("%v", err)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"driver", "pci", "kind", "name", "permanentMac", "rx-mini", "rx", "linkState", "linkSpeed", "speedMbps"}
	for in, want := range map[string]string{
		"drvier": "driver", "Driver": "driver", "drivers": "driver", "permanent_mac": "permanentMac", "rxmini": "rx-mini",
		"rx_mini": "rx-mini", "pic": "pci", "speed": "speedMbps", "spe": "", "link": "", "": "", "r": "rx", "metadata": "", strings.Repeat("driver", 20): "",
	} {
		if got := nearest(in, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}
