package xdpcheck

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// The probe is the judge of what is said of veth, tun, tap and bridge.
func TestProbeOfSoftwareDevices(t *testing.T) {
	nstest.Require(t)
	live := open(t)
	nstest.IP(t, "link add v0 type veth peer name v1")
	nstest.IP(t, "link set v0 up")
	nstest.IP(t, "link set v1 up")
	judgeMTU(t, live, "v0", "v1")
	nstest.IP(t, "tuntap add dev tap0 mode tap")
	nstest.IP(t, "tuntap add dev tun0 mode tun")
	nstest.IP(t, "link add br0 type bridge")
	for _, name := range []string{"tap0", "tun0", "br0"} {
		judge(t, live, name)
	}
}

// A veth with fewer receive queues than its peer has transmit queues takes no
// program.
func TestProbeOfVethQueues(t *testing.T) {
	nstest.Require(t)
	nstest.IP(t, "link add q0 numrxqueues 1 numtxqueues 1 type veth peer name q1 numrxqueues 2 numtxqueues 2")
	live := open(t)
	if c, p := judge(t, live, "q0"); p.Attached || c.Native.Answer != Blocked || !strings.Contains(c.Native.Why, "sends with 2 queues, and 1 receive") {
		t.Errorf("%+v, probed %+v", c.Native, p)
	}
}

// A NIC with a program is never touched, nor one below a device with a program; who
// holds the program, and what it is called, is told.
func TestProgramsAndRefusals(t *testing.T) {
	nstest.Require(t)
	live := open(t)
	nstest.IP(t, "link add p0 type veth peer name p1")
	nstest.IP(t, "link add br1 type bridge")
	nstest.IP(t, "link set p0 master br1")
	for _, test := range []struct {
		on    string
		flags link.XDPAttachFlags
		mode  string
	}{{"p0", link.XDPDriverMode, "driver"}, {"br1", link.XDPGenericMode, "generic"}} {
		on := surveyed(t, live, test.on)
		held := pass(t, on.Index, test.flags)
		n := surveyed(t, live, "p0")
		var refusal *Refusal
		if err := n.Refuses(); !errors.As(err, &refusal) || !strings.Contains(err.Error(), test.on) {
			t.Errorf("with a program on %s: %v", test.on, err)
		}
		n = surveyed(t, live, test.on)
		programs, err := Programs(n.facts.nics)
		if err != nil {
			t.Fatal(err)
		}
		got := programs[n.Index]
		if len(got) != 1 || got[0].Mode != test.mode || got[0].Name != "passes" || len(got[0].Tag) != 16 || got[0].Link == nil || got[0].Dispatcher {
			t.Errorf("%s: %+v", test.on, got)
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := surveyed(t, live, "p0").Refuses(); err != nil {
		t.Error(err)
	}
}

// The rules about attached programs, on real ones: of a driver that could run the
// program itself, in generic mode, and of a bridge that has one, too.
func TestRulesOfAttachedPrograms(t *testing.T) {
	nstest.Require(t)
	live := open(t)
	nstest.IP(t, "link add r0 type veth peer name r1")
	nstest.IP(t, "link add br2 type bridge")
	nstest.IP(t, "link set r0 master br2")
	said := func(rule string) findings.Finding {
		t.Helper()
		for _, f := range findings.Judge(Rules(), surveyed(t, live, "r0")) {
			if f.Rule == rule {
				return f
			}
		}
		t.Fatalf("%s says nothing", rule)
		return findings.Finding{}
	}
	expect := func(rule string, want findings.Status) {
		t.Helper()
		if f := said(rule); f.Status != want {
			t.Errorf("%s is %s, want %s: %s", rule, f.Status, want, f.Seen)
		}
	}
	for _, rule := range []string{"xdp/generic-mode", "xdp/program-above"} {
		expect(rule, findings.NotApplicable)
	}
	index := surveyed(t, live, "r0").Index
	generic := pass(t, index, link.XDPGenericMode)
	expect("xdp/generic-mode", findings.Fail)
	if err := generic.Close(); err != nil {
		t.Fatal(err)
	}
	pass(t, index, link.XDPDriverMode)
	expect("xdp/generic-mode", findings.Pass)
	expect("xdp/program-above", findings.Pass)
	pass(t, surveyed(t, live, "br2").Index, link.XDPGenericMode)
	expect("xdp/program-above", findings.Fail)
	if f := said("xdp/program-above"); !strings.Contains(f.Seen, " on br2") {
		t.Error(f.Seen)
	}
}

// pass attaches a program.
func pass(t testing.TB, index int, flags link.XDPAttachFlags) link.Link {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "passes", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	held, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: index, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	return held
}
