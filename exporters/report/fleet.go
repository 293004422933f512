package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
)

// FleetText writes a fleet's report for a terminal: what says something, and of long
// rows what fits people.
func FleetText(w io.Writer, r *fleet.Report) error {
	b := &strings.Builder{}
	for _, sentence := range scope(r) {
		fmt.Fprintln(b, line(sentence))
	}
	for _, t := range fleetTables(r) {
		writeText(b, t)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// FleetMarkdown writes the same as GitHub's Markdown.
func FleetMarkdown(w io.Writer, r *fleet.Report) error {
	m := &markdown{}
	m.printf("# NICs of a fleet\n\n")
	for _, sentence := range scope(r) {
		m.printf("%s\n\n", escaped(sentence))
	}
	for _, t := range fleetTables(r) {
		writeMarkdown(m, t)
	}
	_, err := w.Write(m.Bytes())
	return err
}

// FleetCSV writes one table of a fleet's report, whole, as [CSV] writes findings.
func FleetCSV(w io.Writer, r *fleet.Report, name string) error {
	all := fleetTables(r)
	i := slices.IndexFunc(all, func(t table) bool { return t.name == name })
	if i < 0 {
		return fmt.Errorf("there is no table %q: use one of %s", name, strings.Join(FleetTables(), ", "))
	}
	return writeCSV(w, all[i])
}

// DifferenceText writes what changed between two reports of a fleet for a terminal.
func DifferenceText(w io.Writer, d *fleet.Difference) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s at %s, %d at %s\n", several(d.HostsBefore, "host"), text(d.Before), d.HostsNow, text(d.Now))
	t := changesTable(d)
	t.note = changesInWords(d) + "."
	writeText(b, t)
	if len(t.rows) == 0 {
		fmt.Fprintln(b, "Nothing changed.")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// DifferenceMarkdown is the same as Markdown.
func DifferenceMarkdown(w io.Writer, d *fleet.Difference) error {
	m := &markdown{}
	m.printf("# What changed in a fleet\n\n%s at %s, %d at %s.\n\n", several(d.HostsBefore, "host"), text(d.Before), d.HostsNow, text(d.Now))
	t := changesTable(d)
	writeMarkdown(m, t)
	if len(t.rows) == 0 {
		m.printf("Nothing changed.\n")
	}
	_, err := w.Write(m.Bytes())
	return err
}

// DifferenceCSV is the same as CSV.
func DifferenceCSV(w io.Writer, d *fleet.Difference) error {
	t := changesTable(d)
	t.columns[0] = "trend"
	return writeCSV(w, t)
}

// scope says in sentences what a report is about.
func scope(r *fleet.Report) []string {
	s := r.Scope
	from := "reports"
	if s.Source == "prometheus" {
		from = "Prometheus"
	}
	if len(s.Inputs) > 0 {
		from += " (" + strings.Join(s.Inputs[:min(len(s.Inputs), 3)], ", ")
		if more := len(s.Inputs) - 3; more > 0 {
			from += fmt.Sprintf(" and %d more", more)
		}
		from += ")"
	}
	what := fmt.Sprintf("%s, %s, %s, from %s", several(s.Hosts, "host"), several(s.NICs, "NIC"), several(s.VFs, "VF"), from)
	if s.Host != "" {
		what = fmt.Sprintf("Host %s: ", s.Host) + what
	}
	all := []string{what}
	if s.Oldest != nil && s.Newest != nil {
		all = append(all, fmt.Sprintf("Judged between %s and %s: %s to %s ago", text(s.Oldest), text(s.Newest),
			duration(r.GeneratedAt.Sub(*s.Newest).Seconds()), duration(r.GeneratedAt.Sub(*s.Oldest).Seconds())))
	}
	var absent []string
	for _, l := range []struct {
		word string
		n    int
	}{{"missing", s.Missing.Count}, {"stale", s.Stale.Count}, {"ahead of time", s.Ahead.Count}, {"unexpected", s.Unexpected.Count}} {
		if l.n > 0 {
			absent = append(absent, fmt.Sprintf("%d %s", l.n, l.word))
		}
	}
	switch {
	case s.Expected != nil:
		all = append(all, fmt.Sprintf("%s expected: %s", several(*s.Expected, "host"), strings.Join(append(absent, fmt.Sprintf("%d counted", s.Hosts)), ", ")))
	case len(absent) > 0:
		all = append(all, "Not counted: "+strings.Join(absent, ", "))
	}
	if s.Superseded+s.Rejected > 0 {
		all = append(all, fmt.Sprintf("%s gave way to a newer one, %d could not be used", several(s.Superseded, "report"), s.Rejected))
	}
	if s.Hosts == 0 {
		all = append(all, "No host counts: this says nothing of the fleet.")
	} else if r.Hosts.Failing == 0 {
		all = append(all, "Nothing fails on the hosts that count.")
	}
	if n := r.Counts[findings.Error]; n > 0 {
		all = append(all, several(n, "verdict")+" could not be given.")
	}
	if n := r.Problems.Counts[fleet.HostProblem]; n > 0 {
		all = append(all, "Hosts tell of "+several(n, "problem")+" of their own.")
	}
	if r.Problems.Counts[fleet.Incomplete] > 0 {
		all = append(all, "Not all is in this report: see the problems.")
	}
	return all
}

// several is a number of things in words.
func several(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}

// shortened is how many rows of a table text and Markdown show of names and problems.
const shortened = 50

// brief is what people see of a table.
func (t *table) shown() (rows [][]string, leftOut int) {
	n := len(t.rows)
	if t.brief >= 0 {
		n = t.brief
	}
	n = min(n, shortened)
	leftOut = t.leftOut
	if t.brief < 0 || t.brief > shortened {
		leftOut += len(t.rows) - n
	}
	return t.rows[:n], leftOut
}

func writeText(b *strings.Builder, t table) {
	rows, leftOut := t.shown()
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", strings.ToUpper(t.title))
	if t.note != "" {
		fmt.Fprintf(b, "%s\n", line(t.note))
	}
	columns, keep := filled(t.columns, rows)
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = strings.ToUpper(c)
	}
	fmt.Fprintln(tw, strings.TrimRight(strings.Join(head, "\t"), "\t"))
	for _, row := range rows {
		cells := make([]string, len(keep))
		for i, k := range keep {
			cells[i] = strings.ReplaceAll(line(row[k]), "\t", " ")
			if cells[i] == "" {
				cells[i] = "-"
			}
			if i < len(keep)-1 { // nothing stands behind the last
				cells[i] = middling(cells[i])
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	tw.Flush()
	if leftOut > 0 {
		fmt.Fprintf(b, "... and %d more\n", leftOut)
	}
}

// widest is how many characters of a cell a terminal gets: the longest names of models
// have as many. One host that calls itself something longer would push what stands beside
// it off everybody's screen.
const widest = 90

// middling is text without its middle where it is longer than a cell: a path is told by its
// end, a name by its beginning.
func middling(s string) string {
	all := []rune(s)
	if len(all) <= widest {
		return s
	}
	const end = widest / 3
	return string(all[:widest-end-1]) + "…" + string(all[len(all)-end:])
}

// filled are the columns in which a row says something.
func filled(columns []string, rows [][]string) (names []string, keep []int) {
	for i, c := range columns {
		if slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			names = append(names, c)
			keep = append(keep, i)
		}
	}
	return names, keep
}

func writeMarkdown(m *markdown, t table) {
	rows, leftOut := t.shown()
	if len(rows) == 0 {
		return
	}
	m.printf("## %s\n\n", t.title)
	if t.note != "" {
		m.printf("%s\n\n", escaped(t.note))
	}
	columns, keep := filled(t.columns, rows)
	m.table(columns...)
	for _, row := range rows {
		m.printf("|")
		for _, k := range keep {
			m.printf(" %s |", escaped(row[k]))
		}
		m.printf("\n")
	}
	m.printf("\n")
	if leftOut > 0 {
		m.printf("And %d more.\n\n", leftOut)
	}
}

func writeCSV(w io.Writer, t table) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	head := make([]string, len(t.columns))
	for i, name := range t.columns {
		head[i] = strings.NewReplacer(" ", "_", "'", "", "/", "_per_", "(", "", ")", "").Replace(strings.ToLower(name))
	}
	if err := c.Write(head); err != nil {
		return err
	}
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i := range row {
			cells[i] = number(row[i])
		}
		if err := c.Write(cells); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// number is a cell that may be a number, which no spreadsheet need be kept from.
func number(s string) string {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return s
	}
	return cell(s)
}
