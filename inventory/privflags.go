package inventory

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// filePrivateFlags files an ETHTOOL_MSG_PRIVFLAGS_GET_REPLY in its verbose
// form, which brings the driver's names along.
func filePrivateFlags(n *NIC, _ *words, body []byte) error {
	flags := map[string]bool{}
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		if attributes.Type != uapi.ETHTOOL_A_PRIVFLAGS_FLAGS {
			continue
		}
		set, err := decodeBitset(attributes.Data)
		if err != nil {
			return err
		}
		for i, name := range set.names {
			if name != "" {
				flags[name] = hasBit(set.value, i)
			}
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	n.Offloads.PrivateFlags = flags
	return nil
}
