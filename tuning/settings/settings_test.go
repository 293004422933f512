package settings

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// countingWriter is the kernel with each write counted, and some refused.
type countingWriter struct {
	kernel.Writer
	writes int
	// fail is called for each write, counted from 1; an error keeps it from the
	// kernel.
	fail func(n int) error
}

// count counts a write, and keeps it from the kernel if it shall fail.
func (w *countingWriter) count(op string) error {
	w.writes++
	if w.fail != nil {
		if err := w.fail(w.writes); err != nil {
			return &kernel.Error{Op: op, Err: err, Message: "refused by the test"}
		}
	}
	return nil
}

func (w *countingWriter) NetlinkSet(ctx context.Context, req kernel.Request) error {
	if req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_NEWNEIGH {
		return w.Writer.NetlinkSet(ctx, req) // a gate asks whether a gateway is there
	}
	if err := w.count(req.String()); err != nil {
		return err
	}
	return w.Writer.NetlinkSet(ctx, req)
}

func (w *countingWriter) WriteFile(ctx context.Context, path string, data []byte) error {
	if err := w.count("write " + path); err != nil {
		return err
	}
	return w.Writer.WriteFile(ctx, path, data)
}

func (w *countingWriter) EthtoolSet(ctx context.Context, device string, arg []byte) ([]byte, error) {
	if err := w.count("SIOCETHTOOL " + device); err != nil {
		return nil, err
	}
	return w.Writer.EthtoolSet(ctx, device, arg)
}

func (w *countingWriter) MulticastAddress(ctx context.Context, device string, address net.HardwareAddr, add bool) error {
	if err := w.count("group of " + device); err != nil {
		return err
	}
	return w.Writer.MulticastAddress(ctx, device, address, add)
}

func (w *countingWriter) IrqbalanceSet(ctx context.Context, request string) error {
	if err := w.count("ask irqbalance"); err != nil {
		return err
	}
	return w.Writer.IrqbalanceSet(ctx, request)
}

func live(t testing.TB) *countingWriter {
	t.Helper()
	l, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &countingWriter{Writer: l}
}

