package tuning

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteText writes the plan for people: what would change from what to what, who
// wants it, and how hard it hits. What reads alike of several NICs is there once.
func (p *Plan) WriteText(w io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	var bodies []string // in the order of the first NIC of each
	alike := map[string][]Target{}
	nics, changes, where := 0, 0, ""
	for rest := p.Changes; len(rest) > 0; {
		target, n := rest[0].NIC, 1
		for n < len(rest) && rest[n].NIC == target {
			n++
		}
		body, made := textOf(rest[:n])
		if alike[body] == nil {
			bodies = append(bodies, body)
		}
		alike[body] = append(alike[body], target)
		changes += made
		if target == TargetOf(nil) {
			where = "the host"
		} else {
			nics++
		}
		rest = rest[n:]
	}
	for i, body := range bodies {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		for _, target := range alike[body] {
			fmt.Fprintln(tw, target)
		}
		fmt.Fprint(tw, body)
	}
	tw.Flush()
	switch {
	case nics > 0 && where != "":
		where = count(nics, "NIC", "NICs") + " and " + where
	case nics > 0:
		where = count(nics, "NIC", "NICs")
	}
	if len(p.Changes) == 0 {
		fmt.Fprintf(&b, "No changes: %s already as wanted.\n", count(p.Kept, "value is", "values are"))
	} else {
		fmt.Fprintf(&b, "\nPlan: %s on %s; %s already as wanted.\n", count(changes, "change", "changes"),
			where, count(p.Kept, "value is", "values are"))
	}
	p.writeNotes(&b)
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
}

// textOf is what a plan does to one target, and how many changes that are.
func textOf(changes []Change) (text string, made int) {
	var b strings.Builder
	var kept []string
	for i := range changes {
		if changes[i].Turn == Kept {
			if len(changes[i].Goal) > 0 {
				kept = append(kept, changes[i].Setting)
			}
			continue
		}
		made++
		changes[i].writeText(&b)
	}
	if len(kept) > 0 {
		fmt.Fprintf(&b, "  = %s (put back, should these changes wipe them)\n", strings.Join(kept, ", "))
	}
	return b.String(), made
}

// writeNotes writes a line for what is lacking or in doubt, and names all NICs of
// which that holds.
func (p *Plan) writeNotes(w io.Writer) {
	var notes [][2]string
	nics := map[[2]string][]string{}
	note := func(nic Target, kind, what string) {
		n := [2]string{kind, what}
		if nics[n] == nil {
			notes = append(notes, n)
		}
		nics[n] = append(nics[n], nic.Name)
	}
	for _, s := range p.Skipped {
		name := s.Setting
		if s.Field != "" {
			name += "." + s.Field
		}
		note(s.NIC, "Skipped, being optional", fmt.Sprintf("%s (%s): %s", name, s.Source, s.Detail))
	}
	for _, d := range p.Doubts {
		note(d.NIC, "May not last", d.Setting+": "+d.Detail)
	}
	for _, n := range notes {
		fmt.Fprintf(w, "%s: %s: %s\n", n[0], several(nics[n]), n[1])
	}
}

// writeText writes a line for the change and one for each of its fields.
func (c *Change) writeText(w io.Writer) {
	switch c.Turn {
	case MakingWay:
		fmt.Fprintf(w, "  ~ %s (%s, to make way)\n", c.Setting, c.Impact)
	case Late:
		fmt.Fprintf(w, "  ~ %s (%s, after what it depends on)\n", c.Setting, c.Impact)
	default:
		fmt.Fprintf(w, "  ~ %s (%s)\n", c.Setting, c.Impact)
	}
	for _, f := range c.Fields {
		asked := ""
		if f.Asked != nil {
			asked = fmt.Sprintf(" (asked for %s)", show(f.Asked))
		}
		fmt.Fprintf(w, "      %s\t%s\t->\t%s%s\t%s\n", f.Name, show(f.Before), show(f.After), asked, origin(f))
	}
	if c.Turn == Late && len(c.Fields) == 0 {
		fmt.Fprintf(w, "      as now\t\t\t\t%s\n", origin(Field{Source: c.Source}))
	}
}

// trimLines drops the blanks that a table puts after its last column.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// String is "eth1 (0000:01:00.0/52:54:00:11:22:33)", or the name where that is
// all there is.
func (t Target) String() string {
	if t.ID == t.Name {
		return t.Name
	}
	return fmt.Sprintf("%s (%s)", t.Name, t.ID)
}

func origin(f Field) string {
	if f.Source.File == "" {
		return ""
	}
	return f.Source.String()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// show is a value in ethtool's words: on and off for booleans, words unquoted.
func show(v json.RawMessage) string {
	var word string
	var list []json.RawMessage
	switch {
	case v == nil:
		return "n/a"
	case string(v) == "true":
		return "on"
	case string(v) == "false":
		return "off"
	case json.Unmarshal(v, &word) == nil:
		return word
	case json.Unmarshal(v, &list) == nil && len(list) > 0:
		return showList(list)
	default:
		return string(v)
	}
}

// showList is a list with repetitions folded: a table of 128 entries reads
// "[0 1 2 3] x 32", or "0 x 64, 1 x 64".
func showList(list []json.RawMessage) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = show(v)
	}
	for period := 1; period <= len(words)/2; period++ {
		if len(words)%period == 0 && slices.Equal(words[period:], words[:len(words)-period]) {
			return fmt.Sprintf("[%s] x %d", strings.Join(words[:period], " "), len(words)/period)
		}
	}
	var runs []string
	for start := 0; start < len(words); {
		end := start + 1
		for end < len(words) && words[end] == words[start] {
			end++
		}
		runs = append(runs, fmt.Sprintf("%s x %d", words[start], end-start))
		start = end
	}
	if len(runs) > len(words)/2 {
		return "[" + strings.Join(words, " ") + "]"
	}
	return strings.Join(runs, ", ")
}
