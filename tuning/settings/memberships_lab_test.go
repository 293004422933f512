//go:build lab

package settings

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/labtest"
)

// letIn sends a group's packets from a namespace, and is how many of them a device let in. Those
// of a member are waited for.
func letIn(t *testing.T, device, namespace, group string, member bool) int {
	t.Helper()
	before := received(t, device)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), "ip", "netns", "exec", namespace, self, "-test.run=^TestPacketsToSend$")
	child.Env = append(os.Environ(), sendTo+"="+group+":9")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if member {
		labtest.Eventually(t, "the group's packets", func() bool { return received(t, device)-before >= packets*9/10 })
	} else {
		time.Sleep(500 * time.Millisecond) // of a packet that does not come nothing tells
	}
	return received(t, device) - before
}

// TestMembershipPasses sends a group's packets through one igb into another,
// whose filter lets them in for as long as the membership is there.
func TestMembershipPasses(t *testing.T) {
	labtest.Require(t, "hub")
	names := igb(t)
	near, far := names[0], names[1]
	const group, link = "239.77.88.99", "01:00:5e:4d:58:63"
	labtest.Run(t, "ip", "netns", "add", "peer")
	t.Cleanup(func() { labtest.Run(t, "ip", "netns", "del", "peer") })
	labtest.Run(t, "ip", "link", "set", far, "netns", "peer")
	labtest.Run(t, "ip", "-n", "peer", "addr", "add", "192.0.2.2/24", "dev", far)
	labtest.Run(t, "ip", "-n", "peer", "link", "set", far, "up")
	labtest.Run(t, "ip", "-n", "peer", "route", "add", group, "dev", far)
	labtest.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", near)
	t.Cleanup(func() { labtest.Run(t, "ip", "addr", "flush", "dev", near) })
	labtest.Eventually(t, "an answer from the peer", func() bool {
		_, err := labtest.Try(t, "ping", "-c", "1", "-W", "1", "192.0.2.2")
		return err == nil
	})
	w := live(t)
	all := nics(t, w)
	if n := letIn(t, near, "peer", group, false); n > packets/10 {
		t.Errorf("without a membership %d of %d packets came through", n, packets)
	}
	e := engine(t, w, t.TempDir())
	done, err := e.Apply(t.Context(), plan(t, w, all, policyFor(near, `memberships: {link: ["`+link+`"]}`)), all, allow)
	if err != nil {
		t.Fatal(err)
	}
	if out := string(labtest.Run(t, "ip", "maddr", "show", "dev", near)); !strings.Contains(out, link+" static") {
		t.Errorf("ip maddr: %s", out)
	}
	t.Logf("with the membership %d of %d packets came through", letIn(t, near, "peer", group, true), packets)
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Fatal(err)
	}
	if n := letIn(t, near, "peer", group, false); n > packets/10 {
		t.Errorf("after it ended %d of %d packets came through", n, packets)
	}
}
