package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory/module"
)

// moduleInterval is how often what a module measures is read at most: its bus is
// slow, a page takes milliseconds.
const moduleInterval = time.Minute

// flagsPause is how long after flags were cleared they are read again: CMIS modules
// measure within a second.
const flagsPause = time.Second

// Flags is what becomes of the flags that reading clears, those of QSFP and CMIS
// modules.
type Flags int

const (
	// LeaveFlags leaves them to those who watch them.
	LeaveFlags Flags = iota
	// ReadFlags reads them: what was raised since anybody last did.
	ReadFlags
	// ReadFlagsTwice reads them again a second after they were cleared: what is
	// raised then is so now.
	ReadFlagsTwice
)

// Modules reads the memory of NICs' pluggable modules, one module at a time. It
// remembers them: pages that never change are read once for each module that is
// plugged in, and what it measures once a minute at most. A cage that can't be read is
// not asked more often either; one without a module, as its driver says, is.
type Modules struct {
	// Flags says whether flags are read that reading clears.
	Flags Flags
	// Shared is where this host's processes keep for each other what they read, so
	// that all this holds for all of them together; nil: for this one. A module that
	// another process read is asked for its serial number only. What could not be read
	// whole, and flags, are not shared.
	Shared *kernel.Shared

	mu    sync.Mutex
	known map[string]*pluggedModule // by the NIC's name and index
	now   func() time.Time
	pause func(context.Context, time.Duration)
}

