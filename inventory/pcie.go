package inventory

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// PCIeLink is one PCI Express link: what it runs at and what this end of it
// could. A rate that the kernel doesn't know (a link that is down) is absent.
type PCIeLink struct {
	Current *PCIeRate `json:"current,omitempty"`
	Maximum *PCIeRate `json:"maximum,omitempty"`
}

// PCIeRate is a speed and a width.
type PCIeRate struct {
	// GTs is the speed of a lane in gigatransfers a second: 2.5, 5, 8, 16, 32, 64,
	// 128.
	GTs   float64 `json:"gts"`
	Width int     `json:"width"`
	// GBs is what the link carries each way after line coding, in gigabytes
	// (10^9) a second: 8 GT/s x8 is 7.877. Packet headers are not taken off.
	GBs float64 `json:"gbs"`
}

// readPCIeLink reads the link of a PCIe function or port from its directory,
// which lists the four files exactly when the device is a PCIe one. A device
// without a link, and one whose link says nothing, has a nil link.
func (p *places) readPCIeLink(ctx context.Context, d *device) *PCIeLink {
	if !d.has("current_link_speed") && !d.has("max_link_speed") {
		return nil
	}
	link := &PCIeLink{
		Current: p.readPCIeRate(ctx, d, "current_link_speed", "current_link_width"),
		Maximum: p.readPCIeRate(ctx, d, "max_link_speed", "max_link_width"),
	}
	if link.Current == nil && link.Maximum == nil {
		return nil
	}
	return link
}

func (p *places) readPCIeRate(ctx context.Context, d *device, speedFile, widthFile string) *PCIeRate {
	speed, err := p.text(ctx, d, speedFile)
	if err != nil {
		d.missed("pci.link", err)
		return nil
	}
	width, err := p.text(ctx, d, widthFile)
	if err != nil {
		d.missed("pci.link", err)
		return nil
	}
	rate, err := parsePCIeRate(speed, width)
	if err != nil {
		d.missed("pci.link", fmt.Errorf("%s: %w", d.dir, err))
	}
	return rate
}

// parsePCIeRate reads what sysfs says of a link's speed ("8.0 GT/s PCIe", before
// Linux 5.6 "8 GT/s") and width ("8"). It returns nil for a link of which the
// kernel knows nothing: "Unknown" for the speed; for the width 0, 63 (all ones
// in the register's field: the device doesn't answer) or 255 (no such register).
func parsePCIeRate(speed, width string) (*PCIeRate, error) {
	speed, width = strings.TrimSpace(speed), strings.TrimSpace(width)
	if speed == "" || strings.HasPrefix(speed, "Unknown") || width == "Unknown" {
		return nil, nil
	}
	number, _, found := strings.Cut(speed, " GT/s")
	gts, err := strconv.ParseFloat(number, 64)
	if !found || err != nil || math.IsNaN(gts) || gts < 0 || gts > 1024 {
		return nil, fmt.Errorf("%w: PCIe speed %.40q", kernel.ErrMalformed, speed)
	}
	lanes, err := strconv.ParseUint(width, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%w: PCIe width %.40q", kernel.ErrMalformed, width)
	}
	if gts == 0 || lanes == 0 || lanes == 63 || lanes == 255 {
		return nil, nil
	}
	if lanes > 32 {
		return nil, fmt.Errorf("%w: PCIe width %d", kernel.ErrMalformed, lanes)
	}
	return &PCIeRate{GTs: gts, Width: int(lanes), GBs: pcieThroughput(gts, int(lanes))}, nil
}

// pcieThroughput is what a link carries each way after line coding, in GB/s,
// rounded to a megabyte.
//
// One transfer is one bit of a lane, so the raw rate is GT/s / 8. Of it remain
//   - 8/10 at 2.5 and 5 GT/s (PCIe 1 and 2: 8b/10b),
//   - 128/130 at 8, 16 and 32 GT/s (PCIe 3, 4 and 5: 128b/130b),
//   - 242/256 from 64 GT/s on (PCIe 6, PAM4: the line code adds nothing, but of a
//     flit's 256 bytes 8 are its CRC and 6 its FEC; 236 carry transactions and 6
//     the data link layer's own, which the other codings don't take off either).
//
// Flit mode on a slower link, which PCIe 6 devices may agree on, isn't visible
// in sysfs and not accounted for.
func pcieThroughput(gts float64, lanes int) float64 {
	var left float64
	switch {
	case gts < 8:
		left = 8.0 / 10
	case gts < 64:
		left = 128.0 / 130
	default:
		left = 242.0 / 256
	}
	return math.Round(gts/8*left*float64(lanes)*1000) / 1000
}

// hopKinds tells what each bridge on the way down to a function is, from where
// it stands. express says of each hop, and at the end of the function, whether
// it is a PCIe device.
//
// The PCIe capability would say it outright, but lies beyond the first 64 bytes
// of configuration space, which are all that an unprivileged reader gets; and
// reading a whole space has side effects on some devices. The places suffice,
// because the specification allows only these: a root port on a root bus; below
// a root or downstream port one device, which is an endpoint, a switch's
// upstream port or a bridge to conventional PCI; below an upstream port
// downstream ports only.
func hopKinds(express []bool) []string {
	kinds := make([]string, max(len(express)-1, 0))
	for i := range kinds {
		above := ""
		if i > 0 {
			above = kinds[i-1]
		}
		switch {
		case !express[i]:
			kinds[i] = hopBridge
		case above == "":
			kinds[i] = hopRootPort
		case above == hopUpstreamPort:
			kinds[i] = hopDownstreamPort
		case above == hopBridge, !express[i+1]:
			kinds[i] = hopBridge
		default:
			kinds[i] = hopUpstreamPort
		}
	}
	return kinds
}

// The kinds of a PCIHop.
const (
	hopRootPort       = "root-port"
	hopUpstreamPort   = "upstream-port"
	hopDownstreamPort = "downstream-port"
	hopBridge         = "bridge"
)

// bottleneck is the address of the slowest link between the root and the
// function, or "" where no link's rate is known.
func bottleneck(f *PCI) string {
	address, least := "", math.Inf(1)
	consider := func(a string, link *PCIeLink) {
		if link != nil && link.Current != nil && link.Current.GBs <= least {
			address, least = a, link.Current.GBs
		}
	}
	for _, hop := range f.Path {
		consider(hop.Address, hop.Link)
	}
	consider(f.Address, f.Link)
	return address
}
