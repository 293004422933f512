package policies

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/nictune/nictune/inventory"
)

// Conditions is the language of conditions: CEL (https://cel.dev) with the
// variables nic, an [inventory.NIC], and host, a [Host], under their JSON names.
// All whole numbers are of CEL's type int.
//
// A fact that is not known has no value, and what is computed from it has none
// either: neither nic.link.speedMbps > 10000 nor its negation holds then. has()
// tells whether a fact is known; of what lies below one that is not, it says no.
// As ever in CEL, || and && don't need both sides.
type Conditions struct {
	env   *cel.Env
	facts *facts
}

// The limits of a condition. Steps are CEL's units of cost: about one for each
// operation and each list element that is looked at.
const (
	maxCondition      = 4096 // bytes
	maxConditionDepth = 32
	maxSteps          = 100_000
)

// NewConditions makes the language. That takes a millisecond: keep it.
func NewConditions() (*Conditions, error) {
	f, err := newFacts(reflect.TypeFor[inventory.NIC](), reflect.TypeFor[Host]())
	if err != nil {
		return nil, err
	}
	env, err := cel.NewEnv(
		cel.CustomTypeAdapter(f), cel.CustomTypeProvider(f),
		cel.OptionalTypes(),
		cel.CrossTypeNumericComparisons(true), // GB/s are doubles
		cel.Variable("nic", f.byType[reflect.TypeFor[inventory.NIC]()].celType),
		cel.Variable("host", f.byType[reflect.TypeFor[Host]()].celType),
		cel.ParserExpressionSizeLimit(maxCondition),
		cel.ParserRecursionLimit(maxConditionDepth),
		cel.ASTValidators(cel.ValidateRegexLiterals()),
	)
	if err != nil {
		return nil, err
	}
	return &Conditions{env, f}, nil
}

// Condition is a compiled condition. It can be asked by several goroutines.
type Condition struct {
	text    string
	program cel.Program
	facts   *facts
}

// ConditionError is what is wrong with a condition.
type ConditionError struct {
	// Offset is in characters from its start, Width in characters.
	Offset, Width int
	Problem       string
}

// Error is the problem.
func (e *ConditionError) Error() string { return e.Problem }

// Compile reads a condition and checks its types. The error is made of
// [ConditionError] values joined.
func (c *Conditions) Compile(text string) (*Condition, error) {
	if len(text) > maxCondition {
		return nil, &ConditionError{Width: 1, Problem: fmt.Sprintf("a condition of more than %d bytes", maxCondition)}
	}
	checked, issues := c.env.Compile(text)
	if issues.Err() != nil {
		var errs []error
		for _, e := range issues.Errors() {
			errs = append(errs, c.fault(text, e))
		}
		return nil, errors.Join(errs...)
	}
	if t := checked.OutputType(); t != cel.BoolType {
		return nil, &ConditionError{Width: len([]rune(text)), Problem: fmt.Sprintf("a condition is true or false, and this is %s", cel.FormatCELType(t))}
	}
	if err := restrict(checked.NativeRep()); err != nil {
		return nil, err
	}
	program, err := c.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxSteps))
	if err != nil {
		return nil, &ConditionError{Width: 1, Problem: err.Error()}
	}
	return &Condition{text, program, c.facts}, nil
}

// restrict refuses what CEL allows and what can't be decided here: to compare with
// null, for nothing is null and what is absent equals nothing, and to compare
// whole groups of facts, some of which may not be known.
func restrict(checked *ast.AST) error {
	var err error
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if err != nil {
			return
		}
		problem, width := "", len("==")
		switch {
		case e.Kind() == ast.LiteralKind && e.AsLiteral() == types.NullValue:
			problem, width = "no fact is null: has(nic.pci) says whether it is known", len("null")
		case e.Kind() == ast.CallKind && slices.Contains([]string{operators.Equals, operators.NotEquals, operators.In}, e.AsCall().FunctionName()):
			compared := e.AsCall().Args()
			if e.AsCall().FunctionName() == operators.In {
				compared = compared[:1] // with the keys of a map, not with what it holds
			}
			for _, arg := range compared {
				if group := groupIn(checked.GetType(arg.ID())); group != "" {
					problem = fmt.Sprintf("%s is a group of facts: compare them one by one", group)
				}
			}
		}
		if problem != "" {
			at, _ := checked.SourceInfo().GetOffsetRange(e.ID())
			err = &ConditionError{Offset: int(at.Start), Width: width, Problem: problem}
		}
	}))
	return err
}

