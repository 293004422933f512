package policies

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// Want is what the policies together want of one setting of one NIC.
type Want struct {
	// NIC points into the slice that Resolve was given; nil for a setting of the
	// host.
	NIC *inventory.NIC
	// Setting is the setting's name: "rings".
	Setting string
	// Fields are the wanted fields by name. Each value's Source says which policy
	// and line asked for it.
	Fields []Assignment
	// Items are the wanted items of a list setting; there are no Fields then. Not
	// nil but empty: there shall be none.
	Items []Item
	// Source is where the setting was asked for: of several policies, by that of
	// the first field.
	Source Source
	// Optional and Clamp are for Items what those of an Assignment are for a field.
	Optional, Clamp bool
}

// Report says which NICs each policy was for.
type Report struct {
	// Policies are in order of precedence: the highest priority first, then by
	// name.
	Policies []Matched
}

// Matched is one policy and the NICs that it matched, in the inventory's order.
// A policy that matched none has none.
type Matched struct {
	Policy string
	Source Source
	NICs   []*inventory.NIC
	// Undecided are the NICs that it did not match because where, or the speed,
	// needs what is not known, or could not be evaluated.
	Undecided []Undecided
}

// Undecided is a NIC for which a match could not be decided.
type Undecided struct {
	NIC *inventory.NIC
	// Source is where that was asked.
	Source Source
	// Err is an [UnknownError] where a fact is not known.
	Err error
}

// Resolve matches policies against the NICs of a host and settles what is wanted of each: for
// one field of one NIC the value of the highest priority, and for the fields of one group
// ([Field.Group]) those of one policy. Policies of the same
// priority that want different values there are a conflict, and then nothing is
// wanted of any NIC: the error is a [ConflictError] that names every conflict.
//
// Wants are ordered by NIC as given, then by setting. The order of policies
// changes nothing. The report is complete also with an error.
func Resolve(policies []Policy, host Host, nics []inventory.NIC) ([]Want, Report, error) {
	ordered := slices.SortedStableFunc(slices.Values(policies), func(a, b Policy) int {
		return cmp.Or(
			cmp.Compare(b.Priority, a.Priority),
			cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Source.File, b.Source.File),
			cmp.Compare(a.Source.Line, b.Source.Line),
		)
	})
	report := Report{Policies: make([]Matched, len(ordered))}
	for i, p := range ordered {
		report.Policies[i] = Matched{Policy: p.Name, Source: p.Source}
	}
	var wants []Want
	var conflicts ConflictError
	hosts := newClaims()
	holding := make([]byte, len(ordered)) // 1 for each policy that holds for a NIC
	alike := map[string][]Want{}          // what is wanted of NICs for which the same hold
	for i := range nics {
		nic := &nics[i]
		clear(holding)
		c := candidate{nic: nic, host: &host}
		for j := range ordered {
			p := &ordered[j]
			holds, err := p.Match.holds(&c)
			if err != nil {
				at := p.Match.WhereSource
				if at == (Source{}) {
					at = p.Source
				}
				report.Policies[j].Undecided = append(report.Policies[j].Undecided, Undecided{NIC: nic, Source: at, Err: err})
			}
			if !holds {
				continue
			}
			report.Policies[j].NICs = append(report.Policies[j].NICs, nic)
			holding[j] = 1
		}
		same, known := alike[string(holding)]
		if !known {
			wanted := newClaims()
			for j := range ordered {
				if holding[j] == 1 {
					wanted.of(&ordered[j], false)
				}
			}
			same = conflicts.settle(nic, wanted)
			if len(conflicts.Conflicts) == 0 { // which name each NIC
				alike[string(holding)] = same
			}
		}
		for _, w := range same {
			w.NIC = nic
			wants = append(wants, w)
		}
	}
	for j, m := range report.Policies {
		if len(m.NICs) > 0 {
			hosts.of(&ordered[j], true)
		}
	}
	wants = append(wants, conflicts.settle(nil, hosts)...)
	if len(conflicts.Conflicts) > 0 {
		return nil, report, &conflicts
	}
	return wants, report, nil
}

// field is one field of one setting, or, without a name, a list setting.
type field struct{ setting, name string }

// claim is a policy's say about one field, or about a whole list.
type claim struct {
	policy *Policy
	block  *Block
	Assignment
}

// claims are what policies say, of the highest priority so far, of each field, and who
// says anything of each group of fields. The policies come in the order of precedence.
type claims struct {
	fields map[field][]claim
	groups map[field][]groupClaim  // by setting and group
	blocks map[string][]groupClaim // by setting
}

