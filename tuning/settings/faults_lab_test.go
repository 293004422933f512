//go:build lab

package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// tenKnobs wants ten settings of one NIC and of the host. Fewer channels have the
// table that is there make way; coalesce, rss, rps and napi are late; irq, which
// nobody wants, is kept.
const tenKnobs = `sysctl: {netdev-budget: 600}
  netdev: {txqueuelen: 2000}
  multicast: {allmulti: on}
  channels: {combined: 2}
  rings: {rx: 512}
  coalesce: {rx-usecs: 50}
  features: {tso: off}
  rss: {weight: [3, 1]}
  rps: {cpus: "1"}
  napi: {defer-hard-irqs: 2}`

// chosen is an igb that is up, with a table, and CPUs of queues and interrupts,
// that somebody has chosen.
func chosen(t testing.TB) string {
	t.Helper()
	name := igb(t)[0]
	labtest.Ethtool(t, "-X", name, "default") // another can be in the way of fewer channels
	labtest.Ethtool(t, "-L", name, "combined", "4")
	labtest.Ethtool(t, "-X", name, "weight", "1", "2", "3", "4")
	write := func(path, value string) {
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	for file, value := range map[string]string{"rx-0/rps_cpus": "4", "tx-0/xps_cpus": "8", "tx-1/xps_cpus": "4"} {
		write("/sys/class/net/"+name+"/queues/"+file, value)
	}
	for vector, cpu := range map[string]string{"rx-0": "2", "tx-1": "3"} {
		found, err := filepath.Glob("/proc/irq/*/" + name + "-" + vector)
		if err != nil || len(found) != 1 {
			t.Fatalf("the interrupt of %s: %v %v", vector, found, err)
		}
		write(filepath.Dir(found[0])+"/smp_affinity_list", cpu)
	}
	return name
}

// whole is everything that the knobs see of the host and of all of its NICs, and
// what sysfs, ip and ethtool say of them, line by line. The NICs are called by
// their identity: a name may change.
func whole(t testing.TB, w kernel.Reader) []string {
	t.Helper()
	var lines []string
	add := func(nic *inventory.NIC, text string) {
		for line := range strings.Lines(text) {
			line = strings.ReplaceAll(strings.TrimSpace(line), nic.Name, "NIC")
			lines = append(lines, nic.ID()+" "+line)
		}
	}
	ofHost := map[string]any{}
	see(t, ofHost, Sysctl(), w, inventory.NIC{})
	b, err := json.Marshal(ofHost)
	if err != nil {
		t.Fatal(err)
	}
	lines = append(lines, "host "+string(b))
	judged := "" // the first igb, where it is not unplugged
	if igb := labtest.NICs(t, "igb", 1); len(igb) > 1 {
		judged = igb[0]
	}
	for _, nic := range nics(t, w) {
		if nic.Parent == nil {
			continue
		}
		seen := map[string]any{}
		see(t, seen, PrivateFlags(), w, nic)
		see(t, seen, Netdev(), w, nic)
		see(t, seen, Multicast(), w, nic)
		see(t, seen, Memberships(), w, nic)
		see(t, seen, Link(), w, nic)
		see(t, seen, FEC(), w, nic)
		see(t, seen, EEE(), w, nic)
		see(t, seen, Pause(), w, nic)
		see(t, seen, Channels(), w, nic)
		see(t, seen, Rings(), w, nic)
		see(t, seen, Coalesce(), w, nic)
		see(t, seen, CoalesceQueues(), w, nic)
		see(t, seen, Features(), w, nic)
		see(t, seen, RSS(), w, nic)
		see(t, seen, HashFields(), w, nic)
		see(t, seen, RSSContexts(), w, nic)
		see(t, seen, Flows(), w, nic)
		see(t, seen, IRQ(), w, nic)
		see(t, seen, RPS(), w, nic)
		see(t, seen, XPS(), w, nic)
		see(t, seen, NAPI(), w, nic)
		for name, state := range seen {
			b, err := json.Marshal(state)
			if err != nil {
				t.Fatal(err)
			}
			add(&nic, name+" "+string(b))
		}
		add(&nic, outside(t, nic, nic.Name == judged))
	}
	slices.Sort(lines)
	return lines
}

// passing are the words of ip about what comes and goes by itself.
var passing = regexp.MustCompile(`^\d+: |<[^>]*>|state \S+|qdisc \S+`)

// outside is what sysfs and procfs say of a NIC, and ip and ethtool of one that
// the plan is about.
func outside(t testing.TB, nic inventory.NIC, judged bool) string {
	t.Helper()
	var b strings.Builder
	dir := "/sys/class/net/" + nic.Name + "/"
	for _, pattern := range []string{
		"mtu", "flags", "tx_queue_len", "gro_flush_timeout", "napi_defer_hard_irqs", "threaded", "queues/*/*_cpus", "queues/*/rps_flow_cnt",
	} {
		files, err := filepath.Glob(dir + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, _ := os.ReadFile(file) // xps_cpus of a single queue can't be read
			fmt.Fprintln(&b, strings.TrimPrefix(file, dir), strings.TrimSpace(string(content)))
		}
	}
	vectors, err := filepath.Glob("/proc/irq/*/" + nic.Name + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, vector := range vectors {
		content, err := os.ReadFile(filepath.Dir(vector) + "/smp_affinity_list")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, filepath.Base(vector), strings.TrimSpace(string(content)))
	}
	if !judged {
		return b.String()
	}
	const script = `ip -d -o link show dev $0
		for option in -l -g -c -k -a -x --show-priv-flags; do ethtool $option $0; done`
	return b.String() + passing.ReplaceAllString(string(labtest.Run(t, "sh", "-c", script, nic.Name)), "")
}

// difference are the lines that only one of two states has.
func difference(before, after []string) string {
	var b strings.Builder
	for _, line := range before {
		if !slices.Contains(after, line) {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			fmt.Fprintf(&b, "+ %s\n", line)
		}
	}
	return b.String()
}

// A fault is what becomes of one write.
type fault func(ctx context.Context, write func() error) error

// refuses is a write that does not reach the kernel.
func refuses(err error) fault {
	return func(context.Context, func() error) error { return &kernel.Error{Op: "injected", Err: err} }
}

// lies is a write that takes effect, and says that it did not.
func lies(err error) fault {
	return func(_ context.Context, write func() error) error {
		return errors.Join(write(), &kernel.Error{Op: "injected", Err: err})
	}
}

// hangs is a write that does not come back before its deadline, whether or not it
// took effect.
func hangs(reaches bool) fault {
	return func(ctx context.Context, write func() error) (err error) {
		if reaches {
			err = write()
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second) // as internal/kernel has a deadline of its own
		defer cancel()
		<-ctx.Done()
		return errors.Join(err, &kernel.Error{Op: "injected", Err: ctx.Err()})
	}
}

// faultyWriter does to the n-th write what the fault says.
type faultyWriter struct {
	kernel.Writer
	writes, at int
	fault      fault
	ops        []string
}

func (w *faultyWriter) around(ctx context.Context, op string, write func() error) error {
	w.writes++
	w.ops = append(w.ops, op)
	if w.writes != w.at {
		return write()
	}
	return w.fault(ctx, write)
}

func (w *faultyWriter) NetlinkSet(ctx context.Context, req kernel.Request) error {
	write := func() error { return w.Writer.NetlinkSet(ctx, req) }
	if req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_NEWNEIGH { // asks a gateway whether it is there
		return write()
	}
	return w.around(ctx, req.String(), write)
}

func (w *faultyWriter) WriteFile(ctx context.Context, path string, data []byte) error {
	return w.around(ctx, path, func() error { return w.Writer.WriteFile(ctx, path, data) })
}

func (w *faultyWriter) EthtoolSet(ctx context.Context, device string, arg []byte) (out []byte, err error) {
	err = w.around(ctx, "ioctl", func() error {
		out, err = w.Writer.EthtoolSet(ctx, device, arg)
		return err
	})
	return out, err
}

// tenKnobsOf is the plan for a NIC, and how the host is before it and after.
func tenKnobsOf(t *testing.T, w *countingWriter, name string) (p *tuning.Plan, all []inventory.NIC, ops, before, planned []string) {
	t.Helper()
	all = nics(t, w)
	before = whole(t, w)
	p = plan(t, w, all, policyFor(name, tenKnobs))
	turns := map[tuning.Turn]int{}
	settings := map[string]bool{}
	for _, c := range p.Changes {
		turns[c.Turn]++
		settings[c.Setting] = true
	}
	if len(settings) < 10 || turns[tuning.MakingWay] == 0 || turns[tuning.Late] == 0 || turns[tuning.Kept] == 0 || p.Changes[0].NIC.Name != "host" {
		t.Fatalf("%d settings, turns %v: %+v", len(settings), turns, p.Changes)
	}
	counted := &faultyWriter{Writer: w.Writer}
	e := engine(t, counted, t.TempDir())
	done, err := e.Apply(t.Context(), p, all, allow)
	if err != nil {
		t.Fatal(err)
	}
	planned, ops = whole(t, w), counted.ops
	if len(ops) < 10 || len(difference(before, planned)) == 0 {
		t.Fatalf("only %d writes: %v", len(ops), ops)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Fatal(err)
	}
	if diff := difference(before, whole(t, w)); diff != "" {
		t.Fatalf("rolled back:\n%s", diff)
	}
	return p, all, ops, before, planned
}

// TestTenKnobsEachWriteFails has each write of a plan of ten knobs fail: in each way that
// the engine treats in a way of its own, and with -args -every in each.
//
//lab:seconds 90
func TestTenKnobsEachWriteFails(t *testing.T) {
	labtest.Require(t, "hub", "numa")
	w := live(t)
	name := chosen(t)
	p, all, ops, before, planned := tenKnobsOf(t, w, name)
	began := time.Now()
	cases, undone, applied := 0, 0, 0
	try := func(how string, unsupported bool, f func(n int) fault) {
		for n, op := range ops {
			faulty := &faultyWriter{Writer: w.Writer, at: n + 1, fault: f(n)}
			e := engine(t, faulty, t.TempDir())
			var turn tuning.Turn // of the change whose write is struck
			e.Progress = func(c tuning.Change, s tuning.State) {
				if s == tuning.Writing && faulty.writes <= n {
					turn = c.Turn
				}
			}
			_, err := e.Apply(t.Context(), p, all, allow)
			var failure *tuning.ApplyError
			// Of what makes way, or is kept, "unsupported" is not believed at once.
			forgiven := unsupported && (turn == tuning.MakingWay || turn == tuning.Kept)
			switch {
			case (err == nil) != forgiven:
				t.Errorf("%s, write %d (%s, %q): %v", how, n+1, op, turn, err)
			case err == nil:
				applied++
				if diff := difference(planned, whole(t, w)); diff != "" {
					t.Errorf("%s, write %d (%s): applied without an error:\n%s", how, n+1, op, diff)
				}
				if _, err := e.Rollback(t.Context(), 1, all, allow, false); err != nil {
					t.Errorf("%s, write %d (%s): rollback: %v", how, n+1, op, err)
				}
			case !errors.As(err, &failure) || len(failure.Left) > 0:
				t.Errorf("%s, write %d (%s): %v", how, n+1, op, err)
			default:
				undone++
			}
			if diff := difference(before, whole(t, w)); diff != "" {
				t.Fatalf("%s, write %d (%s): %v\n%s", how, n+1, op, err, diff)
			}
			cases++
		}
		t.Logf("%s, at each of %d writes: %v", how, len(ops), time.Since(began))
	}
	// Two machines share the faults. Those that the engine treats alike take turns.
	inTurn := func(how string, faults ...fault) {
		if *every {
			for i, f := range faults {
				try(fmt.Sprintf("%s (%d of %d)", how, i+1, len(faults)), false, func(int) fault { return f })
			}
			return
		}
		try(how+" in turn", false, func(n int) fault { return faults[n%len(faults)] })
	}
	if labtest.Profile() == "hub" {
		try("EOPNOTSUPP", true, func(int) fault { return refuses(syscall.EOPNOTSUPP) })
		inTurn("EBUSY, EIO, ENODEV", refuses(syscall.EBUSY), refuses(syscall.EIO), refuses(syscall.ENODEV))
		try("a hang", false, func(int) fault { return hangs(false) })
	} else {
		try("EOPNOTSUPP, though it took effect", true, func(int) fault { return lies(syscall.EOPNOTSUPP) })
		inTurn("a hang, EBUSY, EIO, ENODEV, though it took effect", hangs(true), lies(syscall.EBUSY), lies(syscall.EIO), lies(syscall.ENODEV))
	}
	t.Logf("%d of %d faults: %d undone to the state before, %d applied to the state planned", undone+applied, cases, undone, applied)
}

// TestTenKnobsKilled kills -9 the process after each write; with -args -every before each,
// too.
//
//lab:seconds 45
func TestTenKnobsKilled(t *testing.T) {
	labtest.Require(t, "hub")
	w := live(t)
	name := chosen(t)
	p, all, ops, before, _ := tenKnobsOf(t, w, name)
	step := 2 // the even ones
	if *every {
		step = 1
	}
	cases := 0
	for at := step; at <= 2*len(ops); at += step {
		dir := t.TempDir()
		if !killed(t, dir, at, errand{p, all, allow}) {
			t.Fatalf("point %d (%s): the process was not killed", at, ops[(at-1)/2])
		}
		done, err := engine(t, w, dir).Recover(t.Context(), all)
		if err != nil || len(done) != 1 || done[0].Outcome != tuning.Undone {
			t.Fatalf("point %d (%s): %+v %v", at, ops[(at-1)/2], done, err)
		}
		if diff := difference(before, whole(t, w)); diff != "" {
			t.Fatalf("point %d (%s):\n%s", at, ops[(at-1)/2], diff)
		}
		cases++
	}
	t.Logf("%d of %d kills recovered to the state before, at %d writes", cases, cases, len(ops))
}

var hashKey = regexp.MustCompile(`"key":"[^"]*",|([0-9a-f]{2}:){39}[0-9a-f]{2}`)

// TestTenKnobsUntilPowerCut ends what the boot before left unfinished, and is cut
// off at one write of the plan.
func TestTenKnobsUntilPowerCut(t *testing.T) {
	at, err := strconv.Atoi(os.Getenv(cutAt))
	if err != nil {
		return // not started by TestTenKnobsPowerCut
	}
	const persistent = "/persist/"
	w := live(t)
	labtest.NICs(t, "igb", 2)
	all := nics(t, w)
	look := func() []string { // drivers choose a key for each boot by chance
		lines := whole(t, w)
		for i := range lines {
			lines[i] = hashKey.ReplaceAllString(lines[i], "")
		}
		return lines
	}
	now := look()
	fresh, err := os.ReadFile(persistent + "fresh.json")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if fresh, err = json.Marshal(now); err == nil {
			err = os.WriteFile(persistent+"fresh.json", fresh, 0o600)
			syscall.Sync()
		}
		if err != nil {
			t.Fatal(err)
		}
	case err != nil:
		t.Fatal(err)
	}
	var atBoot []string
	if err := json.Unmarshal(fresh, &atBoot); err != nil {
		t.Fatal(err)
	}
	if diff := difference(atBoot, now); diff != "" {
		t.Fatalf("a boot is not as the first was:\n%s", diff)
	}
	e := engine(t, w, persistent+"state")
	past, err := tuning.History(persistent + "state")
	if err != nil {
		t.Fatal(err)
	}
	done, err := e.Recover(t.Context(), all)
	if err != nil || len(past) > 0 && (len(done) != 1 || done[0].Outcome != tuning.Undone) {
		t.Fatalf("recovery: %+v, %v", done, err)
	}
	if diff := difference(atBoot, look()); diff != "" {
		t.Fatalf("recovered, and not as after a boot:\n%s", diff)
	}
	if past, err = tuning.History(persistent + "state"); err != nil || slices.ContainsFunc(past, func(t tuning.Transaction) bool { return t.Outcome != tuning.Undone }) {
		t.Fatalf("history: %+v, %v", past, err)
	}

	name := chosen(t)
	all = nics(t, w)
	faulty := &faultyWriter{Writer: w.Writer, at: at, fault: func(_ context.Context, write func() error) error {
		err := write()
		labtest.PowerCut(t)
		return err
	}}
	e.Writer = faulty
	if _, err := e.Apply(t.Context(), plan(t, w, all, policyFor(name, tenKnobs)), all, allow); err != nil {
		t.Fatal(err)
	}
	t.Logf("the plan took %d writes", faulty.writes)
}

