//go:build lab

package settings

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// vfCrashes are plans of VFs that are cut off: what the PF has before, which is set up
// for VMs and containers, and what is wanted of it.
var vfCrashes = []struct{ name, from, to string }{
	{"made", "", sevenVFs},
	{"more", fourVFs, `sriov: {vfs: 6}
  vfs: [{vf: "4-5", mac: derived, vlan: 300, trust: on, driver: vfio-pci}, {vf: 0, vlan: 200}]`},
	{"fewer", fourVFs, "sriov: {vfs: 2}"},
}

const (
	// sevenVFs makes all the VFs that an igb has, and sets them up for VMs.
	sevenVFs = `sriov: {vfs: 7}
  vfs: [{vf: "0-6", mac: derived, vlan: 100, trust: on, driver: vfio-pci}]`
	fourVFs = `sriov: {vfs: 4}
  vfs: [{vf: "0-3", mac: derived}, {vf: "0,2-3", vlan: 100}, {vf: "1-3", trust: on}, {vf: "2-3", driver: vfio-pci}, {vf: 1, vlan: 100, qos: 3, spoofchk: off, max-tx-rate: 500}, {vf: 0, mtu: 1400}]`
)

// vfHost is a PF with a table and queues that somebody has chosen, which a plan
// of VFs has to keep.
func vfHost(t *testing.T) (pf string, state func() string) {
	t.Helper()
	pf = igb(t)[0]
	labtest.Run(t, "modprobe", "-a", "igbvf", "vfio-pci")
	withoutVFs(t, pf)
	for _, file := range []string{"rx-1/rps_cpus", "tx-1/xps_cpus"} { // igb forgets them when it makes VFs
		name := "/sys/class/net/" + pf + "/queues/" + file
		if err := os.WriteFile(name, []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(name, []byte("0"), 0) })
	}
	return pf, func() string {
		state := vfsOf(t, pf) + sriovFile(t, pf, "sriov_numvfs") + sriovFile(t, pf, "sriov_drivers_autoprobe") + queuesOf(t, pf)
		for _, file := range []string{"virtfn*/driver_override", "virtfn*/net/*/mtu", "virtfn*/net/*/address"} {
			found, err := filepath.Glob("/sys/class/net/" + pf + "/device/" + file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range found {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				vf, _, _ := strings.Cut(name[strings.Index(name, "virtfn"):], "/") // its network device may get another name
				state += "\n" + vf + " " + path.Base(name) + " " + strings.TrimSpace(string(b))
			}
		}
		return state
	}
}

// setUp gives a PF the VFs that it has before a plan, by a transaction of another history.
func setUp(t *testing.T, pf, from string) {
	t.Helper()
	if from == "" {
		return
	}
	w := live(t)
	all := nics(t, w)
	e := engine(t, w, t.TempDir())
	if _, err := e.Apply(t.Context(), plan(t, w, all, policyFor(pf, from)), all, allow); err != nil {
		t.Fatal(err)
	}
}

// vfPlan is what writes a plan of a PF's VFs takes, and how the PF is before and after
// it.
func vfPlan(t *testing.T, pf, to string, state func() string) (ops []string, before, planned string) {
	t.Helper()
	w := live(t)
	all := nics(t, w)
	before = state()
	p := plan(t, w, all, policyFor(pf, to))
	counted := &faultyWriter{Writer: w.Writer}
	e := engine(t, counted, t.TempDir())
	done, err := e.Apply(t.Context(), p, all, allow)
	if err != nil {
		t.Fatal(err)
	}
	planned, ops = state(), slices.Clone(counted.ops)
	if _, err := e.Rollback(t.Context(), done.ID, nics(t, w), allow, false); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != before || planned == before {
		t.Fatalf("rolled back:\n%s\nbefore:\n%s", got, before)
	}
	return ops, before, planned
}

