package settings

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// HashFieldSet is which fields of which packets are hashed, in the letters of
// ethtool -n rx-flow-hash: "udp4": "sdfn".
type HashFieldSet map[string]string

// discards is the letter for packets that the device throws away.
const discards = "r"

// HashFieldsWish is what policies say: letters, in any order.
type HashFieldsWish struct {
	TCP4   *string `json:"tcp4,omitempty" form:"letters as in sdfn" doc:"TCP over IPv4"`
	TCP6   *string `json:"tcp6,omitempty" form:"letters as in sdfn" doc:"TCP over IPv6"`
	UDP4   *string `json:"udp4,omitempty" form:"letters as in sdfn" doc:"UDP over IPv4"`
	UDP6   *string `json:"udp6,omitempty" form:"letters as in sdfn" doc:"UDP over IPv6"`
	SCTP4  *string `json:"sctp4,omitempty" form:"letters as in sdfn" doc:"SCTP over IPv4"`
	SCTP6  *string `json:"sctp6,omitempty" form:"letters as in sdfn" doc:"SCTP over IPv6"`
	IP4    *string `json:"ip4,omitempty" form:"letters as in sd" doc:"any other IPv4"`
	IP6    *string `json:"ip6,omitempty" form:"letters as in sd" doc:"any other IPv6"`
	Ether  *string `json:"ether,omitempty" form:"letters as in mvt" doc:"any other Ethernet"`
	AH4    *string `json:"ah4,omitempty" form:"letters as in sd" doc:"AH over IPv4"`
	AH6    *string `json:"ah6,omitempty" form:"letters as in sd" doc:"AH over IPv6"`
	ESP4   *string `json:"esp4,omitempty" form:"letters as in sd" doc:"ESP over IPv4"`
	ESP6   *string `json:"esp6,omitempty" form:"letters as in sd" doc:"ESP over IPv6"`
	AHESP4 *string `json:"ah-esp4,omitempty" form:"letters as in sd" doc:"AH and ESP over IPv4: what ethtool calls ah4 and esp4"`
	AHESP6 *string `json:"ah-esp6,omitempty" form:"letters as in sd" doc:"AH and ESP over IPv6: what ethtool calls ah6 and esp6"`
	GTPU4  *string `json:"gtpu4,omitempty" form:"letters as in sde" doc:"GTP-U over IPv4"`
	GTPU6  *string `json:"gtpu6,omitempty" form:"letters as in sde" doc:"GTP-U over IPv6"`
	GTPC4  *string `json:"gtpc4,omitempty" form:"letters as in sd" doc:"GTP-C over IPv4"`
	GTPC6  *string `json:"gtpc6,omitempty" form:"letters as in sd" doc:"GTP-C over IPv6"`
	GTPC4T *string `json:"gtpc4t,omitempty" form:"letters as in sde" doc:"GTP-C with a TEID over IPv4"`
	GTPC6T *string `json:"gtpc6t,omitempty" form:"letters as in sde" doc:"GTP-C with a TEID over IPv6"`
	GTPU4E *string `json:"gtpu4e,omitempty" form:"letters as in sde" doc:"GTP-U with an extension header over IPv4"`
	GTPU6E *string `json:"gtpu6e,omitempty" form:"letters as in sde" doc:"GTP-U with an extension header over IPv6"`
	GTPU4U *string `json:"gtpu4u,omitempty" form:"letters as in sde" doc:"GTP-U uplink over IPv4"`
	GTPU6U *string `json:"gtpu6u,omitempty" form:"letters as in sde" doc:"GTP-U uplink over IPv6"`
	GTPU4D *string `json:"gtpu4d,omitempty" form:"letters as in sde" doc:"GTP-U downlink over IPv4"`
	GTPU6D *string `json:"gtpu6d,omitempty" form:"letters as in sde" doc:"GTP-U downlink over IPv6"`
}

