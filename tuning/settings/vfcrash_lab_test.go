//go:build lab

package settings

import (
	"context"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// sevenVFs makes all the VFs that an igb has, and sets them up for VMs.
const sevenVFs = `sriov: {vfs: 7}
  vfs: [{vf: "0-6", mac: derived, vlan: 100, trust: on, driver: vfio-pci}]`

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
		return vfsOf(t, pf) + sriovFile(t, pf, "sriov_numvfs") + sriovFile(t, pf, "sriov_drivers_autoprobe") + queuesOf(t, pf)
	}
}

// sevenVFsOf is the plan, with the writes that it takes, and how the PF is before
// and after it.
func sevenVFsOf(t *testing.T, pf string, state func() string) (p *tuning.Plan, ops []string, before, planned string) {
	t.Helper()
	w := live(t)
	all := nics(t, w)
	before = state()
	p = plan(t, w, all, policyFor(pf, sevenVFs))
	counted := &faultyWriter{Writer: w.Writer}
	e := engine(t, counted, t.TempDir())
	done, err := e.Apply(t.Context(), p, all, allow)
	if err != nil {
		t.Fatal(err)
	}
	planned = state()
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != before || planned == before {
		t.Fatalf("rolled back:\n%s\nbefore:\n%s", got, before)
	}
	return p, counted.ops, before, planned
}

// TestVFsKilled kills -9 a plan that makes seven VFs and sets them up, after each
// of its writes and before the first of each kind: between two of one kind nothing
// is noted. Of writes of one kind it takes those for the first VF and the last,
// with -args -every all. Recovery leaves what was.
func TestVFsKilled(t *testing.T) {
	labtest.Require(t, "hub", "numa")
	pf, state := vfHost(t)
	p, ops, before, planned := sevenVFsOf(t, pf, state)
	w := live(t)
	all := nics(t, w)
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
		if *every || nth[kind] <= ends || nth[kind] > last[kind]-ends {
			points = append(points, 2*n+2)
		}
	}
	// Two machines share them.
	share := 0
	if labtest.Profile() == "numa" {
		share = 1
	}
	cases, missed := 0, 0
	for i := share; i < len(points); i += 2 {
		at := points[i]
		op := ops[(at-1)/2]
		dir := t.TempDir()
		killed := killed(t, dir, at, errand{p, all, allow})
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
		cases++
	}
	t.Logf("%d of %d kills recovered to the state before; another machine has the other half of %d points at %d writes", cases, cases, len(points), len(ops))
	if missed > cases {
		t.Errorf("at %d points there was nothing to kill", missed)
	}
}

// TestVFsUntilPowerCut ends what the boot before left unfinished, and is cut off at
// one write of the plan.
func TestVFsUntilPowerCut(t *testing.T) {
	at, err := strconv.Atoi(os.Getenv(cutAt))
	if err != nil {
		return // not started by TestVFsPowerCut
	}
	pf, state := vfHost(t)
	const dir = "/persist/state"
	w := live(t)
	all := nics(t, w)
	fresh := state()
	e := engine(t, w, dir)
	past, err := tuning.History(dir)
	if err != nil {
		t.Fatal(err)
	}
	done, err := e.Recover(t.Context(), all)
	if err != nil || len(past) > 0 && (len(done) != 1 || done[0].Outcome != tuning.Undone) {
		t.Fatalf("recovery: %+v, %v", done, err)
	}
	// A boot has taken the VFs away: that was the state before, and nothing else is.
	if got := state(); got != fresh || sriovFile(t, pf, "sriov_numvfs") != "0" || sriovFile(t, pf, "sriov_drivers_autoprobe") != "1" {
		t.Fatalf("recovered:\n%s\nafter the boot:\n%s", got, fresh)
	}
	if past, err = tuning.History(dir); err != nil || slices.ContainsFunc(past, func(t tuning.Transaction) bool { return t.Outcome != tuning.Undone }) {
		t.Fatalf("history: %+v, %v", past, err)
	}
	faulty := &faultyWriter{Writer: w.Writer, at: at, fault: func(_ context.Context, write func() error) error {
		err := write()
		labtest.PowerCut(t)
		return err
	}}
	e.Writer = faulty
	if _, err := e.Apply(t.Context(), plan(t, w, all, policyFor(pf, sevenVFs)), all, allow); err != nil {
		t.Fatal(err)
	}
	t.Logf("the plan took %d writes", faulty.writes)
}

// TestVFsGone pulls a PF out of its slot while its VFs are set up by a plan that
// has made those of another one: its transaction waits for it, and the other PF is
// as it was.
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
