package inventory

import (
	"context"
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// NetClass is what /sys/class/net and ip link have of a device in numbers of the
// kernel's own, beside what is told in words elsewhere.
type NetClass struct {
	// Hardware is the ARPHRD_* of linux/if_arp.h: 1 is Ethernet.
	Hardware int `json:"hardware"`
	// Flags are the IFF_* of linux/if.h as ip link shows them, with those of the moment
	// (IFF_RUNNING, IFF_LOWER_UP, IFF_DORMANT), which sysfs leaves out.
	Flags uint32 `json:"flags"`
	// LinkMode is IFLA_LINKMODE: 0 default, 1 dormant. Group is IFLA_GROUP.
	LinkMode int `json:"linkMode"`
	Group    int `json:"group"`
	// Link is the index of the device below, or of the peer, which may be in another
	// network namespace; the device's own where there is none.
	Link int `json:"link"`

	// Dormant is whether the link is there and waits for something else, as 802.1X;
	// absent while the device is down.
	Dormant *bool `json:"dormant,omitempty"`

	// AddressAssignType (NET_ADDR_*), NameAssignType (NET_NAME_*) and DeviceID (dev_id)
	// are in sysfs alone. They are read of hardware, and of software devices where that
	// was asked for: [Keeper.Sysfs].
	AddressAssignType *int `json:"addressAssignType,omitempty"`
	NameAssignType    *int `json:"nameAssignType,omitempty"`
	DeviceID          *int `json:"deviceId,omitempty"`
}

// readNetClass reads what only sysfs has of a device.
func (s *survey) readNetClass(ctx context.Context, n *NIC) {
	if n.NetClass == nil || s.brief {
		return
	}
	for _, one := range []struct {
		file, fact string
		number     **int
	}{
		{"addr_assign_type", "netClass.addressAssignType", &n.NetClass.AddressAssignType},
		{"name_assign_type", "netClass.nameAssignType", &n.NetClass.NameAssignType}, // EINVAL where the kernel doesn't know
		{"dev_id", "netClass.deviceId", &n.NetClass.DeviceID},
	} {
		b, err := s.ReadFile(ctx, path.Join(sysClassNet, n.Name, one.file))
		if err != nil {
			if r := kernel.ReasonOf(err); r != kernel.Unsupported && r != kernel.Gone && !errors.Is(err, kernel.ErrInvalid) && !errors.Is(err, kernel.ErrNotRecorded) {
				n.missed(one.fact, err)
			}
			continue
		}
		if v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 0, 32); err == nil {
			*one.number = new(int(v))
		}
	}
}
