package inventory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// UseKind says what a NIC is used for.
type UseKind string

// The uses that suffer when a NIC is reset, or its link drops.
const (
	// DefaultRoute: the host reaches the rest of the world through it.
	DefaultRoute UseKind = "default-route"
	// SSHSession: the session from which we were called runs over it.
	SSHSession UseKind = "ssh-session"
	// XDPAttached: a program decides over its packets before the stack does.
	XDPAttached UseKind = "xdp-program"
	// XDPSocket: an AF_XDP socket owns one of its queues.
	XDPSocket UseKind = "af-xdp-socket"
	// VFGivenAway: one of its VFs is bound to vfio, for a VM or a program such as
	// those of DPDK. Whether one holds it now is not looked for.
	VFGivenAway UseKind = "vfio-vf"
)

// Use is one thing that a NIC serves at present.
type Use struct {
	Kind UseKind `json:"kind"`
	// Device is the index of the device that has the use, Through its name where
	// that is not the NIC itself but lies on it: a bond, a VLAN, a bridge.
	Device  int    `json:"device"`
	Through string `json:"through,omitempty"`
	// VF is the virtual function of the NIC that carries it, which works also while
	// the NIC itself is administratively down: its network device, and of one given
	// away, which has none, the PCI address.
	VF string `json:"vf,omitempty"`
	// Peer is the gateway of a default route, where it has one, or the other end
	// of the session.
	Peer netip.Addr `json:"peer,omitzero"`
	// Program is the id of the XDP program.
	Program uint32 `json:"program,omitempty"`
	// Queue is the one that the AF_XDP socket is bound to.
	Queue uint32 `json:"queue,omitempty"`
}

// String names the use for people: "the default route via 10.0.0.1, through
// bond0".
func (u Use) String() string {
	var s string
	switch u.Kind {
	case DefaultRoute:
		s = "the default route"
		if u.Peer.IsValid() {
			s += " via " + u.Peer.String()
		}
	case SSHSession:
		s = "your SSH session from " + u.Peer.String()
	case XDPAttached:
		s = fmt.Sprintf("the XDP program with id %d", u.Program)
	case XDPSocket:
		s = fmt.Sprintf("an AF_XDP socket on queue %d", u.Queue)
	case VFGivenAway:
		s = "the VF " + u.VF + ", which is bound to vfio for a VM or DPDK"
	default:
		s = string(u.Kind)
	}
	if u.Through != "" {
		s += ", through " + u.Through
	}
	return s
}

// Uses are the uses of a host's NICs, by the NIC's index.
type Uses map[int][]Use

// ReadUses finds what the host's NICs are used for: nics is all that the survey
// listed. A use of a bond, team, VLAN, macvlan, bridge or Open vSwitch port is
// one of every NIC below it, too, but for XDP, which only a bond hands down. One of
// a VF is also its PF's.
//
// With an error comes what could be found; the NICs may have more uses then.
// What the kernel does not have, IPv6 for example, nothing uses: that is no
// error.
func ReadUses(ctx context.Context, r kernel.Reader, nics []NIC) (Uses, error) {
	b := &belows{uses: Uses{}, byIndex: map[int]*NIC{}, byName: map[string]*NIC{}}
	for i := range nics {
		b.byIndex[nics[i].Index], b.byName[nics[i].Name] = &nics[i], &nics[i]
	}
	var faults []error
	routes, err := readDefaultRoutes(ctx, r)
	faults = append(faults, err)
	for _, route := range routes {
		b.add(Use{Kind: DefaultRoute, Device: route.device, Peer: route.gateway})
	}
	sessions, err := readSessions(ctx, r)
	faults = append(faults, err)
	for _, s := range sessions {
		devices, err := carrying(ctx, r, s)
		faults = append(faults, err)
		for _, device := range devices {
			b.add(Use{Kind: SSHSession, Device: device, Peer: s.peer})
		}
	}
	for i := range nics {
		for _, p := range nics[i].Offloads.XDP {
			b.addXDP(Use{Kind: XDPAttached, Device: nics[i].Index, Program: p.ID})
		}
	}
	sockets, err := readXDPSockets(ctx, r)
	faults = append(faults, err)
	for _, s := range sockets {
		b.addXDP(Use{Kind: XDPSocket, Device: s.device, Queue: s.queue})
	}
	for i := range nics {
		vfs, err := vfsGivenAway(ctx, r, &nics[i])
		faults = append(faults, err)
		for _, vf := range vfs {
			b.file(&nics[i], &nics[i], Use{Kind: VFGivenAway, Device: nics[i].Index, VF: vf})
		}
	}
	return b.uses, errors.Join(faults...)
}

