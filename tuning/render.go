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
// wants it, and how hard it hits.
func (p *Plan) WriteText(w io.Writer) error {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	targets, changes, last := 0, 0, Target{}
	var kept []string
	for i, c := range p.Changes {
		if targets == 0 || c.NIC != last {
			if targets > 0 {
				fmt.Fprintln(tw)
			}
			targets++
			last = c.NIC
			fmt.Fprintln(tw, c.NIC)
		}
		if c.Turn == Kept {
			kept = append(kept, c.Setting)
		} else {
			changes++
			c.writeText(tw)
		}
		if len(kept) > 0 && (i+1 == len(p.Changes) || p.Changes[i+1].NIC != c.NIC) {
			fmt.Fprintf(tw, "  = %s (put back, should these changes wipe them)\n", strings.Join(kept, ", "))
			kept = nil
		}
	}
	tw.Flush()
	if len(p.Changes) == 0 {
		fmt.Fprintf(&b, "No changes: all %s already as wanted.\n", count(p.Kept, "value is", "values are"))
	} else {
		fmt.Fprintf(&b, "\nPlan: %s on %s; %s already as wanted.\n", count(changes, "change", "changes"),
			count(targets, "NIC", "NICs"), count(p.Kept, "value is", "values are"))
	}
	for _, s := range p.Skipped {
		name := s.Setting
		if s.Field != "" {
			name += "." + s.Field
		}
		fmt.Fprintf(&b, "Skipped, being optional: %s: %s (%s): %s\n", s.NIC.Name, name, s.Source, s.Detail)
	}
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
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
