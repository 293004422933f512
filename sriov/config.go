package sriov

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
)

// configSpace is what of a function's configuration space (PCIe 6.0, chapter 7)
// concerns its VFs and its way to the root. A part is nil where the function
// has no such capability.
type configSpace struct {
	sriov *sriovCapability
	acs   *ACS
	// msix is the size of the MSI-X table.
	msix *int
	// kind is what the function is on the way to the root, in the words of
	// inventory.PCIHop: a bridge where it is no PCI Express port.
	kind string
	// maxPayload is the largest payload of a packet that the function sends, in
	// bytes.
	maxPayload *int
}

// sriovCapability is the SR-IOV extended capability.
type sriovCapability struct {
	Capability
	offset, stride int
	vfDeviceID     uint16
}

// ACS is a port's access control: which packets between its neighbours it sends
// up to the root instead of across. Names are those of lspci -vv.
type ACS struct {
	SourceValidation   bool `json:"srcValid"`
	TranslationBlock   bool `json:"transBlk"`
	RequestRedirect    bool `json:"reqRedir"`
	CompletionRedirect bool `json:"cmpltRedir"`
	UpstreamForward    bool `json:"upstreamFwd"`
	EgressControl      bool `json:"egressCtrl"`
	DirectTranslated   bool `json:"directTrans"`
}

// Registers and capability ids (linux/pci_regs.h).
const (
	pciStatus           = 0x06
	pciStatusCapList    = 0x10
	pciCapabilityList   = 0x34
	pciHeader           = 0x40
	pciConfigStandard   = 0x100
	capabilityExpress   = 0x10
	capabilityMSIX      = 0x11
	extendedSRIOV       = 0x10
	extendedACS         = 0x0d
	expressControl      = 0x08
	sriovCapabilitySize = 0x1c
)

// errConfigHidden: a reader without CAP_SYS_ADMIN gets the first 64 bytes only,
// and no error.
var errConfigHidden = fmt.Errorf("the kernel shows configuration space to root only: %w", fs.ErrPermission)

// parseConfig decodes a function's file "config" in sysfs.
func parseConfig(b []byte) (configSpace, error) {
	var c configSpace
	if len(b) < pciHeader {
		return c, fmt.Errorf("%w: %d bytes of configuration space", kernel.ErrMalformed, len(b))
	}
	// A VF's ids alone read as ones: they are its PF's.
	if !slices.ContainsFunc(b[:pciHeader], func(c byte) bool { return c != 0xff }) {
		return c, fmt.Errorf("%w: configuration space reads as ones: the device doesn't answer", kernel.ErrMalformed)
	}
	if len(b) == pciHeader {
		return c, errConfigHidden
	}
	c.kind = "bridge"
	c.parseCapabilities(b)
	c.parseExtended(b)
	return c, nil
}

// parseCapabilities follows the list in the first 256 bytes. A list that leads
// nowhere or round in a circle ends.
func (c *configSpace) parseCapabilities(b []byte) {
	standard := b[:min(len(b), pciConfigStandard)]
	if binary.LittleEndian.Uint16(b[pciStatus:])&pciStatusCapList == 0 {
		return
	}
	at := int(b[pciCapabilityList]) &^ 3
	for range pciConfigStandard / 4 {
		if at < pciHeader || at+4 > len(standard) {
			return
		}
		switch standard[at] {
		case capabilityMSIX:
			const size = 0x7ff
			c.msix = new(int(binary.LittleEndian.Uint16(standard[at+2:])&size) + 1)
		case capabilityExpress:
			// Bits 4 to 7 of the capability's own register.
			switch standard[at+2] >> 4 {
			case 4:
				c.kind = "root-port"
			case 5:
				c.kind = "upstream-port"
			case 6:
				c.kind = "downstream-port"
			}
			if at+expressControl+2 <= len(standard) {
				// Bits 5 to 7 of Device Control: 128 << n bytes.
				if n := binary.LittleEndian.Uint16(standard[at+expressControl:]) >> 5 & 7; n <= 5 {
					c.maxPayload = new(128 << n)
				}
			}
		}
		at = int(standard[at+1]) &^ 3
	}
}

// parseExtended follows the list of extended capabilities behind the first 256
// bytes.
func (c *configSpace) parseExtended(b []byte) {
	at := pciConfigStandard
	for range (4096 - pciConfigStandard) / 4 {
		if at < pciConfigStandard || at+4 > len(b) {
			return
		}
		header := binary.LittleEndian.Uint32(b[at:])
		if header == 0 || header == 0xffffffff {
			return
		}
		switch header & 0xffff {
		case extendedACS:
			if at+8 <= len(b) {
				c.acs = parseACS(binary.LittleEndian.Uint16(b[at+6:]))
			}
		case extendedSRIOV:
			if at+sriovCapabilitySize <= len(b) {
				word := func(offset int) int { return int(binary.LittleEndian.Uint16(b[at+offset:])) }
				c.sriov = &sriovCapability{
					Capability: Capability{InitialVFs: word(0x0c), TotalVFs: word(0x0e), NumVFs: word(0x10)},
					offset:     word(0x14), stride: word(0x16), vfDeviceID: uint16(word(0x1a)),
				}
			}
		}
		at = int(header>>20) &^ 3
	}
}

// parseACS decodes the ACS control register.
func parseACS(control uint16) *ACS {
	bit := func(n int) bool { return control>>n&1 != 0 }
	return &ACS{
		SourceValidation: bit(0), TranslationBlock: bit(1), RequestRedirect: bit(2), CompletionRedirect: bit(3),
		UpstreamForward: bit(4), EgressControl: bit(5), DirectTranslated: bit(6),
	}
}

// redirects reports whether a port with this control lets nothing pass between
// its neighbours without the root seeing it: what the kernel, too, wants to put
// them into groups of their own (drivers/iommu/iommu.c, REQ_ACS_FLAGS).
func (a *ACS) redirects() bool {
	return a != nil && a.SourceValidation && a.RequestRedirect && a.CompletionRedirect && a.UpstreamForward
}
