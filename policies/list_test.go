package policies

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// steering has a list setting and one of the host beside testCatalogue's.
func steering() Catalogue {
	return append(testCatalogue(),
		Setting{Name: "flows", Doc: "Flow rules.", List: true, Fields: []Field{
			{Name: "proto", Words: []string{"tcp4", "udp4"}}, {Name: "dst-port", Aliases: []string{"dport"}, Type: Number},
			{Name: "queue", Type: Number, Words: []string{"max"}}, {Name: "cpus", Type: Text, Form: "CPUs"},
			{Name: "hash.udp4", Type: Text, Form: "letters"}, {Name: "hash.tcp4", Type: Text, Form: "letters"},
		}},
		Setting{Name: "softnet", Doc: "Sysctls.", Host: true, Fields: []Field{{Name: "netdev-budget", Type: Number}, {Name: "backlog", Type: Number}}},
	)
}

func bind(t *testing.T, file string, docs ...string) ([]Policy, error) {
	t.Helper()
	policies, err := Parse(file, []byte(strings.Join(docs, "---\n")))
	if err == nil {
		policies, err = Bind(policies, steering())
	}
	return policies, err
}

// everything is render with items, and with what may be left out or clamped.
func everything(wants []Want) string {
	var b strings.Builder
	flags := func(optional, clamp bool) string {
		return map[bool]string{true: " optional"}[optional] + map[bool]string{true: " clamped"}[clamp]
	}
	for _, w := range wants {
		name := "host"
		if w.NIC != nil {
			name = w.NIC.Name
		}
		for _, f := range w.Fields {
			fmt.Fprintf(&b, "%s %s.%s=%s%s\n", name, w.Setting, f.Field, f.Value, flags(f.Optional, f.Clamp))
		}
		if w.Items == nil {
			continue
		}
		fmt.Fprintf(&b, "%s %s from %d:%d%s:", name, w.Setting, w.Source.Line, w.Source.Column, flags(w.Optional, w.Clamp))
		for _, item := range w.Items {
			fmt.Fprintf(&b, " %d:%d", item.Source.Line, item.Source.Column)
			for _, f := range item.Fields {
				fmt.Fprintf(&b, " %s=%s", f.Field, f.Value)
			}
			b.WriteByte(';')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const rules = `
  flows:
    - {proto: udp4, dport: 53, queue: max}
    - proto: tcp4
      queue: 1`

// A list is one value: the higher priority's whole, or the one that all want.
func TestListSettings(t *testing.T) {
	for name, c := range map[string]struct {
		docs []string
		want string
	}{
		"one": {[]string{doc("a", 0, "{name: eth0}", rules)},
			"eth0 flows from 7:3: 8:8 proto=udp4 dst-port=53 queue=max; 9:7 proto=tcp4 queue=1;\n"},
		"none": {[]string{doc("a", 0, "{name: eth0}", "{flows: []}")}, "eth0 flows from 6:12:\n"},
		"priority": {[]string{doc("a", 0, "{name: eth0}", rules), doc("b", 1, "{}", "{flows: [{queue: 7}]}")},
			"eth0 flows from 17:12: 17:21 queue=7;\neth1 flows from 17:12: 17:21 queue=7;\neth2 flows from 17:12: 17:21 queue=7;\neth3 flows from 17:12: 17:21 queue=7;\n"},
		"a mapping in an item": {[]string{doc("a", 0, "{name: eth0}", "{flows: [{hash: {udp4: sdfn, tcp4: sd}, queue: 1}]}")},
			"eth0 flows from 6:12: 6:28 hash.udp4=sdfn hash.tcp4=sd queue=1;\n"},
		"agreed": {[]string{doc("a", 0, "{name: eth0}", "{flows: [{proto: udp4, queue: 1}]}") + "optional: [flows]\n",
			doc("b", 0, "{name: eth0}", "{flows: [{queue: 1, proto: udp4}]}") + "optional: true\nclamp: true\n"},
			"eth0 flows from 6:12 optional: 6:21 proto=udp4 queue=1;\n"},
	} {
		policies, err := bind(t, "a.yaml", c.docs...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wants, _, err := Resolve(policies, Host{}, nics())
		if got := everything(wants); err != nil || got != c.want {
			t.Errorf("%s: %v\n%swant\n%s", name, err, got, c.want)
		}
	}

	policies, err := bind(t, "a.yaml", doc("a", 0, "{name: eth0}", rules), doc("b", 0, "{name: \"eth[01]\"}", "{flows: [{queue: 7, hash: {udp4: sd, tcp4: s}, cpus: [1, 2]}]}"))
	if err != nil {
		t.Fatal(err)
	}
	wants, _, err := Resolve(policies, Host{}, nics())
	var conflict *ConflictError
	if !errors.As(err, &conflict) || wants != nil || err.Error() != `conflict: two policies of priority 0 want different values for flows of eth0; give one of them a higher priority, or a narrower match
  a.yaml:7: policy a wants [{dst-port: 53, proto: udp4, queue: max}, {proto: tcp4, queu...
    flows:
  a.yaml:17: policy b wants [{cpus: [1,2], hash: {tcp4: s, udp4: sd}, queue: 7}]
    settings: {flows: [{queue: 7, hash: {udp4: sd, tcp4: s}, cpus: [1, 2]}]}` {
		t.Errorf("%v\n%v", wants, err)
	}
	for settings, want := range map[string]string{
		"{flows: [{hash: {udp5: sd}}]}":                 `unknown field "hash.udp5" of flows; did you mean "hash.udp4"?`,
		"{flows: [{hash: {udp4: {a: b}}}]}":             "flows.hash.udp4 takes a single value, not a mapping",
		"{flows: [{queue: {udp4: 1}}]}":                 `unknown field "queue.udp4" of flows`,
		"{flows: [{hash: sd}]}":                         `unknown field "hash" of flows`,
		"{flows: [{hash: {}}]}":                         "flows.hash asks for nothing",
		"{rings: {rx: {max: 4}}}":                       "rings.rx takes a single value, not a mapping",
		"{flows: [{hash: {udp4: s}, hash: {udp4: d}}]}": "",
	} {
		if _, err := bind(t, "a.yaml", doc("a", 0, "{}", settings)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}

// A setting of the host is wanted once, by the policies that match something.
func TestHostSettings(t *testing.T) {
	policies, err := bind(t, "a.yaml",
		doc("a", 0, "{}", "{softnet: {netdev-budget: 600}, rings: {rx: 1}}"),
		doc("b", 0, "{name: eth1}", "{softnet: {backlog: 5000}}"),
		doc("c", 9, "{name: none}", "{softnet: {netdev-budget: 1}}"))
	if err != nil {
		t.Fatal(err)
	}
	wants, _, err := Resolve(policies, Host{}, nics()[:2])
	const want = "eth0 rings.rx=1\neth1 rings.rx=1\nhost softnet.backlog=5000\nhost softnet.netdev-budget=600\n"
	if got := everything(wants); err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	policies, err = bind(t, "a.yaml", doc("a", 0, "{}", "{softnet: {backlog: 1}}"), doc("b", 0, "{name: eth1}", "{softnet: {backlog: 2}}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = Resolve(policies, Host{}, nics()); err == nil || !strings.Contains(err.Error(), "softnet.backlog of this host;") {
		t.Errorf("%v", err)
	}
	if wants, _, err = Resolve(policies, Host{}, nil); err != nil || len(wants) != 0 {
		t.Errorf("without a NIC: %v %v", wants, err)
	}
}

// What each of rings.rx, rings.tx, the two that tso stands for, and rx-lro may be.
func TestOptionalAndClamp(t *testing.T) {
	const settings = "{rings: {rx: 9, tx: 9}, features: {tso: on, rx-lro: off}}"
	for keys, want := range map[string]string{
		"optional: true":           "o o o o o",
		"optional: no":             "- - - - -",
		"clamp: rings":             "c c - - -",
		"clamp: [rings.tx]":        "- c - - -",
		"optional: [features.tso]": "- - o o -",
		"optional: features.lro\nclamp: [rings.rx, features]": "c - c c oc",
	} {
		policies, err := bind(t, "a.yaml", doc("a", 0, "{name: eth0}", settings)+keys+"\n")
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		var got []string
		for _, b := range policies[0].Settings {
			for _, f := range b.Fields {
				got = append(got, map[[2]bool]string{{}: "-", {true, false}: "o", {false, true}: "c", {true, true}: "oc"}[[2]bool{f.Optional, f.Clamp}])
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", keys, got, want)
		}
	}
	// Of two policies that want the same, the stricter counts.
	policies, err := bind(t, "a.yaml", doc("a", 0, "{}", fine)+"optional: true\nclamp: true\n", doc("b", 0, "{}", fine)+"clamp: true\n")
	if err != nil {
		t.Fatal(err)
	}
	wants, _, err := Resolve(policies, Host{}, nics()[:1])
	if got := everything(wants); err != nil || got != "eth0 rings.rx=max clamped\n" {
		t.Errorf("%v\n%s", err, got)
	}
}