// groupClaim is what a policy says of a group of fields, or of all of a setting.
type groupClaim struct {
	policy *Policy
	block  *Block
	fields []Assignment
}

func newClaims() claims {
	return claims{map[field][]claim{}, map[field][]groupClaim{}, map[string][]groupClaim{}}
}

// of adds what a policy says of a NIC's settings, or of the host's.
func (c claims) of(p *Policy, host bool) {
	for i := range p.Settings {
		block := &p.Settings[i]
		if block.Host != host {
			continue
		}
		if block.Items != nil {
			list := Assignment{Source: block.Source, Value: itemsValue(block), Optional: block.Optional, Clamp: block.Clamp}
			c.add(field{setting: block.Setting}, claim{p, block, list})
		}
		if len(block.Fields) > 0 {
			c.ofFields(groupClaim{p, block, block.Fields})
		}
	}
}

// ofFields adds what a policy says of a setting with fields, group by group.
func (c claims) ofFields(g groupClaim) {
	others := c.blocks[g.block.Setting]
	if len(others) > 0 && others[0].policy.Priority > g.policy.Priority && (g.whole() || slices.ContainsFunc(others, groupClaim.whole)) {
		return
	}
	c.blocks[g.block.Setting] = append(others, g)
	lost := map[string]bool{} // groups that a higher priority has
	for _, a := range g.fields {
		if a.Group == "" || a.Group == WholeSetting {
			continue
		}
		at := field{g.block.Setting, a.Group}
		said := c.groups[at]
		switch n := len(said); {
		case n > 0 && said[0].policy.Priority > g.policy.Priority:
			lost[a.Group] = true
		case n > 0 && said[n-1].block == g.block:
			said[n-1].fields = append(said[n-1].fields, a)
		default:
			c.groups[at] = append(said, groupClaim{g.policy, g.block, []Assignment{a}})
		}
	}
	for _, a := range g.fields {
		if !lost[a.Group] {
			c.add(field{g.block.Setting, a.Field}, claim{g.policy, g.block, a})
		}
	}
}

// whole says whether all that the policy says of the setting is one value.
func (g groupClaim) whole() bool {
	return slices.ContainsFunc(g.fields, func(a Assignment) bool { return a.Group == WholeSetting })
}

func (c claims) add(at field, said claim) {
	if others := c.fields[at]; len(others) == 0 || others[0].policy.Priority == said.policy.Priority {
		c.fields[at] = append(others, said)
	}
}

// apart are the groups of which policies of one priority say different fields, each with
// two of them. Where they say different values of one field that is told of the field.
func (c claims) apart() map[field][2]groupClaim {
	var apart map[field][2]groupClaim
	compare := func(setting string, said []groupClaim) {
		for _, other := range said[1:] {
			if other.policy.Priority == said[0].policy.Priority && !slices.Equal(said[0].names(), other.names()) {
				if apart == nil {
					apart = map[field][2]groupClaim{}
				}
				apart[field{setting: setting}] = [2]groupClaim{said[0], other}
				return
			}
		}
	}
	for at, said := range c.groups {
		compare(at.setting, said)
	}
	for setting, said := range c.blocks {
		if slices.ContainsFunc(said, groupClaim.whole) {
			compare(setting, said)
		}
	}
	return apart
}

func (g groupClaim) names() []string {
	names := make([]string, len(g.fields))
	for i, a := range g.fields {
		names[i] = a.Field
	}
	slices.Sort(names)
	return names
}

// claim is the group as one value, to show.
func (g groupClaim) claim() claim {
	source := g.fields[0].Source
	source.Policy = g.policy.Name
	text := "{" + strings.Join(fieldTexts(g.fields), ", ") + "}"
	return claim{g.policy, g.block, Assignment{Source: source, Value: ListValue(text, source)}}
}

// fieldTexts are fields and their values as a document has them, sorted.
func fieldTexts(fields []Assignment) []string {
	var texts []string
	inside := map[string][]string{} // of the mappings in an item, by their key
	for _, a := range fields {
		value := a.Value.String()
		if _, list := a.Value.List(); list {
			value = "[" + value + "]"
		}
		if outer, inner, ok := strings.Cut(a.Field, "."); ok {
			inside[outer] = append(inside[outer], inner+": "+value)
			continue
		}
		texts = append(texts, a.Field+": "+value)
	}
	for outer, entries := range inside {
		slices.Sort(entries)
		texts = append(texts, outer+": {"+strings.Join(entries, ", ")+"}")
	}
	slices.Sort(texts)
	return texts
}

