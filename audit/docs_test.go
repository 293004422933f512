package audit

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/findings"
)

//go:generate go test -run "TestGoldenRules|TestRuleIDsStay" -update .

var update = flag.Bool("update", false, "rewrite the golden files")

const page = "../docs/rules.md"

// docs/rules.md lists the rules that the program has.
func TestGoldenRules(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- rules -->\n", "<!-- end -->"
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the rules", page)
	}
	want := before + begin + rulesText() + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(data) != want {
		t.Errorf("%s is stale: run go generate ./audit", page)
	}
}

func rulesText() string {
	var b strings.Builder
	for _, g := range append(Groups(), PolicyGroup()) {
		command := "check " + g.Name
		if g.Name == "policy" {
			command = "audit -f FILES"
		}
		fmt.Fprintf(&b, "\n## %s\n\nWhat `nictune %s` judges: %s.\n", g.Name, command, g.Doc)
		for _, r := range g.Rules() {
			fmt.Fprintf(&b, "\n### %s\n\n%s: %s.\n\n%s\n\nWhat to do: %s\n\nSources: %s.\n", r.ID, r.Severity, r.Title, r.Why, r.Remedy, strings.Join(r.Sources, "; "))
		}
	}
	return b.String() + "\n"
}

// Every rule explains itself, and its id is one that a waiver and a query can name.
func TestRulesExplainThemselves(t *testing.T) {
	id := regexp.MustCompile(`^[a-z]+/[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	for _, g := range append(Groups(), PolicyGroup()) {
		for _, r := range g.Rules() {
			switch {
			case !id.MatchString(r.ID) || r.Group() != g.Name:
				t.Errorf("%s: want %s/words-with-hyphens", r.ID, g.Name)
			case seen[r.ID]:
				t.Errorf("%s is there twice", r.ID)
			case !slices.Contains(findings.Severities(), r.Severity):
				t.Errorf("%s: severity %q", r.ID, r.Severity)
			case r.Title == "" || strings.HasSuffix(r.Title, "."):
				t.Errorf("%s: title %q", r.ID, r.Title)
			case !strings.HasSuffix(r.Why, ".") || !strings.HasSuffix(r.Remedy, "."):
				t.Errorf("%s: why and remedy are whole sentences", r.ID)
			case len(r.Sources) == 0 || slices.Contains(r.Sources, ""):
				t.Errorf("%s names no source", r.ID)
			}
			seen[r.ID] = true
		}
	}
}

// An id that users may have waived or asked for stays: testdata/rules.txt keeps all
// that there ever were, and -update adds to it only.
func TestRuleIDsStay(t *testing.T) {
	const file = "testdata/rules.txt"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known, now := strings.Fields(string(data)), map[string]bool{}
	var added []string
	for _, r := range Rules() {
		now[r.ID] = true
		if !slices.Contains(known, r.ID) {
			added = append(added, r.ID)
		}
	}
	for _, id := range known {
		if !now[id] {
			t.Errorf("rule %s is gone: policies and waivers name it", id)
		}
	}
	switch {
	case len(added) > 0 && *update:
		all := slices.Sorted(slices.Values(append(known, added...)))
		if err := os.WriteFile(file, []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	case len(added) > 0:
		t.Errorf("%s lacks %v: run go generate ./audit", file, added)
	}
}
