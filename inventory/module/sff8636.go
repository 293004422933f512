package module

// A QSFP has lower memory with what it measures, and page 00h with its identity
// (SFF-8636, before that SFF-8436). Page 03h has the thresholds; a module with
// flat memory has no page but 00h.

var revisions8636 = table{
	0x00: "Revision not specified",
	0x01: "SFF-8436 Rev 4.8 or earlier",
	0x02: "SFF-8436 Rev 4.8 or earlier",
	0x03: "SFF-8636 Rev 1.3 or earlier",
	0x04: "SFF-8636 Rev 1.4",
	0x05: "SFF-8636 Rev 1.5",
	0x06: "SFF-8636 Rev 2.0",
	0x07: "SFF-8636 Rev 2.5/2.6/2.7",
	0x08: "SFF-8636 Rev 2.8/2.9/2.10",
	0x09: "SFF-8636 Rev 2.11",
}

// power8636 are the classes 1 to 7 in watts (byte 129).
var power8636 = []float64{1.5, 2.0, 2.5, 3.5, 4.0, 4.5, 5.0}

// options8636 are in byte 147, beside the technology, and in 193 to 195.
var options8636 = []complianceBit{
	{147, 3, "Active wavelength control"},
	{147, 2, "Cooled transmitter"},
	{147, 1, "APD detector"},
	{147, 0, "Tunable transmitter"},
	{193, 6, "LPMode/TxDis input configurable"},
	{193, 5, "IntL/RxLOSL output configurable"},
	{193, 4, "Tx input adaptive equalizers freeze capable"},
	{193, 3, "Tx input adaptive equalizers capable"},
	{193, 2, "Tx input equalizers fixed programmable"},
	{193, 1, "Rx output emphasis fixed programmable"},
	{193, 0, "Rx output amplitude fixed programmable"},
	{194, 7, "Tx CDR on/off control"},
	{194, 6, "Rx CDR on/off control"},
	{194, 5, "Tx CDR loss of lock flag"},
	{194, 4, "Rx CDR loss of lock flag"},
	{194, 3, "Rx squelch disable"},
	{194, 2, "Rx output disable"},
	{194, 1, "Tx squelch disable"},
	{194, 0, "Tx squelch"},
	{195, 7, "Memory page 02h provided"},
	{195, 6, "Memory page 01h provided"},
	{195, 5, "Rate select"},
	{195, 4, "Tx disable"},
	{195, 3, "Tx fault reporting"},
	{195, 2, "Tx squelch by average power"},
	{195, 1, "Tx loss of signal"},
	{195, 0, "Pages 20h and 21h implemented"},
}

func decode8636(m *Module, image *Image) {
	lower, p0, p3 := image.page(Lower()), image.page(Upper(0)), image.page(Upper(3))
	m.Checksums = append(m.Checksums, p0.checksum("CC_BASE", Upper(0), 128, 190, 191)...)
	m.Checksums = append(m.Checksums, p0.checksum("CC_EXT", Upper(0), 192, 222, 223)...)

	if !m.lowerWrong {
		m.Revision = lower.name(1, revisions8636)
	}
	m.Connector = p0.named(130, connectors)
	m.comply(p0, 131, 8, compliance8636)
	// Byte 131 bit 7 says that byte 192 counts.
	if b, ok := p0.u8(192); ok && b != 0 && p0.set(131, 7) {
		m.ExtendedCompliance = extendedCompliance.code(b)
	}
	technology8636(m, p0)
	power8636of(m, lower, p0)
	m.Encoding = p0.named(139, encodings8636)
	if rate, ok := p0.u8(140); ok && rate == 0xff {
		if rate, ok = p0.u8(222); ok && rate != 0 {
			m.SignalingRateMBd = new(rate * 250)
		}
	} else if ok && rate != 0 {
		m.SignalingRateMBd = new(rate * 100)
	}
	if b, ok := p0.u8(141); ok {
		m.RateIdentifier = &Code{Value: b, Name: map[bool]string{true: "extended rate select", false: "unspecified"}[b != 0]}
	}
	m.vendor(p0, 148, 165, 168, 184, 2, 196, 212)
	length8636(m, p0)
	for _, b := range p0.get(192, 4) {
		m.OptionValues = append(m.OptionValues, int(b))
	}
	for _, o := range options8636 {
		if p0.set(o.offset, o.bit) && (o.offset != 147 || !m.isCopper()) {
			m.Options = append(m.Options, o.name)
		}
	}
	dom8636(m, lower, p0, p3)
}

// technology8636 decodes what transmits, and with that what the four bytes after
// the vendor's revision mean: a wavelength or a cable's attenuation.
func technology8636(m *Module, p0 *memory) {
	b, ok := p0.u8(147)
	if !ok {
		return
	}
	technology := b >> 4
	m.Technology = &Code{Value: b & 0xf0, Name: technologies[technology]}
	connector, known := p0.u8(130)
	switch {
	case mediumOf(technology) != "":
		m.Medium = mediumOf(technology)
	case known && connector == 0x23:
		m.Medium = ActiveOptical
	case known:
		m.Medium = Optical
	}
	if m.ExtendedCompliance != nil && copperExtended[m.ExtendedCompliance.Value] == BaseT {
		m.Medium = BaseT
	}
	if m.isCopper() {
		for i, ghz := range []float64{2.5, 5, 7, 12.9} {
			if db, ok := p0.u8(186 + i); ok && db != 0 {
				m.Attenuation = append(m.Attenuation, Attenuation{GHz: ghz, DB: db})
			}
		}
		return
	}
	if nm, ok := p0.u16(186); ok && nm != 0 {
		m.Wavelength = &Wavelength{NM: float64(nm) / 20}
		if tolerance, ok := p0.u16(188); ok && tolerance != 0 {
			m.Wavelength.ToleranceNM = new(float64(tolerance) / 200)
		}
	}
}

