package inventory

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// RSS is receive side scaling: the table and key of the default context, the
// hash fields by flow type, and further contexts.
type RSS struct {
	// Hash is the function: "toeplitz", "xor", "crc32".
	Hash string `json:"hash,omitempty"`
	// InputTransform is "symmetric-xor" or "symmetric-or-xor" where set.
	InputTransform string `json:"inputTransform,omitempty"`
	// Table is the indirection table: the queue of each bucket.
	Table []uint32 `json:"table,omitempty"`
	// Key in colon-separated hex, as ethtool -x prints it.
	Key string `json:"key,omitempty"`
	// Fields are the hashed fields by flow type, in ethtool's letters:
	// "udp4": "sdfn".
	Fields   map[string]string `json:"fields,omitempty"`
	Contexts []RSSContext      `json:"contexts,omitempty"`
}

// RSSContext is one further RSS table. What it lacks it shares with the default
// context.
type RSSContext struct {
	ID             uint32            `json:"id"`
	Hash           string            `json:"hash,omitempty"`
	InputTransform string            `json:"inputTransform,omitempty"`
	Table          []uint32          `json:"table,omitempty"`
	Key            string            `json:"key,omitempty"`
	Fields         map[string]string `json:"fields,omitempty"`
}

// fileRSS files an ETHTOOL_MSG_RSS_GET_REPLY: of the default context first, then
// of the others.
func fileRSS(n *NIC, w *words, body []byte) error {
	var c RSSContext
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_RSS_CONTEXT:
			c.ID = attributes.Uint32()
		case uapi.ETHTOOL_A_RSS_HFUNC:
			c.Hash = hashWords(w, attributes.Uint32())
		case uapi.ETHTOOL_A_RSS_INPUT_XFRM:
			c.InputTransform = transformWord(attributes.Uint32())
		case uapi.ETHTOOL_A_RSS_INDIR:
			c.Table = bitWords(attributes)
		case uapi.ETHTOOL_A_RSS_HKEY:
			c.Key = colonHex(attributes.Data)
		case uapi.ETHTOOL_A_RSS_FLOW_HASH:
			c.Fields = map[string]string{}
			flows := attributes.Nested()
			for flows.Next() {
				c.Fields[flowOfAttribute(flows.Type)] = fieldLetters(flows.Uint())
			}
			attributes.Join(flows)
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	if c.ID == 0 {
		n.Queues.RSS = &RSS{Hash: c.Hash, InputTransform: c.InputTransform, Table: c.Table, Key: c.Key, Fields: c.Fields}
		return nil
	}
	r := present(&n.Queues.RSS)
	for i := range r.Contexts {
		if r.Contexts[i].ID == c.ID {
			r.Contexts[i] = c
			return nil
		}
	}
	r.Contexts = append(r.Contexts, c)
	return nil
}

// hashWords names a hash function, which the kernel tells as a bit.
func hashWords(w *words, function uint32) string {
	return strings.Join(w.list(uapi.ETH_SS_RSS_HASH_FUNCS, []uint32{function}), ",")
}

// transformWord is ethtool's word for RXH_XFRM_*.
func transformWord(transform uint32) string {
	switch transform {
	case 0:
		return ""
	case uapi.RXH_XFRM_SYM_XOR:
		return "symmetric-xor"
	case uapi.RXH_XFRM_SYM_OR_XOR:
		return "symmetric-or-xor"
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint32(nil, transform))
}

// A flow is a kind of packet that hash fields and receive rules are set for.
type flow struct {
	// name is ethtool's, or ETHTOOL_A_FLOW_*'s where ethtool has none.
	name string
	// attribute is ETHTOOL_A_FLOW_*, number the *_FLOW of linux/ethtool.h.
	attribute uint16
	number    uint32
}

