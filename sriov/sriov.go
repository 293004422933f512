// Package sriov is about virtual functions: what each physical function offers,
// what each of its VFs is set to, and who uses it.
//
// [Read] adds to an inventory what costs more than an inventory should: the
// VFs' settings are asked of the PF's firmware with the kernel's RTNL lock held,
// and users are looked for in every process. So it is done only when asked for.
//
// The room changes nothing by reading. A fact that could not be read is absent,
// never zero, and is listed with its reason in Unread.
package sriov

import (
	"github.com/nictune/nictune/inventory"
)

// Inventory is an inventory together with what was found about its VFs. Its JSON
// form is that of an inventory with one field more.
type Inventory struct {
	inventory.Inventory
	// PFs are present when VFs were asked for (nictune inventory --vfs): every
	// physical function that can have VFs, in the order of their addresses.
	PFs []PF `json:"pfs,omitzero"`
}

// PF is a physical function: a device that can have virtual ones.
type PF struct {
	// Bus and Address are where the device is: "pci" and "0000:3b:00.0".
	// netdevsim's PFs are on a bus of their own and their VFs are no devices.
	Bus     string `json:"bus"`
	Address string `json:"address"`
	// Name is its network device here; absent where it has none, or one in
	// another namespace. Then the VFs' settings can't be asked.
	Name   string `json:"name,omitempty"`
	Driver string `json:"driver,omitempty"`

	// TotalVFs is how many VFs the driver lets you enable (sriov_totalvfs), NumVFs
	// how many are enabled.
	TotalVFs *int `json:"totalVfs,omitempty"`
	NumVFs   *int `json:"numVfs,omitempty"`
	// Device is what the device itself says.
	Device *Capability `json:"device,omitempty"`
	// Firmware is what is stored in the device and takes effect with the next
	// reset.
	Firmware *Firmware `json:"firmware,omitempty"`
	// FirstVFOffset and VFStride place the VFs' routing ids behind the PF's; they
	// may change with the number of VFs. VFDeviceID is the VFs' PCI device id,
	// four hex digits.
	FirstVFOffset *int   `json:"firstVfOffset,omitempty"`
	VFStride      *int   `json:"vfStride,omitempty"`
	VFDeviceID    string `json:"vfDeviceId,omitempty"`
	// Autoprobe says whether the kernel binds a driver to new VFs.
	Autoprobe *bool `json:"driversAutoprobe,omitempty"`
	// MSIXPool is how many MSI-X vectors there are to distribute among the VFs
	// (sriov_vf_total_msix); only drivers that can distribute them have it.
	MSIXPool *int `json:"vfTotalMsix,omitempty"`

	ESwitch    *ESwitch    `json:"eswitch,omitempty"`
	PeerToPeer *PeerToPeer `json:"peerToPeer,omitempty"`
	Budget     *Budget     `json:"pcieBudget,omitempty"`

	// VFs are the enabled ones, by number.
	VFs    []VF               `json:"vfs"`
	Unread []inventory.Unread `json:"unread,omitempty"`
}

// Capability is a PF's SR-IOV capability (PCIe 6.0, 9.3.3): what lspci -vv shows.
type Capability struct {
	// TotalVFs is what the device was built or set up for. A driver may allow
	// fewer: igb takes 7 of 8.
	TotalVFs   int `json:"totalVfs"`
	InitialVFs int `json:"initialVfs"`
	NumVFs     int `json:"numVfs"`
}

// Firmware are the stored settings that bound the number of VFs: devlink's
// parameters enable_sriov and total_vfs, permanent ones.
type Firmware struct {
	EnableSRIOV *bool `json:"enableSriov,omitempty"`
	TotalVFs    *int  `json:"totalVfs,omitempty"`
}

// VF is one virtual function.
type VF struct {
	// Index is the number that ip link calls vf.
	Index int `json:"index"`
	// Address is its PCI address; absent for one that is no PCI device.
	Address string `json:"address,omitempty"`
	// Driver is bound to it; DriverKind tells what sort of driver that is.
	Driver     string     `json:"driver,omitempty"`
	DriverKind DriverKind `json:"driverKind,omitempty"`
	// DriverOverride is the only driver that may bind, where one was named.
	DriverOverride string `json:"driverOverride,omitempty"`
	// MSIX is the size of its MSI-X table: how many vectors it has. Reading it
	// takes root.
	MSIX *int `json:"msix,omitempty"`

	IOMMU  *Group  `json:"iommu,omitempty"`
	Netdev *Netdev `json:"netdev,omitempty"`
	// Users are who would notice if the VF went away. An empty list is no proof
	// where something could not be read.
	Users []User `json:"users,omitempty"`

	// Settings are what the PF's driver was told about this VF.
	Settings   *Settings   `json:"settings,omitempty"`
	Statistics *Statistics `json:"statistics,omitempty"`
	// Representor is the network device that is the switch's end of the VF.
	Representor  string        `json:"representor,omitempty"`
	PortFunction *PortFunction `json:"portFunction,omitempty"`

	Unread []inventory.Unread `json:"unread,omitempty"`
}

