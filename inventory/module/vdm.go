package module

import "math"

// Observable is one of the values of a module beside its DOM: how good the signal
// is that arrives from the host or the medium, and how the module's inner parts do.
// CMIS modules have many, an SFP with a cooled laser what cools it. A minimum, maximum or average is of the time since the module's own
// statistics began.
type Observable struct {
	Name string `json:"name"`
	// Lane counts from 1, over all banks; absent where it is of no single lane.
	Lane  *int    `json:"lane,omitempty"`
	Value float64 `json:"value"`
	// Unit is "dB", "%", "°C", "MHz" and so on; a bit error ratio has none.
	Unit string `json:"unit,omitempty"`
	// Thresholds and Flags are absent where their pages were not read, thresholds
	// that are all zeros, too: they were never set.
	Thresholds *Range `json:"thresholds,omitempty"`
	Flags      *Flags `json:"flags,omitempty"`
	// Verdict holds the value against the thresholds, in the words of [Monitor]. It is
	// absent where there are none, what has no value of 0 stands at 0, or there is
	// nothing to believe.
	Verdict string `json:"verdict,omitempty"`
	// Page is where the value stands.
	Page string `json:"page"`
}

// observable says how to read one type of observable: unsigned, signed, or a
// floating point number of 16 bits.
type observable struct {
	name   string
	format byte // 'u', 's' or 'f'
	scale  float64
	unit   string
}

// observables are the types of CMIS (5.3, 8.22, VDM) and, from 128 on, those of
// coherent modules (C-CMIS).
var observables = map[int]observable{
	1:   {"laser age", 'u', 1, "%"},
	2:   {"TEC current", 's', 100.0 / 32767, "%"},
	3:   {"laser frequency error", 's', 10, "MHz"},
	4:   {"laser temperature", 's', 1.0 / 256, "°C"},
	5:   {"eSNR media input", 'u', 1.0 / 256, "dB"},
	6:   {"eSNR host input", 'u', 1.0 / 256, "dB"},
	7:   {"PAM4 level transition media input", 'u', 1.0 / 256, "dB"},
	8:   {"PAM4 level transition host input", 'u', 1.0 / 256, "dB"},
	9:   {"pre-FEC BER minimum media input", 'f', 1, ""},
	10:  {"pre-FEC BER minimum host input", 'f', 1, ""},
	11:  {"pre-FEC BER maximum media input", 'f', 1, ""},
	12:  {"pre-FEC BER maximum host input", 'f', 1, ""},
	13:  {"pre-FEC BER average media input", 'f', 1, ""},
	14:  {"pre-FEC BER average host input", 'f', 1, ""},
	15:  {"pre-FEC BER current media input", 'f', 1, ""},
	16:  {"pre-FEC BER current host input", 'f', 1, ""},
	17:  {"frame error ratio minimum media input", 'f', 1, ""},
	18:  {"frame error ratio minimum host input", 'f', 1, ""},
	19:  {"frame error ratio maximum media input", 'f', 1, ""},
	20:  {"frame error ratio maximum host input", 'f', 1, ""},
	21:  {"frame error ratio average media input", 'f', 1, ""},
	22:  {"frame error ratio average host input", 'f', 1, ""},
	23:  {"frame error ratio current media input", 'f', 1, ""},
	24:  {"frame error ratio current host input", 'f', 1, ""},
	128: {"modulator bias X/I", 'u', 100.0 / 65535, "%"},
	129: {"modulator bias X/Q", 'u', 100.0 / 65535, "%"},
	130: {"modulator bias Y/I", 'u', 100.0 / 65535, "%"},
	131: {"modulator bias Y/Q", 'u', 100.0 / 65535, "%"},
	132: {"modulator bias X phase", 'u', 100.0 / 65535, "%"},
	133: {"modulator bias Y phase", 'u', 100.0 / 65535, "%"},
	134: {"chromatic dispersion, fine", 's', 1, "ps/nm"},
	135: {"chromatic dispersion, coarse", 's', 20, "ps/nm"},
	136: {"DGD", 'u', 0.01, "ps"},
	137: {"SOPMD", 'u', 0.01, "ps^2"},
	138: {"PDL", 'u', 0.1, "dB"},
	139: {"OSNR", 'u', 0.1, "dB"},
	140: {"eSNR", 'u', 0.1, "dB"},
	141: {"carrier frequency offset", 's', 1, "MHz"},
	142: {"EVM", 'u', 100.0 / 65535, "%"},
	143: {"TX power", 's', 0.01, "dBm"},
	144: {"RX total power", 's', 0.01, "dBm"},
	145: {"RX signal power", 's', 0.01, "dBm"},
	146: {"SOP rate of change", 'u', 1, "krad/s"},
	147: {"MER", 'u', 0.1, "dB"},
}

func (o observable) value(raw uint16) float64 {
	switch o.format {
	case 's':
		return float64(int16(raw)) * o.scale
	case 'f':
		return f16(raw)
	}
	return float64(raw) * o.scale
}

