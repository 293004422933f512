package inventory

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Stack is what a NIC lies on and under.
type Stack struct {
	// Lower are the devices that this one is built on: a bond's or bridge's
	// members, the parent of a VLAN or macvlan.
	Lower []string `json:"lower,omitempty"`
	// Upper are the devices built on this one.
	Upper []string `json:"upper,omitempty"`
	// Master is the bond, bridge, team or VRF that this device is enslaved to.
	Master string `json:"master,omitempty"`
	// Peer is the other end of a veth or another device that comes in pairs.
	Peer string `json:"peer,omitempty"`
	// PeerNamespace says that the device's lower or peer lies in another network
	// namespace (its id there), so that it can't be named here.
	PeerNamespace *int `json:"peerNamespace,omitempty"`

	Bond   *Bond   `json:"bond,omitempty"`
	Bridge *Bridge `json:"bridge,omitempty"`
	// BridgePort is this device as a port of its bridge.
	BridgePort *BridgePort `json:"bridgePort,omitempty"`
	VLAN       *VLAN       `json:"vlan,omitempty"`
	// MACVLANMode is "bridge", "vepa", "private", "passthru" or "source".
	MACVLANMode string `json:"macvlanMode,omitempty"`
	// VRFTable is the routing table of a VRF.
	VRFTable *int `json:"vrfTable,omitempty"`
}

// Bond is a bonding device.
type Bond struct {
	// Mode is as ip prints it: "802.3ad", "active-backup".
	Mode        string `json:"mode,omitempty"`
	ActiveSlave string `json:"activeSlave,omitempty"`
	// HashPolicy is the xmit_hash_policy that 802.3ad, balance-xor, balance-tlb and
	// balance-alb choose a member by: "layer2", "layer3+4", "vlan+srcmac". Other modes
	// have one, too, and don't use it.
	HashPolicy string `json:"xmitHashPolicy,omitempty"`
}

// VLAN is an 802.1Q or 802.1ad device.
type VLAN struct {
	ID       int    `json:"id"`
	Protocol string `json:"protocol,omitempty"` // "802.1Q", "802.1ad"
}

// Bridge is what of a bridge decides over multicast.
type Bridge struct {
	VLANFiltering *bool `json:"vlanFiltering,omitempty"`
	STP           *bool `json:"stp,omitempty"`
	Snooping      *bool `json:"multicastSnooping,omitempty"`
	// VLANSnooping is whether the bridge snoops in each VLAN by itself.
	VLANSnooping *bool `json:"multicastVlanSnooping,omitempty"`
	Querier      *bool `json:"multicastQuerier,omitempty"`
	Router       *int  `json:"multicastRouter,omitempty"`
	HashMax      *int  `json:"multicastHashMax,omitempty"`
	IGMPVersion  *int  `json:"igmpVersion,omitempty"`
	MLDVersion   *int  `json:"mldVersion,omitempty"`
	// QuerierState are the queriers that the bridge hears or is.
	QuerierState []BridgeQuerier `json:"querierState,omitempty"`
	// MDB are the groups that the bridge forwards.
	MDB []MDBEntry `json:"mdb,omitempty"`
	// RouterPorts are the ports behind which multicast routers are.
	RouterPorts []string `json:"routerPorts,omitempty"`
}

// BridgePort is what of a bridge's port decides over multicast.
type BridgePort struct {
	// State is "disabled", "listening", "learning", "forwarding" or "blocking".
	State string `json:"state,omitempty"`
	// FastLeave stops a group at the first member that leaves it.
	FastLeave *bool `json:"multicastFastLeave,omitempty"`
	// Router is 0 for never a router's port, 1 where one is heard, 2 for always, 3
	// for a while.
	Router *int `json:"multicastRouter,omitempty"`
	// Flood is whether groups that nobody is known to be in are sent to it.
	Flood *bool `json:"multicastFlood,omitempty"`
	// ToUnicast is whether each member gets a copy to its own address.
	ToUnicast *bool `json:"multicastToUnicast,omitempty"`
	// Groups are the port's in the bridge's database, MaxGroups how many it may
	// have; 0 is no limit.
	Groups    *uint32 `json:"multicastGroups,omitempty"`
	MaxGroups *uint32 `json:"multicastMaxGroups,omitempty"`
}

// BridgeQuerier is one family's elected querier.
type BridgeQuerier struct {
	Family  string `json:"family"` // "ipv4", "ipv6"
	Address string `json:"address"`
	Port    string `json:"port,omitempty"`
}

// MDBEntry is one group of a bridge's multicast database.
type MDBEntry struct {
	Port   string `json:"port"`
	Group  string `json:"group"`
	Source string `json:"source,omitempty"`
	VLAN   int    `json:"vlan,omitempty"`
	State  string `json:"state"` // "permanent", "temporary"
}

