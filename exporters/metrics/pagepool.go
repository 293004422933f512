package metrics

import "strconv"

// pagepool is the memory that devices receive into.
func pagepool() collector {
	return collector{
		name: "pagepool", doc: "page pools: memory for received packets that was new, and that was used again",
		of: func(s *Snapshot) any { return s.Counted },
		define: func(c *catalogue) func(*Snapshot) {
			add := func(name, help, source string) *family {
				return c.add(Metric{
					Name: "page_pool_" + name + "_total", Type: counter, Unit: "pages", Labels: []string{deviceLabel, "pool"}, Help: help,
					Source: "netdev genl PAGE_POOL_STATS_GET, " + source + "; kernels with CONFIG_PAGE_POOL_STATS", Series: "1 per page pool, mostly one per receive queue",
				})
			}
			allocated := add("allocated_pages", "Pages that a pool took from the kernel.", "alloc-slow and alloc-slow-high-order")
			reused := add("reused_pages", "Pages that came back to a pool and were given out again.", "recycle-cached and recycle-ring")
			return func(s *Snapshot) {
				if s.Counted == nil {
					return
				}
				for _, p := range s.Counted.PagePools {
					pool := strconv.FormatUint(p.ID, 10)
					allocated.set(float64(p.Allocated), p.Name, pool)
					reused.set(float64(p.Reused), p.Name, pool)
				}
			}
		},
	}
}
