package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// modeRules judge what a link was negotiated to, or set to.
func modeRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "link/half-duplex", Severity: findings.Critical,
			Title:   "the link runs in half duplex",
			Why:     "Half duplex between switches and servers is nearly always a failed negotiation: one end was set by hand, the other guesses. Collisions then show as late ones and lost packets as soon as there is traffic.",
			Remedy:  "Set both ends to negotiate (link: {autoneg: on}), or both to the same speed and full duplex.",
			Sources: []string{"IEEE 802.3, clause 28: parallel detection ends in half duplex"},
		}, Judge: halfDuplex},
		{About: findings.About{
			ID: "link/slow", Severity: findings.Warning,
			Title:   "the link is slower than both ends can do",
			Why:     "Both ends offer a faster mode, and the link runs at less: PHYs downshift when a pair of the cable is bad, and somebody may have limited what is advertised.",
			Remedy:  "Replace the cable (a broken pair is the usual cause), then let it negotiate again: ip link set DEV down, up.",
			Sources: []string{"IEEE 802.3, clauses 28 and 73: the highest common mode is chosen", "Linux drivers/net/phy/phy-core.c: phy_check_downshift"},
		}, Judge: slow},
		{About: findings.About{
			ID: "link/autoneg-mismatch", Severity: findings.Warning,
			Title:   "one end negotiates, the other doesn't",
			Why:     "The end that negotiates learns the speed from the signal at best, and assumes half duplex; flow control and EEE are not agreed upon. On fibre and backplane the link often doesn't come up at all.",
			Remedy:  "Set both ends to negotiate (link: {autoneg: on}), or both to the same speed and full duplex by hand. Twisted pair from 1000BASE-T on has to negotiate.",
			Sources: []string{"IEEE 802.3, clause 28.2.3.1: parallel detection", "IEEE 802.3, clause 40.5.1: 1000BASE-T requires auto-negotiation"},
		}, Judge: autonegMismatch},
		{About: findings.About{
			ID: "link/fec", Severity: findings.Warning,
			Title:   "the link runs without the error correction that its rate or medium needs",
			Why:     "Such a medium is specified with a bit error ratio that only forward error correction (FEC) makes usable: the link comes up without it, and loses frames at random.",
			Remedy:  "Set the same FEC on both ends (fec: {encoding: rs}), or let both negotiate it.",
			Sources: []string{"IEEE 802.3, clauses 91, 108 and 134: RS-FEC", "IEEE 802.3, clauses 92, 95, 110, 112 and 114: which media need it", "SFF-8024, table 4-4: extended specification compliance codes"},
		}, Judge: fecMissing},
		{About: findings.About{
			ID: "link/eee", Severity: findings.Info,
			Title:   "Energy-Efficient Ethernet is active",
			Why:     "The link sleeps when it is idle and takes microseconds to wake up (16.5 at 1000BASE-T), which shows as latency and jitter of sparse traffic. Some PHYs drop the link over it.",
			Remedy:  "Switch it off where latency matters: eee: {eee: off}.",
			Sources: []string{"IEEE 802.3, clause 78 and table 78-4: wake times (T_w_sys_tx)"},
		}, Judge: eeeActive},
		{About: findings.About{
			ID: "link/sqi", Severity: findings.Warning,
			Title:   "the signal quality is low",
			Why:     "Some PHYs, those of single-pair links above all, say how good the signal is on a scale from 0 to, mostly, 7. What a step means in signal to noise is the PHY's own (its data sheet tells), and no standard says where a link is bad: the lower half is a convention of this rule. Microchip's 10BASE-T1S PHYs for one expect a bit error ratio above 2.7e-7 there, far more than Ethernet allows.",
			Remedy:  "Check the cable, its shield and its connectors, and what runs beside it.",
			Sources: []string{"OPEN Alliance TC1 and TC12, Advanced diagnostic features for 100BASE-T1 and 1000BASE-T1, 6.1.2: SQI, 0 (worst) to 7 (best)", "Linux Documentation/networking/ethtool-netlink.rst, LINKSTATE_GET: ETHTOOL_A_LINKSTATE_SQI, SQI_MAX", "Microchip, 10BASE-T1S PHYs, register SQISTS0: signal to noise and bit error ratio of each step"},
		}, Judge: sqi},
	}
}

