package policies

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/goccy/go-yaml/token"

	"github.com/nictune/nictune/inventory"
)

// RuleKind is the kind of a document with rules of its users' own.
const RuleKind = "RulePolicy"

// UserGroup is the group of all users' rules: their ids begin with "user/", so that
// none is ever taken for one of nictune's own.
const UserGroup = "user"

// RulePolicy is one document of kind RulePolicy: rules that its users wrote.
type RulePolicy struct {
	Name, Description string
	// Match says which NICs the rules are judged on. Rules about the host go by its
	// labels alone.
	Match Match
	Rules []UserRule
	// Source is where its name stands.
	Source Source

	text string
}

// UserRule is a rule that a user wrote.
type UserRule struct {
	// ID is "user/NAME".
	ID string
	// Severity is "info", "warning" or "critical".
	Severity           string
	Title, Why, Remedy string
	Sources            []string
	// OnHost says that the rule is about the host and asks for no NIC's facts.
	OnHost bool
	// Expect is what has to hold.
	Expect *Condition
	// Source is where its id stands.
	Source Source

	looksAt []reading
}

// reading is one fact that a rule looks at, to show it.
type reading struct {
	text    string
	program cel.Program
}

var (
	ruleDocumentKeys = []string{"apiVersion", "kind", "name", "description", "match", "rules"}
	userRuleKeys     = []string{"severity", "title", "why", "remedy", "sources", "subject", "expect"}
	ruleObjects      = []string{"nic", "host"}
	userRuleID       = matcher(`^` + UserGroup + `/[a-z0-9]+(-[a-z0-9]+)*$`)
)

// severities are those that a rule can have.
func severities() []string { return ruleSeverities[1:] }

// longText is how long what a rule says may be, in bytes.
const longText = 4096

// readRules reads a document of kind RulePolicy.
func (d *decoder) readRules(found map[string]entry, entries []entry) {
	for _, e := range entries {
		if !slices.Contains(ruleDocumentKeys, e.key) && !d.full() {
			d.fault(e.token, "unknown key %s%s", quoted(e.key), suggest(e.key, ruleDocumentKeys))
		}
	}
	p := RulePolicy{text: d.text}
	p.Name, p.Description, _, p.Source = d.common(found, entries[0])
	if e, ok := d.required(found, entries[0], "match", everyHardware); ok {
		p.Match = d.match(e)
	}
	if e, ok := d.required(found, entries[0], "rules", "say what has to hold, as in \"user/mtu: {severity: warning, title: ..., why: ..., remedy: ..., expect: nic.link.mtu == 9000}\""); ok {
		before := len(d.faults)
		rules := d.mapping(e.value, "rules")
		if len(rules) == 0 && len(d.faults) == before {
			d.fault(e.token, "rules is empty: begin each with its id, as in \"user/mtu:\"")
		}
		for _, r := range rules {
			if d.full() {
				break
			}
			p.Rules = append(p.Rules, d.userRule(r))
		}
	}
	d.Rules = append(d.Rules, p)
}

// userRule reads one rule.
func (d *decoder) userRule(e entry) UserRule {
	r := UserRule{ID: e.key, Source: d.source(e.token)}
	if !userRuleID().MatchString(e.key) {
		hint := ""
		if !strings.HasPrefix(e.key, UserGroup+"/") {
			hint = ": other groups are nictune's own"
		}
		d.fault(e.token, "%s can't be the id of a rule: write \"%s/\" and words of small letters and digits with dashes between%s", quoted(e.key), UserGroup, hint)
	}
	entries := d.mapping(e.value, "a rule")
	if len(entries) == 0 {
		d.fault(e.token, "the rule says nothing: write severity, title, why, remedy and expect")
		return r
	}
	found := map[string]entry{}
	for _, k := range entries {
		found[k.key] = k
		if !slices.Contains(userRuleKeys, k.key) {
			d.fault(k.token, "unknown key %s in a rule%s", quoted(k.key), suggest(k.key, userRuleKeys))
		}
	}
	if s, ok := d.required(found, e, "severity", "info, warning or critical"); ok {
		text, at, ok := d.scalar(s.value, "severity")
		if r.Severity = text; ok && !slices.Contains(severities(), text) {
			d.fault(at, "a rule is info, warning or critical, not %s%s", quoted(text), suggest(text, severities()))
		}
	}
	for _, text := range []struct {
		key, why string
		into     *string
	}{
		{"title", "say in a few words what is wrong when it fails", &r.Title},
		{"why", "say why it matters to who is woken by it", &r.Why},
		{"remedy", "say what to do", &r.Remedy},
	} {
		if k, ok := d.required(found, e, text.key, text.why); ok {
			*text.into, _, _ = d.scalarOf(k.value, text.key, longText)
			*text.into = strings.Join(strings.Fields(*text.into), " ")
		}
	}
	if k, ok := found["sources"]; ok {
		r.Sources = d.list(k, func(text string, _ *token.Token) (string, bool) { return strings.TrimSpace(text), true })
	}
	if k, ok := found["subject"]; ok {
		text, at, ok := d.scalar(k.value, "subject")
		if r.OnHost = text == "host"; ok && !slices.Contains(ruleObjects, text) {
			d.fault(at, "a rule is about each nic or about the host, not about %s%s", quoted(text), suggest(text, ruleObjects))
		}
	}
	if k, ok := d.required(found, e, "expect", "a condition that holds where all is well, as nic.link.mtu == 9000"); ok {
		before := len(d.faults)
		if r.Expect, _ = d.condition(k, "expect"); r.Expect == nil || len(d.faults) > before {
			return r
		}
		var err error
		if r.looksAt, err = d.conditions.readings(r.Expect.text, r.OnHost); err != nil {
			d.misread(k, "expect", r.Expect.text, err)
		}
	}
	return r
}

