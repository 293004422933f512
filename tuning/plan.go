package tuning

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	// Changes are in the order in which they are to be made: the host's and then one
	// NIC's after the other, each in the order that the changes themselves ask for.
	Changes []Change `json:"changes"`
	// Kept is how many wanted fields have their value already.
	Kept int `json:"kept"`
	// Skipped is what is wanted where it can be had, and can't be had here.
	Skipped []Skipped `json:"skipped,omitempty"`
	// Doubts are why what is wanted may not last, although it can be had.
	Doubts []Doubt `json:"doubts,omitempty"`
	// Disruptions and Victims are what the changes would do to what NICs are used
	// for, and who would lose a device, when the plan was made for the running host.
	// Whoever applies it looks anew.
	Disruptions []Disruption `json:"disruptions,omitempty"`
	Victims     []Victim     `json:"victims,omitempty"`
}

// Skipped is a setting, or a field of it, that a policy calls optional and that
// the device lacks.
type Skipped struct {
	NIC     Target `json:"nic"`
	Setting string `json:"setting"`
	// Field is empty where the device lacks the setting as a whole.
	Field  string          `json:"field,omitempty"`
	Source policies.Source `json:"source,omitzero"`
	// Detail is why, in the kernel's words where it spoke.
	Detail string `json:"detail"`
}

// Doubt is why a setting may not stay as it is wanted.
type Doubt struct {
	NIC     Target `json:"nic"`
	Setting string `json:"setting"`
	Detail  string `json:"detail"`
}

// HostID tells hosts, and the boots of one host, apart. What could not be read
// is empty.
type HostID struct {
	// MachineID is /etc/machine-id, BootID is /proc/sys/kernel/random/boot_id.
	MachineID string `json:"machineId,omitempty"`
	BootID    string `json:"bootId,omitempty"`
	Hostname  string `json:"hostname,omitempty"`
}

// Change is one setting of one NIC, or of the host, that is to be written once.
type Change struct {
	NIC     Target `json:"nic"`
	Setting string `json:"setting"`
	// Turn is when it is made, and why then.
	Turn   Turn   `json:"turn,omitempty"`
	Impact Impact `json:"impact"`
	// Fields are those that differ, by name. A late change has those that are
	// expected to, a kept one none.
	Fields []Field `json:"fields,omitempty"`
	// Before and After are the whole state of the setting; a late or kept one's After
	// is what is expected.
	Before Values `json:"before"`
	After  Values `json:"after"`
	// Goal and Wish are what a late or kept change is resolved from when its turn has
	// come: the fields as they shall be, as far as the device then has them, and on top
	// of that what policies say in words of their own, as JSON.
	Wish json.RawMessage `json:"wish,omitempty"`
	Goal Values          `json:"goal,omitzero"`
	// Stay are the fields that are wanted as they are along with those that change:
	// they have to hold when the change is made.
	Stay []string `json:"stay,omitempty"`
	// Source is where the policy speaks of it that wants it.
	Source policies.Source `json:"source,omitzero"`
}

// Target is the NIC of a change, or the host, whose ID and Name are "host". ID is what it is known by: address and
// permanent MAC, as [inventory.NIC.ID] gives them. Name was its label and Index
// its number in its network namespace: they tell devices apart that share the ID,
// or have no other than their name.
type Target struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Index int    `json:"index,omitempty"`
}

// hostTarget is the target of settings that the host has as a whole.
const hostTarget = "host"

// TargetOf is the target of a NIC's changes; without a NIC it is the host.
func TargetOf(nic *inventory.NIC) Target {
	if nic == nil {
		return Target{ID: hostTarget, Name: hostTarget}
	}
	return Target{ID: nic.ID(), Name: nic.Name, Index: nic.Index}
}

