//go:build lab

package settings

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// TestSwitchdev: VFs, the mode and representors in one plan; users of
// representors are asked; everything goes back.
func TestSwitchdev(t *testing.T) {
	labtest.Require(t, "nics")
	port := labtest.Netdevsim(t, 41, 1)[0]
	h := tune(t)
	mode := func() string {
		t.Helper()
		return string(labtest.Run(t, "devlink", "dev", "eswitch", "show", "netdevsim/netdevsim41"))
	}
	links := func() string {
		t.Helper()
		files, _ := filepath.Glob("/sys/bus/netdevsim/devices/netdevsim41/net/*")
		return strings.Join(files, " ")
	}
	offload := func(name string) string {
		t.Helper()
		for line := range strings.Lines(string(labtest.Ethtool(t, "-k", name))) {
			if strings.HasPrefix(line, "hw-tc-offload: ") {
				return strings.TrimSpace(strings.TrimPrefix(line, "hw-tc-offload: "))
			}
		}
		return "?"
	}
	before := links()
	made := h.apply(t, policyFor(port, `sriov: {vfs: 3}
  eswitch: {mode: switchdev}
  features: {hw-tc-offload: on}
  representors:
    - {vf: "0-2", name: "rep{vf}"}
    - {vf: 1, hw-tc-offload: on}`))
	if !strings.Contains(mode(), "mode switchdev") || offload("rep0") != "off" || offload("rep1") != "on" || offload(port) != "on" {
		t.Errorf("%s %s %s %s", mode(), offload("rep0"), offload("rep1"), offload(port))
	}
	if out := string(labtest.Run(t, "devlink", "port", "show")); !strings.Contains(out, "netdev rep2 flavour pcivf controller 0 pfnum 0 vfnum 2") {
		t.Error(out)
	}
	if again := h.planned(t, policyFor(port, "eswitch: {mode: switchdev}\n  representors: [{vf: 1, name: rep1}]")); len(again.Changes) > 0 {
		t.Errorf("%+v", again.Changes)
	}

	// Who uses a representor is asked, for another mode and for another number of VFs.
	labtest.Run(t, "ip", "link", "add", "br41", "type", "bridge")
	t.Cleanup(func() { _, _ = labtest.Try(t, "ip", "link", "del", "br41") })
	labtest.Run(t, "ip", "link", "set", "rep2", "master", "br41")
	for _, settings := range []string{"eswitch: {mode: legacy}", "sriov: {vfs: 1}"} {
		h.w.writes = 0
		_, err := h.Apply(t.Context(), h.planned(t, policyFor(port, settings)), h.all, allow)
		if !errors.Is(err, tuning.ErrRefused) || !strings.Contains(err.Error(), "rep2, the representor of VF 2, from bridge br41") || h.w.writes > 0 ||
			!strings.Contains(err.Error(), "--disrupt rep2") {
			t.Errorf("%s: %v", settings, err)
		}
	}
	request := allow
	request.Disrupt = []string{"rep2"}
	if _, err := h.Apply(t.Context(), h.planned(t, policyFor(port, "sriov: {vfs: 2}")), h.all, request); err != nil {
		t.Error(err)
	}
	if got := links(); !strings.Contains(got, "rep0") || !strings.Contains(got, "rep1") || strings.Contains(got, "rep2") || offload("rep1") != "on" {
		t.Errorf("of two VFs: %s", got)
	}
	h.rollback(t, made, true)
	if links() != before || !strings.Contains(mode(), "mode legacy") || offload(port) != "off" {
		t.Errorf("after the rollback: %s %s", links(), mode())
	}

	// What the driver lacks is refused when the plan is made, what it refuses is undone
	// with its words.
	if _, err := h.plan(t, policyFor(port, "eswitch: {inline-mode: transport}")); err == nil || !strings.Contains(err.Error(), "inline-mode") {
		t.Error(err)
	}
	if _, err := h.plan(t, policyFor(port, "representors: [{vf: 0, name: x}]")); err == nil || !strings.Contains(err.Error(), "there are no representors") {
		t.Error(err)
	}
	_, err := h.Apply(t.Context(), h.planned(t, policyFor(port, "sriov: {vfs: 2}\n  eswitch: {mode: switchdev_inactive}")), h.all, allow)
	if err == nil || !strings.Contains(err.Error(), "mode switchdev_inactive: devlink ESWITCH_SET") || links() != before || sriovFile(t, port, "sriov_numvfs") != "0" {
		t.Errorf("%v; %s", err, links())
	}
}

