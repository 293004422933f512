package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/exporters/metrics"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// recordedHost is a host with VFs, as it was recorded in the lab. It counts what it
// is asked about modules, and can be made to hang.
type recordedHost struct {
	kernel.Reader
	modules atomic.Int32
	hangs   atomic.Bool
}

func recorded(t *testing.T, file string) *recordedHost {
	t.Helper()
	data, err := os.ReadFile("../cmd/nictune/testdata/hosts/" + file)
	if err != nil {
		t.Fatal(err)
	}
	replay, err := kernel.ParseRecording(data)
	if err != nil {
		t.Fatal(err)
	}
	return &recordedHost{Reader: replay}
}

func (h *recordedHost) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	if binary.NativeEndian.Uint32(arg) == uapi.ETHTOOL_GMODULEINFO {
		return nil, &kernel.Error{Op: "SIOCETHTOOL GMODULEINFO", Err: syscall.EOPNOTSUPP}
	}
	return h.Reader.Ethtool(ctx, device, arg)
}

func (h *recordedHost) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if r.Family == kernel.FamilyEthtool && r.Command == uapi.ETHTOOL_MSG_MODULE_EEPROM_GET {
		h.modules.Add(1)
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Err: syscall.EOPNOTSUPP}
	}
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Reader.Netlink(ctx, r)
}

