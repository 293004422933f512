package inventory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// ReadIrqbalance reads which interrupts a running irqbalance was told to leave
// alone, in order. An error that counts as unsupported says that none listens:
// it may run and have no socket.
func ReadIrqbalance(ctx context.Context, r kernel.Reader) (banned []int, err error) {
	b, err := r.Irqbalance(ctx)
	if err != nil {
		return nil, err
	}
	if banned, err = parseIrqbalance(b); err != nil {
		return nil, &kernel.Error{Op: "ask irqbalance", Err: err}
	}
	return banned, nil
}

// parseIrqbalance parses irqbalance's answer to "setup": words in pairs, the
// interval in seconds, four pairs for each banned interrupt, and a mask of banned
// CPUs:
//
//	SLEEP 10 IRQ 27 LOAD 0 DIFF 0 CLASS 5 BANNED 00000000
func parseIrqbalance(b []byte) ([]int, error) {
	words := bytes.Fields(bytes.TrimRight(b, "\x00"))
	if len(words) < 2 || len(words)%2 != 0 || string(words[0]) != "SLEEP" {
		return nil, fmt.Errorf("%w: %.80q", kernel.ErrMalformed, b)
	}
	banned := []int{}
	for i := 0; i < len(words); i += 2 {
		if string(words[i]) != "IRQ" {
			continue
		}
		n, err := strconv.Atoi(string(words[i+1]))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%w: interrupt %.20q", kernel.ErrMalformed, words[i+1])
		}
		banned = append(banned, n)
	}
	slices.Sort(banned)
	return slices.Compact(banned), nil
}
