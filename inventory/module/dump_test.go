package module

import (
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// sonicDump is in the form of `sfputil show eeprom-hexdump` for two ports.
const sonicDump = `EEPROM hexdump for port Ethernet0
        Lower page 0h
        00000000 11 08 00 00 00 00 00 00  00 00 00 00 00 00 00 00 |................|
        00000010 00 00 00 00 00 00 19 00  00 00 80 e8 00 00 00 00 |................|

        Upper page 0h
        00000080 11 cc 07 80 00 00 00 00  00 00 00 00 00 00 00 00 |................|
        00000090 00 00 00 00 4e 49 43 54  55 4e 45 20 20 20 20 20 |....NICTUNE     |
        000000a0 20 20 20 20 07 00 00 00  00 00 00 00 00 00 00 00 |    ............|

        Upper page 11h bank 1h
        00000080 44 44 00 00 00 00 00 00  00 00 00 00 00 00 00 00 |DD..............|

EEPROM hexdump for port Ethernet8
        A0h dump
        00000000 03 04 07 10 00 00 00 00  00 00 00 06 67 00 00 00 |............g...|
        00000080 aa 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00 |................|

        A2h dump (lower 128 bytes)
        00000000 4e 00 f3 00 49 00 f8 00  90 88 71 48 8c a0 75 30 |N...I.....qH..u0|

        A2h dump (upper 128 bytes) page 2h
        00000080 bb 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00 |................|

EEPROM hexdump for port Ethernet16
        SFP EEPROM is not detected
`

func one(t *testing.T, data []byte) *Image {
	t.Helper()
	dumps, err := ParseDump(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(dumps) != 1 {
		t.Fatalf("%d modules", len(dumps))
	}
	return &dumps[0].Image
}

func byteAt(t *testing.T, image *Image, p Page, offset int) int {
	t.Helper()
	b, ok := image.page(p).u8(offset)
	if !ok {
		t.Fatalf("%s byte %d was not read", p, offset)
	}
	return b
}

func TestSONiCDump(t *testing.T) {
	dumps, err := ParseDump([]byte(sonicDump))
	if err != nil {
		t.Fatal(err)
	}
	if len(dumps) != 2 || dumps[0].Name != "Ethernet0" || dumps[1].Name != "Ethernet8" {
		t.Fatalf("%d dumps", len(dumps))
	}
	if m := decode(t, &dumps[0].Image); m.Vendor != "NICTUNE" || m.Identifier.Name != "QSFP28" {
		t.Errorf("%+v", m)
	}
	if got := byteAt(t, &dumps[0].Image, Page{Address: AddressA0, Bank: 1, Number: 0x11}, 128); got != 0x44 {
		t.Errorf("bank 1: %#x", got)
	}
	sfp := &dumps[1].Image
	if got := byteAt(t, sfp, Upper(0), 128); got != 0xaa {
		t.Errorf("A0h 128: %#x", got)
	}
	if got := byteAt(t, sfp, Page{Address: AddressA2, Number: 2}, 128); got != 0xbb {
		t.Errorf("A2h page 2: %#x", got)
	}
	if _, ok := sfp.page(a2).u8(16); ok {
		t.Error("a byte that is not in the dump")
	}
}

// TestSameModuleInEveryForm writes one module in all forms.
func TestSameModuleInEveryForm(t *testing.T) {
	b := sfp(t, 0x68)
	b.zeros(Upper(0), Page{Address: AddressA2}).u16(a2, 96, 0x1900, 33000, 4000, 6000, 1000).sfpSums()
	var raw []byte
	for _, p := range b.image.Pages() {
		raw = append(raw, b.image.page(p).bytes[:]...)
	}
	want := decode(t, one(t, raw))
	if want.DOM == nil || len(want.Doubts) != 0 {
		t.Fatalf("%+v", want)
	}
	lines := func(data []byte, format string, group int) string {
		var s strings.Builder
		for i := 0; i < len(data); i += 16 {
			if format != "" {
				fmt.Fprintf(&s, format, i)
			}
			for j := 0; j < 16; j += group {
				fmt.Fprintf(&s, " %s", hex.EncodeToString(data[i+j:i+j+group]))
			}
			s.WriteString("\n")
		}
		return s.String()
	}
	xxd := ""
	for i, line := range strings.Split(strings.TrimSpace(lines(raw, "%08x:", 2)), "\n") {
		text := strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '.'
			}
			return r
		}, string(raw[16*i:16*i+16]))
		xxd += line + "  " + text + "\n"
	}
	for name, text := range map[string]string{
		"ethtool hex on": "Offset\t\tValues\n------\t\t------\n" + lines(raw, "0x%04x:\t\t", 1),
		"hexdump -C":     lines(raw, "%08x ", 1),
		"xxd":            xxd,
		"bytes only":     lines(raw, "", 1),
		"sections":       "# a comment\n[a0]\n" + lines(raw[:256], "", 1) + "[a2]\r\n" + lines(raw[256:], "", 1),
		"junos":          "2-wire device address 0x50\n" + lines(raw[:256], "0x%02x:", 1) + "2-wire device address 0x51\n" + lines(raw[256:], "0x%02x:", 1),
	} {
		if got := decode(t, one(t, []byte(text))); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// TestRepeatedLines: hexdump and xxd -a write "*" for lines like the one before,
// and hexdump ends with the length.
func TestRepeatedLines(t *testing.T) {
	image := one(t, []byte(`00000000  11 08 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000080  11 cc 07 80 00 00 00 00  00 00 00 00 00 00 00 00  |................|
00000090  00 00 00 40 4e 49 43 54  55 4e 45 20 20 20 20 20  |...@NICTUNE     |
000000a0  20 20 20 20 00 00 00 00  00 00 00 00 00 00 00 00  |    ............|
000000b0  20 20 20 20 20 20 20 20  20 20 20 20 20 20 20 20  |                |
*
00000100
`))
	if m := decode(t, image); m.Vendor != "NICTUNE" || byteAt(t, image, Lower(), 127) != 0 || byteAt(t, image, Upper(0), 255) != 0x20 {
		t.Errorf("%+v", m)
	}
	if _, err := ParseDump([]byte("00000000: 1108\n*\nffffffff: 00\n")); err == nil {
		t.Error("four gigabytes of one line")
	}
}

// TestFlatQSFPAndCMIS: pages follow each other from 00h on.
func TestFlatQSFPAndCMIS(t *testing.T) {
	raw := make([]byte, 640)
	raw[0], raw[128], raw[512] = 0x11, 0x11, 0x77
	image := one(t, raw)
	if got := byteAt(t, image, Upper(3), 128); got != 0x77 {
		t.Errorf("page 03h: %#x", got)
	}
	raw = make([]byte, 128*0x13)
	raw[0], raw[128], raw[128*0x12] = 0x18, 0x18, 0x44
	if got := byteAt(t, one(t, raw), Upper(0x11), 128); got != 0x44 {
		t.Errorf("page 11h: %#x", got)
	}
	lower := make([]byte, 128) // what ethtool writes when no page is asked for
	lower[0], lower[22] = 0x0d, 0x20
	if m := decode(t, one(t, lower)); m.Vendor != "" || m.DOM != nil {
		t.Errorf("%+v", m)
	}
}

func TestDumpsThatAreNone(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "the file is empty"},
		{"hello world\n", "line 1: \"hello world\" is neither a heading nor bytes"},
		{"# nothing\n\n", "no bytes of a module"},
		{"[a0]\n03 04 zz\n", "line 2: "},
		{"[page 00]\n" + strings.Repeat("00 ", 16) + "\n[lower]\n" + strings.Repeat(strings.Repeat("00 ", 16)+"\n", 9), "line 12: lower memory has bytes 0 to 127"},
		{"0x0000: 03 04\n0x0010: 05\n", "lines are missing"},
		{"03 04 07\n", "3 bytes are too few"},
		{strings.Repeat("06 ", 16) + "\n" + strings.Repeat(strings.Repeat("00 ", 16)+"\n", 7), "no SFP, QSFP or CMIS module"},
		{"\x03" + strings.Repeat("\x00", 40000), "40001 bytes are more than"},
		{"EEPROM hexdump for port Ethernet0\n SFP EEPROM is not detected\n", "no bytes of a module"},
	} {
		if _, err := ParseDump([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.40q: %v, want %q", test.text, err, test.want)
		}
	}
}

// TestSections reads a dump of testdata and finds its last byte.
func TestSections(t *testing.T) {
	data, err := os.ReadFile("testdata/edited-osfp-2x400g-fr4-lite.hex")
	if err != nil {
		t.Fatal(err)
	}
	image := one(t, data)
	if got := byteAt(t, image, Upper(3), 255); got != 0x18 {
		t.Errorf("page 03h byte 255: %#x", got)
	}
	if n := len(image.Pages()); n != 17 {
		t.Errorf("%d pages", n)
	}
	banked := one(t, []byte("[bank 2 page 11]\n44 44 44 44\n"))
	if got := byteAt(t, banked, Page{Address: AddressA0, Bank: 2, Number: 0x11}, 131); got != 0x44 {
		t.Errorf("bank 2: %#x", got)
	}
}
