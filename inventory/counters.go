package inventory

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Counters are what counts since a driver was loaded, by "SOURCE/NAME":
//
//	ip/rx_crc_errors                  the standard counters (StatisticNames)
//	fec/corrected, fec/uncorrectable  blocks; fec/corrected-bits where it has them
//	pause/rx, pause/tx                frames; pause/tx-storm where it has them
//	phy/SymbolErrorDuringCarrier      of the PHY, by the names of IEEE 802.3 clause 30
//	mac/FrameCheckSequenceErrors      of the MAC, likewise
//	aer/0000:3b:00.0/fatal/TLP        errors on PCIe, of the function and each hop above
//
// One that a device doesn't have is absent.
type Counters map[string]uint64

// ReadCounters reads the standard counters of an inventory's NICs, in their order.
// What could not be read is in the notes of the NIC, as "counters/SOURCE".
func ReadCounters(ctx context.Context, r kernel.Reader, inv *Inventory) []Counters {
	s := &survey{Reader: r, byIndex: map[int]*NIC{}}
	all := make([]Counters, len(inv.NICs))
	of := make(map[*NIC]Counters, len(all))
	for i := range inv.NICs {
		n := &inv.NICs[i]
		all[i] = Counters{}
		of[n] = all[i]
		s.nics = append(s.nics, n)
		s.byIndex[n.Index] = n
	}
	s.readIPCounters(ctx, of)
	s.readEthtoolCounters(ctx, of)
	for n, c := range of {
		s.readAER(ctx, n, c)
	}
	return all
}

func (s *survey) readIPCounters(ctx context.Context, of map[*NIC]Counters) {
	list, err := ReadStatistics(ctx, s)
	found := map[*NIC]bool{}
	for _, one := range list {
		n := s.byIndex[one.Index]
		if n == nil {
			continue
		}
		found[n] = true
		for i, v := range one.Values {
			of[n]["ip/"+statisticNames[i]] = v
		}
	}
	for _, n := range s.nics {
		switch {
		case found[n]:
		case err != nil:
			n.missed("counters/ip", err)
		default:
			n.Unread = append(n.Unread, Unread{Fact: "counters/ip", Reason: kernel.Gone})
		}
	}
}

func (s *survey) readEthtoolCounters(ctx context.Context, of map[*NIC]Counters) {
	filing := func(decode func([]byte, Counters) error) func(*NIC, *words, []byte) error {
		return func(n *NIC, _ *words, body []byte) error { return decode(body, of[n]) }
	}
	groups := []ethtoolGroup{
		{fact: "counters/fec", command: uapi.ETHTOOL_MSG_FEC_GET, name: "FEC_GET", statistics: true, file: filing(decodeFECCounters)},
		{fact: "counters/pause", command: uapi.ETHTOOL_MSG_PAUSE_GET, name: "PAUSE_GET", statistics: true, file: filing(decodePauseCounters)},
		{fact: "counters/mac", command: uapi.ETHTOOL_MSG_STATS_GET, name: "STATS_GET", header: uapi.ETHTOOL_A_STATS_HEADER, more: statisticsGroups(), file: filing(decodeStandardCounters)},
	}
	operations, err := ethtoolOperations(ctx, s)
	for _, g := range groups {
		if err != nil {
			for _, n := range s.nics {
				n.missed(g.fact, err)
			}
			continue
		}
		for _, passed := range g.read(ctx, s, operations[g.command], nil) {
			passed.nic.Unread = append(passed.nic.Unread, Unread{Fact: g.fact, Reason: kernel.Unsupported})
		}
	}
}

// statisticsGroups asks for the groups that the kernel has had since 5.13.
func statisticsGroups() kernel.Body {
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_STATS_GROUPS, kernel.Body{}.
		Flag(uapi.ETHTOOL_A_BITSET_NOMASK).
		Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 2).
		Uint32(uapi.ETHTOOL_A_BITSET_VALUE, 1<<uapi.ETHTOOL_STATS_ETH_PHY|1<<uapi.ETHTOOL_STATS_ETH_MAC))
}

// decodeFECCounters decodes the statistics of an ETHTOOL_MSG_FEC_GET_REPLY. Each
// is an array: the port's, and then each lane's where the device counts by lane.
func decodeFECCounters(body []byte, c Counters) error {
	return eachNested(body, uapi.ETHTOOL_A_FEC_STATS, func(a *kernel.Attributes) {
		name := ""
		switch a.Type {
		case uapi.ETHTOOL_A_FEC_STAT_CORRECTED:
			name = "fec/corrected"
		case uapi.ETHTOOL_A_FEC_STAT_UNCORR:
			name = "fec/uncorrectable"
		case uapi.ETHTOOL_A_FEC_STAT_CORR_BITS:
			name = "fec/corrected-bits"
		}
		if name != "" && len(a.Data) >= 8 {
			c[name] = binary.NativeEndian.Uint64(a.Data)
		}
	})
}

