package audit

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/inventory/module"
)

// moduleRules judge pluggable modules and cables, also of a dump from elsewhere.
func moduleRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "link/module-checksum", Severity: findings.Warning,
			Title:   "the module's memory contradicts itself",
			Why:     "A checksum that doesn't hold, or fields that disagree, mean a damaged or badly programmed EEPROM, or a bus that reads wrong. Nothing that the module says of itself is to be believed, its limits neither.",
			Remedy:  "Reseat the module and read it again (nictune module show DEV); if it stays, replace it.",
			Sources: []string{"SFF-8472, 8.12 and 8.13: CC_BASE and CC_EXT", "SFF-8636, 6.3.22 and 6.3.28", "OIF CMIS 5.x, 8.3.14 and 8.4: page checksums"},
		}, Judge: moduleChecksum},
		{About: findings.About{
			ID: "link/module-alarm", Severity: findings.Critical,
			Title:   "the module is beyond an alarm threshold of its maker",
			Why:     "Outside of these limits the maker promises nothing: too little light loses frames, too much or too hot wears out the laser or the receiver.",
			Remedy:  "Little light: clean both connectors, look for a sharp bend, measure the fibre. Much light: put in an attenuator. Temperature: see to the airflow. Bias current: the laser ages, replace the module.",
			Sources: []string{"SFF-8472, 9.4", "SFF-8636, 6.6", "OIF CMIS 5.x, 8.5: module and lane thresholds"},
		}, Judge: moduleAlarm},
		{About: findings.About{
			ID: "link/module-warning", Severity: findings.Warning,
			Title:   "the module is beyond a warning threshold of its maker",
			Why:     "It still works as promised, and is on its way to where it doesn't.",
			Remedy:  "As for an alarm, but there is time to plan it: clean the connectors, see to the airflow, have a module at hand.",
			Sources: []string{"SFF-8472, 9.4", "SFF-8636, 6.6", "OIF CMIS 5.x, 8.5: module and lane thresholds"},
		}, Judge: moduleWarning},
		{About: findings.About{
			ID: "link/module-margin", Severity: findings.Info,
			Title:   "the module is close to a threshold of its maker",
			Why:     "Less than 1 dB of received light or 5 °C from a warning is what a touched connector or a warm day makes up.",
			Remedy:  "Note it, and clean the connectors at the next occasion.",
			Sources: []string{"IEC 61300-3-35: connector cleanliness", "SFF-8472, 9.4"},
		}, Judge: moduleMargin},
		{About: findings.About{
			ID: "link/module-dark", Severity: findings.Critical,
			Title:   "no light on a lane",
			Why:     "A lane that is on measures nothing while there is a link, or sends nothing: on the receiving side the fibre is out, broken or dirty, or the far laser is off; on the sending side it is this laser.",
			Remedy:  "Receiving: check the fibre, its polarity (the two may be swapped), and that the far end is up. Sending: set the device up, then replace the module.",
			Sources: []string{"SFF-8472, 9.8: measured power", "OIF CMIS 5.x, 8.10: lane monitors"},
		}, Judge: moduleDark},
		{About: findings.About{
			ID: "link/module-signals", Severity: findings.Critical,
			Title:   "the module raises a fault of a signal",
			Why:     "While there is a link, loss of signal (LOS) and of lock (LOL) name the side that is wrong: RX comes from the far end over the fibre, TX from this card. A TX fault is the laser's own. In QSFP and CMIS modules these are flags that reading clears, for everybody: they are read only where check link --flags asks for them, and then twice, so that what stands is of now.",
			Remedy:  "RX: check the fibre and the far end's laser. TX: reseat the module in its cage, and see that it is made for the card's rate. TX fault: replace the module.",
			Sources: []string{"SFF-8472, table 9-11: status", "SFF-8636, 6.2.3: interrupt flags", "OIF CMIS 5.x, 8.10.3: lane flags"},
		}, Judge: moduleSignals},
		{About: findings.About{
			ID: "link/module-state", Severity: findings.Critical,
			Title:   "the module is not ready",
			Why:     "A module that faulted, or that nobody took out of low power, sends no light.",
			Remedy:  "Set the device down and up, which resets many; then reseat the module. In a fault that comes back, update its firmware or replace it.",
			Sources: []string{"OIF CMIS 5.x, 6.3.2: module state machine, and table 8-7: fault causes"},
		}, Judge: moduleState},
		{About: findings.About{
			ID: "link/module-power", Severity: findings.Warning,
			Title:   "the module may not draw the power that it needs",
			Why:     "Above what the cage gives, or what it was allowed, a module stays in low power: it is read, and has no link.",
			Remedy:  "Use a port for the module's power class, or a module of a lower one. The driver or firmware allows the higher classes where the cage can.",
			Sources: []string{"SFF-8636, table 6-16 and byte 93: power classes", "Linux Documentation/networking/ethtool-netlink.rst: ETHTOOL_LINK_EXT_STATE_POWER_BUDGET_EXCEEDED"},
		}, Judge: modulePower},
		{About: findings.About{
			ID: "link/module-rate", Severity: findings.Warning,
			Title:   "the link is faster than the module is made for",
			Why:     "A module or cable beyond its rate may work on the bench and lose frames when it is warm, and nobody supports it.",
			Remedy:  "Use a module or cable of the link's rate, or set the link to the module's (link: {speed: ...}).",
			Sources: []string{"SFF-8472, 8.6: nominal signalling rate", "SFF-8636, 6.3.8 and 6.3.30"},
		}, Judge: moduleRate},
	}
}

