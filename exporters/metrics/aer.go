package metrics

// aer are the errors on PCIe.
func aer() collector {
	return collector{
		name: "aer", doc: "PCIe errors of each device's function and of the hops above it",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			f := c.add(Metric{
				Name: "aer_errors_total", Type: counter, Unit: "errors", Labels: []string{deviceLabel, "pci_address", "severity", "type"},
				Help:   "PCIe errors (Advanced Error Reporting) of a device's function, and of each hop above it, by severity (correctable, nonfatal, fatal) and type. A hop is listed with each device below it.",
				Source: "`/sys/bus/pci/devices/ADDRESS/aer_dev_*`; absent where the function or the kernel doesn't count", Series: "some 50 per function and hop; none of a VF, whose PF counts",
			})
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for _, d := range s.Counted.AER {
					for _, e := range d.Errors {
						f.set(float64(e.Count), d.Name, d.Address, e.Severity, e.Type)
					}
				}
			}
		},
	}
}
