package sriov

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func open(t testing.TB) *kernel.Live {
	t.Helper()
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := live.Close(); err != nil {
			t.Error(err)
		}
	})
	return live
}

// TestNamespaces finds a device that was moved away: by the number that the kernel
// gave the namespace then, with the name of its mount and the process in it.
func TestNamespaces(t *testing.T) {
	nstest.Require(t)
	const name = "nictune-sriov-test"
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	run("netns", "add", name)
	t.Cleanup(func() { run("netns", "del", name) })
	sleeper := exec.Command("ip", "netns", "exec", name, "sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	})
	live := open(t)

	before, err := kernel.NamespaceIDs(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	run("link", "add", "here0", "type", "veth", "peer", "name", "there0")
	run("link", "set", "there0", "netns", name)
	ids, err := kernel.NamespaceIDs(t.Context(), live)
	if err != nil || len(ids) != len(before)+1 {
		t.Fatalf("numbers %v, then %v, %v", before, ids, err)
	}
	id := ids[len(ids)-1]

	users, err := live.Users(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ns := namespaceOf(users, id)
	if ns.Inode == 0 || ns.Own || !slices.Contains(ns.Paths, "/run/netns/"+name) {
		t.Fatalf("namespace %d is not among %+v", id, users.Namespaces)
	}
	if got := ns.facts(); got.Name != name || *got.ID != id || got.Inode == 0 {
		t.Errorf("%+v", got)
	}
	own := slices.IndexFunc(users.Namespaces, func(n kernel.Namespace) bool { return n.Own })
	if own < 0 || len(users.Namespaces[own].PIDs) > 0 {
		t.Errorf("our own is not told from others: %+v", users.Namespaces)
	}
	processes := &processes{Reader: live, known: map[int]process{}}
	if u := ns.user(t.Context(), processes); u.Name != name || u.PID == nil || u.Process != "sleep" && u.Process != "ip" {
		t.Errorf("used by %+v", u)
	}

	links, err := linksIn(t.Context(), live, id)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(links, func(l link) bool { return l.name == "there0" })
	if at < 0 {
		t.Fatalf("there0 is not among %+v", links)
	}
	mac, err := exec.Command("ip", "netns", "exec", name, "cat", "/sys/class/net/there0/address").Output()
	if err != nil {
		t.Fatal(err)
	}
	if l := links[at]; l.kind != "veth" || l.mac != strings.TrimSpace(string(mac)) || l.state != "down" || l.mtu == nil || *l.mtu != 1500 {
		t.Errorf("%+v, MAC %s", l, mac)
	}
}

// TestStackedAbroad finds what lies on a VF's network device in other namespaces: also
// what was made there, which gives its namespace no number here.
func TestStackedAbroad(t *testing.T) {
	nstest.Require(t)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	const moved, made = "nictune-sriov-moved", "nictune-sriov-made"
	for _, name := range []string{moved, made} {
		run("netns", "add", name)
		t.Cleanup(func() { run("netns", "del", name) })
	}
	for _, name := range []string{"lower1", "lower2"} {
		run("link", "add", name, "type", "veth", "peer", "name", name+"p")
		t.Cleanup(func() { run("link", "del", name) })
	}
	run("link", "add", "link", "lower1", "name", "mv0", "type", "macvlan", "mode", "bridge")
	run("link", "set", "mv0", "netns", moved)
	run("link", "add", "link", "lower1", "name", "mv1", "netns", made, "type", "macvlan", "mode", "bridge")
	run("-n", made, "link", "add", "other", "type", "veth", "peer", "name", "otherp") // built on nothing of ours

	live := open(t)
	inv, err := inventory.Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	vfs := make([]*virtual, 2)
	for i, name := range []string{"lower1", "lower2"} {
		at := slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Name == name })
		vfs[i] = &virtual{nic: &inv.NICs[at]}
	}
	s := &survey{Reader: live, inv: &Inventory{}, pfs: []*physical{{vfs: vfs}}}
	s.readUsers(t.Context())
	var got []string
	for _, u := range vfs[0].Users {
		got = append(got, u.String())
	}
	slices.Sort(got)
	want := []string{"namespace " + made + " (macvlan mv1)", "namespace " + moved + " (macvlan mv0)"}
	if !slices.Equal(got, want) || len(vfs[0].Unread) > 0 {
		t.Errorf("%q, want %q; not read: %v", got, want, vfs[0].Unread)
	}
	if len(vfs[1].Users) > 0 {
		t.Errorf("of another device: %v", vfs[1].Users)
	}
}
