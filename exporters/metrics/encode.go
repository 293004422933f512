package metrics

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/common/expfmt"
)

// coding is what is done to a page on its way.
type coding int

const (
	identity coding = iota
	gzip
	zstandard
	codings
)

// kind is a form that a page can have.
type kind struct {
	format format
	coding coding
}

// kinds is how many there are.
const kinds = int(formats) * int(codings)

func (k kind) number() int { return int(k.format)*int(codings) + int(k.coding) }

// piece is a part of a page, ready to be sent. It is never written again, so that
// a slow reader may keep it. Compressed pieces stand for themselves: each ends at
// a full byte and looks back at none before it, so those that stayed the same
// need not be compressed again for the sake of one that didn't.
type piece struct {
	version uint64
	bytes   []byte
	// length and sum are those of the text before compression, and shift is what a sum
	// before it is multiplied by (see joinSums).
	length     int
	sum, shift uint32
	// lines are about how many there are in a piece that is still text: it is compressed
	// together with those beside it (see pack). 0 of one that is ready. fresh says that it
	// was made for this page.
	lines int
	fresh bool
}

// encoder makes pieces. Its buffers are kept for the next.
type encoder struct {
	plain []byte
	out   bytes.Buffer
	flate *flate.Writer
	zstd  *zstd.Encoder
}

// form makes a piece of what is in e.plain, which is small if it has few lines.
func (e *encoder) form(as coding, version uint64, lines int) (piece, error) {
	if as != identity && lines < alone {
		return piece{version: version, bytes: bytes.Clone(e.plain), lines: lines}, nil
	}
	return e.encode(as, version)
}

// smallest is what is worth being compressed. Deflate takes less as it is.
const smallest = 128

// encode makes a piece of what is in e.plain.
func (e *encoder) encode(as coding, version uint64) (piece, error) {
	p := piece{version: version, length: len(e.plain)}
	switch as {
	case gzip:
		p.sum, p.shift = crc32.ChecksumIEEE(e.plain), power(8*uint64(p.length))
		b, err := e.deflate()
		p.bytes = b
		return p, err
	case zstandard:
		if e.zstd == nil {
			w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
				zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return p, err
			}
			e.zstd = w
		}
		p.bytes = slices.Clip(e.zstd.EncodeAll(e.plain, nil))
	default:
		p.bytes = bytes.Clone(e.plain)
	}
	return p, nil
}

// deflate compresses what is in e.plain, to blocks of which none is the last.
func (e *encoder) deflate() ([]byte, error) {
	if n := len(e.plain); n < smallest {
		// RFC 1951, 3.2.4: a block that is not compressed.
		b := binary.LittleEndian.AppendUint16([]byte{0}, uint16(n))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(n))
		return append(b, e.plain...), nil
	}
	e.out.Reset()
	if e.flate == nil {
		w, err := flate.NewWriter(&e.out, flate.BestSpeed)
		if err != nil {
			return nil, err
		}
		e.flate = w
	} else {
		e.flate.Reset(&e.out)
	}
	if _, err := e.flate.Write(e.plain); err != nil {
		return nil, err
	}
	if err := e.flate.Flush(); err != nil {
		return nil, err
	}
	return bytes.Clone(e.out.Bytes()), nil
}