// decodeLinkInfo decodes IFLA_LINKINFO: what a software device says of itself.
func (l *link) decodeLinkInfo(a *kernel.Attributes) {
	var data, port []byte
	var master string
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_INFO_KIND:
			l.kind = a.String()
		case uapi.IFLA_INFO_DATA:
			data = a.Data
		case uapi.IFLA_INFO_SLAVE_KIND:
			master = a.String()
		case uapi.IFLA_INFO_SLAVE_DATA:
			port = a.Data
		}
	}
	if master == "bridge" {
		of := kernel.AttributesOf(port)
		l.nic.Stack.BridgePort = decodeBridgePort(of)
		a.Join(of)
	}
	if l.kind == "" {
		return
	}
	l.nic.Type = l.kind
	of := kernel.AttributesOf(data)
	switch l.kind {
	case "bond":
		l.decodeBond(of)
	case "bridge":
		l.decodeBridge(of)
	case "vlan":
		l.nic.Stack.VLAN = decodeVLAN(of)
	case "macvlan", "macvtap":
		for of.Next() {
			if of.Type == uapi.IFLA_MACVLAN_MODE {
				l.nic.Stack.MACVLANMode = macvlanMode(of.Uint32())
			}
		}
	case "vrf":
		for of.Next() {
			if of.Type == uapi.IFLA_VRF_TABLE {
				l.nic.Stack.VRFTable = new(int(of.Uint32()))
			}
		}
	case "vxlan":
		for of.Next() {
			if of.Type == uapi.IFLA_VXLAN_LINK {
				l.lower = int(of.Uint32())
			}
		}
	}
	a.Join(of)
}

func (l *link) decodeBond(a *kernel.Attributes) {
	bond := &Bond{}
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_BOND_MODE:
			bond.Mode = bondMode(a.Uint8())
		case uapi.IFLA_BOND_ACTIVE_SLAVE:
			l.activeSlave = int(a.Uint32())
		case uapi.IFLA_BOND_XMIT_HASH_POLICY:
			bond.HashPolicy = hashPolicy(a.Uint8())
		}
	}
	l.nic.Stack.Bond = bond
}

// hashPolicy names the BOND_XMIT_POLICY_ of linux/if_bonding.h as ip does.
func hashPolicy(policy uint8) string {
	policies := [...]string{"layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"}
	if int(policy) < len(policies) {
		return policies[policy]
	}
	return strconv.Itoa(int(policy))
}

// bondMode names the modes of linux/if_bonding.h as ip does.
func bondMode(mode uint8) string {
	modes := [...]string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}
	if int(mode) < len(modes) {
		return modes[mode]
	}
	return strconv.Itoa(int(mode))
}

func (l *link) decodeBridge(a *kernel.Attributes) {
	b := &Bridge{}
	l.queriers = nil // those of an attribute that came twice are not b's
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_BR_VLAN_FILTERING:
			b.VLANFiltering = new(a.Uint8() != 0)
		case uapi.IFLA_BR_STP_STATE:
			b.STP = new(a.Uint32() != 0)
		case uapi.IFLA_BR_MCAST_SNOOPING:
			b.Snooping = new(a.Uint8() != 0)
		case uapi.IFLA_BR_MCAST_QUERIER:
			b.Querier = new(a.Uint8() != 0)
		case uapi.IFLA_BR_MCAST_ROUTER:
			b.Router = new(int(a.Uint8()))
		case uapi.IFLA_BR_MCAST_HASH_MAX:
			b.HashMax = new(int(a.Uint32()))
		case uapi.IFLA_BR_MCAST_IGMP_VERSION:
			b.IGMPVersion = new(int(a.Uint8()))
		case uapi.IFLA_BR_MCAST_MLD_VERSION:
			b.MLDVersion = new(int(a.Uint8()))
		case uapi.IFLA_BR_MULTI_BOOLOPT:
			// struct br_boolopt_multi: the switches that are on, and those that there are.
			const snooping = 1 << uapi.BR_BOOLOPT_MCAST_VLAN_SNOOPING
			if d := a.Data; len(d) >= 8 && binary.NativeEndian.Uint32(d[4:])&snooping != 0 {
				b.VLANSnooping = new(binary.NativeEndian.Uint32(d)&snooping != 0)
			}
		case uapi.IFLA_BR_MCAST_QUERIER_STATE:
			state := a.Nested()
			b.QuerierState, l.queriers = decodeQuerierState(state)
			a.Join(state)
		}
	}
	l.nic.Stack.Bridge = b
}

// decodeBridgePort decodes the attributes IFLA_BRPORT_.
func decodeBridgePort(a *kernel.Attributes) *BridgePort {
	p := &BridgePort{}
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_BRPORT_STATE:
			p.State = bridgePortState(a.Uint8())
		case uapi.IFLA_BRPORT_FAST_LEAVE:
			p.FastLeave = new(a.Uint8() != 0)
		case uapi.IFLA_BRPORT_MULTICAST_ROUTER:
			p.Router = new(int(a.Uint8()))
		case uapi.IFLA_BRPORT_MCAST_FLOOD:
			p.Flood = new(a.Uint8() != 0)
		case uapi.IFLA_BRPORT_MCAST_TO_UCAST:
			p.ToUnicast = new(a.Uint8() != 0)
		case uapi.IFLA_BRPORT_MCAST_N_GROUPS:
			p.Groups = new(a.Uint32())
		case uapi.IFLA_BRPORT_MCAST_MAX_GROUPS:
			p.MaxGroups = new(a.Uint32())
		}
	}
	return p
}

