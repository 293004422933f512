package main

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
)

// asProgram in its environment makes the test binary nictune itself, for tests
// that need a process: signals, another user, inherited sockets.
const asProgram = "NICTUNE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	// apply --confirm starts its own binary, which in a test is this one.
	if os.Getenv(asProgram) != "" || len(os.Args) > 1 && os.Args[1] == "recover" {
		main()
	}
	// An agent in this process would take its CPUs from all tests.
	if os.Getenv("GOMAXPROCS") == "" {
		_ = os.Setenv("GOMAXPROCS", strconv.Itoa(runtime.GOMAXPROCS(0)))
	}
	// Where a hangup is ignored, as under nohup, every child would ignore it, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	nstest.Main(m)
}
