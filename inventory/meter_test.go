package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// cards is a host of cards with counters of their own. It counts the questions, and
// can hang.
type cards struct {
	kernel.Reader // nothing else is asked

	mu    sync.Mutex
	names map[string][]string // by device
	asked map[string]int      // by device and command
	hang  map[string]chan struct{}
	// netlink answers in place of an empty recording.
	netlink func(kernel.Request) ([]kernel.Message, error)
	files   map[string]string
}

func newCards(t *testing.T, names map[string][]string) *cards {
	t.Helper()
	empty, err := kernel.ParseRecording([]byte("nictune recording 1\n-- end --\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &cards{Reader: empty, names: names, asked: map[string]int{}, hang: map[string]chan struct{}{}}
}

func (c *cards) Ethtool(_ context.Context, device string, arg []byte) ([]byte, error) {
	c.mu.Lock()
	names, hang := c.names[device], c.hang[device]
	command := binary.NativeEndian.Uint32(arg)
	c.asked[fmt.Sprintf("%s %#x", device, command)]++
	c.mu.Unlock()
	if hang != nil {
		<-hang // as a driver does: no context reaches it
	}
	arg = slices.Clone(arg)
	switch command {
	case uapi.ETHTOOL_GSSET_INFO:
		if names == nil {
			return nil, &kernel.Error{Op: "GSSET_INFO", Object: device, Err: syscall.EOPNOTSUPP}
		}
		binary.NativeEndian.PutUint32(arg[16:], uint32(len(names)))
	case uapi.ETHTOOL_GSTRINGS:
		binary.NativeEndian.PutUint32(arg[8:], uint32(len(names)))
		for i, name := range names {
			if at := 12 + 32*i; at+32 <= len(arg) {
				copy(arg[at:at+32], name)
			}
		}
	case uapi.ETHTOOL_GSTATS:
		binary.NativeEndian.PutUint32(arg[4:], uint32(len(names)))
		for i := range names {
			if at := 8 + 8*i; at+8 <= len(arg) {
				binary.NativeEndian.PutUint64(arg[at:], uint64(100+i))
			}
		}
	default:
		return nil, errors.New("what is this?")
	}
	return arg, nil
}

func (c *cards) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	if c.netlink == nil {
		return c.Reader.Netlink(ctx, req)
	}
	return c.netlink(req)
}

func (c *cards) ReadFile(ctx context.Context, path string) ([]byte, error) {
	if data, ok := c.files[path]; ok {
		return []byte(data), nil
	}
	return c.Reader.ReadFile(ctx, path)
}

func (c *cards) count(device string, command int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[fmt.Sprintf("%s %#x", device, command)]
}

func (c *cards) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// card is a NIC of hardware.
func card(name string, index int, driver string) NIC {
	return NIC{Name: name, Index: index, Type: "ether", Function: Plain, Driver: &Driver{Name: driver}, Parent: &Parent{Bus: "pci", Address: "0000:01:00.0"}}
}

func onlyDriver(p Part) bool { return p == PartDriver }

// counters are a device's own, by name, or nil where there are none.
func (s *Sample) counters(device string) map[string]uint64 {
	for _, d := range s.Devices {
		if d.Name == device && d.Set != nil {
			all := map[string]uint64{}
			for i, name := range d.Set.Names {
				if name != "" {
					all[name] = d.Driver[i]
				}
			}
			return all
		}
	}
	return nil
}

func TestMeterReadsNamesOnce(t *testing.T) {
	host := newCards(t, map[string][]string{"eth0": {"rx_missed_errors", "rx_packets"}, "eth1": {"rx_missed_errors", "rx_packets"}})
	inv := &Inventory{NICs: []NIC{card("eth0", 2, "igb"), card("eth1", 3, "igb"), card("eth2", 4, "e100"), {Name: "veth0", Index: 5, Type: "veth"}}}
	m := NewMeter(host, MeterOptions{})
	var s *Sample
	for range 3 {
		s = m.Read(t.Context(), inv, onlyDriver)
	}
	for _, device := range []string{"eth0", "eth1"} {
		if got := s.counters(device); len(got) != 2 || got["rx_missed_errors"] != 100 || got["rx_packets"] != 101 {
			t.Errorf("%s: %v", device, got)
		}
		if n := host.count(device, uapi.ETHTOOL_GSTRINGS); n != 1 {
			t.Errorf("%s was asked for its names %d times", device, n)
		}
	}
	if s.Devices[0].Set != s.Devices[1].Set {
		t.Error("two cards of a kind don't share their names")
	}
	if want := []MeaningTotal{{Missed, 100}}; !slices.Equal(s.Devices[0].Meant, want) {
		t.Errorf("meanings: %v, want %v", s.Devices[0].Meant, want)
	}
	// Who has none is asked once; a software device never is, unless that is wanted.
	if a, b := host.count("eth2", uapi.ETHTOOL_GSSET_INFO), host.count("veth0", uapi.ETHTOOL_GSSET_INFO); a != 1 || b != 0 {
		t.Errorf("asked who has no counters %d times, and a veth %d times", a, b)
	}

	// Another number of counters: the names are read again, in the same reading.
	host.set(func() { host.names["eth0"] = []string{"rx_packets", "a", "b"} })
	if got := m.Read(t.Context(), inv, onlyDriver).counters("eth0"); len(got) != 3 || got["rx_packets"] != 100 {
		t.Errorf("after the number changed: %v", got)
	}
	// Others of the same number: told by the facts, since the driver doesn't say.
	host.set(func() { host.names["eth0"] = []string{"c", "d", "e"} })
	changed := *inv
	changed.NICs = slices.Clone(inv.NICs)
	changed.NICs[0].Queues.Channels = &Channels{Combined: &ChannelCount{Current: 2, Maximum: 4}}
	if got := m.Read(t.Context(), &changed, onlyDriver).counters("eth0"); len(got) != 3 || got["c"] != 100 {
		t.Errorf("after the channels changed: %v", got)
	}
}

// A card that hangs costs the others nothing, is not asked again while it does, and
// its samples of earlier are not shown as if they were new.
func TestMeterLeavesOutWhoHangs(t *testing.T) {
	names := []string{"rx_packets"}
	host := newCards(t, map[string][]string{"eth0": names, "eth1": names, "eth2": names})
	inv := &Inventory{NICs: []NIC{card("eth0", 2, "igb"), card("eth1", 3, "igb"), card("eth2", 4, "igb")}}
	m := NewMeter(host, MeterOptions{Patience: 5 * time.Second})
	if s := m.Read(t.Context(), inv, onlyDriver); len(s.Devices) != 3 || len(s.Failures) != 0 {
		t.Fatalf("%d devices, failures %v", len(s.Devices), s.Failures)
	}
	release := make(chan struct{})
	host.set(func() { host.hang["eth1"] = release })
	for range 3 {
		s := m.Read(t.Context(), inv, onlyDriver)
		if s.counters("eth0") == nil || s.counters("eth2") == nil || s.counters("eth1") != nil {
			t.Errorf("who has counters: %+v", s.Devices)
		}
		if len(s.Failures) != 1 || s.Failures[0].Device != "eth1" || s.Failures[0].Reason != NoAnswer || s.Failures[0].Part != PartDriver {
			t.Errorf("failures: %v", s.Failures)
		}
	}
	if n := host.count("eth1", uapi.ETHTOOL_GSTATS); n != 2 { // and once when it answered
		t.Errorf("a card that hangs was asked for its values %d times", n)
	}
	host.set(func() { delete(host.hang, "eth1") })
	close(release)
	for range 3000 {
		if m.Read(t.Context(), inv, onlyDriver).counters("eth1") != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the card answers again, and nobody asks it")
}

// A driver that holds the kernel's lock holds up every dump: what needs none is read
// in a scrape's time all the same, and no second dump waits for the same lock.
func TestMeterWhileEveryDumpHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := newCards(t, nil)
		host.files = map[string]string{"/proc/net/softnet_stat": "7 0 0 0 0 0 0 0 0 0 0 0 0\n"}
		release := make(chan struct{})
		var mu sync.Mutex
		asked := map[string]int{}
		host.netlink = func(req kernel.Request) ([]kernel.Message, error) {
			mu.Lock()
			asked[req.String()]++
			mu.Unlock()
			<-release
			return nil, &kernel.Error{Op: req.String(), Err: syscall.EIO}
		}
		m := NewMeter(host, MeterOptions{Changed: func(*Inventory) (map[int]bool, bool) { return nil, false }})
		inv := &Inventory{}
		for i, most := range []time.Duration{9 * time.Second, 0} { // Prometheus gives up after 10 seconds
			began := time.Now()
			s := m.Read(t.Context(), inv, nil)
			if took := time.Since(began); took > most {
				t.Errorf("reading %d took %v", i, took)
			}
			if len(s.Softnet) != 1 || s.Softnet[0].Processed != 7 {
				t.Errorf("reading %d: softnet %+v", i, s.Softnet)
			}
			failed := 0
			for _, r := range s.Reads {
				if errors.Is(r.Err, errNoAnswer) {
					failed++
				} else if r.Err != nil {
					t.Error(r.Err)
				}
			}
			if failed != 3 {
				t.Errorf("reading %d: %+v; want statistics, page pools and queues without an answer", i, s.Reads)
			}
		}
		mu.Lock()
		if asked["route STATS_GET dump"] != 1 || len(asked) != 3 {
			t.Errorf("asked: %v", asked)
		}
		mu.Unlock()
		close(release)
		synctest.Wait()
		m.Read(t.Context(), inv, nil)
		if asked["route STATS_GET dump"] != 2 {
			t.Errorf("asked after it answered: %v", asked)
		}
	})
}

