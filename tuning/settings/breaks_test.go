package settings

import (
	"testing"

	"github.com/nictune/nictune/inventory"
)

func TestRSSBreaksTheSocketWhoseQueueItMoves(t *testing.T) {
	socket := inventory.Use{Kind: inventory.XDPSocket, Queue: 1}
	spread := RSSState{Table: []uint32{0, 1, 0, 1}, Key: "aa:bb"}
	for name, test := range map[string]struct {
		use  inventory.Use
		next RSSState
		want string
	}{
		"takes the queue out":   {socket, RSSState{Table: []uint32{0, 0, 0, 0}, Key: "aa:bb"}, "other flows for queue 1"},
		"moves its buckets":     {socket, RSSState{Table: []uint32{1, 0, 1, 0}, Key: "aa:bb"}, "other flows for queue 1"},
		"another key":           {socket, RSSState{Table: []uint32{0, 1, 0, 1}, Key: "cc:dd"}, "another hash for queue 1"},
		"others only":           {socket, RSSState{Table: []uint32{2, 1, 3, 1}, Key: "aa:bb"}, ""},
		"the key, and no share": {inventory.Use{Kind: inventory.XDPSocket, Queue: 7}, RSSState{Table: []uint32{0, 1, 0, 1}, Key: "cc:dd"}, ""},
		"a program":             {inventory.Use{Kind: inventory.XDPAttached}, RSSState{Table: []uint32{0, 0, 0, 0}, Key: "cc:dd"}, ""},
		"a route":               {inventory.Use{Kind: inventory.DefaultRoute}, RSSState{Table: []uint32{0, 0, 0, 0}}, ""},
	} {
		if got := RSS().Breaks(test.use, spread, test.next); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestMTUBreaksXDP(t *testing.T) {
	from, to := NetdevState{MTU: new(uint32(1500)), TxQueueLen: new(uint32(1000))}, NetdevState{MTU: new(uint32(3498)), TxQueueLen: new(uint32(1000))}
	for kind, want := range map[inventory.UseKind]string{
		inventory.XDPAttached: "mtu", inventory.XDPSocket: "mtu", inventory.DefaultRoute: "", inventory.SSHSession: "",
	} {
		if got := Netdev().Breaks(inventory.Use{Kind: kind}, from, to); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
	if got := Netdev().Breaks(inventory.Use{Kind: inventory.XDPAttached}, from, from); got != "" {
		t.Errorf("the same MTU: %q", got)
	}
}
