package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/nictune/nictune/audit"
)

// splitter cuts a stream into reports: JSON documents one after the other, with or
// without lines between them, or as the elements of a list. It knows where a document
// ends and nothing else of JSON.
//
// A report that was cut off doesn't take the next one with it: a report begins wherever
// there is a brace and the key apiVersion, which within another report, also within its
// strings (where quotes are escaped), there never is, and at a line that begins with
// a brace and a quote.
type splitter struct {
	source io.Reader
	limit  int    // how long a report may be
	buf    []byte // what was read
	start  int    // where what was not handed out begins
	err    error  // of reading
	broken error  // the reason why reading ended, where it is not the end
}

func newSplitter(source io.Reader) *splitter {
	return &splitter{source: source, limit: audit.MaxHostReport, buf: make([]byte, 0, 256<<10)}
}

// What may be wrong with a piece.
var (
	errTruncated = errors.New("it ends before it is whole")
	errTooLarge  = errors.New("it is too large")
	errNoReport  = errors.New("it is no JSON document that begins with {")
)

// next is the next piece, up to the following call, with what is wrong with it; io.EOF
// at the end. After an error of reading what there is is handed out first.
func (s *splitter) next() (piece []byte, err error) {
	if !s.skipSpace() {
		if s.broken != nil {
			err, s.broken = s.broken, nil
			return nil, err
		}
		return nil, io.EOF
	}
	if s.buf[s.start] != '{' {
		return s.garbage()
	}
	depth, quoted := 0, false
	for i := s.start; ; i++ {
		if i == len(s.buf) {
			if i-s.start >= s.limit {
				return s.tooLarge()
			}
			n := i - s.start
			if !s.more() {
				return s.take(n), errTruncated
			}
			i = s.start + n
		}
		c := s.buf[i]
		if plain[c] {
			continue
		}
		switch {
		case c == '\\':
			n := i - s.start
			if i+1 == len(s.buf) && !s.more() {
				return s.take(n + 1), errTruncated
			}
			i = s.start + n
			if next := s.buf[i+1]; next == '"' || next == '\\' {
				i++
			}
		case (c == '{' || c == '\n') && i > s.start:
			// Most braces and newlines can be told from a beginning by the next byte.
			if c == '{' || i+1 >= len(s.buf) || s.buf[i+1] == '{' {
				n := i - s.start
				if s.begins(i) {
					return s.take(n), errTruncated
				}
				i = s.start + n
			}
			if c == '{' && !quoted {
				depth++
			}
		case c == '"':
			quoted = !quoted
		case quoted || c == '\n':
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return s.take(i + 1 - s.start), nil
			}
		}
	}
}

// plain are the bytes that say nothing about where a document ends.
var plain = func() (t [256]bool) {
	for i := range t {
		t[i] = !bytes.ContainsRune([]byte("{}[]\"\\\n"), rune(i)) || i > 127
	}
	return t
}()

// more reads on, and reports whether there was more. It may move what is in the buffer.
func (s *splitter) more() bool {
	if s.err != nil {
		return false
	}
	if s.start > 0 {
		s.buf = s.buf[:copy(s.buf, s.buf[s.start:])]
		s.start = 0
	}
	if len(s.buf) == cap(s.buf) {
		s.buf = append(s.buf, 0)[:len(s.buf)]
	}
	for range 100 {
		n, err := s.source.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if err != nil {
			s.err = err
			if !errors.Is(err, io.EOF) {
				s.broken = err
			}
		}
		if n > 0 || err != nil {
			return n > 0
		}
	}
	s.err, s.broken = io.ErrNoProgress, io.ErrNoProgress
	return false
}

// take hands out the next n bytes.
func (s *splitter) take(n int) []byte {
	piece := s.buf[s.start : s.start+n]
	s.start += n
	return piece
}

// skipSpace goes to the next byte that is none between documents, and reports whether
// there is one.
func (s *splitter) skipSpace() bool {
	for {
		for ; s.start < len(s.buf); s.start++ {
			switch s.buf[s.start] {
			case ' ', '\t', '\r', '\n', ',', '[', ']', 0x1e, 0xef, 0xbb, 0xbf: // RFC 7464's mark, and that of UTF-8
			default:
				return true
			}
		}
		s.shrink()
		if !s.more() {
			return false
		}
	}
}

// roomKept is how large a buffer may be that is kept for the next report.
const roomKept = 8 << 20

// shrink gives back the room of an unusually large report.
func (s *splitter) shrink() {
	if cap(s.buf) > roomKept && s.start == len(s.buf) {
		s.buf, s.start = make([]byte, 0, 256<<10), 0
	}
}

// begins reports whether a report begins at i, or on the line after a newline there. It
// may move what is in the buffer: i counts from s.start afterwards as before.
func (s *splitter) begins(i int) bool {
	const key = `"apiVersion"`
	n := i - s.start
	at := func(n int) (byte, bool) {
		for s.start+n >= len(s.buf) {
			if !s.more() {
				return 0, false
			}
		}
		return s.buf[s.start+n], true
	}
	line := false
	if c, _ := at(n); c == '\n' {
		line = true
		n++
	}
	if c, ok := at(n); !ok || c != '{' {
		return false
	}
	spaces := 0
	for n++; ; n++ {
		c, ok := at(n)
		if !ok {
			return false
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			break
		}
		if spaces++; spaces > 64 {
			return false
		}
	}
	if line && spaces == 0 {
		c, _ := at(n)
		return c == '"'
	}
	for j := range len(key) {
		if c, ok := at(n + j); !ok || c != key[j] {
			return false
		}
	}
	return true
}

// garbage is what stands where a report should begin, up to where the next one does. It
// is handed out in part.
func (s *splitter) garbage() ([]byte, error) {
	return s.skip(errNoReport)
}

// tooLarge lets go of a report that is longer than the limit.
func (s *splitter) tooLarge() ([]byte, error) {
	return s.skip(fmt.Errorf("%w: more than %d MiB", errTooLarge, s.limit>>20))
}

// skip goes to where a report begins after the first byte, and hands out the first few
// kilobytes of what it passed over.
func (s *splitter) skip(reason error) ([]byte, error) {
	const shown = 16 << 10
	var head []byte
	for pass := 1; ; pass++ {
		if pass > 1 && (s.buf[s.start] == '{' || s.buf[s.start] == '\n') && s.begins(s.start) {
			return head, reason
		}
		if len(head) < shown {
			head = append(head, s.buf[s.start])
		}
		if s.start++; s.start == len(s.buf) {
			if !s.more() {
				return head, reason
			}
		}
	}
}
