package sriov

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// VFState is what a PF's VFs are set to, in the words of ip link, by the VF's
// number and the setting's name: "3.vlan": "100 qos 2". What a driver says nothing
// of is absent.
//
// keyAutoprobe is the PF's: it is on while a VF is given its network driver, and a
// journal that knows what it was can put it back.
type VFState map[string]string

// The settings of a VF.
const (
	keyMAC      = "mac"
	keyVLAN     = "vlan"
	keyTrust    = "trust"
	keySpoofchk = "spoofchk"
	keyState    = "state"
	keyMinRate  = "min-tx-rate"
	keyMaxRate  = "max-tx-rate"
	keyDriver   = "driver"
	keyMSIX     = "msix"
	keyMTU      = "mtu"

	keyAutoprobe = "autoprobe"
)

// noMTU is the MTU of a VF that has no network device.
const noMTU = "none"

// VFWish is what policies say of one VF or some.
type VFWish struct {
	VF        *string `json:"vf,omitempty" form:"numbers: 3, \"0-3\" or \"0,2,4-7\"" doc:"which virtual functions"`
	MAC       *string `json:"mac,omitempty" form:"a MAC address, or derived" words:"derived" doc:"the address that the VF has to use; derived is one made of the PF's address and the VF's number, the same each time; all zeros let the VF choose"`
	VLAN      *uint32 `json:"vlan,omitempty" doc:"the VLAN that the VF is put in without knowing, 1 to 4094; 0 is none"`
	QoS       *uint32 `json:"qos,omitempty" doc:"priority of its frames in that VLAN, 0 to 7"`
	Proto     *string `json:"proto,omitempty" words:"802.1Q,802.1ad" doc:"protocol of that VLAN's tag"`
	Trust     *bool   `json:"trust,omitempty" doc:"whether the VF may change its address and see more than its own packets"`
	Spoofchk  *bool   `json:"spoofchk,omitempty" doc:"whether frames from other addresses than the VF's own are dropped"`
	State     *string `json:"state,omitempty" words:"auto,enable,disable" doc:"the VF's link: as the PF's, always up, or down"`
	MinTxRate *uint32 `json:"min-tx-rate,omitempty" doc:"Mbit/s that the VF has in any case; 0 is none"`
	MaxTxRate *uint32 `json:"max-tx-rate,omitempty" doc:"Mbit/s that the VF has at most; 0 is no limit"`
	MTU       *uint32 `json:"mtu,omitempty" example:"1500" doc:"MTU of the VF's network device, where it has one here"`
	MSIX      *uint32 `json:"msix,omitempty" example:"16" doc:"MSI-X vectors that the VF has, out of the PF's pool (sriov_vf_total_msix)"`
	Driver    *string `json:"driver,omitempty" words:"netdev,vfio-pci,none" doc:"netdev: the one that makes a network device of it; vfio-pci: for a VM or a program; none: kept free of any"`
}

// VFs is ip link set PF vf N, and the VFs' drivers.
func VFs() tuning.Knob[VFState] {
	return tuning.Knob[VFState]{
		Name: "vfs",
		Doc: "What a PF's virtual functions are set to (ip link set PF vf N), and which driver they have. VFs and fields that are not named " +
			"stay as they are. A VF whose address, VLAN or number of vectors changes has its driver taken away for a moment; where somebody uses " +
			"it, that is refused unless --disrupt names the VF; so is to take its link down (state: disable).",
		After:      []string{CountSetting, SwitchSetting, FunctionSetting},
		Impact:     func(inventory.NIC, VFState, VFState) tuning.Impact { return tuning.Seamless },
		Wish:       tuning.WishOf(resolveVFs),
		RemakesVFs: true,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit VFState, err error) {
			current, err = readVFs(ctx, r, nic)
			return current, VFState{}, err
		},
		// Without a network device the MTU is whatever comes with one.
		Volatile: func(current VFState) []string {
			var keys []string
			for key, value := range current {
				if _, name := splitKey(key); name == keyMTU && value == noMTU {
					keys = append(keys, key)
				}
			}
			return keys
		},
		Keep: keepVFs,
		Takes: func(current, next VFState) time.Duration {
			return timeFor(len(changesOf(current, next)))
		},
		Victims: func(ctx context.Context, r kernel.Reader, nic inventory.NIC, current, next VFState) ([]tuning.Victim, error) {
			hit := map[int]loss{}
			for key, value := range next {
				index, name := splitKey(key)
				was, there := current[key]
				switch {
				case !there || was == value:
				case name == keyMAC, name == keyVLAN, name == keyDriver, name == keyMSIX:
					hit[index] = itself
				case name == keyState && value == "disable" && hit[index] == nothing:
					hit[index] = itsLink
				}
			}
			if len(hit) == 0 {
				return nil, nil
			}
			return victims(ctx, r, nic, "vfs", false, func(index int) loss { return hit[index] })
		},
		Write: writeVFs,
	}
}

