package metrics

import (
	"math"
	"strconv"

	"github.com/nictune/nictune/inventory/module"
)

// Modules are the pluggable modules and cables.
type Modules struct {
	Plugged []Plugged
}

// Plugged is the module of one device.
type Plugged struct {
	Device string
	Module *module.Module
}

// modules says what pluggable modules are and measure.
func modules() collector {
	return collector{
		name: "module", doc: "pluggable modules: what they are, what they measure, and their thresholds (ethtool -m)",
		of: func(s *Snapshot) any { return s.Modules },
		define: func(c *catalogue) func(*Snapshot) {
			f := defineModule(c)
			return func(s *Snapshot) {
				if s.Modules == nil {
					return
				}
				for i := range s.Modules.Plugged {
					f.fill(s.Modules.Plugged[i].Device, s.Modules.Plugged[i].Module)
				}
			}
		},
	}
}

// measured is one quantity: the values, and the thresholds that hold for all lanes.
type measured struct {
	value, threshold *family
	// per is how many of the module's units are a base unit.
	per float64
}

type moduleFamilies struct {
	info, doubts, watts, margin                          *family
	temperature, voltage, bias, txPower, rxPower         measured
	txFault, txLoss, txUnlocked, txBad, rxLoss, rxUnlock *family
}

const (
	perModule = "1 per module"
	perLane   = "1 per lane: 1, 2, 4 or 8 per optical module"
	moduleDOM = "`ethtool -m`: SFF-8472, SFF-8636 or CMIS; read once a minute"
)

func defineModule(c *catalogue) moduleFamilies {
	device, lane := []string{deviceLabel}, []string{deviceLabel, "lane"}
	quantity := func(name, unit, plural string, per float64, labels []string, what string) measured {
		series := perModule + " that measures it"
		if len(labels) > 1 {
			series = perLane + "; lanes that are not in use are left out"
		}
		return measured{
			value: c.add(Metric{
				Name: "module_" + name + "_" + plural, Type: gauge, Unit: unit, Labels: labels, Help: what, Source: moduleDOM, Series: series,
			}),
			threshold: c.add(Metric{
				Name: "module_" + name + "_threshold_" + plural, Type: gauge, Unit: unit, Labels: []string{deviceLabel, "threshold"},
				Help:   "The module's own thresholds for that: low-alarm, low-warning, high-warning, high-alarm.",
				Source: moduleDOM, Series: "4 per module that has them",
			}),
			per: per,
		}
	}
	signal := func(name, what string) *family {
		return c.add(Metric{
			Name: "module_" + name, Type: gauge, Labels: lane, Help: "Whether " + what + ".", Source: moduleDOM, Series: perLane + "; of modules that report it where reading does not clear it",
		})
	}
	return moduleFamilies{
		info: c.add(Metric{
			Name: "module_info", Type: gauge, Labels: []string{deviceLabel, "vendor", "part", "serial", "revision", "type", "medium", "standard", "firmware", "date"},
			Help:   "A pluggable module or cable. type is the form factor, medium is optical, active-optical, passive-copper, active-copper or base-t. Always 1; a label that is not known is empty.",
			Source: "`ethtool -m`: SFF-8472, SFF-8636 or CMIS", Series: perModule,
		}),
		doubts: c.add(Metric{
			Name: "module_doubts", Type: gauge, Unit: "doubts", Labels: device,
			Help:   "Reasons not to believe what the module says, such as a checksum that does not hold. What it measures is then left out.",
			Source: "`ethtool -m`: checksums", Series: perModule,
		}),
		watts: c.add(Metric{
			Name: "module_max_power_watts", Type: gauge, Unit: "watts", Labels: device,
			Help: "What the module may draw.", Source: "`ethtool -m`: the power class", Series: perModule + " that says so",
		}),
		margin: c.add(Metric{
			Name: "module_margin_ratio", Type: gauge, Labels: device,
			Help:   "How far the module is from a warning, as a share of what lies between the low and the high one (of powers in decibels): 0.5 in the middle, 0 or less past one. The least of all that it measures, on all lanes.",
			Source: moduleDOM, Series: perModule + " with thresholds",
		}),
		temperature: quantity("temperature", "degrees Celsius", "celsius", 1, device, "The module's temperature."),
		voltage:     quantity("voltage", "volts", "volts", 1, device, "The module's supply voltage."),
		bias:        quantity("tx_bias", "amperes", "amperes", 1e3, lane, "The current through a lane's laser."),
		txPower:     quantity("tx_power", "watts", "watts", 1e3, lane, "The light that a lane sends."),
		rxPower:     quantity("rx_power", "watts", "watts", 1e3, lane, "The light that a lane receives. Decibels of a milliwatt are 10 * log10(1000 * value)."),
		txFault:     signal("tx_fault", "a lane's transmitter reports a fault"),
		txLoss:      signal("tx_loss_of_signal", "a lane gets no signal from the host"),
		txUnlocked:  signal("tx_loss_of_lock", "a lane's transmitter lost its clock"),
		txBad:       signal("tx_equalizer_fail", "a lane's input equaliser failed"),
		rxLoss:      signal("rx_loss_of_signal", "a lane receives no signal"),
		rxUnlock:    signal("rx_loss_of_lock", "a lane's receiver lost its clock"),
	}
}

