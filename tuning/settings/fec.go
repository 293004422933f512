package settings

import (
	"context"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// ErrorCorrection is what ethtool --show-fec shows as configured.
type ErrorCorrection struct {
	// Encoding is one of ethtool's words, or several with blanks between them,
	// which some drivers report.
	Encoding *string `json:"encoding,omitempty" doc:"the code; both ends of a cable need the same" words:"auto,off,rs,baser,llrs"`
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
		current.Encoding = new(strings.Join(words, " "))
	}
	return current, limit, nil
}

func writeFEC(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next ErrorCorrection) error {
	b := about(nic)
	if differ(current.Encoding, next.Encoding) {
		// The set as a whole: what it does not name goes off.
		words := strings.Fields(*next.Encoding)
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
