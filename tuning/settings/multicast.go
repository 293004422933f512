package settings

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// MulticastState is what an administrator asked of a device's multicast. Of the flags more can be
// in force: a capture or a multicast router asks, too.
type MulticastState struct {
	Multicast *bool `json:"multicast,omitempty" doc:"the device can do multicast (the flag MULTICAST)"`
	AllMulti  *bool `json:"allmulti,omitempty" doc:"let in every multicast packet, whether or not anyone is in its group (the flag ALLMULTI)"`
	// Which protocol the host tells routers and switches of its groups in.
	IGMPVersion *uint32 `json:"force-igmp-version,omitempty" doc:"version of IGMP that the host speaks here, 1 to 3; 0 is the querier's, or 3 (net.ipv4.conf.DEV.force_igmp_version; what conf.all forces wins)"`
	MLDVersion  *uint32 `json:"force-mld-version,omitempty" doc:"version of MLD, 1 or 2; 0 is the querier's, or 2 (net.ipv6.conf.DEV.force_mld_version; what conf.all forces wins)"`
}

// Multicast is ip link set multicast and allmulticast, and the versions of IGMP
// and MLD.
func Multicast() tuning.Knob[MulticastState] {
	return tuning.Knob[MulticastState]{
		Name: "multicast",
		Doc:  "Which multicast packets a device lets in (ip link set multicast, allmulticast), and how the host tells the network what it wants. The driver sets its filter between two packets.",
		Impact: func(_ inventory.NIC, _, _ MulticastState) tuning.Impact {
			return tuning.Seamless
		},
		Read: readMulticast,
		Check: func(current, next MulticastState) error {
			return firstFault(
				between("force-igmp-version", current.IGMPVersion, next.IGMPVersion, 0, 3),
				between("force-mld-version", current.MLDVersion, next.MLDVersion, 0, 2),
			)
		},
		Write: writeMulticast,
	}
}

// The sysctls of a device, below /proc/sys/net.
func igmpVersionFile(nic inventory.NIC) string {
	return "/proc/sys/net/ipv4/conf/" + nic.Name + "/force_igmp_version"
}

func mldVersionFile(nic inventory.NIC) string {
	return "/proc/sys/net/ipv6/conf/" + nic.Name + "/force_mld_version"
}

func readMulticast(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit MulticastState, err error) {
	capable, allMulti, err := inventory.ReadMulticastFlags(ctx, r, nic)
	if err != nil {
		return current, limit, err
	}
	igmp, err1 := readNumber(ctx, r, igmpVersionFile(nic))
	mld, err2 := readNumber(ctx, r, mldVersionFile(nic))
	return MulticastState{Multicast: capable, AllMulti: allMulti, IGMPVersion: igmp, MLDVersion: mld}, limit, errors.Join(err1, err2)
}

func writeMulticast(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next MulticastState) error {
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
	if change != 0 {
		b := ifinfomsg(nic)
		binary.NativeEndian.PutUint32(b[8:], flags)
		binary.NativeEndian.PutUint32(b[12:], change) // ifi_change: the others stay
		if err := w.NetlinkSet(ctx, kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK, Body: b}); err != nil {
			return err
		}
	}
	if err := writeNumber(ctx, w, igmpVersionFile(nic), current.IGMPVersion, next.IGMPVersion); err != nil {
		return err
	}
	return writeNumber(ctx, w, mldVersionFile(nic), current.MLDVersion, next.MLDVersion)
}
