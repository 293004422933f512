package tuning_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// What stands against the same line on many NICs is said once: 64 lines that
// differ in a name hide the one that doesn't.
func TestPlanErrorSaysTheSameOnce(t *testing.T) {
	at := func(line int) policies.Source { return policies.Source{File: "edge.yaml", Line: line} }
	tooMany := errors.New("the device takes 1 at most")
	e := &tuning.PlanError{}
	for i := range 5 {
		e.Problems = append(e.Problems,
			tuning.Problem{NIC: fmt.Sprintf("eth%d", i), Setting: "channels", Field: "combined", Value: "4", Source: at(6), Reason: kernel.Failed, Err: tooMany})
	}
	e.Problems = append(e.Problems,
		tuning.Problem{NIC: "eth2", Setting: "fec", Source: at(9), Reason: kernel.Unsupported, Err: errors.New("the device has no encoding")},
		tuning.Problem{NIC: "eth5", Setting: "channels", Field: "combined", Value: "4", Source: at(6), Reason: kernel.Failed, Err: errors.New("the device takes 2 at most")})
	want := `7 things can't be had; nothing was changed:
edge.yaml:6: eth0, eth1, eth2 and 2 more: channels.combined: 4: the device takes 1 at most
edge.yaml:9: eth2: fec: unsupported: the device has no encoding
edge.yaml:6: eth5: channels.combined: 4: the device takes 2 at most`
	if got := e.Error(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestApplyErrorSaysWhyAChangeIsMade(t *testing.T) {
	nic, line := tuning.Target{ID: "0000:01:00.0", Name: "eth0"}, policies.Source{File: "edge.yaml", Line: 8}
	for want, c := range map[string]tuning.Change{
		"eth0: rss (to make way for other changes): table [4] x 4 -> [0] x 4: EINVAL": {
			Turn: tuning.MakingWay, Setting: "rss", Fields: []tuning.Field{{Name: "table", Before: []byte("[4,4,4,4]"), After: []byte("[0,0,0,0]")}},
		},
		"eth0: coalesce (wanted by no policy; put back, as other changes wiped it): EINVAL": {Turn: tuning.Kept, Setting: "coalesce"},
		"eth0: irq (edge.yaml:8): EINVAL": {Turn: tuning.Late, Setting: "irq", Source: line},
		"eth0: irq: a 1 -> 2 (edge.yaml:8): EINVAL": {
			Turn: tuning.Late, Setting: "irq", Source: line, Fields: []tuning.Field{{Name: "a", Before: []byte("1"), After: []byte("2"), Source: line}},
		},
	} {
		c.NIC = nic
		e := &tuning.ApplyError{Transaction: 3, Change: c, Err: errors.New("EINVAL")}
		if got, _, _ := strings.Cut(e.Error(), "\n"); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
