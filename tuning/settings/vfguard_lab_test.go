//go:build lab

package settings

import (
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// TestVFsOfContainers: what containers made on a VF's network device is gone with the
// VF, also where they have no more than a VLAN of it.
func TestVFsOfContainers(t *testing.T) {
	labtest.Require(t, "nics")
	pf := igb(t)[0]
	labtest.Run(t, "modprobe", "-a", "igbvf", "macvlan", "ipvlan", "8021q")
	withoutVFs(t, pf)
	h := tune(t)
	made := h.apply(t, policyFor(pf, "sriov: {vfs: 3}\n  vfs: [{vf: \"0-2\", mac: derived, driver: netdev}]"))
	labtest.Run(t, "ip", "netns", "add", "pod")
	for vf, kind := range [][]string{{"macvlan", "mode", "bridge"}, {"vlan", "id", "7"}, {"ipvlan", "mode", "l2"}} {
		dev, name := netdevOf(t, pf, vf), fmt.Sprintf("child%d", vf)
		labtest.Run(t, "ip", "link", "set", dev, "up")
		if vf == 0 { // made there
			labtest.Run(t, "ip", append([]string{"link", "add", "link", dev, "name", name, "netns", "pod", "type"}, kind...)...)
			continue
		}
		labtest.Run(t, "ip", append([]string{"link", "add", "link", dev, "name", name, "type"}, kind...)...)
		labtest.Run(t, "ip", "link", "set", name, "netns", "pod")
	}
	for _, settings := range []string{"sriov: {vfs: 1}", "vfs: [{vf: \"0-2\", vlan: 9}]"} {
		_, err := h.Apply(t.Context(), h.planned(t, policyFor(pf, settings)), h.all, allow)
		for vf, kind := range []string{"macvlan", "vlan", "ipvlan"} {
			if want := fmt.Sprintf("from namespace pod (%s child%d)", kind, vf); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", settings, err, want)
			}
			labtest.Run(t, "ip", "-n", "pod", "link", "show", fmt.Sprintf("child%d", vf))
		}
	}
	labtest.Run(t, "ip", "netns", "del", "pod")
	labtest.Eventually(t, "the namespace is gone", func() bool {
		_, err := h.Apply(t.Context(), h.planned(t, policyFor(pf, "sriov: {vfs: 2}")), h.all, allow)
		return err == nil
	})
	h.rollback(t, made, true)
}

// TestRatesWithoutLink: igb limits VFs only with a link. So it doesn't make them anew
// while one could not have its limit again, and an undo puts back all the rest.
func TestRatesWithoutLink(t *testing.T) {
	labtest.Require(t, "nics")
	pf := igb(t)[0]
	labtest.Run(t, "modprobe", "igbvf")
	withoutVFs(t, pf)
	h := tune(t)
	link := func(up bool) {
		t.Helper()
		labtest.SetLink(t, "igb0", up)
		labtest.SetLink(t, "igb1", up)
		labtest.Eventually(t, "the link", func() bool {
			b, err := os.ReadFile("/sys/class/net/" + pf + "/carrier")
			return err == nil && string(b) == map[bool]string{true: "1\n", false: "0\n"}[up]
		})
	}
	h.apply(t, policyFor(pf, "sriov: {vfs: 4}\n  vfs: [{vf: \"0-3\", mac: derived, vlan: 5}, {vf: 0, max-tx-rate: 500}]"))
	before := vfsOf(t, pf)
	grow := h.planned(t, policyFor(pf, "sriov: {vfs: 5}"))

	request := allow
	request.ConfirmSeconds = 3600
	done, err := h.Apply(t.Context(), h.planned(t, policyFor(pf, "vfs: [{vf: \"0-3\", vlan: 6}, {vf: 0, max-tx-rate: 300}]")), h.all, request)
	if err != nil {
		t.Fatal(err)
	}
	link(false)
	if _, err := h.plan(t, policyFor(pf, "sriov: {vfs: 5}")); err == nil || !strings.Contains(err.Error(), "VF 0 could not have its max-tx-rate 300 again: igb takes one only while its link is up") {
		t.Error(err)
	}
	if _, err := h.Rollback(t.Context(), done.ID, h.all, allow, false); err == nil || !strings.Contains(err.Error(), "VF 0: max-tx-rate 500: ") {
		t.Errorf("taken back without a link: %v", err)
	}
	if got, want := vfsOf(t, pf), strings.NewReplacer(`"max_tx":500`, `"max_tx":300`, `"tx_rate":500`, `"tx_rate":300`).Replace(before); got != want {
		t.Errorf("taken back without a link:\n%s\nwant\n%s", got, want)
	}
	link(true)
	if _, err := h.Recover(t.Context(), h.all); err != nil {
		t.Error(err)
	}
	if got := vfsOf(t, pf); got != before {
		t.Errorf("taken back:\n%s\nbefore\n%s", got, before)
	}

	// A plan of a time with a link: nothing is written.
	link(false)
	if _, err := h.Apply(t.Context(), grow, h.all, allow); err == nil || !strings.Contains(err.Error(), "could not have its max-tx-rate 500 again") {
		t.Error(err)
	}
	if got := vfsOf(t, pf); got != before {
		t.Errorf("after the refusal:\n%s\nbefore\n%s", got, before)
	}
	link(true)
}

