package tuning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Wish turns what policies say into the state that they mean.
type Wish[T any] struct {
	shape   reflect.Type
	resolve func(ctx context.Context, ask Ask, wish json.RawMessage, current T) (T, error)
}

// Ask is what a wish is resolved against.
type Ask struct {
	Reader kernel.Reader
	// NIC is empty where the setting is of the host.
	NIC inventory.NIC
	// Planned is what the plan makes of other settings, which the host may not
	// have yet: where the plan changes the channels, the queues that there will be.
	Planned Planned
	// Host is what the plan makes of the host's own settings, which come before
	// those of NICs. Where their turn has come it is empty, and the host has it.
	Host Planned
	// Owned are the fields that nictune added to the setting in this boot of the
	// host, and that still have the value that it gave them.
	Owned Values

	doubt    func(why string)
	switched func(setting, field string) bool
}

// SwitchedOn says whether the policies of a plan in the making switch a field of
// another setting of the same target on, also one that changes nothing itself.
func (a Ask) SwitchedOn(setting, field string) bool {
	return a.switched != nil && a.switched(setting, field)
}

// Doubt says of a wish that can be had, or holds already, why that may not last: the
// plan shows it.
func (a Ask) Doubt(why string) {
	if a.doubt != nil {
		a.doubt(why)
	}
}

// WishOf makes a Wish of W: a struct, whose fields are what policies name, or a
// slice of structs, for a setting whose value is a list of such. The fields have
// the tags that T has otherwise, and for a string that is free text the tag
// `form`, which says what text that is. A pointer that is nil was not wished for.
//
// resolve is asked for the plan, and again when the turn of a late change has
// come. It returns the whole state: current, where nothing is to change. About an
// item of a list it complains with an [ItemError].
func WishOf[W, T any](resolve func(ctx context.Context, ask Ask, wish W, current T) (T, error)) *Wish[T] {
	return &Wish[T]{
		shape: reflect.TypeFor[W](),
		resolve: func(ctx context.Context, ask Ask, wish json.RawMessage, current T) (T, error) {
			w, err := strictly[W](wish)
			var kind *json.UnmarshalTypeError
			switch {
			case errors.As(err, &kind):
				return current, fmt.Errorf("%s takes %s", kind.Field, kindOf(kind.Type))
			case err != nil:
				return current, err
			}
			return resolve(ctx, ask, w, current)
		},
	}
}

// ItemError is what is wrong with one item of a list, counted from 0, so that the
// line of that item is named.
type ItemError struct {
	Item int
	Err  error
}

func (e *ItemError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *ItemError) Unwrap() error { return e.Err }

// Planned is what a plan makes of the settings of one NIC, or of the host.
type Planned struct {
	changes map[string]*Change
}

// plan notes what becomes of a setting.
func (p *Planned) plan(c *Change) {
	if p.changes == nil {
		p.changes = map[string]*Change{}
	}
	p.changes[c.Setting] = c
}

// Get returns the state that the plan gives a setting: for "channels" a
// ChannelCounts. ok is false where the plan leaves the setting as it is.
func Get[T any](p Planned, setting string) (state T, ok bool) {
	c, ok := p.changes[setting]
	if !ok {
		return state, false
	}
	state, err := restore[T](c.After)
	return state, err == nil
}

// Was returns the state that a setting has before the plan changes it. ok is false
// where the plan leaves the setting as it is.
func Was[T any](p Planned, setting string) (state T, ok bool) {
	c, ok := p.changes[setting]
	if !ok {
		return state, false
	}
	state, err := restore[T](c.Before)
	return state, err == nil
}

// PlannedOf is a Planned in which one setting changes, for the tests of others.
func PlannedOf[T any](setting string, before, after T) (p Planned, err error) {
	c := &Change{Setting: setting}
	var err1, err2 error
	c.Before, err1 = erase(before)
	c.After, err2 = erase(after)
	p.plan(c)
	return p, errors.Join(err1, err2)
}