// keepVFs leaves autoprobe to the setting vf-drivers, and in another mode of the
// switch leaves to the driver what is of the mode legacy: in switchdev mlx5 and ice
// refuse VLANs, ice trust (ice_set_vf_trust), and rules decide what is dropped.
func keepVFs(ask tuning.Ask, before VFState) (VFState, error) {
	kept := maps.Clone(before)
	delete(kept, keyAutoprobe)
	if planned, ok := tuning.Get[Count](ask.Planned, CountSetting); ok && planned.VFs != nil {
		if numbers := chosenBy(ask.NIC, before, int(*planned.VFs)); len(numbers) > 0 {
			ask.Doubt(fmt.Sprintf("VF %s: the address is assigned anew. If its user chose it, and not its PF, that user can change it no more "+
				"without trust: on", strings.Join(numbers, ", ")))
		}
	}
	if planned, ok := tuning.Get[SwitchState](ask.Planned, SwitchSetting); ok && planned.Mode != nil && *planned.Mode != modeLegacy {
		maps.DeleteFunc(kept, func(key, _ string) bool {
			_, name := splitKey(key)
			return name == keyVLAN || name == keyTrust || name == keySpoofchk
		})
	}
	return kept, nil
}

// chosenBy are those of the first n VFs whose users may have chosen their addresses:
// what a network device's driver asks for these list like what the PF assigned
// (igb_set_vf_mac, ixgbe_set_vf_mac, i40e_update_vf_mac_addr, ice_vfhw_mac_add).
func chosenBy(pf inventory.NIC, state VFState, n int) (numbers []string) {
	if pf.Driver == nil || !slices.Contains([]string{"igb", "ixgbe", "i40e", "ice"}, pf.Driver.Name) {
		return nil
	}
	for index := range n {
		mac := state[keyOf(index, keyMAC)]
		if mac != "" && mac != noAddress && mac != derivedMAC(&pf, index) && state[keyOf(index, keyDriver)] == networkDriver && state[keyOf(index, keyTrust)] != "on" {
			numbers = append(numbers, strconv.Itoa(index))
		}
	}
	return numbers
}

func keyOf(index int, name string) string { return strconv.Itoa(index) + "." + name }

// splitKey takes a key apart; the number of one that is none of ours is -1.
func splitKey(key string) (index int, name string) {
	number, name, _ := strings.Cut(key, ".")
	index, err := strconv.Atoi(number)
	if err != nil {
		return -1, name
	}
	return index, name
}

