package audit

import (
	"context"
	"errors"
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
	// Driver are the drivers' own counters of pause frames and FEC, by the NIC's ID, of
	// NICs that lack the standard ones.
	Driver map[string][]inventory.Meant `json:"driver,omitempty"`
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

// standsFor are the standard counters that some drivers have under names of their own
// only, with what those mean.
var standsFor = map[string]inventory.Meaning{
	"pause/rx": inventory.PauseReceived, "pause/tx": inventory.PauseSent,
	"fec/corrected": inventory.FECCorrected, "fec/uncorrectable": inventory.FECUncorrectable,
}

// ownCounters reads the driver's own counters for each NIC that lacks a standard one
// and whose driver is known to have its own, where traffic was not read: that has them.
func (l *Look) ownCounters(ctx context.Context, r kernel.Reader) {
	for i := range l.NICs {
		n := &l.NICs[i]
		if n.Driver == nil {
			continue
		}
		var lacks []inventory.Meaning
		for name, meaning := range standsFor {
			if _, known := l.Counted.NICs[n.ID()][name]; !known {
				lacks = append(lacks, meaning)
			}
		}
		of := func(m inventory.Meaning) bool { return slices.Contains(lacks, m) }
		has := slices.ContainsFunc(inventory.KnownCounters(), func(d inventory.DriverCounters) bool {
			return d.Driver == n.Driver.Name && slices.ContainsFunc(d.Names, func(c inventory.CounterName) bool { return of(c.Meaning) })
		})
		if !has {
			continue
		}
		var own []inventory.Meant
		if t := l.Counted.Traffic; t != nil {
			own = slices.Clone(t.NICs[n.ID()].Driver)
		} else {
			counters, err := r.Counters(ctx, n.Name)
			if err != nil && !errors.Is(err, kernel.ErrNotRecorded) {
				n.Unread = append(n.Unread, inventory.Unread{Fact: "counters/driver", Reason: kernel.ReasonOf(err), Detail: err.Error()})
			}
			own = inventory.MeaningsOf(n.Driver.Name, counters)
		}
		if own = slices.DeleteFunc(own, func(m inventory.Meant) bool { return !of(m.Meaning) }); len(own) == 0 {
			continue
		}
		if l.Counted.Driver == nil {
			l.Counted.Driver = map[string][]inventory.Meant{}
		}
		l.Counted.Driver[n.ID()] = own
	}
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

// counted is the NIC's counter of this name or, where it has none, the driver's own that
// means the same; own is the name of that.
func (n nic) counted(name string) (c count, own string) {
	if c = n.count(name); c.Known {
		return c, ""
	}
	e := n.evidence
	meaning, stands := standsFor[name]
	if !stands {
		return c, ""
	}
	for _, m := range e.Counted.Driver[n.ID()] {
		if m.Meaning != meaning {
			continue
		}
		c = count{Known: true, Total: m.Value}
		if e.Earlier != nil {
			earlier := e.Earlier.Counted.Driver[n.ID()]
			i := slices.IndexFunc(earlier, func(b inventory.Meant) bool { return b.Name == m.Name })
			c.Interval = e.Counted.At.Sub(e.Earlier.Counted.At)
			if i >= 0 && earlier[i].Value <= c.Total && c.Interval > 0 {
				c.Watched, c.More = true, c.Total-earlier[i].Value
			}
		}
		return c, m.Name
	}
	return c, ""
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
	if _, stands := standsFor[name]; stands && n.noted("counters/driver") {
		fact = "counters/driver" // it was asked because the other has none
	}
	if n.noted(fact) {
		return findings.Unread(n.Unread, fact)
	}
	return findings.Unclear("this device doesn't count %s", name)
}
