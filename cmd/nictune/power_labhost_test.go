//go:build labhost

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// TestPowerCut cuts the power of a machine in the middle of an apply. When it is
// up again the journal is whole, and the next start ends the transaction.
//
//lab:seconds 25
func TestPowerCut(t *testing.T) {
	program, policy := forTheLab(t)
	const apply = "/lab/nictune apply -f /lab/igb.yaml --allow nic-reset --state-dir /persist/state 2>&1"
	vm := labtest.VM{Disk: filepath.Join(t.TempDir(), "disk"), Files: []string{program, policy}, CutOn: "features: writing"}
	if out, code := vm.Run(t, apply+"; echo went on; sleep 60"); code != 0 || strings.Contains(out, "went on") {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	vm.CutOn = ""
	out, code := vm.Run(t, `
		/lab/nictune history --state-dir /persist/state
		/lab/nictune plan -f /lab/igb.yaml; echo plan $?
		`+apply+`; echo apply $?
		/lab/nictune history --state-dir /persist/state`)
	for _, want := range []string{
		"root  pending", "Plan: 6 changes on 2 NICs", "plan 2\n",
		"an earlier transaction had been interrupted\" transaction=1 outcome=undone", "Done: transaction 2.", "apply 0\n",
		"root  undone", "root  applied",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in (exit code %d):\n%s", want, code, out)
		}
	}
}

// TestPowerCutUnconfirmed cuts the power while a change awaits confirmation: that
// was a no. The machine comes up with a clock that says the time is not over.
//
//lab:seconds 25
func TestPowerCutUnconfirmed(t *testing.T) {
	program, _ := forTheLab(t)
	policy := filepath.Join(t.TempDir(), "rings.yaml")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: rings\nmatch: {driver: [igb]}\nsettings:\n  rings: {rx: 512}\n"
	if err := os.WriteFile(policy, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	vm := labtest.VM{Disk: filepath.Join(t.TempDir(), "disk"), Files: []string{program, policy}, CutOn: "Unconfirmed: transaction 1"}
	const apply = "/lab/nictune apply -f /lab/rings.yaml --allow nic-reset --state-dir /persist/state --confirm 1h --no-wait 2>&1"
	if out, code := vm.Run(t, apply+"; echo; sleep 60"); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	vm.CutOn = ""
	out, code := vm.Run(t, `
		/lab/nictune history --state-dir /persist/state
		/lab/nictune confirm --state-dir /persist/state 2>&1; echo confirm $?
		/lab/nictune recover --state-dir /persist/state 2>&1; echo recover $?
		/lab/nictune history 1 --state-dir /persist/state
		/lab/nictune confirm 1 --state-dir /persist/state 2>&1; echo confirm $?
		/lab/nictune plan -f /lab/rings.yaml; echo plan $?`)
	for _, want := range []string{
		"root  unconfirmed", "transaction 1 can't be confirmed any more: the host was restarted before it was confirmed; if it is not taken back in a moment, run nictune recover\nconfirm 3\n",
		"an earlier transaction was not confirmed\" transaction=1 outcome=undone", "recover 0\n",
		"Undone because: the host was restarted before it was confirmed", "it was undone, because the host was restarted before it was confirmed\nconfirm 3\n",
		"plan 2\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in (exit code %d):\n%s", want, code, out)
		}
	}
}

// forTheLab builds the program, and gives a policy for two igb.
func forTheLab(t *testing.T) (program, policy string) {
	t.Helper()
	dir := t.TempDir()
	program, policy = filepath.Join(dir, "nictune"), filepath.Join(dir, "igb.yaml")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	document, err := os.ReadFile("testdata/igb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(policy, document, 0o600); err != nil {
		t.Fatal(err)
	}
	return program, policy
}