func nics(t testing.TB, r kernel.Reader) []inventory.NIC {
	t.Helper()
	inv, err := inventory.Read(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return inv.NICs
}

// wants is a document's, for the NICs.
func wants(t testing.TB, nics []inventory.NIC, document string) []policies.Want {
	t.Helper()
	parsed, err := policies.Parse("test.yaml", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err = policies.Bind(parsed, tuning.Catalogue(All())); err != nil {
		t.Fatal(err)
	}
	resolved, _, err := policies.Resolve(parsed, policies.Host{}, nics)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// policyFor is a document for the NICs of a name.
func policyFor(name, settings string) string {
	return "apiVersion: nictune/v1\nkind: TuningPolicy\nname: p\nmatch: {name: " + name + "}\nsettings:\n  " + settings + "\n"
}

func plan(t testing.TB, w kernel.Reader, nics []inventory.NIC, document string) *tuning.Plan {
	t.Helper()
	p, err := tuning.MakePlan(t.Context(), w, All(), wants(t, nics, document), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func engine(t testing.TB, w kernel.Writer, dir string) *tuning.Engine {
	t.Helper()
	store, err := tuning.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &tuning.Engine{Settings: All(), Writer: w, Store: store, Settle: time.Second}
}

var allow = tuning.Request{User: "root", Allow: tuning.NICReset}

// state is everything that the knobs can see of some NICs.
func state(t testing.TB, r kernel.Reader, nics []inventory.NIC, names ...string) string {
	t.Helper()
	all := map[string]map[string]any{}
	for _, nic := range nics {
		if !slices.Contains(names, nic.Name) {
			continue
		}
		seen := map[string]any{}
		see(t, seen, Channels(), r, nic)
		see(t, seen, Rings(), r, nic)
		see(t, seen, Features(), r, nic)
		see(t, seen, Coalesce(), r, nic)
		see(t, seen, PrivateFlags(), r, nic)
		see(t, seen, Pause(), r, nic)
		see(t, seen, Netdev(), r, nic)
		if nic.Function != inventory.VF { // whose speed is that of its PF's link, which comes and goes
			see(t, seen, Link(), r, nic)
		}
		see(t, seen, Multicast(), r, nic)
		see(t, seen, Bridge(), r, nic)
		see(t, seen, BridgePort(), r, nic)
		see(t, seen, FEC(), r, nic)
		see(t, seen, EEE(), r, nic)
		all[nic.ID()] = seen
	}
	if len(all) != len(names) {
		t.Fatalf("found %v of %v", slices.Collect(maps.Keys(all)), names)
	}
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// see reads one knob, if the NIC has it.
func see[T any](t testing.TB, seen map[string]any, k tuning.Knob[T], r kernel.Reader, nic inventory.NIC) {
	t.Helper()
	current, _, err := k.Read(t.Context(), r, nic)
	switch {
	case err == nil:
		seen[k.Name] = current
	case kernel.ReasonOf(err) != kernel.Unsupported:
		t.Fatal(err)
	}
}

const vethPolicy = `apiVersion: nictune/v1
kind: TuningPolicy
name: veth
match: {name: [tune*]}
settings:
  channels: {rx: max, tx: 3}
  features:
    tcp-segmentation-offload: off
    rx-gro-list: on
    tx-checksum-ip-generic: off
`

func veth(t testing.TB) {
	t.Helper()
	nstest.Link(t, "tune0", "numrxqueues 4 numtxqueues 4 type veth peer name tune1 numrxqueues 4 numtxqueues 4")
	// They come up with a channel for each CPU, however many there are.
	for _, name := range []string{"tune0", "tune1"} {
		nstest.Run(t, "ethtool", "-L", name, "rx", "1", "tx", "1")
	}
}

// TestVeth sets channels and features of real devices, and has ethtool judge.
func TestVeth(t *testing.T) {
	nstest.Require(t)
	veth(t)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, "tune0", "tune1")
	e := engine(t, w, t.TempDir())
	done, err := e.Apply(t.Context(), plan(t, w, all, vethPolicy), all, allow)
	if err != nil {
		t.Fatal(err)
	}
	if w.writes != 4 {
		t.Errorf("%d writes for two settings of two NICs", w.writes)
	}
	for _, name := range []string{"tune0", "tune1"} {
		channels := string(nstest.Run(t, "ethtool", "-l", name))
		_, current, _ := strings.Cut(channels, "Current hardware settings:")
		if got := strings.Join(strings.Fields(current)[:4], " "); got != "RX: 4 TX: 3" {
			t.Errorf("%s: %s", name, channels)
		}
		features := string(nstest.Run(t, "ethtool", "-k", name))
		for _, line := range []string{"tx-tcp-segmentation: off\n", "tx-tcp6-segmentation: off\n", "rx-gro-list: on\n", "tx-checksum-ip-generic: off\n"} {
			if !strings.Contains(features, line) {
				t.Errorf("%s lacks %q:\n%s", name, line, features)
			}
		}
	}
	// GSO for UDP needs checksums, and so went off with them.
	if !slices.ContainsFunc(done.Steps, func(s tuning.Step) bool {
		return string(s.Found["tx-udp-segmentation"]) == `"off [requested on]"`
	}) {
		t.Error("the side effect on tx-udp-segmentation was not recorded")
	}

	if again := plan(t, w, all, vethPolicy); len(again.Changes) != 0 {
		t.Errorf("a second plan: %+v", again.Changes)
	}
	if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
		t.Error(err)
	}
	if after := state(t, w, all, "tune0", "tune1"); after != before {
		t.Errorf("after the rollback:\n%s\nbefore:\n%s", after, before)
	}
}

// TestEachWriteFails keeps each write from the kernel once, on real devices.
func TestEachWriteFails(t *testing.T) {
	nstest.Require(t)
	veth(t)
	w := live(t)
	all := nics(t, w)
	before := state(t, w, all, "tune0", "tune1")
	dir := t.TempDir()
	e := engine(t, w, dir)
	cases := 0
	for _, errno := range []syscall.Errno{syscall.EBUSY, syscall.EOPNOTSUPP, syscall.EIO, syscall.ENODEV} {
		for n := 1; n <= 4; n++ {
			w.writes = 0
			w.fail = func(i int) error {
				if i == n {
					return errno
				}
				return nil
			}
			_, err := e.Apply(t.Context(), plan(t, w, all, vethPolicy), all, allow)
			var failure *tuning.ApplyError
			if !errors.As(err, &failure) || !errors.Is(err, errno) || len(failure.Left) > 0 || !strings.Contains(err.Error(), "(kernel: refused by the test)") {
				t.Errorf("%v at write %d: %v", errno, n, err)
			}
			if after := state(t, w, all, "tune0", "tune1"); after != before {
				t.Fatalf("%v at write %d: %s, want %s", errno, n, after, before)
			}
			cases++
		}
	}
	t.Logf("%d of %d failures undone", cases, cases)
}

// TestUnsupported: every knob that a device lacks is named before anything is
// written.
func TestUnsupported(t *testing.T) {
	nstest.Require(t)
	veth(t)
	w := live(t)
	const document = `apiVersion: nictune/v1
kind: TuningPolicy
name: veth
match: {name: [tune0]}
settings:
  channels:
    combined: 4
    rx: 5
  features:
    large-receive-offload: on
    warp: on
  rings:
    rx: max
`
	_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, nics(t, w), document), nil)
	for _, part := range []string{
		"test.yaml:7: tune0: channels.combined: 4: unsupported: the device has no combined",
		"test.yaml:8: tune0: channels.rx: 5: the device takes 4 at most",
		"test.yaml:10: tune0: features.rx-lro: on: unsupported: it is fixed off on this device",
		"test.yaml:11: tune0: features.warp: on: unsupported: the device has no warp",
		"test.yaml:13: tune0: rings: unsupported: ethtool RINGS_GET",
	} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, err)
		}
	}
	if w.writes != 0 {
		t.Errorf("%d writes", w.writes)
	}
}

