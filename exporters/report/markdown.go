package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// Markdown writes the report as GitHub's Markdown, for tickets, pull requests and job
// summaries: the counts, what changed, what fails, and what could not be judged because
// of an error. What passes, is unknown or doesn't apply is counted.
func Markdown(w io.Writer, r *audit.HostReport) error {
	m := &markdown{}
	m.printf("# NIC audit of %s\n\n", code(hostName(r)))
	m.printf("%s", escaped(r.CollectedAt.UTC().Format("2006-01-02 15:04:05 UTC")))
	for _, fact := range []struct{ label, value string }{{"kernel ", r.Host.Kernel}, {"", r.Host.Architecture}, {"", r.Host.Distribution}, {"nictune ", r.Version}} {
		if fact.value != "" {
			m.printf(", %s%s", fact.label, escaped(fact.value))
		}
	}
	if r.WatchedSeconds > 0 {
		m.printf(", watched for %s", time.Duration(r.WatchedSeconds*float64(time.Second)).Round(100*time.Millisecond))
	}
	m.printf("\n\n")
	m.table("status", "findings")
	for _, s := range findings.Statuses() {
		if n := r.Counts[s]; n > 0 {
			m.printf("| %s | %d |\n", s, n)
		}
	}
	m.printf("\n")
	for _, p := range r.Problems {
		m.printf("**Problem:** %s\n\n", escaped(p))
	}
	m.baseline(r.Baseline)
	m.failing(r)
	m.listed(r, findings.Error, "Could not be judged", "why")
	m.listed(r, findings.Waived, "Waived", "seen")
	m.advice(r)
	_, err := w.Write(m.Bytes())
	return err
}

type markdown struct{ bytes.Buffer }

func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(&m.Buffer, format, args...) }

// table begins a table.
func (m *markdown) table(columns ...string) {
	m.printf("| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
}

func (m *markdown) baseline(d *audit.Difference) {
	if d == nil {
		return
	}
	m.printf("## Since %s\n\n%d new, %d fixed, %d unchanged", d.Since.UTC().Format("2006-01-02 15:04:05 UTC"), len(d.New), len(d.Fixed), len(d.Unchanged))
	if len(d.NotApplicable) > 0 {
		m.printf(", %d that failed by a rule that doesn't apply any more", len(d.NotApplicable))
	}
	if len(d.Unclear) > 0 {
		m.printf(", %d that failed and can't be judged now", len(d.Unclear))
	}
	if len(d.Gone) > 0 {
		m.printf(", %d that failed on what is gone", len(d.Gone))
	}
	m.printf(".\n\n")
	if len(d.New)+len(d.Fixed)+len(d.NotApplicable)+len(d.Unclear)+len(d.Gone) == 0 {
		return
	}
	m.table("", "severity", "device", "rule", "what")
	for _, list := range []struct {
		word    string
		changes []audit.Change
	}{{"new", d.New}, {"fixed", d.Fixed}, {"doesn't apply", d.NotApplicable}, {"unclear", d.Unclear}, {"gone", d.Gone}} {
		for _, c := range list.changes {
			m.printf("| %s | %s | %s | %s | %s |\n", list.word, c.Severity, code(c.Subject.String()), code(c.Rule), escaped(c.Title))
		}
	}
	m.printf("\n")
}

func (m *markdown) failing(r *audit.HostReport) {
	m.printf("## Fails\n\n")
	is := changes(r)
	n := 0
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Status != findings.Fail {
			continue
		}
		if n++; n == 1 {
			m.table("severity", "device", "rule", "seen", "expected")
		}
		rule := code(f.Rule)
		if is[i] == "new" {
			rule += " **new**"
		}
		seen := code(f.Seen)
		if f.Waiver != nil {
			seen += "<br>" + escaped(accepted(f.Waiver))
		}
		m.printf("| %s | %s | %s | %s | %s |\n", f.Severity, code(f.Subject.String()), rule, seen, code(f.Expected))
	}
	if n == 0 {
		m.printf("Nothing fails.\n")
	}
	m.printf("\n")
}

// listed are the findings of one status.
func (m *markdown) listed(r *audit.HostReport, status findings.Status, title, column string) {
	if r.Counts[status] == 0 {
		return
	}
	m.printf("## %s\n\n", title)
	m.table("device", "rule", column)
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Status == status {
			text := code(f.Seen)
			if f.Waiver != nil {
				text += "<br>" + escaped(accepted(f.Waiver))
			}
			m.printf("| %s | %s | %s |\n", code(f.Subject.String()), code(f.Rule), text)
		}
	}
	m.printf("\n")
}

// advice says of each rule that fails what it means and what to do, once.
func (m *markdown) advice(r *audit.HostReport) {
	said := map[string]bool{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Status != findings.Fail {
			continue
		}
		key := f.Rule + "\n" + f.Remedy
		if said[key] || f.Why == "" && f.Remedy == "" {
			continue
		}
		if len(said) == 0 {
			m.printf("## What to do\n\n")
		}
		if !said[f.Rule] {
			m.printf("%s: %s. %s\n\n", code(f.Rule), escaped(f.Title), escaped(f.Why))
			said[f.Rule] = true
		}
		said[key] = true
		m.printf("- %s\n\n", escaped(f.Remedy))
	}
}

// code is what a device or a rule is called, or what was seen, as it is: nothing in a
// code span is markup, an emoji (:cd: of a MAC address), a mention or a link. What would
// end the span, or the cell, is escaped text instead.
func code(s string) string {
	s = line(s)
	if s == "" || strings.ContainsAny(s, "`|\\") {
		return escaped(s)
	}
	return "`" + s + "`"
}

// escaped is text that Markdown takes for text: no markup, no HTML, no table's edge, no
// mention of a user, no link by itself. It is on one line.
func escaped(s string) string {
	var b strings.Builder
	before := rune(0)
	for _, r := range line(s) {
		switch {
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case strings.ContainsRune("\\`*_{}[]()#!|~$^", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '@': // with a comment behind it nobody is mentioned
			b.WriteString("@<!-- -->")
		case r == '/' && before == ':': // and this is no link
			b.WriteString("<!-- -->/")
		default:
			b.WriteRune(r)
		}
		before = r
	}
	text := strings.ReplaceAll(b.String(), "www.", "www<!-- -->.")
	// At the start of a line or a cell these would begin a list.
	if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") || strings.HasPrefix(text, "=") {
		text = "\\" + text
	}
	return text
}
