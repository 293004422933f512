package sriov

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
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
	if ns.Namespace == nil || ns.Own || !slices.Contains(ns.Paths, "/run/netns/"+name) {
		t.Fatalf("namespace %d is not among %+v", id, users.Namespaces)
	}
	if got := ns.facts(id); got.Name != name || *got.ID != id || got.Inode == 0 {
		t.Errorf("%+v", got)
	}
	own := slices.IndexFunc(users.Namespaces, func(n kernel.Namespace) bool { return n.Own })
	if own < 0 || len(users.Namespaces[own].PIDs) > 0 {
		t.Errorf("our own is not told from others: %+v", users.Namespaces)
	}
	processes := &processes{Reader: live, known: map[int]process{}}
	if u := ns.user(t.Context(), id, processes); u.Name != name || u.PID == nil || u.Process != "sleep" && u.Process != "ip" {
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
