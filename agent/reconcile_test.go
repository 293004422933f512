package agent

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// bench is a reconciler with its clock, and one NIC to be compared.
type bench struct {
	*testing.T
	r   *Reconciler
	now time.Time
	nic Compared
	// lost and held are what was told last, as "setting.field" and "setting: why".
	lost, held []string
	wake       time.Duration // from now; 0: none
}

// newBench has a NIC whose policies want rings (rx, tx) and coalesce (rx-usecs),
// and that has been there from the start. Pauses are as long as they can be.
func newBench(t *testing.T, allow tuning.Impact) *bench {
	b := &bench{T: t, r: NewReconciler(allow, func() float64 { return 1 }), now: time.Unix(1700000000, 0)}
	b.nic = Compared{
		NIC: tuning.Target{ID: "0000:01:00.0/52:54:00:00:01:00", Name: "eth1", Index: 2}, Up: true,
		Settings: []ComparedSetting{
			{Want: want("rings", "rx", "tx"), Impact: tuning.NICReset},
			{Want: want("coalesce", "rx-usecs"), Impact: tuning.Seamless},
		},
	}
	if got := b.next(); len(got) != 0 {
		t.Fatalf("a NIC as wanted is tried: %v", got)
	}
	return b
}

func want(setting string, fields ...string) policies.Want {
	w := policies.Want{NIC: &inventory.NIC{Name: "eth1"}, Setting: setting}
	for _, f := range fields {
		w.Fields = append(w.Fields, policies.Assignment{Field: f})
	}
	return w
}

// drift says which fields differ now.
func (b *bench) drift(fields ...string) {
	for i := range b.nic.Settings {
		s := &b.nic.Settings[i]
		s.Drifted = nil
		for _, f := range fields {
			if setting, field, _ := strings.Cut(f, "."); setting == s.Want.Setting {
				s.Drifted = append(s.Drifted, field)
			}
		}
	}
}

// next asks for a decision.
func (b *bench) next() []Attempt {
	b.Helper()
	d := b.r.Next(b.now, []Compared{b.nic}, func(Lost) []string { return []string{"tuned[7]"} })
	b.lost, b.held, b.wake = nil, nil, 0
	for _, l := range d.Lost {
		b.lost = append(b.lost, l.Setting+"."+l.Field)
	}
	for _, h := range d.Held {
		b.held = append(b.held, h.Setting+": "+h.Why)
	}
	if !d.Wake.IsZero() {
		b.wake = d.Wake.Sub(b.now)
	}
	return d.Attempts
}

// attempt wants one attempt that is about these fields, and ends it so. What was
// applied is as wanted then.
func (b *bench) attempt(result Result, fields ...string) Attempt {
	b.Helper()
	got := b.next()
	if len(got) != 1 || !slices.Equal(got[0].Drifted, fields) {
		b.Fatalf("attempts %+v, want one of %v", got, fields)
	}
	b.r.Done(b.now, got[0], result)
	if result.Outcome == Applied {
		b.drift()
	}
	return got[0]
}

// waits wants no attempt for so long, and that it is told when to look again.
func (b *bench) waits(pause time.Duration, why string) {
	b.Helper()
	if got := b.next(); len(got) != 0 {
		b.Fatalf("tried at once: %+v", got)
	}
	if b.wake != pause {
		b.Fatalf("looks again in %s, want %s", b.wake, pause)
	}
	held := b.r.Report().NICs[0].Held
	if len(held) == 0 || slices.ContainsFunc(slices.Collect(maps.Values(held)), func(h string) bool { return h != why }) {
		b.Errorf("held %v, want %s", held, why)
	}
	b.now = b.now.Add(pause)
}

func TestDriftIsPutRightAtOnce(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.drift("rings.rx", "coalesce.rx-usecs")
	a := b.attempt(Result{Outcome: Applied}, "rings.rx", "coalesce.rx-usecs")
	if len(a.Wants) != 2 || a.NIC != b.nic.NIC {
		t.Errorf("%+v", a)
	}
	if got := b.next(); len(got) != 0 || b.wake != 0 {
		t.Errorf("a NIC as wanted: %+v, looks again in %s", got, b.wake)
	}
	if got := b.r.Report().NICs[0]; got.Device != "eth1" || got.Attempts["applied"] != 1 || len(got.Held) != 0 || !got.Next.IsZero() {
		t.Errorf("%+v", got)
	}
}