func readVFs(ctx context.Context, r kernel.Reader, nic inventory.NIC) (VFState, error) {
	d, err := deviceOf(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	state := VFState{}
	switch on, err := d.autoprobe(ctx); {
	case err != nil:
		return nil, err
	case on != nil:
		state[keyAutoprobe] = onOff(*on)
	}
	if *d.NumVFs == 0 {
		return state, nil
	}
	if err := d.list(ctx); err != nil {
		return nil, err
	}
	pool, err := d.msixPool(ctx)
	if err != nil {
		return nil, err
	}
	for _, vf := range d.vfs {
		state[keyOf(vf.Index, keyDriver)] = vf.drivenBy()
		if pool > 0 && vf.MSIX != nil {
			state[keyOf(vf.Index, keyMSIX)] = strconv.Itoa(*vf.MSIX)
		}
		switch {
		case vf.Netdev == nil:
			state[keyOf(vf.Index, keyMTU)] = noMTU
		case vf.Netdev.Name != "":
			mtu, err := d.ReadFile(ctx, vf.file("mtu"))
			if reason := kernel.ReasonOf(err); err != nil && reason != kernel.Unsupported && reason != kernel.Gone { // it was taken away meanwhile
				return nil, err
			}
			if err == nil {
				state[keyOf(vf.Index, keyMTU)] = strings.TrimSpace(string(mtu))
			}
		}
	}
	infos, _, err := askVFs(ctx, r, nic.Index)
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		set := func(name, value string) { state[keyOf(info.index, name)] = value }
		s := &info.settings
		if s.MAC != "" {
			set(keyMAC, s.MAC)
		}
		set(keyVLAN, vlanWords(s.VLANs))
		for name, on := range map[string]*bool{keyTrust: s.Trust, keySpoofchk: s.SpoofCheck} {
			if on != nil {
				set(name, onOff(*on))
			}
		}
		for name, rate := range map[string]*uint32{keyMinRate: s.MinTxRate, keyMaxRate: s.MaxTxRate} {
			if rate != nil {
				set(name, strconv.FormatUint(uint64(*rate), 10))
			}
		}
		if s.LinkState != "" {
			set(keyState, s.LinkState)
		}
	}
	return state, nil
}

// file is a file of the VF's network device.
func (vf *virtual) file(name string) string { return path.Join(vf.dir, "net", vf.Netdev.Name, name) }