// vfsGivenAway are the addresses of a PF's VFs that are bound to vfio-pci or to a
// driver's own variant of it ("mlx5_vfio_pci"): a VF's directory in sysfs has a link
// to its driver. It costs two links for each VF.
func vfsGivenAway(ctx context.Context, r kernel.Reader, n *NIC) ([]string, error) {
	if n.PCI == nil || n.PCI.SRIOV == nil || n.Function == Representor {
		return nil, nil
	}
	absent := func(err error) bool { // a VF that was removed, or has no driver
		reason := kernel.ReasonOf(err)
		return reason == kernel.Unsupported || reason == kernel.Gone
	}
	const devices = "/sys/bus/pci/devices/"
	var given []string
	for i := range n.PCI.SRIOV.NumVFs {
		target, err := r.ReadLink(ctx, devices+n.PCI.Address+"/virtfn"+strconv.Itoa(i))
		var driver string
		if err == nil {
			driver, err = r.ReadLink(ctx, devices+path.Base(target)+"/driver")
		}
		if err != nil && !absent(err) {
			return given, fmt.Errorf("%s: the driver of VF %d: %w", n.Name, i, err)
		}
		if strings.Contains(path.Base(driver), "vfio") {
			given = append(given, path.Base(target))
		}
	}
	return given, nil
}

// belows files uses under the NICs that carry them.
type belows struct {
	uses    Uses
	byIndex map[int]*NIC
	byName  map[string]*NIC
}

// add files a use under its device and everything that this lies on.
func (b *belows) add(u Use) {
	top := b.byIndex[u.Device]
	if top == nil {
		return // the loopback, or a device of another namespace
	}
	reached := []*NIC{top}
	vfs := map[*NIC]string{}
	for i := 0; i < len(reached); i++ { // it grows
		above := reached[i]
		for _, name := range b.below(above) {
			n := b.byName[name]
			if n == nil || slices.Contains(reached, n) {
				continue
			}
			reached, vfs[n] = append(reached, n), vfs[above]
			if isPF(n, above) {
				vfs[n] = above.Name
			}
		}
	}
	for _, n := range reached {
		u.VF = vfs[n]
		b.file(n, top, u)
	}
}

// below are the devices that carry a device's packets.
func (b *belows) below(n *NIC) []string {
	names := n.Stack.Lower
	if n.Type == "openvswitch" && n.Stack.Master != "" {
		// Ports of a switch stand beside each other, all of them below ovs-system.
		if master := b.byName[n.Stack.Master]; master != nil {
			names = slices.Concat(names, master.Stack.Lower)
		}
	}
	for _, pf := range b.byName {
		if isPF(pf, n) {
			names = slices.Concat(names, []string{pf.Name})
		}
	}
	return names
}

// isPF says whether a NIC is a port of the PF that another one is a VF of.
func isPF(pf, vf *NIC) bool {
	return pf.PCI != nil && vf.PCI != nil && vf.PCI.PhysicalFunction != "" && pf.PCI.Address == vf.PCI.PhysicalFunction
}

// addXDP files a use of XDP, which only a bond hands down to its members: what
// stands on a VLAN or a bridge has its packets from the stack. A PF that is reset
// takes them from its VFs' programs and sockets, too.
func (b *belows) addXDP(u Use) {
	top := b.byIndex[u.Device]
	if top == nil {
		return
	}
	carriers := []*NIC{top}
	if top.Stack.Bond != nil {
		for _, name := range top.Stack.Lower {
			if n := b.byName[name]; n != nil {
				carriers = append(carriers, n)
			}
		}
	}
	for _, n := range carriers {
		b.file(n, top, u)
		of := u
		of.VF = n.Name
		for _, pf := range b.byName {
			if isPF(pf, n) {
				b.file(pf, top, of)
			}
		}
	}
}

func (b *belows) file(n, top *NIC, u Use) {
	if n != top {
		u.Through = top.Name
	}
	if !slices.Contains(b.uses[n.Index], u) {
		b.uses[n.Index] = append(b.uses[n.Index], u)
	}
}
