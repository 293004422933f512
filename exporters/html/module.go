package html

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/audit"
)

// moduleView is a module with what it measures.
type moduleView struct {
	*nic
	// About is what it is, Worst the gravest verdict on its values, Nearest the value
	// that has the least left before a warning.
	About, Worst, Nearest string
	Values                []valueView
}

// valueView is one measured value beside its thresholds.
type valueView struct {
	audit.Measured
	Name string
	// Said is the value with its unit, Margin how far it is inside its warnings.
	Said, Margin string
	Sort         string
	Meter        *meter
}

// meter is a drawing of a value between its thresholds.
type meter struct {
	// The place of the value, and of the range between the warnings.
	X, From, Width int
	Beyond         bool
}

const meterWidth = 160

func moduleOf(n *nic) moduleView {
	m := n.Module
	parts := []string{m.FormFactor, m.Medium, m.Vendor, m.PartNumber}
	if m.SerialNumber != "" {
		parts = append(parts, "serial "+m.SerialNumber)
	}
	v := moduleView{nic: n, About: strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " · ")}
	least := math.Inf(1)
	for _, measured := range m.Measured {
		value := valueOf(measured)
		v.Values = append(v.Values, value)
		if share, is := share(measured.Margins); is && share < least {
			least = share
			v.Nearest = value.Name + " " + value.Said + ", " + value.Margin
		}
		if verdictRank(measured.Verdict) > verdictRank(v.Worst) {
			v.Worst = measured.Verdict
		}
	}
	return v
}

// verdictRank orders the verdicts on values.
func verdictRank(v string) int {
	switch {
	case strings.HasSuffix(v, "alarm"):
		return 3
	case strings.HasSuffix(v, "warning"):
		return 2
	case v == "ok":
		return 1
	}
	return 0
}

// Class is how a verdict is shown.
func verdictClass(v string) string {
	return [...]string{"unknown", "pass", "warning", "critical"}[verdictRank(v)]
}

func verdictWords(v string) string { return cmp.Or(strings.ReplaceAll(v, "-", " "), "no thresholds") }

// share is how much of the way between its warnings is left to the nearer one: 0.5 in
// the middle, less than nothing beyond.
func share(m *audit.Margins) (float64, bool) {
	if m == nil || m.LowWarning == nil || m.HighWarning == nil {
		return 0, false
	}
	span := *m.LowWarning + *m.HighWarning
	if span <= 0 {
		return 0, false
	}
	return min(*m.LowWarning, *m.HighWarning) / span, true
}

func valueOf(m audit.Measured) valueView {
	v := valueView{Measured: m, Name: strings.ReplaceAll(m.Quantity, "-power", " power"), Said: "no light"}
	if up, is := strings.CutPrefix(v.Name, "rx "); is {
		v.Name = "RX " + up
	} else if up, is := strings.CutPrefix(v.Name, "tx "); is {
		v.Name = "TX " + up
	}
	if m.Lane > 0 {
		v.Name += ", lane " + strconv.Itoa(m.Lane)
	}
	if m.Value == nil {
		return v
	}
	v.Said = strconv.FormatFloat(*m.Value, 'f', 2, 64) + " " + m.Unit
	if m.Margins == nil {
		return v
	}
	unit := m.Unit
	if unit == "dBm" {
		unit = "dB"
	}
	if left, is := nearest(m.Margins.LowWarning, m.Margins.HighWarning); is {
		v.Sort = decimal(left)
		v.Margin = strconv.FormatFloat(left, 'f', 2, 64) + " " + unit + " to its warning"
		if left < 0 {
			v.Margin = strconv.FormatFloat(-left, 'f', 2, 64) + " " + unit + " beyond its warning"
		}
	}
	v.Meter = meterOf(m.Margins)
	return v
}

func nearest(margins ...*float64) (float64, bool) {
	least, is := math.Inf(1), false
	for _, m := range margins {
		if m != nil {
			least, is = min(least, *m), true
		}
	}
	return least, is
}

// meterOf draws a value that has all four thresholds. The alarms stand a tenth from
// the ends, so that there is room for what is beyond them.
func meterOf(m *audit.Margins) *meter {
	for _, x := range []*float64{m.LowAlarm, m.LowWarning, m.HighWarning, m.HighAlarm} {
		if x == nil || math.IsNaN(*x) || math.IsInf(*x, 0) {
			return nil
		}
	}
	span := *m.LowAlarm + *m.HighAlarm
	if span <= 0 {
		return nil
	}
	at := func(fromLowAlarm float64) int {
		x := meterWidth * (0.1 + 0.8*fromLowAlarm/span)
		return int(math.Round(min(max(x, 2), meterWidth-2)))
	}
	low, high := at(*m.LowAlarm-*m.LowWarning), at(*m.LowAlarm+*m.HighWarning)
	return &meter{X: at(*m.LowAlarm), From: low, Width: max(high-low, 0), Beyond: *m.LowWarning < 0 || *m.HighWarning < 0}
}
