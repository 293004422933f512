package tuning

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Past sums a host's history up, again and again: each journal that has ended is read
// once. It is not safe for concurrent use.
type Past struct {
	dir   string
	ended map[int]summary // by the transaction's number
}

// PastIn makes one of a state directory.
func PastIn(dir string) *Past { return &Past{dir: dir, ended: map[int]summary{}} }

// Summary is a host's history in numbers.
type Summary struct {
	// Ended counts the transactions that have ended, by outcome, and Last is when the
	// last one of each did. One that took another one back is counted in Rollbacks,
	// too.
	Ended     map[Outcome]int
	Last      map[Outcome]time.Time
	Rollbacks int
	// Open are the transactions that have not ended, the oldest first: they wait to
	// be confirmed, are being carried out, or wait for recovery.
	Open []OpenTransaction
	// Damaged is how many journals can't be read.
	Damaged int
}

// OpenTransaction is a transaction that has not ended.
type OpenTransaction struct {
	ID      int
	Started time.Time
	// Outcome is [Pending] or [Unconfirmed]; Until is when an unconfirmed one is
	// taken back.
	Outcome Outcome
	Until   time.Time
}

// summary is what stays of a transaction that has ended.
type summary struct {
	outcome  Outcome
	at       time.Time
	rollback bool
	damaged  bool
}

// Summary reads what is new. Where there is no state directory the error is
// fs.ErrNotExist: nothing was ever applied here. With another error comes what could
// be read in spite of it.
func (p *Past) Summary() (Summary, error) {
	s := Summary{Ended: map[Outcome]int{}, Last: map[Outcome]time.Time{}}
	if _, err := os.Stat(p.dir); err != nil {
		return s, err
	}
	// Pending ones first: one that ends meanwhile is then seen at least once.
	var faults []error
	var open []Transaction
	pending := filepath.Join(p.dir, pendingDir)
	ids, err := journals(pending)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		faults = append(faults, err)
	}
	for _, id := range ids {
		t, err := readJournal(filepath.Join(pending, fileName(id)))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it ended meanwhile
		case err != nil:
			faults = append(faults, err)
			s.Damaged++
		case t != nil: // else it has not begun
			open = append(open, *t)
		}
	}
	dir := filepath.Join(p.dir, historyDir)
	if ids, err = journals(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		faults = append(faults, err)
	}
	l, err := readLedger(p.dir) // now: since they were listed some can have gone
	if err != nil {
		faults = append(faults, err)
	}
	for outcome, gone := range l.Gone {
		s.Ended[outcome], s.Last[outcome] = gone.Count, gone.Last
	}
	s.Rollbacks = l.Rollbacks
	known := make(map[int]summary, len(ids))
	for _, id := range ids {
		if id <= l.Trimmed {
			continue
		}
		one, ok := p.ended[id]
		if !ok || one.damaged {
			t, err := readJournal(filepath.Join(dir, fileName(id)))
			switch {
			case err != nil:
				faults = append(faults, err)
				one = summary{damaged: true}
			case t == nil: // it never began
				one = summary{}
			default:
				one = summary{outcome: t.Outcome, at: t.Ended, rollback: t.isRollback()}
			}
		}
		known[id] = one
		s.count(one)
	}
	p.ended = known // what somebody removed is no longer there
	for _, t := range open {
		if _, ended := known[t.ID]; ended {
			continue // seen on both sides of its end
		}
		one := OpenTransaction{ID: t.ID, Started: t.Started, Outcome: t.Outcome}
		if t.Until != nil {
			one.Until = t.Until.At
		}
		s.Open = append(s.Open, one)
	}
	return s, errors.Join(faults...)
}

func (s *Summary) count(one summary) {
	switch {
	case one.damaged:
		s.Damaged++
	case one.outcome != "":
		s.Ended[one.outcome]++
		if one.at.After(s.Last[one.outcome]) {
			s.Last[one.outcome] = one.at
		}
		if one.rollback && one.outcome == Applied {
			s.Rollbacks++
		}
	}
}
