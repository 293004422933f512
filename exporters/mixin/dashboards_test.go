package mixin

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//go:generate go test -run TestGoldenDashboards -update .

var update = flag.Bool("update", false, "rewrite the golden files")

// board is a dashboard: rows of panels, from the left to the right.
type board struct {
	uid, title, description string
	variables               []variable
	rows                    []row
}

// variable is one that the reader chooses, among the values of a label.
type variable struct {
	name, values string
	several      bool
}

type row struct {
	title  string
	height int
	panels []panel
}

type panel struct {
	kind        string // "timeseries", "stat", "table", "bargauge", or "list": a table of labels
	title, unit string
	width       int
	description string
	queries     []query
}

type query struct{ expression, legend string }

const (
	onHost   = `cluster=~"$cluster", job=~"$job", instance="$instance"`
	onDevice = onHost + `, device=~"$device"`
	onFleet  = `cluster=~"$cluster", job=~"$job"`
	// 0 where it is known that there is none, and nothing where nobody looked.
	judgedHost  = `0 * sum(nictune_rule_findings{` + onHost + `})`
	judgedFleet = `0 * count(nictune_rule_findings{` + onFleet + `})`
)

// boards are the dashboards that nictune ships.
func boards() []board {
	device := func(metric string) string { return metric + "{" + onDevice + "}" }
	rate := func(metric string) string { return "rate(" + device(metric) + "[$__rate_interval])" }
	fleet := func(metric string) string { return metric + "{" + onFleet + "}" }
	return []board{
		{
			uid: "nictune-host", title: "nictune / Host", description: "The network devices of one host: what they are, how they are, what they carry.",
			variables: []variable{
				{"cluster", `label_values(nictune_nic_info, cluster)`, true},
				{"job", `label_values(nictune_nic_info{cluster=~"$cluster"}, job)`, true},
				{"instance", `label_values(nictune_nic_info{cluster=~"$cluster", job=~"$job"}, instance)`, false},
				{"device", `label_values(nictune_nic_info{` + onHost + `}, device)`, true},
			},
			rows: []row{
				{"State", 4, []panel{
					{"stat", "Can be scraped", "bool_yes_no", 3, "Whether Prometheus reaches the agent. While it doesn't, nothing else here is known.", []query{{`up{` + onHost + `}`, ""}}},
					{"stat", "Judged", "dateTimeFromNow", 5, "When the agent judged the host last.", []query{{`1000 * nictune_audit_timestamp_seconds{` + onHost + `}`, ""}}},
					{"stat", "Critical findings", "none", 4, "What fails and is critical. Empty while the host is not judged: that is no 0.", []query{{`sum(nictune_rule_findings{` + onHost + `, severity="critical", status="fail"}) or ` + judgedHost, ""}}},
					{"stat", "Warnings", "none", 4, "What fails and is a warning.", []query{{`sum(nictune_rule_findings{` + onHost + `, severity="warning", status="fail"}) or ` + judgedHost, ""}}},
					{"stat", "Could not be judged", "none", 4, "Unknown or error. That is no pass.", []query{{`sum(nictune_rule_findings{` + onHost + `, status=~"unknown|error"}) or ` + judgedHost, ""}}},
					{"stat", "Drifted settings", "none", 4, "From policies that the agent was given; those that nictune ships are alternatives that nobody chose. Empty while the host can't be compared with them.", []query{{`sum(nictune_policy_setting_drifted{` + onHost + `, origin="given"}) or 0 * sum(nictune_policy_error{` + onHost + `} == 0)`, ""}}},
				}},
				{"Findings and devices", 8, []panel{
					{"list", "What fails", "none", 12, "Rules that fail, could not be judged because of an error, or are waived. docs/rules.md says why each matters and what helps.", []query{{`nictune_finding{` + onHost + `, status=~"fail|error|waived"}`, ""}}},
					{"list", "Network devices", "none", 12, "What each device is and where it is attached.", []query{{device("nictune_nic_info"), ""}}},
				}},
				{"Traffic", 8, []panel{
					{"timeseries", "Received", "bps", 12, "Bits received a second, as ip -s link counts.", []query{{"8 * " + rate("nictune_network_receive_bytes_total"), "{{device}}"}}},
					{"timeseries", "Sent", "bps", 12, "Bits sent a second.", []query{{"8 * " + rate("nictune_network_transmit_bytes_total"), "{{device}}"}}},
					{"timeseries", "Packets received", "pps", 12, "Packets received a second.", []query{{rate("nictune_network_receive_packets_total"), "{{device}}"}}},
					{"timeseries", "Packets sent", "pps", 12, "Packets sent a second.", []query{{rate("nictune_network_transmit_packets_total"), "{{device}}"}}},
				}},
				{"Loss", 8, []panel{
					{"timeseries", "Receive drops", "pps", 12, "Missed by the device (as the kernel and as the driver count it), for want of a buffer in a ring, and dropped above. One packet may be in several.", []query{
						{rate("nictune_network_receive_missed_errors_total"), "{{device}} missed"},
						{rate("nictune_receive_missed_packets_total"), "{{device}} missed (driver)"},
						{rate("nictune_receive_no_buffer_packets_total"), "{{device}} no buffer"},
						{rate("nictune_network_receive_dropped_total"), "{{device}} dropped"},
					}},
					{"timeseries", "Errors", "pps", 12, "Damaged frames: the cable, the module or the other end.", []query{
						{rate("nictune_network_receive_errors_total"), "{{device}} received"},
						{rate("nictune_network_receive_crc_errors_total"), "{{device}} checksum"},
						{rate("nictune_network_transmit_errors_total"), "{{device}} sent"},
					}},
					{"timeseries", "CPUs' backlogs", "pps", 8, "Packets dropped, and how often a CPU had to stop with work left. Empty is good.", []query{
						{`rate(nictune_softnet_dropped_total{` + onHost + `}[$__rate_interval]) > 0`, "CPU {{cpu}} dropped"},
						{`rate(nictune_softnet_times_squeezed_total{` + onHost + `}[$__rate_interval]) > 0`, "CPU {{cpu}} squeezed"},
					}},
					{"timeseries", "Pause frames", "cps", 8, "Received: the switch is congested. Sent: this host doesn't take what it gets.", []query{
						{rate("nictune_pause_receive_frames_total"), "{{device}} received"},
						{rate("nictune_pause_transmit_frames_total"), "{{device}} sent"},
					}},
					{"timeseries", "Over the cloud's limits", "pps", 8, "Packets that the cloud queued or dropped because the instance has no more bandwidth, packets or connections (ena).", []query{{rate("nictune_cloud_allowance_exceeded_packets_total"), "{{device}}"}}},
				}},
				{"Links and modules", 8, []panel{
					{"timeseries", "Links lost", "none", 8, "How often each link went down within an hour.", []query{{"increase(" + device("nictune_network_carrier_down_changes_total") + "[1h])", "{{device}}"}}},
					{"timeseries", "Received light", "dBm", 8, "By lane. Reading modules takes CAP_NET_ADMIN.", []query{{"10 * log10(1000 * " + device("nictune_module_rx_power_watts") + ")", "{{device}} lane {{lane}}"}}},
					{"timeseries", "Module temperature", "celsius", 8, "As each module measures it. Reading modules takes CAP_NET_ADMIN.", []query{{device("nictune_module_temperature_celsius"), "{{device}}"}}},
					{"timeseries", "Uncorrectable blocks (FEC)", "cps", 8, "Blocks that forward error correction could not save: frames in them are lost.", []query{{rate("nictune_fec_uncorrectable_blocks_total"), "{{device}}"}}},
					{"timeseries", "PCIe errors", "none", 8, "Within an hour, by severity. Empty is good.", []query{{"sum by (device, severity) (increase(" + device("nictune_aer_errors_total") + "[1h])) > 0", "{{device}} {{severity}}"}}},
					{"table", "PCIe link", "percentunit", 8, "What the device's own link runs at (lanes times speed), as a share of what the card can.", []query{{pcieShare(onDevice), ""}}},
					{"timeseries", "PCIe stalls", "cps", 12, "Times that the host's PCIe did not take what the device had (mlx5).", []query{{rate("nictune_pci_stall_events_total"), "{{device}}"}}},
					{"timeseries", "Time with PCIe stalled", "percentunit", 12, "Seconds of each second in which PCIe was stalled for more than 30 % of the time, reading and writing counted apart (mlx5).", []query{{rate("nictune_pci_stall_seconds_total"), "{{device}}"}}},
				}},
				{"Queues and virtual functions", 8, []panel{
					{"timeseries", "Packets received by queue", "pps", 12, "Queues far apart from each other: see RSS, and queues/imbalance among the findings.", []query{{rate("nictune_queue_receive_packets_total"), "{{device}} {{queue}}"}}},
					{"timeseries", "Virtual functions", "bps", 12, "As the PF's driver counts them. Empty where it doesn't.", []query{
						{"8 * " + rate("nictune_vf_receive_bytes_total"), "{{device}} vf {{vf}} received"},
						{"8 * " + rate("nictune_vf_transmit_bytes_total"), "{{device}} vf {{vf}} sent"},
					}},
				}},
			},
		},
		{
			uid: "nictune-fleet", title: "nictune / Fleet", description: "The network devices of all hosts: who is missing, what fails where, what is worse than it should be.",
			variables: []variable{
				{"cluster", `label_values(nictune_nic_info, cluster)`, true},
				{"job", `label_values(nictune_nic_info{cluster=~"$cluster"}, job)`, true},
			},
			rows: []row{
				{"Hosts", 4, []panel{
					{"stat", "Report", "none", 4, "Hosts that tell of their network devices.", []query{{`count(group by (cluster, job, instance) (` + fleet("nictune_nic_info") + `)) or vector(0)`, ""}}},
					{"stat", "Can't be scraped", "none", 4, "Nothing is known of these, and nothing here counts them as well.", []query{{`count(` + fleet("up") + ` == 0) or 0 * count(` + fleet("up") + `)`, ""}}},
					{"stat", "Not judged within an hour", "none", 4, "Of those that report: judged longer ago, or never.", []query{{`count(time() - ` + fleet("nictune_audit_timestamp_seconds") + ` > 3600 or group by (cluster, job, instance) (` + fleet("nictune_nic_info") + `) unless on (cluster, job, instance) ` + fleet("nictune_audit_timestamp_seconds") + `) or 0 * count(` + fleet("nictune_nic_info") + `)`, ""}}},
					{"stat", "With critical findings", "none", 4, "Hosts on which a critical rule fails, of those that are judged.", []query{{`count(sum by (cluster, job, instance) (nictune_rule_findings{` + onFleet + `, severity="critical", status="fail"})) or ` + judgedFleet, ""}}},
					{"stat", "Drifted, or not compared", "none", 4, "Hosts that differ from the policies that their agents were given, or can't be compared with them.", []query{{`count(sum by (cluster, job, instance) (nictune_policy_setting_drifted{` + onFleet + `, origin="given"}) > 0 or ` + fleet("nictune_policy_error") + ` == 1) or 0 * count(` + fleet("nictune_policy_error") + `)`, ""}}},
					{"stat", "Waivers ended, or about to", "none", 4, "Waivers of the hosts' check policies that have ended or end within two weeks, needed or not.", []query{{`count(group by (cluster, rule, owner, policy, source) (` + fleet("nictune_check_waiver_expiry_timestamp_seconds") + ` - time() < 14 * 86400)) or ` + judgedFleet, ""}}},
				}},
				{"Findings", 9, []panel{
					{"timeseries", "Findings by severity", "none", 8, "Failures on all hosts.", []query{{`sum by (severity) (nictune_rule_findings{` + onFleet + `, status="fail"})`, "{{severity}}"}}},
					{"bargauge", "Rules that fail on the most hosts", "none", 8, "Hosts, by rule.", []query{{`topk(15, count by (rule, severity) (nictune_rule_findings{` + onFleet + `, status="fail"}))`, "{{rule}} ({{severity}})"}}},
					{"bargauge", "Hosts with the most critical findings", "none", 8, "Empty is good, where all hosts report.", []query{{`topk(15, sum by (cluster, job, instance) (nictune_rule_findings{` + onFleet + `, status="fail", severity="critical"}))`, "{{instance}}"}}},
				}},
				{"What the fleet is", 9, []panel{
					{"bargauge", "Models", "none", 8, "Ports of hardware, by model.", []query{{`topk(20, count by (model) (nictune_nic_info{` + onFleet + `, kind=~"pf|plain"}))`, "{{model}}"}}},
					{"bargauge", "Firmware", "none", 8, "Ports of hardware, by driver and firmware: where one model has several, some are behind.", []query{{`topk(20, count by (driver, firmware) (nictune_nic_info{` + onFleet + `, kind=~"pf|plain"}))`, "{{driver}} {{firmware}}"}}},
					{"bargauge", "Kernels", "none", 8, "Hosts, by kernel.", []query{{`topk(20, count by (kernel) (` + fleet("nictune_host_info") + `))`, "{{kernel}}"}}},
				}},
				{"Links, PCIe and optics", 9, []panel{
					{"table", "Links below their maximum", "percentunit", 8, "As a share of what the port can do.", []query{{`bottomk(50, ` + fleet("nictune_network_speed_bytes") + ` / ` + fleet("nictune_network_max_speed_bytes") + ` < 1)`, ""}}},
					{"table", "PCIe below what the card can", "percentunit", 8, "Lanes times speed, as a share. A card in a lesser slot is here, too; the rule pcie/link-degraded knows both ends.", []query{{`bottomk(50, ` + pcieShare(onFleet) + ` < 1)`, ""}}},
					{"table", "Least light to spare", "dB", 8, "To the module's low warning threshold. It takes the recording rules.", []query{{`bottomk(50, ` + fleet("instance_device_lane:nictune_module_rx_power_margin:db") + `)`, ""}}},
					{"bargauge", "Links lost within a day", "none", 8, "It takes the recording rules.", []query{{`topk(15, ` + fleet("instance_device:nictune_network_carrier_down_changes:increase1d") + ` > 0)`, "{{instance}} {{device}}"}}},
					{"timeseries", "Packets missed", "pps", 8, "The hosts with the most. Empty is good, where all hosts report.", []query{{`topk(10, sum by (cluster, job, instance) (rate(` + fleet("nictune_network_receive_missed_errors_total") + `[$__rate_interval])) > 0)`, "{{instance}}"}}},
					{"timeseries", "Blocks that FEC could not correct", "cps", 8, "The ports with the most. Empty is good, where all hosts report.", []query{{`topk(10, rate(` + fleet("nictune_fec_uncorrectable_blocks_total") + `[$__rate_interval]) > 0)`, "{{instance}} {{device}}"}}},
				}},
				{"Policies, virtual functions and XDP", 9, []panel{
					{"timeseries", "Drift by policy", "none", 8, "Settings that differ from policies that agents were given.", []query{{`sum by (policy) (nictune_policy_setting_drifted{` + onFleet + `, origin="given"})`, "{{policy}}"}}},
					{"bargauge", "Virtual functions by driver", "none", 8, "Without a driver nobody can use them.", []query{{`sum by (driver) (` + fleet("nictune_sriov_vfs_by_driver") + `)`, "{{driver}}"}}},
					{"bargauge", "Devices ready for XDP", "percentunit", 8, "By purpose; of those devices where it is known.", []query{{`avg by (profile) (` + fleet("nictune_xdp_ready") + `)`, "{{profile}}"}}},
				}},
			},
		},
	}
}

