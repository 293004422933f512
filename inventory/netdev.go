package inventory

import (
	"context"
	"errors"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// readNetdev asks the netdev family, four dumps for all devices: what XDP they
// offer, their queues, their NAPI contexts, their page pools. A device that is
// down has none of the last three.
func readNetdev(ctx context.Context, s *survey) {
	s.netdevDump(ctx, "nics.offloads.xdpFeatures", uapi.NETDEV_CMD_DEV_GET, uapi.NETDEV_A_DEV_IFINDEX, func(body []byte) error {
		d, err := decodeNetdevDevice(body)
		if n := s.byIndex[d.index]; n != nil {
			n.Offloads.XDPFeatures = d.features
			n.Offloads.XDPZeroCopyMaxSegments = d.zeroCopySegments
			n.Offloads.XDPMetadata, n.Offloads.XSKFeatures = d.metadata, d.xskFeatures
		}
		return err
	})
	// An interrupted dump repeats itself: the first answer of the device's next
	// round would be added to the last. Filing by id makes the later one win.
	queues, napis, pools := filed{}, filed{}, filed{}
	s.netdevDump(ctx, "nics.queues.netdev", uapi.NETDEV_CMD_QUEUE_GET, uapi.NETDEV_A_QUEUE_IFINDEX, func(body []byte) error {
		index, q, err := decodeNetdevQueue(body)
		if n := s.byIndex[index]; n != nil && err == nil {
			n.Queues.Netdev = file(queues, netdevObject{n, q.Direction, uint64(q.ID)}, n.Queues.Netdev, q)
		}
		return err
	})
	s.netdevDump(ctx, "nics.queues.napi", uapi.NETDEV_CMD_NAPI_GET, uapi.NETDEV_A_NAPI_IFINDEX, func(body []byte) error {
		index, p, err := decodeNAPI(body)
		if n := s.byIndex[index]; n != nil && err == nil {
			n.Queues.NAPI = file(napis, netdevObject{n, "", uint64(p.ID)}, n.Queues.NAPI, p)
		}
		return err
	})
	s.netdevDump(ctx, "nics.queues.pagePools", uapi.NETDEV_CMD_PAGE_POOL_GET, 0, func(body []byte) error {
		index, p, err := decodePagePool(body)
		if n := s.byIndex[index]; n != nil && err == nil {
			n.Queues.PagePools = file(pools, netdevObject{n, "", p.ID}, n.Queues.PagePools, p)
		}
		return err
	})
}

// netdevDump hands each answer of one dump to decode. A kernel without the
// command is noted once, for the host. A focused survey asks for each device by the
// attribute that has its index, where there is one.
func (s *survey) netdevDump(ctx context.Context, fact string, command, index uint16, decode func([]byte) error) {
	dump := kernel.Request{Family: kernel.FamilyNetdev, Command: command, Dump: true}
	var messages []kernel.Message
	var err error
	if s.focused && index != 0 {
		dump.Dump = command != uapi.NETDEV_CMD_DEV_GET // which takes no index
		for _, n := range s.nics {
			dump.Body = kernel.Body{}.Uint32(index, uint32(n.Index))
			more, failed := s.Netlink(ctx, dump)
			messages, err = append(messages, more...), errors.Join(err, failed)
		}
	} else {
		messages, err = s.Netlink(ctx, dump)
	}
	if err != nil {
		s.missed(fact, err)
	}
	for _, m := range messages {
		if err := decode(m.Body); err != nil {
			s.missed(fact, err)
		}
	}
}

// filed is where the objects of one dump stand in their NICs' lists.
type filed map[netdevObject]int

type netdevObject struct {
	nic       *NIC
	direction string // of a queue
	id        uint64
}

// file puts v in place of what was filed under the same place, or at the end.
func file[T any](done filed, at netdevObject, list []T, v T) []T {
	if i, ok := done[at]; ok {
		list[i] = v
		return list
	}
	done[at] = len(list)
	return append(list, v)
}

// netdevDevice is one answer to NETDEV_CMD_DEV_GET.
type netdevDevice struct {
	index            int
	features         []string
	metadata         []string
	xskFeatures      []string
	zeroCopySegments *uint32
}

// decodeNetdevDevice decodes the attributes NETDEV_A_DEV_ of linux/netdev.h.
func decodeNetdevDevice(body []byte) (netdevDevice, error) {
	var d netdevDevice
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.NETDEV_A_DEV_IFINDEX:
			d.index = int(a.Uint32())
		case uapi.NETDEV_A_DEV_XDP_FEATURES:
			d.features = xdpFeatures(a.Uint64())
		case uapi.NETDEV_A_DEV_XDP_RX_METADATA_FEATURES:
			d.metadata = bitNames(a.Uint64(), []bitName{
				{uapi.NETDEV_XDP_RX_METADATA_TIMESTAMP, "timestamp"},
				{uapi.NETDEV_XDP_RX_METADATA_HASH, "hash"},
				{uapi.NETDEV_XDP_RX_METADATA_VLAN_TAG, "vlan-tag"},
			})
		case uapi.NETDEV_A_DEV_XSK_FEATURES:
			d.xskFeatures = bitNames(a.Uint64(), []bitName{
				{uapi.NETDEV_XSK_FLAGS_TX_TIMESTAMP, "tx-timestamp"},
				{uapi.NETDEV_XSK_FLAGS_TX_CHECKSUM, "tx-checksum"},
				{uapi.NETDEV_XSK_FLAGS_TX_LAUNCH_TIME_FIFO, "tx-launch-time-fifo"},
			})
		case uapi.NETDEV_A_DEV_XDP_ZC_MAX_SEGS:
			d.zeroCopySegments = new(a.Uint32())
		}
	}
	return d, a.Err()
}