// Field is one field that is to change, and which line of which policy wants it.
type Field struct {
	Name string `json:"name"`
	// Before is absent where the field is added, After where it is removed.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// Asked is what the policy says, where the driver makes After of it or the policy
	// lets it be clamped.
	Asked  json.RawMessage `json:"asked,omitempty"`
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
// in which they are to be applied; past reads the history of the host, which says
// what is nictune's own and what was there before ([Remembered]).
//
// The error is a [PlanError] that names everything that can't be done, all at
// once. The plan is there beside it, with all that can be: it is for comparing,
// and not to be applied. MakePlan never writes.
func MakePlan(ctx context.Context, r kernel.Reader, settings []Setting, wants []policies.Want, past func() ([]Transaction, error)) (*Plan, error) {
	// Nothing is written before the plan is made: what many NICs are asked for may be
	// asked for once.
	r = inventory.Together(r)
	p := planner{reader: r, settings: settings, plan: &Plan{
		APIVersion: APIVersion, Kind: PlanKind, CreatedAt: time.Now().UTC().Truncate(time.Second),
		Host: readHostID(ctx, r), Changes: []Change{},
	}}
	var unread error
	p.past = sync.OnceValue(func() []Transaction {
		if past == nil {
			return nil
		}
		var all []Transaction
		all, unread = past()
		return thisBoot(all, p.plan.Host)
	})
	for _, group := range byTarget(wants) {
		p.target(ctx, group)
	}
	if err := cmp.Or(ctx.Err(), unread); err != nil {
		return nil, err
	}
	if len(p.problems.Problems) > 0 {
		return p.plan, &p.problems
	}
	return p.plan, nil
}

// byTarget are the wants of the host and then of one NIC after the other.
func byTarget(wants []policies.Want) [][]policies.Want {
	groups := map[Target][]policies.Want{}
	for _, w := range wants {
		groups[TargetOf(w.NIC)] = append(groups[TargetOf(w.NIC)], w)
	}
	targets := slices.SortedFunc(maps.Keys(groups), func(a, b Target) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Name, b.Name))
	})
	ordered := make([][]policies.Want, len(targets))
	for i, t := range targets {
		ordered[i] = groups[t]
	}
	return ordered
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

// planner is a plan in the making.
type planner struct {
	reader   kernel.Reader
	settings []Setting
	past     func() []Transaction // of this boot; read where a setting asks for it
	plan     *Plan
	problems PlanError
	host     Planned                        // the host's settings, once they are planned
	cpus     func() (inventory.CPUs, error) // asked once
	wants    map[string]*wanted             // of the target that is planned
}

// ask is what a setting of a target is asked with for this plan.
func (p *planner) ask(nic inventory.NIC, target Target, s Setting, current Values, planned Planned) Ask {
	var past []Transaction
	if s.entries() {
		past = p.past()
	}
	a := ask(p.reader, nic, target, past, s, current, planned)
	a.Host = p.host
	a.doubt = func(why string) {
		if d := (Doubt{target, s.name(), why}); !slices.Contains(p.plan.Doubts, d) {
			p.plan.Doubts = append(p.plan.Doubts, d)
		}
	}
	a.switched = func(setting, field string) bool {
		w := p.wants[setting]
		return w != nil && slices.ContainsFunc(w.Fields, func(a policies.Assignment) bool {
			on, _ := a.Value.Bool()
			return a.Field == field && on
		})
	}
	return a
}

// target plans what is wanted of one NIC, or of the host.
func (p *planner) target(ctx context.Context, wants []policies.Want) {
	byName := map[string]*wanted{}
	p.wants = byName
	target, nic := TargetOf(wants[0].NIC), wants[0].NIC
	if nic == nil {
		nic = &inventory.NIC{}
	}
	for _, want := range wants {
		w := &wanted{Want: want, planner: p, target: target, nic: nic}
		switch i := rank(p.settings, want.Setting); {
		case i < 0:
			w.fault(nil, errors.New("there is no setting of this name"))
		case (p.settings[i].scope() == PerHost) != (want.NIC == nil):
			w.fault(nil, errors.New("a setting of the host is wanted of a NIC, or one of a NIC of the host"))
		case byName[want.Setting] != nil:
			w.fault(nil, errors.New("it is wanted twice"))
		default:
			byName[want.Setting] = w
		}
	}
	changes := arrangement{
		settings: p.settings,
		ask: func(s Setting, current Values, planned Planned) Ask {
			return p.ask(*nic, target, s, current, planned)
		},
		aim: func(s Setting, late bool, planned Planned) *Change {
			if w := byName[s.name()]; w != nil {
				return w.compare(ctx, s, late, planned)
			}
			return nil
		},
		read: func(s Setting) (Values, error) {
			return read(ctx, s, p.reader, *nic)
		},
		fault: func(s Setting, err error) {
			w := &wanted{Want: policies.Want{Setting: s.name()}, planner: p, target: target, nic: nic}
			w.fault(nil, fmt.Errorf("other changes of this plan build it anew, or are in its way: %w", err))
		},
	}.changes(ctx)
	for _, c := range changes {
		s := p.settings[rank(p.settings, c.Setting)]
		c.NIC = target
		var err error
		if c.Impact, err = s.impact(*nic, c.Before, c.After); err != nil {
			w := &wanted{Want: policies.Want{Setting: c.Setting}, planner: p, target: target, nic: nic}
			w.fault(nil, err)
			continue
		}
		p.plan.Changes = append(p.plan.Changes, c)
		if wants[0].NIC == nil {
			p.host.plan(&c)
		}
	}
}

