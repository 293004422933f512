package module

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// load decodes a dump of testdata.
func load(t *testing.T, name string) *Module {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	dumps, err := ParseDump(data)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, &dumps[0].Image)
}

func decode(t *testing.T, image *Image) *Module {
	t.Helper()
	m, err := Decode(image)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// builder makes images for what no dump has.
type builder struct {
	t     testing.TB
	image Image
}

func (b *builder) set(p Page, offset int, data ...byte) *builder {
	b.t.Helper()
	if err := b.image.Set(p, offset, data); err != nil {
		b.t.Fatal(err)
	}
	return b
}

func (b *builder) text(p Page, offset int, s string) *builder { return b.set(p, offset, []byte(s)...) }

func (b *builder) u16(p Page, offset int, values ...uint16) *builder {
	for i, v := range values {
		b.set(p, offset+2*i, byte(v>>8), byte(v))
	}
	return b
}

// zeros makes a page known.
func (b *builder) zeros(pages ...Page) *builder {
	for _, p := range pages {
		first := pageSize
		if p.Lower {
			first = 0
		}
		b.set(p, first, make([]byte, pageSize)...)
	}
	return b
}

// sum stores a checksum that holds.
func (b *builder) sum(p Page, from, to, at int) *builder {
	var sum byte
	for _, v := range b.image.page(p).get(from, to-from+1) {
		sum += v
	}
	return b.set(p, at, sum)
}

var a2 = Page{Address: AddressA2, Lower: true}

// sfp is an SFP with DDM of a calibration (bits of byte 92).
func sfp(t testing.TB, kind byte) *builder {
	b := &builder{t: t}
	b.zeros(Lower(), a2)
	b.set(Lower(), 0, 3, 4, 7).set(Lower(), 3, 0x10).set(Lower(), 12, 103)
	b.text(Lower(), 20, "NICTUNE         ").text(Lower(), 40, "TEST-10G-SR     ").text(Lower(), 68, "0001            ").text(Lower(), 84, "260229  ")
	b.set(Lower(), 92, kind, 0xf0, 8)
	return b
}

func (b *builder) sfpSums() *builder {
	return b.sum(Lower(), 0, 62, 63).sum(Lower(), 64, 94, 95).sum(a2, 0, 94, 95)
}

// qsfp is a QSFP28 with a laser that measures everything, and thresholds.
func qsfp(t testing.TB) *builder {
	b := &builder{t: t}
	b.zeros(Lower(), Upper(0), Upper(3))
	b.set(Lower(), 0, 0x11, 8, 0).u16(Lower(), 22, 0x2880).u16(Lower(), 26, 33000)
	b.u16(Lower(), 34, 5000, 1, 0, 20000).u16(Lower(), 42, 3500, 3500, 0, 3500).u16(Lower(), 50, 8000, 8000, 0, 8000)
	b.set(Upper(0), 128, 0x11, 0xcc, 0x07, 0x80).set(Upper(0), 147, 0x40).set(Upper(0), 192, 0x06).set(Upper(0), 220, 0x3c)
	b.set(Upper(0), 195, 0x08).set(Upper(0), 142, 2)
	b.u16(Upper(0), 186, 26200, 1300)
	b.u16(Upper(3), 128, 0x4b00, 0xfb00, 0x4600, 0x0000).u16(Upper(3), 144, 36300, 29700, 34650, 31350)
	b.u16(Upper(3), 176, 10000, 100, 8000, 200).u16(Upper(3), 184, 5000, 1000, 4500, 1500)
	return b
}

func (b *builder) qsfpSums() *builder {
	return b.sum(Upper(0), 128, 190, 191).sum(Upper(0), 192, 222, 223)
}

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-9+1e-4*math.Abs(want) }

