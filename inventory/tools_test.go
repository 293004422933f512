package inventory

import (
	"fmt"
	"slices"
	"strings"
)

// What the tools that SREs trust say of a host, and how it compares.

// ipLink is what ip -j -d link says.
type ipLink struct {
	Name         string   `json:"ifname"`
	Index        int      `json:"ifindex"`
	AltNames     []string `json:"altnames"`
	Alias        string   `json:"ifalias"`
	Flags        []string `json:"flags"`
	Type         string   `json:"link_type"`
	Address      string   `json:"address"`
	Broadcast    string   `json:"broadcast"`
	LinkMode     string   `json:"linkmode"`
	PermAddress  string   `json:"permaddr"`
	MTU          int      `json:"mtu"`
	MinMTU       int      `json:"min_mtu"`
	MaxMTU       int      `json:"max_mtu"`
	TxQLen       *int     `json:"txqlen"`
	Oper         string   `json:"operstate"`
	Promiscuity  uint32   `json:"promiscuity"`
	AllMulti     *uint32  `json:"allmulti"`
	TX           int      `json:"num_tx_queues"`
	RX           int      `json:"num_rx_queues"`
	GSOMaxSize   uint32   `json:"gso_max_size"`
	GSOMaxSegs   uint32   `json:"gso_max_segs"`
	TSOMaxSize   uint32   `json:"tso_max_size"`
	TSOMaxSegs   uint32   `json:"tso_max_segs"`
	GROMaxSize   uint32   `json:"gro_max_size"`
	Link         string   `json:"link"`
	LinkIndex    int      `json:"link_index"`
	LinkNetNSID  *int     `json:"link_netnsid"`
	Master       string   `json:"master"`
	PhysPortName string   `json:"phys_port_name"`
	PhysSwitchID string   `json:"phys_switch_id"`
	ParentBus    string   `json:"parentbus"`
	ParentDev    string   `json:"parentdev"`
	Info         struct {
		Kind string `json:"info_kind"`
		Data struct {
			Mode          any    `json:"mode"`
			ActiveSlave   string `json:"active_slave"`
			ID            int    `json:"id"`
			Protocol      string `json:"protocol"`
			Table         int    `json:"table"`
			VLANFiltering int    `json:"vlan_filtering"`
			STP           int    `json:"stp_state"`
			Snooping      int    `json:"mcast_snooping"`
			Querier       int    `json:"mcast_querier"`
			Router        int    `json:"mcast_router"`
			HashMax       int    `json:"mcast_hash_max"`
			IGMP          int    `json:"mcast_igmp_version"`
			MLD           int    `json:"mcast_mld_version"`
			VLANSnooping  *int   `json:"mcast_vlan_snooping"`
		} `json:"info_data"`
		SlaveKind string `json:"info_slave_kind"`
		SlaveData struct {
			State     string `json:"state"`
			FastLeave bool   `json:"fastleave"`
			Router    int    `json:"multicast_router"`
			Flood     bool   `json:"mcast_flood"`
			ToUnicast bool   `json:"mcast_to_unicast"`
		} `json:"info_slave_data"`
	} `json:"linkinfo"`
}

