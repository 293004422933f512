package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/nstest"
)

// A counterpart is where nictune has what a family of node_exporter says.
type counterpart struct {
	// ours are the metrics; of several the sum.
	ours []string
	// where makes of a sample's labels those of ours; nil: its device is the same. It
	// reports false for what is no NIC's.
	where func(h *twoHosts, labels map[string]string) (map[string]string, bool)
	// value makes of its value what ours is; nil: the same.
	value func(float64) float64
	// none reports that ours is absent for a value that only says that it is unknown, or
	// that there is no such thing.
	none func(h *twoHosts, labels map[string]string, value float64) bool
	// words compares labels, for a family that has its facts in those. It says what
	// differs.
	words func(h *twoHosts, labels map[string]string) string
}

// counterparts are those of all families about NICs that node_exporter's collectors
// ethtool, netclass, netdev, softnet, pcidevice and interrupts have. What ethtool -S
// counts is not among them: its names are the drivers'.
func counterparts() map[string]counterpart {
	of := func(names ...string) counterpart {
		for i := range names {
			names[i] = "nictune_" + names[i]
		}
		return counterpart{ours: names}
	}
	all := map[string]counterpart{
		// netdev, in the names of /proc/net/dev
		"node_network_receive_errs_total":     of("network_receive_errors_total"),
		"node_network_receive_drop_total":     of("network_receive_dropped_total", "network_receive_missed_errors_total"),
		"node_network_receive_fifo_total":     of("network_receive_fifo_errors_total"),
		"node_network_receive_frame_total":    of("network_receive_frame_errors_total", "network_receive_length_errors_total", "network_receive_over_errors_total", "network_receive_crc_errors_total"),
		"node_network_transmit_errs_total":    of("network_transmit_errors_total"),
		"node_network_transmit_drop_total":    of("network_transmit_dropped_total"),
		"node_network_transmit_fifo_total":    of("network_transmit_fifo_errors_total"),
		"node_network_transmit_colls_total":   of("network_collisions_total"),
		"node_network_transmit_carrier_total": of("network_transmit_carrier_errors_total", "network_transmit_aborted_errors_total", "network_transmit_heartbeat_errors_total", "network_transmit_window_errors_total"),
		// and in its own
		"node_network_multicast_total": of("network_receive_multicast_total"),

		"node_network_speed_bytes":   {ours: []string{"nictune_network_speed_bytes"}, none: func(_ *twoHosts, _ map[string]string, v float64) bool { return v <= 0 || v > 1<<31*1e6/8 }},
		"node_network_up":            {ours: []string{"nictune_network_up"}, none: (*twoHosts).stateUnknown},
		"node_network_carrier":       {ours: []string{"nictune_network_carrier"}, none: (*twoHosts).switchedOff},
		"node_network_autonegotiate": {ours: []string{"nictune_network_autonegotiate"}, none: (*twoHosts).labelledAutoneg},
		"node_network_info":          {words: (*twoHosts).networkInfo},
		"node_ethtool_info":          {words: (*twoHosts).ethtoolInfo},
		"node_network_altnames_info": {ours: []string{"nictune_network_altnames_info"}, where: same("device", "altname")},

		"node_network_supported_port_info":   {ours: []string{"nictune_network_supported_port_info"}, where: same("device", "type")},
		"node_network_supported_speed_bytes": {ours: []string{"nictune_network_supported_speed_bytes"}, where: same("device", "duplex", "mode")},
		"node_network_advertised_speed_bytes": {
			ours: []string{"nictune_network_advertised_speed_bytes"}, where: same("device", "duplex", "mode"),
		},

		"node_interrupts_total": {ours: []string{"nictune_irq_cpu_total"}, where: (*twoHosts).interruptOf},

		"node_pcidevice_info":        {where: (*twoHosts).functionOf, words: (*twoHosts).pciInfo},
		"node_pcidevice_power_state": {ours: []string{"nictune_pci_power_state_info"}, where: (*twoHosts).stateOf, none: func(_ *twoHosts, _ map[string]string, v float64) bool { return v == 0 }},
	}
	for _, name := range []string{
		"receive_packets_total", "transmit_packets_total", "receive_bytes_total", "transmit_bytes_total", "receive_errors_total", "transmit_errors_total",
		"receive_dropped_total", "transmit_dropped_total", "receive_multicast_total", "collisions_total", "receive_length_errors_total", "receive_over_errors_total",
		"receive_crc_errors_total", "receive_frame_errors_total", "receive_fifo_errors_total", "receive_missed_errors_total", "transmit_aborted_errors_total",
		"transmit_carrier_errors_total", "transmit_fifo_errors_total", "transmit_heartbeat_errors_total", "transmit_window_errors_total",
		"receive_compressed_total", "transmit_compressed_total", "receive_nohandler_total",
		"address_assign_type", "carrier_changes_total", "carrier_up_changes_total", "carrier_down_changes_total", "device_id", "dormant", "flags",
		"iface_id", "iface_link", "iface_link_mode", "mtu_bytes", "name_assign_type", "net_dev_group", "protocol_type", "transmit_queue_length",
		"autonegotiate_supported", "autonegotiate_advertised", "pause_supported", "pause_advertised", "asymmetricpause_supported", "asymmetricpause_advertised",
	} {
		all["node_network_"+name] = of("network_" + name)
	}
	for _, name := range []string{"processed_total", "dropped_total", "times_squeezed_total", "cpu_collision_total", "received_rps_total", "flow_limit_count_total", "backlog_len"} {
		c := of("softnet_" + name)
		c.where = same("cpu")
		all["node_softnet_"+name] = c
	}
	for name, c := range map[string]counterpart{
		"max_link_transfers_per_second": of("pci_max_link_transfers_per_second"), "current_link_transfers_per_second": of("pci_current_link_transfers_per_second"),
		"max_link_width": of("pci_max_link_width"), "current_link_width": of("pci_current_link_width"),
		"d3cold_allowed": of("pci_d3cold_allowed"), "numa_node": of("pci_numa_node"),
		"sriov_drivers_autoprobe": of("sriov_drivers_autoprobe"), "sriov_numvfs": of("sriov_vfs"), "sriov_totalvfs": of("sriov_max_vfs"),
		"sriov_vf_total_msix": of("sriov_vf_total_msix"),
	} {
		c.where = (*twoHosts).functionOf
		switch {
		case strings.HasPrefix(name, "sriov_"): // it says 0 of all that have no VFs, and ours of a driver that tells no number nothing
			c.none = func(_ *twoHosts, _ map[string]string, v float64) bool { return v == 0 }
		case strings.Contains(name, "_link_"): // of VFs, too: theirs is the PF's
			c.none = func(h *twoHosts, labels map[string]string, v float64) bool { return v <= 0 || h.kindOf(labels) == "vf" }
		}
		all["node_pcidevice_"+name] = c
	}
	return all
}

