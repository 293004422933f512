//go:build lab

package settings

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

// round is irqbalance's interval in these tests.
const round = time.Second

// irqbalance runs the real one, and waits until it listens.
func irqbalance(t *testing.T, w *countingWriter, args ...string) (stop func()) {
	t.Helper()
	if err := os.MkdirAll("/run/irqbalance", 0o755); err != nil { // systemd does
		t.Fatal(err)
	}
	c := exec.Command("irqbalance", append([]string{"--foreground", "--interval=1"}, args...)...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Wait()
		}
	}
	t.Cleanup(stop)
	labtest.Eventually(t, "irqbalance listens", func() bool { _, err := inventory.ReadIrqbalance(t.Context(), w); return err == nil })
	return stop
}

// leftTo is what irqbalance was told to leave alone.
func leftTo(t *testing.T, w *countingWriter) []int {
	t.Helper()
	banned, err := inventory.ReadIrqbalance(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return banned
}

// TestIrqbalance has the real one leave exactly the interrupts alone that a
// policy moves, and take them back with the rollback.
func TestIrqbalance(t *testing.T) {
	labtest.Require(t, "nics")
	w := live(t)
	nic, all := up(t, w, "igb")
	irqbalance(t, w, "--banirq=1")
	if got := leftTo(t, w); !slices.Equal(got, []int{1}) {
		t.Fatalf("at first it leaves %v alone", got)
	}
	numbers := map[string]int{}
	want := []int{1}
	for _, irq := range nic.IRQs {
		if queueVector().MatchString(irq.Name) {
			numbers[irq.Name] = irq.Number
			want = append(want, irq.Number)
		}
	}
	affinity := func(name string) string {
		b, err := os.ReadFile("/proc/irq/" + strconv.Itoa(numbers[name]) + "/smp_affinity_list")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	// It moves an interrupt that somebody else moved only when its load asks for it:
	// so its own choice is awaited, and made again with each list of bans.
	before := affinities(t, nic)
	dir := t.TempDir()
	e := engine(t, w, dir)
	document := policyFor(nic.Name, "irq: {cpus: 0-3}")
	done, err := e.Apply(t.Context(), plan(t, w, all, document), all, allow)
	if err != nil {
		t.Fatal(err)
	}
	if got := leftTo(t, w); !slices.Equal(got, want) {
		t.Errorf("it leaves %v alone, want %v", got, want)
	}
	time.Sleep(5 * round)
	for name := range numbers {
		if got := affinity(name); got != "0-3" {
			t.Errorf("%s fires on %s, irqbalance moved it", name, got)
		}
	}
	w.writes = 0
	if again := plan(t, w, all, document); len(again.Changes) != 0 {
		t.Errorf("a second plan has %+v", again.Changes)
	}

	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Fatal(err)
	}
	if got := leftTo(t, w); !slices.Equal(got, []int{1}) {
		t.Errorf("after the rollback it leaves %v alone", got)
	}
	t.Logf("before %v, after the rollback %v", before, affinities(t, nic))
	for _, number := range numbers {
		if err := os.WriteFile("/proc/irq/"+strconv.Itoa(number)+"/smp_affinity_list", []byte("0-3"), 0); err != nil {
			t.Fatal(err)
		}
	}
	// By now it may have chosen already, since the rollback.
	if err := w.IrqbalanceSet(t.Context(), "settings ban irqs 1"); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "irqbalance moves them again", func() bool {
		for name := range numbers {
			if affinity(name) == "0-3" {
				return false
			}
		}
		return true
	})
}

// TestIrqbalanceEnds: what was applied while it ran can be taken back when it
// has ended, or runs anew.
func TestIrqbalanceEnds(t *testing.T) {
	labtest.Require(t, "nics")
	w := live(t)
	nic, all := up(t, w, "igb")
	before := affinities(t, nic)
	for _, again := range []bool{false, true} {
		stop := irqbalance(t, w)
		e := engine(t, w, t.TempDir())
		done, err := e.Apply(t.Context(), plan(t, w, all, policyFor(nic.Name, "irq: {cpus: 2}")), all, allow)
		if err != nil {
			t.Fatal(err)
		}
		stop()
		if again {
			stop = irqbalance(t, w)
		}
		if _, err := e.Rollback(t.Context(), done.ID, all, allow, again); err != nil {
			t.Errorf("running again: %v: %v", again, err)
		}
		stop()
		t.Logf("before %v, after %v", before, affinities(t, nic))
	}
}
