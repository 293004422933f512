package kernel

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/jaypipes/ghw"
)

const opMachine = "read machine"

// readMachine asks ghw, which knows SMBIOS and, on boards without it, the
// device tree. Its warnings, which it would print for each missing file, are
// off, and it is asked for nothing that runs a program or reads a bus. It does
// not say why a file could not be read, so serial numbers, which only root may
// read, are not asked for.
func readMachine(root string) (Machine, error) {
	options := []any{ghw.WithChroot(root), ghw.WithDisableWarnings(), ghw.WithDisableTools()}
	product, productErr := ghw.Product(options...)
	bios, biosErr := ghw.BIOS(options...)
	if err := errors.Join(productErr, biosErr); err != nil {
		return Machine{}, &Error{Op: opMachine, Object: machineSubject, Err: err}
	}
	m := Machine{
		Vendor: known(product.Vendor), Product: known(product.Name), Version: known(product.Version),
		BIOSVendor: known(bios.Vendor), BIOSVersion: known(bios.Version), BIOSDate: known(bios.Date),
	}
	if m == (Machine{}) {
		return Machine{}, &Error{Op: opMachine, Object: machineSubject, Err: fmt.Errorf("%w: the firmware gives neither SMBIOS nor a device tree", syscall.EOPNOTSUPP)}
	}
	return m, nil
}

// known is a string of ghw's, which has a word for what it doesn't know.
func known(s string) string {
	if s == "unknown" {
		return ""
	}
	return s
}
