package inventory

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// AnyLocation leaves a rule's place to a driver that chooses places.
const AnyLocation = uapi.RX_CLS_LOC_ANY

// ParseFlowRule reads a rule in the words of ethtool -N:
//
//	flow-type udp4 src-ip 10.0.0.0 m 0.255.255.255 dst-port 53 queue 4 loc 7
//
// The bits that are set in a mask behind "m" are not compared. A mask can also
// follow a slash, and then its bits are: "10.0.0.0/255.0.0.0", "0x800/0xff00",
// or as the number of leading bits of an address "10.0.0.0/8". A value must be
// zero where it is not compared. Without "loc" the location is [AnyLocation].
func ParseFlowRule(words []string) (FlowRule, error) {
	if len(words) < 2 || words[0] != "flow-type" {
		return FlowRule{}, errors.New("a rule begins with its flow-type")
	}
	p := ruleParser{words: words[2:], flow: words[1], seen: map[string]bool{}}
	spec := ruleSpec{location: AnyLocation}
	var err error
	if spec.kind, err = ruleFlow(p.flow); err != nil {
		return FlowRule{}, err
	}
	for len(p.words) > 0 {
		if err := p.next(&spec); err != nil {
			return FlowRule{}, err
		}
	}
	if spec.cookie, err = p.cookie(); err != nil {
		return FlowRule{}, err
	}
	return spec.rule(), nil
}

// FlowFields are the fields that rules of a flow type can compare, by ethtool's
// names. There are none for a type that ethtool -N doesn't have.
func FlowFields(flowType string) []string {
	kind, err := ruleFlow(flowType)
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range ruleFields(kind) {
		names = append(names, f.name)
	}
	return names
}

// Selector says in the words of ethtool -N which packets the rule is for. Rules
// with the same selector are for the same packets.
func (r FlowRule) Selector() string {
	var b strings.Builder
	b.WriteString("flow-type " + r.FlowType)
	kind, err := ruleFlow(r.FlowType)
	if err == nil {
		for _, f := range ruleFields(kind) {
			value, mask, masked := strings.Cut(r.Match[f.name], "/")
			if value == "" {
				continue
			}
			b.WriteString(" " + f.name + " " + value)
			if masked {
				bits := make([]byte, f.size)
				if f.form.read(mask, bits) != nil {
					err = errUnsaid
					continue
				}
				for i := range bits {
					bits[i] ^= 0xff
				}
				b.WriteString(" m " + f.form.showMask(bits))
			}
		}
	}
	if r.partial || err != nil {
		b.WriteString(" (and more, which ethtool -N has no words for)")
	}
	return b.String()
}

// Target says in the words of ethtool -N where the packets go: "queue 4".
func (r FlowRule) Target() string {
	switch r.Action {
	case "drop":
		return "action -1"
	case "wake":
		return "action -2"
	}
	var words []string
	if r.Context != nil {
		words = append(words, fmt.Sprint("context ", *r.Context))
	}
	if r.VF != nil {
		words = append(words, fmt.Sprint("vf ", *r.VF))
	}
	if r.Queue != nil && (*r.Queue != 0 || r.Context == nil) {
		words = append(words, fmt.Sprint("queue ", *r.Queue))
	}
	return strings.Join(words, " ")
}

// String is the rule in the words of ethtool -N, without its location, as
// [ParseFlowRule] reads it.
func (r FlowRule) String() string { return r.Selector() + " " + r.Target() }

// Insertion is the ETHTOOL_SRXCLSRLINS that puts the rule at its location.
func (r FlowRule) Insertion() ([]byte, error) {
	spec, err := r.spec()
	if err != nil {
		return nil, err
	}
	return spec.bytes(uapi.ETHTOOL_SRXCLSRLINS), nil
}

// FlowRuleDeletion is the ETHTOOL_SRXCLSRLDEL of the rule at a location.
func FlowRuleDeletion(location uint32) []byte {
	return (&ruleSpec{location: location}).bytes(uapi.ETHTOOL_SRXCLSRLDEL)
}

var errUnsaid = errors.New("ethtool -N has no words for all of this rule")

// spec is the rule as the kernel takes it.
func (r FlowRule) spec() (*ruleSpec, error) {
	if r.partial {
		return nil, errUnsaid
	}
	words := []string{"flow-type", r.FlowType}
	for name, value := range r.Match {
		words = append(words, name, value)
	}
	words = append(words, strings.Fields(r.Target())...)
	s := &ruleSpec{location: r.Location}
	var err error
	if s.kind, err = ruleFlow(r.FlowType); err != nil {
		return nil, err
	}
	p := ruleParser{words: words[2:], flow: r.FlowType, seen: map[string]bool{}}
	for len(p.words) > 0 {
		if err := p.next(s); err != nil {
			return nil, err
		}
	}
	s.cookie, err = p.cookie()
	return s, err
}

