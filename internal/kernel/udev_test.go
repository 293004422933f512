package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestUdevRules(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rules.d")
	const name = "81-nictune-x.rules"
	for _, rules := range []string{"a\n", "b\n"} {
		if err := writeRules(dir, name, []byte(rules)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != rules {
			t.Errorf("%q, %v", b, err)
		}
	}
	for range 2 { // what is not there needn't go
		if err := writeRules(dir, name, nil); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	for _, name := range []string{"../x.rules", "a/b.rules", "x", "", "x.rules.new"} {
		if err := writeRules(dir, name, []byte("c")); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := writeRules(filepath.Join(dir, "none", "rules.d"), name, []byte("c")); ReasonOf(err) != Unsupported {
		t.Errorf("without udev: %v", err)
	}
}
