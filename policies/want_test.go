package policies

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
)

func nics() []inventory.NIC {
	igb := &inventory.Driver{Name: "igb"}
	return []inventory.NIC{
		{
			Name: "eth0", Index: 2, AltNames: []string{"enp1s0f0", "uplink"}, Function: inventory.PF, Driver: igb,
			PCI: &inventory.PCI{Address: "0000:01:00.0", VendorID: "8086", DeviceID: "10c9"}, PermanentMAC: "52:54:00:00:00:01",
		},
		{
			Name: "eth1", Index: 3, Function: inventory.PF, Driver: igb,
			PCI: &inventory.PCI{Address: "0000:01:00.1", VendorID: "8086", DeviceID: "10c9"}, PermanentMAC: "52:54:00:00:00:02",
		},
		{
			Name: "eth2", Index: 4, Function: inventory.VF, Driver: &inventory.Driver{Name: "igbvf"},
			PCI: &inventory.PCI{Address: "0000:02:10.0", VendorID: "8086", DeviceID: "10ca"},
		},
		{Name: "eth3", Index: 5, Function: inventory.Plain, Driver: &inventory.Driver{Name: "virtio_net"}, PCI: &inventory.PCI{Address: "0001:03:00.0", VendorID: "1af4", DeviceID: "1041"}},
		{Name: "rep0", Index: 6, Function: inventory.Representor},
		{Name: "veth0", Index: 7, Function: inventory.Virtual, Type: "veth"},
	}
}

// A list is its items, and only a field of text takes one.
func TestLists(t *testing.T) {
	catalogue := Catalogue{{Name: "irq", Fields: []Field{
		{Name: "cpus", Type: Text, Form: "a CPU list", Words: []string{"all"}}, {Name: "spread", Words: []string{"all"}},
	}}}
	for settings, want := range map[string]string{
		"irq: {cpus: [0, 2, 4-7]}":          "0,2,4-7",
		"irq: {cpus: [\"0,2\", 3]}":         "0,2,3",
		"irq:\n    cpus:\n    - 1\n    - 3": "1,3",
		"irq: {cpus: 0-3}":                  "0-3",
		"irq: {cpus: 3}":                    "3",
		"irq: {cpus: all}":                  "all",
		"irq: {spread: [all]}":              "irq.spread takes all, not a list",
		"irq: {cpus: []}":                   "irq.cpus is an empty list",
		"irq: {cpus: [1, off]}":             "irq.cpus: off has no place in a list",
		"irq: {cpus: [[1]]}":                "irq.cpus takes a single value, not a list",
		"irq: {cpus: off}":                  "irq.cpus takes a CPU list or all, not off",
	} {
		got, err := Parse("f.yaml", []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {}\nsettings:\n  "+settings+"\n"))
		if err == nil {
			got, err = Bind(got, catalogue)
		}
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", settings, err, want)
			}
			continue
		}
		if v := got[0].Settings[0].Fields[0].Value; v.String() != want {
			t.Errorf("%s is %s, want %s", settings, v, want)
		}
	}
	at := Source{Line: 1}
	if ListValue("1,2", at).Equal(WordValue("1,2", at)) || !ListValue("1,2", at).Equal(ListValue("1,2", Source{})) {
		t.Error("a list is a list, wherever it stands")
	}
}

// known is one of nics with the facts that change.
func known(nic inventory.NIC) inventory.NIC {
	switch nic.Name {
	case "eth0":
		nic.Link = inventory.Link{Admin: "up", Carrier: new(true), SpeedMbps: new(10000)}
		nic.NUMA = &inventory.NUMA{Node: new(1)}
		nic.Driver = &inventory.Driver{Name: nic.Driver.Name, Firmware: "216.0.333/pkg 21.60"}
		nic.PCI.SubsystemVendorID, nic.PCI.SubsystemDeviceID = "8086", "a03c"
	case "eth1":
		nic.Link = inventory.Link{Admin: "up", Carrier: new(false), SpeedMbps: new(1000)}
		nic.NUMA = &inventory.NUMA{Node: new(0)}
	case "eth2":
		nic.Link.Admin = "down"
	case "eth3":
		nic.NUMA = &inventory.NUMA{LocalCPUs: "0-3"}
	case "veth0":
		nic.Link = inventory.Link{Carrier: new(true), SpeedMbps: new(10000)}
	}
	return nic
}

