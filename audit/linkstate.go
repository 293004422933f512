package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// stateRules judge whether a link is there, and stays.
func stateRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "link/down", Severity: findings.Warning,
			Title:   "the device is up and has no link",
			Why:     "Somebody set the device up, so traffic is expected on it, and there is no carrier. Of a bond it is the leg that will be missed when the other one fails.",
			Remedy:  "Check cable, module and the switch's port; set the device down (ip link set DEV down) if nothing is meant to be plugged in.",
			Sources: []string{"Linux Documentation/networking/operstates.rst", "Linux Documentation/networking/ethtool-netlink.rst, LINKSTATE_GET: extended link states"},
		}, Judge: down},
		{About: findings.About{
			ID: "link/flaps", Severity: findings.Warning,
			Title:   "the link comes and goes",
			Why:     "Each flap loses what is under way, makes the switch learn and spanning tree converge again, and moves bonds to their other leg. A cable or module that flaps soon fails.",
			Remedy:  "Look at dmesg and the switch's log for the times. Reseat or replace the cable, then the module; rule out that something sets the device down and up again.",
			Sources: []string{"Linux Documentation/ABI/testing/sysfs-class-net: carrier_down_count", "Linux net/sched/sch_generic.c: netif_carrier_off"},
		}, Judge: flaps},
		{About: findings.About{
			ID: "link/hidden-flaps", Severity: findings.Warning,
			Title:   "the device lost its link more often than the kernel was told",
			Why:     "The device counts each loss of the link; short ones are over before the driver reports them. The kernel, bonding and monitoring saw fewer, but packets were lost each time.",
			Remedy:  "Treat it as a link that flaps: reseat or replace the cable and the module, and read the module's light levels.",
			Sources: []string{"Linux Documentation/networking/ethtool-netlink.rst, LINKSTATE_GET: ETHTOOL_A_LINKSTATE_EXT_DOWN_CNT"},
		}, Judge: hiddenFlaps},
	}
}

// goneRule judges NICs of the earlier look, too.
func goneRule() findings.Rule[nic] {
	return findings.Rule[nic]{About: findings.About{
		ID: "link/gone", Severity: findings.Critical,
		Title:   "the NIC went away while it was looked at",
		Why:     "A card that leaves the bus takes its traffic with it. Unless somebody unplugged it, it crashed, overheated, or lost power or its PCIe link.",
		Remedy:  "Look at dmesg for AER, link down and firmware messages. If it was not unplugged on purpose, reseat the card, update its firmware, and read the machine's hardware log.",
		Sources: []string{"Linux Documentation/PCI/pci-error-recovery.rst", "Linux drivers/pci/hotplug/pciehp_ctrl.c"},
	}, Judge: gone}
}

func gone(n nic) findings.Verdict {
	if n.Function == inventory.Virtual {
		return findings.Inapplicable("a software device")
	}
	onBus, left := n.evidence.Left[n.ID()]
	doubt := slices.IndexFunc(n.Unread, wentAway)
	var seen string
	switch {
	case n.lost:
		seen = fmt.Sprintf("it was there, and %s later it was not", n.evidence.Watched())
	case left && doubt >= 0:
		seen = "it went away while " + n.Unread[doubt].Fact + " was read"
	case doubt >= 0:
		u := n.Unread[doubt]
		return findings.Unclear("%s: %s; nothing else says that it went away", u.Fact, cmp.Or(u.Detail, "no such device"))
	case n.evidence.Earlier == nil:
		return findings.Passes("it answered")
	default:
		return findings.Passes("there for %s", n.evidence.Watched())
	}
	switch {
	case n.Function == inventory.VF || n.Function == inventory.SF || n.Function == inventory.Representor:
		return findings.Inapplicable("%s; such devices come and go with the guests and containers that they are given to", seen)
	case onBus:
		return findings.Unclear("%s; its hardware is still on the bus: it was given to another network namespace, its driver let go of it, or it crashed, which dmesg tells", seen)
	}
	return findings.Fails(seen, "a NIC that stays")
}

func down(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noLink(); is {
		return v
	}
	switch {
	case l.Admin == "down":
		return findings.Inapplicable("set down")
	case l.Carrier == nil:
		return findings.Unread(n.Unread, "link.carrier")
	case *l.Carrier:
		return findings.Passes("there is a link")
	}
	reason := l.ExtendedState
	if l.ExtendedSubstate != "" {
		reason += ": " + l.ExtendedSubstate
	}
	if l.ProtoDown {
		reason = "a protocol holds it down (protodown)"
	}
	seen := "no carrier; " + cmp.Or(reason, "the driver gives no reason")
	unlit := n.unlit()
	if len(unlit) > 0 {
		seen += "; the module: " + strings.Join(unlit, ", ")
	}
	v := findings.Fails(seen, "a link, or a device that is set down")
	if len(unlit) > 0 {
		v = v.To("Check the fibre, its polarity (the two may be swapped) and its connectors, and that the far end is up; set the device down if nothing is meant to be plugged in.")
	}
	if remedy := stateRemedies[l.ExtendedState]; remedy != "" {
		v = v.To("%s", remedy)
	}
	switch {
	case l.ProtoDown:
		v = v.To("Ask whoever runs the protocol (MLAG, VRRP, an FRR or a switch daemon): ip -d link show DEV names its reason where it gave one.")
	case n.Function == inventory.VF:
		v = v.To("A VF's link follows its PF's port: look at that, and at ip link set PF vf N state.")
	}
	return v
}

