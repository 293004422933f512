package tuning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

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
	// Scope says whether each NIC has the setting, or the host as a whole.
	Scope Scope
	// Entries says of a map that its keys are what is written, such as rules by
	// their number: a plan may add and remove them. Otherwise a key is something
	// that the device has or lacks.
	Entries bool
	// Entry is the entry that a field is a part of, where one has several: what the
	// device gave an entry of ours besides what was asked for goes with it. nil: each
	// field is an entry by itself.
	Entry func(field string) string
	// Wish, where set, is how policies say what they want where that is not T's
	// fields themselves: "over four queues" for a table of 128. See [WishOf].
	Wish *Wish[T]
	// After names the settings, earlier in the order, whose change builds this
	// one's state anew or asks it to make way. Wanted along with one of them it is
	// late: written after them, and resolved when its turn has come. Unwanted it is
	// kept: what the others' change wiped is put back.
	After []string
	// MakeWay says what current has to become before the planned changes of After
	// can be made: a table that names queues which will go must not name them any
	// more. It returns current where nothing is in the way. nil: nothing ever is.
	MakeWay func(ctx context.Context, ask Ask, current T) (next T, err error)
	// Keep says what remains of before when the planned changes are made and no
	// policy wants this setting. A field that is absent from it is left to the
	// driver. nil: all of it, as far as its fields still exist.
	Keep func(ask Ask, before T) (T, error)
	// Round is what the NIC's driver makes of next, by its source: a ring of 1000
	// becomes one of 1024. nil: nothing.
	Round func(nic inventory.NIC, next T) T
	// Volatile are the fields that the device moves by itself in this state:
	// rx-usecs while adaptive-rx is on. They are never stale, and never drift.
	Volatile func(current T) []string
	// Impact says what changing current into next does to traffic of the NIC. Where
	// drivers differ it expects the worst of those that it does not know.
	Impact func(nic inventory.NIC, current, next T) Impact
	// Breaks says why changing current into next would break what the NIC is used
	// for, although its impact is seamless: "it moves packets to queue 4". "" is
	// that it does not. nil: nothing ever does.
	Breaks func(use inventory.Use, current, next T) string
	// Victims are who would lose a device by changing current into next: the users of
	// virtual functions that go. The change is refused unless each is named. It is
	// asked before a plan is begun and again before each write. nil: nobody.
	Victims func(ctx context.Context, r kernel.Reader, nic inventory.NIC, current, next T) ([]Victim, error)
	// ChoosesSpeed says that the setting chooses the speed of the link, so that a
	// lower one afterwards is what was wanted.
	ChoosesSpeed bool
	// Read returns the values in use and the largest ones that the device takes.
	// A field without a maximum is absent from limit.
	Read func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit T, err error)
	// Bound gives the limits that hold in this plan, where others of its changes, or
	// how the NIC is used, make them other than the device's own, and says why: "it
	// has VFs". nil: nothing ever does.
	Bound func(ask Ask, limit T) (bound T, because string)
	// Check says what is wrong with next beyond numbers above their limit, which
	// the engine finds itself. What current has already is nobody's fault. It may be
	// nil.
	Check func(current, next T) error
	// Write asks the kernel for next. current is what was read just before, so
	// that only what differs need be sent.
	Write func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next T) error
	// Renames says that a write may give the NIC another name or number: it is looked
	// up anew after it.
	Renames bool
	// RemakesVFs says that a write may take the NIC's virtual functions from their
	// drivers and give them back: their network devices are others then, and are
	// looked up anew, too.
	RemakesVFs bool
	// Takes says how long Write may take where that is longer than [Engine.Timeout]:
	// a device makes one virtual function after the other. nil: no longer.
	Takes func(current, next T) time.Duration
}

// Scope is what has a setting.
type Scope uint8

const (
	// PerNIC settings are each NIC's own.
	PerNIC Scope = iota
	// PerHost settings are the host's, such as sysctls: their functions are given
	// an empty NIC.
	PerHost
)

