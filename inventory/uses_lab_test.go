//go:build lab

package inventory

import (
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/lab/nstest"
)

// TestXDPUsesOfIgb has a kernel whose netdev family does not tell of AF_XDP
// sockets, so that sock_diag has to.
func TestXDPUsesOfIgb(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.NIC(t, "igb")
	labtest.Run(t, "ip", "link", "set", name, "up")
	live := open(t)
	index := surveyed(t, live).byName[name].Index
	setXDP(t, live, index, passAll(t), 1<<2)
	if got := usesOf(t, live, name); len(got) != 1 || got[0].Kind != XDPAttached || got[0].Program == 0 {
		t.Errorf("with a program: %v", got)
	}
	setXDP(t, live, index, -1, 1<<2)
	closer := nstest.XDPSocket(t, index, 2)
	if got := usesOf(t, live, name); len(got) != 1 || got[0] != (Use{Kind: XDPSocket, Device: index, Queue: 2}) {
		t.Errorf("with a socket: %v", got)
	}
	closer()
	labtest.Eventually(t, "the socket is gone", func() bool { return len(usesOf(t, live, name)) == 0 })
}
