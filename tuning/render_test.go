package tuning

import (
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
