package policies

import (
	"fmt"
	"strings"
)

// suggest ends a message about an unknown name: with the nearest known one, or
// with all of them where none is near and they are few.
func suggest(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	const few = 12
	if len(known) == 0 || len(known) > few {
		return ""
	}
	return "; known are " + strings.Join(known, ", ")
}

// nearest returns the known name that a typing error, another case or other
// separators turn into the given one, or the only one that begins with it. Empty means that none is near.
func nearest(name string, known []string) string {
	const long = 64 // a longer name is no typing error, and the distance costs its square
	if len(name) > long {
		return ""
	}
	best, bestDistance := "", 0
	for _, k := range known {
		limit := max(1, len(k)/3)
		d := distance(plain(name), plain(k))
		if d <= limit && d < max(len(plain(k)), 2) && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	if best == "" && len(name) >= 4 {
		for _, k := range known { // speed for speedMbps, if for no other
			switch {
			case !strings.HasPrefix(k, name):
			case best != "":
				return ""
			default:
				best = k
			}
		}
	}
	return best
}

// plain drops what people mix up without meaning anything else.
func plain(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "", ".", "").Replace(s))
}

// distance is the least number of bytes to insert, delete, replace, or swap with
// their neighbour, that turns a into b (optimal string alignment).
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
