package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// Enforcement is what the agent needs to put right what has drifted.
type Enforcement struct {
	Reconciler *Reconciler
	// Apply makes one attempt on a host whose facts have just been read. reason is
	// for the journal. It must come to an end also when ctx does.
	Apply func(ctx context.Context, inv *inventory.Inventory, a Attempt, reason string) Result
	// Who are those, beside the managers in the inventory, that may have changed
	// what was put right: another nictune.
	Who func(Lost) []string
	// Lost, Held and Done are told what was decided, and how an attempt ended.
	Lost func(Lost)
	Held func(Held)
	Done func(Attempt, Result)
}

// The modes of [metrics.Reconciliation].
const (
	Off     = "off"     // nothing is compared
	Report  = "report"  // drift is shown
	Enforce = "enforce" // and put right
)

func (o *Options) mode() string {
	switch {
	case o.Compare == nil:
		return Off
	case o.Enforce == nil:
		return Report
	}
	return Enforce
}

// enforce puts right what is due, and returns when to look again although nothing
// happened: zero where there is no need to.
func (a *Agent) enforce(ctx context.Context, inv *inventory.Inventory, c *Comparison, occasion string) time.Time {
	e := a.options.Enforce
	if e == nil || c == nil {
		return time.Time{}
	}
	decision := e.Reconciler.Next(time.Now(), c.NICs, func(l Lost) []string {
		return append(suspects(a.managers(ctx, inv), l.Setting), e.Who(l)...)
	})
	for _, l := range decision.Lost {
		e.Lost(l)
	}
	for _, h := range decision.Held {
		e.Held(h)
	}
	found := a.heard.take(c.NICs, decision.Waiting, occasion)
	for _, attempt := range decision.Attempts {
		if ctx.Err() != nil {
			break // what was not begun is left for the next start
		}
		reason := fmt.Sprintf("agent: drift of %s, %s", policies.Few(attempt.Drifted), found[attempt.NIC.Index])
		result := e.Apply(ctx, inv, attempt, reason)
		e.Reconciler.Done(time.Now(), attempt, result)
		e.Done(attempt, result)
		if result.Outcome != Applied && result.Outcome != Unchanged {
			a.heard.wait(attempt.NIC.Index, found[attempt.NIC.Index])
		}
		// What the kernel does not tell of is seen to hold, too; and a failure has a
		// pause to wait for.
		decision.Wake = time.Now()
	}
	report := e.Reconciler.Report()
	report.Mode = Enforce
	a.mu.Lock()
	defer a.mu.Unlock()
	a.facts.reconciliation = report
	return decision.Wake
}

// managers are those of the host that run now: whoever changes a device may have started
// since the host was read whole, and for no more than that.
func (a *Agent) managers(ctx context.Context, inv *inventory.Inventory) []inventory.Manager {
	ctx, cancel := context.WithTimeout(ctx, a.options.Timeout)
	defer cancel()
	if managers, err := inventory.ReadManagers(ctx, a.reader); err == nil {
		return managers
	}
	return inv.Host.Managers
}

// suspects are the managers of a host that may set what was put right.
func suspects(managers []inventory.Manager, setting string) []string {
	var names []string
	for _, m := range managers {
		interrupts := setting == "irq"
		switch {
		case m.PID == os.Getpid(): // this agent
			continue
		case m.Name == "irqbalance" && !interrupts:
			continue
		case m.Name != "irqbalance" && m.Name != "tuned" && m.Name != "nictune" && interrupts:
			continue
		}
		names = append(names, fmt.Sprintf("%s[%d]", m.Name, m.PID))
	}
	return names
}

// heard is what the kernel told of devices, by index.
type heard struct {
	mu     sync.Mutex
	events map[int][]string // each kind once
	// waiting is how drift was found that waits for an attempt.
	waiting map[int]string
}

func (h *heard) add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.events == nil {
		h.events = map[int][]string{}
	}
	if !slices.Contains(h.events[e.Index], e.What) {
		h.events[e.Index] = append(h.events[e.Index], e.What)
	}
}

// take says by index how the drift of NICs was found: now, or when it was put off.
// What was told is forgotten then, but of those that wait.
func (h *heard) take(compared []Compared, waiting []int, occasion string) map[int]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := map[int]string{}
	for _, c := range compared {
		index := c.NIC.Index
		found[index] = occasion
		if what := h.events[index]; len(what) > 0 {
			found[index] = "told of by the kernel: " + strings.Join(what, ", ")
		} else if earlier, ok := h.waiting[index]; ok {
			found[index] = earlier
		}
	}
	h.events, h.waiting = nil, map[int]string{}
	for _, index := range waiting {
		h.waiting[index] = found[index]
	}
	return found
}

// wait keeps how the drift of a NIC was found until its next attempt.
func (h *heard) wait(index int, found string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting[index] = found
}
