package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Expression is a number that depends on the NIC or on its host: "50%",
// "min(local-cpus, 16)". With a bound in front (">=4096") it says which way a
// number may be moved: a larger one is left alone.
type Expression struct {
	bound bound
	root  term
}

// Quantity is what an expression names and cannot know by itself.
type Quantity string

// The quantities.
const (
	// Maximum is the largest number that the device takes in the field.
	Maximum Quantity = "max"
	// Default is what the field was before nictune first changed it.
	Default Quantity = "default"
	// CPUs is the number of online CPUs, LocalCPUs of those among them on the NIC's
	// memory node, HousekeepingCPUs of those that neither isolcpus nor nohz_full
	// sets apart.
	CPUs             Quantity = "cpus"
	LocalCPUs        Quantity = "local-cpus"
	HousekeepingCPUs Quantity = "housekeeping-cpus"
	// Current is what the field is now. Expressions can't name it: a bound asks.
	Current Quantity = "current"
)

// quantities are those that an expression can name.
var quantities = []string{string(Maximum), string(Default), string(CPUs), string(LocalCPUs), string(HousekeepingCPUs)}

type bound string

const (
	exactly bound = ""
	atLeast bound = ">="
	atMost  bound = "<="
)

// term is a number, a quantity, a share of the maximum, or the smallest or the
// largest of some terms.
type term struct {
	function string // "min" or "max", then with terms
	terms    []term
	quantity Quantity
	percent  bool   // number is a percentage
	number   uint64 // where there is neither function nor quantity
}

// ParseExpression reads an expression. The error is an [ExpressionError].
func ParseExpression(text string) (*Expression, error) {
	p := expressionParser{text: text}
	e := &Expression{}
	p.space()
	for _, b := range [...]bound{atLeast, atMost} {
		if rest, ok := strings.CutPrefix(p.text[p.at:], string(b)); ok {
			e.bound = b
			p.at = len(p.text) - len(rest)
			break
		}
	}
	var err error
	if e.root, err = p.term(0); err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.fault(p.at, len(p.text)-p.at, "the expression ends before this")
	}
	return e, nil
}

// ExpressionError says what is wrong with an expression, and where.
type ExpressionError struct {
	// Offset is in characters from its start, Width in characters.
	Offset, Width int
	Problem       string
}

// Error is the problem.
func (e *ExpressionError) Error() string { return e.Problem }

// expressionParser is a recursive descent over text.
type expressionParser struct {
	text string
	at   int // in bytes
}

func (p *expressionParser) fault(at, width int, format string, args ...any) error {
	return &ExpressionError{
		Offset:  utf8.RuneCountInString(p.text[:at]),
		Width:   max(utf8.RuneCountInString(p.text[at:at+width]), 1),
		Problem: fmt.Sprintf(format, args...),
	}
}

func (p *expressionParser) space() {
	p.at = len(p.text) - len(strings.TrimLeft(p.text[p.at:], " \t\n"))
}

