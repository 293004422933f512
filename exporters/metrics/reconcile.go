package metrics

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Reconciliation is what is done about drift.
type Reconciliation struct {
	// Mode is "off", "report" or "enforce"; NICs are known only for the last.
	Mode string
	NICs []Reconciled
}

// Reconciled is what was done about the drift of one NIC.
type Reconciled struct {
	Device string
	// Attempts counts them by outcome.
	Attempts map[string]uint64
	// Held says for each drifted setting that is left as it is, why.
	Held map[string]string
	// Next is when the next attempt is due; zero where none is put off.
	Next time.Time
	// Lost are the fields that are left to somebody else.
	Lost []LostField
}

// Why a drifted setting is left as it is.
const (
	HeldImpact      = "impact"      // it takes more than was allowed
	HeldBackoff     = "backoff"     // an attempt failed, or a value came back
	HeldFight       = "fight"       // somebody else sets it again and again
	HeldSettling    = "settling"    // the NIC has just come, or been renamed
	HeldUnconfirmed = "unconfirmed" // a transaction waits for nictune confirm
)

// LostField is a field that somebody else sets again and again.
type LostField struct {
	Setting, Field string
	// Who are the programs that may do it.
	Who []string
}

// reconcile says what the agent does about drift.
func reconcile() collector {
	return collector{
		name: "reconcile", doc: "what the agent does about drift",
		of: func(s *Snapshot) any { return s.Reconciliation },
		define: func(c *catalogue) func(*Snapshot) {
			mode := c.add(Metric{
				Name: "reconcile_info", Type: gauge, Labels: []string{"mode"}, Help: "What the agent does about drift: off, report or enforce. Always 1.",
				Source: "`nictune agent --reconcile`", Series: "1",
			})
			attempts := c.add(Metric{
				Name: "reconcile_attempts_total", Type: counter, Unit: "attempts", Labels: []string{deviceLabel, "outcome"},
				Help:   "Attempts to put right what had drifted, by outcome: applied, unchanged, undone, refused or failed.",
				Source: "the agent; `nictune history` has each but those that changed nothing", Series: "5 per device that a policy wants something of, with --reconcile=enforce",
			})
			held := c.add(Metric{
				Name: "reconcile_held", Type: gauge, Labels: []string{deviceLabel, "setting", "reason"},
				Help:   "A setting that has drifted and is not put right now, by reason: impact, backoff, fight, settling or unconfirmed. Always 1.",
				Source: "the agent", Series: "at most 1 per device and setting that a policy wants",
			})
			next := c.add(Metric{
				Name: "reconcile_next_attempt_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: []string{deviceLabel},
				Help:   "When the next attempt that was put off for this device is due, in Unix time.",
				Source: "the agent; absent where none is put off", Series: "at most 1 per device that a policy wants something of",
			})
			fight := c.add(Metric{
				Name: "reconcile_given_up", Type: gauge, Labels: []string{deviceLabel, "setting", "field", "suspects"},
				Help:   "A field that somebody sets again and again, and that is left to them, with the programs that run here and may do it. Always 1.",
				Source: "the agent", Series: "1 per field given up",
			})
			return func(s *Snapshot) {
				r := s.Reconciliation
				if r == nil {
					return
				}
				mode.set(1, r.Mode)
				for _, n := range r.NICs {
					for _, outcome := range slices.Sorted(maps.Keys(n.Attempts)) {
						attempts.set(float64(n.Attempts[outcome]), n.Device, outcome)
					}
					for _, setting := range slices.Sorted(maps.Keys(n.Held)) {
						held.set(1, n.Device, setting, n.Held[setting])
					}
					if !n.Next.IsZero() {
						next.set(float64(n.Next.UnixMilli())/1000, n.Device)
					}
					for _, f := range n.Lost {
						fight.set(1, n.Device, f.Setting, f.Field, strings.Join(f.Who, ", "))
					}
				}
			}
		},
	}
}
