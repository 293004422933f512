//go:build lab

package settings

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// listeningWriter hears of each write that was made.
type listeningWriter struct {
	*countingWriter
	wrote func(what string)
}

func (w *listeningWriter) NetlinkSet(ctx context.Context, req kernel.Request) error {
	err := w.countingWriter.NetlinkSet(ctx, req)
	if err == nil && req.Family == kernel.FamilyDevlink && req.Command == uapi.DEVLINK_CMD_ESWITCH_SET {
		w.wrote("eswitch")
	}
	return err
}

func (w *listeningWriter) WriteFile(ctx context.Context, path string, data []byte) error {
	err := w.countingWriter.WriteFile(ctx, path, data)
	w.wrote(filepath.Base(path))
	return err
}

// TestVFsOfOthers: VFs that somebody else made are set up, and neither more are made nor
// fewer left.
func TestVFsOfOthers(t *testing.T) {
	labtest.Require(t, "nics")
	pf := igb(t)[0]
	labtest.Run(t, "modprobe", "igbvf")
	withoutVFs(t, pf)
	if err := os.WriteFile("/sys/class/net/"+pf+"/device/sriov_numvfs", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
	h := tune(t)
	var wrote []string
	h.Writer = &listeningWriter{h.w, func(what string) { wrote = append(wrote, what) }}
	before := vfsOf(t, pf)
	made := h.apply(t, policyFor(pf, `sriov: {vfs: 3, externally-managed: on}
  vfs:
    - {vf: "0-2", mac: derived, trust: on}
    - {vf: 1, vlan: 7}`))
	if got := vfsOf(t, pf); strings.Count(got, `"trust":true`) != 3 || strings.Count(got, `"vlan":7`) != 1 || strings.Contains(got, "00:00:00:00:00:00") {
		t.Errorf("set up:\n%s", got)
	}
	for count, want := range map[string]string{"0": "", "2": "", "4": "there are 3 of 4 VFs, and whoever makes them has to make more"} {
		p, err := h.plan(t, policyFor(pf, "sriov: {vfs: "+count+", externally-managed: on}"))
		if want == "" && (err != nil || len(p.Changes) > 0) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s VFs: %+v, %v", count, p, err)
		}
	}

	// Whose packets never come to an address or a route is asked, too.
	dev := netdevOf(t, pf, 0)
	labtest.Run(t, "ip", "link", "set", dev, "up")
	h.all = nics(t, h.w)
	closer := nstest.XDPSocket(t, h.all[slices.IndexFunc(h.all, func(n inventory.NIC) bool { return n.Name == dev })].Index, 0)
	set := vfsOf(t, pf)
	_, err := h.Apply(t.Context(), h.planned(t, policyFor(pf, `vfs: [{vf: 0, mac: "02:00:5e:00:53:07"}]`)), h.all, allow)
	if !errors.Is(err, tuning.ErrRefused) || !strings.Contains(err.Error(), "from an AF_XDP socket on queue 0 of "+dev) || vfsOf(t, pf) != set {
		t.Errorf("with an AF_XDP socket: %v", err)
	}
	closer()
	labtest.Run(t, "ip", "link", "set", dev, "down")
	h.rollback(t, made, false)
	if got := vfsOf(t, pf); got != before {
		t.Errorf("after the rollback:\n%s\nbefore\n%s", got, before)
	}
	if len(wrote) == 0 || strings.Contains(strings.Join(wrote, " "), "sriov_numvfs") {
		t.Errorf("it wrote %v", wrote)
	}
}

// TestRenamedByMode: udev renames the PF while its mode changes. The plan goes on with
// it, and so does the undo.
func TestRenamedByMode(t *testing.T) {
	labtest.Require(t, "nics")
	port := labtest.Netdevsim(t, 44, 1)[0]
	name, other := port, "renamed44"
	h := tune(t)
	broken := false
	h.w.fail = func(int) error {
		if broken {
			broken = false
			return errors.New("not now")
		}
		return nil
	}
	breaks := false
	h.Writer = &listeningWriter{h.w, func(what string) {
		if what == "eswitch" {
			labtest.Run(t, "ip", "link", "set", name, "name", other)
			name, other = other, name
			broken, breaks = breaks, false
		}
	}}
	state := func() string {
		t.Helper()
		var offload string
		for line := range strings.Lines(string(labtest.Ethtool(t, "-k", name))) {
			if strings.HasPrefix(line, "hw-tc-offload: ") {
				offload = strings.TrimSpace(line)
			}
		}
		mode := strings.Fields(string(labtest.Run(t, "devlink", "dev", "eswitch", "show", "netdevsim/netdevsim44")))
		return name + " " + offload + " " + strings.Join(mode[1:3], " ")
	}
	const switchdev = "renamed44 hw-tc-offload: on mode switchdev"
	policy := "sriov: {vfs: 2}\n  eswitch: {mode: switchdev}\n  features: {hw-tc-offload: on}\n  representors: [{vf: \"0-1\", name: \"rep{vf}\"}]"
	made, err := h.Apply(t.Context(), h.planned(t, policyFor(port, policy)), h.all, allow)
	if err != nil {
		t.Fatal(err)
	}
	if got := state(); got != switchdev {
		t.Errorf("%s, want %s", got, switchdev)
	}
	labtest.Run(t, "ip", "link", "show", "rep1")

	// What fails after the mode was changed is undone on the NIC that has the other name.
	h.all = nics(t, h.w)
	breaks = true
	_, err = h.Apply(t.Context(), h.planned(t, policyFor(name, "eswitch: {mode: legacy}\n  features: {hw-tc-offload: off}")), h.all, allow)
	var failed *tuning.ApplyError
	if !errors.As(err, &failed) || len(failed.Left) > 0 || !strings.Contains(err.Error(), "not now") || state() != switchdev {
		t.Errorf("%v; %s, want %s", err, state(), switchdev)
	}
	if name != "renamed44" {
		t.Fatalf("it is called %s", name)
	}

	// Without a permanent address it is known by its name: the rollback finds it by its first.
	labtest.Run(t, "ip", "link", "set", name, "name", port)
	name = port
	h.all = nics(t, h.w)
	h.rollback(t, made, true)
	if got, want := state(), port+" hw-tc-offload: off mode legacy"; got != want || sriovFile(t, port, "sriov_numvfs") != "0" {
		t.Errorf("after the rollback: %s, want %s", got, want)
	}
}