// same keeps labels.
func same(names ...string) func(*twoHosts, map[string]string) (map[string]string, bool) {
	return func(h *twoHosts, labels map[string]string) (map[string]string, bool) {
		kept := map[string]string{}
		for _, name := range names {
			kept[name] = labels[name]
		}
		return kept, kept["device"] == "" || h.nic[kept["device"]] != nil
	}
}

// twoHosts is one host as both exporters have it: ours before and after the other's.
type twoHosts struct {
	before, after map[string][]labelled // ours, by metric
	node          map[string][]labelled
	nic           map[string]map[string]string // labels of nictune_nic_info, by device
	network       map[string]map[string]string // and of nictune_network_info
	pci           map[string]map[string]string // and of nictune_pci_info
	functions     map[string]string            // devices by their PCI address
	irqs          map[string]bool              // those of NICs
}

type labelled struct {
	labels map[string]string
	value  float64
}

// samplesOf are a page's samples.
func samplesOf(t *testing.T, page string) map[string][]labelled {
	t.Helper()
	all := map[string][]labelled{}
	for name, f := range scraped(t, page) {
		for _, m := range f.GetMetric() {
			one := labelled{map[string]string{}, m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()}
			for _, l := range m.GetLabel() {
				one.labels[l.GetName()] = l.GetValue()
			}
			all[name] = append(all[name], one)
		}
	}
	return all
}

