package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/fleet/promql"
)

// Prometheus is a fleet as a server that speaks PromQL knows it: all that is asked of
// the hosts is the scrape.
//
// Hosts are asked for in shards, by the values of their label instance, so that no answer
// is large whatever the fleet is. What can be reduced there is reduced by the server, and
// of what it says of a NIC only that is kept which a [Host] holds.
type Prometheus struct {
	Server *promql.Server
	// At is the moment that the report is of.
	At time.Time
	// Selector are label matchers that all metrics must have, without braces:
	// `cluster="eu-1",env=~"prod|canary"`. It is "" for everything.
	Selector string
	// Identity are the labels that tell hosts apart beside job and instance, those that
	// Thanos and Mimir add: "cluster".
	Identity []string
	// Since is how long before At a host may have been seen last, to be missed now.
	Since time.Duration
	// Window is the time in which lost links are counted; 0 since each device was made.
	Window time.Duration
	// Host is the hostname or the instance of the only host that is asked for; "" for all.
	Host string
	// Shards is how many shards are asked for at the same time; 2 where it is 0.
	Shards int
}

const (
	// shardHosts and shardBytes bound a shard: how many instances, and how long the
	// pattern that picks them is. No query has it more than twice, and VictoriaMetrics
	// takes one of 16 KiB.
	shardHosts = 400
	shardBytes = 7 << 10

	// recordedWindow is what the recording rule of exporters/mixin counts lost links in.
	recordedWindow = 24 * time.Hour
	recordedDowns  = "instance_device:nictune_network_carrier_down_changes:increase1d"
	downs          = "nictune_network_carrier_down_changes_total"
)

// given picks the policies that agents were given. One without any compares its host with
// each of those that nictune ships, which are alternatives that nobody chose.
const given = `origin="given"`

// told picks the collectors whose metrics are asked for here: what is cut of others, such as
// drivers' own counters, takes nothing from a report.
const told = `collector=~"findings|host|link|module|nic|pci|policy|sriov|xdp_ready"`

// When waivers end: of those that a failure needs, once for each failure, and of all that the
// policies for a host have.
const (
	neededWaivers = "nictune_waiver_expiry_timestamp_seconds"
	allWaivers    = "nictune_check_waiver_expiry_timestamp_seconds"
)

// target is what is known of a host before its shard is asked for.
type target struct {
	Host
	instance, job string
	reports       bool // it has samples now
	judged        bool // it says when it was judged
	again         bool // another target is the same host
}

// Read asks for the hosts and adds them, names those that are missing, and notes as
// problems what the server says of its own answers. An error is the server's, or one of
// the aggregate.
func (p *Prometheus) Read(ctx context.Context, into *Aggregate) error {
	r := p.reading(into)
	if err := r.findAll(ctx); err != nil {
		return err
	}
	if err := r.settleTargets(ctx); err != nil {
		return err
	}
	if err := together(ctx, p.Shards, r.shards(), r.readShard); err != nil {
		return err
	}
	r.addKinds()
	return nil
}

// findAll asks what is asked of all hosts at once.
func (r *reading) findAll(ctx context.Context) error {
	all := []func(context.Context) error{r.findTargets, r.findFacts, r.findShared, r.findCut, r.findNear, r.findKinds}
	return together(ctx, r.Shards, all, func(ctx context.Context, find func(context.Context) error) error { return find(ctx) })
}

