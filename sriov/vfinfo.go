package sriov

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Settings are one VF's settings in its PF, as ip link shows them. What a driver
// doesn't report is absent, except for rates and link state: there the kernel
// says 0 and "auto" for a driver that has no such thing.
type Settings struct {
	// MAC is the administrative address; all zeros when none was set and the
	// VF's user chooses.
	MAC string `json:"mac,omitempty"`
	// VLANs are those that the PF puts the VF in; empty for none. Only a port of
	// several tags has more than one.
	VLANs []VLANTag `json:"vlans,omitempty"`
	// The rates are in Mbit/s; 0 is no limit.
	MinTxRate *uint32 `json:"minTxRateMbps,omitempty"`
	MaxTxRate *uint32 `json:"maxTxRateMbps,omitempty"`
	// LinkState is "auto" (follows the PF's), "enable" or "disable".
	LinkState  string `json:"linkState,omitempty"`
	SpoofCheck *bool  `json:"spoofCheck,omitempty"`
	Trust      *bool  `json:"trust,omitempty"`
	// QueryRSS says whether the VF may ask for the RSS table and key.
	QueryRSS *bool `json:"queryRss,omitempty"`
	// The GUIDs are InfiniBand's, as eight bytes in hex with colons.
	NodeGUID string `json:"nodeGuid,omitempty"`
	PortGUID string `json:"portGuid,omitempty"`
}

// VLANTag is a tag that the PF puts on the frames of a VF.
type VLANTag struct {
	ID  int `json:"id"`
	QoS int `json:"qos"`
	// Protocol is "802.1Q" or "802.1ad".
	Protocol string `json:"protocol,omitempty"`
}

// Statistics are one VF's counters, from the VF's side, as its PF's driver counts
// them. A driver that doesn't count is said to have counted nothing: the kernel
// gives zeros for it, and nobody can tell them from true ones.
type Statistics struct {
	RxPackets uint64 `json:"rxPackets"`
	TxPackets uint64 `json:"txPackets"`
	RxBytes   uint64 `json:"rxBytes"`
	TxBytes   uint64 `json:"txBytes"`
	Broadcast uint64 `json:"broadcast"`
	Multicast uint64 `json:"multicast"`
	RxDropped uint64 `json:"rxDropped"`
	TxDropped uint64 `json:"txDropped"`
}

const (
	linkHeader      = 16 // struct ifinfomsg
	attributeHeader = 4  // struct nlattr
	attributeMask   = 0x3fff
)

// vfInfo is one IFLA_VF_INFO.
type vfInfo struct {
	index      int
	settings   Settings
	statistics *Statistics
}

// askVFs asks one PF for its VFs. The kernel holds RTNL while the driver asks its
// firmware about each; hence one PF at a time, and never in a dump.
//
// A kernel that refuses to build an attribute of more than 64 KiB (EMSGSIZE) is
// asked again without statistics, which are a third of it. Then the VFs come
// without them, and statisticsErr says why.
func askVFs(ctx context.Context, r kernel.Reader, ifindex int) (vfs []vfInfo, statisticsErr, err error) {
	ask := func(mask uint32) ([]vfInfo, error) {
		header := make([]byte, linkHeader)
		binary.NativeEndian.PutUint32(header[4:], uint32(ifindex))
		messages, err := r.Netlink(ctx, kernel.Request{
			Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK,
			Body: kernel.Body(header).Uint32(uapi.IFLA_EXT_MASK, mask),
		})
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if m.Command == uapi.RTM_NEWLINK {
				return decodeVFs(m.Body)
			}
		}
		return nil, fmt.Errorf("%w: no answer about network device %d", kernel.ErrMalformed, ifindex)
	}
	vfs, err = ask(uapi.RTEXT_FILTER_VF)
	if errors.Is(err, kernel.ErrTooLong) {
		statisticsErr = err
		vfs, err = ask(uapi.RTEXT_FILTER_VF | uapi.RTEXT_FILTER_SKIP_STATS)
	}
	return vfs, statisticsErr, err
}

// decodeVFs finds the VFs in an RTM_NEWLINK message.
//
// An attribute's length is 16 bits, and the kernel (7.2 is the latest looked at)
// puts all VFs into one attribute, IFLA_VFINFO_LIST, without a look at its
// length: from 222 VFs on it overflows, and says how long the list is modulo
// 65536. The VFs are all there nevertheless, one after the other, each with a
// length that is right. So the list is walked by its members, for as long as they
// are IFLA_VF_INFO, and the length serves to check where it ended. Nothing else in
// the message behind the list has that type (it is IFLA_ADDRESS outside, which
// comes before).
func decodeVFs(body []byte) ([]vfInfo, error) {
	if len(body) < linkHeader {
		return nil, fmt.Errorf("%w: %d bytes where an ifinfomsg is due", kernel.ErrMalformed, len(body))
	}
	rest := body[linkHeader:]
	for len(rest) > 0 {
		typ, length, err := attributeAt(rest)
		if err != nil {
			return nil, err
		}
		if typ == uapi.IFLA_VFINFO_LIST {
			return decodeVFList(rest, length)
		}
		if length > len(rest) {
			return nil, fmt.Errorf("%w: an attribute of length %d in %d bytes", kernel.ErrMalformed, length, len(rest))
		}
		rest = rest[min(aligned(length), len(rest)):]
	}
	return nil, nil // no VFs, or a driver that says nothing of them
}