// TestRenamed: the plan goes on with a NIC that a change gives another name and
// number, and the undo finds it, too.
func TestRenamed(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.NIC(t, "e1000e")
	labtest.Run(t, "ip", "link", "set", name, "down") // as it is when it comes back: no gate waits for its link
	device, err := filepath.EvalSymlinks("/sys/class/net/" + name + "/device")
	if err != nil {
		t.Fatal(err)
	}
	address := filepath.Base(device)
	netdev := func() string {
		found, _ := filepath.Glob(device + "/net/*")
		if len(found) != 1 {
			return ""
		}
		return filepath.Base(found[0])
	}
	t.Cleanup(func() {
		labtest.Run(t, "ip", "link", "set", netdev(), "down")
		labtest.Run(t, "ip", "link", "set", netdev(), "name", name)
	})
	type rebirth struct {
		Life *uint32 `json:"life,omitempty" doc:"Which one it is."`
	}
	reborn := tuning.Knob[rebirth]{
		Name: "rebirth", Doc: "Another network device.", Renames: true,
		Impact: func(inventory.NIC, rebirth, rebirth) tuning.Impact { return tuning.NICReset },
		Read: func(context.Context, kernel.Reader, inventory.NIC) (current, limit rebirth, err error) {
			var life uint32
			_, _ = fmt.Sscanf(netdev(), "reborn%d", &life)
			return rebirth{&life}, limit, nil
		},
		Write: func(ctx context.Context, w kernel.Writer, _ inventory.NIC, _, next rebirth) error {
			for _, file := range []string{"unbind", "bind"} {
				if err := w.WriteFile(ctx, "/sys/bus/pci/drivers/e1000e/"+file, []byte(address)); err != nil {
					return err
				}
			}
			labtest.Eventually(t, "the driver's network device", func() bool { return netdev() != "" })
			labtest.Run(t, "ip", "link", "set", netdev(), "name", fmt.Sprintf("reborn%d", *next.Life))
			return nil
		},
	}
	mtu := Netdev()
	mtu.After = []string{"rebirth"}
	w, dir := live(t), t.TempDir()
	e := engine(t, w, dir)
	e.Settings = []tuning.Setting{reborn, mtu}
	all := nics(t, w)
	nic := &all[slices.IndexFunc(all, func(n inventory.NIC) bool { return n.Name == name })]
	wants := []policies.Want{
		{NIC: nic, Setting: "rebirth", Fields: []policies.Assignment{{Field: "life", Value: policies.NumberValue(7, policies.Source{})}}},
		{NIC: nic, Setting: "netdev", Fields: []policies.Assignment{{Field: "mtu", Value: policies.NumberValue(1400, policies.Source{})}}},
	}
	plan, err := tuning.MakePlan(t.Context(), w, e.Settings, wants, nil)
	if err != nil {
		t.Fatal(err)
	}
	done, err := e.Apply(t.Context(), plan, all, allow)
	if err != nil {
		t.Fatal(err)
	}
	now := labtest.Run(t, "ip", "-o", "link", "show", "reborn7")
	if strings.HasPrefix(string(now), strconv.Itoa(nic.Index)+":") || !strings.Contains(string(now), "mtu 1400") {
		t.Errorf("%s; it was %d", now, nic.Index)
	}
	if _, err := e.Rollback(t.Context(), done.ID, nics(t, w), allow, false); err != nil {
		t.Error(err)
	}
	if now := string(labtest.Run(t, "ip", "-o", "link", "show", "reborn0")); !strings.Contains(now, "mtu 1500") {
		t.Error(now)
	}
}

// TestPortFunctions: what netdevsim's add-on keeps of a VF's function, through the
// kernel's devlink and as devlink shows it.
func TestPortFunctions(t *testing.T) {
	labtest.Require(t, "nics")
	port := labtest.Netdevsim(t, 42, 1)[0]
	h := tune(t)
	functions := func() string {
		t.Helper()
		var b strings.Builder
		for line := range strings.Lines(string(labtest.Run(t, "devlink", "port", "show"))) {
			if strings.Contains(line, "hw_addr") {
				b.WriteString(strings.TrimSpace(line) + "\n")
			}
		}
		return b.String()
	}
	const untouched = "hw_addr 00:00:00:00:00:00 roce disable migratable disable ipsec_crypto disable ipsec_packet disable max_io_eqs 24\n"
	made := h.apply(t, policyFor(port, `sriov: {vfs: 3}
  eswitch: {mode: switchdev}
  port-functions:
    - {vf: 0, hw-addr: "02:00:5e:00:00:07"}
    - {vf: "1-2", migratable: on, roce: on}
    - {vf: 1, ipsec-crypto: on, ipsec-packet: on, max-io-eqs: 8}`))
	want := strings.Replace(untouched, "00:00:00:00:00:00", "02:00:5e:00:00:07", 1) +
		"hw_addr 00:00:00:00:00:00 roce enable migratable enable ipsec_crypto enable ipsec_packet enable max_io_eqs 8\n" +
		"hw_addr 00:00:00:00:00:00 roce enable migratable enable ipsec_crypto disable ipsec_packet disable max_io_eqs 24\n"
	if got := functions(); got != want {
		t.Errorf("%s; want %s", got, want)
	}
	// They are put back on the VFs that stay when all are made anew.
	h.apply(t, policyFor(port, "sriov: {vfs: 2}"))
	if got := functions(); got != firstLines(want, 2) {
		t.Errorf("of two: %s", got)
	}
	changed := h.apply(t, policyFor(port, `port-functions: [{vf: 0, hw-addr: derived, max-io-eqs: 4}]`))
	h.rollback(t, changed, false)
	if got := functions(); got != firstLines(want, 2) {
		t.Errorf("after the rollback: %s", got)
	}
	// The driver's words, and nothing changed.
	_, err := h.Apply(t.Context(), h.planned(t, policyFor(port, "port-functions: [{vf: 1, roce: off}, {vf: 0, ipsec-packet: on}]")), h.all, allow)
	if err == nil || !strings.Contains(err.Error(), "vf0: devlink PORT_SET: invalid argument (kernel: netdevsim: Packet offload needs crypto offload)") || functions() != firstLines(want, 2) {
		t.Errorf("%v; %s", err, functions())
	}
	for item, want := range map[string]string{
		"{vf: 0, state: active}":                        "state is of subfunctions",
		"{vf: 2, roce: on}":                             "there is no VF 2",
		"{sf: 88, state: active}":                       "sf88.state",
		"{vf: 0, sf: 88, roce: on}":                     "vf or sf is needed",
		"{vf: \"0-1\", hw-addr: \"02:00:00:00:00:01\"}": "can be of one VF only",
	} {
		if _, err := h.plan(t, policyFor(port, "port-functions: ["+item+"]")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", item, err)
		}
	}
	h.rollback(t, made, true)
	if got := functions(); got != "" {
		t.Errorf("after all: %s", got)
	}
}
