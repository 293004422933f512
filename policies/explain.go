package policies

import (
	"fmt"
	"slices"
	"strings"
)

// Find looks up what a user names: a setting ("rings"), or with a dot a field of
// one ("rings.tx"), of which a name that stands for several gives them all. The
// error names what could have been meant.
func (c Catalogue) Find(name string) (*Setting, []Field, error) {
	settingName, fieldName, isField := strings.Cut(name, ".")
	s := c.setting(settingName)
	if s == nil {
		var places []string // of a field without its setting
		for i := range c {
			if !isField && slices.Contains(c[i].names(), name) {
				places = append(places, c[i].Name+"."+name)
			}
		}
		if len(places) > 0 {
			return nil, nil, fmt.Errorf("no setting is called %s; did you mean %s?", quoted(name), strings.Join(places, " or "))
		}
		near := nearest(settingName, c.names())
		if near == "" {
			return nil, nil, fmt.Errorf("no setting is called %s; there are %s", quoted(settingName), strings.Join(c.names(), ", "))
		}
		return nil, nil, fmt.Errorf("no setting is called %s; did you mean %q?", quoted(settingName), near)
	}
	if !isField {
		return s, nil, nil
	}
	fields := s.fields(fieldName)
	if len(fields) == 0 {
		return nil, nil, fmt.Errorf("%s has no field %s%s", s.Name, quoted(fieldName), suggest(fieldName, s.names()))
	}
	return s, fields, nil
}

// Names are what Find finds: each setting, and each of its fields behind its
// name and a dot, also by its other names.
func (c Catalogue) Names() []string {
	var names []string
	for i := range c {
		names = append(names, c[i].Name)
		for _, field := range c[i].names() {
			names = append(names, c[i].Name+"."+field)
		}
	}
	return names
}

// Computed says for people what a field takes besides what Takes says: empty
// where it takes no number.
func (f *Field) Computed() string {
	switch {
	case f.Type != Number:
		return ""
	case slices.Contains(f.Words, string(Maximum)):
		return `50%, default, cpus, local-cpus, housekeeping-cpus, "min(local-cpus, 16)", "max(2, 25%)", ">=4096", "<=4096"`
	default:
		return `default, cpus, local-cpus, housekeeping-cpus, "min(local-cpus, 16)", "max(cpus, 8)", ">=4096", "<=4096"`
	}
}

// Example is a setting with one of its fields as a document has them, below
// settings. Empty means that there is none without knowing a device.
func (s *Setting) Example(f Field) string {
	name := f.Name
	value := f.example()
	if value == "" {
		return ""
	}
	if s.List {
		if outer, inner, ok := strings.Cut(name, "."); ok {
			name, value = outer, "{"+inner+": "+value+"}"
		}
		return fmt.Sprintf("%s:\n- {%s: %s}", s.Name, name, value)
	}
	return fmt.Sprintf("%s: {%s: %s}", s.Name, name, value)
}

func (f *Field) example() string {
	switch {
	case f.Example != "":
		return f.Example
	case len(f.Words) > 0:
		return f.Words[0]
	case f.Type == Bool:
		return "on"
	case f.Type == Number:
		return "4"
	default:
		return ""
	}
}
