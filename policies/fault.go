package policies

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Fault is one thing wrong in a document.
type Fault struct {
	Source Source
	// Problem says what is wrong and what to write instead.
	Problem string

	line  string // the source line
	width int    // characters to underline
}

// Error is "file:line:column: problem", the line, and a caret under the place.
func (f *Fault) Error() string {
	at := fmt.Sprintf("%s:%d:%d: %s", f.Source.File, f.Source.Line, f.Source.Column, f.Problem)
	if strings.TrimSpace(f.line) == "" {
		return at
	}
	number := strconv.Itoa(f.Source.Line)
	gutter := strings.Repeat(" ", len(number))
	text, column := window([]rune(f.line), f.Source.Column-1)
	carets := min(max(f.width, 1), max(len(text)-column, 1))
	return fmt.Sprintf("%s\n  %s | %s\n  %s | %s%s", at,
		number, string(text), gutter, indent(text[:min(column, len(text))]), strings.Repeat("^", carets))
}

// window cuts what a terminal line can show out of a long line, makes characters
// that a terminal would obey visible, and tells where the column went.
func window(line []rune, column int) (text []rune, at int) {
	const before, width = 40, 100
	column = min(max(column, 0), len(line))
	start := 0
	if len(line) > width {
		start = min(max(column-before, 0), len(line)-width)
		line = line[start : start+width]
	}
	text = make([]rune, len(line))
	for i, r := range line {
		if r != '\t' && !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		text[i] = r
	}
	return text, column - start
}

// shown is a source line without its indentation.
func shown(text string, at Source) string {
	runes, _ := window([]rune(line(text, at.Line)), at.Column-1)
	return strings.TrimSpace(string(runes))
}

// indent is as wide as the text on any terminal: it keeps tabs.
func indent(text []rune) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(text))
}

// faults collects what is wrong, so that a user sees all of it at once.
type faults []error

// enough bounds what one run reports: what follows is rarely news.
const enough = 20

// full says that more faults would not be reported, so that looking for them,
// and for what was meant, is work for nothing.
func (fs *faults) full() bool { return len(*fs) >= enough }

func (fs *faults) add(text string, at Source, width int, format string, args ...any) {
	if !fs.full() {
		*fs = append(*fs, &Fault{Source: at, Problem: fmt.Sprintf(format, args...), line: line(text, at.Line), width: width})
	}
}

// err joins the faults, in the order in which they were found.
func (fs faults) err() error {
	if fs.full() {
		fs = append(fs, errors.New("too many faults: there may be more"))
	}
	return errors.Join(fs...)
}

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

// quoted shows a user's own words, shortened, with what a terminal would obey
// escaped.
func quoted(s string) string {
	return strconv.Quote(shortened(s))
}

func shortened(s string) string {
	const long = 60
	if r := []rune(s); len(r) > long {
		s = string(r[:long]) + "..."
	}
	return s
}
