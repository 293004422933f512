package policies

import (
	"strings"
	"unicode"
)

// within is where in a text the character of a value stands whose number is
// offset: the value begins at a source, there in quotes, over several lines or in
// a block, as YAML allows. Not ok means that the value is not as it was written,
// for its escapes: only its beginning is known then.
func within(text string, at Source, value string, offset int) (place Source, ok bool) {
	// Only the lines from the value on matter.
	rest := text
	for range at.Line - 1 {
		if _, rest, ok = strings.Cut(rest, "\n"); !ok {
			return at, false
		}
	}
	written, wanted := []rune(rest), []rune(value)
	i, place := min(at.Column-1, len(written)), at
	step := func() {
		if written[i] == '\n' {
			place.Line, place.Column = place.Line+1, 0
		}
		place.Column++
		i++
	}
	blank := func() {
		for i < len(written) && unicode.IsSpace(written[i]) {
			step()
		}
	}
	var quote rune
	if i < len(written) {
		switch written[i] {
		case '"', '\'':
			quote = written[i]
			step()
		case '|', '>': // also the expression >=4096 begins so, but only in quotes
			for i < len(written) && written[i] != '\n' {
				step()
			}
		}
	}
	for j := 0; ; j++ {
		for j < offset && j < len(wanted) && unicode.IsSpace(wanted[j]) {
			j++
		}
		if j < len(wanted) && !unicode.IsSpace(wanted[j]) {
			blank() // as indentation, and where a line was folded
		}
		if i+1 < len(written) && j < len(wanted) && (quote == '\'' && written[i] == '\'' && written[i+1] == '\'' ||
			quote == '"' && written[i] == '\\' && (written[i+1] == '"' || written[i+1] == '\\')) {
			step()
		}
		switch {
		case j >= offset || j == len(wanted):
			return place, true
		case i == len(written) || written[i] != wanted[j]:
			return at, false
		}
		step()
	}
}
