package tuning

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/policies"
)

// ErrRefused is wrapped by errors that say why nothing was tried: the plan no
// longer fits the host, or does more than was allowed.
var ErrRefused = errors.New("refused")

// unsupported is what a device does not have, said by us and not by the kernel.
type unsupported string

func (e unsupported) Error() string { return string(e) }

// Is makes kernel.ReasonOf say unsupported.
func (e unsupported) Is(target error) bool { return target == errors.ErrUnsupported }

// lacks is that a setting has no such field here. What the host lacks it may have
// outside of our network namespace: most sysctls are those of the first one.
func lacks(s Setting, field string) error {
	if s.scope() == PerHost {
		return unsupported("this network namespace has no " + field + ": set it in the host's first one, if its kernel has it")
	}
	return unsupported("the device has no " + field)
}

// PlanError is everything that stands against a plan.
type PlanError struct {
	Problems []Problem
}

// Problem is one thing that is wanted and can't be had.
type Problem struct {
	// NIC is its name, "host" where the setting is the host's.
	NIC     string
	Setting string
	// Field is empty where the setting as a whole is at fault; Value then is, too.
	Field, Value string
	Source       policies.Source
	// Reason sorts Err: unsupported, gone, denied or failed.
	Reason kernel.Reason
	Err    error
}

// Error lists the problems, one on a line; the same of several NICs is one.
func (e *PlanError) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	if len(e.Problems) > 1 {
		lines = append(lines, fmt.Sprintf("%d things can't be had; nothing was changed:", len(e.Problems)))
	}
	nics := map[string][]string{} // by what is said of them
	for _, p := range e.Problems {
		nics[p.about("")] = append(nics[p.about("")], p.NIC)
	}
	for _, p := range e.Problems {
		if alike := nics[p.about("")]; alike != nil {
			lines = append(lines, p.about(several(alike)))
			delete(nics, p.about(""))
		}
	}
	return strings.Join(lines, "\n")
}

// several is "eth0, eth1, eth2 and 61 more".
func several(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most-1], ", "), len(names)-most+1)
}

// String is "edge.yaml:12: eth1: rings.rx: 9000: ...".
func (p Problem) String() string { return p.about(p.NIC) }

// about is the problem as that of the NICs that are named.
func (p Problem) about(nics string) string {
	var b strings.Builder
	if p.Source.File != "" {
		fmt.Fprintf(&b, "%s: ", p.Source)
	}
	fmt.Fprintf(&b, "%s: %s", nics, p.Setting)
	if p.Field != "" {
		fmt.Fprintf(&b, ".%s: %s", p.Field, p.Value)
	}
	if p.Reason != kernel.Failed { // which would say nothing
		fmt.Fprintf(&b, ": %s", p.Reason)
	}
	fmt.Fprintf(&b, ": %v", p.Err)
	return b.String()
}

// Unwrap gives the problems' errors.
func (e *PlanError) Unwrap() []error {
	errs := make([]error, 0, len(e.Problems))
	for _, p := range e.Problems {
		errs = append(errs, p.Err)
	}
	return errs
}

// fault notes a problem with one field, or with the setting as a whole. What is
// optional, and lacking, is none.
func (w *wanted) fault(a *policies.Assignment, err error) {
	p := Problem{NIC: w.target.Name, Setting: w.Setting, Source: w.source(), Reason: kernel.ReasonOf(err), Err: err}
	optional := w.Optional || len(w.Fields) > 0 && !slices.ContainsFunc(w.Fields, func(a policies.Assignment) bool { return !a.Optional })
	var item *ItemError
	switch {
	case a != nil:
		p.Field, p.Value, p.Source, optional = a.Field, a.Value.String(), a.Value.Source, a.Optional
	case errors.As(err, &item) && item.Item >= 0 && item.Item < len(w.Items):
		p.Source = w.Items[item.Item].Source
	}
	if optional && p.Reason == kernel.Unsupported {
		w.plan.Skipped = append(w.plan.Skipped, Skipped{
			NIC: w.target, Setting: p.Setting, Field: p.Field, Source: p.Source, Detail: err.Error(),
		})
		return
	}
	w.problems.Problems = append(w.problems.Problems, p)
}

// ApplyError says which change failed, and what became of the transaction.
type ApplyError struct {
	// Transaction is the number under which history lists it.
	Transaction int
	// Change is the one that failed; it names no setting where the journal did.
	Change Change
	// Err is what went wrong, in the kernel's words where it spoke.
	Err error
	// Left are the changes that could not be undone, with the reason. When there
	// are none the host is as it was before.
	Left []string
}

// Error names the NIC, the setting, each field with its value and the line that
// wanted it, what went wrong, and the state the host is in.
func (e *ApplyError) Error() string {
	var b strings.Builder
	if e.Change.Setting != "" {
		fmt.Fprintf(&b, "%s: %s%s: ", e.Change.NIC.Name, e.Change.Setting, e.Change.occasion())
	}
	for i, f := range e.Change.Fields {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s -> %s", f.Name, show(f.Before), show(f.After))
		if f.Source.File != "" {
			fmt.Fprintf(&b, " (%s)", f.Source)
		}
	}
	if len(e.Change.Fields) > 0 {
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%v\n", e.Err)
	if len(e.Left) == 0 {
		fmt.Fprintf(&b, "transaction %d was undone: what it had changed is as it was before", e.Transaction)
		return b.String()
	}
	fmt.Fprintf(&b, "transaction %d could not be undone completely; the next start of apply, rollback or the agent tries again:", e.Transaction)
	for _, l := range e.Left {
		fmt.Fprintf(&b, "\n  %s", l)
	}
	return b.String()
}

// occasion is why a change is made at all that fields and their lines don't tell.
func (c *Change) occasion() string {
	switch {
	case c.Turn == MakingWay:
		return " (to make way for other changes)"
	case c.Turn == Kept:
		return " (wanted by no policy; put back, as other changes wiped it)"
	case len(c.Fields) == 0 && c.Source.File != "":
		return fmt.Sprintf(" (%s)", c.Source)
	}
	return ""
}

// Unwrap gives what went wrong.
func (e *ApplyError) Unwrap() error { return e.Err }

// errReadBack is a value that the kernel took and then shows otherwise.
type errReadBack struct {
	field     string
	want, got string
}

func (e errReadBack) Error() string {
	return fmt.Sprintf("%s reads back as %s after %s was written without an error: the driver rounds it, or something that it depends on is in the way",
		e.field, e.got, e.want)
}
