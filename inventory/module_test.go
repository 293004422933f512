package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory/module"
)

// fakeModule is a NIC with a module from a dump.
type fakeModule struct {
	kernel.Reader
	memory    map[module.Page][]byte
	noNetlink bool // as Linux before 5.13
	ioctlSize int  // 0: the driver lacks it, too
	broken    module.Page
	asked     []moduleRegion
	// latch holds flags that clear when they are read, and comes back raised where it
	// still holds.
	latch map[moduleRegion]bool
}

func plugIn(t *testing.T, dump string) *fakeModule {
	t.Helper()
	data, err := os.ReadFile("module/testdata/" + dump + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeModule{memory: map[module.Page][]byte{}}
	var p module.Page
	for line := range strings.Lines(string(data)) {
		switch line = strings.TrimSpace(line); {
		case line == "" || line[0] == '#':
		case line == "[a0]" || line == "[lower]":
			p = module.Lower()
		case line == "[a2]":
			p = module.Page{Address: module.AddressA2, Lower: true}
		case line[0] == '[':
			p = module.Upper(unhex(t, line[len("[page "):len(line)-1]))
		default:
			for _, b := range strings.Fields(line) {
				f.memory[p] = append(f.memory[p], unhex(t, b))
			}
		}
	}
	return f
}

func unhex(t *testing.T, s string) byte {
	t.Helper()
	b, err := strconv.ParseUint(s, 16, 8)
	if err != nil {
		t.Fatal(err)
	}
	return byte(b)
}

func (f *fakeModule) read(region moduleRegion) ([]byte, error) {
	f.asked = append(f.asked, region)
	if region.page == f.broken && f.broken != (module.Page{}) {
		return nil, syscall.EIO
	}
	memory, ok := f.memory[region.page]
	at := region.offset
	if !region.page.Lower {
		at -= 128
	}
	if !ok || at < 0 || at+region.n > len(memory) {
		return nil, syscall.EINVAL
	}
	data := memory[at : at+region.n]
	if still, ok := f.latch[region]; ok && !still {
		data, memory = slices.Clone(data), slices.Clone(memory)
		clear(memory[at : at+region.n])
		f.memory[region.page] = memory
	}
	return data, nil
}

func (f *fakeModule) ReadLink(context.Context, string) (string, error) { return "net:[1]", nil }

func (f *fakeModule) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	if f.noNetlink {
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Err: syscall.EOPNOTSUPP}
	}
	var region moduleRegion
	attributes := kernel.AttributesOf(req.Body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_MODULE_EEPROM_OFFSET:
			region.offset = int(attributes.Uint32())
		case uapi.ETHTOOL_A_MODULE_EEPROM_LENGTH:
			region.n = int(attributes.Uint32())
		case uapi.ETHTOOL_A_MODULE_EEPROM_PAGE:
			region.page.Number = attributes.Uint8()
		case uapi.ETHTOOL_A_MODULE_EEPROM_BANK:
			region.page.Bank = attributes.Uint8()
		case uapi.ETHTOOL_A_MODULE_EEPROM_I2C_ADDRESS:
			region.page.Address = attributes.Uint8()
		}
	}
	region.page.Lower = region.offset < 128 // as the kernel sees it
	if attributes.Err() != nil || region.n == 0 || region.n > 128 || region.page.Lower && (region.page.Number != 0 || region.offset+region.n > 128) {
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Err: syscall.EINVAL}
	}
	data, err := f.read(region)
	if err != nil {
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Err: err}
	}
	return []kernel.Message{{Body: kernel.Body{}.Bytes(uapi.ETHTOOL_A_MODULE_EEPROM_DATA, data)}}, nil
}

func (f *fakeModule) Ethtool(_ context.Context, device string, arg []byte) ([]byte, error) {
	answer := slices.Clone(arg)
	switch {
	case f.ioctlSize == 0:
		return nil, &kernel.Error{Op: "SIOCETHTOOL", Object: device, Err: syscall.EOPNOTSUPP}
	case binary.NativeEndian.Uint32(arg) == uapi.ETHTOOL_GMODULEINFO:
		binary.NativeEndian.PutUint32(answer[8:], uint32(f.ioctlSize))
	default:
		offset, n := int(binary.NativeEndian.Uint32(arg[8:])), int(binary.NativeEndian.Uint32(arg[12:]))
		flat := slices.Concat(f.memory[module.Lower()], f.memory[module.Upper(0)], f.memory[module.Page{Address: module.AddressA2, Lower: true}], f.memory[module.Upper(1)], f.memory[module.Upper(2)], f.memory[module.Upper(3)])
		if offset+n > f.ioctlSize || offset+n > len(flat) {
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Object: device, Err: syscall.EINVAL}
		}
		f.asked = append(f.asked, moduleRegion{offset: offset, n: n})
		copy(answer[16:], flat[offset:offset+n])
	}
	return answer, nil
}

