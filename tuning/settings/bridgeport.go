package settings

import (
	"context"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// BridgePortMulticast is which groups a bridge sends to one of its ports, as
// ip -d link shows it.
type BridgePortMulticast struct {
	FastLeave *bool   `json:"mcast-fast-leave,omitempty" doc:"stop a group when the first member leaves it, without asking for others: for ports with one host behind them"`
	Router    *uint32 `json:"mcast-router,omitempty" doc:"whether the port gets every group, as a router of multicast must: 0 never, 1 while one is heard, 2 always"`
	Flood     *bool   `json:"mcast-flood,omitempty" doc:"send it the groups that nobody is known to be in"`
	ToUnicast *bool   `json:"mcast-to-unicast,omitempty" doc:"send each member a copy to its own address"`
	MaxGroups *uint32 `json:"mcast-max-groups,omitempty" doc:"groups that may be joined through the port; 0 is as many as the bridge keeps"`
}

// BridgePort is ip link set type bridge_slave.
func BridgePort() tuning.Knob[BridgePortMulticast] {
	return tuning.Knob[BridgePortMulticast]{
		Name: "bridge-port",
		Doc:  "Which multicast a bridge sends to a port (ip link set DEV type bridge_slave fastleave, mcast_*). The NIC is the port, not the bridge; a port of another master has none of it.",
		Impact: func(_ inventory.NIC, _, _ BridgePortMulticast) tuning.Impact {
			return tuning.Seamless
		},
		Read: readBridgePort,
		Check: func(current, next BridgePortMulticast) error {
			// 3, a router's port for a while, is a state that passes by itself.
			return between("mcast-router", current.Router, next.Router, 0, 3)
		},
		Write: writeBridgePort,
	}
}

func readBridgePort(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit BridgePortMulticast, err error) {
	_, p, err := inventory.ReadBridge(ctx, r, nic)
	switch {
	case err != nil:
		return current, limit, err
	case p == nil:
		return current, limit, unsupported("the device is not a port of a bridge")
	}
	return BridgePortMulticast{
		FastLeave: p.FastLeave, Router: unsigned(p.Router), Flood: p.Flood, ToUnicast: p.ToUnicast, MaxGroups: p.MaxGroups,
	}, limit, nil
}

func writeBridgePort(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next BridgePortMulticast) error {
	var data kernel.Body
	data = switched(data, uapi.IFLA_BRPORT_FAST_LEAVE, current.FastLeave, next.FastLeave, 0, 1)
	data = changedByte(data, uapi.IFLA_BRPORT_MULTICAST_ROUTER, current.Router, next.Router)
	data = switched(data, uapi.IFLA_BRPORT_MCAST_FLOOD, current.Flood, next.Flood, 0, 1)
	data = switched(data, uapi.IFLA_BRPORT_MCAST_TO_UCAST, current.ToUnicast, next.ToUnicast, 0, 1)
	data = changed(data, uapi.IFLA_BRPORT_MCAST_MAX_GROUPS, current.MaxGroups, next.MaxGroups)
	return setLinkInfo(ctx, w, nic, kernel.Body{}.
		String(uapi.IFLA_INFO_SLAVE_KIND, "bridge").Nested(uapi.IFLA_INFO_SLAVE_DATA, data))
}