// xdpFeatures names the bits NETDEV_XDP_ACT_.
func xdpFeatures(bits uint64) []string {
	return bitNames(bits, []bitName{
		{uapi.NETDEV_XDP_ACT_BASIC, "basic"},
		{uapi.NETDEV_XDP_ACT_REDIRECT, "redirect"},
		{uapi.NETDEV_XDP_ACT_NDO_XMIT, "ndo-xmit"},
		{uapi.NETDEV_XDP_ACT_XSK_ZEROCOPY, "xsk-zerocopy"},
		{uapi.NETDEV_XDP_ACT_HW_OFFLOAD, "hw-offload"},
		{uapi.NETDEV_XDP_ACT_RX_SG, "rx-sg"},
		{uapi.NETDEV_XDP_ACT_NDO_XMIT_SG, "ndo-xmit-sg"},
	})
}

type bitName struct {
	bit  uint64
	name string
}

// bitNames names bits as the netdev family's specification does. It returns an
// empty list, not nil, for a device that has none: that is known.
func bitNames(bits uint64, table []bitName) []string {
	names := []string{}
	for _, b := range table {
		if bits&b.bit != 0 {
			names = append(names, b.name)
		}
	}
	return names
}

// decodeNetdevQueue decodes the attributes NETDEV_A_QUEUE_.
func decodeNetdevQueue(body []byte) (index int, q Queue, err error) {
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.NETDEV_A_QUEUE_IFINDEX:
			index = int(a.Uint32())
		case uapi.NETDEV_A_QUEUE_ID:
			q.ID = a.Uint32()
		case uapi.NETDEV_A_QUEUE_TYPE:
			q.Direction = "rx"
			if a.Uint32() == uapi.NETDEV_QUEUE_TYPE_TX {
				q.Direction = "tx"
			}
		case uapi.NETDEV_A_QUEUE_NAPI_ID:
			q.NAPI = new(a.Uint32())
		case uapi.NETDEV_A_QUEUE_DMABUF:
			q.DMABuf = new(a.Uint32())
		case uapi.NETDEV_A_QUEUE_IO_URING:
			q.IOUring = true
		case uapi.NETDEV_A_QUEUE_XSK:
			q.XSK = true
		}
	}
	return index, q, a.Err()
}

// decodeNAPI decodes the attributes NETDEV_A_NAPI_.
func decodeNAPI(body []byte) (index int, n NAPI, err error) {
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.NETDEV_A_NAPI_IFINDEX:
			index = int(a.Uint32())
		case uapi.NETDEV_A_NAPI_ID:
			n.ID = a.Uint32()
		case uapi.NETDEV_A_NAPI_IRQ:
			n.IRQ = new(int(a.Uint32()))
		case uapi.NETDEV_A_NAPI_PID:
			n.PID = new(int(a.Uint32()))
		case uapi.NETDEV_A_NAPI_DEFER_HARD_IRQS:
			n.DeferHardIRQs = new(a.Uint32())
		case uapi.NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT:
			n.GROFlushTimeoutNS = new(a.Uint())
		case uapi.NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT:
			n.IRQSuspendTimeoutNS = new(a.Uint())
		case uapi.NETDEV_A_NAPI_THREADED:
			n.Threaded = napiThreaded(a.Uint())
		}
	}
	return index, n, a.Err()
}

func napiThreaded(v uint64) string {
	switch v {
	case uapi.NETDEV_NAPI_THREADED_DISABLED:
		return "disabled"
	case uapi.NETDEV_NAPI_THREADED_ENABLED:
		return "enabled"
	case uapi.NETDEV_NAPI_THREADED_BUSY_POLL:
		return "busy-poll"
	}
	return ""
}

// decodePagePool decodes the attributes NETDEV_A_PAGE_POOL_.
func decodePagePool(body []byte) (index int, p PagePool, err error) {
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.NETDEV_A_PAGE_POOL_IFINDEX:
			index = int(a.Uint32())
		case uapi.NETDEV_A_PAGE_POOL_ID:
			p.ID = a.Uint()
		case uapi.NETDEV_A_PAGE_POOL_NAPI_ID:
			p.NAPI = new(uint32(a.Uint()))
		case uapi.NETDEV_A_PAGE_POOL_INFLIGHT:
			p.Inflight = new(a.Uint())
		case uapi.NETDEV_A_PAGE_POOL_INFLIGHT_MEM:
			p.InflightBytes = new(a.Uint())
		case uapi.NETDEV_A_PAGE_POOL_DETACH_TIME:
			p.DetachedSeconds = new(a.Uint())
		}
	}
	return index, p, a.Err()
}
