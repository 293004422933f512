package bench

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/findings"
)

// syntheticFleet writes what Prometheus would have scraped from so many hosts at a
// moment, as OpenMetrics: of what nictune exports, all that a fleet's report asks for. Of
// the carriers' counters there is a day, with a sample each five minutes, and beside it
// what the recording rule makes of it.
//
// Each host has 4 NICs with 8 VFs each. Of a thousand hosts some thirty have something
// wrong; one in a hundred is missing, one in a hundred was judged long ago.
type syntheticFleet struct {
	hosts int
	at    time.Time
	// series is how many were written; written are their names.
	series  int
	written map[string]bool
	// verdicts are those of the hosts that count.
	verdicts map[findings.Status]int
}

const (
	syntheticNICs = 4
	syntheticVFs  = 8
)

// syntheticCard is a kind of NIC.
type syntheticCard struct {
	driver, firmware, model string
	gbits, lanes            float64
	gts                     float64
	optical                 bool
}

var syntheticCards = []syntheticCard{
	{"ice", "4.40 0x8001c967 1.3534.0", "Intel Corporation Ethernet Controller E810-C for QSFP", 100, 16, 16, true},
	{"ice", "4.20 0x80017784 1.3346.0", "Intel Corporation Ethernet Controller E810-C for QSFP", 100, 16, 16, true},
	{"mlx5_core", "16.35.4030 (MT_0000000080)", "Mellanox Technologies MT27800 Family [ConnectX-5]", 25, 8, 8, true},
	{"mlx5_core", "22.41.1000 (MT_0000000359)", "Mellanox Technologies MT2892 Family [ConnectX-6 Dx]", 100, 16, 16, false},
	{"bnxt_en", "229.1.123.0/pkg 229.1.123.0", "Broadcom Inc. and subsidiaries BCM57414 NetXtreme-E 10Gb/25Gb RDMA Ethernet Controller", 25, 8, 8, false},
}

func (f *syntheticFleet) card(host int) syntheticCard {
	return syntheticCards[host%len(syntheticCards)]
}

// syntheticDriver is the one that is bound to a VF.
func syntheticDriver(host, vf int) string {
	return [...]string{"vfio-pci", "vfio-pci", "vfio-pci", "iavf", ""}[(host+vf)%5]
}

// usedVFs is how many VFs of a PF somebody uses: those that a VM can have.
func usedVFs(host int) int {
	used := 0
	for vf := range syntheticVFs {
		if syntheticDriver(host, vf) == "vfio-pci" {
			used++
		}
	}
	return used
}

// Which hosts are how.
func (f *syntheticFleet) missing(host int) bool { return host%100 == 7 }
func (f *syntheticFleet) stale(host int) bool   { return host%100 == 13 }
func (f *syntheticFleet) bad(host int) bool     { return host%33 == 1 }

// optional is whether not all that a policy wants applies.
func (f *syntheticFleet) optional(host int) bool { return host%20 == 3 }

// blockTime is what Prometheus puts into one block.
const blockTime = 2 * time.Hour

func (f *syntheticFleet) targets() []string {
	target := make([]string, f.hosts)
	for h := range target {
		target[h] = fmt.Sprintf(`cluster="c%d",instance="10.%d.%d.%d:9810",job="nictune"`, h%4, h>>16, h>>8&255, h&255)
	}
	return target
}

// syntheticDowns is how often a port that flaps lost its link an hour ago.
const syntheticDowns = 10

// downs is what a port has counted.
func (f *syntheticFleet) downs(host, nic int, when time.Time) float64 {
	if f.bad(host) && nic == 2 && when.After(f.at.Add(-time.Hour)) {
		return 2 + syntheticDowns
	}
	return 2
}

// writeDowns writes the carriers' counters between two moments.
func (f *syntheticFleet) writeDowns(w io.Writer, from, until time.Time) (series int) {
	fmt.Fprintln(w, "# TYPE nictune_network_carrier_down_changes counter")
	for h, target := range f.targets() {
		if f.missing(h) {
			continue
		}
		for n := range syntheticNICs {
			series++
			for at := until.Add(-until.Sub(from).Truncate(5 * time.Minute)); !at.After(until); at = at.Add(5 * time.Minute) {
				fmt.Fprintf(w, "nictune_network_carrier_down_changes_total{%s,device=\"eth%d\"} %g %d\n", target, n, f.downs(h, n, at), at.Unix())
			}
		}
	}
	return series
}