var port = NIC{Name: "eth0", Index: 7}

func TestReadModule(t *testing.T) {
	for _, test := range []struct {
		dump, serial string
		lanes        int
		observables  bool
	}{
		{"sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0", "MUP0WB0", 1, false},
		{"qsfp-40g-sr4-finisar-ftl410qe3c", "ETG09FZ", 4, false},
		{"edited-cmis-400g-lr4-vdm", "", 8, true},
	} {
		f := plugIn(t, test.dump)
		m, err := NewModules().Read(t.Context(), f, port)
		if m == nil {
			t.Fatalf("%s: %v", test.dump, err)
		}
		// Pages that its publisher left out of this one are advertised.
		if err != nil && !test.observables {
			t.Errorf("%s: %v", test.dump, err)
		}
		if m.SerialNumber != test.serial || m.DOM == nil || len(m.DOM.Lanes) != test.lanes || m.DOM.Thresholds.RXPower == nil || (len(m.Observables) > 0) != test.observables {
			t.Errorf("%s: %+v", test.dump, m)
		}
		// Reading these would clear them.
		if m.DOM.Flags == "clear-on-read" && (m.DOM.Temperature.Flags != nil || m.DOM.Lanes[0].RXPower.Flags != nil || m.DOM.Lanes[0].RXLossOfSignal != nil) {
			t.Errorf("%s: flags were read", test.dump)
		}
		for _, region := range f.asked {
			for _, flags := range []moduleRegion{{module.Lower(), 8, 6}, {module.Upper(0x11), 134, 20}, {module.Upper(0x2c), 128, 128}} {
				if m.Standard == module.CMIS && region.page == flags.page && region.offset < flags.offset+flags.n && flags.offset < region.offset+region.n {
					t.Errorf("%s: %v was read, which clears flags", test.dump, region)
				}
			}
		}
	}
}

// TestReadModuleByIoctl is for kernels without pages in netlink.
func TestReadModuleByIoctl(t *testing.T) {
	f := plugIn(t, "qsfp-40g-sr4-finisar-ftl410qe3c")
	f.noNetlink, f.ioctlSize = true, 640
	m, err := NewModules().Read(t.Context(), f, port)
	if err != nil || m.SerialNumber != "ETG09FZ" || m.DOM.Thresholds.TXPower == nil {
		t.Errorf("%v: %+v", err, m)
	}
	f.ioctlSize = 256 // without page 03h
	m, err = NewModules().Read(t.Context(), f, port)
	if kernel.ReasonOf(err) != kernel.Unsupported || m == nil || m.DOM.Thresholds.TXPower != nil || m.DOM.Temperature == nil {
		t.Errorf("%v: %+v", err, m)
	}
	s := plugIn(t, "sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0")
	s.memory[module.Upper(0)] = make([]byte, 128) // the vendor's half, which the dump lacks
	s.noNetlink, s.ioctlSize = true, 512
	if m, err := NewModules().Read(t.Context(), s, port); err != nil || m.SerialNumber != "MUP0WB0" || m.DOM == nil {
		t.Errorf("%v: %+v", err, m)
	}
	s.ioctlSize = 0
	if m, err := NewModules().Read(t.Context(), s, port); m != nil || kernel.ReasonOf(err) != kernel.Unsupported {
		t.Errorf("%v: %+v", err, m)
	}
}

