package html

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/findings"
)

// tile is a number at the top of the page; with the script it is a switch.
type tile struct {
	Count            int
	Word, Class      string
	Status, Severity string
	// To is the part of the page where they are.
	To string
}

// standing is a part of the list of rules: those that fail, those that pass.
type standing struct {
	Status findings.Status
	// ID is what links of the page call it.
	ID, Title string
	Rules     []ruled
}

// Calm reports whether nobody has to do anything about its rules: paper then does
// without their advice.
func (s standing) Calm() bool { return calm(s.Status) }

// calm reports whether a status is one that nobody has to look at.
func calm(s findings.Status) bool { return s == findings.Pass || s == findings.NotApplicable }

// ruled is a rule with what it said of each subject.
type ruled struct {
	findings.About
	// Worst is what it said of its first subjects, the worst.
	Worst findings.Status
	Open  bool
	// On are the subjects of which it said the worst, in few words, where somebody may
	// have to look at them; Tally how often it said what.
	On, Tally string
	// Said is what it said of each subject; Rest, where those are many, of the subjects
	// that nobody has to look at beside others: RestTally counts them.
	Said, Rest []said
	RestTally  string
}

// beside is how many subjects that nobody has to look at stand among those that
// somebody has to; more are folded away.
const beside = 4

// judgments is a table of what a rule said, and the advice that stands above it.
type judgments struct {
	Remedy string
	Said   []said
}

// said is a finding in a rule's list.
type said struct {
	*findings.Finding
	// NIC is the subject's number in the page.
	NIC int
}

// subjects numbers what findings are about: in the page a number stands for an
// identity, so that none has to go into an attribute.
type subjects struct {
	numbers map[string]int
	Names   []subjectName
}

type subjectName struct {
	Number int
	Name   string
}

// number is the number of the subject with an id, which people call name.
func (s *subjects) number(id, name string) int {
	n, is := s.numbers[id]
	if !is {
		if s.numbers == nil {
			s.numbers = map[string]int{}
		}
		n = len(s.numbers)
		s.numbers[id] = n
		s.Names = append(s.Names, subjectName{n, cmp.Or(name, id)})
	}
	return n
}

// byName are the subjects as a list to choose from.
func (s *subjects) byName() []subjectName {
	names := slices.Clone(s.Names)
	slices.SortStableFunc(names, func(a, b subjectName) int { return natural(a.Name, b.Name) })
	return names
}