// TestVFsAndTheirNetdevs: a VF that is taken from its driver has another network device
// after that, and the plan goes on with that one.
func TestVFsAndTheirNetdevs(t *testing.T) {
	labtest.Require(t, "nics")
	pf := igb(t)[0]
	labtest.Run(t, "modprobe", "igbvf")
	withoutVFs(t, pf)
	h := tune(t)
	made := h.apply(t, policyFor(pf, "sriov: {vfs: 2}\n  vfs: [{vf: \"0-1\", mac: derived, driver: netdev}]"))
	for vf, setting := range []string{"vlan: 44", `mac: "02:00:5e:00:44:01"`} {
		dev := netdevOf(t, pf, vf)
		labtest.Run(t, "ip", "link", "set", dev, "up")
		labtest.Eventually(t, "carrier of "+dev, func() bool {
			b, err := os.ReadFile("/sys/class/net/" + dev + "/carrier")
			return err == nil && string(b) == "1\n"
		})
		h.all = nics(t, h.w)
		before, file := vfsOf(t, pf), func(name string) string {
			b, err := os.ReadFile(path.Join("/sys/class/net", netdevOf(t, pf, vf), name))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
		document := policyFor(pf, fmt.Sprintf("vfs: [{vf: %d, %s}]", vf, setting)) + "---\n" +
			strings.Replace(policyFor(dev, "netdev: {mtu: 1400}"), "name: p\n", "name: far\n", 1)
		plan := h.planned(t, document)
		if len(plan.Doubts) != 1 || !strings.Contains(plan.Doubts[0].Detail, fmt.Sprintf("taken from VF %d for a moment", vf)) {
			t.Errorf("%s: doubts %+v", setting, plan.Doubts)
		}
		done, err := h.Apply(t.Context(), plan, h.all, allow)
		if err != nil {
			t.Fatalf("%s: %v", setting, err)
		}
		if mtu, flags := file("mtu"), file("flags"); mtu != "1400" || flags != "0x1003" {
			t.Errorf("%s: MTU %s, flags %s", setting, mtu, flags)
		}
		if vfsOf(t, pf) == before {
			t.Errorf("%s is not set", setting)
		}
		h.all = nics(t, h.w)
		h.rollback(t, done, false)
		if got, mtu, flags := vfsOf(t, pf), file("mtu"), file("flags"); got != before || mtu != "1500" || flags != "0x1003" {
			t.Errorf("%s: rolled back MTU %s, flags %s\n%s\nbefore\n%s", setting, mtu, flags, got, before)
		}
	}
	h.all = nics(t, h.w)
	h.rollback(t, made, true)
}
