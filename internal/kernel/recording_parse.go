package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/tools/txtar"
)

// MaxRecording bounds an archive, in bytes. A host with a thousand veth devices makes six
// megabytes.
const MaxRecording = 256 << 20

// parseRecording reads an archive. Its errors name the line and the section.
func parseRecording(data []byte) (RecordingHeader, map[question]answer, error) {
	var header RecordingHeader
	if len(data) > MaxRecording {
		return header, nil, fmt.Errorf("recording: %d bytes, more than the %d that one may have", len(data), MaxRecording)
	}
	archive := txtar.Parse(data)
	p := &recordingParser{answers: map[question]answer{}, lines: map[question]int{}, line: 1}
	if err := p.header(archive.Comment, &header); err != nil {
		return header, nil, fmt.Errorf("recording line %d: %w", p.line, err)
	}
	// An archive that was cut short says so, not what is odd about its last line.
	isEnd := func(f txtar.File) bool { return f.Name == sectionEnd }
	if !slices.ContainsFunc(archive.Files, isEnd) {
		return header, nil, fmt.Errorf("recording line %d: it ends without \"-- end --\" and so was cut short", 1+bytes.Count(data, []byte("\n")))
	}
	ended := false
	start := 1 + bytes.Count(archive.Comment, []byte("\n"))
	for _, f := range archive.Files {
		p.sectionLine, p.line = start, start
		start += 1 + bytes.Count(f.Data, []byte("\n"))
		var err error
		if ended {
			err = errors.New("a section after the end")
		} else {
			ended = isEnd(f)
			err = p.section(f.Name, f.Data)
		}
		if err != nil {
			return header, nil, fmt.Errorf("recording line %d, section %s: %w", p.line, shorten(f.Name), err)
		}
	}
	return header, p.answers, nil
}

type recordingParser struct {
	answers     map[question]answer
	lines       map[question]int // where each was answered
	sectionLine int
	line        int // the line being read
	errnos      map[string]syscall.Errno
	zeros       int // written as zero:N so far
}

// header reads the lines above the first section.
func (p *recordingParser) header(comment []byte, h *RecordingHeader) error {
	titled := false
	for line := range p.structured(comment) {
		if !titled {
			format, ok := strings.CutPrefix(line, recordingTitle)
			if !ok {
				return fmt.Errorf("%s is not how a recording of nictune begins (%q)", shorten(line), recordingTitle+recordingFormat)
			}
			if format != recordingFormat {
				return fmt.Errorf("format %s: this nictune reads format %s", shorten(format), recordingFormat)
			}
			titled = true
			continue
		}
		name, value, err := splitField(line)
		if err != nil {
			return err
		}
		switch name {
		case "nictune":
			h.Nictune = value
		case "kernel":
			h.Kernel = value
		case "recorded":
			if h.Recorded, err = time.Parse(time.RFC3339, value); err != nil {
				return fmt.Errorf("recorded: %s is not a time like 2006-01-02T15:04:05Z", shorten(value))
			}
		case "byte-order":
			if value != byteOrder() {
				return fmt.Errorf("it was recorded on a host of another byte order (%s): read it on one of the same", shorten(value))
			}
		default:
			return fmt.Errorf("unknown field %s of the header", shorten(name))
		}
	}
	if !titled {
		return fmt.Errorf("it does not begin with %q", recordingTitle+recordingFormat)
	}
	return nil
}

// structured walks the lines of a section that is not a file's text, without
// comments and blank lines. A line that starts with a blank belongs to the one
// before it and comes with it.
func (p *recordingParser) structured(data []byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		number := p.sectionLine // the number of the last line read
		if p.sectionLine > 0 {
			number++
		} else {
			number = 1
		}
		var pending []string
		for raw := range bytes.Lines(data) {
			line := strings.TrimRight(string(raw), "\r\n")
			trimmed := strings.TrimSpace(line)
			if trimmed == "" || trimmed[0] == '#' {
				number++
				continue
			}
			if len(pending) > 0 && (line[0] == ' ' || line[0] == '\t') {
				pending = append(pending, trimmed)
				number++
				continue
			}
			if len(pending) > 0 && !yield(strings.Join(pending, "\n")) {
				return
			}
			p.line = number
			pending = append(pending[:0], trimmed)
			number++
		}
		if len(pending) > 0 {
			yield(strings.Join(pending, "\n"))
		}
	}
}

