//go:build lab

package sriov

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

// shown are the counters that ethtool -S prints, in its order.
func shown(t *testing.T, device string) (names []string, values []uint64) {
	t.Helper()
	for line := range strings.Lines(string(labtest.Ethtool(t, "-S", device))) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if i := strings.LastIndex(line, ": "); ok && i >= 0 { // "[0]: rx_packets: 7"
			name, value = strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+2:])
		}
		v, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			continue // the heading
		}
		names, values = append(names, name), append(values, v)
	}
	return names, values
}

// A meter's counters are those that ethtool, ip, /proc and sysfs show of real
// drivers.
func TestMeterAgreesWithTools(t *testing.T) {
	labtest.Require(t, "nics")
	pf := labtest.NIC(t, "igb")
	enable(t, pf, 2)
	drivers := map[string]string{}
	for _, driver := range []string{"igb", "igbvf", "e1000e", "virtio_net", "vmxnet3"} {
		name := labtest.NIC(t, driver)
		drivers[driver] = name
		labtest.Run(t, "ip", "link", "set", name, "up")
	}
	simulated := labtest.Netdevsim(t, 12, 1)[0]
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	inv, err := inventory.Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	meter := inventory.NewMeter(live, inventory.MeterOptions{VFs: Counters})
	meter.Read(t.Context(), inv, nil) // the names

	type printed struct {
		names  []string
		values []uint64
	}
	before := map[string]printed{}
	for _, name := range drivers {
		names, values := shown(t, name)
		before[name] = printed{names, values}
	}
	interrupts := func(irq int) (sum uint64) {
		table, err := os.ReadFile("/proc/interrupts")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) == 0 || fields[0] != fmt.Sprintf("%d:", irq) {
				continue
			}
			for _, f := range fields[1:] {
				v, err := strconv.ParseUint(f, 10, 64)
				if err != nil {
					break
				}
				sum += v
			}
		}
		return sum
	}
	fired := map[int]uint64{}
	for _, n := range inv.NICs {
		for _, irq := range n.IRQs {
			fired[irq.Number] = interrupts(irq.Number)
		}
	}
	s := meter.Read(t.Context(), inv, nil)
	for _, f := range s.Failures {
		t.Errorf("failed: %+v", f)
	}
	for _, r := range s.Reads {
		if r.Err != nil {
			t.Errorf("%s: %v", r.Part, r.Err)
		}
	}
	of := func(name string) *inventory.DeviceSample {
		t.Helper()
		i := slices.IndexFunc(s.Devices, func(d inventory.DeviceSample) bool { return d.Name == name })
		if i < 0 {
			t.Fatalf("nothing of %s", name)
		}
		return &s.Devices[i]
	}

	// Drivers' own: the names in order, the values between what ethtool printed before
	// and after.
	for driver, name := range drivers {
		names, after := shown(t, name)
		was := before[name]
		d := of(name)
		if d.Set == nil || len(d.Set.Names) != len(names) || len(was.names) != len(names) {
			t.Errorf("%s: %d counters, and ethtool shows %d", driver, len(d.Driver), len(names))
			continue
		}
		for i := range names {
			label, _, _ := strings.Cut(d.Set.Names[i], " #")
			if own, _, _ := strings.Cut(names[i], " #"); label != own {
				t.Errorf("%s: counter %d is %q, and ethtool shows %q", driver, i, d.Set.Names[i], names[i])
			}
			if d.Driver[i] < was.values[i] || d.Driver[i] > after[i] {
				t.Errorf("%s: %s is %d, not between %d and %d", driver, names[i], d.Driver[i], was.values[i], after[i])
			}
		}
		t.Logf("%s: %d counters, %d meanings", driver, len(names), len(d.Meant))
	}
	// vmxnet3 has one name for each queue: each is told apart.
	if names := of(drivers["vmxnet3"]).Set.Names; len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("a name twice: %q", names)
	}

	// Queues: of virtio by netdev genl, of igb by its own counters.
	queues := map[string]int{}
	for _, q := range s.Queues {
		if q.Packets != nil {
			queues[q.Name+" "+q.Direction]++
		}
	}
	for driver, name := range map[string]string{"virtio_net": drivers["virtio_net"], "igb": pf, "vmxnet3": drivers["vmxnet3"]} {
		if queues[name+" rx"] == 0 || queues[name+" tx"] == 0 {
			t.Errorf("%s: no packets of queues: %v", driver, queues)
		}
	}

	// Standard counters: netdevsim's pause frames.
	var pause inventory.StandardCounter
	for _, c := range of(simulated).Standard {
		if c.Group == "pause" && c.Name == "rx" {
			pause = c
		}
	}
	var ethtool []struct {
		Statistics map[string]uint64 `json:"statistics"`
	}
	if err := json.Unmarshal(labtest.Ethtool(t, "--json", "-I", "-a", simulated), &ethtool); err != nil || len(ethtool) != 1 {
		t.Fatalf("%v, %v", ethtool, err)
	}
	if want, ok := ethtool[0].Statistics["rx_pause_frames"]; !ok || pause.Value != want || pause.Name == "" {
		t.Errorf("pause frames %+v, ethtool shows %v", pause, ethtool[0].Statistics)
	}

	// VFs, against ip: igb's driver doesn't count, so they are zeros there, and nothing
	// here.
	i := slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Name == pf })
	vfs, err := Counters(t.Context(), live, &inv.NICs[i])
	if err != nil || len(vfs) != 2 {
		t.Fatalf("%v, %v", vfs, err)
	}
	var links []struct {
		VFs []ipVF `json:"vfinfo_list"`
	}
	if err := json.Unmarshal(labtest.Run(t, "ip", "-s", "-d", "-j", "link", "show", pf), &links); err != nil || len(links) != 1 || len(links[0].VFs) != 2 {
		t.Fatalf("%+v, %v", links, err)
	}
	for j, vf := range links[0].VFs {
		got, err := json.Marshal(vfs[j])
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(inventory.VFCounters{
			VF: vf.VF, RxPackets: vf.Stats.RX.Packets, TxPackets: vf.Stats.TX.Packets, RxBytes: vf.Stats.RX.Bytes, TxBytes: vf.Stats.TX.Bytes,
			Broadcast: vf.Stats.RX.Broadcast, Multicast: vf.Stats.RX.Multicast, RxDropped: vf.Stats.RX.Dropped, TxDropped: vf.Stats.TX.Dropped,
		})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("VF %d: %s, ip shows %s", j, got, want)
		}
	}
	if of(pf).VFs != nil {
		t.Error("zeros of a driver that doesn't count are taken for counters")
	}

	// Interrupts.
	seen := 0
	for _, irq := range s.Interrupts {
		seen++
		if after := interrupts(irq.IRQ); irq.Count < fired[irq.IRQ] || irq.Count > after {
			t.Errorf("interrupt %d of %s: %d, not between %d and %d", irq.IRQ, irq.Name, irq.Count, fired[irq.IRQ], after)
		}
	}
	of40 := map[string]bool{}
	for _, irq := range s.Interrupts {
		if irq.Name == pf && irq.Queue != "" {
			of40[irq.Queue] = true
		}
	}
	if seen == 0 || !of40["0"] || !of40["1"] {
		t.Errorf("%d interrupts, of igb's queues %v", seen, of40)
	}

	// AER: the sums of what the files list are the totals that the kernel gives.
	functions := map[string]bool{}
	for _, d := range s.AER {
		functions[d.Address] = true
		sums := map[string]uint64{}
		for _, e := range d.Errors {
			sums[e.Severity] += e.Count
		}
		for severity, total := range map[string]string{"correctable": "TOTAL_ERR_COR", "nonfatal": "TOTAL_ERR_NONFATAL", "fatal": "TOTAL_ERR_FATAL"} {
			file, err := os.ReadFile("/sys/bus/pci/devices/" + d.Address + "/aer_dev_" + severity)
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%s %d\n", total, sums[severity]); !strings.HasSuffix(string(file), want) {
				t.Errorf("%s %s: not %s", d.Address, severity, want)
			}
		}
	}
	t.Logf("AER of %v; %d queues, %d interrupts", slices.Sorted(maps.Keys(functions)), len(s.Queues), seen)
}
