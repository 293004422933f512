package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet/promql"
)

// What the server's answers say of a host, put together.

func (h *shardHost) addNIC(l map[string]string, _ float64) {
	model := l["model"]
	if model == "" && l["vendor_id"] != "" {
		model = l["vendor_id"] + ":" + l["device_id"]
	}
	n := &NIC{
		ID: nicID(l), Device: l["device"], Address: l["pci_address"], Kind: l["kind"], Model: model,
		Driver: l["driver"], DriverVersion: l["driver_version"], Firmware: l["firmware"],
	}
	if n.Device != "" {
		h.nics[n.Device] = n
	}
}

// findCut finds the hosts of which not everything was exported.
func (r *reading) findCut(ctx context.Context) error {
	if err := r.ask(ctx, "max by ("+r.by+", collector) ("+r.of("nictune_scrape_series_cut", told)+" > 0)", func(key string, s promql.Sample) {
		if r.cut[key] == nil {
			r.cut[key] = map[string]float64{}
		}
		r.cut[key][s.Labels["collector"]] = s.Value
	}); err != nil {
		return fmt.Errorf("asking for what was cut: %w", err)
	}
	return nil
}

// addCut names such a host: what isn't there would look as if it were well.
func (r *reading) addCut(h *shardHost, cut map[string]float64) {
	for collector, n := range cut {
		what := ""
		if collector == "findings" {
			what = ": rules may fail on it that are not here"
		}
		r.into.Problem(Problem{
			Kind: Incomplete, Source: h.instance, Host: h.Name,
			Detail: fmt.Sprintf("its agent left out %.0f series of the collector %s, by --limit.series-per-collector%s", n, collector, what),
		})
	}
}

// troubled picks the verdicts that are asked for by host and rule in any case.
const troubled = `status=~"fail|error|waived"`

func (h *shardHost) addVerdict(l map[string]string, v float64) {
	if !finite(v) || v < 1 {
		return
	}
	h.whole = true
	h.Verdicts = append(h.Verdicts, Verdict{l["rule"], findings.Severity(l["severity"]), findings.Status(l["status"]), int(v)})
}

func (n *NIC) addReadiness(l map[string]string, v float64) {
	if n.Readiness == nil {
		n.Readiness = map[string]string{}
	}
	n.Readiness[l["profile"]] = map[bool]string{true: audit.Ready, false: audit.NotReady}[v == 1]
}

func (n *NIC) addVFDriver(l map[string]string, v float64) {
	vfs := virtualOf(n)
	if vfs.Drivers == nil {
		vfs.Drivers = map[string]int{}
	}
	vfs.Drivers[l["driver"]] = int(v)
}

// readVerdicts asks for the other verdicts, for readiness and for the drivers of VFs: one by one of the hosts
// that something is wrong with, and in sum of those that are well, which are the most.
func (s *shard) readVerdicts(ctx context.Context) error {
	s.onInstances(func(h *shardHost) *bool { return &h.whole })
	well := func(h *shardHost) bool { return !h.whole && !h.again }
	if whole := instancesOf(s.pick(func(h *shardHost) bool { return !well(h) })); len(whole) > 0 {
		these := "instance=~" + anyOf(whole)
		if err := s.put(ctx, []question{
			{"verdicts", "sum by (" + s.by + ", rule, severity, status) (" + s.of("nictune_rule_findings", `status!~"fail|error|waived"`, these) + ")", (*shardHost).addVerdict},
			{"readiness for XDP", "min by (" + s.by + ", device, profile) (" + s.of("nictune_xdp_ready", these) + ")", onNIC((*NIC).addReadiness)},
			{"drivers of VFs", "max by (" + s.by + ", device, driver) (" + s.of("nictune_sriov_vfs_by_driver", these) + ")", onNIC((*NIC).addVFDriver)},
		}); err != nil {
			return err
		}
	}
	asked, err := s.readSums(ctx, func(h *shardHost) bool { return well(h) && s.into.timely(h.CollectedAt) })
	if err != nil {
		return err
	}
	for _, h := range s.hosts {
		for _, n := range h.nics {
			for profile := range n.Readiness {
				asked[profile] = true
			}
		}
	}
	for _, h := range s.hosts {
		if !well(h) {
			h.unknownReadiness(asked) // what is not known of a NIC has no sample
		}
	}
	return nil
}

