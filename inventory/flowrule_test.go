package inventory

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// captured is what ethtool sends for some words.
type captured struct {
	words   []string
	spec    ruleSpec
	version byte // ip_ver of an ip4 rule
}

// capturedRules reads testdata/ethtool-N.txt.
func capturedRules(t testing.TB) (rules []captured) {
	t.Helper()
	b, err := os.ReadFile("testdata/ethtool-N.txt")
	if err != nil {
		t.Fatal(err)
	}
	part := func(text string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return append(b, make([]byte, specUnion)...) // the zeros that were cut off
	}
	var words []string
	for line := range strings.Lines(string(b)) {
		sent, isSent := strings.CutPrefix(line, "\t")
		switch {
		case !isSent && strings.HasPrefix(line, "flow-type "):
			words = strings.Fields(line)
		case isSent:
			parts := strings.Fields(sent)
			c := captured{words: words, spec: ruleSpec{
				kind:  binary.LittleEndian.Uint32(part(parts[0])),
				value: [specUnion]byte(part(parts[1])), mask: [specUnion]byte(part(parts[2])),
				cookie: binary.LittleEndian.Uint64(part(parts[3])), location: binary.LittleEndian.Uint32(part(parts[4])),
			}}
			if len(parts) == 7 {
				n, err := strconv.ParseUint(parts[6], 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				c.spec.context = uint32(n)
			}
			if c.spec.kind == uapi.IPV4_USER_FLOW {
				c.version = c.spec.value[usrIPVersion]
			}
			rules = append(rules, c)
		}
	}
	if len(rules) < 25 {
		t.Fatalf("%d captured rules", len(rules))
	}
	return rules
}

// TestRulesAsEthtool holds what ethtool -N sends against what we make of the same
// words, and of the rule that we decode from what it sends.
func TestRulesAsEthtool(t *testing.T) {
	for _, c := range capturedRules(t) {
		t.Run(strings.Join(c.words, " "), func(t *testing.T) {
			rule, err := ParseFlowRule(c.words)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := rule.Insertion()
			if err != nil {
				t.Fatal(err)
			}
			if command := binary.NativeEndian.Uint32(ours); command != uapi.ETHTOOL_SRXCLSRLINS || len(ours) != rxnfcSize {
				t.Errorf("%d bytes of command %#x", len(ours), command)
			}
			theirs := c.spec.bytes(uapi.ETHTOOL_SRXCLSRLINS)
			if c.spec.kind&^specFlags == uapi.IPV4_USER_FLOW && c.version != 1 {
				t.Errorf("ethtool sends the IP version %d", c.version)
			}
			if !slices.Equal(ours, theirs) {
				t.Errorf("ours    %x\nethtool %x", ours, theirs)
			}
			decoded, err := decodeRule("eth0", theirs)
			if err != nil || decoded.String() != rule.String() || decoded.Location != rule.Location {
				t.Errorf("decoded it is %q at %d, %v, parsed %q", decoded, decoded.Location, err, rule)
			}
			// Its own words say the same.
			again, err := ParseFlowRule(append(strings.Fields(rule.String()), "loc", "9"))
			if err != nil || again.String() != rule.String() || again.Location != 9 {
				t.Errorf("%q is read as %q at %d: %v", rule, again, again.Location, err)
			}
		})
	}
}

func TestRuleWords(t *testing.T) {
	for words, want := range map[string]string{
		"flow-type udp4 dst-port 53 queue 4":                           "flow-type udp4 dst-port 53 queue 4",
		"flow-type udp4 action 4 dst-port 0x35":                        "flow-type udp4 dst-port 53 queue 4",
		"flow-type tcp4 src-ip 10.0.0.0/8 action -1":                   "flow-type tcp4 src-ip 10.0.0.0 m 0.255.255.255 action -1",
		"flow-type tcp4 src-ip 10.0.0.0/255.0.0.0 action drop":         "flow-type tcp4 src-ip 10.0.0.0 m 0.255.255.255 action -1",
		"flow-type tcp4 src-ip 10.0.0.0 m 0.255.255.255 action drop":   "flow-type tcp4 src-ip 10.0.0.0 m 0.255.255.255 action -1",
		"flow-type tcp4 src-ip 10.0.0.1/32 action drop":                "flow-type tcp4 src-ip 10.0.0.1 action -1",
		"flow-type tcp6 dst-ip fd00::/9 dst-port 1024/0xfc00 queue 0":  "flow-type tcp6 dst-ip fd00:: m 7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff dst-port 1024 m 0x3ff queue 0",
		"flow-type ether dst 01:00:5E:00:00:00/ff:ff:ff:80:00:00 vf 1": "flow-type ether dst 01:00:5e:00:00:00 m 00:00:00:7f:ff:ff vf 1 queue 0",
		"flow-type ip4 l4proto 6 dst-port 80 queue 1":                  "flow-type ip4 l4proto 6 l4data 0x50 m 0xffff0000 queue 1",
		"flow-type ip6 src-port 80 dst-port 443 queue 1":               "flow-type ip6 l4data 0x5001bb queue 1",
		"flow-type udp4 dst-port 53 context 3 queue 0":                 "flow-type udp4 dst-port 53 context 3",
		"flow-type udp4 dst-port 53 context 3 queue 2":                 "flow-type udp4 dst-port 53 context 3 queue 2",
		"flow-type tcp4 queue 1":                                       "flow-type tcp4 queue 1",

		"":                                             "begins with its flow-type",
		"flow-type":                                    "begins with its flow-type",
		"flow-type gtpu4 queue 1":                      `no rules for the flow-type "gtpu4": it is one of ether, ip4,`,
		"flow-type udp4 proto 6 queue 1":               `udp4 has no "proto": it has src-ip, dst-ip, tos, src-port, dst-port, vlan-etype, vlan, user-def, dst-mac`,
		"flow-type ether dst-mac x queue 1":            `ether has no "dst-mac"`,
		"flow-type udp4 dst-port 53":                   "does not say where packets go",
		"flow-type udp4 dst-port":                      "dst-port has no value",
		"flow-type udp4 dst-port 65536 q":              "dst-port 65536: it takes a number of 16 bits: 65535 at most",
		"flow-type udp4 dst-port 010 queue 1":          "dst-port 010: it takes a number",
		"flow-type udp4 dst-port +1 queue 1":           "it takes a number",
		"flow-type udp4 dst-port 1 dst-port 1 queue 1": "dst-port is there twice",
		"flow-type udp4 dst-ip 10.0.0.1/8 queue 1":     "dst-ip 10.0.0.1/8: it has bits that its mask leaves out",
		"flow-type udp4 dst-ip 10.0.0.0/33 queue 1":    "an address has 32 bits",
		"flow-type udp4 dst-ip 10.0.0.0/0 queue 1":     "it has bits",
		"flow-type udp4 dst-ip 0.0.0.0/0 queue 1":      "leaves nothing to compare",
		"flow-type udp4 dst-ip fd00::1 queue 1":        "an address of 32 bits",
		"flow-type udp6 dst-ip fe80::1%eth0 queue 1":   "an address of 128 bits",
		"flow-type udp4 dst-port 1/1 m 1 queue 1":      "one mask is enough",
		"flow-type udp4 dst-port 53 queue 4 action 4":  "action says all",
		"flow-type udp4 context 1 action -1":           "a context does not drop",
		"flow-type udp4 dst-port 53 vf 255":            "254 at most",
		"flow-type udp4 queue -1":                      "queue -1: it takes a number",
		"flow-type udp4 action up":                     "-1 to drop",
		"flow-type udp4 queue 1 loc 4294967295":        "no such location",
		"flow-type udp4 context 4294967295":            "no such context",
		"flow-type ip4 l4data 1 dst-port 1 queue 1":    "another option is about the same bytes",
		"flow-type ether src 2:0:0:0:0:1 queue 1":      "an address as in 02:00:5e:00:53:01",
	} {
		rule, err := ParseFlowRule(strings.Fields(words))
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", words, err, want)
			}
		} else if rule.String() != want || rule.Location != AnyLocation {
			t.Errorf("%s is %q at %d, want %q", words, rule, rule.Location, want)
		}
	}
}

