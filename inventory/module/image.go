package module

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Two-wire addresses of a module, without the read/write bit.
const (
	AddressA0 = 0x50 // identity of an SFP, everything of a QSFP or OSFP
	AddressA2 = 0x51 // diagnostics of an SFP (SFF-8472)
)

const pageSize = 128

// Page names 128 bytes of a module's memory. Which upper page stands at bytes
// 128 to 255 is selected by bytes 126 (bank) and 127 (page).
type Page struct {
	Address uint8
	Lower   bool // bytes 0 to 127, of which there are no banks and pages
	Bank    uint8
	Number  uint8
}

// Lower is lower memory at AddressA0, where all but the diagnostics of an SFP
// stand.
func Lower() Page { return Page{Address: AddressA0, Lower: true} }

// Upper is the page of that number in bank 0, at AddressA0.
func Upper(number uint8) Page { return Page{Address: AddressA0, Number: number} }

func (p Page) String() string {
	name := fmt.Sprintf("page %02xh", p.Number)
	if p.Lower {
		name = "lower memory"
	} else if p.Bank != 0 {
		name = fmt.Sprintf("bank %d %s", p.Bank, name)
	}
	if p.Address == AddressA2 {
		name = "A2h " + name
	}
	return name
}

// Image is what was read of a module's memory. What was not read stays unknown:
// nothing is decoded from it, and it is never taken for zero.
//
// The zero Image is empty and ready for use.
type Image struct {
	pages map[Page]*memory
}

// memory is one page; known says which of its bytes were read.
type memory struct {
	bytes [pageSize]byte
	known [pageSize]bool
}

// Set files bytes that were read, from an offset as the standards count it: 0 to
// 127 in lower memory, 128 to 255 in an upper page.
func (m *Image) Set(p Page, offset int, data []byte) error {
	first := 0
	if !p.Lower {
		first = pageSize
	}
	if offset < first || offset+len(data) > first+pageSize {
		return fmt.Errorf("%s has bytes %d to %d, not %d to %d", p, first, first+pageSize-1, offset, offset+len(data)-1)
	}
	if len(data) == 0 {
		return nil
	}
	if m.pages == nil {
		m.pages = make(map[Page]*memory)
	}
	page := m.pages[p]
	if page == nil {
		page = new(memory)
		m.pages[p] = page
	}
	for i, b := range data {
		page.bytes[offset-first+i] = b
		page.known[offset-first+i] = true
	}
	return nil
}

// Pages are the pages of which anything was read, in the order of the map.
func (m *Image) Pages() []Page {
	pages := make([]Page, 0, len(m.pages))
	for p := range m.pages {
		pages = append(pages, p)
	}
	order := func(p Page) int {
		n := int(p.Address)<<17 | int(p.Bank)<<8 | int(p.Number)
		if !p.Lower {
			n |= 1 << 16
		}
		return n
	}
	slices.SortFunc(pages, func(a, b Page) int { return order(a) - order(b) })
	return pages
}

// page is nil where nothing of it was read. All methods of memory work on nil.
func (m *Image) page(p Page) *memory { return m.pages[p] }

// get returns bytes by the standards' offsets, or nil unless all were read.
func (m *memory) get(offset, n int) []byte {
	offset %= pageSize
	if m == nil || offset+n > pageSize {
		return nil
	}
	for _, known := range m.known[offset : offset+n] {
		if !known {
			return nil
		}
	}
	return m.bytes[offset : offset+n]
}

func (m *memory) u8(offset int) (int, bool) {
	b := m.get(offset, 1)
	if b == nil {
		return 0, false
	}
	return int(b[0]), true
}

func (m *memory) u16(offset int) (uint16, bool) {
	b := m.get(offset, 2)
	if b == nil {
		return 0, false
	}
	return binary.BigEndian.Uint16(b), true
}

// bit is nil where the byte was not read.
func (m *memory) bit(offset, bit int) *bool {
	b, ok := m.u8(offset)
	if !ok {
		return nil
	}
	return new(b>>bit&1 != 0)
}

// set reports a bit that is known and set.
func (m *memory) set(offset, bit int) bool {
	b, ok := m.u8(offset)
	return ok && b>>bit&1 != 0
}

// text is a field of ASCII that spaces fill up; some vendors fill with zeros or
// leave the memory erased. What else is not printable becomes "?", so that no
// module writes to a terminal.
func (m *memory) text(offset, n int) string {
	b := slices.Clone(m.get(offset, n))
	filler := func(c byte) bool { return c == ' ' || c == 0 || c == 0xff }
	for len(b) > 0 && filler(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	for len(b) > 0 && filler(b[0]) {
		b = b[1:]
	}
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// oui is the vendor's IEEE company id, "00:90:65"; empty where it is not set.
func (m *memory) oui(offset int) string {
	b := m.get(offset, 3)
	if b == nil || b[0]|b[1]|b[2] == 0 {
		return ""
	}
	return fmt.Sprintf("%02x:%02x:%02x", b[0], b[1], b[2])
}

// checksum compares the low byte of a sum with where it is stored. It returns
// nothing where not all bytes were read.
func (m *memory) checksum(name string, p Page, from, to, stored int) []Checksum {
	covered := m.get(from, to-from+1)
	want, ok := m.u8(stored)
	if covered == nil || !ok {
		return nil
	}
	var sum byte
	for _, b := range covered {
		sum += b
	}
	return []Checksum{{Name: name, Page: p.String(), Stored: want, Computed: int(sum), OK: int(sum) == want}}
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
