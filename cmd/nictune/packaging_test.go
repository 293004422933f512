package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The units start commands that exist, with flags that these have.
func TestUnitsStartWhatThereIs(t *testing.T) {
	units, err := filepath.Glob("../../packaging/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	units = append(units, "../../packaging/enforce.conf") // a drop-in for one of them
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, ok := strings.Cut(string(text), "\nExecStart=/usr/local/bin/nictune ")
		if !ok {
			t.Errorf("%s doesn't start nictune where make install puts it", unit)
			continue
		}
		line, _, _ := strings.Cut(rest, "\n")
		root := newRoot(&app{stdout: io.Discard, stderr: io.Discard})
		cmd, args, err := root.Find(strings.Fields(strings.ReplaceAll(line, "$ARGS", "")))
		if err != nil || cmd == root {
			t.Errorf("%s: nictune %s: %v", unit, line, err)
			continue
		}
		if err := cmd.ParseFlags(args); err != nil {
			t.Errorf("%s: nictune %s: %v", unit, line, err)
		}
	}
}
