package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/inventory/module"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/sriov"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/xdpcheck"
)

// Beside is what an agent keeps beside facts and drift: what takes a device's
// firmware, a slow bus or the CPU longer than a scrape should. It is read when the
// facts have changed or are old, one thing after the other, and never for a scrape.
type Beside struct {
	// Groups are the rules by which the host is judged, each look against the one
	// before it. None: it isn't judged.
	Groups []audit.Group
	// Rules are users' own. Checks are the policies that findings obey, and Wanted
	// those of which rules ask what they want: where there are any, drift from what
	// the agent compares with is a finding, too. Labels are the host's, by which all
	// match.
	Rules  []policies.RulePolicy
	Checks []policies.CheckPolicy
	Wanted []policies.Policy
	Labels map[string]string
	// VFs asks each PF's firmware about its virtual functions, with the RTNL lock
	// held. XDP judges what hardware is ready for.
	VFs, XDP bool
	// Modules reads what pluggable modules are and measure, once a minute at most; nil:
	// nobody does.
	Modules *inventory.Modules
	// History sums up what was applied here; fs.ErrNotExist where nothing ever was.
	// Nil: nobody keeps that.
	History func() (tuning.Summary, error)
	// Pause is the least time between two rounds, however much changes.
	Pause time.Duration
}

const (
	// besideInterval is how often modules and the history are looked at: a little less
	// often than modules are read anew, so that none is a moment too young.
	besideInterval = 65 * time.Second
	// moduleTimeout bounds the reading of one module: some thirty pages of a slow bus.
	moduleTimeout = 15 * time.Second
)

// beside keeps it. Its answers are handed over whole and not written on again.
type beside struct {
	Beside
	agent *Agent
	// read has a token when the facts were read.
	read chan struct{}

	mu    sync.Mutex
	known known

	// What follows is the loop's alone.
	judged  any       // the facts that were judged last, or the comparison with policies
	at      time.Time // when
	earlier *audit.Look
	without map[string]without // NICs that have no modules, by name, index and ID
	plugged map[string]plugged
	next    int              // the index from which modules are read next: an earlier round had no time for it
	told    map[failure]bool // why modules could not be read; a privilege is of no device
}

// known is what a scrape shows of it.
type known struct {
	vfs      *metrics.VFs
	xdp      *metrics.XDP
	findings *metrics.Findings
	modules  *metrics.Modules
	history  *metrics.History
	reads    []metrics.Read
}

// plugged is a module as it was read last, and what could not be read of it.
type plugged struct {
	module *module.Module
	err    error
}

// without is a NIC that has no module. Some drivers say so of an empty cage, too.
type without struct {
	link string // what was known of its link, of which a new module changes something
	at   time.Time
}

// linkOf is what a module changes of a link.
func linkOf(n *inventory.NIC) string {
	l := &n.Link
	return fmt.Sprint(l.Carrier != nil, l.Carrier != nil && *l.Carrier, l.Port, l.Supported)
}

func newBeside(a *Agent, options *Beside) *beside {
	if options == nil {
		return nil
	}
	return &beside{
		Beside: *options, agent: a, read: make(chan struct{}, 1),
		without: map[string]without{}, plugged: map[string]plugged{},
	}
}

// tell says that the facts were read.
func (b *beside) tell() {
	if b == nil {
		return
	}
	select {
	case b.read <- struct{}{}:
	default:
	}
}

// into adds to a snapshot what is known.
func (b *beside) into(s *metrics.Snapshot) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.VFs, s.XDP, s.Findings, s.Modules, s.History = b.known.vfs, b.known.xdp, b.known.findings, b.known.modules, b.known.history
	s.Reads = slices.Concat(s.Reads, b.known.reads)
	for name, kept := range map[string]bool{
		"history": b.History != nil, "module": b.Modules != nil, "findings": len(b.Groups) > 0,
		"sriov": b.VFs && len(b.Groups) == 0, "xdp": b.XDP && len(b.Groups) == 0,
	} {
		if kept && !slices.ContainsFunc(b.known.reads, func(r metrics.Read) bool { return r.Collector == name }) {
			s.Reads = append(s.Reads, metrics.Read{Collector: name}) // not read yet
		}
	}
}