// Module judges a module by itself, read from wherever: by the rules that need no
// link. name is what the findings call it.
func Module(m *module.Module, name string) []findings.Finding {
	e := &Evidence{}
	all := findings.Judge(append(moduleRules(), qualityRules()...), nic{NIC: &inventory.NIC{Name: name, Module: m}, evidence: e})
	findings.Sort(all)
	return all
}

// noModule is the verdict where there is no module to judge, and whether there is none.
func (n nic) noModule() (findings.Verdict, bool) {
	if v, is := n.noPort(); is { // also where it reads the module of another's port
		return v, true
	}
	if n.Module != nil {
		return findings.Verdict{}, false
	}
	if n.Link.Port == "Twisted Pair" {
		return findings.Inapplicable("a twisted pair port"), true
	}
	return findings.Unread(n.Unread, "module"), true
}

func moduleChecksum(n nic) findings.Verdict {
	if v, is := n.noModule(); is {
		return v
	}
	if len(n.Module.Doubts) > 0 {
		return findings.Fails(strings.Join(n.Module.Doubts, "; "), "checksums that hold")
	}
	if len(n.Module.Checksums) == 0 {
		return findings.Unclear("no page with a checksum was read")
	}
	return findings.Passes("%d checksums hold", len(n.Module.Checksums))
}

// monitor is one of a module's with its name and thresholds.
type monitor struct {
	*module.Monitor
	name  string
	limit *module.Range
}

// monitors are what the module measures and can be held against limits as the port
// is: one that is set down need not send light, and without a carrier nobody may be
// at the other end, which link/down says.
func (n nic) monitors() []monitor {
	d := n.Module.DOM
	if d == nil {
		return nil
	}
	all := []monitor{{d.Temperature, "temperature", d.Thresholds.Temperature}, {d.Voltage, "voltage", d.Thresholds.Voltage}}
	for _, l := range d.Lanes {
		of := laneName(d, l)
		if n.Link.Admin != "down" && !lightless(n.Module) {
			all = append(all, monitor{l.Bias, "bias current" + of, d.Thresholds.Bias}, monitor{l.TXPower, "TX power" + of, d.Thresholds.TXPower})
			if !n.cut() {
				all = append(all, monitor{l.RXPower, "RX power" + of, d.Thresholds.RXPower})
			}
		}
	}
	return slices.DeleteFunc(all, func(m monitor) bool { return m.Monitor == nil })
}

