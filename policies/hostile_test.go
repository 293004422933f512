package policies

import (
	"fmt"
	"strings"
	"testing"
)

// fill repeats a text to the largest size that Parse reads.
func fill(before, repeat, after string) []byte {
	n := (MaxSize - len(before) - len(after)) / len(repeat)
	return []byte(before + strings.Repeat(repeat, n) + after)
}

// numbered is fill with a number in each repetition.
func numbered(before, format, after string) []byte {
	var b strings.Builder
	b.WriteString(before)
	for i := 0; b.Len() < MaxSize-len(after)-len(format)-8; i++ {
		fmt.Fprintf(&b, format, i)
	}
	b.WriteString(after)
	return []byte(b.String())
}

// cut keeps the first lines, so that a file gets past the limit of tokens.
func cut(data []byte, lines int) []byte {
	parts := strings.SplitAfterN(string(data), "\n", lines+1)
	return []byte(strings.Join(parts[:min(lines, len(parts))], ""))
}

// hostile are files of the largest size, and some of the largest number of
// tokens, each made to cost as much as it can.
func hostile() map[string][]byte {
	open := head + "match: {}\nsettings:\n"
	return map[string][]byte{
		"flow lists":         fill("", "[", ""),
		"flow mappings":      fill("", "{a: ", ""),
		"block lists":        fill("", "- ", ""),
		"block mappings":     fill("", "a:\n", ""),
		"keys of keys":       fill("", "a: ", ""),
		"keys of flow keys":  fill("[", "a: ", "]"),
		"complex keys":       fill("", "? ", ""),
		"colons":             fill("", ": ", ""),
		"brackets in turn":   fill("", "[]: ", ""),
		"commas":             fill("[", ",", "]"),
		"empty documents":    fill("", "---\n", ""),
		"documents":          fill("", "---\na\n", ""),
		"comments":           fill("", "#\n", ""),
		"anchors":            fill("", "&a ", ""),
		"tags":               fill("", "!!a ", ""),
		"one word":           fill("", "a", ""),
		"quotes":             fill("", "'", ""),
		"escapes":            fill(`"`, `\n`, `"`),
		"folded":             fill("a: >\n", "  b\n", ""),
		"spaces":             fill("", " ", "x"),
		"one list":           fill(head+"match: {name: [", "a,", "b]}\nsettings: "+fine+"\n"),
		"unknown kinds":      fill(head+"match: {kind: [", "vff,", "vf]}\nsettings: "+fine+"\n"),
		"stars":              fill(head+"match: {name: [", `"`+strings.Repeat("*a", 100)+`",`, "b]}\nsettings: "+fine+"\n"),
		"unknown keys":       numbered(head, "drvr%d: 1\n", ""),
		"unknown fields":     numbered(open+"  rings:\n", "    rx-mini-%d: 1\n", ""),
		"unknown settings":   numbered(open, "  rings%d: {rx: 1}\n", ""),
		"open fields":        numbered(open+"  features:\n", "    f%d: on\n", ""),
		"duplicate keys":     fill(open+"  features:\n", "    f: on\n", ""),
		"just short, null":   cut(fill("", "a:\n", ""), maxTokens/2),
		"just short, commas": fill("[", ",", "]")[:maxTokens],
		"just short, keys":   cut(numbered(head, "drvr%d: 1\n", ""), maxTokens/3),
		"just short, open":   cut(numbered(open+"  features:\n", "    f%d: on\n", ""), maxTokens/3),
		"just short, twice":  cut(fill(open+"  features:\n", "    f: on\n", ""), maxTokens/3),
		"many, just short":   []byte(strings.Repeat(string(cut(fill("", "a:\n", ""), maxTokens/2))+"---\n", 17)),
		"policies":           numbered("", strings.Replace(in("{}", fine), "edge", "p%d", 1)+"---\n", ""),
	}
}

// A file made to exhaust the reader is read or refused like any other. The limit
// of time is the test's own; the figures are in BenchmarkHostile.
func TestHostile(t *testing.T) {
	for name, data := range hostile() {
		t.Run(name, func(t *testing.T) { digest(t, data) })
	}
}

// digest does with a file all that this package does.
func digest(t testing.TB, data []byte) {
	policies, err := Parse("hostile.yaml", data)
	if err == nil {
		policies, err = Bind(policies, testCatalogue())
	}
	if err != nil {
		if n := len(err.Error()); n > 64<<10 {
			t.Errorf("a message of %d bytes", n)
		}
		return
	}
	if _, _, err := Resolve(policies, Host{}, nics()); err != nil {
		t.Errorf("resolve: %v", err)
	}
}

// Two policies that contradict each other in every line.
func TestManyConflicts(t *testing.T) {
	say := func(name, value string) string {
		var b strings.Builder
		b.WriteString(strings.Replace(head, "edge", name, 1) + "match: {}\nsettings:\n  features:\n")
		for i := range 3000 {
			fmt.Fprintf(&b, "    f%d: %s\n", i, value)
		}
		return b.String()
	}
	a, b := parse(t, "a.yaml", say("a", "on")), parse(t, "b.yaml", say("b", "off"))
	_, _, err := Resolve(append(a, b...), Host{}, nics())
	if err == nil {
		t.Fatal("no conflict")
	}
	if text := err.Error(); strings.Count(text, "conflict: ") != enough || !strings.Contains(text, "conflicts more") || len(text) > 64<<10 {
		t.Errorf("a message of %d bytes with %d conflicts", len(text), strings.Count(text, "conflict: "))
	}
}

func BenchmarkHostile(b *testing.B) {
	for name, data := range hostile() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				digest(b, data)
			}
		})
	}
}
