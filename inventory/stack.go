package inventory

// Stack is what a NIC lies on and under.
type Stack struct {
	// Lower are the devices that this one is built on: a bond's or bridge's
	// members, the parent of a VLAN or macvlan.
	Lower []string `json:"lower,omitempty"`
	// Upper are the devices built on this one.
	Upper []string `json:"upper,omitempty"`
	// Master is the bond, bridge, team or VRF that this device is enslaved to.
	Master string `json:"master,omitempty"`
	// PeerNamespace says that the device's lower or peer lies in another network
	// namespace (its id there), so that it can't be named here.
	PeerNamespace *int `json:"peerNamespace,omitempty"`

	Bond   *Bond   `json:"bond,omitempty"`
	Bridge *Bridge `json:"bridge,omitempty"`
	VLAN   *VLAN   `json:"vlan,omitempty"`
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
	Querier       *bool `json:"multicastQuerier,omitempty"`
	Router        *int  `json:"multicastRouter,omitempty"`
	HashMax       *int  `json:"multicastHashMax,omitempty"`
	IGMPVersion   *int  `json:"igmpVersion,omitempty"`
	MLDVersion    *int  `json:"mldVersion,omitempty"`
	// QuerierState are the queriers that the bridge hears or is.
	QuerierState []BridgeQuerier `json:"querierState,omitempty"`
	// MDB are the groups that the bridge forwards.
	MDB []MDBEntry `json:"mdb,omitempty"`
	// RouterPorts are the ports behind which multicast routers are.
	RouterPorts []string `json:"routerPorts,omitempty"`
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
