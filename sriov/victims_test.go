package sriov

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// guardedKernel has two VFs of which a program holds the second one, and nobody the
// first.
func guardedKernel(t *testing.T) (*fakeKernel, inventory.NIC) {
	t.Helper()
	k, nic := smartKernel(t, 2)
	k.Writer = &unrecorded{}
	for _, request := range []string{"route ADDR_GET dump", "route ROUTE_GET dump", "route RULE_GET dump", "sock_diag 20 dump", "route LINK_GET dump"} {
		k.netlink[request] = func(kernel.Request) ([]kernel.Message, error) { return nil, nil }
	}
	for n := range 2 {
		delete(k.files, fmt.Sprintf("%s/net/eth%d/mtu", vfDir(n), 10+n))
		delete(k.files, fmt.Sprintf("%s/net/eth%d/flags", vfDir(n), 10+n))
	}
	k.vfio(1, 21, vfioPCI)
	k.users = kernel.Users{Files: []kernel.OpenFile{{PID: 4711, Path: "/dev/vfio/21"}}}
	k.files["/proc/4711/comm"] = "dpdk-testpmd\n"
	return k, nic
}

// TestWhoLosesAVF: what cuts off who uses a VF names them, and what they lose.
func TestWhoLosesAVF(t *testing.T) {
	for _, c := range []struct {
		key, from, to, want string
	}{
		{"1.vlan", "none", "7", "would take VF 1 (0000:3b:02.1) from process dpdk-testpmd (pid 4711, /dev/vfio/21)"},
		{"1.state", "auto", "disable", "would take the link of VF 1 (0000:3b:02.1) from process dpdk-testpmd"},
		{"1.state", "disable", "enable", ""},
		{"1.trust", "off", "on", ""},
		{"0.vlan", "none", "7", ""},
	} {
		k, nic := guardedKernel(t)
		got, err := VFs().Victims(t.Context(), k, nic, VFState{c.key: c.from}, VFState{c.key: c.to})
		if err != nil || len(got) != min(len(c.want), 1) || c.want != "" && !strings.Contains(got[0].Text, c.want) {
			t.Errorf("%s from %s to %s: %+v, %v", c.key, c.from, c.to, got, err)
		}
	}
}

// TestHiddenUsers: without its group it isn't known by which file a program would hold
// a VF; without what its driver made, not what lies on that.
func TestHiddenUsers(t *testing.T) {
	take := func(k *fakeKernel, nic inventory.NIC) []string {
		got, err := Counting().Victims(t.Context(), k, nic, Count{VFs: new(uint32(2))}, Count{VFs: new(uint32(1))})
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, v := range got {
			texts = append(texts, v.Text)
		}
		return texts
	}
	k, nic := guardedKernel(t)
	k.users = kernel.Users{}
	if got := take(k, nic); len(got) > 0 {
		t.Errorf("nobody uses them: %q", got)
	}
	k.files[vfDir(1)+"/iommu_group"] = "-> ../../../../kernel/iommu_groups/none"
	if got := take(k, nic); len(got) != 1 || !strings.Contains(got[0], "VF 1 (0000:3b:02.1) from whoever it is: malformed answer: IOMMU group") {
		t.Errorf("without the group: %q", got)
	}

	k, nic = guardedKernel(t)
	k.users = kernel.Users{}
	k.bound(0)
	closed := &closedKernel{k, vfDir(0) + "/net"}
	got, err := Counting().Victims(t.Context(), closed, nic, Count{VFs: new(uint32(2))}, Count{VFs: new(uint32(1))})
	if err != nil || len(got) != 1 || !strings.Contains(got[0].Text, "VF 0 (0000:3b:02.0) from whoever it is: ") {
		t.Errorf("without its network device: %+v, %v", got, err)
	}
}

// closedKernel does not list one directory.
type closedKernel struct {
	*fakeKernel
	dir string
}

func (k *closedKernel) ReadDir(ctx context.Context, name string) ([]string, error) {
	if name == k.dir {
		return nil, &kernel.Error{Op: "list", Object: name, Err: syscall.EIO}
	}
	return k.fakeKernel.ReadDir(ctx, name)
}

// TestPacketsTakenBefore: who takes a VF's packets before the host's stack has neither
// an address nor a route.
func TestPacketsTakenBefore(t *testing.T) {
	uses := inventory.Uses{5: {
		{Kind: inventory.XDPAttached, Device: 5, Program: 7}, {Kind: inventory.XDPSocket, Device: 5, Queue: 2},
		{Kind: inventory.DefaultRoute, Device: 9, Through: "vlan9"}, // the VLAN is one of the users
	}}
	got := through(5, "eth5", nil, nil, uses)
	if want := []string{"the XDP program with id 7 of eth5", "an AF_XDP socket on queue 2 of eth5"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// unrecorded answers what a fakeKernel has no answers to.
type unrecorded struct {
	kernel.Writer
	nothing kernel.Replay
}

func (u *unrecorded) Machine(ctx context.Context) (kernel.Machine, error) {
	return u.nothing.Machine(ctx)
}
func (u *unrecorded) PCINames(ctx context.Context, modalias string) (kernel.PCINames, error) {
	return u.nothing.PCINames(ctx, modalias)
}