// kept is an agent that knows the host's facts, with what it keeps beside them read
// once for each call of round.
func kept(t *testing.T, host kernel.Reader, options Beside) *Agent {
	t.Helper()
	a := New(host, Options{Beside: &options, Timeout: 30 * time.Second, Interval: time.Hour, Failed: func(err error) { t.Log(err) }})
	inv, err := inventory.Read(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	a.facts.inventory = inv
	a.beside.round(t.Context())
	return a
}

func read1(s metrics.Snapshot, part string) *metrics.Read {
	if i := slices.IndexFunc(s.Reads, func(r metrics.Read) bool { return r.Collector == part }); i >= 0 {
		return &s.Reads[i]
	}
	return nil
}

func (a *Agent) shown() metrics.Snapshot {
	var s metrics.Snapshot
	a.beside.into(&s)
	return s
}

func TestBesideAHostWithVFs(t *testing.T) {
	host := recorded(t, "lab-vfs.txtar")
	a := kept(t, host, Beside{Groups: audit.Groups(), VFs: true, XDP: true, Modules: inventory.NewModules()})
	s := a.shown()
	if s.Findings == nil || s.VFs == nil || s.XDP == nil || s.Modules == nil || s.History != nil {
		t.Fatalf("%+v", s)
	}
	// It is what nictune check says.
	evidence, err := audit.Gather(t.Context(), host, audit.Groups(), 0, inventory.NewModules())
	if err != nil {
		t.Fatal(err)
	}
	want := metrics.Findings{}
	want.Add(audit.Judge(evidence, audit.Groups()))
	for rule, n := range want.Counts {
		// Nobody asks VFs for modules: they have no cage.
		if s.Findings.Counts[rule] != n {
			t.Errorf("%+v: %d, nictune check has %d", rule, s.Findings.Counts[rule], n)
		}
	}
	if len(s.Findings.Open) != len(want.Open) {
		t.Errorf("%d open findings, nictune check has %d", len(s.Findings.Open), len(want.Open))
	}
	vfs := 0
	for _, pf := range s.VFs.PFs {
		vfs += len(pf.VFs)
	}
	if vfs == 0 {
		t.Errorf("no VFs: %+v", s.VFs)
	}
	for _, n := range s.XDP.NICs {
		if n.Device == "" || n.Can.Native.Answer == "" || n.Offloads == nil {
			t.Errorf("%+v", n)
		}
	}
}

// The same facts are not judged again before they are old, and what then hangs keeps
// the earlier answer.
func TestBesideKeepsWhatItKnew(t *testing.T) {
	host := recorded(t, "lab-nics.txtar")
	a := kept(t, host, Beside{Groups: audit.Groups(), VFs: true})
	first := a.shown()
	a.beside.round(t.Context())
	if again := a.shown(); again.Findings != first.Findings {
		t.Error("the same facts were judged twice")
	}
	inv := *a.facts.inventory
	a.facts.inventory = &inv
	host.hangs.Store(true)
	a.options.Timeout = 50 * time.Millisecond
	a.beside.round(t.Context())
	s := a.shown()
	if s.Findings != first.Findings || s.VFs != first.VFs || read1(s, "findings").Success {
		t.Errorf("after a look that took too long: %+v", s.Reads)
	}
	host.hangs.Store(false)
	a.options.Timeout = 30 * time.Second
	eventually(t, "another judgement", func() bool { // the call that hung comes back
		a.beside.round(t.Context())
		s = a.shown()
		return s.Findings != first.Findings && read1(s, "findings").Success
	})
	if s.Findings.Watched == 0 {
		t.Error("it was not judged against the look before")
	}
}

// Waivers and severities of policies count, and users' own rules.
func TestBesideObeysPolicies(t *testing.T) {
	documents, err := policies.ParseDocuments("checks.yaml", []byte(`
apiVersion: nictune/v1
kind: CheckPolicy
name: lab
match: {}
rules: {link/*: "off"}
waivers:
  - {rule: user/mtu, reason: "the lab has no jumbo frames", owner: netops, expires: 2199-12-31}
---
apiVersion: nictune/v1
kind: RulePolicy
name: own
match: {driver: igb}
rules:
  user/mtu: {severity: critical, title: small frames, expect: "nic.link.mtu >= 9000", why: "Jumbo frames cost the CPU less.", remedy: "Raise the MTU."}
`))
	if err != nil {
		t.Fatal(err)
	}
	known := policies.RuleIDs(documents.Rules)
	for _, r := range audit.Rules() {
		known = append(known, r.ID)
	}
	if err := policies.BindChecks(documents.Checks, known); err != nil {
		t.Fatal(err)
	}
	a := kept(t, recorded(t, "lab-nics.txtar"), Beside{Groups: audit.Groups(), Rules: documents.Rules, Checks: documents.Checks})
	waived := 0
	for rule, n := range a.shown().Findings.Counts {
		group, status := findings.About{ID: rule.Rule}.Group(), rule.Status
		switch {
		case group == "link" && status != findings.NotApplicable:
			t.Errorf("%+v is off, and %d", rule, n)
		case rule.Rule == "user/mtu" && status == findings.Waived:
			waived = n
		case rule.Rule == "user/mtu" && status == findings.Fail:
			t.Errorf("%d fail in spite of the waiver", n)
		}
	}
	if waived == 0 {
		t.Errorf("nothing is waived: %+v", a.shown().Findings.Counts)
	}
}

// Facts are known before they are compared with policies: the judging that waits for that
// doesn't wait for the pause as well, which is for what follows it.
func TestJudgingFollowsTheComparison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := recorded(t, "lab-nics.txtar")
		a := New(host, Options{
			Timeout: 30 * time.Second, Failed: func(err error) { t.Log(err) },
			Compare: func(context.Context, *inventory.Inventory) (*Comparison, error) { return nil, nil }, // asked for by nobody here
			Beside:  &Beside{Groups: audit.Groups(), Wanted: []policies.Policy{{}}, Pause: time.Hour},
		})
		inv, err := inventory.Read(t.Context(), host)
		if err != nil {
			t.Fatal(err)
		}
		go a.beside.run(t.Context())
		a.keep(inv)
		synctest.Wait()
		if a.shown().Findings != nil {
			t.Fatal("it was judged without what policies want")
		}
		judged := func() time.Time {
			a.mu.Lock()
			a.facts.drift = &metrics.Drift{}
			a.mu.Unlock()
			a.beside.tell()
			synctest.Wait()
			if f := a.shown().Findings; f != nil {
				return f.At
			}
			return time.Time{}
		}
		first := judged()
		if first.IsZero() {
			t.Fatal("the comparison is there, and nothing was judged")
		}
		time.Sleep(time.Minute)
		if again := judged(); again != first {
			t.Error("it was judged again within the pause")
		}
	})
}

