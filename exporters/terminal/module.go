package terminal

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nictune/nictune/inventory/module"
)

// Module writes what a module says of itself in the manner of `ethtool -m`, whose
// labels it keeps. Unlike there, what the module does not say has no line: no
// length of 0 m, no temperature of 0 degrees.
func Module(w io.Writer, m *module.Module) error {
	b := bufio.NewWriter(w) // Flush returns the first error
	for _, d := range m.Doubts {
		fmt.Fprintf(b, "DOUBT: %s\n", printable(d))
	}
	p := modulePrinter{b}
	p.identity(m)
	p.link(m)
	p.vendor(m)
	p.state(m)
	p.dom(m)
	for _, o := range m.Observables {
		p.observable(o)
	}
	for _, c := range m.Checksums {
		verdict := "ok"
		if !c.OK {
			verdict = fmt.Sprintf("WRONG: 0x%02x is stored, 0x%02x is the sum", c.Stored, c.Computed)
		}
		p.line("Checksum "+c.Name+", "+c.Page, "%s", verdict)
	}
	p.line("Pages read", "%s", strings.Join(m.Pages, ", "))
	for _, n := range m.Notes {
		fmt.Fprintf(b, "note: %s\n", printable(n))
	}
	return b.Flush()
}

type modulePrinter struct{ w io.Writer }

func (p modulePrinter) line(label, format string, args ...any) {
	fmt.Fprintf(p.w, "\t%-41s : %s\n", label, printable(fmt.Sprintf(format, args...)))
}

func (p modulePrinter) text(label, value string) {
	if value != "" {
		p.line(label, "%s", value)
	}
}

func (p modulePrinter) code(label string, c *module.Code) {
	if c != nil {
		p.line(label, "0x%02x (%s)", c.Value, c.Name)
	}
}

// word prints a bool that is known, as one of two words.
func (p modulePrinter) word(label string, v *bool, yes, no string) {
	if v == nil {
		return
	}
	if *v {
		no = yes
	}
	p.line(label, "%s", no)
}

func (p modulePrinter) identity(m *module.Module) {
	p.code("Identifier", m.Identifier)
	p.code("Identifier (page 00h)", m.UpperIdentifier)
	qsfp := m.Standard == module.SFF8636
	if qsfp && m.ExtendedIdentifier != nil {
		p.line("Extended identifier", "0x%02x", m.ExtendedIdentifier.Value)
		for _, d := range extendedDescriptions(m) {
			p.line("Extended identifier description", "%s", d)
		}
		p.word("Power set", m.Power.Set, "On", "Off")
		p.word("Power override", m.Power.Override, "On", "Off")
	} else {
		p.code("Extended identifier", m.ExtendedIdentifier)
	}
	if m.Standard == module.CMIS && m.Power != nil {
		p.line("Power class", "%d", m.Power.Class)
		if m.Power.Watts != nil {
			p.line("Max power", "%.2fW", *m.Power.Watts)
		}
	}
	p.code("Connector", m.Connector)
	p.text("Medium", string(m.Medium))
	p.text("Transceiver codes", hexBytes(m.ComplianceCodes))
	for _, c := range m.Compliance {
		p.line("Transceiver type", "%s", c)
	}
	if c := m.ExtendedCompliance; c != nil {
		name := c.Name
		if !qsfp { // as ethtool does
			name = "Extended: " + name[strings.Index(name, ": ")+1:]
			name = strings.Replace(name, ":  ", ": ", 1)
		}
		p.line("Transceiver type", "%s", name)
	}
	p.code("Media type", m.MediaType)
	for _, a := range m.Applications {
		p.line(fmt.Sprintf("Application %d", a.Number), "host 0x%02x (%s) x%d, media 0x%02x (%s) x%d",
			a.Host.Value, a.Host.Name, a.HostLanes, a.Media.Value, a.Media.Name, a.MediaLanes)
	}
	p.code("Encoding", m.Encoding)
	if m.SignalingRateMBd != nil {
		unit := "MBd"
		if qsfp {
			unit = "Mbps"
		}
		p.line("BR, Nominal", "%d%s", *m.SignalingRateMBd, unit)
	}
	if c := m.RateIdentifier; c != nil && qsfp {
		p.line("Rate identifier", "0x%02x", c.Value)
	} else {
		p.code("Rate identifier", c)
	}
}

