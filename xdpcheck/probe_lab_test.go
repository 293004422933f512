//go:build lab

package xdpcheck

import (
	"os"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/labtest"
)

// The probe is the judge of the table: what is said of each of the lab's NICs is
// what its driver does, AF_XDP and the limit of the MTU included. On Linux 6.12 igb
// has no zero copy, on 7.2 it has; netdevsim and virtio differ, too.
func TestProbeJudgesTheTable(t *testing.T) {
	labtest.Require(t, "nics")
	live := open(t)
	for _, driver := range []string{"igb", "e1000e", "virtio_net", "vmxnet3"} {
		t.Run(driver, func(t *testing.T) {
			name := labtest.NIC(t, driver)
			up(t, name)
			if driver == "e1000e" {
				judge(t, live, name)
				return
			}
			judgeMTU(t, live, name, name)
		})
	}
	t.Run("igbvf", func(t *testing.T) {
		pf := labtest.NIC(t, "igb")
		path := "/sys/class/net/" + pf + "/device/sriov_numvfs"
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(path, []byte("0"), 0) })
		labtest.Run(t, "modprobe", "igbvf")
		vf := labtest.NIC(t, "igbvf")
		judge(t, live, vf)
	})
	t.Run("netdevsim", func(t *testing.T) {
		name := labtest.Netdevsim(t, 12, 1)[0]
		up(t, name)
		judgeMTU(t, live, name, name)
	})
	t.Run("veth", func(t *testing.T) {
		labtest.Run(t, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
		t.Cleanup(func() { labtest.Run(t, "ip", "link", "del", "v0") })
		up(t, "v0")
		up(t, "v1")
		judgeMTU(t, live, "v0", "v1")
	})
}

// up brings a device up and gives it the time to find a link.
func up(t *testing.T, name string) {
	t.Helper()
	labtest.Run(t, "ip", "link", "set", name, "up")
	time.Sleep(time.Second)
}