// What a device counted is not shown under a name that may be another's by now, and
// the names of its counters are read again.
func TestMeterAfterARename(t *testing.T) {
	names := []string{"rx_packets"}
	host := newCards(t, map[string][]string{"eth0": names, "eth1": names})
	inv := &Inventory{NICs: []NIC{card("eth0", 2, "igb"), card("eth1", 3, "igb")}}
	header := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(header[4:], 2)
	host.netlink = func(req kernel.Request) ([]kernel.Message, error) {
		if req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_GETLINK {
			return []kernel.Message{{Command: uapi.RTM_NEWLINK, Body: kernel.Body(header).String(uapi.IFLA_IFNAME, "lan0")}}, nil
		}
		return nil, kernel.ErrNotRecorded
	}
	m := NewMeter(host, MeterOptions{})
	want := func(p Part) bool { return p == PartDriver || p == PartStatistics }
	s := m.Read(t.Context(), inv, want)
	if len(s.Devices) != 1 || s.Devices[0].Name != "eth1" || len(s.Failures) != 0 {
		t.Errorf("devices %+v, failures %v; want eth1", s.Devices, s.Failures)
	}
	renamed := *inv
	renamed.NICs = slices.Clone(inv.NICs)
	renamed.NICs[0].Name = "lan0"
	host.set(func() { host.names["lan0"] = []string{"tx_packets"} })
	if got := m.Read(t.Context(), &renamed, want).counters("lan0"); len(got) != 1 || got["tx_packets"] != 100 {
		t.Errorf("counters by the names of before: %v", got)
	}
}

