package xdpcheck

import (
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

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
	f.Add([]byte(tunnelInfo()))
	f.Add([]byte("nr_free_pages 12\nMemFree: 48 kB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
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
