package inventory

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// IOMMU is a NIC's place among the IOMMU groups.
type IOMMU struct {
	// Type is the group's default domain: "DMA", "DMA-FQ", "identity". A device
	// handed to a guest is in another one as long, which the kernel doesn't show.
	Type  string `json:"type,omitempty"`
	Group int    `json:"group"`
	// Members are the other devices of the group, by their addresses.
	Members []string `json:"members,omitempty"`
}

const iommuGroups = "/sys/kernel/iommu_groups"

// iommuGroup is one group, as all of its devices share it.
type iommuGroup struct {
	number  int
	domain  string
	devices []string
	unread  []Unread
}

// readIOMMU reads a device's IOMMU group. A device without one is not behind an
// IOMMU that is in use.
func (p *places) readIOMMU(ctx context.Context, d *device) *IOMMU {
	if !d.has("iommu_group") {
		return nil
	}
	target, err := p.ReadLink(ctx, d.dir+"/iommu_group")
	if err != nil {
		d.missed("iommu.group", err)
		return nil
	}
	number, err := strconv.Atoi(path.Base(target))
	if err != nil || number < 0 {
		d.missed("iommu.group", fmt.Errorf("%w: %s/iommu_group leads to %.80q", kernel.ErrMalformed, d.dir, target))
		return nil
	}
	group := p.iommuGroup(ctx, number)
	d.unread = append(d.unread, group.unread...)
	self := path.Base(d.dir)
	return &IOMMU{
		Type: group.domain, Group: number,
		Members: slices.DeleteFunc(slices.Clone(group.devices), func(other string) bool { return other == self }),
	}
}

// defaultDomain takes a group's file "type". "unknown" is the kernel's word for
// a group that has no default domain.
func defaultDomain(data []byte) string {
	if domain := trimmed(data); domain != "unknown" {
		return domain
	}
	return ""
}

// iommuGroup reads each group once, however many NICs are in it.
func (p *places) iommuGroup(ctx context.Context, number int) *iommuGroup {
	if group, ok := p.groups[number]; ok {
		return group
	}
	group := &iommuGroup{number: number}
	p.groups[number] = group
	dir := iommuGroups + "/" + strconv.Itoa(number)
	data, err := p.ReadFile(ctx, dir+"/type")
	if err != nil {
		group.unread = append(group.unread, unread("iommu.type", err))
	}
	group.domain = defaultDomain(data)
	if group.devices, err = p.ReadDir(ctx, dir+"/devices"); err != nil {
		group.unread = append(group.unread, unread("iommu.members", err))
	}
	return group
}