func TestMatch(t *testing.T) {
	for match, want := range map[string]string{
		"{}":                                          "eth0 eth1 eth2 eth3",
		"{driver: igb}":                               "eth0 eth1",
		"{driver: \"igb*\"}":                          "eth0 eth1 eth2",
		"{driver: [igbvf, virtio_net]}":               "eth2 eth3",
		"{driver: igb, name: eth1}":                   "eth1",
		"{driver: e1000e}":                            "",
		"{pci: 8086:10c9}":                            "eth0 eth1",
		"{pci: \"8086:10C9\"}":                        "eth0 eth1",
		"{pci: \"8086:*\"}":                           "eth0 eth1 eth2",
		"{pci: \"*:*\"}":                              "eth0 eth1 eth2 eth3",
		"{pci: \"[0-9]*:10c?\"}":                      "eth0 eth1 eth2",
		"{pci: \"0000:01:00.*\"}":                     "eth0 eth1",
		"{pci: 01:00.1}":                              "eth1",
		"{pci: \"*:03:*\"}":                           "eth3",
		"{pci: [\"1af4:1041\", \"0000:02:10.0\"]}":    "eth2 eth3",
		"{kind: vf}":                                  "eth2",
		"{kind: [representor, virtual]}":              "rep0 veth0",
		"{kind: sf}":                                  "",
		"{name: \"eth[01]\"}":                         "eth0 eth1",
		"{name: uplink}":                              "eth0",
		"{name: \"enp*\"}":                            "eth0",
		"{name: \"*\"}":                               "eth0 eth1 eth2 eth3 rep0 veth0",
		"{permanentMac: 52:54:00:00:00:02}":           "eth1",
		"{permanentMac: [52-54-00-00-00-01]}":         "eth0",
		"{permanentMac: 52:54:00:00:00:02, kind: vf}": "",

		"{vendor: 8086}":                             "eth0 eth1 eth2",
		"{vendor: \"*\"}":                            "eth0 eth1 eth2 eth3",
		"{vendor: 1AF4, device: \"10*\"}":            "eth3",
		"{device: [10c9, 1041]}":                     "eth0 eth1 eth3",
		"{subsystem: 8086:a03c}":                     "eth0",
		"{subsystem: \"8086:*\"}":                    "eth0",
		"{speed: 10000}":                             "eth0",
		"{speed: \">=1000\"}":                        "eth0 eth1",
		"{speed: \"< 10000\"}":                       "eth1",
		"{speed: [\">1000\", 1000]}":                 "eth0 eth1",
		"{speed: \"<=999\"}":                         "",
		"{speed: \">=1000\", name: \"*\"}":           "eth0 eth1 veth0",
		"{numaNode: 1}":                              "eth0",
		"{numaNode: [0, 1]}":                         "eth0 eth1",
		"{firmware: \"216.*\"}":                      "eth0",
		"{firmware: \"*\"}":                          "eth0",
		"{linkState: up}":                            "eth0",
		"{linkState: down}":                          "eth1 eth2",
		"{linkState: [up, down], name: \"*\"}":       "eth0 eth1 eth2 veth0",
		"{labels: {role: edge}}":                     "eth0 eth1 eth2 eth3",
		"{labels: {role: [core, \"e*\"], rack: r1}}": "eth0 eth1 eth2 eth3",
		"{labels: {role: core}}":                     "",
		"{labels: {site: \"*\"}}":                    "",
		"{labels: {role: edge}, kind: virtual}":      "veth0",
		"{where: nic.index > 3}":                     "eth2 eth3", // hardware only
		"{where: nic.index > 3, name: \"*\"}":        "eth2 eth3 rep0 veth0",
		"{where: host.labels.role == nic.name}":      "",
	} {
		policies, err := Parse("m.yaml", []byte(in(match, fine)))
		if err != nil {
			t.Errorf("%s: %v", match, err)
			continue
		}
		var got []string
		for _, nic := range nics() {
			nic := known(nic)
			if ok, _ := policies[0].Match.Holds(&nic, &Host{Labels: map[string]string{"role": "edge", "rack": "r1"}}); ok {
				got = append(got, nic.Name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s matches %v, want %s", match, got, want)
		}
	}
}

// Each kind is matched by its name, and those that are hardware by an empty match.
func TestMatchKinds(t *testing.T) {
	for kind, hardware := range map[inventory.Function]bool{
		inventory.PF: true, inventory.VF: true, inventory.SF: true, inventory.Plain: true, inventory.Representor: false, inventory.Virtual: false,
	} {
		nic := inventory.NIC{Name: "eth0", Function: kind}
		for match, want := range map[string]bool{
			"{kind: " + string(kind) + "}": true, "{}": hardware, "{name: \"*\"}": true, "{name: \"*\", kind: [pf, vf, sf, plain]}": hardware,
		} {
			policies, err := Parse("m.yaml", []byte(in(match, fine)))
			if err != nil {
				t.Fatalf("%s: %v", match, err)
			}
			if holds, _ := policies[0].Match.Holds(&nic, &Host{}); holds != want {
				t.Errorf("%s of a %s: %v", match, kind, holds)
			}
		}
	}
}

// doc is one document for a test of Resolve.
func doc(name string, priority int, match, settings string) string {
	return fmt.Sprintf("apiVersion: nictune/v1\nkind: TuningPolicy\nname: %s\npriority: %d\nmatch: %s\nsettings: %s\n", name, priority, match, settings)
}

// render is wants as text: one line for each field.
func render(wants []Want) string {
	var b strings.Builder
	for _, w := range wants {
		for _, f := range w.Fields {
			fmt.Fprintf(&b, "%s %s.%s=%s (%s %s)\n", w.NIC.Name, w.Setting, f.Field, f.Value, f.Value.Source.Policy, f.Value.Source)
		}
	}
	return b.String()
}

func TestResolve(t *testing.T) {
	policies := parse(t, "a.yaml",
		doc("all", 0, "{}", "{rings: {rx: 1024, tx: 512}, features: {rx-gro: on}}"),
		doc("igb", 10, "{driver: igb}", "{rings: {rx: max}}"),
		doc("also", 0, "{name: eth1}", "{features: {rx-gro: yes}}"),
		doc("nothing", 99, "{driver: mlx5_core}", "{rings: {rx: 1}}"),
	)
	wants, report, err := Resolve(policies, Host{}, nics())
	if err != nil {
		t.Fatal(err)
	}
	const want = `eth0 features.rx-gro=on (all a.yaml:6)
eth0 rings.rx=max (igb a.yaml:13)
eth0 rings.tx=512 (all a.yaml:6)
eth1 features.rx-gro=on (all a.yaml:6)
eth1 rings.rx=max (igb a.yaml:13)
eth1 rings.tx=512 (all a.yaml:6)
eth2 features.rx-gro=on (all a.yaml:6)
eth2 rings.rx=1024 (all a.yaml:6)
eth2 rings.tx=512 (all a.yaml:6)
eth3 features.rx-gro=on (all a.yaml:6)
eth3 rings.rx=1024 (all a.yaml:6)
eth3 rings.tx=512 (all a.yaml:6)
`
	if got := render(wants); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	var matched []string
	for _, m := range report.Policies {
		var names []string
		for _, nic := range m.NICs {
			names = append(names, nic.Name)
		}
		matched = append(matched, m.Policy+":"+strings.Join(names, ","))
	}
	if got, want := strings.Join(matched, " "), "nothing: igb:eth0,eth1 all:eth0,eth1,eth2,eth3 also:eth1"; got != want {
		t.Errorf("report %s, want %s", got, want)
	}
}

func TestGoldenConflict(t *testing.T) {
	policies := append(parse(t, "10-all.yaml", doc("all", 0, "{}", "{rings: {rx: 1024, tx: 64}}"), doc("over", 5, "{}", "{rings: {tx: max}}")),
		parse(t, "20-igb.yaml", doc("igb", 0, "{driver: [igb, igbvf]}", "{rings: {rx: max, tx: 32}}"), doc("off", 5, "{name: eth0}", "{rings: {tx: 1}}"))...)
	wants, report, err := Resolve(policies, Host{}, nics())
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("no conflict: %v", err)
	}
	if wants != nil || len(report.Policies) != 4 || len(report.Policies[2].NICs) != 4 {
		t.Errorf("wants %v, report %v", wants, report)
	}
	golden(t, "conflict.golden", err.Error()+"\n")
}

// A conflict below a higher priority is none.
func TestOverruledConflict(t *testing.T) {
	policies := parse(t, "a.yaml",
		doc("a", 0, "{}", "{rings: {rx: 1}}"),
		doc("b", 0, "{}", "{rings: {rx: 2}}"),
		doc("c", 1, "{}", "{rings: {rx: 3}}"),
	)
	wants, _, err := Resolve(policies, Host{}, nics()[:1])
	if err != nil || render(wants) != "eth0 rings.rx=3 (c a.yaml:20)\n" {
		t.Errorf("%v\n%s", err, render(wants))
	}
}

// However the documents are ordered, and however they are spread over files,
// Resolve says what a plain reading of the rule says.
func TestResolveOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		policies := randomPolicies(r)
		devices := nics()
		wants, report, err := Resolve(policies, Host{}, devices)
		model, conflicts := resolveSlowly(policies, devices)
		if (err != nil) != (conflicts > 0) {
			t.Fatalf("seed %d: error %v, but %d conflicts by the rule", seed, err, conflicts)
		}
		if err == nil {
			got := map[string]string{}
			for _, w := range wants {
				for _, f := range w.Fields {
					got[w.NIC.Name+" "+w.Setting+"."+f.Field] = f.Value.String()
				}
			}
			if !maps.Equal(got, model) {
				t.Fatalf("seed %d: %v, by the rule %v", seed, got, model)
			}
		}
		for range 5 {
			shuffled := slices.Clone(policies)
			r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			wants2, report2, err2 := Resolve(shuffled, Host{}, devices)
			if !reflect.DeepEqual(wants, wants2) || fmt.Sprint(report) != fmt.Sprint(report2) || fmt.Sprint(err) != fmt.Sprint(err2) {
				t.Fatalf("seed %d: the order of policies changed the result:\n%v\n%v\n%v\n%v", seed, render(wants), err, render(wants2), err2)
			}
		}
	}
}