// compareLinks says what differs, empty for nothing.
func compareLinks(s *survey, want []ipLink) string {
	var different strings.Builder
	differs := func(format string, arguments ...any) { fmt.Fprintf(&different, format+"\n", arguments...) }
	seen := 0
	for _, w := range want {
		n := s.byIndex[w.Index]
		if slices.Contains(w.Flags, "LOOPBACK") {
			if n != nil {
				differs("%s is listed", w.Name)
			}
			continue
		}
		seen++
		if n == nil {
			differs("%s is missing", w.Name)
			continue
		}
		equal := func(fact string, got, want any) {
			if got != want {
				differs("%s: %s is %v, ip says %v", w.Name, fact, got, want)
			}
		}
		has := func(flag string) bool { return slices.Contains(w.Flags, flag) }
		equal("name", n.Name, w.Name)
		equal("altNames", strings.Join(n.AltNames, " "), strings.Join(w.AltNames, " "))
		equal("alias", n.Alias, w.Alias)
		typ := w.Type
		if w.Info.Kind != "" {
			typ = w.Info.Kind
		}
		equal("type", n.Type, typ)
		equal("mac", n.MAC, w.Address)
		equal("broadcast", n.Broadcast, w.Broadcast)
		equal("linkMode", n.NetClass.LinkMode == 1, w.LinkMode == "DORMANT")
		if w.PermAddress != "" { // ip leaves it out where it is the current one
			equal("permanentMac", n.PermanentMAC, w.PermAddress)
		}
		equal("admin", n.Link.Admin == "up", has("UP"))
		equal("oper", n.Link.Oper, strings.ToLower(w.Oper))
		if has("UP") {
			equal("carrier", value(n.Link.Carrier), !has("NO-CARRIER") && has("LOWER_UP"))
		} else if n.Link.Carrier != nil {
			differs("%s: carrier is known of a device that is down", w.Name)
		}
		equal("mtu", value(n.Link.MTU), w.MTU)
		equal("minMtu", value(n.Link.MinMTU), w.MinMTU)
		equal("maxMtu", value(n.Link.MaxMTU), w.MaxMTU)
		if w.TxQLen != nil {
			equal("txQueueLen", value(n.Link.TxQueueLen), *w.TxQLen)
		}
		equal("queues.tx", value(n.Queues.TX), w.TX)
		equal("queues.rx", value(n.Queues.RX), w.RX)
		limits := n.Offloads.Limits
		equal("gsoMaxSize", value(limits.GSOMaxSize), w.GSOMaxSize)
		equal("gsoMaxSegs", value(limits.GSOMaxSegs), w.GSOMaxSegs)
		equal("tsoMaxSize", value(limits.TSOMaxSize), w.TSOMaxSize)
		equal("tsoMaxSegs", value(limits.TSOMaxSegs), w.TSOMaxSegs)
		equal("groMaxSize", value(limits.GROMaxSize), w.GROMaxSize)
		equal("multicast.capable", value(n.Multicast.Capable), has("MULTICAST"))
		equal("promiscuousUsers", value(n.Multicast.PromiscuousUsers), w.Promiscuity)
		equal("promiscuous", value(n.Multicast.Promiscuous), w.Promiscuity > 0)
		if w.AllMulti != nil {
			equal("allMultiUsers", value(n.Multicast.AllMultiUsers), *w.AllMulti)
			equal("allMulti", value(n.Multicast.AllMulti), *w.AllMulti > 0)
		}
		equal("port.name", n.Port.Name, w.PhysPortName)
		equal("port.switchId", n.Port.SwitchID, w.PhysSwitchID)
		var parent Parent
		if n.Parent != nil {
			parent = *n.Parent
		}
		equal("parent", parent, Parent{Bus: w.ParentBus, Address: w.ParentDev})

		equal("master", n.Stack.Master, w.Master)
		if w.LinkNetNSID != nil {
			equal("peerNamespace", value(n.Stack.PeerNamespace), *w.LinkNetNSID)
			equal("peer", n.Stack.Peer, "")
			equal("lower", len(n.Stack.Lower), 0)
		} else if w.Link != "" {
			if w.Info.Kind == "veth" {
				equal("peer", n.Stack.Peer, w.Link)
			} else {
				equal("lower", slices.Contains(n.Stack.Lower, w.Link), true)
				equal("upper of "+w.Link, slices.Contains(s.byName[w.Link].Stack.Upper, w.Name), true)
			}
		}
		data := w.Info.Data
		switch w.Info.Kind {
		case "bond":
			equal("bond.mode", n.Stack.Bond.Mode, data.Mode)
			equal("bond.activeSlave", n.Stack.Bond.ActiveSlave, data.ActiveSlave)
		case "vlan":
			equal("vlan", *n.Stack.VLAN, VLAN{ID: data.ID, Protocol: data.Protocol})
		case "vrf":
			equal("vrfTable", value(n.Stack.VRFTable), data.Table)
		case "macvlan", "macvtap":
			equal("macvlanMode", n.Stack.MACVLANMode, data.Mode)
		case "bridge":
			b := n.Stack.Bridge
			equal("bridge.vlanFiltering", value(b.VLANFiltering), data.VLANFiltering != 0)
			equal("bridge.stp", value(b.STP), data.STP != 0)
			equal("bridge.multicastSnooping", value(b.Snooping), data.Snooping != 0)
			equal("bridge.multicastQuerier", value(b.Querier), data.Querier != 0)
			equal("bridge.multicastRouter", value(b.Router), data.Router)
			equal("bridge.multicastHashMax", value(b.HashMax), data.HashMax)
			equal("bridge.igmpVersion", value(b.IGMPVersion), data.IGMP)
			equal("bridge.mldVersion", value(b.MLDVersion), data.MLD)
			if data.VLANSnooping != nil {
				equal("bridge.multicastVlanSnooping", value(b.VLANSnooping), *data.VLANSnooping != 0)
			}
		}
		if equal("bridgePort", n.Stack.BridgePort != nil, w.Info.SlaveKind == "bridge"); w.Info.SlaveKind == "bridge" {
			p, data := n.Stack.BridgePort, w.Info.SlaveData
			equal("bridgePort.state", p.State, data.State)
			equal("bridgePort.multicastFastLeave", value(p.FastLeave), data.FastLeave)
			equal("bridgePort.multicastRouter", value(p.Router), data.Router)
			equal("bridgePort.multicastFlood", value(p.Flood), data.Flood)
			equal("bridgePort.multicastToUnicast", value(p.ToUnicast), data.ToUnicast)
		}
	}
	if seen != len(s.nics) {
		differs("%d devices listed, ip lists %d", len(s.nics), seen)
	}
	return different.String()
}

