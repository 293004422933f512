//go:build lab

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/lab/nstest"
)

// recordTo is where the hosts below are recorded to, as testdata/rules/hosts has them.
var recordTo = flag.String("record-rules", "", "write the recordings of hosts on which rules fire into this `folder`")

// put writes a file below /proc or /sys, whose content is put back when the test ends.
func put(t *testing.T, path, value string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(value), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, before, 0o644); err != nil {
			t.Errorf("put back: %v", err)
		}
	})
}

// undone runs a command now, and another when the test ends.
func undone(t *testing.T, command, undo string) {
	t.Helper()
	run := func(command string) { words := strings.Fields(command); labtest.Run(t, words[0], words[1:]...) }
	run(command)
	t.Cleanup(func() { run(undo) })
}

// recordedAs records the host under a name, where that is asked for.
func recordedAs(t *testing.T, name string) {
	t.Helper()
	if *recordTo == "" {
		return
	}
	if _, stderr, exit := nictune(t, "record", "--modules", "-o", filepath.Join(*recordTo, name+".txtar")); exit != exitOK {
		t.Fatalf("record: exit %d, %s", exit, stderr)
	}
}

// says is what rules are to say of this host, by "RULE DEVICE", and what they say.
func says(t *testing.T, want map[string]findings.Status, args ...string) {
	t.Helper()
	stdout, stderr, exit := nictune(t, append([]string{"check", "--all", "-o", "json"}, args...)...)
	var r audit.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("exit %d, %s: %v", exit, stderr, err)
	}
	left := map[string]findings.Status{}
	for key, status := range want {
		left[key] = status
	}
	for _, f := range r.Findings {
		key := strings.TrimSpace(f.Rule + " " + f.Subject.Name + " " + f.Subject.Part)
		wanted, asked := want[key]
		if f.Status == findings.Fail || asked {
			t.Logf("%s: %s: %s", f.Status, key, f.Seen)
		}
		if asked && f.Status == wanted {
			delete(left, key)
		}
	}
	for key, status := range left {
		t.Errorf("%s is not %s", key, status)
	}
}

// moduleStates are modules as they should be, and worn ones.
func moduleStates(t *testing.T) (good, worn []labtest.ModuleMemory) {
	t.Helper()
	dump := func(name string) labtest.ModuleMemory { return labtest.ModuleDump(t, moduleDumps+name+".hex") }
	a0, a2 := labtest.ModulePage{Address: 0x50}, labtest.ModulePage{Address: 0x51}
	upper := func(number uint8) labtest.ModulePage {
		return labtest.ModulePage{Address: 0x50, Number: number, Upper: true}
	}
	set := func(m labtest.ModuleMemory, p labtest.ModulePage, offset int, data ...byte) labtest.ModuleMemory {
		m = m.Clone()
		if m[p] == nil {
			m[p] = make([]byte, 128)
		}
		copy(m[p][offset:], data)
		return m
	}
	sfp := set(dump("sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0"), a2, 96, 30, 0, 0x80, 0xe8, 0x10, 0x00, 0x16, 0x00, 0x10, 0x00)
	sfp = set(sfp, a2, 110, make([]byte, 8)...) // no flags
	qsfp := set(dump("qsfp-40g-sr4-finisar-ftl410qe3c"), a0, 3, make([]byte, 19)...)
	qsfp = set(qsfp, a0, 52, 0x13, 0x88)
	// Limits for its signal to noise: 40 and 10 dB, 38 and 12 dB.
	cmis := set(dump("edited-cmis-400g-lr4-vdm"), upper(0x28), 0, 0x28, 0, 0x0a, 0, 0x26, 0, 0x0c, 0)
	good = []labtest.ModuleMemory{sfp, qsfp, cmis}

	hot := set(sfp, a2, 96, 79, 0)      // degrees, beyond its alarm
	hot = set(hot, a2, 102, 0x20, 0x00) // 0.8 mW sent, beyond its warning
	hot = set(hot, a2, 104, 0x00, 0xb0) // 0.0176 mW received, close to its warning
	dark := set(set(sfp, a2, 104, 0, 1), a2, 110, 2)
	doubtful := set(sfp, a0, 40, 'X')
	// A QSFP28 for 100GBASE-SR4 of power class 5, to which no high power is allowed.
	hungry := set(set(qsfp, upper(0), 1, qsfp[upper(0)][1]|0x01), upper(0), 64, 2)
	hungry = set(hungry, upper(0), 3, qsfp[upper(0)][3]|0x80) // its code is an extended one
	for base, sum := range map[int]int{0: 63, 64: 95} {
		total := byte(0)
		for _, b := range hungry[upper(0)][base:sum] {
			total += b
		}
		hungry = set(hungry, upper(0), sum, total)
	}
	// Lane 1 below its alarm, lane 2 below its warning; the module says that it has a fault.
	noisy := set(set(cmis, upper(0x24), 0, 0x09, 0x00, 0x0b, 0x00), a0, 3, cmis[a0][3]&^0x0e|5<<1)
	worn = []labtest.ModuleMemory{hot, dark, doubtful, hungry, noisy}
	return good, worn
}

