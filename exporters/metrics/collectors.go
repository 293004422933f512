package metrics

// collector is a group of metrics that a scrape can ask for.
type collector struct {
	// name is what collect[], exclude[] and --[no-]collector.NAME call it.
	name, doc string
	// off is set for one that has to be asked for.
	off bool
	// of is the part of the snapshot that it renders, as something comparable: a
	// pointer. While it is the same as last time, so are the samples. Nil: it
	// renders something new each time.
	of func(*Snapshot) any
	// define makes the collector's metrics, and returns what fills them. It is
	// best to go through things in the same order each time: samples are kept by
	// their place.
	define func(*catalogue) func(*Snapshot)
}

// collectors are all of them, in the catalogue's order.
func collectors() []collector {
	return []collector{
		host(), nic(), pci(), link(), netclass(), linkModes(), pause(), eee(), fec(), modules(),
		statistics(), standard(), driver(), meaning(), queue(), pagepool(), softnet(), interrupt(), interruptCPU(), aer(),
		rings(), channels(), coalesce(), rss(), napi(), irq(), irqAffinity(), segmentation(), offload(), features(),
		xdpPrograms(), xdpReady(), virtualFunctions(), vf(), stack(), multicast(),
		findingsOf(), policy(), reconcile(), history(), scrape(),
	}
}

// CollectorInfo describes a collector.
type CollectorInfo struct {
	// Name is what collect[] and exclude[] call it, Doc what it shows.
	Name, Doc string
	// Default is whether it is on unless told otherwise.
	Default bool
}

// Collectors lists what can be switched on and off.
func Collectors() []CollectorInfo {
	var all []CollectorInfo
	for _, c := range collectors() {
		if c.name != scrapeCollector {
			all = append(all, CollectorInfo{c.name, c.doc, !c.off})
		}
	}
	return all
}
