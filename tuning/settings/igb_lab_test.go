//go:build lab

package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

const igbPolicy = `apiVersion: nictune/v1
kind: TuningPolicy
name: igb
match: {driver: [igb]}
settings:
  rings: {rx: max, tx: 2048}
  features:
    tso: off
    rx-all: on
  channels: {combined: 2}
`

// igb are the names of two igb, of which the first is up: a reset of that one
// takes a second and drops its link. Both are put back when the test ends.
func igb(t testing.TB) []string {
	t.Helper()
	names := labtest.NICs(t, "igb", 2)
	for _, name := range names { // QEMU's router would become a way out, and be looked after
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Run(t, "ip", "link", "set", names[0], "up")
	labtest.Eventually(t, "carrier of "+names[0], func() bool {
		b, err := os.ReadFile("/sys/class/net/" + names[0] + "/carrier")
		return err == nil && string(b) == "1\n"
	})
	return names
}

// ethtoolSees compares with what ethtool prints.
func ethtoolSees(t *testing.T, name string, applied bool) {
	t.Helper()
	rings, channels, features := "RX: 256 RX Mini: n/a RX Jumbo: n/a TX: 256", "Combined: 4",
		[]string{"tx-tcp-segmentation: on", "tx-tcp6-segmentation: on", "rx-all: off"}
	if applied {
		rings, channels, features = "RX: 4096 RX Mini: n/a RX Jumbo: n/a TX: 2048", "Combined: 2",
			[]string{"tx-tcp-segmentation: off", "tx-tcp6-segmentation: off", "rx-all: on"}
	}
	current := func(option string) string {
		_, s, _ := strings.Cut(string(labtest.Ethtool(t, option, name)), "Current hardware settings:")
		return strings.Join(strings.Fields(s), " ")
	}
	if got := current("-g"); !strings.HasPrefix(got, rings) {
		t.Errorf("%s: rings %s, want %s", name, got, rings)
	}
	if got := current("-l"); !strings.HasSuffix(got, channels) {
		t.Errorf("%s: channels %s, want %s", name, got, channels)
	}
	shown := string(labtest.Ethtool(t, "-k", name))
	for _, f := range features {
		if !strings.Contains(shown, f+"\n") {
			t.Errorf("%s lacks %q:\n%s", name, f, shown)
		}
	}
}

func TestIGB(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, names...)
	e := engine(t, w, t.TempDir())
	p := plan(t, w, all, igbPolicy)
	direct := 0
	for _, c := range p.Changes {
		if c.Turn == tuning.Direct {
			direct++
		}
	}
	if direct != 6 || p.Impact() != tuning.NICReset {
		t.Fatalf("plan %+v", p)
	}
	if _, err := e.Apply(t.Context(), p, all, tuning.Request{}); !errors.Is(err, tuning.ErrRefused) || w.writes != 0 {
		t.Errorf("without --allow: %v, %d writes", err, w.writes)
	}
	done, err := e.Apply(t.Context(), p, all, allow)
	if err != nil {
		t.Fatal(err)
	}
	// Beside the six the table of the one that has it spread over all queues: it makes
	// way, and is spread again.
	writes := w.writes
	if writes < 6 || writes > 8 {
		t.Errorf("%d writes, want 6 to 8", writes)
	}
	ethtoolSees(t, names[0], true)
	ethtoolSees(t, names[1], true)

	again := plan(t, w, all, igbPolicy)
	if _, err := e.Apply(t.Context(), again, all, allow); err != nil || len(again.Changes) != 0 || w.writes != writes {
		t.Errorf("a second apply: %v, %d changes, %d writes in all", err, len(again.Changes), w.writes)
	}

	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}
	ethtoolSees(t, names[0], false)
	if after := state(t, w, all, names...); after != before {
		t.Errorf("after the rollback:\n%s\nbefore:\n%s", after, before)
	}
}

