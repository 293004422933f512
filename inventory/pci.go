package inventory

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// PCI is the PCI function behind a NIC.
type PCI struct {
	// Address is domain:bus:device.function, "0000:3b:00.0".
	Address string `json:"address"`
	// The ids are four hex digits without 0x, as lspci -n prints them.
	VendorID          string `json:"vendorId"`
	DeviceID          string `json:"deviceId"`
	SubsystemVendorID string `json:"subsystemVendorId,omitempty"`
	SubsystemDeviceID string `json:"subsystemDeviceId,omitempty"`
	// Class is six hex digits, "020000" for an Ethernet controller.
	Class    string `json:"class,omitempty"`
	Revision string `json:"revision,omitempty"`
	// The names are those of the host's pci.ids.
	Vendor    string `json:"vendor,omitempty"`
	Device    string `json:"device,omitempty"`
	Subsystem string `json:"subsystem,omitempty"`

	VPD *VPD `json:"vpd,omitempty"`
	// PowerState is "D0", "D3hot" and the like, of the moment; D3ColdAllowed whether the
	// function's power may be cut while it sleeps.
	PowerState    string `json:"powerState,omitempty"`
	D3ColdAllowed *bool  `json:"d3coldAllowed,omitempty"`
	// Link is the function's own PCIe link; absent for one that has none, such
	// as an integrated device. A VF has its PF's, whose lanes it shares.
	Link *PCIeLink `json:"link,omitempty"`
	// Path are the hops from the function's root port or bridge down to the one
	// just above the function.
	Path []PCIHop `json:"path,omitempty"`
	// Bottleneck is the address of the narrowest hop of the path as it runs now,
	// the function included, where links are known. The hop nearest to the
	// function wins a tie. A VF has its PF's.
	Bottleneck string `json:"bottleneck,omitempty"`
	// SRIOV is present on a function that can have VFs.
	SRIOV *SRIOV `json:"sriov,omitempty"`
	// PhysicalFunction is the PF's address, on a VF whose PF this host sees;
	// VFIndex the VF's number on it.
	PhysicalFunction string `json:"physicalFunction,omitempty"`
	VFIndex          *int   `json:"vfIndex,omitempty"`
}

// Model is what people call the function: its vendor's name and its own. It is empty
// where pci.ids doesn't know the device.
func (f *PCI) Model() string {
	if f == nil || f.Device == "" {
		return ""
	}
	return strings.TrimSpace(f.Vendor + " " + f.Device)
}

// SRIOV counts a PF's virtual functions.
type SRIOV struct {
	TotalVFs int `json:"totalVfs"`
	NumVFs   int `json:"numVfs"`
}

// PCIHop is one bridge or switch port above a PCI function.
type PCIHop struct {
	Address string `json:"address"`
	// Kind is "root-port", "upstream-port", "downstream-port" or "bridge".
	Kind     string    `json:"kind,omitempty"`
	VendorID string    `json:"vendorId,omitempty"`
	DeviceID string    `json:"deviceId,omitempty"`
	Name     string    `json:"name,omitempty"`
	Link     *PCIeLink `json:"link,omitempty"`
}

// readIdentity reads what every PCI function has: ids, names and its link.
func (p *places) readIdentity(ctx context.Context, d *device) {
	if d.read.identity {
		return
	}
	d.read.identity = true
	d.pci = &PCI{Address: path.Base(d.dir)}
	modalias, err := p.text(ctx, d, "modalias")
	if err == nil {
		err = d.pci.identify(modalias)
	}
	if err != nil {
		d.missed("pci.vendorId", err)
	} else {
		p.readNames(ctx, d.pci, modalias)
	}
	if d.has("revision") {
		revision, err := p.text(ctx, d, "revision")
		if err != nil {
			d.missed("pci.revision", err)
		}
		d.pci.Revision = strings.TrimPrefix(revision, "0x")
	}
	d.pci.Link = p.readPCIeLink(ctx, d)
}