// pcieShare is what devices' links run at, as a share of what the cards can.
func pcieShare(which string) string {
	of := func(metric string) string { return "nictune_pci_" + metric + "{" + which + "}" }
	return "(" + of("current_link_width") + " / " + of("max_link_width") + ") * (" +
		of("current_link_transfers_per_second") + " / " + of("max_link_transfers_per_second") + ")"
}

// object is what JSON calls so.
type object = map[string]any

// render is the dashboard as Grafana stores it. Its ids, and so its bytes, don't change
// from run to run.
func (b board) render() ([]byte, error) {
	source := object{"type": "prometheus", "uid": "${datasource}"}
	variables := []object{{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source", "hide": 0, "refresh": 1}}
	for _, v := range b.variables {
		one := object{
			"name": v.name, "type": "query", "datasource": source, "definition": v.values,
			"label": strings.ToUpper(v.name[:1]) + v.name[1:],
			"query": object{"query": v.values, "refId": "values"}, "refresh": 2, "sort": 1, "hide": 0,
			"includeAll": v.several, "multi": v.several,
		}
		if v.several {
			one["allValue"] = ".+"
			if v.name == "cluster" { // which need not be there, and then is empty
				one["allValue"] = ".*"
			}
			one["current"] = object{"text": "All", "value": "$__all"}
		}
		variables = append(variables, one)
	}
	var panels []object
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, r := range b.rows {
		panels = append(panels, object{"id": next(), "type": "row", "title": r.title, "collapsed": false, "gridPos": object{"x": 0, "y": y, "w": 24, "h": 1}, "panels": []object{}})
		y++
		x := 0
		for _, p := range r.panels {
			if x+p.width > 24 {
				x, y = 0, y+r.height
			}
			panels = append(panels, p.render(next(), source, object{"x": x, "y": y, "w": p.width, "h": r.height}))
			x += p.width
		}
		y += r.height
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{
		"uid": b.uid, "title": b.title, "description": b.description, "tags": []string{"nictune"},
		"schemaVersion": 39, "version": 1, "editable": false, "graphTooltip": 1, "timezone": "", "refresh": "1m",
		"time": object{"from": "now-6h", "to": "now"}, "templating": object{"list": variables},
		"annotations": object{"list": []object{}}, "links": []object{}, "panels": panels,
	})
	return text.Bytes(), err
}

func (p panel) render(id int, source, place object) object {
	kind, hidden := p.kind, object{"Time": true, "__name__": true, "job": true, "cluster": true}
	if kind == "list" {
		kind, hidden["Value"] = "table", true // it is always 1
	}
	var targets []object
	for i, q := range p.queries {
		t := object{"refId": string(rune('A' + i)), "datasource": source, "expr": q.expression, "legendFormat": q.legend}
		if p.kind != "timeseries" {
			t["instant"] = true
		}
		if kind == "table" {
			t["format"] = "table"
		}
		targets = append(targets, t)
	}
	out := object{
		"id": id, "type": kind, "title": p.title, "description": p.description, "datasource": source, "gridPos": place,
		"targets": targets, "fieldConfig": object{"defaults": object{"unit": p.unit}, "overrides": []object{}},
		"options": object{},
	}
	switch kind {
	case "stat":
		out["options"] = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "colorMode": "none", "graphMode": "none"}
	case "bargauge":
		out["options"] = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "orientation": "horizontal", "displayMode": "basic"}
	case "timeseries":
		out["options"] = object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	case "table":
		out["transformations"] = []object{{"id": "organize", "options": object{"excludeByName": hidden}}}
	}
	return out
}