// Every want is in an attempt, since one that holds may be built anew by the
// change of another, but for those that can't be had.
func TestAnAttemptHasTheOtherWants(t *testing.T) {
	b := newBench(t, tuning.Seamless)
	b.nic.Settings = append(b.nic.Settings, ComparedSetting{Want: want("fec", "mode"), Reason: inventory.Unsupported})
	b.drift("coalesce.rx-usecs")
	a := b.attempt(Result{Outcome: Applied}, "coalesce.rx-usecs")
	if len(a.Wants) != 2 || a.Wants[0].Setting != "rings" || a.Wants[1].Setting != "coalesce" {
		t.Errorf("%+v", a.Wants)
	}
}

func TestWhatIsNotAllowedIsLeft(t *testing.T) {
	b := newBench(t, tuning.Seamless)
	b.drift("rings.rx", "coalesce.rx-usecs")
	a := b.attempt(Result{Outcome: Applied}, "coalesce.rx-usecs")
	if len(a.Wants) != 1 {
		t.Errorf("%+v", a.Wants)
	}
	if !slices.Equal(b.held, []string{"rings: impact"}) {
		t.Errorf("held %v", b.held)
	}
	b.drift("rings.rx")
	if got := b.next(); len(got) != 0 || len(b.held) != 0 || b.wake != 0 {
		t.Errorf("a second time: %+v, told again of %v, looks again in %s", got, b.held, b.wake)
	}
	if got := b.r.Report().NICs[0].Held; !maps.Equal(got, map[string]string{"rings": metrics.HeldImpact}) {
		t.Errorf("held %v", got)
	}
}

func TestFailuresAreTriedEverMoreSeldom(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.drift("rings.rx")
	var pauses []time.Duration
	for range 14 {
		b.attempt(Result{Outcome: Failed}, "rings.rx")
		b.next()
		pauses = append(pauses, b.wake)
		b.waits(b.wake, metrics.HeldBackoff)
	}
	for i, p := range pauses {
		if want := min(time.Second<<i, 10*time.Minute); p != want {
			t.Errorf("pause %d is %s, want %s", i, p, want)
		}
	}
	b.attempt(Result{Outcome: Applied}, "rings.rx")
	b.now = b.now.Add(2 * window)
	b.drift("rings.rx")
	b.attempt(Result{Outcome: Refused}, "rings.rx")
	b.waits(time.Second, metrics.HeldBackoff)
}

func TestPausesAreSpread(t *testing.T) {
	for _, jitter := range []float64{0, 0.25, 0.999} {
		r := NewReconciler(tuning.Seamless, func() float64 { return jitter })
		if got, want := r.delay(3), 2*time.Second+time.Duration(jitter*float64(2*time.Second)); got != want {
			t.Errorf("jitter %v: %s, want %s", jitter, got, want)
		}
	}
	// A number of failures that nobody reaches overflows nothing.
	if got := NewReconciler("", func() float64 { return 1 }).delay(1 << 40); got != longestPause {
		t.Errorf("%s", got)
	}
}

// What the guard refuses is held alone: the rest of the NIC is put right at once.
func TestOneSettingThatIsRefusedDoesNotSpoilTheOthers(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.drift("rings.rx", "coalesce.rx-usecs")
	b.attempt(ResultOf(nil, fmt.Errorf("eth1: %w", &tuning.GuardError{Settings: []string{"channels", "rings"}})), "rings.rx", "coalesce.rx-usecs")
	if got := b.r.Report().NICs[0].Attempts["refused"]; got != 1 {
		t.Errorf("refused %d times", got)
	}
	a := b.attempt(Result{Outcome: Applied}, "coalesce.rx-usecs")
	if len(a.Wants) != 1 || !slices.Equal(b.held, []string{"rings: backoff"}) {
		t.Errorf("%+v, held %v", a.Wants, b.held)
	}
	b.drift("rings.rx")
	b.waits(time.Second, metrics.HeldBackoff)
	b.attempt(Result{Outcome: Refused, Settings: []string{"rings"}}, "rings.rx")
}

