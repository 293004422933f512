// Package module decodes the memory of pluggable modules and cables: SFP by
// SFF-8079 and SFF-8472, QSFP by SFF-8636 (and its forerunner SFF-8436), and
// QSFP-DD, OSFP and newer ones by CMIS.
//
// It takes bytes and does nothing else. What was not read, and what the module
// does not say that it has, is absent. Values under a checksum that does not
// hold are decoded, named in Doubts, and never judged.
package module

import "errors"

// APIVersion names the shape of a Module in JSON.
const APIVersion = "nictune/v1"

// Standard is the management interface that a module speaks.
type Standard string

// The standards, by the documents that define them.
const (
	SFF8472 Standard = "SFF-8472"
	SFF8636 Standard = "SFF-8636"
	CMIS    Standard = "CMIS"
)

// Medium is what carries the signal.
type Medium string

// The media. Empty is unknown.
const (
	Optical       Medium = "optical"        // a transceiver with a connector for fibre
	ActiveOptical Medium = "active-optical" // a cable with optics in its ends
	PassiveCopper Medium = "passive-copper"
	ActiveCopper  Medium = "active-copper"
	BaseT         Medium = "base-t"
)

// Code is a number that a standard gives a meaning, most often in SFF-8024.
type Code struct {
	Value int `json:"value"`
	// Name is "reserved" or "vendor specific" where no table has the number.
	Name string `json:"name"`
}

// Module is what a module says of itself.
type Module struct {
	APIVersion string   `json:"apiVersion"`
	Standard   Standard `json:"standard"`
	// Revision of the standard that the module was built to, in the words of
	// SFF-8024 or, for CMIS, "5.1".
	Revision string `json:"revision,omitempty"`
	// Identifier is the form factor (byte 0).
	Identifier *Code `json:"identifier,omitempty"`
	// UpperIdentifier is byte 128 where it disagrees with byte 0.
	UpperIdentifier *Code `json:"upperIdentifier,omitempty"`
	// ExtendedIdentifier is byte 1 of an SFP, byte 129 of a QSFP.
	ExtendedIdentifier *Code  `json:"extendedIdentifier,omitempty"`
	Medium             Medium `json:"medium,omitempty"`
	Connector          *Code  `json:"connector,omitempty"`

	Vendor         string `json:"vendor,omitempty"`
	OUI            string `json:"oui,omitempty"`
	PartNumber     string `json:"partNumber,omitempty"`
	VendorRevision string `json:"vendorRevision,omitempty"`
	SerialNumber   string `json:"serialNumber,omitempty"`
	// DateCode is YYMMDD and a lot of two characters; Date its YYYY-MM-DD, where
	// it is one.
	DateCode string `json:"dateCode,omitempty"`
	Date     string `json:"date,omitempty"`
	CLEI     string `json:"clei,omitempty"`
	Firmware string `json:"firmware,omitempty"`

	// ComplianceCodes are the bytes behind Compliance, as ethtool lists them.
	ComplianceCodes []int `json:"complianceCodes,omitempty"`
	// Compliance are the standards that an SFP or QSFP conforms to, with
	// ethtool's prefixes: "10G Ethernet: 10G Base-SR".
	Compliance []string `json:"compliance,omitempty"`
	// ExtendedCompliance is the code of SFF-8024 table 4-4.
	ExtendedCompliance *Code `json:"extendedCompliance,omitempty"`
	// CableCompliance is the SFP+ cable's own (SFF-8472 byte 60).
	CableCompliance *Code `json:"cableCompliance,omitempty"`
	// MediaType and Applications are a CMIS module's: what it can do, each with
	// the host's and the medium's side.
	MediaType    *Code         `json:"mediaType,omitempty"`
	Applications []Application `json:"applications,omitempty"`

	Encoding *Code `json:"encoding,omitempty"`
	// SignalingRateMBd is the nominal rate of one lane, in megabaud.
	SignalingRateMBd *int `json:"signalingRateMBd,omitempty"`
	// RateMaxPercent and RateMinPercent are how far the rate may deviate.
	RateMaxPercent *int  `json:"rateMaxPercent,omitempty"`
	RateMinPercent *int  `json:"rateMinPercent,omitempty"`
	RateIdentifier *Code `json:"rateIdentifier,omitempty"`
	// Lengths are what each medium is good for, or how long the cable is.
	Lengths     []Length      `json:"lengths,omitempty"`
	Technology  *Code         `json:"technology,omitempty"`
	Wavelength  *Wavelength   `json:"wavelength,omitempty"`
	Attenuation []Attenuation `json:"attenuation,omitempty"`
	Power       *Power        `json:"power,omitempty"`
	// Options are what the module implements, in ethtool's words.
	OptionValues []int    `json:"optionValues,omitempty"`
	Options      []string `json:"options,omitempty"`
	// CDR says whether there is clock and data recovery, by direction.
	TXCDR *bool `json:"txCDR,omitempty"`
	RXCDR *bool `json:"rxCDR,omitempty"`
	// TXCDRBypass and RXCDRBypass say whether it can be bypassed (CMIS).
	TXCDRBypass *bool `json:"txCDRBypass,omitempty"`
	RXCDRBypass *bool `json:"rxCDRBypass,omitempty"`

	State *State `json:"state,omitempty"`
	// DOM is what the module measures; absent where it does not say that it does.
	DOM *DOM `json:"dom,omitempty"`
	// Observables are the signal quality that a CMIS module reports: SNR, bit
	// error ratios and more, of pages 14h and 20h to 2Fh. Of an SFP, the laser's
	// own temperature and the current that cools it.
	Observables []Observable `json:"observables,omitempty"`

	Checksums []Checksum `json:"checksums,omitempty"`
	// Doubts name what is not to be believed, and why: nothing of it is judged.
	Doubts []string `json:"doubts,omitempty"`
	// Notes say what was inferred or left out.
	Notes []string `json:"notes,omitempty"`
	// Pages are those of which anything was read.
	Pages []string `json:"pages"`

	// lowerWrong is set where lower memory can't be the module's.
	lowerWrong bool
}

