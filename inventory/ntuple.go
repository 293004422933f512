package inventory

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Ntuple are the receive flow rules of ethtool -n.
type Ntuple struct {
	// Capacity is how many rules the device takes; absent where it doesn't say.
	Capacity *int       `json:"capacity,omitempty"`
	Rules    []FlowRule `json:"rules,omitempty"`
}

// FlowRule is one receive flow rule.
type FlowRule struct {
	Location uint32 `json:"location"`
	// FlowType is ethtool's: "tcp4", "udp6", "ether".
	FlowType string `json:"flowType"`
	// Match are the fields compared, by ethtool's names ("src-ip", "dst-port",
	// "vlan"), as value, or value/mask where the mask isn't full.
	Match map[string]string `json:"match,omitempty"`
	// Action is "drop", or "queue" with Queue, on the VF number VF if not 0.
	Action  string  `json:"action"`
	Queue   *uint32 `json:"queue,omitempty"`
	VF      *uint32 `json:"vf,omitempty"`
	Context *uint32 `json:"context,omitempty"`
}

// maxRules bounds a list of rules: devices hold up to some 16,000.
const maxRules = 1 << 17

// readNtuple reads the receive flow rules.
func readNtuple(ctx context.Context, s *survey) {
	s.askEach("queues.ntuple", func(n *NIC) (err error) {
		n.Queues.Ntuple, err = ntuple(ctx, s, n.Name)
		return err
	})
}

// ntuple reads one device's rules: how many, where, and each. Rules come and go
// meanwhile: one that is gone when its turn comes is left out.
func ntuple(ctx context.Context, s *survey, device string) (*Ntuple, error) {
	list, capacity, err := ruleLocations(ctx, s, device)
	if err != nil {
		return nil, err
	}
	t := &Ntuple{}
	if capacity > 0 {
		t.Capacity = new(int(capacity))
	}
	for _, location := range list {
		request := rxnfc(uapi.ETHTOOL_GRXCLSRULE, 0)
		binary.NativeEndian.PutUint32(request[rxnfcSpec+specLocation:], location)
		answer, err := s.Ethtool(ctx, device, request)
		if kernel.ReasonOf(err) == kernel.Unsupported {
			continue // ENOENT: deleted since
		}
		if err != nil {
			return t, fmt.Errorf("rule %d: %w", location, err)
		}
		rule, err := decodeRule(device, answer)
		if err != nil {
			return t, fmt.Errorf("rule %d: %w", location, err)
		}
		t.Rules = append(t.Rules, rule)
	}
	return t, nil
}

// ruleLocations are where the rules are, and how many the device takes. The list
// fails when rules were added since they were counted: it is tried again.
func ruleLocations(ctx context.Context, s *survey, device string) (locations []uint32, capacity uint32, err error) {
	for range 3 {
		var answer []byte
		if answer, err = s.Ethtool(ctx, device, rxnfc(uapi.ETHTOOL_GRXCLSRLCNT, 0)); err != nil {
			return nil, 0, err
		}
		if len(answer) < rxnfcSize {
			return nil, 0, short("GRXCLSRLCNT", device, answer)
		}
		count := binary.NativeEndian.Uint32(answer[rxnfcCount:])
		if count > maxRules {
			return nil, 0, short("GRXCLSRLCNT", device, answer)
		}
		request := rxnfc(uapi.ETHTOOL_GRXCLSRLALL, int(count))
		binary.NativeEndian.PutUint32(request[rxnfcCount:], count)
		if answer, err = s.Ethtool(ctx, device, request); err == nil {
			return decodeLocations(device, answer)
		}
		if kernel.ReasonOf(err) != kernel.Failed || ctx.Err() != nil {
			break
		}
	}
	return nil, 0, err
}

// decodeLocations decodes the answer to ETHTOOL_GRXCLSRLALL: where rules are,
// and how many the device takes.
func decodeLocations(device string, b []byte) (locations []uint32, capacity uint32, err error) {
	if len(b) < rxnfcLocations {
		return nil, 0, short("GRXCLSRLALL", device, b)
	}
	count := binary.NativeEndian.Uint32(b[rxnfcCount:])
	if count > maxRules || len(b) < rxnfcLocations+4*int(count) {
		return nil, 0, short("GRXCLSRLALL", device, b)
	}
	for i := range int(count) {
		locations = append(locations, binary.NativeEndian.Uint32(b[rxnfcLocations+4*i:]))
	}
	// Some drivers mark with a bit that they choose locations themselves.
	return locations, uint32(binary.NativeEndian.Uint64(b[rxnfcData:])) &^ uapi.RX_CLS_LOC_SPECIAL, nil
}

// Offsets in struct ethtool_rx_flow_spec, and sizes of its parts.
const (
	specValue    = 4
	specMask     = 76
	specExtra    = 52 // struct ethtool_flow_ext behind each of the two
	specUnion    = specExtra + 20
	specCookie   = 152
	specLocation = 160
	specSize     = 168
)