// TestVFsKilled kills -9 plans of VFs after each of their writes and before the first
// of each kind: between two of one kind nothing is noted. Recovery leaves what was.
// Of writes of one kind it takes those for the first VF and the last, of plans on a PF
// that has VFs in use every tenth point, and of the plans each on one of the machines;
// with -args -every all of all plans.
//
//lab:seconds 110
func TestVFsKilled(t *testing.T) {
	labtest.Require(t, "hub", "numa")
	for i, crash := range vfCrashes {
		if here := []string{"hub", "numa"}[i%2]; labtest.Profile() != here && !*every {
			continue
		}
		t.Run(crash.name, func(t *testing.T) { vfsKilled(t, crash.from, crash.to) })
	}
}

func vfsKilled(t *testing.T, from, to string) {
	pf, state := vfHost(t)
	setUp(t, pf, from)
	ops, before, planned := vfPlan(t, pf, to, state)
	w := live(t)
	nth, last := map[string]int{}, map[string]int{}
	for _, op := range ops {
		last[path.Base(op)]++
	}
	var points []int // odd ones are before a write
	for n, op := range ops {
		kind := path.Base(op)
		if nth[kind] == 0 {
			points = append(points, 2*n+1)
		}
		nth[kind]++
		ends := 1
		if kind == "route LINK_SET" {
			ends = 3 // a VF's address, VLAN and trust
		}
		if *every || from != "" || nth[kind] <= ends || nth[kind] > last[kind]-ends {
			points = append(points, 2*n+2)
		}
	}
	first, step := 0, 2 // two machines share them
	switch {
	case *every:
		step = 1
	case from != "":
		first, step = 3, 10
	case labtest.Profile() == "numa":
		first = 1
	}
	cases, missed := 0, 0
	for i := first; i < len(points); i += step {
		at := points[i]
		op := ops[(at-1)/2]
		dir := t.TempDir()
		all := nics(t, w)
		killed := killed(t, dir, at, errand{plan(t, w, all, policyFor(pf, to)), all, allow})
		all = nics(t, w)
		e := engine(t, w, dir)
		if !killed {
			// A driver that was bound in time is asked for less often: there were fewer
			// writes than the first time, and the plan was carried out.
			if state() != planned {
				t.Fatalf("point %d: the process was not killed, and left\n%s\nplanned:\n%s", at, state(), planned)
			}
			if _, err := e.Rollback(t.Context(), 1, all, allow, false); err != nil {
				t.Fatal(err)
			}
			e.Store.Close()
			missed++
			continue
		}
		done, err := e.Recover(t.Context(), all)
		if err != nil || len(done) != 1 || done[0].Outcome != tuning.Undone {
			t.Fatalf("point %d (%s): %+v %v", at, op, done, err)
		}
		if got := state(); got != before {
			t.Fatalf("point %d (%s):\n%s\nbefore:\n%s", at, op, got, before)
		}
		e.Store.Close()
		cases++
	}
	t.Logf("%d of %d kills recovered to the state before, of %d points at %d writes", cases, cases, len(points), len(ops))
	if missed > cases {
		t.Errorf("at %d points there was nothing to kill", missed)
	}
}

// TestVFsUntilPowerCut ends what the boot before left unfinished, and is cut off at
// one write of a plan.
func TestVFsUntilPowerCut(t *testing.T) {
	at, err := strconv.Atoi(os.Getenv(cutAt))
	if err != nil {
		return // not started by TestVFsPowerCut
	}
	for _, crash := range vfCrashes {
		t.Run(crash.name, func(t *testing.T) { vfsUntilPowerCut(t, at, crash.from, crash.to) })
	}
}

