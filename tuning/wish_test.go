package tuning

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// spread is what policies say of a table of four entries.
type spread struct {
	Over  *uint32 `json:"over,omitempty" doc:"How many."`
	Names *string `json:"names,omitempty" form:"a list" words:"all" doc:"Which."`
	Fast  *bool   `json:"fast,omitempty" doc:"How."`
}

type table struct {
	Entries []uint32 `json:"entries"`
	Said    string   `json:"said"`
}

func tableKnob() Knob[table] {
	state := func(nic inventory.NIC) string { return "/toy/" + nic.ID() + "/table" }
	return Knob[table]{
		Name: "table", After: []string{"first"},
		Impact: func(inventory.NIC, table, table) Impact { return Seamless },
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit table, err error) {
			b, err := r.ReadFile(ctx, state(nic))
			if err == nil {
				err = json.Unmarshal(b, &current)
			}
			return current, limit, err
		},
		Wish: WishOf(func(_ context.Context, _ Ask, wish spread, current table) (table, error) {
			next := current
			if wish.Over != nil {
				if *wish.Over == 0 {
					return next, errors.New("over nothing")
				}
				next.Entries = nil
				for i := range uint32(4) {
					next.Entries = append(next.Entries, i%*wish.Over)
				}
			}
			if wish.Names != nil {
				next.Said = *wish.Names
			}
			if wish.Fast != nil && !*wish.Fast {
				return next, unsupported("it is always fast")
			}
			return next, nil
		}),
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, _, next table) error {
			b, err := json.Marshal(next)
			if err != nil {
				return err
			}
			return w.WriteFile(ctx, state(nic), b)
		},
	}
}

// What policies say in one way and the kernel keeps in another is resolved for
// the plan; applying, a second plan and undoing see states only.
func TestWish(t *testing.T) {
	h, nics := newHost()
	for _, nic := range nics {
		h.files["/toy/"+nic.ID()+"/table"] = `{"entries":[0,0,0,0],"said":""}`
	}
	settings := append(toySettings(), tableKnob())
	e := engine(t, h, t.TempDir())
	e.Settings = settings
	wants := want(t, nics, "eth0 table over=2 names=7 fast=on")
	p, err := MakePlan(t.Context(), h, settings, wants, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := p.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"entries  [0] x 4  ->  [0 1] x 2  edge.yaml:1", "said"} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("the plan lacks %q:\n%s", line, b.String())
		}
	}
	done, err := e.Apply(t.Context(), p, nics, allowAll)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.files["/toy/"+nics[0].ID()+"/table"]; got != `{"entries":[0,1,0,1],"said":"7"}` {
		t.Errorf("written was %s", got)
	}
	if again, err := MakePlan(t.Context(), h, settings, wants, nil); err != nil || len(again.Changes) != 0 || again.Kept != 3 {
		t.Errorf("a second plan: %+v, %v", again, err)
	}
	if _, err := e.Rollback(t.Context(), done.ID, nics, allowAll, false); err != nil {
		t.Error(err)
	}
	if got := h.files["/toy/"+nics[0].ID()+"/table"]; got != `{"entries":[0,0,0,0],"said":""}` {
		t.Errorf("after the rollback it is %s", got)
	}

	for line, problem := range map[string]string{
		"eth0 table over=0":          "edge.yaml:1: eth0: table: over nothing",
		"eth0 table over=4294967296": "table: over takes a number of 32 bits",
		"eth0 table other=1":         `unknown field "other"`,
	} {
		if _, err := MakePlan(t.Context(), h, settings, want(t, nics, line), nil); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v, want %s", line, err, problem)
		}
	}
}

func TestCatalogueOfWishes(t *testing.T) {
	c := Catalogue([]Setting{tableKnob()})
	if len(c) != 1 || len(c[0].Fields) != 3 || c[0].Fields[0].Type != policies.Number || c[0].Fields[2].Type != policies.Bool {
		t.Fatalf("%+v", c)
	}
	names := c[0].Fields[1]
	if names.Type != policies.Text || names.Takes() != "a list or all" {
		t.Errorf("%+v", names)
	}
}

