//go:build lab

package settings

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

const igbPolicy = `apiVersion: nictune/v1
kind: TuningPolicy
name: igb
match: {driver: [igb]}
settings:
  rings: {rx: max, tx: 2048}
  features:
    tso: off
    rx-all: on
  channels: {combined: 2}
`

// igb are the names of two igb, of which the first is up: a reset of that one
// takes a second and drops its link. Both are put back when the test ends.
func igb(t testing.TB) []string {
	t.Helper()
	names := labtest.NICs(t, "igb", 2)
	for _, name := range names { // QEMU's router would become a way out, and be looked after
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Run(t, "ip", "link", "set", names[0], "up")
	labtest.Eventually(t, "carrier of "+names[0], func() bool {
		b, err := os.ReadFile("/sys/class/net/" + names[0] + "/carrier")
		return err == nil && string(b) == "1\n"
	})
	return names
}

// igbWrites is what igbPolicy takes from tablesOf: three settings of each of the
// two, and on the first the table that makes way, and is spread anew. How many it
// takes of a machine as it comes hangs on which of them was up before: igb fills in
// its table when it is brought up for the first time, and until then it names queue 0
// only, which stays.
const igbWrites = 8

// tablesOf spreads the table of the first over all queues, as the kernel does, and
// that of the second, which is down, over the two that will stay.
func tablesOf(t testing.TB, names []string) {
	t.Helper()
	labtest.Ethtool(t, "-X", names[0], "default")
	labtest.Run(t, "ip", "link", "set", names[1], "down")
	labtest.Ethtool(t, "-X", names[1], "equal", "2")
	t.Cleanup(func() {
		for _, name := range labtest.NICs(t, "igb", 2) {
			labtest.Ethtool(t, "-X", name, "default")
		}
	})
}

// ethtoolSees compares with what ethtool prints.
func ethtoolSees(t *testing.T, name string, applied bool) {
	t.Helper()
	rings, channels, features := "RX: 256 RX Mini: n/a RX Jumbo: n/a TX: 256", "Combined: 4",
		[]string{"tx-tcp-segmentation: on", "tx-tcp6-segmentation: on", "rx-all: off"}
	if applied {
		rings, channels, features = "RX: 4096 RX Mini: n/a RX Jumbo: n/a TX: 2048", "Combined: 2",
			[]string{"tx-tcp-segmentation: off", "tx-tcp6-segmentation: off", "rx-all: on"}
	}
	current := func(option string) string {
		_, s, _ := strings.Cut(string(labtest.Ethtool(t, option, name)), "Current hardware settings:")
		return strings.Join(strings.Fields(s), " ")
	}
	if got := current("-g"); !strings.HasPrefix(got, rings) {
		t.Errorf("%s: rings %s, want %s", name, got, rings)
	}
	if got := current("-l"); !strings.HasSuffix(got, channels) {
		t.Errorf("%s: channels %s, want %s", name, got, channels)
	}
	shown := string(labtest.Ethtool(t, "-k", name))
	for _, f := range features {
		if !strings.Contains(shown, f+"\n") {
			t.Errorf("%s lacks %q:\n%s", name, f, shown)
		}
	}
}

func TestIGB(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	tablesOf(t, names)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, names...)
	e := engine(t, w, t.TempDir())
	p := plan(t, w, all, igbPolicy)
	direct := 0
	for _, c := range p.Changes {
		if c.Turn == tuning.Direct {
			direct++
		}
	}
	if direct != 6 || p.Impact() != tuning.NICReset {
		t.Fatalf("plan %+v", p)
	}
	if _, err := e.Apply(t.Context(), p, all, tuning.Request{}); !errors.Is(err, tuning.ErrRefused) || w.writes != 0 {
		t.Errorf("without --allow: %v, %d writes", err, w.writes)
	}
	done, err := e.Apply(t.Context(), p, all, allow)
	if err != nil {
		t.Fatal(err)
	}
	writes := w.writes
	if writes != igbWrites {
		t.Errorf("%d writes, want %d", writes, igbWrites)
	}
	ethtoolSees(t, names[0], true)
	ethtoolSees(t, names[1], true)

	again := plan(t, w, all, igbPolicy)
	if _, err := e.Apply(t.Context(), again, all, allow); err != nil || len(again.Changes) != 0 || w.writes != writes {
		t.Errorf("a second apply: %v, %d changes, %d writes in all", err, len(again.Changes), w.writes)
	}

	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}
	ethtoolSees(t, names[0], false)
	if after := state(t, w, all, names...); after != before {
		t.Errorf("after the rollback:\n%s\nbefore:\n%s", after, before)
	}
}

