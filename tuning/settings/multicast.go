package settings

import (
	"context"
	"encoding/binary"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// MulticastFlags are what an administrator asked of a device's multicast. What
// is in force can be more: a capture or a multicast router asks, too.
type MulticastFlags struct {
	Multicast *bool `json:"multicast,omitempty" doc:"the device can do multicast (the flag MULTICAST)"`
	AllMulti  *bool `json:"allmulti,omitempty" doc:"let in every multicast packet, whether or not anyone is in its group (the flag ALLMULTI)"`
}

// Multicast is ip link set multicast and allmulticast.
func Multicast() tuning.Knob[MulticastFlags] {
	return tuning.Knob[MulticastFlags]{
		Name: "multicast",
		Doc:  "Which multicast packets a device lets in (ip link set multicast, allmulticast). The driver sets its filter between two packets.",
		Impact: func(_ inventory.NIC, _, _ MulticastFlags) tuning.Impact {
			return tuning.Seamless
		},
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit MulticastFlags, err error) {
			capable, allMulti, err := inventory.ReadMulticastFlags(ctx, r, nic)
			return MulticastFlags{Multicast: capable, AllMulti: allMulti}, limit, err
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next MulticastFlags) error {
			var flags, change uint32
			for _, f := range []struct {
				from, to *bool
				flag     uint32
			}{
				{current.Multicast, next.Multicast, uapi.IFF_MULTICAST},
				{current.AllMulti, next.AllMulti, uapi.IFF_ALLMULTI},
			} {
				if !differ(f.from, f.to) {
					continue
				}
				change |= f.flag
				if *f.to {
					flags |= f.flag
				}
			}
			b := ifinfomsg(nic)
			binary.NativeEndian.PutUint32(b[8:], flags)
			binary.NativeEndian.PutUint32(b[12:], change) // ifi_change: the others stay
			return w.NetlinkSet(ctx, kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK, Body: b})
		},
	}
}
