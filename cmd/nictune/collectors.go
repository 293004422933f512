package main

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/inventory"
)

// collectorFlags say what metrics there are, and of which devices. They are named
// as node_exporter's.
type collectorFlags struct {
	on, off    map[string]*bool
	noDefaults bool
	limit      int

	virtual bool

	device, driver, kind, counter matchFlags
}

// matchFlags are two expressions.
type matchFlags struct{ include, exclude string }

// seriesLimit is how many series one collector has unless told otherwise: far more
// than any host of today has, and few enough for Prometheus to stand.
const seriesLimit = 1_000_000

func (f *collectorFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.on, f.off = map[string]*bool{}, map[string]*bool{}
	for _, c := range metrics.Collectors() {
		f.on[c.Name] = flags.Bool("collector."+c.Name, c.Default, "export "+c.Doc)
		f.off[c.Name] = flags.Bool("no-collector."+c.Name, false, "don't")
		flags.Lookup("no-collector." + c.Name).Hidden = true
	}
	flags.BoolVar(&f.noDefaults, "collector.disable-defaults", false, "export only what a --collector.NAME asks for")
	both := func(m *matchFlags, name, what string) {
		flags.StringVar(&m.include, "collector."+name+"-include", "", "`REGEXP` of "+what)
		flags.StringVar(&m.exclude, "collector."+name+"-exclude", "", "`REGEXP` of "+what+" to leave out")
	}
	both(&f.device, "device", "devices")
	both(&f.driver, "driver", "drivers whose devices are exported")
	both(&f.kind, "kind", "kinds of devices (pf, vf, sf, representor, virtual, plain)")
	both(&f.counter, "counter", "drivers' counters (ethtool -S), by name")
	flags.BoolVar(&f.virtual, "collector.driver.virtual", false, "read drivers' counters (ethtool -S) of software devices, too")
	flags.IntVar(&f.limit, "limit.series-per-collector", seriesLimit, "export at most `N` series of one collector, and say how many were cut (0: all)")
}

// options are the exporter's.
func (f *collectorFlags) options(cmd *cobra.Command) (metrics.Options, error) {
	o := metrics.Options{Collectors: map[string]bool{}, Limit: f.limit}
	if f.limit < 0 {
		return o, fmt.Errorf("--limit.series-per-collector %d is negative", f.limit)
	}
	for _, c := range metrics.Collectors() {
		on, off := cmd.Flags().Changed("collector."+c.Name), cmd.Flags().Changed("no-collector."+c.Name)
		switch {
		case on && off:
			return o, fmt.Errorf("--collector.%s and --no-collector.%s contradict each other", c.Name, c.Name)
		case on:
			o.Collectors[c.Name] = *f.on[c.Name]
		case off:
			o.Collectors[c.Name] = !*f.off[c.Name]
		case f.noDefaults:
			o.Collectors[c.Name] = false
		}
	}
	var errs [3]error
	o.Devices.Device, errs[0] = f.device.match("device")
	o.Devices.Driver, errs[1] = f.driver.match("driver")
	o.Devices.Kind, errs[2] = f.kind.match("kind")
	return o, errors.Join(errs[:]...)
}

// enabled says which collectors are on.
func (f *collectorFlags) enabled(o metrics.Options) func(name string) bool {
	on := map[string]bool{}
	for _, c := range metrics.Collectors() {
		on[c.Name] = c.Default
		if said, ok := o.Collectors[c.Name]; ok {
			on[c.Name] = said
		}
	}
	return func(name string) bool { return on[name] }
}

func (m matchFlags) match(name string) (match metrics.Match, err error) {
	compile := func(flag, expression string) (*regexp.Regexp, error) {
		if expression == "" {
			return nil, nil //nolint:nilnil // nil chooses all
		}
		e, err := regexp.Compile(expression)
		if err != nil {
			return nil, fmt.Errorf("--collector.%s-%s: %w", name, flag, err)
		}
		return e, nil
	}
	if match.Include, err = compile("include", m.include); err != nil {
		return match, err
	}
	match.Exclude, err = compile("exclude", m.exclude)
	return match, err
}

// driverCounters says whose own counters are read, and which: of hardware unless
// told otherwise, since those of a thousand veth devices tell little and cost a
// call each.
func (f *collectorFlags) driverCounters(devices metrics.Filter) (of func(*inventory.NIC) bool, counter func(string) bool, err error) {
	counters, err := f.counter.match("counter")
	of = func(n *inventory.NIC) bool {
		return (f.virtual || n.Function != inventory.Virtual) && devices.Has(n)
	}
	return of, counters.Has, err
}