// extendedDescriptions are what byte 129 of a QSFP means.
func extendedDescriptions(m *module.Module) []string {
	class := "of class " + strconv.Itoa(m.Power.Class)
	if m.Power.Watts != nil {
		class = fmt.Sprintf("%.1fW max. Power consumption", *m.Power.Watts)
	}
	cdr := func(has *bool, direction string) string {
		if has != nil && *has {
			return "CDR present in " + direction
		}
		return "No CDR in " + direction
	}
	out := []string{class, cdr(m.TXCDR, "TX") + ", " + cdr(m.RXCDR, "RX")}
	if h := m.Power.HighPower; h != nil {
		enabled := "not enabled"
		if *h {
			enabled = "enabled"
		}
		out = append(out, "High Power Class (> 3.5 W) "+enabled)
	}
	return out
}

func hexBytes(values []int) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprintf("0x%02x", v)
	}
	return strings.Join(words, " ")
}

// lengthLabel is ethtool's label of a reach.
func lengthLabel(standard module.Standard, medium string) string {
	labels := map[module.Standard]map[string]string{
		module.SFF8472: {"om1": "Length (62.5um)", "om2": "Length (50um)", "om3": "Length (OM3)", "om4": "Length (OM4)", "cable": "Length (Copper)"},
		module.SFF8636: {"om1": "Length (OM1 62.5um)", "om2": "Length (OM2 50um)", "om3": "Length (OM3 50um)", "om4": "Length (OM4 50um)", "cable": "Length (Copper or Active cable)"},
		module.CMIS:    {"om2": "Length (OM2 50/125um)", "om3": "Length (OM3 50/125um)", "om4": "Length (OM4)", "om5": "Length (OM5)", "cable": "Cable assembly length"},
	}
	if label := labels[standard][medium]; label != "" {
		return label
	}
	return "Length (SMF)"
}

func (p modulePrinter) link(m *module.Module) {
	for _, l := range m.Lengths {
		label, more := lengthLabel(m.Standard, l.Medium), ""
		if l.OrMore {
			more = " or more"
		}
		switch {
		case m.Standard == module.CMIS && l.Medium == "cable":
			p.line(label, "%.2fm%s", l.Meters, more)
		case m.Standard == module.CMIS && l.Medium == "smf":
			p.line(label, "%.2fkm%s", l.Meters/1000, more)
		case l.Kilometers:
			p.line("Length (SMF,km)", "%.0fkm%s", l.Meters/1000, more)
		default:
			p.line(label, "%.0fm%s", l.Meters, more)
		}
	}
	if c := m.CableCompliance; c != nil {
		label := "Active Cu cmplnce."
		if m.Medium == module.PassiveCopper {
			label = "Passive Cu cmplnce."
		}
		p.code(label, c)
	}
	p.code("Transmitter technology", m.Technology)
	for _, a := range m.Attenuation {
		format := "Attenuation at %.1fGHz"
		if m.Standard == module.CMIS && a.GHz == float64(int(a.GHz)) {
			format = "Attenuation at %.0fGHz"
		}
		p.line(fmt.Sprintf(format, a.GHz), "%ddb", a.DB)
	}
	if l := m.Wavelength; l != nil {
		if m.Standard == module.SFF8472 {
			p.line("Laser wavelength", "%snm", strconv.FormatFloat(l.NM, 'f', -1, 64))
		} else {
			p.line("Laser wavelength", "%.3fnm", l.NM)
		}
		if l.ToleranceNM != nil {
			p.line("Laser wavelength tolerance", "%.3fnm", *l.ToleranceNM)
		}
	}
	if m.Standard == module.CMIS {
		p.word("Tx CDR bypass control", m.TXCDRBypass, "Yes", "No")
		p.word("Rx CDR bypass control", m.RXCDRBypass, "Yes", "No")
		p.word("Tx CDR", m.TXCDR, "Yes", "No")
		p.word("Rx CDR", m.RXCDR, "Yes", "No")
	}
}

