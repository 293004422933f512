package module

import (
	"encoding/binary"
	"math"
)

// An SFP has its identity at A0h (SFF-8472, before that SFF-8079 and INF-8074)
// and, where it measures anything, diagnostics at A2h. Bytes 128 to 255 of both
// are the vendor's, or pages that no standard module has.

var revisions8472 = table{
	0x00: "unspecified",
	0x01: "SFF-8472 Rev 9.3",
	0x02: "SFF-8472 Rev 9.5",
	0x03: "SFF-8472 Rev 10.2",
	0x04: "SFF-8472 Rev 10.4",
	0x05: "SFF-8472 Rev 11.0",
	0x06: "SFF-8472 Rev 11.3",
	0x07: "SFF-8472 Rev 11.4",
	0x08: "SFF-8472 Rev 12.3",
	0x09: "SFF-8472 Rev 12.4",
}

var extendedIdentifiers8472 = table{
	0x00: "GBIC not specified / not MOD_DEF compliant",
	0x01: "GBIC compliant with MOD_DEF 1",
	0x02: "GBIC compliant with MOD_DEF 2",
	0x03: "GBIC compliant with MOD_DEF 3",
	0x04: "GBIC/SFP defined by 2-wire interface ID",
	0x05: "GBIC compliant with MOD_DEF 5",
	0x06: "GBIC compliant with MOD_DEF 6",
	0x07: "GBIC compliant with MOD_DEF 7",
}

var rateIdentifiers8472 = table{
	0x00: "unspecified",
	0x01: "4/2/1G Rate_Select & AS0/AS1",
	0x02: "8/4/2G Rx Rate_Select only",
	0x03: "8/4/2G Independent Rx & Tx Rate_Select",
	0x04: "8/4/2G Tx Rate_Select only",
	0x05: "8/4/2G Independent Rx & Tx Rate_Select",
	0x06: "16/8/4G Rx Rate_Select only (FC-PI-5)",
	0x08: "16/8/4G Independent Rx, Tx Rate_Select (FC-PI-5)",
	0x0a: "32/16/8G Independent Rx, Tx Rate_Select (FC-PI-6)",
	0x0c: "64/32/16G Independent Rx, Tx Rate_Select (FC-PI-7)",
	0x0e: "10/8G Rx and Tx Rate_Select controlling the operation or locking modes of the internal signal conditioner, retimer or CDR",
	0x20: "64/32/16G Rx, Tx Rate_Select (FC-PI-6P)",
}

var passiveCables8472 = table{
	0x00: "unspecified",
	0x01: "SFF-8431 appendix E",
	0x07: "SFF-8461",
}

var activeCables8472 = table{
	0x00: "unspecified",
	0x01: "SFF-8431 appendix E",
	0x04: "SFF-8431 limiting",
	0x0c: "SFF-8431 limiting and FC-PI-4 limiting",
}

// options8472 are bytes 64 and 65.
var options8472 = []complianceBit{
	{65, 1, "RX_LOS implemented"},
	{65, 2, "RX_LOS implemented, inverted"},
	{65, 3, "TX_FAULT implemented"},
	{65, 4, "TX_DISABLE implemented"},
	{65, 5, "RATE_SELECT implemented"},
	{65, 6, "Tunable transmitter technology"},
	{65, 7, "Receiver decision threshold implemented"},
	{64, 0, "Linear receiver output implemented"},
	{64, 1, "Power level 2 requirement"},
	{64, 2, "Cooled transceiver implemented"},
	{64, 3, "Retimer or CDR implemented"},
	{64, 4, "Paged A2h memory implemented"},
	{64, 5, "Power level 3 requirement"},
	{64, 6, "Power level 4 requirement"},
}