// One setting that fails, and takes the others with it as all are undone, is left
// out of the next attempt.
func TestOneSettingThatFailsDoesNotSpoilTheOthers(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.drift("rings.rx", "coalesce.rx-usecs")
	b.attempt(Result{Outcome: Undone, Settings: []string{"coalesce"}}, "rings.rx", "coalesce.rx-usecs")
	a := b.attempt(Result{Outcome: Applied}, "rings.rx")
	if len(a.Wants) != 1 || a.Wants[0].Setting != "rings" {
		t.Errorf("%+v", a.Wants)
	}
	b.drift("coalesce.rx-usecs")
	b.waits(time.Second, metrics.HeldBackoff)
	b.attempt(Result{Outcome: Undone, Settings: []string{"coalesce"}}, "coalesce.rx-usecs")
	b.waits(2*time.Second, metrics.HeldBackoff)
	// A setting that was none of the wants is the NIC's failure.
	b.attempt(Result{Outcome: Undone, Settings: []string{"irq"}}, "coalesce.rx-usecs")
	b.waits(time.Second, metrics.HeldBackoff)
}

func TestAFightIsEnded(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.drift("coalesce.rx-usecs")
	b.attempt(Result{Outcome: Applied}, "coalesce.rx-usecs")
	for i := range enoughReturns - 1 {
		b.now = b.now.Add(20 * time.Second)
		b.drift("coalesce.rx-usecs")
		b.waits(time.Second<<i, metrics.HeldBackoff)
		if len(b.lost) != 0 {
			t.Fatalf("lost after %d returns", i+1)
		}
		b.attempt(Result{Outcome: Applied}, "coalesce.rx-usecs")
	}
	b.drift("coalesce.rx-usecs", "rings.tx")
	if got := b.next(); len(got) != 0 || !slices.Equal(b.lost, []string{"coalesce.rx-usecs"}) {
		t.Fatalf("attempts %+v, lost %v", got, b.lost)
	}
	b.now = b.now.Add(b.wake)
	// The rest of the NIC is ours still.
	a := b.attempt(Result{Outcome: Applied}, "rings.tx")
	if len(a.Wants) != 1 || a.Wants[0].Setting != "rings" {
		t.Errorf("%+v", a.Wants)
	}
	b.drift("coalesce.rx-usecs")
	for range 100 { // it is not told of, or tried, again
		b.now = b.now.Add(window / 3)
		if got := b.next(); len(got) != 0 || len(b.lost) != 0 || b.wake != 0 {
			t.Fatalf("attempts %+v, lost %v, looks again in %s", got, b.lost, b.wake)
		}
	}
	report := b.r.Report().NICs[0]
	if want := []metrics.LostField{{Setting: "coalesce", Field: "rx-usecs", Who: []string{"tuned[7]"}}}; !reflect.DeepEqual(report.Lost, want) {
		t.Errorf("%+v", report.Lost)
	}
	if report.Held["coalesce"] != metrics.HeldFight || report.Attempts["applied"] != enoughReturns+1 {
		t.Errorf("%+v", report)
	}

	// Whoever it was gave in: a window of peace later it is ours again.
	b.drift()
	b.next()
	b.now = b.now.Add(window / 2)
	b.next()
	b.drift("coalesce.rx-usecs")
	if got := b.next(); len(got) != 0 {
		t.Fatalf("half a window of peace, and it is tried: %+v", got)
	}
	b.drift()
	b.next()
	b.now = b.now.Add(window)
	b.next()
	b.drift("coalesce.rx-usecs")
	b.attempt(Result{Outcome: Applied}, "coalesce.rx-usecs")
}

