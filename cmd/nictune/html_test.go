package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pages are whole and stand alone: what they show is looked at in exporters/html.
func TestPages(t *testing.T) {
	dir := audits(t)
	for name, test := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"host.html":  {[]string{"audit", "--host", "testdata/hosts/lab-vfs.txtar", "-o", "html"}, exitDifferences, []string{"sriov/unbound", "vfio-pci", "4 of 7 VFs"}},
		"fleet.html": {[]string{"fleet", "report", "--reports", dir, "-o", "html"}, exitDifferences, []string{"<bdi>3 hosts</bdi>", "<bdi>lab-vfs</bdi>", `<summary id="detail-0">`, "sriov/unbound"}},
		"one.html":   {[]string{"fleet", "report", "--reports", dir, "--host", "lab-vfs", "-o", "html"}, exitDifferences, []string{`<h2 id="detail-0"><bdi>lab-vfs</bdi></h2>`}},
	} {
		out := filepath.Join(t.TempDir(), name)
		if _, stderr, code := nictune(t, append(test.args, "--out", out)...); code != test.code {
			t.Errorf("%s: exit %d, want %d: %s", name, code, test.code, stderr)
		}
		page, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(test.want, "<!DOCTYPE html>", "Content-Security-Policy", "</html>") {
			if !strings.Contains(string(page), want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
	}
}
