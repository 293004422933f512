package sriov

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// Read adds the facts about VFs to an inventory of the same host. What could not
// be read is in the Unread lists; nothing is changed.
//
// For each PF that has VFs, the kernel's RTNL lock is held while its driver asks
// the firmware about them: nothing else on the host can change a network device
// for as long.
func Read(ctx context.Context, r kernel.Reader, inv *inventory.Inventory) *Inventory {
	s := &survey{
		Reader: r, inv: &Inventory{Inventory: *inv, PFs: []PF{}},
		byAddress: map[string]*inventory.NIC{},
		configs:   map[string]configAnswer{}, groups: map[int]groupAnswer{},
	}
	for i := range inv.NICs {
		s.file(&inv.NICs[i])
	}
	s.inv.Unread = slices.Clone(inv.Unread)
	s.findPCI(ctx)
	s.findOthers(ctx)
	slices.SortFunc(s.pfs, func(a, b *physical) int {
		return cmp.Or(strings.Compare(a.Bus, b.Bus), strings.Compare(a.Address, b.Address))
	})
	if len(s.pfs) > 0 {
		s.readDevlink(ctx)
		for _, pf := range s.pfs {
			s.readVFInfo(ctx, pf)
		}
		s.readUsers(ctx)
	}
	for _, pf := range s.pfs {
		pf.VFs = make([]VF, 0, len(pf.vfs))
		for _, vf := range pf.vfs {
			pf.VFs = append(pf.VFs, vf.VF)
		}
		s.inv.PFs = append(s.inv.PFs, pf.PF)
	}
	return s.inv
}

// survey is the VFs' part of an inventory in the making.
type survey struct {
	kernel.Reader
	inv *Inventory
	pfs []*physical
	// The NICs of the inventory by the PCI address of the function that they are, not
	// of one that they only represent.
	byAddress map[string]*inventory.NIC
	configs   map[string]configAnswer // by directory
	groups    map[int]groupAnswer
}

// physical is a PF and what is needed to read on.
type physical struct {
	PF
	nic *inventory.NIC // nil where it has none here
	vfs []*virtual
	// pfNumber is the PCI function number, by which representors name it.
	pfNumber int
	// lost is the error of the question that it didn't answer in time. It is asked
	// nothing more: each would cost the others its whole deadline.
	lost error
}

// ask asks a PF, unless it has left a question without an answer.
func (pf *physical) ask(question func() error) error {
	if pf.lost != nil {
		return pf.lost
	}
	err := question()
	if late(err) {
		pf.lost = err
	}
	return err
}

