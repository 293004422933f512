package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
)

// TestRecover cuts an applied transaction's journal to what a kill at some point
// would have left, and lets recover end it.
func TestRecover(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "rec0", "type ifb")
	dir := t.TempDir()
	policy, state := filepath.Join(dir, "gro.yaml"), filepath.Join(dir, "state")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: gro\nmatch: {name: rec0}\nsettings:\n  features: {rx-gro: off}\n"
	if err := os.WriteFile(policy, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	gro := func() bool {
		return strings.Contains(string(nstest.Run(t, "ethtool", "-k", "rec0")), "generic-receive-offload: on")
	}
	must := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, exit := nictune(t, append(args, "--state-dir", state)...)
		if exit != exitOK || !strings.Contains(stdout+stderr, want) {
			t.Fatalf("%v: exit %d, want %q:\n%s%s", args, exit, want, stdout, stderr)
		}
	}
	must("", "recover")
	must("transaction 1", "apply", "-f", policy)
	if gro() {
		t.Fatal("the policy was not applied")
	}
	finished, pending := filepath.Join(state, "history/000001.journal"), filepath.Join(state, "pending/000001.journal")
	b, err := os.ReadFile(finished)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n") // begin, writing, verified, end
	if err := os.Remove(finished); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pending, []byte(lines[0]+lines[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	must("transaction=1 outcome=undone", "recover")
	if !gro() {
		t.Error("what was half done is still there")
	}
	must("undone", "history")
	must("", "recover")
}