// f16 is CMIS's number of 16 bits: five of exponent, eleven of mantissa.
func f16(raw uint16) float64 {
	return float64(raw&0x7ff) * math.Pow10(int(raw>>11)-24)
}

// observablesCMIS reads versatile diagnostics (VDM): each of up to four groups in
// a bank has a page of descriptors (20h to 23h), of values (24h to 27h) and of
// thresholds (28h to 2Bh); page 2Ch has the flags of all.
func observablesCMIS(image *Image) (out []Observable) {
	if has := image.page(Upper(1)).bit(142, 6); has != nil && !*has {
		return nil
	}
	for bank := range uint8(4) {
		page := func(number uint8) *memory { return image.page(Page{Address: AddressA0, Bank: bank, Number: number}) }
		for group := range uint8(4) {
			descriptors, values := page(0x20+group), page(0x24+group)
			for i := range pageSize / 2 {
				d := descriptors.get(128+2*i, 2)
				raw, ok := values.u16(128 + 2*i)
				if d == nil || !ok {
					continue
				}
				kind, known := observables[int(d[1])]
				if !known {
					continue
				}
				var lane *int
				if n := int(d[0] & 15); n < lanesPerBank {
					lane = new(int(bank)*lanesPerBank + n + 1)
				}
				limits := kind.limits(page(0x28+group), 128+8*int(d[0]>>4))
				out = append(out, Observable{
					Name: kind.name, Lane: lane, Value: kind.value(raw), Unit: kind.unit,
					Thresholds: limits,
					Flags:      vdmFlags(page(0x2c), 32*int(group)+i/2, 4*(i%2)),
					Verdict:    kind.verdict(raw, limits),
					Page:       Page{Address: AddressA0, Bank: bank, Number: 0x24 + group}.String(),
				})
			}
		}
	}
	return out
}

func (o observable) limits(p *memory, offset int) *Range {
	q := quantity{unit: o.unit, convert: func(raw float64) float64 { return o.value(uint16(raw)) }}
	return q.limits(p, offset)
}

// verdict holds a value against its thresholds. Of what can't be negative either side
// may be left at zero, which is no limit: an error ratio has none below, a signal to
// noise ratio often none above. A ratio of signals that stands at zero was not
// measured, as raw power at zero wasn't.
func (o observable) verdict(raw uint16, r *Range) string {
	if r == nil || o.unit == "dB" && o.format == 'u' && raw == 0 {
		return ""
	}
	sides := func(high, low Level) (above, below bool) {
		above = high.Value > low.Value
		return above, above || o.format != 's' && high.Value == 0 && low.Value > 0
	}
	v := o.value(raw)
	highAlarm, lowAlarm := sides(r.HighAlarm, r.LowAlarm)
	highWarning, lowWarning := sides(r.HighWarning, r.LowWarning)
	switch {
	case highAlarm && v > r.HighAlarm.Value:
		return "high-alarm"
	case lowAlarm && v < r.LowAlarm.Value:
		return "low-alarm"
	case highWarning && v > r.HighWarning.Value:
		return "high-warning"
	case lowWarning && v < r.LowWarning.Value:
		return "low-warning"
	case lowAlarm || lowWarning: // either side of a pair
		return "ok"
	}
	return ""
}

func vdmFlags(p *memory, index, shift int) *Flags {
	b, ok := p.u8(128 + index)
	if !ok {
		return nil
	}
	b >>= shift
	return &Flags{HighAlarm: b&1 != 0, LowAlarm: b&2 != 0, HighWarning: b&4 != 0, LowWarning: b&8 != 0}
}

// diagnosticsCMIS reads page 14h, which shows what its byte 128 selects, where
// page 13h byte 130 says that the module can measure it. Ratios are big endian
// there, SNR is little endian.
func diagnosticsCMIS(image *Image) (out []Observable) {
	const ratios, snr = 0x01, 0x06
	for bank := range uint8(4) {
		p13 := image.page(Page{Address: AddressA0, Bank: bank, Number: 0x13})
		at := Page{Address: AddressA0, Bank: bank, Number: 0x14}
		p14 := image.page(at)
		selected, ok := p14.u8(128)
		if !ok {
			continue
		}
		add := func(name string, offset int, unit string, value func(uint16) float64) {
			for lane := range lanesPerBank {
				if raw, ok := p14.u16(offset + 2*lane); ok && raw != 0 {
					out = append(out, Observable{Name: name, Lane: new(int(bank)*lanesPerBank + lane + 1), Value: value(raw), Unit: unit, Page: at.String()})
				}
			}
		}
		littleEndian := func(raw uint16) float64 { return float64(raw<<8|raw>>8) / 256 }
		switch {
		case selected == ratios && p13.set(130, 0):
			add("BER host input", 192, "", f16)
			add("BER media input", 208, "", f16)
		case selected == snr:
			if p13.set(130, 4) {
				add("SNR host input", 208, "dB", littleEndian)
			}
			if p13.set(130, 5) {
				add("SNR media input", 240, "dB", littleEndian)
			}
		}
	}
	return out
}
