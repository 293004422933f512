//go:build lab

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// writtenPolicy is the file of a policy for one device.
func writtenPolicy(t *testing.T, dir, name, device, settings string) string {
	t.Helper()
	file := filepath.Join(dir, name+".yaml")
	document := fmt.Sprintf("apiVersion: nictune/v1\nkind: TuningPolicy\nname: %s\nmatch: {name: %s}\nsettings:\n  %s\n", name, device, settings)
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRollbackToOnIGB: three transactions that overlap, each with a reset of the NIC,
// are taken back by one with one reset: to between them, and to before the first.
func TestRollbackToOnIGB(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.NICs(t, "igb", 2)[0]
	has := func(file, value string) bool {
		b, err := os.ReadFile("/sys/class/net/" + name + "/" + file)
		return err == nil && string(b) == value+"\n"
	}
	lost := func() int { // the carrier, with each reset
		b, err := os.ReadFile("/sys/class/net/" + name + "/carrier_down_count")
		n, err2 := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		return n
	}
	// QEMU's router would make the NIC a way out.
	put(t, "/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", "1")
	if !has("operstate", "up") {
		undone(t, "ip link set "+name+" up", "ip link set "+name+" down")
	}
	carrier := func() { labtest.Eventually(t, "the carrier", func() bool { return has("carrier", "1") }) }
	carrier()
	linkState := regexp.MustCompile(`<.*>| state \S+`) // which is lost with the link
	shown := func() string {
		link := linkState.ReplaceAllString(string(labtest.Run(t, "ip", "link", "show", name)), "")
		return string(labtest.Ethtool(t, "-g", name)) + string(labtest.Ethtool(t, "-c", name)) + link
	}

	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	change := func(args ...string) {
		t.Helper()
		carrier()
		before := lost()
		_, stderr, exit := nictune(t, append(args, "--state-dir", state)...)
		if exit != exitOK {
			t.Fatalf("%s: exit %d, %s", args[0], exit, stderr)
		}
		carrier()
		// Of what was changed the rings alone reset igb. (Its link can be lost once more
		// while it comes back.)
		if n := strings.Count(stderr, name+": rings: writing"); n != 1 || lost() == before {
			t.Errorf("%s: %d resets, the carrier was lost %d times: %s", args, n, lost()-before, stderr)
		}
	}
	points := []string{shown()}
	for i, settings := range []string{
		"rings: {rx: 512}\n  coalesce: {rx-usecs: 50}",
		"rings: {rx: 1024, tx: 512}",
		"rings: {tx: 1024}\n  coalesce: {rx-usecs: 70}\n  netdev: {alias: overlapping}",
	} {
		change("apply", "-f", writtenPolicy(t, dir, fmt.Sprint("step", i), name, settings), "--allow", "nic-reset")
		points = append(points, shown())
	}
	_, stderr, exit := nictune(t, "rollback", "1", "--state-dir", state)
	if exit != exitRefused || !strings.Contains(stderr, "rings.rx is 1024, not 512 as transaction 1 left it") {
		t.Errorf("the first alone: exit %d, %s", exit, stderr)
	}
	for _, to := range []int{1, 0} { // between, and before the first
		change("rollback", "--to", fmt.Sprint(to))
		if got := shown(); got != points[to] {
			t.Errorf("back to %d:\n%s\nwas:\n%s", to, got, points[to])
		}
	}
}

// TestRulesThatCutOff: what would take packets of the NIC with the default route from
// the host is refused unless the NIC is named. ethtool says what is there.
func TestRulesThatCutOff(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.Netdevsim(t, 60, 1, 4)[0]
	labtest.Ethtool(t, "-K", name, "ntuple", "on")
	labtest.Run(t, "ip", "link", "set", name, "up")
	labtest.Run(t, "ip", "addr", "add", "198.51.100.2/24", "dev", name)
	labtest.Run(t, "ip", "route", "add", "default", "via", "198.51.100.1", "dev", name, "metric", "7")
	labtest.Run(t, "ip", "neigh", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:01", "dev", name) // which nobody has to wait for
	put(t, "/sys/module/netdevsim/parameters/lab_special", "N")
	dir := t.TempDir()
	apply := func(settings string, args ...string) (string, int) {
		_, stderr, exit := nictune(t, append([]string{"apply", "-f", writtenPolicy(t, dir, "rules", name, settings), "--state-dir", filepath.Join(dir, "state")}, args...)...)
		return stderr, exit
	}
	const drop = "flows: [{flow-type: tcp4, dst-port: 22, action: drop}]"
	rules := func() string { return string(labtest.Ethtool(t, "-n", name)) }
	udp := func() string { return string(labtest.Ethtool(t, "-n", name, "rx-flow-hash", "udp4")) }
	hashes, none := udp(), rules()
	for settings, says := range map[string]string{
		drop: "flows (drops flow-type tcp4 dst-port 22)",
		"flows: [{flow-type: udp4, dst-port: 53, vf: 0, queue: 0}]": "flows (gives VF 0 flow-type udp4 dst-port 53)",
		"rx-flow-hash: {udp4: r}":                                   "rx-flow-hash (discards udp4)",
	} {
		refusal := "refused: " + name + ": " + says + " would disturb the default route via 198.51.100.1"
		if stderr, exit := apply(settings); exit != exitRefused || !strings.Contains(stderr, refusal) || rules() != none || udp() != hashes {
			t.Errorf("%s: exit %d, want %q in\n%s%s%s", settings, exit, refusal, stderr, rules(), udp())
		}
	}
	if stderr, exit := apply("flows: [{flow-type: tcp4, dst-port: 22, queue: 1}]"); exit != exitOK || !strings.Contains(rules(), "Direct to queue 1") {
		t.Errorf("a rule that only steers: exit %d, %s%s", exit, stderr, rules())
	}
	if stderr, exit := apply(drop, "--disrupt", name); exit != exitOK || !strings.Contains(rules(), "Action: Drop") {
		t.Errorf("where the NIC is named: exit %d, %s%s", exit, stderr, rules())
	}
}