func byLabel(all []labelled, name string) map[string]map[string]string {
	m := map[string]map[string]string{}
	for _, one := range all {
		m[one.labels[name]] = one.labels
	}
	return m
}

func newTwoHosts(before, node, after map[string][]labelled) *twoHosts {
	h := &twoHosts{before: before, node: node, after: after, functions: map[string]string{}, irqs: map[string]bool{}}
	h.nic, h.network = byLabel(after["nictune_nic_info"], "device"), byLabel(after["nictune_network_info"], "device")
	h.pci = byLabel(after["nictune_pci_info"], "device")
	for device, labels := range h.pci {
		h.functions[labels["pci_address"]] = device
	}
	for _, one := range after["nictune_irq_affinity_info"] {
		h.irqs[one.labels["irq"]] = true
	}
	return h
}

func (h *twoHosts) stateUnknown(labels map[string]string, _ float64) bool {
	return h.network[labels["device"]]["operstate"] == "unknown"
}

func (h *twoHosts) switchedOff(labels map[string]string, _ float64) bool {
	return h.network[labels["device"]]["admin"] == "down"
}

// labelledAutoneg: of a software device it is a label only.
func (h *twoHosts) labelledAutoneg(labels map[string]string, v float64) bool {
	said := h.network[labels["device"]]["autoneg"]
	return h.nic[labels["device"]]["kind"] == "virtual" && (said == strconv.FormatBool(v == 1) || said == "" && v == 0)
}

func (h *twoHosts) networkInfo(labels map[string]string) string {
	device := labels["device"]
	duplex, known := strings.ToLower(labels["duplex"]), h.network[device]["duplex"]
	if duplex == "unknown" {
		duplex = ""
	}
	if labels["duplex"] == "" { // nor does sysfs tell of a device that is down
		known = ""
	}
	admin, ok := labels["adminstate"]
	if !ok { // by netlink it has none
		admin = h.network[device]["admin"]
	}
	node := []string{labels["address"], duplex, admin, labels["operstate"], labels["broadcast"], labels["ifalias"]}
	ours := []string{h.nic[device]["mac"], known, h.network[device]["admin"], h.network[device]["operstate"], h.nic[device]["broadcast"], h.nic[device]["ifalias"]}
	if !slices.Equal(node, ours) {
		return fmt.Sprintf("%s: %q, ours is %q", device, node, ours)
	}
	return ""
}

func (h *twoHosts) ethtoolInfo(labels map[string]string) string {
	ours := h.nic[labels["device"]]
	for theirs, name := range map[string]string{"bus_info": "bus_info", "driver": "driver", "expansion_rom_version": "expansion_rom_version", "firmware_version": "firmware", "version": "driver_version"} {
		if labels[theirs] != ours[name] {
			return fmt.Sprintf("%s: %s %q, ours is %q", labels["device"], theirs, labels[theirs], ours[name])
		}
	}
	return ""
}

func address(labels map[string]string, prefix string) string {
	if labels[prefix+"segment"] == "*" {
		return ""
	}
	return fmt.Sprintf("%s:%s:%s.%s", labels[prefix+"segment"], labels[prefix+"bus"], labels[prefix+"device"], labels[prefix+"function"])
}

func (h *twoHosts) functionOf(labels map[string]string) (map[string]string, bool) {
	device, ok := h.functions[address(labels, "")]
	return map[string]string{"device": device}, ok
}