// Length is a reach or the length of a cable.
type Length struct {
	// Medium is "smf", "om1" to "om5", or "cable".
	Medium string  `json:"medium"`
	Meters float64 `json:"meters"`
	// OrMore where the field has no larger number.
	OrMore bool `json:"orMore,omitempty"`
	// Kilometers is set where the field counts them: an SFP has one of 100 m, too.
	Kilometers bool `json:"-"`
}

// Wavelength is a laser's, at room temperature, in nanometres.
type Wavelength struct {
	NM          float64  `json:"nm"`
	ToleranceNM *float64 `json:"toleranceNm,omitempty"`
}

// Attenuation of a copper cable at one frequency.
type Attenuation struct {
	GHz float64 `json:"ghz"`
	DB  int     `json:"dB"`
}

// Power is what the module may draw.
type Power struct {
	Class int      `json:"class"`
	Watts *float64 `json:"watts,omitempty"`
	// HighPower is whether a QSFP may draw more than class 4 (byte 93).
	HighPower *bool `json:"highPower,omitempty"`
	// Set and Override are a QSFP's low power controls (byte 93).
	Set      *bool `json:"set,omitempty"`
	Override *bool `json:"override,omitempty"`
}

// Application is one that a CMIS module advertises.
type Application struct {
	Number int  `json:"number"`
	Host   Code `json:"host"`
	Media  Code `json:"media"`
	// HostLanes and MediaLanes are how many it takes; on which it may begin, bit
	// 0 for lane 1, say the assignments.
	HostLanes       int  `json:"hostLanes"`
	MediaLanes      int  `json:"mediaLanes"`
	HostAssignment  int  `json:"hostAssignment"`
	MediaAssignment *int `json:"mediaAssignment,omitempty"`
}

// State is a CMIS module's, and what it was asked for.
type State struct {
	Module *Code `json:"module,omitempty"`
	// Fault is why the module is in ModuleFault, where it tells.
	Fault                *Code `json:"fault,omitempty"`
	FirmwareFault        *bool `json:"firmwareFault,omitempty"`
	DataPathFault        *bool `json:"dataPathFault,omitempty"`
	LowPwrAllowRequestHW *bool `json:"lowPwrAllowRequestHW,omitempty"`
	LowPwrRequestSW      *bool `json:"lowPwrRequestSW,omitempty"`
}

