package inventory

import (
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Link is a NIC's link: what was asked for, what runs, what the peer offers.
type Link struct {
	// Admin is "up" or "down", what was asked for; Oper is the operational state
	// as ip prints it ("up", "down", "lowerlayerdown", "dormant", "unknown", ...).
	Admin string `json:"admin,omitempty"`
	Oper  string `json:"oper,omitempty"`
	// Carrier is absent while the device is down.
	Carrier *bool `json:"carrier,omitempty"`
	// ProtoDown is set where a protocol (MLAG, VRRP) holds the link down.
	ProtoDown bool `json:"protoDown,omitempty"`
	// Detected is ethtool's "Link detected": the driver's own word, where Carrier
	// is what the stack was told.
	Detected *bool `json:"detected,omitempty"`
	// ExtendedState and ExtendedSubstate are the driver's reason for a link that
	// is down, in ethtool's words.
	ExtendedState    string `json:"extendedState,omitempty"`
	ExtendedSubstate string `json:"extendedSubstate,omitempty"`
	// SpeedMbps, Duplex ("full", "half") and Lanes are absent while unknown.
	SpeedMbps *int   `json:"speedMbps,omitempty"`
	Duplex    string `json:"duplex,omitempty"`
	Lanes     *int   `json:"lanes,omitempty"`
	Autoneg   *bool  `json:"autoneg,omitempty"`
	// Modes are named as ethtool names them: "25000baseCR/Full".
	Supported  []string `json:"supportedModes,omitempty"`
	Advertised []string `json:"advertisedModes,omitempty"`
	Peer       []string `json:"peerModes,omitempty"`
	// Abilities are what else each side says it can do.
	Abilities *LinkAbilities `json:"abilities,omitempty"`
	// MasterSlave and MasterSlaveState are the clock role that a BASE-T PHY was
	// asked for ("preferred-master", "forced-slave", ...) and has ("master",
	// "slave", "resolution-error"); RateMatching is how a PHY bridges two speeds
	// ("pause", "crs", "open-loop").
	MasterSlave      string `json:"masterSlave,omitempty"`
	MasterSlaveState string `json:"masterSlaveState,omitempty"`
	RateMatching     string `json:"rateMatching,omitempty"`

	// Port is the connector, as ethtool prints it: "Twisted Pair", "FIBRE",
	// "Direct Attach Copper".
	Port string `json:"port,omitempty"`
	// PHYAddress is the PHY's MDIO address, Transceiver "internal" or "external".
	PHYAddress  *int   `json:"phyAddress,omitempty"`
	Transceiver string `json:"transceiver,omitempty"`
	// MDIX is whether twisted pairs are crossed, "on" or "off", with " (auto)" or
	// " (forced)" where the driver says so.
	MDIX string `json:"mdix,omitempty"`
	// SQI is the signal quality index of a single-pair PHY, of SQIMax at most.
	SQI    *int `json:"sqi,omitempty"`
	SQIMax *int `json:"sqiMax,omitempty"`

	FEC   *FEC   `json:"fec,omitempty"`
	Pause *Pause `json:"pause,omitempty"`
	EEE   *EEE   `json:"eee,omitempty"`

	// MTU and its bounds in bytes. MaxMTU is absent where the driver names none.
	MTU    *int `json:"mtu,omitempty"`
	MinMTU *int `json:"minMtu,omitempty"`
	MaxMTU *int `json:"maxMtu,omitempty"`
	// TxQueueLen is the length of the queueing discipline's default queue, in
	// packets.
	TxQueueLen *int `json:"txQueueLen,omitempty"`
	// CarrierUp and CarrierDown count the kernel's carrier changes; DownEvents is
	// the device's own count of a lost link, where it has one.
	CarrierUp   *uint64 `json:"carrierUp,omitempty"`
	CarrierDown *uint64 `json:"carrierDown,omitempty"`
	DownEvents  *uint64 `json:"downEvents,omitempty"`
}

// LinkAbilities are what the link modes' bit sets say beside modes.
type LinkAbilities struct {
	Supported  LinkAbility  `json:"supported"`
	Advertised LinkAbility  `json:"advertised"`
	Peer       *LinkAbility `json:"peer,omitempty"`
}

// LinkAbility is one side's ability.
type LinkAbility struct {
	// Ports are the connectors: "TP", "FIBRE", "Backplane".
	Ports   []string `json:"ports,omitempty"`
	Autoneg bool     `json:"autoneg"`
	// Pause is in ethtool's words: "No", "Symmetric", "Transmit-only",
	// "Symmetric Receive-only".
	Pause string `json:"pause"`
	// FEC are modes as ethtool names them here: "None", "RS", "BASER", "LLRS".
	FEC []string `json:"fec,omitempty"`
}

// PauseBits are the link mode bits that Pause is made of: Pause and Asym_Pause.
func (a *LinkAbility) PauseBits() (symmetric, asymmetric bool) {
	switch a.Pause {
	case pauseSymReceive:
		return true, true
	case pauseSymmetric:
		return true, false
	case pauseTransmit:
		return false, true
	}
	return false, false
}

// fileLinkModes files an ETHTOOL_MSG_LINKMODES_GET_REPLY.
func fileLinkModes(n *NIC, w *words, body []byte) error {
	l := n.Link
	l.SpeedMbps, l.Lanes, l.Autoneg, l.Abilities = nil, nil, nil, nil
	l.Duplex, l.MasterSlave, l.MasterSlaveState, l.RateMatching = "", "", "", ""
	l.Supported, l.Advertised, l.Peer = nil, nil, nil
	var ours, peer *bitset
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_LINKMODES_AUTONEG:
			on := attributes.Uint8() == uapi.AUTONEG_ENABLE
			l.Autoneg = &on
		case uapi.ETHTOOL_A_LINKMODES_OURS, uapi.ETHTOOL_A_LINKMODES_PEER:
			set, err := decodeBitset(attributes.Data)
			if err != nil {
				return err
			}
			if attributes.Type == uapi.ETHTOOL_A_LINKMODES_OURS {
				ours = &set
			} else {
				peer = &set
			}
		case uapi.ETHTOOL_A_LINKMODES_SPEED:
			// 0, SPEED_UNKNOWN, and what is left of it in 16 bits.
			if v := attributes.Uint32(); v != 0 && v < 1<<31 && v != 0xffff {
				l.SpeedMbps = new(int(v))
			}
		case uapi.ETHTOOL_A_LINKMODES_DUPLEX:
			l.Duplex = duplexWord(attributes.Uint8())
		case uapi.ETHTOOL_A_LINKMODES_LANES:
			l.Lanes = new(int(attributes.Uint32()))
		case uapi.ETHTOOL_A_LINKMODES_MASTER_SLAVE_CFG:
			l.MasterSlave = at(attributes.Uint8(), "", "unknown", "preferred-master", "preferred-slave", "forced-master", "forced-slave")
		case uapi.ETHTOOL_A_LINKMODES_MASTER_SLAVE_STATE:
			l.MasterSlaveState = at(attributes.Uint8(), "", "unknown", "master", "slave", "resolution-error")
		case uapi.ETHTOOL_A_LINKMODES_RATE_MATCHING:
			l.RateMatching = at(attributes.Uint8(), "", "pause", "crs", "open-loop")
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	if ours != nil {
		l.Abilities = &LinkAbilities{}
		l.Supported, l.Abilities.Supported = linkModes(w, ours.mask)
		l.Advertised, l.Abilities.Advertised = linkModes(w, ours.value)
		// Only what a device can do has ports: the others' bits say nothing.
		l.Abilities.Advertised.Ports = nil
		if peer != nil {
			l.Abilities.Peer = &LinkAbility{}
			l.Peer, *l.Abilities.Peer = linkModes(w, peer.value)
			l.Abilities.Peer.Ports = nil
		}
	}
	n.Link = l
	return nil
}

// linkModes takes a set of link mode bits apart as ethtool does: modes proper,
// and bits that say something else.
func linkModes(w *words, set []uint32) ([]string, LinkAbility) {
	var modes []string
	var a LinkAbility
	var pause, asymmetric bool
	for i := range eachBit(set) {
		switch i {
		case uapi.ETHTOOL_LINK_MODE_Autoneg_BIT:
			a.Autoneg = true
		case uapi.ETHTOOL_LINK_MODE_Pause_BIT:
			pause = true
		case uapi.ETHTOOL_LINK_MODE_Asym_Pause_BIT:
			asymmetric = true
		case uapi.ETHTOOL_LINK_MODE_TP_BIT, uapi.ETHTOOL_LINK_MODE_AUI_BIT, uapi.ETHTOOL_LINK_MODE_MII_BIT,
			uapi.ETHTOOL_LINK_MODE_FIBRE_BIT, uapi.ETHTOOL_LINK_MODE_BNC_BIT, uapi.ETHTOOL_LINK_MODE_Backplane_BIT:
			a.Ports = append(a.Ports, w.word(uapi.ETH_SS_LINK_MODES, i))
		case uapi.ETHTOOL_LINK_MODE_FEC_NONE_BIT, uapi.ETHTOOL_LINK_MODE_FEC_RS_BIT,
			uapi.ETHTOOL_LINK_MODE_FEC_BASER_BIT, uapi.ETHTOOL_LINK_MODE_FEC_LLRS_BIT:
			a.FEC = append(a.FEC, w.word(uapi.ETH_SS_LINK_MODES, i))
		default:
			modes = append(modes, w.word(uapi.ETH_SS_LINK_MODES, i))
		}
	}
	switch {
	case pause && asymmetric:
		a.Pause = pauseSymReceive
	case pause:
		a.Pause = pauseSymmetric
	case asymmetric:
		a.Pause = pauseTransmit
	default:
		a.Pause = pauseNone
	}
	return modes, a
}

// fileLinkInfo files an ETHTOOL_MSG_LINKINFO_GET_REPLY.
func fileLinkInfo(n *NIC, _ *words, body []byte) error {
	l := n.Link
	l.Port, l.PHYAddress, l.Transceiver, l.MDIX = "", nil, "", ""
	var mdix, control uint8
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_LINKINFO_PORT:
			l.Port = portWord(attributes.Uint8())
		case uapi.ETHTOOL_A_LINKINFO_PHYADDR:
			l.PHYAddress = new(int(attributes.Uint8()))
		case uapi.ETHTOOL_A_LINKINFO_TP_MDIX:
			mdix = attributes.Uint8()
		case uapi.ETHTOOL_A_LINKINFO_TP_MDIX_CTRL:
			control = attributes.Uint8()
		case uapi.ETHTOOL_A_LINKINFO_TRANSCEIVER:
			l.Transceiver = at(attributes.Uint8(), "internal", "external")
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	if l.Port == portWord(uapi.PORT_TP) {
		l.MDIX = mdixWord(mdix, control)
	}
	n.Link = l
	return nil
}

// fileLinkState files an ETHTOOL_MSG_LINKSTATE_GET_REPLY.
func fileLinkState(n *NIC, _ *words, body []byte) error {
	l := n.Link
	l.Detected, l.SQI, l.SQIMax, l.DownEvents = nil, nil, nil, nil
	l.ExtendedState, l.ExtendedSubstate = "", ""
	var state, substate *uint8
	attributes := kernel.AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_LINKSTATE_LINK:
			l.Detected = new(attributes.Uint8() != 0)
		case uapi.ETHTOOL_A_LINKSTATE_SQI:
			l.SQI = new(int(attributes.Uint32()))
		case uapi.ETHTOOL_A_LINKSTATE_SQI_MAX:
			l.SQIMax = new(int(attributes.Uint32()))
		case uapi.ETHTOOL_A_LINKSTATE_EXT_STATE:
			state = new(attributes.Uint8())
		case uapi.ETHTOOL_A_LINKSTATE_EXT_SUBSTATE:
			substate = new(attributes.Uint8())
		case uapi.ETHTOOL_A_LINKSTATE_EXT_DOWN_CNT:
			l.DownEvents = new(uint64(attributes.Uint32()))
		}
	}
	if err := attributes.Err(); err != nil {
		return err
	}
	if state != nil {
		l.ExtendedState = extendedState(*state)
		if substate != nil {
			l.ExtendedSubstate = extendedSubstate(*state, *substate)
		}
	}
	n.Link = l
	return nil
}

