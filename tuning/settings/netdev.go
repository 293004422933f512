package settings

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// NetdevState is what the stack keeps of a device, as ip -d link shows it.
type NetdevState struct {
	MTU            *uint32 `json:"mtu,omitempty" doc:"largest packet in bytes; below 1280 the kernel takes IPv6 and its addresses off the device" words:"max"`
	TxQueueLen     *uint32 `json:"txqueuelen,omitempty" example:"1000" doc:"packets that the default queueing discipline holds"`
	GSOMaxSize     *uint32 `json:"gso-max-size,omitempty" doc:"bytes of a packet that is segmented as late as possible; above 65536 is BIG TCP for IPv6" words:"max"`
	GSOMaxSegs     *uint32 `json:"gso-max-segs,omitempty" doc:"segments of such a packet" words:"max"`
	GROMaxSize     *uint32 `json:"gro-max-size,omitempty" example:"65536" doc:"bytes of a packet that received ones are merged into; above 65536 is BIG TCP for IPv6"`
	GSOIPv4MaxSize *uint32 `json:"gso-ipv4-max-size,omitempty" doc:"as gso-max-size, for IPv4" words:"max"`
	GROIPv4MaxSize *uint32 `json:"gro-ipv4-max-size,omitempty" example:"65536" doc:"as gro-max-size, for IPv4"`
	Alias          *string `json:"alias,omitempty" example:"uplink" form:"text" doc:"a description for people; a number in quotes"`
}

// Netdev is ip link set.
func Netdev() tuning.Knob[NetdevState] {
	return tuning.Knob[NetdevState]{
		Name: "netdev",
		Doc: "What the stack keeps for a device: sizes of packets and queues, and its description (ip link set). " +
			"Most drivers reset the NIC for another MTU.",
		Impact: netdevImpact,
		Breaks: func(use inventory.Use, current, next NetdevState) string {
			// A program gets packets of one page at most, and a socket those of a frame:
			// larger ones are lost where the driver takes such an MTU at all.
			if (use.Kind == inventory.XDPAttached || use.Kind == inventory.XDPSocket) && differ(current.MTU, next.MTU) {
				return "mtu"
			}
			return ""
		},
		Read: readNetdev,
		Check: func(_, next NetdevState) error {
			const most = 255 // IFALIASZ, with a NUL
			if next.Alias != nil && len(*next.Alias) > most {
				return fmt.Errorf("alias: the kernel keeps %d bytes, not %d", most, len(*next.Alias))
			}
			return nil
		},
		Write: writeNetdev,
	}
}

// leastIPv6MTU is IPV6_MIN_MTU. Of a device with less, the kernel forgets the IPv6
// addresses and routes, and no larger MTU brings back those set by hand.
const leastIPv6MTU = 1280

// netdevImpact: an MTU is a number to these drivers; others build their receive
// buffers anew. Another txqueuelen empties the queueing disciplines of a device
// that is up (dev_qdisc_change_tx_queue_len of the kernel's sch_generic.c). The
// rest holds from the next packet on.
func netdevImpact(nic inventory.NIC, current, next NetdevState) tuning.Impact {
	impact := tuning.Seamless
	if differ(current.TxQueueLen, next.TxQueueLen) {
		impact = tuning.LinkFlap
	}
	if differ(current.MTU, next.MTU) {
		switch driverOf(nic) {
		case "virtio_net", "veth", "tun", "bridge", "macvlan":
		default:
			impact = tuning.NICReset
		}
		if next.MTU != nil && *next.MTU < leastIPv6MTU {
			impact = tuning.NICReset
		}
	}
	return impact
}

// readNetdev has no limits for what GRO builds, as the kernel tells none.
func readNetdev(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit NetdevState, err error) {
	n, err := inventory.ReadNetdev(ctx, r, nic)
	if err != nil {
		return current, limit, err
	}
	of := n.Offloads.Limits
	current = NetdevState{
		MTU: unsigned(n.Link.MTU), TxQueueLen: unsigned(n.Link.TxQueueLen),
		GSOMaxSize: of.GSOMaxSize, GSOMaxSegs: of.GSOMaxSegs, GROMaxSize: of.GROMaxSize,
		GSOIPv4MaxSize: of.GSOIPv4MaxSize, GROIPv4MaxSize: of.GROIPv4MaxSize, Alias: &n.Alias,
	}
	limit = NetdevState{
		MTU: unsigned(n.Link.MaxMTU), GSOMaxSize: of.TSOMaxSize, GSOMaxSegs: of.TSOMaxSegs, GSOIPv4MaxSize: of.TSOMaxSize,
	}
	return current, limit, nil
}

// ifinfomsg begins a RTM_SETLINK about one NIC with the struct of that name.
func ifinfomsg(nic inventory.NIC) kernel.Body {
	const size, index = 16, 4
	b := kernel.Body(make([]byte, size))
	binary.NativeEndian.PutUint32(b[index:], uint32(nic.Index))
	return b
}

func unsigned(n *int) *uint32 {
	if n == nil || *n < 0 {
		return nil
	}
	return new(uint32(*n))
}

func writeNetdev(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next NetdevState) error {
	b := ifinfomsg(nic)
	b = changed(b, uapi.IFLA_MTU, current.MTU, next.MTU)
	b = changed(b, uapi.IFLA_TXQLEN, current.TxQueueLen, next.TxQueueLen)
	b = changed(b, uapi.IFLA_GSO_MAX_SIZE, current.GSOMaxSize, next.GSOMaxSize)
	b = changed(b, uapi.IFLA_GSO_MAX_SEGS, current.GSOMaxSegs, next.GSOMaxSegs)
	b = changed(b, uapi.IFLA_GRO_MAX_SIZE, current.GROMaxSize, next.GROMaxSize)
	if differ(current.Alias, next.Alias) {
		b = b.Bytes(uapi.IFLA_IFALIAS, []byte(*next.Alias)) // nothing takes it away
	}
	// A size up to 64 KiB becomes that of IPv4, too, unless the request has one.
	b = along(b, uapi.IFLA_GSO_IPV4_MAX_SIZE, current.GSOIPv4MaxSize, next.GSOIPv4MaxSize, differ(current.GSOMaxSize, next.GSOMaxSize))
	b = along(b, uapi.IFLA_GRO_IPV4_MAX_SIZE, current.GROIPv4MaxSize, next.GROIPv4MaxSize, differ(current.GROMaxSize, next.GROMaxSize))
	return w.NetlinkSet(ctx, kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK, Body: b})
}

// along appends a number if it is to change, or if it would change along with
// another.
func along(b kernel.Body, attribute uint16, from, to *uint32, other bool) kernel.Body {
	if other && from != nil && to != nil {
		return b.Uint32(attribute, *to)
	}
	return changed(b, attribute, from, to)
}