// Of a setting in two fields only the one fought over is left; of one whose
// policies name other fields than it has, all of it.
func TestWhatIsLeftInAFight(t *testing.T) {
	for name, test := range map[string]struct {
		fields []string // that the policy names
		want   []string // that are tried still
	}{
		"the field":   {[]string{"rx", "tx"}, []string{"rings.tx"}},
		"the setting": {[]string{"size"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tuning.NICReset)
			b.nic.Settings[0].Want = want("rings", test.fields...)
			for range enoughReturns {
				b.drift("rings.rx")
				b.attempt(Result{Outcome: Applied}, "rings.rx")
				b.drift("rings.rx")
				b.next()
				b.now = b.now.Add(b.wake)
			}
			b.drift("rings.rx", "rings.tx")
			b.now = b.now.Add(time.Minute)
			var tried []string
			for _, a := range b.next() {
				tried = append(tried, a.Drifted...)
				if len(a.Wants) != 2 || len(a.Wants[0].Fields) != 1 || a.Wants[0].Fields[0].Field != "tx" {
					t.Errorf("%+v", a.Wants)
				}
			}
			if !slices.Equal(tried, test.want) {
				t.Errorf("tried %v, want %v", tried, test.want)
			}
		})
	}
}

// Returns that lie far apart are no fight.
func TestSlowDriftIsNoFight(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	for range 20 {
		b.drift("rings.rx")
		if got := b.next(); len(got) == 0 {
			b.now = b.now.Add(b.wake)
		}
		b.attempt(Result{Outcome: Applied}, "rings.rx")
		b.now = b.now.Add(window/2 + time.Minute)
	}
}

// What somebody else put right was not put right by us: that it drifts again is
// no return.
func TestUnchangedIsNoReturn(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	for range 20 {
		b.drift("rings.rx")
		b.attempt(Result{Outcome: Unchanged}, "rings.rx")
		b.drift()
		b.next()
	}
}

func TestANewNICIsLeftToSettle(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.nic.NIC = tuning.Target{ID: "veth7", Name: "veth7", Index: 9}
	b.drift("rings.rx")
	b.waits(settling, metrics.HeldSettling)
	b.attempt(Result{Outcome: Applied}, "rings.rx")
	// A name that changes begins it anew: who gave it may not be done.
	b.nic.NIC.Name = "lan7"
	b.drift("rings.rx")
	b.waits(settling, metrics.HeldSettling)

	// At the start there is nobody to wait for.
	r := NewReconciler(tuning.NICReset, func() float64 { return 1 })
	if d := r.Next(b.now, []Compared{b.nic}, nil); len(d.Attempts) != 1 {
		t.Errorf("%+v", d)
	}
}

// A NIC that is made anew, as by a reload of its driver, is another: nothing that
// was fought over or failed is held against it. If it may have died of what was
// written to it, it is left alone ever longer.
func TestARebuiltNICIsNew(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	for range enoughReturns {
		b.drift("rings.rx")
		b.attempt(Result{Outcome: Applied}, "rings.rx")
		b.drift("rings.rx")
		b.next()
		b.now = b.now.Add(b.wake)
	}
	if got := b.next(); len(got) != 0 {
		t.Fatalf("not given up: %+v", got)
	}
	b.now = b.now.Add(aftermath + time.Second)
	pauses := []time.Duration{settling, 2 * settling, 4 * settling, 8 * settling}
	for _, pause := range pauses {
		b.nic.NIC.Index++
		b.drift("rings.rx")
		b.waits(pause, metrics.HeldSettling)
		b.attempt(Result{Outcome: Applied}, "rings.rx")
		b.now = b.now.Add(aftermath)
	}
	for range 20 {
		b.nic.NIC.Index++
		b.drift("rings.rx")
		b.next()
		b.waits(b.wake, metrics.HeldSettling)
		b.attempt(Result{Outcome: Undone}, "rings.rx")
	}
	b.nic.NIC.Index++
	b.waits(longestPause, metrics.HeldSettling)
	b.attempt(Result{Outcome: Applied}, "rings.rx")
	b.now = b.now.Add(aftermath + time.Second) // it survives
	b.nic.NIC.Index++
	b.drift("rings.rx")
	b.waits(settling, metrics.HeldSettling)
	if got := b.r.Report().NICs[0].Attempts; got["applied"] != uint64(enoughReturns+len(pauses)+1) || got["undone"] != 20 {
		t.Errorf("the counters went back: %v", got)
	}
}

