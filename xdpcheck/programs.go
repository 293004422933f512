package xdpcheck

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/nictune/nictune/inventory"
)

// Program is an XDP program that is attached to a NIC.
type Program struct {
	// Mode is "driver", "generic" or "hardware".
	Mode string `json:"mode"`
	ID   uint32 `json:"id"`
	// Name and Tag are those of bpftool prog.
	Name string `json:"name,omitempty"`
	Tag  string `json:"tag,omitempty"`
	// Link is the id of the bpf_link that holds it; without one it stays until
	// somebody detaches it.
	Link *uint32 `json:"link,omitempty"`
	// Dispatcher is set for libxdp's, which calls several programs one after
	// another: Components.
	Dispatcher bool      `json:"dispatcher,omitempty"`
	Components []Program `json:"components,omitempty"`
}

// dispatcher is the name of libxdp's program.
const dispatcher = "xdp_dispatcher"

// Programs are the programs attached to NICs of the running host, by the NICs'
// indexes, with what bpf(2) tells of them. CAP_SYS_ADMIN is needed for names, tags
// and links; the error says so and the ids are there nevertheless.
func Programs(nics []inventory.NIC) (map[int][]Program, error) {
	all := map[int][]Program{}
	for i := range nics {
		for _, p := range nics[i].Offloads.XDP {
			all[nics[i].Index] = append(all[nics[i].Index], Program{Mode: p.Mode, ID: p.ID})
		}
	}
	if len(all) == 0 {
		return all, nil
	}
	links, err := readLinks()
	for index, programs := range all {
		for i := range programs {
			p := &programs[i]
			if fault := p.describe(); fault != nil {
				err = errors.Join(err, fault)
			}
			if id, ok := links.devices[holder{index, p.ID}]; ok {
				p.Link = &id
			}
			if p.Dispatcher = p.Name == dispatcher; !p.Dispatcher {
				continue
			}
			for _, id := range links.components[p.ID] {
				component := Program{Mode: p.Mode, ID: id}
				err = errors.Join(err, component.describe())
				p.Components = append(p.Components, component)
			}
		}
	}
	return all, err
}

// describe asks for the program's name and tag. A program that went away meanwhile
// has none.
func (p *Program) describe() error {
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(p.ID))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("XDP program %d: %w", p.ID, err)
	}
	defer func() { _ = program.Close() }() // it was only looked at
	info, err := program.Info()
	if err != nil {
		return fmt.Errorf("XDP program %d: %w", p.ID, err)
	}
	p.Name, p.Tag = info.Name, info.Tag
	return nil
}

// holder is a device, by its index, and a program.
type holder struct {
	device  int
	program uint32
}

// linkIDs are the links that matter: those of XDP programs on devices, and the
// programs that replace a dispatcher's functions.
type linkIDs struct {
	devices    map[holder]uint32
	components map[uint32][]uint32
}

// readLinks lists bpf_links. Kernels before 5.9 have none of XDP: that is no error.
func readLinks() (linkIDs, error) {
	found := linkIDs{map[holder]uint32{}, map[uint32][]uint32{}}
	it := &link.Iterator{}
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil {
			continue // it went away, or is of a kind that this kernel doesn't describe
		}
		switch info.Type {
		case link.XDPType:
			if x := info.XDP(); x != nil {
				found.devices[holder{int(x.Ifindex), uint32(info.Program)}] = uint32(info.ID)
			}
		case link.TracingType:
			if x := info.Tracing(); x != nil {
				found.components[x.TargetObjectId] = append(found.components[x.TargetObjectId], uint32(info.Program))
			}
		}
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return found, fmt.Errorf("list bpf_links: %w", err)
	}
	return found, nil
}
