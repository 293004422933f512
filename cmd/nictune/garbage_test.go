package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// growth is what is set.
func growth() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}

// Work of two kinds may overlap: memory is kept low until the last of it is done.
func TestThriftLastsAsLongAsHeavyWork(t *testing.T) {
	defer debug.SetGCPercent(growth())
	t.Setenv("GOGC", "")
	var thrifty thrift
	first := thrifty.begin()
	second := thrifty.begin()
	if got := growth(); got != heavyGarbage {
		t.Errorf("%d%% at work, want %d", got, heavyGarbage)
	}
	first()
	if got := growth(); got != heavyGarbage {
		t.Errorf("%d%% while some work goes on, want %d", got, heavyGarbage)
	}
	second()
	if got := growth(); got < agentGarbage || got > commandGarbage {
		t.Errorf("%d%% at rest, want %d to %d", got, agentGarbage, commandGarbage)
	}
}

func TestRestLeavesSmallHeapsRoom(t *testing.T) {
	for inUse, want := range map[uint64]int{0: 50, 1: 400, 2 << 20: 100, 1 << 20: 200, 16 << 20: 50, 1 << 30: 50} {
		if got := restGarbage(inUse); got != want {
			t.Errorf("%d bytes in use: %d%%, want %d", inUse, got, want)
		}
	}
	if heapInUse() == 0 {
		runtime.GC()
		if heapInUse() == 0 {
			t.Error("nothing is in use")
		}
	}
}

func TestGOGCInTheEnvironmentCounts(t *testing.T) {
	defer debug.SetGCPercent(growth())
	t.Setenv("GOGC", "77")
	debug.SetGCPercent(77)
	var thrifty thrift
	done := thrifty.begin()
	if got := growth(); got != 77 {
		t.Errorf("%d%%, want what the environment says", got)
	}
	done()
	if got := growth(); got != 77 {
		t.Errorf("%d%%, want what the environment says", got)
	}
}
