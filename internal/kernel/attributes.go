package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Attributes walks a run of netlink attributes (struct nlattr) in place:
//
//	for a := kernel.AttributesOf(body); a.Next(); {
//		switch a.Type {
//		case attrName:
//			name = a.String()
//		}
//	}
//	if err := a.Err(); err != nil { ... }
//
// It never panics and never reads past its input. A value that is shorter than
// its getter needs makes Err non-nil and ends the walk, so one check after the
// loop covers the run.
type Attributes struct {
	// Type is the current attribute's type without the nested and byte order
	// flags.
	Type uint16
	// Data is the current attribute's payload. It shares memory with the input.
	Data []byte

	rest []byte
	err  error
}

const (
	attributeHeader   = 4
	attributeTypeMask = 0x3fff // NLA_TYPE_MASK
	attributeNested   = 0x8000 // NLA_F_NESTED
)

// AttributesOf starts a walk over b.
func AttributesOf(b []byte) *Attributes { return &Attributes{rest: b} }

// AttributesAfter starts a walk over what follows a fixed header of n bytes,
// such as the 16 of an ifinfomsg.
func AttributesAfter(b []byte, n int) *Attributes {
	if len(b) < n {
		return &Attributes{err: errHeader(len(b), n)}
	}
	return &Attributes{rest: b[n:]}
}

// errHeader is by itself so that the walk, which is made thousands of times for a scrape,
// is inlined and costs no memory.
func errHeader(there, due int) error {
	return fmt.Errorf("%w: %d bytes where a header of %d is due", ErrMalformed, there, due)
}

// Next moves to the next attribute and reports whether there is one.
func (a *Attributes) Next() bool {
	if a.err != nil || len(a.rest) == 0 {
		return false
	}
	if len(a.rest) < attributeHeader {
		a.err = fmt.Errorf("%w: %d bytes after the last attribute", ErrMalformed, len(a.rest))
		return false
	}
	length := int(binary.NativeEndian.Uint16(a.rest))
	if length < attributeHeader || length > len(a.rest) {
		a.err = fmt.Errorf("%w: an attribute of length %d in %d bytes", ErrMalformed, length, len(a.rest))
		return false
	}
	a.Type = binary.NativeEndian.Uint16(a.rest[2:]) & attributeTypeMask
	a.Data = a.rest[attributeHeader:length]
	a.rest = a.rest[min(align(length), len(a.rest)):]
	return true
}

// Rest is what follows the current attribute. It shares memory with the input.
func (a *Attributes) Rest() []byte { return a.rest }

// Err is what was wrong with the run, or nil.
func (a *Attributes) Err() error { return a.err }

// Nested starts a walk over the current attribute's payload. Whoever walks it
// hands the inner error up with Join.
func (a *Attributes) Nested() *Attributes { return &Attributes{rest: a.Data} }

// Join takes over the error of a nested walk, and so ends this one.
func (a *Attributes) Join(nested *Attributes) {
	if a.err == nil {
		a.err = nested.err
	}
}

// Uint8 is the payload as a u8.
func (a *Attributes) Uint8() uint8 {
	if !a.want(1) {
		return 0
	}
	return a.Data[0]
}

// Uint16 is the payload as a u16 in host order.
func (a *Attributes) Uint16() uint16 {
	if !a.want(2) {
		return 0
	}
	return binary.NativeEndian.Uint16(a.Data)
}

// Uint32 is the payload as a u32 in host order.
func (a *Attributes) Uint32() uint32 {
	if !a.want(4) {
		return 0
	}
	return binary.NativeEndian.Uint32(a.Data)
}

// Uint64 is the payload as a u64 in host order.
func (a *Attributes) Uint64() uint64 {
	if !a.want(8) {
		return 0
	}
	return binary.NativeEndian.Uint64(a.Data)
}

// Uint is the payload as a "uint" of the newer families: four or eight bytes,
// as the value needs.
func (a *Attributes) Uint() uint64 {
	if len(a.Data) == 4 {
		return uint64(a.Uint32())
	}
	return a.Uint64()
}

// String is the payload up to its first NUL, without bytes that are not UTF-8.
func (a *Attributes) String() string {
	b, _, _ := bytes.Cut(a.Data, []byte{0})
	return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
}

func (a *Attributes) want(n int) bool {
	if a.err == nil && len(a.Data) < n {
		a.err = fmt.Errorf("%w: attribute %d has %d bytes where %d are due", ErrMalformed, a.Type, len(a.Data), n)
	}
	return a.err == nil
}

// Body builds the body of a Request. Its methods append and return the Body, so
// a request reads as one expression.
type Body []byte

// Uint8 appends a u8 attribute.
func (b Body) Uint8(typ uint16, v uint8) Body { return b.Bytes(typ, []byte{v}) }

// Uint16 appends a u16 attribute in host order.
func (b Body) Uint16(typ, v uint16) Body {
	return b.Bytes(typ, binary.NativeEndian.AppendUint16(nil, v))
}

// Uint32 appends a u32 attribute in host order.
func (b Body) Uint32(typ uint16, v uint32) Body {
	return b.Bytes(typ, binary.NativeEndian.AppendUint32(nil, v))
}

// Uint appends a "uint" of the newer families, in four or eight bytes.
func (b Body) Uint(typ uint16, v uint64) Body {
	if v <= math.MaxUint32 {
		return b.Uint32(typ, uint32(v))
	}
	return b.Bytes(typ, binary.NativeEndian.AppendUint64(nil, v))
}

// String appends a NUL-terminated string attribute.
func (b Body) String(typ uint16, s string) Body { return b.Bytes(typ, append([]byte(s), 0)) }

// Flag appends an attribute without a payload.
func (b Body) Flag(typ uint16) Body { return b.Bytes(typ, nil) }

// Bytes appends an attribute with a payload given as bytes.
func (b Body) Bytes(typ uint16, data []byte) Body {
	b = binary.NativeEndian.AppendUint16(b, uint16(attributeHeader+len(data)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, data...)
	return append(b, make([]byte, align(len(data))-len(data))...)
}

// Nested appends an attribute that holds other attributes.
func (b Body) Nested(typ uint16, inner Body) Body { return b.Bytes(typ|attributeNested, inner) }

func align(n int) int { return (n + 3) &^ 3 }
