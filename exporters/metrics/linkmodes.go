package metrics

import (
	"strings"

	"github.com/nictune/nictune/inventory"
)

// linkModes says what each side of a link can do.
func linkModes() collector {
	return collector{
		name: "link_modes", doc: "what each side of a link offers: a series per link mode", off: true, of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const series = "1 per link mode: up to some 40 per port; off unless asked for"
			labels := []string{deviceLabel, "duplex", "mode"}
			define := func(name, help string) *family {
				return c.add(Metric{
					Name: "network_" + name + "_speed_bytes", Type: gauge, Unit: "bytes per second", Labels: labels, Help: help,
					Source: "`ethtool DEVICE`: ETHTOOL_MSG_LINKMODES_GET", Series: series,
				})
			}
			supported := define("supported", "The speed of a link mode that the port can do.")
			advertised := define("advertised", "The speed of a link mode that the port offers to its peer.")
			peer := define("peer_advertised", "The speed of a link mode that the peer offers.")
			port := c.add(Metric{
				Name: "network_supported_port_info", Type: gauge, Labels: []string{deviceLabel, "type"},
				Help: "A kind of connector that the port can be. Always 1.", Source: "`ethtool DEVICE`: ETHTOOL_MSG_LINKMODES_GET", Series: "1 per kind, mostly 1 per port",
			})
			abilities := func(name, what string) *family {
				return c.add(Metric{
					Name: "network_" + name, Type: gauge, Labels: []string{deviceLabel}, Help: "Whether " + what + ".",
					Source: "`ethtool DEVICE`: ETHTOOL_MSG_LINKMODES_GET", Series: "1 per port",
				})
			}
			canNegotiate := abilities("autonegotiate_supported", "the port can negotiate")
			offersNegotiation := abilities("autonegotiate_advertised", "the port offers to negotiate")
			canPause := abilities("pause_supported", "the port can do symmetric flow control")
			offersPause := abilities("pause_advertised", "the port offers symmetric flow control")
			canAsymmetric := abilities("asymmetricpause_supported", "the port can do flow control of one direction")
			offersAsymmetric := abilities("asymmetricpause_advertised", "the port offers flow control of one direction")
			return eachNIC(func(n *inventory.NIC) {
				for _, side := range []struct {
					family *family
					modes  []string
				}{{supported, n.Link.Supported}, {advertised, n.Link.Advertised}, {peer, n.Link.Peer}} {
					for _, mode := range side.modes {
						if speed := inventory.ModeSpeed(mode); speed > 0 {
							name, duplex, _ := strings.Cut(mode, "/")
							side.family.set(float64(speed)*bytesPerMegabit, n.Name, strings.ToLower(duplex), name)
						}
					}
				}
				a := n.Link.Abilities
				if a == nil {
					return
				}
				for _, kind := range a.Supported.Ports {
					port.set(1, n.Name, kind)
				}
				canNegotiate.set(truth(a.Supported.Autoneg), n.Name)
				offersNegotiation.set(truth(a.Advertised.Autoneg), n.Name)
				for _, one := range []struct {
					side                  *inventory.LinkAbility
					symmetric, asymmetric *family
				}{{&a.Supported, canPause, canAsymmetric}, {&a.Advertised, offersPause, offersAsymmetric}} {
					symmetric, asymmetric := one.side.PauseBits()
					one.symmetric.set(truth(symmetric), n.Name)
					one.asymmetric.set(truth(asymmetric), n.Name)
				}
			})
		},
	}
}
