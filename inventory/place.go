package inventory

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"

	"github.com/nictune/nictune/internal/kernel"
)

// readPlaces finds the device behind each NIC and reads where it stands: its PCI
// function and the path above it, NUMA node, IOMMU group and interrupts. A NIC
// without a parent costs nothing; NICs of one device share what is read of it.
func readPlaces(ctx context.Context, s *survey) {
	p := &places{Reader: s.Reader, nameless: s.brief, devices: map[string]*device{}, groups: map[int]*iommuGroup{}}
	type sources struct{ place, interrupts *device }
	found := map[*NIC]sources{}
	for _, n := range s.nics {
		if n.Parent == nil {
			continue
		}
		dir, err := p.directory(ctx, n)
		if err != nil {
			n.missed("pci", err)
			continue
		}
		at := sources{place: p.place(ctx, dir)}
		if source := interruptsOf(n, dir); source != "" && !s.brief {
			at.interrupts = p.interrupts(ctx, source)
		}
		found[n] = at
	}
	p.describeIRQs(ctx)
	for n, at := range found {
		n.PCI, n.NUMA, n.IOMMU = at.place.pci, at.place.numa, at.place.iommu
		n.Parent.SRIOV = n.PCI == nil && at.place.has("sriov_numvfs")
		n.Unread = append(n.Unread, at.place.unread...)
		if at.interrupts != nil {
			n.IRQs = at.interrupts.irqs
			n.Unread = append(n.Unread, at.interrupts.irqsUnread...)
		}
	}
	if p.namesErr != nil {
		s.missed("nics.pci.device", p.namesErr)
	}
}

// places reads the devices below /sys/devices, each file of each once.
type places struct {
	kernel.Reader
	devices  map[string]*device // by directory
	groups   map[int]*iommuGroup
	nameless bool  // pci.ids, which is large, is not looked into
	namesErr error // the first reason why names can't be looked up
}

// device is one directory below /sys/devices and what was read there. Its facts
// are read when something asks for them: a bridge needs fewer than a NIC.
type device struct {
	dir     string
	entries []string // sorted
	unread  []Unread // except of irqs

	pci   *PCI
	vfs   map[string]int // numbers of the VFs, by address
	numa  *NUMA
	iommu *IOMMU

	irqs       []IRQ
	irqsUnread []Unread

	read struct{ identity, function, place, interrupts bool }
}

// has reports whether the directory lists a file. Asking the listing instead of
// the file keeps "there is none" apart from "it can't be read".
func (d *device) has(name string) bool {
	_, found := slices.BinarySearch(d.entries, name)
	return found
}

// thin reports whether a PCI function's directory is an excerpt, as in trees that
// other tools saved. There a missing file says nothing about the device.
func (d *device) thin() bool { return !d.has("config") && !d.has("max_link_speed") }

func (d *device) missed(fact string, err error) {
	d.unread = append(d.unread, unread(fact, err))
}

// device lists a directory, once.
func (p *places) device(ctx context.Context, dir string) *device {
	if d, ok := p.devices[dir]; ok {
		return d
	}
	d := &device{dir: dir}
	p.devices[dir] = d
	var err error
	if d.entries, err = p.ReadDir(ctx, dir); err != nil {
		d.missed("pci", err)
	}
	return d
}

// text is a file of a device, without the newline.
func (p *places) text(ctx context.Context, d *device, name string) (string, error) {
	data, err := p.ReadFile(ctx, d.dir+"/"+name)
	return trimmed(data), err
}

func trimmed(data []byte) string { return string(bytes.TrimSpace(data)) }

// directory is where a NIC's device lies below /sys/devices:
// "/sys/devices/pci0000:00/0000:00:03.0/virtio2". The path itself tells what it
// hangs on. The bus is asked first: what /sys/class/net shows depends on the
// network namespace that sysfs was mounted in.
func (p *places) directory(ctx context.Context, n *NIC) (string, error) {
	var busErr error
	if n.Parent.Bus != "" {
		bus := path.Join("/sys/bus", n.Parent.Bus, "devices")
		target, err := p.ReadLink(ctx, path.Join(bus, n.Parent.Address))
		if err == nil {
			return path.Join(bus, target), nil
		}
		busErr = err
	}
	const class = "/sys/class/net"
	target, err := p.ReadLink(ctx, path.Join(class, n.Name))
	if err == nil {
		// ../../devices/pci0000:00/0000:00:03.0/virtio2/net/eth0
		return path.Dir(path.Dir(path.Join(class, target))), nil
	}
	return "", errors.Join(busErr, err)
}

// place reads the PCI function that a directory lies at or below, or else the
// directory itself, as a place.
func (p *places) place(ctx context.Context, dir string) *device {
	function, isPCI := pciFunctionOf(dir)
	if isPCI {
		dir = function
	}
	d := p.device(ctx, dir)
	if d.read.place {
		return d
	}
	d.read.place = true
	if isPCI {
		p.readFunction(ctx, d)
		d.pci.VPD = p.readVPD(ctx, d)
	}
	d.numa = p.readNUMA(ctx, d)
	d.iommu = p.readIOMMU(ctx, d)
	return d
}

// interruptsOf is the directory of the device whose interrupts are a NIC's, or
// "" for a NIC that has none of its own: a USB controller's serve everything
// plugged in, and a representor is served by its PF's.
func interruptsOf(n *NIC, dir string) string {
	function, isPCI := pciFunctionOf(dir)
	switch {
	case n.Parent.Bus == "usb", isRepresentor(n):
		return ""
	case n.Parent.Bus == "auxiliary":
		return dir
	case isPCI:
		return function
	}
	return ""
}

// interrupts reads a device's interrupts, once.
func (p *places) interrupts(ctx context.Context, dir string) *device {
	d := p.device(ctx, dir)
	if !d.read.interrupts {
		d.read.interrupts = true
		p.readIRQs(ctx, d)
	}
	return d
}
