package inventory

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
)

// VPD is the vital product data of a PCI function.
type VPD struct {
	Identifier   string `json:"identifier,omitempty"`
	PartNumber   string `json:"partNumber,omitempty"`
	SerialNumber string `json:"serialNumber,omitempty"`
	// Manufacturer is the MN keyword, EngineeringChange EC, as lspci shows them.
	Manufacturer      string `json:"manufacturer,omitempty"`
	EngineeringChange string `json:"engineeringChange,omitempty"`
}

// vpdDeadline bounds reading one function's VPD. It comes word by word out of an
// EEPROM behind a mailbox in configuration space; the kernel allows each word
// 125 ms, a healthy card needs some tens of milliseconds for all.
const vpdDeadline = 3 * time.Second

// readVPD reads a function's vital product data. Only root may.
func (p *places) readVPD(ctx context.Context, d *device) *VPD {
	if !d.has("vpd") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, vpdDeadline)
	defer cancel()
	data, err := p.ReadFile(ctx, d.dir+"/vpd")
	if err == nil && len(data) == 0 {
		return nil // The capability is there, its storage is not.
	}
	if err != nil {
		d.missed("pci.vpd", err)
		return nil
	}
	vpd, err := parseVPD(data)
	if err != nil {
		d.missed("pci.vpd", fmt.Errorf("%s/vpd: %w", d.dir, err))
		return nil
	}
	return vpd
}

// The resource tags of VPD (PCI Local Bus 3.0, appendix I; PCI Express Base 6.0,
// 6.27). A large one has its top bit set and a 16 bit length after it; a small
// one has its length in its low three bits.
const (
	vpdLarge      = 0x80
	vpdIdentifier = 0x82
	vpdReadOnly   = 0x90
	vpdReadWrite  = 0x91
	vpdEnd        = 0x78 // small, without its length
)

// parseVPD decodes vital product data up to its end tag. Nothing of it is
// believed unless the checksum (keyword RV) is right: VPD that was never
// programmed, or half read, looks much like the real thing.
func parseVPD(data []byte) (*VPD, error) {
	vpd, checked := &VPD{}, false
	for at := 0; at < len(data); {
		tag := data[at]
		if tag&vpdLarge == 0 {
			if tag&0x78 == vpdEnd {
				break
			}
			at += 1 + int(tag&7)
			continue
		}
		if at+3 > len(data) {
			return nil, fmt.Errorf("%w: VPD ends within a tag at byte %d", kernel.ErrMalformed, at)
		}
		start := at + 3
		end := start + (int(data[at+1]) | int(data[at+2])<<8)
		if end > len(data) {
			return nil, fmt.Errorf("%w: VPD tag 0x%02x at byte %d runs beyond the end", kernel.ErrMalformed, tag, at)
		}
		switch tag {
		case vpdIdentifier:
			vpd.Identifier = vpdText(data[start:end])
		case vpdReadOnly:
			ok, err := vpd.readOnly(data, start, end)
			if err != nil {
				return nil, err
			}
			checked = checked || ok
		case vpdReadWrite:
			// The system's own notes: nothing of them identifies the card.
		default:
			return nil, fmt.Errorf("%w: VPD tag 0x%02x at byte %d", kernel.ErrMalformed, tag, at)
		}
		at = end
	}
	if !checked {
		return nil, fmt.Errorf("%w: VPD without a checksum", kernel.ErrMalformed)
	}
	return vpd, nil
}

// readOnly decodes the keywords in data[start:end] and reports whether the
// checksum was among them, and right: all bytes from the first of the VPD to
// the one after RV's header add up to 0.
func (v *VPD) readOnly(data []byte, start, end int) (checked bool, err error) {
	for at := start; at < end; {
		if at+3 > end || at+3+int(data[at+2]) > end {
			return false, fmt.Errorf("%w: VPD ends within a keyword at byte %d", kernel.ErrMalformed, at)
		}
		value := data[at+3 : at+3+int(data[at+2])]
		switch string(data[at : at+2]) {
		case "PN":
			v.PartNumber = vpdText(value)
		case "SN":
			v.SerialNumber = vpdText(value)
		case "MN":
			v.Manufacturer = vpdText(value)
		case "EC":
			v.EngineeringChange = vpdText(value)
		case "RV":
			if len(value) == 0 {
				return false, fmt.Errorf("%w: VPD with an empty checksum", kernel.ErrMalformed)
			}
			var sum byte
			for _, b := range data[:at+4] {
				sum += b
			}
			if sum != 0 {
				return false, fmt.Errorf("%w: VPD checksum is off by 0x%02x", kernel.ErrMalformed, sum)
			}
			return true, nil
		}
		at += 3 + len(value)
	}
	return false, nil
}

// vpdText is a value without its padding. Bytes that are not printable ASCII
// become "?".
func vpdText(value []byte) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimRight(string(value), " \x00"))
	return strings.TrimSpace(text)
}
