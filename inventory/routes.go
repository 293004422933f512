package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// defaultRoute is one next hop of a default route.
type defaultRoute struct {
	device int // its index
	// gateway is invalid where the route has none.
	gateway netip.Addr
}

// The sizes of struct rtmsg, rtnexthop and nhmsg.
const (
	routeHeader         = 12
	nextHopHeader       = 8
	nextHopObjectHeader = 8
)

// readDefaultRoutes lists the next hops of all default routes, of both families
// and in every table: a table that no rule leads to now, some daemon may lead to
// in a moment. The two halves of the address space that VPN clients set beside
// the default route (0.0.0.0/1, 128.0.0.0/1) count as default routes.
func readDefaultRoutes(ctx context.Context, r kernel.Reader) ([]defaultRoute, error) {
	var hops []defaultRoute
	err := eachRoute(ctx, r, func(r route) bool { return r.bits <= 1 }, func(_ route, hop defaultRoute) { hops = append(hops, hop) })
	if err != nil {
		err = fmt.Errorf("list the default routes: %w", err)
	}
	return hops, err
}

// Route is a route that somebody added, a daemon or a person.
type Route struct {
	Destination netip.Prefix
	// Gateway is invalid where the route has none.
	Gateway netip.Addr
}

// String is "10.1.0.0/16 via 192.0.2.1".
func (r Route) String() string {
	s := r.Destination.String()
	if r.Destination.Bits() == 0 {
		s = "default"
	}
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	return s
}

// ReadRoutes lists the routes that lead out of each network device, by its index,
// in every table; not those that the kernel makes of addresses. With an error come
// those that could be read.
func ReadRoutes(ctx context.Context, r kernel.Reader) (map[int][]Route, error) {
	routes := map[int][]Route{}
	err := eachRoute(ctx, r, func(r route) bool { return r.protocol != uapi.RTPROT_KERNEL }, func(r route, hop defaultRoute) {
		to := r.destination
		if !to.IsValid() {
			to = netip.IPv4Unspecified()
			if r.family == uapi.AF_INET6 {
				to = netip.IPv6Unspecified()
			}
		}
		routes[hop.device] = append(routes[hop.device], Route{Destination: netip.PrefixFrom(to, r.bits), Gateway: hop.gateway})
	})
	if err != nil {
		err = fmt.Errorf("list the routes: %w", err)
	}
	return routes, err
}

// eachRoute gives the next hops of the unicast routes that which chooses, of both
// families and in every table.
func eachRoute(ctx context.Context, r kernel.Reader, which func(route) bool, take func(route, defaultRoute)) error {
	var faults []error
	objects := map[uint32][]route{}
	for _, family := range []byte{uapi.AF_INET, uapi.AF_INET6} {
		header := make([]byte, routeHeader)
		header[0], header[7] = family, uapi.RTN_UNICAST
		messages, err := r.Netlink(ctx, kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_GETROUTE, Dump: true, Body: header})
		if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
			faults = append(faults, err)
		}
		for _, m := range messages {
			route, err := decodeRoute(m.Body)
			switch {
			case err != nil:
				faults = append(faults, err)
			case route.family != family || route.kind != uapi.RTN_UNICAST || !which(route):
			case len(route.hops) == 0 && route.object != 0:
				objects[route.object] = append(objects[route.object], route)
			default:
				for _, hop := range route.hops {
					take(route, hop)
				}
			}
		}
	}
	for object, routes := range objects {
		found, err := readNextHop(ctx, r, object, true)
		faults = append(faults, err)
		for _, route := range routes {
			for _, hop := range found {
				take(route, hop)
			}
		}
	}
	return errors.Join(faults...)
}

// route is one RTM_NEWROUTE message.
type route struct {
	family, kind, protocol byte
	// destination is invalid for a default route.
	destination netip.Addr
	// bits is the length of the destination's prefix.
	bits int
	hops []defaultRoute
	// object is the id of the next hop object, which a kernel with
	// net.ipv4.nexthop_compat_mode=0 names alone.
	object uint32
}

func decodeRoute(body []byte) (route, error) {
	var out route
	if len(body) < routeHeader {
		return out, fmt.Errorf("%w: %d bytes where an rtmsg is due", kernel.ErrMalformed, len(body))
	}
	out.family, out.bits, out.protocol, out.kind = body[0], int(body[1]), body[5], body[7]
	var single defaultRoute
	a := kernel.AttributesAfter(body, routeHeader)
	for a.Next() {
		switch a.Type {
		case uapi.RTA_MULTIPATH:
			hops, err := decodeNextHops(a.Data)
			if err != nil {
				return out, err
			}
			out.hops = append(out.hops, hops...)
		case uapi.RTA_DST:
			out.destination, _ = netip.AddrFromSlice(a.Data)
		case uapi.RTA_NH_ID:
			out.object = a.Uint32()
		default:
			single.decode(a)
		}
	}
	if single.device != 0 {
		out.hops = append(out.hops, single)
	}
	return out, a.Err()
}

// decode takes an attribute of a next hop.
func (d *defaultRoute) decode(a *kernel.Attributes) {
	switch a.Type {
	case uapi.RTA_OIF:
		d.device = int(a.Uint32())
	case uapi.RTA_GATEWAY:
		d.gateway, _ = netip.AddrFromSlice(a.Data)
	case uapi.RTA_VIA: // a gateway of the other family, after a family of two bytes
		if len(a.Data) > 2 {
			d.gateway, _ = netip.AddrFromSlice(a.Data[2:])
		}
	}
}