func randomPolicies(r *rand.Rand) []Policy {
	matches := []Match{{}, {Driver: []string{"igb*"}}, {Name: []string{"eth1"}}, {Kind: []inventory.Function{inventory.VF, inventory.Virtual}}, {Driver: []string{"none"}}}
	var policies []Policy
	for i := range 1 + r.IntN(5) {
		p := Policy{Name: fmt.Sprintf("p%d", i), Priority: r.IntN(3), Match: matches[r.IntN(len(matches))]}
		p.Source = Source{Policy: p.Name, File: fmt.Sprintf("%d.yaml", r.IntN(2)), Line: 10*i + 1, Column: 7}
		for j, setting := range []string{"rings", "channels"} {
			block := Block{Setting: setting, Source: p.Source}
			for k, name := range []string{"rx", "tx"} {
				if r.IntN(3) > 0 {
					continue
				}
				at := p.Source
				at.Line += 2*j + k + 1
				values := []Value{NumberValue(1, at), NumberValue(2, at), BoolValue(true, at), WordValue("max", at)}
				block.Fields = append(block.Fields, Assignment{Field: name, Source: at, Value: values[r.IntN(len(values))]})
			}
			p.Settings = append(p.Settings, block)
		}
		policies = append(policies, p)
	}
	return policies
}

