package main

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// unconfirmed is a device, a policy for it, and a state directory.
type unconfirmed struct {
	device, policy, state string
}

func newUnconfirmed(t *testing.T, device string) unconfirmed {
	t.Helper()
	nstest.Link(t, device, "type ifb")
	dir := t.TempDir()
	u := unconfirmed{device, filepath.Join(dir, "gro.yaml"), filepath.Join(dir, "state")}
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: gro\nmatch: {name: " + device + "}\nsettings:\n  features: {rx-gro: off}\n"
	if err := os.WriteFile(u.policy, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return u
}

// apply starts nictune apply --confirm as a process of its own, with a session of
// its own as a login has, and waits until its change is made.
func (u unconfirmed) apply(t *testing.T, confirm string, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"apply", "-f", u.policy, "--state-dir", u.state, "--confirm", confirm}, args...)
	process := exec.Command("/proc/self/exe", args...)
	process.Env = append(os.Environ(), asProgram+"=1")
	var said strings.Builder
	process.Stdout, process.Stderr = &said, &said
	process.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
		u.alone(t)
		if t.Failed() {
			t.Log(said.String())
		}
	})
	u.until(t, tuning.Unconfirmed)
	return process
}

// until waits for the first transaction to have an outcome.
func (u unconfirmed) until(t *testing.T, want tuning.Outcome) tuning.Transaction {
	t.Helper()
	var got tuning.Transaction
	if !comes(func() bool {
		if all := transactions(t, u.state); len(all) > 0 {
			got = all[0]
		}
		return got.Outcome == want
	}) {
		t.Fatalf("after %v it is %q, not %q", patience, got.Outcome, want)
	}
	return got
}

func (u unconfirmed) gro(t *testing.T) bool {
	t.Helper()
	return strings.Contains(string(nstest.Run(t, "ethtool", "-k", u.device)), "generic-receive-offload: on")
}

// takenBack checks that the change was taken back, and why.
func (u unconfirmed) takenBack(t *testing.T, why string) {
	t.Helper()
	end := u.until(t, tuning.Undone)
	if !strings.Contains(end.UndoReason, why) || !u.gro(t) {
		t.Errorf("undone because %q, want %q; GRO is on: %v", end.UndoReason, why, u.gro(t))
	}
	// Nobody can confirm it any more.
	stdout, stderr, exit := nictune(t, "confirm", "1", "--state-dir", u.state)
	if exit != exitRefused || !strings.Contains(stderr, "transaction 1 can't be confirmed any more") || !strings.Contains(stderr, why) {
		t.Errorf("confirm: exit %d\n%s%s", exit, stdout, stderr)
	}
}

func TestForegroundTakesBack(t *testing.T) {
	u := newUnconfirmed(t, "cf0")
	started := time.Now()
	process := u.apply(t, "2s")
	if u.gro(t) {
		t.Error("the change is not made")
	}
	stdout, _, _ := nictune(t, "history", "--state-dir", u.state)
	if !strings.Contains(stdout, "unconfirmed, ") || !strings.Contains(stdout, "s left") {
		t.Errorf("history:\n%s", stdout)
	}
	err := process.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitError {
		t.Errorf("it ends with %v", err)
	}
	if took := time.Since(started); took < 2*time.Second {
		t.Errorf("taken back after %s", took)
	}
	u.takenBack(t, "nobody confirmed it within 2s")
}

func TestConfirmKeeps(t *testing.T) {
	u := newUnconfirmed(t, "cf1")
	process := u.apply(t, "20s")
	stdout, stderr, exit := nictune(t, "confirm", "--state-dir", u.state)
	if exit != exitOK || !strings.Contains(stdout, "transaction 1 stays") {
		t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
	}
	if err := process.Wait(); err != nil {
		t.Error(err)
	}
	if end := u.until(t, tuning.Applied); end.ConfirmedBy == "" || u.gro(t) {
		t.Errorf("confirmed by %q, GRO is on: %v", end.ConfirmedBy, u.gro(t))
	}
	if _, stderr, exit := nictune(t, "confirm", "1", "--state-dir", u.state); exit != exitError || !strings.Contains(stderr, "was confirmed already") {
		t.Errorf("a second time: exit %d, %s", exit, stderr)
	}
	if _, stderr, exit := nictune(t, "confirm", "--state-dir", u.state); exit != exitError || !strings.Contains(stderr, "no transaction awaits") {
		t.Errorf("nothing to confirm: exit %d, %s", exit, stderr)
	}
}