// fields has a line for each field of a line that ends in several: of a setting one
// field may be as before and another as the driver makes it.
func fields(lines []string) (single []string) {
	for _, line := range lines {
		at := strings.Index(line, "{")
		state := map[string]any{}
		if at < 0 || json.Unmarshal([]byte(line[at:]), &state) != nil {
			single = append(single, line)
			continue
		}
		for field, value := range state {
			single = append(single, fmt.Sprint(line[:at], field, "=", value))
		}
	}
	slices.Sort(single)
	return slices.Compact(single)
}

// TestTenKnobsUnplugged takes the card away at each write, as a hot-plug slot
// does, and gives it back. Two machines share the writes; with -args -every both take
// all of them.
//
//lab:seconds 60
func TestTenKnobsUnplugged(t *testing.T) {
	labtest.Require(t, "nics", "numa")
	w := live(t)
	var ops []string
	take := func() {
		device, err := filepath.EvalSymlinks("/sys/class/net/" + labtest.NIC(t, "igb") + "/device")
		if err == nil {
			err = os.WriteFile(device+"/remove", []byte("1"), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	give := func() []inventory.NIC {
		if err := os.WriteFile("/sys/bus/pci/rescan", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		labtest.NICs(t, "igb", 2)
		return nics(t, w)
	}
	take()
	give()
	fresh := whole(t, w)
	left := 0
	first, step := 1, 2
	if labtest.Profile() == "numa" {
		first = 2
	}
	if *every {
		first, step = 1, 1
	}
	taken := 0
	for at := first; at == first || at <= len(ops); at += step {
		name := chosen(t)
		all := nics(t, w)
		if at == first {
			_, _, ops, _, _ = tenKnobsOf(t, w, name)
		}
		taken++
		before := whole(t, w)
		faulty := &faultyWriter{Writer: w.Writer, at: at, fault: func(_ context.Context, write func() error) error {
			take()
			return write()
		}}
		e := engine(t, faulty, t.TempDir())
		_, err := e.Apply(t.Context(), plan(t, w, all, policyFor(name, tenKnobs)), all, allow)
		var failure *tuning.ApplyError
		if kernel.ReasonOf(err) != kernel.Gone || !errors.As(err, &failure) || !strings.Contains(err.Error(), name) {
			t.Errorf("write %d (%s): %v", at, ops[at-1], err)
		}
		if failure != nil && len(failure.Left) > 0 {
			left++
			if _, err := e.Recover(t.Context(), nics(t, w)); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "is gone") {
				t.Errorf("write %d (%s): recovery without the card: %v", at, ops[at-1], err)
			}
		}
		// The rest of the host is unharmed, without the card and with it. What is on
		// that is what it came with, and where nobody knows what the write had done,
		// what there was before.
		good := fields(slices.Concat(fresh, before))
		if diff := difference(fields(whole(t, w)), good); strings.HasPrefix(diff, "- ") {
			t.Fatalf("write %d (%s), without the card:\n%s", at, ops[at-1], diff)
		}
		done, err := e.Recover(t.Context(), give())
		if err != nil || len(done) > 0 && done[0].Outcome != tuning.Undone {
			t.Errorf("write %d (%s): recovery: %+v, %v", at, ops[at-1], done, err)
		}
		if diff := difference(fields(whole(t, w)), good); strings.HasPrefix(diff, "- ") {
			t.Fatalf("write %d (%s), with the card:\n%s", at, ops[at-1], diff)
		}
	}
	t.Logf("the card was taken at %d of %d writes; %d transactions waited for it", taken, len(ops), left)
}
