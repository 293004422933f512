package metrics

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestWriteText(t *testing.T) {
	e := exporter(t, example)
	registry := prometheus.NewRegistry()
	registry.MustRegister(BuildInfo("v1", "abc"))
	var b bytes.Buffer
	if err := e.WriteText(&b, registry); err != nil {
		t.Fatal(err)
	}
	if err := testutil.GatherAndCompare(prometheus.Gatherers{registry, exporter(t, example)}, &b); err != nil {
		t.Error(err)
	}
}

// A file is replaced whole or not at all.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "nictune.prom")
	says := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	content := func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if err := WriteFile(path, says("old")); err != nil || content() != "old" {
		t.Fatal(err, content())
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	full := errors.New("no space left on device")
	err := WriteFile(path, func(w io.Writer) error { return errors.Join(says("half of the new")(w), full) })
	if !errors.Is(err, full) || content() != "old" {
		t.Errorf("%v, and %q", err, content())
	}
	link := filepath.Join(t.TempDir(), "link.prom")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{dir, "/dev/null", link, filepath.Join(dir, "missing", "x.prom")} {
		if err := WriteFile(bad, says("x")); err == nil || !strings.Contains(err.Error(), filepath.Dir(bad)) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
