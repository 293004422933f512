package tuning

import (
	"encoding/json"
	"maps"
	"reflect"
	"testing"
)

type (
	numbered struct {
		RX    *uint32      `json:"rx,omitempty"`
		Wide  uint64       `json:"wide,omitempty"`
		On    *bool        `json:"on,omitempty"`
		Name  *string      `json:"name,omitempty"`
		Free  string       `json:"free,omitempty"`
		List  []uint32     `json:"list,omitempty"`
		Inner []numbered   `json:"inner,omitempty"`
		Speed *spelled     `json:"speed,omitempty"`
		By    map[int]bool `json:"by,omitempty"`
		At    *spelledByPointer
	}
	tagged           numbered
	spelled          uint32
	spelledByPointer uint32
	always           struct {
		On  bool     `json:"on"`
		Not *uint32  `json:"not"`
		Low []string `json:"low,omitzero"`
	}
	embedding struct {
		always
		RX *uint32 `json:"rx,omitempty"`
	}
	own struct {
		A uint32 `json:"a,omitempty"`
	}
)

func (s spelled) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"<of>": uint32(s)})
}
func (s *spelledByPointer) MarshalJSON() ([]byte, error) { return []byte(`"by pointer"`), nil }
func (own) MarshalJSON() ([]byte, error)                 { return []byte(`{"b":1,"c":null}`), nil }

// Fields are what encoding/json makes of the whole, one by one as well.
func TestFieldsAreThoseOfJSON(t *testing.T) {
	n := uint32(7)
	full := numbered{
		RX: &n, Wide: 1 << 60, On: new(false), Name: new("a <b>"), Free: "x", List: []uint32{1, 2},
		Inner: []numbered{{Free: "y"}}, Speed: new(spelled(3)), By: map[int]bool{1: true}, At: new(spelledByPointer(1)),
	}
	sameFields(t, full)
	sameFields(t, numbered{})
	sameFields(t, numbered{List: []uint32{}, Name: new(""), RX: new(uint32(0))})
	sameFields(t, tagged(full))
	sameFields(t, always{})
	sameFields(t, embedding{RX: &n})
	sameFields(t, own{})
	sameFields(t, struct {
		RX    *uint32 `json:"rx,omitempty"`
		TX    *uint32 `json:"tx,omitempty"`
		Speed spelled `json:"speed,omitempty"`
	}{RX: &n})
	sameFields(t, map[string]*uint32{"a": &n, "b": nil})
	sameFields(t, map[spelledName]spelled{"a": 1, "b": 0})
	sameFields(t, map[string]spelledByPointer{"a": 1})
	sameFields(t, map[string]any{"a": 1, "b": nil, "c": []any{"<"}})
}

type spelledName string

func sameFields[T any](t *testing.T, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	want := Values{}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(want, func(_ string, value json.RawMessage) bool { return value == nil })
	got, err := erase(v)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%T: %s, %v; JSON is %s", v, got, err, b)
	}
	for name := range want {
		if value, err := eraseField(v, name); err != nil || string(value) != string(want[name]) {
			t.Errorf("%T: field %s is %s, %v; want %s", v, name, value, err, want[name])
		}
	}
	if value, err := eraseField(v, "absent"); value != nil || err != nil {
		t.Errorf("%T: a field that is not there: %s, %v", v, value, err)
	}
}

// A copy shares nothing that can be written.
func TestCopied(t *testing.T) {
	type inner struct {
		P *uint32
		L []string
	}
	type outer struct {
		M map[string]inner
		S []inner
		A [2]*bool
		N *inner
		E []uint32
	}
	fresh := func() outer {
		one := inner{new(uint32(1)), []string{"a"}}
		return outer{map[string]inner{"x": one}, []inner{one}, [2]*bool{new(false), nil}, &inner{L: []string{"b"}}, []uint32{7}}
	}
	a := fresh()
	b := copied(a)
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("%+v is not %+v", b, a)
	}
	*b.M["x"].P, b.M["x"].L[0], *b.S[0].P, b.S[0].L[0], *b.A[0], b.N.L[0], b.E[0] = 2, "c", 2, "c", true, "c", 8
	b.M["y"] = inner{}
	b.S[0] = inner{}
	if !reflect.DeepEqual(a, fresh()) {
		t.Errorf("the original became %+v", a)
	}
}
