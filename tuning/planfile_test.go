package tuning

import (
	"errors"
	"maps"
	"strings"
	"testing"

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
		}, "it has the impact nic-reset now; the plan says seamless"},
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
