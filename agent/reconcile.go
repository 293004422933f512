package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// How a [Reconciler] paces itself.
const (
	// shortestPause is what a NIC is left alone for after a first failure, or after
	// a first value came back. It doubles with each, up to longestPause.
	shortestPause = time.Second
	longestPause  = 10 * time.Minute
	// A field that drifted again this often within the window, after it had been put
	// right, is somebody else's: it is left to them, until it has been as wanted
	// for a window.
	enoughReturns = 3
	window        = time.Hour
	// settling is how long a NIC that is new, or has a new name, is left to those
	// who name it and set it up: it appears as eth0 before it is called otherwise.
	// It doubles with each time that the NIC was made anew within the aftermath of a
	// write of ours: it may have died of that.
	settling  = 2 * time.Second
	aftermath = time.Minute
)

// Reconciler decides what to put right of what has drifted, and when. It asks
// nobody anything: the comparisons, the outcomes and the clock are handed in.
type Reconciler struct {
	allow tuning.Impact
	// jitter gives numbers from 0 up to 1, so that many hosts that failed together
	// don't try again together.
	jitter  func() float64
	past    map[string]*past
	present []string // keys of past, in the order of the last comparison
	started bool
}

// NewReconciler makes a reconciler that tries changes of up to an impact.
func NewReconciler(allow tuning.Impact, jitter func() float64) *Reconciler {
	return &Reconciler{allow: allow, jitter: jitter, past: map[string]*past{}}
}

// past is what is remembered of a NIC.
type past struct {
	nic      tuning.Target
	up       bool
	seen     time.Time // last
	settled  time.Time // from when on it is ours to touch
	wrote    time.Time // last; zero: never
	deaths   int       // times it was made anew in the aftermath of a write
	fields   map[place]*fate
	pauses   map[string]pause  // by setting; "" is the whole NIC
	held     map[string]string // why a drifted setting isn't put right now
	next     time.Time         // when the first of those that wait is due
	outcomes map[Outcome]uint64
}

// place is one field of one setting.
type place struct{ setting, field string }

// fate is what became of a field that was put right.
type fate struct {
	put     bool        // it was, and has not drifted since
	at      time.Time   // when it was, last
	returns []time.Time // when it had drifted again
	lost    bool        // somebody else has it
	who     []string
	calm    time.Time // since when a lost one is as wanted; zero: it isn't
}

// pause is a wait after failures.
type pause struct {
	failures int
	until    time.Time
}

// Decision is what to do about a comparison.
type Decision struct {
	Attempts []Attempt
	// Lost are the fields that are left to somebody else from now on.
	Lost []Lost
	// Held are the drifted settings that wait for something else now than before.
	Held []Held
	// Waiting are the indices of the NICs whose attempt is put off.
	Waiting []int
	// Wake is when to compare again although nothing happened; zero: no need to.
	Wake time.Time
}

// Attempt is one NIC to put right.
type Attempt struct {
	NIC tuning.Target
	// Wants are all that may be tried on it: what holds already costs no write, and
	// may be built anew by a change of the others.
	Wants []policies.Want
	// Drifted are the fields that it is about, as "rings.rx".
	Drifted []string

	key    string
	places []place
}

// Lost is a field that somebody else sets again and again.
type Lost struct {
	NIC     tuning.Target
	Setting string
	Field   string
	// Times it drifted again, the last after it had been put right at PutRight.
	Times    int
	PutRight time.Time
	// Who may have done it.
	Who []string
}

// Held is a drifted setting that is not put right now.
type Held struct {
	NIC     tuning.Target
	Setting string
	// Why is one of the reasons of [metrics.Reconciled].
	Why    string
	Impact tuning.Impact
}

// Next decides about a comparison. who is asked for the suspects where a field is
// given up.
func (r *Reconciler) Next(now time.Time, compared []Compared, who func(Lost) []string) Decision {
	var d Decision
	r.present = r.present[:0]
	for i := range compared {
		c := &compared[i]
		key := keyOf(compared, i)
		r.present = append(r.present, key)
		p := r.meet(now, key, c)
		for _, lost := range p.observe(now, c, r.delay) {
			lost.Who = who(lost)
			p.fields[place{lost.Setting, lost.Field}].who = lost.Who
			d.Lost = append(d.Lost, lost)
		}
		attempt, wake, held := p.choose(now, c, r.allow)
		for _, s := range c.Settings {
			if why := held[s.Want.Setting]; why != "" && why != p.held[s.Want.Setting] {
				d.Held = append(d.Held, Held{c.NIC, s.Want.Setting, why, s.Impact})
			}
		}
		p.held, p.next = held, wake
		if len(attempt.Drifted) > 0 {
			attempt.key = key
			d.Attempts = append(d.Attempts, attempt)
		}
		if !wake.IsZero() {
			d.Waiting = append(d.Waiting, c.NIC.Index)
		}
		if !wake.IsZero() && (d.Wake.IsZero() || wake.Before(d.Wake)) {
			d.Wake = wake
		}
	}
	r.started = true
	maps.DeleteFunc(r.past, func(_ string, p *past) bool { return now.Sub(p.seen) > window })
	return d
}