func decode8472(m *Module, image *Image) {
	a0 := image.page(Lower())
	a2Page := Page{Address: AddressA2, Lower: true}
	a2 := image.page(a2Page)
	m.Checksums = append(m.Checksums, a0.checksum("CC_BASE", Lower(), 0, 62, 63)...)
	m.Checksums = append(m.Checksums, a0.checksum("CC_EXT", Lower(), 64, 94, 95)...)
	m.Checksums = append(m.Checksums, a2.checksum("CC_DMI", a2Page, 0, 94, 95)...)

	m.ExtendedIdentifier = a0.named(1, extendedIdentifiers8472)
	m.Connector = a0.named(2, connectors)
	m.comply(a0, 3, 8, compliance8472)
	if b, ok := a0.u8(36); ok {
		m.ComplianceCodes = append(m.ComplianceCodes, b)
		if b != 0 {
			m.ExtendedCompliance = extendedCompliance.code(b)
		}
	}
	m.Medium = medium8472(a0)
	m.Encoding = a0.named(11, encodings8472)
	m.RateIdentifier = a0.named(13, rateIdentifiers8472)
	m.Revision = a0.name(94, revisions8472)
	m.vendor(a0, 20, 37, 40, 56, 4, 68, 84)
	rate8472(m, a0)
	length8472(m, a0)
	if m.isCable8472(a0) {
		switch b, ok := a0.u8(60); {
		case ok && a0.set(8, 2):
			m.CableCompliance = passiveCables8472.code(b)
		case ok && a0.set(8, 3):
			m.CableCompliance = activeCables8472.code(b)
		}
	} else if nm, ok := a0.u16(60); ok && nm != 0 && m.Medium == Optical {
		m.Wavelength = &Wavelength{NM: float64(nm) + fraction8472(a0, nm)}
	}
	if again, _ := a0.u8(62); a0.set(10, 1) && again&1 != 0 {
		m.Compliance = append(m.Compliance, "FC: 6400 MBytes/sec")
	}
	for _, b := range a0.get(64, 2) {
		m.OptionValues = append(m.OptionValues, int(b))
	}
	for _, o := range options8472 {
		if a0.set(o.offset, o.bit) {
			m.Options = append(m.Options, o.name)
		}
	}
	dom8472(m, a0, a2)
}

// fraction8472 is what byte 62 adds to a wavelength, in nanometres. By the DWDM SFP
// MSA it counts hundredths; in SFF-8472 it was reserved, and from revision 12.4 on
// it is "Fibre Channel speed 2", also where byte 10 sends to it.
func fraction8472(a0 *memory, nm uint16) float64 {
	const revision12_4, shortestOfGrid = 0x09, 1260
	hundredths, ok := a0.u8(62)
	revision, _ := a0.u8(94)
	if !ok || hundredths >= 100 || a0.set(10, 1) || revision >= revision12_4 || nm < shortestOfGrid {
		return 0
	}
	return float64(hundredths) / 100
}

// named is the code at an offset, nil where it was not read.
func (m *memory) named(offset int, t table) *Code {
	b, ok := m.u8(offset)
	if !ok {
		return nil
	}
	return t.code(b)
}

// name is the name of the code at an offset.
func (m *memory) name(offset int, t table) string {
	if c := m.named(offset, t); c != nil {
		return c.Name
	}
	return ""
}

// medium8472 tells it from the cable bits, the compliance codes and the
// connector, in the order in which they are to be trusted.
func medium8472(a0 *memory) Medium {
	connector, known := a0.u8(2)
	extended, _ := a0.u8(36)
	switch {
	case a0.set(8, 2):
		return PassiveCopper
	case a0.set(8, 3):
		if copperExtended[extended] == ActiveOptical {
			return ActiveOptical
		}
		return ActiveCopper
	case copperExtended[extended] != "" && extended != 0:
		return copperExtended[extended]
	case a0.set(6, 3) || connector == 0x22:
		return BaseT
	case connector == 0x21 || a0.set(6, 2) || a0.set(3, 0):
		return PassiveCopper
	case !known || connector == 0x23:
		return ""
	}
	return Optical
}

// isCable8472 reports whether fields say cable lengths and compliance instead of
// reach and wavelength.
func (m *Module) isCable8472(a0 *memory) bool {
	return a0.set(8, 2) || a0.set(8, 3) || m.isCopper() || m.Medium == ActiveOptical
}

func rate8472(m *Module, a0 *memory) {
	rate, ok := a0.u8(12)
	margins := a0.get(66, 2)
	switch {
	case !ok || rate == 0:
	case rate != 0xff:
		m.SignalingRateMBd = new(rate * 100)
		if margins != nil {
			m.RateMaxPercent, m.RateMinPercent = new(int(margins[0])), new(int(margins[1]))
		}
	case margins != nil && margins[0] != 0: // more than 25.4 GBd: byte 66 has the rate, 67 the margin both ways
		m.SignalingRateMBd = new(int(margins[0]) * 250)
		m.RateMaxPercent, m.RateMinPercent = new(int(margins[1])), new(int(margins[1]))
	}
}

