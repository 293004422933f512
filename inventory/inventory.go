// Package inventory reads what a host's network devices are, how they are
// attached, and how they are set up: the facts that every other room of nictune
// stands on.
//
// [Read] surveys a host through a [kernel.Reader], which may be the running
// host, a recording or a plain sysfs tree. One file holds one subject: its
// types, the decoding of the kernel's bytes, and the few lines that ask for
// them. Bulk dumps come before questions to single devices.
//
// The room judges nothing and changes nothing. A fact that could not be read is
// absent (a nil pointer, an empty string, an empty slice), never zero, and is
// listed with its reason in Unread.
package inventory

import (
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory/module"
)

// APIVersion and Kind head every document that nictune writes, so that a reader
// can tell what it holds. A change that breaks readers changes the version.
const (
	APIVersion = "nictune/v1"
	Kind       = "Inventory"
)

// Inventory is one survey of one host. Its JSON form is described by
// docs/schema/inventory.schema.json.
type Inventory struct {
	APIVersion  string    `json:"apiVersion"`
	Kind        string    `json:"kind"`
	CollectedAt time.Time `json:"collectedAt"`
	Host        Host      `json:"host"`
	// NICs are all network devices of the caller's network namespace but the
	// loopback, in the order of their interface indexes.
	NICs []NIC `json:"nics"`
	// Unread lists what concerns the host and could not be read.
	Unread []Unread `json:"unread,omitempty"`
}

// Reason says why a fact could not be read.
type Reason = kernel.Reason

// The reasons, for the rooms that see facts and not the kernel.
const (
	Unsupported = kernel.Unsupported
	Gone        = kernel.Gone
	Denied      = kernel.Denied
	Failed      = kernel.Failed
)

// Unread is one fact that could not be read.
type Unread struct {
	// Fact is the path of the fact in the JSON form, below the host or the NIC:
	// "link.fec", "pci.vpd".
	Fact   string `json:"fact"`
	Reason Reason `json:"reason"`
	// Detail is the error in the kernel's own words.
	Detail string `json:"detail,omitempty"`
}

// NotRecorded reports whether the fact is missing only because a recording holds no
// answer about it: nobody failed.
func (u *Unread) NotRecorded() bool {
	return strings.Contains(u.Detail, kernel.ErrNotRecorded.Error())
}

// NIC is one network device.
type NIC struct {
	// Name is a label: it can change at any time. ID is what stays.
	Name     string   `json:"name"`
	Index    int      `json:"index"`
	AltNames []string `json:"altNames,omitempty"`
	Alias    string   `json:"alias,omitempty"`
	// Function tells what part of a device this is.
	Function Function `json:"function"`
	// Type is the link type: "ether", or what the kernel says of a software
	// device ("veth", "bridge", "vlan").
	Type string `json:"type,omitempty"`
	// MAC is the address in use, PermanentMAC the one the device came with, both
	// as colon-separated lower-case hex.
	MAC          string `json:"mac,omitempty"`
	PermanentMAC string `json:"permanentMac,omitempty"`
	// Broadcast is the link's broadcast address, in the form of MAC.
	Broadcast string `json:"broadcast,omitempty"`
	// NetClass are the kernel's own numbers; absent where not all of them are known.
	NetClass *NetClass `json:"netClass,omitempty"`

	Parent *Parent `json:"parent,omitempty"`
	Port   Port    `json:"port,omitzero"`
	Driver *Driver `json:"driver,omitempty"`
	// PCI is the PCI function behind the device, also when a virtio or auxiliary
	// device lies between.
	PCI     *PCI     `json:"pci,omitempty"`
	Devlink *Devlink `json:"devlink,omitempty"`
	NUMA    *NUMA    `json:"numa,omitempty"`
	IOMMU   *IOMMU   `json:"iommu,omitempty"`
	IRQs    []IRQ    `json:"irqs,omitempty"`

	Stack     Stack     `json:"stack,omitzero"`
	Link      Link      `json:"link"`
	Queues    Queues    `json:"queues"`
	Offloads  Offloads  `json:"offloads"`
	Multicast Multicast `json:"multicast"`
	// Module is the pluggable module or cable, where it was asked for.
	Module *module.Module `json:"module,omitempty"`

	Unread []Unread `json:"unread,omitempty"`
}

// Function says what part of a device a NIC is.
type Function string

// The functions, in the words of devlink and lspci.
const (
	// PF is a physical function that can have virtual ones.
	PF Function = "pf"
	// VF is a virtual function, also in a guest where its PF can't be seen.
	VF Function = "vf"
	// SF is a subfunction on the auxiliary bus.
	SF Function = "sf"
	// Representor is the switch's end of a VF, SF or PF in switchdev mode.
	Representor Function = "representor"
	// Plain is hardware, real or emulated, without functions.
	Plain Function = "plain"
	// Virtual is a software device: veth, bridge, bond, VLAN, tun.
	Virtual Function = "virtual"
)

// Parent is the device on whose bus a NIC's driver was bound.
type Parent struct {
	// Bus is "pci", "virtio", "usb", "auxiliary", "platform", ...
	Bus string `json:"bus"`
	// Address is the device's name there: "0000:3b:00.0", "virtio2".
	Address string `json:"address"`
	// SRIOV says that the device can have virtual functions though it is no PCI device,
	// as netdevsim can. Those of a PCI function are counted in [PCI.SRIOV].
	SRIOV bool `json:"sriov,omitempty"`
}

// Port is where a NIC stands on its device and its switch.
type Port struct {
	// Name is phys_port_name: "p0", "pf0vf3".
	Name string `json:"name,omitempty"`
	// ID is phys_port_id, SwitchID phys_switch_id, both in hex.
	ID       string `json:"id,omitempty"`
	SwitchID string `json:"switchId,omitempty"`
	// Number is dev_port.
	Number *int `json:"number,omitempty"`
}

// ID is a NIC's identity: its PCI (or other parent's) address and its permanent
// MAC. It survives renames; a software device, which has neither, falls back on
// its name.
func (n *NIC) ID() string {
	switch {
	case n.Parent != nil && n.PermanentMAC != "":
		return n.address() + "/" + n.PermanentMAC
	case n.Parent != nil:
		return n.address()
	default:
		return n.Name
	}
}

// address is the PCI address where there is one: a virtio device's own name
// depends on the order of probing.
func (n *NIC) address() string {
	if n.PCI != nil {
		return n.PCI.Address
	}
	return n.Parent.Address
}
