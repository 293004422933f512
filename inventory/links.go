package inventory

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// readLinks lists the host's network devices; everything else hangs facts on
// what it found.
//
// One RTM_GETLINK dump gives the list and most of what ip -d link shows. A host
// without netlink, a plain tree, is listed from sysfs instead.
func readLinks(ctx context.Context, s *survey) error {
	messages, err := s.Netlink(ctx, linkDump(uapi.RTEXT_FILTER_SKIP_STATS))
	links := map[int]*link{}
	s.addLinks(links, messages)
	switch {
	case errors.Is(err, kernel.ErrInterrupted):
		listed := make(map[string]bool, len(links))
		for _, l := range links {
			listed[l.nic.Name] = true
		}
		missed, err := passedOver(ctx, s, uapi.RTEXT_FILTER_SKIP_STATS, listed)
		if err != nil {
			s.missed("nics", err)
		}
		s.addLinks(links, missed)
	case err != nil:
		if links, err = s.sysfsLinks(ctx, err); err != nil {
			return err
		}
	}
	for _, l := range links {
		if l.loopback {
			continue
		}
		s.completeFromSysfs(ctx, l)
		s.nics = append(s.nics, &l.nic)
		if l.nic.Index > 0 { // 0 is how others say that they name no device
			s.byIndex[l.nic.Index] = &l.nic
		}
		s.byName[l.nic.Name] = &l.nic
	}
	slices.SortFunc(s.nics, func(a, b *NIC) int {
		// Indexes are unique on a host. A tree may lack them.
		if a.Index != b.Index {
			return a.Index - b.Index
		}
		return strings.Compare(a.Name, b.Name)
	})
	s.ties = make(map[int]ties, len(links))
	for _, n := range s.nics {
		if l := links[n.Index]; l != nil && &l.nic == n { // not so of a tree without indexes; it told by name
			s.ties[n.Index] = l.ties
		}
	}
	stackLinks(s)
	return nil
}

// linkDump asks for every device. The mask never has RTEXT_FILTER_VF: reading
// VFs makes drivers ask their firmware with the kernel's RTNL lock held, and
// the answer for many VFs overflows its message.
func linkDump(mask uint32) kernel.Request {
	return kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true,
		Body: kernel.Body(make([]byte, linkHeader)).Uint32(uapi.IFLA_EXT_MASK, mask),
	}
}

// linkHeader is the size of struct ifinfomsg.
const linkHeader = 16

// addLinks files devices by their index, a later answer over an earlier one. The
// attempts of an interrupted dump can have two devices by one name: then the
// first to have had it is gone.
func (s *survey) addLinks(links map[int]*link, messages []kernel.Message) {
	holders := make(map[string]*link, len(messages))
	for _, l := range links {
		holders[l.nic.Name] = l
	}
	for _, m := range messages {
		if m.Command != uapi.RTM_NEWLINK {
			continue
		}
		l, err := decodeLink(m.Body)
		switch {
		case l.nic.Name == "" && err != nil:
			s.missed("nics", err)
			continue
		case err != nil:
			l.nic.missed("link", err)
		}
		links[l.nic.Index] = &l
		// Not so if the first was only renamed: then it is filed by its new name.
		if h := holders[l.nic.Name]; h != nil && links[h.nic.Index] == h {
			delete(links, h.nic.Index)
		}
		holders[l.nic.Name] = &l
	}
}