func duplexWord(v uint8) string {
	switch v {
	case uapi.DUPLEX_HALF:
		return "half"
	case uapi.DUPLEX_FULL:
		return "full"
	}
	return ""
}

func portWord(v uint8) string {
	switch v {
	case uapi.PORT_NONE:
		return "None"
	case uapi.PORT_OTHER:
		return "Other"
	}
	return at(v, "Twisted Pair", "AUI", "MII", "FIBRE", "BNC", "Direct Attach Copper")
}

// MDI states and controls of linux/ethtool.h (ETH_TP_MDI, ...).
const (
	mdiPlain   = 1
	mdiCrossed = 2
	mdiAuto    = 3
)

// mdixWord is ethtool's "MDI-X", or "" where it prints "Unknown".
func mdixWord(status, control uint8) string {
	switch control {
	case mdiPlain:
		return "off (forced)"
	case mdiCrossed:
		return "on (forced)"
	}
	var word string
	switch status {
	case mdiPlain:
		word = "off"
	case mdiCrossed:
		word = "on"
	default:
		return ""
	}
	if control == mdiAuto {
		word += " (auto)"
	}
	return word
}

// extendedState is ethtool's word for an ETHTOOL_LINK_EXT_STATE_*.
func extendedState(state uint8) string {
	return at(state, "Autoneg", "Link training failure", "Logical mismatch", "Bad signal integrity",
		"No cable", "Cable issue", "EEPROM issue", "Calibration failure", "Power budget exceeded",
		"Overheat", "Module", "OTP speed violation", "BMC request down")
}