// keyOf is what a NIC is remembered by: its identity, with its name where several
// share that.
func keyOf(compared []Compared, i int) string {
	id := compared[i].NIC.ID
	for j := range compared {
		if j != i && compared[j].NIC.ID == id {
			return id + " " + compared[i].NIC.Name
		}
	}
	return id
}

// meet finds what is known of a NIC, and notes what is new about it.
func (r *Reconciler) meet(now time.Time, key string, c *Compared) *past {
	p := r.past[key]
	known := p != nil
	rebuilt := known && p.nic.Index != c.NIC.Index
	if !known || rebuilt {
		fresh := &past{fields: map[place]*fate{}, pauses: map[string]pause{}, outcomes: map[Outcome]uint64{}}
		if known {
			fresh.outcomes = p.outcomes
			if !p.wrote.IsZero() && now.Sub(p.wrote) <= aftermath {
				fresh.deaths = p.deaths + 1
			}
		}
		p = fresh
		r.past[key] = p
	}
	if r.started && (!known || rebuilt || p.nic.Name != c.NIC.Name) {
		p.settled = now.Add(doubled(settling, p.deaths))
	}
	if known && c.Up && !p.up && !rebuilt {
		clear(p.pauses) // what failed while it was down may succeed now
	}
	p.nic, p.up, p.seen = c.NIC, c.Up, now
	return p
}

// observe counts the fields that came back after they had been put right, and
// returns those that are given up for it.
func (p *past) observe(now time.Time, c *Compared, delay func(int) time.Duration) (lost []Lost) {
	drifted := map[place]bool{}
	worst := 0
	for _, s := range c.Settings {
		for _, field := range s.Drifted {
			at := place{s.Want.Setting, field}
			drifted[at] = true
			f := p.fields[at]
			if f == nil || !f.put {
				continue
			}
			f.put = false
			if now.Sub(f.at) > window {
				continue // it held for long
			}
			f.returns = append(f.returns, now)
			f.returns = slices.DeleteFunc(f.returns, func(t time.Time) bool { return now.Sub(t) > window })
			worst = max(worst, len(f.returns))
			if len(f.returns) >= enoughReturns && !f.lost {
				f.lost = true
				lost = append(lost, Lost{NIC: c.NIC, Setting: at.setting, Field: at.field, Times: len(f.returns), PutRight: f.at})
			}
		}
	}
	if worst > 0 {
		whole := p.pauses[""]
		if until := now.Add(delay(worst)); until.After(whole.until) {
			whole.until = until
		}
		p.pauses[""] = whole
	}
	for at, f := range p.fields {
		switch {
		case drifted[at]:
			f.calm = time.Time{}
		case !f.lost:
		case f.calm.IsZero():
			f.calm = now
		case now.Sub(f.calm) >= window:
			delete(p.fields, at)
		}
	}
	return lost
}

// choose picks what to try, and says why the rest waits, and until when.
func (p *past) choose(now time.Time, c *Compared, allow tuning.Impact) (a Attempt, wake time.Time, held map[string]string) {
	a.NIC = c.NIC
	held = map[string]string{}
	wait := func(until time.Time) {
		if wake.IsZero() || until.Before(wake) {
			wake = until
		}
	}
	for _, s := range c.Settings {
		if s.Reason != "" {
			continue // it can't be had: tried again whenever something changes
		}
		want, ours := p.without(s.Want, s.Drifted)
		setting := s.Want.Setting
		own, whole := p.pauses[setting], p.pauses[""]
		if len(s.Drifted) > 0 {
			switch {
			case c.Unconfirmed:
				held[setting] = metrics.HeldUnconfirmed
				wait(now.Add(settling)) // nobody tells when it is settled
			case len(ours) == 0:
				held[setting] = metrics.HeldFight
			case !s.Impact.Within(allow):
				held[setting] = metrics.HeldImpact
			case now.Before(p.settled):
				held[setting] = metrics.HeldSettling
				wait(p.settled)
			case now.Before(own.until):
				held[setting] = metrics.HeldBackoff
				wait(own.until)
			case now.Before(whole.until):
				held[setting] = metrics.HeldBackoff
				wait(whole.until)
			}
			if held[setting] != "" {
				continue
			}
			for _, field := range ours {
				a.places = append(a.places, place{setting, field})
				a.Drifted = append(a.Drifted, setting+"."+field)
			}
		}
		if want != nil && !now.Before(own.until) {
			a.Wants = append(a.Wants, *want)
		}
	}
	return a, wake, held
}