// late reports whether an error is that of a question without an answer.
func late(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// virtual is a VF and what is needed to read on.
type virtual struct {
	VF
	dir string
	nic *inventory.NIC
	// elsewhere says that it has a network device that isn't in our namespace.
	elsewhere bool
	// files are the device files through which a program may drive it.
	files []string
}

type configAnswer struct {
	configSpace
	err error
}

type groupAnswer struct {
	devices []string
	err     error
}

const sysPCI = "/sys/bus/pci/devices"

// file files a NIC by the function that it is.
func (s *survey) file(n *inventory.NIC) {
	if n.PCI == nil || n.Function == inventory.Representor || n.Function == inventory.SF {
		return
	}
	// A function with several ports has a NIC for each; the first one speaks for it.
	if first := s.byAddress[n.PCI.Address]; first == nil || portNumber(n) < portNumber(first) {
		s.byAddress[n.PCI.Address] = n
	}
}

func portNumber(n *inventory.NIC) int {
	if n.Port.Number == nil {
		return 0
	}
	return *n.Port.Number
}

func (pf *physical) missed(fact string, err error) {
	pf.Unread = append(pf.Unread, unread(fact, err))
}

func (vf *virtual) missed(fact string, err error) {
	vf.Unread = append(vf.Unread, unread(fact, err))
}

func unread(fact string, err error) inventory.Unread {
	return inventory.Unread{Fact: fact, Reason: kernel.ReasonOf(err), Detail: err.Error()}
}

// findPCI looks for PFs among the host's PCI network controllers, also those
// without a network device. A recording without the bus's list still has the PFs
// of its NICs.
func (s *survey) findPCI(ctx context.Context) {
	addresses, err := s.ReadDir(ctx, sysPCI)
	if errors.Is(err, kernel.ErrNotRecorded) {
		err = nil
	}
	if err != nil && kernel.ReasonOf(err) != kernel.Unsupported { // no PCI bus
		s.inv.Unread = append(s.inv.Unread, unread("pfs", err))
	}
	found := map[string]bool{}
	for _, address := range addresses {
		const network = "0x02"
		class, err := s.ReadFile(ctx, path.Join(sysPCI, address, "class"))
		if err == nil && bytes.HasPrefix(class, []byte(network)) {
			found[address] = true
		}
	}
	for address, n := range s.byAddress {
		if n.PCI.SRIOV != nil {
			found[address] = true
		}
		if n.PCI.PhysicalFunction != "" {
			found[n.PCI.PhysicalFunction] = true
		}
	}
	for address := range found {
		target, err := s.ReadLink(ctx, path.Join(sysPCI, address))
		if err != nil {
			continue // unplugged meanwhile
		}
		dir := path.Join(sysPCI, target)
		entries, err := s.ReadDir(ctx, dir)
		if err != nil || !slices.Contains(entries, "sriov_totalvfs") {
			continue
		}
		pf := &physical{PF: PF{Bus: "pci", Address: address}, nic: s.byAddress[address]}
		pf.pfNumber = int(address[len(address)-1] - '0')
		s.readPF(ctx, pf, directory{s, dir, entries})
		s.pfs = append(s.pfs, pf)
	}
}

// findOthers looks for PFs on other buses: netdevsim's.
func (s *survey) findOthers(ctx context.Context) {
	found := map[string]*physical{}
	for i := range s.inv.NICs {
		n := &s.inv.NICs[i]
		if n.Parent == nil || n.PCI != nil || n.Function == inventory.Representor {
			continue
		}
		switch n.Parent.Bus {
		case "", "pci", "virtio", "usb", "auxiliary":
			continue
		}
		dir := path.Join("/sys/bus", n.Parent.Bus, "devices", n.Parent.Address)
		if pf := found[dir]; pf != nil {
			if portNumber(n) < portNumber(pf.nic) {
				pf.nic, pf.Name = n, n.Name
			}
			continue
		}
		entries, err := s.ReadDir(ctx, dir)
		if err != nil || !slices.Contains(entries, "sriov_numvfs") {
			continue
		}
		pf := &physical{PF: PF{Bus: n.Parent.Bus, Address: n.Parent.Address}, nic: n}
		found[dir] = pf
		s.readPF(ctx, pf, directory{s, dir, entries})
		s.pfs = append(s.pfs, pf)
	}
}

// directory is a device's directory in sysfs.
type directory struct {
	*survey
	path    string
	entries []string
}

// has reports whether the directory lists a file: that keeps "there is none"
// apart from "it can't be read".
func (d directory) has(name string) bool { return slices.Contains(d.entries, name) }

// went is what an error says of a file that the directory lists: one that isn't
// there any more went away with its device.
func (d directory) went(name string, err error) error {
	if d.has(name) {
		return gone(err)
	}
	return err
}

// number reads a file that holds a decimal number.
func (d directory) number(ctx context.Context, name string) (*int, error) {
	if !d.has(name) {
		return nil, nil
	}
	b, err := d.ReadFile(ctx, path.Join(d.path, name))
	if err != nil {
		return nil, d.went(name, err)
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%w: %s/%s holds %.40q", kernel.ErrMalformed, d.path, name, b)
	}
	return new(int(n)), nil
}

// linked is the last part of where a link leads, empty where there is none.
func (d directory) linked(ctx context.Context, name string) (string, error) {
	if !d.has(name) {
		return "", nil
	}
	target, err := d.ReadLink(ctx, path.Join(d.path, name))
	if err != nil {
		return "", d.went(name, err)
	}
	return path.Base(target), nil
}

// readPF reads what sysfs and configuration space say of a PF, and its VFs.
func (s *survey) readPF(ctx context.Context, pf *physical, d directory) {
	if pf.nic != nil {
		pf.Name = pf.nic.Name
	}
	var err error
	if pf.Driver, err = d.linked(ctx, "driver"); err != nil {
		pf.missed("driver", err)
	}
	for _, f := range []struct {
		fact, file string
		field      **int
	}{
		{"totalVfs", "sriov_totalvfs", &pf.TotalVFs},
		{"numVfs", "sriov_numvfs", &pf.NumVFs},
		{"firstVfOffset", "sriov_offset", &pf.FirstVFOffset},
		{"vfStride", "sriov_stride", &pf.VFStride},
		{"vfTotalMsix", "sriov_vf_total_msix", &pf.MSIXPool},
	} {
		if *f.field, err = d.number(ctx, f.file); err != nil {
			pf.missed(f.fact, err)
		}
	}
	if pf.MSIXPool != nil && *pf.MSIXPool == 0 {
		pf.MSIXPool = nil // what the kernel says for a driver that can't distribute them
	}
	if autoprobe, err := d.number(ctx, "sriov_drivers_autoprobe"); err != nil {
		pf.missed("driversAutoprobe", err)
	} else if autoprobe != nil {
		pf.Autoprobe = new(*autoprobe != 0)
	}
	if d.has("sriov_vf_device") {
		if b, err := d.ReadFile(ctx, path.Join(d.path, "sriov_vf_device")); err != nil {
			pf.missed("vfDeviceId", d.went("sriov_vf_device", err))
		} else if id, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 16, 16); err != nil {
			pf.missed("vfDeviceId", fmt.Errorf("%w: %s/sriov_vf_device holds %.40q", kernel.ErrMalformed, d.path, b))
		} else {
			pf.VFDeviceID = fmt.Sprintf("%04x", id)
		}
	}
	if pf.Bus != "pci" {
		return
	}
	config, err := s.config(ctx, d.path)
	if err != nil {
		pf.missed("device", d.went("config", err))
	} else if config.sriov != nil {
		pf.Device = &config.sriov.Capability
	}
	pf.PeerToPeer, err = s.readPeerToPeer(ctx, d.path, config)
	if err != nil {
		pf.missed("peerToPeer", err)
	}
	pf.Budget = budgetOf(pf.nic, config.maxPayload)
	s.listVFs(ctx, pf, d)
}