// plugged makes ports of netdevsim with a module in each.
func pluggedPorts(t *testing.T, id int, modules []labtest.ModuleMemory, speeds ...string) []string {
	t.Helper()
	ports := labtest.Netdevsim(t, id, len(modules))
	for i, name := range ports {
		labtest.Run(t, "ip", "link", "set", name, "name", fmt.Sprintf("sim%d", i))
		ports[i] = fmt.Sprintf("sim%d", i)
		setUp(t, ports[i])
		labtest.Ethtool(t, "-s", ports[i], "speed", speeds[i], "duplex", "full", "autoneg", "off")
		labtest.Plug(t, ports[i], modules[i], true)
	}
	return ports
}

// setUp sets devices up and waits for their carriers.
func setUp(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		labtest.Run(t, "ip", "link", "set", name, "up")
	}
	for _, name := range names {
		labtest.Eventually(t, name+" has a carrier", func() bool { return carries(name) == "1" })
	}
}

// carries is a device's carrier as sysfs has it.
func carries(name string) string {
	b, _ := os.ReadFile("/sys/class/net/" + name + "/carrier")
	return strings.TrimSpace(string(b))
}

// rename gives a driver's first interfaces names that tell the driver, until the test ends.
func rename(t *testing.T, driver string, names ...string) {
	t.Helper()
	call := func(from, to string) {
		labtest.Run(t, "ip", "link", "set", from, "down")
		labtest.Run(t, "ip", "link", "set", from, "name", to)
	}
	for i, name := range labtest.NICs(t, driver, len(names))[:len(names)] {
		call(name, names[i])
		t.Cleanup(func() {
			if _, err := net.InterfaceByName(names[i]); err == nil { // VFs went with their PF's
				call(names[i], name)
			}
		})
	}
}