// Setting is a Knob of any type; the engine holds a list of them.
type Setting interface {
	name() string
	doc() string
	scope() Scope
	entries() bool
	// writes says whether a field is among those that were written, or a part of an
	// entry that is.
	writes(written Values, field string) bool
	// shape is the type whose fields policies name, and aliases of these fields. It
	// is a slice where policies name a list.
	shape() (reflect.Type, map[string][]string)
	// state is the type of the state.
	state() reflect.Type
	// wishes says whether policies name other fields than the state has; resolve
	// then turns them into a state.
	wishes() bool
	after() []string
	resolve(ctx context.Context, ask Ask, wish json.RawMessage, current Values) (next Values, err error)
	makeWay(ctx context.Context, ask Ask, current Values) (Values, error)
	keep(ask Ask, before Values) (Values, error)
	round(nic inventory.NIC, next Values) (Values, error)
	volatile(current Values) []string
	impact(nic inventory.NIC, current, next Values) (Impact, error)
	// mayBreak says whether breaks can say anything at all.
	mayBreak() bool
	breaks(use inventory.Use, current, next Values) (string, error)
	// asksVictims says whether victims can name anybody.
	asksVictims() bool
	victims(ctx context.Context, r kernel.Reader, nic inventory.NIC, current, next Values) ([]Victim, error)
	choosesSpeed() bool
	read(ctx context.Context, r kernel.Reader, nic inventory.NIC) (reading, error)
	// spell checks the value of one field and gives it the setting's spelling.
	spell(field string, value json.RawMessage) (json.RawMessage, error)
	// bounds says whether bound can make anything of limits.
	bounds() bool
	bound(ask Ask, limit Values) (bound Values, because string, err error)
	check(current, next Values) error
	write(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next Values) error
	takes(current, next Values) (time.Duration, error)
	renames() bool
	remakesVFs() bool
}

func (k Knob[T]) name() string       { return k.Name }
func (k Knob[T]) doc() string        { return k.Doc }
func (k Knob[T]) scope() Scope       { return k.Scope }
func (k Knob[T]) entries() bool      { return k.Entries }
func (k Knob[T]) wishes() bool       { return k.Wish != nil }
func (k Knob[T]) after() []string    { return k.After }
func (k Knob[T]) bounds() bool       { return k.Bound != nil }
func (k Knob[T]) choosesSpeed() bool { return k.ChoosesSpeed }
func (k Knob[T]) renames() bool      { return k.Renames }
func (k Knob[T]) remakesVFs() bool   { return k.RemakesVFs }

func (k Knob[T]) writes(written Values, field string) bool {
	_, is := written[field]
	if is || k.Entry == nil {
		return is
	}
	for other := range written {
		if k.Entry(other) == k.Entry(field) {
			return true
		}
	}
	return false
}

func (k Knob[T]) shape() (reflect.Type, map[string][]string) {
	if k.Wish != nil {
		return k.Wish.shape, k.Aliases
	}
	return reflect.TypeFor[T](), k.Aliases
}

func (k Knob[T]) state() reflect.Type { return reflect.TypeFor[T]() }

func (k Knob[T]) resolve(ctx context.Context, ask Ask, wish json.RawMessage, current Values) (Values, error) {
	return mapped(current, func(c T) (T, error) { return k.Wish.resolve(ctx, ask, wish, c) })
}

func (k Knob[T]) makeWay(ctx context.Context, ask Ask, current Values) (Values, error) {
	if k.MakeWay == nil {
		return current, nil
	}
	return mapped(current, func(c T) (T, error) { return k.MakeWay(ctx, ask, c) })
}

func (k Knob[T]) keep(ask Ask, before Values) (Values, error) {
	if k.Keep == nil {
		return before, nil
	}
	return mapped(before, func(b T) (T, error) { return k.Keep(ask, b) })
}

