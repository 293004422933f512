package audit

import (
	"fmt"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory/module"
)

// qualityRules judge what a CMIS module measures beside its DOM (versatile diagnostics,
// VDM) by its own thresholds.
func qualityRules() []findings.Rule[nic] {
	sources := []string{
		"OIF CMIS 5.3, 8.22: VDM, pages 20h to 2Fh: observables, samples, thresholds and flags",
		"OIF C-CMIS 1.3: VDM observables of coherent modules",
	}
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "link/module-quality-alarm", Severity: findings.Critical,
			Title:   "the module measures a signal beyond an alarm threshold of its maker",
			Why:     "CMIS modules measure what light levels don't show: the bit error ratio before error correction (BER), frames that it could not correct, signal to noise (SNR), the laser's temperature. Beyond its maker's alarm thresholds the link loses frames, or is about to. Where the maker set no thresholds, nothing is judged; the greatest value since the module's statistics began may be of the time before the link came up, and alone is no failure.",
			Remedy:  "Media input: clean both connectors, look for a sharp bend, check the far end's module. Host input: the electrical side, so reseat the module in its cage, and look at the port's equalization. Laser: see to the airflow, replace the module.",
			Sources: sources,
		}, Judge: qualityAlarm},
		{About: findings.About{
			ID: "link/module-quality-warning", Severity: findings.Warning,
			Title:   "the module measures a signal beyond a warning threshold of its maker",
			Why:     "The signal still does, with less to spare than its maker wants (see link/module-quality-alarm for what is measured).",
			Remedy:  "As for an alarm, but there is time to plan it.",
			Sources: sources,
		}, Judge: qualityWarning},
	}
}

func qualityAlarm(n nic) findings.Verdict   { return n.quality("alarm") }
func qualityWarning(n nic) findings.Verdict { return n.quality("warning") }

// quality judges observables by the end of their verdict: "alarm" or "warning".
func (n nic) quality(kind string) findings.Verdict {
	if v, is := n.noModule(); is {
		return v
	}
	switch m := n.Module; {
	case len(m.Observables) == 0:
		return findings.Inapplicable("the module reports no quality of its signals")
	case len(m.Doubts) > 0:
		return findings.Unclear("the module's memory is not to be believed")
	case n.Link.Admin == "down":
		return findings.Inapplicable("set down: there may be no signal")
	}
	var seen, expected, past []string
	within, worse := 0, 0
	for _, o := range n.Module.Observables {
		name := observableName(o)
		switch beyond := strings.HasSuffix(o.Verdict, kind); {
		case o.Verdict == "" || n.cut() && !ofLaser(o):
		case beyond && strings.Contains(o.Name, " maximum "):
			past = append(past, name+" "+observed(o, o.Value))
		case beyond:
			seen = append(seen, name+" "+observed(o, o.Value))
			expected = append(expected, name+" of "+observedLimit(o, kind))
		case o.Verdict != "ok":
			worse++
		case raised(o.Flags, kind):
			past = append(past, name+" (its flag)")
		default:
			within++
		}
	}
	switch {
	case len(seen) > 0:
		return findings.Fails(strings.Join(seen, ", "), strings.Join(expected, ", "))
	case len(past) > 0:
		return findings.Unclear("beyond at some time since the module began to note it, perhaps before the link came up: %s", strings.Join(past, ", "))
	case within > 0:
		return findings.Passes("%d values are within their limits", within)
	case worse > 0:
		return findings.Inapplicable("what is beyond a threshold is beyond the other kind")
	case n.cut():
		return findings.Inapplicable("no carrier: link/down says what it receives")
	}
	return findings.Unclear("the module sets no thresholds of them, or its page was not read")
}

// ofLaser is an observable of the module's own laser, whatever it receives.
func ofLaser(o module.Observable) bool {
	return strings.HasPrefix(o.Name, "laser ") || strings.HasPrefix(o.Name, "TEC ")
}

// raised reports whether the module noted either side of a kind since its flags were
// last read.
func raised(f *module.Flags, kind string) bool {
	switch {
	case f == nil:
		return false
	case kind == "alarm":
		return f.HighAlarm || f.LowAlarm
	}
	return f.HighWarning || f.LowWarning
}

func observableName(o module.Observable) string {
	if o.Lane == nil {
		return o.Name
	}
	return fmt.Sprintf("%s of lane %d", o.Name, *o.Lane)
}

// observed says a value of the observable's; error ratios have no unit.
func observed(o module.Observable, value float64) string {
	if o.Unit == "" {
		return fmt.Sprintf("%.1e", value)
	}
	return measured(module.Level{Value: value, Unit: o.Unit})
}

func observedLimit(o module.Observable, kind string) string {
	low, high := o.Thresholds.LowAlarm, o.Thresholds.HighAlarm
	if kind == "warning" {
		low, high = o.Thresholds.LowWarning, o.Thresholds.HighWarning
	}
	if strings.HasPrefix(o.Verdict, "low") {
		return observed(o, low.Value) + " or more"
	}
	return observed(o, high.Value) + " or less"
}
