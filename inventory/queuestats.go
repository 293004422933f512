package inventory

import (
	"context"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// QueueStats are one queue's counters as the netdev family gives them (Linux 6.10
// and newer, drivers that take part). A counter that the driver lacks is nil.
type QueueStats struct {
	// Direction is "rx" or "tx".
	Direction string  `json:"direction"`
	ID        uint32  `json:"id"`
	Packets   *uint64 `json:"packets,omitempty"`
	Bytes     *uint64 `json:"bytes,omitempty"`
	// AllocFail is how often there was no memory for a buffer, whether or not that lost
	// a packet; Drops are packets that the device dropped, Overruns those of them for
	// want of a free buffer in the ring.
	AllocFail *uint64 `json:"allocFail,omitempty"`
	Drops     *uint64 `json:"drops,omitempty"`
	Overruns  *uint64 `json:"overruns,omitempty"`
	// Stops is how often a transmit queue was full and stopped.
	Stops *uint64 `json:"stops,omitempty"`
}

// readQueueStats reads the counters of the queues of all devices, by the devices'
// indexes. Drivers that don't take part are not in it.
func readQueueStats(ctx context.Context, r kernel.Reader) (map[int][]QueueStats, error) {
	messages, err := r.Netlink(ctx, queueStatsDump())
	all := map[int][]QueueStats{}
	at := map[queueStatsAt]int{} // an interrupted dump repeats itself
	for _, m := range messages {
		index, q, decoding := decodeQueueStats(m.Body)
		if decoding != nil {
			err = decoding
			continue
		}
		key := queueStatsAt{index, q.Direction, q.ID}
		if i, ok := at[key]; ok {
			all[index][i] = q
			continue
		}
		at[key] = len(all[index])
		all[index] = append(all[index], q)
	}
	return all, err
}

type queueStatsAt struct {
	index     int
	direction string
	id        uint32
}

func queueStatsDump() kernel.Request {
	return kernel.Request{
		Family: kernel.FamilyNetdev, Command: uapi.NETDEV_CMD_QSTATS_GET, Dump: true,
		Body: kernel.Body{}.Uint(uapi.NETDEV_A_QSTATS_SCOPE, uapi.NETDEV_QSTATS_SCOPE_QUEUE),
	}
}

// decodeQueueStats decodes the attributes NETDEV_A_QSTATS_ of linux/netdev.h.
func decodeQueueStats(body []byte) (index int, q QueueStats, err error) {
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.NETDEV_A_QSTATS_IFINDEX:
			index = int(a.Uint32())
		case uapi.NETDEV_A_QSTATS_QUEUE_TYPE:
			q.Direction = "rx"
			if a.Uint32() == uapi.NETDEV_QUEUE_TYPE_TX {
				q.Direction = "tx"
			}
		case uapi.NETDEV_A_QSTATS_QUEUE_ID:
			q.ID = a.Uint32()
		case uapi.NETDEV_A_QSTATS_RX_PACKETS, uapi.NETDEV_A_QSTATS_TX_PACKETS:
			q.Packets = new(a.Uint())
		case uapi.NETDEV_A_QSTATS_RX_BYTES, uapi.NETDEV_A_QSTATS_TX_BYTES:
			q.Bytes = new(a.Uint())
		case uapi.NETDEV_A_QSTATS_RX_ALLOC_FAIL:
			q.AllocFail = new(a.Uint())
		case uapi.NETDEV_A_QSTATS_RX_HW_DROPS, uapi.NETDEV_A_QSTATS_TX_HW_DROPS:
			q.Drops = new(a.Uint())
		case uapi.NETDEV_A_QSTATS_RX_HW_DROP_OVERRUNS:
			q.Overruns = new(a.Uint())
		case uapi.NETDEV_A_QSTATS_TX_STOP:
			q.Stops = new(a.Uint())
		}
	}
	return index, q, a.Err()
}

// PagePoolStats are one page pool's counters since it was made, of a kernel that keeps
// them (CONFIG_PAGE_POOL_STATS, Linux 6.8 and newer).
type PagePoolStats struct {
	ID uint64 `json:"id"`
	// Allocated are pages that came from the kernel, Reused those that came back and
	// were given out again.
	Allocated uint64 `json:"allocated"`
	Reused    uint64 `json:"reused"`

	index int // of the device, 0 of one that is gone
}

// ReadPagePoolStats reads the counters of all page pools, by the pools' numbers
// ([PagePool.ID]): also of those whose device is gone.
func ReadPagePoolStats(ctx context.Context, r kernel.Reader) (map[uint64]PagePoolStats, error) {
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyNetdev, Command: uapi.NETDEV_CMD_PAGE_POOL_STATS_GET, Dump: true,
	})
	all := map[uint64]PagePoolStats{} // an interrupted dump repeats itself
	for _, m := range messages {
		p, decoding := decodePagePoolStats(m.Body)
		if decoding != nil {
			err = decoding
			continue
		}
		all[p.ID] = p
	}
	return all, err
}

// decodePagePoolStats decodes the attributes NETDEV_A_PAGE_POOL_STATS_, of which
// INFO nests what the pool is.
func decodePagePoolStats(body []byte) (p PagePoolStats, err error) {
	a := kernel.AttributesOf(body)
	for a.Next() {
		switch a.Type {
		case uapi.NETDEV_A_PAGE_POOL_STATS_INFO:
			info := a.Nested()
			for info.Next() {
				switch info.Type {
				case uapi.NETDEV_A_PAGE_POOL_ID:
					p.ID = info.Uint()
				case uapi.NETDEV_A_PAGE_POOL_IFINDEX:
					p.index = int(info.Uint32())
				}
			}
			a.Join(info)
		case uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_SLOW, uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_SLOW_HIGH_ORDER:
			p.Allocated += a.Uint()
		case uapi.NETDEV_A_PAGE_POOL_STATS_RECYCLE_CACHED, uapi.NETDEV_A_PAGE_POOL_STATS_RECYCLE_RING:
			p.Reused += a.Uint()
		}
	}
	return p, a.Err()
}
