package policies

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxSize is the size in bytes of the largest file that is read: a few hundred
// policies. It bounds the memory and time that a hostile one can cost.
const MaxSize = 256 << 10

// maxDepth is far above what a document needs, and far below what a parser's
// recursion can bear.
const maxDepth = 16

// maxTokens is what one document may consist of: some thousand fields. The
// library takes time by the square of it (34 s for the 260,000 of "a:" on every
// line of a file of MaxSize, 0.1 s for these).
const maxTokens = 10_000

// Documents are what files hold, by kind.
type Documents struct {
	Policies []Policy
	Checks   []CheckPolicy
	Rules    []RulePolicy
}

// Parse reads the policies of one file, of kind [Kind]; documents of other kinds
// are read, too, and left out.
func Parse(file string, data []byte) ([]Policy, error) {
	documents, err := ParseDocuments(file, data)
	return documents.Policies, err
}

// ParseDocuments reads one file: YAML, any number of documents. The name is used in
// messages only.
//
// The YAML is plain: no anchors, aliases, merge keys, tags, directives or
// complex keys, so that every value stands where its position says, and no
// document grows when it is read. An error holds all that is wrong, as [Fault]
// values joined, and comes with no policies.
func ParseDocuments(file string, data []byte) (Documents, error) {
	d := &decoder{file: file, text: strings.TrimPrefix(string(data), "\ufeff")}
	if d.readable() {
		for _, doc := range d.documents() {
			if d.full() {
				break
			}
			d.base = doc.before
			if body := d.body(doc.text); body != nil {
				d.read(body)
			}
		}
		uniqueNames(&d.faults, d.Documents)
	}
	if err := d.err(); err != nil {
		return Documents{}, err
	}
	return d.Documents, nil
}

// decoder reads one file.
type decoder struct {
	faults
	file, text string
	base       int    // lines before the document that is being read
	policy     string // the name of the policy that is being read
	Documents
	conditions *Conditions // made for the first where
}

// fault notes what is wrong at a token.
func (d *decoder) fault(at *token.Token, format string, args ...any) {
	width := 1
	if at != nil {
		width = utf8.RuneCountInString(strings.TrimSpace(at.Origin))
	}
	d.add(d.text, d.source(at), width, format, args...)
}

// source is where a token stands in the file.
func (d *decoder) source(t *token.Token) Source {
	s := Source{Policy: d.policy, File: d.file, Line: d.base + 1, Column: 1}
	if t != nil && t.Position != nil {
		s.Line, s.Column = d.base+max(t.Position.Line, 1), max(t.Position.Column, 1)
	}
	return s
}

// readable refuses what is no text before anything tries to make sense of it.
func (d *decoder) readable() bool {
	if len(d.text) > MaxSize {
		d.add("", Source{File: d.file, Line: 1, Column: 1}, 1, "the file has more than %d bytes: split it", MaxSize)
		return false
	}
	at := Source{File: d.file, Line: 1, Column: 1}
	for i, r := range d.text {
		invalid := false
		if r == utf8.RuneError {
			_, size := utf8.DecodeRuneInString(d.text[i:])
			invalid = size == 1
		}
		switch {
		case invalid:
			d.add(d.text, at, 1, "byte 0x%02x is not UTF-8: save the file as UTF-8", d.text[i])
			return false
		case r == '\r' && strings.HasPrefix(d.text[i+1:], "\n"):
			continue
		case r != '\n' && r != '\t' && unicode.IsControl(r), r == '\ufeff':
			d.add(d.text, at, 1, "character %U has no place in a policy", r)
			return false
		case r == '\n':
			at.Line, at.Column = at.Line+1, 1
		default:
			at.Column++
		}
	}
	return true
}

// document is one document of a file, and the number of lines before it.
type document struct {
	before int
	text   string
}

// documents splits the file at its --- and ... lines. The YAML library would do
// it, but loses every document after an empty one (seen in goccy/go-yaml 1.19.2).
func (d *decoder) documents() []document {
	var docs []document
	start, before, lines := 0, 0, 0
	for offset := 0; offset < len(d.text); {
		end := len(d.text)
		if i := strings.IndexByte(d.text[offset:], '\n'); i >= 0 {
			end = offset + i + 1
		}
		this := d.text[offset:end]
		marker, rest := this, ""
		if len(this) >= 3 {
			marker, rest = this[:3], this[3:]
		}
		if (marker == "---" || marker == "...") && strings.TrimLeft(rest, " \t\r\n") != rest || this == "---" || this == "..." {
			docs = append(docs, document{before, d.text[start:offset]})
			if rest = strings.TrimSpace(rest); rest != "" && rest[0] != '#' {
				d.add(d.text, Source{File: d.file, Line: lines + 1, Column: 5}, 1, "the document starts on the line after %s", marker)
			}
			start, before = end, lines+1
		}
		lines++
		offset = end
	}
	return append(docs, document{before, d.text[start:]})
}

// body parses one document; nil when there is nothing in it, or a fault.
func (d *decoder) body(text string) ast.Node {
	text = evenly(text)
	tokens := lexer.Tokenize(text)
	if !d.plain(tokens) || !d.whole(text, tokens) {
		return nil
	}
	file, err := parseTokens(tokens)
	if err != nil {
		problem, at := err.Error(), (*token.Token)(nil)
		var known yaml.Error
		if errors.As(err, &known) {
			problem, at = known.GetMessage(), known.GetToken()
		}
		d.fault(at, "not YAML: %s", problem)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			d.fault(doc.Body.GetToken(), "not YAML: more than one value in a document")
			return nil
		}
		body = doc.Body
	}
	return body
}

