package html

import (
	"fmt"
	"math"
	"strconv"
)

// chartWidth is how wide a bar may be, in the units of its view box.
const chartWidth = 200

// bar is a line of a chart: a name, a number in words, and a bar of segments. The
// words say all that the bar does.
type bar struct {
	Name, Said string
	Segments   []segment
}

type segment struct {
	X, Width int
	Class    string
}

// bars draws numbers beside each other, the largest as long as a bar can be.
func bars(names []string, numbers []int) []bar {
	most := 1
	for _, n := range numbers {
		most = max(most, n)
	}
	all := make([]bar, len(names))
	for i, n := range numbers {
		all[i] = bar{names[i], strconv.Itoa(n), segments(most, part{n, ""})}
	}
	return all
}

type part struct {
	n     int
	class string
}

// segments are the parts of a whole, one behind the other. A part that is there is seen,
// however small.
func segments(whole int, parts ...part) []segment {
	var all []segment
	x := 0
	for _, p := range parts {
		if p.n <= 0 || whole <= 0 {
			continue
		}
		width := min(max(int(math.Round(float64(p.n)/float64(whole)*chartWidth)), 2), chartWidth-x)
		if width > 0 {
			all = append(all, segment{x, width, p.class})
			x += width
		}
	}
	return all
}

// percent is a share as people say it: never 0% of something, nor 100% of not all.
func percent(n, of int) string {
	if of <= 0 {
		return ""
	}
	share := 100 * float64(n) / float64(of)
	switch {
	case n > 0 && share < 0.1:
		return "under 0.1%"
	case n < of && share > 99.9:
		return "over 99.9%"
	case share >= 10 || n == 0:
		return fmt.Sprintf("%.0f%%", min(share, floorUnlessWhole(n, of)))
	}
	return fmt.Sprintf("%.1f%%", share)
}

// floorUnlessWhole keeps 99.6% from being rounded to all.
func floorUnlessWhole(n, of int) float64 {
	if n < of {
		return 99
	}
	return 100
}

// outOf says "12 of 100 (12%)".
func outOf(n, of int) string {
	if of <= 0 {
		return "none"
	}
	return fmt.Sprintf("%d of %d (%s)", n, of, percent(n, of))
}
