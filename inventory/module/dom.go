package module

import "math"

// DOM is what a module measures (digital optical monitoring).
type DOM struct {
	// Calibration is "internal" or "external" (SFF-8472): externally calibrated
	// values, thresholds included, are converted here.
	Calibration string `json:"calibration,omitempty"`
	// RXPowerIs is "average" or "OMA", how the received light is measured.
	RXPowerIs string `json:"rxPowerIs,omitempty"`
	// Flags is what reading does to the flags: "clear-on-read" (they tell of
	// anything since they were last read, by anybody, and reading loses it) or
	// "vendor-specific".
	Flags       string     `json:"flags,omitempty"`
	Temperature *Monitor   `json:"temperature,omitempty"`
	Voltage     *Monitor   `json:"voltage,omitempty"`
	Lanes       []Lane     `json:"lanes,omitempty"`
	Thresholds  Thresholds `json:"thresholds"`
}

// What reading does to flags.
const (
	ClearOnRead = "clear-on-read"
	// ReadTwice is set by whoever read them twice.
	ReadTwice = "read-twice"
)

// Lane is what is measured of one lane. Lanes count from 1, over all banks.
type Lane struct {
	Number  int      `json:"number"`
	Bias    *Monitor `json:"bias,omitempty"`
	TXPower *Monitor `json:"txPower,omitempty"`
	RXPower *Monitor `json:"rxPower,omitempty"`
	// Signals, where the module reports them.
	TXFault         *bool `json:"txFault,omitempty"`
	TXLossOfSignal  *bool `json:"txLossOfSignal,omitempty"`
	TXLossOfLock    *bool `json:"txLossOfLock,omitempty"`
	TXEqualizerFail *bool `json:"txEqualizerFail,omitempty"`
	RXLossOfSignal  *bool `json:"rxLossOfSignal,omitempty"`
	RXLossOfLock    *bool `json:"rxLossOfLock,omitempty"`
	// DataPath is the state of a CMIS module's host lane of the same number, and
	// Application the number of the one that it runs; 0 is none.
	DataPath    *Code `json:"dataPath,omitempty"`
	Application *int  `json:"application,omitempty"`
}

// Level is a value with its unit: "°C", "V", "mA" or "mW".
type Level struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// DBm is the power in decibels of a milliwatt; absent at no power.
	DBm *float64 `json:"dBm,omitempty"`
}

// Monitor is one value that is measured.
type Monitor struct {
	Level
	// Raw is the number in the module's memory.
	Raw int `json:"raw"`
	// Light is "unused" at raw 0 (the lane is off, or nothing is measured) and
	// "dark" at raw 1, the least that can be measured. Bias and power only.
	Light string `json:"light,omitempty"`
	Flags *Flags `json:"flags,omitempty"`
	// Verdict holds the value against the thresholds: "ok", "high-alarm",
	// "low-alarm", "high-warning", "low-warning". It is absent where there are
	// no thresholds, the lane is unused, or there is nothing to believe; a dark
	// lane is never ok.
	Verdict string `json:"verdict,omitempty"`
}

// Flags are what the module itself raises.
type Flags struct {
	HighAlarm   bool `json:"highAlarm"`
	LowAlarm    bool `json:"lowAlarm"`
	HighWarning bool `json:"highWarning"`
	LowWarning  bool `json:"lowWarning"`
}

// Thresholds are the vendor's. One that is all zeros was not set, and is absent.
type Thresholds struct {
	Temperature *Range `json:"temperature,omitempty"`
	Voltage     *Range `json:"voltage,omitempty"`
	Bias        *Range `json:"bias,omitempty"`
	TXPower     *Range `json:"txPower,omitempty"`
	RXPower     *Range `json:"rxPower,omitempty"`
}

// Range is what a value should stay in.
type Range struct {
	HighAlarm   Level `json:"highAlarm"`
	LowAlarm    Level `json:"lowAlarm"`
	HighWarning Level `json:"highWarning"`
	LowWarning  Level `json:"lowWarning"`
}

// quantity turns a raw number into a value.
type quantity struct {
	unit    string
	signed  bool
	convert func(raw float64) float64
}

