//go:build lab

package xdpcheck

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/labtest"
)

// The probe is the judge of the table: what is said of each of the lab's NICs is
// what its driver does, AF_XDP and the limit of the MTU included. On Linux 6.12 igb
// has no zero copy, on 7.2 (make lab-test-sid) it has; netdevsim and virtio differ, too.
func TestProbeJudgesTheTable(t *testing.T) {
	labtest.Require(t, "nics")
	live := open(t)
	for _, driver := range []string{"igb", "e1000e", "virtio_net", "vmxnet3"} {
		t.Run(driver, func(t *testing.T) {
			name := labtest.NIC(t, driver)
			up(t, name)
			if driver == "e1000e" {
				judge(t, live, name)
				return
			}
			judgeMTU(t, live, name, name)
			// The usual kernel, 6.12, is too old for it; both are right.
			c := surveyed(t, live, name).Capabilities()
			if zeroCopy := c.ZeroCopy.Answer == Yes; driver == "igb" && zeroCopy != labtest.NewKernel() {
				t.Errorf("zero copy is %s (%s) on the newer kernel: %v", c.ZeroCopy.Answer, c.ZeroCopy.Why, labtest.NewKernel())
			}
		})
	}
	t.Run("igbvf", func(t *testing.T) {
		pf := labtest.NIC(t, "igb")
		path := "/sys/class/net/" + pf + "/device/sriov_numvfs"
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(path, []byte("0"), 0) })
		labtest.Run(t, "modprobe", "igbvf")
		vf := labtest.NIC(t, "igbvf")
		judge(t, live, vf)
	})
	t.Run("netdevsim", func(t *testing.T) {
		name := labtest.Netdevsim(t, 12, 1)[0]
		up(t, name)
		judgeMTU(t, live, name, name)
	})
	t.Run("bond", func(t *testing.T) {
		labtest.Run(t, "modprobe", "bonding", "max_bonds=0")
		for _, policy := range []string{"layer3+4", "vlan+srcmac"} {
			labtest.Run(t, "ip", "link", "add", "b0", "type", "veth", "peer", "name", "b1")
			labtest.Run(t, "ip", "link", "add", "lag0", "type", "bond", "mode", "balance-xor", "xmit_hash_policy", policy)
			if n := surveyed(t, live, "lag0"); policy == "layer3+4" && n.Capabilities().Native.Answer != Yes {
				t.Errorf("without members: %+v", n.Capabilities().Native)
			} else if p, err := Probe(t.Context(), live, *n.NIC); err != nil || p.Attached != (policy == "layer3+4") {
				t.Errorf("%s, without members: the driver: %+v, %v", policy, p, err)
			}
			labtest.Run(t, "ip", "link", "set", "b0", "master", "lag0")
			up(t, "b1")
			up(t, "lag0")
			want := map[string]Answer{"layer3+4": Yes, "vlan+srcmac": Blocked}[policy]
			if n := surveyed(t, live, "lag0"); n.Stack.Bond == nil || n.Stack.Bond.HashPolicy != policy || n.Capabilities().Native.Answer != want {
				t.Errorf("%s: %+v, %+v", policy, n.Stack.Bond, n.Capabilities().Native)
			}
			judge(t, live, "lag0")
			labtest.Run(t, "ip", "link", "del", "lag0")
			labtest.Run(t, "ip", "link", "del", "b0")
		}
	})
	t.Run("veth", func(t *testing.T) {
		labtest.Run(t, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
		t.Cleanup(func() { labtest.Run(t, "ip", "link", "del", "v0") })
		up(t, "v0")
		up(t, "v1")
		judgeMTU(t, live, "v0", "v1")
	})
}

// A port of netdevsim tells of its switch in both modes, as ice does; only switchdev
// is ready for rules in hardware.
func TestSwitchMode(t *testing.T) {
	labtest.Require(t, "nics")
	live := open(t)
	name := labtest.Netdevsim(t, 13, 1)[0]
	for mode, want := range map[string]findings.Status{"legacy": findings.Fail, "switchdev": findings.Pass} {
		labtest.Run(t, "devlink", "dev", "eswitch", "set", "netdevsim/netdevsim13", "mode", mode)
		n := surveyed(t, live, name)
		if got := n.switchdevItem(); got.Status != want || !strings.Contains(got.Seen, "mode is "+mode) {
			t.Errorf("%s: %+v, of switch %q", mode, got, n.Port.SwitchID)
		}
	}
}

// up brings a device up and gives it the time to find a link.
func up(t *testing.T, name string) {
	t.Helper()
	labtest.Run(t, "ip", "link", "set", name, "up")
	time.Sleep(time.Second)
}

// libxdp's dispatcher is known by its name, and the programs that it calls by the
// links that replace its functions.
func TestDispatcher(t *testing.T) {
	labtest.Require(t, "nics")
	live := open(t)
	labtest.Run(t, "ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
	defer labtest.Run(t, "ip", "link", "del", "d0")
	index := surveyed(t, live, "d0").Index

	// int prog0(struct xdp_md *), as a function that another program may replace.
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	proto := &btf.FuncProto{Return: number, Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Struct{Name: "xdp_md", Size: 24}}}}}
	function := func(name string) *btf.Func { return &btf.Func{Name: name, Type: proto, Linkage: btf.GlobalFunc} }
	main := btf.WithFuncMetadata(asm.Call.Label("prog0").WithSymbol(dispatcher), function(dispatcher))
	prog0 := btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 2).WithSymbol("prog0"), function("prog0"))
	calls, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: dispatcher, Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{main, asm.Return(), prog0, asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer calls.Close()
	component, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "component", Type: ebpf.Extension, License: "GPL", AttachTarget: calls, AttachTo: "prog0",
		Instructions: asm.Instructions{btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 2).WithSymbol("component"), function("component")), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer component.Close()
	replaced, err := link.AttachFreplace(calls, "prog0", component)
	if err != nil {
		t.Fatal(err)
	}
	defer replaced.Close()
	held, err := link.AttachXDP(link.XDPOptions{Program: calls, Interface: index, Flags: link.XDPDriverMode})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	n := surveyed(t, live, "d0")
	programs, err := Programs(n.facts.nics)
	if err != nil {
		t.Fatal(err)
	}
	got := programs[index]
	if len(got) != 1 || !got[0].Dispatcher || len(got[0].Components) != 1 || got[0].Components[0].Name != "component" {
		t.Errorf("%+v", got)
	}
}

// A program that runs in the device is shown as such, and what the table says of
// offloading is true.
func TestProgramInHardware(t *testing.T) {
	labtest.Require(t, "nics")
	live := open(t)
	name := labtest.Netdevsim(t, 14, 1)[0]
	n := surveyed(t, live, name)
	if c := n.Capabilities().Offload; c.Answer != Yes {
		t.Errorf("offload is %s: %s", c.Answer, c.Why)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "in_hardware", Type: ebpf.XDP, License: "GPL", Ifindex: uint32(n.Index),
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	held, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: n.Index, Flags: link.XDPOffloadMode})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	n = surveyed(t, live, name)
	programs, err := Programs(n.facts.nics)
	if err != nil {
		t.Fatal(err)
	}
	if got := programs[n.Index]; len(got) != 1 || got[0].Mode != "hardware" || got[0].Name != "in_hardware" || got[0].Tag == "" {
		t.Errorf("%+v", got)
	}
	if v := genericMode(n); v.Status != findings.Pass {
		t.Errorf("%+v", v)
	}
}