// ruleParser goes through the words behind a flow type.
type ruleParser struct {
	words []string
	flow  string
	seen  map[string]bool
	// action is a cookie; queue and vf are the parts of one.
	action, queue, vf uint64
}

// next takes one option and its values.
func (p *ruleParser) next(s *ruleSpec) error {
	name := p.words[0]
	if p.seen[name] {
		return fmt.Errorf("%s is there twice", name)
	}
	p.seen[name] = true
	if len(p.words) < 2 {
		return fmt.Errorf("%s has no value", name)
	}
	value := p.words[1]
	p.words = p.words[2:]
	var err error
	switch name {
	case "action":
		switch value {
		case "-1", "drop":
			p.action = flowDrop
		case "-2", "wake":
			p.action = flowWake
		default:
			if p.action, err = readNumber(value, 32); err != nil {
				err = errors.New("it takes the number of a queue, or -1 to drop")
			}
		}
	case "queue":
		p.queue, err = readNumber(value, 32)
	case "vf":
		// One VF less than 8 bits hold: they count from 1.
		if p.vf, err = readNumber(value, 8); err == nil && p.vf == 0xff {
			err = errors.New("it is 254 at most")
		}
	case "context":
		var n uint64
		if n, err = readNumber(value, 32); err == nil && n == 0xffffffff {
			err = errors.New("there is no such context")
		}
		s.kind, s.context = s.kind|uapi.FLOW_RSS, uint32(n)
	case "loc":
		var n uint64
		if n, err = readNumber(value, 32); err == nil && n&uapi.RX_CLS_LOC_SPECIAL != 0 {
			err = errors.New("there is no such location")
		}
		s.location = uint32(n)
	default:
		return p.field(s, name, value)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", name, value, err)
	}
	return nil
}

// field takes what is compared, with its mask.
func (p *ruleParser) field(s *ruleSpec, name, value string) error {
	fields := append(ruleFields(s.kind), ruleParts(s.kind)...)
	i := slices.IndexFunc(fields, func(f ruleField) bool { return f.name == name })
	if i < 0 {
		return fmt.Errorf("%s has no %q: it has %s", p.flow, name, strings.Join(FlowFields(p.flow), ", "))
	}
	f := fields[i]
	text := name + " " + value
	value, mask, masked := strings.Cut(value, "/")
	ignored := false
	if len(p.words) > 1 && p.words[0] == "m" {
		if masked {
			return fmt.Errorf("%s: one mask is enough", text)
		}
		masked, ignored, mask = true, true, p.words[1]
		text += " m " + mask
		p.words = p.words[2:]
	}
	to, bits := make([]byte, f.size), slices.Repeat([]byte{0xff}, f.size)
	if err := f.form.read(value, to); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	if masked {
		read := f.form.read
		if !ignored {
			read = f.form.readMask
		}
		if err := read(mask, bits); err != nil {
			return fmt.Errorf("%s: mask: %w", text, err)
		}
	}
	for i := range bits {
		if ignored {
			bits[i] ^= 0xff
		}
		if to[i]&^bits[i] != 0 {
			return fmt.Errorf("%s: it has bits that its mask leaves out", text)
		}
		if s.mask[f.offset+i] != 0 {
			return fmt.Errorf("%s: another option is about the same bytes", text)
		}
	}
	if !slices.ContainsFunc(bits, func(b byte) bool { return b != 0 }) {
		return fmt.Errorf("%s: its mask leaves nothing to compare: leave it out", text)
	}
	copy(s.value[f.offset:], to)
	copy(s.mask[f.offset:], bits)
	s.kind |= f.flag
	return nil
}

// What a ring cookie means besides a queue.
const (
	flowDrop = 1<<64 - 1 // RX_CLS_FLOW_DISC
	flowWake = 1<<64 - 2 // RX_CLS_FLOW_WAKE
)