func (h *twoHosts) kindOf(labels map[string]string) string {
	return h.nic[h.functions[address(labels, "")]]["kind"]
}

func (h *twoHosts) stateOf(labels map[string]string) (map[string]string, bool) {
	device, ok := h.functions[address(labels, "")]
	return map[string]string{"device": device, "state": labels["state"]}, ok
}

func (h *twoHosts) pciInfo(labels map[string]string) string {
	device := h.functions[address(labels, "")]
	ours := h.pci[device]
	if ours["subsystem_vendor_id"] == "" { // it says 0 of one that has none
		delete(labels, "subsystem_vendor_id")
		delete(labels, "subsystem_device_id")
	}
	for _, name := range []string{"class_id", "vendor_id", "device_id", "subsystem_vendor_id", "subsystem_device_id", "revision"} {
		if got := strings.TrimPrefix(labels[name], "0x"); got != ours[name] {
			return fmt.Sprintf("%s: %s %q, ours is %q", device, name, got, ours[name])
		}
	}
	if parent := address(labels, "parent_"); parent != ours["parent_address"] {
		return fmt.Sprintf("%s: parent %q, ours is %q", device, parent, ours["parent_address"])
	}
	return ""
}

func (h *twoHosts) interruptOf(labels map[string]string) (map[string]string, bool) {
	return map[string]string{"irq": labels["type"], "cpu": labels["cpu"]}, h.irqs[labels["type"]]
}

// sum adds up what metrics say of labels; none of them may be absent.
func sum(all map[string][]labelled, names []string, labels map[string]string) (total float64, found bool) {
	for _, name := range names {
		i := slices.IndexFunc(all[name], func(one labelled) bool {
			for l, v := range labels {
				if one.labels[l] != v {
					return false
				}
			}
			return true
		})
		if i < 0 {
			return 0, false
		}
		total += all[name][i].value
	}
	return total, true
}

// compare says what is missing or differs of a family, and how many samples were
// compared. A value that moves lies between ours before and after.
func (h *twoHosts) compare(family string, c counterpart) (compared int, differences []string) {
	differs := func(format string, arguments ...any) {
		differences = append(differences, family+": "+fmt.Sprintf(format, arguments...))
	}
	for _, one := range h.node[family] {
		if one.labels["device"] == "lo" {
			continue
		}
		where := c.where
		if where == nil {
			where = same("device")
		}
		labels, ours := where(h, one.labels)
		if !ours {
			continue
		}
		if c.words != nil {
			compared++
			if said := c.words(h, one.labels); said != "" {
				differs("%s", said)
			}
			continue
		}
		value := one.value
		if c.value != nil {
			value = c.value(value)
		}
		first, found := sum(h.before, c.ours, labels)
		last, still := sum(h.after, c.ours, labels)
		switch {
		case !found && !still && c.none != nil && c.none(h, one.labels, one.value):
		case !found || !still:
			differs("%v is %v, and there is no %s%v", one.labels, one.value, c.ours, labels)
		case value < min(first, last) || value > max(first, last):
			differs("%v is %v, ours was %v and is %v", one.labels, value, first, last)
		default:
			compared++
		}
	}
	return compared, differences
}

var (
	noMetricName = regexp.MustCompile(`_*[^0-9A-Za-z_]+_*`)
	receivedWord = regexp.MustCompile(`(^|_)rx(_|$)`)
	sentWord     = regexp.MustCompile(`(^|_)tx(_|$)`)
)

// statisticName is what node_exporter makes of the name of a driver's counter.
func statisticName(counter string) string {
	name := strings.TrimLeft(strings.ToLower(noMetricName.ReplaceAllString(counter, "_")), "_")
	name = "node_ethtool_" + sentWord.ReplaceAllString(receivedWord.ReplaceAllString(name, "${1}received${2}"), "${1}transmitted${2}")
	switch name {
	case "node_ethtool_received_bytes", "node_ethtool_received_dropped", "node_ethtool_received_errors", "node_ethtool_received_packets",
		"node_ethtool_transmitted_bytes", "node_ethtool_transmitted_errors", "node_ethtool_transmitted_packets":
		name += "_total"
	}
	return name
}