// onInstances makes something true of all hosts that have the label instance in common where it
// is true of one: what is asked of one is answered for the others, too.
func (s *shard) onInstances(what func(*shardHost) *bool) {
	some := map[string]bool{}
	for _, h := range s.hosts {
		if *what(h) {
			some[h.instance] = true
		}
	}
	for _, h := range s.hosts {
		*what(h) = some[h.instance]
	}
}

// unknownReadiness says of which profiles it is not known whether a NIC is ready.
func (h *shardHost) unknownReadiness(asked map[string]bool) {
	some := false
	for _, n := range h.nics {
		some = some || n.Readiness != nil
	}
	if !some {
		return // the agent doesn't say
	}
	for _, n := range h.nics {
		for profile := range asked {
			if n.Readiness[profile] != "" {
				continue
			}
			if n.Readiness == nil {
				n.Readiness = map[string]string{}
			}
			n.Readiness[profile] = audit.ReadyUnknown
		}
	}
}

// findShared finds the hosts with VFs that share their IOMMU group with something.
func (r *reading) findShared(ctx context.Context) error {
	if err := r.ask(ctx, "max by ("+r.by+") ("+r.of("nictune_sriov_vfs_sharing_iommu_group")+" > 0)", func(key string, _ promql.Sample) { r.shared[key] = true }); err != nil {
		return fmt.Errorf("asking for shared IOMMU groups: %w", err)
	}
	return nil
}

// readDowns asks how often links were lost. The recording rule knows it of a day, from
// which the server has to read one sample of a port and not a day of them: the other way
// only those hosts are asked for that have a port of which nothing is recorded.
func (s *shard) readDowns(ctx context.Context) error {
	count := func(series string) error {
		return s.put(ctx, []question{{"lost links", "max by (" + s.by + ", device) (" + series + ")", onNIC(func(n *NIC, _ map[string]string, v float64) {
			if v >= 0 {
				n.Downs = new(uint64(math.Round(v)))
			}
		})}})
	}
	switch s.Window {
	case 0:
		return count(s.of(downs, s.these))
	case recordedWindow:
		if err := count(s.of(recordedDowns, s.these)); err != nil {
			return err
		}
	}
	unrecorded := instancesOf(s.pick(func(h *shardHost) bool {
		for _, n := range h.nics {
			if n.Downs == nil {
				return true
			}
		}
		return false
	}))
	if len(unrecorded) == 0 {
		return nil
	}
	return count("increase(" + s.of(downs, "instance=~"+anyOf(unrecorded)) + "[" + duration(s.Window) + "])")
}

// readShared asks which groups those are.
func (s *shard) readShared(ctx context.Context) error {
	some := map[string]*target{}
	for key, h := range s.hosts {
		if s.shared[key] {
			some[key] = h.target
		}
	}
	if len(some) == 0 {
		return nil
	}
	these := "instance=~" + anyOf(instancesOf(some))
	return s.put(ctx, []question{{
		"shared IOMMU groups", "group by (" + s.by + ", device, vf, iommu_group) (" + s.of("nictune_vf_info", these) + " and on (" + s.by + ", device, vf) (" + s.of("nictune_vf_iommu_group_shared", these) + " == 1))",
		onNIC(func(n *NIC, l map[string]string, _ float64) { shareGroup(virtualOf(n), l["iommu_group"], l["vf"]) }),
	}})
}

// readDrift asks which settings differ on hosts where some do.
func (s *shard) readDrift(ctx context.Context) error {
	some := instancesOf(s.pick(func(h *shardHost) bool { return h.drifted }))
	if len(some) == 0 {
		return nil
	}
	return s.put(ctx, []question{{
		"drift", "max by (" + s.by + ", policy, device, setting) (" + s.of("nictune_policy_setting_drifted", given, "instance=~"+anyOf(some)) + ") > 0",
		func(h *shardHost, l map[string]string, _ float64) {
			h.whole = true
			h.addDrift(l, audit.Drifted, 1)
		},
	}})
}

// one makes a sum of truths tell how many there are, too: a term counts as so many, and
// a true one as one more. [apart] takes the sum apart. That reads each series once,
// which is most of what a query costs the server.
const one = "1000000"

