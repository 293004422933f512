package agent

import (
	"errors"

	"github.com/nictune/nictune/tuning"
)

// Outcome is how an attempt to put a NIC right ended.
type Outcome string

// The outcomes of an attempt.
const (
	// Applied: what had drifted is as wanted again.
	Applied Outcome = "applied"
	// Unchanged: it was as wanted already.
	Unchanged Outcome = "unchanged"
	// Undone: a change failed, and all is as before the attempt.
	Undone Outcome = "undone"
	// Refused: nothing was tried.
	Refused Outcome = "refused"
	// Failed: anything else; the error says what the host is like.
	Failed Outcome = "failed"
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome { return []Outcome{Applied, Unchanged, Undone, Refused, Failed} }

// Result is how an attempt ended.
type Result struct {
	Outcome Outcome
	// Transaction is its number in the history, 0 where there is none.
	Transaction int
	// Settings are those that failed or were refused, where that is known.
	Settings []string
	Err      error
}

// ResultOf sorts what an engine's apply returned.
func ResultOf(t *tuning.Transaction, err error) Result {
	result := Result{Outcome: Failed, Err: err}
	if t != nil {
		result.Transaction = t.ID
	}
	var failure *tuning.ApplyError
	var problems *tuning.PlanError
	var guard *tuning.GuardError
	switch {
	case err == nil && t == nil:
		result.Outcome = Unchanged
	case err == nil:
		result.Outcome = Applied
	case errors.As(err, &failure):
		result.Settings = []string{failure.Change.Setting}
		if len(failure.Left) == 0 {
			result.Outcome = Undone
		}
	case errors.As(err, &guard):
		result.Outcome, result.Settings = Refused, guard.Settings
	case errors.Is(err, tuning.ErrRefused), errors.Is(err, tuning.ErrLocked):
		result.Outcome = Refused
	case errors.As(err, &problems):
		result.Outcome, result.Settings = Refused, []string{problems.Problems[0].Setting}
	}
	return result
}
