package tuning

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/policies"
)

func TestPlanAsText(t *testing.T) {
	h, nics := newHost()
	nics[1].Parent, nics[1].PCI, nics[1].PermanentMAC = nil, nil, "" // a software device
	h.files["/toy/eth1/third"] = `{"a":1,"b":10,"c":false}`
	plan := mustPlan(t, h, want(t, nics, "eth0 first a=max b=10", "eth0 second b=20", "eth1 third c=on"))
	var b strings.Builder
	if err := plan.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const text = `eth0 (0000:01:00.0/52:54:00:00:00:02)
  ~ first (nic-reset)
      a  1  ->  100  edge.yaml:1
  ~ second (link-flap)
      b  10  ->  20  edge.yaml:2

eth1
  ~ third (seamless)
      c  off  ->  on  edge.yaml:3

Plan: 3 changes on 2 NICs; 1 value is already as wanted.
`
	if b.String() != text {
		t.Errorf("got\n%s\nwant\n%s", b.String(), text)
	}
}

// What reads alike is there once, however many NICs it is about; the host is none
// of them.
func TestPlanOfManyNICsAsText(t *testing.T) {
	h, nics := newHost()
	third := toyKnob("third", Seamless)
	third.Scope = PerHost
	kept := toyKnob("kept", Seamless)
	kept.After = []string{"first"}
	settings := []Setting{third, toyKnob("first", NICReset), kept}
	h.files["/toy//third"] = `{"a":1,"b":10}`
	for i := range 4 {
		nics = append(nics, nicAt("eth"+strconv.Itoa(i+2), "0000:03:00."+strconv.Itoa(i), i+4))
	}
	var lines []string
	for i, nic := range nics {
		h.files["/toy/"+nic.ID()+"/first"] = fmt.Sprintf(`{"a":%d,"b":10}`, 1+i/5)
		h.files["/toy/"+nic.ID()+"/kept"] = `{"a":1}`
		lines = append(lines, nic.Name+" first a=5 c=on")
	}
	wants := want(t, nics, lines...)
	for i := range wants {
		a, c := &wants[i].Fields[0], &wants[i].Fields[1]
		a.Value = policies.NumberValue(5, policies.Source{File: "edge.yaml", Line: 7})
		c.Value = policies.BoolValue(true, policies.Source{File: "edge.yaml", Line: 8})
		c.Optional = true
	}
	wants = append(wants, want(t, nics, "host third a=2")...)
	plan, err := MakePlan(t.Context(), h, settings, wants, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := plan.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const text = `host
  ~ third (seamless)
      a  1  ->  2  edge.yaml:1

eth0 (0000:01:00.0/52:54:00:00:00:02)
eth1 (0000:02:00.0/52:54:00:00:00:03)
eth2 (0000:03:00.0/52:54:00:00:00:04)
eth3 (0000:03:00.1/52:54:00:00:00:05)
eth4 (0000:03:00.2/52:54:00:00:00:06)
  ~ first (nic-reset)
      a  1  ->  5  edge.yaml:7
  = kept (put back, should these changes wipe them)

eth5 (0000:03:00.3/52:54:00:00:00:07)
  ~ first (nic-reset)
      a  2  ->  5  edge.yaml:7
  = kept (put back, should these changes wipe them)

Plan: 7 changes on 6 NICs and the host; 0 values are already as wanted.
Skipped, being optional: eth0, eth1, eth2 and 3 more: first.c (edge.yaml:8): the device has no c
`
	if b.String() != text {
		t.Errorf("got\n%s\nwant\n%s", b.String(), text)
	}

	plan.Changes = plan.Changes[:1]
	b.Reset()
	if err := plan.WriteText(&b); err != nil || !strings.Contains(b.String(), "Plan: 1 change on the host;") {
		t.Errorf("%v\n%s", err, b.String())
	}
	_, err = MakePlan(t.Context(), h, settings, want(t, nics, "host third c=on"), nil)
	if err == nil || !strings.Contains(err.Error(), "host: third.c: on: unsupported: this network namespace has no c: set it in the host's first one") {
		t.Error(err)
	}
}

func TestCatalogue(t *testing.T) {
	settings := []Setting{toyKnob("first", Seamless), Knob[map[string]bool]{
		Name: "flags", Doc: "Flags.", Aliases: map[string][]string{"both": {"x", "y"}, "why": {"y"}},
	}}
	c := Catalogue(settings)
	if len(c) != 2 || c[0].Name != "first" || c[0].Doc != "A toy." || c[0].Open != nil || len(c[0].Fields) != 3 {
		t.Fatalf("%+v", c)
	}
	a, flag := c[0].Fields[0], c[0].Fields[2]
	if a.Name != "a" || a.Doc != "The first." || a.Type != policies.Number || strings.Join(a.Words, " ") != "max" {
		t.Errorf("%+v", a)
	}
	if flag.Name != "c" || flag.Type != policies.Bool || flag.Words != nil {
		t.Errorf("%+v", flag)
	}
	if y := c[1].Fields[1]; c[1].Open == nil || c[1].Open.Type != policies.Bool || y.Name != "y" || strings.Join(y.Aliases, " ") != "both why" {
		t.Errorf("%+v", c[1])
	}
}