// msixPool is how many MSI-X vectors the PF has for its VFs; 0 where it can't
// distribute them.
func (d *device) msixPool(ctx context.Context) (int, error) {
	n, err := d.number(ctx, "sriov_vf_total_msix")
	if err != nil || n == nil {
		return 0, err
	}
	return *n, nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// vlanWords are a VF's VLAN as ip takes it.
func vlanWords(tags []VLANTag) string {
	if len(tags) == 0 {
		return "none"
	}
	var words []string
	for _, tag := range tags {
		s := strconv.Itoa(tag.ID)
		if tag.QoS != 0 {
			s += fmt.Sprintf(" qos %d", tag.QoS)
		}
		if tag.Protocol != "" && tag.Protocol != "802.1Q" {
			s += " proto " + tag.Protocol
		}
		words = append(words, s)
	}
	return strings.Join(words, ", ")
}

// parseVLAN reads what vlanWords wrote.
func parseVLAN(words string) (tag VLANTag, err error) {
	tag.Protocol = "802.1Q"
	if words == "none" {
		return tag, nil
	}
	fields := strings.Fields(words)
	if len(fields)%2 == 0 {
		return tag, fmt.Errorf("%q is no VLAN", words)
	}
	if tag.ID, err = strconv.Atoi(fields[0]); err != nil {
		return tag, fmt.Errorf("%q is no VLAN", words)
	}
	for i := 1; i < len(fields); i += 2 {
		switch fields[i] {
		case "qos":
			if tag.QoS, err = strconv.Atoi(fields[i+1]); err != nil {
				return tag, fmt.Errorf("%q is no VLAN", words)
			}
		case "proto":
			tag.Protocol = fields[i+1]
		default:
			return tag, fmt.Errorf("%q is no VLAN", words)
		}
	}
	return tag, nil
}

// resolveVFs gives the named VFs what each item says.
func resolveVFs(ctx context.Context, ask tuning.Ask, wish []VFWish, current VFState) (VFState, error) {
	d, err := deviceOf(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return nil, err
	}
	vfs := d.planned(ask)
	next := maps.Clone(current)
	if next == nil {
		next = VFState{}
	}
	said := map[string]bool{}
	for i, w := range wish {
		if err := w.into(ctx, d, current, next, said, vfs); err != nil {
			return nil, &tuning.ItemError{Item: i, Err: err}
		}
	}
	if err := giveNetdevs(next, said); err != nil {
		return nil, err
	}
	if rebound := reboundBy(changesOf(current, next), current); len(rebound) > 0 && vfs == *d.NumVFs {
		ask.Doubt(fmt.Sprintf("the driver is taken from VF %s for a moment: its network device is a new one after that, with its MTU and up or down "+
			"as before, and otherwise as the driver makes it (rings, channels, features)", strings.Join(rebound, ", ")))
	}
	return next, d.enoughVectors(ctx, current, next)
}

// reboundBy are the VFs with a network device that is lost for a moment although
// nobody wants another driver.
func reboundBy(changes map[int]map[string]string, current VFState) (numbers []string) {
	for _, index := range slices.Sorted(maps.Keys(changes)) {
		if _, another := changes[index][keyDriver]; !another && current[keyOf(index, keyDriver)] == networkDriver && rebinds(changes[index], networkDriver) {
			numbers = append(numbers, strconv.Itoa(index))
		}
	}
	return numbers
}

// rebinds says whether a VF is taken from its driver for a change of other settings. A
// driver learns its VF's address when it is bound, and some their VLAN. The kernel
// takes another number of vectors only while there is none.
func rebinds(change map[string]string, driver string) bool {
	return change[keyMSIX] != "" || driver == networkDriver && (change[keyMAC] != "" || change[keyVLAN] != "")
}

// giveNetdevs gives VFs without a driver a network device, where an MTU is said of
// it.
func giveNetdevs(next VFState, said map[string]bool) error {
	for key := range said {
		index, name := splitKey(key)
		if name != keyMTU {
			continue
		}
		switch driver := next[keyOf(index, keyDriver)]; driver {
		case "", unbound:
			next[keyOf(index, keyDriver)] = networkDriver
		case networkDriver:
		default:
			return fmt.Errorf("VF %d: mtu is of its network device, and it has none: its driver is %s", index, driver)
		}
	}
	return nil
}

// enoughVectors says if the VFs are to have more MSI-X vectors than there are.
func (d *device) enoughVectors(ctx context.Context, current, next VFState) error {
	sum, changes := 0, false
	for key, value := range next {
		if _, name := splitKey(key); name == keyMSIX {
			n, _ := strconv.Atoi(value)
			sum, changes = sum+n, changes || value != current[key]
		}
	}
	if !changes {
		return nil
	}
	if pool, err := d.msixPool(ctx); err != nil || sum > pool {
		more := ""
		if d.Driver == "mlx5_core" {
			more = fmt.Sprintf("; more are set in the firmware: mlxconfig -d %s set NUM_VF_MSIX=N, for each VF, and a restart of the device", d.Address)
		}
		return cmp.Or(err, fmt.Errorf("msix: the VFs would have %d vectors, and the PF has %d for them (sriov_vf_total_msix)%s", sum, pool, more))
	}
	return nil
}

// planned is how many VFs there will be.
func (d *device) planned(ask tuning.Ask) int {
	if planned, ok := tuning.Get[Count](ask.Planned, CountSetting); ok && planned.VFs != nil {
		return int(*planned.VFs)
	}
	return *d.NumVFs
}

// someVFs reads which VFs an item of a list is about, of so many.
func someVFs(words *string, vfs int) (inventory.CPUSet, error) {
	if words == nil {
		return inventory.CPUSet{}, errors.New("vf is missing: which virtual functions")
	}
	numbers, err := inventory.ParseCPUSet(*words)
	if err != nil || numbers.Len() == 0 {
		return numbers, fmt.Errorf("vf: %q is no list of numbers such as 0-3 or 0,2", *words)
	}
	for index := range numbers.All() {
		if index >= vfs {
			return numbers, fmt.Errorf("there is no VF %d: the PF has %s", index, count(vfs))
		}
	}
	return numbers, nil
}

// into puts the wish into the state.
func (w VFWish) into(ctx context.Context, d *device, current, next VFState, said map[string]bool, vfs int) error {
	numbers, err := someVFs(w.VF, vfs)
	if err != nil {
		return err
	}
	words, err := w.words(ctx, d)
	if err != nil {
		return err
	}
	for index := range numbers.All() {
		for name, value := range words {
			key := keyOf(index, name)
			if said[key] {
				return fmt.Errorf("another item of the list says %s of VF %d, too", name, index)
			}
			said[key] = true
			if _, there := current[keyOf(index, keyVLAN)]; there && current[key] == "" {
				return fmt.Errorf("%w: the driver says nothing of %s", errors.ErrUnsupported, name)
			}
			if name == keyMAC {
				if value, err = d.macFor(value, index, numbers.Len()); err != nil {
					return err
				}
			}
			next[key] = value
		}
		least, _ := strconv.Atoi(next[keyOf(index, keyMinRate)])
		most, _ := strconv.Atoi(next[keyOf(index, keyMaxRate)])
		if most > 0 && least > most {
			return fmt.Errorf("VF %d: min-tx-rate %d is above max-tx-rate %d", index, least, most)
		}
	}
	return nil
}

// words are the settings that an item names, without what is known to be refused.
func (w VFWish) words(ctx context.Context, d *device) (map[string]string, error) {
	words := map[string]string{}
	switch {
	case w.VLAN == nil && (w.QoS != nil || w.Proto != nil):
		return nil, errors.New("qos and proto are of a VLAN: vlan is missing")
	case w.VLAN != nil:
		tag := VLANTag{ID: int(*w.VLAN), Protocol: "802.1Q"}
		if w.QoS != nil {
			tag.QoS = int(*w.QoS)
		}
		if w.Proto != nil {
			tag.Protocol = *w.Proto
		}
		if tag.ID > 4094 || tag.QoS > 7 {
			return nil, fmt.Errorf("vlan %d qos %d: VLANs are 0 to 4094, priorities 0 to 7", tag.ID, tag.QoS)
		}
		words[keyVLAN] = "none"
		if tag.ID != 0 || tag.QoS != 0 {
			words[keyVLAN] = vlanWords([]VLANTag{tag})
		}
	}
	for name, on := range map[string]*bool{keyTrust: w.Trust, keySpoofchk: w.Spoofchk} {
		if on != nil {
			words[name] = onOff(*on)
		}
	}
	for name, n := range map[string]*uint32{keyMinRate: w.MinTxRate, keyMaxRate: w.MaxTxRate, keyMTU: w.MTU, keyMSIX: w.MSIX} {
		if n != nil {
			words[name] = strconv.FormatUint(uint64(*n), 10)
		}
	}
	if w.MSIX != nil {
		switch pool, err := d.msixPool(ctx); {
		case err != nil:
			return nil, err
		case pool == 0:
			return nil, fmt.Errorf("%w: msix: the driver does not distribute vectors among VFs", errors.ErrUnsupported)
		case *w.MSIX == 0:
			return nil, errors.New("msix: a VF has at least one vector")
		}
	}
	if w.MTU != nil && d.Bus != "pci" {
		return nil, fmt.Errorf("%w: the VFs of this device have no network devices of their own", errors.ErrUnsupported)
	}
	for name, word := range map[string]*string{keyMAC: w.MAC, keyState: w.State, keyDriver: w.Driver} {
		if word != nil {
			words[name] = *word
		}
	}
	if err := d.refuses(words); err != nil {
		return nil, err
	}
	return words, d.canDrive(ctx, words[keyDriver])
}

// refuses is what a driver is known to refuse by its source, so that it is known
// before anything is written. Of other drivers the kernel says it in time to undo.
func (d *device) refuses(words map[string]string) error {
	if d.Driver != "igb" { // drivers/net/ethernet/intel/igb/igb_main.c
		return nil
	}
	switch {
	case strings.Contains(words[keyVLAN], "proto"):
		return fmt.Errorf("%w: igb puts VFs in VLANs of 802.1Q only (protocol not supported)", errors.ErrUnsupported)
	case words[keyMinRate] != "" && words[keyMinRate] != "0":
		return fmt.Errorf("%w: igb takes no min-tx-rate (invalid argument)", errors.ErrUnsupported)
	case words[keyState] != "" && words[keyState] != "auto":
		return fmt.Errorf("%w: igb does not set the link state of VFs (operation not supported)", errors.ErrUnsupported)
	case words[keyMaxRate] != "" && words[keyMaxRate] != "0" && d.nic.Link.Admin == "down":
		return fmt.Errorf("igb takes max-tx-rate only while its link is up: ip link set %s up", d.nic.Name)
	}
	return nil
}

// canDrive says why a VF can't be driven so.
func (d *device) canDrive(ctx context.Context, driver string) error {
	switch {
	case driver == "":
		return nil
	case d.Bus != "pci":
		return fmt.Errorf("%w: the VFs of this device have no drivers", errors.ErrUnsupported)
	case driver == vfioPCI:
		if _, err := d.ReadDir(ctx, "/sys/bus/pci/drivers/vfio-pci"); err != nil {
			return fmt.Errorf("driver: vfio-pci is not there: load it first (modprobe vfio-pci): %w", err)
		}
	}
	return nil
}

// macFor is the address of one of n VFs.
func (d *device) macFor(word string, index, n int) (string, error) {
	if word == "derived" {
		return derivedMAC(d.nic, index), nil
	}
	mac, err := net.ParseMAC(word)
	switch {
	case err != nil || len(mac) != 6 || mac[0]&1 != 0:
		return "", fmt.Errorf("mac: %q is no address of a station as in 02:00:5e:00:00:01", word)
	case n > 1 && slices.ContainsFunc(mac, func(b byte) bool { return b != 0 }):
		return "", fmt.Errorf("mac: %s can be of one VF only: say derived for several", mac)
	}
	return mac.String(), nil
}

// derivedMAC is the address of a VF that is made of its PF's and its number.
func derivedMAC(pf *inventory.NIC, index int) string {
	of := pf.PermanentMAC
	if of == "" {
		of = pf.ID()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "nictune VF of %s: %d", of, index))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2 // one station's, assigned locally
	return mac.String()
}

