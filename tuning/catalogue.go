package tuning

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/nictune/nictune/policies"
)

// Catalogue says what the settings and their fields are, so that policies can
// be checked before any device is asked. It is read from the types of the knobs:
// the JSON keys are the names, the tag `doc` explains, and the tag `words` lists,
// with commas, the words that a field takes besides what its type unmarshals, and
// `form` says what the text is that a field takes; `example` is one value; `group` is the field's group, as [policies.Field] has it.
//
// Where settings are named it has those only: all of them take a third of a
// millisecond to look through.
func Catalogue(settings []Setting, named ...string) policies.Catalogue {
	var c policies.Catalogue
	for _, s := range settings {
		if len(named) > 0 && !slices.Contains(named, s.name()) {
			continue
		}
		shape, aliases := s.shape()
		entry := policies.Setting{Name: s.name(), Doc: s.doc(), Host: s.scope() == PerHost, List: shape.Kind() == reflect.Slice}
		if entry.List {
			shape = shape.Elem()
		}
		switch shape.Kind() {
		case reflect.Struct:
			for name, f := range wishFields(shape) {
				field := policies.Field{Name: name, Doc: f.Tag.Get("doc"), Type: takes(f.Type), Form: f.Tag.Get("form"), Group: f.Tag.Get("group"), Example: f.Tag.Get("example")}
				if field.Form != "" {
					field.Type = policies.Text
				}
				field.Many = field.Type == policies.Number && s.wishes() && (entry.List || !hasNumber(s.state(), name))
				if words := f.Tag.Get("words"); words != "" {
					field.Words = strings.Split(words, ",")
				}
				entry.Fields = append(entry.Fields, field)
			}
		case reflect.Map:
			open := policies.Field{Type: takes(shape.Elem())}
			entry.Open = &open
			byName := map[string][]string{}
			for alias, names := range aliases {
				for _, name := range names {
					byName[name] = append(byName[name], alias)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(byName)) {
				entry.Fields = append(entry.Fields, policies.Field{
					Name: name, Aliases: slices.Sorted(slices.Values(byName[name])), Type: open.Type,
				})
			}
		}
		c = append(c, entry)
	}
	return c
}

// wishFields are the fields of a struct by their names. Those of a struct in it stand for
// it, each behind its name and a dot.
func wishFields(shape reflect.Type) func(yield func(string, reflect.StructField) bool) {
	return func(yield func(string, reflect.StructField) bool) {
		for i := range shape.NumField() {
			f := shape.Field(i)
			inside := f.Type
			if inside.Kind() == reflect.Pointer {
				inside = inside.Elem()
			}
			if !plain(inside) {
				if !yield(nameOf(f), f) {
					return
				}
				continue
			}
			for name, of := range wishFields(inside) {
				if !yield(nameOf(f)+"."+name, of) {
					return
				}
			}
		}
	}
}

// hasNumber says whether a state has one number of this name.
func hasNumber(state reflect.Type, name string) bool {
	if state.Kind() != reflect.Struct {
		return false
	}
	for i := range state.NumField() {
		f := state.Field(i)
		if is, _, _ := strings.Cut(f.Tag.Get("json"), ","); is == name {
			return takes(f.Type) == policies.Number
		}
	}
	return false
}

// takes is what a type unmarshals: `true`, a number, or neither. Of most types their
// kind says it.
func takes(t reflect.Type) policies.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() == "" { // it has no UnmarshalJSON of its own
		switch kind := t.Kind(); {
		case kind == reflect.Bool:
			return policies.Bool
		case kind >= reflect.Int && kind <= reflect.Float64:
			return policies.Number
		case kind == reflect.String:
			return policies.Words
		}
	}
	switch {
	case json.Unmarshal([]byte("true"), reflect.New(t).Interface()) == nil:
		return policies.Bool
	case json.Unmarshal([]byte("1"), reflect.New(t).Interface()) == nil:
		return policies.Number
	default:
		return policies.Words
	}
}
