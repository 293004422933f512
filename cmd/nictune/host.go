package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nictune/nictune/internal/kernel"
)

// host is the host that the flags name.
type host struct {
	kernel.Reader
	// live is set when it is the running one.
	live *kernel.Live
	// recorded is when a recording was made.
	recorded time.Time
	closer   io.Closer
}

// Close lets go of the host. Nothing was written that could be lost.
func (h host) Close() {
	if h.closer != nil {
		_ = h.closer.Close()
	}
}

// open gives the host to read: a recording (--host), a plain tree (--root), or
// the one that this runs on.
func (a *app) open() (host, error) {
	switch {
	case a.host != "":
		replay, err := openRecording("--host", a.host)
		if err != nil {
			return host{}, err
		}
		return host{Reader: replay, recorded: replay.Header().Recorded}, nil
	case a.root != "":
		tree, err := kernel.OpenTree(a.root)
		if err != nil {
			return host{}, fmt.Errorf("--root: %w", err)
		}
		return host{Reader: tree, closer: tree}, nil
	}
	live, err := kernel.Open()
	if err != nil {
		return host{}, err
	}
	return host{Reader: live, live: live, closer: live}, nil
}

// openRecording reads the recorded host in a file that a flag names; gzip may have made
// it a tenth as large.
func openRecording(flag, file string) (*kernel.Replay, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if b, err = unzipped(b); err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, file, err)
	}
	replay, err := kernel.ParseRecording(b)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, file, err)
	}
	return replay, nil
}

// unzipped is what gzip made of a recording, or the recording where it is one.
func unzipped(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, kernel.MaxRecording+1)) // the parser refuses what is longer
}

// read hands the host that the flags name to f, for as long as --timeout allows.
func (a *app) read(ctx context.Context, f func(context.Context, host) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	h, err := a.open()
	if err != nil {
		return err
	}
	defer h.Close()
	return f(ctx, h)
}