func halfDuplex(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noLink(); is {
		return v
	}
	switch {
	case l.Carrier == nil || !*l.Carrier:
		return findings.Inapplicable("no carrier")
	case l.Duplex == "full":
		return findings.Passes("full duplex")
	case l.Duplex == "half":
		seen := "half duplex"
		if l.SpeedMbps != nil {
			seen = fmt.Sprintf("half duplex at %d Mb/s", *l.SpeedMbps)
		}
		return findings.Fails(seen, "full duplex")
	default:
		return n.untold("duplex")
	}
}

func slow(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noCarrier(); is {
		return v
	}
	if l.SpeedMbps == nil {
		return n.untold("speed")
	}
	speed, ours := *l.SpeedMbps, inventory.FastestMode(l.Supported)
	switch {
	case ours == 0:
		return findings.Unclear("%d Mb/s; the driver doesn't tell which modes there are", speed)
	case speed >= ours:
		return findings.Passes("%d Mb/s, the fastest of this port", speed)
	case len(l.Peer) == 0:
		return findings.Unclear("%d Mb/s; this port can do %d, what the peer can is not told", speed, ours)
	}
	both := inventory.FastestMode(common(l.Supported, l.Peer))
	if both <= speed {
		return findings.Passes("%d Mb/s, the fastest that both ends have", speed)
	}
	v := findings.Fails(fmt.Sprintf("%d Mb/s", speed), fmt.Sprintf("%d Mb/s, which both ends can do", both))
	if inventory.FastestMode(l.Advertised) < both {
		v = v.To("This end does not advertise it: let it, with link: {advertise: [...]}, or ethtool -s DEV autoneg on.")
	}
	return v
}

func autonegMismatch(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noCarrier(); is {
		return v
	}
	if l.Autoneg == nil {
		return n.untold("autonegotiation")
	}
	var peer *inventory.LinkAbility
	if l.Abilities != nil {
		peer = l.Abilities.Peer
	}
	switch {
	case *l.Autoneg && peer != nil && peer.Autoneg:
		return findings.Passes("both ends negotiate")
	case *l.Autoneg && peer != nil:
		return findings.Fails("this end negotiates, the peer doesn't", "both or none")
	case *l.Autoneg:
		return findings.Unclear("this end negotiates; what the peer does is not told")
	case peer != nil && peer.Autoneg:
		return findings.Fails("the peer negotiates, this end doesn't", "both or none")
	case l.Port == "Twisted Pair" && l.SpeedMbps != nil && *l.SpeedMbps >= 1000 && l.Abilities != nil && l.Abilities.Supported.Autoneg:
		return findings.Fails(fmt.Sprintf("%d Mb/s on twisted pair without negotiation", *l.SpeedMbps), "negotiation, which the standard requires there")
	}
	return findings.Unclear("this end does not negotiate; what the peer does is not told")
}

// What the codes of SFF-8024 table 4-4 mean for FEC.
var (
	// needRS are specified with RS-FEC.
	needRS = map[int]string{
		0x01: "an active optical cable for a bit error ratio of 5e-5", 0x02: "100GBASE-SR4 or 25GBASE-SR",
		0x06: "100G CWDM4", 0x07: "100G PSM4", 0x08: "an active copper cable for a bit error ratio of 5e-5",
		0x0b: "100GBASE-CR4 or 25GBASE-CR CA-25G-L",
	}
	// needAny are content with BASE-R FEC.
	needAny = map[int]string{0x0c: "25GBASE-CR CA-25G-S"}
	// needNone do without on the host's side: the medium needs none, or the module
	// does it itself.
	needNone = map[int]string{
		0x09: "100G CWDM4 without FEC", 0x25: "100GBASE-DR with CAUI-4", 0x26: "100GBASE-FR1 with CAUI-4", 0x27: "100GBASE-LR1 with CAUI-4",
		0x03: "100GBASE-LR4", 0x04: "100GBASE-ER4", 0x0d: "25GBASE-CR CA-25G-N",
		0x18: "an active optical cable for a bit error ratio of 1e-12", 0x19: "an active copper cable for a bit error ratio of 1e-12",
	}
)

