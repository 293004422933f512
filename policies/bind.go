package policies

import (
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
	uniqueNames(&b.faults, policies)
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
		block.Fields = b.fields(p.text, setting, block.Fields)
		p.Settings = append(p.Settings, block)
	}
	return p
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
			b.add(text, a.Source, utf8.RuneCountInString(a.Field), "unknown field %s of %s%s",
				quoted(a.Field), s.Name, suggest(a.Field, s.names()))
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
				bound = append(bound, Assignment{Field: f.Name, Source: a.Source, Value: a.Value})
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

// refuse says what is wrong with a value, as the end of "x takes ...". Empty
// means nothing.
func (f *Field) refuse(v Value) string {
	word, isWord := v.Word()
	_, isNumber := v.Number()
	_, isBool := v.Bool()
	_, isList := v.List()
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
	if f.Type == Bool {
		known = append([]string{"on", "off"}, f.Words...)
	}
	switch near := nearest(word, known); {
	case f.Type == Number && decimal.MatchString(word):
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