func (w HashFieldsWish) byFlow() map[string]*string {
	return map[string]*string{
		"tcp4": w.TCP4, "tcp6": w.TCP6, "udp4": w.UDP4, "udp6": w.UDP6, "sctp4": w.SCTP4, "sctp6": w.SCTP6,
		"ip4": w.IP4, "ip6": w.IP6, "ether": w.Ether, "ah4": w.AH4, "ah6": w.AH6, "esp4": w.ESP4, "esp6": w.ESP6,
		"ah-esp4": w.AHESP4, "ah-esp6": w.AHESP6, "gtpu4": w.GTPU4, "gtpu6": w.GTPU6, "gtpc4": w.GTPC4, "gtpc6": w.GTPC6,
		"gtpc4t": w.GTPC4T, "gtpc6t": w.GTPC6T, "gtpu4e": w.GTPU4E, "gtpu6e": w.GTPU6E, "gtpu4u": w.GTPU4U, "gtpu6u": w.GTPU6U,
		"gtpu4d": w.GTPU4D, "gtpu6d": w.GTPU6D,
	}
}

// letters are the fields that are wished for, of flows that the device has, in the
// order in which the kernel tells them.
func (w HashFieldsWish) letters(has map[string]string) (HashFieldSet, error) {
	wished := HashFieldSet{}
	flows := w.byFlow()
	for _, flow := range slices.Sorted(maps.Keys(flows)) {
		if flows[flow] == nil {
			continue
		}
		_, letters, err := inventory.HashFields(*flows[flow])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flow, err)
		}
		if strings.Contains(letters, discards) && letters != discards {
			return nil, fmt.Errorf("%s: r discards these packets: it stands alone", flow)
		}
		if _, ok := has[flow]; !ok {
			return nil, unsupported("the device has no hash fields for " + flow)
		}
		wished[flow] = letters
	}
	return wished, nil
}

// HashFields is ethtool -N rx-flow-hash.
func HashFields() tuning.Knob[HashFieldSet] {
	return tuning.Knob[HashFieldSet]{
		Name: "rx-flow-hash",
		Doc: "Which fields of which packets decide on their queue (ethtool -N rx-flow-hash): m the MAC destination, v VLAN, t the " +
			"layer 3 protocol, s and d the IP addresses, f and n the ports, e the GTP TEID, l the IPv6 flow label, r discards. " +
			"Packets of a flow may be reordered once when it moves to another queue.",
		Impact: func(nic inventory.NIC, _, _ HashFieldSet) tuning.Impact { return hashImpact(nic) },
		Breaks: func(use inventory.Use, current, next HashFieldSet) string {
			switch use.Kind {
			case inventory.XDPSocket:
				if !maps.Equal(current, next) {
					return otherHash(use)
				}
			case inventory.DefaultRoute, inventory.SSHSession:
				for _, flow := range slices.Sorted(maps.Keys(next)) {
					if next[flow] == discards && current[flow] != discards {
						return "discards " + flow
					}
				}
			}
			return ""
		},
		Wish: tuning.WishOf(func(_ context.Context, _ tuning.Ask, wish HashFieldsWish, current HashFieldSet) (HashFieldSet, error) {
			next := maps.Clone(current)
			letters, err := wish.letters(current)
			maps.Copy(next, letters)
			return next, err
		}),
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit HashFieldSet, err error) {
			fields, err := inventory.ReadHashFields(ctx, r, nic)
			return fields, nil, err
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next HashFieldSet) error {
			for _, flow := range slices.Sorted(maps.Keys(next)) {
				if next[flow] == current[flow] {
					continue
				}
				if err := writeHashFields(ctx, w, nic, 0, flow, next[flow]); err != nil {
					return fmt.Errorf("%s: %w", flow, err)
				}
			}
			return nil
		},
	}
}

// writeHashFields sets the fields of one kind of packets in one RSS context, 0 being
// the default one.
func writeHashFields(ctx context.Context, w kernel.Writer, nic inventory.NIC, rssContext uint32, flow, letters string) error {
	arg, err := inventory.HashFieldsRequest(flow, letters, rssContext)
	if err == nil {
		_, err = w.EthtoolSet(ctx, nic.Name, arg)
	}
	return err
}
