package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A history that was trimmed says so, and what it has no more.
func TestTrimmedHistory(t *testing.T) {
	state := t.TempDir()
	body := `{"through":7,"trimmed":5}`
	line := fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli)), body)
	if err := os.WriteFile(filepath.Join(state, "ledger"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, want string
		exit       int
	}{
		{"history", "Transactions up to 5 were trimmed: the last 1000 are kept.", exitOK},
		{"history -o json", `"trimmed": 5`, exitOK},
		{"history 3", "transaction 3 was trimmed: the oldest that is kept is 6", exitError},
		{"history 9", "there is no transaction 9", exitError},
	} {
		stdout, stderr, exit := nictune(t, append(strings.Fields(c.args), "--state-dir", state)...)
		if exit != c.exit || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%s: exit %d\n%s%s", c.args, exit, stdout, stderr)
		}
	}
}
