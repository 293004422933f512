package settings

import (
	"context"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// sysctlFiles is a host that has some of the files.
type sysctlFiles struct {
	kernel.Writer
	files map[string]string
}

func (f *sysctlFiles) ReadFile(_ context.Context, path string) ([]byte, error) {
	if value, ok := f.files[path]; ok {
		return []byte(value), nil
	}
	return nil, &kernel.Error{Op: "read", Object: path, Err: syscall.ENOENT}
}

func (f *sysctlFiles) WriteFile(_ context.Context, path string, data []byte) error {
	f.files[path] = string(data) + "\n"
	return nil
}

// A namespace has what it has: the rest is absent, and not zero.
func TestSysctl(t *testing.T) {
	f := &sysctlFiles{files: map[string]string{
		"/proc/sys/net/core/netdev_budget": "300\n", "/proc/sys/net/ipv4/igmp_max_msf": "10\n", "/proc/sys/net/core/rps_sock_flow_entries": "0\n",
	}}
	current, _, err := Sysctl().Read(t.Context(), f, inventory.NIC{})
	if err != nil || *current.NetdevBudget != 300 || *current.IGMPMaxMSF != 10 || current.BusyPoll != nil {
		t.Fatalf("%+v, %v", current, err)
	}
	next := current
	next.NetdevBudget, next.RPSSockFlowEntries = new(uint32(600)), new(uint32(1000))
	next = Sysctl().Round(inventory.NIC{}, next)
	if err := Sysctl().Write(t.Context(), f, inventory.NIC{}, current, next); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/proc/sys/net/core/netdev_budget": "600\n", "/proc/sys/net/ipv4/igmp_max_msf": "10\n", "/proc/sys/net/core/rps_sock_flow_entries": "1024\n",
	} {
		if f.files[path] != want {
			t.Errorf("%s is %q, want %q", path, f.files[path], want)
		}
	}
	f.files["/proc/sys/net/core/busy_poll"] = "many"
	if _, _, err := Sysctl().Read(t.Context(), f, inventory.NIC{}); err == nil {
		t.Error("what is no number was read")
	}
}

func TestSysctlRounds(t *testing.T) {
	for n, want := range map[uint32]uint32{0: 0, 1: 1, 2: 2, 3: 4, 32768: 32768, 32769: 65536, 1 << 29: 1 << 29, 1<<29 + 1: 1<<29 + 1} {
		if got := *(Sysctls{RPSSockFlowEntries: &n}).rounded().RPSSockFlowEntries; got != want {
			t.Errorf("%d becomes %d, want %d", n, got, want)
		}
	}
}

func TestSysctlChecks(t *testing.T) {
	zero, many := new(uint32), new(uint32(1<<31))
	for name, s := range map[string]Sysctls{
		"no weight": {DevWeight: zero}, "no batch": {GRONormalBatch: zero}, "no budget": {NetdevBudget: zero}, "a negative int": {NetdevMaxBacklog: many},
		"too many flows": {RPSSockFlowEntries: new(uint32(1<<29 + 1))}, "half a switch": {NetdevTstampPrequeue: new(uint32(2))},
	} {
		if err := checkSysctls(Sysctls{}, s); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := checkSysctls(Sysctls{}, Sysctls{NetdevBudget: new(uint32(600)), BusyPoll: zero, RPSSockFlowEntries: zero}); err != nil {
		t.Error(err)
	}
	// What somebody has set to no good, and the plan does not touch, is not judged.
	if err := checkSysctls(Sysctls{DevWeightRXBias: zero}, Sysctls{DevWeightRXBias: zero, IGMPMaxMSF: new(uint32(20))}); err != nil {
		t.Error(err)
	}
}

// RFS needs the host's table, too: the plan's, or the one that is there.
func TestFlowsNeedTheHost(t *testing.T) {
	some, none := Sysctls{RPSSockFlowEntries: new(uint32(1024))}, Sysctls{RPSSockFlowEntries: new(uint32)}
	host := func(entries string) kernel.Reader {
		f := &sysctlFiles{files: map[string]string{}}
		if entries != "" {
			f.files["/proc/sys/net/core/rps_sock_flow_entries"] = entries
		}
		return f
	}
	planned := func(s Sysctls) tuning.Planned {
		p, err := tuning.PlannedOf("sysctl", none, s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, test := range map[string]struct {
		ask   tuning.Ask
		flows uint32
		fault bool
	}{
		"the host has none":        {tuning.Ask{Reader: host("0\n")}, 64, true},
		"the host has some":        {tuning.Ask{Reader: host("1024\n")}, 64, false},
		"a namespace":              {tuning.Ask{Reader: host("")}, 64, false},
		"none are wanted":          {tuning.Ask{Reader: host("0\n")}, 0, false},
		"the plan gives it some":   {tuning.Ask{Reader: host("0\n"), Host: planned(some)}, 64, false},
		"the plan takes them away": {tuning.Ask{Reader: host("1024\n"), Host: planned(none)}, 64, true},
	} {
		if err := checkFlows(t.Context(), test.ask, test.flows); (err != nil) != test.fault {
			t.Errorf("%s: %v", name, err)
		}
	}
}
