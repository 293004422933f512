package module

import (
	"fmt"
	"strconv"
)

// A CMIS module has lower memory with its state, page 00h with its identity,
// and, unless its memory is flat, page 01h that tells what else it has: page 02h
// with thresholds, and in each bank of eight lanes page 11h with what is
// measured of them.

const lanesPerBank = 8

var moduleStates = table{
	0x00: "reserved or unknown", // what passive modules say
	0x01: "ModuleLowPwr",
	0x02: "ModulePwrUp",
	0x03: "ModuleReady",
	0x04: "ModulePwrDn",
	0x05: "ModuleFault",
}

var moduleFaults = table{
	0x00: "No fault detected / not supported",
	0x01: "TEC runaway",
	0x02: "Data memory corrupted",
	0x03: "Program memory corrupted",
}

var dataPathStates = table{
	0x01: "DPDeactivated",
	0x02: "DPInit",
	0x03: "DPDeinit",
	0x04: "DPActivated",
	0x05: "DPTxTurnOn",
	0x06: "DPTxTurnOff",
	0x07: "DPInitialized",
}

func decodeCMIS(m *Module, image *Image) {
	lower, p0, p1, p2 := image.page(Lower()), image.page(Upper(0)), image.page(Upper(1)), image.page(Upper(2))
	m.Checksums = append(m.Checksums, p0.checksum("page checksum", Upper(0), 128, 221, 222)...)
	m.Checksums = append(m.Checksums, p1.checksum("page checksum", Upper(1), 130, 254, 255)...)
	m.Checksums = append(m.Checksums, p2.checksum("page checksum", Upper(2), 128, 254, 255)...)
	if m.lowerWrong {
		m.note("lower memory is not decoded: it does not begin with the module's identifier")
		lower = nil
	}
	flat := lower.set(2, 7)
	if flat && (p1 != nil || p2 != nil) {
		m.note("the module says that its memory is flat: pages other than 00h are left out")
	}
	if flat {
		p1, p2 = nil, nil
	}

	if b, ok := lower.u8(1); ok && b != 0 {
		m.Revision = fmt.Sprintf("%d.%d", b>>4, b&15)
	}
	m.State = stateCMIS(lower)
	if b := lower.get(39, 2); b != nil && b[0]|b[1] != 0 && b[0]&b[1] != 0xff {
		m.Firmware = strconv.Itoa(int(b[0])) + "." + strconv.Itoa(int(b[1]))
	}
	m.vendor(p0, 129, 145, 148, 164, 2, 166, 182)
	m.CLEI = p0.text(190, 10)
	m.Connector = p0.named(203, connectors)
	if b := p0.get(200, 2); b != nil {
		m.Power = &Power{Class: int(b[0]>>5) + 1}
		if b[1] != 0 {
			m.Power.Watts = new(float64(b[1]) / 4)
		}
	}
	mediumCMIS(m, lower, p0)
	applicationsCMIS(m, lower, p1)
	linkCMIS(m, p0, p1)
	m.TXCDR, m.TXCDRBypass = p1.bit(161, 0), p1.bit(161, 1)
	m.RXCDR, m.RXCDRBypass = p1.bit(162, 0), p1.bit(162, 1)
	if flat {
		return
	}
	domCMIS(m, image, lower, p1, p2)
	m.Observables = append(diagnosticsCMIS(image), observablesCMIS(image)...)
}

func stateCMIS(lower *memory) *State {
	b, ok := lower.u8(3)
	if !ok {
		return nil
	}
	s := &State{
		Module:               moduleStates.code(b >> 1 & 7),
		FirmwareFault:        lower.bit(8, 1),
		DataPathFault:        lower.bit(8, 2),
		LowPwrAllowRequestHW: lower.bit(26, 6),
		LowPwrRequestSW:      lower.bit(26, 4),
	}
	const fault = 5
	if s.Module.Value == fault {
		if cause, ok := lower.u8(41); ok {
			s.Fault = moduleFaults.codeOrCustom(cause, 0x20)
		}
	}
	return s
}

