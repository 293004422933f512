package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Event is a change that the kernel tells of. It tells where and what, never who:
// its notifications name no author.
type Event struct {
	// Index is the device's, 0 where it was not told.
	Index int
	// What changed, in ethtool's words ("rings"), or of the link as a whole: "link",
	// "link gone".
	What string
}

// Watch subscribes to what the running kernel tells about network devices: link
// changes, and settings changed through ethtool netlink, by whomever. The
// result is for Options.Changes; it ends with ctx.
//
// Settings changed by the older ethtool ioctls are told of too, since the
// kernel does so from either way. Not told of is what lives in sysfs and procfs
// alone (the affinity of interrupts, RPS, XPS, NAPI's deferral, sysctls), PCI
// changes, and before Linux 6.17 RSS: for those there is the interval.
func Watch(ctx context.Context, live *kernel.Live) (func(context.Context) (Event, error), error) {
	groups := []kernel.Group{
		{Family: kernel.FamilyRoute, Route: uapi.RTNLGRP_LINK},
		{Family: kernel.FamilyEthtool, Name: "monitor"},
	}
	type told struct {
		event Event
		err   error
	}
	changes := make(chan told)
	for _, g := range groups {
		s, err := live.Subscribe(ctx, g)
		if kernel.ReasonOf(err) == kernel.Unsupported {
			continue // a kernel before 5.6 has no ethtool netlink
		}
		if err != nil {
			return nil, err
		}
		go func() {
			defer s.Close()
			for {
				n, err := s.Next(ctx)
				select {
				case changes <- told{eventOf(n), err}:
				case <-ctx.Done():
					return
				}
				if err != nil && !errors.Is(err, kernel.ErrOverrun) {
					return
				}
			}
		}()
	}
	return func(ctx context.Context) (Event, error) {
		select {
		case t := <-changes:
			return t.event, t.err
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}, nil
}

// eventOf says what a notification is about, as far as it can be told.
func eventOf(n kernel.Notification) Event {
	if n.Family != kernel.FamilyEthtool {
		e := Event{What: "link"}
		if n.Command == uapi.RTM_DELLINK {
			e.What = "link gone"
		}
		const index = 4 // in struct ifinfomsg
		if len(n.Body) >= index+4 {
			e.Index = int(binary.NativeEndian.Uint32(n.Body[index:]))
		}
		return e
	}
	e := Event{What: notifications[n.Command]}
	if e.What == "" {
		e.What = fmt.Sprintf("ethtool notification %d", n.Command)
	}
	// The header is the first attribute of every ethtool message.
	for a := kernel.AttributesOf(n.Body); a.Next(); {
		if a.Type != uapi.ETHTOOL_A_RINGS_HEADER {
			continue
		}
		for h := a.Nested(); h.Next(); {
			if h.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
				e.Index = int(h.Uint32())
			}
		}
	}
	return e
}

// notifications are ethtool's, which its monitor names alike.
var notifications = map[uint16]string{
	uapi.ETHTOOL_MSG_LINKINFO_NTF:   "linkinfo",
	uapi.ETHTOOL_MSG_LINKMODES_NTF:  "linkmodes",
	uapi.ETHTOOL_MSG_FEATURES_NTF:   "features",
	uapi.ETHTOOL_MSG_PRIVFLAGS_NTF:  "private flags",
	uapi.ETHTOOL_MSG_RINGS_NTF:      "rings",
	uapi.ETHTOOL_MSG_CHANNELS_NTF:   "channels",
	uapi.ETHTOOL_MSG_COALESCE_NTF:   "coalesce",
	uapi.ETHTOOL_MSG_PAUSE_NTF:      "pause",
	uapi.ETHTOOL_MSG_EEE_NTF:        "eee",
	uapi.ETHTOOL_MSG_FEC_NTF:        "fec",
	uapi.ETHTOOL_MSG_MODULE_NTF:     "module",
	uapi.ETHTOOL_MSG_RSS_NTF:        "rss",
	uapi.ETHTOOL_MSG_RSS_CREATE_NTF: "rss context",
	uapi.ETHTOOL_MSG_RSS_DELETE_NTF: "rss context gone",
}