func (p modulePrinter) vendor(m *module.Module) {
	p.text("Vendor name", m.Vendor)
	p.text("Vendor OUI", m.OUI)
	p.text("Vendor PN", m.PartNumber)
	p.text("Vendor rev", m.VendorRevision)
	p.text("Option values", hexBytes(m.OptionValues))
	for _, o := range m.Options {
		p.line("Option", "%s", o)
	}
	if m.RateMaxPercent != nil && *m.RateMaxPercent != 0 {
		p.line("BR margin, max", "%d%%", *m.RateMaxPercent)
	}
	if m.RateMinPercent != nil && *m.RateMinPercent != 0 {
		p.line("BR margin, min", "%d%%", *m.RateMinPercent)
	}
	p.text("Vendor SN", m.SerialNumber)
	p.text("Date code", m.DateCode)
	p.text("CLEI code", m.CLEI)
	p.text("Firmware", m.Firmware)
	if m.Standard == module.CMIS && m.Revision != "" {
		p.line("Revision compliance", "Rev. %s", m.Revision)
	} else {
		p.text("Revision Compliance", m.Revision)
	}
}

func (p modulePrinter) state(m *module.Module) {
	s := m.State
	if s == nil {
		return
	}
	p.code("Module State", s.Module)
	p.code("Module Fault Cause", s.Fault)
	if s.FirmwareFault != nil && *s.FirmwareFault {
		p.line("Module firmware", "FAULT")
	}
	if s.DataPathFault != nil && *s.DataPathFault {
		p.line("Data path firmware", "FAULT")
	}
	p.word("LowPwrAllowRequestHW", s.LowPwrAllowRequestHW, "On", "Off")
	p.word("LowPwrRequestSW", s.LowPwrRequestSW, "On", "Off")
}

// domLabels are ethtool's words for a lane's values; an SFP's has others.
type domLabels struct{ bias, tx, rx, biasFlag, txFlag, rxFlag string }

func labelsOf(standard module.Standard, lane int) domLabels {
	if standard == module.SFF8472 {
		return domLabels{
			"Laser bias current", "Laser output power", "Receiver signal power",
			"Laser bias current %s", "Laser output power %s", "Laser rx power %s",
		}
	}
	n := strconv.Itoa(lane)
	return domLabels{
		"Laser tx bias current (Channel " + n + ")", "Transmit avg optical power (Channel " + n + ")", "Rcvr signal power (Channel " + n + ")",
		"Laser bias current %s (Chan " + n + ")", "Laser tx power %s (Channel " + n + ")", "Laser rx power %s (Channel " + n + ")",
	}
}

func (p modulePrinter) dom(m *module.Module) {
	d := m.DOM
	if d == nil {
		if m.Standard == module.SFF8472 && m.Identifier != nil {
			p.line("Optical diagnostics support", "%s", "No, or A2h was not read")
		}
		return
	}
	if m.Standard == module.SFF8472 {
		p.line("Optical diagnostics support", "Yes")
	}
	p.text("Calibration", d.Calibration)
	kind := "signal avg optical power"
	if d.RXPowerIs == "OMA" {
		kind = "signal OMA"
	}
	for _, l := range d.Lanes {
		labels := labelsOf(m.Standard, l.Number)
		p.monitor(labels.bias, l.Bias)
		p.monitor(labels.tx, l.TXPower)
		rx := strings.Replace(labels.rx, "signal power", kind, 1)
		if m.Standard == module.SFF8472 {
			rx = strings.Replace(rx, "avg", "average", 1)
		}
		p.monitor(rx, l.RXPower)
	}
	p.monitor("Module temperature", d.Temperature)
	p.monitor("Module voltage", d.Voltage)
	if m.Standard == module.SFF8472 || m.Standard == module.SFF8636 && d.Thresholds != (module.Thresholds{}) {
		has := d.Temperature != nil && d.Temperature.Flags != nil
		p.word("Alarm/warning flags implemented", &has, "Yes", "No")
	}
	p.text("Flags are", d.Flags)
	for _, l := range d.Lanes {
		p.signals(m, l)
		labels := labelsOf(m.Standard, l.Number)
		p.flags(labels.biasFlag, l.Bias)
		p.flags(labels.txFlag, l.TXPower)
		p.flags(labels.rxFlag, l.RXPower)
	}
	p.flags("Module temperature %s", d.Temperature)
	p.flags("Module voltage %s", d.Voltage)
	p.limits("Laser bias current", d.Thresholds.Bias)
	p.limits("Laser output power", d.Thresholds.TXPower)
	p.limits("Module temperature", d.Thresholds.Temperature)
	p.limits("Module voltage", d.Thresholds.Voltage)
	p.limits("Laser rx power", d.Thresholds.RXPower)
}