// section reads one section.
func (p *recordingParser) section(name string, data []byte) error {
	words, err := splitWords(name)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errors.New("a section without a name")
	}
	kind, words := words[0], words[1:]
	switch kind {
	case sectionEnd:
		if len(words) > 0 {
			return errors.New("unknown kind of section")
		}
		for range p.structured(data) {
			return errors.New("text after the end")
		}
		return nil
	case askNetlink:
		q, err := netlinkSection(words)
		if err != nil {
			return err
		}
		return p.exchanges(q, data)
	case askEthtool:
		if len(words) != 1 {
			return errors.New(`not of the form "ethtool DEVICE"`)
		}
		return p.exchanges(question{kind: kind, subject: words[0]}, data)
	case askFile, askDir, askLink, askDriver, askCounters, askMachine, askPCI, askUsers:
	default:
		return errors.New("unknown kind of section")
	}

	var modifier string
	if len(words) == 2 {
		modifier, words = words[0], words[1:]
	}
	known := []string{"", asError}
	if kind == askFile {
		known = append(known, asHex, asNoEOL)
	}
	if len(words) != 1 || !slices.Contains(known, modifier) {
		return fmt.Errorf("not of the form \"%s [%s] SUBJECT\"", kind, strings.Join(known[1:], "|"))
	}
	q := question{kind: kind, subject: words[0]}
	if kind == askFile || kind == askDir || kind == askLink {
		if err := checkPath(q.subject); err != nil {
			return err
		}
	}
	a, err := p.content(q, modifier, data)
	if err != nil {
		return err
	}
	return p.keep(q, a)
}

// netlinkSection reads "FAMILY COMMAND [dump]".
func netlinkSection(words []string) (question, error) {
	q := question{kind: askNetlink}
	if len(words) == 3 && words[2] == "dump" {
		q.dump = true
		words = words[:2]
	}
	if len(words) != 2 {
		return q, errors.New(`not of the form "netlink FAMILY COMMAND [dump]"`)
	}
	q.subject = words[0]
	// The names are few and their numbers small.
	for q.command = range uint16(256) {
		if commandName(q.subject, q.command) == words[1] {
			return q, nil
		}
	}
	var err error
	if q.command, err = parseCommand(words[1]); err != nil {
		return q, fmt.Errorf("%w, nor one that nictune knows by name", err)
	}
	return q, nil
}

func parseCommand(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 0, 16)
	if err != nil {
		return 0, fmt.Errorf("command %s is not a number of 16 bits", shorten(s))
	}
	return uint16(n), nil
}

// keep files an answer; a question has one.
func (p *recordingParser) keep(q question, a answer) error {
	if line, ok := p.lines[q]; ok {
		return fmt.Errorf("the question was answered on line %d already", line)
	}
	p.answers[q], p.lines[q] = a, p.line
	return nil
}

// content reads the section of a question that has no body.
func (p *recordingParser) content(q question, modifier string, data []byte) (answer, error) {
	var a answer
	var err error
	switch {
	case modifier == asError:
		a.err, err = p.wholeError(q, data)
		return a, err
	case q.kind != askFile:
		return p.lineContent(q, data)
	case modifier == asHex:
		if a.bytes, err = parseBytes(string(data), &p.zeros); err != nil {
			return a, err
		}
	case modifier == asNoEOL:
		a.bytes = bytes.TrimSuffix(data, []byte("\n"))
	default:
		a.bytes = data
	}
	if len(a.bytes) > maxFile {
		return a, fmt.Errorf("a file of %d bytes, more than the %d that one may have", len(a.bytes), maxFile)
	}
	return a, nil
}

