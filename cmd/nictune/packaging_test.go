package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
		if err := typed(strings.Fields(strings.ReplaceAll(line, "$ARGS", ""))); err != nil {
			t.Errorf("%s: nictune %s: %v", unit, line, err)
		}
	}
}

// typed is an error where there is no command that takes these arguments.
func typed(args []string) error {
	root := newRoot(&app{stdout: io.Discard, stderr: io.Discard, log: slog.New(slog.DiscardHandler)})
	c, rest, err := root.Find(args)
	switch {
	case err != nil:
		return err
	case c == root:
		return errors.New("there is no such command")
	case !c.Runnable():
		return errors.New("it runs nothing")
	}
	if err := c.ParseFlags(slices.DeleteFunc(rest, func(arg string) bool { return arg == "--help" })); err != nil {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}
