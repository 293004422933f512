package inventory

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

// SRIOV counts a PF's virtual functions.
type SRIOV struct {
	TotalVFs int `json:"totalVfs"`
	NumVFs   int `json:"numVfs"`
}

// VPD is the vital product data of a PCI function.
type VPD struct {
	Identifier   string `json:"identifier,omitempty"`
	PartNumber   string `json:"partNumber,omitempty"`
	SerialNumber string `json:"serialNumber,omitempty"`
	// Manufacturer is the MN keyword, EngineeringChange EC, as lspci shows them.
	Manufacturer      string `json:"manufacturer,omitempty"`
	EngineeringChange string `json:"engineeringChange,omitempty"`
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

// NUMA is where a NIC stands among memory nodes and CPUs.
type NUMA struct {
	// Node is absent where the firmware names none.
	Node *int `json:"node,omitempty"`
	// LocalCPUs is a list as in "0-3,8-11".
	LocalCPUs string `json:"localCpus,omitempty"`
}

// IOMMU is a NIC's place among the IOMMU groups.
type IOMMU struct {
	// Type is the group's domain: "DMA", "DMA-FQ", "identity".
	Type  string `json:"type,omitempty"`
	Group int    `json:"group"`
	// Members are the other devices of the group, by their addresses.
	Members []string `json:"members,omitempty"`
}

// IRQ is one interrupt vector of a NIC.
type IRQ struct {
	Number int `json:"number"`
	// Name is what the driver called it: "eth0-TxRx-3".
	Name string `json:"name,omitempty"`
	// Kind is "msix", "msi" or "intx".
	Kind string `json:"kind,omitempty"`
	// Affinity is the CPU list asked for, EffectiveAffinity the one in force.
	Affinity          string `json:"affinity,omitempty"`
	EffectiveAffinity string `json:"effectiveAffinity,omitempty"`
}