// lightless reports whether a module is copper: what it says of light is not to be judged.
func lightless(m *module.Module) bool {
	return m.Medium == module.PassiveCopper || m.Medium == module.ActiveCopper || m.Medium == module.BaseT
}

// laneName is what is put behind a value to say which lane it is of.
func laneName(d *module.DOM, l module.Lane) string {
	if len(d.Lanes) < 2 {
		return ""
	}
	return fmt.Sprintf(" of lane %d", l.Number)
}

// unlit is what the module says of the light that it doesn't receive, or too little of.
func (n nic) unlit() []string {
	if n.Module == nil || n.Module.DOM == nil || len(n.Module.Doubts) > 0 {
		return nil
	}
	var said []string
	for _, l := range n.Module.DOM.Lanes {
		of := laneName(n.Module.DOM, l)
		switch p := l.RXPower; {
		case p != nil && p.Light == "dark" && !lightless(n.Module):
			said = append(said, "no light measured as RX power"+of)
		case p != nil && strings.HasPrefix(p.Verdict, "low"):
			said = append(said, "RX power"+of+" "+measured(p.Level))
		case l.RXLossOfSignal != nil && *l.RXLossOfSignal:
			said = append(said, "RX LOS"+of)
		}
	}
	return said
}

// measured says the value with its unit, power in dBm.
func measured(l module.Level) string {
	switch {
	case l.DBm != nil:
		return fmt.Sprintf("%.2f dBm", *l.DBm)
	case l.Unit == "°C":
		return fmt.Sprintf("%.1f °C", l.Value)
	}
	return fmt.Sprintf("%.2f %s", l.Value, l.Unit)
}

// notMeasured is the verdict on a module of which no monitor can be judged, and
// whether it is one.
func (n nic) notMeasured() (findings.Verdict, bool) {
	if v, is := n.noModule(); is {
		return v, true
	}
	m := n.Module
	switch {
	case m.Medium == module.PassiveCopper:
		return findings.Inapplicable("a passive copper cable measures nothing"), true
	case m.DOM == nil:
		return findings.Inapplicable("the module does not say that it measures anything"), true
	case len(m.Doubts) > 0:
		return findings.Unclear("the module's memory is not to be believed"), true
	}
	return findings.Verdict{}, false
}

// beyond judges monitors by the end of their verdict: "alarm" or "warning".
func (n nic) beyond(kind string) findings.Verdict {
	if v, is := n.notMeasured(); is {
		return v
	}
	var seen, expected []string
	judged := 0
	for _, m := range n.monitors() {
		if m.Verdict != "" {
			judged++
		}
		if !strings.HasSuffix(m.Verdict, kind) || m.Light == "dark" {
			continue
		}
		seen = append(seen, m.name+" "+measured(m.Level))
		low, high := m.limit.LowAlarm, m.limit.HighAlarm
		if kind == "warning" {
			low, high = m.limit.LowWarning, m.limit.HighWarning
		}
		if strings.HasPrefix(m.Verdict, "low") {
			expected = append(expected, m.name+" of "+measured(low)+" or more")
		} else {
			expected = append(expected, m.name+" of "+measured(high)+" or less")
		}
	}
	switch {
	case len(seen) > 0:
		return findings.Fails(strings.Join(seen, ", "), strings.Join(expected, ", "))
	case judged == 0:
		return findings.Unclear("the module sets no thresholds, or measures nothing")
	}
	return findings.Passes("%d values are within their limits", judged)
}

func moduleAlarm(n nic) findings.Verdict   { return n.beyond("alarm") }
func moduleWarning(n nic) findings.Verdict { return n.beyond("warning") }

// Closer to a threshold than this is worth a note.
const (
	marginDB      = 1.0
	marginDegrees = 5.0
)