// mediumCMIS reads how the module transmits; the media type, which says in what
// table its applications are, comes first.
func mediumCMIS(m *Module, lower, p0 *memory) {
	technology, ok := p0.u8(212)
	if ok {
		m.Technology = technologies.code(technology)
		m.Medium = mediumOf(technology)
	}
	mediaType, known := lower.u8(85)
	if !known {
		return
	}
	m.MediaType = mediaTypes.codeOrCustom(mediaType, 0x40)
	switch mediaType {
	case 1, 2:
		m.Medium = Optical
	case 3:
		if m.Medium == "" {
			m.Medium = PassiveCopper
		}
	case 4:
		if connector, _ := p0.u8(203); m.Medium == "" && ok {
			m.Medium = ActiveOptical
			if connector != 0x23 && connector != 0x21 {
				m.Medium = Optical
			}
		}
	case 5:
		m.Medium = BaseT
	}
}

// applicationsCMIS reads descriptors 1 to 8 in lower memory and 9 to 15 in page
// 01h. The list ends at the first without a host interface.
func applicationsCMIS(m *Module, lower, p1 *memory) {
	mediaType, known := lower.u8(85)
	if !known {
		return
	}
	for n := 1; n <= 15; n++ {
		b := lower.get(86+4*(n-1), 4)
		if n > 8 {
			b = p1.get(223+4*(n-9), 4)
		}
		if b == nil || b[0] == 0xff || b[0] == 0 {
			return
		}
		a := Application{
			Number: n, Host: *hostInterfaces.codeOrCustom(int(b[0]), 0xc0), Media: Code{Value: int(b[1]), Name: "unknown: no table for this media type"},
			HostLanes: int(b[2] >> 4), MediaLanes: int(b[2] & 15), HostAssignment: int(b[3]),
		}
		if t, ok := mediaInterfaces[mediaType]; ok {
			a.Media = *t.codeOrCustom(int(b[1]), 0xc0)
		}
		if assignment, ok := p1.u8(176 + n - 1); ok {
			a.MediaAssignment = &assignment
		}
		m.Applications = append(m.Applications, a)
	}
}

// linkCMIS reads lengths, and wavelength or attenuation.
func linkCMIS(m *Module, p0, p1 *memory) {
	if b, ok := p0.u8(202); ok && b != 0 {
		l := Length{Medium: "cable", Meters: float64(b&0x3f) * []float64{0.1, 1, 10, 100}[b>>6]}
		if b == 0xff {
			l.OrMore = true
		}
		m.Lengths = append(m.Lengths, l)
	}
	if b, ok := p1.u8(132); ok && b&0x3f != 0 && b>>6 < 2 { // the other two multipliers are reserved
		m.Lengths = append(m.Lengths, Length{Medium: "smf", Meters: float64(b&0x3f) * []float64{100, 1000}[b>>6]})
	}
	m.length("om5", p1, 133, 2)
	m.length("om4", p1, 134, 2)
	m.length("om3", p1, 135, 2)
	m.length("om2", p1, 136, 1)
	if m.isCopper() {
		for i, ghz := range []float64{5, 7, 12.9, 25.8} {
			if db, ok := p0.u8(204 + i); ok && db != 0 {
				m.Attenuation = append(m.Attenuation, Attenuation{GHz: ghz, DB: db})
			}
		}
		return
	}
	if nm, ok := p1.u16(138); ok && nm != 0 {
		m.Wavelength = &Wavelength{NM: float64(nm) / 20}
		if tolerance, ok := p1.u16(140); ok && tolerance != 0 {
			m.Wavelength.ToleranceNM = new(float64(tolerance) / 200)
		}
	}
}