func length8472(m *Module, a0 *memory) {
	m.length("smf", a0, 14, 1000)
	m.length("smf", a0, 15, 100)
	m.length("om2", a0, 16, 10)
	m.length("om1", a0, 17, 10)
	if connector, known := a0.u8(2); m.isCable8472(a0) || connector == 0x23 || !known {
		m.length("cable", a0, 18, 1)
	} else {
		m.length("om4", a0, 18, 10)
	}
	m.length("om3", a0, 19, 10)
}

// dom8472 decodes A2h.
func dom8472(m *Module, a0, a2 *memory) {
	kind, known := a0.u8(92) // diagnostic monitoring type
	var calibration string
	switch {
	case a2 == nil:
		if known && kind&0x40 != 0 {
			m.note("the module measures (DDM), but A2h was not read")
		}
		return
	case !known:
		if calibration = inferCalibration(a2); calibration == "" {
			m.note("A2h can't be decoded: which calibration it needs is written at A0h, which was not read")
			return
		}
		m.note("A0h was not read: that there is " + calibration + " calibration follows from the constants at A2h")
	case kind&0x40 == 0:
		if !a2.blank() {
			m.note("A2h was read, but the module does not say that it measures anything")
		}
		return
	case kind&0x10 != 0:
		calibration = "external"
	case kind&0x20 != 0:
		calibration = "internal"
	default:
		calibration = "internal"
		m.note("the module does not say whether it calibrates its values: taken for calibrated")
	}
	if known && kind&0x04 != 0 {
		m.note("an address change sequence is needed to read A2h (byte 92 bit 2): what was read as A2h may be A0h")
	}

	d := &DOM{Calibration: calibration, Flags: "vendor-specific"}
	if known {
		d.RXPowerIs = "OMA"
		if kind&0x08 != 0 {
			d.RXPowerIs = "average"
		}
	}
	q := quantities8472{temperature, voltage, bias, power, power}
	if calibration == "external" {
		if q, known = external8472(a2); !known {
			m.note("A2h has no constants for the external calibration that byte 92 asks for")
			return
		}
	}
	var flags [7]*Flags
	// Byte 93 bit 7 says that there are flags; without A0h that is taken for said.
	if enhanced, ok := a0.u8(93); !ok || enhanced&0x80 != 0 {
		flags = flags8472(a2)
	}
	d.Temperature = q.temperature.monitor(a2, 96, flags[0])
	d.Voltage = q.voltage.monitor(a2, 98, flags[1])
	lane := Lane{
		Number:  1,
		Bias:    q.bias.monitor(a2, 100, flags[2]),
		TXPower: q.txPower.monitor(a2, 102, flags[3]),
		RXPower: q.rxPower.monitor(a2, 104, flags[4]),
	}
	if enhanced, ok := a0.u8(93); ok {
		if enhanced&0x20 != 0 {
			lane.TXFault = a2.bit(110, 2)
		}
		if enhanced&0x10 != 0 {
			lane.RXLossOfSignal = a2.bit(110, 1)
		}
	}
	d.Lanes = []Lane{lane}
	d.Thresholds = Thresholds{
		Temperature: q.temperature.limits(a2, 0),
		Voltage:     q.voltage.limits(a2, 8),
		Bias:        q.bias.limits(a2, 16),
		TXPower:     q.txPower.limits(a2, 24),
		RXPower:     q.rxPower.limits(a2, 32),
	}
	if m.Medium == PassiveCopper {
		d.Lanes = nil
		d.Thresholds.Bias, d.Thresholds.TXPower, d.Thresholds.RXPower = nil, nil, nil
		m.note("a passive copper cable has no light to measure: bias and power are left out")
	}
	m.DOM = d
	if calibration == "internal" {
		m.Observables = cooling8472(a0, a2)
	}
}