// TestExternalCalibration has numbers worked out by hand from SFF-8472 9.3: the
// polynomial has all five coefficients, so that an error in any shows.
func TestExternalCalibration(t *testing.T) {
	b := sfp(t, 0x58) // DDM, external, average
	for i, c := range []float32{1e-13, -2e-9, 3e-5, 0.5, 20} {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], math.Float32bits(c))
		b.set(a2, 56+4*i, raw[:]...)
	}
	b.u16(a2, 76, 0x0180, 100)    // bias: 1.5 x + 100
	b.u16(a2, 80, 0x0080, 0xfff6) // TX power: 0.5 x - 10
	b.u16(a2, 84, 0x0200, 0xff00) // temperature: 2 x - 256, which is -1 degree
	b.u16(a2, 88, 0x0100, 0x0010) // voltage: x + 16
	b.u16(a2, 96, 0xf600, 33000, 4000, 6000, 1000)
	b.u16(a2, 0, 0x2800, 0xec00, 0x2300, 0xf100) // temperature thresholds
	b.u16(a2, 32, 10000, 100, 8000, 200)         // RX power thresholds
	m := decode(t, &b.sfpSums().image)
	if len(m.Doubts) != 0 {
		t.Fatalf("doubts: %q", m.Doubts)
	}
	d := m.DOM
	if d.Calibration != "external" || d.RXPowerIs != "average" {
		t.Errorf("%+v", d)
	}
	lane := d.Lanes[0]
	for _, test := range []struct {
		name      string
		got, want float64
	}{
		{"temperature", d.Temperature.Value, -21},                         // 2 * -10 - 1
		{"voltage", d.Voltage.Value, 3.3016},                              // 33016 x 100 uV
		{"bias", lane.Bias.Value, 12.2},                                   // 6100 x 2 uA
		{"TX power", lane.TXPower.Value, 0.299},                           // 2990 x 0.1 uW
		{"RX power", lane.RXPower.Value, 0.0548098},                       // 0.1 - 2 + 30 + 500 + 20 = 548.1 x 0.1 uW
		{"high alarm", d.Thresholds.Temperature.HighAlarm.Value, 79},      // 2 * 40 - 1
		{"low alarm", d.Thresholds.Temperature.LowAlarm.Value, -41},       // 2 * -20 - 1
		{"RX high alarm", d.Thresholds.RXPower.HighAlarm.Value, 0.7020},   // 1000 - 2000 + 3000 + 5000 + 20
		{"RX low warning", d.Thresholds.RXPower.LowWarning.Value, 0.0121}, // 0.00016 - 0.016 + 1.2 + 100 + 20
	} {
		if math.Abs(test.got-test.want) > 1e-4 {
			t.Errorf("%s: %v, want %v", test.name, test.got, test.want)
		}
	}
}

// TestExternalCalibrationThatIsNone: constants can be anything, also no numbers.
func TestExternalCalibrationThatIsNone(t *testing.T) {
	b := sfp(t, 0x50)
	for i := range 5 {
		b.set(a2, 56+4*i, 0x7f, 0xc0, 0, 0) // NaN
	}
	b.u16(a2, 104, 1000).u16(a2, 32, 10000, 100, 8000, 200)
	m := decode(t, &b.sfpSums().image)
	if lane := m.DOM.Lanes[0]; lane.RXPower != nil || m.DOM.Thresholds.RXPower != nil || lane.TXPower == nil {
		t.Errorf("RX power %v within %v", lane.RXPower, m.DOM.Thresholds.RXPower)
	}
}

// TestA2Only is the arithmetic of a module whose A0h nobody published: which
// calibration it needs follows from its constants.
func TestA2Only(t *testing.T) {
	external := &builder{t: t}
	external.zeros(a2).u16(a2, 84, 0x0100, 0).u16(a2, 88, 0x0104, 0).u16(a2, 76, 0x01d7, 0).u16(a2, 80, 0x0080, 0)
	external.set(a2, 68, 0x3d, 0xbc, 0xda, 0x2a).set(a2, 72, 0xc1, 0xfd, 0xc5, 0x28)
	external.u16(a2, 96, 0x4000, 0x7f00, 0x2200, 0x2500, 0x0a30).sum(a2, 0, 94, 95)
	d := decode(t, &external.image).DOM
	for _, test := range []struct{ got, want float64 }{
		{d.Temperature.Value, 64}, {d.Voltage.Value, 3.3020}, {d.Lanes[0].Bias.Value, 32.028},
		{d.Lanes[0].TXPower.Value, 0.4736}, {d.Lanes[0].RXPower.Value, 0.020877}, {*d.Lanes[0].RXPower.DBm, -16.80},
	} {
		if math.Abs(test.got-test.want) > 5e-3*math.Abs(test.want) {
			t.Errorf("%v, want %v", test.got, test.want)
		}
	}
	internal := &builder{t: t}
	internal.zeros(a2).set(a2, 68, 0x3f, 0x80, 0, 0)
	for at := 76; at < 92; at += 4 {
		internal.u16(a2, at, 0x100)
	}
	internal.u16(a2, 96, 0x1900)
	if d := decode(t, &internal.image).DOM; d.Calibration != "internal" || d.Temperature.Value != 25 {
		t.Errorf("%+v", d)
	}
	blank := &builder{t: t}
	if m := decode(t, &blank.zeros(a2).image); m.DOM != nil {
		t.Errorf("of zeros: %+v", m.DOM)
	}
}