// stateRemedies say what to do about an extended link state, by ethtool's words for
// it (enum ethtool_link_ext_state).
var stateRemedies = map[string]string{
	"Autoneg":               "The ends don't agree on a mode: let both negotiate and advertise a common speed, or set both by hand. Without a partner, the far end is off or unplugged.",
	"Link training failure": "The cable's signal is too poor for the rate, or the far end doesn't train: try another cable, a shorter one, and the same FEC and autonegotiation on both ends.",
	"Logical mismatch":      "The lanes don't lock: set the same speed, lanes and FEC on both ends, and try another cable or module.",
	"Bad signal integrity":  "Clean or replace the fibre, reseat or replace the module or cable, and see that it is made for the rate.",
	"No cable":              "Plug in the cable or module, or set the device down if nothing is meant to be there.",
	"Cable issue":           "Replace the cable: the device does not support it, or a cable test failed.",
	"EEPROM issue":          "Reseat the module; if nictune module show can't read it either, replace it.",
	"Calibration failure":   "Reset the port (ip link set DEV down, up) or the card; if it stays, it is the card.",
	"Power budget exceeded": "The cage doesn't give the power that the module asks for: move it to a port that does, or use a module of a lower power class.",
	"Overheat":              "The card or module is too hot: see to the airflow. It comes back by itself when it has cooled, unless it latched off.",
	"Module":                "The module is not ready: see its state with nictune module show.",
	"OTP speed violation":   "The card is limited by its one-time programming to lower speeds: set the speed that it is sold for.",
	"BMC request down":      "The management controller holds the port down: ask it.",
}

// Flaps that were counted before this run are judged where they are this many, and at
// least so many an hour on average: what sets up a NIC causes some, too.
const (
	manyFlaps    = 10
	flapsAnHour  = 1
	flapsAllowed = 1 // the link was down once before it first came up
)

func flaps(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noLink(); is {
		return v
	}
	if l.CarrierDown == nil {
		return findings.Unread(n.Unread, "link.carrierDown")
	}
	if b := n.before(); b != nil && b.Link.CarrierDown != nil && *b.Link.CarrierDown <= *l.CarrierDown {
		if more := *l.CarrierDown - *b.Link.CarrierDown; more > 0 {
			return findings.Fails(fmt.Sprintf("lost %s within %s", times(more), n.evidence.Watched()), "a link that stays")
		}
		return findings.Passes("not lost within %s", n.evidence.Watched())
	}
	total, uptime := *l.CarrierDown, n.evidence.Counted.Uptime
	hours := uptime.Hours()
	switch {
	case total <= flapsAllowed:
		return findings.Passes("lost %s since the driver was loaded", times(total))
	case uptime > 0 && total >= manyFlaps && float64(total)/hours >= flapsAnHour:
		return findings.Fails(
			fmt.Sprintf("lost %s since the driver was loaded, at most %s ago", times(total), spoken(uptime)),
			fmt.Sprintf("fewer than %d an hour", flapsAnHour))
	}
	ago := ""
	if uptime > 0 {
		ago = ", at most " + spoken(uptime) + " ago"
	}
	return findings.Unclear("lost %s since the driver was loaded%s: whether it still happens --watch shows", times(total), ago)
}

func hiddenFlaps(n nic) findings.Verdict {
	l := &n.Link
	if v, is := n.noPort(); is {
		return v
	}
	if l.DownEvents == nil || l.CarrierDown == nil {
		if l.Detected != nil && l.DownEvents == nil {
			return findings.Unclear("the driver does not say how often the device lost its link")
		}
		return findings.Unread(n.Unread, "link.detected", "link.carrierDown")
	}
	said := fmt.Sprintf("the device counted %s, the kernel %s", times(*l.DownEvents), times(*l.CarrierDown))
	if b := n.before(); b != nil && b.Link.DownEvents != nil && b.Link.CarrierDown != nil &&
		*b.Link.DownEvents <= *l.DownEvents && *b.Link.CarrierDown <= *l.CarrierDown {
		device, host := *l.DownEvents-*b.Link.DownEvents, *l.CarrierDown-*b.Link.CarrierDown
		said = fmt.Sprintf("within %s the device lost it %s, and the kernel was told %s", n.evidence.Watched(), times(device), times(host))
		if device > host {
			return findings.Fails(said, "the same of both")
		}
		return findings.Passes("%s", said)
	}
	if *l.DownEvents <= *l.CarrierDown {
		return findings.Passes("%s", said)
	}
	return findings.Unclear("%s; a device may have counted since before its driver was loaded: --watch shows", said)
}

func times(n uint64) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// spoken is a duration as people say it.
func spoken(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d seconds", int(d.Seconds()))
}
