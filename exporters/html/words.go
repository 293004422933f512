package html

import (
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

// words are the functions of the templates.
var words = template.FuncMap{
	"plain":      plain,
	"count":      count,
	"list":       func(names []string) string { return listed(names, 8) },
	"statuses":   findings.Statuses,
	"severities": findings.Severities,
	"stamp":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"utc":        func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"web":        web,
	"number":     number,
	"tight":      tightWords,
	"class":      class,
	"beyond":     verdictClass,
	"judged":     verdictWords,
	"changes":    changesOf,
	"bits":       bitsOf,
	"duration":   duration,
	"outOf":      outOf,
	"of":         func(counts map[findings.Status]int, status string) int { return counts[findings.Status(status)] },
	"share":      func(share float64) string { return strconv.FormatFloat(100*share, 'f', 0, 64) + "%" },
	"probability": func(p float64) string {
		if p < 0.0001 {
			return "under 0.0001"
		}
		return strconv.FormatFloat(p, 'f', 4, 64)
	},
	"severityRank": func(s findings.Severity) int { return slices.Index(findings.Severities(), s) },
	"failingBar":   failingBar,
	"shareBar":     shareBar,
	"worst":        worstWords,
	"ruleWords":    ruleWords,
	"pcieWords":    pcieWords,
	"opticWords":   opticWords,
	"marginWords":  marginWords,
	"judgments":    func(remedy string, all []said) judgments { return judgments{remedy, all} },
	"narrow":       func(table, label string) searched { return searched{table, label} },
}

// plain is a status or the like as people say it.
func plain(word any) string { return strings.ReplaceAll(hyphenated(word), "-", " ") }

// hyphenated is a status or the like as a report spells it.
func hyphenated(word any) string {
	switch w := word.(type) {
	case string:
		return w
	case findings.Status:
		return string(w)
	case findings.Severity:
		return string(w)
	case fleet.ProblemKind:
		return string(w)
	}
	return ""
}

// classes are the words that the style knows. A report is somebody's file: what it calls a
// status is no class until it is one of these, or it could take the place of another.
var classes = []string{
	"fail", "error", "unknown", "waived", "pass", "not-applicable", "critical", "warning", "info", "ready", "not-ready",
	"active", "expiring", "expired", "undated", "drifted", "impossible", "skipped", "undecided", "as-wanted", "new", "fixed", "unchanged", "unclear", "gone", "missing", "stale",
}

// class is how a word is shown.
func class(word any) string {
	if s := hyphenated(word); slices.Contains(classes, s) {
		return s
	}
	return ""
}

// web reports whether a source is an address that a browser may be sent to.
func web(source string) bool {
	u, err := url.Parse(source)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && !strings.ContainsAny(source, " \t\n")
}

// number is what a column is sorted by; nothing where it isn't known.
func number(n any) string {
	switch n := n.(type) {
	case *int:
		if n != nil {
			return strconv.Itoa(*n)
		}
	case *uint64:
		if n != nil {
			return strconv.FormatUint(*n, 10)
		}
	}
	return ""
}

// changed is one kind of change since the baseline.
type changed struct {
	Kind, Title string
	Open        bool
	Changes     []audit.Change
}

func changesOf(kind, title string, open bool, changes []audit.Change) changed {
	return changed{kind, title, open, changes}
}

// searched is a table with a search of its own.
type searched struct{ Table, Label string }

// bitsOf is a speed in Mb/s, or what points to one.
func bitsOf(mbps any) string {
	switch n := mbps.(type) {
	case int:
		return bits(n)
	case *int:
		if n != nil {
			return bits(*n)
		}
	}
	return ""
}
