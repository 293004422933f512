package main

import (
	"os"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
)

// asProgram in its environment makes the test binary nictune itself, for tests
// that need a process: signals, another user, inherited sockets.
const asProgram = "NICTUNE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	nstest.Main(m)
}
