//go:build lab

package settings

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// napiState reads the setting of a NIC.
func napiState(t *testing.T, w *countingWriter, nic inventory.NIC) NAPIState {
	t.Helper()
	current, _, err := NAPI().Read(t.Context(), w, nic)
	if err != nil {
		t.Fatal(err)
	}
	return current
}

// perQueue says whether this kernel and driver tell how single queues are polled.
func (s NAPIState) perQueue() bool {
	for key := range s {
		if strings.Contains(key, "/") {
			return true
		}
	}
	return false
}

// TestNAPI sets the device and single queues of each driver, and takes it back.
// Linux 6.12, the lab's usual kernel, has the device only: make lab-test-sid.
func TestNAPI(t *testing.T) {
	labtest.Require(t, "nics")
	for _, driver := range []string{"igb", "e1000e", "virtio_net", "vmxnet3", "netdevsim"} {
		t.Run(driver, func(t *testing.T) {
			if driver == "netdevsim" {
				labtest.Netdevsim(t, 31, 1)
			}
			w := live(t)
			nic, all := up(t, w, driver)
			before := napiState(t, w, nic)
			b, _ := json.Marshal(before)
			t.Logf("%s", b)
			one := policyFor(nic.Name, "napi: {queues: 0, gro-flush-timeout: 30000, irq-suspend-timeout: 8000000000, defer-hard-irqs: 7, threaded: on}")
			if !before.perQueue() {
				if labtest.NewKernel() && driver != "vmxnet3" { // which tells nobody its queues' polling in 7.2
					t.Error("nothing of single queues")
				}
				_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, one), nil)
				if kernel.ReasonOf(err) != kernel.Unsupported || !strings.Contains(err.Error(), "since Linux 6.13") {
					t.Errorf("one queue: %v", err)
				}
			}
			documents := map[string]map[string]string{
				policyFor(nic.Name, "napi: {defer-hard-irqs: 3, gro-flush-timeout: 50000}"): {"defer-hard-irqs": "3", "gro-flush-timeout": "50000"},
			}
			if before.perQueue() {
				documents[one] = map[string]string{
					"rx-0/defer-hard-irqs": "7", "rx-0/gro-flush-timeout": "30000", "rx-0/irq-suspend-timeout": "8000000000", "rx-0/threaded": "on",
				}
				documents[policyFor(nic.Name, "napi: {queues: 0, threaded: busy-poll}")] = map[string]string{"rx-0/threaded": busyPoll}
			}
			for document, changes := range documents {
				e := engine(t, w, t.TempDir())
				done, err := e.Apply(t.Context(), plan(t, w, all, document), all, allow)
				if err != nil || done == nil {
					t.Fatal(done, err)
				}
				want := maps.Clone(before)
				maps.Copy(want, changes)
				for key := range want {
					if _, field, found := strings.Cut(key, "/"); found && changes[field] != "" {
						want[key] = changes[field] // the device's is each queue's
					}
				}
				if got := napiState(t, w, nic); !maps.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
				if again := plan(t, w, all, document); len(again.Changes) != 0 {
					t.Errorf("a second plan: %+v", again.Changes)
				}
				// A thread for the queue, and for no other.
				threads := strings.Count(string(labtest.Run(t, "ps")), "[napi/"+nic.Name)
				if want := map[bool]int{true: 1, false: 0}[changes["rx-0/threaded"] != ""]; threads != want {
					t.Errorf("%d threads poll, want %d", threads, want)
				}
				if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
					t.Error(err)
				}
				if after := napiState(t, w, nic); !maps.Equal(after, before) {
					t.Errorf("after the rollback %v, before %v", after, before)
				}
			}
		})
	}
}

// TestNAPIKept: what single queues were set to is there after the rings were
// built anew, with other ids.
func TestNAPIKept(t *testing.T) {
	labtest.Require(t, "nics")
	w := live(t)
	nic, all := up(t, w, "igb")
	if !napiState(t, w, nic).perQueue() {
		if labtest.NewKernel() {
			t.Error("nothing of single queues")
		}
		return // TestNAPI has what this kernel says of it
	}
	e := engine(t, w, t.TempDir())
	set, err := e.Apply(t.Context(), plan(t, w, all, policyFor(nic.Name, "napi: {queues: 1-2, defer-hard-irqs: 9}")), all, allow)
	if err != nil {
		t.Fatal(err)
	}
	for _, settings := range []string{"rings: {rx: 512}", "channels: {combined: 3}\n  napi: {queues: 2, gro-flush-timeout: 1000}"} {
		done, err := e.Apply(t.Context(), plan(t, w, all, policyFor(nic.Name, settings)), all, allow)
		if err != nil {
			t.Fatal(err)
		}
		got := napiState(t, w, nic)
		if got["rx-0/defer-hard-irqs"] != "0" || got["rx-1/defer-hard-irqs"] != "9" || got["rx-2/defer-hard-irqs"] != "9" {
			t.Errorf("%s: %v", settings, got)
		}
		if strings.Contains(settings, "napi") && got["rx-2/gro-flush-timeout"] != "1000" {
			t.Errorf("%s: %v", settings, got)
		}
		if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.Rollback(t.Context(), set.ID, all, allow, false); err != nil {
		t.Error(err)
	}
}