func apart(sum float64) (all, which int) {
	if !finite(sum) || sum < 0 || sum > 1e15 {
		return 0, 0
	}
	return int(sum) / 1000000, int(sum) % 1000000
}

// nicID is what [inventory.NIC.ID] says, as far as labels tell.
func nicID(l map[string]string) string {
	switch {
	case l["pci_address"] != "" && l["permanent_mac"] != "":
		return l["pci_address"] + "/" + l["permanent_mac"]
	case l["pci_address"] != "":
		return l["pci_address"]
	}
	return cmp.Or(l["device"], "host")
}

func (h *shardHost) addFinding(l map[string]string, _ float64) {
	id := nicID(l)
	if n := h.nics[l["device"]]; n != nil {
		id = n.ID // also where the address is that of a VF of it
	}
	h.Findings = append(h.Findings, Finding{
		Rule: l["rule"], Severity: findings.Severity(l["severity"]), Status: findings.Status(l["status"]),
		NIC: id, Device: l["device"], Part: l["part"],
	})
}

// addDrift adds n settings of a status. The server counts those that are as wanted, of
// which nothing else is told.
func (h *shardHost) addDrift(l map[string]string, status string, n int) {
	d := Drift{Policy: l["policy"], Device: l["device"], Setting: l["setting"], Status: status}
	if status != audit.AsWanted {
		d.NIC = cmp.Or(l["device"], "host")
		if nic := h.nics[l["device"]]; nic != nil {
			d.NIC = nic.ID
		}
	}
	for range min(n, mostDistinct) {
		h.Drift = append(h.Drift, d)
	}
}

func (h *shardHost) addWaiver(l map[string]string, until float64) {
	if !finite(until) {
		return
	}
	if h.waivers == nil {
		h.waivers = map[Waiver]int{}
	}
	failures := 0
	if l["__name__"] == neededWaivers {
		failures = 1
	}
	// It ends with its last day.
	h.waivers[Waiver{Rule: l["rule"], Owner: l["owner"], Expires: instant(until - 1).Format(time.DateOnly)}] += failures
}

// finish puts everything in order.
func (h *shardHost) finish() *Host {
	for _, device := range slices.Sorted(maps.Keys(h.nics)) {
		h.NICs = append(h.NICs, *h.nics[device])
	}
	h.Waivers = waiversOf(h.waivers)
	slices.SortFunc(h.Verdicts, func(a, b Verdict) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(string(a.Severity), string(b.Severity)), strings.Compare(string(a.Status), string(b.Status)))
	})
	slices.SortFunc(h.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.NIC, b.NIC), strings.Compare(a.Device, b.Device), strings.Compare(a.Part, b.Part), strings.Compare(string(a.Status), string(b.Status)))
	})
	slices.SortFunc(h.Drift, func(a, b Drift) int {
		return cmp.Or(strings.Compare(a.Policy, b.Policy), strings.Compare(a.NIC, b.NIC), strings.Compare(a.Setting, b.Setting), strings.Compare(a.Status, b.Status))
	})
	return &h.Host
}

func shareGroup(vfs *VFs, group, vf string) {
	g, err := strconv.Atoi(group)
	if err != nil {
		return
	}
	i := slices.IndexFunc(vfs.Shared, func(s SharedGroup) bool { return s.Group == g })
	if i < 0 {
		i = len(vfs.Shared)
		vfs.Shared = append(vfs.Shared, SharedGroup{Group: g})
	}
	if n, err := strconv.Atoi(vf); err == nil {
		vfs.Shared[i].VFs = append(vfs.Shared[i].VFs, n)
		slices.Sort(vfs.Shared[i].VFs)
	}
	slices.SortFunc(vfs.Shared, func(a, b SharedGroup) int { return cmp.Compare(a.Group, b.Group) })
}

// quantity is something that modules measure.
type quantity struct {
	name, metric, base string // "rx-power", "rx_power", "watts"
	unit               string // that of reports
	// shown converts from the base unit; a power is shown as its logarithm.
	shown func(float64) float64
	power bool
}

