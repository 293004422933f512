package xdpcheck

import (
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// Offloads are what a NIC does instead of the CPU, and why not.
type Offloads struct {
	// Off can be switched on and is off; Fixed is on and can't be switched off. The
	// names are ethtool -k's.
	Off   []string `json:"off"`
	On    []string `json:"on"`
	Fixed []string `json:"fixedOn,omitempty"`
	// Missed is what was asked for and is not in force.
	Missed []Missed `json:"wantedButOff,omitempty"`
	// The state of each: "on", "off" (it can be switched on), "no" (the NIC hasn't
	// got it), "unknown".
	TLSTransmit  string `json:"tlsTransmit"`
	TLSReceive   string `json:"tlsReceive"`
	MACsec       string `json:"macsec"`
	IPsec        string `json:"ipsec"`
	HardwareGRO  string `json:"hardwareGro"`
	LRO          string `json:"lro"`
	TunnelGSO    string `json:"tunnelSegmentation"`
	TrafficClass string `json:"tcOffload"`
	// TunnelPorts are the tables of UDP ports whose tunnels it looks into.
	TunnelPorts []TunnelTable `json:"tunnelPorts,omitempty"`
	// Timestamps is "hardware", "software" or "unknown".
	Timestamps string `json:"timestamps"`
	// PHC is the number of its clock, /dev/ptpN.
	PHC *int `json:"phc,omitempty"`
}

// Missed is a feature that somebody asked for and that is not in force.
type Missed struct {
	Feature string `json:"feature"`
	// Because is the feature that it depends on, or that excludes it; empty where
	// none of those is the reason.
	Because string `json:"because,omitempty"`
}

// OffloadReport says what the NIC's offloads are doing, nil where its features could
// not be read.
func (n NIC) OffloadReport() *Offloads {
	features := n.Offloads.Features
	if features == nil {
		return nil
	}
	o := &Offloads{Off: []string{}, On: []string{}, TunnelPorts: n.facts.extra.Tunnels[n.Name], Timestamps: "unknown"}
	for _, name := range slices.Sorted(maps.Keys(features)) {
		f := features[name]
		switch {
		case f.Wanted && !f.Active && !f.Fixed:
			o.Missed = append(o.Missed, Missed{name, missing(features, name)})
		case f.Active && f.Fixed:
			o.Fixed = append(o.Fixed, name)
		case f.Active:
			o.On = append(o.On, name)
		case f.Hardware && !f.Fixed:
			o.Off = append(o.Off, name)
		}
	}
	o.TLSTransmit, o.TLSReceive = state(features, "tls-hw-tx-offload"), state(features, "tls-hw-rx-offload")
	o.MACsec, o.IPsec = state(features, "macsec-hw-offload"), state(features, "esp-hw-offload")
	o.HardwareGRO, o.LRO = state(features, "rx-gro-hw"), state(features, "rx-lro")
	o.TunnelGSO, o.TrafficClass = state(features, "tx-udp_tnl-segmentation"), state(features, "hw-tc-offload")
	if t := n.Offloads.Timestamping; t != nil {
		o.Timestamps, o.PHC = "software", t.PHC
		if slices.Contains(t.Capabilities, "hardware-receive") && slices.Contains(t.Capabilities, "hardware-transmit") {
			o.Timestamps = "hardware"
		}
	}
	return o
}

func state(features map[string]inventory.Feature, name string) string {
	f, ok := features[name]
	switch {
	case !ok:
		return "unknown" // a kernel that doesn't know it
	case f.Active:
		return "on"
	case f.Fixed:
		return "no"
	}
	return "off"
}

// needs are the features that the kernel takes away together, and why: any of the
// words has to be on, or for those with a "!" off (net/core/dev.c, netdev_fix_features).
// The first line that names a feature and does not hold is the reason.
var needs = []struct {
	feature string
	any     []string
}{
	{"tx-tcp-segmentation", []string{"tx-scatter-gather"}},
	{"tx-tcp-segmentation", []string{"tx-checksum-ip-generic", "tx-checksum-ipv4"}},
	{"tx-tcp6-segmentation", []string{"tx-scatter-gather"}},
	{"tx-tcp6-segmentation", []string{"tx-checksum-ip-generic", "tx-checksum-ipv6"}},
	{"tx-tcp-ecn-segmentation", []string{"tx-tcp-segmentation", "tx-tcp6-segmentation"}},
	{"tx-tcp-mangleid-segmentation", []string{"tx-tcp-segmentation"}},
	{"tx-generic-segmentation", []string{"tx-scatter-gather"}},
	{"tx-udp-segmentation", []string{"tx-checksum-ip-generic", "tx-checksum-ipv4"}},
	{"rx-gro-hw", []string{"rx-checksum"}},
	{"rx-gro-hw", []string{"!rx-fcs"}},
	{"rx-lro", []string{"!rx-gro-hw"}},
	{"rx-lro", []string{"!rx-fcs"}},
	{"tls-hw-tx-offload", []string{"tx-checksum-ip-generic", "tx-checksum-ipv4"}},
	{"tls-hw-rx-offload", []string{"rx-checksum"}},
}

// missing says what a feature that is wanted and off depends on, in a few words.
func missing(features map[string]inventory.Feature, name string) string {
	for _, need := range needs {
		if need.feature != name {
			continue
		}
		holds := slices.ContainsFunc(need.any, func(word string) bool {
			other, not := strings.CutPrefix(word, "!")
			return features[other].Active != not
		})
		if holds {
			continue
		}
		if other, not := strings.CutPrefix(need.any[0], "!"); not {
			return other + " is on"
		}
		known := slices.DeleteFunc(slices.Clone(need.any), func(word string) bool { return features[word].Fixed && !features[word].Active })
		if len(known) == 0 {
			known = need.any
		}
		return strings.Join(known, " or ") + " is off"
	}
	return ""
}

// OffloadRules judge a NIC's offloads.
func OffloadRules() []findings.Rule[NIC] {
	return []findings.Rule[NIC]{
		{About: findings.About{
			ID: "offload/not-in-force", Severity: findings.Info,
			Title:   "an offload was asked for and is not in force",
			Why:     "The kernel remembers the wish and follows it when what is in the way has gone: ethtool -k shows \"off [requested on]\", and nothing else tells.",
			Remedy:  "Turn on what is named, or take the wish back.",
			Sources: []string{"net/core/dev.c, netdev_fix_features", "Documentation/networking/netdev-features.rst"},
		}, Judge: notInForce},
		{About: findings.About{
			ID: "offload/checksum-off", Severity: findings.Warning,
			Title:   "checksums are computed by the CPU though the NIC could",
			Why:     "Without rx-checksum every received byte is read once more. Without transmit checksums the kernel also takes segmentation (TSO) away, so that each packet is built by itself.",
			Remedy:  "Turn it on: ethtool -K NAME rx on tx on. If somebody turned it off because of wrong checksums, look for a newer firmware.",
			Sources: []string{"Documentation/networking/checksum-offloads.rst", "net/core/dev.c, netdev_fix_features"},
		}, Judge: checksumOff},
		{About: findings.About{
			ID: "offload/segmentation-off", Severity: findings.Info,
			Title:   "TCP is segmented by the CPU though the NIC could",
			Why:     "With TSO one send of 64 KiB crosses the stack once and is cut into packets by the NIC. Software segmentation (GSO) saves part of that, at the CPU's expense.",
			Remedy:  "Turn it on, unless the driver leaves it off by default, as r8169 does where chips have faults: ethtool -K NAME tso on. Capturing tools show segments larger than the MTU then; that is no fault.",
			Sources: []string{"Documentation/networking/segmentation-offloads.rst"},
		}, Judge: segmentationOff},
		{About: findings.About{
			ID: "offload/lro-on-bridge-port", Severity: findings.Warning,
			Title:   "LRO merges packets that are passed on",
			Why:     "LRO can't be undone: merged packets can't be cut into what they were, so that a bridge or router passes on other packets than it got, or drops them as too large.",
			Remedy:  "Turn it off: settings: {features: {rx-lro: off}}. GRO does the same job reversibly.",
			Sources: []string{"net/core/dev.c, dev_disable_lro", "Documentation/networking/segmentation-offloads.rst, on GRO"},
		}, Judge: lroPassedOn},
	}
}

func notInForce(n NIC) findings.Verdict {
	if n.Function == inventory.Virtual {
		return findings.Inapplicable("a software device: its features follow those of the devices below it")
	}
	o := n.OffloadReport()
	if o == nil {
		return findings.Unread(n.Unread, "offloads.features")
	}
	if len(o.Missed) == 0 {
		return findings.Passes("all that was asked for is on")
	}
	var seen []string
	for _, m := range o.Missed {
		if m.Because != "" {
			seen = append(seen, m.Feature+" ("+m.Because+")")
		} else {
			seen = append(seen, m.Feature)
		}
	}
	return findings.Fails("off [requested on]: "+strings.Join(seen, ", "), "on, as requested")
}

func checksumOff(n NIC) findings.Verdict {
	return n.switchedOff("rx-checksum", "tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6")
}

func segmentationOff(n NIC) findings.Verdict {
	return n.switchedOff("tx-tcp-segmentation", "tx-tcp6-segmentation")
}

// switchedOff judges features of hardware that could be on.
func (n NIC) switchedOff(names ...string) findings.Verdict {
	switch {
	case n.Function == inventory.Virtual:
		return findings.Inapplicable("a software device")
	case n.Offloads.Features == nil:
		return findings.Unread(n.Unread, "offloads.features")
	}
	var off []string
	can := false
	for _, name := range names {
		f := n.Offloads.Features[name]
		can = can || f.Active || f.Hardware && !f.Fixed
		if f.Hardware && !f.Fixed && !f.Active {
			off = append(off, name)
		}
	}
	switch {
	case !can:
		return findings.Inapplicable("the NIC can't")
	case len(off) > 0:
		return findings.Fails(strings.Join(off, ", ")+" off", "on")
	}
	return findings.Passes("on")
}

func lroPassedOn(n NIC) findings.Verdict {
	if n.Offloads.Features == nil {
		return findings.Unread(n.Unread, "offloads.features")
	}
	var on string
	for _, name := range n.Stack.Upper {
		if upper := n.facts.named(name); upper != nil && (upper.Stack.Bridge != nil || upper.Stack.MACVLANMode != "") {
			on = name
		}
	}
	switch {
	case on == "":
		return findings.Inapplicable("no bridge or macvlan is on it")
	case n.Offloads.Features["rx-lro"].Active:
		return findings.Fails("rx-lro is on below "+on, "off")
	}
	return findings.Passes("rx-lro is off below %s", on)
}