func (k Knob[T]) round(nic inventory.NIC, next Values) (Values, error) {
	if k.Round == nil {
		return next, nil
	}
	return mapped(next, func(n T) (T, error) { return k.Round(nic, n), nil })
}

// volatile has nothing for a state that is not T's: whoever needs T will say so.
func (k Knob[T]) volatile(current Values) []string {
	if k.Volatile == nil {
		return nil
	}
	c, err := restore[T](current)
	if err != nil {
		return nil
	}
	return k.Volatile(c)
}

// mapped does to fields what f does to a T.
func mapped[T any](v Values, f func(T) (T, error)) (Values, error) {
	t, err := restore[T](v)
	if err != nil {
		return nil, err
	}
	if t, err = f(t); err != nil {
		return nil, err
	}
	return erase(t)
}

func (k Knob[T]) impact(nic inventory.NIC, current, next Values) (Impact, error) {
	from, to, err := both[T](current, next)
	if err != nil {
		return "", err
	}
	return k.Impact(nic, from, to), nil
}

func (k Knob[T]) read(ctx context.Context, r kernel.Reader, nic inventory.NIC) (reading, error) {
	current, limit, err := k.Read(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	return found[T]{current, limit, k.Volatile, k.Wish}, nil
}

// reading is what was read of a setting. It becomes fields when somebody asks for
// them: a NIC has sixty features, of which a policy wants five.
type reading interface {
	// field is one field, nil where there is none, and its limit.
	field(name string) (current json.RawMessage, err error)
	limitOf(name string) (json.RawMessage, error)
	whole() (current, limit Values, err error)
	// volatile are the fields that the device moves by itself.
	volatile() []string
	// grants says whether a wish means the state that there is.
	grants(ctx context.Context, ask Ask, wish json.RawMessage) bool
}

// found is a Knob's reading.
type found[T any] struct {
	current, limit T
	moved          func(current T) []string // Knob.Volatile
	wish           *Wish[T]
}

func (f found[T]) grants(ctx context.Context, ask Ask, wish json.RawMessage) bool {
	// Who resolves may write on what it is given.
	next, err := f.wish.resolve(ctx, ask, wish, copied(f.current))
	return err == nil && reflect.DeepEqual(next, f.current)
}

func (f found[T]) volatile() []string {
	if f.moved == nil {
		return nil
	}
	return f.moved(f.current)
}

func (f found[T]) field(name string) (json.RawMessage, error)   { return eraseField(f.current, name) }
func (f found[T]) limitOf(name string) (json.RawMessage, error) { return eraseField(f.limit, name) }

func (f found[T]) whole() (current, limit Values, err error) {
	if current, err = erase(f.current); err == nil {
		limit, err = erase(f.limit)
	}
	return current, limit, err
}

// read reads the whole state of a setting.
func read(ctx context.Context, s Setting, r kernel.Reader, nic inventory.NIC) (Values, error) {
	seen, err := s.read(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	current, _, err := seen.whole()
	return current, err
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

func (k Knob[T]) bound(ask Ask, limit Values) (bound Values, because string, err error) {
	if k.Bound == nil {
		return limit, "", nil
	}
	bound, err = mapped(limit, func(l T) (T, error) {
		l, because = k.Bound(ask, l)
		return l, nil
	})
	return bound, because, err
}

func (k Knob[T]) check(current, next Values) error {
	if k.Check == nil {
		return nil
	}
	from, to, err := both[T](current, next)
	if err != nil {
		return err
	}
	return k.Check(from, to)
}

func (k Knob[T]) write(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next Values) error {
	from, to, err := both[T](current, next)
	if err != nil {
		return err
	}
	return k.Write(ctx, w, nic, from, to)
}

func (k Knob[T]) takes(current, next Values) (time.Duration, error) {
	if k.Takes == nil {
		return 0, nil
	}
	from, to, err := both[T](current, next)
	if err != nil {
		return 0, err
	}
	return k.Takes(from, to), nil
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