// natural has "eth2" before "eth10".
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x == 0 || y == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		p, q := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
		if c := cmp.Or(cmp.Compare(len(p), len(q)), strings.Compare(p, q)); c != 0 {
			return c
		}
		a, b = a[x:], b[y:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many digits s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

// titles are the parts of the list of rules.
var titles = map[findings.Status]string{
	findings.Fail: "Failing", findings.Error: "Could not be read", findings.Unknown: "Unknown", findings.Waived: "Waived",
	findings.Pass: "Passing", findings.NotApplicable: "Not applicable",
}

// standings are the findings by rule, the rules by the worst that they said.
func standings(all []findings.Finding, abouts []findings.About, known *subjects) []standing {
	byID := make(map[string]findings.About, len(abouts))
	for _, a := range abouts {
		byID[a.ID] = a
	}
	rules := map[string]*ruled{}
	var order []*ruled
	for i := range all {
		f := &all[i]
		r := rules[f.Rule]
		if r == nil {
			about, is := byID[f.Rule]
			if !is { // a report that doesn't explain itself still has what the finding says
				about = findings.About{ID: f.Rule, Title: f.Title, Why: f.Why, Remedy: f.Remedy}
			}
			r = &ruled{About: about}
			rules[f.Rule] = r
			order = append(order, r)
		}
		r.Said = append(r.Said, said{f, known.number(f.Subject.ID, f.Subject.Name)})
	}
	for _, r := range order {
		r.settle()
	}
	slices.SortStableFunc(order, func(a, b *ruled) int {
		return cmp.Or(
			cmp.Compare(rank(a.Worst), rank(b.Worst)),
			-cmp.Compare(slices.Index(findings.Severities(), a.Severity), slices.Index(findings.Severities(), b.Severity)),
			strings.Compare(a.ID, b.ID),
		)
	})
	var parts []standing
	for _, r := range order {
		if len(parts) == 0 || parts[len(parts)-1].Status != r.Worst {
			part := standing{Status: r.Worst, ID: fmt.Sprintf("standing-%d", len(parts)), Title: string(r.Worst)}
			if title, is := titles[r.Worst]; is {
				part.ID, part.Title = "standing-"+string(r.Worst), title
			}
			parts = append(parts, part)
		}
		part := &parts[len(parts)-1]
		part.Rules = append(part.Rules, *r)
	}
	return parts
}

// rank is a status's place among all; one that isn't known comes first.
func rank(s findings.Status) int { return slices.Index(findings.Statuses(), s) }

// settle puts a rule's subjects in order and sums them up.
func (r *ruled) settle() {
	slices.SortStableFunc(r.Said, func(a, b said) int {
		return cmp.Or(
			cmp.Compare(rank(a.Status), rank(b.Status)),
			-cmp.Compare(slices.Index(findings.Severities(), a.Severity), slices.Index(findings.Severities(), b.Severity)),
			natural(a.Subject.String(), b.Subject.String()),
		)
	})
	r.Worst = r.Said[0].Status
	// A policy may have changed how grave it is.
	r.Severity = r.Said[0].Severity
	r.Open = r.Worst == findings.Fail && r.Severity == findings.Critical
	r.Tally = tally(r.Said)
	if first := slices.IndexFunc(r.Said, func(s said) bool { return calm(s.Status) }); first > 0 && len(r.Said)-first > beside {
		r.Said, r.Rest = r.Said[:first], r.Said[first:]
		r.RestTally = tally(r.Rest)
	}
	var on []string
	for _, s := range r.Said {
		if s.Status == r.Worst {
			on = append(on, s.Subject.String())
		}
	}
	if !calm(r.Worst) {
		r.On = listed(on, 4)
	}
}

// tally is how often a rule said what.
func tally(all []said) string {
	counts := map[findings.Status]int{}
	for _, s := range all {
		counts[s.Status]++
	}
	var parts []string
	for _, status := range findings.Statuses() {
		if n := counts[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, statusWord(status)))
		}
	}
	return strings.Join(parts, " · ")
}

// Fails reports whether what the rule's title says is so. Of a rule that passes, or that
// could not judge, it must not read as if it were.
func (r ruled) Fails() bool {
	return r.Title != "" && (r.Worst == findings.Fail || r.Worst == findings.Waived)
}

// statusWord is a status as people say it.
func statusWord(s findings.Status) string {
	return strings.ReplaceAll(string(s), "-", " ")
}

// tiles count findings by status, and what fails by severity.
func tiles(all []findings.Finding) []tile {
	statuses := map[findings.Status]int{}
	severities := map[findings.Severity]int{}
	for i := range all {
		statuses[all[i].Status]++
		if all[i].Status == findings.Fail {
			severities[all[i].Severity]++
		}
	}
	var ts []tile
	for _, severity := range slices.Backward(findings.Severities()) {
		if severity == findings.Info && severities[severity] == 0 {
			continue
		}
		ts = append(ts, tile{Count: severities[severity], Word: string(severity) + " failures", Class: string(severity), Status: string(findings.Fail), Severity: string(severity), To: "standing-fail"})
	}
	for _, status := range findings.Statuses() {
		if status == findings.Fail || statuses[status] == 0 && status == findings.Waived {
			continue
		}
		ts = append(ts, tile{Count: statuses[status], Word: statusWord(status), Class: string(status), Status: string(status), To: "standing-" + string(status)})
	}
	return ts
}

// verdict is the report in one sentence.
func verdict(all []findings.Finding) string {
	counts := map[string]int{}
	for i := range all {
		switch f := &all[i]; f.Status {
		case findings.Fail:
			counts[string(f.Severity)]++
			counts["fail"]++
		default:
			counts[string(f.Status)]++
		}
	}
	var parts []string
	for _, severity := range slices.Backward(findings.Severities()) {
		if n := counts[string(severity)]; n > 0 {
			parts = append(parts, strconv.Itoa(n)+" "+string(severity))
		}
	}
	text := "Nothing fails."
	if counts["fail"] > 0 {
		text = count(counts["fail"], "failure", "failures") + ": " + listed(parts, len(parts)) + "."
	}
	if len(all) == 0 {
		text = "Nothing was judged."
	}
	if n := counts[string(findings.Error)] + counts[string(findings.Unknown)]; n > 0 {
		text += " " + count(n, "verdict", "verdicts") + " could not be given: what could not be read is not a pass."
	}
	return text
}