// NewModules remembers nothing yet.
func NewModules() *Modules {
	pause := func(ctx context.Context, d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return &Modules{known: map[string]*pluggedModule{}, now: time.Now, pause: pause}
}

// pluggedModule is a module as it was last read.
type pluggedModule struct {
	// serial is what tells one module from the next in the same cage.
	serial string
	static map[moduleRegion][]byte
	module *module.Module
	err    error // of what could not be read beside it
	read   time.Time
}

// ReadAll reads the modules of all NICs of an inventory that may have one, and
// files them there.
func (m *Modules) ReadAll(ctx context.Context, r kernel.Reader, inv *Inventory) {
	s := &survey{Reader: r}
	for i := range inv.NICs {
		s.nics = append(s.nics, &inv.NICs[i])
	}
	s.askEach("module", func(n *NIC) (err error) {
		n.Module, err = m.Read(ctx, r, *n)
		return err
	})
}

// Read reads one NIC's module, or returns what was read less than a minute ago.
// With an error comes what could be read in spite of it.
func (m *Modules) Read(ctx context.Context, r kernel.Reader, nic NIC) (*module.Module, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := fmt.Sprintf("%s/%d", nic.Name, nic.Index)
	known := m.known[key]
	now := m.now()
	if known != nil && now.Sub(known.read) < moduleInterval {
		return known.module, known.err
	}
	delete(m.known, key)
	if m.Shared != nil {
		release, err := m.Shared.Lock(ctx)
		if err != nil {
			return nil, &kernel.Error{Op: "module", Object: nic.Name, Err: err}
		}
		defer release()
	}
	reading := newModuleReading(ctx, netlinkModule(r, nic), m.Flags)
	err := reading.begin()
	if kernel.ReasonOf(err) == kernel.Unsupported && !errors.Is(err, kernel.ErrNotRecorded) {
		// Linux before 5.13. Later ones ask such a driver by themselves.
		reading.fetch = ioctlModule(r, nic)
		if other := reading.begin(); other == nil || kernel.ReasonOf(other) != kernel.Unsupported {
			err = other
		}
	}
	if err != nil {
		if reason := kernel.ReasonOf(err); reason != kernel.Unsupported && reason != kernel.Gone && !errors.Is(err, context.Canceled) {
			m.known[key] = &pluggedModule{err: err, read: now}
		}
		return nil, err
	}
	name := m.sharedName(ctx, r, nic)
	if told := m.shared(name, reading.serial); told != nil {
		if age := now.Sub(told.read); m.Flags == LeaveFlags && age >= 0 && age < moduleInterval {
			m.known[key] = told
			return told.module, nil
		}
		known = told
	}
	if known != nil && known.serial == reading.serial {
		reading.before = known.static
	}
	err = reading.rest()
	if m.Flags == ReadFlagsTwice && reading.raised && ctx.Err() == nil {
		m.pause(ctx, flagsPause)
		reading = reading.again()
		if err = reading.begin(); err == nil {
			err = reading.rest()
		}
	}
	decoded, undecodable := module.Decode(reading.image)
	if undecodable != nil {
		err := &kernel.Error{Op: "module", Object: nic.Name, Err: fmt.Errorf("%w (identifier %#02x)", undecodable, reading.identifier)}
		m.known[key] = &pluggedModule{err: err, read: now}
		return nil, err
	}
	if m.Flags == ReadFlagsTwice && decoded.DOM != nil && decoded.DOM.Flags == module.ClearOnRead {
		decoded.DOM.Flags = module.ReadTwice
	}
	m.known[key] = &pluggedModule{reading.serial, reading.static, decoded, err, now}
	if err == nil && m.Flags == LeaveFlags {
		m.share(name, reading, now)
	}
	return decoded, err
}

// moduleRegion is a run of bytes in a page, by the standards' offsets.
type moduleRegion struct {
	page      module.Page
	offset, n int
}

type fetchModule func(ctx context.Context, region moduleRegion) ([]byte, error)

// moduleReading is a module while it is read.
type moduleReading struct {
	ctx        context.Context
	fetch      fetchModule
	image      *module.Image
	identifier byte
	serial     string
	static     map[moduleRegion][]byte // read now or before
	before     map[moduleRegion][]byte
	read       map[moduleRegion][]byte // all of image
	flags      Flags
	raised     bool  // a flag that reading cleared
	failed     error // the first that went wrong
}

func newModuleReading(ctx context.Context, fetch fetchModule, flags Flags) *moduleReading {
	return &moduleReading{ctx: ctx, fetch: fetch, flags: flags, image: new(module.Image), static: map[moduleRegion][]byte{}, read: map[moduleRegion][]byte{}}
}

// again reads the same module once more.
func (m *moduleReading) again() *moduleReading {
	next := newModuleReading(m.ctx, m.fetch, m.flags)
	next.before = m.static
	return next
}

// set files what was read.
func (m *moduleReading) set(region moduleRegion, data []byte) error {
	m.read[region] = data
	return m.image.Set(region.page, region.offset, data)
}

// Where each standard has its serial number and date.
var (
	serial8472 = moduleRegion{module.Lower(), 68, 28}
	serial8636 = moduleRegion{module.Upper(0), 196, 24}
	serialCMIS = moduleRegion{module.Upper(0), 166, 24}
)

// begin reads what tells whether there is a module, and which.
func (m *moduleReading) begin() error {
	start := moduleRegion{module.Lower(), 0, 3}
	first, err := m.fetch(m.ctx, start)
	if err != nil {
		return err
	}
	m.identifier = first[0]
	where := serialCMIS
	switch m.identifier {
	case 0x01, 0x02, 0x03, 0x0b:
		where = serial8472
	case 0x0c, 0x0d, 0x11:
		where = serial8636
	}
	serial, err := m.fetch(m.ctx, where)
	m.serial = string(first[:1]) + string(serial)
	return errors.Join(err, m.set(start, first))
}

// never are regions that change only with the module; now is read each time. A
// page that can't be read leaves the others as they are.
func (m *moduleReading) never(p module.Page, offset, n int) []byte {
	region := moduleRegion{p, offset, n}
	data, ok := m.before[region]
	if !ok {
		data = m.now(p, offset, n)
	} else if err := m.set(region, data); err != nil && m.failed == nil {
		m.failed = err
	}
	if data != nil {
		m.static[region] = data
	}
	return data
}

func (m *moduleReading) now(p module.Page, offset, n int) []byte {
	if m.failed != nil && lost(m.failed) {
		return nil // it would not answer this either
	}
	region := moduleRegion{p, offset, n}
	data, err := m.fetch(m.ctx, region)
	if err == nil {
		err = m.set(region, data)
	}
	if err != nil {
		if m.failed == nil {
			m.failed = err
		}
		return nil
	}
	return data
}

// latched are flags, which are cleared by being read: only where that is wanted.
func (m *moduleReading) latched(p module.Page, offset, n int) {
	if m.flags == LeaveFlags {
		return
	}
	for _, b := range m.now(p, offset, n) {
		m.raised = m.raised || b != 0
	}
}

// rest reads what there is to decode.
func (m *moduleReading) rest() error {
	switch m.identifier {
	case 0x01, 0x02, 0x03, 0x0b:
		m.rest8472()
	case 0x0c, 0x0d, 0x11:
		m.rest8636()
	default:
		m.restCMIS()
	}
	return m.failed
}

func (m *moduleReading) rest8472() {
	const ddm, addressChange = 0x40, 0x04
	a0 := m.never(module.Lower(), 0, 128)
	a2 := module.Page{Address: module.AddressA2, Lower: true}
	if a0 != nil && a0[92]&ddm != 0 && a0[92]&addressChange == 0 {
		m.never(a2, 0, 96) // thresholds and constants
		m.now(a2, 96, 32)
	}
}

func (m *moduleReading) rest8636() {
	const flat, measures = 0x04, 0x3c
	status := m.now(module.Lower(), 0, 3)
	m.latched(module.Lower(), 3, 19)
	m.now(module.Lower(), 22, 106)
	p0 := m.never(module.Upper(0), 128, 128)
	if p0 != nil && p0[220-128]&measures != 0 && status != nil && status[2]&flat == 0 {
		m.never(module.Upper(3), 128, 128)
	}
}

func (m *moduleReading) restCMIS() {
	const flat, diagnostics, vdm = 0x80, 0x20, 0x40
	status := m.now(module.Lower(), 0, 8)
	m.latched(module.Lower(), 8, 6)
	m.now(module.Lower(), 14, 114)
	m.never(module.Upper(0), 128, 128)
	if status == nil || status[2]&flat != 0 {
		return
	}
	advertised := m.never(module.Upper(1), 128, 128)
	m.never(module.Upper(2), 128, 128)
	if advertised == nil {
		return
	}
	pages := advertised[142-128]
	for bank := range []uint8{1, 2, 4, 4}[pages&3] {
		page := func(number uint8) module.Page {
			return module.Page{Address: module.AddressA0, Bank: bank, Number: number}
		}
		m.now(page(0x11), 128, 6)
		m.latched(page(0x11), 134, 20)
		m.now(page(0x11), 154, 102)
		if pages&diagnostics != 0 {
			m.never(page(0x13), 128, 16)
			m.now(page(0x14), 128, 1)
			m.now(page(0x14), 192, 64)
		}
		if pages&vdm == 0 {
			continue
		}
		groups := m.never(module.Upper(0x2f), 128, 1)
		for group := uint8(0); groups != nil && group <= groups[0]&3; group++ {
			m.never(page(0x20+group), 128, 128)
			m.now(page(0x24+group), 128, 128)
			m.never(page(0x28+group), 128, 128)
		}
		if groups != nil {
			m.latched(page(0x2c), 128, 128)
		}
	}
}

// netlinkModule fetches by ETHTOOL_MSG_MODULE_EEPROM_GET.
func netlinkModule(r kernel.Reader, nic NIC) fetchModule {
	return func(ctx context.Context, region moduleRegion) ([]byte, error) {
		body := kernel.Body{}.
			Nested(uapi.ETHTOOL_A_MODULE_EEPROM_HEADER, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, uint32(nic.Index))).
			Uint32(uapi.ETHTOOL_A_MODULE_EEPROM_OFFSET, uint32(region.offset)).
			Uint32(uapi.ETHTOOL_A_MODULE_EEPROM_LENGTH, uint32(region.n)).
			Uint8(uapi.ETHTOOL_A_MODULE_EEPROM_PAGE, region.page.Number).
			Uint8(uapi.ETHTOOL_A_MODULE_EEPROM_BANK, region.page.Bank).
			Uint8(uapi.ETHTOOL_A_MODULE_EEPROM_I2C_ADDRESS, region.page.Address)
		messages, err := r.Netlink(ctx, kernel.Request{Family: kernel.FamilyEthtool, Command: uapi.ETHTOOL_MSG_MODULE_EEPROM_GET, Body: body})
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			attributes := kernel.AttributesOf(m.Body)
			for attributes.Next() {
				if attributes.Type == uapi.ETHTOOL_A_MODULE_EEPROM_DATA && len(attributes.Data) == region.n {
					return attributes.Data, nil
				}
			}
		}
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Object: nic.Name, Err: fmt.Errorf("%w: not %d bytes of %s", kernel.ErrMalformed, region.n, region.page)}
	}
}