// A size that the driver rounds is planned, and holds, as the driver rounds it.
func TestIGBRounds(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	w := live(t)
	all := nics(t, w)
	document := policyFor(name, "rings: {rx: 1001}")
	p := plan(t, w, all, document)
	var text strings.Builder
	if err := p.WriteText(&text); err != nil || !strings.Contains(text.String(), "256  ->  1008 (asked for 1001)") {
		t.Errorf("%v:\n%s", err, text.String())
	}
	e := engine(t, w, t.TempDir())
	done, err := e.Apply(t.Context(), p, all, disrupting(name))
	if err != nil {
		t.Fatal(err)
	}
	if shown := string(labtest.Ethtool(t, "-g", name)); !strings.Contains(shown, "1008") {
		t.Errorf("ethtool -g: %s", shown)
	}
	if again := plan(t, w, all, document); len(again.Changes) > 0 {
		t.Errorf("a second plan: %+v", again.Changes)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, disrupting(name), false); err != nil {
		t.Error(err)
	}
}

// What only the driver knows to refuse is undone, with the driver's words.
func TestIGBRefuses(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	for name, test := range map[string]struct {
		from, to string
		want     []string
	}{
		"with a sentence": {"tx: 2048", "tx-push: on", []string{
			"rings: ", "tx-push off -> on (test.yaml:6)", "ethtool RINGS_SET: operation not supported (kernel: setting tx push not supported)"}},
		"with an errno": {"combined: 2", "combined: 2, other: 0", []string{
			"channels: combined 4 -> 2 (test.yaml:10), other 1 -> 0 (test.yaml:10): ethtool CHANNELS_SET: invalid argument"}},
		"by rounding up to its least": {"rx: max", "rx: 8", []string{
			"rings: rx 256 -> 8 (test.yaml:6)", "rx reads back as "}},
	} {
		t.Run(name, func(t *testing.T) {
			w := live(t)
			all := nics(t, w)
			before := state(t, w, all, names...)
			_, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, strings.Replace(igbPolicy, test.from, test.to, 1)), all, allow)
			var failure *tuning.ApplyError
			if !errors.As(err, &failure) || len(failure.Left) > 0 {
				t.Fatalf("error %v", err)
			}
			for _, part := range append(test.want, "transaction 1 was undone") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error lacks %q: %v", part, err)
				}
			}
			if after := state(t, w, all, names...); after != before {
				t.Errorf("after the undo:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// TestIGBEachWriteFails keeps each of the writes from the driver.
func TestIGBEachWriteFails(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, names...)
	e := engine(t, w, t.TempDir())
	cases := 0
	errnos := []syscall.Errno{syscall.EBUSY, syscall.EOPNOTSUPP, syscall.EIO, syscall.ENODEV}
	for n := 1; ; n++ {
		errno := errnos[n%len(errnos)]
		w.writes = 0
		w.fail = func(i int) error {
			if i == n {
				return errno
			}
			return nil
		}
		done, err := e.Apply(t.Context(), plan(t, w, all, igbPolicy), all, allow)
		w.fail = nil
		end := err == nil && w.writes < n
		switch {
		case err == nil && (end || errno == syscall.EOPNOTSUPP):
			// There was no such write; or what makes way or is kept was tried again.
			if again := plan(t, w, all, igbPolicy); len(again.Changes) > 0 {
				t.Errorf("write %d: a second plan: %+v", n, again.Changes)
			}
			if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
				t.Fatal(err)
			}
		case !errors.Is(err, errno):
			t.Errorf("write %d: %v", n, err)
		}
		if after := state(t, w, all, names...); after != before {
			t.Fatalf("%v at write %d:\n%s\nbefore:\n%s", errno, n, after, before)
		}
		if end {
			break
		}
		if n > 20 {
			t.Fatalf("%d writes", w.writes)
		}
		cases++
	}
	t.Logf("%d of %d failures undone", cases, cases)
	if cases < 6 {
		t.Errorf("only %d failures", cases)
	}
}

