package tuning

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// TestLongWrites: a write that says it takes long gets that time, and tells how far
// it is.
func TestLongWrites(t *testing.T) {
	for _, takes := range []time.Duration{time.Hour, 0} {
		h, nics := newHost()
		e := engine(t, h, t.TempDir())
		knob := toyKnob("first", NICReset)
		write := knob.Write
		var left time.Duration
		knob.Write = func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next toy) error {
			Tell(ctx, "half of it")
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return write(ctx, w, nic, current, next)
		}
		if takes > 0 {
			knob.Takes = func(toy, toy) time.Duration { return takes }
		}
		e.Settings = []Setting{knob}
		var told []string
		e.Detail = func(c Change, text string) { told = append(told, c.Setting+": "+text) }
		if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 first a=5")), nics, allowAll); err != nil {
			t.Fatal(err)
		}
		if whole := max(takes, e.timeout()); left > whole || left < whole-20*time.Second || !slices.Equal(told, []string{"first: half of it"}) {
			t.Errorf("%v left of %v; told %v", left, whole, told)
		}
	}
	Tell(t.Context(), "nobody listens")
}
