package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// An ethtoolGroup is a group of facts that ethtool netlink tells of every
// device in one dump.
type ethtoolGroup struct {
	// fact is the path that an Unread entry names.
	fact    string
	command uint16
	name    string // for error texts: "RINGS_GET"
	// verbose asks for bit sets with names, for those whose names are the
	// driver's own.
	verbose bool
	// refine says that the dump answers a narrower question than a request for
	// one device: who is absent from it, or in it several times, is asked.
	refine bool
	// statistics asks for the group's counters, too.
	statistics bool
	// header is the attribute that names the device, where it isn't the first; more
	// is what follows it in a request.
	header uint16
	more   kernel.Body
	// several says that a device can have several answers, of which a request for it
	// gets the first, and a dump that names it all.
	several bool
	// file decodes an answer's attributes into the NIC. It changes nothing where
	// it returns an error.
	file func(n *NIC, w *words, body []byte) error
	// otherwise is for kernels whose netlink lacks the command.
	otherwise func(context.Context, *survey, *NIC, *words) error
}

// ethtoolGroups are asked in this order. Every device has features, so who is
// absent from the last dump, if that one was finished, is gone.
var ethtoolGroups = []ethtoolGroup{
	{fact: "link.supportedModes", command: uapi.ETHTOOL_MSG_LINKMODES_GET, name: "LINKMODES_GET", file: fileLinkModes},
	{fact: "link.port", command: uapi.ETHTOOL_MSG_LINKINFO_GET, name: "LINKINFO_GET", file: fileLinkInfo},
	{fact: "link.detected", command: uapi.ETHTOOL_MSG_LINKSTATE_GET, name: "LINKSTATE_GET", file: fileLinkState},
	{fact: "link.fec", command: uapi.ETHTOOL_MSG_FEC_GET, name: "FEC_GET", file: fileFEC},
	{fact: "link.pause", command: uapi.ETHTOOL_MSG_PAUSE_GET, name: "PAUSE_GET", file: filePause},
	{fact: "link.eee", command: uapi.ETHTOOL_MSG_EEE_GET, name: "EEE_GET", file: fileEEE},
	{fact: "queues.channels", command: uapi.ETHTOOL_MSG_CHANNELS_GET, name: "CHANNELS_GET", file: fileChannels},
	{fact: "queues.rings", command: uapi.ETHTOOL_MSG_RINGS_GET, name: "RINGS_GET", file: fileRings},
	{fact: "queues.coalesce", command: uapi.ETHTOOL_MSG_COALESCE_GET, name: "COALESCE_GET", file: fileCoalesce},
	{fact: "queues.rss.table", command: uapi.ETHTOOL_MSG_RSS_GET, name: "RSS_GET", several: true, file: fileRSS, otherwise: readRSSByIoctl},
	{fact: "offloads.privateFlags", command: uapi.ETHTOOL_MSG_PRIVFLAGS_GET, name: "PRIVFLAGS_GET", verbose: true, file: filePrivateFlags},
	{fact: "offloads.timestamping", command: uapi.ETHTOOL_MSG_TSINFO_GET, name: "TSINFO_GET", refine: true, file: fileTimestamping},
	{fact: "offloads.features", command: uapi.ETHTOOL_MSG_FEATURES_GET, name: "FEATURES_GET", file: fileFeatures},
}

// The header of every message of ethtool netlink is its first attribute
// (ETHTOOL_A_RINGS_HEADER, ...), but for statistics.
const ethtoolHeader = uapi.ETHTOOL_A_RINGS_HEADER

// readEthtool reads what ethtool netlink tells.
func readEthtool(ctx context.Context, s *survey) {
	operations, err := ethtoolOperations(ctx, s)
	if err != nil {
		for _, g := range ethtoolGroups {
			for _, n := range s.nics {
				n.missed(g.fact, err)
			}
		}
		return
	}
	w := readWords(ctx, s, wordSets()...)

	var absent, last []absence
	for _, g := range ethtoolGroups {
		last = g.read(ctx, s, operations[g.command], w)
		absent = append(absent, last...)
	}
	gone := map[*NIC]bool{}
	for _, a := range last {
		gone[a.nic] = true
	}
	for _, a := range absent {
		reason := kernel.Unsupported
		if gone[a.nic] {
			reason = kernel.Gone
		}
		a.note(reason, len(ethtoolGroups))
	}
}

// ethtoolOperations are the commands of the kernel's ethtool family.
func ethtoolOperations(ctx context.Context, s *survey) (map[uint16]kernel.Operation, error) {
	families, err := kernel.Families(ctx, s)
	if err != nil {
		return nil, err
	}
	family, ok := families[kernel.FamilyEthtool]
	if !ok {
		return nil, errNoEthtool
	}
	return family.Operations, nil
}

// absence is a device that a finished dump passed over.
type absence struct {
	nic  *NIC
	fact string
}

// note notes it, with room for as many more as may come: who lacks one group lacks
// others, and says so of later subjects.
func (a absence) note(reason Reason, room int) {
	n := a.nic
	if len(n.Unread) == cap(n.Unread) {
		n.Unread = slices.Grow(n.Unread, room)
	}
	n.Unread = append(n.Unread, Unread{Fact: a.fact, Reason: reason})
}