// lineContent reads a section of lines.
func (p *recordingParser) lineContent(q question, data []byte) (answer, error) {
	var a answer
	links := 0
	for line := range p.structured(data) {
		var err error
		switch q.kind {
		case askDir:
			var name string
			name, err = unquote(line)
			if err == nil && (name == "" || strings.Contains(name, "/")) {
				err = fmt.Errorf("%s is not the name of a directory's entry", shorten(name))
			}
			a.names = append(a.names, name)
		case askLink:
			if links++; links > 1 {
				return a, errors.New("a link has one target")
			}
			a.link, err = unquote(line)
		case askCounters:
			var c Counter
			c, err = parseCounter(line)
			a.counters = append(a.counters, c)
		case askDriver:
			err = setField(driverFields(&a.driver), line)
		case askMachine:
			err = setField(machineFields(&a.machine), line)
		case askPCI:
			err = setField(pciFields(&a.pci), line)
		case askUsers:
			err = a.users.add(line)
		}
		if err != nil {
			return a, err
		}
	}
	if q.kind == askLink && links == 0 {
		return a, errors.New("a link without a target")
	}
	slices.Sort(a.names)
	return a, nil
}

func parseCounter(line string) (Counter, error) {
	i := strings.LastIndex(line, ": ")
	if i < 0 {
		return Counter{}, fmt.Errorf(`%s is not of the form "NAME: NUMBER"`, shorten(line))
	}
	name, err := unquote(line[:i])
	if err != nil {
		return Counter{}, err
	}
	value, err := strconv.ParseUint(strings.TrimSpace(line[i+2:]), 10, 64)
	if err != nil {
		return Counter{}, fmt.Errorf("counter %s: %s is not a number of 64 bits", shorten(name), shorten(line[i+2:]))
	}
	return Counter{Name: name, Value: value}, nil
}

// exchanges reads the asks, answers and errors of a netlink or ethtool section.
func (p *recordingParser) exchanges(q question, data []byte) error {
	var (
		a       answer
		open    bool // an ask or an answer was read
		replied bool // the ioctl was answered
		failed  *errorLines
	)
	done := func() error {
		if failed != nil {
			var err error
			if a.err, err = failed.error(p, q); err != nil {
				return err
			}
		}
		if !replied && q.kind == askEthtool && a.err == nil {
			return errors.New("an ask without an answer or error")
		}
		err := p.keep(q, a)
		a, replied, failed = answer{}, false, nil
		return err
	}
	for line := range p.structured(data) {
		word, rest := line, ""
		if i := strings.IndexAny(line, " \t\n"); i >= 0 {
			word, rest = line[:i], strings.TrimSpace(line[i:])
		}
		switch {
		case word == "ask":
			if open {
				if err := done(); err != nil {
					return err
				}
			}
			body, err := parseBytes(rest, &p.zeros)
			if err != nil {
				return fmt.Errorf("ask: %w", err)
			}
			q.body, open = string(body), true
		case word == "answer" && failed != nil:
			return errors.New("an answer after the error that ended it")
		case word == "answer" && q.kind == askEthtool:
			if !open || replied {
				return errors.New("each ask of an ioctl has one answer")
			}
			body, err := parseBytes(rest, &p.zeros)
			if err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			a.bytes, replied = body, true
		case word == "answer":
			number := rest
			if i := strings.IndexAny(rest, " \t\n"); i >= 0 {
				number, rest = rest[:i], rest[i:]
			} else {
				rest = ""
			}
			command, err := parseCommand(number)
			if err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			body, err := parseBytes(rest, &p.zeros)
			if err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			a.messages = append(a.messages, Message{Command: command, Body: body})
			open = true
		case word == "error":
			if failed != nil || replied {
				return errors.New("a second end of the same answer")
			}
			failed, open = &errorLines{name: rest}, true
		case failed != nil:
			if err := failed.add(line); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is none of ask, answer, error", shorten(word))
		}
	}
	if !open && q.kind == askEthtool {
		return errors.New("an ioctl without an ask")
	}
	return done()
}

