package labtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A VM is a machine that a test on the host boots by itself, to cut its power and boot it again.
// Such tests live in *_labhost_test.go with //go:build labhost; make lab-test runs them.
type VM struct {
	Profile string   // "nics" if empty
	Disk    string   // file with the disk at /persist; made when it is not there
	Share   string   // host folder at /share
	Files   []string // host files that the guest finds in /lab
	Append  string   // more words for the kernel's command line
	CutOn   string   // cut the power when this text appears in the output; the machine must not end before
}

// Run boots the machine, runs a command in it with sh, and returns what the command wrote and its
// exit code (0 when the power was cut on CutOn, 99 after PowerCut). The test ends when the machine
// does not do that.
func (v VM) Run(t testing.TB, command string) (output string, code int) {
	t.Helper()
	args := []string{"run", "-timeout", "5m"}
	for name, value := range map[string]string{"-p": v.Profile, "-disk": v.Disk, "-share": v.Share, "-append": v.Append, "-cut-on": v.CutOn} {
		if value != "" {
			args = append(args, name, value)
		}
	}
	for _, f := range v.Files {
		args = append(args, "-file", f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, runner(t), append(args, command)...)
	// The runner ends its VM when it is asked to end.
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	err := c.Run()
	var exit *exec.ExitError
	const failed = 125 // of the runner, not of the command
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() == failed || exit.ExitCode() < 0) {
		t.Fatalf("lab/vm %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), complaint.String())
	}
	return out.String(), c.ProcessState.ExitCode()
}

// runner is lab/vm of this module.
func runner(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "lab", "vm")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("no lab/vm above the test's folder")
	return ""
}