// The second process takes it back when the first has died, whatever it died of.
func TestUnconfirmedOutlivesTheCommand(t *testing.T) {
	for name, end := range map[string]syscall.Signal{"cf2": syscall.SIGKILL, "cf3": syscall.SIGHUP} {
		t.Run(end.String(), func(t *testing.T) {
			u := newUnconfirmed(t, name)
			process := u.apply(t, "2s")
			// To all of its session, as a terminal does that is gone.
			if err := syscall.Kill(-process.Process.Pid, end); err != nil {
				t.Fatal(err)
			}
			_ = process.Wait()
			if u.gro(t) || u.until(t, tuning.Unconfirmed).ID != 1 {
				t.Error("the command's end ended the change")
			}
			u.takenBack(t, "nobody confirmed it within 2s")
		})
	}
}

func TestUnconfirmedCanStillBeConfirmedAfterAHangup(t *testing.T) {
	u := newUnconfirmed(t, "cf4")
	process := u.apply(t, "20s")
	if err := process.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	if _, stderr, exit := nictune(t, "confirm", "--state-dir", u.state); exit != exitOK || u.gro(t) {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

func TestInterruptTakesBackAtOnce(t *testing.T) {
	u := newUnconfirmed(t, "cf5")
	process := u.apply(t, "60s")
	if err := process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	u.takenBack(t, "took it back")
	u.alone(t)
}

// Ctrl-C comes a moment after somebody confirmed, and another transaction waits.
func TestInterruptLeavesWhatWasConfirmed(t *testing.T) {
	u, other := newUnconfirmed(t, "cf10"), newUnconfirmed(t, "cf11")
	other.state = u.state
	if err := u.apply(t, "20s", "--no-wait").Wait(); err != nil {
		t.Fatal(err)
	}
	if err := other.apply(t, "20s", "--no-wait").Wait(); err != nil {
		t.Fatal(err)
	}
	if _, stderr, exit := nictune(t, "confirm", "1", "--state-dir", u.state); exit != exitOK {
		t.Fatalf("exit %d, %s", exit, stderr)
	}
	a := &app{stdout: io.Discard, stderr: io.Discard, log: slog.New(slog.DiscardHandler), timeout: time.Minute}
	a.takeBack(t.Context(), u.state, 1, true)
	if u.gro(t) || u.until(t, tuning.Applied).RolledBackBy != 0 {
		t.Error("what was confirmed was taken back")
	}
	if _, stderr, exit := nictune(t, "confirm", "2", "--state-dir", u.state); exit != exitOK {
		t.Errorf("exit %d, %s", exit, stderr)
	}
}

// A device that is not there when its time is over is waited for.
func TestTakingBackIsTriedAgain(t *testing.T) {
	u := newUnconfirmed(t, "cf12")
	if err := u.apply(t, "5s", "--no-wait").Wait(); err != nil {
		t.Fatal(err)
	}
	// In time: starting and ending a process takes a second on a busy machine.
	nstest.IP(t, "link set cf12 name away12")
	tried := u.until(t, tuning.Pending)
	nstest.IP(t, "link set away12 name cf12")
	if !strings.Contains(tried.UndoReason, "nobody confirmed it") {
		t.Errorf("undone because %q", tried.UndoReason)
	}
	u.takenBack(t, "nobody confirmed it")
}

func TestWithoutWaiting(t *testing.T) {
	u := newUnconfirmed(t, "cf6")
	if err := u.apply(t, "20s", "--no-wait").Wait(); err != nil {
		t.Error(err)
	}
	// Nothing else may touch the device now.
	_, stderr, exit := nictune(t, "apply", "-f", u.policy, "--state-dir", u.state)
	if exit != exitOK { // as wanted already
		t.Errorf("exit %d, %s", exit, stderr)
	}
	nstest.Run(t, "ethtool", "-K", u.device, "gro", "on")
	_, stderr, exit = nictune(t, "apply", "-f", u.policy, "--state-dir", u.state)
	if exit != exitRefused || !strings.Contains(stderr, u.device+" has the unconfirmed transaction 1 (") || !strings.Contains(stderr, "s left") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
	nstest.Run(t, "ethtool", "-K", u.device, "gro", "off")
	stdout, stderr, exit := nictune(t, "rollback", "--state-dir", u.state)
	if exit != exitOK || !strings.Contains(stdout, "what transaction 1 had changed is as it was") {
		t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
	}
	u.takenBack(t, "took it back")
	u.alone(t)
}

// What systemd starts when a journal appears does the same.
func TestRecoverWaits(t *testing.T) {
	u := newUnconfirmed(t, "cf7")
	process := u.apply(t, "3s")
	killAll(t, process, u.state)
	if _, stderr, exit := nictune(t, "recover", "--state-dir", u.state); exit != exitOK || u.gro(t) {
		t.Errorf("recover does not wait, nor take back early: exit %d, %s", exit, stderr)
	}
	_, stderr, exit := nictune(t, "recover", "--wait", "--state-dir", u.state)
	if exit != exitOK || !strings.Contains(stderr, "was not confirmed") {
		t.Errorf("exit %d, %s", exit, stderr)
	}
	u.takenBack(t, "nobody confirmed it")
}

// alone waits until no other process has the state directory in hand.
func (u unconfirmed) alone(t *testing.T) {
	t.Helper()
	if !comes(func() bool { return len(watchers(t, u.state)) == 0 }) {
		t.Error("the process in the background does not end with the transaction")
	}
}

// watchers are the processes that wait for the end of the time.
func watchers(t *testing.T, state string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, e := range entries {
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if pid, number := strconv.Atoi(e.Name()); number == nil && err == nil &&
			strings.HasPrefix(string(line), "nictune\x00recover\x00--wait") && strings.Contains(string(line), state) {
			found = append(found, pid)
		}
	}
	return found
}

// killAll kills a command and the process that it started for its own end.
func killAll(t *testing.T, process *exec.Cmd, state string) {
	t.Helper()
	_ = process.Process.Kill()
	_ = process.Wait()
	if !comes(func() bool {
		found := watchers(t, state)
		for _, pid := range found {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(found) > 0
	}) {
		t.Fatal("no process waits for the end of the time")
	}
}

// The agent takes back what nobody confirmed, and nothing else when it stops.
func TestAgentTakesBack(t *testing.T) {
	u := newUnconfirmed(t, "cf8")
	other := filepath.Join(t.TempDir(), "other.yaml")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: none\nmatch: {name: nothing}\nsettings:\n  features: {rx-gro: on}\n"
	if err := os.WriteFile(other, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startInProcess(t, "--reconcile=enforce", "-f", other, "--state-dir", u.state)
	ready(t, "http://"+s.address(t))
	process := u.apply(t, "4s")
	killAll(t, process, u.state)
	u.takenBack(t, "nobody confirmed it")
}

func TestConfirmRacesTheEnd(t *testing.T) {
	u := newUnconfirmed(t, "cf9")
	kept, undone := 0, 0
	for round := range 6 {
		state := filepath.Join(t.TempDir(), "state")
		w := unconfirmed{u.device, u.policy, state}
		nstest.Run(t, "ethtool", "-K", u.device, "gro", "on")
		process := w.apply(t, "1s")
		until := w.until(t, tuning.Unconfirmed).Until
		time.Sleep(time.Until(until.At) - 40*time.Millisecond + time.Duration(round)*12*time.Millisecond)
		_, stderr, exit := nictune(t, "confirm", "1", "--state-dir", state)
		_ = process.Wait()
		all, err := tuning.History(state)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		switch {
		case exit == exitOK && all[0].Outcome == tuning.Applied && !u.gro(t):
			kept++
		case exit == exitRefused && w.until(t, tuning.Undone).ID == 1 && u.gro(t):
			undone++
		default:
			t.Errorf("confirm: exit %d (%s), the transaction is %s, GRO is on: %v", exit, stderr, all[0].Outcome, u.gro(t))
		}
	}
	t.Logf("confirmed %d times, taken back %d times", kept, undone)
}