// TestRulesFireLive has real drivers in states that rules are about: as they should be,
// and then as many wrong as the lab can make. With -record-rules it records both.
func TestRulesFireLive(t *testing.T) {
	labtest.Require(t, "nics")
	good, worn := moduleStates(t)
	rename(t, "igb", "pf0", "igb1")
	rename(t, "e1000e", "e0")
	rename(t, "virtio_net", "vio0")
	rename(t, "vmxnet3", "vmx0")
	put(t, "/sys/class/net/pf0/device/sriov_numvfs", "2")
	rename(t, "igbvf", "vf0", "vf1")
	labtest.Run(t, "ip", "link", "set", "pf0", "vf", "0", "mac", "02:00:00:00:00:10")
	labtest.Run(t, "ip", "link", "set", "pf0", "vf", "1", "mac", "02:00:00:00:00:11", "vlan", "10")
	setUp(t, "pf0", "igb1", "e0", "vio0", "vmx0", "vf0", "vf1")
	for i, irq := range irqsOf(t, "igb1") {
		put(t, "/proc/irq/"+irq+"/smp_affinity_list", fmt.Sprint(i%4))
	}
	put(t, "/sys/class/net/e0/queues/rx-0/rps_cpus", "f") // it has one queue
	undone(t, "ip link add br0 type bridge mcast_snooping 1 mcast_querier 1", "ip link del br0")
	labtest.Run(t, "ip", "link", "set", "pf0", "master", "br0")
	setUp(t, "br0")
	labtest.Ethtool(t, "-s", "vio0", "speed", "25000", "duplex", "full") // it believes what it is told
	t.Run("as it should be", func(t *testing.T) {
		pluggedPorts(t, 61, good, "10000", "10000", "100000")
		labtest.Ethtool(t, "--set-fec", "sim2", "encoding", "rs")
		recordedAs(t, "nics")
		says(t, map[string]findings.Status{
			"link/half-duplex vio0": findings.Pass, "queues/small-ring vio0": findings.Pass,
			"queues/rps igb1": findings.Pass, "queues/xps igb1": findings.Pass, "queues/irqs-one-cpu igb1": findings.Pass,
			"queues/late-interrupt igb1": findings.Pass, "offload/segmentation-off igb1": findings.Pass, "xdp/native-blocked igb1": findings.Pass,
			"queues/rps e0": findings.Pass, "queues/backlog e0": findings.Pass, "offload/lro-on-bridge-port pf0": findings.Pass,
			"multicast/no-querier br0": findings.Pass, "multicast/bridge-limit br0": findings.Pass, "link/fec sim2": findings.Pass,
			"offload/not-in-force e0": findings.Pass, "offload/checksum-off e0": findings.Pass, "link/down e0": findings.Pass,
			"sriov/pf-mtu pf0 vf 0": findings.Pass, "sriov/duplicate-mac pf0 vf 0": findings.Pass, "sriov/unbound pf0 vf 1": findings.Pass,
			"sriov/vlan-clash pf0 vf 1": findings.Pass, "sriov/trusted-unchecked pf0 vf 0": findings.Pass,
			"multicast/filter-overflow vf0": findings.Pass, "multicast/memberships": findings.Pass,
			"link/module-alarm sim0": findings.Pass, "link/module-warning sim0": findings.Pass, "link/module-margin sim0": findings.Pass,
			"link/module-dark sim0": findings.Pass, "link/module-signals sim0": findings.Pass, "link/module-checksum sim0": findings.Pass,
			"link/module-rate sim0": findings.Pass, "link/module-power sim1": findings.Pass, "link/module-state sim2": findings.Pass,
			"link/module-quality-alarm sim2": findings.Pass, "link/module-quality-warning sim2": findings.Pass,
		})
	})
	t.Run("worn", func(t *testing.T) { wornHost(t, worn) })
}

