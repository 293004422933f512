package tuning

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// APIVersion and PlanKind head a plan's JSON form.
const (
	APIVersion = inventory.APIVersion
	PlanKind   = "Plan"
)

// Plan is what shall change on a host, and what it is now. It is data: it can be
// stored and applied later, and is refused then if the host has changed.
type Plan struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	CreatedAt  time.Time `json:"createdAt"`
	Host       HostID    `json:"host"`
	// Changes are in the order in which they are to be made: one NIC after the
	// other, and its settings in the order of their dependencies.
	Changes []Change `json:"changes"`
	// Kept is how many wanted fields have their value already.
	Kept int `json:"kept"`
}

// HostID tells hosts, and the boots of one host, apart. What could not be read
// is empty.
type HostID struct {
	// MachineID is /etc/machine-id, BootID is /proc/sys/kernel/random/boot_id.
	MachineID string `json:"machineId,omitempty"`
	BootID    string `json:"bootId,omitempty"`
	Hostname  string `json:"hostname,omitempty"`
}

// Change is one setting of one NIC that is to be written once.
type Change struct {
	NIC     Target `json:"nic"`
	Setting string `json:"setting"`
	Impact  Impact `json:"impact"`
	// Fields are those that differ, by name.
	Fields []Field `json:"fields"`
	// Before and After are the whole state of the setting.
	Before Values `json:"before"`
	After  Values `json:"after"`
}

// Target is the NIC of a change. ID is what it is known by: address and
// permanent MAC, as [inventory.NIC.ID] gives them. Name was its label and Index
// its number in its network namespace: they tell devices apart that share the ID,
// or have no other than their name.
type Target struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Index int    `json:"index,omitempty"`
}

func targetOf(nic *inventory.NIC) Target {
	return Target{ID: nic.ID(), Name: nic.Name, Index: nic.Index}
}