func (f *moduleFamilies) fill(device string, m *module.Module) {
	kind := ""
	if m.Identifier != nil {
		kind = m.Identifier.Name
	}
	f.info.set(1, device, m.Vendor, m.PartNumber, m.SerialNumber, m.VendorRevision, kind, string(m.Medium), string(m.Standard), m.Firmware, m.Date)
	f.doubts.set(float64(len(m.Doubts)), device)
	if m.Power != nil && m.Power.Watts != nil {
		f.watts.set(*m.Power.Watts, device)
	}
	d := m.DOM
	if d == nil || len(m.Doubts) > 0 {
		return
	}
	f.temperature.set(d.Temperature, device)
	f.voltage.set(d.Voltage, device)
	f.temperature.limits(d.Thresholds.Temperature, device)
	f.voltage.limits(d.Thresholds.Voltage, device)
	f.bias.limits(d.Thresholds.Bias, device)
	f.txPower.limits(d.Thresholds.TXPower, device)
	f.rxPower.limits(d.Thresholds.RXPower, device)
	margin := min(marginOf(d.Temperature, d.Thresholds.Temperature), marginOf(d.Voltage, d.Thresholds.Voltage))
	for i := range d.Lanes {
		l := &d.Lanes[i]
		lane := strconv.Itoa(l.Number)
		f.bias.set(l.Bias, device, lane)
		f.txPower.set(l.TXPower, device, lane)
		f.rxPower.set(l.RXPower, device, lane)
		margin = min(margin, marginOf(l.Bias, d.Thresholds.Bias), marginOf(l.TXPower, d.Thresholds.TXPower), marginOf(l.RXPower, d.Thresholds.RXPower))
		maybe(f.txFault, l.TXFault, device, lane)
		maybe(f.txLoss, l.TXLossOfSignal, device, lane)
		maybe(f.txUnlocked, l.TXLossOfLock, device, lane)
		maybe(f.txBad, l.TXEqualizerFail, device, lane)
		maybe(f.rxLoss, l.RXLossOfSignal, device, lane)
		maybe(f.rxUnlock, l.RXLossOfLock, device, lane)
	}
	if !math.IsInf(margin, 1) {
		f.margin.set(margin, device)
	}
}

// marginOf is how far a value is from the nearer warning, as a share of what lies between the
// two; infinite where that is not known.
func marginOf(m *module.Monitor, r *module.Range) float64 {
	margin := math.Inf(1)
	if m == nil || m.Light == "unused" {
		return margin
	}
	if m.Verdict != "" && m.Verdict != "ok" {
		margin = 0 // also where there is only one warning
	}
	if r == nil {
		return margin
	}
	value, low, high := m.Value, r.LowWarning.Value, r.HighWarning.Value
	if m.DBm != nil {
		if r.LowWarning.DBm == nil || r.HighWarning.DBm == nil {
			return margin
		}
		value, low, high = *m.DBm, *r.LowWarning.DBm, *r.HighWarning.DBm
	}
	if high <= low {
		return margin
	}
	return min(margin, min(value-low, high-value)/(high-low))
}

// set gives what was measured, unless nothing is: a lane that is off shows 0, and so
// does one of which nothing is measured.
func (q measured) set(m *module.Monitor, labels ...string) {
	if m != nil && m.Light != "unused" {
		q.value.set(m.Value/q.per, labels...)
	}
}

func (q measured) limits(r *module.Range, device string) {
	if r == nil {
		return
	}
	for _, one := range []struct {
		name  string
		level module.Level
	}{{"low-alarm", r.LowAlarm}, {"low-warning", r.LowWarning}, {"high-warning", r.HighWarning}, {"high-alarm", r.HighAlarm}} {
		q.threshold.set(one.level.Value/q.per, device, one.name)
	}
}
