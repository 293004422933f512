package sriov

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// slowKernel makes and removes one VF after the other, as devices do, and its drivers
// come when they like.
type slowKernel struct {
	*fakeKernel
	each   time.Duration // of a VF that is made or removed
	driver func(vf int)  // what becomes of a VF whose driver is looked for
}

func (k *slowKernel) WriteFile(ctx context.Context, name string, data []byte) error {
	value := string(data)
	switch path.Base(name) {
	case "sriov_numvfs":
		n, _ := strconv.Atoi(value)
		for vf := range max(n, k.number("sriov_numvfs")) {
			time.Sleep(k.each)
			k.change(func() { k.move(vf, n > 0) })
		}
		k.change(func() { k.files[name] = value + "\n" })
		return nil
	case "drivers_probe":
		for vf := range 8 {
			if value == vfAddress(vf) {
				k.driver(vf)
			}
		}
		return nil
	}
	return k.fakeKernel.WriteFile(ctx, name, data)
}

func (k *slowKernel) number(file string) (n int) {
	k.change(func() { n, _ = strconv.Atoi(strings.TrimSpace(k.files[pfDir+"/"+file])) })
	return n
}

func (k *slowKernel) change(what func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	what()
}

// move takes a VF away, or makes it anew, without a driver.
func (k *slowKernel) move(vf int, there bool) {
	if k.gone == nil {
		k.gone = map[string]string{}
	}
	from, to := k.files, k.gone
	if there {
		from, to = to, from
	}
	for file, content := range maps.Clone(from) {
		if strings.Contains(file+"/", "/"+vfAddress(vf)+"/") || path.Base(file) == fmt.Sprintf("virtfn%d", vf) {
			delete(from, file)
			if path.Base(file) != "driver" && !strings.Contains(file, "/net/") {
				to[file] = content
			}
		}
	}
}

// later does something to the files of a VF after a while.
func (k *slowKernel) later(after time.Duration, what func()) {
	if after == 0 {
		k.change(what)
		return
	}
	time.AfterFunc(after, func() { k.change(what) })
}

// netdev gives a VF its driver after a while, and its network device after another one.
func (k *slowKernel) netdev(vf int, driver, device time.Duration) {
	k.later(driver, func() { k.files[vfDir(vf)+"/driver"] = "-> ../../../../bus/pci/drivers/iavf" })
	k.later(driver+device, func() { k.bound(vf) })
}

func slow(t *testing.T, vfs int) (*slowKernel, inventory.NIC, *[]string, context.Context) {
	t.Helper()
	k, nic := smartKernel(t, vfs)
	told := new([]string)
	ctx := tuning.Hearing(t.Context(), func(text string) { *told = append(*told, text) })
	return &slowKernel{fakeKernel: k}, nic, told, ctx
}

// TestProgress: the write alone that makes VFs can take minutes.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, nic, told, ctx := slow(t, 4)
		k.each = 1300 * time.Millisecond
		if err := Counting().Write(ctx, k, nic, Count{VFs: new(uint32(4))}, Count{VFs: new(uint32(3))}); err != nil {
			t.Error(err)
		}
		want := []string{"1 of 4 VFs are gone", "3 of 4 VFs are gone", "1 of 3 VFs are there"}
		if !slices.Equal(*told, want) {
			t.Errorf("told %q, want %q", *told, want)
		}
	})
}