// TestModulesRemember: the bus is slow.
func TestModulesRemember(t *testing.T) {
	f := plugIn(t, "qsfp-40g-sr4-finisar-ftl410qe3c")
	m := NewModules()
	now := time.Unix(1000, 0)
	m.now = func() time.Time { return now }
	read := func() int {
		t.Helper()
		f.asked = nil
		if got, err := m.Read(t.Context(), f, port); err != nil || got.DOM == nil || got.Vendor != "FINISAR CORP" {
			t.Fatalf("%v: %+v", err, got)
		}
		return len(f.asked)
	}
	static := func() bool {
		return slices.ContainsFunc(f.asked, func(r moduleRegion) bool { return r.page == module.Upper(3) })
	}
	read()
	if !static() {
		t.Error("page 03h was not read")
	}
	now = now.Add(59 * time.Second)
	if n := read(); n != 0 {
		t.Errorf("%d reads within a minute", n)
	}
	now = now.Add(time.Second)
	if n := read(); n == 0 || static() {
		t.Errorf("%d reads, %v: static pages are read once", n, f.asked)
	}
	f.memory[module.Upper(0)] = slices.Clone(f.memory[module.Upper(0)])
	f.memory[module.Upper(0)][196-128] = 'X' // another module
	now = now.Add(time.Hour)
	if read(); !static() {
		t.Error("a new module was taken for the old one")
	}
}

// TestModulesRememberWhatFails: so is a cage that can't be read.
func TestModulesRememberWhatFails(t *testing.T) {
	f := plugIn(t, "qsfp-40g-sr4-finisar-ftl410qe3c")
	whole := maps.Clone(f.memory)
	m := NewModules()
	now := time.Unix(1000, 0)
	m.now = func() time.Time { return now }
	asks := func(what string, fails bool) int {
		t.Helper()
		f.asked = nil
		got, err := m.Read(t.Context(), f, port)
		if fails != (err != nil) || fails != (got == nil) {
			t.Fatalf("%s: %v: %+v", what, err, got)
		}
		return len(f.asked)
	}
	for what, breaks := range map[string]func(){
		"can't be read": func() { f.broken = module.Lower() },
		"can't be decoded": func() {
			for _, p := range []module.Page{module.Lower(), module.Upper(0)} {
				f.memory[p] = slices.Concat([]byte{0xee}, whole[p][1:])
			}
		},
	} {
		breaks()
		now = now.Add(time.Hour)
		asks(what, true)
		now = now.Add(59 * time.Second)
		if n := asks(what, true); n != 0 {
			t.Errorf("%s: %d reads within a minute", what, n)
		}
		f.broken, f.memory = module.Page{}, maps.Clone(whole)
		now = now.Add(time.Second)
		if n := asks(what, false); n == 0 {
			t.Errorf("%s: not read again after a minute", what)
		}
	}
	f.noNetlink, f.ioctlSize = true, 0
	now = now.Add(time.Hour)
	asks("no module", true)
	f.noNetlink = false
	asks("one that is plugged in", false)
}

// TestSickPage: what can't be read takes nothing else along, and is told.
func TestSickPage(t *testing.T) {
	f := plugIn(t, "qsfp-40g-sr4-finisar-ftl410qe3c")
	f.broken = module.Upper(3)
	inv := &Inventory{NICs: []NIC{port}}
	NewModules().ReadAll(t.Context(), f, inv)
	n := inv.NICs[0]
	if n.Module == nil || n.Module.DOM.Temperature == nil || n.Module.DOM.Thresholds.Temperature != nil || unreadOf(&n, "module") == "" {
		t.Errorf("%+v, %q", n.Module, n.Unread)
	}
	f.broken = module.Lower()
	if m, err := NewModules().Read(t.Context(), f, port); m != nil || !errors.Is(err, syscall.EIO) {
		t.Errorf("%v: %+v", err, m)
	}
}