// changesOf are the settings that change, by the VF's number.
func changesOf(current, next VFState) map[int]map[string]string {
	changes := map[int]map[string]string{}
	for key, value := range next {
		index, name := splitKey(key)
		if was, there := current[key]; !there || was == value || index < 0 {
			continue
		}
		if changes[index] == nil {
			changes[index] = map[string]string{}
		}
		changes[index][name] = value
	}
	return changes
}

// writeVFs sets all VFs up before it binds any. A refusal ends that, and VFs have the
// drivers back that they had; but in an undo each VF gets whatever can be had. One that
// would be without its address, VLAN or what else it was confined by has no driver.
func writeVFs(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next VFState) error {
	return setVFs(ctx, w, nic, current, next, tuning.Undoing(ctx))
}

func setVFs(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next VFState, undoing bool) error {
	d, err := listed(ctx, w, nic)
	if err != nil {
		return err
	}
	changes := changesOf(current, next)
	drivers, up := map[*virtual]string{}, map[*virtual]bool{}
	var faults []error
	fault := func(index int, doing string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("VF %d: %s%w", index, doing, err))
		}
	}
	stop := func() bool { return len(faults) > 0 && !undoing }
	order := slices.Sorted(maps.Keys(changes))
	for _, index := range order {
		vf, now := d.vf(index), current[keyOf(index, keyDriver)]
		if vf == nil || stop() {
			continue
		}
		change := changes[index]
		driver, rebind := change[keyDriver]
		if !rebind && rebinds(change, now) {
			driver, rebind = now, true
		}
		if rebind {
			var err error
			if up[vf], err = d.isUp(ctx, vf); err != nil {
				fault(index, "", err)
				continue
			}
			drivers[vf] = driver
			fault(index, "take it from its driver: ", unbind(ctx, w, vf))
		}
	}
	if !stop() {
		faults = append(faults, d.distribute(ctx, w, current, changes)...)
	}
	tell := telling(ctx, len(order))
	awaited, loose := false, map[int]bool{}
	for i, index := range order {
		if stop() {
			break
		}
		change := changes[index]
		if rate := change[keyMaxRate]; d.Driver == "igb" && rate != "" && rate != "0" && !awaited {
			d.awaitCarrier(ctx)
			awaited = true
		}
		setVF(ctx, w, nic, index, change, next, func(name string, err error) bool {
			fault(index, fmt.Sprintf("%s %s: ", name, change[name]), err)
			loose[index] = loose[index] || name != keyMinRate && name != keyMaxRate
			return !stop()
		})
		tell(i+1, "set up")
	}
	// Also after an error: no VF is left without the driver that it had.
	rebound := len(drivers)
	tell = telling(ctx, rebound)
	for _, vf := range d.vfs {
		driver, ok := drivers[vf]
		if !ok {
			continue
		}
		if stop() || loose[vf.Index] {
			driver = current[keyOf(vf.Index, keyDriver)]
		}
		fault(vf.Index, fmt.Sprintf("driver %s: ", driver), d.bind(ctx, w, vf, driver))
		if up[vf] && driver == networkDriver {
			fault(vf.Index, "set it up again: ", d.setUp(ctx, w, vf))
		}
		delete(drivers, vf)
		tell(rebound-len(drivers), "have their drivers")
	}
	if !stop() {
		for _, index := range order {
			fault(index, "", d.setMTU(ctx, w, d.vf(index), next[keyOf(index, keyMTU)]))
		}
	}
	if on := next[keyAutoprobe]; on != current[keyAutoprobe] {
		faults = append(faults, d.setAutoprobe(ctx, w, on == "on"))
	}
	return errors.Join(faults...)
}