// run keeps it until ctx ends.
func (b *beside) run(ctx context.Context) {
	tick := time.NewTicker(besideInterval)
	defer tick.Stop()
	for {
		select {
		case <-b.read:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !b.round(ctx) {
			continue
		}
		pause := time.NewTimer(b.Pause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// round reads what is due, and reports whether that was much: facts come before what is
// compared with policies, which must not wait for the pause after them.
func (b *beside) round(ctx context.Context) (much bool) {
	b.agent.mu.Lock()
	inv, drift, summaries := b.agent.facts.inventory, b.agent.facts.drift, b.agent.facts.summaries
	b.agent.mu.Unlock()
	if b.History != nil {
		_ = b.part(ctx, "history", b.readHistory) // it has said so
	}
	if inv == nil {
		return false
	}
	if b.Modules != nil {
		_ = b.ask(ctx, "module", func(ctx context.Context, r *metrics.Read) error { return b.readModules(ctx, inv, r) })
	}
	old := b.agent.options.Interval > 0 && time.Since(b.at) >= b.agent.options.Interval
	what := any(inv)
	if len(b.Wanted) > 0 && b.agent.options.Compare != nil {
		what = drift // which follows new facts, and is judged with them
		if drift == nil {
			return false
		}
	}
	if what == b.judged && !old {
		return false
	}
	b.judged, b.at = what, time.Now()
	var late error
	switch {
	case len(b.Groups) > 0:
		late = b.ask(ctx, "findings", func(ctx context.Context, _ *metrics.Read) error { return b.judge(ctx, inv, summaries) })
	case b.VFs:
		late = b.ask(ctx, "sriov", func(ctx context.Context, _ *metrics.Read) error {
			pfs := sriov.Read(sharing(ctx), b.agent.reader, inv).PFs
			err := b.cutShort(ctx)
			if err == nil { // else they lack what others have
				b.fileVFs(pfs)
			}
			return err
		})
	}
	if len(b.Groups) == 0 && b.XDP {
		late = errors.Join(late, b.ask(ctx, "xdp", func(ctx context.Context, _ *metrics.Read) error {
			extra := xdpcheck.Read(sharing(ctx), b.agent.reader, &inv.Host, inv.NICs)
			err := b.cutShort(ctx)
			if err == nil {
				b.fileXDP(xdpcheck.Of(&inv.Host, inv.NICs, inv.Unread, extra), inv.NICs)
			}
			return err
		}))
	}
	if errors.Is(late, context.DeadlineExceeded) {
		b.judged = nil // it is tried again
	}
	return true
}

// ask is part for what devices are asked for: it keeps its earlier answer while none of
// them can answer.
func (b *beside) ask(ctx context.Context, name string, f func(context.Context, *metrics.Read) error) error {
	return b.part(ctx, name, func(ctx context.Context, r *metrics.Read) error {
		if err := b.agent.sparing.held(ctx); err != nil {
			return err
		}
		return f(ctx, r)
	})
}

// part reads one part and notes how that went. One that fails, or takes too long,
// keeps its earlier answer.
func (b *beside) part(parent context.Context, name string, f func(context.Context, *metrics.Read) error) error {
	ctx, cancel := context.WithTimeout(parent, b.agent.options.Timeout)
	defer cancel()
	start := time.Now()
	var one metrics.Read
	err := f(ctx, &one)
	if parent.Err() != nil {
		return parent.Err() // it breaks off because the agent stops
	}
	if err != nil {
		b.agent.options.Failed(fmt.Errorf("%s: %w", name, err))
	}
	errs := one.Errors
	b.mu.Lock()
	defer b.mu.Unlock()
	reads := slices.Clone(b.known.reads)
	i := slices.IndexFunc(reads, func(r metrics.Read) bool { return r.Collector == name })
	if i < 0 {
		i, reads = len(reads), append(reads, metrics.Read{})
	}
	reads[i] = read(name, start, err, &reads[i])
	reads[i].Errors = errs
	b.known.reads = reads
	return err
}

// readHistory sums the history up.
func (b *beside) readHistory(context.Context, *metrics.Read) error {
	summary, err := b.History()
	if errors.Is(err, fs.ErrNotExist) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.known.history = nil
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known.history = &metrics.History{Summary: summary}
	return err
}

// readModules reads the modules of hardware, one after the other. A module that can't
// be read any more is no longer shown: what it measured then may be wrong now. Those
// for which there is no time left are the first of the next round.
func (b *beside) readModules(ctx context.Context, inv *inventory.Inventory, r *metrics.Read) error {
	r.Errors = map[inventory.Reason]int{}
	lacking, there := map[string]without{}, map[string]plugged{}
	failed := map[failure]bool{}
	read := make([]*module.Module, len(inv.NICs))
	first := max(0, slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Index >= b.next }))
	var late error
	for k := range inv.NICs {
		i := (first + k) % len(inv.NICs)
		n := &inv.NICs[i]
		// A VF, subfunction or representor has no cage.
		if n.Parent == nil || n.Function != inventory.PF && n.Function != inventory.Plain {
			continue
		}
		key := fmt.Sprintf("%s/%d/%s", n.Name, n.Index, n.ID())
		if known, ok := b.without[key]; ok && (late != nil || !b.askAgain(known, n)) {
			lacking[key] = known
			there[key] = b.plugged[key]
			continue
		}
		if late != nil {
			there[key] = plugged{nil, late}
			continue
		}
		begun := time.Now()
		one, cancel := context.WithTimeout(ctx, moduleTimeout)
		m, err := b.Modules.Read(one, b.agent.reader, *n)
		cancel()
		if ctx.Err() != nil {
			late = fmt.Errorf("reading the modules took longer than %s: %w", b.agent.options.Timeout, ctx.Err())
			there[key] = plugged{nil, late}
			b.next = n.Index
			if time.Since(begun) > moduleTimeout/2 { // it had its turn
				b.next++
			}
			continue
		}
		if err != nil {
			reason := kernel.ReasonOf(err)
			if reason == kernel.Unsupported && m == nil {
				lacking[key] = without{linkOf(n), begun}
			} else {
				r.Errors[reason]++
				b.tellModule(failed, n.Name, reason, err)
			}
		}
		there[key] = plugged{m, err}
		read[i] = m
	}
	all := &metrics.Modules{}
	for i, m := range read {
		if m != nil {
			all.Plugged = append(all.Plugged, metrics.Plugged{Device: inv.NICs[i].Name, Module: m})
		}
	}
	b.without, b.plugged, b.told = lacking, there, failed
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known.modules = all
	return late
}

// tellModule says why a module could not be read, once for as long as it can't.
func (b *beside) tellModule(now map[failure]bool, device string, reason inventory.Reason, err error) {
	one := failure{device: device, reason: reason}
	switch reason {
	case kernel.Gone:
		return
	case kernel.Denied:
		one.device = ""
		err = fmt.Errorf("modules are not read, which takes CAP_NET_ADMIN: %w", err)
	default:
		err = fmt.Errorf("%s: reading its module: %w", device, err)
	}
	b.agent.tellOnce(b.told, now, one, err)
}

// askAgain reports whether a NIC may have got a module since.
func (b *beside) askAgain(known without, n *inventory.NIC) bool {
	interval := b.agent.options.Interval
	return known.link != linkOf(n) || interval > 0 && time.Since(known.at) >= interval
}

// withModules are the facts together with the modules that were read.
func (b *beside) withModules(inv *inventory.Inventory) *inventory.Inventory {
	if len(b.plugged) == 0 {
		return inv // and no copy of thousands of software devices
	}
	whole := *inv
	whole.NICs = slices.Clone(inv.NICs)
	for i := range whole.NICs {
		n := &whole.NICs[i]
		p, ok := b.plugged[fmt.Sprintf("%s/%d/%s", n.Name, n.Index, n.ID())]
		if !ok {
			continue
		}
		n.Module = p.module
		if p.err != nil {
			n.Unread = append(slices.Clip(n.Unread), inventory.Unread{Fact: "module", Reason: kernel.ReasonOf(p.err), Detail: p.err.Error()})
		}
	}
	return &whole
}

// cutShort is why what was read up to now says less of the host than could be known: of
// devices that hang it says so, and of the others all.
func (b *beside) cutShort(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("it took longer than %s: %w", b.agent.options.Timeout, ctx.Err())
	}
	return b.agent.sparing.held(ctx)
}

// judge judges the host by what it is now and what it was at the judgement before.
func (b *beside) judge(ctx context.Context, inv *inventory.Inventory, drift []audit.DriftSummary) error {
	defer b.agent.heavy()()
	reader := b.agent.reader
	inv = b.withModules(inv)
	look := audit.Observe(sharing(ctx), reader, inv, b.Groups)
	evidence := audit.Since(sharing(ctx), reader, b.earlier, look, b.Groups)
	if err := b.cutShort(ctx); err != nil {
		// It says of things that they are unknown which are known.
		return fmt.Errorf("looking at the host: %w", err)
	}
	watched := evidence.Watched()
	// What is kept of the look shares its NICs with the facts, which are kept anyway: a
	// look's own copies differ by notes about counters, and are megabytes on a host
	// with thousands of devices.
	b.earlier = &audit.Look{Inventory: *inv, PFs: look.PFs, Counted: look.Counted}
	if b.VFs {
		b.fileVFs(evidence.PFs)
	}
	if b.XDP {
		b.fileXDP(evidence.XDPFacts(), evidence.NICs)
	}
	var wrong error
	if len(b.Wanted) > 0 {
		wants, _, err := policies.Resolve(b.Wanted, policies.HostOf(inv, b.Labels), inv.NICs)
		if err != nil {
			wrong = err
		}
		evidence.Want(wants)
		evidence.Drift = drift
	}
	result := &metrics.Findings{At: look.Counted.At, Watched: watched}
	// Some at a time: of a thousand NICs there are more than sixty thousand findings,
	// and most are of no more interest than their number.
	var some []findings.Finding
	obey := func() {
		if len(b.Checks) > 0 {
			var err error
			if some, err = audit.Obey(some, evidence, b.Checks, b.Labels, time.Now()); wrong == nil {
				wrong = err // the same can't be decided for the others
			}
		}
		result.Add(some)
		some = some[:0]
	}
	with := func(all []findings.Finding) {
		const many = 1000
		if some = append(some, all...); len(some) > many {
			obey()
		}
	}
	if len(b.Checks) > 0 {
		evidence.NoteWaivers(b.Checks, b.Labels, time.Now())
		for i := range evidence.Waivers {
			w := &evidence.Waivers[i]
			result.Waivers = append(result.Waivers, metrics.Waiver{Rule: w.Rule, Owner: w.Owner, Expires: w.Expires, Policy: w.Policy, Source: w.Source})
		}
	}
	audit.JudgeEach(evidence, append(b.Groups[:len(b.Groups):len(b.Groups)], audit.PolicyGroup()), with)
	with(audit.JudgeUserRules(evidence, b.Rules, b.Labels))
	obey()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known.findings = result
	return wrong
}

func (b *beside) fileVFs(pfs []sriov.PF) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known.vfs = &metrics.VFs{PFs: pfs}
}

// fileXDP judges what hardware can do with XDP, and is ready for. Of software devices
// the same could be said a thousand times.
func (b *beside) fileXDP(facts *xdpcheck.Facts, nics []inventory.NIC) {
	all := &metrics.XDP{}
	profiles := xdpcheck.Profiles()
	for i := range nics {
		if nics[i].Function == inventory.Virtual {
			continue
		}
		n, ok := facts.Named(nics[i].Name)
		if !ok {
			continue
		}
		one := metrics.XDPOf{Device: n.Name, Can: n.Capabilities(), Offloads: n.OffloadReport()}
		for _, p := range profiles {
			if ready := p.Judge(n).Ready; ready != "unknown" {
				one.Ready = append(one.Ready, metrics.XDPReady{Profile: p.Name, Ready: ready == "yes"})
			}
		}
		all.NICs = append(all.NICs, one)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known.xdp = all
}
