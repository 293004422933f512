package inventory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nictune/nictune/internal/kernel"
)

// pending are questions that the kernel has not answered yet. No call gets out of a
// driver that hangs: who asks again only leaves another one there.
type pending struct {
	mu       sync.Mutex
	underWay map[string]bool
}

// ask puts a question and waits for the answer until ctx ends. While an earlier one
// of the same key is under way there is none.
func ask[T any](ctx context.Context, p *pending, key, op string, f func(context.Context) (T, error)) (T, error) {
	var zero T
	p.mu.Lock()
	if p.underWay[key] {
		p.mu.Unlock()
		return zero, &kernel.Error{Op: op, Err: errNoAnswer}
	}
	if p.underWay == nil {
		p.underWay = map[string]bool{}
	}
	p.underWay[key] = true
	p.mu.Unlock()

	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		// Not broken off, so that it is known when there is an answer.
		value, err := f(kernel.OnItsOwn(context.WithoutCancel(ctx)))
		p.mu.Lock()
		delete(p.underWay, key)
		p.mu.Unlock()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return zero, &kernel.Error{Op: op, Err: errNoAnswer}
	}
}

// late reports whether an error is that of a question without an answer.
func late(err error) bool {
	return errors.Is(err, errNoAnswer) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// bulkReader asks what is asked for all devices at once. One driver can hold up a
// whole dump, as it holds the kernel's lock for all (RTNL): then the other parts
// have to be read in time all the same.
type bulkReader struct {
	kernel.Reader
	pending pending
	// until is how long answers are waited for in this reading, and least how long
	// that of a question is that comes at the end.
	until time.Time
	least time.Duration
}

// begin starts a reading.
func (b *bulkReader) begin(patience time.Duration) {
	// Three parts are dumps: where one hangs, all do.
	b.until, b.least = time.Now().Add(3*patience), patience/2
}

func (b *bulkReader) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(time.Until(b.until), b.least))
}

// ReadFile implements [kernel.Reader].
func (b *bulkReader) ReadFile(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := b.limit(ctx)
	defer cancel()
	return ask(ctx, &b.pending, path, "read "+path, func(ctx context.Context) ([]byte, error) { return b.Reader.ReadFile(ctx, path) })
}

// Netlink implements [kernel.Reader].
func (b *bulkReader) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	ctx, cancel := b.limit(ctx)
	defer cancel()
	op := req.String()
	return ask(ctx, &b.pending, op+"\x00"+string(req.Body), op, func(ctx context.Context) ([]kernel.Message, error) { return b.Reader.Netlink(ctx, req) })
}
