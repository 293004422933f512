package agent

import (
	"bytes"
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
	// "link gone"; else which device or module came or went.
	What string
	// Handle is the device that devlink tells of, "pci/0000:3b:00.0".
	Handle string
}

// whole reports whether an event concerns more than the devices that it names.
func (e Event) whole() bool { return e.Index == 0 && e.Handle == "" }

// Watch subscribes to what the running kernel tells about network devices: link
// changes, settings changed through ethtool netlink, devlink's devices and ports, by
// whomever, and devices that come, go or change their driver. The result is for
// Options.Changes; it ends with ctx.
//
// Settings changed by the older ethtool ioctls are told of too, since the
// kernel does so from either way. Not told of is what lives in sysfs and procfs
// alone (the affinity of interrupts, RPS, XPS, NAPI's deferral, sysctls), what a
// PCIe link runs at, an XDP program that is attached by a bpf_link, rules for flows
// (ntuple) and tunables, which only ioctls set, multicast groups of bridges (which are
// in a group of rtnetlink that nobody listens to here), and before Linux 6.17 RSS: for
// those there is the interval.
func Watch(ctx context.Context, live *kernel.Live) (func(context.Context) (Event, error), error) {
	groups := []kernel.Group{
		{Family: kernel.FamilyRoute, Route: uapi.RTNLGRP_LINK},
		{Family: kernel.FamilyEthtool, Name: "monitor"},
		{Family: kernel.FamilyDevlink, Name: "config"},
		{Family: kernel.FamilyUevent},
	}
	type told struct {
		event Event
		err   error
	}
	changes := make(chan told)
	for _, g := range groups {
		s, err := live.Subscribe(ctx, g)
		switch reason := kernel.ReasonOf(err); {
		case reason == kernel.Unsupported:
			continue // a kernel before 5.6 has no ethtool netlink, others no devlink
		case reason == kernel.Denied && g.Family == kernel.FamilyUevent:
			continue // SELinux has a class of its own for these sockets; the interval remains
		case err != nil:
			return nil, err
		}
		go func() {
			defer s.Close()
			for {
				n, err := s.Next(ctx)
				var event Event
				concerns := true
				if err == nil {
					event, concerns = eventOf(n)
				}
				if !concerns {
					continue
				}
				select {
				case changes <- told{event, err}:
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

// eventOf says what a notification is about, as far as it can be told, and whether it
// concerns anybody here.
func eventOf(n kernel.Notification) (e Event, concerns bool) {
	switch n.Family {
	case kernel.FamilyEthtool:
		return ethtoolEvent(n), true
	case kernel.FamilyDevlink:
		return devlinkEvent(n)
	case kernel.FamilyUevent:
		return uevent(n.Body)
	}
	return linkEvent(n), true
}

// linkEvent is of RTNLGRP_LINK. A bridge tells there of its ports, too: for it a
// port that leaves is deleted.
func linkEvent(n kernel.Notification) Event {
	const index, afBridge = 4, 7 // struct ifinfomsg; PF_BRIDGE
	e := Event{What: "link"}
	if n.Command == uapi.RTM_DELLINK && !(len(n.Body) > 0 && n.Body[0] == afBridge) {
		e.What = "link gone"
	}
	if len(n.Body) >= index+4 {
		e.Index = int(binary.NativeEndian.Uint32(n.Body[index:]))
	}
	return e
}

// ethtoolEvent is of ethtool's monitor.
func ethtoolEvent(n kernel.Notification) Event {
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

// devlinkEvent is of devlink's group "config".
func devlinkEvent(n kernel.Notification) (e Event, concerns bool) {
	switch n.Command {
	case uapi.DEVLINK_CMD_FLASH_UPDATE, uapi.DEVLINK_CMD_FLASH_UPDATE_STATUS, // a line of progress each
		uapi.DEVLINK_CMD_TRAP_NEW, uapi.DEVLINK_CMD_TRAP_DEL, uapi.DEVLINK_CMD_TRAP_GROUP_NEW, uapi.DEVLINK_CMD_TRAP_GROUP_DEL,
		uapi.DEVLINK_CMD_TRAP_POLICER_NEW, uapi.DEVLINK_CMD_TRAP_POLICER_DEL,
		uapi.DEVLINK_CMD_REGION_NEW, uapi.DEVLINK_CMD_REGION_DEL: // of which there are no facts here
		return e, false
	}
	e.What = "devlink"
	var bus, name string
	for a := kernel.AttributesOf(n.Body); a.Next(); {
		switch a.Type {
		case uapi.DEVLINK_ATTR_BUS_NAME:
			bus = a.String()
		case uapi.DEVLINK_ATTR_DEV_NAME:
			name = a.String()
		case uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX:
			e.Index = int(a.Uint32())
		}
	}
	switch {
	case n.Command == uapi.DEVLINK_CMD_NEW, n.Command == uapi.DEVLINK_CMD_DEL:
		e.Index = 0 // its devices come with it
	case bus != "" && name != "":
		e.Handle = bus + "/" + name
	}
	return e, true
}

// uevent is of a device or module that comes or goes, or of a driver that is bound
// or unbound. What it is about is on the buses: which NIC stands below which hop, and
// who shares a group. Network devices themselves are told of as links.
func uevent(body []byte) (e Event, concerns bool) {
	var action, subsystem, class string
	for line := range bytes.SplitSeq(body, []byte{0}) {
		key, value, _ := bytes.Cut(line, []byte("="))
		switch string(key) {
		case "ACTION":
			action = string(value)
		case "SUBSYSTEM":
			subsystem = string(value)
		case "PCI_CLASS":
			class = string(value)
		}
	}
	switch subsystem {
	case "pci":
		// Network controllers and bridges: 02xxxx and 06xxxx, without leading zeros.
		if len(class) == 5 && class[0] != '2' && class[0] != '6' || len(class) > 5 {
			return e, false
		}
	case "virtio", "auxiliary", "vmbus", "xen", "module":
	default:
		return e, false
	}
	switch action {
	case "add", "remove", "bind", "unbind", "change": // a PF's virtual functions are a change
		return Event{What: subsystem + " " + action}, true
	}
	return e, false
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