// readNames looks a function up in pci.ids. A host without it is listed once,
// not with every NIC.
func (p *places) readNames(ctx context.Context, f *PCI, modalias string) {
	if p.nameless {
		return
	}
	names, err := p.PCINames(ctx, modalias)
	if err != nil {
		if p.namesErr == nil {
			p.namesErr = err
		}
		return
	}
	f.Vendor, f.Device, f.Subsystem = names.Vendor, names.Device, names.Subsystem
	// As lspci: a subsystem that repeats the device's own ids is the device.
	if f.Subsystem == "" && f.SubsystemVendorID == f.VendorID && f.SubsystemDeviceID == f.DeviceID {
		f.Subsystem = f.Device
	}
}

// readFunction reads a NIC's PCI function: beyond its identity the path above
// it and its relation to virtual functions.
func (p *places) readFunction(ctx context.Context, d *device) {
	if d.read.function {
		return
	}
	d.read.function = true
	p.readIdentity(ctx, d)
	p.readPower(ctx, d)
	p.readPath(ctx, d)
	p.readSRIOV(ctx, d)
	if d.has("physfn") {
		p.readVF(ctx, d)
	}
}

// readPower reads a function's power state, which asks the device nothing, and what
// may become of it. Kernels before 5.7 have no power_state.
func (p *places) readPower(ctx context.Context, d *device) {
	read := func(file, fact string) (string, bool) {
		if p.nameless || !d.has(file) {
			return "", false
		}
		text, err := p.text(ctx, d, file)
		if err != nil && !errors.Is(err, kernel.ErrNotRecorded) {
			d.missed(fact, err)
		}
		return text, err == nil
	}
	d.pci.PowerState, _ = read("power_state", "pci.powerState")
	if allowed, ok := read("d3cold_allowed", "pci.d3coldAllowed"); ok && (allowed == "0" || allowed == "1") {
		d.pci.D3ColdAllowed = new(allowed == "1")
	}
}

// readPath reads the bridges between the root bus and a function. They are the
// directories above its own.
func (p *places) readPath(ctx context.Context, d *device) {
	hops := pciHopsOf(d.dir)
	express := make([]bool, 0, len(hops)+1)
	thin := d.thin()
	for _, dir := range hops {
		above := p.device(ctx, dir)
		p.readIdentity(ctx, above)
		d.unread = append(d.unread, above.unread...)
		express = append(express, above.has("max_link_speed"))
		thin = thin || above.thin()
		d.pci.Path = append(d.pci.Path, PCIHop{
			Address: above.pci.Address, VendorID: above.pci.VendorID, DeviceID: above.pci.DeviceID,
			Name: above.pci.Device, Link: above.pci.Link,
		})
	}
	if !thin {
		for i, kind := range hopKinds(append(express, d.has("max_link_speed"))) {
			d.pci.Path[i].Kind = kind
		}
	}
	d.pci.Bottleneck = bottleneck(d.pci)
}

// readSRIOV reads the counts that only a function with VFs to offer has.
func (p *places) readSRIOV(ctx context.Context, d *device) {
	if !d.has("sriov_totalvfs") {
		return
	}
	total, err := p.number(ctx, d, "sriov_totalvfs")
	if err != nil {
		d.missed("pci.sriov.totalVfs", err)
		return
	}
	enabled, err := p.number(ctx, d, "sriov_numvfs")
	if err != nil {
		d.missed("pci.sriov.numVfs", err)
		return
	}
	d.pci.SRIOV = &SRIOV{TotalVFs: total, NumVFs: enabled}
}

