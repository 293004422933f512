//go:build lab

package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/labtest"
)

// bonded makes a bond of the two igb, with both carriers up.
func bonded(t *testing.T) (names []string, policy, state string) {
	t.Helper()
	names = labtest.NICs(t, "igb", 2)[:2]
	labtest.Run(t, "modprobe", "bonding", "max_bonds=0")
	labtest.Run(t, "ip", "link", "add", "lag0", "type", "bond", "mode", "active-backup", "miimon", "50", "updelay", "2000")
	t.Cleanup(func() { labtest.Run(t, "ip", "link", "del", "lag0") })
	for _, name := range names {
		labtest.Run(t, "ip", "link", "set", name, "down")
		labtest.Run(t, "ip", "link", "set", name, "master", "lag0")
	}
	labtest.Run(t, "ip", "link", "set", "lag0", "up")
	for _, name := range names {
		labtest.Eventually(t, name+" is up in the bond", func() bool { return miiStatus(name) == "up" })
	}
	labtest.Run(t, "ip", "addr", "add", "192.0.2.2/24", "dev", "lag0")
	labtest.Run(t, "ip", "route", "add", "default", "via", "192.0.2.1")
	dir := t.TempDir()
	policy, state = filepath.Join(dir, "rings.yaml"), filepath.Join(dir, "state")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: rings\nmatch: {driver: [igb]}\nsettings:\n  rings: {rx: 512}\n"
	if err := os.WriteFile(policy, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return names, policy, state
}

func miiStatus(name string) string {
	b, _ := os.ReadFile("/sys/class/net/" + name + "/bonding_slave/mii_status")
	return strings.TrimSpace(string(b))
}

// watched counts, while f runs, how often the bond could not use each member, and
// how often none of them. An emulated link is back in a moment; updelay makes the
// bond wait for it as a switch's port would.
func watched(names []string, f func()) (down []int, together int) {
	down = make([]int, len(names))
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			all := true
			for i, name := range names {
				up := miiStatus(name) == "up"
				all = all && !up
				if !up {
					down[i]++
				}
			}
			if all {
				together++
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	f()
	close(done)
	watch.Wait()
	return down, together
}

// lines hands on each line that a command writes.
type lines func(line string)

func (l lines) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		l(strings.TrimSpace(line))
	}
	return len(b), nil
}

// TestBondMembersOneAtATime resets both members of a bond, and takes that back:
// the bond loses each of them, and never both at once.
//
//lab:seconds 35
func TestBondMembersOneAtATime(t *testing.T) {
	labtest.Require(t, "nics", "hub")
	names, policy, state := bonded(t)
	_, stderr, exit := nictune(t, "apply", "-f", policy, "--state-dir", state, "--allow", "nic-reset")
	if exit != exitRefused || !strings.Contains(stderr, names[0]+": rings (nic-reset) would disturb the default route via 192.0.2.1, through lag0") {
		t.Errorf("unnamed: exit %d, %s", exit, stderr)
	}
	// A host that is short of CPU time may sleep through the moment in which a link is gone: then the bond has lost
	// nobody, which shows nothing, and both are done again.
	lost := map[string]bool{}
	for round := 0; round < 4 && len(lost) < 2; round++ {
		for _, command := range [][]string{{"apply", "-f", policy, "--allow", "nic-reset"}, {"rollback"}} {
			if down := changeBonded(t, names, append(command, "--state-dir", state, "--disrupt", strings.Join(names, ","))); down[0] > 0 && down[1] > 0 {
				lost[command[0]] = true
			}
		}
	}
	if len(lost) < 2 {
		t.Errorf("the bond lost both members only by %v: this shows nothing", lost)
	}
}

// changeBonded runs a command that resets both members of a bond, one after the other, and says how often the bond
// could not use each.
func changeBonded(t *testing.T, names, args []string) []int {
	t.Helper()
	var began []string // with what the bond thought then of the other
	down, together := watched(names, func() {
		said := lines(func(line string) {
			for i, name := range names {
				if line == name+": rings: writing" {
					began = append(began, name+" while "+names[1-i]+" is "+miiStatus(names[1-i]))
				}
			}
		})
		if exit := run(t.Context(), args, os.Stdout, said); exit != exitOK {
			t.Errorf("%s: exit %d", args[0], exit)
		}
	})
	t.Log(began)
	if len(began) != 2 || !strings.HasSuffix(began[0], " is up") || !strings.HasSuffix(began[1], " is up") {
		t.Errorf("%s: a member was begun with the other not in use: %q", args[0], began)
	}
	t.Logf("%s: the bond was without them at %d and %d looks, without both at %d", args[0], down[0], down[1], together)
	if together > 0 {
		t.Errorf("%s: the bond was without any member", args[0])
	}
	for _, name := range names {
		if miiStatus(name) != "up" {
			t.Errorf("%s: %s is %s in the bond", args[0], name, miiStatus(name))
		}
	}
	return down
}

// TestBondMemberThatStaysDown pulls the cable of the first member as it is reset:
// the second is not touched, and the first is put back.
//
//lab:seconds 25
func TestBondMemberThatStaysDown(t *testing.T) {
	labtest.Require(t, "nics", "hub")
	names, policy, state := bonded(t)
	ids := map[string]string{}
	for i, id := range []string{"igb0", "igb1"} {
		ids[names[i]] = id
	}
	pulled := ""
	t.Cleanup(func() {
		if pulled != "" {
			labtest.SetLink(t, pulled, true)
		}
	})
	stderr := &told{word: "rings: verified"}
	stderr.then = func() {
		first, _, _ := strings.Cut(stderr.text.String(), ":")
		pulled = ids[strings.TrimSpace(first)]
		labtest.SetLink(t, pulled, false)
	}
	args := []string{"apply", "-f", policy, "--state-dir", state, "--allow", "nic-reset", "--disrupt", strings.Join(names, ","), "--gate-timeout", "5s"}
	exit := run(t.Context(), args, os.Stdout, stderr)
	said := stderr.text.String()
	if exit != exitError || !strings.Contains(said, "is left alone, because") || !strings.Contains(said, "no carrier") || !strings.Contains(said, "was undone") {
		t.Errorf("exit %d, %s", exit, said)
	}
	if strings.Count(said, "rings: writing") != 1 {
		t.Errorf("the second member was touched: %s", said)
	}
}