// itemsValue is a list as one value, to compare and to show.
func itemsValue(b *Block) Value {
	items := make([]string, len(b.Items))
	for i, item := range b.Items {
		items[i] = "{" + strings.Join(fieldTexts(item.Fields), ", ") + "}"
	}
	return ListValue("["+strings.Join(items, ", ")+"]", b.Source)
}

// settle turns the claims on one NIC, each field's of one priority, into wants.
// Where policies agree on a value, all of them must allow that it is left out or
// clamped.
func (e *ConflictError) settle(nic *inventory.NIC, wanted claims) []Want {
	inOrder := func(a, b field) int { return cmp.Or(cmp.Compare(a.setting, b.setting), cmp.Compare(a.name, b.name)) }
	fields := slices.SortedFunc(maps.Keys(wanted.fields), inOrder)
	apart := wanted.apart()
	for _, at := range slices.SortedFunc(maps.Keys(apart), inOrder) {
		e.add(nic, at, apart[at][0].claim(), apart[at][1].claim())
	}
	var wants []Want
	for _, at := range fields {
		claims := wanted.fields[at]
		first := claims[0]
		for _, c := range claims[1:] {
			if !c.Value.Equal(first.Value) {
				e.add(nic, at, first, c)
				break
			}
			first.Optional, first.Clamp = first.Optional && c.Optional, first.Clamp && c.Clamp
		}
		if len(wants) == 0 || wants[len(wants)-1].Setting != at.setting {
			wants = append(wants, Want{NIC: nic, Setting: at.setting, Source: first.block.Source})
		}
		last := &wants[len(wants)-1]
		if at.name == "" {
			last.Items, last.Optional, last.Clamp = first.block.Items, first.Optional, first.Clamp
			continue
		}
		last.Fields = append(last.Fields, first.Assignment)
	}
	return wants
}

// ConflictError says that policies of the same priority want different values
// for the same field of the same NIC.
type ConflictError struct {
	Conflicts []Conflict

	index map[contradiction]int // in Conflicts
}

// contradiction is two lines, whatever NICs they are for.
type contradiction struct {
	field
	values [2]Value
}

// Conflict is two lines that contradict each other, and the NICs that both are
// for.
type Conflict struct {
	// Field is empty where whole lists differ, or which fields of a group are wanted.
	Setting, Field string
	Priority       int
	Values         [2]Value
	// NICs are names; "this host" where the setting is the host's.
	NICs []string

	texts [2]string // to show lines of
}

func (e *ConflictError) add(nic *inventory.NIC, at field, a, b claim) {
	name := "this host"
	if nic != nil {
		name = nic.Name
	}
	same := contradiction{at, [2]Value{a.Value, b.Value}}
	if i, ok := e.index[same]; ok {
		e.Conflicts[i].NICs = append(e.Conflicts[i].NICs, name)
		return
	}
	if e.index == nil {
		e.index = map[contradiction]int{}
	}
	e.index[same] = len(e.Conflicts)
	e.Conflicts = append(e.Conflicts, Conflict{
		Setting: at.setting, Field: at.name, Priority: a.policy.Priority,
		Values: same.values,
		NICs:   []string{name},
		texts:  [2]string{a.policy.text, b.policy.text},
	})
}

// Error lists the conflicts, each with both lines.
func (e *ConflictError) Error() string {
	var b strings.Builder
	for i, c := range e.Conflicts {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == enough {
			fmt.Fprintf(&b, "and %d conflicts more", len(e.Conflicts)-i)
			break
		}
		fmt.Fprintf(&b, "conflict: two policies of priority %d want different values for %s of %s; give one of them a higher priority, or a narrower match",
			c.Priority, c.what(), Few(c.NICs))
		for j, v := range c.Values {
			fmt.Fprintf(&b, "\n  %s: policy %s wants %s\n    %s", v.Source, v.Source.Policy, shortened(v.String()), shown(c.texts[j], v.Source))
		}
	}
	return b.String()
}

// what names the field, or the list.
func (c *Conflict) what() string {
	if c.Field == "" {
		return c.Setting
	}
	return c.Setting + "." + c.Field
}

// Few names the first few of many: "eth0, eth1, eth2, eth3 and 60 more".
func Few(names []string) string {
	const few = 4
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