// laneSpeed is the most that a lane of the link carries, in Mb/s: where the driver
// names no lanes, by what there is. 40 and 56 Gb/s always have four.
func laneSpeed(l *inventory.Link) int {
	switch speed := *l.SpeedMbps; {
	case l.Lanes != nil && *l.Lanes > 0:
		return speed / *l.Lanes
	case speed == 40000 || speed == 56000:
		return speed / 4
	default:
		return speed
	}
}

func fecMissing(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noCarrier(); is {
		return v
	}
	switch {
	case l.SpeedMbps == nil:
		return n.untold("speed")
	case laneSpeed(l) < 25000:
		return findings.Inapplicable("lanes of %d Mb/s need none", laneSpeed(l))
	case l.FEC == nil:
		return findings.Unread(n.Unread, "link.fec")
	case l.FEC.Active == "":
		return findings.Unclear("which FEC is active is not told")
	}
	speed, active := *l.SpeedMbps, strings.ToLower(l.FEC.Active)
	rs := strings.HasPrefix(active, "rs") || strings.HasPrefix(active, "llrs")
	seen := fmt.Sprintf("FEC %s at %d Mb/s", l.FEC.Active, speed)
	if rs {
		return findings.Passes("%s", seen)
	}
	if speed >= 200000 || l.Lanes != nil && *l.Lanes > 0 && speed / *l.Lanes >= 50000 {
		return findings.Fails(seen, "RS-FEC, which lanes of 50 Gb/s and more need")
	}
	if n.Module == nil || n.Module.ExtendedCompliance == nil || len(n.Module.Doubts) > 0 {
		if active == "baser" {
			return findings.Unclear("%s; whether the medium needs RS-FEC is not known without its module's code", seen)
		}
		return findings.Unclear("%s; whether the medium needs it is not known without its module's code", seen)
	}
	code := n.Module.ExtendedCompliance.Value
	switch name := needRS[code]; {
	case name != "":
		return findings.Fails(seen+" over "+name, "RS-FEC")
	case needAny[code] != "" && active == "off":
		return findings.Fails(seen+" over "+needAny[code], "BASE-R FEC or RS-FEC")
	case needAny[code] != "":
		return findings.Passes("%s over %s", seen, needAny[code])
	case code == 0x03 && speed == 25000: // the code's 25GBASE-LR needs it, its 100GBASE-LR4 does not
		return findings.Fails(seen+" over 25GBASE-LR", "RS-FEC")
	case code == 0x04 && speed == 25000:
		return findings.Fails(seen+" over 25GBASE-ER", "RS-FEC")
	case needNone[code] != "":
		return findings.Passes("%s over %s, which needs none", seen, needNone[code])
	}
	return findings.Unclear("%s; what the module's code (%s) needs is not known here", seen, n.Module.ExtendedCompliance.Name)
}

func eeeActive(n nic) findings.Verdict {
	if v, is := n.noCarrier(); is {
		return v
	}
	e := n.Link.EEE
	switch {
	case e == nil:
		return findings.Unread(n.Unread, "link.eee")
	case !e.Active:
		return findings.Passes("not active")
	}
	seen := "active"
	if e.TXLPI && e.TXLPITimerUsecs != nil {
		seen = fmt.Sprintf("active; sends low power idle after %d µs", *e.TXLPITimerUsecs)
	}
	if both := common(e.Advertised, e.Peer); len(both) > 0 {
		slices.Sort(both)
		seen += ", agreed for " + strings.Join(both, ", ")
	}
	return findings.Fails(seen, "a link that stays awake")
}

func sqi(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noCarrier(); is {
		return v
	}
	switch {
	case l.SQI == nil && l.Detected != nil:
		return findings.Inapplicable("no PHY that measures it")
	case l.SQI == nil || l.SQIMax == nil:
		return findings.Unread(n.Unread, "link.detected")
	}
	seen := fmt.Sprintf("%d of %d", *l.SQI, *l.SQIMax)
	if 2**l.SQI < *l.SQIMax {
		return findings.Fails(seen, fmt.Sprintf("%d or more", (*l.SQIMax+1)/2))
	}
	return findings.Passes("%s", seen)
}