// decodeRule decodes the answer to ETHTOOL_GRXCLSRULE.
func decodeRule(device string, b []byte) (FlowRule, error) {
	if len(b) < rxnfcLocations {
		return FlowRule{}, short("GRXCLSRULE", device, b)
	}
	spec := b[rxnfcSpec : rxnfcSpec+specSize]
	kind := binary.NativeEndian.Uint32(spec)
	number := kind &^ (uapi.FLOW_EXT | uapi.FLOW_MAC_EXT | uapi.FLOW_RSS)
	m := match{value: spec[specValue : specValue+specUnion], mask: spec[specMask : specMask+specUnion], fields: map[string]string{}}
	r := FlowRule{
		Location: binary.NativeEndian.Uint32(spec[specLocation:]),
		FlowType: m.flow(number),
	}
	if kind&uapi.FLOW_EXT != 0 {
		m.hex("vlan-etype", specExtra+8, 2)
		m.decimal("vlan", specExtra+10, 2)
		m.hex("user-def", specExtra+12, 8)
	}
	if kind&uapi.FLOW_MAC_EXT != 0 {
		m.mac("dst-mac", specExtra+2)
	}
	if len(m.fields) > 0 {
		r.Match = m.fields
	}
	if kind&uapi.FLOW_RSS != 0 {
		r.Context = new(binary.NativeEndian.Uint32(b[rxnfcCount:]))
	}
	switch cookie := binary.NativeEndian.Uint64(spec[specCookie:]); cookie {
	case 1<<64 - 1: // RX_CLS_FLOW_DISC
		r.Action = "drop"
	case 1<<64 - 2: // RX_CLS_FLOW_WAKE
		r.Action = "wake"
	default:
		r.Action = "queue"
		r.Queue = new(uint32(cookie & uapi.ETHTOOL_RX_FLOW_SPEC_RING))
		// The cookie counts VFs from 1: 0 is the function itself.
		if vf := uint32(cookie & uapi.ETHTOOL_RX_FLOW_SPEC_RING_VF >> uapi.ETHTOOL_RX_FLOW_SPEC_RING_VF_OFF); vf > 0 {
			r.VF = new(vf - 1)
		}
	}
	return r, nil
}

// match takes the fields of a rule from its values and masks: a bit set in the
// mask is compared, and a field with none is not part of the rule.
type match struct {
	value, mask []byte
	fields      map[string]string
}

// flow takes the fields of a union ethtool_flow_union and returns the flow
// type's name.
func (m match) flow(number uint32) string {
	switch number {
	case uapi.TCP_V4_FLOW, uapi.UDP_V4_FLOW, uapi.SCTP_V4_FLOW:
		m.ip("src-ip", 0, 4)
		m.ip("dst-ip", 4, 4)
		m.decimal("src-port", 8, 2)
		m.decimal("dst-port", 10, 2)
		m.hex("tos", 12, 1)
	case uapi.AH_V4_FLOW, uapi.ESP_V4_FLOW:
		m.ip("src-ip", 0, 4)
		m.ip("dst-ip", 4, 4)
		m.decimal("spi", 8, 4)
		m.hex("tos", 12, 1)
	case uapi.IPV4_USER_FLOW:
		m.ip("src-ip", 0, 4)
		m.ip("dst-ip", 4, 4)
		m.hex("l4data", 8, 4)
		m.hex("tos", 12, 1)
		m.decimal("l4proto", 14, 1)
		return "ip4"
	case uapi.TCP_V6_FLOW, uapi.UDP_V6_FLOW, uapi.SCTP_V6_FLOW:
		m.ip("src-ip", 0, 16)
		m.ip("dst-ip", 16, 16)
		m.decimal("src-port", 32, 2)
		m.decimal("dst-port", 34, 2)
		m.hex("tclass", 36, 1)
	case uapi.AH_V6_FLOW, uapi.ESP_V6_FLOW:
		m.ip("src-ip", 0, 16)
		m.ip("dst-ip", 16, 16)
		m.decimal("spi", 32, 4)
		m.hex("tclass", 36, 1)
	case uapi.IPV6_USER_FLOW:
		m.ip("src-ip", 0, 16)
		m.ip("dst-ip", 16, 16)
		m.hex("l4data", 32, 4)
		m.hex("tclass", 36, 1)
		m.decimal("l4proto", 37, 1)
		return "ip6"
	case uapi.ETHER_FLOW:
		m.mac("dst", 0)
		m.mac("src", 6)
		m.hex("proto", 12, 2)
	}
	for _, f := range flows() {
		if f.number == number {
			return f.name
		}
	}
	return fmt.Sprintf("%d", number)
}

// field adds a field, its value and its mask each printed in their way.
func (m match) field(name string, offset, size int, value, mask func([]byte) string) {
	var some, every byte = 0, 0xff
	for _, b := range m.mask[offset : offset+size] {
		some |= b
		every &= b
	}
	if some == 0 {
		return
	}
	m.fields[name] = value(m.value[offset : offset+size])
	if every != 0xff {
		m.fields[name] += "/" + mask(m.mask[offset:offset+size])
	}
}

func (m match) ip(name string, offset, size int) { m.field(name, offset, size, address, address) }

func (m match) mac(name string, offset int) { m.field(name, offset, 6, colonHex, colonHex) }

func (m match) decimal(name string, offset, size int) {
	m.field(name, offset, size, decimal, hexNumber)
}

func (m match) hex(name string, offset, size int) { m.field(name, offset, size, hexNumber, hexNumber) }

func address(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

// decimal and hexNumber print a number in network order.
func decimal(b []byte) string { return fmt.Sprint(bigEndian(b)) }

func hexNumber(b []byte) string { return fmt.Sprintf("%#x", bigEndian(b)) }

func bigEndian(b []byte) (v uint64) {
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}
