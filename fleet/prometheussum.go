package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet/promql"
)

// What hosts that are well have in sum. Most hosts of a fleet are like others: what is said of
// one of them is read once, and counted for all. Of a host that is like no other the server
// makes a sum with the rest of its kind, so that no answer has a line for each.

// fingerprints picks the metrics that say of which kind a host is.
var fingerprints = anyNamed("nictune_rule_findings_fingerprint", "nictune_sriov_vfs_by_driver_fingerprint", "nictune_xdp_ready_fingerprint")

// likeness is what hosts have in common whose fingerprints are the same.
type likeness struct {
	all         int  // how many there are
	one         *Sum // what is said of one of them; nil where nobody has asked
	hosts, nics int  // how many of them are counted, with how many NICs
}

// findKinds asks of which kind each host is. The sum of fingerprints is one as well. Hosts of
// two jobs or clusters are of two kinds: what is scraped of them may be relabelled otherwise.
func (r *reading) findKinds(ctx context.Context) error {
	if r.Host != "" {
		return nil // of one host everything is asked
	}
	type fingerprint struct {
		sum  float64
		from string
	}
	byPrint := map[fingerprint]*likeness{}
	if err := r.ask(ctx, "sum by ("+r.by+") ("+r.of("", fingerprints)+")", func(key string, s promql.Sample) {
		delete(s.Labels, "instance")
		of := fingerprint{s.Value, r.key(s.Labels)}
		k := byPrint[of]
		if k == nil {
			k = &likeness{}
			byPrint[of] = k
		}
		k.all++
		r.kinds[key] = k
	}); err != nil {
		return fmt.Errorf("asking which hosts are alike: %w", err)
	}
	return nil
}

// summed is something of which a source is told the sum.
type summed struct {
	what, labels string
	// of is an expression with an element for each host and these labels; add adds so many
	// hosts of which one has the value.
	of  string
	add func(sum *Sum, labels map[string]string, value float64, hosts int)
}

func (s *shard) sums(these string) []summed {
	sum := func(labels, terms string) string { return "sum by (" + s.by + ", " + labels + ") (" + terms + ")" }
	return []summed{
		{"verdicts", "rule, severity, status", s.of("nictune_rule_findings", these), func(sum *Sum, l map[string]string, subjects float64, hosts int) {
			if subjects >= 1 {
				v := Verdict{l["rule"], findings.Severity(l["severity"]), findings.Status(l["status"]), int(subjects) * hosts}
				sum.Verdicts = append(sum.Verdicts, SumVerdict{v, hosts})
			}
		}},
		{"readiness for XDP", "profile", sum("profile", one+" + "+s.of("nictune_xdp_ready", these)), func(sum *Sum, l map[string]string, n float64, hosts int) {
			all, ready := apart(n)
			p := Profile{Profile: l["profile"], Ready: hosts * ready, NotReady: hosts * (all - ready), Hosts: hosts}
			if ready > 0 {
				p.ReadyHosts = hosts
			}
			sum.Readiness = append(sum.Readiness, p)
		}},
		// A PF that has no network device here is known by its address, and is no NIC of the host's.
		{"drivers of VFs", "driver", sum("driver", s.of("nictune_sriov_vfs_by_driver", `device!~".*:.*"`, these)), func(sum *Sum, l map[string]string, vfs float64, hosts int) {
			sum.Drivers = append(sum.Drivers, DriverCount{l["driver"], int(vfs) * hosts})
		}},
	}
}

// readSums reads what some hosts of the shard have in sum, and says of which profiles that tells.
func (s *shard) readSums(ctx context.Context, which func(*shardHost) bool) (profiles map[string]bool, err error) {
	s.onInstances(func(h *shardHost) *bool { return &h.unlike })
	var rest likeness // those of which there is one each
	kinds := map[*likeness]bool{}
	unread := map[string]*likeness{} // by a host that is of it
	ones, others := map[string]*target{}, map[string]*target{}
	s.mu.Lock()
	for key, h := range s.hosts {
		if !which(h) {
			continue
		}
		k := s.kinds[key]
		switch {
		case h.unlike:
			k, others[key] = &rest, h.target
		case k.one == nil && !kinds[k]:
			unread[key], ones[key] = k, h.target
		}
		k.hosts++
		k.nics += len(h.nics)
		kinds[k] = true
	}
	s.mu.Unlock()
	delete(kinds, &rest)

	read := map[*likeness]*Sum{}
	for _, k := range unread {
		read[k] = &Sum{}
	}
	if err := s.sum(ctx, ones, func(q summed) string { return q.of }, func(q summed, key string, p promql.Sample) {
		if k := unread[key]; k != nil {
			q.add(read[k], p.Labels, p.Value, 1)
		}
	}); err != nil {
		return nil, err
	}
	var sum Sum
	if err := s.sum(ctx, others, func(q summed) string { return "count_values by (" + q.labels + `) ("n", ` + q.of + ")" }, func(q summed, _ string, p promql.Sample) {
		if n, err := strconv.ParseFloat(p.Labels["n"], 64); err == nil {
			q.add(&sum, p.Labels, n, int(p.Value))
		}
	}); err != nil {
		return nil, err
	}

	profiles = map[string]bool{}
	told := func(sum *Sum) {
		for _, p := range sum.Readiness {
			profiles[p.Profile] = true
		}
	}
	told(&sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.into.AddSum(sum.times(1, rest.nics))
	for k, one := range read {
		k.one = one
	}
	for k := range kinds {
		told(k.one)
	}
	return profiles, nil
}

// sum asks for everything of which there is a sum, of some hosts.
func (s *shard) sum(ctx context.Context, hosts map[string]*target, expression func(summed) string, each func(q summed, key string, p promql.Sample)) error {
	if len(hosts) == 0 {
		return nil
	}
	instances := instancesOf(hosts)
	for _, q := range s.sums("instance=~" + anyOf(instances)) {
		if err := s.ask(ctx, expression(q), func(key string, p promql.Sample) {
			if finite(p.Value) {
				each(q, key, p)
			}
		}); err != nil {
			return fmt.Errorf("asking for %s of %s: %w", q.what, someOf(instances), err)
		}
	}
	return nil
}

// addKinds adds what is said of one host of a kind for all that were counted.
func (r *reading) addKinds() {
	added := map[*likeness]bool{}
	for _, k := range r.kinds {
		if k.hosts > 0 && !added[k] {
			added[k] = true
			r.into.AddSum(k.one.times(k.hosts, k.nics))
		}
	}
}

// times is the sum of so many hosts that have so many NICs, where each has this one. Of a
// NIC of which it is not known whether it is ready there is no sample.
func (s *Sum) times(hosts, nics int) Sum {
	var all Sum
	for _, v := range s.Verdicts {
		v.Subjects *= hosts
		v.Hosts *= hosts
		all.Verdicts = append(all.Verdicts, v)
	}
	profiles := map[string]*Profile{}
	for _, p := range s.Readiness {
		sum := profiles[p.Profile]
		if sum == nil {
			sum = &Profile{Profile: p.Profile}
			profiles[p.Profile] = sum
		}
		sum.Ready += p.Ready * hosts
		sum.NotReady += p.NotReady * hosts
		sum.ReadyHosts += p.ReadyHosts * hosts
		sum.Hosts += p.Hosts * hosts
	}
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		p := profiles[name]
		p.Unknown = max(0, nics-p.Ready-p.NotReady)
		all.Readiness = append(all.Readiness, *p)
	}
	for _, d := range s.Drivers {
		d.VFs *= hosts
		all.Drivers = append(all.Drivers, d)
	}
	return all
}
