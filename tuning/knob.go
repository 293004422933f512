package tuning

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Knob is one kernel object that is read and written whole: the rx and tx rings
// of a NIC are one knob, because changing them is one reset.
//
// T is a struct or a map with string keys that marshals to a JSON object; its
// keys are the fields that policies name, in ethtool's words. A pointer field
// that is nil, or a missing key, is one that the device does not have. The tag
// `doc` says in a sentence what a field is.
type Knob[T any] struct {
	// Name is the setting's name in policies: "rings".
	Name string
	// Aliases are further names for fields, where T is a map: each stands for one
	// or more keys of it.
	Aliases map[string][]string
	// Doc says in a sentence or two what the setting does.
	Doc string
	// Wish, where set, is how policies say what they want where that is not T's
	// fields themselves: "over four queues" for a table of 128. See [WishOf].
	Wish *Wish[T]
	// After names the settings whose change makes the kernel or the driver build
	// this one's state anew, so that it can't be planned along with them.
	After []string
	// Impact says what changing current into next does to traffic of the NIC. Where
	// drivers differ it expects the worst of those that it does not know.
	Impact func(nic inventory.NIC, current, next T) Impact
	// Breaks says why changing current into next would break what the NIC is used
	// for, although its impact is seamless: "it moves packets to queue 4". "" is
	// that it does not. nil: nothing ever does.
	Breaks func(use inventory.Use, current, next T) string
	// ChoosesSpeed says that the setting chooses the speed of the link, so that a
	// lower one afterwards is what was wanted.
	ChoosesSpeed bool
	// Read returns the values in use and the largest ones that the device takes.
	// A field without a maximum is absent from limit.
	Read func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit T, err error)
	// Check says what is wrong with next beyond numbers above their limit, which
	// the engine finds itself. It may be nil.
	Check func(next, limit T) error
	// Write asks the kernel for next. current is what was read just before, so
	// that only what differs need be sent.
	Write func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next T) error
}

// Wish turns what policies say into the state that they mean.
type Wish[T any] struct {
	shape   reflect.Type
	resolve func(ctx context.Context, r kernel.Reader, nic inventory.NIC, wish Values, current T) (T, error)
}

// WishOf makes a Wish of a struct W, whose fields are what policies name. It has
// the tags that T has otherwise, and for a string that is free text the tag
// `form`, which says what text that is. A pointer that is nil was not wished for.
//
// resolve is asked once, for the plan: what it returns is what the plan holds,
// and what is written and verified. It returns current where nothing is to
// change.
func WishOf[W, T any](resolve func(ctx context.Context, r kernel.Reader, nic inventory.NIC, wish W, current T) (T, error)) *Wish[T] {
	return &Wish[T]{
		shape: reflect.TypeFor[W](),
		resolve: func(ctx context.Context, r kernel.Reader, nic inventory.NIC, wish Values, current T) (T, error) {
			w, err := restore[W](wish)
			var kind *json.UnmarshalTypeError
			switch {
			case errors.As(err, &kind):
				return current, fmt.Errorf("%s takes %s", kind.Field, kindOf(kind.Type))
			case err != nil:
				return current, err
			}
			return resolve(ctx, r, nic, w, current)
		},
	}
}

// Setting is a Knob of any type; the engine holds a list of them.
type Setting interface {
	name() string
	doc() string
	// shape is the type whose fields policies name, and aliases of these fields.
	shape() (reflect.Type, map[string][]string)
	// wishes says whether policies name other fields than the state has; resolve
	// then turns them into a state.
	wishes() bool
	after() []string
	resolve(ctx context.Context, r kernel.Reader, nic inventory.NIC, wish, current Values) (next Values, err error)
	impact(nic inventory.NIC, current, next Values) (Impact, error)
	breaks(use inventory.Use, current, next Values) (string, error)
	choosesSpeed() bool
	read(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit Values, err error)
	// spell checks the value of one field and gives it the setting's spelling.
	spell(field string, value json.RawMessage) (json.RawMessage, error)
	check(next, limit Values) error
	write(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next Values) error
}