func vfsUntilPowerCut(t *testing.T, at int, from, to string) {
	pf, state := vfHost(t)
	const dir = "/persist/state"
	w := live(t)
	if sriovFile(t, pf, "sriov_numvfs") != "0" || sriovFile(t, pf, "sriov_drivers_autoprobe") != "1" {
		t.Fatalf("after the boot:\n%s", state())
	}
	// Some hosts have their VFs by the time at which recovery looks, and some make them
	// after it.
	early := at/2%2 == 0
	if early {
		setUp(t, pf, from)
	}
	fresh := state()
	all := nics(t, w)
	e := engine(t, w, dir)
	past, err := tuning.History(dir)
	if err != nil {
		t.Fatal(err)
	}
	done, err := e.Recover(t.Context(), all)
	if err != nil || len(past) > 0 && (len(done) != 1 || done[0].Outcome != tuning.Undone) {
		t.Fatalf("recovery: %+v, %v", done, err)
	}
	// A boot has taken the VFs away. What the host made since was the state before, and
	// nothing else is.
	if got := state(); got != fresh {
		t.Fatalf("recovered:\n%s\nafter the boot:\n%s", got, fresh)
	}
	if past, err = tuning.History(dir); err != nil || slices.ContainsFunc(past, func(t tuning.Transaction) bool { return t.Outcome != tuning.Undone }) {
		t.Fatalf("history: %+v, %v", past, err)
	}
	if !early {
		setUp(t, pf, from)
	}
	all = nics(t, w)
	faulty := &faultyWriter{Writer: w.Writer, at: at, fault: func(_ context.Context, write func() error) error {
		err := write()
		labtest.PowerCut(t)
		return err
	}}
	e.Writer = faulty
	if _, err := e.Apply(t.Context(), plan(t, w, all, policyFor(pf, to)), all, allow); err != nil {
		t.Fatal(err)
	}
	// Another plan may be next on this disk.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	syscall.Sync()
	t.Logf("the plan took %d writes", faulty.writes)
}

// TestVFsGone pulls a PF out of its slot while its VFs are set up by a plan that
// has made those of another one: its transaction waits for it, and the other PF is
// as it was.
//
//lab:seconds 20
func TestVFsGone(t *testing.T) {
	labtest.Require(t, "hub")
	pf, state := vfHost(t)
	other := igb(t)[1]
	before := state()
	h := tune(t)
	p := h.planned(t, "apiVersion: nictune/v1\nkind: TuningPolicy\nname: vfs\nmatch: {driver: [igb]}\nsettings:\n  "+
		"sriov: {vfs: 3}\n  vfs: [{vf: \"0-2\", mac: derived, trust: on}]\n")
	made := ""
	h.Progress = func(c tuning.Change, s tuning.State) {
		if c.NIC.Name == other && c.Setting == "vfs" && s == tuning.Writing && made == "" {
			made = vfsOf(t, pf)
			labtest.Unplug(t, "igb1")
		}
	}
	_, err := h.Apply(t.Context(), p, h.all, allow)
	if kernel.ReasonOf(err) != kernel.Gone || !strings.Contains(err.Error(), other+": vfs") {
		t.Errorf("error %v", err)
	}
	if strings.Count(made, `"trust":true`) != 3 {
		t.Errorf("the other PF had nothing to lose: %s", made)
	}
	if got := state(); got != before {
		t.Errorf("the other PF:\n%s\nbefore:\n%s", got, before)
	}
	h.Progress = nil
	h.all = nics(t, h.w)
	if _, err := h.Recover(t.Context(), h.all); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("recovery without the card: %v", err)
	}
	labtest.QMP(t, `{"execute": "device_add", "arguments": {"driver": "igb", "id": "igb1", "bus": "rp1", "netdev": "net-igb1", "romfile": "", "mac": "52:54:00:00:02:00"}}`)
	labtest.NICs(t, "igb", 2)
	h.all = nics(t, h.w)
	ended, err := h.Recover(t.Context(), h.all)
	if err != nil || len(ended) != 1 || ended[0].Outcome != tuning.Undone {
		t.Errorf("recovery with the card back: %+v, %v", ended, err)
	}
	if got := sriovFile(t, other, "sriov_numvfs") + sriovFile(t, other, "sriov_drivers_autoprobe"); got != "01" {
		t.Errorf("the card that is back: %s", got)
	}
}