// config reads a function's configuration space, once. The kernel shows it whole
// to root only.
func (s *survey) config(ctx context.Context, dir string) (configSpace, error) {
	answer, ok := s.configs[dir]
	if !ok {
		b, err := s.ReadFile(ctx, path.Join(dir, "config"))
		if err == nil {
			answer.configSpace, err = parseConfig(b)
		}
		if err != nil {
			answer.err = fmt.Errorf("%s/config: %w", dir, err)
		}
		s.configs[dir] = answer
	}
	return answer.configSpace, answer.err
}

// readPeerToPeer reads the ports above a PF. A PF on the root bus has none, and
// nothing is known of what the root complex does.
func (s *survey) readPeerToPeer(ctx context.Context, dir string, function configSpace) (*PeerToPeer, error) {
	var ports []PortACS
	for above := path.Dir(dir); isPCIAddress(path.Base(above)); above = path.Dir(above) {
		config, err := s.config(ctx, above)
		if err != nil {
			return nil, err
		}
		ports = append(ports, PortACS{Address: path.Base(above), Kind: config.kind, ACS: config.acs})
	}
	if len(ports) == 0 {
		return nil, nil
	}
	slices.Reverse(ports)
	return peerToPeer(function.acs, ports), nil
}

// isPCIAddress reports whether s has the form domain:bus:device.function.
func isPCIAddress(s string) bool {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ':' || r == '.' })
	if len(parts) != 4 || strings.Count(s, ":") != 2 {
		return false
	}
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 16, 32); err != nil {
			return false
		}
	}
	return true
}