// A NIC that can't have a module is asked once.
func TestModulesAreAskedForOnce(t *testing.T) {
	host := recorded(t, "lab-nics.txtar")
	a := kept(t, host, Beside{Modules: inventory.NewModules()})
	asked := host.modules.Load()
	if asked == 0 {
		t.Fatal("nobody asked")
	}
	a.beside.round(t.Context())
	if again := host.modules.Load(); again != asked {
		t.Errorf("asked %d times, then %d times more", asked, again-asked)
	}
	if s := a.shown(); !read1(s, "module").Success || len(s.Modules.Plugged) != 0 {
		t.Errorf("%+v", s)
	}
}

func TestBesideTheHistory(t *testing.T) {
	var mu sync.Mutex
	var summary tuning.Summary
	err := fs.ErrNotExist
	host := newSilent(t)
	a := New(host, Options{Timeout: time.Second, Failed: func(error) {}, Beside: &Beside{History: func() (tuning.Summary, error) {
		mu.Lock()
		defer mu.Unlock()
		return summary, err
	}}})
	a.beside.round(t.Context())
	if s := a.shown(); s.History != nil || !read1(s, "history").Success {
		t.Errorf("nothing was ever applied: %+v", s)
	}
	summary, err = tuning.Summary{Ended: map[tuning.Outcome]int{tuning.Applied: 2}, Damaged: 1}, errors.New("000003.journal is damaged")
	a.beside.round(t.Context())
	if s := a.shown(); s.History == nil || s.History.Ended[tuning.Applied] != 2 || read1(s, "history").Success {
		t.Errorf("one journal is damaged: %+v", s)
	}
}

// On a running host findings follow changes.
func TestFindingsFollowChanges(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "here0", "type veth peer name there0")
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	changes, err := Watch(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	a := start(t, live, Options{
		Changes: changes, Timeout: time.Minute, Failed: func(err error) { t.Log(err) },
		Beside: &Beside{Groups: audit.Groups(), VFs: true, XDP: true, Modules: inventory.NewModules()},
	})
	judged := func() int {
		total := 0
		if f := a.Snapshot(metrics.Asked{}).Findings; f != nil {
			for rule, n := range f.Counts {
				if rule.Rule == "pcie/link-degraded" { // which is said of every device
					total += n
				}
			}
		}
		return total
	}
	eventually(t, "the first judgement", func() bool { return a.Snapshot(metrics.Asked{}).Findings != nil })
	before := judged()
	nstest.Link(t, "here1", "type veth peer name there1")
	eventually(t, "the new devices to be judged", func() bool {
		return judged() >= before+2
	})
}

// Who hears of heavy work hears of its end, too.
func TestHeavyWorkIsToldOf(t *testing.T) {
	var begun, done int
	a := New(recorded(t, "lab-vfs.txtar"), Options{
		Timeout: 30 * time.Second, Failed: func(err error) { t.Error(err) },
		Beside: &Beside{Groups: audit.Groups()},
		Compare: func(context.Context, *inventory.Inventory) (*Comparison, error) {
			if begun != done+1 {
				t.Errorf("%d were begun and %d done when the host is compared", begun, done)
			}
			return &Comparison{Drift: &metrics.Drift{}}, nil
		},
		Heavy: func() func() { begun++; return func() { done++ } },
	})
	if err := a.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if begun != 3 || done != 3 {
		t.Errorf("%d were begun and %d done, want 3: reading, comparing, judging", begun, done)
	}
}
