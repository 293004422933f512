package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// ErrorCorrection is what ethtool --show-fec shows as configured.
type ErrorCorrection struct {
	Encoding *FECEncodings `json:"encoding,omitempty" doc:"the code; both ends of a cable need the same. Of several, as some drivers have them, the driver takes one that the link can have" form:"a list as in [rs, baser]" words:"auto,off,rs,baser,llrs" example:"rs"`
}

// FECEncodings is one of ethtool's words, or several of them with blanks between, in the
// order in which they are read.
type FECEncodings string

// UnmarshalJSON takes them in any order, with commas or blanks between, and false for off.
func (f *FECEncodings) UnmarshalJSON(b []byte) error {
	var text string
	if string(b) == "false" {
		text = "off"
	} else if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("it takes %s, or several of them, not %s", strings.Join(fecWords(), ", "), b)
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	var ordered []string
	for _, known := range fecWords() {
		if slices.Contains(words, known) {
			ordered = append(ordered, known)
		}
	}
	for _, word := range words {
		if !slices.Contains(ordered, word) {
			return fmt.Errorf("it takes %s, or several of them, not %q", strings.Join(fecWords(), ", "), word)
		}
	}
	if len(ordered) == 0 {
		return errors.New("name at least one encoding, or off")
	}
	*f = FECEncodings(strings.Join(ordered, " "))
	return nil
}

// fecWords are the words of ethtool --set-fec in their order.
func fecWords() []string {
	words := []string{encodingAuto}
	for _, e := range encodings() {
		words = append(words, e.set)
	}
	return words
}

// FEC is ethtool --set-fec.
func FEC() tuning.Knob[ErrorCorrection] {
	return tuning.Knob[ErrorCorrection]{
		Name: "fec",
		Doc: "Forward error correction (ethtool --set-fec). The link comes up anew with another code, " +
			"or stays down if the other end does not use it.",
		Impact: func(_ inventory.NIC, _, _ ErrorCorrection) tuning.Impact {
			return tuning.LinkFlap
		},
		Read:  readFEC,
		Write: writeFEC,
	}
}

// encodingAuto lets the driver choose. It is an attribute, the others are bits.
const encodingAuto = "auto"

// encoding is a code in the words of ethtool --set-fec, of its --show-fec, which
// inventory.FEC has, and of the kernel's link modes.
type encoding struct{ set, shown, bit string }

func encodings() []encoding {
	return []encoding{{"off", "Off", "None"}, {"rs", "RS", "RS"}, {"baser", "BaseR", "BASER"}, {"llrs", "LLRS", "LLRS"}}
}

// readFEC has no encoding where none is configured, not even off: so do drivers
// say that the port has no FEC, and nothing could put it back to that.
func readFEC(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit ErrorCorrection, err error) {
	fec, err := inventory.ReadFEC(ctx, r, nic)
	if err != nil || fec == nil {
		return current, limit, err
	}
	var words []string
	if fec.Auto != nil && *fec.Auto {
		words = append(words, encodingAuto)
	}
	for _, e := range encodings() {
		if slices.Contains(fec.Configured, e.shown) {
			words = append(words, e.set)
		}
	}
	if len(words) > 0 {
		current.Encoding = new(FECEncodings(strings.Join(words, " ")))
	}
	return current, limit, nil
}

func writeFEC(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next ErrorCorrection) error {
	b := about(nic)
	if differ(current.Encoding, next.Encoding) {
		// The set as a whole: what it does not name goes off.
		words := strings.Fields(string(*next.Encoding))
		var bits kernel.Body
		for _, e := range encodings() {
			if slices.Contains(words, e.set) {
				bits = bits.Nested(uapi.ETHTOOL_A_BITSET_BITS_BIT, kernel.Body{}.String(uapi.ETHTOOL_A_BITSET_BIT_NAME, e.bit))
			}
		}
		auto := uint8(0)
		if slices.Contains(words, encodingAuto) {
			auto = 1
		}
		b = b.Nested(uapi.ETHTOOL_A_FEC_MODES, kernel.Body{}.Flag(uapi.ETHTOOL_A_BITSET_NOMASK).
			Nested(uapi.ETHTOOL_A_BITSET_BITS, bits)).Uint8(uapi.ETHTOOL_A_FEC_AUTO, auto)
	}
	return set(ctx, w, uapi.ETHTOOL_MSG_FEC_SET, b)
}
