package kernel

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// InTurn asks many devices the same, one after the other, and gives the answer of each.
// It is for who asks them once: they are all asked on one goroutine, which saves what it
// costs to wait beside each call, several times that of a driver that answers at once.
// One that does not answer in the usual time has an error, and those behind it are asked
// all the same. Once ctx has ended the rest are asked with it as it is.
//
// ask is called with a context of its own, and not again for a device. What it learns it
// returns: a call that was given up may still write what it has a pointer to.
func InTurn[T any](ctx context.Context, count int, ask func(ctx context.Context, device int) (T, error)) ([]T, []error) {
	return inTurn(ctx, count, callTimeout, ask)
}

func inTurn[T any](ctx context.Context, count int, patience time.Duration, ask func(context.Context, int) (T, error)) ([]T, []error) {
	values, errs := make([]T, 0, count), make([]error, 0, count)
	for len(values) < count {
		if ctx.Err() != nil {
			v, err := ask(ctx, len(values))
			values, errs = append(values, v), append(errs, err)
			continue
		}
		from := len(values)
		v, e := stretch(ctx, count-from, patience, func(ctx context.Context, i int) (T, error) { return ask(ctx, from+i) })
		values, errs = append(values, v...), append(errs, e...)
		if len(values) < count { // it hangs, or the time is over
			why := ctx.Err()
			if why == nil {
				why = context.DeadlineExceeded
			}
			var none T
			values, errs = append(values, none), append(errs, fmt.Errorf("no answer in time, the driver or its firmware may hang: %w", why))
		}
	}
	return values, errs
}

// stretch asks until a device does not answer, and gives the answers of those before it.
func stretch[T any](ctx context.Context, count int, patience time.Duration, ask func(context.Context, int) (T, error)) ([]T, []error) {
	values, errs := make([]T, count), make([]error, count)
	var answered atomic.Int64 // what is before it is written, and read by nobody else
	var givenUp atomic.Bool
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		own := OnItsOwn(ctx)
		for i := range count {
			if givenUp.Load() {
				return
			}
			values[i], errs[i] = ask(own, i)
			answered.Store(int64(i) + 1)
		}
	}()
	const looks = 10 // within the time that one call may take
	look := time.NewTicker(patience / looks)
	defer look.Stop()
	for last, still := int64(0), 0; ; {
		select {
		case <-finished:
			return values, errs
		case <-ctx.Done():
		case <-look.C:
			if now := answered.Load(); now != last {
				last, still = now, 0
				continue
			}
			if still++; still <= looks {
				continue
			}
		}
		givenUp.Store(true)
		n := answered.Load()
		return values[:n], errs[:n]
	}
}
