package inventory

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

//go:generate go test -run TestGoldenCounters -update .

var update = flag.Bool("update", false, "rewrite the golden files")

// docs/counters.md lists the names that the program knows.
func TestGoldenCounters(t *testing.T) {
	const page, begin, end = "../docs/counters.md", "<!-- counters -->\n", "<!-- end -->"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the counters", page)
	}
	want := before + begin + countersText() + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(data) != want {
		t.Errorf("%s is stale: run go generate ./inventory", page)
	}
}

func countersText() string {
	var b strings.Builder
	b.WriteString("\n## Meanings\n\n| meaning | counts |\n|---|---|\n")
	for _, m := range Meanings() {
		fmt.Fprintf(&b, "| %s | %s |\n", m.Meaning, m.Doc)
	}
	for _, d := range KnownCounters() {
		fmt.Fprintf(&b, "\n## %s\n\nSource: %s.\n\n| name | direction | meaning |\n|---|---|---|\n", d.Driver, d.Source)
		for _, n := range d.Names {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", n.Pattern, n.Direction, n.Meaning)
		}
	}
	return b.String() + "\n"
}
