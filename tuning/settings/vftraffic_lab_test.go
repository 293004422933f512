//go:build lab

package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// netdevOf is the network device of a PF's VF.
func netdevOf(t *testing.T, pf string, vf int) string {
	t.Helper()
	found, _ := filepath.Glob(fmt.Sprintf("/sys/class/net/%s/device/virtfn%d/net/*", pf, vf))
	if len(found) != 1 {
		t.Fatalf("%s VF %d has %v", pf, vf, found)
	}
	return filepath.Base(found[0])
}

// inNamespace moves a VF's network device into a namespace of its own, with the
// address 192.0.2.host, and returns a function that takes all of it back.
func inNamespace(t *testing.T, netdev string, host int) (namespace string, back func()) {
	t.Helper()
	namespace = fmt.Sprintf("vf%d", host)
	labtest.Run(t, "ip", "netns", "add", namespace)
	labtest.Run(t, "ip", "link", "set", netdev, "netns", namespace)
	labtest.Run(t, "ip", "-n", namespace, "addr", "add", fmt.Sprintf("192.0.2.%d/24", host), "dev", netdev)
	labtest.Run(t, "ip", "-n", namespace, "link", "set", netdev, "up")
	return namespace, func() {
		labtest.Run(t, "ip", "-n", namespace, "link", "set", netdev, "netns", "1")
		labtest.Run(t, "ip", "netns", "del", namespace)
	}
}

// TestTrafficVFs sends between VFs of one PF, and of two on one wire: those in a
// VLAN see each other, and nobody else sees them.
func TestTrafficVFs(t *testing.T) {
	labtest.Require(t, "hub")
	pfs := igb(t)
	labtest.Run(t, "modprobe", "igbvf")
	withoutVFs(t, pfs...)
	labtest.Run(t, "ip", "link", "set", pfs[1], "up")
	t.Cleanup(func() { labtest.Run(t, "ip", "link", "set", pfs[1], "down") })
	h := tune(t)
	const near = 4 // VFs of the first PF; the other one has one
	for _, test := range []struct {
		vlans [near + 1]int
		lines string // of policies
	}{
		{},
		{[near + 1]int{100, 100, 200, 0, 100}, `
    - {vf: "0-1", vlan: 100}
    - {vf: 2, vlan: 200, qos: 5}`},
	} {
		document := policyFor(pfs[0], "sriov: {vfs: 4}\n  vfs:\n    - {vf: \"0-3\", mac: derived}"+test.lines)
		far := "vfs: [{vf: 0, mac: derived}]"
		if vlan := test.vlans[near]; vlan != 0 {
			far = fmt.Sprintf("vfs: [{vf: 0, mac: derived, vlan: %d}]", vlan)
		}
		document += "---\n" + strings.Replace(policyFor(pfs[1], "sriov: {vfs: 1}\n  "+far), "name: p\n", "name: far\n", 1)
		done := h.apply(t, document)
		var netdevs, namespaces []string
		var back []func()
		for vf := range near + 1 {
			pf, number := pfs[0], vf
			if vf == near {
				pf, number = pfs[1], 0
			}
			netdev := netdevOf(t, pf, number)
			address, err := os.ReadFile("/sys/class/net/" + netdev + "/address")
			if err != nil {
				t.Fatal(err)
			}
			if admin := strings.Split(vfsOf(t, pf), "\n")[number]; !strings.Contains(admin, strings.TrimSpace(string(address))) {
				t.Errorf("%s VF %d uses %s, and shall: %s", pf, number, address, admin)
			}
			namespace, undo := inNamespace(t, netdev, vf+1)
			netdevs, namespaces, back = append(netdevs, netdev), append(namespaces, namespace), append(back, undo)
		}
		reaches := func(from, to int) bool {
			_, err := labtest.Try(t, "ip", "netns", "exec", namespaces[from], "ping", "-c", "1", "-W", "1", fmt.Sprintf("192.0.2.%d", to+1))
			return err == nil
		}
		for from := range netdevs {
			for to := from + 1; to < len(netdevs); to++ { // an answer is the other way
				what := fmt.Sprintf("VF %d in VLAN %d reaches VF %d in VLAN %d", from, test.vlans[from], to, test.vlans[to])
				if test.vlans[from] == test.vlans[to] {
					labtest.Eventually(t, what, func() bool { return reaches(from, to) }) // a link comes up
				} else if reaches(from, to) {
					t.Error(what)
				}
			}
		}
		for _, undo := range back {
			undo()
		}
		h.rollback(t, done, true)
	}
}

// TestTrafficVFMembership sends a group's packets from one VF to another, which
// gets them for as long as it is a member.
func TestTrafficVFMembership(t *testing.T) {
	labtest.Require(t, "hub")
	pf := igb(t)[0]
	labtest.Run(t, "modprobe", "igbvf")
	withoutVFs(t, pf)
	h := tune(t)
	h.apply(t, policyFor(pf, "sriov: {vfs: 2}\n  vfs: [{vf: \"0-1\", mac: derived, vlan: 7}]"))
	const group, link = "239.77.88.99", "01:00:5e:4d:58:63"
	sender, member := netdevOf(t, pf, 0), netdevOf(t, pf, 1)
	namespace, back := inNamespace(t, sender, 1)
	t.Cleanup(back)
	labtest.Run(t, "ip", "-n", namespace, "route", "add", group, "dev", sender)
	labtest.Run(t, "ip", "link", "set", member, "up")
	labtest.Run(t, "ip", "addr", "add", "192.0.2.2/24", "dev", member)
	labtest.Eventually(t, "an answer from the other VF", func() bool {
		_, err := labtest.Try(t, "ip", "netns", "exec", namespace, "ping", "-c", "1", "-W", "1", "192.0.2.2")
		return err == nil
	})
	h.all = nics(t, h.w)
	if n := letIn(t, member, namespace, group, false); n > packets/10 {
		t.Errorf("without a membership %d of %d packets came through", n, packets)
	}
	done := h.apply(t, policyFor(member, `memberships: {link: ["`+link+`"]}`))
	t.Logf("with the membership %d of %d packets came through", letIn(t, member, namespace, group, true), packets)
	h.rollback(t, done, false)
	if n := letIn(t, member, namespace, group, false); n > packets/10 {
		t.Errorf("after it ended %d of %d packets came through", n, packets)
	}
	labtest.Run(t, "ip", "addr", "flush", "dev", member)
}
