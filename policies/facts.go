package policies

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/nictune/nictune/inventory"
)

// Host is what policies can ask of the host.
type Host struct {
	inventory.Host
	// Labels are what its administrators say of it: role=edge.
	Labels map[string]string `json:"labels"`
	// Unread are the facts of the host that could not be read.
	Unread []inventory.Unread `json:"-"`
}

// HostOf is the host of an inventory, with its labels.
func HostOf(inv *inventory.Inventory, labels map[string]string) Host {
	return Host{Host: inv.Host, Labels: labels, Unread: inv.Unread}
}

// UnknownError says that something needs a fact that is not known.
type UnknownError struct {
	// Fact is its name in a condition: "nic.link.speedMbps".
	Fact string
	// Reason is why it could not be read, "not recorded" among the reasons; empty
	// where nothing tried.
	Reason inventory.Reason
}

// Error is "nic.link.speedMbps is not known".
func (e *UnknownError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("%s is not known (%s)", e.Fact, e.Reason)
	}
	return e.Fact + " is not known"
}

// facts gives CEL the inventory's types under their JSON names. CEL's own way
// with Go structs takes what is absent for zero; here it is an [UnknownError].
type facts struct {
	*types.Registry
	byName map[string]*structure
	byType map[reflect.Type]*structure
}

// structure is a struct type, and member one field of it.
type (
	structure struct {
		celType *types.Type
		members map[string]*member
		names   []string
	}
	member struct {
		name    string
		index   []int
		pointer bool
		inner   *structure // of a struct
		omitted bool       // left out of JSON when it is empty
		field   *types.FieldType
	}
)