// TestFlags: flags are read where that is asked for, and twice they tell of now.
func TestFlags(t *testing.T) {
	signals := moduleRegion{module.Lower(), 3, 19}
	for _, test := range []struct {
		name          string
		flags         Flags
		raised, still bool
		want, pauses  string
	}{
		{"left", LeaveFlags, true, true, "absent", ""},
		{"read", ReadFlags, true, false, "raised clear-on-read", ""},
		{"of the past", ReadFlagsTwice, true, false, "clear read-twice", "1s"},
		{"of now", ReadFlagsTwice, true, true, "raised read-twice", "1s"},
		{"never raised", ReadFlagsTwice, false, false, "clear read-twice", ""},
	} {
		f := plugIn(t, "qsfp-40g-sr4-finisar-ftl410qe3c")
		f.latch = map[moduleRegion]bool{signals: test.still}
		lower := slices.Clone(f.memory[module.Lower()])
		clear(lower[3:22])
		if test.raised {
			lower[3] = 0x02 // RX LOS of lane 2
		}
		f.memory[module.Lower()] = lower
		m := NewModules()
		m.Flags = test.flags
		pauses := ""
		m.pause = func(_ context.Context, d time.Duration) { pauses += d.String() }
		got, err := m.Read(t.Context(), f, port)
		if err != nil {
			t.Fatal(err)
		}
		said := "absent"
		if los := got.DOM.Lanes[1].RXLossOfSignal; los != nil {
			said = map[bool]string{true: "raised ", false: "clear "}[*los] + got.DOM.Flags
		}
		if said != test.want || pauses != test.pauses || got.DOM.Lanes[0].RXLossOfSignal != nil && *got.DOM.Lanes[0].RXLossOfSignal {
			t.Errorf("%s: %s, want %s; paused %q", test.name, said, test.want, pauses)
		}
	}
	// A CMIS module's are in three places.
	f := plugIn(t, "edited-osfp-2x400g-fr4-lite")
	m := NewModules()
	m.Flags = ReadFlags
	if got, err := m.Read(t.Context(), f, port); got == nil || got.DOM.Lanes[0].RXLossOfSignal == nil || got.DOM.Temperature.Flags == nil {
		t.Errorf("%v: %+v", err, got)
	}
	if !slices.Contains(f.asked, moduleRegion{module.Upper(0x2c), 128, 128}) {
		t.Error("flags of page 2Ch were not read")
	}
}

// TestModulesShared: processes tell each other what they read.
func TestModulesShared(t *testing.T) {
	f := plugIn(t, "qsfp-40g-sr4-finisar-ftl410qe3c")
	dir := filepath.Join(t.TempDir(), "run")
	now := time.Unix(1000, 0)
	process := func() *Modules {
		shared, err := kernel.OpenShared(dir)
		if err != nil {
			t.Fatal(err)
		}
		m := NewModules()
		m.Shared, m.now = shared, func() time.Time { return now }
		return m
	}
	reads := func(m *Modules) (*module.Module, []moduleRegion) {
		t.Helper()
		f.asked = nil
		got, err := m.Read(t.Context(), f, port)
		if err != nil {
			t.Fatal(err)
		}
		return got, f.asked
	}
	identity := []moduleRegion{{module.Lower(), 0, 3}, serial8636}
	first, asked := reads(process())
	if len(asked) <= len(identity) {
		t.Fatalf("only %v", asked)
	}
	now = now.Add(59 * time.Second)
	if again, asked := reads(process()); !reflect.DeepEqual(again, first) || !slices.Equal(asked, identity) {
		t.Errorf("read %v; %+v, want %+v", asked, again, first)
	}
	now = now.Add(time.Second)
	if _, asked := reads(process()); len(asked) <= len(identity) || slices.Contains(asked, moduleRegion{module.Upper(3), 128, 128}) {
		t.Errorf("after a minute %v were read: what is measured, and no page that never changes", asked)
	}
	// Another module, at once; one whose flags are asked for; and nonsense in the folder.
	f.memory[module.Upper(0)] = slices.Clone(f.memory[module.Upper(0)])
	f.memory[module.Upper(0)][196-128] = 'X'
	if got, asked := reads(process()); got.SerialNumber == first.SerialNumber || !slices.Contains(asked, moduleRegion{module.Upper(3), 128, 128}) {
		t.Errorf("%s after %s: %v", got.SerialNumber, first.SerialNumber, asked)
	}
	flags := process()
	flags.Flags = ReadFlags
	if got, _ := reads(flags); got.DOM.Lanes[0].RXLossOfSignal == nil {
		t.Error("without flags")
	}
	if got, _ := reads(process()); got.DOM.Lanes[0].RXLossOfSignal != nil {
		t.Error("flags that one process asked for were shown by another")
	}
	names, err := filepath.Glob(filepath.Join(dir, "module-*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if err := os.WriteFile(names[0], []byte(`{"serial":"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, asked := reads(process()); got.DOM == nil || len(asked) <= len(identity) {
		t.Errorf("%v: %+v", asked, got)
	}
	// One at a time, and a context ends the wait.
	holder, err := process().Shared.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f.asked = nil
	if _, err := process().Read(ctx, f, port); !errors.Is(err, context.DeadlineExceeded) || len(f.asked) != 0 {
		t.Errorf("%v, and %v was read", err, f.asked)
	}
	holder()
	reads(process())
}
