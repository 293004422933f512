package module

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Dump is one module out of a file.
type Dump struct {
	// Name is the port, where the file names it.
	Name  string
	Image Image
}

// maxDump is more than the largest dump there can be: four banks of 256 pages in
// hexadecimal, for some dozens of ports.
const maxDump = 64 << 20

// maxFlat is lower memory and all pages of one bank.
const maxFlat = pageSize + 256*pageSize

// ParseDump reads a dump of module memory. What kind it is shows in the bytes:
//
//   - sections of hexadecimal, headed [a0], [a2], [lower], [page XX] or
//     [bank N page XX];
//   - SONiC's `sfputil show eeprom-hexdump`, also of all ports at once;
//   - Junos' "2-wire device address 0x50" dumps;
//   - `ethtool -m DEV hex on`, hexdump -C, xxd: lines of an offset and bytes;
//   - raw bytes, `ethtool -m DEV raw on` or a file of an EEPROM.
//
// The last two name no pages: theirs are told from the module's identifier. An
// SFP's A2h follows its A0h, upper pages follow each other from 00h on.
func ParseDump(data []byte) ([]Dump, error) {
	switch {
	case len(data) == 0:
		return nil, errors.New("the file is empty")
	case len(data) > maxDump:
		return nil, fmt.Errorf("%d bytes are more than any module has", len(data))
	case isText(data):
		return parseText(string(data))
	}
	image, err := flatImage(data, 0)
	if err != nil {
		return nil, err
	}
	return []Dump{{Image: *image}}, nil
}

// isText tells text from raw memory, which has control characters: the
// identifier at its beginning is one.
func isText(data []byte) bool {
	for _, b := range data {
		if b < ' ' && b != '\n' && b != '\r' && b != '\t' {
			return false
		}
	}
	return utf8.Valid(data)
}

var (
	section   = matcher(`^\[(?:(a0|a2)( upper)?|(lower)|(?:bank (\d+) )?page ([0-9a-f]{1,2}))\]$`)
	junosPage = matcher(`^2-wire device address 0x(50|51)$`)
	sonicPort = matcher(`^eeprom hexdump for port (\S+)`)
	sonicPage = matcher(`^(?:(a0h) dump|(a2h) dump \((?:lower|upper) 128 bytes\)(?: page ([0-9a-f]+)h)?|(lower) page 0h|upper page ([0-9a-f]+)h(?: bank ([0-9a-f]+)h?)?)$`)
	offsetOf  = matcher(`^(?:0x)?([0-9a-f]{4,8}):?$|^(?:0x)?([0-9a-f]{1,8}):$`)
	heading   = matcher(`^(offset\s+values|[-\s]+|.*\bnot present.*|.*\bnot detected.*)$`)
)