func quantities() []quantity {
	dBm := func(w float64) float64 { return 10 * math.Log10(w*1000) }
	same := func(v float64) float64 { return v }
	return []quantity{
		{"temperature", "temperature", "celsius", "°C", same, false},
		{"voltage", "voltage", "volts", "V", same, false},
		{"bias", "tx_bias", "amperes", "mA", func(a float64) float64 { return a * 1000 }, false},
		{"tx-power", "tx_power", "watts", "dBm", dBm, true},
		{"rx-power", "rx_power", "watts", "dBm", dBm, true},
	}
}

// How near to a warning a module has to be for all of its figures to be asked for: this
// share of what lies between its warnings, and for received power so many decibels above the low one.
const (
	nearShare = 0.1
	nearDB    = 2
)

// findNear finds the modules that are near a warning or past one, of all hosts at once:
// there are few. How far received power is from the low one is asked of each port anyway.
func (r *reading) findNear(ctx context.Context) error {
	near := fmt.Sprintf("min by (%s, device) (%s) < %g", r.by, r.of("nictune_module_margin_ratio"), nearShare)
	if err := r.ask(ctx, near, func(key string, s promql.Sample) {
		if r.near[key] == nil {
			r.near[key] = map[string]bool{}
		}
		r.near[key][s.Labels["device"]] = true
	}); err != nil {
		return fmt.Errorf("asking for modules near a warning: %w", err)
	}
	return nil
}

// readOptics asks how much light every port receives, and for everything about modules
// that are near a threshold or past one. Twenty-five figures of each module of a fleet
// would be most of what there is to read.
func (s *shard) readOptics(ctx context.Context) error {
	optics := map[*NIC]*module{}
	near := map[string]*target{}
	ask := func(what, expression string, each func(m *module, l map[string]string, v float64)) error {
		err := s.ask(ctx, expression, func(key string, p promql.Sample) {
			h := s.hosts[key]
			if h == nil {
				return
			}
			if n := h.nics[p.Labels["device"]]; n != nil {
				m := optics[n]
				if m == nil {
					m = &module{near: s.near[key][n.Device], values: map[measure]float64{}, thresholds: map[measure]float64{}}
					optics[n] = m
				}
				each(m, p.Labels, p.Value)
				if m.near {
					near[key] = h.target
				}
			}
		})
		if err != nil {
			return fmt.Errorf("asking for %s of modules: %w", what, err)
		}
		return nil
	}
	port := s.by + ", device"
	level := "max by (" + port + ") (" + s.of("nictune_module_rx_power_threshold_watts", `threshold="low-warning"`, s.these) + ")"
	if err := ask("received power", "min by ("+port+") ("+s.of("nictune_module_rx_power_watts", s.these)+") / "+level, func(m *module, _ map[string]string, v float64) {
		m.margin = new(10 * math.Log10(v))
		m.near = m.near || *m.margin < nearDB
	}); err != nil {
		return err
	}
	for key := range s.hosts {
		if len(s.near[key]) > 0 {
			near[key] = s.targets[key]
		}
	}
	if len(near) > 0 {
		these := "instance=~" + anyOf(instancesOf(near))
		names := func(suffix func(quantity) string) string {
			var all []string
			for _, q := range quantities() {
				all = append(all, "nictune_module_"+suffix(q))
			}
			return anyNamed(all...)
		}
		valueOf := map[string]string{}
		thresholdOf := map[string]string{}
		for _, q := range quantities() {
			valueOf["nictune_module_"+q.metric+"_"+q.base] = q.name
			thresholdOf["nictune_module_"+q.metric+"_threshold_"+q.base] = q.name
		}
		for _, step := range []struct {
			what, expression string
			each             func(m *module, l map[string]string, v float64)
		}{
			{"figures", "max by (__name__, " + port + ", lane) (" + s.of("", names(func(q quantity) string { return q.metric + "_" + q.base }), these) + ")", func(m *module, l map[string]string, v float64) {
				lane, _ := strconv.Atoi(l["lane"])
				m.values[measure{valueOf[l["__name__"]], strconv.Itoa(lane)}] = v
			}},
			{"thresholds", "max by (__name__, " + port + ", threshold) (" + s.of("", names(func(q quantity) string { return q.metric + "_threshold_" + q.base }), these) + ")", func(m *module, l map[string]string, v float64) {
				m.thresholds[measure{thresholdOf[l["__name__"]], l["threshold"]}] = v
			}},
			{"names", "group by (" + port + ", vendor, part, serial) (" + s.of("nictune_module_info", these) + ")", func(m *module, l map[string]string, _ float64) {
				m.vendor, m.part, m.serial = l["vendor"], l["part"], l["serial"]
			}},
		} {
			if err := ask(step.what, step.expression, step.each); err != nil {
				return err
			}
		}
	}
	for n, m := range optics {
		n.Optics = m.optics()
	}
	return nil
}

