package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// TestGoldenPlan plans for the recorded lab host: an igb with two VFs,
// whose channels are at most 2 then.
func TestGoldenPlan(t *testing.T) {
	for name, test := range map[string]struct {
		policy string
		exit   int
	}{
		"plan.txt":            {"testdata/igb.yaml", exitDifferences},
		"plan-impossible.txt": {"testdata/impossible.yaml", exitError},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, exit := nictune(t, "--host", labHost, "plan", "-f", test.policy)
			if exit != test.exit {
				t.Errorf("exit %d, want %d", exit, test.exit)
			}
			golden := filepath.Join("testdata/golden", name)
			if *update {
				if err := os.WriteFile(golden, []byte(stdout+stderr), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if stdout+stderr != string(want) {
				t.Errorf("differs from %s (go generate rewrites it):\n%s%s", golden, stdout, stderr)
			}
		})
	}
}

func TestRecordedHostIsNeverWritten(t *testing.T) {
	_, stderr, exit := nictune(t, "--host", labHost, "apply", "-f", "testdata/igb.yaml", "--state-dir", t.TempDir())
	if exit != exitRefused || !strings.Contains(stderr, "only the running host can be changed") {
		t.Errorf("exit %d, %q", exit, stderr)
	}
}

// TestTuning goes through plan, apply, history and rollback on real devices, by
// their exit codes.
func TestTuning(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "tune0", "numrxqueues 4 numtxqueues 4 type veth peer name tune1")
	nstest.Run(t, "ethtool", "-L", "tune0", "rx", "1", "tx", "1")
	dir := t.TempDir()
	write := func(name, channels string) string {
		path := filepath.Join(dir, name)
		document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: " + strings.TrimSuffix(name, ".yaml") +
			"\nmatch: {name: tune0}\nsettings:\n  channels: " + channels + "\n"
		if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, tooMuch := write("good.yaml", "{rx: max, tx: 2}"), write("much.yaml", "{rx: 5}")
	plan, state := filepath.Join(dir, "plan.json"), filepath.Join(dir, "state")
	step := func(exit int, want string, args ...string) string {
		t.Helper()
		stdout, stderr, got := nictune(t, args...)
		if got != exit || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%s: exit %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, exit, want, stdout, stderr)
		}
		return stdout
	}
	step(exitDifferences, "rx  1  ->  4", "plan", "-f", good, "--out", plan)
	step(exitError, "much.yaml:6: tune0: channels.rx: 5: the device takes 4 at most", "plan", "-f", tooMuch)
	step(exitError, "much.yaml:6", "apply", "-f", tooMuch, "--state-dir", state)
	step(exitError, "no file or directory is named", "apply", "-f", "", "--state-dir", state, "--allow", "nic-reset")
	step(exitError, "no file or directory is named", "plan", "-f", "")
	step(exitRefused, "--allow nic-reset", "apply", "-f", good, "--state-dir", state)
	step(exitError, "unknown impact", "apply", "-f", good, "--state-dir", state, "--allow", "everything")
	idle := filepath.Join(dir, "idle.yaml")
	if err := os.WriteFile(idle, []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: idle\nmatch: {name: none}\nsettings: {channels: {rx: max}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	step(exitError, "--require-match: no NIC here matches: idle (", "apply", "-f", good, "-f", idle, "--require-match", "--state-dir", state, "--allow", "nic-reset")
	step(exitError, "none of the others can be", "apply", "--plan", plan, "--label", "a=b", "--state-dir", state)
	step(exitDifferences, "rx  1  ->  2 ", "plan", "-f", write("share.yaml", "{rx: 50%, tx: \"<=1\"}"))
	step(exitError, "nothing to take back", "rollback", "--state-dir", state)
	step(exitOK, "transaction 1", "apply", "--plan", plan, "--state-dir", state, "--allow", "nic-reset")
	step(exitRefused, "does not fit this host any more: tune0: channels.rx is 4, not 1", "apply", "--plan", plan, "--state-dir", state, "--allow", "nic-reset")
	step(exitOK, "No changes", "plan", "-f", good)
	step(exitOK, "No changes", "apply", "-f", good, "--state-dir", state)
	step(exitOK, "tune0: channels (verified)", "history", "1", "--state-dir", state)
	step(exitError, "no transaction 2", "history", "2", "--state-dir", state)
	step(exitOK, "transaction 2", "rollback", "--state-dir", state)
	step(exitOK, "rolled back by 2", "history", "--state-dir", state)
	step(exitDifferences, "rx  1  ->  4", "plan", "-f", good)

	var result tuning.Result
	out := step(exitOK, `"applied"`, "apply", "-f", good, "--state-dir", state, "--allow", "nic-reset", "-o", "json")
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Transaction == nil || result.Transaction.ID != 3 {
		t.Errorf("%+v, %v", result, err)
	}
	var history tuning.HistoryDocument
	if err := json.Unmarshal([]byte(step(exitOK, "", "history", "-o", "json", "--state-dir", state)), &history); err != nil || len(history.Transactions) != 3 {
		t.Errorf("%+v, %v", history, err)
	}

	store, err := tuning.OpenStore(state)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	step(exitRefused, "another nictune is changing this host", "rollback", "--state-dir", state)
	step(exitOK, "rolled back by 2", "history", "--state-dir", state)
}
