package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// The facts that can be changed, read again for one NIC: of the kernel, or of
// the survey where a recorded host was only asked in bulk.

// ReadRings reads the rings of one NIC, by its index.
func ReadRings(ctx context.Context, r kernel.Reader, nic NIC) (*Rings, error) {
	err := readAgain(ctx, &survey{Reader: r}, &nic, uapi.ETHTOOL_MSG_RINGS_GET, nil)
	return nic.Queues.Rings, err
}

// ReadChannels reads the channels of one NIC, by its index.
func ReadChannels(ctx context.Context, r kernel.Reader, nic NIC) (*Channels, error) {
	err := readAgain(ctx, &survey{Reader: r}, &nic, uapi.ETHTOOL_MSG_CHANNELS_GET, nil)
	return nic.Queues.Channels, err
}

// ReadFeatures reads the features of one NIC, by its index.
func ReadFeatures(ctx context.Context, r kernel.Reader, nic NIC) (map[string]Feature, error) {
	s := &survey{Reader: r}
	w := wordsOf(ctx, s, uapi.ETH_SS_FEATURES)
	err := readAgain(ctx, s, &nic, uapi.ETHTOOL_MSG_FEATURES_GET, w)
	return nic.Offloads.Features, err
}

// FeaturesAs reads the features of one NIC, by its index, and returns all after add was
// called for each. A Reader of [Together] has that done once for all NICs with the same
// features, which are most of a kind: nobody may write on it.
func FeaturesAs[T any](ctx context.Context, r kernel.Reader, nic NIC, add func(all *T, name string, f Feature)) (all T, err error) {
	s := &survey{Reader: r}
	w := wordsOf(ctx, s, uapi.ETH_SS_FEATURES)
	t, many := r.(*together)
	told := false
	g := groupFor(uapi.ETHTOOL_MSG_FEATURES_GET)
	g.file = func(_ *NIC, w *words, body []byte) error {
		told = true
		key := string(withoutHeader(body))
		if many {
			if known, ok := t.features[key].(T); ok {
				all = known
				return nil
			}
		}
		err := eachFeature(w, body, func(name string, f Feature) { add(&all, name, f) })
		if err == nil && many {
			t.features[key] = all
		}
		return err
	}
	err = g.again(ctx, s, &nic, w)
	if err == nil && !told { // of a recorded host the survey's
		for name, f := range nic.Offloads.Features {
			add(&all, name, f)
		}
	}
	return all, err
}

// ReadCoalesce reads the interrupt moderation of one NIC, by its index.
func ReadCoalesce(ctx context.Context, r kernel.Reader, nic NIC) (*Coalesce, error) {
	err := readAgain(ctx, &survey{Reader: r}, &nic, uapi.ETHTOOL_MSG_COALESCE_GET, nil)
	return nic.Queues.Coalesce, err
}

// ReadPrivateFlags reads the driver's own flags of one NIC, by its index.
func ReadPrivateFlags(ctx context.Context, r kernel.Reader, nic NIC) (map[string]bool, error) {
	err := readAgain(ctx, &survey{Reader: r}, &nic, uapi.ETHTOOL_MSG_PRIVFLAGS_GET, nil)
	return nic.Offloads.PrivateFlags, err
}

// ReadPause reads the flow control of one NIC, by its index.
func ReadPause(ctx context.Context, r kernel.Reader, nic NIC) (*Pause, error) {
	err := readAgain(ctx, &survey{Reader: r}, &nic, uapi.ETHTOOL_MSG_PAUSE_GET, nil)
	return nic.Link.Pause, err
}

// ReadLinkModes reads the link of one NIC, by its index: negotiation, speed,
// duplex and modes. The other facts are the NIC's.
func ReadLinkModes(ctx context.Context, r kernel.Reader, nic NIC) (Link, error) {
	s := &survey{Reader: r}
	w := wordsOf(ctx, s, uapi.ETH_SS_LINK_MODES)
	err := readAgain(ctx, s, &nic, uapi.ETHTOOL_MSG_LINKMODES_GET, w)
	return nic.Link, err
}

// ReadFEC reads the forward error correction of one NIC, by its index.
func ReadFEC(ctx context.Context, r kernel.Reader, nic NIC) (*FEC, error) {
	s := &survey{Reader: r}
	w := wordsOf(ctx, s, uapi.ETH_SS_LINK_MODES)
	err := readAgain(ctx, s, &nic, uapi.ETHTOOL_MSG_FEC_GET, w)
	return nic.Link.FEC, err
}

// ReadEEE reads the Energy-Efficient Ethernet of one NIC, by its index.
func ReadEEE(ctx context.Context, r kernel.Reader, nic NIC) (*EEE, error) {
	s := &survey{Reader: r}
	w := wordsOf(ctx, s, uapi.ETH_SS_LINK_MODES)
	err := readAgain(ctx, s, &nic, uapi.ETHTOOL_MSG_EEE_GET, w)
	return nic.Link.EEE, err
}

// ReadNetdev reads what ip link shows of one NIC, by its index: its MTU,
// queue length and alias, and the limits of offloads. The other facts are the NIC's.
func ReadNetdev(ctx context.Context, r kernel.Reader, nic NIC) (NIC, error) {
	l, _, err := readLinkAgain(ctx, r, nic)
	if errors.Is(err, kernel.ErrNotRecorded) {
		return nic, nic.whyUnread("link")
	}
	if err != nil {
		return nic, err
	}
	nic.Link.MTU, nic.Link.MinMTU, nic.Link.MaxMTU = l.nic.Link.MTU, l.nic.Link.MinMTU, l.nic.Link.MaxMTU
	nic.Link.TxQueueLen, nic.Alias, nic.Offloads.Limits = l.nic.Link.TxQueueLen, l.nic.Alias, l.nic.Offloads.Limits
	return nic, nil
}

