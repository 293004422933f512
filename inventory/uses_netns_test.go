package inventory

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

func usesOf(t *testing.T, live kernel.Reader, name string) []Use {
	t.Helper()
	inv, err := Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	uses, err := ReadUses(t.Context(), live, inv.NICs)
	if err != nil {
		t.Fatal(err)
	}
	n := surveyed(t, live).byName[name]
	if n == nil {
		t.Fatalf("no %s", name)
	}
	return uses[n.Index]
}

// Default routes count for everything below the device that they name, in
// whatever table, and through next hop objects.
func TestDefaultRoutesReachTheNICs(t *testing.T) {
	nstest.Link(t, "u0", "type veth peer name u1")
	nstest.Link(t, "ubr", "type bridge")
	nstest.Link(t, "umv", "link ubr type macvlan")
	live := open(t)
	for _, c := range []string{
		"link set u0 master ubr", "link set u0 up", "link set u1 up", "link set ubr up", "link set umv up",
		"addr add 192.0.2.2/24 dev umv", "addr add 2001:db8::2/64 dev u1 nodad",
		"route add default via 192.0.2.1 table 77", "-6 route add default via 2001:db8::1",
	} {
		nstest.IP(t, c)
	}
	s := surveyed(t, live)
	v4 := Use{Kind: DefaultRoute, Device: s.byName["umv"].Index, Peer: netip.MustParseAddr("192.0.2.1")}
	below := v4
	below.Through = "umv"
	v6 := Use{Kind: DefaultRoute, Device: s.byName["u1"].Index, Peer: netip.MustParseAddr("2001:db8::1")}
	for name, want := range map[string][]Use{"umv": {v4}, "ubr": {below}, "u0": {below}, "u1": {v6}} {
		if got := usesOf(t, live, name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if got := below.String(); got != "the default route via 192.0.2.1, through umv" {
		t.Error(got)
	}

	// What was recorded says the same.
	inv, err := Read(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	recorder := kernel.NewRecorder(live, kernel.RecordingHeader{})
	asked, err := ReadUses(t.Context(), recorder, inv.NICs)
	if err != nil {
		t.Fatal(err)
	}
	var recording bytes.Buffer
	if _, err := recorder.WriteTo(&recording); err != nil {
		t.Fatal(err)
	}
	replay, err := kernel.ParseRecording(recording.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ReadUses(t.Context(), replay, inv.NICs); err != nil || len(asked) == 0 || !reflect.DeepEqual(again, asked) {
		t.Errorf("recorded: %v, %v, want %v", again, err, asked)
	}

	nstest.IP(t, "route del default table 77")
	nstest.IP(t, "route add default nexthop via 192.0.2.1 nexthop via 192.0.2.7")
	if got := usesOf(t, live, "u0"); len(got) != 2 || got[0].Peer != v4.Peer || got[1].Peer != netip.MustParseAddr("192.0.2.7") {
		t.Errorf("two next hops: %v", got)
	}
	nstest.IP(t, "route del default")

	nstest.IP(t, "nexthop add id 9 via 192.0.2.9 dev umv")
	nstest.IP(t, "route add default nhid 9")
	for _, compatible := range []string{"1", "0"} { // 0: the route names the object only
		if err := os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(compatible), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := usesOf(t, live, "u0"); len(got) != 1 || got[0].Peer != netip.MustParseAddr("192.0.2.9") {
			t.Errorf("next hop object, compat mode %s: %v", compatible, got)
		}
	}
}

// A process by the name sshd with a TCP connection is taken for what it says.
func TestSessionIsFoundFromItsChildren(t *testing.T) {
	nstest.Require(t)
	namespace := fmt.Sprintf("uses%d", os.Getpid())
	nstest.IP(t, "netns add "+namespace)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", namespace).Run() })
	nstest.Link(t, "s0", "type veth peer name s1 netns "+namespace)
	nstest.IP(t, "addr add 198.51.100.1/24 dev s0")
	nstest.IP(t, "addr add 2001:db8:5::1/64 dev s0 nodad")
	nstest.IP(t, "link set s0 up")
	nstest.IP(t, "-n "+namespace+" addr add 198.51.100.2/24 dev s1")
	nstest.IP(t, "-n "+namespace+" addr add 2001:db8:5::2/64 dev s1 nodad")
	nstest.IP(t, "-n "+namespace+" link set s1 up")
	live := open(t)

	server := filepath.Join(t.TempDir(), "sshd")
	script := "#!/bin/bash\nexec 3<>/dev/tcp/$1/$2\n( sleep 60 & echo $!; wait )\n"
	if err := os.WriteFile(server, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"198.51.100.2", "2001:db8:5::2"} {
		l := nstest.Listen(t, namespace, net.JoinHostPort(address, "0"))
		_, port, _ := net.SplitHostPort(l.Addr().String())
		process := exec.CommandContext(t.Context(), server, address, port)
		process.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
		out, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		_, err = fmt.Fscan(bufio.NewReader(out), &pid)
		sessions, fault := sessionsOf(t.Context(), live, pid)
		_ = unix.Kill(-process.Process.Pid, unix.SIGKILL)
		_ = process.Wait()
		if err != nil || fault != nil {
			t.Fatal(err, fault)
		}
		if len(sessions) != 1 || sessions[0].peer != netip.MustParseAddr(address) {
			t.Fatalf("sessions %+v, want one to %s", sessions, address)
		}
		devices, err := carrying(t.Context(), live, sessions[0])
		want := surveyed(t, live).byName["s0"].Index
		if err != nil || len(devices) == 0 || devices[0] != want || devices[len(devices)-1] != want {
			t.Errorf("devices %v, %v, want %d", devices, err, want)
		}
	}
	if sessions, err := sessionsOf(t.Context(), live, 1); err != nil || len(sessions) != 0 {
		t.Errorf("init has the sessions %v, %v", sessions, err)
	}
}

func TestXDPUses(t *testing.T) {
	nstest.Link(t, "x4", "numrxqueues 2 numtxqueues 2 type veth peer name x5 numrxqueues 2 numtxqueues 2")
	nstest.IP(t, "link set x4 up")
	nstest.IP(t, "link set x5 up")
	live := open(t)
	index := surveyed(t, live).byName["x4"].Index
	if got := usesOf(t, live, "x4"); got != nil {
		t.Errorf("unused: %v", got)
	}
	setXDP(t, live, index, passAll(t), 1<<2)
	if got := usesOf(t, live, "x4"); len(got) != 1 || got[0].Kind != XDPAttached || got[0].Program == 0 {
		t.Errorf("with a program: %v", got)
	}
	setXDP(t, live, index, -1, 1<<2)
	nstest.XDPSocket(t, index, 1)
	want := []Use{{Kind: XDPSocket, Device: index, Queue: 1}}
	if got := usesOf(t, live, "x4"); !reflect.DeepEqual(got, want) {
		t.Errorf("with a socket: %v", got)
	}
}
