package metrics

import "github.com/nictune/nictune/inventory"

// napi says how the stack polls.
func napi() collector {
	return collector{
		name: "napi", doc: "polling: how interrupts are put off, and by whom packets are handled", of: facts,
		define: func(c *catalogue) func(*Snapshot) {
			const series = perDevice + " that is hardware or has NAPI contexts"
			device := []string{deviceLabel}
			contexts := c.add(Metric{
				Name: "napi_contexts", Type: gauge, Unit: "contexts", Labels: device,
				Help: "NAPI contexts: what polls queues.", Source: "netdev genl, NETDEV_CMD_NAPI_GET", Series: perDevice + " that has any",
			})
			threaded := c.add(Metric{
				Name: "napi_threaded", Type: gauge, Labels: device,
				Help: "Whether NAPI contexts have kernel threads of their own.", Source: "/sys/class/net/*/threaded", Series: series,
			})
			deferred := c.add(Metric{
				Name: "napi_defer_hard_irqs", Type: gauge, Unit: "polls", Labels: device,
				Help: "How often a poll may find nothing before interrupts are switched on again.", Source: "/sys/class/net/*/napi_defer_hard_irqs", Series: series,
			})
			flush := c.add(Metric{
				Name: "napi_gro_flush_timeout_seconds", Type: gauge, Unit: "seconds", Labels: device,
				Help: "How long interrupts stay switched off, and packets wait for others to be merged with.", Source: "/sys/class/net/*/gro_flush_timeout", Series: series,
			})
			return eachNIC(func(n *inventory.NIC) {
				q := &n.Queues
				if len(q.NAPI) > 0 {
					contexts.set(float64(len(q.NAPI)), n.Name)
				}
				if q.Threaded != nil {
					threaded.set(truth(*q.Threaded != 0), n.Name)
				}
				number(deferred, q.DeferHardIRQs, n.Name)
				if q.GROFlushTimeoutNS != nil {
					flush.set(float64(*q.GROFlushTimeoutNS)/1e9, n.Name)
				}
			})
		},
	}
}