// matcher is a regular expression that is compiled where it is first asked for:
// few commands read such texts, and all would pay for it when they start.
func matcher(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// reader is where a text is being read.
type reader struct {
	dumps []Dump
	page  *Page // of the section; nil before the first
	both  bool  // the section has both halves of an address (a0, a2)
	next  int   // offset of the next byte where lines have none
	flat  []byte
	first int    // offset of flat
	last  []byte // the bytes of the line before
	again bool   // a "*" stood there: that line, up to the next offset
}

func parseText(text string) ([]Dump, error) {
	var r reader
	for i, line := range strings.Split(text, "\n") {
		if err := r.line(strings.ToLower(strings.TrimSpace(line)), strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if err := r.flush(); err != nil {
		return nil, err
	}
	found := r.dumps[:0]
	for _, d := range r.dumps {
		if len(d.Image.pages) != 0 {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no bytes of a module: neither sections ([a0], [lower], [page 00]), nor a hexdump of SONiC or ethtool, nor raw memory")
	}
	return found, nil
}

func (r *reader) line(line, original string) error {
	if line == "" || line[0] == '#' {
		return nil
	}
	if m := section().FindStringSubmatch(line); m != nil {
		r.begin()
		p := Page{Address: AddressA0}
		r.both, r.next = m[1] != "" && m[2] == "", pageSize
		if m[1] == "a2" {
			p.Address = AddressA2
		}
		if r.both || m[3] != "" {
			p.Lower, r.next = true, 0
		}
		if m[4] != "" {
			bank, err := strconv.ParseUint(m[4], 10, 8)
			if err != nil {
				return fmt.Errorf("%s: no module has that bank", original)
			}
			p.Bank = uint8(bank)
		}
		if m[5] != "" {
			p.Number = hexByte(m[5])
		}
		r.page = &p
		return nil
	}
	if m := junosPage().FindStringSubmatch(line); m != nil {
		r.begin()
		r.page, r.both, r.next = &Page{Address: hexByte(m[1]), Lower: true}, true, 0
		return nil
	}
	if m := sonicPort().FindStringSubmatch(line); m != nil {
		if err := r.flush(); err != nil {
			return err
		}
		// As it was spelled: "Ethernet0".
		name := original[len(original)-len(line)+strings.Index(line, m[1]):][:len(m[1])]
		r.dumps = append(r.dumps, Dump{Name: strings.TrimSuffix(name, ":")})
		r.page, r.both = nil, false
		return nil
	}
	if m := sonicPage().FindStringSubmatch(line); m != nil {
		r.begin()
		p := Page{Address: AddressA0}
		r.both, r.next = false, pageSize
		switch {
		case m[1] != "":
			p.Lower, r.both, r.next = true, true, 0
		case m[2] != "":
			p.Address = AddressA2
			p.Lower = strings.Contains(line, "lower")
			p.Number = hexByte(m[3])
			if p.Lower {
				r.next = 0
			}
		case m[4] != "":
			p.Lower, r.next = true, 0
		default:
			p.Number, p.Bank = hexByte(m[5]), hexByte(m[6])
		}
		r.page = &p
		return nil
	}
	if line == "*" {
		if r.page != nil {
			return errors.New(`"*" for repeated lines can't stand in a section: write them out (hexdump -v)`)
		}
		r.again = true
		return nil
	}
	if heading().MatchString(line) {
		return nil
	}
	return r.bytes(line, original)
}

// hexByte is the last byte of a number of digits that a pattern has checked.
func hexByte(s string) uint8 {
	n, _ := strconv.ParseUint(s, 16, 64)
	return uint8(n)
}

// begin makes sure that there is a dump to file pages in.
func (r *reader) begin() {
	if len(r.dumps) == 0 {
		r.dumps = append(r.dumps, Dump{})
	}
}

// bytes reads "00000010 08 03 00 1e  46 49 4e |....FIN|", "0x0010:  08 03 00 1e",
// "0010: 0803 001e", or just "08 03 00 1e".
func (r *reader) bytes(line, original string) error {
	line, _, _ = strings.Cut(line, "|")
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return nil
	}
	offset := -1
	// Alone it is where hexdump ends: eight digits, for four can be two bytes.
	if m := offsetOf().FindStringSubmatch(fields[0]); m != nil && (len(fields) > 1 || strings.HasSuffix(fields[0], ":") || len(fields[0]) == 8) {
		n, err := strconv.ParseUint(m[1]+m[2], 16, 32)
		if err != nil {
			return fmt.Errorf("%q: no module has an offset like this", original)
		}
		offset = int(n)
		fields = fields[1:]
	}
	var data []byte
	for _, f := range fields {
		if f == "." || f == "-" { // Junos' columns
			continue
		}
		b, err := hex.DecodeString(strings.TrimPrefix(f, "0x"))
		if err != nil || len(data)+len(b) > 16 {
			if offset >= 0 && len(data) > 0 && len(data) <= 16 && len(fields[0]) == 4 { // xxd's characters
				break
			}
			return fmt.Errorf("%q is neither a heading nor bytes in hexadecimal", original)
		}
		data = append(data, b...)
	}
	if r.page == nil {
		return r.flatBytes(offset, data)
	}
	return r.sectionBytes(offset, data)
}

// flatBytes collects what stands below no heading; a gap would be a guess.
func (r *reader) flatBytes(offset int, data []byte) error {
	r.begin()
	if r.again {
		r.again = false
		gap := offset - r.first - len(r.flat)
		if gap < 0 || len(r.last) == 0 || gap%len(r.last) != 0 || offset > maxFlat {
			return errors.New(`a "*" for repeated lines needs a line before and an offset after it`)
		}
		r.flat = append(r.flat, bytes.Repeat(r.last, gap/len(r.last))...)
	}
	r.last = data
	switch end := r.first + len(r.flat); {
	case offset < 0 || offset == end:
	case len(r.flat) == 0:
		r.first = offset
	default:
		return fmt.Errorf("bytes from %#x on follow those up to %#x: lines are missing or out of order", offset, end)
	}
	r.flat = append(r.flat, data...)
	return nil
}

func (r *reader) sectionBytes(offset int, data []byte) error {
	if offset >= 0 {
		r.next = offset
		if !r.both && !r.page.Lower && offset < pageSize { // pages counted from 0
			r.next += pageSize
		}
	}
	image := &r.dumps[len(r.dumps)-1].Image
	for len(data) > 0 {
		p, n := *r.page, len(data)
		if r.both {
			p.Lower = r.next < pageSize
			if p.Lower {
				n = min(n, pageSize-r.next)
			}
		}
		if err := image.Set(p, r.next, data[:n]); err != nil {
			return err
		}
		r.next += n
		data = data[n:]
	}
	return nil
}

// flush files flat bytes as the image that they are.
func (r *reader) flush() error {
	if len(r.flat) == 0 {
		return nil
	}
	image, err := flatImage(r.flat, r.first)
	if err != nil {
		return err
	}
	d := &r.dumps[len(r.dumps)-1]
	for _, p := range image.Pages() {
		if d.Image.page(p) != nil {
			return fmt.Errorf("%s is in the file twice", p)
		}
	}
	if d.Image.pages == nil {
		d.Image = *image
	} else {
		for p, page := range image.pages {
			d.Image.pages[p] = page
		}
	}
	r.flat, r.first, r.last, r.again = nil, 0, nil, false
	return nil
}

// flatImage is a module's memory in one piece, from an offset on.
func flatImage(data []byte, first int) (*Image, error) {
	if first+len(data) > maxFlat {
		return nil, fmt.Errorf("%d bytes are more than a module without banks has (%d): is this a dump of module memory?", first+len(data), maxFlat)
	}
	if first == 0 && len(data) < 64 {
		return nil, fmt.Errorf("%d bytes are too few for a module", len(data))
	}
	image := new(Image)
	standard := Standard("")
	if first == 0 {
		standard = standardOf(int(data[0]))
		if standard == "" && len(data) > pageSize {
			standard = standardOf(int(data[pageSize]))
		}
		if standard == "" {
			return nil, ErrUnknown
		}
	}
	for at := first; at < first+len(data); {
		n := min(pageSize-at%pageSize, first+len(data)-at)
		p := Lower()
		switch {
		case at < pageSize:
		case standard == SFF8472 && at >= 2*pageSize:
			p = Page{Address: AddressA2, Lower: at < 3*pageSize}
			if at >= 4*pageSize {
				p.Number = uint8(at/pageSize - 3)
			}
		default:
			p = Upper(uint8(at/pageSize - 1))
		}
		offset := at % pageSize
		if !p.Lower {
			offset += pageSize
		}
		if err := image.Set(p, offset, data[at-first:at-first+n]); err != nil {
			return nil, err
		}
		at += n
	}
	return image, nil
}