// cookie is where the packets go.
func (p *ruleParser) cookie() (uint64, error) {
	switch {
	case p.seen["action"] && (p.seen["queue"] || p.seen["vf"]):
		return 0, errors.New("action says all: leave queue and vf out")
	case p.seen["action"] && p.seen["context"] && p.action >= flowWake:
		return 0, errors.New("a context does not drop: leave one of context and action out")
	case p.seen["action"]:
		return p.action, nil
	case p.seen["vf"]:
		return p.queue | (p.vf+1)<<uapi.ETHTOOL_RX_FLOW_SPEC_RING_VF_OFF, nil
	case p.seen["queue"], p.seen["context"]:
		return p.queue, nil
	}
	return 0, errors.New("it does not say where packets go: queue, context, vf, or action -1 to drop")
}

// ruleSpec is struct ethtool_rx_flow_spec, with the context that stands behind
// it in struct ethtool_rxnfc.
type ruleSpec struct {
	kind uint32 // *_FLOW with FLOW_EXT, FLOW_MAC_EXT and FLOW_RSS
	// A bit set in mask is compared with that in value: first of a union
	// ethtool_flow_union, then of a struct ethtool_flow_ext.
	value, mask       [specUnion]byte
	cookie            uint64
	location, context uint32
}

// Offsets in struct ethtool_rx_flow_spec, and sizes of its parts.
const (
	specValue    = 4
	specMask     = 76
	specExtra    = 52 // struct ethtool_flow_ext behind each of the two
	specUnion    = specExtra + 20
	specLocation = specCookie + 8

	extraMAC  = specExtra + 2
	extraVLAN = specExtra + 8
)

const specFlags = uapi.FLOW_EXT | uapi.FLOW_MAC_EXT | uapi.FLOW_RSS

// bytes is the spec in the struct ethtool_rxnfc of a command.
func (s *ruleSpec) bytes(command uint32) []byte {
	b := rxnfc(command, 0)
	spec := b[rxnfcSpec:]
	binary.NativeEndian.PutUint32(spec, s.kind)
	copy(spec[specValue:], s.value[:])
	copy(spec[specMask:], s.mask[:])
	if s.kind&^specFlags == uapi.IPV4_USER_FLOW {
		spec[specValue+usrIPVersion] = 1 // ETH_RX_NFC_IP4
	}
	binary.NativeEndian.PutUint64(spec[specCookie:], s.cookie)
	binary.NativeEndian.PutUint32(spec[specLocation:], s.location)
	binary.NativeEndian.PutUint32(b[rxnfcCount:], s.context)
	return b
}

// usrIPVersion is the offset of ip_ver in struct ethtool_usrip4_spec.
const usrIPVersion = 13

// decodeRule decodes the answer to ETHTOOL_GRXCLSRULE.
func decodeRule(device string, b []byte) (FlowRule, error) {
	if len(b) < rxnfcLocations {
		return FlowRule{}, short("GRXCLSRULE", device, b)
	}
	spec := b[rxnfcSpec : rxnfcSpec+specSize]
	s := ruleSpec{
		kind:     binary.NativeEndian.Uint32(spec),
		value:    [specUnion]byte(spec[specValue:]),
		mask:     [specUnion]byte(spec[specMask:]),
		cookie:   binary.NativeEndian.Uint64(spec[specCookie:]),
		location: binary.NativeEndian.Uint32(spec[specLocation:]),
		context:  binary.NativeEndian.Uint32(b[rxnfcCount:]),
	}
	s.tidy()
	return s.rule(), nil
}

// tidy clears what is not compared.
func (s *ruleSpec) tidy() {
	if s.kind&uapi.FLOW_EXT == 0 {
		clear(s.mask[specExtra:extraMAC])
		clear(s.mask[extraVLAN:])
	}
	if s.kind&uapi.FLOW_MAC_EXT == 0 {
		clear(s.mask[extraMAC:extraVLAN])
	}
	for i, bits := range s.mask {
		s.value[i] &= bits
	}
}

// rule names what the spec says.
func (s *ruleSpec) rule() FlowRule {
	number := s.kind &^ specFlags
	r := FlowRule{Location: s.location, FlowType: ruleFlowName(number)}
	rest := s.mask // what no field names
	for _, f := range ruleFields(number) {
		value, mask := s.value[f.offset:][:f.size], rest[f.offset:][:f.size]
		if text := f.form.text(value, mask); text != "" {
			if r.Match == nil {
				r.Match = map[string]string{}
			}
			r.Match[f.name] = text
		}
		clear(mask)
	}
	r.partial = rest != [specUnion]byte{}
	if s.kind&uapi.FLOW_RSS != 0 {
		r.Context = new(s.context)
	}
	switch s.cookie {
	case flowDrop:
		r.Action = "drop"
	case flowWake:
		r.Action = "wake"
	default:
		r.Action = "queue"
		r.Queue = new(uint32(s.cookie & uapi.ETHTOOL_RX_FLOW_SPEC_RING))
		// The cookie counts VFs from 1: 0 is the function itself.
		if vf := uint32(s.cookie & uapi.ETHTOOL_RX_FLOW_SPEC_RING_VF >> uapi.ETHTOOL_RX_FLOW_SPEC_RING_VF_OFF); vf > 0 {
			r.VF = new(vf - 1)
		}
		r.partial = r.partial || s.cookie>>(uapi.ETHTOOL_RX_FLOW_SPEC_RING_VF_OFF+8) != 0
	}
	return r
}

