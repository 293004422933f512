package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Devices that hang cost an error each, and nobody else's answer, whichever they are, or
// when the caller's time ends.
func TestInTurn(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) }) // when all subtests have ended
	for name, c := range map[string]struct {
		hang  []int
		until time.Duration // 0: no deadline
	}{
		"all answer": {}, "the first": {hang: []int{0}}, "the last": {hang: []int{4}}, "some": {hang: []int{1, 2, 4}},
		"until the deadline": {hang: []int{2}, until: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, patience := t.Context(), 300*time.Millisecond
			if c.until > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, c.until)
				defer cancel()
				patience = time.Hour
			}
			var asked [5]atomic.Int32
			values, errs := inTurn(ctx, len(asked), patience, func(ctx context.Context, i int) (string, error) {
				asked[i].Add(1)
				for _, h := range c.hang {
					if h == i {
						<-release
					}
				}
				if i == 3 {
					return "", errors.New("refused")
				}
				return fmt.Sprint("answer ", i), nil
			})
			if len(values) != len(asked) || len(errs) != len(asked) {
				t.Fatalf("%d answers, %d errors", len(values), len(errs))
			}
			for i := range asked {
				hangs := strings.Contains(fmt.Sprint(c.hang), fmt.Sprint(i))
				switch err := errs[i]; {
				case asked[i].Load() != 1:
					t.Errorf("%d was asked %d times", i, asked[i].Load())
				case hangs:
					if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "may hang") || ReasonOf(err) != Failed {
						t.Errorf("%d hangs: %v", i, err)
					}
				case i == 3:
					if err == nil || err.Error() != "refused" {
						t.Errorf("%d: %v", i, err)
					}
				case err != nil || values[i] != fmt.Sprint("answer ", i):
					t.Errorf("%d: %q, %v", i, values[i], err)
				}
			}
		})
	}
	// Who is told to stop is not kept waiting.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, errs := InTurn(ctx, 3, func(ctx context.Context, _ int) (int, error) { return 0, ctx.Err() })
	for _, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped: %v", err)
		}
	}
	if values, errs := InTurn(t.Context(), 0, func(context.Context, int) (int, error) { return 1, nil }); len(values)+len(errs) != 0 {
		t.Errorf("nobody: %v, %v", values, errs)
	}
}
