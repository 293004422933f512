package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// gated is a veth whose other end, in a namespace of its own, is the default
// gateway.
type gated struct {
	device, namespace, state string
}

func newGated(t *testing.T, device string) *gated {
	t.Helper()
	nstest.Require(t)
	g := &gated{device: device, namespace: fmt.Sprintf("%s-%d", device, os.Getpid()), state: filepath.Join(t.TempDir(), "state")}
	nstest.IP(t, "netns add "+g.namespace)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", g.namespace).Run() })
	nstest.Link(t, device, "numrxqueues 4 numtxqueues 4 type veth peer name gate netns "+g.namespace)
	g.peer(t, "addr add 192.0.2.1/24 dev gate")
	g.peer(t, "link set gate up")
	nstest.IP(t, "addr add 192.0.2.2/24 dev "+device)
	nstest.IP(t, "link set "+device+" up")
	nstest.IP(t, "route add default via 192.0.2.1")
	nstest.Run(t, "ethtool", "-L", device, "rx", "1", "tx", "1")
	return g
}

// peer runs ip at the gateway.
func (g *gated) peer(t *testing.T, arguments string) {
	t.Helper()
	nstest.IP(t, "-n "+g.namespace+" "+arguments)
}

func (g *gated) policy(t *testing.T, settings string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	document := "apiVersion: nictune/v1\nkind: TuningPolicy\nname: gated\nmatch: {name: " + g.device + "}\nsettings:\n  " + settings + "\n"
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// told is what a command writes, and calls then when it writes some word for the
// first time.
type told struct {
	mu   sync.Mutex
	text strings.Builder
	word string
	then func()
}

func (w *told) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	if w.then != nil && strings.Contains(w.text.String(), w.word) {
		then := w.then
		w.then = nil
		then()
	}
	return len(b), nil
}

// apply asks for two receive queues, and does something meanwhile.
func (g *gated) apply(t *testing.T, word string, meanwhile func(), args ...string) (exit int, said string) {
	t.Helper()
	stderr := &told{word: word, then: meanwhile}
	args = append([]string{"apply", "-f", g.policy(t, "channels: {rx: 2}"), "--state-dir", g.state, "--allow", "nic-reset"}, args...)
	exit = run(t.Context(), args, io.Discard, stderr)
	return exit, stderr.text.String()
}

func (g *gated) queues(t *testing.T) string {
	t.Helper()
	entries, err := filepath.Glob("/sys/class/net/" + g.device + "/queues/rx-*")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(len(entries))
}

func TestGuardDefaultRoute(t *testing.T) {
	g := newGated(t, "grd0")
	exit, said := g.apply(t, "", nil)
	want := "refused: grd0: channels (nic-reset) would disturb the default route via 192.0.2.1; to do it all the same: --disrupt grd0"
	if exit != exitRefused || !strings.Contains(said, want) || g.queues(t) != "1" {
		t.Errorf("exit %d, %s queues: %s", exit, g.queues(t), said)
	}
	stdout, _, _ := nictune(t, "plan", "-f", g.policy(t, "channels: {rx: 2}"))
	if !strings.Contains(stdout, "To apply it takes --allow nic-reset --disrupt grd0.") {
		t.Errorf("plan:\n%s", stdout)
	}
	if exit, said := g.apply(t, "", nil, "--disrupt", "grd1"); exit != exitError || !strings.Contains(said, `no NIC "grd1"`) {
		t.Errorf("a NIC that is not there: exit %d, %s", exit, said)
	}
	if exit, said := g.apply(t, "", nil, "--disrupt", "grd0"); exit != exitOK || g.queues(t) != "2" {
		t.Errorf("named: exit %d, %s", exit, said)
	}
	_, stderr, exit := nictune(t, "rollback", "--state-dir", g.state)
	if exit != exitRefused || !strings.Contains(stderr, "--disrupt grd0") || g.queues(t) != "2" {
		t.Errorf("rollback: exit %d, %s", exit, stderr)
	}
	if _, stderr, exit := nictune(t, "rollback", "--state-dir", g.state, "--disrupt", "grd0"); exit != exitOK || g.queues(t) != "1" {
		t.Errorf("rollback, named: exit %d, %s", exit, stderr)
	}
	// What is seamless disturbs no route.
	if _, stderr, exit := nictune(t, "apply", "-f", g.policy(t, "features: {rx-gro: on}"), "--state-dir", g.state); exit != exitOK {
		t.Errorf("seamless: exit %d, %s", exit, stderr)
	}
}