// decodeVFList walks the list at the start of b, whose attribute says length.
func decodeVFList(b []byte, length int) ([]vfInfo, error) {
	var vfs []vfInfo
	end := attributeHeader
	for len(b)-end >= attributeHeader {
		typ, size, err := attributeAt(b[end:])
		if err != nil {
			return vfs, fmt.Errorf("VF list: %w", err)
		}
		if typ != uapi.IFLA_VF_INFO {
			break
		}
		if size > len(b)-end {
			return vfs, fmt.Errorf("VF list: %w: a VF of %d bytes in %d", kernel.ErrMalformed, size, len(b)-end)
		}
		vf, err := decodeVF(b[end+attributeHeader : end+size])
		if err != nil {
			return vfs, err
		}
		vfs = append(vfs, vf)
		end = min(end+aligned(size), len(b))
	}
	if end&0xffff != length&0xffff {
		return vfs, fmt.Errorf("VF list: %w: its members end at byte %d, it says %d", kernel.ErrMalformed, end, length)
	}
	return vfs, nil
}

// attributeAt reads the header of the attribute that b begins with.
func attributeAt(b []byte) (typ uint16, length int, err error) {
	if len(b) < attributeHeader {
		return 0, 0, fmt.Errorf("%w: %d bytes after the last attribute", kernel.ErrMalformed, len(b))
	}
	typ = binary.NativeEndian.Uint16(b[2:]) & attributeMask
	length = int(binary.NativeEndian.Uint16(b))
	if length < attributeHeader && typ != uapi.IFLA_VFINFO_LIST { // which may say anything, see decodeVFs
		return 0, 0, fmt.Errorf("%w: an attribute of length %d", kernel.ErrMalformed, length)
	}
	return typ, length, nil
}

func aligned(n int) int { return (n + 3) &^ 3 }

// decodeVF decodes the members of one IFLA_VF_INFO. Each begins with the VF's
// number (linux/if_link.h, struct ifla_vf_*).
func decodeVF(body []byte) (vfInfo, error) {
	vf := vfInfo{index: -1}
	s := &vf.settings
	a := kernel.AttributesOf(body)
	for a.Next() {
		var member vfMember
		switch a.Type {
		case uapi.IFLA_VF_STATS:
			stats := a.Nested()
			vf.statistics = decodeStatistics(stats)
			a.Join(stats)
			continue
		case uapi.IFLA_VF_VLAN_LIST:
			list := a.Nested()
			vlans, err := decodeVLANs(list)
			if err != nil {
				return vf, fmt.Errorf("VF %d: %w", vf.index, err)
			}
			if len(vlans) > 0 {
				s.VLANs = vlans
			}
			continue
		case uapi.IFLA_VF_BROADCAST: // the device's, without a number
			continue
		}
		number := a.Uint32()
		if a.Err() != nil {
			break
		}
		vf.index = int(number)
		member = vfMember{a.Data[4:], a}
		switch a.Type {
		case uapi.IFLA_VF_MAC:
			s.MAC = macOf(member.bytes)
		case uapi.IFLA_VF_VLAN:
			if id, qos := member.uint32(0), member.uint32(4); id != 0 || qos != 0 {
				if len(s.VLANs) == 0 { // the list says more
					s.VLANs = []VLANTag{{ID: int(id), QoS: int(qos)}}
				}
			}
		case uapi.IFLA_VF_TX_RATE:
			if s.MaxTxRate == nil { // IFLA_VF_RATE says more
				s.MaxTxRate = new(member.uint32(0))
			}
		case uapi.IFLA_VF_RATE:
			s.MinTxRate, s.MaxTxRate = new(member.uint32(0)), new(member.uint32(4))
		case uapi.IFLA_VF_SPOOFCHK:
			s.SpoofCheck = member.switched()
		case uapi.IFLA_VF_TRUST:
			s.Trust = member.switched()
		case uapi.IFLA_VF_RSS_QUERY_EN:
			s.QueryRSS = member.switched()
		case uapi.IFLA_VF_LINK_STATE:
			s.LinkState = linkState(member.uint32(0))
		case uapi.IFLA_VF_IB_NODE_GUID:
			s.NodeGUID = member.guid()
		case uapi.IFLA_VF_IB_PORT_GUID:
			s.PortGUID = member.guid()
		}
		if member.short() {
			return vf, fmt.Errorf("VF %d: %w: attribute %d has %d bytes", vf.index, kernel.ErrMalformed, a.Type, len(a.Data))
		}
	}
	if err := a.Err(); err != nil {
		return vf, fmt.Errorf("VF %d: %w", vf.index, err)
	}
	if vf.index < 0 {
		return vf, fmt.Errorf("%w: a VF without its number", kernel.ErrMalformed)
	}
	return vf, nil
}

