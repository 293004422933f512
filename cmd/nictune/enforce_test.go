package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// enforced is an agent that puts right what drifts, on the policy given, and its
// state directory.
func enforced(t *testing.T, document string, args ...string) (s *served, base, state string) {
	t.Helper()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: enforced\n"+document), 0o600); err != nil {
		t.Fatal(err)
	}
	state = filepath.Join(dir, "state")
	s = startInProcess(t, append([]string{"--reconcile=enforce", "-f", policy, "--state-dir", state}, args...)...)
	base = "http://" + s.address(t)
	ready(t, base)
	return s, base, state
}

// until waits for what the agent does.
func (s *served) until(t *testing.T, what string, f func() bool) {
	t.Helper()
	if !comes(f) {
		t.Fatalf("%s: not after %v; the agent logged:\n%s", what, patience, s.log)
	}
}

func ethtoolHas(t *testing.T, option, device, line string) bool {
	t.Helper()
	return strings.Contains(string(nstest.Run(t, "ethtool", option, device)), line)
}

func mtu(t *testing.T, device string) string {
	t.Helper()
	b, err := os.ReadFile("/sys/class/net/" + device + "/mtu")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// transactions are those of a state directory, oldest first.
func transactions(t *testing.T, state string) []tuning.Transaction {
	t.Helper()
	all, err := tuning.History(state)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// calm waits until the agent has seen that a setting is as wanted.
func (s *served) calm(t *testing.T, base, device, setting string) {
	t.Helper()
	s.until(t, setting+" as wanted", func() bool {
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, fmt.Sprintf("nictune_policy_setting_drifted{device=%q,origin=\"given\",policy=\"enforced\",setting=%q} 0", device, setting))
	})
}

const mtuAndGRO = `match: {name: [back0, lan*]}
settings:
  netdev: {mtu: 1400}
  features: {rx-gro-list: on}
`

// An agent's transactions pass the gates that it was given.
func TestAgentHasGates(t *testing.T) {
	g := newGated(t, "grd8")
	listener := g.listen(t)
	address := listener.Addr().String()
	listener.Close()
	s, base, _ := enforced(t, "match: {name: grd8}\nsettings:\n  netdev: {mtu: 1400}\n", "--interval=1h", "--gate-tcp="+address)
	s.until(t, "a refusal", func() bool {
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, `nictune_reconcile_attempts_total{device="grd8",outcome="refused"} 1`)
	})
	if log := s.log.String(); !strings.Contains(log, address+" takes no connection even before the change") {
		t.Errorf("the agent logged:\n%s", log)
	}
	s.end(t)
	if mtu(t, "grd8") != "1500" {
		t.Error("the MTU was changed")
	}
}

// What is changed behind its back the agent puts right within seconds, by the
// kernel's word: the interval is far off. Stopping it undoes nothing.
func TestAgentPutsDriftRight(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	s, base, state := enforced(t, mtuAndGRO, "--interval=1h")
	wanted := func() bool {
		return mtu(t, "back0") == "1400" && ethtoolHas(t, "-k", "back0", "rx-gro-list: on")
	}
	s.until(t, "the policy at the start", wanted)
	for _, change := range []func(){
		func() { nstest.IP(t, "link set back0 mtu 1300") },
		func() { nstest.Run(t, "ethtool", "-K", "back0", "rx-gro-list", "off") },
	} {
		s.calm(t, base, "back0", "netdev")
		s.calm(t, base, "back0", "features")
		before := len(transactions(t, state))
		change()
		s.until(t, "the policy again", func() bool { return wanted() && len(transactions(t, state)) > before })
	}
	s.until(t, "metrics of it", func() bool {
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, `nictune_policy_setting_drifted{device="back0",origin="given",policy="enforced",setting="netdev"} 0`) &&
			strings.Contains(page, `nictune_reconcile_attempts_total{device="back0",outcome="applied"} 3`) &&
			strings.Contains(page, `nictune_reconcile_info{mode="enforce"} 1`)
	})
	var reasons []string
	for _, x := range transactions(t, state) {
		reasons = append(reasons, x.Request.Reason)
		if x.Outcome != tuning.Applied || x.Request.User != "root" {
			t.Errorf("transaction %d: %s by %q", x.ID, x.Outcome, x.Request.User)
		}
	}
	want := []string{
		"agent: drift of features.rx-gro-list, netdev.mtu, found at the start",
		"agent: drift of netdev.mtu, told of by the kernel: link",
		"agent: drift of features.rx-gro-list, told of by the kernel: link, features",
	}
	// The kernel tells of features in two groups, in either order.
	if got := strings.ReplaceAll(strings.Join(reasons, "\n"), "features, link", "link, features"); got != strings.Join(want, "\n") {
		t.Errorf("reasons:\n%s", got)
	}
	// A host as wanted costs no write, and is left at peace.
	time.Sleep(1500 * time.Millisecond)
	if n := len(transactions(t, state)); n != 3 {
		t.Errorf("%d transactions, want 3", n)
	}
	s.end(t)
	if !wanted() {
		t.Error("stopping the agent undid what it had done")
	}
}