// read asks for the group of all devices. It returns those that the kernel
// passed over without a word.
func (g ethtoolGroup) read(ctx context.Context, s *survey, can kernel.Operation, w *words) (passed []absence) {
	if !can.Dump && !can.Do {
		for _, n := range s.nics {
			err := unsupportedCommand(g.name)
			if g.otherwise != nil {
				err = g.otherwise(ctx, s, n, w)
			}
			if err != nil {
				n.missed(g.fact, err)
			}
		}
		return nil
	}
	if s.focused || s.stalled {
		return g.readSome(ctx, s, can, w)
	}
	answers := map[*NIC]int{} // how often each was answered
	finished := false
	if can.Dump {
		messages, err := s.Netlink(ctx, kernel.Request{Family: kernel.FamilyEthtool, Command: g.command, Dump: true, Body: g.body(0)})
		for _, m := range messages {
			index, err := indexIn(m.Body, g.headerType())
			if err != nil {
				s.missed("nics."+g.fact, &kernel.Error{Op: "ethtool " + g.name, Err: err})
				continue
			}
			if n := s.byIndex[index]; n != nil {
				answers[n]++
				g.fill(n, w, m.Body)
			}
		}
		s.stalled = late(err)
		finished = err == nil || errors.Is(err, kernel.ErrInterrupted)
		if err != nil && !finished && !worthAskingSingly(ctx, err) {
			for _, n := range s.nics {
				if answers[n] == 0 {
					n.missed(g.fact, err)
				}
			}
			return nil
		}
	}
	for _, n := range s.nics {
		switch {
		case finished && answers[n] == 0 && !g.refine:
			passed = append(passed, absence{n, g.fact})
		case !finished && answers[n] == 0, g.refine && answers[n] != 1:
			g.readOne(ctx, s, n, w)
		}
	}
	return passed
}

// worthAskingSingly says whether single devices may answer where the dump
// failed. The kernel ends a dump at the first device whose driver fails, and
// the devices behind that one must not suffer from it.
func worthAskingSingly(ctx context.Context, err error) bool {
	return ctx.Err() == nil && kernel.ReasonOf(err) != kernel.Denied && !errors.Is(err, kernel.ErrNotRecorded)
}

// readSome asks each device by itself, and notes what it has to say as if all had
// been asked in one dump.
func (g ethtoolGroup) readSome(ctx context.Context, s *survey, can kernel.Operation, w *words) (passed []absence) {
	for _, n := range s.nics {
		if err := s.lost[n]; err != nil && late(err) {
			n.missed(g.fact, err)
			continue
		}
		messages, err := s.Netlink(ctx, kernel.Request{
			Family: kernel.FamilyEthtool, Command: g.command, Dump: g.several && can.Dump, Body: g.body(n.Index),
		})
		switch {
		case can.Dump && !g.refine && (kernel.ReasonOf(err) == kernel.Unsupported || err == nil && len(messages) == 0):
			passed = append(passed, absence{n, g.fact})
			continue
		case err != nil:
			s.lose(n, err)
			n.missed(g.fact, err)
		}
		for _, m := range messages {
			g.fill(n, w, m.Body)
		}
	}
	return passed
}

// lose notes that a device didn't answer: it is not asked for the other groups, each
// of which would cost the others its whole deadline.
func (s *survey) lose(n *NIC, err error) {
	if !late(err) {
		return
	}
	if s.lost == nil {
		s.lost = map[*NIC]error{}
	}
	s.lost[n] = err
}

// readOne asks for the group of one device.
func (g ethtoolGroup) readOne(ctx context.Context, s *survey, n *NIC, w *words) {
	if err := s.lost[n]; err != nil && late(err) {
		n.missed(g.fact, err)
		return
	}
	messages, err := g.one(ctx, s.Reader, n.Index)
	if err != nil {
		s.lose(n, err)
		n.missed(g.fact, err)
		return
	}
	for _, m := range messages {
		g.fill(n, w, m.Body)
	}
}

// fill files one answer.
func (g ethtoolGroup) fill(n *NIC, w *words, body []byte) {
	if err := g.file(n, w, body); err != nil {
		n.missed(g.fact, &kernel.Error{Op: "ethtool " + g.name, Object: n.Name, Err: err})
	}
}

// body is a request's, for one device or (0) all.
func (g ethtoolGroup) body(index int) kernel.Body {
	var header kernel.Body
	if index != 0 {
		header = header.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, uint32(index))
	}
	var flags uint32
	if !g.verbose {
		flags |= uapi.ETHTOOL_FLAG_COMPACT_BITSETS
	}
	if g.statistics {
		flags |= uapi.ETHTOOL_FLAG_STATS
	}
	if flags != 0 {
		header = header.Uint32(uapi.ETHTOOL_A_HEADER_FLAGS, flags)
	}
	return append(kernel.Body{}.Nested(g.headerType(), header), g.more...)
}

func (g ethtoolGroup) headerType() uint16 { return cmp.Or(g.header, ethtoolHeader) }

// ethtoolIndex is the interface index in an answer's header.
func ethtoolIndex(body []byte) (int, error) { return indexIn(body, ethtoolHeader) }

func indexIn(body []byte, headerType uint16) (int, error) {
	index := 0
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		if attributes.Type != headerType {
			continue
		}
		header := attributes.Nested()
		for header.Next() {
			if header.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
				index = int(header.Uint32())
			}
		}
		attributes.Join(header)
		break
	}
	return index, attributes.Err()
}

// withoutHeader is what an answer says of its device, whichever that is.
func withoutHeader(body []byte) []byte {
	header := kernel.AttributesOf(body)
	if !header.Next() || header.Type != ethtoolHeader {
		return body
	}
	return header.Rest()
}

// errNoEthtool: kernels before 5.6, or built without ethtool netlink.
var errNoEthtool = fmt.Errorf("this kernel has no ethtool netlink: %w", errors.ErrUnsupported)

// unsupportedCommand is for a command that the kernel's family lacks.
func unsupportedCommand(name string) error {
	return fmt.Errorf("this kernel has no ethtool %s: %w", name, errors.ErrUnsupported)
}