// TestPartialRules: of what has no words we neither lose a part nor write the
// rest.
func TestPartialRules(t *testing.T) {
	for name, b := range map[string][]byte{
		"a flow of the future":         ruleBytes(99, nil, nil, 0, 0),
		"hashed, not for rules":        ruleBytes(uapi.GTPU_V4_FLOW, nil, nil, 0, 0),
		"padding behind the fields":    ruleBytes(uapi.TCP_V4_FLOW, nil, ones(20, 1), 0, 0),
		"the MAC of Ethernet twice":    ruleBytes(uapi.ETHER_FLOW|uapi.FLOW_MAC_EXT, nil, extra(nil, ones(2, 6)), 0, 0),
		"a cookie with a further part": ruleBytes(uapi.TCP_V4_FLOW, nil, nil, 1<<40, 0),
	} {
		rule, err := decodeRule("eth0", b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rule.Insertion(); err == nil {
			t.Errorf("%s: %q would be written", name, rule)
		}
		if _, err := ParseFlowRule(strings.Fields(rule.String())); err == nil {
			t.Errorf("%s: %q is read", name, rule)
		}
	}
	// What flags leave out is not compared.
	rule, err := decodeRule("eth0", ruleBytes(uapi.TCP_V4_FLOW, ones(0, specUnion), extra(nil, ones(0, 20)), 0, 0))
	if err != nil || rule.String() != "flow-type tcp4 queue 0" {
		t.Errorf("%q, %v", rule, err)
	}
}

func TestFlowRuleDeletion(t *testing.T) {
	b := FlowRuleDeletion(7)
	if binary.NativeEndian.Uint32(b) != uapi.ETHTOOL_SRXCLSRLDEL || binary.NativeEndian.Uint32(b[rxnfcSpec+specLocation:]) != 7 || len(b) != rxnfcSize {
		t.Errorf("%x", b)
	}
}

func FuzzRuleWords(f *testing.F) {
	for _, c := range capturedRules(f) {
		f.Add(strings.Join(c.words, " "))
	}
	f.Add("flow-type tcp6 dst-ip fd00::/9 dst-port 1024/0xfc00 context 1 queue 0")
	f.Add("flow-type ip6 src-port 80 dst-port 443/0xff00 action drop")
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseFlowRule(strings.Fields(text))
		if err != nil {
			return
		}
		again, err := ParseFlowRule(strings.Fields(rule.String()))
		if err != nil || again.String() != rule.String() {
			t.Fatalf("%q is %q, which is %q, %v", text, rule, again, err)
		}
		b, err := rule.Insertion()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		decoded, err := decodeRule("eth0", b)
		if err != nil || decoded.String() != rule.String() || decoded.Location != rule.Location {
			t.Fatalf("%q is %q at %d, sent it is %q at %d, %v", text, rule, rule.Location, decoded, decoded.Location, err)
		}
	})
}