// decodeNextHops decodes RTA_MULTIPATH: struct rtnexthop, each with attributes.
func decodeNextHops(b []byte) ([]defaultRoute, error) {
	var hops []defaultRoute
	for len(b) > 0 {
		if len(b) < nextHopHeader {
			return nil, fmt.Errorf("%w: %d bytes where an rtnexthop is due", kernel.ErrMalformed, len(b))
		}
		length := int(binary.NativeEndian.Uint16(b))
		if length < nextHopHeader || length > len(b) {
			return nil, fmt.Errorf("%w: an rtnexthop of length %d in %d bytes", kernel.ErrMalformed, length, len(b))
		}
		hop := defaultRoute{device: int(int32(binary.NativeEndian.Uint32(b[4:])))}
		a := kernel.AttributesOf(b[nextHopHeader:length])
		for a.Next() {
			hop.decode(a)
		}
		if err := a.Err(); err != nil {
			return nil, err
		}
		hops = append(hops, hop)
		b = b[min((length+3)&^3, len(b)):]
	}
	return hops, nil
}

// readNextHop asks for a next hop object, and for the members of a group.
func readNextHop(ctx context.Context, r kernel.Reader, id uint32, group bool) ([]defaultRoute, error) {
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETNEXTHOP,
		Body: kernel.Body(make([]byte, nextHopObjectHeader)).Uint32(uapi.NHA_ID, id),
	})
	if err != nil {
		return nil, fmt.Errorf("next hop %d: %w", id, err)
	}
	var hops []defaultRoute
	var faults []error
	for _, m := range messages {
		var hop defaultRoute
		a := kernel.AttributesAfter(m.Body, nextHopObjectHeader)
		for a.Next() {
			switch a.Type {
			case uapi.NHA_OIF:
				hop.device = int(a.Uint32())
			case uapi.NHA_GATEWAY:
				hop.gateway, _ = netip.AddrFromSlice(a.Data)
			case uapi.NHA_GROUP: // struct nexthop_grp: an id, and four bytes more
				for b := a.Data; group && len(b) >= 8; b = b[8:] {
					members, err := readNextHop(ctx, r, binary.NativeEndian.Uint32(b), false)
					faults, hops = append(faults, err), append(hops, members...)
				}
			}
		}
		faults = append(faults, a.Err())
		if hop.device != 0 {
			hops = append(hops, hop)
		}
	}
	return hops, errors.Join(faults...)
}

// addressHeader is the size of struct ifaddrmsg.
const addressHeader = 8

// carrying are the indexes of the devices that a connection uses: the one that
// leads to the peer, and those that have its own end's address, where the peer's
// packets mostly arrive.
func carrying(ctx context.Context, r kernel.Reader, c connection) ([]int, error) {
	var devices []int
	device, err := routeTo(ctx, r, c)
	if err == nil {
		devices = append(devices, device)
	}
	header := make([]byte, addressHeader)
	header[0] = familyOf(c.local)
	messages, fault := r.Netlink(ctx, kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_GETADDR, Dump: true, Body: header})
	for _, m := range messages {
		a := kernel.AttributesAfter(m.Body, addressHeader)
		var address, local netip.Addr
		for a.Next() {
			switch a.Type {
			case uapi.IFA_ADDRESS:
				address, _ = netip.AddrFromSlice(a.Data)
			case uapi.IFA_LOCAL: // on a link with two ends the address is the peer's
				local, _ = netip.AddrFromSlice(a.Data)
			}
		}
		if local.IsValid() {
			address = local
		}
		if a.Err() == nil && address == c.local {
			devices = append(devices, int(binary.NativeEndian.Uint32(m.Body[4:])))
		}
	}
	if c.peer.IsLinkLocalUnicast() && c.peer.Is6() && len(devices) > 0 {
		err = nil // there is no telling without the device, and now it is known
	}
	return devices, errors.Join(err, fault)
}

// routeTo asks the kernel which device leads to the peer of a connection.
func routeTo(ctx context.Context, r kernel.Reader, c connection) (int, error) {
	ask := func(from bool) ([]kernel.Message, error) {
		header := make([]byte, routeHeader)
		header[0], header[1] = familyOf(c.peer), byte(c.peer.BitLen())
		body := kernel.Body(header).Bytes(uapi.RTA_DST, c.peer.AsSlice())
		if from { // a rule may go by the source
			body[2] = byte(c.local.BitLen())
			body = body.Bytes(uapi.RTA_SRC, c.local.AsSlice())
		}
		return r.Netlink(ctx, kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_GETROUTE, Body: body})
	}
	messages, err := ask(true)
	if err != nil {
		messages, err = ask(false)
	}
	if err != nil {
		return 0, fmt.Errorf("the route to %s: %w", c.peer, err)
	}
	for _, m := range messages {
		route, err := decodeRoute(m.Body)
		if err == nil && len(route.hops) > 0 {
			return route.hops[0].device, nil
		}
	}
	return 0, fmt.Errorf("the route to %s: %w: it names no device", c.peer, kernel.ErrMalformed)
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return uapi.AF_INET
	}
	return uapi.AF_INET6
}
