package settings

import (
	"context"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// PrivateFlagSet is the state of a driver's own flags, by the driver's names.
type PrivateFlagSet map[string]bool

// PrivateFlags is ethtool --set-priv-flags.
func PrivateFlags() tuning.Knob[PrivateFlagSet] {
	return tuning.Knob[PrivateFlagSet]{
		Name: "private-flags",
		Doc: "The driver's own flags: any name that ethtool --show-priv-flags shows, in quotes where it has blanks. " +
			"What changing one does is the driver's own, too; many reset the NIC.",
		Impact: func(_ inventory.NIC, _, _ PrivateFlagSet) tuning.Impact {
			return tuning.NICReset
		},
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit PrivateFlagSet, err error) {
			flags, err := inventory.ReadPrivateFlags(ctx, r, nic)
			return flags, nil, err
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next PrivateFlagSet) error {
			return set(ctx, w, uapi.ETHTOOL_MSG_PRIVFLAGS_SET, about(nic).
				Nested(uapi.ETHTOOL_A_PRIVFLAGS_FLAGS, flips(current, next)))
		},
	}
}