// bridgePortState names the BR_STATE_ of linux/if_bridge.h as ip does.
func bridgePortState(state uint8) string {
	states := [...]string{"disabled", "listening", "learning", "forwarding", "blocking"}
	if int(state) < len(states) {
		return states[state]
	}
	return strconv.Itoa(int(state))
}

// decodeQuerierState decodes the queriers that a bridge has elected, and the
// indexes of the ports that they are behind (0: the bridge itself).
func decodeQuerierState(a *kernel.Attributes) ([]BridgeQuerier, []int) {
	var v4, v6 BridgeQuerier
	var port4, port6 int
	for a.Next() {
		switch a.Type {
		case uapi.BRIDGE_QUERIER_IP_ADDRESS:
			if ip, ok := netip.AddrFromSlice(a.Data); ok {
				v4 = BridgeQuerier{Family: "ipv4", Address: ip.String()}
			}
		case uapi.BRIDGE_QUERIER_IP_PORT:
			port4 = int(a.Uint32())
		case uapi.BRIDGE_QUERIER_IPV6_ADDRESS:
			if ip, ok := netip.AddrFromSlice(a.Data); ok {
				v6 = BridgeQuerier{Family: "ipv6", Address: ip.String()}
			}
		case uapi.BRIDGE_QUERIER_IPV6_PORT:
			port6 = int(a.Uint32())
		}
	}
	var queriers []BridgeQuerier
	var ports []int
	if v4.Family != "" {
		queriers, ports = append(queriers, v4), append(ports, port4)
	}
	if v6.Family != "" {
		queriers, ports = append(queriers, v6), append(ports, port6)
	}
	return queriers, ports
}

func decodeVLAN(a *kernel.Attributes) *VLAN {
	v := &VLAN{}
	for a.Next() {
		switch a.Type {
		case uapi.IFLA_VLAN_ID:
			v.ID = int(a.Uint16())
		case uapi.IFLA_VLAN_PROTOCOL:
			v.Protocol = vlanProtocol(networkOrder(a.Uint16()))
		}
	}
	return v
}

// vlanProtocol names an EtherType as ip does.
func vlanProtocol(etherType uint16) string {
	switch etherType {
	case 0x8100:
		return "802.1Q"
	case 0x88a8:
		return "802.1ad"
	}
	return "0x" + strconv.FormatUint(uint64(etherType), 16)
}

func macvlanMode(mode uint32) string {
	switch mode {
	case uapi.MACVLAN_MODE_PRIVATE:
		return "private"
	case uapi.MACVLAN_MODE_VEPA:
		return "vepa"
	case uapi.MACVLAN_MODE_BRIDGE:
		return "bridge"
	case uapi.MACVLAN_MODE_PASSTHRU:
		return "passthru"
	case uapi.MACVLAN_MODE_SOURCE:
		return "source"
	}
	return strconv.FormatUint(uint64(mode), 10)
}

// networkOrder turns what was read in host order from a big-endian field into
// its value.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], v)
	return binary.BigEndian.Uint16(b[:])
}

// comesInPairs are the kinds whose IFLA_LINK is the other end, not a device
// below.
func comesInPairs(kind string) bool {
	return kind == "veth" || kind == "netkit" || kind == "vxcan"
}

// stackLinks turns the indexes that devices gave of each other into names, in
// both directions. What sysfs shows as lower_* and upper_* is the same for
// enslaved devices, VLANs and macvlans; a tunnel bound to a device counts here,
// too.
func stackLinks(s *survey) {
	for _, n := range s.nics {
		l, told := s.ties[n.Index]
		if !told {
			continue
		}
		stack := &n.Stack
		if master := s.byIndex[l.master]; master != nil {
			stack.Master = master.Name
			stack.Upper = append(stack.Upper, master.Name)
			master.Stack.Lower = append(master.Stack.Lower, n.Name)
		}
		if lower := s.byIndex[l.lower]; lower != nil && lower != n && !l.foreign {
			if comesInPairs(l.kind) {
				stack.Peer = lower.Name
			} else {
				stack.Lower = append(stack.Lower, lower.Name)
				lower.Stack.Upper = append(lower.Stack.Upper, n.Name)
			}
		}
		if stack.Bond != nil {
			stack.Bond.ActiveSlave = s.nameOf(l.activeSlave)
		}
		for i, port := range l.queriers {
			stack.Bridge.QuerierState[i].Port = s.nameOf(port)
		}
	}
	for _, n := range s.nics {
		slices.Sort(n.Stack.Lower)
		slices.Sort(n.Stack.Upper)
	}
}

// nameOf is the name of a device of this namespace, empty for one that is not
// listed.
func (s *survey) nameOf(index int) string {
	if n := s.byIndex[index]; n != nil {
		return n.Name
	}
	return s.ties[index].name
}
