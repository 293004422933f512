//go:build lab

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/labtest"
)

// What a scrape says of an igb and its VFs is what ip, ethtool and sysfs say.
//
//lab:seconds 35
func TestAgentAgreesWithTools(t *testing.T) {
	labtest.Require(t, "nics")
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
	// igb limits rates as parts of its link's.
	labtest.Run(t, "ip", "link", "set", pf, "up")
	labtest.Eventually(t, "the link of "+pf, func() bool {
		speed, _ := os.ReadFile("/sys/class/net/" + pf + "/speed")
		return strings.TrimSpace(string(speed)) == "1000"
	})
	for _, words := range []string{"vf 0 mac 52:54:00:aa:00:01", "vf 0 vlan 100 qos 3", "vf 1 trust on", "vf 1 spoofchk off", "vf 1 max_tx_rate 500"} {
		labtest.Run(t, "ip", append([]string{"link", "set", pf}, strings.Fields(words)...)...)
	}
	labtest.Run(t, "ethtool", "-G", pf, "rx", "512")

	simulated := labtest.Netdevsim(t, 34, 1)[0] // whose VFs count
	if err := os.WriteFile("/sys/bus/netdevsim/devices/netdevsim34/sriov_numvfs", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	labtest.CountVFs(t, simulated, [8]uint64{1, 2, 3, 4, 5, 6, 7, 8}, [8]uint64{11, 12, 13, 14, 15, 16, 17, 18})

	s := startInProcess(t, "--collector.features", "--reconcile=off", "--pause=1s")
	base := "http://" + s.address(t)
	sample := func(name, labels string) string {
		return fmt.Sprintf("nictune_%s{device=%q%s} ", name, pf, labels)
	}
	var page string
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		_, page = get(t, base+"/metrics")
		if strings.Contains(page, "\nnictune_audit_timestamp_seconds ") && strings.Contains(page, sample("ring_descriptors", `,ring="rx"`)+"512") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not judged within two minutes:\n%s", s.log)
		}
	}
	want := func(value any, name, labels string) {
		t.Helper()
		if line := "\n" + sample(name, labels) + fmt.Sprint(value) + "\n"; !strings.Contains(page, line) {
			t.Errorf("there is no %s", strings.TrimSpace(line))
		}
	}
	number := func(text []byte, expression string) string {
		t.Helper()
		m := regexp.MustCompile(expression).FindSubmatch(text)
		if m == nil {
			t.Fatalf("no %s in\n%s", expression, text)
		}
		return string(m[1])
	}
	file := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(device + name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}

	rings := labtest.Ethtool(t, "-g", pf)
	want(number(rings, `(?s)maximums:.*?RX:\s+(\d+)`), "ring_max_descriptors", `,ring="rx"`)
	want(number(rings, `(?s)Current.*?TX:\s+(\d+)`), "ring_descriptors", `,ring="tx"`)
	channels := labtest.Ethtool(t, "-l", pf)
	for name, expression := range map[string]string{"channels": `(?s)Current.*?Combined:\s+(\d+)`, "max_channels": `(?s)maximums:.*?Combined:\s+(\d+)`} {
		if line := fmt.Sprintf("\nnictune_%s{channel=\"combined\",device=%q} %s\n", name, pf, number(channels, expression)); !strings.Contains(page, line) {
			t.Errorf("there is no %s", strings.TrimSpace(line))
		}
	}
	usecs, err := strconv.Atoi(number(labtest.Ethtool(t, "-c", pf), `rx-usecs:\s+(\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	want(strconv.FormatFloat(float64(usecs)/1e6, 'g', -1, 64), "coalesce_seconds", `,parameter="rx-usecs"`)
	autoneg := map[string]int{"on": 1, "off": 0}[number(labtest.Ethtool(t, "-a", pf), `Autonegotiate:\s+(\w+)`)]
	want(autoneg, "pause_autonegotiate", "")
	for _, feature := range []string{"rx-vlan-filter", "highdma", "rx-all", "tx-nocache-copy"} {
		on := map[string]int{"on": 1, "off": 0}[number(labtest.Ethtool(t, "-k", pf), regexp.QuoteMeta(feature)+`: (\w+)`)]
		want(on, "feature_active", `,feature="`+feature+`"`)
	}
	want(number([]byte(file("current_link_width")), `(\d+)`), "pci_current_link_width", "")
	speed, err := strconv.ParseFloat(number([]byte(file("current_link_speed")), `([\d.]+) GT/s`), 64)
	if err != nil {
		t.Fatal(err)
	}
	want(strconv.FormatFloat(speed*1e9, 'f', -1, 64), "pci_current_link_transfers_per_second", "")
	want(file("sriov_numvfs"), "sriov_vfs", "")
	want(file("sriov_totalvfs"), "sriov_max_vfs", "")

	var links []struct {
		VFs []struct {
			VF    int    `json:"vf"`
			MAC   string `json:"address"`
			VLANs []struct {
				VLAN int `json:"vlan"`
				QoS  int `json:"qos"`
			} `json:"vlan_list"`
			Spoof bool `json:"spoofchk"`
			Trust bool `json:"trust"`
			Rate  struct {
				Max int `json:"max_tx"`
			} `json:"rate"`
		} `json:"vfinfo_list"`
	}
	if err := json.Unmarshal(labtest.Run(t, "ip", "-j", "-d", "link", "show", pf), &links); err != nil || len(links) != 1 || len(links[0].VFs) != 2 {
		t.Fatalf("%v: %+v", err, links)
	}
	truth := map[bool]int{true: 1}
	for i, vf := range links[0].VFs {
		label := fmt.Sprintf(`,vf="%d"`, i)
		want(truth[vf.Trust], "vf_trust", label)
		want(truth[vf.Spoof], "vf_spoof_check", label)
		link := fmt.Sprintf("%svirtfn%d", device, i)
		address, err1 := filepath.EvalSymlinks(link)
		group, err2 := filepath.EvalSymlinks(link + "/iommu_group")
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		members, _ := filepath.Glob(link + "/iommu_group/devices/*")
		want(truth[len(members) > 1], "vf_iommu_group_shared", label)
		info := fmt.Sprintf(`nictune_vf_info{device=%q,driver="igbvf",driver_kind="kernel",iommu_group=%q,mac=%q,`, pf, filepath.Base(group), vf.MAC)
		if !strings.Contains(page, info) || !strings.Contains(page, `pci_address="`+filepath.Base(address)+`",representor=""`+label+"} 1\n") {
			t.Errorf("there is no %s... of %s", info, address)
		}
	}
	if v := links[0].VFs; v[0].MAC != "52:54:00:aa:00:01" || v[1].Rate.Max != 500 || !v[1].Trust {
		t.Errorf("ip does not see what was set: %+v", v)
	}
	want(500*125000, "vf_max_transmit_bytes_per_second", `,vf="1"`)
	if line := fmt.Sprintf("nictune_vf_vlan_info{device=%q,protocol=\"802.1Q\",qos=\"3\",vf=\"0\",vlan=\"100\"} 1\n", pf); !strings.Contains(page, line) {
		t.Errorf("there is no %s", line)
	}
	var counted []struct {
		VFs []struct {
			Stats struct {
				RX map[string]uint64 `json:"rx"`
				TX map[string]uint64 `json:"tx"`
			} `json:"stats"`
		} `json:"vfinfo_list"`
	}
	if err := json.Unmarshal(labtest.Run(t, "ip", "-s", "-j", "link", "show", simulated), &counted); err != nil || len(counted) != 1 || len(counted[0].VFs) != 2 {
		t.Fatalf("%v: %+v", err, counted)
	}
	for i, vf := range counted[0].VFs {
		rx, tx := vf.Stats.RX, vf.Stats.TX
		for name, value := range map[string]uint64{
			"receive_packets": rx["packets"], "receive_bytes": rx["bytes"], "receive_broadcast_packets": rx["broadcast"],
			"receive_multicast_packets": rx["multicast"], "receive_dropped": rx["dropped"],
			"transmit_packets": tx["tx_packets"], "transmit_bytes": tx["tx_bytes"], "transmit_dropped": tx["dropped"],
		} {
			line := fmt.Sprintf("\nnictune_vf_%s_total{device=%q,vf=\"%d\"} %d\n", name, simulated, i, value)
			if value == 0 || !strings.Contains(page, line) {
				t.Errorf("there is no %s", strings.TrimSpace(line))
			}
		}
	}
	// A change is told of without a scrape asking for it.
	labtest.Run(t, "ethtool", "-G", pf, "rx", "1024")
	labtest.Eventually(t, "the ring to be 1024", func() bool {
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, sample("ring_descriptors", `,ring="rx"`)+"1024")
	})
	s.end(t)
}