// ReadMulticastFlags reads the flags MULTICAST and ALLMULTI of one NIC, by its
// index, as an administrator set them. Of a recorded host, ALLMULTI is nil where
// somebody else may have asked for it.
func ReadMulticastFlags(ctx context.Context, r kernel.Reader, nic NIC) (capable, allMulti *bool, err error) {
	_, flags, err := readLinkAgain(ctx, r, nic)
	switch {
	case errors.Is(err, kernel.ErrNotRecorded):
		if users := nic.Multicast.AllMultiUsers; users != nil && *users == 0 {
			allMulti = new(false)
		}
		return nic.Multicast.Capable, allMulti, nic.whyUnread("link")
	case err != nil:
		return nil, nil, err
	}
	return new(flags&uapi.IFF_MULTICAST != 0), new(flags&uapi.IFF_ALLMULTI != 0), nil
}

// ReadLinkGroups reads the link-layer groups of one NIC, by its index.
func ReadLinkGroups(ctx context.Context, r kernel.Reader, nic NIC) ([]Membership, error) {
	const path = "/proc/net/dev_mcast"
	b, err := r.ReadFile(ctx, path)
	if err != nil {
		return nil, err
	}
	groups, err := parseDevMcast(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return groups[nic.Index], nil
}

// ReadBridge reads a bridge by its index, nil where the NIC is none: what
// [Stack] has of it, without its groups. Of the ports of bridges it reads what
// they are there.
func ReadBridge(ctx context.Context, r kernel.Reader, nic NIC) (*Bridge, *BridgePort, error) {
	l, _, err := readLinkAgain(ctx, r, nic)
	switch {
	case errors.Is(err, kernel.ErrNotRecorded):
		return nic.Stack.Bridge, nic.Stack.BridgePort, nic.whyUnread("link")
	case err != nil:
		return nil, nil, err
	}
	return l.nic.Stack.Bridge, l.nic.Stack.BridgePort, nil
}

// readLinkAgain asks for one link, with the flags of its ifinfomsg.
func readLinkAgain(ctx context.Context, r kernel.Reader, nic NIC) (l link, flags uint32, err error) {
	body := kernel.Body(make([]byte, linkHeader))
	binary.NativeEndian.PutUint32(body[4:], uint32(nic.Index))
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK,
		Body: body.Uint32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS),
	})
	if err != nil {
		return l, 0, err
	}
	if len(messages) != 1 {
		err = fmt.Errorf("%w: %d answers", kernel.ErrMalformed, len(messages))
	} else {
		l, err = decodeLink(messages[0].Body)
	}
	if err != nil {
		return l, 0, &kernel.Error{Op: "route LINK_GET", Object: nic.Name, Err: err}
	}
	return l, binary.NativeEndian.Uint32(messages[0].Body[8:]), nil
}

// readAgain replaces one group of the NIC's facts. An error is about that group.
func readAgain(ctx context.Context, s *survey, n *NIC, command uint16, w *words) error {
	return groupFor(command).again(ctx, s, n, w)
}

// groupFor is the group of a command, which must have one.
func groupFor(command uint16) ethtoolGroup {
	return ethtoolGroups[slices.IndexFunc(ethtoolGroups, func(g ethtoolGroup) bool { return g.command == command })]
}

func (g ethtoolGroup) again(ctx context.Context, s *survey, n *NIC, w *words) error {
	messages, err := g.one(ctx, s.Reader, n.Index)
	switch {
	case errors.Is(err, kernel.ErrNotRecorded):
		return n.whyUnread(g.fact)
	case kernel.ReasonOf(err) == kernel.Unsupported && g.otherwise != nil: // an older kernel
		return s.aside(n, func(n *NIC) error { return g.otherwise(ctx, s, n, w) })
	case err != nil:
		return err
	case len(s.unread) > 0:
		return fmt.Errorf("%s: %s", s.unread[0].Fact, s.unread[0].Detail)
	case len(messages) != 1:
		return &kernel.Error{Op: "ethtool " + g.name, Object: n.Name, Err: fmt.Errorf("%w: %d answers", kernel.ErrMalformed, len(messages))}
	}
	if err := s.aside(n, func(n *NIC) error { return g.file(n, w, messages[0].Body) }); err != nil {
		return &kernel.Error{Op: "ethtool " + g.name, Object: n.Name, Err: err}
	}
	return nil
}

// whyUnread is the error that left a fact out of the survey, nil if none did.
func (n *NIC) whyUnread(fact string) error {
	for _, u := range n.Unread {
		if u.Fact == fact {
			return unreadError{u}
		}
	}
	return nil
}

// unreadError is the reason of an Unread as an error.
type unreadError struct{ Unread }

func (e unreadError) Error() string {
	if e.Detail == "" {
		return "the driver does not offer it"
	}
	return e.Detail
}

// Is makes kernel.ReasonOf find the reason again.
func (e unreadError) Is(target error) bool {
	switch e.Reason {
	case kernel.Unsupported:
		return target == errors.ErrUnsupported
	case kernel.Denied:
		return target == fs.ErrPermission
	default:
		return false
	}
}