// ioctlModule fetches by ETHTOOL_GMODULEEEPROM, which shows an SFP's A2h behind
// its A0h and the first pages of others one after another.
func ioctlModule(r kernel.Reader, nic NIC) fetchModule {
	size := -1
	return func(ctx context.Context, region moduleRegion) ([]byte, error) {
		if size < 0 {
			const length = 8 // struct ethtool_modinfo
			info := make([]byte, 44)
			binary.NativeEndian.PutUint32(info, uapi.ETHTOOL_GMODULEINFO)
			answer, err := r.Ethtool(ctx, nic.Name, info)
			if err != nil {
				return nil, err
			}
			if len(answer) < length+4 {
				return nil, short("GMODULEINFO", nic.Name, answer)
			}
			size = int(binary.NativeEndian.Uint32(answer[length:]))
		}
		offset := region.offset
		switch p := region.page; {
		case p.Address == module.AddressA2:
			offset += 256
		case !p.Lower:
			offset += 128 * int(p.Number)
		}
		if region.page.Bank != 0 || offset+region.n > size {
			return nil, &kernel.Error{Op: "SIOCETHTOOL GMODULEEEPROM", Object: nic.Name, Err: fmt.Errorf("%w: the driver shows %d bytes, without %s", errors.ErrUnsupported, size, region.page)}
		}
		const header = 16 // struct ethtool_eeprom
		request := make([]byte, header+region.n)
		binary.NativeEndian.PutUint32(request, uapi.ETHTOOL_GMODULEEEPROM)
		binary.NativeEndian.PutUint32(request[8:], uint32(offset))
		binary.NativeEndian.PutUint32(request[12:], uint32(region.n))
		answer, err := r.Ethtool(ctx, nic.Name, request)
		if err != nil {
			return nil, err
		}
		if len(answer) != len(request) {
			return nil, short("GMODULEEEPROM", nic.Name, answer)
		}
		return answer[header:], nil
	}
}