func power8636of(m *Module, lower, p0 *memory) {
	b, ok := p0.u8(129)
	if !ok {
		return
	}
	m.ExtendedIdentifier = &Code{Value: b, Name: "power class and CDRs"}
	m.TXCDR, m.RXCDR = new(b&0x08 != 0), new(b&0x04 != 0)
	p := &Power{Class: b>>6 + 1}
	if b&0x03 != 0 {
		p.Class = b&0x03 + 4
	}
	if p.Class <= len(power8636) {
		p.Watts = new(power8636[p.Class-1])
	}
	if b&0x20 != 0 {
		p.Class, p.Watts = 8, nil
		if tenths, ok := lower.u8(107); ok && tenths != 0 {
			p.Watts = new(float64(tenths) / 10)
		}
	}
	if !m.lowerWrong {
		p.HighPower, p.Set, p.Override = lower.bit(93, 2), lower.bit(93, 1), lower.bit(93, 0)
	}
	m.Power = p
}

func length8636(m *Module, p0 *memory) {
	m.length("smf", p0, 142, 1000)
	m.length("om3", p0, 143, 2)
	m.length("om2", p0, 144, 1)
	m.length("om1", p0, 145, 1)
	if m.Medium == Optical {
		m.length("om4", p0, 146, 2)
	} else {
		m.length("cable", p0, 146, 1)
	}
}

// dom8636 decodes what lower memory measures, where byte 220 says that it does.
func dom8636(m *Module, lower, p0, p3 *memory) {
	kind, ok := p0.u8(220)
	switch {
	case lower == nil:
		return
	case m.lowerWrong:
		m.note("lower memory is not decoded: it does not begin with the module's identifier")
		return
	case !ok:
		m.note("what the module measures is written in page 00h, which was not read")
		return
	case kind&0x3c == 0:
		return
	}
	d := &DOM{Flags: ClearOnRead, RXPowerIs: "OMA"}
	if kind&0x08 != 0 {
		d.RXPowerIs = "average"
	}
	flat, _ := lower.u8(2)
	paged := flat&0x04 == 0
	flags := func(offset, shift int) *Flags {
		b, ok := lower.u8(offset)
		if !ok || !paged {
			return nil
		}
		return nibble(b, shift)
	}
	// Since revision 2.8 byte 220 says of each whether it is there; before that
	// a module that measured at all had both. Many newer ones forget to say so.
	revision, known := lower.u8(1)
	told := known && revision >= 8
	shown := func(v *Monitor, bit int, name string) *Monitor {
		if !told || v == nil || kind>>bit&1 != 0 {
			return v
		}
		if v.Raw == 0 {
			return nil
		}
		m.note(name + " is shown because it is not zero: the module does not say that it measures it (byte 220)")
		return v
	}
	d.Temperature = shown(temperature.monitor(lower, 22, flags(6, 4)), 5, "temperature")
	d.Voltage = shown(voltage.monitor(lower, 26, flags(7, 4)), 4, "voltage")
	if p3 != nil && !paged {
		m.note("page 03h was read, but the module says that its memory is flat: there are no thresholds")
		p3 = nil
	}
	d.Thresholds.Temperature = temperature.limits(p3, 128)
	d.Thresholds.Voltage = voltage.limits(p3, 144)
	if m.Medium == PassiveCopper || m.Medium == BaseT {
		m.note("copper has no light to measure: bias and power are left out")
		m.DOM = d
		return
	}
	// Bit 2 says that transmitted power is measured. Modules older than SFF-8636
	// have it without saying so.
	txPower := kind&0x04 != 0
	if b := lower.get(50, 8); !txPower && b != nil && revision < 3 && !allZero(b) {
		txPower = true
		m.note("transmitted power is shown because it is not zero: a module older than SFF-8636 does not say that it measures it")
	}
	options, _ := p0.u8(195)
	locks, _ := p0.u8(194)
	for i := range 4 {
		// Each byte has two lanes, the odd one above.
		b, shift := i/2, 4*(1-i%2)
		lane := Lane{Number: i + 1, RXLossOfSignal: lower.bit(3, i)}
		if kind&0x0c != 0 {
			lane.RXPower = power.monitor(lower, 34+2*i, flags(9+b, shift))
			lane.Bias = bias.monitor(lower, 42+2*i, flags(11+b, shift))
		}
		if txPower {
			lane.TXPower = power.monitor(lower, 50+2*i, flags(13+b, shift))
		}
		if options&0x02 != 0 {
			lane.TXLossOfSignal = lower.bit(3, 4+i)
		}
		if options&0x08 != 0 {
			lane.TXFault = lower.bit(4, i)
		}
		if p0.set(193, 3) {
			lane.TXEqualizerFail = lower.bit(4, 4+i)
		}
		if locks&0x20 != 0 {
			lane.TXLossOfLock = lower.bit(5, 4+i)
		}
		if locks&0x10 != 0 {
			lane.RXLossOfLock = lower.bit(5, i)
		}
		d.Lanes = append(d.Lanes, lane)
	}
	d.Thresholds.RXPower = power.limits(p3, 176)
	d.Thresholds.Bias = bias.limits(p3, 184)
	d.Thresholds.TXPower = power.limits(p3, 192)
	m.DOM = d
}