// statistics are the counterparts of drivers' own counters.
func (h *twoHosts) statistics() map[string]counterpart {
	all := map[string]counterpart{}
	counters := map[string]string{} // by device and family
	several := map[string]bool{}    // by device and counter: a name that the driver gives several
	for _, one := range h.after["nictune_driver_statistic_total"] {
		family := statisticName(one.labels["counter"])
		counters[one.labels["device"]+" "+family] = one.labels["counter"]
		if name, again := strings.CutSuffix(one.labels["counter"], " #2"); again {
			several[one.labels["device"]+" "+name] = true
		}
		all[family] = counterpart{
			ours: []string{"nictune_driver_statistic_total"},
			where: func(_ *twoHosts, labels map[string]string) (map[string]string, bool) {
				counter := counters[labels["device"]+" "+family]
				// Of several that vmxnet3 gives one name node_exporter has the last.
				return map[string]string{"device": labels["device"], "counter": counter}, !several[labels["device"]+" "+counter]
			},
		}
	}
	return all
}

// nodeExporter is the release that make bench measures beside, as scripts/setup built it.
func nodeExporter(t *testing.T) string {
	t.Helper()
	pins, err := os.ReadFile("../../internal/bench/nodeexporter/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github.com/prometheus/node_exporter (v\S+)`).FindSubmatch(pins)
	if m == nil {
		t.Fatal("internal/bench/nodeexporter/go.mod pins no node_exporter")
	}
	path, err := filepath.Abs("../../.cache/node_exporter-" + string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no node_exporter: scripts/setup builds it")
		}
		t.Skip("no node_exporter: scripts/setup builds it")
	}
	return path
}

// likeNodeExporter are the flags with which an agent exports what node_exporter's collectors
// about NICs do, and little else: make bench compares the two so.
func likeNodeExporter(t *testing.T) []string {
	t.Helper()
	flags, err := os.ReadFile("../../internal/bench/nictune.flags")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(flags))
}

// besideNodeExporter holds node_exporter's facts about the host's NICs against ours, and
// returns how many samples of each family were compared.
func besideNodeExporter(t *testing.T) map[string]int {
	t.Helper()
	program := nodeExporter(t)
	ours := startInProcess(t, append(likeNodeExporter(t), "--reconcile=off")...)
	base := "http://" + ours.address(t)
	ready(t, base)
	ours.until(t, "VFs", func() bool { // they come after the facts
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, "\nnictune_scrape_collector_success{collector=\"sriov\"} 1\n")
	})
	total := map[string]int{}
	for mode, more := range map[string][]string{
		"by default": nil,
		byNetlink:    {"--collector.netclass.netlink", "--collector.netdev.enable-detailed-metrics"},
		"by procfs":  {"--no-collector.netdev.netlink"},
	} {
		theirs := startNodeExporter(t, program, more...)
		// Links may be coming up still, and what the kernel tells of is read again within a
		// second.
		for attempt := 0; ; attempt++ {
			_, before := get(t, base+"/metrics")
			_, node := get(t, theirs+"/metrics")
			_, after := get(t, base+"/metrics")
			h := newTwoHosts(samplesOf(t, before), samplesOf(t, node), samplesOf(t, after))
			compared, differences := h.compareAll(mode)
			if len(differences) > 0 && attempt < 5 {
				time.Sleep(time.Second)
				continue
			}
			for _, d := range differences {
				t.Errorf("%s: %s", mode, d)
			}
			for family, n := range compared {
				total[family] += n
			}
			break
		}
	}
	return total
}