// listen listens on TCP at the gateway.
func (g *gated) listen(t *testing.T) net.Listener {
	t.Helper()
	return nstest.Listen(t, g.namespace, "192.0.2.1:0")
}

// A process by the name sshd with a TCP connection, and nictune below it, as in a
// login, without any help of the environment.
func TestGuardSSHSession(t *testing.T) {
	g := newGated(t, "grd2")
	nstest.IP(t, "route del default")
	_, port, _ := net.SplitHostPort(g.listen(t).Addr().String())
	server := filepath.Join(t.TempDir(), "sshd")
	script := "#!/bin/bash\nexec 3<>/dev/tcp/192.0.2.1/$1\nshift\nbash -c '\"$@\"; exit $?' shell \"$@\"\n"
	if err := os.WriteFile(server, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	apply := func(args ...string) (int, string) {
		process := exec.Command(server, append([]string{port, "/proc/self/exe"}, args...)...)
		// The shell's own /proc/self/exe would be bash.
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		process.Args[2] = self
		process.Env = append(os.Environ(), asProgram+"=1")
		process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, _ := process.CombinedOutput()
		return process.ProcessState.ExitCode(), string(out)
	}
	args := []string{"apply", "-f", g.policy(t, "channels: {rx: 2}"), "--state-dir", g.state, "--allow", "nic-reset"}
	exit, said := apply(args...)
	if exit != exitRefused || !strings.Contains(said, "grd2: channels (nic-reset) would disturb your SSH session from 192.0.2.1") {
		t.Errorf("exit %d, %s", exit, said)
	}
	if exit, said := apply(append(args, "--disrupt", "grd2")...); exit != exitOK || g.queues(t) != "2" {
		t.Errorf("named: exit %d, %s", exit, said)
	}
}

func TestGuardXDP(t *testing.T) {
	g := newGated(t, "grd3")
	nstest.IP(t, "route del default")
	index := indexOf(t, g.device)
	policy := g.policy(t, "netdev: {mtu: 1400}")
	apply := func() (int, string) {
		_, stderr, exit := nictune(t, "apply", "-f", policy, "--state-dir", g.state)
		return exit, stderr
	}
	let := nstest.XDPSocket(t, index, 0)
	exit, said := apply()
	if exit != exitRefused || !strings.Contains(said, "grd3: netdev (mtu) would disturb an AF_XDP socket on queue 0") {
		t.Errorf("exit %d, %s", exit, said)
	}
	out, _, exit := nictune(t, "plan", "-f", policy, "--state-dir", g.state, "-o", "json")
	var plan tuning.Plan
	if err := json.Unmarshal([]byte(out), &plan); err != nil || exit != exitDifferences || len(plan.Disruptions) != 1 || plan.Disruptions[0].String() != "grd3: netdev (mtu) would disturb an AF_XDP socket on queue 0" {
		t.Errorf("exit %d, %v: %s", exit, err, out)
	}
	if exit, said := g.apply(t, "", nil); exit != exitRefused || !strings.Contains(said, "channels (nic-reset) would disturb an AF_XDP socket on queue 0") {
		t.Errorf("exit %d, %s", exit, said)
	}
	let()
	// The kernel lets go of it in its own time.
	if !comes(func() bool { exit, said = apply(); return exit == exitOK }) {
		t.Errorf("without the socket: exit %d, %s", exit, said)
	}
}

// A program that runs on the NIC is not taken away, nor given other queues, unasked.
func TestGuardXDPProgram(t *testing.T) {
	g := newGated(t, "grd7")
	nstest.IP(t, "route del default")
	// veth's: as many queues as the other end sends through.
	nstest.Run(t, "ip", "netns", "exec", g.namespace, "ethtool", "-L", "gate", "rx", "1", "tx", "1")
	detach := nstest.XDPProgram(t, indexOf(t, g.device))
	const refusal = "grd7: channels (nic-reset) would disturb the XDP program "
	exit, said := g.apply(t, "", nil)
	if exit != exitRefused || !strings.Contains(said, refusal) || !strings.Contains(said, "--disrupt grd7") || g.queues(t) != "1" {
		t.Errorf("exit %d, %s queues: %s", exit, g.queues(t), said)
	}
	if exit, said := g.apply(t, "", nil, "--disrupt", "grd7"); exit != exitOK || g.queues(t) != "2" {
		t.Errorf("named: exit %d, %s", exit, said)
	}
	if links := string(nstest.IP(t, "-d link show "+g.device)); !strings.Contains(links, "prog/xdp") {
		t.Errorf("the program is gone:\n%s", links)
	}
	nstest.Run(t, "ethtool", "-L", g.device, "rx", "1", "tx", "1")
	detach()
	// The kernel lets go of it in its own time.
	if !comes(func() bool { exit, said = g.apply(t, "", nil); return exit == exitOK }) {
		t.Errorf("without the program: exit %d, %s", exit, said)
	}
}

// History keeps why something was done, in one line.
func TestReason(t *testing.T) {
	g := newGated(t, "why0")
	policy := g.policy(t, "features: {rx-gro-list: on}")
	if _, stderr, exit := nictune(t, "apply", "-f", policy, "--state-dir", g.state, "--reason", "CHG-1\napplied by nobody"); exit != exitError || !strings.Contains(stderr, "more than one line") {
		t.Errorf("two lines: exit %d, %s", exit, stderr)
	}
	if _, stderr, exit := nictune(t, "apply", "-f", policy, "--state-dir", g.state, "--reason", " CHG-4711: drops on edge3 "); exit != exitOK {
		t.Errorf("exit %d, %s", exit, stderr)
	}
	if _, stderr, exit := nictune(t, "rollback", "--state-dir", g.state, "--reason", "no better"); exit != exitOK {
		t.Errorf("rollback: exit %d, %s", exit, stderr)
	}
	stdout, _, _ := nictune(t, "history", "--state-dir", g.state)
	for _, why := range []string{"CHG-4711: drops on edge3 (apply -f " + policy + ")\n", "no better (rollback 1)\n"} {
		if !strings.Contains(stdout, why) {
			t.Errorf("history lacks %q:\n%s", why, stdout)
		}
	}
}

func indexOf(t *testing.T, device string) int {
	t.Helper()
	i, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

func TestGates(t *testing.T) {
	for name, test := range map[string]struct {
		word string
		do   string // at the gateway
		want string
	}{
		"carrier": {"verified", "link set gate down", "health gate: gate%d: no carrier, 2s after the change"},
		"gateway": {"writing", "addr del 192.0.2.1/24 dev gate", "health gate: gate%d: the gateway 192.0.2.1 does not answer, 2s after the change"},
	} {
		t.Run(name, func(t *testing.T) {
			n := map[string]int{"carrier": 0, "gateway": 1}[name]
			g := newGated(t, fmt.Sprintf("gate%d", n))
			exit, said := g.apply(t, test.word, func() { g.peer(t, test.do) }, "--disrupt", g.device, "--gate-timeout", "2s")
			if exit != exitError || !strings.Contains(said, fmt.Sprintf(test.want, n)) || !strings.Contains(said, "transaction 1 was undone") || g.queues(t) != "1" {
				t.Errorf("exit %d, %s queues: %s", exit, g.queues(t), said)
			}
		})
	}
}

// A link that is slower afterwards, by whatever hand, is as bad as none.
func TestGateOfTheSpeed(t *testing.T) {
	nstest.Require(t)
	const device = "gate6"
	nstest.IP(t, "tuntap add "+device+" mode tap")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", device).Run() })
	holdTap(t, device) // whose carrier is there while somebody holds it
	nstest.IP(t, "link set "+device+" up")
	nstest.Run(t, "ethtool", "-s", device, "speed", "10000", "duplex", "full", "autoneg", "off")
	g := &gated{device: device, state: filepath.Join(t.TempDir(), "state")}
	policy := g.policy(t, "coalesce: {rx-frames: 12}")
	apply := func(word string, speed string) (int, string) {
		stderr := &told{word: word, then: func() { nstest.Run(t, "ethtool", "-s", device, "speed", speed) }}
		exit := run(t.Context(), []string{"apply", "-f", policy, "--state-dir", g.state, "--gate-timeout", "2s"}, io.Discard, stderr)
		return exit, stderr.text.String()
	}
	exit, said := apply("writing", "1000")
	if exit != exitError || !strings.Contains(said, "health gate: gate6: the speed was 10000 Mb/s and is 1000 Mb/s, 2s after the change") || !ethtoolHas(t, "-c", device, "rx-frames: 0\n") {
		t.Errorf("slower: exit %d, %s", exit, said)
	}
	if exit, said := apply("writing", "25000"); exit != exitOK || !ethtoolHas(t, "-c", device, "rx-frames: 12\n") {
		t.Errorf("faster: exit %d, %s", exit, said)
	}
}

// holdTap is a program behind a tap, which reads nothing.
func holdTap(t *testing.T, device string) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	request, err := unix.NewIfreq(device)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
}

// What comes back in time is no fault.
func TestGatesHavePatience(t *testing.T) {
	g := newGated(t, "gate2")
	var back sync.WaitGroup
	exit, said := g.apply(t, "verified", func() {
		g.peer(t, "link set gate down")
		back.Go(func() {
			time.Sleep(1500 * time.Millisecond)
			_ = exec.Command("ip", "-n", g.namespace, "link", "set", "gate", "up").Run()
		})
	}, "--disrupt", g.device)
	back.Wait()
	if exit != exitOK || g.queues(t) != "2" {
		t.Errorf("exit %d: %s", exit, said)
	}
}

// A gateway that did not answer before is not missed, and a static neighbour is
// not touched.
func TestGateOfAGatewayThatIsNotThere(t *testing.T) {
	g := newGated(t, "gate3")
	g.peer(t, "addr del 192.0.2.1/24 dev gate")
	if exit, said := g.apply(t, "", nil, "--disrupt", g.device); exit != exitOK || g.queues(t) != "2" {
		t.Errorf("exit %d: %s", exit, said)
	}
	nstest.IP(t, "neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev gate3 nud permanent")
	if _, stderr, exit := nictune(t, "rollback", "--state-dir", g.state, "--disrupt", g.device); exit != exitOK {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	if out := string(nstest.IP(t, "neigh show 192.0.2.1")); !strings.Contains(out, "PERMANENT") {
		t.Errorf("the neighbour is now %s", out)
	}
}

func TestGateTCP(t *testing.T) {
	g := newGated(t, "gate4")
	l := g.listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	address := l.Addr().String()
	exit, said := g.apply(t, "writing", func() { l.Close() }, "--disrupt", g.device, "--gate-tcp", address, "--gate-timeout", "2s")
	if exit != exitError || !strings.Contains(said, "health gate: "+address+" takes no connection") || g.queues(t) != "1" {
		t.Errorf("exit %d: %s", exit, said)
	}
	exit, said = g.apply(t, "", nil, "--disrupt", g.device, "--gate-tcp", address)
	if exit != exitRefused || !strings.Contains(said, "takes no connection even before the change") {
		t.Errorf("exit %d: %s", exit, said)
	}
	if exit, said = g.apply(t, "", nil, "--gate-tcp", "nowhere"); exit != exitError || !strings.Contains(said, `"nowhere" is no HOST:PORT`) {
		t.Errorf("exit %d: %s", exit, said)
	}
}
