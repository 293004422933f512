package kernel

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The notation of bytes in a recording. nictune writes netlink messages as
// attributes and everything else as hex and zeros; people may mix all of it:
//
//	0a0b 0c          hex digits, spaced as one likes
//	u16:5 u32:0x10   numbers of 8, 16, 32 or 64 bits in the host's byte order
//	s32:-1           with a sign
//	zero:16          that many zero bytes
//	"eth0"           a text in Go's quotes, with the NUL that ends it
//	3{"eth0"}        a netlink attribute: its type and its payload
//	18n{...}         one with NLA_F_NESTED set
//	# ...            a comment, to the end of the line

const (
	// notationDepth bounds attributes within attributes; the kernel's own limit
	// is lower.
	notationDepth = 32
	// notationZeros bounds the one thing that is much longer than its notation. A
	// thousand veth devices make less than three million.
	notationZeros = 64 << 20
)

const (
	notationLine = 96 // characters, about
	hexLine      = 32 // bytes
)

// hexLines writes bytes as lines of hex digits, and long runs of zeros, of which C
// structs consist mostly, as their number.
func hexLines(b []byte) []string {
	var lines []string
	written := func(b []byte) {
		for chunk := range slices.Chunk(b, hexLine) {
			lines = append(lines, hex.EncodeToString(chunk))
		}
	}
	start := 0 // of what is not yet written
	for at := 0; at < len(b); {
		end := at
		for end < len(b) && b[end] == 0 {
			end++
		}
		if end-at >= hexLine {
			written(b[start:at])
			lines = append(lines, fmt.Sprintf("zero:%d", end-at))
			start = end
		}
		at = end + 1
	}
	written(b[start:])
	return lines
}

// messageLines writes a netlink message: a header in hex, then attributes. What
// isn't attributes to the last byte is all hex.
func messageLines(b []byte, header int) []string {
	if len(b) < header || len(b) == 0 {
		return hexLines(b)
	}
	lines, ok := attributeLines(b[header:], 1)
	if header > 0 {
		lines = append(hexLines(b[:header]), lines...)
	}
	// Padding that isn't zero, say, is lost; then hex is what stays true.
	if again, err := parseBytes(strings.Join(lines, "\n"), new(int)); !ok || err != nil || !bytes.Equal(again, b) {
		return hexLines(b)
	}
	return lines
}

// attributeLines writes a run of attributes, several on a line where they are
// short.
func attributeLines(b []byte, depth int) ([]string, bool) {
	var lines []string
	packed := false // whether the last line may take more
	for a := AttributesOf(b); len(a.rest) > 0; {
		here := a.rest
		if !a.Next() {
			return nil, false
		}
		word, isNested := attributeWord(binary.NativeEndian.Uint16(here[2:]))
		inner, ok := []string(nil), false
		if isNested && depth < notationDepth {
			inner, ok = attributeLines(a.Data, depth+1)
		}
		if !ok {
			inner = payloadLines(a.Data)
		}
		switch {
		case len(inner) > 1 || len(inner) == 1 && len(inner[0]) > notationLine:
			lines = append(lines, word+"{")
			for _, l := range inner {
				lines = append(lines, "\t"+l)
			}
			lines = append(lines, "}")
			packed = false
		default:
			item := word + "{" + strings.Join(inner, "") + "}"
			if n := len(lines); packed && len(lines[n-1])+1+len(item) <= notationLine {
				lines[n-1] += " " + item
			} else {
				lines = append(lines, item)
			}
			packed = true
		}
	}
	return lines, true
}

// attributeWord is an attribute's type as it is written.
func attributeWord(typ uint16) (word string, isNested bool) {
	if isNested = typ&attributeNested != 0; isNested {
		return strconv.Itoa(int(typ&^attributeNested)) + "n", true
	}
	return strconv.Itoa(int(typ)), false
}

// payloadLines writes an attribute's payload as what it looks like.
func payloadLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	text := string(b[:len(b)-1])
	const short = 2 // more likely a number
	if b[len(b)-1] == 0 && len(text) > 0 && (len(text) > short || len(b) == 3) && strconv.Quote(text) == `"`+text+`"` {
		return []string{`"` + text + `"`}
	}
	switch len(b) {
	case 1:
		return []string{fmt.Sprintf("u8:%d", b[0])}
	case 2:
		return []string{fmt.Sprintf("u16:%d", binary.NativeEndian.Uint16(b))}
	case 4:
		return []string{fmt.Sprintf("u32:%d", binary.NativeEndian.Uint32(b))}
	case 8:
		return []string{fmt.Sprintf("u64:%d", binary.NativeEndian.Uint64(b))}
	}
	return hexLines(b)
}