// FlowTypes are the flow types that ethtool -N has rules for.
func FlowTypes() []string {
	return []string{"ether", "ip4", "tcp4", "udp4", "sctp4", "ah4", "esp4", "ip6", "tcp6", "udp6", "sctp6", "ah6", "esp6"}
}

// ruleFlow is the number of a flow type. Any IP packet is another flow for rules
// than for hashing.
func ruleFlow(name string) (uint32, error) {
	switch name {
	case "ip4":
		return uapi.IPV4_USER_FLOW, nil
	case "ip6":
		return uapi.IPV6_USER_FLOW, nil
	}
	if slices.Contains(FlowTypes(), name) {
		for _, f := range flows() {
			if f.name == name {
				return f.number, nil
			}
		}
	}
	return 0, fmt.Errorf("there are no rules for the flow-type %q: it is one of %s", name, strings.Join(FlowTypes(), ", "))
}

func ruleFlowName(number uint32) string {
	switch number {
	case uapi.IPV4_USER_FLOW:
		return "ip4"
	case uapi.IPV6_USER_FLOW:
		return "ip6"
	}
	for _, f := range flows() {
		if f.number == number {
			return f.name
		}
	}
	return fmt.Sprint(number)
}

// A ruleField is what a rule can compare: a number or address of the packet, in
// network order, at an offset of union ethtool_flow_union.
type ruleField struct {
	name         string
	offset, size int
	form         fieldForm
	flag         uint32 // that the flow type needs for it
}

// ruleFields are the fields of a flow type, each byte in one of them.
func ruleFields(kind uint32) []ruleField {
	var fields []ruleField
	switch kind &^ specFlags {
	case uapi.TCP_V4_FLOW, uapi.UDP_V4_FLOW, uapi.SCTP_V4_FLOW:
		fields = []ruleField{
			{"src-ip", 0, 4, formAddress, 0},
			{"dst-ip", 4, 4, formAddress, 0},
			{"tos", 12, 1, formHex, 0},
			{"src-port", 8, 2, formDecimal, 0},
			{"dst-port", 10, 2, formDecimal, 0},
		}
	case uapi.AH_V4_FLOW, uapi.ESP_V4_FLOW:
		fields = []ruleField{
			{"src-ip", 0, 4, formAddress, 0},
			{"dst-ip", 4, 4, formAddress, 0},
			{"tos", 12, 1, formHex, 0},
			{"spi", 8, 4, formDecimal, 0},
		}
	case uapi.IPV4_USER_FLOW:
		fields = []ruleField{
			{"src-ip", 0, 4, formAddress, 0},
			{"dst-ip", 4, 4, formAddress, 0},
			{"tos", 12, 1, formHex, 0},
			{"l4proto", 14, 1, formDecimal, 0},
			{"l4data", 8, 4, formHex, 0},
		}
	case uapi.TCP_V6_FLOW, uapi.UDP_V6_FLOW, uapi.SCTP_V6_FLOW:
		fields = []ruleField{
			{"src-ip", 0, 16, formAddress, 0},
			{"dst-ip", 16, 16, formAddress, 0},
			{"tclass", 36, 1, formHex, 0},
			{"src-port", 32, 2, formDecimal, 0},
			{"dst-port", 34, 2, formDecimal, 0},
		}
	case uapi.AH_V6_FLOW, uapi.ESP_V6_FLOW:
		fields = []ruleField{
			{"src-ip", 0, 16, formAddress, 0},
			{"dst-ip", 16, 16, formAddress, 0},
			{"tclass", 36, 1, formHex, 0},
			{"spi", 32, 4, formDecimal, 0},
		}
	case uapi.IPV6_USER_FLOW:
		fields = []ruleField{
			{"src-ip", 0, 16, formAddress, 0},
			{"dst-ip", 16, 16, formAddress, 0},
			{"tclass", 36, 1, formHex, 0},
			{"l4proto", 37, 1, formDecimal, 0},
			{"l4data", 32, 4, formHex, 0},
		}
	case uapi.ETHER_FLOW:
		fields = []ruleField{
			{"src", 6, 6, formMAC, 0},
			{"dst", 0, 6, formMAC, 0},
			{"proto", 12, 2, formHex, 0},
		}
	}
	fields = append(fields,
		ruleField{"vlan-etype", specExtra + 8, 2, formHex, uapi.FLOW_EXT},
		ruleField{"vlan", specExtra + 10, 2, formDecimal, uapi.FLOW_EXT},
		ruleField{"user-def", specExtra + 12, 8, formHex, uapi.FLOW_EXT},
	)
	if kind&^specFlags != uapi.ETHER_FLOW { // whose dst it is
		fields = append(fields, ruleField{"dst-mac", extraMAC, 6, formMAC, uapi.FLOW_MAC_EXT})
	}
	return fields
}

