package inventory

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

const procStat = `cpu  2729610 28261 515790 1602100 14315 0 9665 4014 0 0
cpu0 1361682 13783 250016 818725 3829 0 629 2039 0 0
cpu1 1367928 14477 265774 783375 10485 7 9035 1974 0 0
intr 78116067 0 0
ctxt 218276
`

// of Linux 6.18 on a virtual machine, cut
const procInterrupts = `           CPU0       CPU1       
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 29:       4938    3225001 PCI-MSIX-0000:00:01.0   1-edge      virtio0-input.0
NMI:          0          0   Non-maskable interrupts
ERR:          0
`

func TestParseCPUTimes(t *testing.T) {
	got, err := parseCPUTimes([]byte(procStat))
	want := []CPUTime{
		{CPU: 0, SoftIRQ: 629, Idle: 818725 + 3829, Total: 1361682 + 13783 + 250016 + 818725 + 3829 + 629 + 2039},
		{CPU: 1, SoftIRQ: 9035, IRQ: 7, Idle: 783375 + 10485, Total: 1367928 + 14477 + 265774 + 783375 + 10485 + 7 + 9035 + 1974},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	// A kernel without steal time, and CPU 1 offline.
	got, err = parseCPUTimes([]byte("cpu0 1 2 3 4 5 6 7\ncpu2 1 1 1 1 1 1 1 1 50 50\n"))
	if err != nil || !slices.Equal(got, []CPUTime{{0, 7, 6, 9, 28}, {2, 1, 1, 2, 8}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "cpu  1 2 3\n", "cpu0 1 2 3\n", "cpux 1 2 3 4 5 6 7\n", "cpu0 1 2 3 4 5 6 -7\n", "cpu99999999 1 2 3 4 5 6 7\n"} {
		if got, err := parseCPUTimes([]byte(bad)); got != nil || !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

func TestParseInterruptCounts(t *testing.T) {
	got, err := parseInterruptCounts([]byte(procInterrupts))
	if err != nil || !slices.Equal(got.CPUs, []int{0, 1}) || len(got.Counts) != 2 || !slices.Equal(got.Counts[29], []uint64{4938, 3225001}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "\n", "  CPU0 CPUx\n", " CPU0 CPU1\n 24: 1\n", " CPU0\n 24: x  y\n"} {
		if _, err := parseInterruptCounts([]byte(bad)); !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestDecodeQueueStats(t *testing.T) {
	body := kernel.Body{}.Uint32(uapi.NETDEV_A_QSTATS_IFINDEX, 7).Uint32(uapi.NETDEV_A_QSTATS_QUEUE_TYPE, uapi.NETDEV_QUEUE_TYPE_TX).
		Uint32(uapi.NETDEV_A_QSTATS_QUEUE_ID, 3).Uint(uapi.NETDEV_A_QSTATS_TX_PACKETS, 1<<40).Uint(uapi.NETDEV_A_QSTATS_TX_STOP, 5)
	index, q, err := decodeQueueStats(body)
	if err != nil || index != 7 || q.Direction != "tx" || q.ID != 3 || q.Packets == nil || *q.Packets != 1<<40 || *q.Stops != 5 || q.Overruns != nil || q.Bytes != nil {
		t.Errorf("%d, %+v, %v", index, q, err)
	}
	pool := kernel.Body{}.Nested(uapi.NETDEV_A_PAGE_POOL_STATS_INFO, kernel.Body{}.
		Uint(uapi.NETDEV_A_PAGE_POOL_ID, 12).Uint32(uapi.NETDEV_A_PAGE_POOL_IFINDEX, 7)).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_FAST, 90).Uint(uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_SLOW, 10).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_ALLOC_SLOW_HIGH_ORDER, 2).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_RECYCLE_CACHED, 60).Uint(uapi.NETDEV_A_PAGE_POOL_STATS_RECYCLE_RING, 20).
		Uint(uapi.NETDEV_A_PAGE_POOL_STATS_RECYCLE_RELEASED_REFCNT, 4)
	p, err := decodePagePoolStats(pool)
	if err != nil || p != (PagePoolStats{ID: 12, Allocated: 12, Reused: 80, index: 7}) {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := decodePagePoolStats([]byte{9, 0, 1}); err == nil {
		t.Error("half an attribute is taken")
	}
}

// The drivers' own words become meanings and queues; what isn't known stays out.
func TestMeaningsOf(t *testing.T) {
	for _, c := range []struct {
		driver, names string
		want          []Meant
	}{
		{"igb", "rx_packets\nrx_missed_errors\ntx_queue_0_restart\nrx_queue_12_packets\nrx_queue_12_drops", []Meant{
			meant("rx_missed_errors", 1, "rx", Missed, -1),
			meant("rx_queue_12_packets", 3, "rx", QueuePackets, 12),
			meant("rx_queue_12_drops", 4, "rx", NoBuffer, 12),
		}},
		{"mlx5_core", "rx3_packets\nrx3_xdp_drop\nrx_packets\nrx_prio3_packets\nrx_prio3_discards\nrx_out_of_buffer", []Meant{
			meant("rx3_packets", 0, "rx", QueuePackets, 3),
			meant("rx_prio3_discards", 4, "rx", Missed, -1),
			meant("rx_out_of_buffer", 5, "rx", NoBuffer, -1),
		}},
		{"qede", "0: rcv_pkts\n1_2: xmit_pkts\n1: rx_alloc_errors", []Meant{
			meant("0: rcv_pkts", 0, "rx", QueuePackets, 0),
			meant("1_2: xmit_pkts", 1, "tx", QueuePackets, 1),
			meant("1: rx_alloc_errors", 2, "rx", NoMemory, 1),
		}},
		// A line that numbers the queue heads those of each; the last are the device's.
		{"vmxnet3", "Tx Queue#\n  ucast pkts tx\nRx Queue#\n  ucast pkts rx\n  pkts rx OOB\ntx timeout count", []Meant{
			meant("  ucast pkts tx", 1, "tx", QueuePackets, 0),
			meant("  ucast pkts rx", 3, "rx", QueuePackets, 2),
			meant("  pkts rx OOB", 4, "rx", NoBuffer, 2),
		}},
		{"bnxt_en", "[7]: rx_ucast_packets\n[]: rx_discards\n[99999999999]: rx_discards", []Meant{
			meant("[7]: rx_ucast_packets", 0, "rx", QueuePackets, 7),
		}},
		{"a driver of tomorrow", "rx_missed_errors", nil},
	} {
		var counters []DriverCounter
		for i, name := range strings.Split(c.names, "\n") {
			counters = append(counters, DriverCounter{Name: name, Value: uint64(i)})
		}
		if got := MeaningsOf(c.driver, counters); !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.driver, got, c.want)
		}
	}
}

// No name has two meanings within a driver, each is known, and each names its source.
func TestKnownCounters(t *testing.T) {
	known := map[Meaning]bool{queueHeader: true}
	for _, m := range Meanings() {
		known[m.Meaning] = true
	}
	seen := map[string]bool{}
	for _, d := range KnownCounters() {
		if d.Source == "" || seen[d.Driver] {
			t.Errorf("%s: without a source, or there twice", d.Driver)
		}
		seen[d.Driver] = true
		for _, n := range d.Names {
			if n.Direction != "rx" && n.Direction != "tx" || !known[n.Meaning] || seen[d.Driver+n.Pattern] || strings.Count(n.Pattern, "%") > 1 {
				t.Errorf("%s: %+v", d.Driver, n)
			}
			seen[d.Driver+n.Pattern] = true
			if len(n.Pattern) >= uapi.ETH_GSTRING_LEN {
				t.Errorf("%s: %q is longer than ethtool's names", d.Driver, n.Pattern)
			}
		}
	}
}

func FuzzMeaningsOf(f *testing.F) {
	f.Add("vmxnet3", "Rx Queue#", uint64(1<<63))
	f.Add("mlx5_core", "rx3_packets", uint64(1))
	f.Add("qede", "1_2: xmit_pkts", uint64(1))
	f.Fuzz(func(t *testing.T, driver, name string, value uint64) {
		for _, m := range MeaningsOf(driver, []DriverCounter{{Name: name, Value: value}, {Name: "  pkts rx OOB"}}) {
			if m.Queue < -1 || m.Queue > maxQueues || m.Meaning == queueHeader {
				t.Errorf("%+v", m)
			}
		}
	})
}

func FuzzParseCPUTimes(f *testing.F) {
	f.Add([]byte(procStat))
	f.Add([]byte("cpu0 1 2 3 4 5 6 7"))
	f.Fuzz(func(t *testing.T, in []byte) {
		times, err := parseCPUTimes(in)
		if (err == nil) != (len(times) > 0) || err != nil && !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%+v, %v", times, err)
		}
	})
}

func FuzzParseInterruptCounts(f *testing.F) {
	f.Add([]byte(procInterrupts))
	f.Add([]byte("CPU0\n1:"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := parseInterruptCounts(in)
		if err != nil && !errors.Is(err, kernel.ErrMalformed) {
			t.Error(err)
		}
		for number, counts := range got.Counts {
			if number < 0 || len(counts) != len(got.CPUs) {
				t.Errorf("%d: %v of %v", number, counts, got.CPUs)
			}
		}
	})
}

func FuzzDecodeQueueStats(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(kernel.Body{}.Uint32(uapi.NETDEV_A_QSTATS_IFINDEX, 7).Uint(uapi.NETDEV_A_QSTATS_RX_PACKETS, 1)))
	f.Add([]byte(kernel.Body{}.Nested(uapi.NETDEV_A_PAGE_POOL_STATS_INFO, kernel.Body{}.Uint(uapi.NETDEV_A_PAGE_POOL_ID, 12))))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _, queue := decodeQueueStats(body)
		_, pool := decodePagePoolStats(body)
		for _, err := range []error{queue, pool} {
			if err != nil && !errors.Is(err, kernel.ErrMalformed) {
				t.Error(err)
			}
		}
	})
}

func meant(name string, value uint64, direction string, meaning Meaning, queue int) Meant {
	return Meant{DriverCounter{Name: name, Value: value}, direction, meaning, queue}
}