func TestShowList(t *testing.T) {
	for list, want := range map[string]string{
		`[0,1,2,3]`: "[0 1 2 3]", `[0,0,0,0]`: "[0] x 4", `[0,1,0,1,0,1]`: "[0 1] x 3", `[7]`: "[7]", `[]`: "[]",
		`[0,0,0,1,1,1,1]`: "0 x 3, 1 x 4", `["a",true]`: "[a on]", `[0,1,2,3,0]`: "[0 1 2 3 0]",
	} {
		if got := show(json.RawMessage(list)); got != want {
			t.Errorf("%s is shown as %s, want %s", list, got, want)
		}
	}
	var long []string
	for i := range 128 {
		long = append(long, fmt.Sprint(i/64))
	}
	if got := show(json.RawMessage("[" + strings.Join(long, ",") + "]")); got != "0 x 64, 1 x 64" {
		t.Error(got)
	}
}

// Of a wish that a device can't grant, the optional fields that it lacks by
// themselves are left out; where what is left can't be had either, all is.
func TestWishOptional(t *testing.T) {
	h, nics := newHost()
	settings := append(toySettings(), tableKnob())
	for _, nic := range nics {
		h.files["/toy/"+nic.ID()+"/table"] = `{"entries":[0,0,0,0],"said":""}`
	}
	for _, test := range []struct {
		want, optional string
		changed        string // what is to change
		skipped        string // the fields, or "table" for all of it
		fails          bool
	}{
		{"over=2 fast=off", "fast", "entries", "fast", false},
		{"over=2 fast=off", "over fast", "entries", "fast", false},
		{"over=2 fast=off", "over", "", "", true},
		{"over=2 fast=off", "", "", "", true},
		{"fast=off", "fast", "", "table", false},
		{"over=0 fast=off", "over fast", "", "", true}, // which is no lack
	} {
		wants := want(t, nics, "eth0 table "+test.want)
		for i, f := range wants[0].Fields {
			wants[0].Fields[i].Optional = strings.Contains(test.optional, f.Field)
		}
		p, err := MakePlan(t.Context(), h, settings, wants, nil)
		if (err != nil) != test.fails {
			t.Errorf("%s, of it optional %q: %v", test.want, test.optional, err)
			continue
		}
		var changed, skipped []string
		for _, c := range p.Changes {
			changed = append(changed, c.names()...)
		}
		for _, s := range p.Skipped {
			skipped = append(skipped, cmp.Or(s.Field, s.Setting))
		}
		if strings.Join(changed, " ") != test.changed || strings.Join(skipped, " ") != test.skipped {
			t.Errorf("%s, of it optional %q: changes %v, skips %v", test.want, test.optional, changed, skipped)
		}
	}
}

// A wish may be worked out on the state itself: the plan sees what it was before.
func TestWishInPlace(t *testing.T) {
	h, nics := newHost()
	state := "/toy/" + nics[0].ID() + "/table"
	knob := tableKnob()
	knob.Wish = WishOf(func(_ context.Context, _ Ask, wish spread, current table) (table, error) {
		for i := range current.Entries {
			current.Entries[i] = uint32(i) % *wish.Over
		}
		return current, nil
	})
	for has, changes := range map[string]int{`{"entries":[0,0,0,0],"said":""}`: 1, `{"entries":[0,1,0,1],"said":""}`: 0} {
		h.files[state] = has
		p, err := MakePlan(t.Context(), h, []Setting{knob}, want(t, nics, "eth0 table over=2"), nil)
		if err != nil || len(p.Changes) != changes || p.Kept != 1-changes {
			t.Errorf("%s: %+v, %v", has, p, err)
		}
	}
}