// A size that the driver rounds is planned, and holds, as the driver rounds it.
func TestIGBRounds(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	w := live(t)
	all := nics(t, w)
	document := policyFor(name, "rings: {rx: 1001}")
	p := plan(t, w, all, document)
	var text strings.Builder
	if err := p.WriteText(&text); err != nil || !strings.Contains(text.String(), "256  ->  1008 (asked for 1001)") {
		t.Errorf("%v:\n%s", err, text.String())
	}
	e := engine(t, w, t.TempDir())
	done, err := e.Apply(t.Context(), p, all, disrupting(name))
	if err != nil {
		t.Fatal(err)
	}
	if shown := string(labtest.Ethtool(t, "-g", name)); !strings.Contains(shown, "1008") {
		t.Errorf("ethtool -g: %s", shown)
	}
	if again := plan(t, w, all, document); len(again.Changes) > 0 {
		t.Errorf("a second plan: %+v", again.Changes)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, disrupting(name), false); err != nil {
		t.Error(err)
	}
}

// What only the driver knows to refuse is undone, with the driver's words.
func TestIGBRefuses(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	for name, test := range map[string]struct {
		from, to string
		want     []string
	}{
		"with a sentence": {"tx: 2048", "tx-push: on", []string{
			"rings: ", "tx-push off -> on (test.yaml:6)", "ethtool RINGS_SET: operation not supported (kernel: setting tx push not supported)"}},
		"with an errno": {"combined: 2", "combined: 2, other: 0", []string{
			"channels: combined 4 -> 2 (test.yaml:10), other 1 -> 0 (test.yaml:10): ethtool CHANNELS_SET: invalid argument"}},
		"by rounding up to its least": {"rx: max", "rx: 8", []string{
			"rings: rx 256 -> 8 (test.yaml:6)", "rx reads back as "}},
	} {
		t.Run(name, func(t *testing.T) {
			w := live(t)
			all := nics(t, w)
			before := state(t, w, all, names...)
			_, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, strings.Replace(igbPolicy, test.from, test.to, 1)), all, allow)
			var failure *tuning.ApplyError
			if !errors.As(err, &failure) || len(failure.Left) > 0 {
				t.Fatalf("error %v", err)
			}
			for _, part := range append(test.want, "transaction 1 was undone") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error lacks %q: %v", part, err)
				}
			}
			if after := state(t, w, all, names...); after != before {
				t.Errorf("after the undo:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// TestIGBEachWriteFails keeps each of the writes from the driver. Only one refusal is
// no failure: of what makes way, or is kept, as unsupported. A driver that is busy
// says that, too, so it is tried again, and then the whole plan holds.
// (TestTenKnobsEachWriteFails has each of these writes fail in each way.)
//
//lab:seconds 20
func TestIGBEachWriteFails(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	tablesOf(t, names)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, names...)
	e := engine(t, w, t.TempDir())
	var turn tuning.Turn // of the change that is being made
	e.Progress = func(c tuning.Change, s tuning.State) {
		if s == tuning.Writing {
			turn = c.Turn
		}
	}
	undone, again := 0, 0
	errnos := []syscall.Errno{syscall.EBUSY, syscall.EOPNOTSUPP, syscall.EIO, syscall.ENODEV}
	for n := 1; n <= igbWrites; n++ {
		errno, forgiven := errnos[n%len(errnos)], false
		w.writes = 0
		w.fail = func(i int) error {
			if i == n {
				if forgiven = turn == tuning.MakingWay || turn == tuning.Kept; forgiven {
					errno = syscall.EOPNOTSUPP
				}
				return errno
			}
			return nil
		}
		done, err := e.Apply(t.Context(), plan(t, w, all, igbPolicy), all, allow)
		w.fail = nil
		switch {
		case forgiven && err == nil:
			again++
			if w.writes != igbWrites+1 {
				t.Errorf("write %d: %d writes, want the %d and one again", n, w.writes, igbWrites)
			}
			if left := plan(t, w, all, igbPolicy); len(left.Changes) > 0 {
				t.Errorf("write %d: a second plan: %+v", n, left.Changes)
			}
			if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
				t.Fatal(err)
			}
		case forgiven || !errors.Is(err, errno):
			t.Errorf("%v at write %d: %v", errno, n, err)
		default:
			undone++
		}
		if after := state(t, w, all, names...); after != before {
			t.Fatalf("%v at write %d:\n%s\nbefore:\n%s", errno, n, after, before)
		}
	}
	t.Logf("%d failures undone, %d refusals tried again, of %d", undone, again, igbWrites)
	// One write makes way, and one keeps.
	if undone != igbWrites-2 || again != 2 {
		t.Errorf("%d undone, %d tried again, want %d and 2", undone, again, igbWrites-2)
	}
}

