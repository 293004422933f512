package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// Want is what the policies together want of one setting of one NIC.
type Want struct {
	// NIC points into the slice that Resolve was given.
	NIC *inventory.NIC
	// Setting is the setting's name: "rings".
	Setting string
	// Fields are the wanted fields by name. Each value's Source says which policy
	// and line asked for it.
	Fields []Assignment
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
}

// Resolve matches policies against NICs and settles what is wanted of each: for
// one field of one NIC the value of the highest priority. Policies of the same
// priority that want different values there are a conflict, and then nothing is
// wanted of any NIC: the error is a [ConflictError] that names every conflict.
//
// Wants are ordered by NIC as given, then by setting. The order of policies
// changes nothing. The report is complete also with an error.
func Resolve(policies []Policy, nics []inventory.NIC) ([]Want, Report, error) {
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
	for i := range nics {
		nic := &nics[i]
		wanted := map[field][]claim{}
		for j := range ordered {
			p := &ordered[j]
			if !p.Match.Holds(nic) {
				continue
			}
			report.Policies[j].NICs = append(report.Policies[j].NICs, nic)
			for _, block := range p.Settings {
				for _, a := range block.Fields {
					at := field{block.Setting, a.Field}
					if claims := wanted[at]; len(claims) == 0 || claims[0].policy.Priority == p.Priority {
						wanted[at] = append(claims, claim{p, a})
					}
				}
			}
		}
		wants = append(wants, conflicts.settle(nic, wanted)...)
	}
	if len(conflicts.Conflicts) > 0 {
		return nil, report, &conflicts
	}
	return wants, report, nil
}

// field is one field of one setting.
type field struct{ setting, name string }

// claim is a policy's say about one field.
type claim struct {
	policy *Policy
	Assignment
}

// settle turns the claims on one NIC, each field's of one priority, into wants.
func (e *ConflictError) settle(nic *inventory.NIC, wanted map[field][]claim) []Want {
	fields := make([]field, 0, len(wanted))
	for at := range wanted {
		fields = append(fields, at)
	}
	slices.SortFunc(fields, func(a, b field) int {
		return cmp.Or(cmp.Compare(a.setting, b.setting), cmp.Compare(a.name, b.name))
	})
	var wants []Want
	for _, at := range fields {
		claims := wanted[at]
		for _, c := range claims[1:] {
			if !c.Value.Equal(claims[0].Value) {
				e.add(nic, at, claims[0], c)
				break
			}
		}
		if len(wants) == 0 || wants[len(wants)-1].Setting != at.setting {
			wants = append(wants, Want{NIC: nic, Setting: at.setting})
		}
		last := &wants[len(wants)-1]
		last.Fields = append(last.Fields, claims[0].Assignment)
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
	Setting, Field string
	Priority       int
	Values         [2]Value
	NICs           []string

	texts [2]string // to show lines of
}

func (e *ConflictError) add(nic *inventory.NIC, at field, a, b claim) {
	same := contradiction{at, [2]Value{a.Value, b.Value}}
	if i, ok := e.index[same]; ok {
		e.Conflicts[i].NICs = append(e.Conflicts[i].NICs, nic.Name)
		return
	}
	if e.index == nil {
		e.index = map[contradiction]int{}
	}
	e.index[same] = len(e.Conflicts)
	e.Conflicts = append(e.Conflicts, Conflict{
		Setting: at.setting, Field: at.name, Priority: a.policy.Priority,
		Values: same.values,
		NICs:   []string{nic.Name},
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
		fmt.Fprintf(&b, "conflict: two policies of priority %d want different values for %s.%s of %s; give one of them a higher priority, or a narrower match",
			c.Priority, c.Setting, c.Field, some(c.NICs))
		for j, v := range c.Values {
			fmt.Fprintf(&b, "\n  %s: policy %s wants %s\n    %s", v.Source, v.Source.Policy, v, shown(c.texts[j], v.Source))
		}
	}
	return b.String()
}

// some names the first few of many.
func some(names []string) string {
	const few = 4
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