// groupIn names the struct in a type, or the type that may hide one.
func groupIn(t *types.Type) string {
	if t.Kind() == types.StructKind || t.Kind() == types.DynKind {
		return t.String()
	}
	for _, p := range t.Parameters() {
		if group := groupIn(p); group != "" {
			return group
		}
	}
	return ""
}

// fault turns an error of the library into one of ours: shorter, and with the
// nearest name.
func (c *Conditions) fault(text string, e *cel.Error) error {
	runes := []rune(text)
	at := &ConditionError{Problem: e.Message}
	for line := 1; at.Offset < len(runes) && line < e.Location.Line(); at.Offset++ {
		if runes[at.Offset] == '\n' {
			line++
		}
	}
	at.Offset = min(at.Offset+max(e.Location.Column(), 0), len(runes))
	problem, _, _ := strings.Cut(strings.TrimPrefix(e.Message, "Syntax error: "), " expecting {")
	// The words that matter stand in the library's first quotes, and its second.
	words := strings.Split(problem, "'")
	switch {
	case len(words) < 2:
		if problem == "invalid matches argument" {
			problem = "this is no regular expression"
		}
	case strings.HasPrefix(problem, "undefined field "):
		problem = fmt.Sprintf("unknown fact %s%s", quoted(words[1]), suggest(words[1], c.facts.near(string(runes[:at.Offset]), words[1])))
		for at.Offset < len(runes) && (runes[at.Offset] == '.' || runes[at.Offset] == '?' || unicode.IsSpace(runes[at.Offset])) {
			at.Offset++ // it stands at the dot
		}
	case strings.HasPrefix(problem, "undeclared reference to "):
		problem = fmt.Sprintf("unknown name %s%s", quoted(words[1]), suggest(words[1], c.words()))
	case strings.HasPrefix(problem, "found no matching overload for ") && len(words) > 3:
		problem = fmt.Sprintf("there is no %s for %s", strings.Trim(words[1], "_@"), words[3])
	case strings.Contains(problem, "'<EOF>'"):
		problem = "the condition ends too early"
	default:
		const long = 100
		if said := []rune(problem); len(said) > long {
			problem = string(said[:long]) + "..."
		}
	}
	at.Problem = problem
	for at.Offset+at.Width < len(runes) && isWord(runes[at.Offset+at.Width]) {
		at.Width++
	}
	at.Width = max(at.Width, 1)
	return at
}

// words are the names that a condition can begin with, and what is done with
// their values.
func (c *Conditions) words() []string {
	words := []string{"nic", "host"}
	for name := range c.env.Functions() {
		if isWord([]rune(name)[0]) && name[0] != '_' {
			words = append(words, name)
		}
	}
	for _, m := range c.env.Macros() {
		words = append(words, m.Function())
	}
	slices.Sort(words)
	return slices.Compact(words)
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// Holds evaluates the condition. Where it needs what is not known, the error is
// an [UnknownError]; any other says why it could not be evaluated. With an error
// the condition does not hold.
func (c *Condition) Holds(nic *inventory.NIC, host *Host) (bool, error) {
	return c.holds(c.facts.bind(nic, host))
}

// String is the condition as it was written.
func (c *Condition) String() string { return c.text }

// bind makes the variables of conditions.
func (f *facts) bind(nic *inventory.NIC, host *Host) map[string]any {
	return map[string]any{"nic": f.root("nic", nic, nic.Unread), "host": f.root("host", host, host.Unread)}
}

func (c *Condition) holds(variables map[string]any) (bool, error) {
	result, _, err := c.program.Eval(variables)
	var unknown *UnknownError
	switch {
	case errors.As(err, &unknown):
		return false, unknown
	case err != nil && strings.Contains(err.Error(), "cost limit exceeded"):
		return false, fmt.Errorf("it takes more than %d steps", maxSteps)
	case err != nil:
		// Neither has a type of its own in the library.
		if key, ok := strings.CutPrefix(err.Error(), "no such key: "); ok {
			return false, &UnknownError{Fact: fmt.Sprintf("the key %s", quoted(key))}
		}
		if item, ok := strings.CutPrefix(err.Error(), "index out of bounds: "); ok {
			return false, &UnknownError{Fact: fmt.Sprintf("the item %s", item)}
		}
		return false, err
	}
	return result == types.True, nil
}
