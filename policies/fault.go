package policies

import "strings"

// line returns a line of a text, counted from 1, without its end.
func line(text string, number int) string {
	for ; number > 1; number-- {
		_, rest, ok := strings.Cut(text, "\n")
		if !ok {
			return ""
		}
		text = rest
	}
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(text, "\r")
}
