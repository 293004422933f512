package inventory

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

// A reader of the JSON form finds a list, as the schema has it, also where
// there is nothing to list.
func TestAHostWithoutNICsHasAnEmptyList(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/sys/class/net", 0o700); err != nil {
		t.Fatal(err)
	}
	tree, err := kernel.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := Read(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(inv)
	if err != nil || !strings.Contains(string(document), `"nics":[]`) {
		t.Errorf("%s, %v", document, err)
	}
}

// NICs of which the same is to be said share the list, and a note about one of them is not
// the others'.
func TestNotesAreShared(t *testing.T) {
	note := func(fact string) Unread { return Unread{Fact: fact, Reason: kernel.Unsupported} }
	var same sameNotes
	room := make([]Unread, 0, 8)
	first := same.as(append(room, note("link.fec"), note("link.eee")))
	second := same.as([]Unread{note("link.fec"), note("link.eee")})
	other := same.as([]Unread{note("link.fec"), {Fact: "link.eee", Reason: kernel.Unsupported, Detail: "otherwise"}})
	if &first[0] != &second[0] {
		t.Error("each keeps the notes for itself")
	}
	if len(other) != 2 || other[1].Detail != "otherwise" || same.as(nil) != nil {
		t.Errorf("%v, %v", other, same.as(nil))
	}
	first = append(first, note("link.pause"))
	if third := append(second, note("queues.rings")); first[2].Fact != "link.pause" || third[2].Fact != "queues.rings" {
		t.Errorf("one note stands over the other: %v, %v", first, third)
	}
}
