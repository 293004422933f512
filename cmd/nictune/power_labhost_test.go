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
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	program, policy := filepath.Join(dir, "nictune"), filepath.Join(dir, "igb.yaml")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
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
	const apply = "/lab/nictune apply -f /lab/igb.yaml --allow nic-reset --state-dir /persist/state 2>&1"
	vm := labtest.VM{Disk: filepath.Join(dir, "disk"), Files: []string{program, policy}, CutOn: "features: writing"}
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
