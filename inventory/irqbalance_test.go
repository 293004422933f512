package inventory

import (
	"errors"
	"slices"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

func TestParseIrqbalance(t *testing.T) {
	for text, want := range map[string][]int{
		// Said by irqbalance 1.9.4.
		"SLEEP 1 BANNED 0":         {},
		"SLEEP 10 BANNED 00000000": {},
		"SLEEP 10 IRQ 31 LOAD 0 DIFF 0 CLASS 0 IRQ 27 LOAD 18446744073709551615 DIFF 12 CLASS 5 BANNED 00000000,0000000f": {27, 31},
		"SLEEP 10 IRQ 27 LOAD 0 DIFF 0 CLASS 0 IRQ 27 LOAD 0 DIFF 0 CLASS 0 BANNED 0\x00":                                 {27},
	} {
		got, err := parseIrqbalance([]byte(text))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "SLEEP", "TYPE 0 NUMBER 1", "SLEEP 10 IRQ", "SLEEP 10 IRQ x", "SLEEP 10 IRQ -1"} {
		if got, err := parseIrqbalance([]byte(bad)); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

func FuzzIrqbalance(f *testing.F) {
	f.Add([]byte("SLEEP 10 IRQ 31 LOAD 0 DIFF 0 CLASS 0 BANNED 00000000"))
	f.Add([]byte("SLEEP"))
	f.Fuzz(func(t *testing.T, b []byte) {
		banned, err := parseIrqbalance(b)
		if err == nil && (!slices.IsSorted(banned) || len(banned) > len(b)) {
			t.Errorf("%v of %q", banned, b)
		}
	})
}
