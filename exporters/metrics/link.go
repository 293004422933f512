package metrics

import (
	"strconv"

	"github.com/nictune/nictune/inventory"
)

// link says what state each device's link is in, as the facts had it last.
func link() collector {
	return collector{
		name: "link", doc: "each device's link: state, speed, MTU, how often it came and went",
		of: func(s *Snapshot) any { return s.Inventory },
		define: func(c *catalogue) func(*Snapshot) {
			f := defineLink(c)
			return func(s *Snapshot) {
				if s.Inventory == nil {
					return
				}
				for i := range s.Inventory.NICs {
					f.fill(&s.Inventory.NICs[i])
				}
			}
		},
	}
}

// bytesPerMegabit makes bytes per second of Mb/s.
const bytesPerMegabit = 1e6 / 8

type linkFamilies struct {
	info, up, admin, carrier, speed, mtu *family
	maxSpeed, lanes, autoneg, queueLen   *family
	carrierUp, carrierDown, downEvents   *family
	minMTU, maxMTU, quality, maxQuality  *family
}

func defineLink(c *catalogue) linkFamilies {
	device := []string{deviceLabel}
	return linkFamilies{
		info: c.add(Metric{
			Name: "network_info", Type: gauge,
			Help:   "A network device's link in words, as ethtool and ip print them. Always 1; a label that is not known is empty.",
			Labels: []string{deviceLabel, "admin", "operstate", "duplex", "port", "autoneg", "fec", "extended_state"},
			Source: "`ip link`, `ethtool`: rtnetlink, ethtool netlink", Series: perDevice,
		}),
		up: c.add(Metric{
			Name: "network_up", Type: gauge, Labels: device, Help: "Whether the operational state is up.",
			Source: "IFLA_OPERSTATE; absent while it is unknown", Series: perDevice,
		}),
		admin: c.add(Metric{
			Name: "network_admin_up", Type: gauge, Labels: device, Help: "Whether the device is switched on.",
			Source: "IFF_UP", Series: perDevice,
		}),
		carrier: c.add(Metric{
			Name: "network_carrier", Type: gauge, Labels: device, Help: "Whether the link is there.",
			Source: "IFLA_CARRIER; absent while the device is switched off", Series: perDevice,
		}),
		speed: c.add(Metric{
			Name: "network_speed_bytes", Type: gauge, Unit: "bytes per second", Labels: device, Help: "The link's speed in bytes per second.",
			Source: "ETHTOOL_A_LINKMODES_SPEED; absent while it is unknown", Series: perDevice,
		}),
		maxSpeed: c.add(Metric{
			Name: "network_max_speed_bytes", Type: gauge, Unit: "bytes per second", Labels: device, Help: "The highest speed that the port can do.",
			Source: "ETHTOOL_A_LINKMODES_OURS, the fastest supported mode", Series: perDevice + " that has link modes",
		}),
		lanes: c.add(Metric{
			Name: "network_lanes", Type: gauge, Unit: "lanes", Labels: device, Help: "The lanes of the link.",
			Source: "ETHTOOL_A_LINKMODES_LANES; few drivers have it", Series: perDevice + " that tells",
		}),
		autoneg: c.add(Metric{
			Name: "network_autonegotiate", Type: gauge, Labels: device, Help: "Whether the link is negotiated.",
			Source: "ETHTOOL_A_LINKMODES_AUTONEG", Series: perHardware + " that tells",
		}),
		queueLen: c.add(Metric{
			Name: "network_transmit_queue_length", Type: gauge, Unit: "packets", Labels: device, Help: "The length of the queueing discipline's default queue.",
			Source: "IFLA_TXQLEN", Series: perDevice,
		}),
		mtu: c.add(Metric{
			Name: "network_mtu_bytes", Type: gauge, Unit: "bytes", Labels: device, Help: "The largest packet that the device sends.",
			Source: "IFLA_MTU", Series: perDevice,
		}),
		carrierUp: c.add(Metric{
			Name: "network_carrier_up_changes_total", Type: counter, Unit: "events", Labels: device, Help: "How often the link came up, as the kernel counts.",
			Source: "IFLA_CARRIER_UP_COUNT", Series: perDevice,
		}),
		carrierDown: c.add(Metric{
			Name: "network_carrier_down_changes_total", Type: counter, Unit: "events", Labels: device, Help: "How often the link went down, as the kernel counts.",
			Source: "IFLA_CARRIER_DOWN_COUNT", Series: perDevice,
		}),
		downEvents: c.add(Metric{
			Name: "network_link_down_events_total", Type: counter, Unit: "events", Labels: device, Help: "How often the device itself lost its link.",
			Source: "ETHTOOL_A_LINKSTATE_EXT_DOWN_CNT; few drivers have it", Series: perDevice + " that tells",
		}),
		minMTU: c.add(Metric{
			Name: "network_min_mtu_bytes", Type: gauge, Unit: "bytes", Labels: device, Help: "The smallest MTU that the device takes.",
			Source: "`ip -d link`: IFLA_MIN_MTU", Series: perHardware,
		}),
		maxMTU: c.add(Metric{
			Name: "network_max_mtu_bytes", Type: gauge, Unit: "bytes", Labels: device, Help: "The largest MTU that the device takes. Absent where the driver names none.",
			Source: "`ip -d link`: IFLA_MAX_MTU", Series: perHardware,
		}),
		quality: c.add(Metric{
			Name: "network_signal_quality", Type: gauge, Labels: device, Help: "The signal quality index (SQI) of a single-pair PHY, when the facts were read; 0 is the worst.",
			Source: "`ethtool DEVICE`: ETHTOOL_A_LINKSTATE_SQI", Series: perDevice + " that tells",
		}),
		maxQuality: c.add(Metric{
			Name: "network_max_signal_quality", Type: gauge, Labels: device, Help: "The best signal quality index that the PHY knows.",
			Source: "`ethtool DEVICE`: ETHTOOL_A_LINKSTATE_SQI_MAX", Series: perDevice + " that tells",
		}),
	}
}