func TestFeatureState(t *testing.T) {
	for text, f := range map[string]FeatureState{
		"true": {true, true}, "false": {}, `"off [requested on]"`: {Requested: true}, `"on [requested off]"`: {Active: true},
	} {
		var got FeatureState
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != f {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
		if b, err := json.Marshal(f); err != nil || string(b) != text {
			t.Errorf("%+v is %s, %v", f, b, err)
		}
	}
	for _, bad := range []string{`1`, `"on"`, `{}`, `null `, `"off [requested off]"`} {
		if err := json.Unmarshal([]byte(bad), &FeatureState{}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestFeaturesImpact(t *testing.T) {
	on, off := FeatureState{true, true}, FeatureState{}
	for name, want := range map[string]tuning.Impact{
		"tx-tcp-segmentation": tuning.Seamless, "rx-gro": tuning.Seamless, "rx-gro-list": tuning.Seamless,
		"rx-gro-hw": tuning.NICReset, "rx-ntuple-filter": tuning.NICReset, "rx-lro": tuning.NICReset,
		"loopback": tuning.NICReset, "tx-vlan-hw-insert": tuning.NICReset, "rx-udp-gro-forwarding": tuning.Seamless,
	} {
		if got := featuresImpact(inventory.NIC{}, FeatureSet{name: off, "rx-all": on}, FeatureSet{name: on, "rx-all": on}); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestChannelsThatLeaveNoQueue(t *testing.T) {
	for _, c := range []ChannelCounts{
		{}, {Combined: new(uint32)}, {RX: new(uint32(1))}, {TX: new(uint32(1)), Combined: new(uint32)},
	} {
		if err := checkChannels(ChannelCounts{}, c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	for _, c := range []ChannelCounts{{Combined: new(uint32(1))}, {RX: new(uint32(1)), TX: new(uint32(1))}} {
		if err := checkChannels(ChannelCounts{}, c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A number of which a device has many, or none, can't start from what it is: that is
// said where the policy is loaded, and not when it meets a device.
func TestNumbersWithoutAPresent(t *testing.T) {
	const refused = "the device has no single number of it to start from"
	for setting, want := range map[string]string{
		"napi: {defer-hard-irqs: default}":                             "napi.defer-hard-irqs: " + refused,
		`rps: {flow-cnt: ">=4096"}`:                                    "rps.flow-cnt: " + refused,
		`rss: {equal: "min(default, 4)"}`:                              "rss.equal: " + refused,
		`coalesce-queues: [{queues: all, rx-usecs: "<=8"}]`:            refused,
		"napi: {defer-hard-irqs: max}":                                 "napi.defer-hard-irqs",
		"rss: {equal: \"min(local-cpus, 4)\"}":                         "",
		"sriov: {vfs: default}":                                        "",
		`rings: {rx: ">=4096", tx: default}`:                           "",
		"coalesce-queues: [{queues: all, rx-usecs: \"min(cpus, 8)\"}]": "",
	} {
		parsed, err := policies.Parse("test.yaml", []byte(policyFor("eth0", setting)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = policies.Bind(parsed, tuning.Catalogue(All())); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", setting, err, want)
		}
	}
}