// decodePauseCounters decodes the statistics of an ETHTOOL_MSG_PAUSE_GET_REPLY.
func decodePauseCounters(body []byte, c Counters) error {
	return eachNested(body, uapi.ETHTOOL_A_PAUSE_STATS, func(a *kernel.Attributes) {
		switch a.Type {
		case uapi.ETHTOOL_A_PAUSE_STAT_RX_FRAMES:
			c["pause/rx"] = a.Uint64()
		case uapi.ETHTOOL_A_PAUSE_STAT_TX_FRAMES:
			c["pause/tx"] = a.Uint64()
		case uapi.ETHTOOL_A_PAUSE_STAT_TX_PAUSE_STORM_EVENTS:
			c["pause/tx-storm"] = a.Uint64()
		}
	})
}

// macCounters are the names of IEEE 802.3 clause 30.3.1 in the order of the
// kernel's ETHTOOL_A_STATS_ETH_MAC_*; those of the kernel's strings are the same.
var macCounters = [...]string{
	"FramesTransmittedOK", "SingleCollisionFrames", "MultipleCollisionFrames", "FramesReceivedOK",
	"FrameCheckSequenceErrors", "AlignmentErrors", "OctetsTransmittedOK", "FramesWithDeferredXmissions",
	"LateCollisions", "FramesAbortedDueToXSColls", "FramesLostDueToIntMACXmitError", "CarrierSenseErrors",
	"OctetsReceivedOK", "FramesLostDueToIntMACRcvError", "MulticastFramesXmittedOK", "BroadcastFramesXmittedOK",
	"FramesWithExcessiveDeferral", "MulticastFramesReceivedOK", "BroadcastFramesReceivedOK",
	"InRangeLengthErrors", "OutOfRangeLengthField", "FrameTooLongErrors",
}

// decodeStandardCounters decodes an ETHTOOL_MSG_STATS_GET_REPLY.
func decodeStandardCounters(body []byte, c Counters) error {
	a := kernel.AttributesOf(body)
	for a.Next() {
		if a.Type != uapi.ETHTOOL_A_STATS_GRP {
			continue
		}
		id := uint32(1 << 31) // none
		group := a.Nested()
		for group.Next() {
			switch group.Type {
			case uapi.ETHTOOL_A_STATS_GRP_ID:
				id = group.Uint32()
			case uapi.ETHTOOL_A_STATS_GRP_STAT:
				one := group.Nested()
				for one.Next() {
					switch {
					case id == uapi.ETHTOOL_STATS_ETH_PHY && one.Type == 0:
						c["phy/SymbolErrorDuringCarrier"] = one.Uint64()
					case id == uapi.ETHTOOL_STATS_ETH_MAC && int(one.Type) < len(macCounters):
						c["mac/"+macCounters[one.Type]] = one.Uint64()
					}
				}
				group.Join(one)
			}
		}
		a.Join(group)
	}
	return a.Err()
}

// eachNested calls f for each attribute within those of a type.
func eachNested(body []byte, typ uint16, f func(*kernel.Attributes)) error {
	a := kernel.AttributesOf(body)
	for a.Next() {
		if a.Type != typ {
			continue
		}
		nested := a.Nested()
		for nested.Next() {
			f(nested)
		}
		a.Join(nested)
	}
	return a.Err()
}

// readAER reads the error counters (Advanced Error Reporting) of a NIC's function
// and the hops above it. A VF's are its PF's.
func (s *survey) readAER(ctx context.Context, n *NIC, c Counters) {
	if n.PCI == nil || n.Function == VF {
		return
	}
	addresses := []string{n.PCI.Address}
	for _, hop := range n.PCI.Path {
		addresses = append(addresses, hop.Address)
	}
	for i, address := range addresses {
		for _, severity := range [...]string{"correctable", "nonfatal", "fatal"} {
			data, err := s.ReadFile(ctx, "/sys/bus/pci/devices/"+address+"/aer_dev_"+severity)
			if err == nil {
				err = parseAER(string(data), "aer/"+address+"/"+severity+"/", c)
			}
			if err != nil {
				if i == 0 || kernel.ReasonOf(err) == kernel.Failed {
					n.missed("counters/aer", err)
				}
				break // who lacks one lacks all
			}
		}
	}
}

// parseAER reads an aer_dev_* file: a line for each kind of error, "RxErr 0", and
// their sum last.
func parseAER(text, prefix string, c Counters) error {
	for line := range strings.Lines(text) {
		name, count, found := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || strings.HasPrefix(name, "TOTAL_ERR_") {
			continue
		}
		v, err := strconv.ParseUint(strings.TrimSpace(count), 10, 64)
		if !found || err != nil {
			return fmt.Errorf("%w: AER counter %.60q", kernel.ErrMalformed, line)
		}
		c[prefix+name] = v
	}
	return nil
}