// readVF ties a VF to its PF.
func (p *places) readVF(ctx context.Context, d *device) {
	target, err := p.ReadLink(ctx, d.dir+"/physfn")
	if err != nil {
		d.missed("pci.physicalFunction", err)
		return
	}
	dir := path.Join(d.dir, target)
	if _, isPCI := pciFunctionOf(dir); !isPCI || dir == d.dir {
		d.missed("pci.physicalFunction", fmt.Errorf("%w: %s/physfn leads to %.80q", kernel.ErrMalformed, d.dir, target))
		return
	}
	pf := p.device(ctx, dir)
	p.readFunction(ctx, pf)
	d.pci.PhysicalFunction = pf.pci.Address
	d.pci.Link, d.pci.Bottleneck = pf.pci.Link, pf.pci.Bottleneck
	if index, ok := p.virtualFunctions(ctx, pf)[d.pci.Address]; ok {
		d.pci.VFIndex = &index
	}
}

// virtualFunctions are the numbers of a PF's VFs, by address: the PF has a link
// "virtfnN" to each.
func (p *places) virtualFunctions(ctx context.Context, pf *device) map[string]int {
	if pf.vfs != nil {
		return pf.vfs
	}
	pf.vfs = map[string]int{}
	for _, entry := range pf.entries {
		number, found := strings.CutPrefix(entry, "virtfn")
		if !found {
			continue
		}
		index, err := strconv.Atoi(number)
		if err != nil || index < 0 {
			continue
		}
		target, err := p.ReadLink(ctx, pf.dir+"/"+entry)
		if err != nil {
			continue // The VF was removed meanwhile; its NIC, if any, goes as well.
		}
		pf.vfs[path.Base(target)] = index
	}
	return pf.vfs
}

func (p *places) number(ctx context.Context, d *device, name string) (int, error) {
	text, err := p.text(ctx, d, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%w: %s/%s holds %.40q", kernel.ErrMalformed, d.dir, name, text)
	}
	return int(n), nil
}

// identify takes the ids from a modalias, the one file that has them all:
//
//	pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00
//
// (Documentation/ABI/testing/sysfs-bus-pci; written by the kernel's
// drivers/pci/pci-sysfs.c).
func (f *PCI) identify(modalias string) error {
	rest, found := strings.CutPrefix(modalias, "pci:")
	fields := [...]struct {
		key    string
		digits int
		value  string
	}{{"v", 8, ""}, {"d", 8, ""}, {"sv", 8, ""}, {"sd", 8, ""}, {"bc", 2, ""}, {"sc", 2, ""}, {"i", 2, ""}}
	for i := range fields {
		field := &fields[i]
		var ok bool
		if rest, ok = strings.CutPrefix(rest, field.key); !ok || len(rest) < field.digits {
			found = false
			break
		}
		if _, err := strconv.ParseUint(rest[:field.digits], 16, 32); err != nil {
			found = false
			break
		}
		field.value, rest = strings.ToLower(rest[:field.digits]), rest[field.digits:]
	}
	if !found || rest != "" {
		return fmt.Errorf("%w: PCI modalias %.80q", kernel.ErrMalformed, modalias)
	}
	id := func(i int) string { return fields[i].value[4:] }
	f.VendorID, f.DeviceID = id(0), id(1)
	// A bridge, among others, has no subsystem: its registers read as zero.
	if v := id(2); v != "0000" && v != "ffff" {
		f.SubsystemVendorID, f.SubsystemDeviceID = v, id(3)
	}
	f.Class = fields[4].value + fields[5].value + fields[6].value
	return nil
}

// pciFunctionOf is the directory of the PCI function that a directory below
// /sys/devices lies at or below.
func pciFunctionOf(dir string) (string, bool) {
	for d := dir; len(d) > 1; d = path.Dir(d) {
		if isPCIAddress(path.Base(d)) {
			return d, true
		}
	}
	return "", false
}

// pciHopsOf are the directories of the bridges above a function, the one at the
// root first. A host bridge ("pci0000:00") ends the path; so one that stands
// below another device, as Intel VMD's does, hides that.
func pciHopsOf(dir string) []string {
	var hops []string
	for d := path.Dir(dir); isPCIAddress(path.Base(d)); d = path.Dir(d) {
		hops = append(hops, d)
	}
	slices.Reverse(hops)
	return hops
}