// TestIGBKilled kills -9 an apply before and after each of its writes, has the
// NICs renamed behind its back, and starts again.
//
//lab:seconds 25
func TestIGBKilled(t *testing.T) {
	labtest.Require(t, "nics")
	names := igb(t)
	w := live(t)
	all := nics(t, w)
	tablesOf(t, names)
	before := state(t, w, all, names...)
	points := 0
	cases := killedEverywhere(t, w, func() (string, errand) {
		if points++; points == 4 { // names are labels
			labtest.Run(t, "ip", "link", "set", names[1], "name", "renamed0")
			names[1] = "renamed0"
			all = nics(t, w)
		}
		return t.TempDir(), errand{plan(t, w, all, igbPolicy), all, allow}
	}, func() string { return state(t, w, all, names...) })
	t.Logf("%d of %d kills recovered to the state before", cases, cases)
	want := igbWrites
	if *every {
		want *= 2
	}
	if cases != want {
		t.Errorf("%d kills, want %d for %d writes", cases, want, igbWrites)
	}

	// Leave the machine as it was.
	restore := strings.NewReplacer("rx: max, tx: 2048", "rx: 256, tx: 256", "tso: off", "tx-tcp-segmentation: on\n    tx-tcp6-segmentation: on",
		"rx-all: on", "rx-all: off", "combined: 2", "combined: 4").Replace(igbPolicy)
	if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), plan(t, w, all, restore), all, allow); err != nil {
		t.Error(err)
	}
	if got := state(t, w, all, names...); got != before {
		t.Errorf("back by a policy:\n%s\nbefore:\n%s", got, before)
	}
}

// TestIGBWithVFs: with VFs igb has 2 channels at most, and a plan knows it before
// anything is written.
func TestIGBWithVFs(t *testing.T) {
	labtest.Require(t, "nics")
	name := igb(t)[0]
	file := "/sys/class/net/" + name + "/device/sriov_numvfs"
	vfs := func(n string) {
		if err := os.WriteFile(file, []byte(n), 0); err != nil {
			t.Fatal(err)
		}
	}
	w := live(t)
	document := policyFor(name, "rings: {rx: 512}\n  channels: {combined: 8}")
	before := nics(t, w)
	early := plan(t, w, before, document)
	vfs("2")
	t.Cleanup(func() {
		vfs("0")
		labtest.Ethtool(t, "-L", name, "combined", "4")
	})
	labtest.NICs(t, "igbvf", 2)
	all := nics(t, w)
	maximum, _, _ := strings.Cut(string(labtest.Ethtool(t, "-l", name)), "Current hardware settings:")
	if !strings.HasSuffix(strings.Join(strings.Fields(maximum), " "), "Combined: 2") {
		t.Errorf("ethtool -l: %s", maximum)
	}
	_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, document), nil)
	const want = "test.yaml:7: " // and the name
	if err == nil || !strings.HasPrefix(err.Error(), want) ||
		!strings.Contains(err.Error(), "channels.combined: 8: the device takes 2 at most: igb has no more for itself while VFs exist, and sriov_numvfs is 2;") {
		t.Errorf("the plan: %v", err)
	}
	for _, fits := range []string{"channels: {combined: max}", "channels: {combined: 2}"} {
		if p := plan(t, w, all, policyFor(name, fits)); len(p.Changes) > 0 {
			t.Errorf("%s: %+v", fits, p.Changes)
		}
	}
	// One from before the VFs fits no more.
	if _, err := engine(t, w, t.TempDir()).Apply(t.Context(), early, all, allow); !errors.Is(err, tuning.ErrRefused) ||
		!strings.Contains(err.Error(), "channels.combined is 2, not 4") {
		t.Errorf("an earlier plan: %v", err)
	}
	if w.writes != 0 {
		t.Errorf("%d writes", w.writes)
	}
}
