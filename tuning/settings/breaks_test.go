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

func TestWhatTakesPacketsBreaksTheWayToTheHost(t *testing.T) {
	drop := "flow-type tcp4 dst-port 22 action -1"
	for name, test := range map[string]struct {
		current, next FlowRules
		want          string
	}{
		"drops":           {FlowRules{}, FlowRules{"7": drop}, "drops flow-type tcp4 dst-port 22"},
		"drops, placed":   {FlowRules{}, FlowRules{"flow-type tcp4 dst-port 22": "action -1"}, "drops flow-type tcp4 dst-port 22"},
		"gives a VF":      {FlowRules{}, FlowRules{"7": "flow-type ip4 vf 3 queue 0"}, "gives VF 3 flow-type ip4"},
		"a queue":         {FlowRules{}, FlowRules{"7": "flow-type tcp4 dst-port 22 queue 1"}, ""},
		"was there":       {FlowRules{"7": drop}, FlowRules{"7": drop, "8": "flow-type tcp4 dst-port 80 queue 1"}, ""},
		"goes":            {FlowRules{"7": drop}, FlowRules{}, ""},
		"another instead": {FlowRules{"7": drop}, FlowRules{"7": "flow-type tcp4 action -1"}, "drops flow-type tcp4"},
		"what spared it goes": {FlowRules{"7": "flow-type tcp4 action -1", "6": "flow-type tcp4 dst-port 22 queue 0"},
			FlowRules{"7": "flow-type tcp4 action -1"}, "drops flow-type tcp4"},
	} {
		for kind, want := range map[inventory.UseKind]string{inventory.DefaultRoute: test.want, inventory.SSHSession: test.want, inventory.XDPAttached: ""} {
			if got := Flows().Breaks(inventory.Use{Kind: kind}, test.current, test.next); got != want {
				t.Errorf("flows: %s: %s: %q, want %q", name, kind, got, want)
			}
		}
	}
	for name, test := range map[string]struct {
		current, next HashFieldSet
		want          string
	}{
		"discards":     {HashFieldSet{"tcp4": "sdfn", "udp4": "sd"}, HashFieldSet{"tcp4": "r", "udp4": "sd"}, "discards tcp4"},
		"did so":       {HashFieldSet{"tcp4": "r", "udp4": "sd"}, HashFieldSet{"tcp4": "r", "udp4": "sdfn"}, ""},
		"other fields": {HashFieldSet{"tcp4": "sd"}, HashFieldSet{"tcp4": "sdfn"}, ""},
	} {
		for kind, want := range map[inventory.UseKind]string{inventory.DefaultRoute: test.want, inventory.SSHSession: test.want, inventory.XDPAttached: ""} {
			if got := HashFields().Breaks(inventory.Use{Kind: kind}, test.current, test.next); got != want {
				t.Errorf("rx-flow-hash: %s: %s: %q, want %q", name, kind, got, want)
			}
		}
	}
}
