//go:build lab

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/labtest"
)

// TestCheckVFs makes one mistake after the other with VFs of an igb and of a simulated
// device. The command finds each where it is, and nothing else; without them it passes.
//
//lab:seconds 30
func TestCheckVFs(t *testing.T) {
	labtest.Require(t, "nics")
	pf := labtest.NICs(t, "igb", 2)[1]
	labtest.Run(t, "modprobe", "-a", "igbvf", "8021q")
	address := filepath.Base(linked(t, "/sys/class/net/"+pf+"/device"))
	port := filepath.Base(filepath.Dir(linked(t, "/sys/class/net/"+pf+"/device")))
	put := func(file, value string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	vf := func(n int) string { return fmt.Sprintf("/sys/bus/pci/devices/%s/virtfn%d", address, n) }
	netdev := func(n int) (name string) {
		t.Helper()
		labtest.Eventually(t, fmt.Sprintf("the network device of VF %d", n), func() bool {
			all, _ := filepath.Glob(vf(n) + "/net/*")
			if len(all) == 1 {
				name = filepath.Base(all[0])
			}
			return len(all) == 1
		})
		return name
	}
	set := func(device string, words ...string) {
		t.Helper()
		for _, w := range words {
			labtest.Run(t, "ip", append([]string{"link", "set", device}, strings.Fields(w)...)...)
		}
	}
	enable := func() {
		t.Helper()
		put("/sys/bus/pci/devices/"+address+"/sriov_numvfs", "2")
		set(pf, "up", "vf 0 mac 02:00:5e:00:53:00", "vf 1 mac 02:00:5e:00:53:01")
		netdev(0)
		netdev(1)
	}
	enable()
	t.Cleanup(func() { put("/sys/bus/pci/devices/"+address+"/sriov_numvfs", "0") })

	simulated := labtest.Netdevsim(t, 33, 1)[0]
	put("/sys/bus/netdevsim/devices/netdevsim33/sriov_numvfs", "2")
	for n := range 2 {
		set(simulated, fmt.Sprintf("vf %d spoofchk on", n))
	}
	labtest.Run(t, "devlink", "dev", "eswitch", "set", "netdevsim/netdevsim33", "mode", "switchdev")
	functions := map[int]string{}
	labtest.Eventually(t, "the ports of two VFs", func() bool {
		var all struct {
			Port map[string]struct {
				Flavour string `json:"flavour"`
				VF      int    `json:"vfnum"`
			} `json:"port"`
		}
		if err := json.Unmarshal(labtest.Run(t, "devlink", "-j", "port", "show"), &all); err != nil {
			t.Fatal(err)
		}
		for handle, p := range all.Port {
			if p.Flavour == "pcivf" {
				functions[p.VF] = handle
			}
		}
		return len(functions) == 2
	})
	labtest.Run(t, "devlink", "port", "function", "set", functions[0], "migratable", "enable")
	wanted := filepath.Join(t.TempDir(), "migratable.yaml")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: migratable\nmatch: {driver: [netdevsim]}\nsettings:\n  port-functions: [{vf: 0, migratable: on}]\n"
	if err := os.WriteFile(wanted, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}

	// found are the rules that fail, and where.
	found := func(args ...string) (exit int, all []string) {
		t.Helper()
		stdout, stderr, exit := nictune(t, append([]string{"check", "sriov", "-o", "json"}, args...)...)
		var report audit.Report
		if err := json.Unmarshal([]byte(stdout), &report); err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		for _, f := range report.Findings {
			switch f.Status {
			case findings.Fail:
				all = append(all, f.Rule+" "+f.Subject.String())
			case findings.Unknown: // counters that are all 0
			default:
				t.Errorf("%s %s: %s", f.Rule, f.Subject, f.Status)
			}
		}
		slices.Sort(all)
		return exit, all
	}
	clean := func(args ...string) {
		t.Helper()
		if exit, all := found(args...); exit != exitOK || len(all) > 0 {
			t.Errorf("a clean host %v: exit %d, %v", args, exit, all)
		}
	}
	acs := strings.TrimSpace(string(labtest.Run(t, "setpci", "-s", port, "ECAP_ACS+6.w")))
	again := func() { // the kernel makes groups of devices when it meets them
		put("/sys/bus/pci/devices/"+address+"/remove", "1")
		put("/sys/bus/pci/rescan", "1")
		labtest.Eventually(t, "the card", func() bool {
			all, _ := filepath.Glob("/sys/bus/pci/devices/" + address + "/net/*")
			if len(all) == 1 {
				pf = filepath.Base(all[0])
			}
			return len(all) == 1
		})
		enable()
	}
	clean("-f", wanted)
	for _, test := range []struct {
		name       string
		make, mend func()
		args       []string
		want       []string
	}{
		{
			"trusted and unchecked", func() { set(pf, "vf 1 trust on", "vf 1 spoofchk off") }, func() { set(pf, "vf 1 trust off", "vf 1 spoofchk on") }, nil,
			[]string{"sriov/trusted-unchecked PF vf 1"},
		},
		{
			"trusted, and checked", func() { set(pf, "vf 1 trust on") }, func() { set(pf, "vf 1 trust off") }, nil, nil,
		},
		{
			"a larger MTU", func() { set(netdev(0), "mtu 2000") }, func() { set(netdev(0), "mtu 1500") }, nil,
			[]string{"sriov/pf-mtu PF vf 0"},
		},
		{
			"VLAN on VLAN", func() {
				set(pf, "vf 0 vlan 7")
				labtest.Run(t, "ip", "link", "add", "link", netdev(0), "name", "tagged", "type", "vlan", "id", "9")
			}, func() {
				labtest.Run(t, "ip", "link", "del", "tagged")
				set(pf, "vf 0 vlan 0")
			}, nil,
			[]string{"sriov/vlan-clash PF vf 0"},
		},
		{
			"one VLAN, two protocols", func() { set(simulated, "vf 0 vlan 7", "vf 1 vlan 7 proto 802.1ad") }, func() { set(simulated, "vf 0 vlan 0", "vf 1 vlan 0") }, nil,
			[]string{"sriov/vlan-clash " + simulated + " vf 0", "sriov/vlan-clash " + simulated + " vf 1"},
		},
		{
			"one address", func() { set(pf, "vf 1 mac 02:00:5e:00:53:00") }, func() { set(pf, "vf 1 mac 02:00:5e:00:53:01") }, nil,
			[]string{"sriov/duplicate-mac PF vf 0", "sriov/duplicate-mac PF vf 1"},
		},
		{
			"no driver", func() { put("/sys/bus/pci/drivers/igbvf/unbind", filepath.Base(linked(t, vf(1)))) },
			func() { put("/sys/bus/pci/drivers/igbvf/bind", filepath.Base(linked(t, vf(1)))) }, nil,
			[]string{"sriov/unbound PF vf 1"},
		},
		{
			"no ACS", func() {
				labtest.Run(t, "setpci", "-s", port, "ECAP_ACS+6.w=0")
				again()
			}, func() {
				labtest.Run(t, "setpci", "-s", port, "ECAP_ACS+6.w="+acs)
				again()
			}, nil,
			[]string{"sriov/no-acs PF", "sriov/shared-group PF vf 0", "sriov/shared-group PF vf 1"},
		},
		{
			"not migratable", func() { labtest.Run(t, "devlink", "port", "function", "set", functions[0], "migratable", "disable") },
			func() { labtest.Run(t, "devlink", "port", "function", "set", functions[0], "migratable", "enable") }, []string{"-f", wanted},
			[]string{"sriov/not-migratable " + simulated + " vf 0"},
		},
		{
			"drops", func() {
				labtest.CountVFs(t, simulated, [8]uint64{1e5, 1e5, 1e8, 1e8, 0, 0, 0, 5000}, [8]uint64{1e5, 1e5, 1e8, 1e8})
			}, func() {}, nil,
			[]string{"sriov/drops " + simulated + " vf 0"},
		},
		{
			"drops of long ago", func() {}, func() { labtest.CountVFs(t, simulated) }, []string{"--watch", "10ms"}, nil,
		},
	} {
		test.make()
		exit, all := found(test.args...)
		test.mend()
		wantExit := exitOK
		for i := range test.want {
			test.want[i] = strings.Replace(test.want[i], " PF", " "+pf, 1) // which it is called now
			wantExit = exitDifferences
		}
		if exit != wantExit || !slices.Equal(all, test.want) {
			t.Errorf("%s: exit %d, %q, want %d, %q", test.name, exit, all, wantExit, test.want)
		}
	}
	clean()
}

func linked(t *testing.T, path string) string {
	t.Helper()
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}
