package tuning

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestPastSumsUp(t *testing.T) {
	if _, err := PastIn(filepath.Join(t.TempDir(), "none")).Summary(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a state directory: %v", err)
	}
	_, _, e, dir := unconfirmed(t)
	past := PastIn(dir)
	s, err := past.Summary()
	if err != nil || len(s.Ended) != 0 || len(s.Open) != 1 || s.Open[0].Outcome != Unconfirmed || s.Open[0].Until.IsZero() || s.Open[0].Started.IsZero() {
		t.Fatalf("while it waits: %+v, %v", s, err)
	}
	done, err := e.Confirm(t.Context(), 0, Request{User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	s, err = past.Summary()
	if err != nil || len(s.Open) != 0 || s.Ended[Applied] != 1 || !s.Last[Applied].Equal(done.Ended) || s.Rollbacks != 0 {
		t.Fatalf("confirmed: %+v, %v", s, err)
	}
	// What has ended is not read again: its file may become anything.
	file := filepath.Join(dir, historyDir, fileName(1))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(whole)
	broken[len(broken)/3] ^= 0x20
	if err := os.WriteFile(file, broken, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := past.Summary(); err != nil || s.Ended[Applied] != 1 {
		t.Errorf("it was read again: %+v, %v", s, err)
	}
	// A damaged one is named, hides no other, and is looked at again.
	if err := os.WriteFile(filepath.Join(dir, historyDir, fileName(2)), whole, 0o644); err != nil {
		t.Fatal(err)
	}
	fresh := PastIn(dir)
	if s, err := fresh.Summary(); err == nil || s.Damaged != 1 || s.Ended[Applied] != 1 {
		t.Errorf("one is damaged: %+v, %v", s, err)
	}
	if err := os.WriteFile(file, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := fresh.Summary(); err != nil || s.Damaged != 0 || s.Ended[Applied] != 2 {
		t.Errorf("it is whole again: %+v, %v", s, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if s, err := fresh.Summary(); err != nil || s.Ended[Applied] != 1 {
		t.Errorf("removed: %+v, %v", s, err)
	}
}