// Values is the state of a setting: each field's JSON, in the setting's own
// spelling, so that equal bytes mean equal values.
type Values map[string]json.RawMessage

func (k Knob[T]) name() string { return k.Name }
func (k Knob[T]) doc() string  { return k.Doc }

func (k Knob[T]) shape() (reflect.Type, map[string][]string) {
	if k.Wish != nil {
		return k.Wish.shape, k.Aliases
	}
	return reflect.TypeFor[T](), k.Aliases
}

func (k Knob[T]) wishes() bool       { return k.Wish != nil }
func (k Knob[T]) after() []string    { return k.After }
func (k Knob[T]) choosesSpeed() bool { return k.ChoosesSpeed }

func (k Knob[T]) resolve(ctx context.Context, r kernel.Reader, nic inventory.NIC, wish, current Values) (Values, error) {
	c, err := restore[T](current)
	if err != nil {
		return nil, err
	}
	next, err := k.Wish.resolve(ctx, r, nic, wish, c)
	if err != nil {
		return nil, err
	}
	return erase(next)
}

func (k Knob[T]) impact(nic inventory.NIC, current, next Values) (Impact, error) {
	from, to, err := both[T](current, next)
	if err != nil {
		return "", err
	}
	return k.Impact(nic, from, to), nil
}

func (k Knob[T]) read(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit Values, err error) {
	c, l, err := k.Read(ctx, r, nic)
	if err != nil {
		return nil, nil, err
	}
	if current, err = erase(c); err != nil {
		return nil, nil, err
	}
	limit, err = erase(l)
	return current, limit, err
}

func (k Knob[T]) spell(field string, value json.RawMessage) (json.RawMessage, error) {
	t, err := restore[T](Values{field: value})
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return nil, errors.New("it takes " + kindOf(kind.Type))
	case err != nil:
		return nil, err
	}
	v, err := erase(t)
	if err != nil {
		return nil, err
	}
	if v[field] == nil {
		return nil, errors.New("it has no value")
	}
	return v[field], nil
}

func (k Knob[T]) check(next, limit Values) error {
	if k.Check == nil {
		return nil
	}
	n, l, err := both[T](next, limit)
	if err != nil {
		return err
	}
	return k.Check(n, l)
}

func (k Knob[T]) write(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next Values) error {
	from, to, err := both[T](current, next)
	if err != nil {
		return err
	}
	return k.Write(ctx, w, nic, from, to)
}

// kindOf says for people what a field of a type takes.
func kindOf(t reflect.Type) string {
	switch kind := t.Kind(); {
	case kind == reflect.Bool:
		return "on or off"
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return fmt.Sprintf("a number of %d bits", t.Bits())
	case kind == reflect.String:
		return "text: put a number in quotes"
	default:
		return "another value"
	}
}

// erase turns T into its fields.
func erase[T any](t T) (Values, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	v := Values{}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// restore turns fields into T. A field that T lacks is an error.
func restore[T any](v Values) (T, error) {
	var t T
	b, err := json.Marshal(v)
	if err != nil {
		return t, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(&t)
	return t, err
}

func both[T any](a, b Values) (x, y T, err error) {
	if x, err = restore[T](a); err == nil {
		y, err = restore[T](b)
	}
	return x, y, err
}

// differing are the fields, sorted, in which a and b differ.
func differing(a, b Values) []string {
	var out []string
	for field := range a {
		if !bytes.Equal(a[field], b[field]) {
			out = append(out, field)
		}
	}
	for field := range b {
		if _, ok := a[field]; !ok {
			out = append(out, field)
		}
	}
	slices.Sort(out)
	return out
}

// over is base with the named fields taken from top; a field that top lacks is
// left as it is.
func over(base, top Values, fields []string) Values {
	out := maps.Clone(base)
	for _, field := range fields {
		if v, ok := top[field]; ok {
			out[field] = v
		}
	}
	return out
}

// same says whether a and b agree in the named fields.
func same(a, b Values, fields []string) bool {
	return !slices.ContainsFunc(fields, func(field string) bool { return !bytes.Equal(a[field], b[field]) })
}
