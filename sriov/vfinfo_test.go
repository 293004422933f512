package sriov

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// u32s is a run of numbers in the host's order, as the kernel's structs are.
func u32s(numbers ...uint32) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b
}

func u64(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }

// unsaid is what the kernel writes for a setting that the driver doesn't know.
const unsaid = 1<<32 - 1

// vfBody is one IFLA_VF_INFO as rtnl_fill_vfinfo (net/core/rtnetlink.c) writes it.
func vfBody(n uint32, mac []byte, vlan VLANTag, protocol uint16, switches uint32, statistics []uint64) kernel.Body {
	vlanInfo := append(u32s(n, uint32(vlan.ID), uint32(vlan.QoS)), byte(protocol>>8), byte(protocol), 0, 0)
	b := kernel.Body{}.
		Bytes(uapi.IFLA_VF_MAC, append(u32s(n), append(bytes.Clone(mac), make([]byte, 32-len(mac))...)...)).
		Bytes(uapi.IFLA_VF_BROADCAST, bytes.Repeat([]byte{0xff}, 32)).
		Bytes(uapi.IFLA_VF_VLAN, u32s(n, uint32(vlan.ID), uint32(vlan.QoS))).
		Bytes(uapi.IFLA_VF_RATE, u32s(n, 10, 100+n)).
		Bytes(uapi.IFLA_VF_TX_RATE, u32s(n, 100+n)).
		Bytes(uapi.IFLA_VF_SPOOFCHK, u32s(n, switches)).
		Bytes(uapi.IFLA_VF_LINK_STATE, u32s(n, n%3)).
		Bytes(uapi.IFLA_VF_RSS_QUERY_EN, u32s(n, switches)).
		Bytes(uapi.IFLA_VF_TRUST, u32s(n, switches)).
		Bytes(uapi.IFLA_VF_VLAN_LIST, kernel.Body{}.Bytes(uapi.IFLA_VF_VLAN_INFO, vlanInfo))
	if statistics != nil {
		stats := kernel.Body{}
		for i, v := range statistics {
			stats = stats.Bytes(uapi.IFLA_VF_STATS_PAD, nil).Bytes([]uint16{
				uapi.IFLA_VF_STATS_RX_PACKETS, uapi.IFLA_VF_STATS_TX_PACKETS, uapi.IFLA_VF_STATS_RX_BYTES, uapi.IFLA_VF_STATS_TX_BYTES,
				uapi.IFLA_VF_STATS_BROADCAST, uapi.IFLA_VF_STATS_MULTICAST, uapi.IFLA_VF_STATS_RX_DROPPED, uapi.IFLA_VF_STATS_TX_DROPPED,
			}[i], u64(v))
		}
		b = b.Bytes(uapi.IFLA_VF_STATS, stats)
	}
	return b
}

// linkBody is an RTM_NEWLINK message with this list of VFs, its attribute's length
// cut to 16 bits as the kernel does.
func linkBody(list kernel.Body) []byte {
	b := kernel.Body(make([]byte, linkHeader)).
		Bytes(uapi.IFLA_ADDRESS, []byte{2, 0, 0, 0, 0, 1}).String(uapi.IFLA_IFNAME, "eth0").Uint32(uapi.IFLA_NUM_VF, 0)
	b = binary.NativeEndian.AppendUint16(b, uint16(attributeHeader+len(list)))
	b = binary.NativeEndian.AppendUint16(b, uapi.IFLA_VFINFO_LIST)
	b = append(b, list...)
	// What follows the list in the kernel's message.
	return b.Nested(uapi.IFLA_LINKINFO, kernel.Body{}.String(uapi.IFLA_INFO_KIND, "x")).Uint32(uapi.IFLA_GROUP, 0)
}

func vfMAC(n uint32) []byte { return []byte{0x52, 0x54, 0, 1, byte(n >> 8), byte(n)} }

func manyVFs(count uint32, statistics []uint64) kernel.Body {
	var list kernel.Body
	for n := range count {
		list = list.Bytes(uapi.IFLA_VF_INFO, vfBody(n, vfMAC(n), VLANTag{ID: int(n % 4095)}, 0x8100, n%2, statistics))
	}
	return list
}