// flows are all that the kernel knows. TCP comes first: whoever hashes anything
// hashes that.
func flows() []flow {
	return []flow{
		{"tcp4", uapi.ETHTOOL_A_FLOW_TCP4, uapi.TCP_V4_FLOW},
		{"tcp6", uapi.ETHTOOL_A_FLOW_TCP6, uapi.TCP_V6_FLOW},
		{"udp4", uapi.ETHTOOL_A_FLOW_UDP4, uapi.UDP_V4_FLOW},
		{"udp6", uapi.ETHTOOL_A_FLOW_UDP6, uapi.UDP_V6_FLOW},
		{"sctp4", uapi.ETHTOOL_A_FLOW_SCTP4, uapi.SCTP_V4_FLOW},
		{"sctp6", uapi.ETHTOOL_A_FLOW_SCTP6, uapi.SCTP_V6_FLOW},
		{"ether", uapi.ETHTOOL_A_FLOW_ETHER, uapi.ETHER_FLOW},
		{"ip4", uapi.ETHTOOL_A_FLOW_IP4, uapi.IPV4_FLOW},
		{"ip6", uapi.ETHTOOL_A_FLOW_IP6, uapi.IPV6_FLOW},
		{"ah4", uapi.ETHTOOL_A_FLOW_AH4, uapi.AH_V4_FLOW},
		{"ah6", uapi.ETHTOOL_A_FLOW_AH6, uapi.AH_V6_FLOW},
		{"esp4", uapi.ETHTOOL_A_FLOW_ESP4, uapi.ESP_V4_FLOW},
		{"esp6", uapi.ETHTOOL_A_FLOW_ESP6, uapi.ESP_V6_FLOW},
		{"ah-esp4", uapi.ETHTOOL_A_FLOW_AH_ESP4, uapi.AH_ESP_V4_FLOW},
		{"ah-esp6", uapi.ETHTOOL_A_FLOW_AH_ESP6, uapi.AH_ESP_V6_FLOW},
		{"gtpu4", uapi.ETHTOOL_A_FLOW_GTPU4, uapi.GTPU_V4_FLOW},
		{"gtpu6", uapi.ETHTOOL_A_FLOW_GTPU6, uapi.GTPU_V6_FLOW},
		{"gtpc4", uapi.ETHTOOL_A_FLOW_GTPC4, uapi.GTPC_V4_FLOW},
		{"gtpc6", uapi.ETHTOOL_A_FLOW_GTPC6, uapi.GTPC_V6_FLOW},
		{"gtpc4t", uapi.ETHTOOL_A_FLOW_GTPC_TEID4, uapi.GTPC_TEID_V4_FLOW},
		{"gtpc6t", uapi.ETHTOOL_A_FLOW_GTPC_TEID6, uapi.GTPC_TEID_V6_FLOW},
		{"gtpu4e", uapi.ETHTOOL_A_FLOW_GTPU_EH4, uapi.GTPU_EH_V4_FLOW},
		{"gtpu6e", uapi.ETHTOOL_A_FLOW_GTPU_EH6, uapi.GTPU_EH_V6_FLOW},
		{"gtpu4u", uapi.ETHTOOL_A_FLOW_GTPU_UL4, uapi.GTPU_UL_V4_FLOW},
		{"gtpu6u", uapi.ETHTOOL_A_FLOW_GTPU_UL6, uapi.GTPU_UL_V6_FLOW},
		{"gtpu4d", uapi.ETHTOOL_A_FLOW_GTPU_DL4, uapi.GTPU_DL_V4_FLOW},
		{"gtpu6d", uapi.ETHTOOL_A_FLOW_GTPU_DL6, uapi.GTPU_DL_V6_FLOW},
	}
}

func flowOfAttribute(attribute uint16) string {
	for _, f := range flows() {
		if f.attribute == attribute {
			return f.name
		}
	}
	return at(uint8(attribute))
}

// hashLetters are RXH_* bits and their letters in ethtool -N rx-flow-hash.
func hashLetters() []struct {
	bits   uint64
	letter byte
} {
	return []struct {
		bits   uint64
		letter byte
	}{
		{uapi.RXH_L2DA, 'm'}, {uapi.RXH_VLAN, 'v'}, {uapi.RXH_L3_PROTO, 't'},
		{uapi.RXH_IP_SRC, 's'}, {uapi.RXH_IP_DST, 'd'}, {uapi.RXH_L4_B_0_1, 'f'}, {uapi.RXH_L4_B_2_3, 'n'},
		{uapi.RXH_GTP_TEID, 'e'}, {uapi.RXH_IP6_FL, 'l'}, {1 << 31, 'r'}, // RXH_DISCARD
	}
}