func moduleMargin(n nic) findings.Verdict {
	if v, is := n.notMeasured(); is {
		return v
	}
	var seen []string
	least, judged := "", 0
	nearest := math.Inf(1)
	for _, m := range n.monitors() {
		if m.Verdict != "ok" || m.limit == nil {
			continue
		}
		var margin, enough float64
		var unit string
		switch {
		case strings.HasPrefix(m.name, "RX power") && m.DBm != nil && m.limit.LowWarning.DBm != nil:
			margin, enough, unit = *m.DBm-*m.limit.LowWarning.DBm, marginDB, "dB"
		case m.name == "temperature" && m.limit.HighWarning.Value > m.limit.LowWarning.Value:
			margin, enough, unit = m.limit.HighWarning.Value-m.Value, marginDegrees, "°C"
		default:
			continue
		}
		judged++
		said := fmt.Sprintf("%s %s, %.1f %s from its warning", m.name, measured(m.Level), margin, unit)
		if margin < enough {
			seen = append(seen, said)
		}
		if margin/enough < nearest {
			nearest, least = margin/enough, said
		}
	}
	switch {
	case len(seen) > 0:
		return findings.Fails(strings.Join(seen, "; "), fmt.Sprintf("%.0f dB and %.0f °C or more", marginDB, marginDegrees))
	case judged == 0:
		return findings.Unclear("nothing of it can be held against a threshold")
	}
	return findings.Passes("nearest: %s", least)
}

func moduleDark(n nic) findings.Verdict {
	if v, is := n.notMeasured(); is {
		return v
	}
	if lightless(n.Module) {
		return findings.Inapplicable("copper: there is no light to judge")
	}
	if n.Link.Admin == "down" {
		return findings.Inapplicable("set down: there may be no light")
	}
	var seen []string
	lit := 0
	for _, m := range n.monitors() {
		switch {
		case !strings.Contains(m.name, "power"):
		case m.Light == "dark":
			seen = append(seen, m.name)
		case m.Light == "":
			lit++
		}
	}
	switch {
	case len(seen) > 0:
		return findings.Fails("nothing measured as "+strings.Join(seen, ", "), "light on every lane that is on")
	case lit == 0:
		return findings.Unclear("no lane is on, or no power is measured")
	case n.cut():
		return findings.Passes("it sends light; there is no carrier, and link/down says what it receives")
	}
	return findings.Passes("light on each lane that is on")
}

func moduleSignals(n nic) findings.Verdict {
	if v, is := n.noModule(); is {
		return v
	}
	d := n.Module.DOM
	if d == nil {
		return findings.Inapplicable("the module reports no signals")
	}
	if len(n.Module.Doubts) > 0 {
		return findings.Unclear("the module's memory is not to be believed")
	}
	if n.Link.Admin == "down" {
		return findings.Inapplicable("set down: there may be no signal")
	}
	var raised []string
	told := false
	for _, l := range d.Lanes {
		for _, s := range []struct {
			on   *bool
			name string
		}{
			{l.TXFault, "TX fault"}, {l.TXLossOfSignal, "TX LOS"}, {l.TXLossOfLock, "TX LOL"}, {l.TXEqualizerFail, "TX equalizer"},
			{l.RXLossOfSignal, "RX LOS"}, {l.RXLossOfLock, "RX LOL"},
		} {
			if n.cut() && s.name != "TX fault" {
				continue
			}
			told = told || s.on != nil
			if s.on != nil && *s.on {
				raised = append(raised, fmt.Sprintf("%s of lane %d", s.name, l.Number))
			}
		}
	}
	list := strings.Join(raised, ", ")
	switch {
	case !told && n.cut():
		return findings.Inapplicable("no carrier: link/down says what it receives")
	case !told:
		return findings.Unclear("no signal was read, since that clears them: --flags reads them")
	case len(raised) == 0 && n.cut():
		return findings.Passes("no fault of its own; there is no carrier, and link/down says what it receives")
	case len(raised) == 0:
		return findings.Passes("none raised")
	case d.Flags == module.ClearOnRead && n.Link.Carrier != nil && *n.Link.Carrier:
		return findings.Unclear("%s: raised since they were last read, perhaps before the link came up", list)
	}
	return findings.Fails(list, "none")
}

