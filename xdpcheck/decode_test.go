package xdpcheck

import (
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

func poolStats() kernel.Body {
	return kernel.Body{}.
		Nested(uapi.NETDEV_A_PAGE_POOL_STATS_INFO, kernel.Body{}.Uint(uapi.NETDEV_A_PAGE_POOL_ID, 17)).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_FAST, 1000).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_SLOW, 64).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_SLOW_HIGH_ORDER, 2).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_RECYCLE_CACHED, 900).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_RECYCLE_RING, 30)
}

func TestDecodeRecycling(t *testing.T) {
	id, c, err := decodeRecycling(poolStats())
	if err != nil || id != 17 || c != (Recycling{Allocated: 66, Reused: 930}) {
		t.Errorf("%d, %+v, %v", id, c, err)
	}
	if _, _, err := decodeRecycling([]byte{9, 0, 1}); err == nil {
		t.Error("half an attribute is taken")
	}
}

func tunnelInfo() kernel.Body {
	table := kernel.Body{}.
		Uint32(uapi.ETHTOOL_A_TUNNEL_UDP_TABLE_SIZE, 16).
		Nested(uapi.ETHTOOL_A_TUNNEL_UDP_TABLE_TYPES, kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_VALUE, 3)).
		Nested(uapi.ETHTOOL_A_TUNNEL_UDP_TABLE_ENTRY, kernel.Body{}.Bytes(uapi.ETHTOOL_A_TUNNEL_UDP_ENTRY_PORT, []byte{0x12, 0xb5}).Uint32(uapi.ETHTOOL_A_TUNNEL_UDP_ENTRY_TYPE, 0))
	return kernel.Body{}.
		Nested(uapi.ETHTOOL_A_TUNNEL_INFO_HEADER, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, 5)).
		Nested(uapi.ETHTOOL_A_TUNNEL_INFO_UDP_PORTS, kernel.Body{}.Nested(uapi.ETHTOOL_A_TUNNEL_UDP_TABLE, table))
}

func TestDecodeTunnels(t *testing.T) {
	index, tables, err := decodeTunnels(tunnelInfo())
	want := []TunnelTable{{Types: []string{"vxlan", "geneve"}, Size: 16, Ports: []uint16{4789}}}
	if err != nil || index != 5 || !reflect.DeepEqual(tables, want) {
		t.Errorf("%d, %+v, %v", index, tables, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(poolStats()))
	f.Add([]byte(tunnelInfo()))
	f.Add([]byte("nr_free_pages 12\nMemFree: 48 kB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, _ = decodeRecycling(data)
		if _, tables, err := decodeTunnels(data); err == nil && len(tables) > len(data) {
			t.Errorf("%d tables in %d bytes", len(tables), len(data))
		}
		switch size := pageSize(data, data); size {
		case 0, 4096, 8192, 16384, 65536:
		default:
			t.Errorf("a page of %d bytes", size)
		}
		_, _ = ParseTable(data)
	})
}