// writeEarlier writes what there is of the day in one of the blocks before the last, of
// which there are eleven: 1 is the latest.
func (f *syntheticFleet) writeEarlier(to io.Writer, block int) error {
	w := bufio.NewWriterSize(to, 1<<20)
	end := f.at.Truncate(blockTime).Add(-time.Duration(block-1) * blockTime)
	f.writeDowns(w, end.Add(-blockTime), end.Add(-time.Minute))
	fmt.Fprintln(w, "# EOF")
	return w.Flush()
}

// write writes everything of the last block, one family after the other.
func (f *syntheticFleet) write(to io.Writer) error {
	w := bufio.NewWriterSize(to, 1<<20)
	now := f.at.Unix()
	target := f.targets()
	f.written, f.verdicts = map[string]bool{"nictune_network_carrier_down_changes_total": true}, map[findings.Status]int{}
	prints := map[string][]byte{} // by metric and host
	sample := func(name, host, labels string, value float64) {
		f.series++
		f.written[name] = true
		switch name {
		case "nictune_rule_findings", "nictune_xdp_ready", "nictune_sriov_vfs_by_driver":
			sum := sha256.Sum256(fmt.Appendf(prints[name+host], "%s %g", labels, value))
			prints[name+host] = sum[:]
		}
		if labels != "" {
			labels = "," + labels
		}
		fmt.Fprintf(w, "%s{%s%s} %g %d\n", name, host, labels, value, now)
	}
	family := func(name string, each func(h int, random *rand.Rand)) {
		fmt.Fprintf(w, "# TYPE %s gauge\n", strings.TrimSuffix(name, "_info"))
		for h := range target {
			if name != "up" && f.missing(h) {
				continue
			}
			each(h, rand.New(rand.NewPCG(uint64(h), 1)))
		}
	}
	perNIC := func(name string, value func(h, n int, c syntheticCard, random *rand.Rand) (labels string, v float64, ok bool)) {
		family(name, func(h int, random *rand.Rand) {
			for n := range syntheticNICs {
				if labels, v, ok := value(h, n, f.card(h), random); ok {
					sample(name, target[h], strings.TrimSuffix(fmt.Sprintf(`device="eth%d",%s`, n, labels), ","), v)
				}
			}
		})
	}
	plain := func(name string, value func(h, n int, c syntheticCard) float64) {
		perNIC(name, func(h, n int, c syntheticCard, _ *rand.Rand) (string, float64, bool) { return "", value(h, n, c), true })
	}

	family("up", func(h int, _ *rand.Rand) {
		up := 1.0
		if f.missing(h) {
			up = 0
		}
		sample("up", target[h], "", up)
	})
	family("nictune_host_info", func(h int, _ *rand.Rand) {
		sample("nictune_host_info", target[h], fmt.Sprintf(`hostname="node-%05d",kernel="6.12.%d",architecture="x86_64",distribution="Debian GNU/Linux 13 (trixie)",virtual_machine="false",machine_vendor="Dell Inc.",machine_product="PowerEdge R760",bios_vendor="Dell Inc.",bios_version="2.%d.1",bios_date="03/14/2026",cpu_model="Intel(R) Xeon(R) Gold 6430"`, h, h%3, h%5), 1)
	})
	family("nictune_build_info", func(h int, _ *rand.Rand) {
		sample("nictune_build_info", target[h], `version="v1.0.0",revision="abc",goversion="go1.26"`, 1)
	})
	family("nictune_audit_timestamp_seconds", func(h int, _ *rand.Rand) {
		at := float64(now - 60)
		if f.stale(h) {
			at -= 30 * 3600
		}
		sample("nictune_audit_timestamp_seconds", target[h], "", at)
	})
	perNIC("nictune_nic_info", func(h, n int, c syntheticCard, _ *rand.Rand) (string, float64, bool) {
		return fmt.Sprintf(`kind="pf",type="ether",driver="%s",driver_version="6.12.0",firmware="%s",pci_address="0000:%02x:00.%d",vendor_id="8086",device_id="1592",model="%s",permanent_mac="02:00:%02x:%02x:%02x:%02x",mac="02:00:%02x:%02x:%02x:%02x",numa_node="%d",iommu_group="%d",port_name="p%d",broadcast="ff:ff:ff:ff:ff:ff",bus_info="0000:%02x:00.%d"`,
			c.driver, c.firmware, 0x17+n/2*0x40, n%2, c.model, h>>16, h>>8&255, h&255, n, h>>16, h>>8&255, h&255, n, n/2, 20+n, n, 0x17+n/2*0x40, n%2), 1, true
	})
	plain("nictune_network_carrier", func(h, n int, _ syntheticCard) float64 {
		if f.bad(h) && n == 3 {
			return 0
		}
		return 1
	})
	plain("nictune_network_max_speed_bytes", func(_, _ int, c syntheticCard) float64 { return c.gbits * 125e6 })
	plain("nictune_network_speed_bytes", func(h, n int, c syntheticCard) float64 {
		if f.bad(h) && n == 0 {
			return 10 * 125e6
		}
		return c.gbits * 125e6
	})
	plain("nictune_pci_max_link_transfers_per_second", func(_, _ int, c syntheticCard) float64 { return c.gts * 1e9 })
	plain("nictune_pci_current_link_transfers_per_second", func(_, _ int, c syntheticCard) float64 { return c.gts * 1e9 })
	plain("nictune_pci_max_link_width", func(_, _ int, c syntheticCard) float64 { return c.lanes })
	plain("nictune_pci_current_link_width", func(h, n int, c syntheticCard) float64 {
		if f.bad(h) && n == 1 {
			return c.lanes / 2
		}
		return c.lanes
	})
	plain("nictune_sriov_max_vfs", func(int, int, syntheticCard) float64 { return 64 })
	plain("nictune_sriov_vfs", func(int, int, syntheticCard) float64 { return syntheticVFs })
	plain("nictune_sriov_vfs_used", func(h, _ int, _ syntheticCard) float64 { return float64(usedVFs(h)) })
	f.series += f.writeDowns(w, f.at.Truncate(blockTime), f.at)
	perNIC("instance_device:nictune_network_carrier_down_changes:increase1d", func(h, n int, _ syntheticCard, _ *rand.Rand) (string, float64, bool) {
		return "", f.downs(h, n, f.at) - f.downs(h, n, f.at.Add(-24*time.Hour)), true
	})
	collectors := map[string]bool{}
	for _, m := range metrics.Catalogue() {
		collectors[m.Collector] = true
	}
	family("nictune_scrape_series_cut", func(h int, _ *rand.Rand) {
		for _, c := range slices.Sorted(maps.Keys(collectors)) {
			sample("nictune_scrape_series_cut", target[h], fmt.Sprintf(`collector="%s"`, c), 0)
		}
	})
	perNIC("nictune_sriov_vfs_sharing_iommu_group", func(h, n int, _ syntheticCard, _ *rand.Rand) (string, float64, bool) {
		if f.bad(h) && n == 0 {
			return "", 2, true
		}
		return "", 0, true
	})
	family("nictune_sriov_vfs_by_driver", func(h int, _ *rand.Rand) {
		for n := range syntheticNICs {
			drivers := map[string]int{}
			for vf := range syntheticVFs {
				drivers[syntheticDriver(h, vf)]++
			}
			for _, driver := range slices.Sorted(maps.Keys(drivers)) {
				sample("nictune_sriov_vfs_by_driver", target[h], fmt.Sprintf(`device="eth%d",driver="%s"`, n, driver), float64(drivers[driver]))
			}
		}
	})
	for _, name := range []string{"nictune_vf_info", "nictune_vf_iommu_group_shared"} {
		family(name, func(h int, _ *rand.Rand) {
			for n := range syntheticNICs {
				for vf := range syntheticVFs {
					labels, v := fmt.Sprintf(`device="eth%d",vf="%d"`, n, vf), 0.0
					if name == "nictune_vf_info" {
						driver := syntheticDriver(h, vf)
						labels += fmt.Sprintf(`,pci_address="0000:%02x:%02x.%d",driver="%s",iommu_group="%d",mac="02:01:00:00:%02x:%02x"`, 0x17+n/2*0x40, 1+vf/8, vf%8, driver, 100+n*8+vf, n, vf)
						v = 1
					} else if f.bad(h) && n == 0 && vf < 2 {
						v = 1
					}
					sample(name, target[h], labels, v)
				}
			}
		})
	}
	family("nictune_xdp_ready", func(h int, _ *rand.Rand) {
		for n := range syntheticNICs {
			for i, profile := range []string{"ddos-filter", "l4lb", "af-xdp", "queue-share", "tc-offload", "sriov-host", "memory"} {
				v := 1.0
				if (h+i)%9 == 0 {
					v = 0
				}
				sample("nictune_xdp_ready", target[h], fmt.Sprintf(`device="eth%d",profile="%s"`, n, profile), v)
			}
		}
	})
	f.writeModules(sample, family, target)
	f.writeVerdicts(sample, family, target)
	for _, name := range []string{"nictune_rule_findings", "nictune_xdp_ready", "nictune_sriov_vfs_by_driver"} {
		family(name+"_fingerprint", func(h int, _ *rand.Rand) {
			sample(name+"_fingerprint", target[h], "", float64(binary.BigEndian.Uint64(prints[name+target[h]])>>16))
		})
	}
	fmt.Fprintln(w, "# EOF")
	return w.Flush()
}

