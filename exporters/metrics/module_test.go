package metrics

import (
	"math"
	"testing"

	"github.com/nictune/nictune/inventory/module"
)

// A margin is the share of what lies between two warnings, of powers in decibels, and is
// unknown where there is nothing to be near to.
func TestMarginOfAModule(t *testing.T) {
	at := func(v float64) module.Level { return module.Level{Value: v} }
	dBm := func(v float64) module.Level { return module.Level{Value: math.Pow(10, v/10), DBm: &v} }
	between := func(low, high module.Level) *module.Range {
		return &module.Range{LowWarning: low, HighWarning: high}
	}
	unknown := math.Inf(1)
	for _, c := range []struct {
		what    string
		monitor *module.Monitor
		limits  *module.Range
		want    float64
	}{
		{"the middle", &module.Monitor{Level: at(40)}, between(at(0), at(80)), 0.5},
		{"near the high one", &module.Monitor{Level: at(72)}, between(at(0), at(80)), 0.1},
		{"past the low one", &module.Monitor{Level: at(-8), Verdict: "low-warning"}, between(at(0), at(80)), -0.1},
		{"a power", &module.Monitor{Level: dBm(-10)}, between(dBm(-14), dBm(2)), 0.25},
		{"a power past the low one", &module.Monitor{Level: dBm(-40), Light: "dark"}, between(dBm(-14), dBm(6)), -1.3},
		{"a lane that is off", &module.Monitor{Level: at(0), Light: "unused"}, between(dBm(-14), dBm(6)), unknown},
		{"nothing measured", nil, between(at(0), at(80)), unknown},
		{"no thresholds", &module.Monitor{Level: at(40)}, nil, unknown},
		{"thresholds that were never set", &module.Monitor{Level: at(40)}, between(at(0), at(0)), unknown},
		{"one warning, and within", &module.Monitor{Level: dBm(-10), Verdict: "ok"}, between(at(0), dBm(2)), unknown},
		{"one warning, and past it", &module.Monitor{Level: dBm(3), Verdict: "high-warning"}, between(at(0), dBm(2)), 0},
	} {
		if got := marginOf(c.monitor, c.limits); got != c.want && math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
