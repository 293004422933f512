package settings

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// TestSoftwareDevices turns knobs that software devices have, and has ethtool
// and ip judge: set, nothing left to set, taken back.
func TestSoftwareDevices(t *testing.T) {
	nstest.Require(t)
	for name, test := range map[string]struct {
		make     string
		settings string
		impact   tuning.Impact
		sees     map[string]string // by command, with blanks made single
	}{
		"coalesce of a tap": {"tuntap add tune0 mode tap", "coalesce: {rx-frames: 12}", tuning.Seamless,
			map[string]string{"ethtool -c tune0": "rx-frames: 12"}},
	} {
		t.Run(name, func(t *testing.T) {
			nstest.IP(t, test.make)
			defer nstest.IP(t, "link del tune0")
			w := live(t)
			all := nics(t, w)
			before := state(t, w, all, "tune0")
			policy := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: tune0}\nsettings:\n  " + test.settings + "\n"
			e := engine(t, w, t.TempDir())
			p := plan(t, w, all, policy)
			if p.Impact() != test.impact {
				t.Errorf("the impact is %s, want %s", p.Impact(), test.impact)
			}
			done, err := e.Apply(t.Context(), p, all, allow)
			if err != nil || done == nil || w.writes != 1 {
				t.Fatalf("%v, %d writes", err, w.writes)
			}
			for command, want := range test.sees {
				words := strings.Fields(command)
				out := strings.Join(strings.Fields(string(nstest.Run(t, words[0], words[1:]...))), " ")
				if !strings.Contains(out, want) {
					t.Errorf("%s shows no %q: %s", command, want, out)
				}
			}
			if again := plan(t, w, all, policy); len(again.Changes) != 0 {
				t.Errorf("a second plan: %+v", again.Changes)
			}
			if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
				t.Error(err)
			}
			if after := state(t, w, all, "tune0"); after != before {
				t.Errorf("after the rollback:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}
