package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

// differences are what two inventories say differently of NICs.
func differences(t *testing.T, got, want *Inventory) (all []string) {
	t.Helper()
	if len(got.NICs) != len(want.NICs) {
		return []string{fmt.Sprintf("%d NICs, want %d", len(got.NICs), len(want.NICs))}
	}
	for i := range got.NICs {
		a, err := json.Marshal(got.NICs[i])
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(want.NICs[i])
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			all = append(all, fmt.Sprintf("%s\n got %s\nwant %s", want.NICs[i].Name, a, b))
		}
	}
	return all
}

// keepsUp fails the test unless some NICs, read again, make an inventory that is as
// a whole reading has it. The kernel may take its time to tell all of a change.
func keepsUp(t *testing.T, what string, k *Keeper, indexes []int) {
	t.Helper()
	var found []string
	for range 300 {
		inv, err := k.Some(t.Context(), indexes)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		whole, err := Read(t.Context(), k.reader)
		if err != nil {
			t.Fatal(err)
		}
		if found = differences(t, inv, whole); len(found) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, d := range found {
		t.Errorf("%s: %s", what, d)
	}
}

// What is read of some NICs is what a whole reading says of them, whatever changed.
func TestKeeperReadsSomeAsWhole(t *testing.T) {
	nstest.Require(t)
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	// Without IPv6, which joins groups when it likes to, and without a word.
	const ipv6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"
	if err := os.WriteFile(ipv6, []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(ipv6, []byte("0"), 0) })
	nstest.Link(t, "kbr", "type bridge")
	nstest.Link(t, "kv0", "numrxqueues 4 numtxqueues 4 type veth peer name kv1")
	nstest.Link(t, "kv2", "type veth peer name kv3")
	nstest.Link(t, "kifb", "type ifb")
	nstest.Link(t, "kmac", "link kv2 type macvlan mode bridge")
	nstest.Run(t, "ip", "tuntap", "add", "ktap", "mode", "tap", "multi_queue")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "ktap").Run() })
	index := func(name string) int {
		t.Helper()
		device, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return device.Index
	}
	k := NewKeeper(live)
	if _, err := k.Some(t.Context(), []int{1}); err == nil {
		t.Error("some are known before the first reading")
	}
	first, err := k.Whole(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing has changed: each by itself, and all together.
	var all []int
	for _, n := range first.NICs {
		all = append(all, n.Index)
		keepsUp(t, "unchanged "+n.Name, k, []int{n.Index})
	}
	keepsUp(t, "all of them", k, append(slices.Clone(all), all...))

	for _, step := range []struct {
		what    string
		change  string
		devices string // that the kernel tells of
	}{
		{"enslaved", "link set kv0 master kbr", "kv0 kbr"},
		{"up", "link set kv0 up", "kv0 kv1"},
		{"peer up", "link set kv1 up", "kv0 kv1 kbr"},
		{"bridge up", "link set kbr up", "kbr kv0"},
		{"renamed", "link set kv3 name kv9", "kv9"},
		{"mtu", "link set kifb mtu 1400", "kifb"},
		{"new", "link add kv4 type veth peer name kv5", "kv4 kv5"},
		{"another on top", "link add kmac2 link kv4 type macvlan", "kmac2 kv4"},
		{"released", "link set kv0 nomaster", "kv0 kbr"},
		{"joined a group", "maddr add 01:00:5e:00:00:05 dev kv2", "kv2"},
	} {
		nstest.IP(t, step.change)
		var indexes []int
		for name := range strings.FieldsSeq(step.devices) {
			indexes = append(indexes, index(name))
		}
		keepsUp(t, step.what, k, indexes)
	}
	// One that is gone takes its peer and what stood on it with it.
	gone := []int{index("kv4"), index("kv5"), index("kmac2")}
	nstest.IP(t, "link del kv5")
	keepsUp(t, "gone", k, gone)

	after, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("an inventory that was handed out has changed")
	}
}

func TestLinesOf(t *testing.T) {
	const igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo : 1 V3\n\t\t\t\t010000E0 1 0:00000000 0\n12\teth0 : 1 V3\n\t\t\t\t020000E0 1 0:00000000 0\n"
	got := string(linesOf([]byte(igmp), func(index int) bool { return index == 12 }))
	if want := "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n12\teth0 : 1 V3\n\t\t\t\t020000E0 1 0:00000000 0\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := linesOf([]byte("4    eth0  1 0 333300000001\n5    eth1  1 0 333300000001"), func(index int) bool { return index == 5 }); string(got) != "5    eth1  1 0 333300000001" {
		t.Errorf("%q", got)
	}
}