func TestGoldenDashboards(t *testing.T) {
	for _, b := range boards() {
		want, err := b.render()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("dashboards", b.uid[len("nictune-"):]+".json")
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // it is part of the repository
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale (%v): run go generate ./exporters/mixin", file, err)
		}
	}
}

// The dashboards are what Grafana takes: ids that occur once, panels that fit and don't
// lie on each other, each with the data source that the reader chose.
func TestDashboardsAreSound(t *testing.T) {
	uids := map[string]bool{}
	for _, b := range boards() {
		text, err := b.render()
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID, Title    string
			SchemaVersion int
			Templating    struct{ List []struct{ Name, Type string } }
			Panels        []struct {
				ID          int
				Type, Title string
				Description string
				FieldConfig struct{ Defaults struct{ Unit string } }
				GridPos     struct{ X, Y, W, H int }
				Datasource  struct{ UID string }
				Targets     []struct{ RefID, Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		if d.UID == "" || len(d.UID) > 40 || uids[d.UID] || d.Title == "" || d.SchemaVersion == 0 {
			t.Errorf("uid %q, title %q, schema version %d", d.UID, d.Title, d.SchemaVersion)
		}
		uids[d.UID] = true
		if len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" {
			t.Errorf("%s: the first variable is not the data source", d.UID)
		}
		ids, cells := map[int]bool{}, map[string]string{}
		for _, p := range d.Panels {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: %s has the id %d of another", d.UID, p.Title, p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.X < 0 || g.W <= 0 || g.X+g.W > 24 || g.H <= 0 {
				t.Errorf("%s: %s does not fit: %+v", d.UID, p.Title, g)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					cell := fmt.Sprint(x, ",", y)
					if other, ok := cells[cell]; ok {
						t.Fatalf("%s: %s lies on %s", d.UID, p.Title, other)
					}
					cells[cell] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" {
				t.Errorf("%s: %s has no title, no unit, or nothing that explains it", d.UID, p.Title)
			}
			if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s: %s asks %q for %d things", d.UID, p.Title, p.Datasource.UID, len(p.Targets))
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.RefID == "" || refs[q.RefID] || q.Expr == "" {
					t.Errorf("%s: %s: query %q", d.UID, p.Title, q.RefID)
				}
				refs[q.RefID] = true
			}
		}
	}
}