// The environment of the process that TestIGBKilled kills.
const (
	killAt  = "NICTUNE_TEST_KILL_AT"
	killDir = "NICTUNE_TEST_KILL_DIR"
)

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// TestApplyToBeKilled is the process that TestIGBKilled kills.
func TestApplyToBeKilled(t *testing.T) {
	labtest.Require(t)
	at, err := strconv.Atoi(os.Getenv(killAt))
	if err != nil {
		return // not started by TestIGBKilled
	}
	var given errand
	b, err := os.ReadFile(filepath.Join(os.Getenv(killDir), errandFile))
	if err == nil {
		err = json.Unmarshal(b, &given)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &mortalWriter{Writer: live(t).Writer, at: at}
	if _, err := engine(t, w, os.Getenv(killDir)).Apply(t.Context(), given.Plan, given.NICs, allow); err != nil {
		t.Fatal(err)
	}
}

// errand is what that process is to do.
type errand struct {
	Plan *tuning.Plan
	NICs []inventory.NIC
}

const errandFile = "errand.json"

// TestIGBKilled kills -9 an apply before and after each of its writes, has the
// NICs renamed behind its back, and starts again.
func TestIGBKilled(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, names...)
	cases := 0
	for at, end := 1, false; !end; at++ {
		dir := t.TempDir()
		b, err := json.Marshal(errand{plan(t, w, all, igbPolicy), all})
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, errandFile), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestApplyToBeKilled$")
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", killAt, at), killDir+"="+dir)
		out, err := child.CombinedOutput()
		killed := child.ProcessState != nil && child.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if end = !killed; end && (err != nil || at <= 12) || at > 40 { // six writes at least
			t.Fatalf("point %d: the process ended with %v: %s", at, err, out)
		}
		if at == 7 { // names are labels
			labtest.Run(t, "ip", "link", "set", names[1], "name", "renamed0")
			names[1] = "renamed0"
			all = nics(t, w)
		}
		done, err := engine(t, w, dir).Recover(t.Context(), all)
		if err != nil {
			t.Fatalf("point %d: %v", at, err)
		}
		got := state(t, w, all, names...)
		if end {
			if len(done) != 0 || got == before {
				t.Errorf("without a kill there was something to recover (%d), or nothing changed", len(done))
			}
			break
		}
		if len(done) != 1 || done[0].Outcome != tuning.Undone || got != before {
			b, _ := json.Marshal(done)
			t.Fatalf("point %d: %s:\n%s\nbefore:\n%s", at, b, got, before)
		}
		cases++
	}
	t.Logf("%d of %d kills recovered to the state before", cases, cases)

	// Leave the machine as it was.
	restore := strings.NewReplacer("rx: max, tx: 2048", "rx: 256, tx: 256", "tso: off", "tx-tcp-segmentation: on\n    tx-tcp6-segmentation: on",
		"rx-all: on", "rx-all: off", "combined: 2", "combined: 4").Replace(igbPolicy)
	if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, restore), all, allow); err != nil {
		t.Error(err)
	}
	if got := state(t, w, all, names...); got != before {
		t.Errorf("back by a policy:\n%s\nbefore:\n%s", got, before)
	}
}

// TestIGBWithVFs: with VFs igb has 2 channels at most, and a plan knows it before
// anything is written.
func TestIGBWithVFs(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	file := "/sys/class/net/" + name + "/device/sriov_numvfs"
	vfs := func(n string) {
		if err := os.WriteFile(file, []byte(n), 0); err != nil {
			t.Fatal(err)
		}
	}
	w := live(t)
	document := policyFor(name, "rings: {rx: 512}\n  channels: {combined: 8}")
	before := nics(t, w)
	early := plan(t, w, before, document)
	vfs("2")
	t.Cleanup(func() {
		vfs("0")
		labtest.Ethtool(t, "-L", name, "combined", "4")
	})
	labtest.NICs(t, "igbvf", 2)
	all := nics(t, w)
	maximum, _, _ := strings.Cut(string(labtest.Ethtool(t, "-l", name)), "Current hardware settings:")
	if !strings.HasSuffix(strings.Join(strings.Fields(maximum), " "), "Combined: 2") {
		t.Errorf("ethtool -l: %s", maximum)
	}
	_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, document), nil)
	const want = "test.yaml:7: " // and the name
	if err == nil || !strings.HasPrefix(err.Error(), want) ||
		!strings.Contains(err.Error(), "channels.combined: 8: the device takes 2 at most: igb has no more for itself while VFs exist, and sriov_numvfs is 2;") {
		t.Errorf("the plan: %v", err)
	}
	for _, fits := range []string{"channels: {combined: max}", "channels: {combined: 2}"} {
		if p := plan(t, w, all, policyFor(name, fits)); len(p.Changes) > 0 {
			t.Errorf("%s: %+v", fits, p.Changes)
		}
	}
	// One from before the VFs fits no more.
	if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), early, all, allow); !errors.Is(err, tuning.ErrRefused) ||
		!strings.Contains(err.Error(), "channels.combined is 2, not 4") {
		t.Errorf("an earlier plan: %v", err)
	}
	if w.writes != 0 {
		t.Errorf("%d writes", w.writes)
	}
}
