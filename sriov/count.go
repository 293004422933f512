package sriov

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// CountSetting is the name of the setting whose state is a [Count].
const CountSetting = "sriov"

// Count is how many VFs a PF has (sriov_numvfs).
type Count struct {
	VFs *uint32 `json:"vfs,omitempty"`
}

// CountWish is what policies say.
type CountWish struct {
	VFs               *uint32 `json:"vfs,omitempty" words:"max" doc:"how many virtual functions; another number than there is means that all of them go and come anew"`
	ExternallyManaged *bool   `json:"externally-managed,omitempty" doc:"somebody else makes the VFs: it is an error if there are fewer, and nothing is changed"`
}

// Knobs are the settings of SR-IOV in the order in which they are applied.
func Knobs() []tuning.Setting {
	return []tuning.Setting{Counting(), Unmanaged(), SwitchMode(), PortFunctions(), VFs(), Drivers(), Representors()}
}

// Counting is sriov_numvfs.
func Counting() tuning.Knob[Count] {
	return tuning.Knob[Count]{
		Name: CountSetting,
		Doc: "The number of virtual functions of a PF (sriov_numvfs in /sys/). The kernel knows only all or none: for any other number than " +
			"there is, all VFs are removed first. That is refused while somebody uses one, unless each of these VFs is named with --disrupt. " +
			"Settings and drivers of the VFs that stay are put back. Many drivers reset the PF, too.",
		Impact: func(_ inventory.NIC, current, next Count) tuning.Impact {
			if current.VFs != nil && next.VFs != nil && *current.VFs == *next.VFs {
				return tuning.Seamless
			}
			return tuning.NICReset
		},
		Wish:       tuning.WishOf(resolveCount),
		RemakesVFs: true,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit Count, err error) {
			d, err := deviceOf(ctx, r, nic)
			if err != nil {
				return current, limit, err
			}
			current.VFs = new(uint32(*d.NumVFs))
			if d.TotalVFs != nil {
				limit.VFs = new(uint32(*d.TotalVFs))
			}
			return current, limit, nil
		},
		Victims: func(ctx context.Context, r kernel.Reader, nic inventory.NIC, current, next Count) ([]tuning.Victim, error) {
			if current.VFs == nil || *current.VFs == 0 || next.VFs == nil || *current.VFs == *next.VFs {
				return nil, nil
			}
			return victims(ctx, r, nic, CountSetting, true, func(int) loss { return itself })
		},
		Takes: func(current, next Count) time.Duration {
			return timeFor(int(max(*current.VFs, *next.VFs)))
		},
		Write: writeCount,
	}
}

func resolveCount(ctx context.Context, ask tuning.Ask, wish CountWish, current Count) (Count, error) {
	if wish.VFs == nil {
		return current, nil
	}
	if wish.ExternallyManaged != nil && *wish.ExternallyManaged {
		if *current.VFs < *wish.VFs {
			return current, fmt.Errorf("externally-managed: there are %d of %s, and whoever makes them has to make more", *current.VFs, count(int(*wish.VFs)))
		}
		return current, nil
	}
	d, err := deviceOf(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return current, err
	}
	if d.TotalVFs != nil && *wish.VFs > uint32(*d.TotalVFs) {
		return current, fmt.Errorf("the device takes %s at most (sriov_totalvfs)%s", count(*d.TotalVFs), d.moreVFs(*wish.VFs))
	}
	if *wish.VFs != *current.VFs {
		if err := d.keepsRates(ctx, int(*wish.VFs)); err != nil {
			return current, err
		}
	}
	return Count{VFs: wish.VFs}, nil
}

// keepsRates says if a limit that one of the first n VFs has could not be set again,
// when all of them are made anew.
func (d *device) keepsRates(ctx context.Context, n int) error {
	if d.Driver != "igb" || *d.NumVFs == 0 || n == 0 { // of others nothing such is known
		return nil
	}
	infos, _, err := askVFs(ctx, d, d.nic.Index)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if rate := info.settings.MaxTxRate; rate != nil && *rate > 0 && info.index < n {
			if why := d.refusesRate(ctx, *rate); why != "" {
				return fmt.Errorf("all VFs are made anew, and VF %d could not have its max-tx-rate %d again: %s", info.index, *rate, why)
			}
		}
	}
	return nil
}

// refusesRate says why igb would not limit a VF now (igb_ndo_set_vf_bw): it does so
// with a link only, and to no more than that carries.
func (d *device) refusesRate(ctx context.Context, rate uint32) string {
	read := func(file string) string {
		b, err := d.ReadFile(ctx, "/sys/class/net/"+d.nic.Name+"/"+file)
		if errors.Is(err, kernel.ErrInvalid) {
			return "0" // what the kernel says of a device that is down
		}
		return strings.TrimSpace(string(b))
	}
	if read("carrier") == "0" {
		return fmt.Sprintf("igb takes one only while its link is up, and %s has none", d.nic.Name)
	}
	if speed, err := strconv.Atoi(read("speed")); err == nil && speed > 0 && uint64(speed) < uint64(rate) {
		return fmt.Sprintf("igb takes none above the speed of its link, and that of %s is %d", d.nic.Name, speed)
	}
	return ""
}