// wanted is one want on its way to a change.
type wanted struct {
	policies.Want
	*planner
	target Target
	nic    *inventory.NIC // empty for the host
	// because says why the limits are other than the device's own.
	because string
}

// compare reads the setting and says what would change, nil if that can't be
// said. The plan counts the wanted fields that have their value already.
func (w *wanted) compare(ctx context.Context, s Setting, late bool, planned Planned) *Change {
	var current, limit Values
	seen, err := s.read(ctx, w.reader, *w.nic)
	if err == nil {
		if kept := w.asIs(ctx, s, seen, late, planned); kept > 0 {
			w.plan.Kept += kept
			return nil
		}
		current, limit, err = seen.whole()
	}
	if late && s.wishes() && kernel.ReasonOf(err) == kernel.Unsupported {
		// What it depends on can bring it: a device with a single queue has none to
		// choose among.
		current, limit, err = Values{}, Values{}, nil
	}
	if err != nil {
		w.fault(nil, err)
		return nil
	}
	if limit, w.because, err = s.bound(w.ask(*w.nic, w.target, s, current, planned), limit); err != nil {
		w.fault(nil, err)
		return nil
	}
	c := &Change{Before: current, Source: w.source()}
	asked := map[string]json.RawMessage{}
	sources := map[string]policies.Source{}
	fields := 0
	if s.wishes() {
		fields = max(len(w.Fields), 1)
		if c.Wish, c.After, err = w.granted(ctx, s, w.ask(*w.nic, w.target, s, current, planned), current, limit); err != nil {
			w.fault(nil, err)
			return nil
		}
	} else {
		c.After = w.next(ctx, s, current, limit, asked)
		c.Goal = Values{}
		for _, a := range w.Fields {
			if current[a.Field] != nil {
				fields++
				c.Goal[a.Field] = nil // what it is follows
				sources[a.Field] = a.Value.Source
			}
		}
	}
	// What is there already needs no check, and most is in most plans.
	if len(differing(current, c.After)) > 0 {
		if c.After, err = rounded(s, *w.nic, current, c.After); err == nil {
			err = s.check(current, c.After)
		}
		if err != nil {
			w.fault(nil, err)
		}
	}
	c.Goal = only(c.After, c.Goal.names())
	volatile := s.volatile(c.After)
	for _, a := range w.Fields {
		if _, named := c.Goal[a.Field]; named && slices.Contains(volatile, a.Field) {
			w.fault(&a, unsupported("the device chooses it by itself then, as with adaptive-rx on: switch that off, or leave this out"))
		}
	}
	c.After = over(c.After, current, volatile)
	names := differing(current, c.After)
	if late && !s.entries() { // what goes with its queue is not changed
		names = slices.DeleteFunc(names, func(name string) bool { return c.After[name] == nil })
	}
	c.Fields = fieldsOf(current, c.After, names)
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.Source = c.Source; sources[f.Name] != (policies.Source{}) {
			f.Source = sources[f.Name]
		}
		if said := asked[f.Name]; !bytes.Equal(said, f.After) {
			f.Asked = said
		}
		if !late && !s.entries() && (f.Before == nil || f.After == nil) {
			w.fault(nil, lacks(s, f.Name))
			return nil
		}
	}
	switch {
	case !s.wishes():
		w.plan.Kept += fields - len(names)
	case len(names) == 0:
		w.plan.Kept += fields
	}
	return c
}

// asIs counts the wanted fields when all of them are as wanted already, which most
// plans find of most NICs, and costs little to find. 0 says to look closer.
func (w *wanted) asIs(ctx context.Context, s Setting, seen reading, late bool, planned Planned) (fields int) {
	switch {
	case late, s.wishes() && s.entries(): // whose own are to be told from others
		return 0
	case s.wishes():
		wish, err := w.wish(ctx, s, nil, nil)
		if err == nil && seen.grants(ctx, w.ask(*w.nic, w.target, s, nil, planned), wish) {
			fields = max(len(w.Fields), 1)
		}
		return fields
	}
	volatile := seen.volatile()
	for _, a := range w.Fields {
		present, err := seen.field(a.Field)
		switch {
		case err != nil, slices.Contains(volatile, a.Field): // that it is as wanted is chance
			return 0
		case present == nil:
			// A name that stands for several fields asks for those that the device has.
			if !slices.ContainsFunc(w.Fields, func(other policies.Assignment) bool {
				value, err := seen.field(other.Field)
				return other.Source == a.Source && a.Source != policies.Source{} && value != nil && err == nil
			}) {
				return 0
			}
			continue
		case !w.has(ctx, s, seen, a, present):
			return 0
		}
		fields++
	}
	return fields
}

