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
	nics, last := 0, Target{}
	for _, c := range p.Changes {
		if nics == 0 || c.NIC != last {
			if nics > 0 {
				fmt.Fprintln(tw)
			}
			nics++
			last = c.NIC
			fmt.Fprintln(tw, c.NIC)
		}
		fmt.Fprintf(tw, "  ~ %s (%s)\n", c.Setting, c.Impact)
		for _, f := range c.Fields {
			fmt.Fprintf(tw, "      %s\t%s\t->\t%s\t%s\n", f.Name, show(f.Before), show(f.After), origin(f))
		}
	}
	tw.Flush()
	if len(p.Changes) == 0 {
		fmt.Fprintf(&b, "No changes: all %s already as wanted.\n", count(p.Kept, "value is", "values are"))
	} else {
		fmt.Fprintf(&b, "\nPlan: %s on %s; %s already as wanted.\n", count(len(p.Changes), "change", "changes"),
			count(nics, "NIC", "NICs"), count(p.Kept, "value is", "values are"))
	}
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
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