// TestNothingSaidNothingShown: what a module doesn't say that it measures isn't
// there, whatever the bytes hold.
func TestNothingSaidNothingShown(t *testing.T) {
	b := sfp(t, 0x28) // internal, average, but no DDM
	b.u16(a2, 96, 0x1900, 33000, 4000, 6000, 1000)
	if m := decode(t, &b.sfpSums().image); m.DOM != nil || len(m.Notes) == 0 {
		t.Errorf("an SFP without DDM: %+v, notes %q", m.DOM, m.Notes)
	}
	q := qsfp(t).set(Upper(0), 220, 0)
	if m := decode(t, &q.qsfpSums().image); m.DOM != nil {
		t.Errorf("a QSFP that measures nothing: %+v", m.DOM)
	}
	q = qsfp(t).set(Upper(0), 220, 0x08).u16(Lower(), 22, 0).u16(Lower(), 26, 0) // no TX power, temperature, voltage
	d := decode(t, &q.qsfpSums().image).DOM
	if d.Temperature != nil || d.Voltage != nil || d.Lanes[0].TXPower != nil || d.Lanes[0].RXPower == nil {
		t.Errorf("only received power: %+v", d)
	}
	q = qsfp(t).set(Upper(0), 147, 0xa0) // passive copper
	if d := decode(t, &q.qsfpSums().image).DOM; len(d.Lanes) != 0 || d.Thresholds.RXPower != nil || d.Temperature == nil || d.Temperature.Verdict != "" {
		t.Errorf("copper was taken for optics: %+v", d)
	}
	flat := qsfp(t).set(Lower(), 2, 4)
	if m := decode(t, &flat.qsfpSums().image); m.DOM.Thresholds != (Thresholds{}) || m.DOM.Lanes[0].RXPower.Flags != nil {
		t.Errorf("flat memory has neither thresholds nor flags: %+v", m.DOM)
	}
	cmis := &builder{t: t}
	cmis.zeros(Lower(), Upper(0), Upper(1), Upper(2)).set(Lower(), 0, 0x18, 0x40, 0x80).u16(Lower(), 14, 0x1900)
	if m := decode(t, &cmis.image); m.DOM != nil {
		t.Errorf("flat memory: %+v", m.DOM)
	}
	cmis.set(Lower(), 2, 0).set(Upper(1), 159, 2)
	if m := decode(t, &cmis.image); m.DOM == nil || m.DOM.Temperature != nil || m.DOM.Voltage == nil {
		t.Errorf("only the voltage is measured: %+v", m.DOM)
	}
}

func TestVerdicts(t *testing.T) {
	m := decode(t, &qsfp(t).qsfpSums().image)
	if len(m.Doubts) != 0 {
		t.Fatalf("doubts: %q", m.Doubts)
	}
	d := m.DOM
	if d.Temperature.Verdict != "ok" || d.Temperature.Value != 40.5 || d.Voltage.Verdict != "ok" {
		t.Errorf("temperature %+v, voltage %+v", d.Temperature, d.Voltage)
	}
	for i, want := range []struct{ light, verdict string }{{"", "ok"}, {"dark", "low-alarm"}, {"unused", ""}, {"", "high-alarm"}} {
		if got := d.Lanes[i].RXPower; got.Light != want.light || got.Verdict != want.verdict {
			t.Errorf("lane %d: %q %q, want %v", i+1, got.Light, got.Verdict, want)
		}
	}
	if got := d.Lanes[0].TXPower; got.Verdict != "" || d.Thresholds.TXPower != nil {
		t.Errorf("thresholds of zeros judged %+v", got)
	}
	wrong := decode(t, &qsfp(t).image) // checksums are 0
	if len(wrong.Doubts) == 0 || wrong.DOM.Temperature.Verdict != "" || wrong.DOM.Temperature.Value != 40.5 {
		t.Errorf("doubts %q, judged %+v", wrong.Doubts, wrong.DOM.Temperature)
	}
}