// distribute gives VFs another number of MSI-X vectors, first those that get
// fewer: the pool may be used up.
func (d *device) distribute(ctx context.Context, w kernel.Writer, current VFState, changes map[int]map[string]string) (faults []error) {
	for _, fewer := range []bool{true, false} {
		for _, index := range slices.Sorted(maps.Keys(changes)) {
			value, vf := changes[index][keyMSIX], d.vf(index)
			if value == "" || vf == nil {
				continue
			}
			was, _ := strconv.Atoi(current[keyOf(index, keyMSIX)])
			if n, err := strconv.Atoi(value); err != nil || n < was != fewer {
				continue
			}
			if err := w.WriteFile(ctx, path.Join(vf.dir, "sriov_vf_msix_count"), []byte(value)); err != nil {
				faults = append(faults, fmt.Errorf("VF %d: msix %s: %w", index, value, err))
			}
		}
	}
	return faults
}

// isUp says whether a VF has a network device here that is administratively up.
func (d *device) isUp(ctx context.Context, vf *virtual) (bool, error) {
	if vf.Netdev == nil || vf.Netdev.Name == "" {
		return false, nil
	}
	b, err := d.ReadFile(ctx, vf.file("flags"))
	if reason := kernel.ReasonOf(err); reason == kernel.Unsupported || reason == kernel.Gone { // it was taken away meanwhile
		return false, nil
	}
	if err != nil {
		return false, err
	}
	flags, err := strconv.ParseUint(strings.TrimSpace(string(b)), 0, 32)
	return flags&uapi.IFF_UP != 0, err
}