// writeModules writes what the optical cards' modules measure.
func (f *syntheticFleet) writeModules(sample func(name, host, labels string, value float64), family func(string, func(int, *rand.Rand)), target []string) {
	each := func(name string, value func(h, n int, random *rand.Rand) []string) {
		family(name, func(h int, random *rand.Rand) {
			if !f.card(h).optical {
				return
			}
			for n := range syntheticNICs {
				for _, labelled := range value(h, n, random) {
					labels, v, _ := strings.Cut(labelled, " ")
					var number float64
					fmt.Sscan(v, &number)
					sample(name, target[h], strings.TrimSuffix(fmt.Sprintf(`device="eth%d",%s`, n, labels), ","), number)
				}
			}
		})
	}
	type port struct{ host, nic int }
	margins := map[port]float64{}
	each("nictune_module_info", func(h, n int, _ *rand.Rand) []string {
		return []string{fmt.Sprintf(`vendor="FINISAR-CORP.",part="FTLX8574D3BCL",serial="S%05d%d",type="SFP/SFP+/SFP28" 1`, h, n)}
	})
	for _, q := range []struct {
		name, base             string
		perLane                bool
		low, high, least, most float64 // of the warnings, and of what is measured
	}{
		{"temperature", "celsius", false, -5, 75, 30, 50},
		{"voltage", "volts", false, 3.0, 3.6, 3.25, 3.35},
		{"tx_bias", "amperes", true, 0.002, 0.012, 0.005, 0.008},
		{"tx_power", "watts", true, 0.0002, 0.002, 0.0005, 0.0009},
		{"rx_power", "watts", true, 0.00005, 0.002, 0.0003, 0.0008},
	} {
		each("nictune_module_"+q.name+"_"+q.base, func(h, n int, random *rand.Rand) []string {
			v := q.least + random.Float64()*(q.most-q.least)
			if q.name == "rx_power" && f.bad(h) && n == 2 {
				v = q.low * (0.7 + random.Float64()*0.6)
			}
			value, low, high := v, q.low, q.high
			if strings.HasSuffix(q.name, "power") {
				value, low, high = math.Log10(value), math.Log10(low), math.Log10(high)
			}
			margin := min(value-low, high-value) / (high - low)
			if least, known := margins[port{h, n}]; !known || margin < least {
				margins[port{h, n}] = margin
			}
			if q.perLane {
				return []string{fmt.Sprintf(`lane="1" %g`, v)}
			}
			return []string{fmt.Sprintf(" %g", v)}
		})
		each("nictune_module_"+q.name+"_threshold_"+q.base, func(int, int, *rand.Rand) []string {
			return []string{
				fmt.Sprintf(`threshold="low-alarm" %g`, q.low*0.5), fmt.Sprintf(`threshold="low-warning" %g`, q.low),
				fmt.Sprintf(`threshold="high-warning" %g`, q.high), fmt.Sprintf(`threshold="high-alarm" %g`, q.high*1.2),
			}
		})
	}
	each("nictune_module_margin_ratio", func(h, n int, _ *rand.Rand) []string { return []string{fmt.Sprintf(" %g", margins[port{h, n}])} })
}

