package metrics

import (
	"strconv"
	"strings"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/xdpcheck"
)

// XDP is what hardware can do with XDP, and instead of the CPU.
type XDP struct {
	NICs []XDPOf
}

// XDPOf is one device's.
type XDPOf struct {
	Device   string
	Can      xdpcheck.Capabilities
	Ready    []XDPReady
	Offloads *xdpcheck.Offloads
}

// XDPReady is whether it is ready for a purpose; one that can't be judged is absent.
type XDPReady struct {
	Profile string
	Ready   bool
}

// xdpPrograms says where XDP programs run.
func xdpPrograms() collector {
	return collector{
		name: "xdp", doc: "XDP programs that are attached, and what drivers announce", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			info := c.add(Metric{
				Name: "xdp_info", Type: gauge, Labels: []string{deviceLabel, "mode", "program_id"},
				Help:   "An XDP program that is attached, in mode driver, generic or hardware. Always 1.",
				Source: "`ip link`: IFLA_XDP", Series: "1 per program, mostly none",
			})
			features := c.add(Metric{
				Name: "xdp_features_info", Type: gauge, Labels: []string{deviceLabel, "features"},
				Help:   "What the driver offers XDP at present, with commas between: not what it could, were settings others. Always 1.",
				Source: "netdev genl, NETDEV_A_DEV_XDP_FEATURES", Series: perHardware + " that offers anything",
			})
			sockets := c.add(Metric{
				Name: "xdp_socket_queues", Type: gauge, Unit: "queues", Labels: []string{deviceLabel, "direction"},
				Help:   "Queues that an AF_XDP socket is bound to, rx or tx, when the facts were read.",
				Source: "netdev genl, NETDEV_A_QUEUE_XSK (Linux 6.15)", Series: "2 per device with such a socket, mostly none",
			})
			return func(s *Snapshot) {
				if s.Inventory == nil {
					return
				}
				for i := range s.Inventory.NICs {
					n := &s.Inventory.NICs[i]
					for _, direction := range [...]string{"rx", "tx"} {
						if bound := boundQueues(n, direction); bound > 0 {
							sockets.set(float64(bound), n.Name, direction)
						}
					}
					for _, p := range n.Offloads.XDP {
						info.set(1, n.Name, p.Mode, strconv.FormatUint(uint64(p.ID), 10))
					}
					if len(n.Offloads.XDPFeatures) > 0 && n.Function != inventory.Virtual {
						features.set(1, n.Name, strings.Join(n.Offloads.XDPFeatures, ","))
					}
				}
			}
		},
	}
}

// boundQueues is how many of a device's queues have an AF_XDP socket.
func boundQueues(n *inventory.NIC, direction string) (bound int) {
	for _, q := range n.Queues.Netdev {
		if q.XSK && q.Direction == direction {
			bound++
		}
	}
	return bound
}

// xdpReady says what devices could do with XDP.
func xdpReady() collector {
	return collector{
		name: "xdp_ready", doc: "what hardware can do with XDP, and which purposes it is ready for",
		of: func(s *Snapshot) any { return s.XDP },
		define: func(c *catalogue) func(*Snapshot) {
			ready := c.fingerprint(c.add(Metric{
				Name: "xdp_ready", Type: gauge, Labels: []string{deviceLabel, "profile"},
				Help:   "Whether a device is ready for a purpose. Absent where that can't be judged.",
				Source: "`nictune check xdp --profile PROFILE`", Series: "1 per hardware device and profile, of which there are " + strconv.Itoa(len(xdpcheck.Profiles())),
			}))
			can := c.add(Metric{
				Name: "xdp_capability_info", Type: gauge,
				Labels: []string{deviceLabel, "native", "redirect", "ndo_xmit", "zero_copy", "multi_buffer", "offload"},
				Help:   "What a device can do with XDP as it is set up now: yes, blocked (by a setting), unsupported or unknown. Always 1.",
				Source: "`nictune check xdp`", Series: perHardware,
			})
			mtu := c.add(Metric{
				Name: "xdp_max_mtu_bytes", Type: gauge, Unit: "bytes", Labels: []string{deviceLabel},
				Help:   "The largest MTU with which a program for packets of one buffer can be attached.",
				Source: "`nictune check xdp`: docs/xdp-drivers.md", Series: perHardware + " whose driver has such a limit",
			})
			return func(s *Snapshot) {
				if s.XDP == nil {
					return
				}
				for i := range s.XDP.NICs {
					n := &s.XDP.NICs[i]
					for _, r := range n.Ready {
						ready.set(truth(r.Ready), n.Device, r.Profile)
					}
					answer := func(c xdpcheck.Capability) string { return string(c.Answer) }
					can.set(1, n.Device, answer(n.Can.Native), answer(n.Can.Redirect), answer(n.Can.Xmit), answer(n.Can.ZeroCopy), answer(n.Can.MultiBuffer), answer(n.Can.Offload))
					number(mtu, n.Can.MaxMTU, n.Device)
				}
			}
		},
	}
}
