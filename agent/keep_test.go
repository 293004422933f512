package agent

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
)

// noting is a host that notes how often its devices were listed, and which were
// asked for by themselves.
type noting struct {
	kernel.Reader
	mu     sync.Mutex
	listed int
	single int
}

func (n *noting) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if r.Family == kernel.FamilyRoute && r.Command == uapi.RTM_GETLINK {
		n.mu.Lock()
		if r.Dump {
			n.listed++
		} else {
			n.single++
		}
		n.mu.Unlock()
	}
	return n.Reader.Netlink(ctx, r)
}

func (n *noting) counts() (listed, single int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.listed, n.single
}

// facts are a NIC's, or nil.
func (a *Agent) nic(name string) *inventory.NIC {
	inv := a.current()
	if inv == nil {
		return nil
	}
	i := slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &inv.NICs[i]
}

// One device that comes, changes or goes is read by itself; the host only where the
// kernel's word was lost.
func TestOnlyWhatChangedIsReadAgain(t *testing.T) {
	nstest.Require(t)
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	heard, err := Watch(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	overrun := make(chan struct{})
	changes := func(ctx context.Context) (Event, error) {
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		lost := make(chan struct{})
		go func() {
			select {
			case <-overrun:
				close(lost)
				cancel()
			case <-inner.Done():
			}
		}()
		e, err := heard(inner)
		for err == nil && e.whole() { // a module that some other program made the kernel load
			e, err = heard(inner)
		}
		select {
		case <-lost:
			return Event{}, kernel.ErrOverrun
		default:
			return e, err
		}
	}
	nstest.Link(t, "keep0", "type veth peer name keep1")
	host := &noting{Reader: live}
	a := start(t, host, Options{Changes: changes})
	eventually(t, "ready", a.Ready)
	// The host was read whole once, or twice where something of the test's own beginning
	// was still on its way.
	steady := 0
	for range 300 {
		before, _ := host.counts()
		time.Sleep(100 * time.Millisecond)
		if after, _ := host.counts(); after == before {
			if steady++; steady == 5 {
				break
			}
		} else {
			steady = 0
		}
	}
	listed, _ := host.counts()

	nstest.IP(t, "link set keep0 mtu 1400")
	eventually(t, "the new MTU", func() bool { n := a.nic("keep0"); return n != nil && n.Link.MTU != nil && *n.Link.MTU == 1400 })
	nstest.IP(t, "link set keep0 name keep9")
	eventually(t, "the new name", func() bool { n := a.nic("keep1"); return n != nil && n.Stack.Peer == "keep9" && a.nic("keep0") == nil })
	nstest.Link(t, "keep2", "type veth peer name keep3")
	eventually(t, "a new device", func() bool { n := a.nic("keep2"); return n != nil && n.Stack.Peer == "keep3" && n.Driver != nil })
	nstest.IP(t, "link del keep2")
	eventually(t, "its end", func() bool { return a.nic("keep2") == nil && a.nic("keep3") == nil })
	now, single := host.counts()
	if now != listed {
		t.Errorf("all devices were listed %d times more for changes of single ones", now-listed)
	}
	if single == 0 {
		t.Error("nobody was asked by itself")
	}
	overrun <- struct{}{}
	eventually(t, "a whole reading after an overrun", func() bool { n, _ := host.counts(); return n > listed })
}

func TestChanged(t *testing.T) {
	inv := &inventory.Inventory{}
	for i := range 100 {
		inv.NICs = append(inv.NICs, inventory.NIC{Index: i + 1})
	}
	inv.NICs[4].Parent = &inventory.Parent{Bus: "pci", Address: "0000:01:00.0"}
	inv.NICs[5].Devlink = &inventory.Devlink{Handle: "pci/0000:01:00.0"}
	c := newChanged()
	check := func(what string, want []int, wholly bool) {
		t.Helper()
		if got, whole := c.take(inv); !slices.Equal(got, want) || whole != wholly {
			t.Errorf("%s: %v, %v", what, got, whole)
		}
	}
	check("nothing", nil, false)
	c.add(Event{Index: 7, What: "link"})
	c.add(Event{Index: 3, What: "link"})
	c.add(Event{Index: 7, What: "rings"})
	check("two devices", []int{3, 7}, false)
	check("no more", nil, false)
	c.add(Event{Handle: "pci/0000:01:00.0", What: "devlink"})
	check("by devlink's name", []int{5, 6}, false)
	c.add(Event{What: "pci add"})
	c.add(Event{Index: 2, What: "link"})
	check("more than devices", []int{2}, true)
	check("until it was read", nil, true)
	c.begin()
	if _, all := c.since(); !all {
		t.Error("the facts are being read, and are said to be current")
	}
	c.end()
	check("after that", nil, false)
	c.add(Event{Index: 9, What: "link"})
	if indexes, all := c.since(); all || !indexes[9] || len(indexes) != 1 {
		t.Errorf("since: %v, %v", indexes, all)
	}
	check("one", []int{9}, false)
	c.add(Event{Index: 8, What: "link"})
	if indexes, all := c.since(); all || !indexes[8] || !indexes[9] {
		t.Errorf("one is being read, one waits: %v, %v", indexes, all)
	}
	c.end()
	if indexes, _ := c.since(); indexes[9] || !indexes[8] {
		t.Errorf("one was read: %v", indexes)
	}
	check("the other", []int{8}, false)
	c.end()
	for i := range 40 {
		c.add(Event{Index: i + 1, What: "link"})
	}
	check("a quarter of all and more", nil, true)
	c.begin()
	c.end()
	c.all()
	check("an overrun", nil, true)
}

// Facts that are replaced while somebody asks what changed since are not taken for those
// that are known now.
func TestWhatChangedSinceFactsThatAreReplaced(t *testing.T) {
	a := New(newSilent(t), Options{})
	old, fresh := &inventory.Inventory{}, &inventory.Inventory{}
	a.facts.inventory = old
	a.changed.add(Event{Index: 7})
	if indexes, all := a.changedSince(old); all || !indexes[7] {
		t.Errorf("%v, %v, want 7", indexes, all)
	}
	a.changed.mu.Lock()
	known := make(chan bool)
	go func() {
		indexes, all := a.changedSince(old)
		known <- all || indexes[7]
	}()
	time.Sleep(20 * time.Millisecond) // for who asks in the wrong order to get stuck between
	a.keep(fresh)
	clear(a.changed.indexes)
	a.changed.mu.Unlock()
	if !<-known {
		t.Error("7 changed, and nobody says so")
	}
	if _, all := a.changedSince(old); !all {
		t.Error("old facts are said to be current")
	}
}
