package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// FamilyUevent is NETLINK_KOBJECT_UEVENT, what udev listens to. It has one group, and
// a notification's body is the kernel's text: "add@/devices/..." and lines of
// "KEY=value", each ended by a NUL (lib/kobject_uevent.c).
const FamilyUevent = "uevent"

// Group is one of the kernel's multicast groups of notifications.
type Group struct {
	// Family is FamilyRoute, FamilyUevent or the name of a generic netlink family.
	Family string
	// Route is the group's number (RTNLGRP_LINK) in the route family; Name its
	// name ("monitor", "mgmt", "config") in a generic one.
	Route int
	Name  string
}

// Subscription receives the kernel's notifications about changes.
//
// Whoever keeps state from them reads everything once after subscribing, and
// again after each ErrOverrun: that order loses no change.
type Subscription struct {
	file  *os.File
	raw   syscall.RawConn
	plain bool              // uevents, which are no netlink messages
	names map[uint16]string // family by message type; empty for route
	queue []Notification
	buf   []byte
}

// Notification is a change that the kernel tells of.
type Notification struct {
	Family string
	Message
}

// Subscribe joins groups, which are all of the route family, all of generic ones, or
// the one of uevents. A group that this kernel does not have is an error that counts as
// unsupported.
func (l *Live) Subscribe(ctx context.Context, groups ...Group) (*Subscription, error) {
	protocol := unix.NETLINK_GENERIC
	if slices.ContainsFunc(groups, func(g Group) bool { return g.Family == FamilyRoute }) {
		protocol = unix.NETLINK_ROUTE
	}
	plain := slices.ContainsFunc(groups, func(g Group) bool { return g.Family == FamilyUevent })
	if plain {
		protocol = unix.NETLINK_KOBJECT_UEVENT
	}
	names := map[uint16]string{}
	numbers := make([]int, 0, len(groups))
	for _, g := range groups {
		switch g.Family {
		case FamilyRoute:
			numbers = append(numbers, g.Route)
			continue
		case FamilyUevent:
			numbers = append(numbers, ueventGroup)
			continue
		}
		family, err := l.family(ctx, g.Family)
		if err != nil {
			return nil, err
		}
		id, ok := family.Groups[g.Name]
		if !ok {
			return nil, &Error{Op: "subscribe to " + g.Family + " " + g.Name, Err: fmt.Errorf("%w: this kernel does not have the group", syscall.EOPNOTSUPP)}
		}
		numbers = append(numbers, int(id))
		names[family.ID] = family.Name
	}
	s, err := dial(protocol)
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, n); err != nil {
			return nil, errors.Join(&Error{Op: fmt.Sprintf("subscribe to group %d", n), Err: err}, s.close())
		}
	}
	if err := unix.SetNonblock(s.fd, true); err != nil {
		return nil, errors.Join(&Error{Op: "subscribe", Err: err}, s.close())
	}
	// From here on the runtime's poller waits, so that Next can be cancelled.
	file := os.NewFile(uintptr(s.fd), "netlink")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Subscription{file: file, raw: raw, plain: plain, names: names, buf: make([]byte, receiveBuffer)}, nil
}

// ueventGroup is the kernel's own; in the other one udevd passes on what it made of
// events.
const ueventGroup = 1

// Close ends the subscription.
func (s *Subscription) Close() error { return s.file.Close() }

// Next waits for the next notification. ErrOverrun says that some were lost,
// after which Next can be called again; any other error is final, ctx's among
// them.
func (s *Subscription) Next(ctx context.Context) (Notification, error) {
	for len(s.queue) == 0 {
		if err := s.fill(ctx); err != nil {
			return Notification{}, err
		}
	}
	n := s.queue[0]
	s.queue = s.queue[1:]
	return n, nil
}

// fill reads one datagram into the queue.
func (s *Subscription) fill(ctx context.Context) error {
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var n int
	var from unix.Sockaddr
	var err error
	waitErr := s.raw.Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), s.buf, unix.MSG_TRUNC)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case waitErr != nil:
		return waitErr
	case errors.Is(err, unix.ENOBUFS), n > len(s.buf):
		return ErrOverrun
	case err != nil:
		return err
	}
	if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
		return nil // not the kernel's word
	}
	if s.plain {
		s.queue = []Notification{{FamilyUevent, Message{Body: slices.Clone(s.buf[:n])}}}
		return nil
	}
	s.queue, err = readNotifications(slices.Clone(s.buf[:n]), s.names)
	return err
}

// readNotifications decodes one datagram of a subscription. names has the
// generic families by message type and is empty on a route socket.
func readNotifications(b []byte, names map[uint16]string) ([]Notification, error) {
	var queue []Notification
	for len(b) > 0 {
		m, rest, err := cut(b)
		if err != nil {
			return nil, err
		}
		b = rest
		switch name, generic := names[m.typ]; {
		case m.typ == uapi.NLMSG_OVERRUN:
			return nil, ErrOverrun
		case m.typ < uapi.NLMSG_MIN_TYPE:
		case len(names) == 0:
			queue = append(queue, Notification{FamilyRoute, Message{m.typ, m.body}})
		case generic && len(m.body) >= genericHeader:
			queue = append(queue, Notification{name, Message{uint16(m.body[0]), m.body[genericHeader:]}})
		case generic:
			return nil, fmt.Errorf("%w: a notification of %d bytes", ErrMalformed, len(m.body))
		}
	}
	return queue, nil
}
