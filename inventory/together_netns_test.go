package inventory

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

// What the kernel says of a device in a dump is what it says of the device alone.
func TestTogetherIsTheSame(t *testing.T) {
	zoo(t)
	live := open(t)
	all, err := Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	read := func(r kernel.Reader, nic NIC) string {
		var said []any
		add := func(v any, err error) { said = append(said, v, fmt.Sprint(err)) }
		features, err := ReadFeatures(t.Context(), r, nic)
		add(features, err)
		made, err := FeaturesAs(t.Context(), r, nic, func(all *map[string]Feature, name string, f Feature) {
			if *all == nil {
				*all = map[string]Feature{}
			}
			(*all)[name] = f
		})
		add(made, err)
		channels, err := ReadChannels(t.Context(), r, nic)
		add(channels, err)
		coalesce, err := ReadCoalesce(t.Context(), r, nic)
		add(coalesce, err)
		link, err := ReadLinkModes(t.Context(), r, nic)
		add(link, err)
		flags, err := ReadPrivateFlags(t.Context(), r, nic)
		add(flags, err)
		b, err := json.Marshal(said)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	r := Together(live)
	for _, nic := range all.NICs {
		if a, b := read(live, nic), read(r, nic); a != b {
			t.Errorf("%s alone:\n%s\ntogether:\n%s", nic.Name, a, b)
		}
	}
}