// Checksum is one of a page's, with what it should be.
type Checksum struct {
	Name     string `json:"name"`
	Page     string `json:"page"`
	Stored   int    `json:"stored"`
	Computed int    `json:"computed"`
	OK       bool   `json:"ok"`
}

// ErrUnknown is the error of an image whose standard can't be told.
var ErrUnknown = errors.New("no SFP, QSFP or CMIS module: neither byte 0 nor byte 128 has the identifier of one, and no page does that only one of them has")

// Decode says what a module's memory holds.
func Decode(image *Image) (*Module, error) {
	m := &Module{APIVersion: APIVersion, Pages: []string{}}
	for _, p := range image.Pages() {
		m.Pages = append(m.Pages, p.String())
	}
	lower, upper := image.page(Lower()), image.page(Upper(0))
	identifier, known := lower.u8(0)
	m.Standard = standardOf(identifier)
	if known {
		m.Identifier = identifiers.code(identifier)
	}
	// Page 00h repeats it, but for an SFP: there this half is the vendor's.
	if again, ok := upper.u8(128); ok && m.Standard != SFF8472 {
		other := standardOf(again)
		switch {
		case other == SFF8472 || known && again == identifier:
		case !known:
			m.Standard, m.Identifier = other, identifiers.code(again)
		default:
			m.UpperIdentifier = identifiers.code(again)
			m.doubt("byte 0 and byte 128 disagree on what the module is")
			if m.Standard == "" {
				m.Standard, m.lowerWrong = other, true
			}
		}
	}
	if m.Standard == "" && !known {
		m.Standard = standardByPages(image)
	}
	switch m.Standard {
	case SFF8472:
		decode8472(m, image)
	case SFF8636:
		decode8636(m, image)
	case CMIS:
		decodeCMIS(m, image)
	default:
		return nil, ErrUnknown
	}
	for _, c := range m.Checksums {
		if !c.OK {
			m.doubt(c.Name + " of " + c.Page + " does not hold: what it covers may be wrong")
		}
	}
	m.judge()
	return m, nil
}

// standardOf is the standard of an identifier of SFF-8024.
func standardOf(identifier int) Standard {
	switch identifier {
	case 0x01, 0x02, 0x03, 0x0b:
		return SFF8472
	case 0x0c, 0x0d, 0x11:
		return SFF8636
	case 0x18, 0x19, 0x1b, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26:
		return CMIS
	}
	return ""
}

// standardByPages tells the standard of an image without identifier by pages
// that only one standard has.
func standardByPages(image *Image) Standard {
	for _, p := range image.Pages() {
		switch {
		case p.Address == AddressA2:
			return SFF8472
		case !p.Lower && p.Number >= 0x10:
			return CMIS
		}
	}
	return ""
}

func (m *Module) note(s string)  { m.Notes = append(m.Notes, s) }
func (m *Module) doubt(s string) { m.Doubts = append(m.Doubts, s) }

// isCopper says that there is no laser whose light could be judged.
func (m *Module) isCopper() bool {
	return m.Medium == PassiveCopper || m.Medium == ActiveCopper || m.Medium == BaseT
}

// vendor reads the fields that all standards have, from where each has them.
func (m *Module) vendor(p *memory, name, oui, part, revision, revisionLength, serial, date int) {
	m.Vendor, m.OUI = p.text(name, 16), p.oui(oui)
	m.PartNumber, m.VendorRevision = p.text(part, 16), p.text(revision, revisionLength)
	m.SerialNumber, m.DateCode = p.text(serial, 16), p.text(date, 8)
	if d := m.DateCode; len(d) >= 6 {
		for _, c := range d[:6] {
			if c < '0' || c > '9' {
				return
			}
		}
		if month, day := d[2:4], d[4:6]; month >= "01" && month <= "12" && day >= "01" && day <= "31" {
			m.Date = "20" + d[:2] + "-" + month + "-" + day
		}
	}
}

// length files a reach; zero means that the field does not say.
func (m *Module) length(medium string, p *memory, offset int, unit float64) {
	if v, ok := p.u8(offset); ok && v != 0 {
		m.Lengths = append(m.Lengths, Length{Medium: medium, Meters: float64(v) * unit, OrMore: v == 255, Kilometers: unit == 1000})
	}
}
