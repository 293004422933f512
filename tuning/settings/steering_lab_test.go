//go:build lab

package settings

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// table is the indirection table that ethtool -x prints, entry by entry.
func table(t *testing.T, name string) string {
	t.Helper()
	var entries []string
	for _, row := range regexp.MustCompile(`(?m)^ *\d+:(( +\d+)+)$`).FindAllStringSubmatch(string(labtest.Ethtool(t, "-x", name)), -1) {
		entries = append(entries, strings.Fields(row[1])...)
	}
	if len(entries) == 0 {
		t.Fatalf("ethtool -x %s shows no table", name)
	}
	return strings.Join(entries, " ")
}

// TestRSSAsEthtool has ethtool make the table of each form of words, and nictune
// from another table the same one.
func TestRSSAsEthtool(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	w := live(t)
	all := nics(t, w)
	for wish, words := range map[string]string{
		"equal: 4": "equal 4", "equal: 2": "equal 2", "equal: 3": "equal 3", "weight: [3, 1]": "weight 3 1",
		"weight: [0, 0, 0, 1]": "weight 0 0 0 1", "weight: [1, 1, 1]": "weight 1 1 1", "weight: [5, 3, 7, 2]": "weight 5 3 7 2",
		"{equal: 2, exclude-queues: [0, 1]}": "start 2 equal 2", "exclude-queues: [0]": "start 1 equal 3",
	} {
		labtest.Ethtool(t, append([]string{"-X", name}, strings.Fields(words)...)...)
		want := table(t, name)
		labtest.Ethtool(t, "-X", name, "weight", "1", "9")
		start := table(t, name)
		e := engine(t, w, t.TempDir())
		document := policyFor(name, "rss: {"+strings.Trim(wish, "{}")+"}")
		w.writes = 0
		done, err := e.Apply(t.Context(), plan(t, w, all, document), all, tuning.Request{User: "root"})
		if err != nil {
			t.Errorf("%s: %v", wish, err)
			continue
		}
		if got := table(t, name); got != want || w.writes != 1 {
			t.Errorf("%s: %d writes, table\n%s\nethtool -X %s:\n%s", wish, w.writes, got, words, want)
		}
		if again := plan(t, w, all, document); len(again.Changes) != 0 {
			t.Errorf("%s: a second plan has %+v", wish, again.Changes)
		}
		if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil || table(t, name) != start {
			t.Errorf("%s: rollback: %v\n%s\nbefore\n%s", wish, err, table(t, name), start)
		}
	}
	labtest.Ethtool(t, "-X", name, "default")

	for settings, want := range map[string]string{
		"rss: {equal: 5}": "rss: equal: 5: the device has 4 queues for it now",
		"rss: {key: 00}":  "rss: unsupported: the device has no key",
	} {
		_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, policyFor(name, settings)), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", settings, err, want)
		}
	}
}

// TestRSSDefault: an even spread over all queues is the kernel's own table, which
// does not stand in the way of fewer channels, as any other does.
func TestRSSDefault(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	w := live(t)
	all := nics(t, w)
	t.Cleanup(func() {
		labtest.Ethtool(t, "-X", name, "default")
		labtest.Ethtool(t, "-L", name, "combined", "4")
	})
	for wish, ok := range map[string]bool{"equal: 3": false, "equal: 4": true} {
		if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, policyFor(name, "rss: {"+wish+"}")), all, allow); err != nil {
			t.Fatal(err)
		}
		if out, err := labtest.Try(t, "ethtool", "-L", name, "combined", "2"); (err == nil) != ok {
			t.Errorf("fewer channels after %s: %v %s", wish, err, out)
		}
		labtest.Ethtool(t, "-L", name, "combined", "4")
	}
}

// TestRSSKey sets the key of netdevsim, together with the table.
func TestRSSKey(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.Netdevsim(t, 21, 1)[0]
	w := live(t)
	all := nics(t, w)
	key := strings.TrimSuffix(strings.Repeat("6d:5a:", 20), ":")
	before := string(labtest.Ethtool(t, "-x", name))
	e := engine(t, w, t.TempDir())
	document := policyFor(name, "rss: {key: \""+strings.ToUpper(key)+"\", weight: 1}")
	done, err := e.Apply(t.Context(), plan(t, w, all, document), all, allow)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(labtest.Ethtool(t, "-x", name)); !strings.Contains(got, key) {
		t.Errorf("ethtool -x lacks the key %s:\n%s", key, got)
	}
	if again := plan(t, w, all, document); len(again.Changes) != 0 {
		t.Errorf("a second plan has %+v", again.Changes)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}
	if got := string(labtest.Ethtool(t, "-x", name)); got != before {
		t.Errorf("after the rollback\n%s\nbefore\n%s", got, before)
	}
	_, err = tuning.MakePlan(t.Context(), w, All(), wants(t, all, policyFor(name, "rss: {key: \"6d:5a\"}")), nil)
	if err == nil || !strings.Contains(err.Error(), "key: it takes 40 bytes") {
		t.Errorf("a short key: %v", err)
	}
}

