package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// How much the heap may grow before garbage is collected, in percent of what is in
// use, where GOGC in the environment doesn't say.
const (
	// A command ends in a moment: collecting its garbage was a tenth of its CPU time.
	// This lets the heap reach 16 MiB before that.
	commandGarbage = 400
	// An agent stays, and its scrapes leave little garbage: what is in use may grow by half,
	// but by no less than agentRoom. With 100 devices garbage is collected after every
	// sixteen scrapes so, and was after every six, which took a seventh of each.
	agentGarbage = 50
	agentRoom    = 2 << 20
	// Reading and judging a host leaves much, and happens seldom.
	heavyGarbage = 25
)

// collectAt sets the growth, unless the environment does.
func collectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// restGarbage is an agent's percentage between its heavy works, by what is in use (0: that
// isn't known).
func restGarbage(inUse uint64) int {
	if inUse == 0 {
		return agentGarbage
	}
	return min(max(agentGarbage, int(agentRoom*100/inUse)), commandGarbage)
}

// heapInUse is what the last collection of garbage left; 0 where this Go doesn't tell.
func heapInUse() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
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
		// What the work left must not count as in use.
		runtime.GC()
		collectAt(restGarbage(heapInUse()))
	}
}