// The units of all three standards when the module calibrates by itself.
var (
	temperature = quantity{"°C", true, func(raw float64) float64 { return raw / 256 }}
	voltage     = quantity{"V", false, func(raw float64) float64 { return raw / 10000 }}
	bias        = quantity{"mA", false, func(raw float64) float64 { return raw / 500 }}
	power       = quantity{"mW", false, func(raw float64) float64 { return raw / 10000 }}
)

// level is false for what no number can say: the constants of an external
// calibration can be anything.
func (q quantity) level(raw uint16) (Level, bool) {
	number := float64(raw)
	if q.signed {
		number = float64(int16(raw))
	}
	v := q.convert(number)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Level{}, false
	}
	l := Level{Value: v, Unit: q.unit}
	if q.unit == "mW" && v > 0 {
		l.DBm = new(math.Round(10*math.Log10(v)*1e6) / 1e6)
	}
	return l, true
}

// monitor decodes a value of two bytes; nil where it was not read.
func (q quantity) monitor(p *memory, offset int, flags *Flags) *Monitor {
	raw, ok := p.u16(offset)
	if !ok {
		return nil
	}
	l, ok := q.level(raw)
	if !ok {
		return nil
	}
	v := &Monitor{Level: l, Raw: int(raw), Flags: flags}
	if q.unit == "mA" || q.unit == "mW" {
		switch {
		case raw == 0:
			v.Light = "unused"
		case q.unit == "mW" && (raw == 1 || l.Value <= 0):
			v.Light = "dark"
		}
	} else if q.signed {
		v.Raw = int(int16(raw))
	}
	return v
}

// limits decodes four thresholds in the order that all standards have.
func (q quantity) limits(p *memory, offset int) *Range {
	b := p.get(offset, 8)
	if b == nil {
		return nil
	}
	var levels [4]Level
	for i := range levels {
		var ok bool
		if levels[i], ok = q.level(uint16(b[2*i])<<8 | uint16(b[2*i+1])); !ok || allZero(b) {
			return nil
		}
	}
	return &Range{HighAlarm: levels[0], LowAlarm: levels[1], HighWarning: levels[2], LowWarning: levels[3]}
}

// nibble decodes flags of one monitor: bit 3 high alarm down to bit 0 low
// warning, as SFF-8472 and SFF-8636 pack them.
func nibble(b, shift int) *Flags {
	b >>= shift
	return &Flags{HighAlarm: b&8 != 0, LowAlarm: b&4 != 0, HighWarning: b&2 != 0, LowWarning: b&1 != 0}
}

// judge holds what is measured against the thresholds, unless either is in
// doubt. Copper has no light to judge, and a passive cable nothing: what one says
// of its temperature is no sensor's.
func (m *Module) judge() {
	if len(m.Doubts) != 0 {
		for i := range m.Observables { // they were judged by themselves
			m.Observables[i].Verdict = ""
		}
	}
	if m.DOM == nil || len(m.Doubts) != 0 || m.Medium == PassiveCopper {
		return
	}
	t := &m.DOM.Thresholds
	// An active cable need not have the sensors that the layout has room for.
	if v := m.DOM.Temperature; !m.isCopper() || v != nil && v.Raw != 0 {
		t.Temperature.judge(v)
	}
	if v := m.DOM.Voltage; !m.isCopper() || v != nil && v.Raw != 0 {
		t.Voltage.judge(v)
	}
	if m.isCopper() {
		return
	}
	for _, lane := range m.DOM.Lanes {
		t.Bias.judge(lane.Bias)
		t.TXPower.judge(lane.TXPower)
		t.RXPower.judge(lane.RXPower)
	}
}

func (r *Range) judge(v *Monitor) {
	if r == nil || v == nil || v.Light == "unused" {
		return
	}
	given := func(high, low Level) bool { return high.Value > low.Value }
	alarm, warning := given(r.HighAlarm, r.LowAlarm), given(r.HighWarning, r.LowWarning)
	switch {
	case alarm && v.Value > r.HighAlarm.Value:
		v.Verdict = "high-alarm"
	case alarm && v.Value < r.LowAlarm.Value:
		v.Verdict = "low-alarm"
	case warning && v.Value > r.HighWarning.Value:
		v.Verdict = "high-warning"
	case warning && v.Value < r.LowWarning.Value:
		v.Verdict = "low-warning"
	case (alarm || warning) && v.Light != "dark": // some vendors' lowest threshold is the least that can be measured
		v.Verdict = "ok"
	}
}