// together does something with all of a list, with so many of them at the same time, and
// ends with the first error.
func together[T any](ctx context.Context, width int, all []T, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan T)
	var workers sync.WaitGroup
	for range min(len(all), cmp.Or(width, 2)) {
		workers.Go(func() {
			for one := range work {
				if err := do(ctx, one); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, one := range all {
		select {
		case work <- one:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

// identity are all labels that tell hosts apart.
func (p *Prometheus) identity() []string {
	labels := append(slices.Clone(p.Identity), "job", "instance")
	slices.Sort(labels)
	return slices.Compact(labels)
}

// reading is one reading of a fleet.
type reading struct {
	*Prometheus
	labels  []string // those that tell hosts apart
	by      string   // what to aggregate by, to be left with hosts
	targets map[string]*target
	// several are the names of hosts that can't be told apart, by the key that they share:
	// what is said of one may be another's. former are names that a target had lately.
	several, former map[string][]string

	// What is found of all hosts at once, by host: when it was scraped, when it was judged and
	// by which nictune, whether a VF of it shares its IOMMU group, how many series of which
	// collector its agent cut.
	scraped, judged map[string]float64
	version         map[string]string
	shared          map[string]bool
	cut             map[string]map[string]float64
	near            map[string]map[string]bool
	kinds           map[string]*likeness // what is in a likeness is for holders of the lock

	mu     sync.Mutex // for what follows
	into   *Aggregate
	warned map[string]bool
}

func (p *Prometheus) reading(into *Aggregate) *reading {
	labels := p.identity()
	return &reading{
		Prometheus: p, into: into, labels: labels, by: strings.Join(labels, ", "),
		targets: map[string]*target{}, several: map[string][]string{}, former: map[string][]string{},
		scraped: map[string]float64{}, judged: map[string]float64{}, version: map[string]string{}, shared: map[string]bool{}, cut: map[string]map[string]float64{}, kinds: map[string]*likeness{}, near: map[string]map[string]bool{}, warned: map[string]bool{},
	}
}

// key is what a host is known by in an answer.
func (r *reading) key(labels map[string]string) string {
	var b strings.Builder
	for i, l := range r.labels {
		if i > 0 {
			b.WriteByte(0)
		}
		b.WriteString(labels[l])
	}
	return b.String()
}

// ask evaluates an expression and has each take the elements, of which %s are the labels
// to aggregate by. Warnings become problems of the report, once each.
func (r *reading) ask(ctx context.Context, expression string, each func(key string, s promql.Sample)) error {
	warnings, err := r.Server.Query(ctx, expression, r.At, func(s promql.Sample) error {
		each(r.key(s.Labels), s)
		return nil
	})
	r.warn(warnings)
	return err
}

func (r *reading) warn(warnings []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range warnings {
		if !r.warned[w] && len(r.warned) < mostDistinct {
			r.warned[w] = true
			r.into.Problem(Problem{Kind: Incomplete, Source: r.Server.URL.Redacted(), Detail: "the server says: " + w})
		}
	}
}

// of is a selector: a metric with the matchers that all have and others.
func (r *reading) of(metric string, matchers ...string) string {
	if r.Selector != "" {
		matchers = append(matchers, r.Selector)
	}
	return metric + "{" + strings.Join(matchers, ",") + "}"
}

// findTargets finds every host that reports, or did.
func (r *reading) findTargets(ctx context.Context) error {
	about := func(key string, labels map[string]string) *target {
		t := r.target(key, labels)
		if name := labels["hostname"]; name != "" {
			if t.Name != name && t.Name != t.instance && !t.reports {
				note(r.former, key, t.Name)
			}
			t.Name = name
		}
		t.MachineID = labels["machine_id"]
		t.Kernel = labels["kernel"]
		if vm, err := strconv.ParseBool(labels["virtual_machine"]); err == nil {
			t.VirtualMachine = &vm
		}
		return t
	}

	// Who was there lately: the index knows, without a sample being read.
	if r.Since > 0 {
		warnings, err := r.Server.Series(ctx, r.of("nictune_host_info"), r.At.Add(-r.Since), r.At, func(labels map[string]string) error {
			about(r.key(labels), labels)
			return nil
		})
		r.warn(warnings)
		if err != nil {
			return fmt.Errorf("asking who reported lately: %w", err)
		}
	}
	// Who is there now.
	if err := r.ask(ctx, "group by ("+r.by+", hostname, machine_id, kernel, virtual_machine) ("+r.of("nictune_host_info")+")", func(key string, s promql.Sample) {
		t := r.target(key, s.Labels)
		if name := cmp.Or(s.Labels["hostname"], t.instance); t.reports && (t.Name != name || t.MachineID != s.Labels["machine_id"]) {
			note(r.several, key, t.Name)
			note(r.several, key, name)
		}
		about(key, s.Labels).reports = true
	}); err != nil {
		return fmt.Errorf("asking which hosts report: %w", err)
	}
	return nil
}

// target is the one of a key, made where there is none.
func (r *reading) target(key string, labels map[string]string) *target {
	t := r.targets[key]
	if t == nil {
		t = &target{instance: labels["instance"], job: labels["job"]}
		t.Name = t.instance
		t.Source = t.instance
		r.targets[key] = t
	}
	return t
}

// findFacts asks for what belongs to hosts, whichever there are.
func (r *reading) findFacts(ctx context.Context) error {
	for _, step := range []struct {
		what, query string
		each        func(key string, s promql.Sample)
	}{
		{"when they were scraped", "min by (" + r.by + ") (timestamp(" + r.of("nictune_host_info") + "))", func(key string, s promql.Sample) { r.scraped[key] = s.Value }},
		{"which nictune they run", "group by (" + r.by + ", version) (" + r.of("nictune_build_info") + ")", func(key string, s promql.Sample) { r.version[key] = s.Labels["version"] }},
		{"when they were judged", "min by (" + r.by + ") (" + r.of("nictune_audit_timestamp_seconds") + ")", func(key string, s promql.Sample) { r.judged[key] = s.Value }},
	} {
		if err := r.ask(ctx, step.query, step.each); err != nil {
			return fmt.Errorf("asking %s: %w", step.what, err)
		}
	}
	return nil
}

// settleTargets gives hosts what was found of them, finds those that should be there, and
// names the missing.
func (r *reading) settleTargets(ctx context.Context) error {
	if len(r.targets) == 0 {
		said := ""
		for _, w := range slices.Sorted(maps.Keys(r.warned)) {
			said += "; the server says: " + w
		}
		return errors.New("the server has no metrics of nictune" + cmp.Or(map[bool]string{true: " with " + r.Selector}[r.Selector != ""], "") + ": does it scrape nictune agent, and is the tenant the right one where it has several? (nictune_host_info was asked for)" + clip(said))
	}
	jobs := map[string]bool{}
	for key, t := range r.targets {
		jobs[t.job] = true
		t.Version = r.version[key]
		if at, ok := r.scraped[key]; ok {
			t.CollectedAt = instant(at)
		}
		if at, ok := r.judged[key]; ok && t.reports && finite(at) {
			t.CollectedAt, t.judged = instant(at), true
		}
	}
	r.scraped, r.judged, r.version = nil, nil, nil
	// Who should be there: all that are scraped in the same way.
	up := map[string]float64{}
	if err := r.ask(ctx, "max by ("+r.by+") ("+r.of("up", "job=~"+anyOf(slices.Sorted(maps.Keys(jobs))))+")", func(key string, s promql.Sample) {
		r.target(key, s.Labels)
		up[key] = s.Value
	}); err != nil {
		return fmt.Errorf("asking which hosts can be scraped: %w", err)
	}
	r.missIndistinct()
	if r.Host != "" {
		maps.DeleteFunc(r.targets, func(_ string, t *target) bool { return t.Name != r.Host && t.instance != r.Host })
		for _, t := range r.targets {
			t.Name = cmp.Or(r.into.o.Host, t.Name) // it was asked for by its instance
		}
	}
	return r.nameMissing(ctx, up)
}

// note adds a name to those of a key.
func note(names map[string][]string, key, name string) {
	if !slices.Contains(names[key], name) && len(names[key]) < mostDistinct {
		names[key] = append(names[key], name)
	}
}

// missIndistinct names the hosts that others stand in for: those that share job and
// instance, of which all are taken out since nobody can tell whose figures there are, and
// those that reported as a target which is another host now.
func (r *reading) missIndistinct() {
	for _, key := range slices.Sorted(maps.Keys(r.several)) {
		t, all := r.targets[key], r.several[key]
		why := "hosts " + strings.Join(all, ", ") + " have the same " + r.by + ", so that their figures can't be told apart: name the label that does with --identity"
		if r.Host != "" && r.Host == t.instance {
			all = []string{r.Host} // it was asked for by its instance
		}
		for _, name := range all {
			r.into.Miss(NamedHost{Name: name, MachineID: "instance " + t.instance, Source: t.instance}, why)
		}
		delete(r.targets, key)
	}
	if len(r.former) == 0 {
		return
	}
	here := map[string]bool{}
	for _, t := range r.targets {
		here[t.Name] = true
	}
	for _, all := range r.several {
		for _, name := range all {
			here[name] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.former)) {
		t := r.targets[key]
		if t == nil {
			continue // it was named above
		}
		for _, name := range r.former[key] {
			if !here[name] {
				r.into.Miss(NamedHost{Name: name, MachineID: "instance " + t.instance, Source: t.instance},
					"it reported within the last "+duration(r.Since)+", and "+t.Name+" is in its place now")
			}
		}
	}
}

// nameMissing takes those out that don't report, and says when they last did.
func (r *reading) nameMissing(ctx context.Context, up map[string]float64) error {
	missing := map[string]*target{}
	for key, t := range r.targets {
		if t.MachineID == "" {
			// Of two hosts with one name neither takes the place of the other.
			t.MachineID = "instance " + t.instance
		}
		switch {
		case !t.reports:
			missing[key] = t
			delete(r.targets, key)
		}
		if t.reports && !t.judged {
			r.into.Problem(Problem{Kind: Incomplete, Source: t.instance, Host: t.Name, Detail: "it reports and was not judged: its agent runs without judging, is older, or has just started"})
		}
	}
	once := map[[2]string]*target{}
	for _, t := range r.targets {
		if same := once[[2]string{t.Name, t.MachineID}]; same != nil {
			same.again, t.again = true, true
		}
		once[[2]string{t.Name, t.MachineID}] = t
	}
	if len(missing) == 0 {
		return nil
	}
	last := map[string]time.Time{}
	if r.Since > 0 {
		for instances := range slices.Chunk(instancesOf(missing), shardHosts) {
			query := "max by (" + r.by + ") (last_over_time(" + r.of("nictune_audit_timestamp_seconds", "instance=~"+anyOf(instances)) + "[" + duration(r.Since) + "]))"
			if err := r.ask(ctx, query, func(key string, s promql.Sample) {
				if finite(s.Value) {
					last[key] = instant(s.Value)
				}
			}); err != nil {
				return fmt.Errorf("asking when missing hosts were judged last: %w", err)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(missing)) {
		t := missing[key]
		n := NamedHost{Name: t.Name, MachineID: t.MachineID, Source: t.instance}
		if at, ok := last[key]; ok {
			n.CollectedAt = &at
		}
		why := "it reported within the last " + duration(r.Since) + ", and nothing scrapes it now"
		switch state, ok := up[key]; {
		case ok && state == 0:
			why = "it can't be scraped: up is 0"
		case ok:
			why = "it answers scrapes and says nothing of NICs"
		}
		r.into.Miss(n, why)
	}
	return nil
}

// shards are the instances of all hosts that report, in pieces: of so many that those who
// ask for them at the same time come to their ends together.
func (r *reading) shards() [][]string {
	var all [][]string
	var shard []string
	instances := instancesOf(r.targets)
	long := func(instance string) int { return len(anyOf([]string{instance})) - len(`""`) + len("|") }
	bytes := 0
	for _, instance := range instances {
		bytes += long(instance)
	}
	size, most := 0, shardHosts
	// Names are not all of one length: a twentieth is left for that.
	if n := max(parts(len(instances), shardHosts), parts(bytes, shardBytes*19/20)); n > 1 {
		width := cmp.Or(r.Shards, 2)
		most = parts(len(instances), width*parts(n, width))
	}
	for _, instance := range instances {
		n := long(instance)
		if len(shard) == most || len(shard) > 0 && size+n > shardBytes {
			all, shard, size = append(all, shard), nil, 0
		}
		shard, size = append(shard, instance), size+n
	}
	if len(shard) > 0 {
		all = append(all, shard)
	}
	return all
}

// parts is how many pieces there are of so many.
func parts(all, most int) int { return (all + most - 1) / most }

func instancesOf(targets map[string]*target) []string {
	instances := make([]string, 0, len(targets))
	for _, t := range targets {
		instances = append(instances, t.instance)
	}
	slices.Sort(instances)
	return slices.Compact(instances)
}

// readShard asks for the hosts of some instances, and adds them.
func (r *reading) readShard(ctx context.Context, instances []string) error {
	s := &shard{reading: r, these: "instance=~" + anyOf(instances), hosts: map[string]*shardHost{}}
	some := map[string]bool{}
	for _, i := range instances {
		some[i] = true
	}
	for key, t := range r.targets {
		if some[t.instance] {
			k := r.kinds[key]
			s.hosts[key] = &shardHost{target: t, nics: map[string]*NIC{}, whole: r.Host != "", unlike: k == nil || k.all < 2}
		}
	}
	if err := s.put(ctx, s.queries()); err != nil {
		return err
	}
	if err := s.readDowns(ctx); err != nil {
		return err
	}
	if err := s.readShared(ctx); err != nil {
		return err
	}
	if err := s.readDrift(ctx); err != nil {
		return err
	}
	if err := s.readVerdicts(ctx); err != nil {
		return err
	}
	if err := s.readOptics(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.hosts)) {
		h := s.hosts[key]
		r.addCut(h, r.cut[key])
		if err := r.into.Add(h.finish()); err != nil {
			return err
		}
		h.Host = Host{} // the aggregate has it
	}
	return nil
}

// put asks questions, and gives the answers to the hosts that they are about.
func (s *shard) put(ctx context.Context, all []question) error {
	for _, q := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.ask(ctx, q.expression, func(key string, sample promql.Sample) {
			if h := s.hosts[key]; h != nil {
				q.each(h, sample.Labels, sample.Value)
			}
		}); err != nil {
			return fmt.Errorf("asking for %s of %s: %w", q.what, someOf(instancesOf(s.pick(func(*shardHost) bool { return true }))), err)
		}
	}
	return nil
}

// pick are the targets of some hosts of the shard.
func (s *shard) pick(which func(*shardHost) bool) map[string]*target {
	picked := map[string]*target{}
	for key, h := range s.hosts {
		if which(h) {
			picked[key] = h.target
		}
	}
	return picked
}

// someOf says which hosts a shard is of.
func someOf(instances []string) string {
	if len(instances) == 1 {
		return instances[0]
	}
	return fmt.Sprintf("%d hosts from %s to %s", len(instances), instances[0], instances[len(instances)-1])
}

// shard is some of the hosts, while they are being read.
type shard struct {
	*reading
	these string // the matcher that picks them
	hosts map[string]*shardHost
}

type shardHost struct {
	*target
	nics    map[string]*NIC // by device
	waivers map[Waiver]int
	drifted bool // a setting differs
	// whole is whether every verdict on it is asked for: something is wrong with it.
	whole bool
	// unlike is whether no other host is known to be like it.
	unlike bool
}

// question is an expression and what its elements are for.
type question struct {
	what, expression string
	each             func(h *shardHost, labels map[string]string, value float64)
}

// onNIC is for answers about a device.
func onNIC(each func(n *NIC, labels map[string]string, v float64)) func(*shardHost, map[string]string, float64) {
	return func(h *shardHost, labels map[string]string, v float64) {
		if n := h.nics[labels["device"]]; n != nil && finite(v) {
			each(n, labels, v)
		}
	}
}

// queries are those that are asked of every host, in their order.
func (s *shard) queries() []question {
	by := func(how, labels, metric string, matchers ...string) string {
		return how + " by (" + s.by + ", " + labels + ") (" + s.of(metric, append(matchers, s.these)...) + ")"
	}
	physical := s.of("nictune_nic_info", `kind!="virtual"`, s.these)
	return []question{
		{"the NICs", by("group", "device, kind, driver, driver_version, firmware, pci_address, permanent_mac, vendor_id, device_id, model", "nictune_nic_info", `kind!="virtual"`), (*shardHost).addNIC},
		// Containers have any number of virtual devices with links, and none with the others.
		{"links", "max by (__name__, " + s.by + ", device) (" + s.of("", anyOfThese(linkGauges), s.these) + " and on (" + s.by + ", device) " + physical + ")", onNIC(setGauge(linkGauges))},
		{"PCIe and VFs", by("max", "__name__, device", "", anyOfThese(deviceGauges)), onNIC(setGauge(deviceGauges))},
		{"what fails", by("sum", "rule, severity, status", "nictune_rule_findings", troubled), (*shardHost).addVerdict},
		{"findings", by("group", "rule, severity, status, device, part, pci_address, permanent_mac", "nictune_finding"), (*shardHost).addFinding},
		{"settings", "sum by (" + s.by + ", policy) (" + one + " + " + s.of("nictune_policy_setting_drifted", given, s.these) + ")", func(h *shardHost, l map[string]string, v float64) {
			all, drifted := apart(v)
			h.addDrift(l, audit.AsWanted, all-drifted)
			h.drifted = h.drifted || drifted > 0
		}},
		{"settings that can't be had, were skipped or are undecided", by("group", "__name__, policy, device, setting", "", anyOfThese(unsettled), `field=""`, given), func(h *shardHost, l map[string]string, _ float64) {
			h.addDrift(l, unsettled[l["__name__"]], 1)
		}},
		{"waivers", by("max", "__name__, rule, owner, device, part, policy, source", "", anyNamed(neededWaivers, allWaivers)), (*shardHost).addWaiver},
	}
}

// unsettled are the metrics of settings that are neither as wanted nor different, with what
// they are.
var unsettled = map[string]string{
	"nictune_policy_setting_impossible": audit.Impossible,
	"nictune_policy_setting_skipped":    audit.Skipped,
	"nictune_policy_undecided":          audit.Undecided,
}

// anyNamed picks the metrics with these names.
func anyNamed(names ...string) string { return `__name__=~"` + strings.Join(names, "|") + `"` }

// anyOfThese picks those that are a map's keys.
func anyOfThese[V any](metrics map[string]V) string {
	return anyNamed(slices.Sorted(maps.Keys(metrics))...)
}

// setGauge gives a NIC what a sample is about.
func setGauge(gauges map[string]func(*NIC, float64)) func(*NIC, map[string]string, float64) {
	return func(n *NIC, labels map[string]string, v float64) {
		if set := gauges[labels["__name__"]]; set != nil {
			set(n, v)
		}
	}
}

// linkGauges are what each device has one of, deviceGauges each that is a device of a bus.
var linkGauges = map[string]func(*NIC, float64){
	"nictune_network_carrier":         func(n *NIC, v float64) { n.Carrier = new(v == 1) },
	"nictune_network_speed_bytes":     func(n *NIC, v float64) { n.SpeedMbps = new(int(v * 8 / 1e6)) },
	"nictune_network_max_speed_bytes": func(n *NIC, v float64) { n.MaxSpeedMbps = new(int(v * 8 / 1e6)) },
}

var deviceGauges = map[string]func(*NIC, float64){
	"nictune_pci_current_link_transfers_per_second": func(n *NIC, v float64) { pcieOf(n).CurrentGTs = v / 1e9 },
	"nictune_pci_max_link_transfers_per_second":     func(n *NIC, v float64) { pcieOf(n).MaxGTs = v / 1e9 },
	"nictune_pci_current_link_width":                func(n *NIC, v float64) { pcieOf(n).CurrentWidth = int(v) },
	"nictune_pci_max_link_width":                    func(n *NIC, v float64) { pcieOf(n).MaxWidth = int(v) },
	"nictune_sriov_vfs":                             func(n *NIC, v float64) { virtualOf(n).Enabled = new(int(v)) },
	"nictune_sriov_vfs_used":                        func(n *NIC, v float64) { virtualOf(n).Used = new(int(v)) },
	"nictune_sriov_max_vfs":                         func(n *NIC, v float64) { virtualOf(n).Total = new(int(v)) },
}
