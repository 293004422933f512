package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Feature is the state of one offload feature.
type Feature struct {
	// Active is whether it is on.
	Active bool `json:"active"`
	// Wanted is whether somebody asked for it. Where it differs from Active a
	// dependency is in the way.
	Wanted bool `json:"wanted"`
	// Hardware is whether a user can switch it.
	Hardware bool `json:"hardware"`
	// Fixed is ethtool's "[fixed]": it can't be changed.
	Fixed bool `json:"fixed,omitempty"`
}

// fileFeatures files an ETHTOOL_MSG_FEATURES_GET_REPLY. NICs that answered the same
// share one map: of a thousand software devices most do, and a map takes 4 KiB.
func fileFeatures(n *NIC, w *words, body []byte) error {
	key := string(withoutHeader(body))
	if known, ok := w.features[key]; ok {
		n.Offloads.Features = known
		return nil
	}
	features := make(map[string]Feature, maxFeatures)
	if err := eachFeature(w, body, func(name string, f Feature) { features[name] = f }); err != nil {
		return err
	}
	n.Offloads.Features = features
	if w.features == nil {
		w.features = map[string]map[string]Feature{}
	}
	w.features[key] = features
	return nil
}

// maxFeatures is as many as the kernel can have, and most of them it does have.
const maxFeatures = 64

// eachFeature decodes an ETHTOOL_MSG_FEATURES_GET_REPLY.
func eachFeature(w *words, body []byte, do func(name string, f Feature)) error {
	var hardware, wanted, active, never bitset
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		var set *bitset
		switch attributes.Type {
		case uapi.ETHTOOL_A_FEATURES_HW:
			set = &hardware
		case uapi.ETHTOOL_A_FEATURES_WANTED:
			set = &wanted
		case uapi.ETHTOOL_A_FEATURES_ACTIVE:
			set = &active
		case uapi.ETHTOOL_A_FEATURES_NOCHANGE:
			set = &never
		default:
			continue
		}
		var err error
		if *set, err = decodeBitset(attributes.Data); err != nil {
			return err
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	// The first set's mask are the features that this kernel knows.
	for i := range eachBit(hardware.mask) {
		name := w.word(uapi.ETH_SS_FEATURES, i)
		if name == "" {
			continue
		}
		do(name, Feature{
			Active:   hasBit(active.value, i),
			Wanted:   hasBit(wanted.value, i),
			Hardware: hasBit(hardware.value, i),
			Fixed:    !hasBit(hardware.value, i) || hasBit(never.value, i),
		})
	}
	return nil
}