func TestDecodeVF(t *testing.T) {
	counters := []uint64{1, 2, 3, 4, 5, 6, 7, 1 << 40}
	list := kernel.Body{}.
		Bytes(uapi.IFLA_VF_INFO, vfBody(0, vfMAC(0), VLANTag{}, 0x8100, unsaid, nil)).
		Bytes(uapi.IFLA_VF_INFO, vfBody(1, vfMAC(1), VLANTag{ID: 100, QoS: 3}, 0x88a8, 1, counters)).
		Bytes(uapi.IFLA_VF_INFO, kernel.Body{}.
			Bytes(uapi.IFLA_VF_MAC, append(u32s(2), bytes.Repeat([]byte{0xab}, 20)...)).
			Bytes(uapi.IFLA_VF_VLAN, u32s(2, 7, 1)).
			Bytes(uapi.IFLA_VF_TX_RATE, u32s(2, 50)).
			Bytes(uapi.IFLA_VF_IB_NODE_GUID, append(u32s(2, 0), u64(0x0011223344556677)...)).
			Bytes(uapi.IFLA_VF_IB_PORT_GUID, append(u32s(2, 0), u64(0x8899aabbccddeeff)...)).
			Bytes(77, u32s(2, 1))) // of a newer kernel
	got, err := decodeVFs(linkBody(list))
	if err != nil {
		t.Fatal(err)
	}
	want := []vfInfo{
		{index: 0, settings: Settings{MAC: "52:54:00:01:00:00", MinTxRate: new(uint32(10)), MaxTxRate: new(uint32(100)), LinkState: "auto"}},
		{
			index: 1,
			settings: Settings{
				MAC: "52:54:00:01:00:01", VLANs: []VLANTag{{100, 3, "802.1ad"}}, MinTxRate: new(uint32(10)), MaxTxRate: new(uint32(101)),
				LinkState: "enable", SpoofCheck: new(true), Trust: new(true), QueryRSS: new(true),
			},
			statistics: &Statistics{1, 2, 3, 4, 5, 6, 7, 1 << 40},
		},
		// An old kernel's: no list of VLANs, one rate; and InfiniBand.
		{index: 2, settings: Settings{
			MAC: strings.TrimSuffix(strings.Repeat("ab:", 20), ":"), VLANs: []VLANTag{{ID: 7, QoS: 1}}, MaxTxRate: new(uint32(50)),
			NodeGUID: "00:11:22:33:44:55:66:77", PortGUID: "88:99:aa:bb:cc:dd:ee:ff",
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
}

// TestManyVFs has lists longer than an attribute's length can say: of any number
// of VFs all are found, also where the cut length falls between two of them.
func TestManyVFs(t *testing.T) {
	counters := make([]uint64, 8)
	for count := uint32(0); count <= 700; count++ {
		list := manyVFs(count, counters)
		got, err := decodeVFs(linkBody(list))
		if err != nil || len(got) != int(count) {
			t.Fatalf("%d VFs: %d found, %v", count, len(got), err)
		}
		for n, vf := range got {
			if vf.index != n || vf.settings.MAC != colonHex(vfMAC(uint32(n))) {
				t.Fatalf("%d VFs: VF %d is %+v", count, n, vf)
			}
		}
	}
	// The size of 256 VFs that a device can have at most is past the limit.
	if size := len(manyVFs(256, counters)); size <= 1<<16 {
		t.Errorf("256 VFs take %d bytes only: this test shows nothing", size)
	}
	// A VF of exactly 2048 bytes: the cut length always falls between two.
	var list kernel.Body
	padded := vfBody(0, vfMAC(0), VLANTag{}, 0x8100, 0, counters)
	padded = padded.Bytes(77, make([]byte, 2048-attributeHeader-len(padded)-attributeHeader))
	for range 40 {
		list = list.Bytes(uapi.IFLA_VF_INFO, padded)
	}
	if got, err := decodeVFs(linkBody(list)); err != nil || len(got) != 40 {
		t.Errorf("%d of 40, %v", len(got), err)
	}
}

func TestDecodeVFsRefuses(t *testing.T) {
	whole := linkBody(manyVFs(3, make([]uint64, 8)))
	at := bytes.Index(whole, binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, uint16(attributeHeader+len(manyVFs(3, make([]uint64, 8))))), uapi.IFLA_VFINFO_LIST))
	shifted := bytes.Clone(whole)
	binary.NativeEndian.PutUint16(shifted[at:], binary.NativeEndian.Uint16(shifted[at:])+8)
	for name, body := range map[string][]byte{
		"a short header":      make([]byte, 8),
		"a length that lies":  shifted,
		"a cut list":          whole[:at+100],
		"a VF without number": linkBody(kernel.Body{}.Bytes(uapi.IFLA_VF_INFO, nil)),
		"a short VLAN":        linkBody(kernel.Body{}.Bytes(uapi.IFLA_VF_INFO, kernel.Body{}.Bytes(uapi.IFLA_VF_TRUST, u32s(0, 1)).Bytes(uapi.IFLA_VF_VLAN_LIST, kernel.Body{}.Bytes(uapi.IFLA_VF_VLAN_INFO, u32s(0, 1))))),
		"a short rate":        linkBody(kernel.Body{}.Bytes(uapi.IFLA_VF_INFO, kernel.Body{}.Bytes(uapi.IFLA_VF_RATE, u32s(0, 1)))),
		"a short counter":     linkBody(kernel.Body{}.Bytes(uapi.IFLA_VF_INFO, kernel.Body{}.Bytes(uapi.IFLA_VF_TRUST, u32s(0, 1)).Bytes(uapi.IFLA_VF_STATS, kernel.Body{}.Bytes(uapi.IFLA_VF_STATS_RX_BYTES, u32s(1))))),
	} {
		if got, err := decodeVFs(body); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := decodeVFs(make([]byte, linkHeader)); err != nil || got != nil {
		t.Errorf("a driver that says nothing: %v, %v", got, err)
	}
}

// linkHost answers RTM_GETLINK as a kernel that doesn't let attributes overflow.
type linkHost struct {
	kernel.Reader
	masks []uint32
}

func (h *linkHost) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	a := kernel.AttributesAfter(req.Body, linkHeader)
	for a.Next() {
		if a.Type == uapi.IFLA_EXT_MASK {
			h.masks = append(h.masks, a.Uint32())
		}
	}
	var counters []uint64
	if h.masks[len(h.masks)-1]&uapi.RTEXT_FILTER_SKIP_STATS == 0 {
		counters = make([]uint64, 8)
	}
	body := linkBody(manyVFs(256, counters))
	if len(body) > 1<<16 {
		return nil, &kernel.Error{Op: "route LINK_GET", Err: syscall.EMSGSIZE}
	}
	return []kernel.Message{{Command: uapi.RTM_NEWLINK, Body: body}}, nil
}

func TestAskVFsWithoutStatistics(t *testing.T) {
	h := &linkHost{}
	vfs, statisticsErr, err := askVFs(t.Context(), h, 2)
	if err != nil || len(vfs) != 256 || vfs[255].index != 255 || vfs[255].statistics != nil || !errors.Is(statisticsErr, syscall.EMSGSIZE) {
		t.Errorf("%d VFs, %v, %v", len(vfs), statisticsErr, err)
	}
	if want := []uint32{uapi.RTEXT_FILTER_VF, uapi.RTEXT_FILTER_VF | uapi.RTEXT_FILTER_SKIP_STATS}; !reflect.DeepEqual(h.masks, want) {
		t.Errorf("asked with masks %v, want %v", h.masks, want)
	}
}

func FuzzDecodeVFs(f *testing.F) {
	f.Add(linkBody(manyVFs(2, make([]uint64, 8))))
	f.Add(linkBody(manyVFs(230, make([]uint64, 8))))
	f.Add(linkBody(kernel.Body{}.Bytes(uapi.IFLA_VF_INFO, kernel.Body{}.
		Bytes(uapi.IFLA_VF_IB_NODE_GUID, append(u32s(2, 0), u64(7)...)).Bytes(uapi.IFLA_VF_VLAN, u32s(2, 7, 1)))))
	f.Fuzz(func(t *testing.T, body []byte) {
		vfs, err := decodeVFs(body)
		if err == nil && len(vfs)*(attributeHeader+8) > len(body) {
			t.Errorf("%d VFs in %d bytes", len(vfs), len(body))
		}
		for _, vf := range vfs {
			if vf.index < 0 {
				t.Error(fmt.Sprint(vf))
			}
		}
		_, _ = decodeLink(body)
	})
}
