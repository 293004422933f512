package terminal

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/nictune/nictune/findings"
)

// Findings writes what fails, could not be read or is waived, and of the rest how
// much there is. With all, the rest is listed, too. Devices on which one rule fails
// are listed below it, once with why it matters and what to do.
func Findings(w io.Writer, list []findings.Finding, all bool) error {
	counts := map[findings.Status]int{}
	severities := map[findings.Severity]int{}
	for _, f := range list {
		counts[f.Status]++
		if f.Status == findings.Fail {
			severities[f.Severity]++
		}
	}
	failing := false // the block above is one of failures
	for rest := list; len(rest) > 0; {
		f, n := rest[0], 1
		switch {
		case f.Status == findings.Fail:
			for n < len(rest) && rest[n].Status == findings.Fail && rest[n].Rule == f.Rule && rest[n].Severity == f.Severity {
				n++
			}
			if failing {
				fmt.Fprintln(w)
			}
			failures(w, rest[:n])
			failing = true
		case f.Status == findings.Error || all || f.Status == findings.Waived:
			if failing {
				fmt.Fprintln(w)
				failing = false
			}
			if f.Status == findings.Error {
				for n < len(rest) && rest[n].Status == findings.Error {
					n++
				}
				unjudged(w, rest[:n])
				break
			}
			fmt.Fprintf(w, "%s  %s  %s: %s%s\n", word(string(f.Status)), printable(f.Subject.String()), f.Rule, printable(f.Seen), printable(waived(f.Waiver)))
		}
		rest = rest[n:]
	}
	if failing {
		fmt.Fprintln(w)
	}
	return summary(w, counts, severities, all)
}

// word is a status or severity as a line begins with it.
func word(s string) string { return fmt.Sprintf("%-8s", strings.ToUpper(s)) }

// widest is how wide the names of devices make what stands below them, at most.
const widest = 16

// margin is as wide as word, and what follows it.
const margin = "          "

// failures writes one rule's failures: the rule, each device with what was seen, and
// once what is the same of all. What is only for information has no advice but that for
// the device itself: --explain has the rule's.
func failures(w io.Writer, same []findings.Finding) {
	first := same[0]
	fmt.Fprintf(w, "%s  %s: %s\n", word(string(first.Severity)), first.Rule, first.Title)
	width, expected, remedy, policy := 0, true, true, true
	for _, f := range same {
		width = max(width, len([]rune(f.Subject.String())))
		expected = expected && f.Expected == first.Expected
		remedy = remedy && f.Remedy == first.Remedy
		policy = policy && f.Policy == first.Policy
	}
	width = max(width, len("expected"))
	width = min(width, widest)
	say := func(label, text string) {
		if text == "" {
			return
		}
		if len([]rune(label)) > width {
			fmt.Fprintln(w, margin+label)
			label = ""
		}
		wrap(w, margin+fmt.Sprintf("%-*s  ", width, label), printable(text))
	}
	advice := first.Severity != findings.Info
	for _, f := range same {
		say(printable(f.Subject.String()), f.Seen)
		if !expected {
			say("", "expected: "+f.Expected)
		}
		if !remedy && (advice || f.Exact) {
			say("", "do: "+f.Remedy)
		}
		if !policy && f.Policy != "" {
			say("", "severity by "+f.Policy)
		}
		if f.Waiver != nil {
			say("", "WAIVER EXPIRED on "+f.Waiver.Expires+": "+f.Waiver.Reason+" ("+f.Waiver.Owner+", "+f.Waiver.Policy+")")
		}
	}
	if expected {
		say("expected", first.Expected)
	}
	if advice {
		say("why", first.Why)
	}
	if remedy && (advice || first.Exact) {
		say("do", first.Remedy)
	}
	if policy && first.Policy != "" {
		say("severity", "by "+first.Policy)
	}
}

// unjudged writes what could not be read, once for each device, with the rules that
// needed it.
func unjudged(w io.Writer, list []findings.Finding) {
	type cause struct{ device, seen string }
	var causes []cause
	rules := map[cause][]string{}
	for _, f := range list {
		c := cause{f.Subject.String(), f.Seen}
		if rules[c] == nil {
			causes = append(causes, c)
		}
		rules[c] = append(rules[c], f.Rule)
	}
	for _, c := range causes {
		wrap(w, word(string(findings.Error))+"  ", printable(c.device+": "+c.seen))
		wrap(w, margin, "not judged for it: "+strings.Join(rules[c], ", "))
	}
}

// Rule explains a rule: why it matters, what to do, its sources.
func Rule(w io.Writer, r findings.About) error {
	var b bytes.Buffer
	wrap(&b, "", fmt.Sprintf("%s (%s): %s", r.ID, r.Severity, r.Title))
	fmt.Fprintln(&b)
	wrap(&b, "", r.Why)
	fmt.Fprintln(&b)
	wrap(&b, "", "What to do: "+r.Remedy)
	fmt.Fprintln(&b, "\nSources:")
	for _, source := range r.Sources {
		fmt.Fprintln(&b, "  "+source)
	}
	_, err := b.WriteTo(w)
	return err
}

// waived ends the line of a waived finding.
func waived(v *findings.Waiver) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf(" (%s; %s, until %s)", v.Reason, v.Owner, v.Expires)
}

// lineWidth is how wide lines of text are: what is narrower than most terminals.
const lineWidth = 100

// wrap writes text behind a label, and what does not fit on lines of its own below.
func wrap(w io.Writer, label, text string) { wrapTo(w, label, text, lineWidth) }

// wrapTo is wrap with another width of lines.
func wrapTo(w io.Writer, label, text string, width int) {
	indent := strings.Repeat(" ", len([]rune(label)))
	line := label
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line += word
		case len([]rune(line))+1+len([]rune(word)) > width:
			fmt.Fprintln(w, line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

func summary(w io.Writer, counts map[findings.Status]int, severities map[findings.Severity]int, all bool) error {
	var parts []string
	for _, s := range findings.Severities() {
		if n := severities[s]; n > 0 {
			parts = append([]string{fmt.Sprintf("%d %s", n, s)}, parts...)
		}
	}
	failed := "nothing fails"
	if len(parts) > 0 {
		failed = strings.Join(parts, ", ")
	} else if counts[findings.Pass] == 0 {
		failed = "nothing was judged"
	}
	parts = []string{failed}
	for _, s := range findings.Statuses()[1:] {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, cmp.Or(statusWords[s], string(s))))
		}
	}
	hint := ""
	if !all && counts[findings.Unknown]+counts[findings.NotApplicable]+counts[findings.Pass] > 0 {
		hint = " (--all lists them)"
	}
	_, err := fmt.Fprintf(w, "%s%s\n", strings.Join(parts, ", "), hint)
	return err
}

// statusWords are statuses as a sentence has them.
var statusWords = map[findings.Status]string{findings.Pass: "passed", findings.NotApplicable: "not applicable"}
