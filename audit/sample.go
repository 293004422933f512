package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/sriov"
)

// Sample is what was counted at one moment. Counters have counted since a driver was
// loaded or the host started, so that one sample seldom tells how things are now: two
// tell what happened between them.
type Sample struct {
	At time.Time `json:"at"`
	// Uptime is how long the host had been up; zero where it isn't known. Nothing has
	// been counted for longer.
	Uptime time.Duration `json:"uptime,omitempty"`
	// NICs are the counters of each NIC by its ID ([inventory.NIC.ID]), by
	// "SOURCE/NAME"; Host those of the host.
	NICs map[string]inventory.Counters `json:"nics,omitempty"`
	Host inventory.Counters            `json:"host,omitempty"`
	// Traffic is what queues, interrupts and CPUs counted, where rules ask for it.
	Traffic *inventory.Traffic `json:"traffic,omitempty"`
}

// Look is a host as it was seen once.
type Look struct {
	inventory.Inventory
	// PFs are there where rules about VFs are judged.
	PFs     []sriov.PF `json:"pfs,omitempty"`
	Counted Sample     `json:"counted"`
}

// Watched is the time between the looks; zero where there was one.
func (e *Evidence) Watched() time.Duration {
	if e.Earlier == nil {
		return 0
	}
	return e.Counted.At.Sub(e.Earlier.Counted.At).Round(100 * time.Millisecond)
}

// sample reads the counters that rules judge. What of a NIC could not be read is in
// the NIC's notes, as "counters/SOURCE".
func sample(ctx context.Context, r kernel.Reader, inv *inventory.Inventory) Sample {
	s := Sample{At: time.Now(), NICs: map[string]inventory.Counters{}, Host: inventory.Counters{}}
	if data, err := r.ReadFile(ctx, "/proc/uptime"); err == nil {
		s.Uptime = parseUptime(string(data))
	}
	for i, c := range inventory.ReadCounters(ctx, r, inv) {
		s.NICs[inv.NICs[i].ID()] = c
	}
	return s
}

// parseUptime reads the first number of /proc/uptime, in seconds.
func parseUptime(text string) time.Duration {
	var seconds float64
	if _, err := fmt.Sscan(text, &seconds); err != nil || !(seconds >= 0 && seconds <= 1e9) { // also what is no number
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// count is a counter as rules judge it.
type count struct {
	// Known is whether the NIC has it; Total is what it stands at.
	Known bool
	Total uint64
	// Watched is whether there was an earlier look, and the counter was there and has
	// not begun anew since; More is by how much it grew in Interval.
	Watched  bool
	More     uint64
	Interval time.Duration
}

// PerSecond is the counter's rate while it was watched.
func (c count) PerSecond() float64 { return float64(c.More) / c.Interval.Seconds() }

// count is the NIC's counter of this name.
func (n nic) count(name string) count {
	e := n.evidence
	var earlier *Sample
	if e.Earlier != nil {
		earlier = &e.Earlier.Counted
	}
	return e.Counted.count(earlier, func(s *Sample) inventory.Counters { return s.NICs[n.ID()] }, name)
}

// count is a counter of this sample, against an earlier one where there is one.
func (s *Sample) count(earlier *Sample, of func(*Sample) inventory.Counters, name string) count {
	var c count
	c.Total, c.Known = of(s)[name]
	if !c.Known || earlier == nil {
		return c
	}
	before, known := of(earlier)[name]
	c.Interval = s.At.Sub(earlier.At)
	if known && before <= c.Total && c.Interval > 0 {
		c.Watched, c.More = true, c.Total-before
	}
	return c
}

// noted reports whether the NIC's notes say why a fact is missing.
func (n nic) noted(fact string) bool {
	return slices.ContainsFunc(n.Unread, func(u inventory.Unread) bool { return u.Fact == fact })
}

// uncounted is the verdict where a counter is missing: with the reason where its
// source could not be read.
func (n nic) uncounted(name string) findings.Verdict {
	source, _, _ := strings.Cut(name, "/")
	fact := "counters/" + source
	if n.noted(fact) {
		return findings.Unread(n.Unread, fact)
	}
	return findings.Unclear("this device doesn't count %s", name)
}
