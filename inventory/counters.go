package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Counters are what counts since a driver was loaded, by "SOURCE/NAME":
//
//	ip/rx_crc_errors                  of the standard counters (StatisticNames) those below
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
	var same sameNotes
	for n, c := range of {
		s.readAER(ctx, n, c)
		n.Unread = same.as(n.Unread)
	}
	return all
}

// judged are the standard counters that rules go by. Thousands of devices have them all,
// and two looks of each are kept.
var judged = [...]string{
	"rx_packets", "tx_packets", "tx_dropped", "rx_crc_errors", "rx_frame_errors", "rx_missed_errors",
	"tx_carrier_errors", "rx_nohandler",
}

func (s *survey) readIPCounters(ctx context.Context, of map[*NIC]Counters) {
	list, err := ReadStatistics(ctx, s)
	found := map[*NIC]bool{}
	var names [len(judged)]string // made once for all devices
	var places [len(judged)]int
	for i, name := range judged {
		names[i], places[i] = "ip/"+name, slices.Index(statisticNames[:], name)
	}
	for _, one := range list {
		n := s.byIndex[one.Index]
		if n == nil {
			continue
		}
		found[n] = true
		for i, place := range places {
			if place < len(one.Values) { // an older kernel has fewer
				of[n][names[i]] = one.Values[place]
			}
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
	filing := func(decode func([]byte, func(StandardCounter)) error) func(*NIC, *words, []byte) error {
		return func(n *NIC, _ *words, body []byte) error { return decode(body, of[n].add) }
	}
	groups := []ethtoolGroup{
		{fact: "counters/fec", command: uapi.ETHTOOL_MSG_FEC_GET, name: "FEC_GET", statistics: true, file: filing(decodeFECCounters)},
		{fact: "counters/pause", command: uapi.ETHTOOL_MSG_PAUSE_GET, name: "PAUSE_GET", statistics: true, file: filing(decodePauseCounters)},
		{fact: "counters/mac", command: uapi.ETHTOOL_MSG_STATS_GET, name: "STATS_GET", header: uapi.ETHTOOL_A_STATS_HEADER, more: statisticsGroups(uapi.ETHTOOL_STATS_ETH_PHY, uapi.ETHTOOL_STATS_ETH_MAC), file: filing(decodeStandardCounters)},
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
			passed.note(kernel.Unsupported, len(groups))
		}
	}
}

// add files a counter under its name, where it is one that rules go by.
func (c Counters) add(one StandardCounter) {
	switch one.Group {
	case groupFEC, groupPause:
		c[one.Group+"/"+one.Name] = one.Value
	case groupPHY, groupMAC:
		c[one.Group[len("eth-"):]+"/"+one.Name] = one.Value
	}
}

// The groups of [StandardCounter].
const (
	groupFEC   = "fec"
	groupPause = "pause"
	groupPHY   = "eth-phy"
	groupMAC   = "eth-mac"
	groupCtrl  = "eth-ctrl"
	groupRMON  = "rmon"
)

// statisticsGroups asks for some of the four groups that the kernel has had since
// 5.13.
func statisticsGroups(groups ...int) kernel.Body {
	var value, size uint32
	for _, g := range groups {
		value |= 1 << g
		size = max(size, uint32(g)+1)
	}
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_STATS_GROUPS, kernel.Body{}.
		Flag(uapi.ETHTOOL_A_BITSET_NOMASK).
		Uint32(uapi.ETHTOOL_A_BITSET_SIZE, size).
		Uint32(uapi.ETHTOOL_A_BITSET_VALUE, value))
}

// decodeFECCounters decodes the statistics of an ETHTOOL_MSG_FEC_GET_REPLY. Each
// is an array: the port's, and then each lane's where the device counts by lane.
func decodeFECCounters(body []byte, add func(StandardCounter)) error {
	return eachNested(body, uapi.ETHTOOL_A_FEC_STATS, func(a *kernel.Attributes) {
		name := ""
		switch a.Type {
		case uapi.ETHTOOL_A_FEC_STAT_CORRECTED:
			name = "corrected"
		case uapi.ETHTOOL_A_FEC_STAT_UNCORR:
			name = "uncorrectable"
		case uapi.ETHTOOL_A_FEC_STAT_CORR_BITS:
			name = "corrected-bits"
		}
		if name != "" && len(a.Data) >= 8 {
			add(StandardCounter{groupFEC, name, binary.NativeEndian.Uint64(a.Data)})
		}
	})
}