// Field is one field that is to change, and which line of which policy wants it.
type Field struct {
	Name   string          `json:"name"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
	Source policies.Source `json:"source,omitzero"`
}

// Impact is the worst impact of the plan's changes.
func (p *Plan) Impact() Impact {
	worst := Seamless
	for _, c := range p.Changes {
		if !c.Impact.Within(worst) {
			worst = c.Impact
		}
	}
	return worst
}

// names are the names of the fields that change.
func (c *Change) names() []string {
	names := make([]string, 0, len(c.Fields))
	for _, f := range c.Fields {
		names = append(names, f.Name)
	}
	return names
}

// MakePlan compares what is wanted with what is. The settings are in the order
// in which they are to be applied.
//
// The error is a [PlanError] that names everything that can't be done, all at
// once; nothing has been written then or ever is by MakePlan.
func MakePlan(ctx context.Context, r kernel.Reader, settings []Setting, wants []policies.Want) (*Plan, error) {
	p := &Plan{
		APIVersion: APIVersion, Kind: PlanKind, CreatedAt: time.Now().UTC().Truncate(time.Second),
		Host: readHostID(ctx, r), Changes: []Change{},
	}
	var problems PlanError
	ranked := slices.Clone(wants)
	slices.SortStableFunc(ranked, func(a, b policies.Want) int {
		return cmp.Or(cmp.Compare(a.NIC.Index, b.NIC.Index), cmp.Compare(a.NIC.Name, b.NIC.Name),
			cmp.Compare(rank(settings, a.Setting), rank(settings, b.Setting)))
	})
	for _, want := range ranked {
		w := wanted{Want: want, problems: &problems}
		i := rank(settings, want.Setting)
		if i < 0 {
			w.fault(nil, errors.New("there is no setting of this name"))
			continue
		}
		if j := slices.IndexFunc(p.Changes, func(c Change) bool {
			return c.NIC == targetOf(w.NIC) && slices.Contains(settings[i].after(), c.Setting)
		}); j >= 0 {
			w.fault(nil, fmt.Errorf("it is built anew when %[1]s change, which this plan does first: apply the policy for %[1]s alone, then this one",
				p.Changes[j].Setting))
			continue
		}
		change, kept := w.compare(ctx, r, settings[i])
		p.Kept += kept
		if len(change.Fields) > 0 {
			p.Changes = append(p.Changes, change)
		}
	}
	if len(problems.Problems) > 0 {
		return nil, &problems
	}
	return p, ctx.Err()
}

// rank is a setting's place in the order of applying, or -1.
func rank(settings []Setting, name string) int {
	return slices.IndexFunc(settings, func(s Setting) bool { return s.name() == name })
}

func readHostID(ctx context.Context, r kernel.Reader) HostID {
	read := func(path string) string {
		b, err := r.ReadFile(ctx, path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	return HostID{
		MachineID: read("/etc/machine-id"),
		BootID:    read("/proc/sys/kernel/random/boot_id"),
		Hostname:  read("/proc/sys/kernel/hostname"),
	}
}

// wanted is one want on its way to a change.
type wanted struct {
	policies.Want
	problems *PlanError
}

// compare reads the setting and says what would change, with the number of
// wanted fields that have their value already.
func (w *wanted) compare(ctx context.Context, r kernel.Reader, s Setting) (change Change, kept int) {
	current, limit, err := s.read(ctx, r, *w.NIC)
	if err != nil {
		w.fault(nil, err)
		return change, 0
	}
	if s.wishes() {
		return w.resolved(ctx, r, s, current, limit)
	}
	next := current
	for _, group := range byName(w.Fields) {
		faults := make([]error, len(group))
		unsupported := 0
		for i, a := range group {
			var value json.RawMessage
			if value, faults[i] = w.value(s, a, current, limit); faults[i] == nil {
				next = over(next, Values{a.Field: value}, []string{a.Field})
			} else if kernel.ReasonOf(faults[i]) == kernel.Unsupported {
				unsupported++
			}
		}
		for i, a := range group {
			// A name that stands for several fields asks for those that the
			// device has.
			if faults[i] != nil && (unsupported == len(group) || kernel.ReasonOf(faults[i]) != kernel.Unsupported) {
				w.fault(&a, faults[i])
			}
		}
	}
	if err := s.check(next, limit); err != nil {
		w.fault(nil, err)
	}
	change = Change{
		NIC: targetOf(w.NIC), Setting: w.Setting, Before: current, After: next,
	}
	for _, a := range w.Fields {
		switch _, has := current[a.Field]; {
		case !has:
		case bytes.Equal(current[a.Field], next[a.Field]):
			kept++
		default:
			change.Fields = append(change.Fields, Field{
				Name: a.Field, Before: current[a.Field], After: next[a.Field], Source: a.Value.Source,
			})
		}
	}
	slices.SortFunc(change.Fields, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	if change.Impact, err = s.impact(*w.NIC, current, next); err != nil {
		w.fault(nil, err)
	}
	return change, kept
}

// resolved is compare for a setting whose policies name other fields than its
// state has. Each field that changes has the line of the first that was wanted.
func (w *wanted) resolved(ctx context.Context, r kernel.Reader, s Setting, current, limit Values) (change Change, kept int) {
	shape, _ := s.shape()
	wish := Values{}
	for _, a := range w.Fields {
		v, err := wished(a, shape)
		if err != nil {
			w.fault(&a, err)
			return change, 0
		}
		wish[a.Field] = v
	}
	next, err := s.resolve(ctx, r, *w.NIC, wish, current)
	if err == nil {
		err = s.check(next, limit)
	}
	if err != nil {
		w.fault(nil, err)
		return change, 0
	}
	change = Change{
		NIC: targetOf(w.NIC), Setting: w.Setting, Before: current, After: next,
	}
	for _, name := range differing(current, next) {
		if current[name] == nil || next[name] == nil {
			w.fault(nil, unsupported("the device has no "+name))
			return change, 0
		}
		change.Fields = append(change.Fields, Field{
			Name: name, Before: current[name], After: next[name], Source: w.Fields[0].Value.Source,
		})
	}
	if len(change.Fields) == 0 {
		return change, len(w.Fields)
	}
	if change.Impact, err = s.impact(*w.NIC, current, next); err != nil {
		w.fault(nil, err)
	}
	return change, 0
}

// wished is what a policy says of one field of a wish. Where that takes text, a
// number is text, too.
func wished(a policies.Assignment, shape reflect.Type) (json.RawMessage, error) {
	if on, ok := a.Value.Bool(); ok {
		return strconv.AppendBool(nil, on), nil
	}
	n, isNumber := a.Value.Number()
	if !isNumber {
		return json.Marshal(a.Value.String())
	}
	for i := range shape.NumField() {
		f := shape.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == a.Field && f.Tag.Get("form") != "" {
			return json.Marshal(a.Value.String())
		}
	}
	return strconv.AppendUint(nil, n, 10), nil
}

// byName groups assignments by where their field's name was written: an alias
// has become several fields there.
func byName(fields []policies.Assignment) [][]policies.Assignment {
	var groups [][]policies.Assignment
	for _, a := range fields {
		i := slices.IndexFunc(groups, func(g []policies.Assignment) bool {
			return a.Source == g[0].Source && a.Source != policies.Source{}
		})
		if i < 0 {
			groups = append(groups, []policies.Assignment{a})
		} else {
			groups[i] = append(groups[i], a)
		}
	}
	return groups
}

// value is what one wanted field shall become. A field's limit is the maximum of
// a number, and of anything else the only value that it can have.
func (w *wanted) value(s Setting, a policies.Assignment, current, limit Values) (json.RawMessage, error) {
	if _, ok := current[a.Field]; !ok {
		return nil, unsupported("the device has no " + a.Field)
	}
	v, err := resolve(a, limit)
	if err != nil {
		return nil, err
	}
	if v, err = s.spell(a.Field, v); err != nil {
		return nil, err
	}
	most, limited := limit[a.Field]
	if !limited || bytes.Equal(v, most) {
		return v, nil
	}
	n, numeric := number(v)
	m, _ := number(most)
	switch {
	case !numeric:
		return nil, unsupported("it is fixed " + show(most) + " on this device")
	case n > m:
		return nil, fmt.Errorf("the device takes %d at most; say max for as many as it takes", m)
	}
	return v, nil
}

// resolve turns what a policy says into a value.
func resolve(a policies.Assignment, limit Values) (json.RawMessage, error) {
	if n, ok := a.Value.Number(); ok {
		return strconv.AppendUint(nil, n, 10), nil
	}
	if on, ok := a.Value.Bool(); ok {
		return strconv.AppendBool(nil, on), nil
	}
	if items, ok := a.Value.List(); ok {
		return json.Marshal(items)
	}
	word, _ := a.Value.Word()
	if word == "max" {
		if most, ok := limit[a.Field]; ok {
			return most, nil
		}
		return nil, errors.New("the device names no maximum; write a number")
	}
	return json.Marshal(word)
}

// number is the value of a JSON number without sign or fraction.
func number(v json.RawMessage) (uint64, bool) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	return n, err == nil
}