// ruleParts are further names for the first bytes behind an IP header, l4data.
func ruleParts(kind uint32) []ruleField {
	var data int
	switch kind &^ specFlags {
	case uapi.IPV4_USER_FLOW:
		data = 8
	case uapi.IPV6_USER_FLOW:
		data = 32
	default:
		return nil
	}
	return []ruleField{
		{"spi", data, 4, formDecimal, 0},
		{"src-port", data, 2, formDecimal, 0},
		{"dst-port", data + 2, 2, formDecimal, 0},
	}
}

// fieldForm is how a field is written.
type fieldForm uint8

const (
	formAddress fieldForm = iota // as many bytes as an IP address has
	formMAC
	formDecimal
	formHex
)

// text is the value with its mask, empty where nothing is compared.
func (f fieldForm) text(value, mask []byte) string {
	var some, every byte = 0, 0xff
	for _, b := range mask {
		some |= b
		every &= b
	}
	switch {
	case some == 0:
		return ""
	case every == 0xff:
		return f.show(value)
	}
	return f.show(value) + "/" + f.showMask(mask)
}

func (f fieldForm) show(b []byte) string {
	switch f {
	case formAddress:
		a, _ := netip.AddrFromSlice(b)
		return a.String()
	case formMAC:
		return colonHex(b)
	case formDecimal:
		return strconv.FormatUint(bigEndian(b), 10)
	default:
		return fmt.Sprintf("%#x", bigEndian(b))
	}
}

func (f fieldForm) showMask(b []byte) string {
	if f == formDecimal {
		f = formHex
	}
	return f.show(b)
}

// read reads a value, or a mask with as many digits, of so many bytes.
func (f fieldForm) read(text string, to []byte) error {
	switch f {
	case formAddress:
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || len(a.AsSlice()) != len(to) {
			return fmt.Errorf("it takes an address of %d bits", 8*len(to))
		}
		copy(to, a.AsSlice())
	case formMAC:
		b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(b) != len(to) || strings.ToLower(text) != colonHex(b) {
			return errors.New("it takes an address as in 02:00:5e:00:53:01")
		}
		copy(to, b)
	default:
		n, err := readNumber(text, 8*len(to))
		if err != nil {
			return err
		}
		for i := range to {
			to[i] = byte(n >> (8 * (len(to) - 1 - i)))
		}
	}
	return nil
}

// readMask reads what follows a slash.
func (f fieldForm) readMask(text string, to []byte) error {
	if f != formAddress {
		return f.read(text, to)
	}
	length, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return f.read(text, to)
	}
	if length > uint64(8*len(to)) {
		return fmt.Errorf("an address has %d bits", 8*len(to))
	}
	for i := range to {
		to[i] = ^byte(0xff >> min(8, max(0, int(length)-8*i)))
	}
	return nil
}

// readNumber reads a decimal number, or one in hex behind 0x. ethtool would take
// one with a leading zero as octal.
func readNumber(text string, bits int) (uint64, error) {
	digits, hex := strings.CutPrefix(strings.ToLower(text), "0x")
	base := 10
	if hex {
		base = 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	switch {
	case err != nil, !hex && len(digits) > 1 && digits[0] == '0', strings.HasPrefix(digits, "+"):
		return 0, errors.New("it takes a number")
	case bits < 64 && n>>bits != 0:
		return 0, fmt.Errorf("it takes a number of %d bits: %d at most", bits, uint64(1)<<bits-1)
	}
	return n, nil
}

func bigEndian(b []byte) (v uint64) {
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}
