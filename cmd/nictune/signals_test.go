package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// blocked is nictune apply as a process of its own, at its first word on standard
// error: a change is in the journal and not yet written to the host. Nobody reads
// what it says until read is drained or closed.
func blocked(t *testing.T, state string) (process *exec.Cmd, read *os.File) {
	t.Helper()
	nstest.Require(t)
	nstest.Link(t, "sig0", "type ifb")
	policy := filepath.Join(t.TempDir(), "gro.yaml")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: gro\nmatch: {name: sig0}\nsettings:\n  features: {rx-gro: off}\n"
	if err := os.WriteFile(policy, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	read, write := os.NewFile(uintptr(ends[0]), "progress"), os.NewFile(uintptr(ends[1]), "progress")
	t.Cleanup(func() { read.Close() })
	defer write.Close()
	if err := syscall.SetNonblock(ends[1], true); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := syscall.Write(ends[1], []byte{'\n'}); errors.Is(err, syscall.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(ends[1], false); err != nil {
		t.Fatal(err)
	}
	process = exec.Command("/proc/self/exe", "apply", "-f", policy, "--state-dir", state)
	process.Env = append(os.Environ(), asProgram+"=1")
	process.Stderr = write
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	if !comes(func() bool {
		b, _ := os.ReadFile(filepath.Join(state, "pending/000001.journal"))
		return strings.Contains(string(b), `"kind":"writing"`)
	}) {
		_ = process.Process.Kill()
		t.Fatalf("the apply has not begun after %v", patience)
	}
	return process, read
}

func outcome(t *testing.T, state string) tuning.Outcome {
	t.Helper()
	all, err := tuning.History(state)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	return all[0].Outcome
}

func TestApplyOutlivesTheReaderOfItsProgress(t *testing.T) {
	state := t.TempDir()
	process, read := blocked(t, state)
	read.Close()
	if err := process.Wait(); err != nil || outcome(t, state) != tuning.Applied {
		t.Errorf("%v, outcome %s", err, outcome(t, state))
	}
}

// A lost SSH session ends an apply as Ctrl-C does.
func TestHangupUndoesAnApply(t *testing.T) {
	state := t.TempDir()
	process, read := blocked(t, state)
	if err := process.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // until the signal is there: its sender is not told
	read.Close()
	_ = process.Wait()
	if code := process.ProcessState.ExitCode(); code != exitError || outcome(t, state) != tuning.Undone {
		t.Errorf("exit %d, outcome %s", code, outcome(t, state))
	}
}
