package settings

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// readNumber reads a file that holds one number. It is nil where this kernel,
// namespace or device has no such file, and where a recording does not hold it.
func readNumber(ctx context.Context, r kernel.Reader, path string) (*uint32, error) {
	b, err := r.ReadFile(ctx, path)
	switch {
	case kernel.ReasonOf(err) == kernel.Unsupported, errors.Is(err, kernel.ErrNotRecorded):
		return nil, nil
	case err != nil:
		return nil, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %.40q", path, kernel.ErrMalformed, b)
	}
	return new(uint32(n)), nil
}

// writeNumber writes a number where it differs from the one that is there.
func writeNumber(ctx context.Context, w kernel.Writer, path string, from, to *uint32) error {
	if !differ(from, to) {
		return nil
	}
	return w.WriteFile(ctx, path, strconv.AppendUint(nil, uint64(*to), 10))
}
