package settings

import (
	"context"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// BridgeMulticast is how a bridge forwards multicast, as ip -d link shows it.
type BridgeMulticast struct {
	Snooping    *bool   `json:"mcast-snooping,omitempty" doc:"send a group only to the ports behind which somebody is in it, as told by IGMP and MLD"`
	Querier     *bool   `json:"mcast-querier,omitempty" doc:"ask who is in which group, where no router of multicast does"`
	Router      *uint32 `json:"mcast-router,omitempty" doc:"whether the host itself gets every group, as a router of multicast must: 0 never, 1 while one is heard, 2 always"`
	HashMax     *uint32 `json:"mcast-hash-max,omitempty" doc:"groups that the bridge keeps at most; when there are more, the kernel switches snooping off; kernels before 5.0 take powers of two"`
	IGMPVersion *uint32 `json:"mcast-igmp-version,omitempty" doc:"version of IGMP that it asks in: 2 or 3"`
	MLDVersion  *uint32 `json:"mcast-mld-version,omitempty" doc:"version of MLD that it asks in: 1 or 2"`
}

// Bridge is ip link set type bridge mcast_*.
func Bridge() tuning.Knob[BridgeMulticast] {
	return tuning.Knob[BridgeMulticast]{
		Name: "bridge",
		Doc:  "How a bridge forwards multicast (ip link set DEV type bridge mcast_*). Members are known anew when snooping begins: until they have been asked, their groups go to all ports.",
		Impact: func(_ inventory.NIC, _, _ BridgeMulticast) tuning.Impact {
			return tuning.Seamless
		},
		Read:  readBridge,
		Check: checkBridge,
		Write: writeBridge,
	}
}

func readBridge(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit BridgeMulticast, err error) {
	b, _, err := inventory.ReadBridge(ctx, r, nic)
	switch {
	case err != nil:
		return current, limit, err
	case b == nil:
		return current, limit, unsupported("the device is not a bridge")
	}
	return BridgeMulticast{
		Snooping: b.Snooping, Querier: b.Querier, Router: unsigned(b.Router),
		HashMax: unsigned(b.HashMax), IGMPVersion: unsigned(b.IGMPVersion), MLDVersion: unsigned(b.MLDVersion),
	}, limit, nil
}

func checkBridge(current, next BridgeMulticast) error {
	return firstFault(
		between("mcast-router", current.Router, next.Router, 0, 2),
		between("mcast-igmp-version", current.IGMPVersion, next.IGMPVersion, 2, 3),
		between("mcast-mld-version", current.MLDVersion, next.MLDVersion, 1, 2),
	)
}

func writeBridge(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next BridgeMulticast) error {
	var data kernel.Body
	data = changedByte(data, uapi.IFLA_BR_MCAST_IGMP_VERSION, current.IGMPVersion, next.IGMPVersion)
	data = changedByte(data, uapi.IFLA_BR_MCAST_MLD_VERSION, current.MLDVersion, next.MLDVersion)
	data = changed(data, uapi.IFLA_BR_MCAST_HASH_MAX, current.HashMax, next.HashMax)
	data = changedByte(data, uapi.IFLA_BR_MCAST_ROUTER, current.Router, next.Router)
	data = switched(data, uapi.IFLA_BR_MCAST_SNOOPING, current.Snooping, next.Snooping, 0, 1)
	data = switched(data, uapi.IFLA_BR_MCAST_QUERIER, current.Querier, next.Querier, 0, 1)
	return setLinkInfo(ctx, w, nic, kernel.Body{}.
		String(uapi.IFLA_INFO_KIND, "bridge").Nested(uapi.IFLA_INFO_DATA, data))
}

// setLinkInfo changes what a kind of device has of its own. RTM_SETLINK would
// take it and do nothing; RTM_NEWLINK without NLM_F_CREATE changes a device that
// is there.
func setLinkInfo(ctx context.Context, w kernel.Writer, nic inventory.NIC, info kernel.Body) error {
	return w.NetlinkSet(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_NEWLINK, Body: ifinfomsg(nic).Nested(uapi.IFLA_LINKINFO, info),
	})
}

// changedByte is changed for an attribute of one byte.
func changedByte(body kernel.Body, attribute uint16, from, to *uint32) kernel.Body {
	if !differ(from, to) {
		return body
	}
	return body.Uint8(attribute, uint8(*to))
}

// between says what is wrong with a number that shall become one outside its range.
func between(field string, from, to *uint32, low, high uint32) error {
	if to == nil || *to >= low && *to <= high || from != nil && *from == *to {
		return nil
	}
	return fmt.Errorf("%s %d: it goes from %d to %d", field, *to, low, high)
}

func firstFault(faults ...error) error {
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	return nil
}
