package settings

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// Several encodings can be wanted as they are read, and off is a word of YAML's own.
func TestFECWishes(t *testing.T) {
	for text, want := range map[string]string{
		`"rs"`: "rs", `"baser,rs"`: "rs baser", `"rs baser"`: "rs baser", `"llrs, auto"`: "auto llrs", `false`: "off", `"off"`: "off",
		`true`: "not true", `1`: "not 1", `"rss"`: `not "rss"`, `""`: "at least one", `"rs,,"`: "rs",
	} {
		var got FECEncodings
		if err := got.UnmarshalJSON([]byte(text)); err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
		} else if string(got) != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
	for value, fits := range map[string]bool{"rs": true, "off": true, "[rs, baser]": true, "on": false} {
		document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: fec\nmatch: {}\nsettings: {fec: {encoding: " + value + "}}\n"
		parsed, err := policies.Parse("fec.yaml", []byte(document))
		if err == nil {
			_, err = policies.Bind(parsed, tuning.Catalogue([]tuning.Setting{FEC()}))
		}
		if (err == nil) != fits {
			t.Errorf("encoding: %s: %v", value, err)
		}
	}
}
