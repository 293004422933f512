// Package report writes an audit report in the forms that other programs read:
// Markdown for tickets and pull requests, CSV for spreadsheets, JUnit for CI, SARIF for
// code scanners. One form is one file. A fleet's report is a number of tables, which text,
// Markdown and CSV have alike.
//
// It renders what it is given and asks nobody anything. All text of a report comes
// from hosts, drivers, modules and policies, any of which may be hostile: each form
// escapes what its readers would obey.
package report

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// visible is text with what is no text, or would change how what follows is shown,
// made visible: invalid UTF-8, control characters and marks that turn the direction
// of writing. Newlines and tabs stay.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028' || r == '\u2029':
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}

// line is visible text on one line.
func line(s string) string { return strings.Join(strings.Fields(visible(s)), " ") }

// notApplicable is what failed by a rule that doesn't apply any more.
const notApplicable = "not-applicable"

// changes says of each finding of a report what it is beside the baseline: "new",
// "unchanged", "fixed", "not-applicable", "unclear", or nothing.
func changes(r *audit.HostReport) []string {
	all := make([]string, len(r.Findings))
	if r.Baseline == nil {
		return all
	}
	type known struct {
		rule    string
		subject findings.Subject
	}
	is := map[known]string{}
	d := r.Baseline
	for _, list := range []struct {
		word    string
		changes []audit.Change
	}{{"fixed", d.Fixed}, {notApplicable, d.NotApplicable}, {"unclear", d.Unclear}, {"unchanged", d.Unchanged}, {"new", d.New}} {
		for _, c := range list.changes {
			is[known{c.Rule, c.Subject}] = list.word
		}
	}
	for i := range r.Findings {
		all[i] = is[known{r.Findings[i].Rule, r.Findings[i].Subject}]
	}
	return all
}

// hostName is what the host is called.
func hostName(r *audit.HostReport) string {
	switch {
	case r.Host.Name != "":
		return r.Host.Name
	case r.Host.MachineID != "":
		return r.Host.MachineID
	}
	return "unknown host"
}

// group is the part of a rule's id before the slash.
func group(rule string) string {
	name, _, _ := strings.Cut(rule, "/")
	return name
}

// accepted is a waiver in a sentence.
func accepted(w *findings.Waiver) string {
	if w == nil {
		return ""
	}
	if w.Expired {
		return "waiver expired after " + w.Expires + " (" + w.Owner + ", " + w.Policy + "): " + w.Reason
	}
	return "waived until " + w.Expires + " by " + w.Owner + " (" + w.Policy + "): " + w.Reason
}