// evenly makes the library's columns right: it counts spaces at the end of a line
// into the column of the line's last word, and leaves tabs within a line out. A
// tab in the indentation stays, to be refused.
func evenly(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for line := range strings.Lines(text) {
		words := strings.TrimLeft(line, " \t")
		b.WriteString(line[:len(line)-len(words)])
		b.WriteString(strings.ReplaceAll(strings.TrimRight(words, " \t\r\n"), "\t", " "))
		if strings.HasSuffix(line, "\n") {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// parseTokens keeps a panic of the library from ending an agent: the tokens are
// as a stranger's file made them.
func parseTokens(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the parser failed on it (%v)", r)
		}
	}()
	// Duplicate keys are found here, with both lines, not in the library.
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// plain refuses what a policy may not use, and whatever would make the parser
// recurse deeply, while it is still a flat list of tokens.
func (d *decoder) plain(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		d.fault(tokens[maxTokens], "the document is too long: make several of it")
		return false
	}
	var columns []int // of the open block collections
	var flow []int    // keys since the last comma, for each open bracket
	for _, t := range tokens {
		switch t.Type {
		case token.InvalidType:
			problem := strings.TrimSpace(t.Error)
			if strings.Contains(problem, "header option") {
				problem += "; put text that begins with > or | in quotes, as in \">=4096\""
			}
			d.fault(t, "not YAML: %s", problem)
			return false
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			d.fault(t, "policies have no anchors, aliases or merge keys: write the value where it is wanted, and put text that begins with & or * in quotes")
			return false
		case token.TagType:
			d.fault(t, "policies have no tags: put text that begins with ! in quotes")
			return false
		case token.DirectiveType:
			d.fault(t, "policies have no directives: put text that begins with %% in quotes")
			return false
		case token.MappingKeyType:
			d.fault(t, "policies have no complex keys: put text that begins with ? in quotes")
			return false
		case token.SequenceStartType, token.MappingStartType:
			flow = append(flow, 0)
		case token.SequenceEndType, token.MappingEndType:
			if len(flow) == 0 {
				d.fault(t, "not YAML: %q without its opening bracket", t.Value)
				return false
			}
			flow = flow[:len(flow)-1]
		case token.CollectEntryType:
			if len(flow) > 0 {
				flow[len(flow)-1] = 0
			}
		case token.SequenceEntryType, token.MappingValueType:
			if len(flow) > 0 {
				flow[len(flow)-1]++
				if flow[len(flow)-1] > 1 || t.Type == token.SequenceEntryType {
					d.fault(t, "not YAML: %q has no place here within brackets", t.Value)
					return false
				}
				break
			}
			columns = nest(columns, t)
		default:
		}
		if len(columns)+len(flow) > maxDepth {
			d.fault(t, "nested more than %d deep", maxDepth)
			return false
		}
	}
	return true
}

// nest updates the columns of the open block collections for a "-" or a key.
func nest(columns []int, t *token.Token) []int {
	column := t.Position.Column
	if t.Type == token.MappingValueType && t.Prev != nil && t.Prev.Position.Line == t.Position.Line {
		column = t.Prev.Position.Column
	}
	for len(columns) > 0 && columns[len(columns)-1] > column {
		columns = columns[:len(columns)-1]
	}
	if len(columns) > 0 && columns[len(columns)-1] == column {
		return columns
	}
	return append(columns, column)
}

// whole refuses a document of which the library's tokens cover only a part: it
// drops some malformed text in silence, and a policy must not lose a line.
// Escapes are not in the tokens as they were written, so a document that has a
// backslash can't be compared.
func (d *decoder) whole(text string, tokens token.Tokens) bool {
	if strings.Contains(text, `\`) {
		return true
	}
	rest, at := text, (*token.Token)(nil)
	for _, t := range tokens {
		for _, r := range t.Origin {
			if unicode.IsSpace(r) {
				continue
			}
			rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
			next, size := utf8.DecodeRuneInString(rest)
			if next != r {
				d.fault(t, "not YAML: something before this can't be read")
				return false
			}
			rest = rest[size:]
		}
		at = t
	}
	if strings.TrimSpace(rest) != "" {
		d.fault(at, "not YAML: something after this can't be read")
		return false
	}
	return true
}

// uniqueNames refuses two documents of one kind and name: a report would not say
// which.
func uniqueNames(fs *faults, documents Documents) {
	first := map[string]Source{}
	add := func(kind, name, text string, at Source) {
		if other, ok := first[kind+" "+name]; ok {
			fs.add(text, at, utf8.RuneCountInString(name), "the policy %q is already at %s: give this one another name", name, other)
			return
		}
		first[kind+" "+name] = at
	}
	for _, p := range documents.Policies {
		add(Kind, p.Name, p.text, p.Source)
	}
	for _, c := range documents.Checks {
		add(CheckKind, c.Name, c.text, c.Source)
	}
	for _, r := range documents.Rules {
		add(RuleKind, r.Name, r.text, r.Source)
	}
	uniqueRules(fs, documents.Rules)
}