// fieldLetters are the letters of ethtool -N rx-flow-hash for RXH_* bits.
func fieldLetters(fields uint64) string {
	var letters []byte
	for _, f := range hashLetters() {
		if fields&f.bits != 0 {
			letters = append(letters, f.letter)
		}
	}
	return string(letters)
}

// HashFields are the RXH_* bits for letters of ethtool -N rx-flow-hash, and the
// same letters in the order in which the kernel's bits are told.
func HashFields(letters string) (bits uint64, ordered string, err error) {
	for i := range len(letters) {
		before := bits
		for _, f := range hashLetters() {
			if f.letter == letters[i] {
				bits |= f.bits
			}
		}
		if bits == before {
			return 0, "", fmt.Errorf("%q: it takes letters of m (MAC), v (VLAN), t (layer 3 protocol), s and d (IP addresses), "+
				"f and n (ports), e (GTP TEID), l (flow label), r (discard), each once", letters)
		}
	}
	return bits, fieldLetters(bits), nil
}

// readHashFields asks by ioctl for the hash fields of those whose RSS_GET said
// nothing of them: kernels before 6.17, and drivers that hash without a table.
func readHashFields(ctx context.Context, s *survey) {
	s.askEach("queues.rss.fields", func(n *NIC) error {
		if n.Queues.RSS != nil {
			if err := contextHashFields(ctx, s, n.Name, n.Queues.RSS.Contexts); err != nil {
				return err
			}
			if n.Queues.RSS.Fields != nil {
				return nil
			}
		}
		fields, err := hashFields(ctx, s, n.Name, 0)
		if err == nil {
			present(&n.Queues.RSS).Fields = fields
		}
		return err
	})
}

// contextHashFields fills in the hash fields of contexts whose RSS_GET said nothing of
// them. A driver that refuses has none by context.
func contextHashFields(ctx context.Context, s kernel.Reader, device string, contexts []RSSContext) error {
	for i := range contexts {
		if contexts[i].Fields != nil {
			return nil // all of them were told
		}
	}
	if len(contexts) == 0 {
		return nil
	}
	if kernel.ReasonOf(heedsContext(ctx, s, device, unusedContext(contexts))) == kernel.Unsupported {
		return nil
	}
	for i := range contexts {
		fields, err := hashFields(ctx, s, device, contexts[i].ID)
		switch {
		case err == nil:
			contexts[i].Fields = fields
		case lost(err):
			return err
		default:
			return nil
		}
	}
	return nil
}

// unusedContext is the lowest number that no context has.
func unusedContext(contexts []RSSContext) uint32 {
	unused := uint32(1)
	for slices.ContainsFunc(contexts, func(c RSSContext) bool { return c.ID == unused }) {
		unused++
	}
	return unused
}

// heedsContext says why the hash fields of one context can't be told from those of
// another: nil is that they can. Asked for a context that there is not, a driver that
// keeps them by context says so (ENOENT); newer kernels refuse for others
// (rxfh_per_ctx_fields in net/ethtool/ioctl.c: EINVAL), and with older ones some
// answer for the default context.
func heedsContext(ctx context.Context, s kernel.Reader, device string, unused uint32) error {
	_, err := s.Ethtool(ctx, device, hashFieldsOf(flows()[0], unused))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		return fmt.Errorf("the driver does not tell the hash fields of RSS contexts apart: %w", errors.ErrUnsupported)
	case lost(err), kernel.ReasonOf(err) == kernel.Denied:
		return err
	}
	// Whatever the driver calls it, here it means that there are none.
	return fmt.Errorf("the driver has no hash fields by RSS context (%s): %w", err.Error(), errors.ErrUnsupported)
}

// hashFieldsOf asks for the fields of one kind of packets, in a context besides the
// default one if that is not 0.
func hashFieldsOf(f flow, rssContext uint32) []byte {
	request, kind := rxnfc(uapi.ETHTOOL_GRXFH, 0), f.number
	if rssContext != 0 {
		kind |= uapi.FLOW_RSS
		binary.NativeEndian.PutUint32(request[rxnfcCount:], rssContext)
	}
	binary.NativeEndian.PutUint32(request[rxnfcFlowType:], kind)
	return request
}

