package kernel

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// identify asks for the number that our namespace has for another one, and what in
// there is built on a device of ours. A namespace that ended meanwhile has none; one
// that we may not open is closed.
func (l *Live) identify(ctx context.Context, ns *Namespace) error {
	if ns.Own {
		return nil
	}
	paths := slices.Clone(ns.Paths)
	for _, pid := range ns.PIDs {
		paths = append(paths, "/proc/"+strconv.Itoa(pid)+"/ns/net")
	}
	for _, path := range paths {
		fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) })
		if err != nil {
			ns.Closed = ns.Closed || ReasonOf(err) == Denied
			continue
		}
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil || stat.Ino != ns.Inode {
			_ = unix.Close(fd) // another one is there now
			continue
		}
		if ns.ID, err = numberOf(fd, func(req Request) ([]Message, error) { return l.Netlink(ctx, req) }); err == nil {
			ns.Closed = false
			err = l.lookInside(ctx, ns, fd)
		}
		_ = unix.Close(fd)
		if err != nil {
			return &Error{Op: opUsers, Object: path, Err: err}
		}
		return nil
	}
	return nil
}

// numberOf is the number that a namespace has in the one that is asked.
func numberOf(fd int, ask func(Request) ([]Message, error)) (*int, error) {
	messages, err := ask(Request{
		Family: FamilyRoute, Command: uapi.RTM_GETNSID,
		Body: Body(make([]byte, netlinkHeader(FamilyRoute, uapi.RTM_GETNSID))).Uint32(uapi.NETNSA_FD, uint32(fd)),
	})
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return decodeNamespaceID(messages[len(messages)-1].Body)
}

// lookInside lists the devices in a namespace that are built on one of ours. The
// kernel has no list of them here: neither sysfs nor a device tells of what lies on
// it in another namespace. A device that was made in there (ip link add link X netns
// N) doesn't even give its namespace a number, so it is entered, which takes
// CAP_SYS_ADMIN; without it, one with a number can still be asked for its devices.
func (l *Live) lookInside(ctx context.Context, ns *Namespace, fd int) error {
	own, err := retry(func() (int, error) { return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(own) }()
	links := Request{Family: FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true, Body: make([]byte, netlinkHeader(FamilyRoute, uapi.RTM_GETLINK))}
	mask := func(b []byte) Body { return Body(b).Uint32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS) }
	ask := func(req Request) ([]Message, error) { return l.Netlink(ctx, req) }
	s, err := dialInside(fd)
	switch {
	case err == nil:
		c := &conversation{transport: s}
		defer func() { _ = c.close() }()
		links.Body = mask(links.Body)
		ask = func(req Request) ([]Message, error) {
			return guard(ctx, l.slots, opUsers, "", func() ([]Message, error) {
				return c.request(frame{typ: req.Command, dump: req.Dump, body: req.Body})
			})
		}
	case ReasonOf(err) == Denied && ns.ID != nil:
		links.Body = mask(links.Body).Uint32(uapi.IFLA_TARGET_NETNSID, uint32(*ns.ID))
	case ReasonOf(err) == Denied:
		ns.Closed = true
		return nil
	default:
		return err
	}
	messages, err := ask(links)
	switch {
	case errors.Is(err, ErrInterrupted): // every attempt's answers are there
	case ReasonOf(err) == Denied:
		ns.Closed = true
		return nil
	case err != nil:
		return err
	}
	// The kernel numbers our namespace when it first tells of a device on one of ours.
	ours, err := numberOf(own, ask)
	if err != nil || ours == nil {
		return err
	}
	for _, m := range messages {
		upper, there, err := decodeUpper(m.Body, *ours)
		if err != nil {
			return err
		}
		if there && !slices.Contains(ns.Upper, upper) {
			ns.Upper = append(ns.Upper, upper)
		}
	}
	return nil
}

// dialInside opens a socket in another namespace. Its thread is there for that
// moment only; one that could not come back ends.
func dialInside(fd int) (*socket, error) {
	type answer struct {
		s   *socket
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		runtime.LockOSThread()
		own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err != nil {
			runtime.UnlockOSThread()
			_ = unix.Close(own)
			answers <- answer{nil, &Error{Op: "enter a network namespace", Err: err}}
			return
		}
		s, err := dial(unix.NETLINK_ROUTE)
		if unix.Setns(own, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		_ = unix.Close(own)
		answers <- answer{s, err}
	}()
	a := <-answers
	return a.s, a.err
}

// decodeUpper decodes of an RTM_NEWLINK message what tells whether the device is
// built on one in the namespace that has this number where the message is from.
func decodeUpper(body []byte, ours int) (upper Upper, there bool, err error) {
	a := AttributesAfter(body, netlinkHeader(FamilyRoute, uapi.RTM_GETLINK))
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_IFNAME:
			upper.Name = a.String()
		case uapi.IFLA_LINK:
			upper.Lower = int(a.Uint32())
		case uapi.IFLA_LINK_NETNSID:
			there = int(int32(a.Uint32())) == ours
		case uapi.IFLA_LINKINFO:
			info := a.Nested()
			for info.Next() {
				if info.Type == uapi.IFLA_INFO_KIND {
					upper.Kind = info.String()
				}
			}
			a.Join(info)
		}
	}
	if err := a.Err(); err != nil {
		return upper, false, fmt.Errorf("a device in another namespace: %w", err)
	}
	return upper, there && upper.Lower > 0, nil
}