// TestFlags sets each flag by itself and sees that it alone is raised.
func TestFlags(t *testing.T) {
	raised := func(m *Module) (out []string) {
		see := func(name string, v *Monitor) {
			if v == nil || v.Flags == nil {
				t.Errorf("no flags of %s", name)
				return
			}
			for flag, on := range map[string]bool{"high alarm": v.Flags.HighAlarm, "low alarm": v.Flags.LowAlarm, "high warning": v.Flags.HighWarning, "low warning": v.Flags.LowWarning} {
				if on {
					out = append(out, name+" "+flag)
				}
			}
		}
		see("temperature", m.DOM.Temperature)
		see("voltage", m.DOM.Voltage)
		for _, l := range m.DOM.Lanes {
			n := string(rune('0' + l.Number))
			see("bias "+n, l.Bias)
			see("tx "+n, l.TXPower)
			see("rx "+n, l.RXPower)
		}
		return out
	}
	cmis := func(testing.TB) *builder {
		b := &builder{t: t}
		return b.zeros(Lower(), Upper(0), Upper(1), Upper(0x11)).set(Lower(), 0, 0x18, 0x50).set(Upper(1), 159, 3, 7)
	}
	for _, test := range []struct {
		build      func(testing.TB) *builder
		page       Page
		offset     int
		bit        int
		wantRaised string
	}{
		{func(t testing.TB) *builder { return sfp(t, 0x68) }, a2, 112, 7, "temperature high alarm"},
		{func(t testing.TB) *builder { return sfp(t, 0x68) }, a2, 112, 4, "voltage low alarm"},
		{func(t testing.TB) *builder { return sfp(t, 0x68) }, a2, 112, 3, "bias 1 high alarm"},
		{func(t testing.TB) *builder { return sfp(t, 0x68) }, a2, 112, 0, "tx 1 low alarm"},
		{func(t testing.TB) *builder { return sfp(t, 0x68) }, a2, 113, 6, "rx 1 low alarm"},
		{func(t testing.TB) *builder { return sfp(t, 0x68) }, a2, 116, 5, "voltage high warning"},
		{func(t testing.TB) *builder { return sfp(t, 0x68) }, a2, 117, 7, "rx 1 high warning"},
		{qsfp, Lower(), 6, 7, "temperature high alarm"},
		{qsfp, Lower(), 6, 4, "temperature low warning"},
		{qsfp, Lower(), 7, 6, "voltage low alarm"},
		{qsfp, Lower(), 9, 7, "rx 1 high alarm"},
		{qsfp, Lower(), 9, 2, "rx 2 low alarm"},
		{qsfp, Lower(), 10, 5, "rx 3 high warning"},
		{qsfp, Lower(), 11, 4, "bias 1 low warning"},
		{qsfp, Lower(), 12, 0, "bias 4 low warning"},
		{qsfp, Lower(), 13, 3, "tx 2 high alarm"},
		{qsfp, Lower(), 14, 6, "tx 3 low alarm"},
		{cmis, Lower(), 9, 0, "temperature high alarm"},
		{cmis, Lower(), 9, 3, "temperature low warning"},
		{cmis, Lower(), 9, 5, "voltage low alarm"},
		{cmis, Upper(0x11), 139, 0, "tx 1 high alarm"},
		{cmis, Upper(0x11), 140, 7, "tx 8 low alarm"},
		{cmis, Upper(0x11), 145, 3, "bias 4 high warning"},
		{cmis, Upper(0x11), 152, 4, "rx 5 low warning"},
	} {
		m := decode(t, &test.build(t).set(test.page, test.offset, 1<<test.bit).image)
		if got := raised(m); !reflect.DeepEqual(got, []string{test.wantRaised}) {
			t.Errorf("%s byte %d bit %d raised %q, want %q", test.page, test.offset, test.bit, got, test.wantRaised)
		}
	}
}

// TestBanks: lanes of bank 1 are 9 to 16, and a bank that is absent stays so.
func TestBanks(t *testing.T) {
	b := &builder{t: t}
	bank := func(n uint8) Page { return Page{Address: AddressA0, Bank: n, Number: 0x11} }
	b.zeros(Lower(), Upper(0), Upper(1), bank(0), bank(2)).set(Lower(), 0, 0x18, 0x50).set(Lower(), 85, 2)
	b.set(Upper(1), 159, 3, 0x17) // bias times 4
	b.u16(bank(2), 170, 1000).u16(bank(2), 186, 10000, 1).set(bank(2), 128, 0x54)
	m := decode(t, &b.image)
	if len(m.DOM.Lanes) != 16 {
		t.Fatalf("%d lanes", len(m.DOM.Lanes))
	}
	l := m.DOM.Lanes[8]
	if l.Number != 17 || l.Bias.Value != 8 || *l.RXPower.DBm != 0 || l.DataPath.Name != "DPActivated" {
		t.Errorf("lane 17: %+v", l)
	}
	if l := m.DOM.Lanes[9]; l.RXPower.Light != "dark" || *l.RXPower.DBm != -40 || l.DataPath.Name != "DPTxTurnOn" {
		t.Errorf("lane 18: %+v", l)
	}
}