// ipMaddr is what ip -j maddr says of a device.
type ipMaddr struct {
	Index int `json:"ifindex"`
	Addrs []struct {
		Family   string `json:"family"`
		Address  string `json:"address"`
		Link     string `json:"link"`
		Users    *int   `json:"users"`
		Features string `json:"features"`
	} `json:"maddr"`
}

// compareMemberships says what differs, empty for nothing.
func compareMemberships(s *survey, devices []ipMaddr) string {
	var different strings.Builder
	for _, device := range devices {
		n := s.byIndex[device.Index]
		if n == nil {
			continue // lo
		}
		var want []Membership
		for _, a := range device.Addrs {
			m := Membership{Family: "link", Address: a.Link, Users: 1}
			switch a.Family {
			case "inet":
				m.Family, m.Address = "ipv4", a.Address
			case "inet6":
				m.Family, m.Address = "ipv6", a.Address
			}
			if a.Users != nil { // ip leaves out a single user
				m.Users = uint32(*a.Users)
			}
			m.Static = strings.Contains(a.Features, "static")
			want = append(want, m)
		}
		if !slices.Equal(n.Multicast.Memberships, want) {
			fmt.Fprintf(&different, "%s:\n got %v\nwant %v\n", n.Name, n.Multicast.Memberships, want)
		}
	}
	return different.String()
}

// bridgeMDB is what bridge -j -d mdb says.
type bridgeMDB struct {
	Entries []struct {
		Bridge string `json:"dev"`
		Port   string `json:"port"`
		Group  string `json:"grp"`
		Source string `json:"src"`
		VLAN   int    `json:"vid"`
		State  string `json:"state"`
	} `json:"mdb"`
	Routers map[string][]struct {
		Port string `json:"port"`
	} `json:"router"`
}

// compareMDB says what differs, empty for nothing.
func compareMDB(s *survey, parts []bridgeMDB) string {
	var got, want []string
	for _, part := range parts {
		for _, e := range part.Entries {
			state := e.State
			if state == "temp" {
				state = "temporary"
			}
			want = append(want, fmt.Sprint(e.Bridge, MDBEntry{Port: e.Port, Group: e.Group, Source: e.Source, VLAN: e.VLAN, State: state}))
		}
		for bridge, ports := range part.Routers {
			for _, p := range ports {
				want = append(want, fmt.Sprint(bridge, " router ", p.Port))
			}
		}
	}
	for _, n := range s.nics {
		if n.Stack.Bridge == nil {
			continue
		}
		for _, e := range n.Stack.Bridge.MDB {
			got = append(got, fmt.Sprint(n.Name, e))
		}
		for _, p := range n.Stack.Bridge.RouterPorts {
			got = append(got, fmt.Sprint(n.Name, " router ", p))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if slices.Equal(got, want) {
		return ""
	}
	return fmt.Sprintf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
}