// Who is asked for FEC or pause frames only, and doesn't answer, has failed, too.
func TestMeterMissesWhoIsLateWithOneGroup(t *testing.T) {
	for command, group := range map[uint16]source{uapi.ETHTOOL_MSG_FEC_GET: fromFEC, uapi.ETHTOOL_MSG_PAUSE_GET: fromPause} {
		host := newCards(t, nil)
		release := make(chan struct{})
		defer close(release)
		host.netlink = func(req kernel.Request) ([]kernel.Message, error) {
			if req.Family == kernel.FamilyEthtool && req.Command == command {
				<-release
			}
			return nil, kernel.ErrNotRecorded
		}
		nic := card("eth0", 2, "igb")
		inv := &Inventory{NICs: []NIC{nic}}
		m := NewMeter(host, MeterOptions{Patience: time.Millisecond})
		m.learn(inv)
		m.byIndex[2].sources = group
		s := m.Read(t.Context(), inv, func(p Part) bool { return p == PartStandard })
		if len(s.Failures) != 1 || s.Failures[0].Part != PartStandard || s.Failures[0].Reason != NoAnswer {
			t.Errorf("failures: %v", s.Failures)
		}
	}
}

func TestNewCounterSet(t *testing.T) {
	vmxnet3 := []string{"Rx Queue#", "  ucast pkts rx", "  pkts rx OOB", "Rx Queue#", "  ucast pkts rx", "  pkts rx OOB"}
	set := newCounterSet("vmxnet3", vmxnet3, []uint64{0, 10, 1, 1, 20, 2}, nil)
	if want := []string{"Rx Queue#", "ucast pkts rx", "pkts rx OOB", "Rx Queue# #2", "ucast pkts rx #2", "pkts rx OOB #2"}; !slices.Equal(set.Names, want) {
		t.Errorf("names %q, want %q", set.Names, want)
	}
	if got := set.meant([]uint64{0, 10, 1, 1, 20, 2}); !slices.Equal(got, []MeaningTotal{{NoBuffer, 3}}) {
		t.Errorf("%v", got)
	}
	s := &Sample{Devices: []DeviceSample{{Name: "eth0", Set: set, Driver: []uint64{0, 11, 1, 1, 22, 2}}}}
	m := &Meter{}
	m.fillQueues(s)
	if len(s.Queues) != 2 || s.Queues[1].ID != 1 || *s.Queues[1].Packets != 22 || s.Queues[1].Direction != "rx" {
		t.Errorf("queues: %+v", s.Queues)
	}
	// Whom netdev genl tells of has no other numbers while it can't be read.
	failed := []PartRead{{PartQueues, 0, errNoAnswer}}
	for _, known := range []bool{true, false} {
		if m.told = nil; known {
			m.told = map[string]bool{"eth0": true}
		}
		s = &Sample{Devices: s.Devices, Reads: failed}
		if m.fillQueues(s); len(s.Queues) != 0 {
			t.Errorf("queues of another source: %+v", s.Queues)
		}
	}
	m.told = map[string]bool{"eth1": true}
	if m.fillQueues(s); len(s.Queues) != 2 {
		t.Errorf("queues of a device that netdev genl says nothing of: %+v", s.Queues)
	}

	// What is counted twice counts once, unless it is all there is.
	values := []uint64{5, 3, 2}
	set = newCounterSet("mlx5_core", []string{"rx_discards_phy", "rx_prio0_discards", "rx_prio1_discards"}, values, func(name string) bool {
		return !strings.Contains(name, "prio")
	})
	if got := set.meant(values); !slices.Equal(got, []MeaningTotal{{Missed, 5}}) {
		t.Errorf("%v", got)
	}
	if want := []string{"rx_discards_phy", "", ""}; !slices.Equal(set.Names, want) {
		t.Errorf("names %q, want %q", set.Names, want)
	}
	set = newCounterSet("mlx5_core", []string{"rx_prio0_discards", "rx_prio1_discards"}, values[1:], nil)
	if got := set.meant(values[1:]); !slices.Equal(got, []MeaningTotal{{Missed, 5}}) {
		t.Errorf("%v", got)
	}
}

