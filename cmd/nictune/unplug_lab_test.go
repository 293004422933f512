//go:build lab

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/sriov"
)

// TestUnplugWhileServing pulls a PF with VFs out of its slot while an agent is
// scraped and inventories are taken: each of them ends well and has the other PF,
// whole, and in the end the one that was pulled is gone.
func TestUnplugWhileServing(t *testing.T) {
	labtest.Require(t, "nics")
	pfs := labtest.NICs(t, "igb", 2)
	labtest.Run(t, "modprobe", "igbvf")
	for pf, vfs := range map[string]string{pfs[0]: "7", pfs[1]: "3"} {
		if err := os.WriteFile("/sys/class/net/"+pf+"/device/sriov_numvfs", []byte(vfs), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.WriteFile("/sys/class/net/"+pfs[0]+"/device/sriov_numvfs", []byte("0"), 0) })
	labtest.NICs(t, "igbvf", 10)
	address := func(pf string) string {
		target, err := os.Readlink("/sys/class/net/" + pf + "/device")
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Base(target)
	}
	stays, goes := address(pfs[0]), address(pfs[1])
	s := startInProcess(t)
	base := "http://" + s.address(t)
	ready(t, base)

	// there says whether the PF that goes is still there, of a scrape.
	scrape := func() (there bool) {
		status, page := get(t, base+"/metrics")
		if status != 200 || !strings.Contains(page, fmt.Sprintf("nictune_network_receive_packets_total{device=%q}", pfs[0])) {
			t.Errorf("status %d, without %s:\n%.2000s", status, pfs[0], page)
		}
		return strings.Contains(page, fmt.Sprintf("nictune_network_receive_packets_total{device=%q}", pfs[1]))
	}
	partly := 0
	inventory := func() (there bool) {
		var out, complaint bytes.Buffer
		if exit := run(t.Context(), []string{"inventory", "--vfs", "-o", "json"}, &out, &complaint); exit != exitOK {
			t.Fatalf("exit %d: %s", exit, complaint.String())
		}
		var inv sriov.Inventory
		if err := json.Unmarshal(out.Bytes(), &inv); err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(inv.PFs, func(pf sriov.PF) bool { return pf.Address == stays })
		if at < 0 || len(inv.PFs[at].VFs) != 7 || len(inv.PFs[at].Unread) > 0 {
			t.Fatalf("the PF that stays: %+v", inv.PFs)
		}
		for _, vf := range inv.PFs[at].VFs {
			if vf.Settings == nil || vf.Netdev == nil || len(vf.Unread) > 0 {
				t.Errorf("VF %d of the PF that stays: %+v", vf.Index, vf)
			}
		}
		at = slices.IndexFunc(inv.PFs, func(pf sriov.PF) bool { return pf.Address == goes })
		if at >= 0 && (len(inv.PFs[at].Unread) > 0 || len(inv.PFs[at].VFs) != 3) {
			partly++
			t.Logf("while it goes: %d VFs, %+v", len(inv.PFs[at].VFs), inv.PFs[at].Unread)
		}
		return at >= 0
	}
	if !scrape() || !inventory() {
		t.Fatalf("%s is not there before it is pulled", pfs[1])
	}
	labtest.QMP(t, `{"execute": "device_del", "arguments": {"id": "igb1"}}`) // which takes the guest a while
	scrapes, inventories := 0, 0
	labtest.Eventually(t, pfs[1]+" is gone everywhere", func() bool {
		scraped, read := scrape(), inventory()
		scrapes, inventories = scrapes+1, inventories+1
		return !scraped && !read
	})
	t.Logf("%d scrapes and %d inventories, %d of which met it half gone", scrapes, inventories, partly)
	labtest.Unplugged(t, "igb1")
	labtest.QMP(t, `{"execute": "device_add", "arguments": {"driver": "igb", "id": "igb1", "bus": "rp1", "netdev": "net-igb1", "romfile": "", "mac": "52:54:00:00:02:00"}}`)
	labtest.NICs(t, "igb", 2)
	s.until(t, "the card that is back in a scrape", scrape)
	s.end(t)
}
