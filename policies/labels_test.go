package policies

import (
	"maps"
	"strings"
	"testing"
)

func TestParseLabels(t *testing.T) {
	got, err := ParseLabels("labels", []byte("\ufeff# of this host\n\n role = edge \r\nrack=\"r 1\"\nexample.com/tier='2'\nempty=\nurl=a=b#c\nsharp=\"a # b\"\n"))
	want := map[string]string{"role": "edge", "rack": "r 1", "example.com/tier": "2", "empty": "", "url": "a=b#c", "sharp": "a # b"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%q %v", got, err)
	}
	if got, err := ParseLabels("labels", nil); err != nil || len(got) != 0 {
		t.Errorf("%q %v", got, err)
	}
	got, err = ParseLabels("labels", []byte("role=a\n  rack\n-x=1\nrole=b\na b=c\nbin=\xff\ntier=1 # one\n"))
	const faults = `labels:2:3: "rack" is no label: write KEY=VALUE
  2 |   rack
    |   ^^^^
labels:3:1: label "-x": use letters and digits, and between them dots, dashes, underscores and slashes
  3 | -x=1
    | ^^^^
labels:4:1: the label "role" is there already
  4 | role=b
    | ^^^^^^
labels:5:1: label "a b": use letters and digits, and between them dots, dashes, underscores and slashes
  5 | a b=c
    | ^^^^^
labels:6:1: the value "\xff" of label bin is no text`
	const sharp = `labels:7:1: label tier: a comment has a line of its own; if "1 # one" is the value, put it in quotes`
	if got != nil || err == nil || !strings.HasPrefix(err.Error(), faults) || !strings.Contains(err.Error(), sharp) {
		t.Errorf("%q\n%v", got, err)
	}
}

func FuzzLabels(f *testing.F) {
	f.Add([]byte("a=b\n# c\n\nd = \"e\"\n"))
	f.Add([]byte("=\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		labels, err := ParseLabels("f", data)
		if (labels == nil) != (err != nil) {
			t.Fatalf("%q %v", labels, err)
		}
		for key, value := range labels {
			if !labelKey().MatchString(key) || strings.ContainsAny(value, "\n\x00") {
				t.Fatalf("%q=%q", key, value)
			}
		}
	})
}
