package metrics

import "github.com/nictune/nictune/tuning"

// History is what was applied to a host.
type History struct {
	tuning.Summary
}

// history says when something was applied, and how that ended.
func history() collector {
	return collector{
		name: "history", doc: "what nictune apply, rollback and enforce changed, and how that ended",
		of: func(s *Snapshot) any { return s.History },
		define: func(c *catalogue) func(*Snapshot) {
			const source = "`nictune history`: the journals in --state-dir"
			const ended = "at most 2: applied, undone; none where nothing was ever applied"
			outcome := []string{"outcome"}
			count := c.add(Metric{
				Name: "history_transactions", Type: gauge, Unit: "transactions", Labels: outcome,
				Help: "Transactions that have ended, by outcome: applied, or undone because a change failed or was not confirmed.", Source: source, Series: ended,
			})
			last := c.add(Metric{
				Name: "history_last_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: outcome,
				Help: "When the last transaction of this outcome ended, in Unix time.", Source: source, Series: ended,
			})
			rollbacks := c.add(Metric{
				Name: "history_rollbacks", Type: gauge, Unit: "transactions",
				Help: "Those among the applied that took another one back.", Source: source, Series: "1",
			})
			open := c.add(Metric{
				Name: "history_open_transactions", Type: gauge, Unit: "transactions", Labels: outcome,
				Help:   "Transactions that have not ended: unconfirmed ones wait for nictune confirm, pending ones are being carried out or were interrupted and wait for nictune recover.",
				Source: source, Series: "2",
			})
			oldest := c.add(Metric{
				Name: "history_oldest_open_timestamp_seconds", Type: gauge, Unit: "seconds", Labels: outcome,
				Help: "When the oldest transaction that has not ended began, in Unix time.", Source: source, Series: "at most 2",
			})
			until := c.add(Metric{
				Name: "history_confirm_until_timestamp_seconds", Type: gauge, Unit: "seconds",
				Help: "When the first transaction that nobody confirms is taken back, in Unix time. Absent where none waits.", Source: source, Series: "at most 1",
			})
			damaged := c.add(Metric{
				Name: "history_damaged_journals", Type: gauge, Unit: "journals",
				Help: "Journals that can't be read: what they say was changed can't be told.", Source: source, Series: "1",
			})
			return func(s *Snapshot) {
				h := s.History
				if h == nil {
					return
				}
				for _, o := range []tuning.Outcome{tuning.Applied, tuning.Undone} {
					if h.Ended[o] > 0 {
						count.set(float64(h.Ended[o]), string(o))
					}
					if at := h.Last[o]; !at.IsZero() {
						last.set(float64(at.UnixMilli())/1000, string(o))
					}
				}
				rollbacks.set(float64(h.Rollbacks))
				damaged.set(float64(h.Damaged))
				for _, o := range []tuning.Outcome{tuning.Pending, tuning.Unconfirmed} {
					number := 0
					for i := range h.Open {
						if h.Open[i].Outcome != o {
							continue
						}
						if number == 0 { // the oldest comes first
							oldest.set(float64(h.Open[i].Started.UnixMilli())/1000, string(o))
						}
						number++
					}
					open.set(float64(number), string(o))
				}
				var first float64
				for i := range h.Open {
					at := h.Open[i].Until
					if seconds := float64(at.UnixMilli()) / 1000; !at.IsZero() && (first == 0 || seconds < first) {
						first = seconds
					}
				}
				if first != 0 {
					until.set(first)
				}
			}
		},
	}
}