func moduleState(n nic) findings.Verdict {
	if v, is := n.noModule(); is {
		return v
	}
	s := n.Module.State
	if s == nil || s.Module == nil || s.Module.Value == 0 { // passive ones say 0
		return findings.Inapplicable("%s modules have no states", n.Module.Standard)
	}
	seen := s.Module.Name
	if s.Fault != nil && s.Fault.Value != 0 {
		seen += ": " + s.Fault.Name
	}
	on := func(b *bool) bool { return b != nil && *b }
	switch {
	case on(s.FirmwareFault):
		return findings.Fails(seen+", firmware fault", "ModuleReady")
	case on(s.DataPathFault):
		return findings.Fails(seen+", data path fault", "ModuleReady")
	case s.Module.Name == "ModuleReady":
		return findings.Passes("%s", seen)
	case s.Module.Name == "ModuleFault":
		return findings.Fails(seen, "ModuleReady")
	case n.Link.Admin == "up":
		return findings.Fails(seen+" while the device is up", "ModuleReady")
	}
	return findings.Unclear("%s: how it should be depends on the device, which is not known to be up", seen)
}

func modulePower(n nic) findings.Verdict {
	if v, is := n.noModule(); is {
		return v
	}
	p := n.Module.Power
	class := "power class not told"
	if p != nil {
		class = fmt.Sprintf("power class %d", p.Class)
		if p.Watts != nil {
			class += fmt.Sprintf(" (%.1f W)", *p.Watts)
		}
	}
	const highPower = 5 // QSFP classes from here on have to be allowed
	switch {
	case n.Link.ExtendedState == "Power budget exceeded":
		return findings.Fails(class+"; the device says that its power budget is exceeded", "a module that the cage can feed")
	case p == nil:
		return findings.Unclear("the module names no power class")
	case len(n.Module.Doubts) > 0:
		return findings.Unclear("the module's memory is not to be believed")
	case n.Module.Standard == module.SFF8636 && p.Class >= highPower && p.HighPower != nil && !*p.HighPower:
		return findings.Fails(class+", and classes above 4 are not allowed", "high power allowed, or a class of 4 or less")
	}
	return findings.Passes("%s", class)
}

func moduleRate(n nic) findings.Verdict {
	if v, is := n.noModule(); is {
		return v
	}
	m := n.Module
	switch {
	case n.Link.Carrier == nil || !*n.Link.Carrier || n.Link.SpeedMbps == nil:
		return findings.Inapplicable("no link whose speed could be compared")
	case len(m.Doubts) > 0:
		return findings.Unclear("the module's memory is not to be believed")
	case m.SignalingRateMBd == nil || *m.SignalingRateMBd == 0 || m.Standard == module.CMIS:
		return findings.Unclear("the module names no rate")
	}
	lanes := 1
	switch {
	case n.Link.Lanes != nil && *n.Link.Lanes > 0:
		lanes = *n.Link.Lanes
	case m.Standard == module.SFF8636:
		lanes = 4
	}
	lane := *n.Link.SpeedMbps / lanes
	bits := 1 // in a symbol
	if lane >= 50000 {
		bits = 2 // PAM4
	}
	seen := fmt.Sprintf("%d Mb/s on a lane of %d MBd", lane, *m.SignalingRateMBd)
	// Rates are rounded to 100 or 250 MBd.
	if float64(*m.SignalingRateMBd*bits) < 0.95*float64(lane) {
		return findings.Fails(seen, fmt.Sprintf("%d MBd or more", lane/bits))
	}
	return findings.Passes("%s", seen)
}