// setUp sets a VF's network device up that is another one now.
func (d *device) setUp(ctx context.Context, w kernel.Writer, vf *virtual) error {
	now, err := d.look(ctx, vf)
	if err != nil || now.Netdev == nil || now.Netdev.Name == "" {
		return err
	}
	header := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(header[8:], uapi.IFF_UP)  // ifi_flags
	binary.NativeEndian.PutUint32(header[12:], uapi.IFF_UP) // ifi_change
	return w.NetlinkSet(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK, Body: kernel.Body(header).String(uapi.IFLA_IFNAME, now.Netdev.Name),
	})
}

// setMTU gives a VF's network device its MTU. One that was taken away and came
// back has lost it.
func (d *device) setMTU(ctx context.Context, w kernel.Writer, vf *virtual, value string) error {
	if vf == nil || value == "" || value == noMTU { // none is wanted
		return nil
	}
	mtu, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return err
	}
	now, err := d.look(ctx, vf)
	if err != nil || now.Netdev == nil || now.Netdev.Name == "" {
		return err
	}
	if is, err := d.ReadFile(ctx, now.file("mtu")); err != nil || strings.TrimSpace(string(is)) == value {
		return err
	}
	err = w.NetlinkSet(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK,
		Body: kernel.Body(make([]byte, linkHeader)).String(uapi.IFLA_IFNAME, now.Netdev.Name).Uint32(uapi.IFLA_MTU, uint32(mtu)),
	})
	if err != nil {
		return fmt.Errorf("mtu %s: %w", value, err)
	}
	return nil
}