// writeVerdicts writes what the hosts' audits say, with every rule that there is.
func (f *syntheticFleet) writeVerdicts(sample func(name, host, labels string, value float64), family func(string, func(int, *rand.Rand)), target []string) {
	var rules []findings.About
	for _, g := range audit.Groups() {
		rules = append(rules, g.Rules()...)
	}
	family("nictune_rule_findings", func(h int, _ *rand.Rand) {
		for i, r := range rules {
			verdict := func(status findings.Status, subjects int) {
				sample("nictune_rule_findings", target[h], fmt.Sprintf(`rule="%s",severity="%s",status="%s"`, r.ID, r.Severity, status), float64(subjects))
				if !f.stale(h) {
					f.verdicts[status] += subjects
				}
			}
			switch {
			case i%4 == 3:
				verdict(findings.NotApplicable, syntheticNICs)
			case i%7 == 5:
				verdict(findings.Unknown, syntheticNICs)
			case f.bad(h) && i%12 == 0 || (h+i)%400 == 0:
				verdict(findings.Fail, 1)
				verdict(findings.Pass, syntheticNICs-1)
			default:
				verdict(findings.Pass, syntheticNICs)
			}
		}
	})
	family("nictune_finding", func(h int, _ *rand.Rand) {
		for i, r := range rules {
			if i%4 != 3 && i%7 != 5 && (f.bad(h) && i%12 == 0 || (h+i)%400 == 0) {
				sample("nictune_finding", target[h], fmt.Sprintf(`rule="%s",severity="%s",status="fail",device="eth0",part="",pci_address="0000:17:00.0",permanent_mac="02:00:%02x:%02x:%02x:00"`, r.ID, r.Severity, h>>16, h>>8&255, h&255), 1)
			}
		}
	})
	family("nictune_policy_setting_drifted", func(h int, _ *rand.Rand) {
		for n := range syntheticNICs {
			for i, setting := range []string{"channels", "rings", "features", "coalesce"} {
				v := 0.0
				if f.bad(h) && i == n {
					v = 1
				}
				sample("nictune_policy_setting_drifted", target[h], fmt.Sprintf(`policy="edge-%d",origin="given",device="eth%d",setting="%s"`, h%3, n, setting), v)
			}
		}
	})
	// What can't be had, is left out or can't be decided is so on the hosts of a kind.
	for _, not := range []struct{ name, labels string }{
		{"nictune_policy_setting_impossible", `,setting="rss",reason="unsupported"`},
		{"nictune_policy_setting_skipped", `,setting="coalesce"`},
		{"nictune_policy_undecided", ""},
	} {
		family(not.name, func(h int, _ *rand.Rand) {
			if f.optional(h) {
				sample(not.name, target[h], fmt.Sprintf(`policy="edge-%d",origin="given",device="eth0"%s`, h%3, not.labels), 1)
			}
		})
	}
	ends := func(h int) float64 { return float64(f.at.Truncate(24*time.Hour).Unix() + int64(h%9-2)*7*86400) }
	family("nictune_waiver_expiry_timestamp_seconds", func(h int, _ *rand.Rand) {
		if h%50 == 0 {
			sample("nictune_waiver_expiry_timestamp_seconds", target[h], `rule="link/eee",device="eth0",part="",owner="net@example.org"`, ends(h))
		}
	})
	family("nictune_check_waiver_expiry_timestamp_seconds", func(h int, _ *rand.Rand) {
		if h%25 == 0 { // half of them are needed
			sample("nictune_check_waiver_expiry_timestamp_seconds", target[h], `rule="link/eee",owner="net@example.org",policy="edge",source="edge.yaml:9"`, ends(h))
		}
	})
}