// wholeError reads a section that is an error.
func (p *recordingParser) wholeError(q question, data []byte) (answer, malformed error) {
	var e *errorLines
	for line := range p.structured(data) {
		if e == nil {
			e = &errorLines{name: line}
			continue
		}
		if err := e.add(line); err != nil {
			return nil, err
		}
	}
	if e == nil {
		return nil, errors.New("an error without a name, such as ENOENT")
	}
	return e.error(p, q)
}

// errorLines is an error as it is written.
type errorLines struct {
	name    string
	message string
	detail  string
	op      string
	object  string
}

func (e *errorLines) add(line string) error {
	return setField([]field{{"message", &e.message}, {"detail", &e.detail}, {"op", &e.op}, {"object", &e.object}}, line)
}

// error gives what the kernel said then, as an *Error.
func (e *errorLines) error(p *recordingParser, q question) (answer, malformed error) {
	var cause error
	if errno, ok := p.errno(e.name); ok {
		cause = errno
	} else if cause, ok = errorNames()[e.name]; !ok && e.name != failedName {
		return nil, fmt.Errorf("%s is not the name of an error", shorten(e.name))
	}
	if e.detail != "" {
		cause = &recordedError{text: e.detail, cause: cause}
	}
	if cause == nil {
		return nil, fmt.Errorf("%q needs a detail", failedName)
	}
	err := &Error{Op: e.op, Object: e.object, Err: cause, Message: e.message}
	if err.Op == "" {
		err.Op = q.op()
	}
	if err.Object == "" {
		err.Object = q.object()
	}
	return err, nil
}

// errno looks an errno's name up.
func (p *recordingParser) errno(name string) (syscall.Errno, bool) {
	if p.errnos == nil {
		p.errnos = map[string]syscall.Errno{"ENOTSUP": syscall.EOPNOTSUPP}
		const last = 4095 // MAX_ERRNO
		for e := syscall.Errno(1); e <= last; e++ {
			if n := errnoName(e); n != "" {
				p.errnos[n] = e
			}
		}
	}
	e, ok := p.errnos[name]
	return e, ok
}

// recordedError is an error with words of its own.
type recordedError struct {
	text  string
	cause error
}

func (e *recordedError) Error() string { return e.text }
func (e *recordedError) Unwrap() error { return e.cause }

// splitField splits "name: value".
func splitField(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return "", "", fmt.Errorf(`%s is not of the form "NAME: VALUE"`, shorten(line))
	}
	value, err = unquote(strings.TrimSpace(value))
	return name, value, err
}

func setField(fields []field, line string) error {
	name, value, err := splitField(line)
	if err != nil {
		return err
	}
	for _, f := range fields {
		if f.name == name {
			if *f.value != "" {
				return fmt.Errorf("a second %s", name)
			}
			*f.value = value
			return nil
		}
	}
	return fmt.Errorf("unknown field %s", shorten(name))
}

// unquote reads what quoteLine wrote.
func unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	u, err := strconv.Unquote(s)
	if err != nil {
		return "", fmt.Errorf("%s: not a text in Go's quotes", shorten(s))
	}
	return u, nil
}

// splitWords splits at spaces; a word may be quoted.
func splitWords(s string) ([]string, error) {
	var words []string
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return words, nil
		}
		if s[0] == '"' {
			quoted, err := strconv.QuotedPrefix(s)
			if err != nil {
				return nil, errors.New(`a word lacks its closing "`)
			}
			word, err := unquote(quoted)
			if err != nil {
				return nil, err
			}
			words, s = append(words, word), s[len(quoted):]
			continue
		}
		end := strings.IndexAny(s, " \t")
		if end < 0 {
			end = len(s)
		}
		words, s = append(words, s[:end]), s[end:]
	}
}
