//go:build lab

package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// queueState is what igb's queues have, as sysfs, procfs and ethtool show it.
func queueState(t *testing.T, r kernel.Reader, nic inventory.NIC) string {
	t.Helper()
	name := nic.Name
	var b strings.Builder
	_, channels, _ := strings.Cut(string(labtest.Ethtool(t, "-l", name)), "Current hardware settings:")
	fmt.Fprintln(&b, strings.Join(strings.Fields(channels), " "))
	fmt.Fprintln(&b, table(t, name))
	for _, pattern := range []string{"queues/rx-*/rps_cpus", "queues/tx-*/xps_cpus", "napi_defer_hard_irqs"} {
		files, err := filepath.Glob("/sys/class/net/" + name + "/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %s", strings.TrimPrefix(file, "/sys/class/net/"+name+"/"), content)
		}
	}
	affinity, _, err := IRQ().Read(t.Context(), r, nic)
	if err != nil {
		t.Fatal(err)
	}
	moderation, _, err := Coalesce().Read(t.Context(), r, nic)
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []any{affinity, moderation} {
		line, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// queueTests are what is wanted of igb from so many channels to so many.
var queueTests = map[string]struct {
	from, to int
	before   func(t *testing.T, name string)
	settings string
	want     []string // in the state afterwards
	fails    bool     // each of its writes shall fail once
}{
	"grow": {from: 2, to: 4,
		settings: "rss: {equal: 4}\n  irq: {cpus: all, spread: one-to-one}\n  rps: {cpus: \"1\"}\n  xps: {cpus: \"0-1\"}\n  coalesce: {rx-usecs: 77}",
		want:     []string{"Combined: 4", "0 1 2 3 0 1 2 3 0 1", "queues/rx-3/rps_cpus 2", "queues/tx-3/xps_cpus 3", `"rx-usecs":77`},
	},
	"shrink": {from: 8, to: 2, fails: true,
		settings: "rss: {weight: [3, 1]}\n  irq: {cpus: \"1\"}\n  rps: {cpus: \"1\"}\n  xps: {cpus: \"0-1\"}\n  coalesce: {rx-usecs: 77}",
		want:     []string{"Combined: 2", "0 0 0 1 1 1", "queues/rx-1/rps_cpus 2", "queues/tx-1/xps_cpus 3", `-rx-1":"1"`, `"rx-usecs":77`},
	},
	"grow, and keep": {from: 2, to: 8, fails: true,
		before: func(t *testing.T, name string) {
			labtest.Ethtool(t, "-X", name, "weight", "3", "1")
			queueFile(t, name, "queues/rx-1/rps_cpus", "2")
			queueFile(t, name, "queues/tx-1/xps_cpus", "2")
			queueFile(t, name, "napi_defer_hard_irqs", "7")
			labtest.Ethtool(t, "-C", name, "rx-usecs", "55")
		},
		want: []string{"Combined: 8", "0 0 0 1 1 1", "queues/rx-1/rps_cpus 2", "queues/tx-1/xps_cpus 2", "napi_defer_hard_irqs 7", `"rx-usecs":55`},
	},
	"grow, where nobody chose": {from: 2, to: 8, want: []string{"Combined: 8", "5 5 5 5 6 6"}},
	"shrink, against a foreign table": {from: 8, to: 2,
		before: func(t *testing.T, name string) {
			labtest.Ethtool(t, "-X", name, "start", "4", "equal", "4")
			queueFile(t, name, "queues/rx-1/rps_cpus", "2")
			queueFile(t, name, "queues/tx-1/xps_cpus", "2")
		},
		want: []string{"Combined: 2", "0 1 0 1 0 1", "queues/rx-1/rps_cpus 2", "queues/tx-1/xps_cpus 2"},
	},
	"shrink, against a foreign even table": {from: 8, to: 2,
		before: func(t *testing.T, name string) { labtest.Ethtool(t, "-X", name, "equal", "8") },
		want:   []string{"Combined: 2", "0 1 0 1 0 1"},
	},
}

// named is the NIC of a name.
func named(t *testing.T, all []inventory.NIC, name string) inventory.NIC {
	t.Helper()
	i := slices.IndexFunc(all, func(n inventory.NIC) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("no NIC %s", name)
	}
	return all[i]
}

func queueFile(t *testing.T, name, file, value string) {
	t.Helper()
	if err := os.WriteFile("/sys/class/net/"+name+"/"+file, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// disrupting allows everything also where QEMU's router has made the NIC a way
// out.
func disrupting(name string) tuning.Request {
	request := allow
	request.Disrupt = []string{name}
	return request
}

// queuesFor puts an igb into the state from which a test begins, and gives the
// policy.
func queuesFor(t *testing.T, name, test string) string {
	t.Helper()
	c := queueTests[test]
	labtest.Ethtool(t, "-X", name, "default")
	labtest.Ethtool(t, "-L", name, "combined", fmt.Sprint(c.from))
	if c.before != nil {
		c.before(t, name)
	}
	return policyFor(name, fmt.Sprintf("channels: {combined: %d}\n  %s", c.to, c.settings))
}

// TestQueuesInOnePlan changes the channels of igb together with what hangs on
// them, wanted or kept, and back by a rollback.
func TestQueuesInOnePlan(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	queuesAsBefore(t, name)
	w := live(t)
	all := nics(t, w)
	nic := named(t, all, name)
	for test, c := range queueTests {
		t.Run(test, func(t *testing.T) {
			document := queuesFor(t, name, test)
			before := queueState(t, w, nic)
			e := engine(t, w, t.TempDir())
			w.writes = 0
			p := plan(t, w, all, document)
			var text strings.Builder
			if err := p.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			done, err := e.Apply(t.Context(), p, all, disrupting(name))
			if err != nil {
				t.Fatalf("%v\n%s", err, text.String())
			}
			after := queueState(t, w, nic)
			for _, want := range c.want {
				if !strings.Contains(after, want) {
					t.Errorf("lacks %q:\n%s\nplan:\n%s", want, after, text.String())
				}
			}
			writes := w.writes
			if again := plan(t, w, all, document); len(again.Changes) > 0 {
				t.Errorf("a second plan: %+v", again.Changes)
			}
			if _, err := e.Rollback(t.Context(), done.ID, all, disrupting(name), false); err != nil {
				t.Error(err)
			}
			if got := queueState(t, w, nic); got != before {
				t.Errorf("rolled back:\n%s\nbefore:\n%s", got, before)
			}
			if !c.fails {
				return
			}
			for n := 1; n <= writes; n++ {
				document := queuesFor(t, name, test)
				before := queueState(t, w, nic)
				w.writes = 0
				w.fail = func(i int) error {
					if i == n {
						return syscall.EIO
					}
					return nil
				}
				_, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, document), all, disrupting(name))
				w.fail = nil
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("write %d of %d: %v", n, w.writes, err)
				}
				if got := queueState(t, w, nic); got != before {
					t.Errorf("write %d: undone:\n%s\nbefore:\n%s", n, got, before)
				}
			}
			t.Logf("%d of %d failures undone", writes, writes)
		})
	}
}

