package policies_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// Fields that exclude each other, or of which one says what the others are about, are one
// policy's, whatever the order of the documents.
func TestGroupsAreOnePolicys(t *testing.T) {
	for name, test := range map[string]struct {
		documents []string // priority and settings
		want      string   // the fields, or a part of the conflict
	}{
		"the higher priority excludes the lower": {
			[]string{"-100 rss: {exclude-queues: [1]}", "50 rss: {weight: [3, 1]}"}, "rss.weight=3,1"},
		"it has all of it": {
			[]string{"0 rss: {start: 2, equal: 4, hfunc: xor}", "50 rss: {equal: 2}"}, "rss.equal=2 rss.hfunc=xor"},
		"default": {
			[]string{"-100 rss: {weight: [3, 1]}", "0 rss: {default: on}"}, "rss.default=on"},
		"what is in no group is merged": {
			[]string{"0 rss: {hfunc: xor}", "50 rss: {key: \"6d:5a\"}", "7 rss: {equal: 2}"}, "rss.equal=2 rss.hfunc=xor rss.key=6d:5a"},
		"the same of one priority": {
			[]string{"0 rss: {equal: 2, start: 1}", "0 rss: {start: 1, equal: 2}"}, "rss.equal=2 rss.start=1"},
		"different fields of one priority": {
			[]string{"0 rss: {equal: 2}", "0 rss: {exclude-queues: [1]}"},
			"want different values for rss of eth0; give one of them a higher priority, or a narrower match\n" +
				"  0.yaml:5: policy p0 wants {equal: 2}\n    settings: {rss: {equal: 2}}\n" +
				"  1.yaml:5: policy p1 wants {exclude-queues: [1]}\n    settings: {rss: {exclude-queues: [1]}}"},
		"below a higher priority they are no conflict": {
			[]string{"0 rss: {equal: 2}", "0 rss: {exclude-queues: [1]}", "1 rss: {weight: [3, 1]}"}, "rss.weight=3,1"},
		"some queues, and all": {
			[]string{"50 napi: {queues: 4-7, threaded: on}", "0 napi: {gro-flush-timeout: 20000}"}, "napi.queues=4-7 napi.threaded=on"},
		"all, and some queues": {
			[]string{"0 napi: {queues: 4-7, threaded: on}", "50 napi: {gro-flush-timeout: 20000}"}, "napi.gro-flush-timeout=20000"},
		"some queues and all, of one priority": {
			[]string{"0 napi: {queues: 4-7, threaded: on}", "0 napi: {gro-flush-timeout: 20000}"}, "want different values for napi of eth0"},
		"all, from two policies": {
			[]string{"50 napi: {threaded: on}", "0 napi: {gro-flush-timeout: 20000, threaded: off}"}, "napi.gro-flush-timeout=20000 napi.threaded=on"},
	} {
		for _, backwards := range []bool{false, true} {
			var all []policies.Policy
			for i, d := range test.documents {
				priority, setting, _ := strings.Cut(d, " ")
				if backwards {
					i = len(test.documents) - 1 - i
					priority, setting, _ = strings.Cut(test.documents[i], " ")
				}
				text := fmt.Sprintf("apiVersion: nictune/v1\nkind: TuningPolicy\nname: p%d\nmatch: {name: eth0}\nsettings: {%s}\npriority: %s\n", i, setting, priority)
				parsed, err := policies.Parse(fmt.Sprintf("%d.yaml", i), []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, parsed...)
			}
			all, err := policies.Bind(all, tuning.Catalogue(settings.All()))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wants, _, err := policies.Resolve(all, policies.Host{}, []inventory.NIC{{Name: "eth0", Index: 2}})
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: %v, want %s", name, err, test.want)
				}
				continue
			}
			var got []string
			for _, w := range wants {
				for _, a := range w.Fields {
					got = append(got, w.Setting+"."+a.Field+"="+a.Value.String())
				}
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("%s: %s, want %s", name, strings.Join(got, " "), test.want)
			}
		}
	}
}