// A NIC that comes, or gets a name that a policy is for, gets its policy.
func TestAgentTunesNewcomers(t *testing.T) {
	nstest.Require(t)
	s, _, _ := enforced(t, mtuAndGRO, "--interval=1h")
	nstest.Link(t, "back0", "type veth peer name back1")
	s.until(t, "the policy of a device that came", func() bool { return mtu(t, "back0") == "1400" })
	nstest.Link(t, "stray0", "type veth peer name stray1")
	nstest.IP(t, "link set stray0 name lan0")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "lan0").Run() })
	s.until(t, "the policy of a device that was renamed", func() bool { return mtu(t, "lan0") == "1400" })
	// One that is made anew under the same name is another.
	nstest.IP(t, "link del back0")
	nstest.IP(t, "link add name back0 type veth peer name back1")
	s.until(t, "the policy of a device that was made anew", func() bool { return mtu(t, "back0") == "1400" })
	s.end(t)
}

// Against somebody who sets the same field again and again the agent gives in
// after three times, says so, and leaves the rest of the NIC in order.
func TestAgentEndsAFight(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	s, base, state := enforced(t, mtuAndGRO, "--interval=1h")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { // the other manager
		for ctx.Err() == nil {
			if mtu(t, "back0") == "1400" {
				_ = exec.CommandContext(ctx, "ip", "link", "set", "back0", "mtu", "1300").Run()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	const told = `msg="somebody else sets this again and again: it is left to them" device=back0 setting=netdev field=mtu times=3`
	s.until(t, "the end of the fight", func() bool { return strings.Contains(s.log.String(), told) })
	fought := len(transactions(t, state))
	nstest.Run(t, "ethtool", "-K", "back0", "rx-gro-list", "off")
	s.until(t, "the other setting", func() bool { return ethtoolHas(t, "-k", "back0", "rx-gro-list: on") })
	time.Sleep(2 * time.Second)
	if n := len(transactions(t, state)); n != fought+1 || n > 8 {
		t.Errorf("%d transactions, %d when the fight had ended; the agent logged:\n%s", n, fought, s.log)
	}
	if got := mtu(t, "back0"); got != "1300" {
		t.Errorf("the MTU is %s", got)
	}
	if strings.Count(s.log.String(), told) != 1 {
		t.Errorf("told of more than once:\n%s", s.log)
	}
	// A script with ip in it is no manager: only such that this machine has are named.
	inv, _, _ := nictune(t, "inventory", "-o", "json")
	const nobody = ` suspects="nobody that nictune knows runs here: look at timers, udev rules and the driver"`
	if !strings.Contains(inv, `"managers"`) && !strings.Contains(s.log.String(), told+nobody) {
		t.Errorf("suspects of whom nobody knows:\n%s", s.log)
	}
	s.until(t, "metrics of it", func() bool {
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, `nictune_reconcile_given_up{device="back0",field="mtu",setting="netdev",suspects="`) &&
			strings.Contains(page, `nictune_reconcile_held{device="back0",reason="fight",setting="netdev"} 1`) &&
			strings.Contains(page, `nictune_policy_setting_drifted{device="back0",origin="given",policy="enforced",setting="netdev"} 1`)
	})
	stop()
	s.end(t)
}

// Where the other one is nictune itself, the journal says who it was.
func TestAgentNamesAnotherNictune(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	s, _, state := enforced(t, "match: {name: back0}\nsettings:\n  netdev: {mtu: 1400}\n", "--interval=1h")
	for range 3 {
		s.until(t, "the policy", func() bool { return mtu(t, "back0") == "1400" })
		s.until(t, "a rollback", func() bool {
			_, _, exit := nictune(t, "rollback", "--state-dir", state)
			return exit == exitOK
		})
	}
	s.until(t, "the end of the fight", func() bool { return strings.Contains(s.log.String(), "it is left to them") })
	if all := transactions(t, state); !strings.Contains(s.log.String(), "nictune transaction 6 by root") || len(all) != 6 {
		t.Errorf("%d transactions; it logged:\n%s", len(all), s.log)
	}
	s.end(t)
}

// A change that somebody may still confirm is not touched; once it was taken back
// the policy holds again.
func TestAgentWaitsForConfirmation(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	s, base, state := enforced(t, "match: {name: back0}\nsettings:\n  netdev: {mtu: 1400}\n", "--interval=1h")
	s.until(t, "the policy", func() bool { return mtu(t, "back0") == "1400" })
	s.calm(t, base, "back0", "netdev")
	other := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(other, []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: other\nmatch: {name: back0}\nsettings:\n  netdev: {mtu: 1300}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	apply := exec.Command("/proc/self/exe", "apply", "-f", other, "--state-dir", state, "--confirm=5s", "--no-wait")
	apply.Env = append(os.Environ(), asProgram+"=1")
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	held := func() bool {
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, `nictune_reconcile_held{device="back0",reason="unconfirmed",setting="netdev"} 1`)
	}
	s.until(t, "the agent's waiting", held)
	if got := mtu(t, "back0"); got != "1300" {
		t.Errorf("the MTU is %s while it may be confirmed", got)
	}
	s.until(t, "the policy again", func() bool { return mtu(t, "back0") == "1400" && !held() })
	s.end(t)
	all := transactions(t, state)
	if len(all) != 2 || all[1].Outcome != tuning.Undone || !strings.Contains(all[1].UndoReason, "nobody confirmed it") {
		t.Errorf("%+v", all)
	}
}

// More than a seamless change has to be allowed.
func TestAgentKeepsToWhatIsAllowed(t *testing.T) {
	nstest.Require(t)
	const channels = "match: {name: tune0}\nsettings:\n  channels: {rx: 4}\n  netdev: {mtu: 1400}\n"
	nstest.Link(t, "tune0", "numrxqueues 4 numtxqueues 4 type veth peer name tune1")
	nstest.Run(t, "ethtool", "-L", "tune0", "rx", "1", "tx", "1")
	s, base, _ := enforced(t, channels, "--interval=1h")
	s.until(t, "what is seamless", func() bool { return mtu(t, "tune0") == "1400" })
	const held = `nictune_reconcile_held{device="tune0",reason="impact",setting="channels"} 1`
	// What was done is told of a moment after it is done.
	s.until(t, held, func() bool {
		_, page := get(t, base+"/metrics")
		return strings.Contains(page, held)
	})
	s.until(t, "the log", func() bool { return strings.Contains(s.log.String(), `needs="--allow nic-reset"`) })
	s.end(t)
	if ethtoolHas(t, "-l", "tune0", "RX:\t\t4\nTX:\t\t1") {
		t.Error("the channels were changed")
	}
	s, _, _ = enforced(t, channels, "--interval=1h", "--allow=nic-reset")
	s.until(t, "what is allowed", func() bool { return ethtoolHas(t, "-l", "tune0", "RX:\t\t4\nTX:\t\t1") })
	s.end(t)
}

// What the kernel doesn't tell of is found at the interval.
func TestAgentFindsSilentDrift(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	s, base, state := enforced(t, "match: {name: back0}\nsettings:\n  napi: {gro-flush-timeout: 20000}\n", "--interval=2s")
	const file = "/sys/class/net/back0/gro_flush_timeout"
	has := func() bool {
		b, err := os.ReadFile(file)
		return err == nil && string(b) == "20000\n"
	}
	s.until(t, "the policy", has)
	drifts := func() (reason string) {
		s.calm(t, base, "back0", "napi")
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		s.until(t, "the policy again", has)
		all := transactions(t, state)
		return all[len(all)-1].Request.Reason
	}
	reason := drifts()
	if strings.HasSuffix(reason, "told of a change elsewhere") { // a module that some other program made the kernel load
		reason = drifts()
	}
	if reason != "agent: drift of napi.gro-flush-timeout, found at the interval" {
		t.Errorf("reason %q", reason)
	}
	s.end(t)
}

// In the other modes nothing is changed; off compares nothing.
func TestAgentThatDoesNotEnforce(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: enforced\n"+mtuAndGRO), 0o600); err != nil {
		t.Fatal(err)
	}
	const drift = `nictune_policy_setting_drifted{device="back0",origin="given",policy="enforced",setting="netdev"} 1`
	for mode, shown := range map[string]bool{"report": true, "off": false} {
		s := startInProcess(t, "--reconcile="+mode, "-f", policy)
		base := "http://" + s.address(t)
		ready(t, base)
		var page string
		if shown { // it is compared after it is read
			s.until(t, "drift", func() bool { _, page = get(t, base+"/metrics"); return strings.Contains(page, drift) })
		} else {
			_, page = get(t, base+"/metrics")
		}
		if strings.Contains(page, drift) != shown || strings.Contains(page, "nictune_policy_error") != shown ||
			!strings.Contains(page, `nictune_reconcile_info{mode="`+mode+`"} 1`) {
			t.Errorf("%s:\n%s", mode, page)
		}
		s.end(t)
	}
	if got := mtu(t, "back0"); got != "1500" {
		t.Errorf("the MTU is %s", got)
	}
}

// A change that was begun is brought to its end, and stays, although the agent is
// told to stop; what a killed one left behind the next one ends before it begins.
func TestAgentIsKilled(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	dir := t.TempDir()
	policy, state := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "state")
	if err := os.WriteFile(policy, []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: enforced\n"+mtuAndGRO), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"agent", "--web.listen-address=127.0.0.1:0", "--reconcile=enforce", "-f", policy, "--state-dir", state}
	for range 3 {
		s := startProcess(t, nil, args...)
		s.until(t, "the first transaction", func() bool {
			_, err := os.Stat(filepath.Join(state, "lock"))
			return err == nil && len(transactions(t, state)) > 0
		})
		s.stop()
		s.wait(t)
	}
	for _, x := range transactions(t, state) {
		if x.Outcome != tuning.Applied {
			t.Errorf("transaction %d: %s", x.ID, x.Outcome)
		}
	}
	if mtu(t, "back0") != "1400" {
		t.Error("stopping undid the change")
	}
}

func TestAgentRefusesToEnforce(t *testing.T) {
	for _, test := range []struct {
		name, want string
		exit       int
		args       []string
	}{
		{"a recorded host", "only the running host can be changed", exitRefused, []string{"--host", labHost, "--reconcile=enforce", "-f", "testdata/igb.yaml"}},
		{"no policy", "--reconcile=enforce needs --policy", exitError, []string{"--reconcile=enforce"}},
		{"no mode", `--reconcile "always" is none of`, exitError, []string{"--reconcile=always"}},
		{"an impact without enforcement", "--allow is for --reconcile=enforce", exitError, []string{"--allow=nic-reset"}},
		{"a gate without enforcement", "--gate-tcp is for --reconcile=enforce", exitError, []string{"--gate-tcp=192.0.2.1:22"}},
		{"a gate that is no address", `"nowhere" is no HOST:PORT`, exitError, []string{"--reconcile=enforce", "-f", "testdata/igb.yaml", "--gate-tcp=nowhere"}},
		{"an unknown impact", "unknown impact", exitError, []string{"--reconcile=enforce", "-f", "testdata/igb.yaml", "--allow=all"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if strings.Contains(test.want, "unknown impact") || strings.Contains(test.want, "HOST:PORT") {
				nstest.Require(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var log lockedBuffer
			exit := run(ctx, append([]string{"agent", "--web.listen-address=127.0.0.1:0"}, test.args...), io.Discard, &log)
			if ctx.Err() != nil || exit != test.exit || !strings.Contains(log.String(), test.want) {
				t.Errorf("exit %d (%v), want %d and %q in\n%s", exit, ctx.Err(), test.exit, test.want, log.String())
			}
		})
	}
	t.Run("another user", func(t *testing.T) {
		nstest.Require(t)
		dir, err := os.MkdirTemp("/tmp", "nictune") // which the user can read
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		policy := filepath.Join(dir, "policy.yaml")
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(policy, []byte("apiVersion: nictune/v1\nkind: TuningPolicy\nname: enforced\n"+mtuAndGRO), 0o644); err != nil {
			t.Fatal(err)
		}
		s := startProcess(t, func(cmd *exec.Cmd) {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		}, "agent", "--reconcile=enforce", "-f", policy)
		if exit := s.wait(t); exit != exitRefused || !strings.Contains(s.log.String(), "needs root") {
			t.Errorf("exit %d:\n%s", exit, s.log)
		}
	})
}

// What the guards refuse to the agent it leaves, and says: for the way out of the
// host, and for a program that receives on its own. It is done when the NIC is named.
func TestAgentIsGuarded(t *testing.T) {
	for name, test := range map[string]struct {
		device   string
		use      func(t *testing.T, g *gated)
		disturbs string
	}{
		"the default route": {"grd5", func(*testing.T, *gated) {}, "channels (nic-reset) would disturb the default route via 192.0.2.1"},
		"an AF_XDP socket": {"grd6", func(t *testing.T, g *gated) {
			nstest.IP(t, "route del default")
			nstest.XDPSocket(t, indexOf(t, g.device), 0)
		}, "netdev (mtu), channels (nic-reset) would disturb an AF_XDP socket on queue 0"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t, test.device)
			test.use(t, g)
			policy := "match: {name: " + g.device + "}\nsettings:\n  channels: {rx: 2}\n  netdev: {mtu: 1400}\n"
			as := func() bool { return g.queues(t) == "2" && mtu(t, g.device) == "1400" }
			s, base, state := enforced(t, policy, "--interval=1h", "--allow=nic-reset")
			s.until(t, "a second refusal", func() bool {
				_, page := get(t, base+"/metrics")
				return strings.Contains(page, fmt.Sprintf("nictune_reconcile_attempts_total{device=%q,outcome=\"refused\"} 2", g.device))
			})
			refusal := "refused: " + g.device + ": " + test.disturbs + "; to do it all the same: --disrupt " + g.device
			if log := s.log.String(); !strings.Contains(log, "drift is left as it is for now") || !strings.Contains(log, refusal) {
				t.Errorf("the agent logged:\n%s", log)
			}
			if _, page := get(t, base+"/metrics"); !strings.Contains(page, fmt.Sprintf("nictune_policy_setting_drifted{device=%q,origin=\"given\",policy=\"enforced\",setting=\"channels\"} 1", g.device)) {
				t.Error("no metric says that the channels have drifted")
			}
			s.end(t)
			if g.queues(t) != "1" || mtu(t, g.device) != "1500" || len(transactions(t, state)) > 0 {
				t.Errorf("%s queues, MTU %s, %d transactions", g.queues(t), mtu(t, g.device), len(transactions(t, state)))
			}

			s, _, _ = enforced(t, policy, "--interval=1h", "--allow=nic-reset", "--disrupt="+g.device)
			s.until(t, "what is named", as)
			s.end(t)
		})
	}
}

// networkd is systemd-networkd of this machine, which wants an MTU of 1300 of back0.
// It sees the network namespace of the test, and of the machine's files none that it
// would read: no buses, no configuration, no udev, which it takes for missing where
// /sys is read only.
func networkd(t *testing.T) *exec.Cmd {
	t.Helper()
	const program = "/usr/lib/systemd/systemd-networkd"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: scripts/setup installs it", err)
		}
		t.Skipf("%v: scripts/setup installs it", err)
	}
	const script = `set -e
mount -t tmpfs tmpfs /run
[ ! -d /etc/systemd/network ] || mount -t tmpfs tmpfs /etc/systemd/network
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
printf '[Match]\nName=back0\n[Link]\nMTUBytes=1300\n[Network]\nLinkLocalAddressing=no\n' >/run/systemd/network/10-back0.network
chown -R systemd-network: /run/systemd/netif
mount -o remount,ro,bind /sys
exec ` + program
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_TARGET=console")
	var said lockedBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = cmd.Process.Kill(), cmd.Wait()
		if t.Failed() {
			t.Logf("systemd-networkd[%d] said:\n%s", cmd.Process.Pid, said.String())
		}
	})
	return cmd
}

