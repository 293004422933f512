package metrics

// What is compressed by itself costs a code table and looks back at nothing: on a host with
// few devices, where most metrics have few lines, that made pages three times as long.
// So small pieces are compressed together with those beside them. What changes together
// does so together with the next page, most likely: pieces that stay as they are stand
// apart from those, and are not compressed again.

const (
	// alone are the lines from which on a piece is compressed by itself.
	alone = 64
	// apart are those from which on pieces that stayed the same are kept apart from such
	// that changed.
	apart = 32
	// together are those from which on no more join.
	together = 256
)

// bundle is small pieces that were compressed together.
type bundle struct {
	texts [][]byte
	whole piece
}

// is reports whether pieces begin with those of a bundle, none of them changed. A text is
// never written again, so that it is the same where it has the same place.
func (b *bundle) is(pieces []piece) bool {
	if len(pieces) < len(b.texts) {
		return false
	}
	for i, text := range b.texts {
		if p := &pieces[i]; p.fresh || len(p.bytes) != len(text) || &p.bytes[0] != &text[0] {
			return false
		}
	}
	return true
}

// pack compresses the small pieces of a page, in their place, and returns the page with what
// was bundled: for the next page, as this one has what the last had.
func (e *encoder) pack(pieces []piece, as coding, last []bundle) (packed []piece, bundles []bundle, err error) {
	settle(pieces)
	known := func(pieces []piece) *bundle {
		for i := range last {
			if last[i].is(pieces) {
				return &last[i]
			}
		}
		return nil
	}
	packed = pieces[:0]
	for len(pieces) > 0 {
		if pieces[0].lines == 0 {
			packed, pieces = append(packed, pieces[0]), pieces[1:]
			continue
		}
		b := known(pieces)
		if b == nil {
			n, lines := 1, pieces[0].lines
			for n < len(pieces) && lines < together && pieces[n].lines > 0 && pieces[n].fresh == pieces[0].fresh && known(pieces[n:]) == nil {
				lines += pieces[n].lines
				n++
			}
			b = &bundle{}
			e.plain = e.plain[:0]
			for _, p := range pieces[:n] {
				b.texts = append(b.texts, p.bytes)
				e.plain = append(e.plain, p.bytes...)
			}
			if b.whole, err = e.encode(as, 0); err != nil {
				return nil, nil, err
			}
		}
		packed, bundles, pieces = append(packed, b.whole), append(bundles, *b), pieces[len(b.texts):]
	}
	return packed, bundles, nil
}

// settle has few lines that stayed the same go with what changed beside them.
func settle(pieces []piece) {
	for i := 0; i < len(pieces); i++ {
		first, lines := i, 0
		for i < len(pieces) && pieces[i].lines > 0 && !pieces[i].fresh {
			lines += pieces[i].lines
			i++
		}
		changed := func(i int) bool { return i >= 0 && i < len(pieces) && pieces[i].lines > 0 && pieces[i].fresh }
		if lines < apart && (changed(first-1) || changed(i)) {
			for j := first; j < i; j++ {
				pieces[j].fresh = true
			}
		}
	}
}