// UsersUnread is what could not be read of who uses the VF: then there may be more than
// Users, and an empty list is no proof. It is nil where all was.
func (vf *VF) UsersUnread() *inventory.Unread {
	for _, fact := range [...]string{"users", "netdev.namespace", "netdev", "driver", "address"} { // by the last three users are found
		for i := range vf.Unread {
			if vf.Unread[i].Fact == fact {
				return &vf.Unread[i]
			}
		}
	}
	return nil
}

// Used is how many of the enabled VFs somebody uses. It is not known where that could
// not be read of one, or where not all of them are here.
func (pf *PF) Used() (n int, known bool) {
	if pf.NumVFs == nil || len(pf.VFs) < *pf.NumVFs {
		return 0, false
	}
	for i := range pf.VFs {
		switch vf := &pf.VFs[i]; {
		case len(vf.Users) > 0:
			n++
		case vf.UsersUnread() != nil:
			return 0, false
		}
	}
	return n, true
}

// DriverKind sorts the drivers that a VF can be bound to.
type DriverKind string

// The kinds of driver.
const (
	// DriverKernel makes a network device of the VF, or another one of this kernel.
	DriverKernel DriverKind = "kernel"
	// DriverVFIO is vfio-pci: a program or VM can take the VF.
	DriverVFIO DriverKind = "vfio-pci"
	// DriverVFIOVariant is vfio-pci with what one device needs besides, such as
	// live migration: mlx5_vfio_pci.
	DriverVFIOVariant DriverKind = "vfio-variant"
	// DriverNone: nothing is bound.
	DriverNone DriverKind = "none"
)

// Group is a VF's IOMMU group.
type Group struct {
	Number int `json:"group"`
	// Own says that the VF is alone in it, and so can be given away alone.
	Own bool `json:"own"`
	// Members are the other devices in it.
	Members []string `json:"members,omitempty"`
}

// Netdev is a VF's network device, wherever it sits.
type Netdev struct {
	Name  string `json:"name,omitempty"`
	Index int    `json:"ifindex,omitempty"`
	// MAC is the address in use.
	MAC string `json:"mac,omitempty"`
	MTU *int   `json:"mtu,omitempty"`
	// State is the operational state: "up", "down".
	State string `json:"state,omitempty"`
	// Namespace is present when the device is not in ours.
	Namespace *Namespace `json:"namespace,omitempty"`
}

// Namespace is another network namespace. Which one it is can be told by root
// only; a reader without privileges knows that the device is not here.
type Namespace struct {
	// ID is its number as seen from here (ip netns list-id).
	ID *int `json:"id,omitempty"`
	// Name is the last part of where it is mounted, as ip netns shows it.
	Name string `json:"name,omitempty"`
	// Inode is the number of its file.
	Inode uint64 `json:"inode,omitempty"`
}

// User is somebody who uses a VF.
type User struct {
	// Kind is "vm", "container", "process" or "namespace", or the type of the
	// network device that the VF's is enslaved to or carries: "bond", "bridge",
	// "vlan".
	Kind string `json:"kind"`
	// Name is the VM's (as libvirt registers it), the container's id, the
	// process's command, the namespace's or the network device's name.
	Name string `json:"name,omitempty"`
	// PID is the process that holds the VF's device file, or the first one in the
	// namespace; Process its command name.
	PID     *int   `json:"pid,omitempty"`
	Process string `json:"process,omitempty"`
	// Container is the id of the container that a VM's or holder's process is in.
	Container string `json:"container,omitempty"`
	// Device is the device file that the process holds open: "/dev/vfio/12".
	Device string `json:"device,omitempty"`
	// Upper is the network device in another namespace through which it uses the
	// VF's: "macvlan eth0".
	Upper string `json:"upper,omitempty"`
}
