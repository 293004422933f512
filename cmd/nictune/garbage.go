package main

import (
	"os"
	"runtime/debug"
	"sync"
)

// How much the heap may grow before garbage is collected, in percent of what is in
// use, where GOGC in the environment doesn't say.
const (
	// A command ends in a moment: collecting its garbage was a tenth of its CPU time.
	// This lets the heap reach 16 MiB before that.
	commandGarbage = 400
	// An agent stays, and its scrapes leave little garbage.
	agentGarbage = 50
	// Reading and judging a host leaves much, and happens seldom.
	heavyGarbage = 25
)

// collectAt sets the growth, unless the environment does.
func collectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// thrift keeps an agent's memory low while it does heavy work.
type thrift struct {
	mu   sync.Mutex
	work int
}

// begin is an [agent.Options]' Heavy.
func (t *thrift) begin() (done func()) {
	t.add(1)
	return func() { t.add(-1) }
}

func (t *thrift) add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.work
	t.work += n
	switch {
	case before == 0:
		collectAt(heavyGarbage)
	case t.work == 0:
		collectAt(agentGarbage)
	}
}