// wornHost sets up wrong what rules are about.
func wornHost(t *testing.T, worn []labtest.ModuleMemory) {
	ip := func(command string) { t.Helper(); labtest.Run(t, "ip", strings.Fields(command)...) }
	ip("link add link vf0 name tagged type vlan id 7")
	ip("link set pf0 vf 0 vlan 10")
	pluggedPorts(t, 62, worn, "10000", "10000", "10000", "100000", "100000")
	labtest.Ethtool(t, "--set-fec", "sim3", "encoding", "off")
	labtest.Ethtool(t, "--set-fec", "sim4", "encoding", "rs")
	undone(t, "ethtool -K e0 sg off rx off", "ethtool -K e0 sg on rx on")

	undone(t, "ethtool -K igb1 tso off", "ethtool -K igb1 tso on")
	undone(t, "ethtool -G igb1 rx 80", "ethtool -G igb1 rx 256")
	undone(t, "ethtool -C igb1 rx-usecs 3000", "ethtool -C igb1 rx-usecs 3")
	undone(t, "ip link set igb1 mtu 9000", "ip link set igb1 mtu 1500")
	setUp(t, "igb1")
	for _, irq := range irqsOf(t, "igb1") {
		put(t, "/proc/irq/"+irq+"/smp_affinity_list", "0")
	}
	for i := range 4 {
		put(t, fmt.Sprintf("/sys/class/net/igb1/queues/rx-%d/rps_cpus", i), "f")
		put(t, fmt.Sprintf("/sys/class/net/igb1/queues/tx-%d/xps_cpus", i), "1")
	}
	put(t, "/proc/sys/net/core/netdev_max_backlog", "10")

	undone(t, "ethtool -s vio0 speed 100000 duplex half", "ethtool -s vio0 speed 10000 duplex full")
	undone(t, "ethtool -G vio0 rx 64", "ethtool -G vio0 rx 1024")

	ip("link set br0 type bridge mcast_querier 0 mcast_hash_max 16")
	nstest.GenericXDPProgram(t, indexOf(t, "vmx0")) // which switches LRO off
	labtest.Ethtool(t, "-K", "vmx0", "lro", "on")
	for i := range 13 {
		labtest.Run(t, "bridge", "mdb", "add", "dev", "br0", "port", "pf0", "grp", fmt.Sprintf("239.1.1.%d", i), "permanent")
	}

	undone(t, "ip link add vp0 type veth peer name vp1", "ip link del vp0")
	setUp(t, "vp0", "vp1")
	ip("addr add 192.0.2.1/24 dev vp0")
	nstest.XDPProgram(t, indexOf(t, "vp0"))
	ip("link add link vp0 name mv0 type macvlan mode bridge")
	ip("link set mv0 up")
	nstest.GenericXDPProgram(t, indexOf(t, "mv0"))
	put(t, "/proc/sys/net/ipv4/conf/vp0/force_igmp_version", "2")
	put(t, "/proc/sys/net/ipv4/igmp_max_memberships", "1")
	deaf, err := net.ListenMulticastUDP("udp4", &net.Interface{Index: indexOf(t, "vp0"), Name: "vp0"}, &net.UDPAddr{IP: net.IPv4(239, 7, 0, 1), Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if err := deaf.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	ip("route add 239.0.0.0/8 dev vp0")
	loud, err := (&net.Dialer{}).DialContext(t.Context(), "udp4", "239.7.0.1:5000")
	if err != nil {
		t.Fatal(err)
	}
	defer loud.Close()
	for range 200 { // the kernel loops them back
		if _, err := loud.Write(make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
	}

	undone(t, "ip link add lag0 type bond mode active-backup miimon 100", "ip link del lag0")
	for _, leg := range []string{"leg0", "leg1"} {
		undone(t, "ip link add "+leg+" type veth peer name peer-"+leg, "ip link del "+leg)
		ip("link set " + leg + " master lag0")
		setUp(t, leg, "peer-"+leg)
	}
	setUp(t, "lag0")

	undone(t, "ip link set pf0 mtu 1400", "ip link set pf0 mtu 1500")
	setUp(t, "pf0")
	ip("link set pf0 vf 0 trust on spoofchk off")
	ip("link set pf0 vf 1 mac 02:00:00:00:00:10")
	for i := range 30 {
		ip(fmt.Sprintf("maddr add 01:00:5e:00:01:%02x dev vf0", i))
	}
	vf1, err := filepath.EvalSymlinks("/sys/class/net/vf1/device")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vf1+"/driver/unbind", []byte(filepath.Base(vf1)), 0); err != nil {
		t.Fatal(err)
	}
	cut(t, "e1000e0", "e0")
	t.Cleanup(func() { labtest.SetLink(t, "e1000e0", true) })
	recordedAs(t, "nics-worn")
	says(t, map[string]findings.Status{
		"link/half-duplex vio0": findings.Fail, "queues/small-ring vio0": findings.Fail,
		"queues/rps igb1": findings.Fail, "queues/xps igb1": findings.Fail, "queues/irqs-one-cpu igb1": findings.Fail, "queues/backlog igb1": findings.Fail,
		"queues/late-interrupt igb1": findings.Fail, "offload/segmentation-off igb1": findings.Fail, "xdp/native-blocked igb1": findings.Fail,
		"offload/not-in-force e0": findings.Fail, "offload/checksum-off e0": findings.Fail, "link/down e0": findings.Fail,
		"xdp/generic-mode vmx0": findings.Fail, "xdp/merged-packets vmx0": findings.Fail,
		"xdp/program-above vp0": findings.Fail, "multicast/no-querier br0": findings.Fail, "multicast/bridge-limit br0": findings.Fail,
		"multicast/igmp-version vp0": findings.Fail, "multicast/memberships": findings.Fail, "multicast/socket-drops": findings.Fail,
		"multicast/filter-overflow vf0": findings.Fail,
		"sriov/pf-mtu pf0 vf 0":         findings.Fail, "sriov/duplicate-mac pf0 vf 0": findings.Fail, "sriov/unbound pf0 vf 1": findings.Fail,
		"sriov/vlan-clash pf0 vf 0": findings.Fail, "sriov/trusted-unchecked pf0 vf 0": findings.Fail,
		"link/module-alarm sim0": findings.Fail, "link/module-warning sim0": findings.Fail, "link/module-margin sim0": findings.Fail,
		"link/module-dark sim1": findings.Fail, "link/module-signals sim1": findings.Fail, "link/module-checksum sim2": findings.Fail,
		"link/fec sim3": findings.Fail, "link/module-rate sim3": findings.Fail, "link/module-power sim3": findings.Fail,
		"link/module-state sim4": findings.Fail, "link/module-quality-alarm sim4": findings.Fail, "link/module-quality-warning sim4": findings.Fail,
	})

	if *recordTo == "" {
		return // other tests have these
	}
	// What happens between two looks: a cable out and in, a card pulled.
	cut(t, "igb1", "igb1")
	labtest.SetLink(t, "igb1", true)
	setUp(t, "igb1")
	labtest.Unplug(t, "vmxnet30")
	recordedAs(t, "nics-later")
}

// cut takes out the cable of a device that QEMU knows by this id.
func cut(t *testing.T, id, name string) {
	t.Helper()
	labtest.SetLink(t, id, false)
	labtest.Eventually(t, name+" has no carrier", func() bool { return carries(name) == "0" })
}

// TestRulesFireOnNodes has what takes several memory nodes and a switch without ACS, and
// functions that could be migrated: on one host what is right and what is not.
func TestRulesFireOnNodes(t *testing.T) {
	labtest.Require(t, "numa")
	rename(t, "igb", "near0", "far0")
	rename(t, "e1000e", "e0")
	rename(t, "virtio_net", "vio0")
	put(t, "/sys/class/net/far0/device/sriov_numvfs", "2")
	setUp(t, "near0", "far0", "e0", "vio0")
	for name, cpu := range map[string]string{"near0": "1", "far0": "2"} { // its node has 4 to 7
		for _, irq := range irqsOf(t, name) {
			put(t, "/proc/irq/"+irq+"/smp_affinity_list", cpu)
		}
	}
	port := labtest.Netdevsim(t, 63, 1)[0]
	labtest.Run(t, "ip", "link", "set", port, "name", "sim0")
	put(t, "/sys/bus/netdevsim/devices/netdevsim63/sriov_numvfs", "2")
	labtest.Run(t, "devlink", "dev", "eswitch", "set", "netdevsim/netdevsim63", "mode", "switchdev")
	labtest.Run(t, "devlink", "port", "function", "set", portOfVF(t, 0), "migratable", "enable")
	recordedAs(t, "numa")
	says(t, map[string]findings.Status{
		"pcie/irq-node near0": findings.Pass, "pcie/irq-node far0": findings.Fail,
		"sriov/no-acs far0": findings.Fail, "sriov/shared-group far0 vf 0": findings.Fail,
		"sriov/not-migratable sim0 vf 0": findings.Pass, "sriov/not-migratable sim0 vf 1": findings.Fail,
	}, "-f", ruleCases+"migratable.yaml")
}

// portOfVF is devlink's port of a VF.
func portOfVF(t *testing.T, vf int) string {
	t.Helper()
	for line := range strings.Lines(string(labtest.Run(t, "devlink", "port", "show"))) {
		if name, rest, _ := strings.Cut(line, ": "); strings.Contains(rest, fmt.Sprintf("vfnum %d ", vf)) {
			return name
		}
	}
	t.Fatalf("devlink shows no port of VF %d", vf)
	return ""
}

// irqsOf are the numbers of a NIC's interrupts.
func irqsOf(t *testing.T, name string) []string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net/" + name + "/device/msi_irqs")
	if err != nil {
		t.Fatal(err)
	}
	var irqs []string
	for _, e := range entries {
		irqs = append(irqs, e.Name())
	}
	slices.Sort(irqs)
	return irqs
}