// passedOver asks one by one for the devices that a dump, interrupted on every
// attempt, did not list: a device that was there all the time is in
// /sys/class/net, too.
func passedOver(ctx context.Context, r kernel.Reader, mask uint32, listed map[string]bool) ([]kernel.Message, error) {
	names, err := r.ReadDir(ctx, sysClassNet)
	if err != nil {
		return nil, fmt.Errorf("%w; whether all were listed could not be checked: %w", kernel.ErrInterrupted, err)
	}
	var found []kernel.Message
	var errs []error
	for _, name := range names {
		if listed[name] {
			continue
		}
		messages, err := r.Netlink(ctx, kernel.Request{
			Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK,
			Body: kernel.Body(make([]byte, linkHeader)).Uint32(uapi.IFLA_EXT_MASK, mask).String(uapi.IFLA_IFNAME, name),
		})
		if err != nil && kernel.ReasonOf(err) != kernel.Gone { // deleted meanwhile, or one of the files there
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		found = append(found, messages...)
	}
	return found, errors.Join(errs...)
}

// link is a device as one RTM_NEWLINK message has it: the facts about itself,
// and the indexes of the devices that it names.
type link struct {
	nic      NIC
	loopback bool
	ties
}

// ties are what a device says of others, by their indexes.
type ties struct {
	// name is the device's own.
	name string
	// kind is IFLA_INFO_KIND, empty for hardware.
	kind string
	// lower is IFLA_LINK, 0 without one: the device below, or the peer.
	lower int
	// foreign says that lower counts in another network namespace.
	foreign     bool
	master      int
	activeSlave int
	// queriers are the ports of nic.Stack.Bridge.QuerierState.
	queriers []int
}

// decodeLink decodes the body of an RTM_NEWLINK message: struct ifinfomsg and
// the attributes of linux/if_link.h. On an error it returns what it could read.
func decodeLink(body []byte) (link, error) {
	var l link
	if len(body) < linkHeader {
		return l, fmt.Errorf("%w: %d bytes where an ifinfomsg is due", kernel.ErrMalformed, len(body))
	}
	hardware := binary.NativeEndian.Uint16(body[2:])
	flags := binary.NativeEndian.Uint32(body[8:])
	n := &l.nic
	n.Index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	n.Type = hardwareType(hardware)
	n.Link.Admin = "down"
	if flags&uapi.IFF_UP != 0 {
		n.Link.Admin = "up"
	}
	l.loopback = flags&uapi.IFF_LOOPBACK != 0 || hardware == uapi.ARPHRD_LOOPBACK
	n.Multicast.setFlags(flags)
	n.NetClass = &NetClass{Hardware: int(hardware), Flags: flags, Link: n.Index} // IFLA_LINK is left out of a device that is its own
	if flags&uapi.IFF_UP != 0 {
		n.NetClass.Dormant = new(flags&uapi.IFF_DORMANT != 0)
	}

	var parent Parent
	a := kernel.AttributesAfter(body, linkHeader)
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_IFNAME:
			n.Name = a.String()
		case uapi.IFLA_IFALIAS:
			n.Alias = a.String()
		case uapi.IFLA_PROP_LIST:
			names := a.Nested()
			for names.Next() {
				if names.Type == uapi.IFLA_ALT_IFNAME {
					n.AltNames = append(n.AltNames, names.String())
				}
			}
			a.Join(names)
		case uapi.IFLA_ADDRESS:
			n.MAC = linkAddress(hardware, a.Data)
		case uapi.IFLA_PERM_ADDRESS:
			n.PermanentMAC = linkAddress(hardware, a.Data)
		case uapi.IFLA_BROADCAST:
			n.Broadcast = linkAddress(hardware, a.Data)
		case uapi.IFLA_LINKMODE:
			n.NetClass.LinkMode = int(a.Uint8())
		case uapi.IFLA_GROUP:
			n.NetClass.Group = int(a.Uint32())
		case uapi.IFLA_PARENT_DEV_NAME:
			parent.Address = a.String()
		case uapi.IFLA_PARENT_DEV_BUS_NAME:
			parent.Bus = a.String()
		case uapi.IFLA_PHYS_PORT_NAME:
			n.Port.Name = a.String()
		case uapi.IFLA_PHYS_PORT_ID:
			n.Port.ID = hex.EncodeToString(a.Data)
		case uapi.IFLA_PHYS_SWITCH_ID:
			n.Port.SwitchID = hex.EncodeToString(a.Data)

		case uapi.IFLA_OPERSTATE:
			n.Link.Oper = operState(a.Uint8())
		case uapi.IFLA_CARRIER:
			// A device that is down keeps the carrier that it had last, or was
			// born with.
			if flags&uapi.IFF_UP != 0 {
				n.Link.Carrier = new(a.Uint8() != 0)
			}
		case uapi.IFLA_PROTO_DOWN:
			n.Link.ProtoDown = a.Uint8() != 0
		case uapi.IFLA_MTU:
			n.Link.MTU = new(int(a.Uint32()))
		case uapi.IFLA_MIN_MTU:
			n.Link.MinMTU = new(int(a.Uint32()))
		case uapi.IFLA_MAX_MTU:
			if v := a.Uint32(); v != 0 { // 0 is how drivers say that there is none
				n.Link.MaxMTU = new(int(v))
			}
		case uapi.IFLA_TXQLEN:
			n.Link.TxQueueLen = new(int(a.Uint32()))
		case uapi.IFLA_CARRIER_UP_COUNT:
			n.Link.CarrierUp = new(uint64(a.Uint32()))
		case uapi.IFLA_CARRIER_DOWN_COUNT:
			n.Link.CarrierDown = new(uint64(a.Uint32()))

		case uapi.IFLA_NUM_RX_QUEUES:
			n.Queues.RX = new(int(a.Uint32()))
		case uapi.IFLA_NUM_TX_QUEUES:
			n.Queues.TX = new(int(a.Uint32()))

		case uapi.IFLA_PROMISCUITY:
			n.Multicast.setPromiscuousUsers(a.Uint32())
		case uapi.IFLA_ALLMULTI:
			n.Multicast.setAllMultiUsers(a.Uint32())

		case uapi.IFLA_XDP:
			attached := a.Nested()
			n.Offloads.XDP = decodeXDP(attached)
			a.Join(attached)
		case uapi.IFLA_GSO_MAX_SIZE:
			n.Offloads.Limits.GSOMaxSize = new(a.Uint32())
		case uapi.IFLA_GSO_MAX_SEGS:
			n.Offloads.Limits.GSOMaxSegs = new(a.Uint32())
		case uapi.IFLA_GSO_IPV4_MAX_SIZE:
			n.Offloads.Limits.GSOIPv4MaxSize = new(a.Uint32())
		case uapi.IFLA_TSO_MAX_SIZE:
			n.Offloads.Limits.TSOMaxSize = new(a.Uint32())
		case uapi.IFLA_TSO_MAX_SEGS:
			n.Offloads.Limits.TSOMaxSegs = new(a.Uint32())
		case uapi.IFLA_GRO_MAX_SIZE:
			n.Offloads.Limits.GROMaxSize = new(a.Uint32())
		case uapi.IFLA_GRO_IPV4_MAX_SIZE:
			n.Offloads.Limits.GROIPv4MaxSize = new(a.Uint32())

		case uapi.IFLA_LINK:
			l.lower = int(a.Uint32())
			n.NetClass.Link = l.lower
		case uapi.IFLA_LINK_NETNSID:
			l.foreign = true
			if id := int32(a.Uint32()); id >= 0 { // negative: the kernel had no id to give
				n.Stack.PeerNamespace = new(int(id))
			}
		case uapi.IFLA_MASTER:
			l.master = int(a.Uint32())
		case uapi.IFLA_LINKINFO:
			info := a.Nested()
			l.decodeLinkInfo(info)
			a.Join(info)
		}
	}
	if parent.Address != "" {
		n.Parent = &parent
	}
	l.name = n.Name
	if a.Err() == nil && n.Name == "" {
		return l, fmt.Errorf("%w: network device %d has no name", kernel.ErrMalformed, n.Index)
	}
	return l, a.Err()
}

