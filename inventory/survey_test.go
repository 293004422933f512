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
