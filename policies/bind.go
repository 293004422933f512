package policies

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bind holds policies against the settings that exist. It returns them with
// every field under the catalogue's own name, so that two documents that mean
// one field by different names are seen to, or all that is wrong with them:
// unknown settings and fields, and values of the wrong kind.
func Bind(policies []Policy, catalogue Catalogue) ([]Policy, error) {
	b := binder{catalogue: catalogue}
	bound := make([]Policy, len(policies))
	for i, p := range policies {
		bound[i] = b.policy(p)
	}
	uniqueNames(&b.faults, Documents{Policies: policies})
	if err := b.err(); err != nil {
		return nil, err
	}
	return bound, nil
}

type binder struct {
	faults
	catalogue Catalogue
}

func (b *binder) policy(p Policy) Policy {
	blocks := p.Settings
	p.Settings = make([]Block, 0, len(blocks))
	optional, clamp := b.selector(p.text, p.Optional, "optional"), b.selector(p.text, p.Clamp, "clamp")
	for _, block := range blocks {
		if b.full() {
			break
		}
		setting := b.catalogue.setting(block.Setting)
		if setting == nil {
			b.add(p.text, block.Source, utf8.RuneCountInString(block.Setting), "unknown setting %s%s",
				quoted(block.Setting), suggest(block.Setting, b.catalogue.names()))
			continue
		}
		block.Host = setting.Host
		if b.shaped(p.text, setting, block) {
			block.Fields = b.fields(p.text, setting, block.Fields)
			block.Items = b.items(p.text, setting, block.Items)
			optional.mark(setting, &block, func(a *Assignment) *bool { return &a.Optional }, &block.Optional)
			clamp.mark(setting, &block, func(a *Assignment) *bool { return &a.Clamp }, &block.Clamp)
		}
		p.Settings = append(p.Settings, block)
	}
	optional.rest()
	clamp.rest()
	return p
}

// shaped says whether a block is a list where the setting is one.
func (b *binder) shaped(text string, s *Setting, block Block) bool {
	switch isList := block.Items != nil; {
	case s.List && !isList:
		b.add(text, block.Source, utf8.RuneCountInString(block.Setting), "%s is a list: begin each item with a dash, as in %q", s.Name, s.example())
		return false
	case !s.List && isList:
		b.add(text, block.Source, utf8.RuneCountInString(block.Setting), "%s is a mapping of fields to values, not a list", s.Name)
		return false
	}
	return true
}

// example is an item of a list setting, as a document has it.
func (s *Setting) example() string {
	if len(s.Fields) == 0 {
		return "- {...}"
	}
	return "- {" + s.Fields[0].Name + ": ...}"
}

func (b *binder) items(text string, s *Setting, written []Item) []Item {
	if written == nil {
		return nil
	}
	items := make([]Item, len(written))
	for i, item := range written {
		items[i] = Item{Source: item.Source, Fields: b.fields(text, s, item.Fields)}
	}
	return items
}

// selector holds one of the keys optional and clamp against what a policy sets.
type selector struct {
	binder    *binder
	text, key string
	selection Selection
	used      []bool // by name
}

func (b *binder) selector(text string, s Selection, key string) *selector {
	return &selector{binder: b, text: text, key: key, selection: s, used: make([]bool, len(s.Names))}
}

// mark sets the flag of each field of a block, and of the whole block, that the
// key names.
func (k *selector) mark(s *Setting, block *Block, flag func(*Assignment) *bool, whole *bool) {
	*whole = k.selection.All
	for i, selected := range k.selection.Names {
		if selected.Name == s.Name {
			k.used[i], *whole = true, true
		}
	}
	for i := range block.Fields {
		*flag(&block.Fields[i]) = *whole
	}
	for i, selected := range k.selection.Names {
		setting, name, ok := strings.Cut(selected.Name, ".")
		if !ok || setting != s.Name {
			continue
		}
		if s.List {
			k.used[i] = true
			k.fault(selected, "%s names %s, which is one list: name %s alone", k.key, quoted(selected.Name), s.Name)
			continue
		}
		for _, f := range s.fields(name) {
			for j := range block.Fields {
				if block.Fields[j].Field == f.Name {
					k.used[i], *flag(&block.Fields[j]) = true, true
				}
			}
		}
	}
}

// rest refuses names that the policy sets nothing of: they are mistaken.
func (k *selector) rest() {
	for i, selected := range k.selection.Names {
		if !k.used[i] {
			k.fault(selected, "%s names %s, which this policy does not set: name its settings (\"rings\") or their fields (\"rings.tx\")",
				k.key, quoted(selected.Name))
		}
	}
}

func (k *selector) fault(s Selected, format string, args ...any) {
	k.binder.add(k.text, s.Source, utf8.RuneCountInString(s.Name), format, args...)
}

