package inventory

import (
	"encoding/json"
	"reflect"
	"testing"
)

// same compares two values and shows both as JSON where they differ.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	t.Errorf("%s:\n got %s\nwant %s", what, g, w)
}