// newFacts knows the types that the given ones are made of.
func newFacts(roots ...reflect.Type) (*facts, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	f := &facts{Registry: registry, byName: map[string]*structure{}, byType: map[reflect.Type]*structure{}}
	for _, t := range roots {
		if _, err := f.celType(t); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// celType is the CEL type of a Go type.
func (f *facts) celType(t reflect.Type) (*types.Type, error) {
	switch kind := t.Kind(); {
	case kind == reflect.String:
		return types.StringType, nil
	case kind == reflect.Bool:
		return types.BoolType, nil
	case kind >= reflect.Int && kind <= reflect.Uint64: // JSON knows one kind of whole number
		return types.IntType, nil
	case kind == reflect.Float32 || kind == reflect.Float64:
		return types.DoubleType, nil
	case kind == reflect.Slice:
		elem, err := f.celType(t.Elem())
		return types.NewListType(elem), err
	case kind == reflect.Map && t.Key().Kind() == reflect.String:
		elem, err := f.celType(t.Elem())
		return types.NewMapType(types.StringType, elem), err
	case kind == reflect.Struct:
		s, err := f.structure(t)
		if err != nil {
			return nil, err
		}
		return s.celType, nil
	default:
		return nil, fmt.Errorf("conditions have no type for %s", t)
	}
}

func (f *facts) structure(t reflect.Type) (*structure, error) {
	if s := f.byType[t]; s != nil {
		return s, nil
	}
	if f.byName[t.Name()] != nil {
		return nil, fmt.Errorf("conditions know two types by the name %s", t.Name())
	}
	s := &structure{celType: types.NewObjectType(t.Name()), members: map[string]*member{}}
	f.byType[t], f.byName[t.Name()] = s, s
	for _, field := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous || name == "-" || name == "" {
			continue
		}
		m := &member{name: name, index: field.Index, omitted: strings.Contains(options, "omit")}
		goType := field.Type
		if goType.Kind() == reflect.Pointer {
			goType, m.pointer = goType.Elem(), true
		}
		celType, err := f.celType(goType)
		if err != nil {
			return nil, err
		}
		if goType.Kind() == reflect.Struct {
			m.inner = f.byType[goType]
		}
		m.field = &types.FieldType{
			Type:    celType,
			IsSet:   func(target any) bool { return m.known(target) },
			GetFrom: func(target any) (any, error) { return m.of(f, target) },
		}
		s.members[name] = m
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	return s, nil
}

// FindStructType implements types.Provider.
func (f *facts) FindStructType(name string) (*types.Type, bool) {
	if s := f.byName[name]; s != nil {
		return types.NewTypeTypeWithParam(s.celType), true
	}
	return f.Registry.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (f *facts) FindStructFieldNames(name string) ([]string, bool) {
	if s := f.byName[name]; s != nil {
		return s.names, true
	}
	return f.Registry.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (f *facts) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	s := f.byName[name]
	if s == nil {
		return f.Registry.FindStructFieldType(name, field)
	}
	m := s.members[field]
	if m == nil {
		return nil, false
	}
	return m.field, true
}

// near are the names that could have been meant where a condition, which goes
// before, names a fact that is not there: those of the same place, where that can
// be told, or all others.
func (f *facts) near(before, name string) []string {
	place := strings.TrimRight(before, ". ")
	start := strings.LastIndexFunc(place, func(r rune) bool { return r != '.' && !isWord(r) }) + 1
	roots := map[string]string{"nic": "NIC", "host": "Host"}
	var at *structure
	for i, part := range strings.Split(place[start:], ".") {
		switch {
		case i == 0:
			at = f.byName[roots[part]]
		case at != nil && at.members[part] != nil:
			at = at.members[part].inner
		default:
			at = nil
		}
	}
	if at != nil {
		return at.names
	}
	var names []string
	for _, s := range f.byName {
		names = append(names, s.names...)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(known string) bool { return known == name })
}

// NativeToValue implements types.Adapter.
func (f *facts) NativeToValue(value any) ref.Val { return elements{facts: f}.NativeToValue(value) }

// elements is the adapter for what is in one list or map.
type elements struct {
	*facts
	path   string
	unread []inventory.Unread
}

// NativeToValue implements types.Adapter.
func (e elements) NativeToValue(value any) ref.Val {
	if v, ok := value.(ref.Val); ok {
		return v
	}
	v := reflect.ValueOf(value)
	switch kind := v.Kind(); {
	case kind == reflect.String:
		return types.String(v.String())
	case kind >= reflect.Int && kind <= reflect.Int64:
		return types.Int(v.Int())
	case kind >= reflect.Uint && kind <= reflect.Uint64:
		if v.Uint() > math.MaxInt64 {
			return types.NewErr("%d is too large a number for a condition", v.Uint())
		}
		return types.Int(v.Uint()) //nolint:gosec // the line above
	case kind == reflect.Struct && e.byType[v.Type()] != nil:
		return &fact{structure: e.byType[v.Type()], value: v, path: e.path, unread: e.unread}
	}
	return e.Registry.NativeToValue(value)
}

// fact is a struct of the inventory as a CEL value, or, with an invalid value,
// the place where one would be.
type fact struct {
	structure *structure
	value     reflect.Value
	path      string
	unread    []inventory.Unread
}

// root is what a variable of conditions is bound to.
func (f *facts) root(name string, pointer any, unread []inventory.Unread) *fact {
	v := reflect.ValueOf(pointer).Elem()
	return &fact{structure: f.byType[v.Type()], value: v, path: name, unread: unread}
}

// find is the value of a member, invalid where there is none, and its path.
func (m *member) find(parent *fact) (v reflect.Value, path string) {
	path = parent.path + "." + m.name
	if !parent.value.IsValid() {
		return v, path
	}
	v = parent.value.FieldByIndex(m.index)
	if m.pointer {
		v = v.Elem() // of nil invalid
	}
	switch {
	case !v.IsValid():
	case v.Kind() == reflect.String && m.omitted && v.Len() == 0:
		return reflect.Value{}, path
	case !m.pointer && m.inner == nil && v.IsZero() && parent.missed(path) != "":
		return reflect.Value{}, path // its zero is not the kernel's
	}
	return v, path
}

// of gives the value of a member to CEL. A struct that is not there gives its
// place, so that the fact that is missing can be named, and has() can go on.
func (m *member) of(f *facts, target any) (any, error) {
	parent, ok := target.(*fact)
	if !ok {
		return nil, fmt.Errorf("%s of %T", m.name, target)
	}
	v, path := m.find(parent)
	switch {
	case m.inner != nil:
		return &fact{structure: m.inner, value: v, path: path, unread: parent.unread}, nil
	case !v.IsValid():
		return nil, &UnknownError{Fact: path, Reason: parent.missed(path)}
	}
	inside := elements{f, path + "[]", parent.unread}
	switch v.Kind() {
	case reflect.Slice:
		return types.NewDynamicList(inside, v.Interface()), nil
	case reflect.Map:
		return types.NewDynamicMap(inside, v.Interface()), nil
	default:
		return inside.NativeToValue(v.Interface()), nil
	}
}

// known says for has() whether a member has a value: a list or a map without
// anything in it has none.
func (m *member) known(target any) bool {
	parent, ok := target.(*fact)
	if !ok {
		return false
	}
	v, _ := m.find(parent)
	switch {
	case !v.IsValid():
		return false
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Map:
		return v.Len() > 0
	case m.inner != nil && !m.pointer && m.omitted:
		return !v.IsZero()
	}
	return true
}

// notRecorded stands for the reason of what a recording holds no answer about: nobody
// failed to read it.
const notRecorded inventory.Reason = "not recorded"

// missed is why the fact of a path could not be read; empty where nothing says.
func (f *fact) missed(path string) inventory.Reason {
	_, path, _ = strings.Cut(path, ".") // without nic or host
	for _, u := range f.unread {
		if rest, ok := strings.CutPrefix(path, u.Fact); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			if u.NotRecorded() {
				return notRecorded
			}
			return u.Reason
		}
	}
	return ""
}

// Get and IsSet serve optional selection (nic.?pci).

// Get implements traits.Indexer.
func (f *fact) Get(index ref.Val) ref.Val {
	m := f.member(index)
	if m == nil {
		return types.NewErr("no such key: %v", index)
	}
	v, err := m.field.GetFrom(f)
	if err != nil {
		return types.WrapErr(err)
	}
	value, ok := v.(ref.Val)
	if !ok {
		return types.NewErr("%s is no value", m.name)
	}
	return value
}

// IsSet implements traits.FieldTester.
func (f *fact) IsSet(field ref.Val) ref.Val {
	m := f.member(field)
	return types.Bool(m != nil && m.known(f))
}

func (f *fact) member(name ref.Val) *member {
	s, ok := name.(types.String)
	if !ok {
		return nil
	}
	return f.structure.members[string(s)]
}

// ConvertToNative implements ref.Val.
func (f *fact) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s can't become %s", f.path, t)
}

// ConvertToType implements ref.Val.
func (f *fact) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return f.structure.celType
	}
	return types.NewErr("%s can't become %s", f.path, t.TypeName())
}

// Equal implements ref.Val.
func (f *fact) Equal(other ref.Val) ref.Val {
	o, ok := other.(*fact)
	switch {
	case !ok || o.structure != f.structure:
		return types.False
	case !f.value.IsValid():
		return types.WrapErr(&UnknownError{Fact: f.path, Reason: f.missed(f.path)})
	case !o.value.IsValid():
		return o.Equal(f)
	}
	return types.Bool(reflect.DeepEqual(f.value.Interface(), o.value.Interface()))
}

// Type implements ref.Val.
func (f *fact) Type() ref.Type { return f.structure.celType }

// Value implements ref.Val.
func (f *fact) Value() any { return f }
