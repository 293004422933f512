package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
)

// Three changes of one device, of which two are of one field, go back at once, and to
// where the second ended.
func TestRollbackToAnyPoint(t *testing.T) {
	nstest.Link(t, "ret0", "type veth peer name ret1")
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	is := func() string {
		var all []string
		for _, file := range []string{"mtu", "tx_queue_len"} {
			b, err := os.ReadFile("/sys/class/net/ret0/" + file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.TrimSpace(string(b)))
		}
		return strings.Join(all, " ")
	}
	points := []string{is()}
	for i, netdev := range []string{"mtu: 1400", "mtu: 1300", "txqueuelen: 777"} {
		policy := filepath.Join(dir, fmt.Sprintf("%d.yaml", i))
		document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: ret\nmatch: {name: ret0}\nsettings: {netdev: {" + netdev + "}}\n"
		if err := os.WriteFile(policy, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, exit := nictune(t, "apply", "-f", policy, "--state-dir", state, "--allow", "link-flap"); exit != exitOK {
			t.Fatalf("exit %d, %s", exit, stderr)
		}
		points = append(points, is())
	}
	if points[3] != "1300 777" {
		t.Fatalf("it is %v", points)
	}
	for _, to := range []int{1, 0, 2} { // the last takes the first two back
		stdout, stderr, exit := nictune(t, "rollback", "--to", fmt.Sprint(to), "--state-dir", state)
		if exit != exitOK || is() != points[to] {
			t.Errorf("back to %d: exit %d, %s%s, it is %s, not %s", to, exit, stdout, stderr, is(), points[to])
		}
	}
	if stdout, _, exit := nictune(t, "history", "--state-dir", state); exit != exitOK || strings.Count(stdout, "\n") != 7 || !strings.Contains(stdout, "  back to 2 ") {
		t.Errorf("exit %d, %s", exit, stdout)
	}
	for _, args := range [][]string{{"--to", "1", "2"}, {"--to", "-1"}, {"--to", "99"}} {
		if _, stderr, exit := nictune(t, append([]string{"rollback", "--state-dir", state}, args...)...); exit != exitError {
			t.Errorf("%v: exit %d, %s", args, exit, stderr)
		}
	}
	if stdout, _, exit := nictune(t, "rollback", "--state-dir", state, "--to", "6"); exit != exitOK || !strings.Contains(stdout, "Nothing to do: all is as after transaction 6.") {
		t.Errorf("exit %d, %s", exit, stdout)
	}
}
