package tuning

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A gate that opened late leaves the next one as much time as it had itself.
func TestEachGateHasItsTime(t *testing.T) {
	t.Parallel()
	h, nics := newHost()
	e := engine(t, h, t.TempDir())
	tries := map[string]int{}
	e.Gates = Gates{Timeout: 3 * time.Second, TCP: []string{"one:1", "another:1"}, Dial: func(_ context.Context, address string) error {
		tries[address]++
		// Both serve before the change, and then again after 1.8 s.
		if tries[address] > 1 && tries[address] < 20 {
			return errors.New("connection refused")
		}
		return nil
	}}
	if _, err := e.Apply(t.Context(), mustPlan(t, h, want(t, nics, "eth0 third a=5")), nics, allowAll); err != nil {
		t.Error(err)
	}
}
