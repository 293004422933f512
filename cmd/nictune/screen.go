package main

import (
	"fmt"
	"os"
	"time"

	"github.com/nictune/nictune/exporters/terminal"
	"github.com/nictune/nictune/internal/kernel"
)

// screen is where the output goes: no terminal, or one with so many columns, in
// colour unless https://no-color.org says otherwise.
func (a *app) screen() terminal.Screen {
	f, ok := a.stdout.(*os.File)
	if !ok {
		return terminal.Screen{}
	}
	columns, ok := kernel.ScreenWidth(f)
	if !ok {
		return terminal.Screen{}
	}
	return terminal.Screen{Columns: columns, Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// sayWait tells a person at a terminal that nothing hangs.
func (a *app) sayWait(d time.Duration) {
	f, ok := a.stderr.(*os.File)
	if !ok {
		return
	}
	if _, ok := kernel.ScreenWidth(f); ok {
		fmt.Fprintf(f, "watching for %s ...\n", d)
	}
}
