package audit

import (
	"fmt"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// linkRules judge links. They say nothing of software devices, which have none.
func linkRules() []findings.Rule[nic] {
	return []findings.Rule[nic]{
		{About: findings.About{
			ID: "link/half-duplex", Severity: findings.Critical,
			Title:   "the link runs in half duplex",
			Why:     "Half duplex between switches and servers is nearly always a failed negotiation: one end was set by hand, the other guesses. Collisions then show as late ones and lost packets as soon as there is traffic.",
			Remedy:  "Set both ends to negotiate (link: {autoneg: on}), or both to the same speed and full duplex.",
			Sources: []string{"IEEE 802.3, clause 28: parallel detection ends in half duplex"},
		}, Judge: halfDuplex},
	}
}

func halfDuplex(n nic) findings.Verdict {
	l := &n.Link
	switch {
	case n.Function == inventory.Virtual:
		return findings.Inapplicable("a software device")
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
		return findings.Unread(n.Unread, "link.supportedModes") // they come in one answer
	}
}