func TestCMISState(t *testing.T) {
	b := &builder{t: t}
	b.zeros(Lower(), Upper(0)).set(Lower(), 0, 0x18, 0x52, 0, 5<<1).set(Lower(), 8, 2).set(Lower(), 41, 1)
	s := decode(t, &b.image).State
	if s.Module.Name != "ModuleFault" || s.Fault.Name != "TEC runaway" || !*s.FirmwareFault || *s.DataPathFault {
		t.Errorf("%+v", s)
	}
}

// TestVDM checks the 400G-LR4 dump against what its bytes say.
func TestVDM(t *testing.T) {
	m := load(t, "edited-cmis-400g-lr4-vdm")
	find := func(name string, lane int) *Observable {
		for i, o := range m.Observables {
			if o.Name == name && (o.Lane == nil) == (lane == 0) && (lane == 0 || *o.Lane == lane) {
				return &m.Observables[i]
			}
		}
		t.Fatalf("no %s of lane %d", name, lane)
		return nil
	}
	for _, test := range []struct {
		name string
		lane int
		want float64
	}{
		{"eSNR media input", 1, 0x1530 / 256.0},
		{"SNR media input", 4, 0x156a / 256.0},
		{"pre-FEC BER current media input", 0, 0x2e5 * 1e-10},
	} {
		if got := find(test.name, test.lane); !near(got.Value, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got.Value, test.want)
		}
	}
	if a := m.Applications[0]; a.Host.Name != "400GAUI-8 C2M (Annex 120E)" || a.Media.Name != "400G-LR4-10" || a.HostLanes != 8 || a.MediaLanes != 4 {
		t.Errorf("%+v", a)
	}
	if len(m.Doubts) != 0 {
		t.Errorf("doubts: %q", m.Doubts)
	}
}

