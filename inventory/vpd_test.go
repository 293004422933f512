package inventory

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

// vpdField is a keyword with its value.
type vpdField struct{ keyword, value string }

// encodeVPD builds VPD as the specification lays it out, with a right checksum.
func encodeVPD(identifier string, fields ...vpdField) []byte {
	large := func(tag byte, body []byte) []byte {
		return append([]byte{tag, byte(len(body)), byte(len(body) >> 8)}, body...)
	}
	var keywords []byte
	for _, f := range fields {
		keywords = append(keywords, f.keyword[0], f.keyword[1], byte(len(f.value)))
		keywords = append(keywords, f.value...)
	}
	keywords = append(keywords, 'R', 'V', 2, 0, 0)
	vpd := append(large(0x82, []byte(identifier)), large(0x90, keywords)...)
	var sum byte
	for _, b := range vpd {
		sum += b
	}
	vpd[len(vpd)-2] = -sum
	return append(vpd, 0x91, 5, 0, 'Y', 'A', 2, 'x', 'y', 0x78)
}

func TestParseVPD(t *testing.T) {
	data := encodeVPD("Intel(R) Ethernet Network Adapter E810-CQDA2",
		vpdField{"V1", "Intel(R) Ethernet Network Adapter E810-CQDA2"},
		vpdField{"PN", "K91258-006"}, vpdField{"SN", "B49691AAAAAA"},
		vpdField{"EC", "A-1   "}, vpdField{"MN", "1028\x00"})
	want := VPD{
		Identifier: "Intel(R) Ethernet Network Adapter E810-CQDA2", PartNumber: "K91258-006",
		SerialNumber: "B49691AAAAAA", Manufacturer: "1028", EngineeringChange: "A-1",
	}
	for what, in := range map[string][]byte{
		"as read":                 data,
		"with what follows":       append(bytes.Clone(data), 0xff, 0xff, 0x82),
		"without an end tag":      data[:len(data)-1],
		"without a writable part": data[:len(data)-9],
		"after small tags":        nil,
	} {
		if in == nil {
			// Two small tags of no meaning; their bytes add up to 0, for the checksum.
			in = append([]byte{0x21, 0xdf, 0x00}, data...)
		}
		got, err := parseVPD(in)
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v, want %+v", what, got, err, want)
		}
	}

	noChecksum := bytes.Replace(data, []byte("RV"), []byte("RW"), 1)
	for what, in := range map[string][]byte{
		"nothing":                        {},
		"all zero":                       make([]byte, 512),
		"all ones":                       bytes.Repeat([]byte{0xff}, 512),
		"a flipped serial number":        bytes.Replace(data, []byte("B496"), []byte("B499"), 1),
		"no checksum":                    noChecksum,
		"an empty checksum":              bytes.Replace(data, []byte("RV\x02"), []byte("RV\x00"), 1),
		"cut in the identifier":          data[:20],
		"cut in a tag":                   data[:2],
		"a keyword that leaves its part": bytes.Replace(data, []byte("SN\x0c"), []byte("SN\xff"), 1),
		"a tag that leaves the data":     {0x90, 0xff, 0xff, 'P', 'N', 1, 'x'},
	} {
		if got, err := parseVPD(in); got != nil || !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %+v, %v, want ErrMalformed", what, got, err)
		}
	}
}

func TestParseVPDKeepsTextPrintable(t *testing.T) {
	got, err := parseVPD(encodeVPD("a\x1b[31m\xff", vpdField{"PN", "\n"}))
	if err != nil || got.Identifier != "a?[31m?" || got.PartNumber != "?" {
		t.Errorf("%+q, %v", got, err)
	}
}

func FuzzParseVPD(f *testing.F) {
	f.Add(encodeVPD("card", vpdField{"PN", "1"}, vpdField{"SN", "2"}))
	f.Add([]byte{0x82, 0xff, 0xff})
	f.Add([]byte{0x90, 3, 0, 'R', 'V', 0})
	f.Add([]byte{0x78})
	f.Fuzz(func(t *testing.T, in []byte) {
		vpd, err := parseVPD(in)
		if (vpd == nil) == (err == nil) {
			t.Fatalf("%+v, %v", vpd, err)
		}
		if vpd != nil && strings.ContainsFunc(vpd.Identifier+vpd.SerialNumber, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%+q", vpd)
		}
	})
}
