package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// FEC is forward error correction. Modes are "Off", "RS", "BaseR", "LLRS", as
// ethtool --show-fec prints them.
type FEC struct {
	Auto       *bool    `json:"auto,omitempty"`
	Configured []string `json:"configured,omitempty"`
	Active     string   `json:"active,omitempty"`
}

// fileFEC files an ETHTOOL_MSG_FEC_GET_REPLY.
func fileFEC(n *NIC, w *words, body []byte) error {
	f := &FEC{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_FEC_MODES:
			set, err := decodeBitset(attributes.Data)
			if err != nil {
				return err
			}
			for i := range eachBit(set.value) {
				f.Configured = append(f.Configured, fecWord(w, i))
			}
		case uapi.ETHTOOL_A_FEC_AUTO:
			f.Auto = new(attributes.Uint8() != 0)
		case uapi.ETHTOOL_A_FEC_ACTIVE:
			f.Active = fecWord(w, int(attributes.Uint32()))
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Link.FEC = f
	return nil
}

// fecWord is ethtool's word for a FEC mode, which is a link mode bit. It spells
// two of them otherwise than the kernel.
func fecWord(w *words, bit int) string {
	switch bit {
	case uapi.ETHTOOL_LINK_MODE_FEC_NONE_BIT:
		return "Off"
	case uapi.ETHTOOL_LINK_MODE_FEC_BASER_BIT:
		return "BaseR"
	}
	return w.word(uapi.ETH_SS_LINK_MODES, bit)
}
