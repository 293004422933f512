package html

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestContrast holds the style's colours to WCAG 2.2: 4.5:1 for text (1.4.3), 3:1 for
// what else has to be seen (1.4.11), in light, in dark and on paper.
func TestContrast(t *testing.T) {
	style, err := files.ReadFile("page/page.css")
	if err != nil {
		t.Fatal(err)
	}
	schemes := palettes(t, string(style))
	if len(schemes) != 3 {
		t.Fatalf("%d palettes, want light, dark and paper", len(schemes))
	}
	for i, colours := range schemes {
		if len(colours) != len(schemes[0]) {
			t.Errorf("palette %d has %d colours, the first %d", i, len(colours), len(schemes[0]))
		}
		hold := func(front, behind string, least float64) {
			t.Helper()
			if got := contrast(colours[front], colours[behind]); got < least {
				t.Errorf("palette %d: %s on %s: %.2f:1, want %.1f:1", i, front, behind, got, least)
			}
		}
		for _, behind := range []string{"page", "card", "sunk"} {
			for _, front := range []string{"text", "soft", "link"} {
				hold(front, behind, 4.5)
			}
			hold("focus", behind, 3)
			hold("edge", behind, 3)
		}
		hold("fail", "card", 4.5)
		for _, status := range []string{"fail", "error", "warning", "info", "unknown", "waived", "pass"} {
			hold(status, status+"-bg", 4.5)
			hold(status, "card", 3)
		}
		for _, drawn := range []string{"bar", "wire"} {
			hold(drawn, "card", 3)
		}
	}
}

// palettes are the colours of each :root of the style, by name.
func palettes(t *testing.T, style string) []map[string][3]float64 {
	t.Helper()
	var all []map[string][3]float64
	for _, block := range regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(style, -1) {
		colours := map[string][3]float64{}
		for _, pair := range regexp.MustCompile(`--([a-z-]+): ([^;]+);`).FindAllStringSubmatch(block[1], -1) {
			n, err := strconv.ParseUint(strings.TrimPrefix(pair[2], "#"), 16, 32)
			if err != nil || len(pair[2]) != 7 {
				t.Fatalf("%s: %q is no colour that this test reads", pair[1], pair[2])
			}
			colours[pair[1]] = [3]float64{float64(n >> 16), float64(n >> 8 & 255), float64(n & 255)}
		}
		all = append(all, colours)
	}
	return all
}

// contrast is the contrast ratio of two colours.
func contrast(a, b [3]float64) float64 {
	luminance := func(c [3]float64) float64 {
		for i := range c {
			if c[i] /= 255; c[i] <= 0.04045 {
				c[i] /= 12.92
			} else {
				c[i] = math.Pow((c[i]+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
