package tuning

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/inventory"
)

// A plan that was edited by hand may not do more than it says: neither what it
// was allowed for nor what NICs are used for was held against the rest.
func TestPlanThatSaysLessThanItDoes(t *testing.T) {
	second := toyKnob("second", Seamless)
	second.After = []string{"first"}
	second.Impact = func(_ inventory.NIC, current, next toy) Impact {
		if *current.A != *next.A {
			return NICReset
		}
		return Seamless
	}
	third := toyKnob("third", Seamless)
	third.Scope = PerHost
	settings := []Setting{third, toyKnob("first", Seamless), second}
	for name, test := range map[string]struct {
		edit func(*Plan)
		want string
	}{
		"a kept change that wishes": {func(p *Plan) { p.Changes[1].Wish = []byte(`{"a":7}`) }, "kept and changed"},
		"a late change that goes elsewhere": {func(p *Plan) {
			p.Changes[1].Turn, p.Changes[1].Goal = Late, Values{"a": []byte("7")}
		}, "eth0: second.a would become 7, and the plan shows 1"},
		"a late change before what it waits for": {func(p *Plan) {
			p.Changes[1].Turn = Late
			p.Changes[0], p.Changes[1] = p.Changes[1], p.Changes[0]
		}, "no change before it builds it anew"},
		"a setting of the host under a NIC's name": {func(p *Plan) { p.Changes[0].Setting = "third" }, "setting of the host"},
	} {
		h, nics := newHost()
		h.files["/toy//third"] = h.files["/toy/"+nics[0].ID()+"/third"]
		before := maps.Clone(h.files)
		plan, err := MakePlan(t.Context(), h, settings, want(t, nics, "eth0 first b=20"), nil)
		if err != nil || len(plan.Changes) != 2 || plan.Changes[1].Turn != Kept {
			t.Fatalf("%+v, %v", plan, err)
		}
		test.edit(plan)
		e := engine(t, h, t.TempDir())
		e.Settings = settings
		_, err = e.Apply(t.Context(), plan, nics, allowAll)
		if err == nil || !strings.Contains(err.Error(), test.want) || !maps.Equal(h.files, before) {
			t.Errorf("%s: %v, want %q; the host is %v", name, err, test.want, h.files)
		}
		var tried *ApplyError
		if errors.As(err, &tried) && len(tried.Left) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A late change is resolved when its turn has come: what it is resolved from may
// not be other than what the plan shows.
func TestPlanWhoseWishIsAnother(t *testing.T) {
	h := &rigHost{rigs: map[string]*rig{"eth0": {most: 4, step: 1, queues: rigQueues{2}, table: []uint32{0, 1, 0, 1}, pins: []string{"all", "all"}}}}
	nics := []inventory.NIC{nicAt("eth0", "0000:01:00.0", 2)}
	wants := want(t, nics, "eth0 queues n=4", "eth0 table over=3", "eth0 pins cpu=1")
	for name, test := range map[string]struct {
		edit func(queues, table, pins *Change)
		want string
	}{
		"nothing":      {func(_, _, _ *Change) {}, ""},
		"another wish": {func(_, _, pins *Change) { pins.Wish = []byte(`{"cpu":0}`) }, "eth0: pins.q0 would become 0, and the plan shows 1"},
		"another field": {func(_, table, _ *Change) {
			table.Fields[0].After, table.After["entries"] = []byte("[0]"), []byte("[0]")
		}, "eth0: table.entries would become [0 1 2 0], and the plan shows [0]"},
		"fewer fields": {func(_, _, pins *Change) { pins.Fields = pins.Fields[1:] }, "eth0: pins.q0 would become 1, and the plan shows all"},
		"another before": {func(_, table, _ *Change) {
			table.Before["entries"] = []byte("[1]")
			table.Fields[0].Before = []byte("[1]")
		}, "the plan does not fit this host any more: eth0: table.entries is [0 1] x 2, not [1]"},
	} {
		h := h.clone()
		h.rigs["eth0"].rules = rigRules{}
		settings := rigSettings(h)
		plan, err := MakePlan(t.Context(), h, settings, wants, nil)
		if err != nil {
			t.Fatalf("%v: %+v", err, plan)
		}
		of := func(setting string) *Change {
			return &plan.Changes[slices.IndexFunc(plan.Changes, func(c Change) bool { return c.Setting == setting && c.Turn != MakingWay })]
		}
		test.edit(of("queues"), of("table"), of("pins"))
		store, err := OpenStore(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		e := &Engine{Settings: settings, Writer: h, Store: store, Settle: time.Millisecond}
		_, err = e.Apply(t.Context(), plan, nics, allowAll)
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) || h.writes > 0) {
			t.Errorf("%s: %v, want %q; %d writes", name, err, test.want, h.writes)
		}
		store.Close()
	}
}