// decodePauseCounters decodes the statistics of an ETHTOOL_MSG_PAUSE_GET_REPLY.
func decodePauseCounters(body []byte, add func(StandardCounter)) error {
	return eachNested(body, uapi.ETHTOOL_A_PAUSE_STATS, func(a *kernel.Attributes) {
		switch a.Type {
		case uapi.ETHTOOL_A_PAUSE_STAT_RX_FRAMES:
			add(StandardCounter{groupPause, "rx", a.Uint64()})
		case uapi.ETHTOOL_A_PAUSE_STAT_TX_FRAMES:
			add(StandardCounter{groupPause, "tx", a.Uint64()})
		case uapi.ETHTOOL_A_PAUSE_STAT_TX_PAUSE_STORM_EVENTS:
			add(StandardCounter{groupPause, "tx-storm", a.Uint64()})
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

// The other groups, likewise: clause 30.3.2 and 30.3.3, and RFC 2819.
var (
	phyCounters  = [...]string{"SymbolErrorDuringCarrier"}
	ctrlCounters = [...]string{"MACControlFramesTransmitted", "MACControlFramesReceived", "UnsupportedOpcodesReceived"}
	rmonCounters = [...]string{"etherStatsUndersizePkts", "etherStatsOversizePkts", "etherStatsFragments", "etherStatsJabbers"}
)

// decodeStandardCounters decodes an ETHTOOL_MSG_STATS_GET_REPLY.
func decodeStandardCounters(body []byte, add func(StandardCounter)) error {
	a := kernel.AttributesOf(body)
	for a.Next() {
		if a.Type != uapi.ETHTOOL_A_STATS_GRP {
			continue
		}
		name, names := "", []string(nil)
		group := a.Nested()
		for group.Next() {
			one := group.Nested()
			switch group.Type {
			case uapi.ETHTOOL_A_STATS_GRP_ID:
				switch group.Uint32() {
				case uapi.ETHTOOL_STATS_ETH_PHY:
					name, names = groupPHY, phyCounters[:]
				case uapi.ETHTOOL_STATS_ETH_MAC:
					name, names = groupMAC, macCounters[:]
				case uapi.ETHTOOL_STATS_ETH_CTRL:
					name, names = groupCtrl, ctrlCounters[:]
				case uapi.ETHTOOL_STATS_RMON:
					name, names = groupRMON, rmonCounters[:]
				}
				continue
			case uapi.ETHTOOL_A_STATS_GRP_STAT:
				for one.Next() {
					if int(one.Type) < len(names) {
						add(StandardCounter{name, names[one.Type], one.Uint64()})
					}
				}
			case uapi.ETHTOOL_A_STATS_GRP_HIST_RX, uapi.ETHTOOL_A_STATS_GRP_HIST_TX:
				if name == "" {
					continue
				}
				c := StandardCounter{Group: name}
				c.Name, c.Value = decodeBucket(one, group.Type == uapi.ETHTOOL_A_STATS_GRP_HIST_RX)
				if one.Err() == nil {
					add(c)
				}
			default:
				continue
			}
			group.Join(one)
		}
		a.Join(group)
	}
	return a.Err()
}

// decodeBucket decodes one bucket of packets by size. Its name is that of RFC 2819
// behind the direction: "rx-etherStatsPkts65to127Octets".
func decodeBucket(a *kernel.Attributes, rx bool) (name string, count uint64) {
	var low, high uint32
	for a.Next() {
		switch a.Type {
		case uapi.ETHTOOL_A_STATS_GRP_HIST_BKT_LOW:
			low = a.Uint32()
		case uapi.ETHTOOL_A_STATS_GRP_HIST_BKT_HI:
			high = a.Uint32()
		case uapi.ETHTOOL_A_STATS_GRP_HIST_VAL:
			count = a.Uint64()
		}
	}
	direction := "tx"
	if rx {
		direction = "rx"
	}
	switch {
	case low == 0 || low == high:
		return fmt.Sprintf("%s-etherStatsPkts%dOctets", direction, high), count
	case high == 0:
		return fmt.Sprintf("%s-etherStatsPkts%dtoMaxOctets", direction, low), count
	}
	return fmt.Sprintf("%s-etherStatsPkts%dto%dOctets", direction, low, high), count
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

// parseAER files the counters of an aer_dev_* file under their names.
func parseAER(text, prefix string, c Counters) error {
	return eachAER([]byte(text), func(name []byte, count uint64) { c[prefix+string(name)] = count })
}

// eachAER reads an aer_dev_* file: a line for each kind of error, "RxErr 0", and
// their sum last.
func eachAER(text []byte, add func(name []byte, count uint64)) error {
	for line := range bytes.Lines(text) {
		name, count, found := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if len(name) == 0 || bytes.HasPrefix(name, []byte("TOTAL_ERR_")) {
			continue
		}
		v, err := strconv.ParseUint(string(bytes.TrimSpace(count)), 10, 64)
		if !found || err != nil {
			return fmt.Errorf("%w: AER counter %.60q", kernel.ErrMalformed, line)
		}
		add(name, v)
	}
	return nil
}