func TestInterruptCounts(t *testing.T) {
	const table = "           CPU0       CPU1       \n" +
		"  0:         20          0   IO-APIC   2-edge      timer\n" +
		" 24:          7  4294967295   PCI-MSIX-0000:00:03.0   0-edge      virtio0-config\n" +
		" 25:          1          2   PCI-MSIX-0000:00:03.0   1-edge      virtio0-input.0\n" +
		"NMI:          9          9   Non-maskable interrupts\n"
	var c interruptCounts
	got := map[int]uint64{}
	err := c.read([]byte(table), func(n int) bool { return n >= 24 }, func(n int, count uint64) { got[n] = count })
	if err != nil || len(got) != 2 || got[24] != 4294967302 || got[25] != 3 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "CPU0\n 24: x y\n", "CPU0 CPU1\n 24: 1\n", "CPU0\n 24: 4294967296 MSI\n", "CPU0 CPUx\n"} {
		if err := new(interruptCounts).read([]byte(bad), func(int) bool { return true }, func(int, uint64) {}); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A total doesn't go back while the interrupt is the same, whatever CPUs come and go.
func TestInterruptCountsGrow(t *testing.T) {
	var c interruptCounts
	for _, step := range []struct {
		what, table string
		want        uint64
		ofCPUs      []uint64
	}{
		{"at first", "CPU0 CPU1\n 24: 100 4294967290 MSI\n", 4294967390, []uint64{100, 4294967290}},
		{"CPU1 is offline", "CPU0\n 24: 101 MSI\n", 4294967391, []uint64{101}},
		{"CPU1 is back, and its column has wrapped", "CPU0 CPU1\n 24: 101 4 MSI\n", 4294967401, []uint64{101, 1<<32 + 4}},
		{"a CPU that nobody knew", "CPU0 CPU1 CPU4\n 24: 101 4 5000 MSI\n", 4294967401, []uint64{101, 1<<32 + 4, 5000}},
		{"which counts from there", "CPU0 CPU1 CPU4\n 24: 101 4 5001 MSI\n", 4294967402, []uint64{101, 1<<32 + 4, 5001}},
		{"freed, and another's", "CPU0 CPU1 CPU4\n 24: 2 1 0 MSI\n", 3, []uint64{2, 1, 0}},
		{"grows", "CPU0 CPU1 CPU4\n 24: 300 1 0 MSI\n", 301, []uint64{300, 1, 0}},
		{"freed", "CPU0 CPU1 CPU4\n", 0, nil},
		{"another's", "CPU0 CPU1 CPU4\n 24: 400 1 0 MSI\n", 401, []uint64{400, 1, 0}},
	} {
		var got uint64
		var ofCPUs []uint64
		if err := c.read([]byte(step.table), func(int) bool { return true }, func(n int, count uint64) { got, ofCPUs = count, c.ofCPUs(n) }); err != nil || got != step.want || !slices.Equal(ofCPUs, step.ofCPUs) {
			t.Errorf("%s: %d %d, %v; want %d %d", step.what, got, ofCPUs, err, step.want, step.ofCPUs)
		}
	}
}

func FuzzInterruptCounts(f *testing.F) {
	f.Add([]byte("  CPU0 CPU1\n 24:  1  2  MSI  eth0\n"), []byte("  CPU0\n 24:  4  MSI  eth0\n"))
	f.Fuzz(func(t *testing.T, before, after []byte) {
		var c interruptCounts
		for _, table := range [][]byte{before, after} {
			counts := 0
			_ = c.read(table, func(int) bool { return true }, func(int, uint64) { counts++ })
			if lines := strings.Count(string(table), "\n") + 1; counts > lines {
				t.Errorf("%d interrupts in %d lines", counts, lines)
			}
		}
	})
}

func TestQueueOfAnInterrupt(t *testing.T) {
	napi, irq := uint32(77), 40
	n := &NIC{Queues: Queues{
		NAPI:   []NAPI{{ID: napi, IRQ: &irq}},
		Netdev: []Queue{{Direction: "rx", ID: 5, NAPI: &napi}},
	}}
	for name, want := range map[string]string{
		"eth1-TxRx-3": "3", "virtio0-input.0": "0", "mlx5_comp12@pci:0000:3b:00.0": "12", "vmxnet3-rxtx-1": "1",
		"eth1": "", "mlx5_async0@pci:0000:3b:00.0": "", "virtio0-config": "", "": "", "ena-mgmnt@pci:0000:00:05.0": "",
	} {
		if got := n.queueOf(IRQ{Number: 41, Name: name}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := n.queueOf(IRQ{Number: 40, Name: "eth1-TxRx-3"}); got != "5" {
		t.Errorf("the kernel says queue 5, not %q", got)
	}
}
