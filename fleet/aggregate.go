package fleet

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/findings"
)

// Options say what a report is to be of.
type Options struct {
	// Source is "reports" or "prometheus", Inputs the files or the address: for [Scope].
	Source string
	Inputs []string
	// Now is what ages are measured by.
	Now time.Time
	// Version is that of this nictune.
	Version string
	// MaxAge is the age from which a host is stale; 0 where any age will do.
	MaxAge time.Duration
	// Expected are the names of the hosts that there should be; nil where nobody said.
	Expected []string
	// Host is the name of the only host that is asked for; "" for all.
	Host string
	// Top is how long lists of the worst are, 20 where it is 0. Lists of hosts by name
	// and of problems are fifty times as long.
	Top int
	// Details is how many of the worst hosts the report has in [Report.Details], where none
	// was asked for by name.
	Details int
	// FlapWindow is the time in which [NIC.Downs] happened; 0 since the device was made.
	FlapWindow time.Duration
	// SpoolDir is where a file may be made for what doesn't fit in memory: about half a
	// kilobyte for each host. It has no name, and is gone in the end.
	SpoolDir string
}

const (
	defaultTop = 20
	namesFor   = 50 // how many names for each of the top
	worstHosts = 5  // how many hosts are named for a rule or a policy

	// ahead is how far a host's clock may be ahead of ours.
	ahead = 5 * time.Minute
	// expiring is how long before its end a waiver asks for attention.
	expiring = 14 * 24 * time.Hour

	// longestText and mostDistinct bound what hosts can make us remember: the length of
	// any text, and how many different rules, models, waivers or the like are told apart.
	longestText  = 256
	mostDistinct = 10000
)

// Aggregate makes one report of hosts that it is fed one after the other. Of each host
// it remembers some 100 bytes, by which two reports of it are found; what else it holds
// grows with how many different rules, models and the like there are. Which of a host's
// reports counts is known only at the end, so hosts wait compressed until then, at
// first in memory, beyond a few megabytes in a file.
//
// It is not safe for concurrent use.
type Aggregate struct {
	o        Options
	waiting  *spool
	latest   map[identity]newest // by name
	twins    map[identity]newest // hosts whose name is taken, by name and machine
	shared   map[identity]bool   // names that several hosts have
	expected []bool              // which of the (sorted) expected were seen
	missed   *top[NamedHost]
	sums     Sum
	problems *top[Problem]
	counts   map[ProblemKind]int
	full     map[string]bool // what there are too many of
	read     int
	text     bytes.Buffer
}

// identity is a digest of what a host is known by.
type identity [16]byte

// newest is the newest report of a host.
type newest struct {
	machine uint64 // a digest of the machine's id
	at      int64  // microseconds since 1970
	content uint64 // a digest: of two of the same time the larger counts, for no reason but that one must
}

// NewAggregate makes one that was fed nothing yet. Close it in the end.
func NewAggregate(o Options) *Aggregate {
	if o.Top <= 0 {
		o.Top = defaultTop
	}
	o.Now = o.Now.UTC()
	if o.Expected != nil {
		o.Expected = slices.Clone(o.Expected)
		for i, name := range o.Expected {
			o.Expected[i] = clip(name)
		}
		slices.Sort(o.Expected)
		o.Expected = slices.Compact(o.Expected)
		if o.Host != "" {
			o.Expected = slices.DeleteFunc(o.Expected, func(name string) bool { return name != clip(o.Host) })
		}
	}
	return &Aggregate{
		o: o, waiting: newSpool(o.SpoolDir),
		latest: map[identity]newest{}, twins: map[identity]newest{}, shared: map[identity]bool{},
		expected: make([]bool, len(o.Expected)),
		missed:   newTop(o.Top*namesFor, compareNamed),
		problems: newTop(o.Top*namesFor, compareProblems), counts: map[ProblemKind]int{}, full: map[string]bool{},
	}
}

// Close lets go of the file that there may be.
func (a *Aggregate) Close() error { return a.waiting.close() }

// Miss names a host that there should be, and why it is known to be missing.
func (a *Aggregate) Miss(h NamedHost, why string) {
	if a.o.Host != "" && h.Name != a.o.Host {
		return
	}
	h.Name, h.MachineID, h.Source = clip(h.Name), clip(h.MachineID), clip(h.Source)
	a.missed.add(h)
	a.Problem(Problem{Kind: Incomplete, Source: h.Source, Host: h.Name, Detail: "it is missing: " + why})
	a.saw(h.Name)
}

// Sum is what a source has summed up itself of hosts of which nothing fails: they are
// added without these verdicts, without readiness, and without the drivers of their VFs.
type Sum struct {
	Verdicts  []SumVerdict
	Readiness []Profile
	Drivers   []DriverCount
}

// SumVerdict is the verdicts of several hosts.
type SumVerdict struct {
	Verdict
	Hosts int
}