// readings are the facts that a condition names, each once, in their order. On a host
// there is no NIC to ask.
func (c *Conditions) readings(text string, onHost bool) ([]reading, error) {
	const most = 6 // more than a line can show
	checked, issues := c.env.Compile(text)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	rep := checked.NativeRep()
	var all []reading
	var nics error
	var visit func(e ast.NavigableExpr)
	visit = func(e ast.NavigableExpr) {
		if e.Kind() == ast.IdentKind && e.AsIdent() == "nic" && onHost && nics == nil {
			at, _ := rep.SourceInfo().GetOffsetRange(e.ID())
			nics = &ConditionError{Offset: int(at.Start), Width: len("nic"), Problem: "a rule about the host has no nic: leave \"subject: host\" out, or ask for facts of the host"}
		}
		fact, ok := factText(e)
		switch known := slices.ContainsFunc(all, func(r reading) bool { return r.text == fact }); {
		case !ok || !showable(rep.GetType(e.ID())):
		case known || len(all) == most:
			return
		default:
			if one, issues := c.env.Compile(fact); issues.Err() == nil {
				if program, err := c.env.Program(one, cel.CostLimit(maxSteps)); err == nil {
					all = append(all, reading{fact, program})
				}
			}
		}
		for _, child := range e.Children() {
			visit(child)
		}
	}
	visit(ast.NavigateAST(rep))
	return all, nics
}

// factText is the text of an expression that names one fact: nic.link.mtu,
// nic.offloads.features["rx-lro"].active.
func factText(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), slices.Contains(ruleObjects, e.AsIdent())
	case ast.SelectKind:
		of, ok := factText(e.AsSelect().Operand())
		return of + "." + e.AsSelect().FieldName(), ok && !e.AsSelect().IsTestOnly()
	case ast.CallKind:
		args := e.AsCall().Args()
		if e.AsCall().FunctionName() != operators.Index || len(args) != 2 || args[1].Kind() != ast.LiteralKind {
			return "", false
		}
		of, ok := factText(args[0])
		switch key := args[1].AsLiteral().(type) {
		case types.String:
			return of + "[" + strconv.Quote(string(key)) + "]", ok
		case types.Int:
			return fmt.Sprintf("%s[%d]", of, int64(key)), ok
		}
	}
	return "", false
}

// showable reports whether a value of the type can be shown in a word or a few.
func showable(t *types.Type) bool {
	switch t.Kind() {
	case types.StringKind, types.IntKind, types.DoubleKind, types.BoolKind:
		return true
	case types.ListKind:
		return showable(t.Parameters()[0])
	}
	return false
}

// Judge says whether what the rule expects holds of a NIC; of the host where the rule
// is about that, with no NIC. The error is that of [Condition.Holds]: an [UnknownError]
// where it takes a fact that is not known.
func (r *UserRule) Judge(nic *inventory.NIC, host *Host) (bool, error) {
	return r.Expect.holds(r.Expect.facts.bind(orNone(nic), host))
}

// Seen are the facts that the rule looks at, as they are: "nic.link.mtu is 1500".
func (r *UserRule) Seen(nic *inventory.NIC, host *Host) string {
	variables := r.Expect.facts.bind(orNone(nic), host)
	said := make([]string, 0, len(r.looksAt))
	for _, fact := range r.looksAt {
		value, _, err := fact.program.Eval(variables)
		var unknown *UnknownError
		switch {
		case errors.As(err, &unknown):
			said = append(said, unknown.Error())
		case err != nil:
			said = append(said, fact.text+" is not known")
		default:
			said = append(said, fact.text+" is "+shownValue(value))
		}
	}
	if len(said) == 0 {
		return "it does not hold"
	}
	return strings.Join(said, ", ")
}

// shownValue is a value as people write it.
func shownValue(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		if v == "" {
			return `""`
		}
		return shortened(string(v))
	case traits.Lister:
		var items []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			items = append(items, shownValue(it.Next()))
		}
		return "[" + shortened(strings.Join(items, ", ")) + "]"
	}
	return fmt.Sprint(v.Value())
}

// orNone is an empty NIC for rules that don't ask for one.
func orNone(nic *inventory.NIC) *inventory.NIC {
	if nic == nil {
		return &inventory.NIC{}
	}
	return nic
}

// For says whether the document's rules are for a NIC; for the host, with no NIC, its
// labels decide. The error says what could not be decided.
func (p *RulePolicy) For(nic *inventory.NIC, host *Host) (bool, error) {
	if nic == nil {
		return p.Match.holdsLabels(host), nil
	}
	return p.Match.Holds(nic, host)
}

// RuleIDs are the ids of all rules of documents.
func RuleIDs(documents []RulePolicy) []string {
	var ids []string
	for i := range documents {
		for j := range documents[i].Rules {
			ids = append(ids, documents[i].Rules[j].ID)
		}
	}
	return ids
}

// uniqueRules refuses two rules of one id: a report could not tell them apart.
func uniqueRules(fs *faults, documents []RulePolicy) {
	first := map[string]Source{}
	for _, p := range documents {
		for _, r := range p.Rules {
			if other, ok := first[r.ID]; ok {
				fs.add(p.text, r.Source, utf8.RuneCountInString(r.ID), "the rule %q is already at %s: give this one another id", r.ID, other)
				continue
			}
			first[r.ID] = r.Source
		}
	}
}
