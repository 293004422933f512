package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a runbook tells somebody to type at night is a command that there is, with flags
// that it has.
func TestRunbooksNameCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d runbooks: %v", len(pages), err)
	}
	tried := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandsIn(string(text)) {
			tried++
			if err := typed(strings.Fields(line)[1:]); err != nil {
				t.Errorf("%s: %q: %v", filepath.Base(page), line, err)
			}
		}
	}
	if tried < 40 {
		t.Errorf("%d commands", tried)
	}
}

// commandsIn are the calls of nictune in a page: lines of code, and what stands between
// backquotes.
func commandsIn(page string) (all []string) {
	code := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			code = !code
			continue
		}
		pieces := []string{line}
		if !code {
			pieces = nil
			for i, piece := range strings.Split(line, "`") {
				if i%2 == 1 {
					pieces = append(pieces, piece)
				}
			}
		}
		for _, piece := range pieces {
			piece, _, _ = strings.Cut(piece, "#")
			piece, _, _ = strings.Cut(piece, "|")
			if piece = strings.TrimSpace(piece); strings.HasPrefix(piece, "nictune ") {
				all = append(all, piece)
			}
		}
	}
	return all
}