// AddSum takes a sum.
func (a *Aggregate) AddSum(s Sum) {
	a.sums.Verdicts = append(a.sums.Verdicts, s.Verdicts...)
	a.sums.Readiness = append(a.sums.Readiness, s.Readiness...)
	a.sums.Drivers = append(a.sums.Drivers, s.Drivers...)
}

// timely reports whether a host that was judged then counts.
func (a *Aggregate) timely(at time.Time) bool {
	age := a.o.Now.Sub(at)
	return age >= -ahead && (a.o.MaxAge <= 0 || age < a.o.MaxAge)
}

// Problem notes what is wrong with an input.
func (a *Aggregate) Problem(p Problem) {
	p.Source, p.Host, p.Detail = clip(p.Source), clip(p.Host), clip(p.Detail)
	a.counts[p.Kind]++
	a.problems.add(p)
}

// rejects are the kinds of problem for which a report could not be used.
var rejects = []ProblemKind{Truncated, Malformed, TooLarge, WrongKind, NewerVersion, Nameless}

func compareProblems(a, b Problem) int {
	kinds := ProblemKinds()
	return cmp.Or(
		slices.Index(kinds, a.Kind)-slices.Index(kinds, b.Kind), strings.Compare(a.Host, b.Host),
		strings.Compare(a.Source, b.Source), strings.Compare(a.Detail, b.Detail),
	)
}

// Add takes a host, and changes texts in it that are too long. An error is one of the
// file that hosts wait in: what is wrong with the host itself is a problem of the
// report.
func (a *Aggregate) Add(h *Host) error {
	if a.o.Host != "" && h.Name != a.o.Host {
		return nil
	}
	a.read++
	h.clip()
	switch {
	case h.Name == "":
		a.Problem(Problem{Kind: Nameless, Source: h.Source, Detail: "it does not say of which host it is"})
		return nil
	case h.CollectedAt.IsZero():
		a.Problem(Problem{Kind: Nameless, Source: h.Source, Host: h.Name, Detail: "it does not say when it was collected"})
		return nil
	}
	h.CollectedAt = h.CollectedAt.UTC()
	a.text.Reset()
	e := json.NewEncoder(&a.text)
	e.SetEscapeHTML(false)
	if err := e.Encode(h); err != nil {
		a.Problem(Problem{Kind: Malformed, Source: h.Source, Host: h.Name, Detail: err.Error()})
		return nil //nolint:nilerr // a host with a year 10000 or a figure that is none is a problem of the report
	}
	packed := bytes.TrimSuffix(a.text.Bytes(), []byte("\n"))
	name, own, machine := identify(h)
	sum := sha256.Sum256(packed)
	n := newest{machine, h.CollectedAt.UnixMicro(), binary.LittleEndian.Uint64(sum[:])}
	known, ok := a.latest[name]
	switch {
	case !ok, known.machine == machine:
		if !ok || a.better(n, known) {
			a.latest[name] = n
		}
	default:
		a.shared[name] = true
		if known, ok := a.twins[own]; !ok || a.better(n, known) {
			a.twins[own] = n
		}
	}
	return a.waiting.add(packed)
}

// better reports whether of two reports of a host n is the one that counts: the newer, but
// one of a clock that was ahead says nothing of when it was made.
func (a *Aggregate) better(n, m newest) bool {
	latest := a.o.Now.Add(ahead).UnixMicro()
	early := func(n newest) int {
		if n.at > latest {
			return 1
		}
		return 0
	}
	return cmp.Or(early(m)-early(n), cmp.Compare(n.at, m.at), cmp.Compare(n.content, m.content)) > 0
}

// identify digests a host's name, its name and machine, and the machine.
func identify(h *Host) (name, own identity, machine uint64) {
	n := sha256.Sum256([]byte(h.Name))
	m := sha256.Sum256([]byte(h.MachineID))
	o := sha256.Sum256(append(append(make([]byte, 0, 64), n[:]...), m[:]...))
	return identity(n[:16]), identity(o[:16]), binary.LittleEndian.Uint64(m[:])
}

// counted marks a report as one that was counted: no clock says so.
const counted = int64(-1) << 63

// isNewest reports whether this report of a host is the one that counts, and says so once.
func (a *Aggregate) isNewest(h *Host, packed []byte) (newest, sharesName bool) {
	name, own, machine := identify(h)
	book, key := a.latest, name
	if book[key].machine != machine {
		book, key = a.twins, own
	}
	sum := sha256.Sum256(packed)
	n, known := book[key], h.CollectedAt.UnixMicro()
	if n.at != known || n.content != binary.LittleEndian.Uint64(sum[:]) {
		return false, false
	}
	n.at = counted
	book[key] = n
	return true, a.shared[name]
}

