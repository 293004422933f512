package inventory

import (
	"context"
	"errors"

	"github.com/nictune/nictune/internal/kernel"
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
	ask := func(n *NIC) (kernel.DriverInfo, error) { return s.DriverInfo(ctx, n.Name) }
	if s.brief { // the host is read once, and little else
		ask = driversInTurn(ctx, s)
	}
	s.askEach("driver", func(n *NIC) error {
		info, err := ask(n)
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

// driversInTurn asks all NICs, and gives the answer of each.
func driversInTurn(ctx context.Context, s *survey) func(*NIC) (kernel.DriverInfo, error) {
	at := make(map[*NIC]int, len(s.nics))
	names := make([]string, len(s.nics))
	for i, n := range s.nics {
		at[n], names[i] = i, n.Name
	}
	infos, errs := kernel.InTurn(ctx, len(names), func(ctx context.Context, i int) (kernel.DriverInfo, error) { return s.DriverInfo(ctx, names[i]) })
	return func(n *NIC) (kernel.DriverInfo, error) {
		err := errs[at[n]]
		if known := (*kernel.Error)(nil); err != nil && !errors.As(err, &known) {
			err = &kernel.Error{Op: "ethtool -i", Object: n.Name, Err: err}
		}
		return infos[at[n]], err
	}
}
