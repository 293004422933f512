package metrics

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Options say what an exporter shows.
type Options struct {
	// Collectors switches collectors on and off that are otherwise as [Collectors]
	// says.
	Collectors map[string]bool
	// Devices says which devices are shown.
	Devices Filter
	// Limit is how many series one collector may have. Zero: as many as there are.
	Limit int
}

// Exporter renders what a source knows. It is a [prometheus.Gatherer], and safe
// for concurrent use.
type Exporter struct {
	source     Source
	limit      int
	collectors []*running
	names      []string
	all        Asked     // what a scrape asks for that says nothing
	families   []*family // of all collectors, by name

	mu      sync.Mutex // held for a collection, and for writing what it brought
	devices chosen
	encoder encoder
	pieces  []piece         // of the page that is being made
	asked   int             // how often the source was
	made    int             // pages
	used    [kinds]int      // by form: the number of the last page
	bundles [kinds][]bundle // by form: those of the last page
}

// running is a collector with what it rendered last.
type running struct {
	collector
	fill     func(*Snapshot)
	families []*family
	quota    quota
	// last is the part of the snapshot that the samples are of; filled says that
	// there was one.
	last   any
	filled bool
}

// New makes an exporter. It is an error to switch a collector that isn't there.
func New(source Source, options Options) (*Exporter, error) {
	e := &Exporter{source: source, limit: options.Limit, devices: chosen{filter: options.Devices}, all: Asked{}}
	for _, c := range collectors() {
		on, said := options.Collectors[c.name]
		if c.name != scrapeCollector && (said && !on || !said && c.off) {
			continue
		}
		r := &running{collector: c}
		defined := catalogue{collector: c.name}
		r.fill, r.families = c.define(&defined), defined.families
		for _, f := range r.families {
			if options.Devices != (Filter{}) {
				f.devices = e.devices.has
			}
			if e.limit > 0 && c.name != scrapeCollector {
				f.quota = &r.quota
			}
		}
		e.collectors = append(e.collectors, r)
		e.names, e.all[c.name] = append(e.names, c.name), true
		e.families = append(e.families, r.families...)
	}
	slices.SortFunc(e.families, func(a, b *family) int { return cmp.Compare(a.Name, b.Name) })
	known := Collectors()
	for name := range options.Collectors {
		if !slices.ContainsFunc(known, func(c CollectorInfo) bool { return c.Name == name }) {
			return nil, fmt.Errorf("there is no collector %q", name)
		}
	}
	return e, nil
}

// Enabled are the names of the collectors that are on.
func (e *Exporter) Enabled() []string {
	return slices.DeleteFunc(slices.Clone(e.names), func(name string) bool { return name == scrapeCollector })
}

// collect brings the families of the collectors that are asked for up to date.
// Nil asks for all.
func (e *Exporter) collect(asked Asked) {
	if asked == nil {
		asked = e.all
	}
	s := e.source(asked)
	e.asked++
	s.collections = e.asked
	for _, name := range e.names {
		if asked[name] && name != scrapeCollector {
			s.asked = append(s.asked, name)
		}
	}
	if e.devices.of(s.Inventory) {
		for _, r := range e.collectors {
			r.filled = false // others may be shown now
		}
	}
	var labels seen // not kept: of a large host it is a megabyte that few scrapes need
	for _, r := range e.collectors {
		if r.name == scrapeCollector {
			s.cut = e.cut(asked)
		} else if !asked[r.name] {
			continue
		}
		if r.of != nil {
			part := r.of(&s)
			if r.filled && r.last == part {
				continue
			}
			r.last, r.filled = part, true
		}
		r.quota = quota{left: e.limit}
		for _, f := range r.families {
			f.begin()
		}
		r.fill(&s)
		for _, f := range r.families {
			f.end(&labels)
			if f.print != nil {
				f.print.set(f.fingerprint()) // it comes later, and has not ended
			}
		}
	}
}

// cut says how many series each collector that is asked for had no room for.
func (e *Exporter) cut(asked Asked) []cutSeries {
	if e.limit == 0 {
		return nil
	}
	all := make([]cutSeries, 0, len(e.collectors))
	for _, r := range e.collectors {
		if asked[r.name] && r.name != scrapeCollector {
			all = append(all, cutSeries{r.name, r.quota.cut})
		}
	}
	return all
}

// Gather implements [prometheus.Gatherer].
func (e *Exporter) Gather() ([]*dto.MetricFamily, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.collect(nil)
	var all []*dto.MetricFamily
	for _, f := range e.families {
		if len(f.values) > 0 {
			all = append(all, f.proto())
		}
	}
	return all, nil
}

// proto is the family as client_golang has it.
func (f *family) proto() *dto.MetricFamily {
	kind := dto.MetricType_GAUGE
	if f.Type == counter {
		kind = dto.MetricType_COUNTER
	}
	m := &dto.MetricFamily{Name: &f.Name, Help: &f.Help, Type: &kind}
	for i, v := range f.values {
		if f.twice[i] {
			continue
		}
		one := &dto.Metric{}
		if f.Type == counter {
			one.Counter = &dto.Counter{Value: &v}
		} else {
			one.Gauge = &dto.Gauge{Value: &v}
		}
		labels := f.at(i)
		for _, j := range f.byName {
			value := valid(labels[j])
			one.Label = append(one.Label, &dto.LabelPair{Name: &f.Labels[j], Value: &value})
		}
		m.Metric = append(m.Metric, one)
	}
	return m
}

// valid repairs a label value that the exposition can't hold, such as a firmware
// string that is no UTF-8: one device never fails a scrape.
func valid(label string) string { return strings.ToValidUTF8(label, "\uFFFD") }

var buildInfo = Metric{
	Name: "nictune_build_info", Type: gauge, Help: "The version of nictune. Always 1.",
	Labels: []string{"version", "revision", "goversion"}, Source: "`nictune version`", Series: "1",
}

// BuildInfo is the metric that tells which nictune runs.
func BuildInfo(version, revision string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        buildInfo.Name,
		Help:        buildInfo.Help,
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}