// TestVDMVerdict holds observables against thresholds in each of their formats.
func TestVDMVerdict(t *testing.T) {
	const ber, snr, temperature = 15, 5, 4 // pre-FEC BER, eSNR and laser temperature
	number := func(mantissa, exponent int) uint16 { return uint16((exponent+24)<<11 | mantissa) }
	berLimits := []uint16{number(240, -6), 0, number(10, -6), 0}
	for _, test := range []struct {
		name       string
		kind       byte
		value      uint16
		thresholds []uint16 // high alarm, low alarm, high warning, low warning
		want       string
	}{
		{"little", ber, number(745, -10), berLimits, "ok"},
		{"no errors", ber, 0, berLimits, "ok"},
		{"more than the warning", ber, number(11, -6), berLimits, "high-warning"},
		{"at the warning", ber, number(10, -6), berLimits, "ok"},
		{"more than FEC can take", ber, number(3, -4), berLimits, "high-alarm"},
		{"never set", ber, number(3, -1), []uint16{0, 0, 0, 0}, ""},
		{"alarms only", ber, number(11, -6), []uint16{number(240, -6), 0, 0, 0}, "ok"},
		{"enough", snr, 20 << 8, []uint16{0, 15 << 8, 0, 16 << 8}, "ok"},
		{"a little more than enough, both sides set", snr, 20 << 8, []uint16{40 << 8, 15 << 8, 40 << 8, 16 << 8}, "ok"},
		{"noise", snr, 15<<8 + 1, []uint16{0, 15 << 8, 0, 16 << 8}, "low-warning"},
		{"more noise", snr, 15<<8 - 1, []uint16{0, 15 << 8, 0, 16 << 8}, "low-alarm"},
		{"not measured", snr, 0, []uint16{0, 15 << 8, 0, 16 << 8}, ""},
		{"above below below", snr, 20 << 8, []uint16{10 << 8, 15 << 8, 10 << 8, 16 << 8}, ""},
		{"cold", temperature, 0xf600, []uint16{70 << 8, 0xfb00, 65 << 8, 0}, "low-alarm"}, // -10 °C below -5
		{"temperate", temperature, 45 << 8, []uint16{70 << 8, 0xfb00, 65 << 8, 0}, "ok"},
		{"hot", temperature, 66 << 8, []uint16{70 << 8, 0xfb00, 65 << 8, 0}, "high-warning"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &builder{t: t}
			b.zeros(Lower(), Upper(0x20), Upper(0x24), Upper(0x28)).set(Lower(), 0, 0x18, 0x52)
			const set = 3 // of thresholds, so that another one's are not taken
			b.set(Upper(0x20), 130, set<<4|1, test.kind).u16(Upper(0x24), 130, test.value).u16(Upper(0x28), 128+8*set, test.thresholds...)
			got := decode(t, &b.image).Observables
			if len(got) != 1 || *got[0].Lane != 2 || got[0].Verdict != test.want || got[0].Flags != nil {
				t.Errorf("%+v, want %q", got, test.want)
			}
		})
	}
	b := &builder{t: t}
	b.zeros(Lower(), Upper(0x20), Upper(0x24), Upper(0x28), Upper(0x2c)).set(Lower(), 0, 0x18, 0x52)
	b.set(Upper(0x20), 128, 0, ber, 1, ber).u16(Upper(0x28), 128, berLimits...)
	b.set(Upper(0x2c), 128, 1<<4|4<<4|2) // the second's high alarm and warning, the first's low alarm
	got := decode(t, &b.image).Observables
	if want := (Flags{LowAlarm: true}); len(got) != 2 || *got[0].Flags != want || *got[1].Flags != (Flags{HighAlarm: true, HighWarning: true}) {
		t.Errorf("flags %+v", got)
	}
	// A module that contradicts itself is not judged.
	b.set(Upper(0), 128, 0x11)
	if m := decode(t, &b.image); len(m.Doubts) == 0 || len(m.Observables) != 2 || m.Observables[0].Verdict != "" {
		t.Errorf("%q: %+v", m.Doubts, m.Observables)
	}
}

func TestIdentity(t *testing.T) {
	m := decode(t, &sfp(t, 0x68).sfpSums().image)
	if m.Vendor != "NICTUNE" || m.PartNumber != "TEST-10G-SR" || m.SerialNumber != "0001" || m.Date != "2026-02-29" || m.Connector.Name != "LC" || m.Medium != Optical {
		t.Errorf("%+v", m)
	}
	if m := load(t, "qsfpdd-cisco-68-103205-02"); m.Vendor != "CISCO" || *m.Power.Watts != 30 || m.Power.Class != 8 || m.State.Module.Name != "ModuleReady" ||
		m.DOM.Temperature.Value != 23 || m.DOM.Voltage.Value != 3.328 {
		t.Errorf("%+v", m)
	}
	q := load(t, "qsfp-40g-sr4-finisar-ftl410qe3c")
	want := []Length{{Medium: "om3", Meters: 100}, {Medium: "om4", Meters: 150}}
	if !reflect.DeepEqual(q.Lengths, want) || q.Wavelength.NM != 850 || *q.Wavelength.ToleranceNM != 10 {
		t.Errorf("%+v %+v", q.Lengths, q.Wavelength)
	}
	fast := sfp(t, 0).set(Lower(), 12, 0xff).set(Lower(), 66, 112)
	if m := decode(t, &fast.sfpSums().image); *m.SignalingRateMBd != 28000 {
		t.Errorf("%d MBd", *m.SignalingRateMBd)
	}
}