// parseBytes reads the notation. zeros counts those of a whole recording.
func parseBytes(s string, zeros *int) ([]byte, error) {
	p := notation{rest: s, zeros: zeros}
	b, err := p.bytes(0)
	if err != nil {
		return nil, err
	}
	return b, nil
}

type notation struct {
	rest  string
	zeros *int
}

func (p *notation) bytes(depth int) (Body, error) {
	if depth > notationDepth {
		return nil, fmt.Errorf("more than %d attributes within one another", notationDepth)
	}
	var out Body
	for {
		p.rest = strings.TrimLeft(p.rest, " \t\r\n")
		if p.rest == "" {
			if depth > 0 {
				return nil, errors.New("an attribute lacks its closing }")
			}
			return out, nil
		}
		switch p.rest[0] {
		case '#':
			_, p.rest, _ = strings.Cut(p.rest, "\n")
			continue
		case '}':
			if depth == 0 {
				return nil, errors.New("a } without its {")
			}
			p.rest = p.rest[1:]
			return out, nil
		case '"':
			quoted, err := strconv.QuotedPrefix(p.rest)
			if err != nil {
				return nil, errors.New(`a text lacks its closing "`)
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				return nil, fmt.Errorf("text %s: %w", quoted, err)
			}
			out = append(append(out, text...), 0)
			p.rest = p.rest[len(quoted):]
			continue
		}
		end := strings.IndexAny(p.rest, " \t\r\n{}\"#")
		if end < 0 {
			end = len(p.rest)
		}
		word := p.rest[:end]
		p.rest = p.rest[end:]
		var err error
		if strings.HasPrefix(p.rest, "{") {
			p.rest = p.rest[1:]
			out, err = p.attribute(out, word, depth)
		} else {
			out, err = p.word(out, word)
		}
		if err != nil {
			return nil, err
		}
	}
}

// attribute reads the payload of the attribute whose type is word, and appends
// the whole.
func (p *notation) attribute(out Body, word string, depth int) (Body, error) {
	number, isNested := strings.CutSuffix(word, "n")
	typ, err := strconv.ParseUint(number, 0, 16)
	if err != nil {
		return nil, fmt.Errorf("%q before a { is no attribute type", word)
	}
	inner, err := p.bytes(depth + 1)
	if err != nil {
		return nil, err
	}
	if attributeHeader+len(inner) > 0xffff {
		return nil, fmt.Errorf("attribute %s has %d bytes, more than its length can say", word, len(inner))
	}
	if isNested {
		typ |= attributeNested
	}
	return out.Bytes(uint16(typ), inner), nil
}

func (p *notation) word(out Body, word string) (Body, error) {
	prefix, number, ok := strings.Cut(word, ":")
	if !ok {
		b, err := hex.AppendDecode(out, []byte(word))
		if err != nil {
			return nil, fmt.Errorf("%s is no hex, number, text or attribute", shorten(word))
		}
		return b, nil
	}
	sizes := map[string]int{"u8": 8, "u16": 16, "u32": 32, "u64": 64, "s8": -8, "s16": -16, "s32": -32, "s64": -64, "zero": 0}
	bits, ok := sizes[prefix]
	if !ok {
		return nil, fmt.Errorf("%s is no hex, number, text or attribute", shorten(word))
	}
	if bits == 0 {
		n, err := strconv.ParseUint(number, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("%s: not a number of bytes", shorten(word))
		}
		if n > notationZeros || *p.zeros+int(n) > notationZeros {
			return nil, fmt.Errorf("%s: more than %d zeros in all", shorten(word), notationZeros)
		}
		*p.zeros += int(n)
		return append(out, make([]byte, n)...), nil
	}
	var v uint64
	var err error
	if bits < 0 {
		bits = -bits
		var signed int64
		signed, err = strconv.ParseInt(number, 0, bits)
		v = uint64(signed)
	} else {
		v, err = strconv.ParseUint(number, 0, bits)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: not a number of %d bits", shorten(word), bits)
	}
	switch bits {
	case 8:
		return append(out, byte(v)), nil
	case 16:
		return binary.NativeEndian.AppendUint16(out, uint16(v)), nil
	case 32:
		return binary.NativeEndian.AppendUint32(out, uint32(v)), nil
	default:
		return binary.NativeEndian.AppendUint64(out, v), nil
	}
}

// shorten quotes the start of what somebody wrote, for an error.
func shorten(s string) string {
	const shown = 40
	if len(s) > shown {
		s = s[:shown] + "..."
	}
	return strconv.Quote(s)
}