// whyNone says why a device shows no sriov_numvfs whose driver has VFs, and what to do
// about it; empty for drivers of which nothing is known.
func whyNone(driver, address, name string) string {
	const off = "; if the card can have some, its firmware has SR-IOV switched off: "
	switch driver {
	case "mlx5_core", "mlx4_core":
		return off + fmt.Sprintf("mlxconfig -d %s set SRIOV_EN=1 NUM_OF_VFS=8, and a restart of the device", address)
	case "bnxt_en":
		return off + fmt.Sprintf("devlink dev param set pci/%s name enable_sriov value true cmode permanent, and a restart of the host", address)
	case "sfc":
		return off + fmt.Sprintf("sfboot --adapter=%s switch-mode=sriov vf-count=8, and a cold start of the host", name)
	case "cxgb4": // cxgb4_iov_configure
		card, _, _ := strings.Cut(address, ".")
		return fmt.Sprintf("; this card has them at its PCI functions 0 to 3, one for each port: echo N > /sys/bus/pci/devices/%s.0/sriov_numvfs", card)
	}
	return ""
}

// moreVFs says where the limit is set.
func (d *device) moreVFs(n uint32) string {
	switch d.Driver {
	case "mlx5_core":
		return fmt.Sprintf("; more are set in the firmware: mlxconfig -d %s set SRIOV_EN=1 NUM_OF_VFS=%d, and a restart of the device", d.Address, n)
	case "bnxt_en":
		_, function, _ := strings.Cut(d.Address, ".")
		return fmt.Sprintf("; more are set in the firmware: niccli -dev DEVICE nvm -setoption number_of_vfs_per_pf -scope %s -value %d "+
			"(with two dashes in newer ones), and a restart of the host", function, n)
	case "sfc":
		return fmt.Sprintf("; more are set in the firmware: sfboot --adapter=%s switch-mode=sriov vf-count=%d, and a cold start of the host", d.nic.Name, n)
	case "nfp": // nfp_pcie_sriov_read_nfd_limit
		return fmt.Sprintf("; another firmware may have more: devlink dev flash pci/%s file FILE, and a restart of the host", d.Address)
	case "igb", "ixgbe", "i40e", "ice":
		return "; it is fixed in the driver or the device"
	}
	return "; where the device has more, its vendor's tool sets them in the firmware"
}

// writeCount makes VFs without drivers: autoprobe is off from then on, and the
// setting vf-drivers, which comes last, puts it back and has the kernel look for
// drivers. So each VF gets its settings before anybody uses it.
func writeCount(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next Count) error {
	d, err := deviceOf(ctx, w, nic)
	if err != nil {
		return err
	}
	if *current.VFs == *next.VFs {
		return nil
	}
	if *current.VFs > 0 {
		if err := d.keepsRates(ctx, int(*next.VFs)); err != nil { // the link may be gone since the plan was made
			return err
		}
		if err := d.setNumber(ctx, w, 0); err != nil {
			return err
		}
	}
	if *next.VFs == 0 {
		return nil
	}
	return d.make(ctx, w, int(*next.VFs))
}

// make makes VFs without drivers, where there are none.
func (d *device) make(ctx context.Context, w kernel.Writer, n int) error {
	probing, err := d.autoprobe(ctx)
	if err != nil {
		return err
	}
	if probing != nil && *probing {
		if err := d.setAutoprobe(ctx, w, false); err != nil {
			return err
		}
	}
	if err := d.setNumber(ctx, w, n); err != nil {
		return err
	}
	return d.awaitVFs(ctx, n)
}

// setNumber writes sriov_numvfs. That takes as long as the driver does, which makes or
// removes one VF after the other; meanwhile it tells how many are there, or gone.
func (d *device) setNumber(ctx context.Context, w kernel.Writer, n int) error {
	written := make(chan error, 1)
	go func() { written <- d.write(ctx, w, "sriov_numvfs", strconv.Itoa(n)) }()
	all, what, done := n, "are there", func(now int) int { return now }
	if n == 0 {
		all = *d.NumVFs
		what, done = "are gone", func(now int) int { return all - now }
	}
	tell := telling(ctx, all)
	look := time.NewTicker(pace / 4)
	defer look.Stop()
	for {
		select {
		case err := <-written:
			return err
		case <-look.C:
			if entries, err := d.ReadDir(ctx, d.path); err == nil && d.Bus == "pci" { // of others it lists no VFs
				now := 0
				for _, entry := range entries {
					if strings.HasPrefix(entry, "virtfn") {
						now++
					}
				}
				tell(done(now), what)
			}
		}
	}
}

// awaitVFs waits until all VFs are there, each in a group where its PF is in one.
// The kernel only warns where the driver made fewer.
func (d *device) awaitVFs(ctx context.Context, n int) error {
	made, err := d.number(ctx, "sriov_numvfs")
	if err != nil {
		return err
	}
	if *made != n {
		return fmt.Errorf("the driver made %d of %s: dmesg has its reasons", *made, count(n))
	}
	if d.Bus != "pci" {
		return nil
	}
	tell := telling(ctx, n)
	return awaitFor(ctx, timeFor(n), fmt.Sprintf("not all of %s are there", count(n)), func() (bool, error) {
		entries, err := d.ReadDir(ctx, d.path)
		if err != nil {
			return false, err
		}
		d.entries = entries
		if err := d.list(ctx); err != nil {
			return false, err
		}
		tell(len(d.vfs), "are there")
		return len(d.vfs) == n && (!d.has("iommu_group") || !slices.ContainsFunc(d.vfs, func(vf *virtual) bool { return vf.IOMMU == nil })), nil
	})
}