// has says whether a field has the value that is asked for.
func (w *wanted) has(ctx context.Context, s Setting, seen reading, a policies.Assignment, present json.RawMessage) bool {
	var current, limit Values
	if _, computed := a.Value.Expression(); computed {
		most, err := seen.limitOf(a.Field)
		if err != nil || s.bounds() { // there are others
			return false
		}
		current, limit = Values{a.Field: present}, Values{a.Field: most}
	}
	value, err := w.resolve(ctx, a, current, limit)
	return err == nil && bytes.Equal(value, present)
}

// rounded is next with the fields that differ from current as the driver rounds
// them.
func rounded(s Setting, nic inventory.NIC, current, next Values) (Values, error) {
	round, err := s.round(nic, next)
	if err != nil {
		return next, err
	}
	return over(next, round, differing(current, next)), nil
}

// source is where the setting is asked for.
func (w *wanted) source() policies.Source {
	if len(w.Fields) > 0 {
		return w.Fields[0].Source
	}
	return w.Source
}

// next is the state that the fields ask for. asked takes what policies say of
// each, before it was clamped.
func (w *wanted) next(ctx context.Context, s Setting, current, limit Values, asked map[string]json.RawMessage) Values {
	next := maps.Clone(current)
	for _, group := range byName(w.Fields) {
		faults := make([]error, len(group))
		unsupported := 0
		for i, a := range group {
			var value json.RawMessage
			if value, faults[i] = w.value(ctx, s, a, current, limit, asked); faults[i] == nil {
				next[a.Field] = value
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
	return next
}

// granted is the wish, and the state that it means. Where the device lacks what it
// asks for, fields that are optional and that it lacks by themselves are left out.
func (w *wanted) granted(ctx context.Context, s Setting, ask Ask, current, limit Values) (wish json.RawMessage, after Values, err error) {
	all := w.Fields
	defer func() { w.Fields = all }()
	resolve := func(fields []policies.Assignment) error {
		w.Fields = fields
		if wish, err = w.wish(ctx, s, current, limit); err == nil {
			after, err = s.resolve(ctx, ask, wish, current)
		}
		return err
	}
	whole := resolve(all)
	if kernel.ReasonOf(whole) != kernel.Unsupported || len(all) < 2 {
		return wish, after, whole
	}
	var rest []policies.Assignment
	lacking := map[*policies.Assignment]error{}
	for i := range all {
		if alone := resolve(all[i : i+1]); all[i].Optional && kernel.ReasonOf(alone) == kernel.Unsupported {
			lacking[&all[i]] = alone
			continue
		}
		rest = append(rest, all[i])
	}
	if len(rest) == 0 || len(rest) == len(all) || resolve(rest) != nil {
		return nil, nil, whole
	}
	for i := range all {
		if alone := lacking[&all[i]]; alone != nil {
			w.fault(&all[i], alone)
		}
	}
	return wish, after, nil
}

// wish is what the fields or the items say, as JSON. The state and its limits are
// for expressions in fields that the state has, too.
func (w *wanted) wish(ctx context.Context, s Setting, current, limit Values) (json.RawMessage, error) {
	shape, _ := s.shape()
	if shape.Kind() != reflect.Slice {
		return w.mapping(ctx, w.Fields, shape, current, limit)
	}
	items := make([]json.RawMessage, len(w.Items))
	for i, item := range w.Items {
		var err error
		if items[i], err = w.mapping(ctx, item.Fields, shape.Elem(), nil, nil); err != nil {
			return nil, &ItemError{i, err}
		}
	}
	return json.Marshal(items)
}

// mapping is a JSON object of some fields of a wish.
func (w *wanted) mapping(
	ctx context.Context, fields []policies.Assignment, shape reflect.Type, current, limit Values,
) (json.RawMessage, error) {
	wish, inside := Values{}, map[string]Values{}
	for _, a := range fields {
		v, err := w.wished(ctx, a, shape, current, limit)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Field, err)
		}
		outer, inner, nested := strings.Cut(a.Field, ".")
		if !nested {
			wish[a.Field] = v
			continue
		}
		if inside[outer] == nil {
			inside[outer] = Values{}
		}
		inside[outer][inner] = v
		if wish[outer], err = json.Marshal(inside[outer]); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Field, err)
		}
	}
	return json.Marshal(wish)
}