// measure is a quantity with a lane, or with a threshold's name.
type measure struct{ quantity, of string }

// module is what the server says of a module.
type module struct {
	near                 bool
	margin               *float64 // of received power to its low warning, in dB
	values, thresholds   map[measure]float64
	vendor, part, serial string
}

// optics are the quantities of a module: all of one near a threshold, else the received
// power.
func (m *module) optics() []Optic {
	if !m.near {
		if m.margin == nil || math.IsNaN(*m.margin) {
			return nil
		}
		o := Optic{Quantity: "rx-power", Unit: "dBm", Verdict: "ok"}
		if !math.IsInf(*m.margin, 0) {
			o.Margin = new(decimals(*m.margin, 3))
		}
		return []Optic{o}
	}
	var all []Optic
	for _, q := range quantities() {
		var worst *Optic
		for of, v := range m.values {
			if of.quantity != q.name {
				continue
			}
			measured := m.judge(q, v)
			measured.Lane, _ = strconv.Atoi(of.of)
			o, ok := NewOptic(&measured)
			if ok && (worst == nil || o.nearer(worst)) {
				worst = &o
			}
		}
		if worst != nil {
			worst.Vendor, worst.PartNumber, worst.SerialNumber = m.vendor, m.part, m.serial
			all = append(all, *worst)
		}
	}
	return all
}

// judge holds a value against its thresholds, as the host's audit does.
func (m *module) judge(q quantity, v float64) audit.Measured {
	o := audit.Measured{Quantity: q.name, Unit: q.unit}
	limits := map[string]float64{}
	for _, which := range []string{"low-alarm", "low-warning", "high-warning", "high-alarm"} {
		if t, ok := m.thresholds[measure{q.name, which}]; ok && (!q.power || t > 0) {
			limits[which] = q.shown(t)
		}
	}
	if len(limits) == 0 {
		return o
	}
	shown := q.shown(v)
	past := func(which string) bool {
		t, ok := limits[which]
		return ok && (strings.HasPrefix(which, "high") && shown > t || strings.HasPrefix(which, "low") && shown < t)
	}
	o.Verdict = "ok"
	for _, which := range []string{"high-alarm", "low-alarm", "high-warning", "low-warning"} {
		if past(which) {
			o.Verdict = which
			break
		}
	}
	if !finite(shown) { // no light
		return o
	}
	o.Value = new(decimals(shown, 3))
	margin := func(which string, sign float64) *float64 {
		if t, ok := limits[which]; ok {
			return new(decimals(sign*(shown-t), 3))
		}
		return nil
	}
	o.Margins = &audit.Margins{
		LowAlarm: margin("low-alarm", 1), LowWarning: margin("low-warning", 1),
		HighWarning: margin("high-warning", -1), HighAlarm: margin("high-alarm", -1),
	}
	return o
}

func pcieOf(n *NIC) *PCIe {
	if n.PCIe == nil {
		n.PCIe = new(PCIe)
	}
	return n.PCIe
}

func virtualOf(n *NIC) *VFs {
	if n.VFs == nil {
		n.VFs = new(VFs)
	}
	return n.VFs
}

// anyOf is a pattern for exactly these values, as PromQL's string.
func anyOf(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return strconv.Quote(strings.Join(quoted, "|"))
}

// duration is a duration as PromQL writes it.
func duration(d time.Duration) string {
	return strconv.FormatInt(max(1, int64(d.Round(time.Second)/time.Second)), 10) + "s"
}

func instant(seconds float64) time.Time {
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// decimals rounds to so many digits after the point.
func decimals(v float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(v*scale) / scale
}