// resolveSlowly applies the rule field by field: of the policies that match and
// name the field, the highest priority must agree.
func resolveSlowly(policies []Policy, devices []inventory.NIC) (map[string]string, int) {
	model, conflicts := map[string]string{}, 0
	for _, nic := range devices {
		for _, setting := range []string{"rings", "channels"} {
			for _, name := range []string{"rx", "tx"} {
				top, said := -1, map[string]bool{}
				for _, p := range policies {
					for _, b := range p.Settings {
						for _, a := range b.Fields {
							if !holds(&p.Match, &nic) || b.Setting != setting || a.Field != name || p.Priority < top {
								continue
							}
							if p.Priority > top {
								top, said = p.Priority, map[string]bool{}
							}
							said[a.Value.String()] = true
						}
					}
				}
				if len(said) > 1 {
					conflicts++
				}
				for v := range said {
					model[nic.Name+" "+setting+"."+name] = v
				}
			}
		}
	}
	return model, conflicts
}

// holds is Holds on a host without facts, where nothing can be undecided.
func holds(m *Match, nic *inventory.NIC) bool {
	ok, err := m.Holds(nic, &Host{})
	return ok && err == nil
}

func parse(t *testing.T, file string, docs ...string) []Policy {
	t.Helper()
	policies, err := Parse(file, []byte(strings.Join(docs, "---\n")))
	if err == nil {
		policies, err = Bind(policies, testCatalogue())
	}
	if err != nil {
		t.Fatal(err)
	}
	return policies
}
