package tuning

import (
	"encoding/json"

	"github.com/nictune/nictune/inventory"
)

// ImpactOf is what changing a field of a setting does to a NIC whose driver nothing
// is known of: what [Knob.Impact] says then. Without a field it is that of the
// setting's worst field; empty where there is no such setting.
func ImpactOf(settings []Setting, setting, field string) Impact {
	i := rank(settings, setting)
	if i < 0 {
		return ""
	}
	s := settings[i]
	fields := []string{field}
	if field == "" {
		fields = fields[:0]
		c := Catalogue([]Setting{s})
		for _, f := range c[0].Fields {
			fields = append(fields, f.Name)
		}
	}
	// A setting whose policies name other fields than its state has, or that has
	// no field which anybody knows, is asked as a whole.
	worst, err := s.impact(inventory.NIC{}, Values{}, Values{})
	if err != nil {
		worst = NICReset
	}
	if s.wishes() {
		return worst
	}
	for _, name := range fields {
		for _, values := range [][2]string{{"1", "2"}, {"false", "true"}, {`"a"`, `"b"`}} {
			before, after := json.RawMessage(values[0]), json.RawMessage(values[1])
			if _, err := s.spell(name, after); err != nil {
				continue
			}
			if impact, err := s.impact(inventory.NIC{}, Values{name: before}, Values{name: after}); err == nil && !impact.Within(worst) {
				worst = impact
			}
		}
	}
	return worst
}