// decodeXDP decodes IFLA_XDP. The attributes by mode are of Linux 4.16; before
// it there was one program and its mode.
func decodeXDP(a *kernel.Attributes) []XDPProgram {
	var programs []XDPProgram
	var mode uint8
	var only uint32
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_XDP_ATTACHED:
			mode = a.Uint8()
		case uapi.IFLA_XDP_PROG_ID:
			only = a.Uint32()
		case uapi.IFLA_XDP_DRV_PROG_ID:
			programs = append(programs, XDPProgram{Mode: xdpMode(uapi.XDP_ATTACHED_DRV), ID: a.Uint32()})
		case uapi.IFLA_XDP_SKB_PROG_ID:
			programs = append(programs, XDPProgram{Mode: xdpMode(uapi.XDP_ATTACHED_SKB), ID: a.Uint32()})
		case uapi.IFLA_XDP_HW_PROG_ID:
			programs = append(programs, XDPProgram{Mode: xdpMode(uapi.XDP_ATTACHED_HW), ID: a.Uint32()})
		}
	}
	if len(programs) == 0 && mode != uapi.XDP_ATTACHED_NONE && only != 0 {
		programs = append(programs, XDPProgram{Mode: xdpMode(mode), ID: only})
	}
	return programs
}

func xdpMode(attached uint8) string {
	switch attached {
	case uapi.XDP_ATTACHED_DRV:
		return "driver"
	case uapi.XDP_ATTACHED_SKB:
		return "generic"
	case uapi.XDP_ATTACHED_HW:
		return "hardware"
	}
	return strconv.Itoa(int(attached))
}