// word takes the letters, digits and dashes that come next.
func (p *expressionParser) word() string {
	rest := p.text[p.at:]
	end := strings.IndexFunc(rest, func(r rune) bool { return r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if end < 0 {
		end = len(rest)
	}
	p.at += end
	return rest[:end]
}

// next takes a character if it comes next.
func (p *expressionParser) next(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *expressionParser) term(depth int) (term, error) {
	p.space()
	start := p.at
	word := p.word()
	switch {
	case word == "" && p.at == len(p.text):
		return term{}, p.fault(start, 0, "something is missing at the end: a number, a percentage, or one of %s", strings.Join(quantities, ", "))
	case word == "":
		_, size := utf8.DecodeRuneInString(p.text[p.at:])
		return term{}, p.fault(start, size, "%s has no place here: write a number, a percentage, or one of %s",
			quoted(p.text[p.at:p.at+size]), strings.Join(quantities, ", "))
	case decimal(word):
		return p.amount(start, word)
	case (word == "min" || word == "max") && p.next('('):
		return p.call(start, word, depth+1)
	case slices.Contains(quantities, word):
		return term{quantity: Quantity(word)}, nil
	case unicode.IsDigit(rune(word[0])) || word[0] == '-':
		return term{}, p.fault(start, len(word), "%s is no number here: write a plain decimal one", quoted(word))
	default:
		return term{}, p.fault(start, len(word), "unknown name %s%s", quoted(word), suggest(word, append([]string{"min"}, quantities...)))
	}
}

// amount is a number, or a percentage.
func (p *expressionParser) amount(start int, digits string) (term, error) {
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return term{}, p.fault(start, len(digits), "%s is too large for any device", quoted(digits))
	}
	percent := p.next('%')
	if percent && (n == 0 || n > 100) {
		return term{}, p.fault(start, p.at-start, "a share of the maximum is between 1%% and 100%%")
	}
	return term{number: n, percent: percent}, nil
}

// call is what follows the opening parenthesis of a function.
func (p *expressionParser) call(start int, function string, depth int) (term, error) {
	const deepest, most = 8, 16
	t := term{function: function}
	if depth > deepest {
		return t, p.fault(start, len(function), "nested more than %d deep", deepest)
	}
	for {
		arg, err := p.term(depth)
		if err != nil {
			return t, err
		}
		t.terms = append(t.terms, arg)
		switch {
		case len(t.terms) > most:
			return t, p.fault(start, len(function), "%s of more than %d", function, most)
		case p.next(','):
		case p.next(')'):
			if len(t.terms) == 1 {
				return t, p.fault(start, p.at-start, "%s is of two or more, as in %s(local-cpus, 16)", function, function)
			}
			return t, nil
		case p.at == len(p.text):
			return t, p.fault(p.at, 0, "%s( is not closed: a \")\" is missing; within { } put the whole in quotes", function)
		default:
			_, size := utf8.DecodeRuneInString(p.text[p.at:])
			return t, p.fault(p.at, size, "%s has no place here: write \",\" or \")\"", quoted(p.text[p.at:p.at+size]))
		}
	}
}

// Needs are the quantities that Evaluate asks for, each once, sorted.
func (e *Expression) Needs() []Quantity {
	needs := map[Quantity]bool{}
	if e.bound != exactly {
		needs[Current] = true
	}
	e.root.needs(needs)
	out := make([]Quantity, 0, len(needs))
	for q := range needs {
		out = append(out, q)
	}
	slices.Sort(out)
	return out
}

func (t *term) needs(found map[Quantity]bool) {
	switch {
	case t.percent:
		found[Maximum] = true
	case t.quantity != "":
		found[t.quantity] = true
	}
	for i := range t.terms {
		t.terms[i].needs(found)
	}
}

// Evaluate computes the number. It asks value for each quantity where it is
// needed; an error of that, as that there is no such number, ends it.
//
// A percentage is rounded down, but to no less than 1, where the maximum is not 0.
func (e *Expression) Evaluate(value func(Quantity) (uint64, error)) (uint64, error) {
	n, err := e.root.evaluate(value)
	if err != nil || e.bound == exactly {
		return n, err
	}
	now, err := value(Current)
	if err != nil {
		return 0, err
	}
	if e.bound == atLeast {
		return max(n, now), nil
	}
	return min(n, now), nil
}

func (t *term) evaluate(value func(Quantity) (uint64, error)) (uint64, error) {
	switch {
	case t.quantity != "":
		return value(t.quantity)
	case t.percent:
		most, err := value(Maximum)
		if err != nil || most == 0 {
			return 0, err
		}
		return max(1, most/100*t.number+most%100*t.number/100), nil
	case t.function == "":
		return t.number, nil
	}
	numbers := make([]uint64, len(t.terms))
	for i := range t.terms {
		var err error
		if numbers[i], err = t.terms[i].evaluate(value); err != nil {
			return 0, err
		}
	}
	if t.function == "min" {
		return slices.Min(numbers), nil
	}
	return slices.Max(numbers), nil
}

// String is the expression in its shortest common spelling: two expressions of
// the same spelling are the same.
func (e *Expression) String() string { return string(e.bound) + e.root.String() }

func (t *term) String() string {
	switch {
	case t.function != "":
		parts := make([]string, len(t.terms))
		for i := range t.terms {
			parts[i] = t.terms[i].String()
		}
		return t.function + "(" + strings.Join(parts, ", ") + ")"
	case t.percent:
		return strconv.FormatUint(t.number, 10) + "%"
	default:
		return cmp.Or(string(t.quantity), strconv.FormatUint(t.number, 10))
	}
}
