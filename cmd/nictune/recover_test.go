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

// A rollback means the last transaction also where recovery completes it first.
func TestRollbackAfterRecovery(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "rec1", "type ifb")
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	for i, feature := range []string{"rx-gro", "tx-generic-segmentation"} {
		policy := filepath.Join(dir, feature+".yaml")
		document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: one\nmatch: {name: rec1}\nsettings:\n  features: {" + feature + ": off}\n"
		if err := os.WriteFile(policy, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		if stdout, stderr, exit := nictune(t, "apply", "-f", policy, "--state-dir", state); exit != exitOK {
			t.Fatalf("apply %d: exit %d\n%s%s", i+1, exit, stdout, stderr)
		}
	}
	finished, pending := filepath.Join(state, "history/000002.journal"), filepath.Join(state, "pending/000002.journal")
	b, err := os.ReadFile(finished)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	if err := os.Remove(finished); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pending, []byte(strings.Join(lines[:3], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, exit := nictune(t, "rollback", "--state-dir", state); exit != exitOK {
		t.Fatalf("exit %d\n%s%s", exit, stdout, stderr)
	}
	if stdout, _, exit := nictune(t, "history", "--state-dir", state); exit != exitOK || !strings.Contains(stdout, "took 2 back") {
		t.Errorf("exit %d\n%s", exit, stdout)
	}
}

func TestDamagedJournalHidesNoOther(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "rec2", "type ifb")
	dir := t.TempDir()
	policy, state := filepath.Join(dir, "gro.yaml"), filepath.Join(dir, "state")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: gro\nmatch: {name: rec2}\nsettings:\n  features: {rx-gro: off}\n"
	if err := os.WriteFile(policy, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"apply", "-f", policy}, {"rollback"}} {
		if stdout, stderr, exit := nictune(t, append(command, "--state-dir", state)...); exit != exitOK {
			t.Fatalf("%v: exit %d\n%s%s", command, exit, stdout, stderr)
		}
	}
	path := filepath.Join(state, "history/000001.journal")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[20] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, exit := nictune(t, "history", "--state-dir", state)
	if exit != exitError || !strings.Contains(stdout, "took 1 back") || !strings.Contains(stderr, path) {
		t.Errorf("exit %d\n%s%s", exit, stdout, stderr)
	}
}