// A real manager that came after the agent, and starts again and again, as it does for
// who changes its configuration: the agent gives in, and names that very process.
func TestAgentNamesNetworkd(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "back0", "type veth peer name back1")
	s, base, state := enforced(t, "match: {name: back0}\nsettings:\n  netdev: {mtu: 1400}\n", "--interval=1h")
	var other *exec.Cmd
	gone := []string{fmt.Sprintf("[%d]", os.Getpid())} // who is not to be named
	ended := func() bool { return strings.Contains(s.log.String(), "it is left to them") }
	for !ended() {
		s.until(t, "the policy, or the end of the fight", func() bool { return mtu(t, "back0") == "1400" || ended() })
		if ended() {
			break
		}
		// It starts when the agent has read the host anew since, and looks at back0 only.
		s.calm(t, base, "back0", "netdev")
		if other != nil {
			_, _ = other.Process.Kill(), other.Wait()
			gone = append(gone, fmt.Sprintf("[%d]", other.Process.Pid))
		}
		before := len(transactions(t, state))
		other = networkd(t)
		s.until(t, "networkd's MTU", func() bool { return mtu(t, "back0") == "1300" || len(transactions(t, state)) > before })
	}
	suspect := fmt.Sprintf("systemd-networkd[%d]", other.Process.Pid)
	var told string
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "it is left to them") {
			told += line
		}
	}
	_, suspects, _ := strings.Cut(told, `device=back0 setting=netdev field=mtu times=3 suspects=`)
	if !strings.Contains(suspects, suspect) || slices.ContainsFunc(gone, func(pid string) bool { return strings.Contains(suspects, pid) }) {
		t.Errorf("it told %q, of %s", told, suspect)
	}
	s.until(t, "metrics of it", func() bool {
		_, page := get(t, base+"/metrics")
		_, line, _ := strings.Cut(page, `nictune_reconcile_given_up{device="back0",field="mtu",setting="netdev",suspects="`)
		suspects, _, _ := strings.Cut(line, "\n")
		return strings.Contains(suspects, suspect) && strings.HasSuffix(suspects, `"} 1`)
	})
	time.Sleep(1500 * time.Millisecond)
	if all := transactions(t, state); len(all) != 3 || mtu(t, "back0") != "1300" {
		t.Errorf("%d transactions, MTU %s", len(all), mtu(t, "back0"))
	}
	s.end(t)
}
