// Package settings has the knobs that nictune turns, one in each file: what a
// knob reads, what it refuses, and how it asks the kernel for another value.
//
// A knob decides nothing and remembers nothing; when it is turned, and back, is
// for package tuning to say. Names of knobs and fields are those of ethtool, ip and
// the kernel's files.
package settings

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
)

// All returns every setting in the order in which they are applied, as far as a plan
// doesn't ask for another: a setting that is in the way of a change moves first, and
// an undo computes an order of its own (tuning's order.go).
//
//   - sysctl, which is the host's: each NIC may count on it;
//   - private-flags: what else a driver has can depend on them;
//   - how many VFs there are, how the switch between them works, what they are set to,
//     their drivers and representors: some drivers have fewer queues beside VFs;
//   - netdev, multicast and what bridges do with it, of which an MTU decides how large the buffers of the
//     queues are;
//   - link, fec, eee and pause, which the link comes up anew for, with many drivers
//     through a reset;
//   - channels, because a driver builds the other queue settings anew for the
//     queues that it then has;
//   - rings, and then coalesce, for these queues, first all and then single ones;
//   - features: rules and contexts, which some of them enable, name queues that
//     have to exist;
//   - how packets are spread over queues, and then the rules, which name contexts;
//   - what is said of single queues and their interrupts last: whatever builds
//     queues anew forgets it.
func All() []tuning.Setting {
	return slices.Concat([]tuning.Setting{Sysctl(), PrivateFlags()}, sriov.Knobs(), []tuning.Setting{
		Netdev(), Multicast(), Memberships(), Bridge(), BridgePort(), Link(), FEC(), EEE(), Pause(), Channels(), Rings(), Coalesce(), CoalesceQueues(),
		Features(), RSS(), HashFields(), RSSContexts(), Flows(), IRQ(), RPS(), XPS(), NAPI(),
	})
}

// The header of every request of these knobs is its first attribute.
const header = uapi.ETHTOOL_A_RINGS_HEADER

// about begins a request about one NIC, by its index: its name may change while
// we speak.
func about(nic inventory.NIC) kernel.Body {
	return kernel.Body{}.Nested(header, kernel.Body{}.
		Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, uint32(nic.Index)).
		Uint32(uapi.ETHTOOL_A_HEADER_FLAGS, uapi.ETHTOOL_FLAG_OMIT_REPLY))
}

// driverOf is the name of the NIC's driver, empty where it has none or can't say.
func driverOf(nic inventory.NIC) string {
	if nic.Driver == nil {
		return ""
	}
	return nic.Driver.Name
}

// unsupported is what a device lacks, said by us and not by the kernel.
type unsupported string

func (e unsupported) Error() string { return string(e) }

// Is makes kernel.ReasonOf say unsupported.
func (e unsupported) Is(target error) bool { return target == errors.ErrUnsupported }

func set(ctx context.Context, w kernel.Writer, command uint16, body kernel.Body) error {
	return w.NetlinkSet(ctx, kernel.Request{Family: kernel.FamilyEthtool, Command: command, Body: body})
}

// changed appends a number if it is to change. A device that does not know an
// attribute refuses the whole request, so nothing else is sent.
func changed(body kernel.Body, attribute uint16, from, to *uint32) kernel.Body {
	if !differ(from, to) {
		return body
	}
	return body.Uint32(attribute, *to)
}

// switched appends one of two numbers if the flag is to change.
func switched(body kernel.Body, attribute uint16, from, to *bool, off, on uint8) kernel.Body {
	switch {
	case !differ(from, to):
		return body
	case *to:
		return body.Uint8(attribute, on)
	default:
		return body.Uint8(attribute, off)
	}
}

// differ says whether a field is to change. One that the device lacks is not.
func differ[T comparable](from, to *T) bool {
	return from != nil && to != nil && *from != *to
}

// flips are the named switches of next that are not so in current, in ethtool
// netlink's verbose form of a bit set. The others stay as they are.
func flips(current, next map[string]bool) kernel.Body {
	var bits kernel.Body
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if next[name] == current[name] {
			continue
		}
		bit := kernel.Body{}.String(uapi.ETHTOOL_A_BITSET_BIT_NAME, name)
		if next[name] {
			bit = bit.Flag(uapi.ETHTOOL_A_BITSET_BIT_VALUE)
		}
		bits = bits.Nested(uapi.ETHTOOL_A_BITSET_BITS_BIT, bit)
	}
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_BITSET_BITS, bits)
}