// optional8472 are the monitors of a cooled laser, with where they and their
// thresholds stand at A2h. Their flags follow those of the five others.
var optional8472 = []struct {
	observable
	value, limits int
}{
	{observable{"laser temperature", 's', 1.0 / 256, "°C"}, 106, 40},
	{observable{"TEC current", 's', 0.1, "mA"}, 108, 48},
}

// cooling8472 decodes them. No bit tells of them but the one for a cooled
// transceiver; in a tunable one the first may be a wavelength instead.
func cooling8472(a0, a2 *memory) (out []Observable) {
	if !a0.set(64, 2) || a0.set(65, 6) {
		return nil
	}
	var flags []*Flags
	if enhanced, ok := a0.u8(93); ok && enhanced&0x80 != 0 {
		all := flags8472(a2)
		flags = all[5:]
	}
	for i, o := range optional8472 {
		limits := o.observable.limits(a2, o.limits)
		raw, ok := a2.u16(o.value)
		if !ok || raw == 0 && limits == nil {
			continue
		}
		one := Observable{
			Name: o.name, Value: o.observable.value(raw), Unit: o.unit, Thresholds: limits, Verdict: o.verdict(raw, limits),
			Page: Page{Address: AddressA2, Lower: true}.String(),
		}
		if flags != nil {
			one.Flags = flags[i]
		}
		out = append(out, one)
	}
	return out
}

// flags8472 are bytes 112, 113 (alarms) and 116, 117 (warnings): two bits for
// each monitor, high before low.
func flags8472(a2 *memory) (flags [7]*Flags) {
	alarms, ok := a2.u16(112)
	warnings, also := a2.u16(116)
	if !ok || !also {
		return flags
	}
	for i := range flags {
		high, low := uint16(1)<<(15-2*i), uint16(1)<<(14-2*i)
		flags[i] = &Flags{
			HighAlarm: alarms&high != 0, LowAlarm: alarms&low != 0,
			HighWarning: warnings&high != 0, LowWarning: warnings&low != 0,
		}
	}
	return flags
}

// quantities8472 are how to convert the five values and their thresholds.
type quantities8472 struct {
	temperature, voltage, bias, txPower, rxPower quantity
}

// external8472 are the module's own constants (bytes 56 to 91): a slope and an
// offset, both in the units of the internally calibrated value, and for received
// power a polynomial of the fourth order.
func external8472(a2 *memory) (quantities8472, bool) {
	b := a2.get(56, 36)
	if b == nil {
		return quantities8472{}, false
	}
	linear := func(q quantity, at int) quantity {
		slope := float64(binary.BigEndian.Uint16(b[at-56:])) / 256
		offset := float64(int16(binary.BigEndian.Uint16(b[at-54:])))
		convert := q.convert
		q.convert = func(raw float64) float64 { return convert(slope*raw + offset) }
		return q
	}
	var coefficients [5]float64 // of the fourth power first
	for i := range coefficients {
		coefficients[i] = float64(math.Float32frombits(binary.BigEndian.Uint32(b[4*i:])))
	}
	q := quantities8472{linear(temperature, 84), linear(voltage, 88), linear(bias, 76), linear(power, 80), power}
	q.rxPower.convert = func(raw float64) float64 {
		var sum float64
		for _, c := range coefficients {
			sum = sum*raw + c
		}
		return power.convert(sum)
	}
	return q, true
}

// inferCalibration tells the calibration where A0h is missing. The constants of
// an internally calibrated module change nothing: slopes 1, offsets 0.
func inferCalibration(a2 *memory) string {
	b := a2.get(56, 36)
	if b == nil || a2.blank() {
		return ""
	}
	unity := true
	for at := 76; at < 92; at += 4 {
		slope, offset := binary.BigEndian.Uint16(b[at-56:]), binary.BigEndian.Uint16(b[at-54:])
		if slope == 0 { // would make all values one: the constants were never set
			return "internal"
		}
		unity = unity && slope == 0x100 && offset == 0
	}
	if unity && math.Float32frombits(binary.BigEndian.Uint32(b[12:])) == 1 {
		return "internal"
	}
	return "external"
}

// blank reports whether a page holds nothing but one value, as a bus without
// answer or an empty memory reads.
func (m *memory) blank() bool {
	b := m.get(0, pageSize)
	for _, v := range b {
		if v != b[0] {
			return false
		}
	}
	return b != nil
}