// listVFs follows a PF's links virtfnN.
func (s *survey) listVFs(ctx context.Context, pf *physical, d directory) {
	for _, entry := range d.entries {
		number, found := strings.CutPrefix(entry, "virtfn")
		index, err := strconv.Atoi(number)
		if !found || err != nil || index < 0 {
			continue
		}
		target, err := s.ReadLink(ctx, path.Join(d.path, entry))
		if err != nil {
			if kernel.ReasonOf(err) != kernel.Unsupported { // removed meanwhile
				pf.missed("vfs", err)
			}
			continue
		}
		vf := &virtual{VF: VF{Index: index}, dir: path.Join(d.path, target)}
		vf.Address = path.Base(vf.dir)
		s.readVF(ctx, vf)
		pf.vfs = append(pf.vfs, vf)
	}
	slices.SortFunc(pf.vfs, func(a, b *virtual) int { return a.Index - b.Index })
}

// readVF reads what sysfs and configuration space say of a VF.
func (s *survey) readVF(ctx context.Context, vf *virtual) {
	entries, err := s.ReadDir(ctx, vf.dir)
	if err != nil {
		vf.missed("address", err)
		return
	}
	d := directory{s, vf.dir, entries}
	if vf.Driver, err = d.linked(ctx, "driver"); err != nil {
		vf.missed("driver", err)
	} else {
		vf.DriverKind = driverKind(vf.Driver, d.has("vfio-dev"))
	}
	if d.has("driver_override") {
		b, err := s.ReadFile(ctx, path.Join(vf.dir, "driver_override"))
		if err != nil {
			vf.missed("driverOverride", d.went("driver_override", err))
		} else if name := string(bytes.TrimSpace(b)); name != "(null)" {
			vf.DriverOverride = strings.ToValidUTF8(name, "\uFFFD")
		}
	}
	if config, err := s.config(ctx, vf.dir); err != nil {
		vf.missed("msix", d.went("config", err))
	} else {
		vf.MSIX = config.msix
	}
	s.readGroup(ctx, vf, d)
	s.readNetdev(ctx, vf, d)
	vf.files = s.deviceFiles(ctx, vf, d)
}

// driverKind sorts a driver by its name, and by the directory that the kernel
// (6.1 and newer) gives what is bound to any of VFIO's.
func driverKind(driver string, vfio bool) DriverKind {
	switch {
	case driver == "":
		return DriverNone
	case driver == "vfio-pci":
		return DriverVFIO
	case vfio, strings.HasSuffix(driver, "vfio-pci"), strings.HasSuffix(driver, "vfio_pci"):
		return DriverVFIOVariant
	}
	return DriverKernel
}

// readGroup reads a VF's IOMMU group. Without one the VF is not behind an IOMMU
// that is in use.
func (s *survey) readGroup(ctx context.Context, vf *virtual, d directory) {
	name, err := d.linked(ctx, "iommu_group")
	if err != nil {
		vf.missed("iommu", err)
		return
	}
	if name == "" {
		return
	}
	number, err := strconv.Atoi(name)
	if err != nil {
		vf.missed("iommu", fmt.Errorf("%w: IOMMU group %.40q", kernel.ErrMalformed, name))
		return
	}
	group, ok := s.groups[number]
	if !ok {
		group.devices, group.err = s.ReadDir(ctx, fmt.Sprintf("/sys/kernel/iommu_groups/%d/devices", number))
		s.groups[number] = group
	}
	if group.err != nil {
		vf.missed("iommu", group.err)
		return
	}
	others := slices.DeleteFunc(slices.Clone(group.devices), func(a string) bool { return a == vf.Address })
	vf.IOMMU = &Group{Number: number, Own: len(others) == 0, Members: others}
}

