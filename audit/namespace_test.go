package audit

import (
	"testing"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// gather looks at the running host for some groups of rules.
func gather(t *testing.T, watch time.Duration, names ...string) (*Evidence, []Group) {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	groups, err := Named(names...)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Gather(t.Context(), live, groups, watch, inventory.NewModules())
	if err != nil {
		t.Fatal(err)
	}
	return e, groups
}

// expect fails the test where a rule says something else of a subject.
func expect(t *testing.T, all []findings.Finding, rule, subject string, want findings.Status) findings.Finding {
	t.Helper()
	for _, f := range all {
		if f.Rule == rule && (f.Subject.Name == subject || f.Subject.ID == subject) {
			if f.Status != want {
				t.Errorf("%s of %s is %s, want %s: %s", rule, subject, f.Status, want, f.Seen)
			}
			return f
		}
	}
	t.Errorf("%s says nothing of %s", rule, subject)
	return findings.Finding{}
}