// HashFieldsRequest has the fields of one kind of packets ("udp4") set, in ethtool's
// letters, in the default context, which is 0, or in another: ETHTOOL_SRXFH.
func HashFieldsRequest(name, letters string, rssContext uint32) ([]byte, error) {
	for _, f := range flows() {
		if f.name != name {
			continue
		}
		bits, _, err := HashFields(letters)
		if err != nil {
			return nil, err
		}
		request := hashFieldsOf(f, rssContext)
		binary.NativeEndian.PutUint32(request, uapi.ETHTOOL_SRXFH)
		binary.NativeEndian.PutUint64(request[rxnfcData:], bits)
		return request, nil
	}
	return nil, fmt.Errorf("ethtool has no flow %q", name)
}

// hashFields are the hash fields of one device, in one of its contexts. Where TCP is
// refused there are none; other kinds of packets are refused one by one.
func hashFields(ctx context.Context, s kernel.Reader, device string, rssContext uint32) (map[string]string, error) {
	fields := map[string]string{}
	for i, f := range flows() {
		answer, err := s.Ethtool(ctx, device, hashFieldsOf(f, rssContext))
		switch {
		case err == nil:
			if len(answer) < rxnfcData+8 {
				return nil, short("GRXFH", device, answer)
			}
			fields[f.name] = fieldLetters(binary.NativeEndian.Uint64(answer[rxnfcData:]))
		case i == 0, lost(err), kernel.ReasonOf(err) == kernel.Denied:
			return nil, err
		}
	}
	return fields, nil
}

// Offsets in struct ethtool_rxfh.
const (
	rxfhContext   = 4
	rxfhIndirSize = 8
	rxfhKeySize   = 12
	rxfhFunction  = 16
	rxfhTransform = 17
	rxfhConfig    = 24
	// rxfhMax bounds a table and a key: drivers have up to 4096 entries and 64
	// bytes.
	rxfhMax = 1 << 16
)

// readRSSByIoctl reads the default context from kernels before 6.3.
func readRSSByIoctl(ctx context.Context, s *survey, n *NIC, w *words) error {
	request := make([]byte, rxfhConfig)
	binary.NativeEndian.PutUint32(request, uapi.ETHTOOL_GRSSH)
	sizes, err := s.Ethtool(ctx, n.Name, request)
	if err != nil {
		return err
	}
	if len(sizes) < rxfhConfig {
		return short("GRSSH", n.Name, sizes)
	}
	entries, key := binary.NativeEndian.Uint32(sizes[rxfhIndirSize:]), binary.NativeEndian.Uint32(sizes[rxfhKeySize:])
	if entries > rxfhMax || key > rxfhMax {
		return short("GRSSH", n.Name, sizes)
	}
	request = append(request, make([]byte, 4*entries+key)...)
	copy(request[rxfhIndirSize:], sizes[rxfhIndirSize:rxfhKeySize+4])
	answer, err := s.Ethtool(ctx, n.Name, request)
	if err != nil {
		return err
	}
	r, err := decodeRXFH(n.Name, answer, w)
	if err != nil {
		return err
	}
	n.Queues.RSS = r
	return nil
}

// decodeRXFH decodes a struct ethtool_rxfh with its table and key.
func decodeRXFH(device string, b []byte, w *words) (*RSS, error) {
	if len(b) < rxfhConfig {
		return nil, short("GRSSH", device, b)
	}
	entries, key := binary.NativeEndian.Uint32(b[rxfhIndirSize:]), binary.NativeEndian.Uint32(b[rxfhKeySize:])
	config := b[rxfhConfig:]
	if entries > rxfhMax || key > rxfhMax || uint64(len(config)) < 4*uint64(entries)+uint64(key) {
		return nil, short("GRSSH", device, b)
	}
	r := &RSS{Hash: hashWords(w, uint32(b[rxfhFunction])), InputTransform: transformWord(uint32(b[rxfhTransform]))}
	for ; entries > 0; entries-- {
		r.Table = append(r.Table, binary.NativeEndian.Uint32(config))
		config = config[4:]
	}
	r.Key = colonHex(config[:key])
	return r, nil
}
