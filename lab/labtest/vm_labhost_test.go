//go:build labhost

package labtest

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestPowerCutLosesWhatWasNotSynced shows that a cut is one: what a program had put on the disk is
// there after it, what was still on its way is not.
func TestPowerCutLosesWhatWasNotSynced(t *testing.T) {
	vm := VM{Disk: filepath.Join(t.TempDir(), "disk"), CutOn: "cut here"}
	out, code := vm.Run(t, `
		echo 1 >/persist/synced && sync /persist/synced && echo 2 >/persist/written
		echo cut here; sleep 60; echo still on`)
	if code != 0 || strings.Contains(out, "still on") {
		t.Fatalf("exit code %d, output %q", code, out)
	}
	vm.CutOn = ""
	out, code = vm.Run(t, `cat /persist/synced; test -s /persist/written`)
	if out != "1\n" || code != 1 {
		t.Errorf("after the cut: synced %q, want 1; exit code %d of the search for what was not, want 1", out, code)
	}
}

func TestExitCodeAndOutputComeBack(t *testing.T) {
	share := t.TempDir()
	out, code := VM{Profile: "hub", Share: share, Files: []string{"vm.go"}}.Run(t, `wc -l </lab/vm.go >/share/lines; echo it is $NICTUNE_LAB; exit 7`)
	if out != "it is hub\n" || code != 7 {
		t.Errorf("output %q, exit code %d", out, code)
	}
	if files, _ := filepath.Glob(share + "/lines"); len(files) != 1 {
		t.Errorf("what the guest wrote to /share is not here")
	}
}
