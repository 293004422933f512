package tuning

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Values is the state of a setting, or some fields of it: each field's JSON, in
// the setting's own spelling, so that equal bytes mean equal values. A state has
// no field without a value; among the fields that shall become something, one
// without a value (null in JSON) shall go.
type Values map[string]json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (v *Values) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return err
	}
	for name, value := range fields {
		if string(value) == "null" {
			fields[name] = nil
		}
	}
	*v = fields
	return nil
}

// names are the names of the fields, sorted.
func (v Values) names() []string { return slices.Sorted(maps.Keys(v)) }

// erase turns T into its fields. Those of maps, and of structs that are no more than
// their fields, are marshalled one by one, which costs a fifth of writing and reading
// all: the features of a NIC are sixty.
func erase[T any](t T) (Values, error) {
	switch whole := reflect.ValueOf(t); {
	case whole.Kind() == reflect.Map:
		v := make(Values, whole.Len())
		for entries := whole.MapRange(); entries.Next(); {
			if err := v.erase(entries.Key().String(), entries.Value()); err != nil {
				return nil, err
			}
		}
		return v, nil
	case plain(whole.Type()):
		v := Values{}
		for i := range whole.NumField() {
			if field := whole.Field(i); !empty(field) {
				if err := v.erase(nameOf(whole.Type().Field(i)), field); err != nil {
					return nil, err
				}
			}
		}
		return v, nil
	}
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	v := Values{}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	maps.DeleteFunc(v, func(_ string, value json.RawMessage) bool { return value == nil })
	return v, nil
}

// eraseField is one field of what erase makes of T, nil where it has none of the
// name.
func eraseField[T any](t T, name string) (json.RawMessage, error) {
	whole := reflect.ValueOf(t)
	switch {
	case whole.Kind() == reflect.Map:
		key := reflect.ValueOf(name)
		if key.Type() != whole.Type().Key() {
			key = key.Convert(whole.Type().Key())
		}
		return marshal(whole.MapIndex(key))
	case whole.Kind() == reflect.Struct && !whole.Type().Implements(reflect.TypeFor[json.Marshaler]()):
		// Whatever the other fields are: to look at all of them costs more than this one.
		for i := range whole.NumField() {
			switch f := whole.Type().Field(i); {
			case f.Tag.Get("json") != name+",omitempty" || f.Anonymous || !f.IsExported():
			case empty(whole.Field(i)):
				return nil, nil
			default:
				return marshal(whole.Field(i))
			}
		}
	}
	v, err := erase(t)
	return v[name], err
}

// copied is a T that shares nothing with t which can be written.
func copied[T any](t T) T {
	copyOf(reflect.ValueOf(&t).Elem())
	return t
}

// copyOf makes v, in place, a copy of itself.
func copyOf(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			p := reflect.New(v.Type().Elem())
			p.Elem().Set(v.Elem())
			copyOf(p.Elem())
			v.Set(p)
		}
	case reflect.Slice:
		if !v.IsNil() {
			s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(s, v)
			copyEach(s)
			v.Set(s)
		}
	case reflect.Array:
		copyEach(v)
	case reflect.Map:
		if !v.IsNil() {
			m := reflect.MakeMapWithSize(v.Type(), v.Len())
			for entries := v.MapRange(); entries.Next(); {
				e := reflect.New(v.Type().Elem()).Elem()
				e.Set(entries.Value())
				copyOf(e)
				m.SetMapIndex(entries.Key(), e)
			}
			v.Set(m)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				copyOf(v.Field(i))
			}
		}
	}
}

// copyEach copies the elements of a slice or an array that has more than numbers.
func copyEach(v reflect.Value) {
	if kind := v.Type().Elem().Kind(); kind <= reflect.Complex128 || kind == reflect.String {
		return
	}
	for i := range v.Len() {
		copyOf(v.Index(i))
	}
}

// plain says of a type that it is a struct whose JSON is its fields, each by the name
// in its tag, and left out where it is empty.
func plain(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[json.Marshaler]()) {
		return false
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if name, options, _ := strings.Cut(f.Tag.Get("json"), ","); f.Anonymous || !f.IsExported() || name == "" || options != "omitempty" {
			return false
		}
	}
	return true
}

// nameOf is the name of a field in JSON.
func nameOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// empty says what encoding/json leaves out with omitempty.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice, reflect.Array, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// erase adds an entry of a map, or a field of a struct.
func (v Values) erase(field string, entry reflect.Value) error {
	value, err := marshal(entry)
	if err == nil && value != nil {
		v[field] = value
	}
	return err
}

// marshal is json.Marshal, with a short way for what most fields are. It is nil for
// null, and for nothing.
func marshal(v reflect.Value) (json.RawMessage, error) {
	for v.Kind() == reflect.Pointer && !v.IsNil() && v.Elem().Type().PkgPath() == "" {
		v = v.Elem()
	}
	if !v.IsValid() {
		return nil, nil
	}
	switch kind, predeclared := v.Kind(), v.Type().PkgPath() == ""; {
	case kind == reflect.Bool && predeclared:
		return strconv.AppendBool(nil, v.Bool()), nil
	case kind >= reflect.Uint && kind <= reflect.Uint64 && predeclared:
		return strconv.AppendUint(nil, v.Uint(), 10), nil
	}
	value, err := json.Marshal(v.Interface())
	if string(value) == "null" {
		value = nil
	}
	return value, err
}

// restore turns fields into T. A field that T lacks is an error.
func restore[T any](v Values) (T, error) {
	b, err := json.Marshal(v)
	if err != nil {
		var none T
		return none, err
	}
	return strictly[T](b)
}

// strictly reads JSON that has no field which T lacks.
func strictly[T any](b []byte) (T, error) {
	var t T
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&t)
	return t, err
}

func both[T any](a, b Values) (x, y T, err error) {
	if x, err = restore[T](a); err == nil {
		y, err = restore[T](b)
	}
	return x, y, err
}

// differing are the fields, sorted, in which a and b differ; those that only one
// of them has do.
func differing(a, b Values) []string {
	var out []string
	for field := range a {
		if !bytes.Equal(a[field], b[field]) {
			out = append(out, field)
		}
	}
	for field := range b {
		if _, ok := a[field]; !ok && b[field] != nil {
			out = append(out, field)
		}
	}
	slices.Sort(out)
	return out
}

// over is base with the named fields as they are in top: what has no value there
// is gone.
func over(base, top Values, fields []string) Values {
	out := maps.Clone(base)
	for _, field := range fields {
		if v := top[field]; v != nil {
			out[field] = v
		} else {
			delete(out, field)
		}
	}
	return out
}

// only are the named fields of v; those that it lacks are there without a value.
func only(v Values, fields []string) Values {
	out := Values{}
	for _, field := range fields {
		out[field] = v[field]
	}
	return out
}

// same says whether a and b agree in the named fields.
func same(a, b Values, fields []string) bool {
	return !slices.ContainsFunc(fields, func(field string) bool { return !bytes.Equal(a[field], b[field]) })
}

// without are the fields that are not among others.
func without(fields, others []string) []string {
	return slices.DeleteFunc(slices.Clone(fields), func(field string) bool { return slices.Contains(others, field) })
}