// Report is the report of all hosts that were added. It can be asked for once.
func (a *Aggregate) Report() (*Report, error) {
	t := newTotals(a)
	if err := a.waiting.each(func(h *Host, packed []byte) error {
		newest, twin := a.isNewest(h, packed)
		switch age := a.o.Now.Sub(h.CollectedAt); {
		case !newest:
			t.superseded++
			a.Problem(Problem{Kind: Repeated, Source: h.Source, Host: h.Name, Detail: "collected at " + h.CollectedAt.Format(time.RFC3339) + "; another report of this host counts"})
		case age < -ahead:
			a.saw(h.Name)
			t.ahead.add(named(h))
			a.Problem(Problem{Kind: ClockAhead, Source: h.Source, Host: h.Name, Detail: fmt.Sprintf("it says %s, which is %s ahead: its age can't be told", h.CollectedAt.Format(time.RFC3339), (-age).Round(time.Second))})
		case a.o.MaxAge > 0 && age >= a.o.MaxAge:
			a.saw(h.Name)
			t.stale.add(named(h))
		default:
			if a.o.Expected != nil && !a.saw(h.Name) {
				t.unexpected.add(named(h))
			}
			t.add(h)
		}
		if newest && twin {
			a.Problem(Problem{Kind: SameName, Source: h.Source, Host: h.Name, Detail: "another host has this name, too: this one is machine " + cmp.Or(h.MachineID, "(without an id)")})
		}
		return nil
	}); err != nil {
		return nil, err
	}
	t.addSum(a.sums)
	return t.report(), nil
}

// saw notes that an expected host was seen, and reports whether it is one.
func (a *Aggregate) saw(name string) bool {
	i, ok := slices.BinarySearch(a.o.Expected, name)
	if ok {
		a.expected[i] = true
	}
	return ok
}

func named(h *Host) NamedHost {
	failing := 0
	for _, v := range h.Verdicts {
		if v.Status == findings.Fail {
			failing += v.Subjects
		}
	}
	return NamedHost{Name: h.Name, MachineID: h.MachineID, CollectedAt: &h.CollectedAt, Failing: &failing, Source: h.Source}
}

func compareNamed(a, b NamedHost) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.MachineID, b.MachineID), strings.Compare(a.Source, b.Source))
}

// entry is what m has by a key, made where it isn't there; nil where there are too many
// to tell them apart.
func entry[K comparable, V any](a *Aggregate, what string, m map[K]*V, key K) *V {
	v := m[key]
	switch {
	case v != nil:
	case len(m) < mostDistinct:
		v = new(V)
		m[key] = v
	case !a.full[what]:
		a.full[what] = true
		a.Problem(Problem{Kind: TooMany, Detail: fmt.Sprintf("more than %d different %s: those that came later are not told apart, and not in the report", mostDistinct, what)})
	}
	return v
}

// clip bounds a text.
func clip(s string) string {
	if len(s) <= longestText {
		return s
	}
	return strings.ToValidUTF8(s[:longestText-len("…")], "") + "…"
}

func (h *Host) clip() {
	for _, s := range []*string{&h.Name, &h.MachineID, &h.Source, &h.Version, &h.Kernel} {
		*s = clip(*s)
	}
	for i := range h.Verdicts {
		v := &h.Verdicts[i]
		v.Rule, v.Severity, v.Status = clip(v.Rule), findings.Severity(clip(string(v.Severity))), findings.Status(clip(string(v.Status)))
	}
	for i := range h.Findings {
		f := &h.Findings[i]
		f.Severity, f.Status = findings.Severity(clip(string(f.Severity))), findings.Status(clip(string(f.Status)))
		for _, s := range []*string{&f.Rule, &f.NIC, &f.Device, &f.Part, &f.Title, &f.Seen} {
			*s = clip(*s)
		}
	}
	for i := range h.NICs {
		n := &h.NICs[i]
		for _, s := range []*string{&n.ID, &n.Device, &n.Address, &n.Kind, &n.PhysicalFunction, &n.Model, &n.Driver, &n.DriverVersion, &n.Firmware} {
			*s = clip(*s)
		}
		for j := range n.Optics {
			o := &n.Optics[j]
			for _, s := range []*string{&o.Vendor, &o.PartNumber, &o.SerialNumber, &o.Quantity, &o.Unit, &o.Verdict} {
				*s = clip(*s)
			}
		}
		if n.VFs != nil {
			n.VFs.Drivers = clipKeys(n.VFs.Drivers)
		}
		n.Readiness = clipKeys(n.Readiness)
	}
	for i := range h.Problems {
		h.Problems[i] = clip(h.Problems[i])
	}
	for i := range h.Drift {
		d := &h.Drift[i]
		for _, s := range []*string{&d.Policy, &d.NIC, &d.Device, &d.Setting, &d.Status} {
			*s = clip(*s)
		}
	}
	for i := range h.Waivers {
		w := &h.Waivers[i]
		for _, s := range []*string{&w.Rule, &w.Owner, &w.Reason, &w.Expires} {
			*s = clip(*s)
		}
	}
}

func clipKeys[V any](m map[string]V) map[string]V {
	for key, v := range m {
		if short := clip(key); short != key {
			m = maps.Clone(m)
			delete(m, key)
			m[short] = v
			return clipKeys(m)
		}
	}
	return m
}