func TestWhatFailedWhileDownIsTriedWhenItComesUp(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.nic.Up = false
	b.drift("rings.rx", "coalesce.rx-usecs")
	for i := range 6 {
		b.attempt(Result{Outcome: Undone, Settings: []string{"coalesce"}}, "rings.rx", "coalesce.rx-usecs")
		b.drift("coalesce.rx-usecs")
		if i < 5 {
			b.waits(time.Second<<i, metrics.HeldBackoff)
		}
		b.drift("rings.rx", "coalesce.rx-usecs")
	}
	b.drift("coalesce.rx-usecs")
	if got := b.next(); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	b.nic.Up = true
	b.attempt(Result{Outcome: Applied}, "coalesce.rx-usecs")
}

func TestAnUnconfirmedTransactionIsNotTouched(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.nic.Unconfirmed = true
	b.drift("rings.rx")
	b.waits(settling, metrics.HeldUnconfirmed)
	if !slices.Equal(b.held, []string{"rings: unconfirmed"}) {
		t.Errorf("held %v", b.held)
	}
	b.nic.Unconfirmed = false
	b.attempt(Result{Outcome: Applied}, "rings.rx")
}

// NICs that are gone are forgotten, and not shown.
func TestGoneNICsAreForgotten(t *testing.T) {
	b := newBench(t, tuning.NICReset)
	b.r.Next(b.now, nil, nil)
	if got := b.r.Report().NICs; len(got) != 0 || len(b.r.past) != 1 {
		t.Errorf("shown %+v, %d remembered", got, len(b.r.past))
	}
	b.now = b.now.Add(window + time.Second)
	b.r.Next(b.now, nil, nil)
	if len(b.r.past) != 0 {
		t.Errorf("%d remembered", len(b.r.past))
	}
}

// Ports that share an identity are told apart by name.
func TestPortsOfOneDevice(t *testing.T) {
	r := NewReconciler(tuning.NICReset, func() float64 { return 1 })
	ports := make([]Compared, 2)
	for i, name := range []string{"p0", "p1"} {
		ports[i] = Compared{
			NIC:      tuning.Target{ID: "0000:01:00.0", Name: name, Index: 4 + i},
			Settings: []ComparedSetting{{Want: want("rings", "rx"), Drifted: []string{"rx"}}},
		}
	}
	now := time.Unix(1700000000, 0)
	d := r.Next(now, ports, nil)
	if len(d.Attempts) != 2 {
		t.Fatalf("%+v", d)
	}
	r.Done(now, d.Attempts[0], Result{Outcome: Failed})
	if d := r.Next(now, ports, nil); len(d.Attempts) != 1 || d.Attempts[0].NIC.Name != "p1" {
		t.Errorf("%+v", d)
	}
}

// Settings of the host as a whole are put right like those of a NIC, and belong to
// no device.
func TestTheHost(t *testing.T) {
	r := NewReconciler(tuning.Seamless, func() float64 { return 1 })
	host := Compared{NIC: tuning.TargetOf(nil), Up: true, Settings: []ComparedSetting{{Want: policies.Want{Setting: "netdev-budget"}, Drifted: []string{"packets"}}}}
	now := time.Unix(1700000000, 0)
	d := r.Next(now, []Compared{host}, nil)
	if len(d.Attempts) != 1 || d.Attempts[0].Wants[0].NIC != nil {
		t.Fatalf("%+v", d)
	}
	r.Done(now, d.Attempts[0], Result{Outcome: Applied})
	if got := r.Report().NICs; len(got) != 1 || got[0].Device != "" || got[0].Attempts["applied"] != 1 {
		t.Errorf("%+v", got)
	}
}
