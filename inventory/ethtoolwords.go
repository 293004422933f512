package inventory

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// words are the kernel's own names for what ethtool netlink counts and sets
// bits for, by string set (ETH_SS_FEATURES, ...), read once per survey. A
// kernel that knows a new link mode names it, too.
type words struct {
	sets map[uint32][]string
	// features are those that NICs have by these words, by the kernel's answer.
	features map[string]map[string]Feature
}

// wordSets are the string sets that belong to no device.
func wordSets() []uint32 {
	return []uint32{
		uapi.ETH_SS_FEATURES, uapi.ETH_SS_RSS_HASH_FUNCS, uapi.ETH_SS_LINK_MODES,
		uapi.ETH_SS_SOF_TIMESTAMPING, uapi.ETH_SS_TS_TX_TYPES, uapi.ETH_SS_TS_RX_FILTERS,
	}
}

// readWords asks for some of the kernel's string sets. Without them, bits are
// named by their numbers.
func readWords(ctx context.Context, s *survey, ids ...uint32) *words {
	var sets kernel.Body
	for _, id := range ids {
		sets = sets.Nested(uapi.ETHTOOL_A_STRINGSETS_STRINGSET, kernel.Body{}.Uint32(uapi.ETHTOOL_A_STRINGSET_ID, id))
	}
	messages, err := s.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyEthtool, Command: uapi.ETHTOOL_MSG_STRSET_GET,
		// The header is due, though it names no device.
		Body: kernel.Body{}.Nested(uapi.ETHTOOL_A_STRSET_HEADER, nil).Nested(uapi.ETHTOOL_A_STRSET_STRINGSETS, sets),
	})
	w := &words{sets: map[uint32][]string{}}
	for _, m := range messages {
		if e := w.add(m.Body); err == nil && e != nil {
			err = &kernel.Error{Op: "ethtool STRSET_GET", Err: e}
		}
	}
	if err != nil {
		s.missed("nics.offloads.features", err) // the names, of these and of link modes
	}
	return w
}

// maxWords bounds a string set: the largest has about 130 strings.
const maxWords = 1 << 10

// add files the string sets of one ETHTOOL_MSG_STRSET_GET_REPLY.
func (w *words) add(body []byte) error {
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		if attributes.Type != uapi.ETHTOOL_A_STRSET_STRINGSETS {
			continue
		}
		sets := attributes.Nested()
		for sets.Next() {
			var id uint32
			var strings []string
			set := sets.Nested()
			for set.Next() {
				switch set.Type {
				case uapi.ETHTOOL_A_STRINGSET_ID:
					id = set.Uint32()
				case uapi.ETHTOOL_A_STRINGSET_STRINGS:
					var err error
					if strings, err = decodeStrings(set.Data); err != nil {
						return err
					}
				}
			}
			sets.Join(set)
			w.sets[id] = strings
		}
		attributes.Join(sets)
	}
	return attributes.Err()
}

// decodeStrings decodes an ETHTOOL_A_STRINGSET_STRINGS by index.
func decodeStrings(b []byte) ([]string, error) {
	var strings []string
	list := kernel.AttributesOf(b)
	for list.Next() {
		var index uint32
		var value string
		entry := list.Nested()
		for entry.Next() {
			switch entry.Type {
			case uapi.ETHTOOL_A_STRING_INDEX:
				index = entry.Uint32()
			case uapi.ETHTOOL_A_STRING_VALUE:
				value = entry.String()
			}
		}
		list.Join(entry)
		if index >= maxWords {
			return nil, fmt.Errorf("%w: string %d of a set", kernel.ErrMalformed, index)
		}
		for uint32(len(strings)) <= index {
			strings = append(strings, "")
		}
		strings[index] = value
	}
	return strings, list.Err()
}

// word is the name of bit or value i of a set. It is "" for a bit that the
// kernel itself has no name for.
func (w *words) word(set uint32, i int) string {
	if names := w.sets[set]; i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("bit %d", i)
}

// list names the bits of b, in their order.
func (w *words) list(set uint32, b []uint32) []string {
	var names []string
	for i := range eachBit(b) {
		if name := w.word(set, i); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// bitset is one of ethtool netlink's bit sets, 32 bits a word.
type bitset struct {
	// value are the bits that are on, mask those that the set is about; a set
	// that is a plain list has none.
	value, mask []uint32
	// names are only in the verbose form.
	names map[int]string
}

// maxBits bounds a bit set: the largest, of link modes, has about 130 bits.
const maxBits = 1 << 12

// decodeBitset decodes the payload of a bit set in the compact or the verbose
// form (Documentation/networking/ethtool-netlink.rst, "Bit sets").
func decodeBitset(b []byte) (bitset, error) {
	var set bitset
	var list bool
	var verbose []byte
	attributes := kernel.AttributesOf(b)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_BITSET_NOMASK:
			list = true
		case uapi.ETHTOOL_A_BITSET_VALUE:
			set.value = bitWords(attributes)
		case uapi.ETHTOOL_A_BITSET_MASK:
			set.mask = bitWords(attributes)
		case uapi.ETHTOOL_A_BITSET_BITS:
			verbose = attributes.Data
		}
	}
	if err := attributes.Err(); err != nil {
		return bitset{}, err
	}
	if verbose == nil {
		return set, nil
	}
	return decodeBits(verbose, list)
}

// bitWords are a compact form's words. An attribute of another size than its
// words' is cut: Uint32 of what is left reports it.
func bitWords(a *kernel.Attributes) []uint32 {
	if len(a.Data)%4 != 0 {
		a.Data = a.Data[len(a.Data)/4*4:]
		a.Uint32()
		return nil
	}
	w := make([]uint32, 0, len(a.Data)/4)
	for ; len(a.Data) > 0; a.Data = a.Data[4:] {
		w = append(w, a.Uint32())
	}
	return w
}

// decodeBits decodes the verbose form: one nest per bit. In a plain list every
// bit named is on; otherwise it belongs to the mask and may be on.
func decodeBits(b []byte, list bool) (bitset, error) {
	set := bitset{names: map[int]string{}}
	entries := kernel.AttributesOf(b)
	for entries.Next() {
		var index uint32
		var name string
		on := list
		bit := entries.Nested()
		for bit.Next() {
			switch bit.Type {
			case uapi.ETHTOOL_A_BITSET_BIT_INDEX:
				index = bit.Uint32()
			case uapi.ETHTOOL_A_BITSET_BIT_NAME:
				name = bit.String()
			case uapi.ETHTOOL_A_BITSET_BIT_VALUE:
				on = true
			}
		}
		entries.Join(bit)
		if index >= maxBits {
			return bitset{}, fmt.Errorf("%w: bit %d of a set", kernel.ErrMalformed, index)
		}
		set.names[int(index)] = name
		if on {
			set.value = setBit(set.value, int(index))
		}
		if !list {
			set.mask = setBit(set.mask, int(index))
		}
	}
	if err := entries.Err(); err != nil {
		return bitset{}, err
	}
	return set, nil
}

func setBit(b []uint32, i int) []uint32 {
	for len(b) <= i/32 {
		b = append(b, 0)
	}
	b[i/32] |= 1 << (i % 32)
	return b
}

func hasBit(b []uint32, i int) bool { return i/32 < len(b) && b[i/32]&(1<<(i%32)) != 0 }

// eachBit yields the numbers of the bits that are on.
func eachBit(b []uint32) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i, word := range b {
			for ; word != 0; word &= word - 1 {
				if !yield(i*32 + bits.TrailingZeros32(word)) {
					return
				}
			}
		}
	}
}
