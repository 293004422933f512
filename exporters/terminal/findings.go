package terminal

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/nictune/nictune/findings"
)

// Findings writes what fails, could not be read or is waived, and of the rest how
// much there is. With all, the rest is listed, too.
func Findings(w io.Writer, list []findings.Finding, all bool) error {
	counts := map[findings.Status]int{}
	severities := map[findings.Severity]int{}
	for i, f := range list {
		counts[f.Status]++
		if f.Status == findings.Fail {
			severities[f.Severity]++
		}
		if !all && f.Status != findings.Fail && f.Status != findings.Error && f.Status != findings.Waived {
			continue
		}
		if i > 0 && f.Status == findings.Fail {
			fmt.Fprintln(w)
		}
		finding(w, f)
	}
	return summary(w, counts, severities, all)
}

// finding writes one finding: a line, and below it what matters where it fails.
func finding(w io.Writer, f findings.Finding) {
	word := string(f.Status)
	if f.Status == findings.Fail {
		word = string(f.Severity)
	}
	fmt.Fprintf(w, "%-8s  %s  %s: ", strings.ToUpper(word), printable(f.Subject.String()), f.Rule)
	if f.Status != findings.Fail {
		fmt.Fprintln(w, printable(f.Seen))
		return
	}
	fmt.Fprintln(w, f.Title)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{{"seen", f.Seen}, {"expected", f.Expected}, {"why", f.Why}, {"do", f.Remedy}} {
		if line[1] != "" {
			fmt.Fprintf(tw, "          %s\t%s\n", line[0], printable(line[1]))
		}
	}
	_ = tw.Flush() // the summary's error is the writer's
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
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	hint := ""
	if !all && counts[findings.Unknown]+counts[findings.NotApplicable]+counts[findings.Pass] > 0 {
		hint = " (--all lists them)"
	}
	_, err := fmt.Fprintf(w, "%s%s\n", strings.Join(parts, ", "), hint)
	return err
}