// TestDriversOfVFs: VFs are there when they have the drivers and network devices that
// can come, and nothing is waited for that can't.
func TestDriversOfVFs(t *testing.T) {
	const queue = "/run/udev/queue"
	busy := func(k *slowKernel, until time.Duration) {
		k.files[queue] = ""
		k.later(until, func() { delete(k.files, queue) })
	}
	const modprobe = "VF 0-3: no driver that is loaded takes it: modprobe $(cat /sys/bus/pci/devices/0000:3b:02.0/modalias)"
	for name, test := range map[string]struct {
		drivers func(k *slowKernel)
		undoing bool
		took    time.Duration // a little less
		fault   string
		told    string
		all     bool // network devices are there
	}{
		"at once": {all: true, drivers: func(k *slowKernel) {
			k.driver = k.bound
		}},
		"loaded by udev, with network devices some time later": {all: true, took: 5 * time.Second, drivers: func(k *slowKernel) {
			busy(k, 4*time.Second)
			k.driver = func(vf int) { k.netdev(vf, 3*time.Second, time.Duration(vf)*700*time.Millisecond) }
		}},
		"one after the other, all in all longer than one may take": {all: true, took: 36 * time.Second, told: "1 of 4 VFs have their drivers", drivers: func(k *slowKernel) {
			k.driver = func(vf int) { k.netdev(vf, time.Duration(vf)*9*time.Second, 9*time.Second) }
		}},
		"none is loaded": {told: modprobe},
		"udev has none, either": {took: 2 * time.Second, told: modprobe, drivers: func(k *slowKernel) {
			busy(k, 2*time.Second)
		}},
		"udev is busy with something else": {took: 10 * time.Second, told: modprobe, drivers: func(k *slowKernel) {
			busy(k, time.Hour)
		}},
		"refused to two of them": {took: 10 * time.Second, fault: "VF 2-3: no driver took it in 10s, and VF 0 has mlx5_core: dmesg has its reasons", drivers: func(k *slowKernel) {
			k.driver = func(vf int) {
				if vf < 2 {
					k.bound(vf)
				}
			}
		}},
		"refused, in an undo": {undoing: true, took: 10 * time.Second, told: "VF 1-3: no driver took it in 10s", drivers: func(k *slowKernel) {
			k.driver = func(vf int) {
				if vf == 0 {
					k.bound(vf)
				}
			}
		}},
		"no network device of one": {took: 10 * time.Second, fault: "VF 1: its driver iavf made no network device in 10s", drivers: func(k *slowKernel) {
			k.driver = func(vf int) {
				if vf == 1 {
					k.netdev(vf, 0, time.Hour)
				} else {
					k.netdev(vf, 0, 0)
				}
			}
		}},
		"a driver that makes none": {took: 10 * time.Second, told: "VF 0-3: its driver iavf made no network device in 10s", drivers: func(k *slowKernel) {
			k.driver = func(vf int) { k.netdev(vf, 0, time.Hour) }
		}},
		"a driver for programs": {drivers: func(k *slowKernel) {
			k.driver = func(vf int) {
				k.files[vfDir(vf)+"/driver"] = "-> ../../../../bus/pci/drivers/uio_pci_generic"
				k.files[fmt.Sprintf("%s/uio/uio%d/dev", vfDir(vf), vf)] = "240:0\n"
			}
		}},
		"not left to the kernel": {drivers: func(k *slowKernel) {
			for vf, override := range []string{noDriver, vfioPCI, vfioPCI, vfioPCI} {
				k.files[vfDir(vf)+"/driver_override"] = override + "\n"
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, nic, told, ctx := slow(t, 4)
				for vf := range 4 {
					k.move(vf, false)
					k.move(vf, true)
				}
				k.driver = func(int) {}
				if test.drivers != nil {
					test.drivers(k)
				}
				begin := time.Now()
				err := writeProbing(ctx, k, nic, true, test.undoing)
				if took := time.Since(begin); took < test.took || took > test.took+time.Second {
					t.Errorf("it took %s, want %s", took, test.took)
				}
				said := ""
				if err != nil {
					said = err.Error()
				}
				if said != test.fault {
					t.Errorf("error %q, want %q", said, test.fault)
				}
				all := strings.Join(*told, "\n")
				if !strings.Contains(all, test.told) || test.took == 0 && test.told == "" && all != "" {
					t.Errorf("told %q, want %q", all, test.told)
				}
				if on := k.number("sriov_drivers_autoprobe"); on != 1 {
					t.Errorf("autoprobe is %d", on)
				}
				if test.all {
					for vf := range 4 {
						if k.files[fmt.Sprintf("%s/net/eth%d/mtu", vfDir(vf), 10+vf)] == "" {
							t.Errorf("VF %d has no network device", vf)
						}
					}
				}
			})
		})
	}
}
