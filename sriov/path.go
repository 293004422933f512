package sriov

import (
	"math"

	"github.com/nictune/nictune/inventory"
)

// PeerToPeer says whether a VF can reach another device past the root, where the
// IOMMU checks what it may touch.
type PeerToPeer struct {
	// UpToRoot: every port above the PF sends requests between devices up to the
	// root. Absent where it can't be told (configuration space takes root).
	UpToRoot *bool `json:"upToRoot,omitempty"`
	// Shortcut is the port nearest to the PF that may pass requests across.
	Shortcut string `json:"shortcut,omitempty"`
	// Ports are the ports above the PF, the root port first.
	Ports []PortACS `json:"ports,omitempty"`
	// Function is the PF's own access control, absent where it has none: then the
	// kernel takes it that its functions don't reach each other inside.
	Function *ACS `json:"function,omitempty"`
}

// PortACS is the access control of one port.
type PortACS struct {
	Address string `json:"address"`
	// Kind is that of inventory.PCIHop.
	Kind string `json:"kind,omitempty"`
	// ACS is absent where the port has no such capability. An upstream port never
	// has: what comes from below it has passed a downstream port.
	ACS *ACS `json:"acs,omitempty"`
}

// peerToPeer judges the ports above a PF.
func peerToPeer(function *ACS, ports []PortACS) *PeerToPeer {
	p := &PeerToPeer{UpToRoot: new(true), Ports: ports, Function: function}
	for _, port := range ports { // the last one found is the nearest
		if port.Kind != "upstream-port" && !port.ACS.redirects() {
			p.UpToRoot, p.Shortcut = new(false), port.Address
		}
	}
	return p
}

// Budget is what the PF's way to memory leaves for traffic between its VFs.
//
// A frame from VF to VF is read from memory by the sender's queue and written to
// memory by the receiver's: it passes each link above the PF once in each
// direction, as a frame from the wire and one to the wire do together. So the
// narrowest link's one direction bounds it, whatever the device's own switch
// could do.
type Budget struct {
	// NarrowHop is the address of the narrowest link on the way, as it runs now.
	NarrowHop string `json:"narrowHop"`
	// LinkGbps is what that link carries each way after line coding, in 10^9 bits
	// a second.
	LinkGbps float64 `json:"linkGbps"`
	// MaxPayload is how many bytes a PCIe packet of the PF carries at most;
	// absent where it is not known.
	MaxPayload *int `json:"maxPayloadBytes,omitempty"`
	// EastWestGbps is the most that frames from VF to VF can get: LinkGbps without
	// the packets' framing, or LinkGbps itself where MaxPayload is not known. What
	// descriptors, doorbells and interrupts take is not taken off.
	EastWestGbps float64 `json:"eastWestGbps"`
	// LineRateGbps is the port's speed; absent without a link. BesideLineRateGbps
	// is what is left for VFs among each other while the port is busy in both
	// directions.
	LineRateGbps       *float64 `json:"lineRateGbps,omitempty"`
	BesideLineRateGbps *float64 `json:"besideLineRateGbps,omitempty"`
}

// packetFraming is what a PCIe packet that writes memory takes besides its
// payload, in bytes: 16 of header (64-bit addresses), 4 of LCRC, 4 of sequence
// number and framing (PCIe 3.0, 2.2 and 4.2; later ones up to 5 the same).
const packetFraming = 24

// budgetOf computes a PF's budget. It is nil where no link's rate is known.
func budgetOf(n *inventory.NIC, maxPayload *int) *Budget {
	if n == nil || n.PCI == nil || n.PCI.Bottleneck == "" {
		return nil
	}
	var narrow *inventory.PCIeLink
	if n.PCI.Bottleneck == n.PCI.Address {
		narrow = n.PCI.Link
	}
	for _, hop := range n.PCI.Path {
		if hop.Address == n.PCI.Bottleneck {
			narrow = hop.Link
		}
	}
	if narrow == nil || narrow.Current == nil {
		return nil
	}
	b := &Budget{NarrowHop: n.PCI.Bottleneck, LinkGbps: rounded(narrow.Current.GBs * 8), MaxPayload: maxPayload}
	b.EastWestGbps = b.LinkGbps
	if maxPayload != nil {
		b.EastWestGbps = rounded(b.LinkGbps * float64(*maxPayload) / float64(*maxPayload+packetFraming))
	}
	if n.Link.SpeedMbps != nil && *n.Link.SpeedMbps > 0 {
		rate := float64(*n.Link.SpeedMbps) / 1000
		b.LineRateGbps = &rate
		b.BesideLineRateGbps = new(rounded(math.Max(0, b.EastWestGbps-rate)))
	}
	return b
}

// rounded is a rate to a megabit.
func rounded(gbps float64) float64 { return math.Round(gbps*1000) / 1000 }