// monitor prints a value, and what is to be said about it.
func (p modulePrinter) monitor(label string, v *module.Monitor) {
	if v == nil {
		return
	}
	var remarks []string
	if v.Light != "" {
		remarks = append(remarks, v.Light)
	}
	if v.Verdict != "" && v.Verdict != "ok" {
		remarks = append(remarks, strings.ToUpper(v.Verdict))
	}
	text := level(v.Level)
	if len(remarks) > 0 {
		text += " (" + strings.Join(remarks, ", ") + ")"
	}
	p.line(label, "%s", text)
}

// level prints a value as ethtool does.
func level(l module.Level) string {
	switch l.Unit {
	case "°C":
		return fmt.Sprintf("%.2f degrees C / %.2f degrees F", l.Value, l.Value*1.8+32)
	case "V":
		return fmt.Sprintf("%.4f V", l.Value)
	case "mA":
		return fmt.Sprintf("%.3f mA", l.Value)
	case "mW":
		if l.DBm == nil {
			return fmt.Sprintf("%.4f mW / -inf dBm", l.Value)
		}
		return fmt.Sprintf("%.4f mW / %.2f dBm", l.Value, *l.DBm)
	}
	return strings.TrimSpace(fmt.Sprintf("%.4g %s", l.Value, l.Unit))
}

func (p modulePrinter) flags(label string, v *module.Monitor) {
	if v == nil || v.Flags == nil {
		return
	}
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"high alarm", v.Flags.HighAlarm}, {"low alarm", v.Flags.LowAlarm},
		{"high warning", v.Flags.HighWarning}, {"low warning", v.Flags.LowWarning},
	} {
		p.word(fmt.Sprintf(label, f.name), &f.on, "On", "Off")
	}
}

func (p modulePrinter) limits(label string, r *module.Range) {
	if r == nil {
		return
	}
	p.line(label+" high alarm threshold", "%s", level(r.HighAlarm))
	p.line(label+" low alarm threshold", "%s", level(r.LowAlarm))
	p.line(label+" high warning threshold", "%s", level(r.HighWarning))
	p.line(label+" low warning threshold", "%s", level(r.LowWarning))
}

// signals prints the lane's states that are known; of losses and faults those
// that there are.
func (p modulePrinter) signals(m *module.Module, l module.Lane) {
	of := " (Channel " + strconv.Itoa(l.Number) + ")"
	if m.Standard == module.SFF8472 {
		of = ""
	}
	for _, s := range []struct {
		name string
		on   *bool
	}{
		{"Rx loss of signal", l.RXLossOfSignal}, {"Tx loss of signal", l.TXLossOfSignal},
		{"Rx loss of lock", l.RXLossOfLock}, {"Tx loss of lock", l.TXLossOfLock},
		{"Tx fault", l.TXFault}, {"Tx adaptive eq fault", l.TXEqualizerFail},
	} {
		p.word(s.name+of, s.on, "Yes", "No")
	}
	if l.DataPath != nil {
		application := ""
		if l.Application != nil {
			application = fmt.Sprintf(", application %d", *l.Application)
			if *l.Application == 0 {
				application = ", no application"
			}
		}
		p.line("Data path"+of, "0x%02x (%s)%s", l.DataPath.Value, l.DataPath.Name, application)
	}
}

func (p modulePrinter) observable(o module.Observable) {
	say := func(v float64) string {
		if o.Unit == "" {
			return fmt.Sprintf("%.3g", v)
		}
		return level(module.Level{Value: v, Unit: o.Unit})
	}
	value := say(o.Value)
	if o.Verdict != "" && o.Verdict != "ok" {
		value += " (" + strings.ToUpper(o.Verdict) + ")"
	}
	if r := o.Thresholds; r != nil {
		for _, limit := range []struct {
			name string
			at   float64
		}{{"alarm above", r.HighAlarm.Value}, {"alarm below", r.LowAlarm.Value}, {"warning above", r.HighWarning.Value}, {"warning below", r.LowWarning.Value}} {
			if limit.at != 0 { // of most it was left unset
				value += ", " + limit.name + " " + say(limit.at)
			}
		}
	}
	if f := o.Flags; f != nil {
		for _, raised := range []struct {
			name string
			on   bool
		}{{"high alarm", f.HighAlarm}, {"low alarm", f.LowAlarm}, {"high warning", f.HighWarning}, {"low warning", f.LowWarning}} {
			if raised.on {
				value += ", " + raised.name + " raised"
			}
		}
	}
	label := o.Name
	if o.Lane != nil {
		label += fmt.Sprintf(" (lane %d)", *o.Lane)
	}
	p.line(label, "%s", value)
}
