//go:build lab

package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// vfsOf is what ip says of a PF's VFs, and sysfs of their drivers.
func vfsOf(t *testing.T, pf string) string {
	t.Helper()
	var links []struct {
		VFs []json.RawMessage `json:"vfinfo_list"`
	}
	if err := json.Unmarshal(labtest.Run(t, "ip", "-d", "-j", "link", "show", pf), &links); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i, vf := range links[0].VFs {
		driver, _ := os.Readlink(fmt.Sprintf("/sys/class/net/%s/device/virtfn%d/driver", pf, i))
		fmt.Fprintf(&b, "%s %s\n", vf, filepath.Base(driver))
	}
	return b.String()
}

// queuesOf is what a PF's queues have.
func queuesOf(t *testing.T, pf string) string {
	t.Helper()
	w := live(t)
	all := nics(t, w)
	return queueState(t, w, all[slices.IndexFunc(all, func(n inventory.NIC) bool { return n.Name == pf })])
}

func sriovFile(t *testing.T, pf, file string) string {
	t.Helper()
	b, err := os.ReadFile("/sys/class/net/" + pf + "/device/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// withoutVFs has the test end without VFs, whatever becomes of it.
func withoutVFs(t *testing.T, pfs ...string) {
	t.Helper()
	t.Cleanup(func() {
		for _, pf := range pfs {
			for file, value := range map[string]string{"sriov_numvfs": "0", "sriov_drivers_autoprobe": "1"} {
				if err := os.WriteFile("/sys/class/net/"+pf+"/device/"+file, []byte(value), 0); err != nil && file != "sriov_drivers_autoprobe" {
					t.Error(err)
				}
			}
		}
	})
}

// TestVFs makes seven VFs on each of two PFs, sets up all that igb can, changes
// their number, and takes everything back.
//
//lab:seconds 25
func TestVFs(t *testing.T) {
	labtest.Require(t, "nics")
	pfs := igb(t)
	labtest.Run(t, "modprobe", "-a", "igbvf", "vfio-pci")
	withoutVFs(t, pfs...)
	labtest.Run(t, "ip", "link", "set", pfs[1], "up") // igb limits no rate without a link
	t.Cleanup(func() { labtest.Run(t, "ip", "link", "set", pfs[1], "down") })
	h := tune(t)
	before := queuesOf(t, pfs[0])
	document := `apiVersion: nictune/v1
kind: TuningPolicy
name: vfs
match: {driver: [igb]}
settings:
  sriov: {vfs: max}
  vfs:
    - {vf: "0-6", trust: on}
    - {vf: "0-5", mac: derived}
    - {vf: 6, mac: "02:00:5e:00:53:06", vlan: 200}
    - {vf: 1, vlan: 100, qos: 3, spoofchk: off, max-tx-rate: 500}
    - {vf: "2,3", driver: vfio-pci}
    - {vf: 4, driver: none}
`
	made := h.apply(t, document)
	derived := map[string]bool{}
	for _, pf := range pfs {
		got := strings.Split(vfsOf(t, pf), "\n")
		for _, vf := range got[:min(6, len(got))] {
			_, address, _ := strings.Cut(vf, `"address":"`)
			derived[address[:min(len(address), len("02:00:00:00:00:00"))]] = true
		}
		if len(got) != 8 || sriovFile(t, pf, "sriov_drivers_autoprobe") != "1" {
			t.Fatalf("%s: %d VFs, autoprobe %s", pf, len(got)-1, sriovFile(t, pf, "sriov_drivers_autoprobe"))
		}
		for i, parts := range [][]string{
			{`"trust":true`, `"spoofchk":true`, "igbvf"},
			{`"vlan":100,"qos":3`, `"max_tx":500`, `"spoofchk":false`, "igbvf"},
			{"vfio-pci"}, {"vfio-pci"}, {" ."}, {"igbvf"}, {"igbvf", `"address":"02:00:5e:00:53:06"`, `"vlan":200`},
		} {
			for _, part := range parts {
				if !strings.Contains(got[i], part) {
					t.Errorf("%s VF %d lacks %s: %s", pf, i, part, got[i])
				}
			}
		}
	}

	if len(derived) != 2*6 || derived["00:00:00:00:00:00"] {
		t.Errorf("derived addresses: %v", derived)
	}

	// Through zero to fewer: those that stay are as they were.
	seven := vfsOf(t, pfs[0])
	fewer := h.apply(t, policyFor(pfs[0], "sriov: {vfs: 4}"))
	if got := vfsOf(t, pfs[0]); got == "" || !strings.HasPrefix(seven, got) || strings.Count(got, "\n") != 4 {
		t.Errorf("four VFs:\n%s\nof seven:\n%s", got, seven)
	}
	h.rollback(t, fewer, false)
	if got := vfsOf(t, pfs[0]); got != seven {
		t.Errorf("seven VFs again:\n%s\nbefore:\n%s", got, seven)
	}
	h.rollback(t, made, true)
	for _, pf := range pfs {
		if got := vfsOf(t, pf); got != "" {
			t.Errorf("VFs after the rollback: %s", got)
		}
	}
	if after := queuesOf(t, pfs[0]); after != before {
		t.Errorf("after the rollback:\n%s\nbefore:\n%s", after, before)
	}
}

func firstLines(s string, n int) string { return strings.Join(strings.SplitAfter(s, "\n")[:n], "") }

// TestVFsRefused: what can't be had, or takes a VF from its user, is refused with
// nothing changed.
//
//lab:seconds 15
func TestVFsRefused(t *testing.T) {
	labtest.Require(t, "nics")
	pf := igb(t)[0]
	labtest.Run(t, "modprobe", "-a", "igbvf", "vfio-pci")
	withoutVFs(t, pf)
	h := tune(t)
	labtest.Run(t, "ip", "link", "set", pf, "down")
	if _, err := tune(t).plan(t, policyFor(pf, "sriov: {vfs: 1}\n  vfs: [{vf: 0, max-tx-rate: 5}]")); err == nil || !strings.Contains(err.Error(), "while its link is up") {
		t.Error(err)
	}
	igb(t)
	for settings, want := range map[string]string{
		"sriov: {vfs: 8}": "the device takes 7 VFs at most",
		"sriov: {vfs: 7}\n  channels: {combined: 8}":                 "the device takes 2 at most: igb has no more for itself while VFs exist",
		"sriov: {vfs: 1, externally-managed: on}":                    "there are 0 of 1 VF",
		"sriov: {vfs: 1}\n  vfs: [{vf: 1, trust: on}]":               "there is no VF 1: the PF has 1 VF",
		"sriov: {vfs: 1}\n  vfs: [{vf: 0, vlan: 5, proto: 802.1ad}]": "protocol not supported",
		"sriov: {vfs: 1}\n  vfs: [{vf: 0, min-tx-rate: 5}]":          "igb takes no min-tx-rate (invalid argument)",
		"sriov: {vfs: 1}\n  vfs: [{vf: 0, state: enable}]":           "igb does not set the link state of VFs (operation not supported)",
	} {
		if _, err := h.plan(t, policyFor(pf, settings)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", settings, err)
		}
	}

	h.apply(t, policyFor(pf, "sriov: {vfs: 4}\n  vfs: [{vf: 0, driver: vfio-pci}]"))
	for words, want := range map[string]string{ // the driver's own, as ip hears them
		"vlan 5 proto 802.1ad": "protocol not supported", "min_tx_rate 5": "invalid argument", "state enable": "operation not supported",
	} {
		_, err := labtest.Try(t, "ip", append([]string{"link", "set", pf, "vf", "0"}, strings.Fields(words)...)...)
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), want) {
			t.Errorf("%s: ip says %v, want %q", words, err, want)
		}
	}
	device := func(vf int) string { return fmt.Sprintf("/sys/class/net/%s/device/virtfn%d", pf, vf) }
	netdev := func(vf int) string {
		found, _ := filepath.Glob(device(vf) + "/net/*")
		if len(found) != 1 {
			t.Fatalf("VF %d has %v", vf, found)
		}
		return filepath.Base(found[0])
	}
	group, err := os.Readlink(device(0) + "/iommu_group")
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile("/dev/vfio/"+filepath.Base(group), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	release := func() { _ = held.Close() }
	t.Cleanup(release)
	labtest.Run(t, "ip", "netns", "add", "blue")
	moved := netdev(1)
	labtest.Run(t, "ip", "link", "set", moved, "netns", "blue")
	labtest.Run(t, "modprobe", "bonding", "max_bonds=0")
	labtest.Run(t, "ip", "link", "add", "bond7", "type", "bond")
	t.Cleanup(func() { labtest.Run(t, "ip", "link", "del", "bond7") })
	labtest.Run(t, "ip", "link", "set", netdev(2), "master", "bond7")
	labtest.Run(t, "ip", "address", "add", "192.0.2.9/24", "dev", netdev(3))
	before := vfsOf(t, pf)

	users := []string{
		fmt.Sprintf("(pid %d, /dev/vfio/%s)", os.Getpid(), filepath.Base(group)), "from namespace blue", "from bond bond7", "from the address 192.0.2.9 of " + netdev(3),
	}
	for _, test := range []struct {
		settings string
		users    []string
	}{
		{"sriov: {vfs: 0}", users},
		{"sriov: {vfs: 7}", users},
		{"vfs: [{vf: 0, driver: netdev}]", users[:1]},
		{"vfs: [{vf: 1, driver: none}]", users[1:2]},
		{"vfs: [{vf: 2, vlan: 7}]", users[2:3]},
		{"vfs: [{vf: 3, mac: derived}]", users[3:]},
	} {
		h.w.writes = 0
		_, err := h.Apply(t.Context(), h.planned(t, policyFor(pf, test.settings)), h.all, allow)
		if !errors.Is(err, tuning.ErrRefused) || h.w.writes != 0 || vfsOf(t, pf) != before {
			t.Errorf("%s: %v, %d writes", test.settings, err, h.w.writes)
			continue
		}
		for i, user := range users {
			want := false
			for _, u := range test.users {
				want = want || u == user
			}
			if strings.Contains(err.Error(), user) != want {
				t.Errorf("%s: user %d is named: %v; want %v", test.settings, i, err, want)
			}
		}
	}
	// What hurts nobody is done, and who is named is let go.
	h.apply(t, policyFor(pf, "vfs: [{vf: 2, trust: on}]"))
	address, err := os.Readlink(device(3))
	if err != nil {
		t.Fatal(err)
	}
	request := allow
	request.Disrupt = []string{filepath.Base(address)}
	if _, err := h.Apply(t.Context(), h.planned(t, policyFor(pf, "vfs: [{vf: 3, mac: derived}]")), h.all, request); err != nil {
		t.Error(err)
	}
	release()
	labtest.Run(t, "ip", "netns", "del", "blue")
}

// TestSimulatedVFs: what igb refuses netdevsim takes.
func TestSimulatedVFs(t *testing.T) {
	labtest.Require(t, "nics")
	port := labtest.Netdevsim(t, 40, 1)[0]
	if err := os.WriteFile("/sys/kernel/debug/netdevsim/netdevsim40/max_vfs", []byte("8"), 0); err != nil {
		t.Log(err)
	}
	h := tune(t)
	done := h.apply(t, policyFor(port, `sriov: {vfs: 3}
  vfs:
    - {vf: "0-2", mac: derived, vlan: 5, qos: 2, proto: 802.1ad, min-tx-rate: 100, max-tx-rate: 900}
    - {vf: 2, state: disable, trust: on, spoofchk: on}`))
	got := vfsOf(t, port)
	if strings.Count(got, `"min_tx":100`) != 3 || strings.Count(got, "802.1ad") != 3 || !strings.Contains(got, `"link_state":"disable"`) {
		t.Error(got)
	}
	h.apply(t, policyFor(port, `vfs: [{vf: 1, vlan: 0, min-tx-rate: 0}]`))
	if got := vfsOf(t, port); strings.Count(got, `"min_tx":100`) != 2 || strings.Count(got, `"max_tx":900`) != 3 || strings.Count(got, "802.1ad") != 2 {
		t.Error(got)
	}
	h.rollback(t, done, true)
	if got := vfsOf(t, port); got != "" {
		t.Errorf("after the rollback: %s", got)
	}
}
