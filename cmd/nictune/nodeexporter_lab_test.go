//go:build lab

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// igbWithVFs gives an igb that is up two VFs with their links, until the test ends.
func igbWithVFs(t *testing.T) {
	t.Helper()
	pf := labtest.NIC(t, "igb")
	device := "/sys/class/net/" + pf + "/device/"
	put := func(value string) {
		t.Helper()
		if err := os.WriteFile(device+"sriov_numvfs", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	put("2")
	t.Cleanup(func() { put("0") })
	labtest.Eventually(t, "two VFs", func() bool {
		devices, _ := filepath.Glob(device + "virtfn*/net/*")
		return len(devices) == 2
	})
	labtest.Run(t, "ip", "link", "set", pf, "up")
	// A VF has its PF's link in a register, of which nobody tells: it is to be there
	// before anybody reads.
	labtest.Eventually(t, "the VFs' links", func() bool {
		devices, _ := filepath.Glob(device + "virtfn*/net/*")
		for _, vf := range devices {
			if !strings.Contains(string(labtest.Ethtool(t, filepath.Base(vf))), "Duplex: Full") {
				return false
			}
		}
		return len(devices) == 2
	})
}

// The same of hardware: an igb with VFs, e1000e, virtio-net and vmxnet3.
func TestNodeExporterSaysNoMoreOfHardware(t *testing.T) {
	labtest.Require(t, "nics")
	igbWithVFs(t)
	total := besideNodeExporter(t)
	for family, want := range map[string]int{
		"node_ethtool_received_packets_total": 3, "node_ethtool_info": 15, "node_interrupts_total": 3, "node_pcidevice_info": 15,
		"node_pcidevice_power_state": 15, "node_pcidevice_d3cold_allowed": 15, "node_pcidevice_sriov_numvfs": 3, "node_pcidevice_max_link_width": 3,
		"node_network_supported_speed_bytes": 3, "node_network_asymmetricpause_supported": 3,
	} {
		if total[family] < want {
			t.Errorf("%s: %d samples were compared, want at least %d", family, total[family], want)
		}
	}
	t.Logf("samples compared, by family: %v", total)
}