// fields renames aliases, expands those of several fields, and checks values.
func (b *binder) fields(text string, s *Setting, written []Assignment) []Assignment {
	var bound []Assignment
	at := map[string]int{} // in bound, by name
	for _, a := range written {
		if b.full() {
			break
		}
		fields := s.fields(a.Field)
		if len(fields) == 0 {
			written := a.Field
			if s.List { // within a mapping the last part of the name is what is there
				written = written[strings.LastIndexByte(written, '.')+1:]
			}
			b.add(text, a.Source, utf8.RuneCountInString(written), "unknown field %s of %s%s",
				quoted(a.Field), s.Name, suggest(a.Field, s.names()))
			continue
		}
		if err := fields[0].compute(&a.Value); err != nil {
			at, width := a.Value.Source, utf8.RuneCountInString(a.Value.word)
			var fault *ExpressionError
			if errors.As(err, &fault) {
				if place, ok := within(text, at, a.Value.word, fault.Offset); ok {
					at, width = place, fault.Width
				}
			}
			b.add(text, at, width, "%s.%s: %v", s.Name, a.Field, err)
			continue
		}
		if problem := fields[0].refuse(a.Value); problem != "" {
			b.add(text, a.Value.Source, utf8.RuneCountInString(a.Value.String()), "%s.%s takes %s", s.Name, a.Field, problem)
			continue
		}
		for _, f := range fields {
			same, twice := at[f.Name]
			switch {
			case !twice:
				at[f.Name] = len(bound)
				bound = append(bound, Assignment{Field: f.Name, Source: a.Source, Value: a.Value, Group: f.Group})
			case !bound[same].Value.Equal(a.Value):
				b.add(text, a.Source, utf8.RuneCountInString(a.Field), "%s.%s is %s here and %s on line %d: keep one of them",
					s.Name, f.Name, a.Value, bound[same].Value, bound[same].Source.Line)
			}
		}
	}
	return bound
}

// setting finds a setting by its name.
func (c Catalogue) setting(name string) *Setting {
	for i := range c {
		if c[i].Name == name {
			return &c[i]
		}
	}
	return nil
}

func (c Catalogue) names() []string {
	names := make([]string, len(c))
	for i, s := range c {
		names[i] = s.Name
	}
	return names
}

// fields finds the field of a name, the fields of an alias, or, in an open
// setting, a field of any other name.
func (s *Setting) fields(name string) []Field {
	var found []Field
	for _, f := range s.Fields {
		if f.Name == name {
			return []Field{f}
		}
		if slices.Contains(f.Aliases, name) {
			found = append(found, f)
		}
	}
	if len(found) == 0 && s.Open != nil {
		f := *s.Open
		f.Name = name
		found = []Field{f}
	}
	return found
}

// names are what a document can write for a field, without repetition.
func (s *Setting) names() []string {
	var names []string
	for _, f := range s.Fields {
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// compute makes an expression of a word where a number is wanted. Of a word that
// does not look like one it is silent: refuse finds better words.
func (f *Field) compute(v *Value) error {
	word, ok := v.Word()
	if f.Type != Number || !ok || slices.Contains(f.Words, word) && word != string(Maximum) {
		return nil
	}
	e, err := ParseExpression(word)
	if err != nil {
		if !strings.ContainsAny(word, "()%<>=,") {
			return nil
		}
		return err
	}
	if e.root.quantity == "" && e.root.function == "" && !e.root.percent && e.bound == exactly {
		return nil // a number in quotes
	}
	if slices.Contains(e.Needs(), Maximum) && !slices.Contains(f.Words, string(Maximum)) {
		if e.String() == string(Maximum) {
			return nil
		}
		return errors.New("no device names a maximum of it: neither max nor a percentage means anything here")
	}
	if f.Many && (slices.Contains(e.Needs(), Default) || slices.Contains(e.Needs(), Current)) {
		return errors.New("the device has no single number of it to start from, but one for each queue or such: neither default nor a bound (>=, <=) means anything here")
	}
	*v = ExpressionValue(e, v.Source)
	return nil
}

// refuse says what is wrong with a value, as the end of "x takes ...". Empty
// means nothing.
func (f *Field) refuse(v Value) string {
	word, isWord := v.Word()
	_, isNumber := v.Number()
	_, isBool := v.Bool()
	_, isList := v.List()
	_, isExpression := v.Expression()
	if isExpression && f.Type == Number {
		return "" // compute made it
	}
	if f.Type == Text && (isWord || isNumber || isList) || f.Type == Number && isNumber || f.Type == Bool && isBool || !isList && slices.Contains(f.Words, v.String()) {
		return ""
	}
	if isList {
		return fmt.Sprintf("%s, not a list", f.Takes())
	}
	if !isWord {
		return fmt.Sprintf("%s, not %s", f.Takes(), v)
	}
	known, hint := f.Words, ""
	switch f.Type {
	case Bool:
		known = append([]string{"on", "off"}, f.Words...)
	case Number:
		for _, q := range quantities {
			if q != string(Maximum) && !(f.Many && q == string(Default)) && !slices.Contains(known, q) {
				known = append(known[:len(known):len(known)], q)
			}
		}
	default:
	}
	switch near := nearest(word, known); {
	case f.Type == Number && decimal(word):
		hint = "; write the number without quotes"
	case f.Type == Number && strings.ContainsAny(word[:1], "-+0123456789"):
		hint = "; write a plain decimal number"
	case f.Type == Bool && slices.Contains([]string{"no", "false"}, strings.ToLower(word)):
		hint = "; did you mean \"off\"?" // although NO is nearer to on
	case near != "":
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return fmt.Sprintf("%s, not %s%s", f.Takes(), quoted(word), hint)
}

// Takes names what a field takes, for people: "a number or max".
func (f *Field) Takes() string {
	var takes []string
	switch f.Type {
	case Number:
		takes = append(takes, "a number")
	case Bool:
		takes = append(takes, "on", "off")
	case Text:
		takes = append(takes, f.Form)
	case Words:
	}
	takes = append(takes, f.Words...)
	switch last := len(takes) - 1; last {
	case -1:
		return "nothing"
	case 0:
		return takes[0]
	default:
		return strings.Join(takes[:last], ", ") + " or " + takes[last]
	}
}
