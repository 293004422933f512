package tuning

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// ruleWish adds one rule, which has the value 1.
type ruleWish struct {
	Add *string `json:"add,omitempty" form:"a rule"`
}

func ruleKnob() Knob[map[string]uint32] {
	file := func(nic inventory.NIC) string { return "/toy/" + nic.ID() + "/rules" }
	return Knob[map[string]uint32]{
		Name: "rules", Entries: true,
		Impact: func(inventory.NIC, map[string]uint32, map[string]uint32) Impact { return Seamless },
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit map[string]uint32, err error) {
			b, err := r.ReadFile(ctx, file(nic))
			if err == nil {
				err = json.Unmarshal(b, &current)
			}
			return current, limit, err
		},
		Wish: WishOf(func(_ context.Context, _ Ask, wish ruleWish, current map[string]uint32) (map[string]uint32, error) {
			next := maps.Clone(current)
			next[*wish.Add] = 1
			return next, nil
		}),
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, _, next map[string]uint32) error {
			b, err := json.Marshal(next)
			if err != nil {
				return err
			}
			return w.WriteFile(ctx, file(nic), b)
		},
	}
}

// What a transaction of an earlier boot added went with that boot: the same entry
// now is somebody else's, and neither rolled back nor recovered away.
func TestEntriesOfAnotherBootAreNotOurs(t *testing.T) {
	for _, name := range []string{"rolled back", "recovered"} {
		for _, restarted := range []bool{false, true} {
			h, nics := newHost()
			file := "/toy/" + nics[0].ID() + "/rules"
			h.files[file] = `{"8":3}`
			settings := append([]Setting{ruleKnob()}, toySettings()...)
			dir := t.TempDir()
			e := engine(t, h, dir)
			e.Settings = settings
			p, err := MakePlan(t.Context(), h, settings, want(t, nics, "eth0 rules add=7", "eth0 third c=on"), nil)
			if err != nil {
				t.Fatal(err)
			}
			done, err := e.Apply(t.Context(), p, nics, allowAll)
			if err != nil || h.files[file] != `{"7":1,"8":3}` {
				t.Fatalf("%v, %s", err, h.files[file])
			}
			third := "/toy/" + nics[0].ID() + "/third"
			if restarted {
				h.boot, h.files[third] = "boot-2", `{"a":1,"b":10,"c":false}`
			}
			if name == "recovered" {
				at := fileName(done.ID)
				b, err := os.ReadFile(filepath.Join(dir, historyDir, at))
				if err != nil {
					t.Fatal(err)
				}
				b = b[:cuts(b, 0, len(b))[4*4]] // begin, writing, verified, writing
				if err := os.WriteFile(filepath.Join(dir, pendingDir, at), b, 0o600); err != nil {
					t.Fatal(err)
				}
				if all, err := e.Recover(t.Context(), nics); err != nil || len(all) != 1 || all[0].Outcome != Undone {
					t.Fatalf("%+v, %v", all, err)
				}
			} else if _, err := e.Rollback(t.Context(), done.ID, nics, allowAll, false); err != nil {
				t.Fatal(err)
			}
			want := `{"8":3}`
			if restarted {
				want = `{"7":1,"8":3}`
			}
			if h.files[file] != want || h.files[third] != `{"a":1,"b":10,"c":false}` {
				t.Errorf("%s, restarted %v: rules %s, third %s; want %s", name, restarted, h.files[file], h.files[third], want)
			}
		}
	}
}

func TestSameNICInOneBoot(t *testing.T) {
	card := Target{ID: "0000:01:00.0/52:54:00:00:00:02", Name: "eth0", Index: 2}
	for name, test := range map[string]struct {
		a, b Target
		want bool
	}{
		"as it was":           {card, card, true},
		"renamed":             {card, Target{card.ID, "new0", 2}, true},
		"driver loaded again": {card, Target{card.ID, "eth0", 9}, true},
		"another card":        {card, Target{"0000:02:00.0/52:54:00:00:00:03", "eth0", 2}, false},
		"the host":            {TargetOf(nil), TargetOf(nil), true},
		"the next veth0":      {Target{"veth0", "veth0", 7}, Target{"veth0", "veth0", 8}, false},
	} {
		if got := test.a.alike(test.b); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