// awaitCarrier waits for the PF's link, which igb drops when it makes VFs and
// without which it limits no rate. What it says if none comes is the driver's to
// say.
func (d *device) awaitCarrier(ctx context.Context) {
	_ = await(ctx, "no carrier", func() (bool, error) {
		b, err := d.ReadFile(ctx, "/sys/class/net/"+d.nic.Name+"/carrier")
		return strings.TrimSpace(string(b)) == "1", err
	})
}

// setVF makes a request for each setting that changes: the kernel hands them to
// the driver one by one anyway, and so it is known which one that refused. refused
// takes these, and says whether to go on.
func setVF(ctx context.Context, w kernel.Writer, nic inventory.NIC, index int, change map[string]string, next VFState, refused func(name string, err error) bool) {
	header := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(header[4:], uint32(nic.Index))
	for _, name := range []string{keyMAC, keyVLAN, keyMinRate, keyMaxRate, keySpoofchk, keyState, keyTrust} {
		value, ok := change[name]
		if _, both := change[keyMinRate]; !ok || both && name == keyMaxRate { // which is written with it
			continue
		}
		member, err := settingOf(index, name, value, next)
		if err == nil {
			err = w.NetlinkSet(ctx, kernel.Request{
				Family: kernel.FamilyRoute, Command: uapi.RTM_SETLINK,
				Body: kernel.Body(header).Nested(uapi.IFLA_VFINFO_LIST, kernel.Body{}.Nested(uapi.IFLA_VF_INFO, member)),
			})
		}
		if err != nil && !refused(name, err) {
			return
		}
	}
}

// settingOf is a setting of a VF as a member of IFLA_VF_INFO.
func settingOf(index int, name, value string, next VFState) (member kernel.Body, err error) {
	begin := binary.NativeEndian.AppendUint32(nil, uint32(index))
	words := func(numbers ...uint32) []byte {
		b := slices.Clone(begin)
		for _, n := range numbers {
			b = binary.NativeEndian.AppendUint32(b, n)
		}
		return b
	}
	number := func(name string) uint32 {
		n, _ := strconv.ParseUint(next[keyOf(index, name)], 10, 32)
		return uint32(n)
	}
	var flag uint32
	if value == "on" {
		flag = 1
	}
	switch name {
	case keyMAC:
		mac, err := net.ParseMAC(value)
		if err != nil {
			return nil, err
		}
		const room = 32 // MAX_ADDR_LEN
		member = member.Bytes(uapi.IFLA_VF_MAC, append(slices.Clone(begin), append(mac, make([]byte, room-len(mac))...)...))
	case keyVLAN:
		tag, err := parseVLAN(value)
		if err != nil {
			return nil, err
		}
		protocol := uint16(protocol8021Q)
		if tag.Protocol == "802.1ad" {
			protocol = protocol8021AD
		}
		info := binary.BigEndian.AppendUint16(words(uint32(tag.ID), uint32(tag.QoS)), protocol)
		member = member.Nested(uapi.IFLA_VF_VLAN_LIST, kernel.Body{}.Bytes(uapi.IFLA_VF_VLAN_INFO, append(info, 0, 0)))
	case keyMinRate, keyMaxRate:
		member = member.Bytes(uapi.IFLA_VF_RATE, words(number(keyMinRate), number(keyMaxRate)))
	case keySpoofchk:
		member = member.Bytes(uapi.IFLA_VF_SPOOFCHK, words(flag))
	case keyTrust:
		member = member.Bytes(uapi.IFLA_VF_TRUST, words(flag))
	case keyState:
		at := slices.Index([]string{"auto", "enable", "disable"}, value)
		if at < 0 {
			return nil, errors.New("that is none that can be set")
		}
		member = member.Bytes(uapi.IFLA_VF_LINK_STATE, words(uint32(at)))
	}
	return member, nil
}
