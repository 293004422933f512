package inventory

import (
	"context"
)

// Driver is the driver bound to a NIC, as ethtool -i shows it.
type Driver struct {
	Name string `json:"name"`
	// Version is the driver's own, or the kernel's release where it has none.
	Version      string `json:"version,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	ExpansionROM string `json:"expansionRom,omitempty"`
	// BusInfo is the address that the driver itself reports.
	BusInfo string `json:"busInfo,omitempty"`
}

// readDrivers reads what ethtool -i shows, which netlink has no command for.
func readDrivers(ctx context.Context, s *survey) {
	s.askEach("driver", func(n *NIC) error {
		info, err := s.DriverInfo(ctx, n.Name)
		if err != nil {
			return err
		}
		n.Driver = &Driver{
			Name: info.Driver, Version: info.Version, Firmware: info.Firmware,
			ExpansionROM: info.ExpansionROM, BusInfo: info.Bus,
		}
		return nil
	})
}