// operState names the states of RFC 2863 as sysfs does.
func operState(state uint8) string {
	switch state {
	case uapi.IF_OPER_UNKNOWN:
		return "unknown"
	case uapi.IF_OPER_NOTPRESENT:
		return "notpresent"
	case uapi.IF_OPER_DOWN:
		return "down"
	case uapi.IF_OPER_LOWERLAYERDOWN:
		return "lowerlayerdown"
	case uapi.IF_OPER_TESTING:
		return "testing"
	case uapi.IF_OPER_DORMANT:
		return "dormant"
	case uapi.IF_OPER_UP:
		return "up"
	}
	return strconv.Itoa(int(state))
}

// hardwareType names the ARPHRD_ constants as ip does, for those that a network
// device of today can have.
func hardwareType(hardware uint16) string {
	switch hardware {
	case uapi.ARPHRD_ETHER:
		return "ether"
	case uapi.ARPHRD_LOOPBACK:
		return "loopback"
	case uapi.ARPHRD_INFINIBAND:
		return "infiniband"
	case uapi.ARPHRD_SLIP:
		return "slip"
	case uapi.ARPHRD_X25:
		return "x25"
	case uapi.ARPHRD_CAN:
		return "can"
	case uapi.ARPHRD_MCTP:
		return "mctp"
	case uapi.ARPHRD_PPP:
		return "ppp"
	case uapi.ARPHRD_HDLC:
		return "hdlc"
	case uapi.ARPHRD_RAWIP:
		return "rawip"
	case uapi.ARPHRD_TUNNEL:
		return "ipip"
	case uapi.ARPHRD_TUNNEL6:
		return "tunnel6"
	case uapi.ARPHRD_SIT:
		return "sit"
	case uapi.ARPHRD_IPGRE:
		return "gre"
	case uapi.ARPHRD_IP6GRE:
		return "gre6"
	case uapi.ARPHRD_PIMREG:
		return "pimreg"
	case uapi.ARPHRD_IEEE80211:
		return "ieee802.11"
	case uapi.ARPHRD_IEEE80211_RADIOTAP:
		return "ieee802.11/radiotap"
	case uapi.ARPHRD_IEEE802154:
		return "ieee802.15.4"
	case uapi.ARPHRD_6LOWPAN:
		return "6lowpan"
	case uapi.ARPHRD_PHONET:
		return "phonet"
	case uapi.ARPHRD_NETLINK:
		return "netlink"
	case uapi.ARPHRD_VSOCKMON:
		return "vsockmon"
	case uapi.ARPHRD_NONE:
		return "none"
	case uapi.ARPHRD_VOID:
		return "void"
	}
	return strconv.Itoa(int(hardware))
}

// linkAddress prints a link-layer address as ip does: a tunnel's is the IP
// address of its local end, every other colon-separated hex.
func linkAddress(hardware uint16, b []byte) string {
	switch hardware {
	case uapi.ARPHRD_TUNNEL, uapi.ARPHRD_SIT, uapi.ARPHRD_IPGRE, uapi.ARPHRD_TUNNEL6, uapi.ARPHRD_IP6GRE:
		if ip, ok := netip.AddrFromSlice(b); ok {
			return ip.String()
		}
	}
	return colonHex(b)
}

// colonHex prints bytes as "52:54:00:12:34:56".
func colonHex(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 3*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15], ':')
	}
	return string(out[:len(out)-1])
}
