package inventory

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// run runs a command line, words separated by blanks.
func run(t *testing.T, line string) []byte {
	t.Helper()
	words := strings.Fields(line)
	return nstest.Run(t, words[0], words[1:]...)
}

// neighbour makes a second network namespace for as long as the test runs, and
// returns the id of a process in it.
func neighbour(t *testing.T) string {
	t.Helper()
	nstest.Require(t)
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return strconv.Itoa(cmd.Process.Pid)
}

// try runs a command line that this kernel may lack the means for, and reports
// whether it did.
func try(t *testing.T, line string) bool {
	t.Helper()
	nstest.Require(t)
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	switch {
	case err == nil:
		return true
	case labtest.Profile() != "": // its kernel has everything
	case bytes.Contains(out, []byte("Operation not supported")), bytes.Contains(out, []byte("Unknown device type")):
		t.Logf("not on this kernel: %s: %s", line, out)
		return false
	}
	t.Fatalf("%s: %v\n%s", line, err, out)
	return false
}

// runJSON decodes what a command prints.
func runJSON[T any](t *testing.T, line string) T {
	t.Helper()
	var v T
	out := run(t, line)
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return v
}

// open connects to the running kernel for one test.
func open(t *testing.T) *kernel.Live {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := live.Close(); err != nil {
			t.Error(err)
		}
	})
	return live
}

// eventually calls compare until it finds no difference: the kernel and the
// neighbours in the namespace change things by themselves between two reads.
func eventually(t *testing.T, compare func() string) {
	t.Helper()
	var different string
	for range 20 {
		if different = compare(); different == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error(different)
}
