package main

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

// outOfTime is a recorded host that a caller's time ends on with the first
// counters.
type outOfTime struct {
	kernel.Reader
	end context.CancelFunc
}

func (o outOfTime) Counters(ctx context.Context, device string) ([]kernel.Counter, error) {
	o.end()
	return o.Reader.Counters(ctx, device)
}

// A recording with answers left out would pass for a host without them.
func TestARecordingCutShortIsAnError(t *testing.T) {
	b, err := os.ReadFile(labHost)
	if err != nil {
		t.Fatal(err)
	}
	host, err := kernel.ParseRecording(b)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := ask(ctx, host, true, false); err != nil {
		t.Error(err)
	}
	if err := ask(ctx, outOfTime{host, cancel}, true, false); !errors.Is(err, context.Canceled) {
		t.Errorf("half the counters: %v", err)
	}
}
