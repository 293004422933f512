package sriov

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// loss is what a setting would take from whoever uses a VF.
type loss string

const (
	nothing loss = ""
	itself  loss = "VF"
	itsLink loss = "the link of VF"
)

// victims are the users of a PF's VFs from whom a setting would take them, or what of
// them; and of their representors, where these would go, too. A VF of which users
// could not all be told has one nobody knows.
func victims(ctx context.Context, r kernel.Reader, nic inventory.NIC, setting string, representors bool, of func(index int) loss) ([]tuning.Victim, error) {
	d, err := deviceOf(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	inv, err := inventory.Read(ctx, r)
	if err != nil {
		return nil, err
	}
	addresses, err := addressesOf(ctx, r)
	if err != nil {
		return nil, err
	}
	routes, err := inventory.ReadRoutes(ctx, r)
	if err != nil {
		return nil, err
	}
	uses, fault := inventory.ReadUses(ctx, r, inv.NICs)
	var all []tuning.Victim
	for _, pf := range Read(ctx, r, inv).PFs {
		if pf.Bus != d.Bus || pf.Address != d.Address {
			continue
		}
		if at := slices.IndexFunc(pf.Unread, func(u inventory.Unread) bool { return u.Fact == "vfs" }); at >= 0 {
			return nil, errors.New(pf.Unread[at].Detail) // of VFs that are not listed nothing is known
		}
		for i := range pf.VFs {
			vf := &pf.VFs[i]
			lost := of(vf.Index)
			if lost == nothing {
				continue
			}
			var users []string
			for _, u := range vf.Users {
				users = append(users, u.String())
			}
			if n := vf.Netdev; n != nil && n.Namespace == nil {
				users = append(users, through(n.Index, n.Name, addresses, routes, uses)...)
				if fault != nil {
					users = append(users, "whoever it is: "+fault.Error())
				}
			}
			for _, u := range vf.Unread {
				if vf.hides(u.Fact) {
					users = append(users, "whoever it is: "+u.Detail)
				}
			}
			if len(users) > 0 {
				all = append(all, tuning.Victim{
					Names: vf.names(nic.Name),
					Text:  fmt.Sprintf("%s: %s would take %s %d (%s) from %s", nic.Name, setting, lost, vf.Index, vf.names(nic.Name)[0], strings.Join(users, ", ")),
				})
			}
			at := slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Name == vf.Representor })
			if !representors || at < 0 {
				continue
			}
			n := &inv.NICs[at]
			users = through(n.Index, n.Name, addresses, routes, uses)
			for _, u := range stackedOn(inv, n) {
				users = append(users, u.String())
			}
			if len(users) > 0 {
				all = append(all, tuning.Victim{
					Names: []string{n.Name},
					Text:  fmt.Sprintf("%s: %s would take %s, the representor of VF %d, from %s", nic.Name, setting, n.Name, vf.Index, strings.Join(users, ", ")),
				})
			}
		}
	}
	return all, nil
}

// hides says whether a VF can have users that are not known without this fact. Without
// its group it isn't known by which file a program would hold it.
func (vf *VF) hides(fact string) bool {
	switch fact {
	case "users", "netdev", "netdev.namespace", "driver", "address":
		return true
	case "iommu":
		return vf.DriverKind == DriverVFIO || vf.DriverKind == DriverVFIOVariant
	}
	return false
}

// through are the addresses of a network device, the routes through it, and who takes
// its packets before they come to these.
func through(
	index int, name string, addresses map[int][]netip.Addr, routes map[int][]inventory.Route, uses inventory.Uses,
) (users []string) {
	for _, a := range addresses[index] {
		users = append(users, fmt.Sprintf("the address %s of %s", a, name))
	}
	for i, route := range routes[index] {
		const named = 3
		if i == named {
			users = append(users, fmt.Sprintf("%d more routes of %s", len(routes[index])-named, name))
			break
		}
		users = append(users, fmt.Sprintf("the route %s of %s", route, name))
	}
	for _, use := range uses[index] {
		if use.Device == index && (use.Kind == inventory.XDPAttached || use.Kind == inventory.XDPSocket) {
			users = append(users, fmt.Sprintf("%s of %s", use, name))
		}
	}
	return users
}

// names are what a VF goes by, its address first.
func (vf *VF) names(pf string) []string {
	names := []string{fmt.Sprintf("%s-vf%d", pf, vf.Index)}
	if vf.Address != "" {
		names = slices.Insert(names, 0, vf.Address)
	}
	if n := vf.Netdev; n != nil && n.Name != "" && n.Namespace == nil {
		names = append(names, n.Name)
	}
	return names
}

// String is "vm web1 (pid 4711, /dev/vfio/16)".
func (u User) String() string {
	s := u.Kind
	if u.Name != "" {
		s += " " + u.Name
	}
	var more []string
	if u.PID != nil {
		more = append(more, fmt.Sprintf("pid %d", *u.PID))
	}
	if u.Device != "" {
		more = append(more, u.Device)
	}
	if u.Upper != "" {
		more = append(more, u.Upper)
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, ", ") + ")"
	}
	return s
}

// addressesOf lists the addresses of network devices by index, without those that
// IPv6 gives every link.
func addressesOf(ctx context.Context, r kernel.Reader) (map[int][]netip.Addr, error) {
	const header = 8 // struct ifaddrmsg
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETADDR, Dump: true, Body: make([]byte, header),
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	all := map[int][]netip.Addr{}
	for _, m := range messages {
		if m.Command != uapi.RTM_NEWADDR {
			continue
		}
		a := kernel.AttributesAfter(m.Body, header)
		if a.Err() != nil {
			return nil, a.Err()
		}
		index := int(binary.NativeEndian.Uint32(m.Body[4:]))
		var address netip.Addr
		for a.Next() {
			// Between two ends IFA_ADDRESS is the other one's.
			if a.Type == uapi.IFA_LOCAL || a.Type == uapi.IFA_ADDRESS && !address.IsValid() {
				address, _ = netip.AddrFromSlice(a.Data)
			}
		}
		if err := a.Err(); err != nil {
			return nil, err
		}
		if address.IsValid() && !address.IsLinkLocalUnicast() {
			all[index] = append(all[index], address)
		}
	}
	return all, nil
}