// appendPieces appends what a family looks like in a form, making anew what is
// not kept.
func (f *family) appendPieces(all []piece, as kind, e *encoder) ([]piece, error) {
	if as.format == protobuf {
		// One message holds all of a family.
		p := &f.message[as.coding]
		fresh := p.version != f.version
		if fresh {
			e.out.Reset()
			if err := expfmt.NewEncoder(&e.out, expfmt.NewFormat(expfmt.TypeProtoDelim)).Encode(f.proto()); err != nil {
				return nil, err
			}
			e.plain = append(e.plain[:0], e.out.Bytes()...)
			made, err := e.form(as.coding, f.version, linesOf(len(f.values)))
			if err != nil {
				return nil, err
			}
			*p = made
		}
		all = append(all, *p)
		all[len(all)-1].fresh = fresh
		return all, nil
	}
	for i := range f.blocks {
		b := &f.blocks[i]
		p := &b.kept[as.number()]
		fresh := p.version != b.version
		if fresh {
			e.plain = e.plain[:0]
			if i == 0 {
				e.plain = f.appendHead(e.plain, as.format)
			}
			last := min((i+1)*blockSize, len(f.values))
			e.plain = f.appendSamples(e.plain, i*blockSize, last)
			made, err := e.form(as.coding, b.version, linesOf(last-i*blockSize))
			if err != nil {
				return nil, err
			}
			*p = made
		}
		all = append(all, *p)
		all[len(all)-1].fresh = fresh
	}
	return all, nil
}

// linesOf is about how many lines so many samples have, with what is said of them.
func linesOf(samples int) int { return samples + 2 }

// lineLength is about how long one is.
const lineLength = 80

// forget lets go of what is kept in a form.
func (f *family) forget(k kind) {
	if k.format == protobuf {
		f.message[k.coding] = piece{}
	}
	for i := range f.blocks {
		f.blocks[i].kept[k.number()] = piece{}
	}
}

// assembled is a page: what is to be sent one after the other, and its length.
type assembled struct {
	parts  [][]byte
	length int
}

func (a *assembled) add(b []byte) {
	a.parts = append(a.parts, b)
	a.length += len(b)
}

// The sizes of parts that are sent together, and of what comes of it.
const (
	smallPart  = 4 << 10
	joinedPart = 60 << 10
)

// send writes a page. Small parts are joined in a buffer: each costs whoever sends it.
func (a assembled) send(w io.Writer, buffer []byte) error {
	joined := buffer[:0]
	for i, part := range a.parts {
		small := len(part) <= smallPart
		if small {
			joined = append(joined, part...)
		}
		if len(joined) > 0 && (!small || len(joined) >= joinedPart || i == len(a.parts)-1) {
			if _, err := w.Write(joined); err != nil {
				return err
			}
			joined = joined[:0]
		}
		if !small {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
	}
	return nil
}

// assemble makes a page of pieces.
func assemble(pieces []piece, as coding) assembled {
	a := assembled{parts: make([][]byte, 0, len(pieces)+2)}
	if as == gzip {
		a.add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255}) // RFC 1952: deflate, no name, no time, fastest, no system
	}
	var sum, size uint32
	for _, p := range pieces {
		a.add(p.bytes)
		if as == gzip {
			sum = joinSums(sum, p)
			size += uint32(p.length)
		}
	}
	if as == gzip {
		end := []byte{3, 0} // an empty block, the last
		end = binary.LittleEndian.AppendUint32(end, sum)
		a.add(binary.LittleEndian.AppendUint32(end, size))
	}
	return a
}

// joinSums is the CRC-32 of two texts after one another, from that of the first and the
// second. A CRC is a polynomial's remainder: the first text stands before as many zero
// bits as the second has, so its remainder is multiplied by x to that power.
func joinSums(first uint32, second piece) uint32 {
	return multiply(first, second.shift) ^ second.sum
}

// The polynomials are those of crc32.IEEE: the highest bit is x to the 0.
const one = 1 << 31

// multiply is the product of two remainders.
func multiply(a, b uint32) (product uint32) {
	for bit := uint32(one); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}

// power is the remainder of x to the n.
func power(n uint64) uint32 {
	result := uint32(one)
	for i := 0; n != 0; i, n = i+1, n>>1 {
		if n&1 != 0 {
			result = multiply(result, squares()[i])
		}
	}
	return result
}

// squares are the remainders of x to the powers of two.
var squares = sync.OnceValue(func() *[64]uint32 {
	var all [64]uint32
	all[0] = one >> 1
	for i := 1; i < len(all); i++ {
		all[i] = multiply(all[i-1], all[i-1])
	}
	return &all
})