// domCMIS decodes what is measured. Page 01h says what is; without it what is
// not zero is taken for measured.
func domCMIS(m *Module, image *Image, lower, p1, p2 *memory) {
	modules, told := p1.u8(159)
	measured := func(bit, offset int) bool {
		if told {
			return modules>>bit&1 != 0
		}
		raw, ok := lower.u16(offset)
		return ok && raw != 0
	}
	d := &DOM{Flags: ClearOnRead}
	if b, ok := p1.u8(151); ok {
		d.RXPowerIs = "OMA"
		if b&0x10 != 0 {
			d.RXPowerIs = "average"
		}
	}
	// Bits of byte 9: low above high, warnings above alarms.
	flags := func(shift int) *Flags {
		b, ok := lower.u8(9)
		if !ok {
			return nil
		}
		b >>= shift
		return &Flags{HighAlarm: b&1 != 0, LowAlarm: b&2 != 0, HighWarning: b&4 != 0, LowWarning: b&8 != 0}
	}
	if measured(0, 14) {
		d.Temperature = temperature.monitor(lower, 14, flags(0))
	}
	if measured(1, 16) {
		d.Voltage = voltage.monitor(lower, 16, flags(4))
	}
	laneBias := bias
	lanes, known := p1.u8(160)
	if known {
		multiplier := []float64{1, 2, 4, 1}[lanes>>3&3]
		laneBias.convert = func(raw float64) float64 { return bias.convert(raw) * multiplier }
	} else {
		lanes = 7
	}
	if m.Medium == PassiveCopper || m.Medium == BaseT {
		lanes = 0
	}
	for bank := range uint8(4) {
		p := Page{Address: AddressA0, Bank: bank, Number: 0x11}
		if p11 := image.page(p); p11 != nil {
			d.Lanes = append(d.Lanes, lanesCMIS(p11, p1, int(bank), lanes, laneBias)...)
		}
	}
	if p2 != nil {
		d.Thresholds.Temperature = temperature.limits(p2, 128)
		d.Thresholds.Voltage = voltage.limits(p2, 136)
		if !m.isCopper() {
			d.Thresholds.TXPower = power.limits(p2, 176)
			d.Thresholds.Bias = laneBias.limits(p2, 184)
			d.Thresholds.RXPower = power.limits(p2, 192)
		}
	}
	if d.Temperature == nil && d.Voltage == nil && len(d.Lanes) == 0 {
		return
	}
	m.DOM = d
	if !told {
		m.note("page 01h, which says what is measured, was not read: what is not zero is taken for measured")
	}
	if !known && len(d.Lanes) != 0 {
		m.note("page 01h, which has the multiplier of the bias current, was not read: 1 is used, the true current may be 2 or 4 times that")
	}
}

// lanesCMIS decodes page 11h of one bank. monitors are byte 160 of page 01h: bit
// 0 bias, 1 transmitted and 2 received power.
func lanesCMIS(p11, p1 *memory, bank, monitors int, laneBias quantity) []Lane {
	// Which flags there are is in bytes 157 and 158; without them all are.
	supported := func(offset, bit int) bool {
		b, ok := p1.u8(offset)
		return !ok || b>>bit&1 != 0
	}
	signal := func(offset, lane int, has bool) *bool {
		if !has {
			return nil
		}
		return p11.bit(offset, lane)
	}
	flags := func(offset, lane int) *Flags {
		b := p11.get(offset, 4)
		if b == nil {
			return nil
		}
		on := func(i int) bool { return b[i]>>lane&1 != 0 }
		return &Flags{HighAlarm: on(0), LowAlarm: on(1), HighWarning: on(2), LowWarning: on(3)}
	}
	var lanes []Lane
	for i := range lanesPerBank {
		lane := Lane{
			Number:          bank*lanesPerBank + i + 1,
			TXFault:         signal(135, i, supported(157, 0)),
			TXLossOfSignal:  signal(136, i, supported(157, 1)),
			TXLossOfLock:    signal(137, i, supported(157, 2)),
			TXEqualizerFail: signal(138, i, supported(157, 3)),
			RXLossOfSignal:  signal(147, i, supported(158, 1)),
			RXLossOfLock:    signal(148, i, supported(158, 2)),
		}
		if monitors&1 != 0 {
			lane.Bias = laneBias.monitor(p11, 170+2*i, flags(143, i))
		}
		if monitors&2 != 0 {
			lane.TXPower = power.monitor(p11, 154+2*i, flags(139, i))
		}
		if monitors&4 != 0 {
			lane.RXPower = power.monitor(p11, 186+2*i, flags(149, i))
		}
		if b, ok := p11.u8(128 + i/2); ok {
			lane.DataPath = dataPathStates.code(b >> (4 * (i % 2)) & 15)
		}
		if b, ok := p11.u8(206 + i); ok {
			lane.Application = new(b >> 4)
		}
		lanes = append(lanes, lane)
	}
	return lanes
}