func (f linkFamilies) fill(n *inventory.NIC) {
	var autoneg, fec string
	if n.Link.Autoneg != nil {
		autoneg = strconv.FormatBool(*n.Link.Autoneg)
	}
	if n.Link.FEC != nil {
		fec = n.Link.FEC.Active
	}
	f.info.set(1, n.Name, n.Link.Admin, n.Link.Oper, n.Link.Duplex, n.Link.Port, autoneg, fec, n.Link.ExtendedState)
	if n.Link.Oper != "" && n.Link.Oper != "unknown" {
		f.up.set(truth(n.Link.Oper == "up"), n.Name)
	}
	if n.Link.Admin != "" {
		f.admin.set(truth(n.Link.Admin == "up"), n.Name)
	}
	maybe(f.carrier, n.Link.Carrier, n.Name)
	if n.Link.SpeedMbps != nil {
		f.speed.set(float64(*n.Link.SpeedMbps)*bytesPerMegabit, n.Name)
	}
	if most := inventory.FastestMode(n.Link.Supported); most > 0 {
		f.maxSpeed.set(float64(most)*bytesPerMegabit, n.Name)
	}
	number(f.lanes, n.Link.Lanes, n.Name)
	if n.Function != inventory.Virtual {
		maybe(f.autoneg, n.Link.Autoneg, n.Name)
	}
	number(f.queueLen, n.Link.TxQueueLen, n.Name)
	number(f.mtu, n.Link.MTU, n.Name)
	number(f.carrierUp, n.Link.CarrierUp, n.Name)
	number(f.carrierDown, n.Link.CarrierDown, n.Name)
	number(f.downEvents, n.Link.DownEvents, n.Name)
	if n.Function != inventory.Virtual {
		number(f.minMTU, n.Link.MinMTU, n.Name)
		number(f.maxMTU, n.Link.MaxMTU, n.Name)
	}
	number(f.quality, n.Link.SQI, n.Name)
	number(f.maxQuality, n.Link.SQIMax, n.Name)
}