func queuesAsBefore(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		labtest.Ethtool(t, "-X", name, "default")
		labtest.Ethtool(t, "-L", name, "combined", "4")
		labtest.Ethtool(t, "-C", name, "rx-usecs", "3")
		queueFile(t, name, "napi_defer_hard_irqs", "0")
	})
}

// mortalWriter kills its own process before (odd) or after (even) any write.
type mortalWriter struct {
	kernel.Writer
	calls, at int
}

func (w *mortalWriter) around(write func() error) error {
	w.calls++
	if w.calls*2-1 == w.at {
		die()
	}
	err := write()
	if w.calls*2 == w.at {
		die()
	}
	return err
}

func (w *mortalWriter) NetlinkSet(ctx context.Context, req kernel.Request) error {
	return w.around(func() error { return w.Writer.NetlinkSet(ctx, req) })
}

func (w *mortalWriter) WriteFile(ctx context.Context, path string, data []byte) error {
	return w.around(func() error { return w.Writer.WriteFile(ctx, path, data) })
}

func (w *mortalWriter) EthtoolSet(ctx context.Context, device string, arg []byte) (out []byte, err error) {
	err = w.around(func() error {
		out, err = w.Writer.EthtoolSet(ctx, device, arg)
		return err
	})
	return out, err
}

// TestQueuesToBeKilled is the process that TestQueuesKilled kills.
func TestQueuesToBeKilled(t *testing.T) {
	labtest.Require(t)
	dir := os.Getenv(killDir)
	var at int
	if _, err := fmt.Sscan(os.Getenv(killAt), &at); err != nil {
		return // not started by TestQueuesKilled
	}
	var given errand
	b, err := os.ReadFile(filepath.Join(dir, errandFile))
	if err == nil {
		err = json.Unmarshal(b, &given)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &mortalWriter{Writer: live(t).Writer, at: at}
	if _, err := engine(t, w, dir).Apply(t.Context(), given.Plan, given.NICs, disrupting(given.Plan.Changes[0].NIC.Name)); err != nil {
		t.Fatal(err)
	}
}

// TestQueuesKilled kills -9 a plan that shrinks and one that grows before and after
// each of their writes.
func TestQueuesKilled(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	queuesAsBefore(t, name)
	w := live(t)
	all := nics(t, w)
	nic := named(t, all, name)
	cases := 0
	for _, test := range []string{"grow, and keep", "shrink, against a foreign table"} {
		const most = 100
		for at, end := 1, false; at < most && !end; at++ {
			t.Run(fmt.Sprint(test, " ", at), func(t *testing.T) {
				document := queuesFor(t, name, test)
				before := queueState(t, w, nic)
				dir := t.TempDir()
				b, err := json.Marshal(errand{plan(t, w, all, document), all})
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, errandFile), b, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestQueuesToBeKilled$")
				child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", killAt, at), killDir+"="+dir)
				out, err := child.CombinedOutput()
				killed := child.ProcessState != nil && child.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
				if !killed && err != nil {
					t.Fatalf("%s, point %d: %v: %s", test, at, err, out)
				}
				done, err := engine(t, w, dir).Recover(t.Context(), all)
				if err != nil {
					t.Fatalf("%s, point %d: %v", test, at, err)
				}
				if end = !killed; end { // behind the last write
					if len(done) != 0 {
						t.Errorf("%s: without a kill there was something to recover: %d", test, len(done))
					}
					return
				}
				if got := queueState(t, w, nic); len(done) != 1 || done[0].Outcome != tuning.Undone || got != before {
					t.Fatalf("%s, point %d:\n%s\nbefore:\n%s", test, at, got, before)
				}
				cases++
			})
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d of %d kills recovered to the state before", cases, cases)
	if cases < 10 {
		t.Errorf("only %d kills", cases)
	}
}