// readNetdev finds a VF's network device here. A driver that made one, and a
// directory that lists none, mean that it is in another namespace: sysfs shows
// each namespace its own.
func (s *survey) readNetdev(ctx context.Context, vf *virtual, d directory) {
	if n := s.byAddress[vf.Address]; n != nil {
		vf.nic = n
		vf.Netdev = &Netdev{Name: n.Name, Index: n.Index, MAC: n.MAC, MTU: n.Link.MTU, State: n.Link.Oper}
		return
	}
	if !d.has("net") {
		return
	}
	names, err := s.ReadDir(ctx, path.Join(vf.dir, "net"))
	switch {
	case err != nil:
		vf.missed("netdev", d.went("net", err))
	case len(names) > 0:
		vf.Netdev = &Netdev{Name: names[0]} // came up since the inventory was read
	default:
		vf.elsewhere = true
		vf.Netdev = &Netdev{Namespace: &Namespace{}}
	}
}

// deviceFiles are the files in /dev through which a program may drive a VF.
func (s *survey) deviceFiles(ctx context.Context, vf *virtual, d directory) []string {
	var files []string
	below := func(dir, prefix, device string) {
		if !d.has(dir) {
			return
		}
		names, err := s.ReadDir(ctx, path.Join(vf.dir, dir))
		if err != nil {
			vf.missed("users", err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				files = append(files, device+name)
			}
		}
	}
	if vf.DriverKind == DriverVFIO || vf.DriverKind == DriverVFIOVariant {
		if vf.IOMMU != nil {
			number := strconv.Itoa(vf.IOMMU.Number)
			files = append(files, "/dev/vfio/"+number, "/dev/vfio/noiommu-"+number)
		}
		files = append(files, vf.dir) // see kernel.OpenFile
	}
	below("vfio-dev", "vfio", "/dev/vfio/devices/")
	below("uio", "uio", "/dev/")
	below("infiniband_verbs", "uverbs", "/dev/infiniband/")
	for _, entry := range d.entries {
		if strings.HasPrefix(entry, "vdpa") {
			below(entry, "vhost-vdpa-", "/dev/")
		}
	}
	return files
}

// readVFInfo asks a PF that has VFs for their settings and statistics.
func (s *survey) readVFInfo(ctx context.Context, pf *physical) {
	if pf.NumVFs != nil && *pf.NumVFs == 0 {
		return
	}
	if pf.nic == nil {
		pf.missed("vfs.settings", fmt.Errorf("%w: the PF has no network device in this namespace to ask", errors.ErrUnsupported))
		return
	}
	var infos []vfInfo
	var statisticsErr error
	err := pf.ask(func() (err error) {
		infos, statisticsErr, err = askVFs(ctx, s, pf.nic.Index)
		return err
	})
	if err != nil {
		pf.missed("vfs.settings", err)
	}
	if statisticsErr != nil {
		pf.missed("vfs.statistics", fmt.Errorf("too many VFs for one answer: %w", statisticsErr))
	}
	byIndex := make(map[int]*virtual, len(pf.vfs))
	for _, vf := range pf.vfs {
		byIndex[vf.Index] = vf
	}
	for _, info := range infos {
		vf := byIndex[info.index]
		if vf == nil {
			if pf.Bus == "pci" {
				continue // came up or went away between the two questions
			}
			vf = &virtual{VF: VF{Index: info.index}}
			pf.vfs = append(pf.vfs, vf)
		}
		vf.Settings, vf.Statistics = &info.settings, info.statistics
	}
	slices.SortFunc(pf.vfs, func(a, b *virtual) int { return a.Index - b.Index })
	if err == nil && pf.Bus == "pci" && len(infos) < len(pf.vfs) {
		pf.missed("vfs.settings", fmt.Errorf("%w: the driver told of %d of %d VFs", errors.ErrUnsupported, len(infos), len(pf.vfs)))
	}
}

