package inventory

import (
	"context"
	"strings"
)

// readFunctions tells what part of a device each NIC is, from what the subjects
// before it found.
func readFunctions(_ context.Context, s *survey) {
	for _, n := range s.nics {
		n.Function = functionOf(n)
	}
}

// functionOf tells what part of a device a NIC is.
//
// A host that sees a VF's PF knows by itself. In a guest the PF is out of sight
// and the PCI function's configuration space does not say; there the driver
// tells, where it binds to VFs only, and otherwise the device id, where drivers
// list it as a VF's. A device that uses one id for both (Amazon's ENA,
// Google's gVNIC, any virtio function passed through) counts as plain.
func functionOf(n *NIC) Function {
	if isRepresentor(n) {
		return Representor
	}
	if n.Parent == nil {
		return Virtual
	}
	// The PCI function behind a subfunction is its PF, so this comes first.
	if n.Parent.Bus == "auxiliary" && strings.Contains(n.Parent.Address, ".sf.") {
		return SF
	}
	switch pci := n.PCI; {
	case pci == nil:
	case pci.PhysicalFunction != "":
		return VF
	case pci.SRIOV != nil && pci.SRIOV.TotalVFs > 0:
		return PF
	case isVFDevice(pci.VendorID, pci.DeviceID):
		return VF
	}
	if n.Driver != nil && isVFDriver(n.Driver.Name) {
		return VF
	}
	return Plain
}

// isRepresentor goes by devlink's flavour of the port, and for drivers without
// devlink ports by the name that switchdev prescribes (pf0vf3, c1pf0sf88) on a
// port that belongs to a switch.
func isRepresentor(n *NIC) bool {
	if n.Devlink != nil && n.Devlink.Port != nil {
		switch n.Devlink.Port.Flavour {
		case "pcipf", "pcivf", "pcisf":
			return true
		case "physical", "virtual", "cpu", "dsa":
			return false
		}
	}
	return n.Port.SwitchID != "" && isRepresentorName(n.Port.Name)
}

// isRepresentorName reports whether a phys_port_name is that of a function's
// port: an optional controller number, the PF's, and an optional VF's or SF's.
func isRepresentorName(name string) bool {
	if rest, ok := strings.CutPrefix(name, "c"); ok {
		if name, ok = cutNumber(rest); !ok {
			return false
		}
	}
	rest, ok := strings.CutPrefix(name, "pf")
	if !ok {
		return false
	}
	if rest, ok = cutNumber(rest); !ok {
		return false
	}
	if rest == "" {
		return true
	}
	if !strings.HasPrefix(rest, "vf") && !strings.HasPrefix(rest, "sf") {
		return false
	}
	rest, ok = cutNumber(rest[2:])
	return ok && rest == ""
}

// cutNumber takes the decimal digits that s begins with.
func cutNumber(s string) (rest string, ok bool) {
	rest = strings.TrimLeft(s, "0123456789")
	return rest, len(rest) < len(s)
}

// isVFDriver knows the kernel's drivers that bind to virtual functions and to
// nothing else, by the names that they report to ethtool -i.
func isVFDriver(driver string) bool {
	switch driver {
	case "igbvf", "ixgbevf", "iavf", "i40evf", // Intel
		"cxgb4vf",                // Chelsio
		"nicvf", "thunder-nicvf", // Cavium ThunderX
		"rvu_nicvf", "octeon_ep_vf", // Marvell
		"liquidio_vf", "LiquidIO_VF", // Cavium
		"nfp_netvf",         // Netronome, Corigine
		"fsl_enetc_vf",      // NXP
		"ngbevf", "txgbevf": // Wangxun
		return true
	}
	return false
}

// isVFDevice knows the device ids that drivers of both kinds of function list
// as those of their VFs. A row is a driver's table in drivers/net/ethernet.
func isVFDevice(vendor, device string) bool {
	switch vendor {
	case "15b3": // mlx4, mlx5
		switch device {
		case "1002", "1004",
			"1012", "1014", "1016", "1018", "101a", "101c", "101e", "a2d3":
			return true
		}
	case "14e4": // bnxt_en, bnx2x
		switch device {
		case "1606", "1607", "1608", "1609", "16bd", "16c1", "16c2", "16c3", "16c4", "16c5", "16cb", "16d3",
			"16dc", "16e1", "16e5", "16e6", "1806", "1807", "1808", "1809", "1819", "181b", "d800",
			"163f", "166f", "16a9", "16ad", "16af":
			return true
		}
	case "1077": // qede, bnx2x, qlcnic
		switch device {
		case "1664", "8090", "16ad", "8430", "8440", "8c30":
			return true
		}
	case "8086": // fm10k, idpf
		return device == "15a5" || device == "145c"
	case "10df": // be2net
		return device == "0728" || device == "e228"
	case "1924": // sfc
		switch device {
		case "1803", "1813", "1903", "1923", "1a03", "1b03":
			return true
		}
	case "19e5": // hns3, hinic
		return device == "a22e" || device == "a22f" || device == "375e"
	case "1137": // enic
		return device == "0071" || device == "02b7"
	case "1dd8": // ionic
		return device == "1003"
	}
	return false
}