// wished is what a policy says of one field of a wish. Where that takes text, a
// number is text, too.
func (w *wanted) wished(
	ctx context.Context, a policies.Assignment, shape reflect.Type, current, limit Values,
) (json.RawMessage, error) {
	if on, ok := a.Value.Bool(); ok {
		return strconv.AppendBool(nil, on), nil
	}
	if e, ok := a.Value.Expression(); ok {
		n, err := w.evaluate(ctx, e, a.Field, current, limit)
		return strconv.AppendUint(nil, n, 10), err
	}
	n, isNumber := a.Value.Number()
	if !isNumber {
		return json.Marshal(a.Value.String())
	}
	for name, f := range wishFields(shape) {
		if name == a.Field && f.Tag.Get("form") != "" {
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
func (w *wanted) value(
	ctx context.Context, s Setting, a policies.Assignment, current, limit Values, asked map[string]json.RawMessage,
) (json.RawMessage, error) {
	if _, ok := current[a.Field]; !ok {
		return nil, lacks(s, a.Field)
	}
	v, err := w.resolve(ctx, a, current, limit)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(v, current[a.Field]) { // whose spelling is right, and which the device has
		if v, err = s.spell(a.Field, v); err != nil {
			return nil, err
		}
	}
	asked[a.Field] = v
	most, limited := limit[a.Field]
	if !limited || bytes.Equal(v, most) {
		return v, nil
	}
	n, numeric := number(v)
	m, _ := number(most)
	switch {
	case !numeric:
		return nil, unsupported("it is fixed " + show(most) + " on this device")
	case n > m && a.Clamp:
		return most, nil
	case n > m:
		because := w.because
		if because != "" {
			because = ": " + because
		}
		return nil, fmt.Errorf("the device takes %d at most%s; say max for as many as it takes, or clamp: true", m, because)
	}
	return v, nil
}

// resolve turns what a policy says into a value.
func (w *wanted) resolve(ctx context.Context, a policies.Assignment, current, limit Values) (json.RawMessage, error) {
	if e, ok := a.Value.Expression(); ok {
		n, err := w.evaluate(ctx, e, a.Field, current, limit)
		return strconv.AppendUint(nil, n, 10), err
	}
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
	return json.Marshal(word)
}

// evaluate computes an expression for a field. current and limit are nil for the
// items of a list, whose fields have neither.
func (w *wanted) evaluate(ctx context.Context, e *policies.Expression, field string, current, limit Values) (uint64, error) {
	count := func(set func(inventory.CPUs) (inventory.CPUSet, error)) (uint64, error) {
		if w.cpus == nil {
			facts, err := inventory.ReadCPUs(ctx, w.reader)
			w.cpus = func() (inventory.CPUs, error) { return facts, err }
		}
		facts, err := w.cpus()
		if err != nil {
			return 0, err
		}
		cpus, err := set(facts)
		if err == nil && cpus.Len() == 0 {
			err = errors.New("there are none")
		}
		return uint64(cpus.Len()), err
	}
	return e.Evaluate(func(q policies.Quantity) (uint64, error) {
		switch q {
		case policies.CPUs:
			return count(func(c inventory.CPUs) (inventory.CPUSet, error) { return inventory.ParseCPUSet(c.Online) })
		case policies.LocalCPUs:
			return count(func(c inventory.CPUs) (inventory.CPUSet, error) { return c.Local(w.nic.NUMA) })
		case policies.HousekeepingCPUs:
			return count(inventory.CPUs.Housekeeping)
		}
		state, lack := current, "the field has no number now"
		if current == nil {
			lack = "this setting has not one number for it; write a number"
		}
		switch q {
		case policies.Maximum:
			state, lack = limit, "the device names no maximum; write a number"
		case policies.Default:
			if v, changed := original(w.past(), w.target, w.Setting, field); changed {
				state = Values{field: v}
			}
		}
		n, ok := number(state[field])
		if !ok {
			return 0, fmt.Errorf("%s: %s", q, lack)
		}
		return n, nil
	})
}

// number is the value of a JSON number without sign or fraction.
func number(v json.RawMessage) (uint64, bool) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	return n, err == nil
}