// without is a want without what is left to somebody else, nil if nothing of it
// remains, and which of its drifted fields do. Where a policy names other fields
// than the setting has, the want is one whole.
func (p *past) without(want policies.Want, drifted []string) (remaining *policies.Want, ours []string) {
	lost := map[string]bool{}
	for at, f := range p.fields {
		if f.lost && at.setting == want.Setting {
			lost[at.field] = true
		}
	}
	if len(lost) == 0 {
		return &want, drifted
	}
	named := 0
	fields := slices.DeleteFunc(slices.Clone(want.Fields), func(a policies.Assignment) bool {
		if lost[a.Field] {
			named++
		}
		return lost[a.Field]
	})
	if named < len(lost) || len(fields) == 0 {
		return nil, nil
	}
	want.Fields = fields
	return &want, slices.DeleteFunc(slices.Clone(drifted), func(field string) bool { return lost[field] })
}

// Done tells how an attempt ended.
func (r *Reconciler) Done(now time.Time, a Attempt, result Result) {
	p := r.past[a.key]
	if p == nil {
		return
	}
	p.outcomes[result.Outcome]++
	switch result.Outcome {
	case Applied, Unchanged:
		delete(p.pauses, "")
		for _, w := range a.Wants {
			delete(p.pauses, w.Setting)
		}
		if result.Outcome == Unchanged {
			return // somebody else put it right meanwhile
		}
		p.wrote = now
		for _, at := range a.places {
			f := p.fields[at]
			if f == nil {
				f = &fate{}
				p.fields[at] = f
			}
			f.put, f.at = true, now
		}
	default:
		if result.Outcome != Refused {
			p.wrote = now
		}
		// The settings that failed are kept from spoiling the others of their NIC again.
		settings := slices.DeleteFunc(slices.Clone(result.Settings), func(setting string) bool {
			return !slices.ContainsFunc(a.Wants, func(w policies.Want) bool { return w.Setting == setting })
		})
		if len(settings) == 0 {
			settings = []string{""} // the whole NIC
		}
		for _, setting := range settings {
			failed := p.pauses[setting]
			failed.failures++
			failed.until = now.Add(r.delay(failed.failures))
			p.pauses[setting] = failed
		}
	}
}

// delay is the pause after so many failures, between half and the whole of it.
func (r *Reconciler) delay(failures int) time.Duration {
	d := doubled(shortestPause, failures-1)
	return d/2 + time.Duration(r.jitter()*float64(d/2))
}

// doubled is a pause after so many doublings.
func doubled(d time.Duration, doublings int) time.Duration {
	const most = 20 // more than any pause needs to be the longest
	return min(longestPause, d<<min(doublings, most))
}

// Report is what the metrics show of the NICs of the last comparison.
func (r *Reconciler) Report() *metrics.Reconciliation {
	report := &metrics.Reconciliation{}
	for _, key := range r.present {
		p := r.past[key]
		nic := metrics.Reconciled{Device: deviceOf(p.nic), Attempts: map[string]uint64{}, Held: maps.Clone(p.held), Next: p.next}
		for _, o := range Outcomes() {
			nic.Attempts[string(o)] = p.outcomes[o]
		}
		for at, f := range p.fields {
			if f.lost {
				nic.Lost = append(nic.Lost, metrics.LostField{Setting: at.setting, Field: at.field, Who: f.who})
			}
		}
		slices.SortFunc(nic.Lost, func(a, b metrics.LostField) int {
			return cmp.Or(cmp.Compare(a.Setting, b.Setting), cmp.Compare(a.Field, b.Field))
		})
		report.NICs = append(report.NICs, nic)
	}
	return report
}

// String is "eth1: coalesce.rx-usecs".
func (l Lost) String() string { return fmt.Sprintf("%s: %s.%s", l.NIC.Name, l.Setting, l.Field) }