// TestChecksums: each is found wrong when one byte below it changes.
func TestChecksums(t *testing.T) {
	for _, name := range []string{"edited-cmis-400g-lr4-vdm", "qsfp-40g-sr4-finisar-ftl410qe3c", "sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0"} {
		m := load(t, name)
		if len(m.Checksums) < 2 {
			t.Errorf("%s: %v", name, m.Checksums)
		}
		for _, c := range m.Checksums {
			if !c.OK {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
	for _, at := range []struct {
		page   Page
		offset int
		name   string
	}{{Lower(), 62, "CC_BASE"}, {Lower(), 64, "CC_EXT"}, {a2, 94, "CC_DMI"}} {
		b := sfp(t, 0x68).sfpSums()
		old := b.image.page(at.page).get(at.offset, 1)[0]
		m := decode(t, &b.set(at.page, at.offset, old+1).image)
		if len(m.Doubts) != 1 || !strings.HasPrefix(m.Doubts[0], at.name+" ") {
			t.Errorf("byte %d: %q", at.offset, m.Doubts)
		}
	}
	if m := load(t, "edited-osfp-2x400g-fr4-lite"); len(m.Doubts) != 1 {
		t.Errorf("page 00h was edited: %q", m.Doubts)
	}
}

// TestPagesAloneAreEnough: a page of lanes without anything else.
func TestPagesAloneAreEnough(t *testing.T) {
	b := &builder{t: t}
	p := Upper(0x11)
	b.zeros(p).u16(p, 154, 0x4bde).u16(p, 170, 0x57c7).u16(p, 186, 0x4753, 0x3ff5, 1, 1).set(p, 147, 0x0c)
	m := decode(t, &b.image)
	l := m.DOM.Lanes
	if m.Vendor != "" || m.Identifier != nil || m.State != nil || m.DOM.Temperature != nil || len(l) != 8 {
		t.Fatalf("%+v", m)
	}
	if !near(l[0].TXPower.Value, 1.9422) || !near(l[0].Bias.Value, 44.942) || l[2].RXPower.Light != "dark" || l[4].RXPower.Light != "unused" || !*l[3].RXLossOfSignal || *l[0].RXLossOfSignal {
		t.Errorf("%+v", l)
	}
	if len(m.Notes) != 2 {
		t.Errorf("notes: %q", m.Notes)
	}
}

func TestUnknownModules(t *testing.T) {
	b := &builder{t: t}
	b.zeros(Lower(), Upper(0)).set(Lower(), 0, 0x06) // XFP
	if _, err := Decode(&b.image); !errors.Is(err, ErrUnknown) {
		t.Errorf("an XFP: %v", err)
	}
	if _, err := Decode(new(Image)); !errors.Is(err, ErrUnknown) {
		t.Errorf("nothing: %v", err)
	}
	broken := qsfp(t).set(Lower(), 0, 0)
	m := decode(t, &broken.qsfpSums().image)
	if m.DOM != nil || m.Identifier.Value != 0 || m.UpperIdentifier.Value != 0x11 || len(m.Doubts) != 1 || m.Wavelength == nil {
		t.Errorf("lower memory of another page: %+v", m)
	}
}

// TestHotCopper: what has no light has a temperature and a supply all the same.
func TestHotCopper(t *testing.T) {
	baseT := func() *builder {
		b := sfp(t, 0x68)                             // DDM, internal, average
		b.set(Lower(), 2, 0x22, 0).set(a2, 112, 0x80) // RJ45; temperature high alarm
		b.u16(a2, 0, 85<<8, 0xfb00, 80<<8, 0).u16(a2, 8, 36300, 29700, 34650, 31350)
		return b.u16(a2, 24, 10000, 100, 8000, 200).u16(a2, 96, 95<<8, 33000, 0, 1, 1)
	}
	m := decode(t, &baseT().sfpSums().image)
	if d := m.DOM; m.Medium != BaseT || d.Temperature.Verdict != "high-alarm" || d.Voltage.Verdict != "ok" || d.Lanes[0].TXPower.Verdict != "" {
		t.Errorf("%s: %+v, %+v, %+v", m.Medium, d.Temperature, d.Voltage, d.Lanes)
	}
	// A sensor that isn't there reads 0, and no module works at 0 V.
	if d := decode(t, &baseT().u16(a2, 96, 0, 0).sfpSums().image).DOM; d.Temperature.Verdict != "" || d.Voltage.Verdict != "" {
		t.Errorf("%+v, %+v", d.Temperature, d.Voltage)
	}
	active := qsfp(t).set(Upper(0), 147, 0xc0).u16(Lower(), 22, 95<<8)
	m = decode(t, &active.qsfpSums().image)
	if d := m.DOM; m.Medium != ActiveCopper || d.Temperature.Verdict != "high-alarm" || d.Lanes[1].RXPower.Verdict != "" {
		t.Errorf("%s: %+v, %+v", m.Medium, d.Temperature, d.Lanes[1])
	}
}

// TestByte62 was reserved, then a DWDM wavelength's hundredths, then a speed.
func TestByte62(t *testing.T) {
	for _, test := range []struct {
		nm                       uint16
		byte62, byte10, revision byte
		want                     float64
		speed                    bool
	}{
		{850, 1, 0, 8, 850, false},
		{850, 1, 0, 9, 850, false},
		{850, 1, 2, 9, 850, true},
		{1550, 12, 0, 5, 1550.12, false},
		{1295, 56, 0, 8, 1295.56, false},
		{1310, 1, 2, 8, 1310, true},
		{1310, 0, 2, 9, 1310, false},
		{1550, 12, 0, 9, 1550, false},
	} {
		b := sfp(t, 0x68).u16(Lower(), 60, test.nm).set(Lower(), 62, test.byte62).set(Lower(), 10, test.byte10).set(Lower(), 94, test.revision)
		m := decode(t, &b.sfpSums().image)
		if speed := slices.Contains(m.Compliance, "FC: 6400 MBytes/sec"); !near(m.Wavelength.NM, test.want) || speed != test.speed {
			t.Errorf("%+v: %v, %q", test, m.Wavelength, m.Compliance)
		}
	}
}

// cooledSFP is one whose laser is cooled to 57 degrees by -40 mA, where more than 55
// is a warning, which it raises; of the current it sets no thresholds.
func cooledSFP(t testing.TB) *builder {
	b := sfp(t, 0x68).set(Lower(), 64, 0x04)
	b.u16(a2, 40, 60<<8, 40<<8, 55<<8, 45<<8).u16(a2, 106, 57<<8, 0xfe70)
	return b.set(a2, 117, 0x20)
}

// adaptiveQSFP has input equalizers that adapt; that of lane 3 failed, and lane 1's
// transmitter.
func adaptiveQSFP(t testing.TB) *builder {
	return qsfp(t).set(Lower(), 4, 0x41).set(Upper(0), 193, 0x08)
}

// TestCooledLaser has the optional monitors of an SFP.
func TestCooledLaser(t *testing.T) {
	cooled := func() *builder { return cooledSFP(t) }
	got := decode(t, &cooled().sfpSums().image).Observables
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	laser, tec := got[0], got[1]
	if laser.Name != "laser temperature" || laser.Value != 57 || laser.Verdict != "high-warning" || laser.Flags == nil || !laser.Flags.HighWarning || laser.Flags.HighAlarm {
		t.Errorf("%+v, %+v", laser, laser.Flags)
	}
	if tec.Name != "TEC current" || !near(tec.Value, -40) || tec.Unit != "mA" || tec.Thresholds != nil || tec.Verdict != "" || tec.Flags.HighWarning {
		t.Errorf("%+v, %+v", tec, tec.Flags)
	}
	// The current has thresholds of its own, signed like it, and its flags stand behind the temperature's.
	limited := cooled().u16(a2, 48, 300, 0xff38, 200, 0xff9c).set(a2, 113, 0x04) // -20.0 and -10.0 mA
	tec = decode(t, &limited.sfpSums().image).Observables[1]
	if r := tec.Thresholds; r == nil || !near(r.HighAlarm.Value, 30) || !near(r.LowAlarm.Value, -20) || !near(r.HighWarning.Value, 20) || !near(r.LowWarning.Value, -10) {
		t.Errorf("thresholds %+v", r)
	}
	if tec.Verdict != "low-alarm" || !tec.Flags.LowAlarm || tec.Flags.HighAlarm {
		t.Errorf("%+v, %+v", tec, tec.Flags)
	}
	for what, b := range map[string]*builder{
		"not cooled": cooled().set(Lower(), 64, 0), "tunable": cooled().set(Lower(), 65, 0x40), "external": cooled().set(Lower(), 92, 0x58),
		"nothing there": sfp(t, 0x68).set(Lower(), 64, 0x04),
	} {
		if m := decode(t, &b.sfpSums().image); m.Observables != nil {
			t.Errorf("%s: %+v", what, m.Observables)
		}
	}
}

// TestEqualizerFault is told by QSFPs whose input equalizers adapt.
func TestEqualizerFault(t *testing.T) {
	b := adaptiveQSFP(t)
	lanes := decode(t, &b.qsfpSums().image).DOM.Lanes
	for i, l := range lanes {
		if l.TXEqualizerFail == nil || *l.TXEqualizerFail != (i == 2) || *l.TXFault != (i == 0) {
			t.Errorf("lane %d: %+v", i+1, l)
		}
	}
	if lanes := decode(t, &qsfp(t).set(Lower(), 4, 0x40).qsfpSums().image).DOM.Lanes; lanes[2].TXEqualizerFail != nil {
		t.Error("of one that can't")
	}
}