// vfMember is a member of IFLA_VF_INFO behind its number.
type vfMember struct {
	bytes []byte
	of    *kernel.Attributes
}

// short reports whether a getter wanted more than there was.
func (m *vfMember) short() bool { return m.of == nil }

func (m *vfMember) uint32(at int) uint32 {
	if len(m.bytes) < at+4 {
		m.of = nil
		return 0
	}
	return binary.NativeEndian.Uint32(m.bytes[at:])
}

// switched is a setting that is on or off, or -1 where the driver doesn't say.
func (m *vfMember) switched() *bool {
	v := m.uint32(0)
	if m.short() || v == 1<<32-1 {
		return nil
	}
	return new(v != 0)
}

// guid is a u64, which has no place of its own in the struct on every machine:
// it comes last.
func (m *vfMember) guid() string {
	if len(m.bytes) < 8 {
		m.of = nil
		return ""
	}
	v := binary.NativeEndian.Uint64(m.bytes[len(m.bytes)-8:])
	return colonHex(binary.BigEndian.AppendUint64(nil, v))
}

// macOf takes the address out of the 32 bytes that a VF's address comes in: six,
// or the 20 of IP over InfiniBand where more are set.
func macOf(b []byte) string {
	const ethernet, infiniband = 6, 20
	if len(b) < ethernet {
		return ""
	}
	n := ethernet
	for i := ethernet; i < min(len(b), infiniband); i++ {
		if b[i] != 0 {
			n = min(len(b), infiniband)
			break
		}
	}
	return colonHex(b[:n])
}

func linkState(state uint32) string {
	switch state {
	case uapi.IFLA_VF_LINK_STATE_AUTO:
		return "auto"
	case uapi.IFLA_VF_LINK_STATE_ENABLE:
		return "enable"
	case uapi.IFLA_VF_LINK_STATE_DISABLE:
		return "disable"
	}
	return strconv.FormatUint(uint64(state), 10)
}

// The protocols of VLAN tags (linux/if_ether.h).
const (
	protocol8021Q  = 0x8100
	protocol8021AD = 0x88a8
)

// decodeVLANs decodes IFLA_VF_VLAN_LIST. One entry of VLAN 0 and QoS 0 is how the
// kernel says that there is none.
func decodeVLANs(a *kernel.Attributes) ([]VLANTag, error) {
	var vlans []VLANTag
	for a.Next() {
		if a.Type != uapi.IFLA_VF_VLAN_INFO {
			continue
		}
		const size = 14 // u32 vf, u32 vlan, u32 qos, be16 proto
		if len(a.Data) < size {
			return nil, fmt.Errorf("VLAN list: %w: a VLAN of %d bytes", kernel.ErrMalformed, len(a.Data))
		}
		v := VLANTag{ID: int(binary.NativeEndian.Uint32(a.Data[4:])), QoS: int(binary.NativeEndian.Uint32(a.Data[8:]))}
		switch protocol := binary.BigEndian.Uint16(a.Data[12:]); protocol {
		case protocol8021Q:
			v.Protocol = "802.1Q"
		case protocol8021AD:
			v.Protocol = "802.1ad"
		default:
			v.Protocol = fmt.Sprintf("0x%04x", protocol)
		}
		if v.ID != 0 || v.QoS != 0 {
			vlans = append(vlans, v)
		}
	}
	return vlans, a.Err()
}

// decodeStatistics decodes IFLA_VF_STATS.
func decodeStatistics(a *kernel.Attributes) *Statistics {
	var s Statistics
	for a.Next() {
		var counter *uint64
		switch a.Type {
		case uapi.IFLA_VF_STATS_RX_PACKETS:
			counter = &s.RxPackets
		case uapi.IFLA_VF_STATS_TX_PACKETS:
			counter = &s.TxPackets
		case uapi.IFLA_VF_STATS_RX_BYTES:
			counter = &s.RxBytes
		case uapi.IFLA_VF_STATS_TX_BYTES:
			counter = &s.TxBytes
		case uapi.IFLA_VF_STATS_BROADCAST:
			counter = &s.Broadcast
		case uapi.IFLA_VF_STATS_MULTICAST:
			counter = &s.Multicast
		case uapi.IFLA_VF_STATS_RX_DROPPED:
			counter = &s.RxDropped
		case uapi.IFLA_VF_STATS_TX_DROPPED:
			counter = &s.TxDropped
		default: // padding
			continue
		}
		*counter = a.Uint64()
	}
	return &s
}

// colonHex prints bytes as "52:54:00:12:34:56".
func colonHex(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 3*len(b))
	for i, c := range b {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}