// readDevlink reads what devlink knows of the PFs that have an instance there.
func (s *survey) readDevlink(ctx context.Context) {
	handles, err := devlinkHandles(ctx, s)
	switch {
	case late(err):
		handles = s.askHandles(ctx)
	case err != nil:
		s.inv.Unread = append(s.inv.Unread, unread("pfs.eswitch", err))
	}
	if !slices.ContainsFunc(s.pfs, func(pf *physical) bool { return handles[pf.Bus+"/"+pf.Address] }) {
		s.nameRepresentors()
		return
	}
	ports, portsErr := readPorts(ctx, s, nil)
	alone := late(portsErr) // then each is asked for its own, which takes Linux 6.6
	for _, pf := range s.pfs {
		if !handles[pf.Bus+"/"+pf.Address] {
			continue
		}
		err := pf.ask(func() (err error) {
			pf.ESwitch, err = readESwitch(ctx, s, pf.Bus, pf.Address)
			return err
		})
		if err != nil {
			pf.missed("eswitch", err)
		}
		err = pf.ask(func() (err error) {
			pf.Firmware, err = readFirmware(ctx, s, pf.Bus, pf.Address)
			return err
		})
		if err != nil {
			pf.missed("firmware", err)
		}
		if alone && pf.lost == nil {
			ports, portsErr = readPorts(ctx, s, devlinkHandle(pf))
			alone = !late(portsErr) // else the kernel still asks all of them
		}
		if err := cmp.Or(pf.lost, portsErr); err != nil {
			pf.missed("vfs.portFunction", err)
		}
		for _, port := range ports {
			if port.handle == pf.Bus+"/"+pf.Address && port.vf >= 0 {
				s.filePort(pf, port)
			}
		}
	}
	s.nameRepresentors()
}

// devlinkHandles are the devices that have an instance of devlink. With an error come
// those that were listed.
func devlinkHandles(ctx context.Context, r kernel.Reader) (map[string]bool, error) {
	handles := map[string]bool{}
	messages, err := r.Netlink(ctx, kernel.Request{Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_GET, Dump: true})
	for _, m := range messages {
		bus, device := "", ""
		a := kernel.AttributesOf(m.Body)
		for a.Next() {
			switch a.Type {
			case uapi.DEVLINK_ATTR_BUS_NAME:
				bus = a.String()
			case uapi.DEVLINK_ATTR_DEV_NAME:
				device = a.String()
			}
		}
		handles[bus+"/"+device] = true
	}
	return handles, err
}

// askHandles asks each PF whether it has an instance of devlink, when one of all the
// host's devices has held up their list. One that doesn't answer has.
func (s *survey) askHandles(ctx context.Context) map[string]bool {
	handles := map[string]bool{}
	for _, pf := range s.pfs {
		err := pf.ask(func() error {
			_, err := s.Netlink(ctx, kernel.Request{Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_GET, Body: devlinkHandle(pf)})
			return err
		})
		handles[pf.Bus+"/"+pf.Address] = err == nil || late(err)
	}
	return handles
}

// devlinkHandle names a PF in a request to devlink.
func devlinkHandle(pf *physical) kernel.Body {
	return kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, pf.Bus).String(uapi.DEVLINK_ATTR_DEV_NAME, pf.Address)
}

// filePort files a devlink port with its VF.
func (s *survey) filePort(pf *physical, port functionPort) {
	at := slices.IndexFunc(pf.vfs, func(vf *virtual) bool { return vf.Index == port.vf })
	if at < 0 {
		if pf.Bus == "pci" {
			return // a port for a VF that is not enabled
		}
		pf.vfs = append(pf.vfs, &virtual{VF: VF{Index: port.vf}})
		at = len(pf.vfs) - 1
	}
	pf.vfs[at].Representor, pf.vfs[at].PortFunction = port.netdev, port.function
}

// nameRepresentors finds representors by the name that switchdev prescribes, for
// drivers whose devlink has no ports.
func (s *survey) nameRepresentors() {
	for _, pf := range s.pfs {
		if pf.nic == nil || pf.nic.Port.SwitchID == "" {
			continue
		}
		for _, vf := range pf.vfs {
			if vf.Representor != "" {
				continue
			}
			for i := range s.inv.NICs {
				n := &s.inv.NICs[i]
				if n.Port.SwitchID == pf.nic.Port.SwitchID && isRepresentorOf(n.Port.Name, pf.pfNumber, vf.Index) {
					vf.Representor = n.Name
				}
			}
		}
	}
}
