package metrics

import "strings"

// Metric says what one metric is.
type Metric struct {
	Name, Help string
	// Type is "gauge" or "counter".
	Type string
	// Unit is a base unit, or "" for a number without one: a truth (1 or 0), or
	// an info that is always 1.
	Unit   string
	Labels []string
	// Source is where the value comes from: the kernel's interface, and the
	// command that prints the same.
	Source string
	// Series is how many there are at most.
	Series string
	// Collector is the collector that it belongs to.
	Collector string
}

// Catalogue lists every metric of nictune's own, in the order of their subjects.
func Catalogue() []Metric {
	all := []Metric{buildInfo}
	for _, c := range collectors() {
		defined := catalogue{collector: c.name}
		c.define(&defined)
		for _, f := range defined.families {
			all = append(all, f.Metric)
		}
	}
	return all
}

// catalogue takes the metrics that a collector defines.
type catalogue struct {
	collector string
	families  []*family
}

// add makes a family, which is then catalogued and rendered.
func (c *catalogue) add(m Metric) *family {
	m.Name = "nictune_" + m.Name
	m.Collector = c.collector
	f := newFamily(m)
	c.families = append(c.families, f)
	return f
}

// fingerprint gives a family one more, with a number made of its samples.
func (c *catalogue) fingerprint(f *family) *family {
	name := strings.TrimPrefix(f.Name, "nictune_")
	f.print = c.add(Metric{
		Name: name + "_fingerprint", Type: gauge,
		Help:   "A number made of all samples of nictune_" + name + ": hosts on which it is the same have the same samples. A fleet's report reads them of one of these hosts.",
		Source: "the agent", Series: "1",
	})
	return f
}

const (
	gauge   = "gauge"
	counter = "counter"

	perDevice = "1 per device"
)

// deviceLabel is the label that names a device, as node_exporter's.
const deviceLabel = "device"

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