// affinities are the vectors of a NIC with their CPUs, as /proc has them:
// "eth0-rx-1 1".
func affinities(t *testing.T, nic inventory.NIC) []string {
	t.Helper()
	var all []string
	for _, irq := range nic.IRQs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/irq/%d/smp_affinity_list", irq.Number))
		if err == nil {
			all = append(all, irq.Name+" "+strings.TrimSpace(string(b)))
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no interrupts", nic.Name)
	}
	return all
}

// up is a NIC of a driver, which has its interrupts once it is up.
func up(t *testing.T, w *countingWriter, driver string) (inventory.NIC, []inventory.NIC) {
	t.Helper()
	name := labtest.NIC(t, driver)
	labtest.Run(t, "ip", "link", "set", name, "up")
	all := nics(t, w)
	i := slices.IndexFunc(all, func(n inventory.NIC) bool { return n.Name == name })
	return all[i], all
}

// TestIRQ moves the interrupts of each driver's queues, and back.
func TestIRQ(t *testing.T) {
	labtest.Require(t, "nics")
	for driver, queues := range map[string]*regexp.Regexp{ // the vectors that serve queue 0, 1, ...
		"igb":        regexp.MustCompile(`-(?:TxRx|rx|tx)-(\d)$`),
		"e1000e":     regexp.MustCompile(`-[rt]x-(\d)$`),
		"virtio_net": regexp.MustCompile(`put\.(\d)$`),
		"vmxnet3":    regexp.MustCompile(`-rxtx-(\d)$`),
	} {
		t.Run(driver, func(t *testing.T) {
			w := live(t)
			nic, all := up(t, w, driver)
			before := affinities(t, nic)
			for _, settings := range []string{"irq: {cpus: local-cpus, spread: one-to-one}", "irq: {cpus: 1-2}"} {
				var want []string
				moved := 0
				for _, vector := range before {
					name, cpus, _ := strings.Cut(vector, " ")
					if m := queues.FindStringSubmatch(name); m != nil {
						was := cpus
						if cpus = m[1]; !strings.Contains(settings, "one-to-one") {
							cpus = "1-2"
						}
						if cpus != was {
							moved++
						}
					}
					want = append(want, name+" "+cpus)
				}
				document := policyFor(nic.Name, settings)
				e := engine(t, w, t.TempDir())
				w.writes = 0
				done, err := e.Apply(t.Context(), plan(t, w, all, document), all, tuning.Request{User: "root"})
				if err != nil {
					t.Fatal(err)
				}
				if got := affinities(t, nic); !slices.Equal(got, want) || w.writes != moved {
					t.Errorf("%s: %d writes, want %d; %v, want %v", settings, w.writes, moved, got, want)
				}
				if again := plan(t, w, all, document); len(again.Changes) != 0 {
					t.Errorf("%s: a second plan has %+v", settings, again.Changes)
				}
				if done == nil {
					continue // virtio_net comes up so
				}
				if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
					t.Error(err)
				}
				if after := affinities(t, nic); !slices.Equal(after, before) {
					t.Errorf("after the rollback %v, before %v", after, before)
				}
			}
		})
	}
}

// TestIRQEachWriteFails keeps each vector's write from the kernel.
func TestIRQEachWriteFails(t *testing.T) {
	labtest.Require(t, "nics")
	w := live(t)
	nic, all := up(t, w, "igb")
	before := affinities(t, nic)
	e := engine(t, w, t.TempDir())
	cases := 0
	document := policyFor(nic.Name, "irq: {cpus: \"3,2\", spread: one-to-one}")
	vectors := len(plan(t, w, all, document).Changes[0].Fields)
	if vectors < 4 {
		t.Fatalf("%d vectors", vectors)
	}
	for n := 1; n <= vectors; n++ {
		w.writes = 0
		w.fail = func(i int) error {
			if i == n {
				return syscall.EIO
			}
			return nil
		}
		_, err := e.Apply(t.Context(), plan(t, w, all, document), all, allow)
		if err == nil || !strings.Contains(err.Error(), "interrupts that the kernel manages itself can't be moved") || !strings.Contains(err.Error(), "was undone") {
			t.Errorf("write %d: %v", n, err)
		}
		if after := affinities(t, nic); !slices.Equal(after, before) {
			t.Fatalf("write %d: %v, want %v", n, after, before)
		}
		cases++
	}
	t.Logf("%d of %d failures undone", cases, cases)
}

// TestIrqbalanceSilent: one that runs and can't be asked keeps its interrupts.
func TestIrqbalanceSilent(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	w := live(t)
	all := nics(t, w)
	// What matters is the name of a process: this one's.
	comm, err := os.ReadFile("/proc/self/comm")
	if err == nil {
		err = os.WriteFile("/proc/self/comm", []byte("irqbalance"), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile("/proc/self/comm", comm, 0); err != nil {
			t.Error(err)
		}
	})
	_, err = tuning.MakePlan(t.Context(), w, All(), wants(t, all, policyFor(name, `irq: {cpus: "1,3"}`)), nil)
	if err == nil || !strings.Contains(err.Error(), "irqbalance (process ") || !strings.Contains(err.Error(), "none listens in /run/irqbalance") {
		t.Errorf("the plan: %v", err)
	}
}