// extendedSubstate is ethtool's word for an ETHTOOL_LINK_EXT_SUBSTATE_*, whose
// meaning depends on the state. They count from 1.
func extendedSubstate(state, substate uint8) string {
	switch state {
	case uapi.ETHTOOL_LINK_EXT_STATE_AUTONEG:
		return at(substate, "", "No partner detected", "Ack not received", "Next page exchange failed",
			"No partner detected during force mode", "FEC mismatch during override", "No HCD")
	case uapi.ETHTOOL_LINK_EXT_STATE_LINK_TRAINING_FAILURE:
		return at(substate, "", "KR frame lock not acquired", "KR link inhibit timeout",
			"KR Link partner did not set receiver ready", "Remote side is not ready yet")
	case uapi.ETHTOOL_LINK_EXT_STATE_LINK_LOGICAL_MISMATCH:
		return at(substate, "", "PCS did not acquire block lock", "PCS did not acquire AM lock",
			"PCS did not get align_status", "FC FEC is not locked", "RS FEC is not locked")
	case uapi.ETHTOOL_LINK_EXT_STATE_BAD_SIGNAL_INTEGRITY:
		return at(substate, "", "Large number of physical errors", "Unsupported rate",
			"Serdes reference clock lost", "Serdes ALOS")
	case uapi.ETHTOOL_LINK_EXT_STATE_CABLE_ISSUE:
		return at(substate, "", "Unsupported cable", "Cable test failure")
	case uapi.ETHTOOL_LINK_EXT_STATE_MODULE:
		return at(substate, "", "CMIS module is not in ModuleReady state")
	}
	return at(substate)
}

// at is the word for a number, and the number where there is none: a newer
// kernel may say more than this list knows.
func at(i uint8, list ...string) string {
	if int(i) < len(list) {
		return list[i]
	}
	return fmt.Sprintf("%d", i)
}
