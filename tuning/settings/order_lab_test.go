//go:build lab

package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
			value := strings.TrimSpace(string(content))
			if strings.HasSuffix(file, "_cpus") { // as wide as the host has CPUs
				value = strings.TrimLeft(value, "0")
			}
			fmt.Fprintln(&b, strings.TrimPrefix(file, "/sys/class/net/"+name+"/"), value)
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
//
//lab:seconds 50
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
	_, current, _ := strings.Cut(string(labtest.Ethtool(t, "-l", name)), "Combined:\t") // the maximum
	_, current, _ = strings.Cut(current, "Combined:\t")
	channels, err := strconv.Atoi(strings.TrimSpace(current))
	if err != nil || channels == 0 {
		t.Fatalf("channels of %s: %q", name, current)
	}
	t.Cleanup(func() {
		labtest.Ethtool(t, "-X", name, "default")
		labtest.Ethtool(t, "-L", name, "combined", fmt.Sprint(channels))
		labtest.Ethtool(t, "-C", name, "rx-usecs", "3")
		queueFile(t, name, "napi_defer_hard_irqs", "0")
	})
}

// killedEverywhere kills -9 a process after each write of what it is given to do, and
// has the next start recover: begin says what is to be done from where, with which
// state directory, and see how it is. It returns the number of kills. With -args
// -every it kills before each write, too.
func killedEverywhere(t *testing.T, w *countingWriter, begin func() (dir string, given errand), see func() string) (cases int) {
	t.Helper()
	const most = 100
	step := 2 // the even ones
	if *every {
		step = 1
	}
	for at := step; at < most; at += step {
		dir, given := begin()
		before := see()
		was := killed(t, dir, at, given)
		e := engine(t, w, dir)
		done, err := e.Recover(t.Context(), given.NICs)
		e.Store.Close() // for the next
		if err != nil {
			t.Fatalf("point %d: %v", at, err)
		}
		got := see()
		if !was { // behind the last write
			if len(done) != 0 || got == before {
				t.Errorf("without a kill there was something to recover (%d), or nothing changed", len(done))
			}
			return cases
		}
		if len(done) != 1 || done[0].Outcome != tuning.Undone || got != before {
			t.Fatalf("point %d: %+v:\n%s\nbefore:\n%s", at, done, got, before)
		}
		cases++
	}
	t.Fatalf("no end at point %d", most)
	return cases
}

// TestQueuesKilled kills -9 plans that shrink and that grow before and after each
// of their writes: such as say all that hangs on the queues, interrupts too, and
// such as say nothing of it.
//
//lab:seconds 60
func TestQueuesKilled(t *testing.T) {
	labtest.Require(t, "numa")
	name := igb(t)[0]
	queuesAsBefore(t, name)
	w := live(t)
	all := nics(t, w)
	nic := named(t, all, name)
	for _, test := range []string{"grow", "grow, and keep", "shrink", "shrink, against a foreign table"} {
		t.Run(test, func(t *testing.T) {
			cases := killedEverywhere(t, w, func() (string, errand) {
				document := queuesFor(t, name, test)
				return t.TempDir(), errand{plan(t, w, all, document), all, disrupting(name)}
			}, func() string { return queueState(t, w, nic) })
			t.Logf("%d of %d kills recovered to the state before", cases, cases)
			if cases < 2 {
				t.Errorf("only %d kills", cases)
			}
		})
	}
}

// TestRulesKilled does that where rules and RSS contexts, which nictune put there,
// hang on the queues.
//
//lab:seconds 40
func TestRulesKilled(t *testing.T) {
	labtest.Require(t, "numa")
	const few = `channels: {combined: 2}
  rss-contexts: [{context: 1, equal: 1}, {context: 2, weight: [1, 3], hfunc: xor}]
  flows: [{flow-type: udp4, dst-port: 53, queue: 1}, {flow-type: tcp4, dst-port: 80, context: 1}]`
	const many = `channels: {combined: 4}
  rss-contexts: [{context: 1, start: 2, equal: 2}, {context: 2, weight: [1, 3], hfunc: xor}]
  flows: [{flow-type: udp4, dst-port: 53, queue: 3}, {flow-type: udp4, dst-port: 123, queue: 1}, {flow-type: tcp4, dst-port: 80, context: 1}, {flow-type: tcp4, dst-port: 81, context: 2}]`
	for i, c := range []struct{ name, from, to string }{{"shrink", many, few}, {"grow", few, many}} {
		t.Run(c.name, func(t *testing.T) {
			port := netdevsim(t, 50+i, false)[0]
			h := tune(t)
			h.apply(t, policyFor(port, c.from))
			h.Store.Close() // for the process that is killed
			given := errand{h.planned(t, policyFor(port, c.to)), h.all, allow}
			cases := killedEverywhere(t, h.w, func() (string, errand) { return h.dir, given }, func() string {
				seen := rulesOf(t, port) + string(labtest.Ethtool(t, "-l", port)) + string(labtest.Ethtool(t, "-x", port))
				for _, context := range []string{"1", "2"} {
					table, err := labtest.Try(t, "ethtool", "-x", port, "context", context)
					seen += fmt.Sprintf("context %s: %v\n%s", context, err, table)
				}
				return seen
			})
			t.Logf("%d of %d kills recovered to the state before", cases, cases)
			if cases < 6 {
				t.Errorf("only %d kills", cases)
			}
		})
	}
}
