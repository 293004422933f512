package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/jaypipes/pcidb"
)

const opPCINames = "look up in pci.ids"

// pciIDs is where distributions keep pci.ids: hwdata's place and Debian's.
var pciIDs = []string{
	"/usr/share/hwdata/pci.ids", "/usr/share/misc/pci.ids",
	"/usr/share/hwdata/pci.ids.gz", "/usr/share/misc/pci.ids.gz",
}

// pciNames looks modaliases up in the host's pci.ids. It is loaded with the
// first question, in some 40 ms, and kept, in some 6 MiB; a question then takes
// about a microsecond.
type pciNames struct {
	// root is prefixed to the paths, for tests.
	root string

	mu sync.Mutex
	db *pcidb.DB
}

func (p *pciNames) lookUp(modalias string) (PCINames, error) {
	names, err := p.find(modalias)
	if err != nil {
		return PCINames{}, &Error{Op: opPCINames, Object: modalias, Err: err}
	}
	return names, nil
}

func (p *pciNames) find(modalias string) (PCINames, error) {
	id, ok := parseModalias(modalias)
	if !ok {
		return PCINames{}, fmt.Errorf("%w: not the modalias of a PCI function", syscall.EINVAL)
	}
	db, err := p.database()
	if err != nil {
		return PCINames{}, err
	}
	var names PCINames
	if v := db.Vendors[id.vendor]; v != nil {
		names.Vendor = v.Name
	}
	if d := db.Products[id.vendor+id.device]; d != nil {
		names.Device = d.Name
		for _, s := range d.Subsystems {
			if s.VendorID == id.subVendor && s.ID == id.subDevice {
				names.Subsystem = s.Name
			}
		}
	}
	if c := db.Classes[id.class]; c != nil {
		names.Class = c.Name
		for _, s := range c.Subclasses {
			if s.ID == id.subclass {
				names.Class = s.Name // the more exact one, which lspci shows too
			}
		}
	}
	return names, nil
}

// database loads pci.ids. A host where it is missing may get it any time, so a
// failure isn't kept.
func (p *pciNames) database() (*pcidb.DB, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.db != nil {
		return p.db, nil
	}
	for _, name := range pciIDs {
		db, err := loadPCIIDs(filepath.Join(p.root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		p.db = db
		return db, err
	}
	return nil, fmt.Errorf("%w in /usr/share/hwdata or /usr/share/misc: install your distribution's package pci.ids or hwdata", syscall.ENOENT)
}

// loadPCIIDs reads one file. The path is given and fetching ruled out: the
// library would search the user's home first, and obey environment variables
// that make it download the file.
func loadPCIIDs(name string) (db *pcidb.DB, err error) {
	if _, err := os.Stat(name); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil { // the library's answer to a line that is too short
			db, err = nil, fmt.Errorf("%w: %s: %v", ErrMalformed, name, r)
		}
	}()
	fetch := false
	return pcidb.New(&pcidb.WithOption{Path: &name, EnableNetworkFetch: &fetch})
}

// pciID are the numbers of a PCI modalias, as pci.ids writes them.
type pciID struct{ vendor, device, subVendor, subDevice, class, subclass string }

// parseModalias reads "pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00",
// as drivers/pci/pci-sysfs.c writes it.
func parseModalias(s string) (pciID, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), "pci:")
	number := func(name string, digits, significant int) string {
		value, found := strings.CutPrefix(rest, name)
		if !ok || !found || len(value) < digits || strings.Trim(value[:digits], "0123456789ABCDEFabcdef") != "" {
			ok = false
			return ""
		}
		rest = value[digits:]
		return strings.ToLower(value[digits-significant : digits])
	}
	id := pciID{
		vendor: number("v", 8, 4), device: number("d", 8, 4),
		subVendor: number("sv", 8, 4), subDevice: number("sd", 8, 4),
		class: number("bc", 2, 2), subclass: number("sc", 2, 2),
	}
	return id, ok
}