// compareAll compares every family of node_exporter's that is about what it collects, and
// says of which the table knows nothing.
func (h *twoHosts) compareAll(mode string) (compared map[string]int, differences []string) {
	table := counterparts()
	maps.Copy(table, h.statistics())
	if mode == byNetlink {
		// It has IFLA_LINKMODE under this name.
		table["node_network_dormant"] = counterpart{ours: []string{"nictune_network_iface_link_mode"}}
	} else {
		// sysfs has flags without those of the moment, and those in force of which the
		// kernel keeps count: nictune_network_promiscuous and _allmulti.
		const momentary = syscall.IFF_RUNNING | 1<<16 /* IFF_LOWER_UP */ | 1<<17 /* IFF_DORMANT */ | syscall.IFF_PROMISC | syscall.IFF_ALLMULTI
		steady := func(v float64) float64 { return float64(uint32(v) &^ momentary) }
		for _, all := range []map[string][]labelled{h.before, h.after} {
			for i := range all["nictune_network_flags"] {
				one := &all["nictune_network_flags"][i]
				one.value = steady(one.value)
			}
		}
		flags := table["node_network_flags"]
		flags.value = steady
		table["node_network_flags"] = flags
	}
	compared = map[string]int{}
	for _, family := range slices.Sorted(maps.Keys(h.node)) {
		if !strings.HasPrefix(family, "node_") || strings.HasPrefix(family, "node_scrape_collector_") || strings.HasPrefix(family, "node_exporter_") {
			continue
		}
		c, known := table[family]
		if !known {
			differences = append(differences, fmt.Sprintf("node_exporter has %s, and the table says not where nictune has it", family))
			continue
		}
		n, more := h.compare(family, c)
		compared[family] = n
		differences = append(differences, more...)
	}
	return compared, differences
}

const byNetlink = "by netlink"

// startNodeExporter starts it with its collectors about NICs, and returns its address.
func startNodeExporter(t *testing.T, program string, more ...string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	args := []string{"--collector.disable-defaults", "--web.listen-address=" + address, "--log.level=warn"}
	for _, name := range []string{"ethtool", "netclass", "netdev", "softnet", "pcidevice", "interrupts"} {
		args = append(args, "--collector."+name)
	}
	var log lockedBuffer
	cmd := exec.Command(program, append(args, more...)...)
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if !comes(func() bool { return listens(address) }) {
		t.Fatalf("node_exporter does not listen after %v; it logged:\n%s", patience, &log)
	}
	return "http://" + address
}

func listens(address string) bool {
	c, err := net.Dial("tcp", address)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// All that node_exporter says of NICs nictune says, too, and the same.
func TestNodeExporterSaysNoMore(t *testing.T) {
	nstest.Require(t)
	nodeExporter(t)
	nstest.Link(t, "node0", "type veth peer name node1")
	nstest.Link(t, "node2", "type bridge")
	nstest.Link(t, "node3", "link node0 type macvlan mode bridge")
	for _, words := range []string{
		"set node0 up alias uplink group 42", "set node1 up", "set node2 up", "set node3 address 02:00:00:00:00:03",
		"property add dev node0 altname another-name-of-node0", "set node1 master node2",
	} {
		nstest.IP(t, "link "+words)
	}
	total := besideNodeExporter(t)
	for family, want := range map[string]int{
		"node_network_receive_packets_total": 12, "node_network_mtu_bytes": 12, "node_network_altnames_info": 1, "node_softnet_processed_total": 3,
		"node_network_info": 12, "node_ethtool_info": 12, "node_network_flags": 12, "node_network_iface_link": 12, "node_network_pause_supported": 6,
		"node_network_name_assign_type": 12, "node_network_address_assign_type": 12, "node_network_device_id": 12,
	} {
		if total[family] < want {
			t.Errorf("%s: %d samples were compared, want at least %d", family, total[family], want)
		}
	}
}
